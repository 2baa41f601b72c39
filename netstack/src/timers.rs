//! A queue of deadlines that is cheap to push later.
//!
//! A TCP connection moves its retransmission deadline on every acknowledgement, nearly
//! always to a later time. A plain heap pays for each of those moves. Here the owner of
//! a key keeps its true deadline; the heap holds at most a few *hints* that are never later
//! than it. A hint that comes due asks the owner for the truth and goes back in where
//! that lies ahead. So a move to later costs nothing, and each key is woken at most once
//! per hint.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Instant;

/// Hints of deadlines for keys of type `K`; see the module.
#[derive(Debug)]
pub struct TimerQueue<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Ord + Copy> Default for TimerQueue<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new() }
    }
}

impl<K: Ord + Copy> TimerQueue<K> {
    /// Makes sure that `key` is woken at `deadline` or before. `hint` is the owner's record
    /// of its earliest hint in the queue ([`Instant::NEVER`] if none).
    pub fn arm(&mut self, key: K, deadline: Instant, hint: &mut Instant) {
        if deadline < *hint {
            *hint = deadline;
            self.heap.push(Reverse((deadline, key)));
        }
    }

    /// The earliest hint: nothing is due before it.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a hint that is due. The owner compares it with its own record: where that
    /// names another time the hint is a leftover and is ignored; else the record is set
    /// to [`Instant::NEVER`], what is due is done, and the next deadline armed anew.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Hints held, leftovers included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no hint is held.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_to_later_adds_no_hint_and_a_move_to_earlier_does() {
        let mut queue = TimerQueue::default();
        let mut hint = Instant::NEVER;
        queue.arm(7, Instant::from_millis(10), &mut hint);
        queue.arm(7, Instant::from_millis(20), &mut hint);
        assert_eq!(queue.len(), 1);
        queue.arm(7, Instant::from_millis(5), &mut hint);
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.pop_due(Instant::from_millis(4)), None);
        assert_eq!(queue.pop_due(Instant::from_millis(5)), Some((Instant::from_millis(5), 7)));
        // The leftover still comes out; its time differs from the owner's record.
        assert_eq!(queue.pop_due(Instant::from_millis(10)), Some((Instant::from_millis(10), 7)));
        assert!(queue.is_empty());
    }
}
