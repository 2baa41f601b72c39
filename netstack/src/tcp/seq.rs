//! Sequence numbers (RFC 9293 3.4).

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A position in TCP's circular 32-bit sequence space.
///
/// There is no `Ord`: "less" has a meaning only for two numbers within 2³¹ of each other,
/// so comparisons have names, and the difference is signed and cannot panic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Whether this comes before `other`.
    pub const fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether this comes after `other`.
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// Whether this comes before `other` or is the same.
    pub const fn at_or_before(self, other: Self) -> bool {
        !other.before(self)
    }

    /// Whether this comes after `other` or is the same.
    pub const fn at_or_after(self, other: Self) -> bool {
        !self.before(other)
    }

    /// The later of two.
    pub const fn latest(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// Octets from `earlier` up to this; zero if `earlier` is later.
    pub const fn octets_since(self, earlier: Self) -> u32 {
        let distance = self.0.wrapping_sub(earlier.0);
        if (distance as i32) < 0 { 0 } else { distance }
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    fn add(self, octets: u32) -> Self {
        Self(self.0.wrapping_add(octets))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, octets: u32) {
        *self = *self + octets;
    }
}

impl Sub for SeqNum {
    type Output = i32;

    /// The signed distance from `other` to this.
    fn sub(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Distances at which "before" and "after" mean something.
    const NEAR: std::ops::Range<u32> = 1..1 << 31;

    #[test]
    fn the_wrap_is_no_border() {
        let last = SeqNum(u32::MAX);
        assert!(last.before(last + 1) && (last + 1).after(last));
        assert_eq!((last + 1, (last + 1) - last, last - (last + 1)), (SeqNum(0), 1, -1));
        assert_eq!((last + 5).octets_since(last), 5);
        assert_eq!(last.latest(SeqNum(3)), SeqNum(3));
    }

    #[test]
    fn opposite_points_do_not_panic() {
        let (here, there) = (SeqNum(7), SeqNum(7) + (1 << 31));
        assert_eq!(there - here, i32::MIN);
        assert_eq!(there.octets_since(here), 0);
    }

    proptest! {
        #[test]
        fn exactly_one_of_before_same_after(base: u32, distance in NEAR) {
            let (a, b) = (SeqNum(base), SeqNum(base) + distance);
            prop_assert!(a.before(b) && !b.before(a));
            prop_assert!(b.after(a) && !a.after(b));
            prop_assert!(a.at_or_before(b) && !b.at_or_before(a));
            prop_assert!(b.at_or_after(a) && !a.at_or_after(b));
            prop_assert!(!a.before(a) && !a.after(a) && a.at_or_before(a) && a.at_or_after(a));
        }

        #[test]
        fn adding_is_the_inverse_of_the_difference(base: u32, distance in NEAR) {
            let (a, b) = (SeqNum(base), SeqNum(base) + distance);
            prop_assert_eq!((b - a, a - b), (distance as i32, -(distance as i32)));
            prop_assert_eq!((b.octets_since(a), a.octets_since(b)), (distance, 0));
            prop_assert_eq!((a.latest(b), b.latest(a), a.latest(a)), (b, b, a));
            let mut moved = a;
            moved += distance;
            prop_assert_eq!(moved, b);
        }

        #[test]
        fn comparisons_do_not_depend_on_where_the_numbers_lie(
            a: u32, b: u32, shift: u32,
        ) {
            let (x, y) = (SeqNum(a), SeqNum(b));
            let (p, q) = (x + shift, y + shift);
            prop_assert_eq!((x.before(y), x.at_or_before(y), x - y), (p.before(q), p.at_or_before(q), p - q));
        }

        #[test]
        fn order_is_transitive_within_half_of_the_space(base: u32, i in 1u32..1 << 30, j in 1u32..1 << 30) {
            let (a, b, c) = (SeqNum(base), SeqNum(base) + i, SeqNum(base) + i + j);
            prop_assert!(a.before(b) && b.before(c) && a.before(c));
            prop_assert_eq!(c.octets_since(a), c.octets_since(b) + b.octets_since(a));
        }
    }
}
