//! A queue of deadlines that is cheap to push later.
//!
//! A TCP connection moves its retransmission deadline on every acknowledgement, nearly
//! always to a later time. A plain heap pays for each of those moves. Here the owner of
//! a key keeps its true deadline; the queue holds one *hint* for it that is never later. A
//! hint that comes due asks the owner for the truth and goes back in where that lies ahead.
//! So a move to later costs nothing, and the queue holds at most one entry for each key:
//! a hint that is replaced by an earlier one is taken out at once. (Left in, such entries
//! would add up to a keepalive's time of short timers: thousands for each connection.)

use std::collections::BTreeSet;

use crate::time::Instant;

/// Hints of deadlines for keys of type `K`; see the module.
#[derive(Debug)]
pub struct TimerQueue<K> {
    hints: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Copy> Default for TimerQueue<K> {
    fn default() -> Self {
        Self { hints: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> TimerQueue<K> {
    /// Makes sure that `key` is woken at `deadline` or before. `hint` is the owner's record
    /// of its hint in the queue ([`Instant::NEVER`] if none).
    pub fn arm(&mut self, key: K, deadline: Instant, hint: &mut Instant) {
        if deadline < *hint {
            self.disarm(key, *hint);
            *hint = deadline;
            self.hints.insert((deadline, key));
        }
    }

    /// Forgets a key whose owner goes away, by its record of its hint.
    pub fn disarm(&mut self, key: K, hint: Instant) {
        if hint.is_armed() {
            self.hints.remove(&(hint, key));
        }
    }

    /// The earliest hint: nothing is due before it.
    pub fn next(&self) -> Option<Instant> {
        self.hints.first().map(|(at, _)| *at)
    }

    /// Takes a hint that is due. The owner sets its record to [`Instant::NEVER`], does what
    /// is due, and arms the next deadline anew. (An owner that was gone without
    /// [`disarm`](Self::disarm) left its hint here; a key may then name its successor, whose
    /// record says another time.)
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.hints.pop_first()
    }

    /// Hints held.
    pub fn len(&self) -> usize {
        self.hints.len()
    }

    /// Whether no hint is held.
    pub fn is_empty(&self) -> bool {
        self.hints.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_hint_that_only_moves_earlier() {
        let mut queue = TimerQueue::default();
        let mut hint = Instant::NEVER;
        queue.arm(7, Instant::from_millis(10), &mut hint);
        queue.arm(7, Instant::from_millis(20), &mut hint);
        assert_eq!((queue.len(), queue.next()), (1, Some(Instant::from_millis(10))));
        queue.arm(7, Instant::from_millis(5), &mut hint);
        assert_eq!((queue.len(), queue.next()), (1, Some(Instant::from_millis(5))));
        assert_eq!(queue.pop_due(Instant::from_millis(4)), None);
        assert_eq!(queue.pop_due(Instant::from_millis(5)), Some((Instant::from_millis(5), 7)));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_disarmed_key_is_not_woken() {
        let mut queue = TimerQueue::default();
        let (mut a, mut b) = (Instant::NEVER, Instant::NEVER);
        queue.arm('a', Instant::from_millis(1), &mut a);
        queue.arm('b', Instant::from_millis(2), &mut b);
        queue.disarm('a', a);
        assert_eq!(queue.pop_due(Instant::from_millis(9)), Some((Instant::from_millis(2), 'b')));
        assert!(queue.is_empty());
    }
}
