//! The timers of one connection.

use crate::time::Instant;

/// What a connection may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Retransmission (RFC 6298), while data is out.
    Retransmit,
    /// Zero-window probe (RFC 9293 3.8.6.1), while data waits for a window.
    Persist,
    /// Delayed acknowledgement (RFC 9293 3.8.6.3).
    DelayedAck,
    /// Keepalive (RFC 9293 3.8.4).
    Keepalive,
    /// FIN-WAIT-2 without a reader.
    Linger,
    /// The end of a reordering window (RFC 8985 6.3).
    Reorder,
    /// Tail loss probe (RFC 8985 7).
    Probe,
    /// The next departure at the pacing rate.
    Pacing,
}

const COUNT: usize = 8;

/// Deadlines by [`Timer`].
#[derive(Debug)]
pub(crate) struct Timers {
    deadlines: [Instant; COUNT],
    /// The connection's earliest hint in the stack's queue; see [`crate::timers`].
    pub(crate) hint: Instant,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { deadlines: [Instant::NEVER; COUNT], hint: Instant::NEVER }
    }

    pub(crate) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.deadlines[timer as usize] = deadline;
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.set(timer, Instant::NEVER);
    }

    pub(crate) fn deadline(&self, timer: Timer) -> Instant {
        self.deadlines[timer as usize]
    }

    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize].is_armed()
    }

    /// Whether the timer is due; a due one is stopped.
    pub(crate) fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.deadlines[timer as usize] <= now;
        if due {
            self.stop(timer);
        }
        due
    }

    pub(crate) fn stop_all(&mut self) {
        self.deadlines = [Instant::NEVER; COUNT];
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Instant {
        self.deadlines.into_iter().min().unwrap_or(Instant::NEVER)
    }
}
