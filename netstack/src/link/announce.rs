//! Announcements of our own address: gratuitous ARP (RFC 5227 2.3).

use std::time::Duration;

use crate::time::Instant;

/// One more than RFC 5227's ANNOUNCE_NUM: the first often falls into the time in which a
/// switch port that has just come up does not forward yet.
const COUNT: u8 = 3;
/// Between two announcements (RFC 5227: ANNOUNCE_INTERVAL is 2 s; a pod that moved to another
/// node is reachable the sooner its switch knows).
const INTERVAL: Duration = Duration::from_secs(1);

/// When to announce.
#[derive(Debug)]
pub(crate) struct Announcer {
    left: u8,
    next: Instant,
}

impl Announcer {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: COUNT, next: now }
    }

    pub(crate) fn restart(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    pub(crate) fn stop(&mut self) {
        *self = Self { left: 0, next: Instant::NEVER };
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.next.is_armed().then_some(self.next)
    }

    /// Whether one is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        if self.next > now {
            return false;
        }
        self.left -= 1;
        self.next = if self.left == 0 { Instant::NEVER } else { now + INTERVAL };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_a_second_apart_and_again_after_a_restart() {
        let mut announcer = Announcer::new(Instant::from_millis(5));
        let mut times = Vec::new();
        while let Some(at) = announcer.next_timeout() {
            assert!(announcer.take_due(at));
            times.push(at.as_millis());
            assert!(!announcer.take_due(at));
        }
        assert_eq!(times, [5, 1005, 2005]);
        announcer.restart(Instant::from_millis(9000));
        assert_eq!(announcer.next_timeout(), Some(Instant::from_millis(9000)));
    }
}
