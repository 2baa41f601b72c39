//! The memory of all connections, and what gives way when it is used up.
//!
//! In this order, as each costs less to lose than the next: half-open connections (their SYNs
//! come again, and get cookies), TIME-WAIT records, idle connections (a client opens another),
//! and last the connections with something to do, the slowest first: those that hold
//! out longest without progress are what an attacker's look like.

use std::time::Duration;

use super::connection::{CloseReason, Connection, Outcome, State};
use super::demux::ConnId;
use super::{Env, Tcp};
use crate::time::Instant;

/// Octets of a connection without data: the structure, its congestion controller, its places in
/// the tables and in the queue of timers.
const CONNECTION: usize = size_of::<Connection>() + 384;
/// Octets of a half-open record with its places in the table and in the queue of timers.
const HALF_OPEN: usize = 320;
/// Octets of a TIME-WAIT record, likewise.
const TIME_WAIT: usize = 224;
/// Given up for one received segment, which adds less than any of them.
const AT_ONCE: usize = 4;
/// Silence that makes a connection without anything to do an idle one.
const IDLE: Duration = Duration::from_secs(1);
/// Connections looked at for one that is given up: the order above holds among them, the next
/// ones are looked at the next time. To look at all would cost most when there are most.
const LOOKED_AT: usize = 64;

impl Connection {
    /// Octets that it holds. Of the application's data that is what only the queue holds, as heads
    /// and small answers; a cached file costs no more than what refers to it.
    fn footprint(&self) -> usize {
        if self.state == State::Closed {
            // It is over, and the application about to let go of it.
            return 0;
        }
        CONNECTION
            + self.ready.len()
            + self.assembler.held()
            + self.send.overhead()
            + self.own_queued as usize
            + self.sent.overhead()
    }

    /// Whether it has waited for nothing but the peer's next word for a while. A connection
    /// that is new has something to do, or nobody could open one while the slow hold all.
    fn is_idle(&self, now: Instant) -> bool {
        now.since(self.last_heard) >= IDLE
            && !self.has_outstanding()
            && self.send.len() == 0
            && self.ready.is_empty()
            && self.assembler.is_empty()
    }

    /// How long nothing has come of it.
    fn stagnation(&self, now: Instant) -> Duration {
        let sends = self.has_outstanding() || self.send.len() > 0;
        now.since(if sends { self.last_progress } else { self.last_heard })
    }
}

impl Tcp {
    /// Octets that connections and records hold.
    pub(crate) fn memory(&self) -> usize {
        self.charged + self.half_open.len() * HALF_OPEN + self.time_wait.len() * TIME_WAIT
    }

    /// Whether one more half-open record is too much.
    pub(super) fn is_memory_short(&self) -> bool {
        self.memory() + HALF_OPEN > self.config.memory_budget
    }

    /// Counts what a connection holds now.
    pub(super) fn charge(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (octets, waiting) = (connection.footprint(), connection.assembler.held());
        let before = std::mem::replace(&mut connection.charged, octets as u32) as usize;
        self.charged = self.charged + octets - before;
        let before = std::mem::replace(&mut connection.charged_reassembly, waiting as u32) as usize;
        self.reassembly = self.reassembly + waiting - before;
    }

    /// Makes room where the budget is exceeded.
    pub(super) fn reclaim(&mut self, env: &mut Env<'_>) {
        for _ in 0..AT_ONCE {
            if self.memory() <= self.config.memory_budget {
                return;
            }
            if let Some(tuple) = self.half_open.give_up_one() {
                env.stats.tcp_memory_half_open += 1;
                if let Some(id) = self.find(&tuple) {
                    // By Fast Open there is a connection, whose SYN nobody would answer any more.
                    self.step(env, id, |_, _| Outcome::Abort(CloseReason::Aborted));
                }
            } else if self.time_wait.give_up_oldest() {
                env.stats.tcp_memory_time_wait += 1;
            } else if let Some((id, idle)) = self.dispensable(env.now) {
                if idle {
                    env.stats.tcp_memory_idle += 1;
                } else {
                    env.stats.tcp_memory_slow += 1;
                }
                self.step(env, id, |_, _| Outcome::Abort(CloseReason::Aborted));
            } else {
                return;
            }
        }
    }

    /// The connection that is missed least of the next few, and whether it is idle.
    fn dispensable(&mut self, now: Instant) -> Option<(ConnId, bool)> {
        let mut least: Option<(bool, Duration, ConnId)> = None;
        let (looked_at, next) = self.connections.look(self.next_look, LOOKED_AT);
        for (id, connection) in looked_at {
            if connection.state == State::Closed {
                continue;
            }
            let (idle, stagnation) = (connection.is_idle(now), connection.stagnation(now));
            if least.is_none_or(|(i, s, _)| (i, s) < (idle, stagnation)) {
                least = Some((idle, stagnation, id));
            }
        }
        self.next_look = next;
        least.map(|(idle, _, id)| (id, idle))
    }
}
