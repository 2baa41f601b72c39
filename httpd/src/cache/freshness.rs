//! How current an entry is: when its file was compared last, and when it is compared next.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::limits::{REVALIDATE_AFTER, STALE_AT_MOST};

/// Milliseconds since the cache was made: the one clock of its entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) u64);

/// What is to be done about an entry before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Nothing.
    Fresh,
    /// It is served, and compared alongside.
    Due,
    /// It is compared first.
    TooOld,
}

/// Kept with each entry; workers read it, the cold side writes it.
#[derive(Debug)]
pub(crate) struct Freshness {
    /// When a comparison that found it the same began.
    checked: AtomicU64,
    /// Somebody has asked for a comparison, and it is under way.
    comparing: AtomicBool,
    /// The disk has not answered in time: until it does nobody waits for it any more.
    late: AtomicBool,
}

impl Freshness {
    /// Of what was looked at `checked`, or later.
    pub(crate) fn new(checked: Millis) -> Self {
        Self {
            checked: AtomicU64::new(checked.0),
            comparing: AtomicBool::new(false),
            late: AtomicBool::new(false),
        }
    }

    pub(crate) fn age(&self, now: Millis) -> Age {
        let age = now.0.saturating_sub(self.checked.load(Ordering::Relaxed));
        if age <= REVALIDATE_AFTER.as_millis() as u64 {
            Age::Fresh
        } else if age <= STALE_AT_MOST.as_millis() as u64 || self.late.load(Ordering::Relaxed) {
            Age::Due
        } else {
            Age::TooOld
        }
    }

    /// Whether the caller shall ask for the comparison that is due; true for one caller only until
    /// [`touch`](Self::touch) or [`give_up`](Self::give_up).
    pub(crate) fn begin(&self) -> bool {
        !self.comparing.swap(true, Ordering::Relaxed)
    }

    /// When the comparison began that found it as it is.
    pub(crate) fn checked(&self) -> Millis {
        Millis(self.checked.load(Ordering::Relaxed))
    }

    /// It is still the same, as a comparison that began at `checked` has found.
    pub(crate) fn touch(&self, checked: Millis) {
        self.checked.store(checked.0, Ordering::Relaxed);
        self.give_up();
    }

    /// Nobody knows; the next lookup that finds it due or too old asks again.
    pub(crate) fn give_up(&self) {
        self.late.store(false, Ordering::Relaxed);
        self.comparing.store(false, Ordering::Relaxed);
    }

    /// The comparison takes too long to wait for it.
    pub(crate) fn set_late(&self) {
        self.late.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_compares() {
        let (due, old) =
            (REVALIDATE_AFTER.as_millis() as u64 + 1, STALE_AT_MOST.as_millis() as u64 + 1);
        let entry = Freshness::new(Millis(0));
        assert_eq!(entry.age(Millis(due - 1)), Age::Fresh);
        assert_eq!(entry.age(Millis(due)), Age::Due);
        assert!(entry.begin() && !entry.begin());
        assert_eq!(entry.age(Millis(old)), Age::TooOld, "one is under way, and it is waited for");
        entry.touch(Millis(due));
        assert_eq!(entry.age(Millis(old)), Age::Due);
        assert!(entry.begin());
    }

    #[test]
    fn nobody_waits_for_a_disk_that_does_not_answer() {
        let entry = Freshness::new(Millis(0));
        let (now, then) = (Millis(1_000_000), Millis(2_000_000));
        assert_eq!(entry.age(now), Age::TooOld);
        entry.set_late();
        assert_eq!(entry.age(now), Age::Due);
        entry.touch(now);
        assert_eq!((entry.age(now), entry.age(then)), (Age::Fresh, Age::TooOld));
    }
}
