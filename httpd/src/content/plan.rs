//! How much of the memory of downloads one of them may take: two rules without any state of the
//! machine.
//!
//! The first looks at what is free ([`Plan`]): each download may hold a quarter of that. So one alone
//! has more than it needs, a thousand have a thousandth each, and something is always left for who
//! comes (Choudhury and Hahne, "Dynamic Queue Length Thresholds", 1998). As the share becomes smaller
//! the pieces do, and reading ahead ends.
//!
//! The second looks at the client ([`Pace`]): who takes little gets little at a time, so that a
//! crowd of slow readers leaves the memory to those that use it.

use super::Millis;
use crate::limits::{CHUNK, LEAST_PIECE, READ_AHEAD, STREAM_LOW_WATER};

/// Octets of a piece, the least first. Each divides the next, so that those that are at the same place
/// of a file read the same pieces.
const PIECES: [usize; 4] = [LEAST_PIECE, 64 * 1024, 256 * 1024, CHUNK];
/// A client that has taken nothing yet gets pieces of this index: TCP sends no more at first.
const FIRST: usize = 1;
/// Who takes a piece within this time gets larger ones.
const BRISK: u64 = 1000;
/// Who takes longer for one gets smaller ones.
const TARDY: u64 = 4000;

/// What a download may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Octets of a piece at the most.
    pub(super) piece: usize,
    /// Whole chunks that are read before they are needed.
    pub(super) ahead: usize,
    /// How far the client's queue runs down before the next piece follows.
    pub(super) queue: usize,
}

impl Plan {
    /// For when so many octets are free.
    pub(super) fn new(free: usize) -> Self {
        let share = free / 4;
        let is_one_of_two = |piece: &&usize| 2 * **piece <= share;
        let piece = match PIECES.iter().rev().find(is_one_of_two) {
            // Better one that is worth a look at the disk than several that are not.
            Some(&LEAST_PIECE) | None if share >= PIECES[1] => PIECES[1],
            Some(piece) => *piece,
            None => LEAST_PIECE,
        };
        let ahead = if piece < CHUNK { 0 } else { (share / CHUNK / 3).min(READ_AHEAD) };
        let queue = share.saturating_sub((1 + ahead) * piece).min(STREAM_LOW_WATER);
        Self { piece, ahead, queue }
    }
}

/// How fast a client takes what it gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    index: usize,
    /// Octets that it had taken, and when.
    taken: u64,
    since: Millis,
}

impl Pace {
    pub(super) fn new(now: Millis) -> Self {
        Self { index: FIRST, taken: 0, since: now }
    }

    /// Octets of a piece for it.
    pub(super) fn piece(&self) -> usize {
        PIECES[self.index]
    }

    /// At `now` it has taken `taken` octets in all.
    pub(super) fn step(&mut self, now: Millis, taken: u64) {
        if taken.saturating_sub(self.taken) < self.piece() as u64 {
            return;
        }
        let time = now.0.saturating_sub(self.since.0);
        if time <= BRISK {
            self.index = (self.index + 1).min(PIECES.len() - 1);
        } else if time > TARDY {
            self.index = self.index.saturating_sub(1);
        }
        (self.taken, self.since) = (taken, now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;
    const BUDGET: usize = 64 * MIB;

    /// What each of so many downloads holds once all have taken as much as they may, each at most
    /// twice what it had: who has just come gets little, see [`FIRST`].
    fn among(downloads: usize) -> (Plan, Vec<usize>) {
        let mut held = vec![0; downloads];
        let (mut total, mut last) = (0, Plan::new(BUDGET));
        for at in (0..downloads).cycle().take(50 * downloads) {
            // What it has is sent before it takes anew.
            total -= held[at];
            last = Plan::new(BUDGET - total);
            let may = (1 + last.ahead) * last.piece + last.queue;
            let wants = may.min(PIECES[FIRST].max(2 * held[at]));
            held[at] = [wants, LEAST_PIECE, 0].into_iter().find(|it| total + it <= BUDGET).unwrap();
            total += held[at];
        }
        (last, held)
    }

    #[test]
    fn one_alone_has_all_that_it_can_use() {
        let plan = Plan { piece: CHUNK, ahead: READ_AHEAD, queue: STREAM_LOW_WATER };
        assert_eq!(Plan::new(BUDGET), plan);
    }

    #[test]
    fn shares_shrink_with_the_number_of_downloads() {
        let plans = [1, 4, 32, 128, 1000, 2000].map(|downloads| among(downloads).0);
        for two in plans.windows(2) {
            assert!(two[0].piece >= two[1].piece && two[0].ahead >= two[1].ahead, "{two:?}");
        }
        assert_eq!((plans[1].piece, plans[1].ahead), (CHUNK, 2));
        assert_eq!(plans[2].ahead, 0, "read-ahead is what ends first");
        assert_eq!(plans[3].piece, 64 * 1024);
        assert_eq!(plans[5].piece, LEAST_PIECE);
    }

    #[test]
    fn a_thousand_have_a_piece_each_and_leave_something_for_the_next() {
        for downloads in [1, 10, 100, 1000] {
            let (_, held) = among(downloads);
            let total: usize = held.iter().sum();
            assert!(total + LEAST_PIECE <= BUDGET, "{downloads} hold {total}");
            assert!(held.iter().all(|held| *held >= PIECES[FIRST]), "{downloads}: {held:?}");
        }
    }

    #[test]
    fn a_brisk_client_gets_chunks_and_a_slow_one_crumbs() {
        let mut pace = Pace::new(Millis(1));
        let mut sizes = vec![pace.piece()];
        let mut taken = 0;
        for at in 1..=3 {
            taken += pace.piece() as u64;
            pace.step(Millis(1 + 10 * at), taken);
            sizes.push(pace.piece());
        }
        assert_eq!(sizes, [64 * 1024, 256 * 1024, CHUNK, CHUNK]);
        // It is throttled to 20 KiB a second.
        let mut now = 100;
        for second in 0..600 {
            now = 100 + second * 1000;
            taken += 20 * 1024;
            pace.step(Millis(now), taken);
        }
        assert!(pace.piece() <= 64 * 1024, "{}", pace.piece());
        // What is short of a piece says nothing yet.
        let before = pace.piece();
        pace.step(Millis(now + 100_000), taken + 1);
        assert_eq!(pace.piece(), before);
    }

    proptest! {
        #[test]
        fn a_plan_fits_in_what_is_free(free in 4 * LEAST_PIECE..1 << 34) {
            let Plan { piece, ahead, queue } = Plan::new(free);
            prop_assert!(PIECES.contains(&piece) && CHUNK.is_multiple_of(piece));
            prop_assert!((1 + ahead) * piece + queue <= free / 4);
            prop_assert!(ahead == 0 || piece == CHUNK);
        }
    }
}
