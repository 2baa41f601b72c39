//! The application at one end of a connection: what it sends when, how it reads, when it closes.

use std::time::Duration;

use tagwire_netstack::Instant;

use crate::pattern::Pattern;

/// More is queued when less than this is: more than any path here holds, as the application
/// should not be what holds a sender back. (The pattern's octets are shared, not copied.)
pub(crate) const LOW_WATER: usize = 64 << 20;

/// What an application does. A connection's two plans must fit each other.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How often it sends, and receives: a request and its response are one round.
    pub(crate) rounds: u64,
    /// Octets sent in each round.
    pub(crate) send: u64,
    /// Octets received in each round.
    pub(crate) expect: u64,
    /// It sends first; the other begins its part of a round when it has received all of it.
    pub(crate) first: bool,
    /// It lets this pass before each round but the first.
    pub(crate) think: Duration,
    /// It has this many octets to send only every so often; `None`: all at once.
    pub(crate) trickle: Option<(u64, Duration)>,
    /// It reads only every so often.
    pub(crate) read_every: Duration,
    /// It closes as soon as it has sent everything; the other then when it has too.
    pub(crate) closes: bool,
}

impl Plan {
    /// Asks `rounds` times with `request` octets for `response` octets each.
    pub(crate) fn client(rounds: u64, request: u64, response: u64) -> Self {
        Self {
            rounds,
            send: request,
            expect: response,
            first: true,
            think: Duration::ZERO,
            trickle: None,
            read_every: Duration::ZERO,
            closes: false,
        }
    }

    /// The one who answers to `client`.
    pub(crate) fn server(client: &Self) -> Self {
        Self {
            send: client.expect,
            expect: client.send,
            first: false,
            think: Duration::ZERO,
            trickle: None,
            read_every: Duration::ZERO,
            closes: true,
            ..client.clone()
        }
    }

    pub(crate) fn total_sent(&self) -> u64 {
        self.rounds * self.send
    }

    pub(crate) fn total_received(&self) -> u64 {
        self.rounds * self.expect
    }
}

/// A connection as the application sees it.
pub(crate) trait Socket {
    /// Octets that may be read have been checked against `pattern` from `offset` on, and are
    /// gone. How many, and whether the other end has closed behind them.
    fn read(&mut self, pattern: Pattern, offset: u64) -> (u64, bool);
    /// Whether it takes more; if not, it will wake the application when it does.
    fn wants_more(&mut self) -> bool;
    fn send(&mut self, data: bytes::Bytes);
    fn shutdown(&mut self);
}

#[derive(Debug)]
pub(crate) struct App {
    plan: Plan,
    outgoing: Pattern,
    incoming: Pattern,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// The other end has closed, and everything before that was read.
    pub(crate) eof: bool,
    pub(crate) shut: bool,
    read_at: Instant,
    /// Rounds that it has begun to send, and when the last one began.
    begun: u64,
    begun_at: Instant,
    /// It thinks until then.
    think_until: Option<Instant>,
    wake: Option<Instant>,
    /// When it last received something.
    pub(crate) last_at: Option<Instant>,
    /// When it first sent.
    pub(crate) sent_at: Option<Instant>,
}

impl App {
    pub(crate) fn new(plan: Plan, flow: usize, client: bool, now: Instant) -> Self {
        Self {
            plan,
            outgoing: Pattern::new(flow, client),
            incoming: Pattern::new(flow, !client),
            sent: 0,
            received: 0,
            eof: false,
            shut: false,
            read_at: now,
            begun: 0,
            begun_at: now,
            think_until: None,
            wake: None,
            last_at: None,
            sent_at: None,
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.wake
    }

    /// Everything is sent, received and closed.
    pub(crate) fn is_done(&self) -> bool {
        self.eof && self.shut
    }

    /// Does all that it can now.
    pub(crate) fn run(&mut self, now: Instant, socket: &mut dyn Socket) {
        self.wake = None;
        self.read(now, socket);
        self.begin_rounds(now);
        self.send(now, socket);
        let all = self.sent == self.plan.total_sent();
        if all && !self.shut && (self.plan.closes || self.eof) {
            socket.shutdown();
            self.shut = true;
        }
        if self.eof {
            assert_eq!(self.received, self.plan.total_received(), "closed early: {self:?}");
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn read(&mut self, now: Instant, socket: &mut dyn Socket) {
        if self.eof {
            return;
        }
        if now < self.read_at {
            self.wake_at(self.read_at);
            return;
        }
        let (octets, eof) = socket.read(self.incoming, self.received);
        self.received += octets;
        self.eof = eof;
        assert!(self.received <= self.plan.total_received(), "more than was sent: {self:?}");
        if octets > 0 {
            self.last_at = Some(now);
        }
        if self.plan.read_every > Duration::ZERO && !eof {
            self.read_at = now + self.plan.read_every;
            self.wake_at(self.read_at);
        }
    }

    fn begin_rounds(&mut self, now: Instant) {
        while self.begun < self.plan.rounds {
            let before = self.begun + u64::from(!self.plan.first);
            if self.received < before * self.plan.expect {
                return;
            }
            if self.begun > 0 && self.plan.think > Duration::ZERO {
                let until = *self.think_until.get_or_insert(now + self.plan.think);
                if now < until {
                    self.wake_at(until);
                    return;
                }
                self.think_until = None;
            }
            self.begun += 1;
            self.begun_at = now;
        }
    }

    /// Octets that it may have sent by now.
    fn allowed(&mut self, now: Instant) -> u64 {
        let begun = self.begun * self.plan.send;
        let (Some((octets, every)), 1..) = (self.plan.trickle, self.begun) else { return begun };
        let before = begun - self.plan.send;
        let steps = now.since(self.begun_at).as_nanos() / every.as_nanos();
        let allowed = begun.min(before + octets * (steps as u64 + 1));
        if allowed < begun {
            self.wake_at(self.begun_at + every * (steps as u32 + 1));
        }
        allowed
    }

    fn send(&mut self, now: Instant, socket: &mut dyn Socket) {
        let allowed = self.allowed(now);
        while self.sent < allowed && socket.wants_more() {
            let most = (allowed - self.sent).min(65_536) as usize;
            let piece = self.outgoing.piece(self.sent, most);
            self.sent += piece.len() as u64;
            self.sent_at.get_or_insert(now);
            socket.send(piece);
        }
    }
}
