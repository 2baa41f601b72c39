//! A client of the harness's own: a textbook receiver (RFC 9293, 2018, 2883, 7323, 3168) that
//! is never the bottleneck, and a sender that is good enough for requests.
//!
//! It keeps no data: what arrives is compared at once, in whatever order it comes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use tagwire_netstack::{Instant, MacAddr};

use crate::app::{App, LOW_WATER, Plan, Socket};
use crate::path::Frame;
use crate::pattern::Pattern;
use crate::segment::{ACK, CWR, ECE, Ends, FIN, PSH, RST, SYN, Segment};

/// What a client says of itself, and how it acknowledges.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) mss: u16,
    /// Octets that it holds for its application.
    pub(crate) buffer: usize,
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
    pub(crate) ecn: bool,
    /// It acknowledges every so many segments: 2 as RFC 1122 4.2.3.2 wants it, more as a
    /// receiver does whose link joins segments.
    pub(crate) ack_every: u32,
    pub(crate) ack_delay: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            mss: 1460,
            buffer: 16 << 20,
            sack: true,
            timestamps: true,
            ecn: false,
            ack_every: 2,
            ack_delay: Duration::from_millis(40),
        }
    }
}

/// As Linux's quick acknowledgements: so many segments at the start are acknowledged one by one.
const QUICK: u32 = 16;
/// Octets that the requests may have in flight.
const FLIGHT: u64 = 65_536;
const RTO: Duration = Duration::from_secs(1);
const RTO_MAX: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle(Instant),
    SynSent,
    Open,
}

/// One connection without its application. Offsets count from the first octet of data in
/// either direction; a FIN takes one.
#[derive(Debug)]
struct Tcp {
    habits: Habits,
    ends: Ends,
    state: State,
    iss: u32,
    irs: u32,
    start: Instant,

    outgoing: Pattern,
    una: u64,
    nxt: u64,
    end: u64,
    fin_queued: bool,
    duplicates: u32,
    /// RFC 6582: a loss is being repaired up to there.
    recover: Option<u64>,
    resend: bool,
    window: u64,
    scale: u8,
    timer: Option<Instant>,
    rto: Duration,

    incoming: Pattern,
    rcv_nxt: u64,
    /// What has come beyond a gap.
    runs: BTreeMap<u64, u64>,
    /// Where runs begin, the last to have grown first (RFC 2018 4).
    recent: Vec<u64>,
    /// RFC 2883: what came twice.
    twice: Option<(u64, u64)>,
    fin_at: Option<u64>,
    read: u64,
    /// Right edge of the window that was offered.
    edge: u64,
    unacked: u32,
    quick: u32,
    ack_now: bool,
    ack_at: Option<Instant>,
    ts_recent: u32,
    last_ack: u64,
    ecn_agreed: bool,
    echo_mark: bool,
}

impl Tcp {
    fn new(habits: Habits, ends: Ends, flow: usize, iss: u32, at: Instant) -> Self {
        Self {
            edge: habits.buffer.min(0xffff) as u64,
            habits,
            ends,
            state: State::Idle(at),
            iss,
            irs: 0,
            start: at,
            outgoing: Pattern::new(flow, true),
            una: 0,
            nxt: 0,
            end: 0,
            fin_queued: false,
            duplicates: 0,
            recover: None,
            resend: false,
            window: 0,
            scale: 0,
            timer: None,
            rto: RTO,
            incoming: Pattern::new(flow, false),
            rcv_nxt: 0,
            runs: BTreeMap::new(),
            recent: Vec::new(),
            twice: None,
            fin_at: None,
            read: 0,
            unacked: 0,
            quick: QUICK,
            ack_now: false,
            ack_at: None,
            ts_recent: 0,
            last_ack: 0,
            ecn_agreed: false,
            echo_mark: false,
        }
    }

    fn own_scale(&self) -> u8 {
        (0..14).find(|shift| self.habits.buffer >> shift <= 0xffff).unwrap_or(14)
    }

    /// Everything is closed and acknowledged, both ways.
    fn is_over(&self) -> bool {
        self.fin_queued && self.una > self.end && self.fin_at.is_some_and(|fin| self.rcv_nxt > fin)
    }

    // ---- segments in ---------------------------------------------------------------------

    fn on_segment(&mut self, now: Instant, segment: &Segment, payload: &[u8]) {
        if segment.has(RST) {
            assert!(self.is_over(), "reset: {segment}\n{self:?}");
            return;
        }
        match self.state {
            State::Idle(_) => {}
            State::SynSent => self.on_syn_ack(segment),
            State::Open if segment.has(SYN) => self.ack_now = true,
            State::Open => {
                let at = (self.rcv_nxt as i64) + i64::from(self.rcv_distance(segment.seq));
                if let Some((value, _)) = segment.timestamp
                    && at <= self.last_ack as i64
                    && (value.wrapping_sub(self.ts_recent) as i32) >= 0
                {
                    self.ts_recent = value;
                }
                self.on_ack(segment);
                if self.ecn_agreed {
                    self.echo_mark = segment.ecn == 3 || (self.echo_mark && !segment.has(CWR));
                    self.ack_now |= segment.ecn == 3;
                }
                if !payload.is_empty() || segment.has(FIN) {
                    self.on_data(now, at, segment, payload);
                } else if at < self.rcv_nxt as i64 {
                    // A probe.
                    self.ack_now = true;
                }
            }
        }
    }

    fn on_syn_ack(&mut self, segment: &Segment) {
        if !segment.has(SYN | ACK) || segment.ack != self.iss.wrapping_add(1) {
            return;
        }
        self.irs = segment.seq;
        self.state = State::Open;
        self.habits.mss = self.habits.mss.min(segment.mss.unwrap_or(536));
        self.scale = segment.scale.unwrap_or(0);
        self.window = u64::from(segment.window);
        self.habits.sack &= segment.sack_permitted;
        self.habits.timestamps &= segment.timestamp.is_some();
        self.ts_recent = segment.timestamp.map_or(0, |(value, _)| value);
        // RFC 3168 6.1.1: an ECN-setup SYN-ACK has ECE and not CWR.
        self.ecn_agreed = self.habits.ecn && segment.flags & (ECE | CWR) == ECE;
        self.timer = None;
        self.rto = RTO;
        self.ack_now = true;
    }

    fn rcv_distance(&self, seq: u32) -> i32 {
        let next = self.irs.wrapping_add(1).wrapping_add(self.rcv_nxt as u32);
        seq.wrapping_sub(next) as i32
    }

    fn seq(&self, offset: u64) -> u32 {
        self.iss.wrapping_add(1).wrapping_add(offset as u32)
    }

    fn on_ack(&mut self, segment: &Segment) {
        let ahead = segment.ack.wrapping_sub(self.seq(self.una)) as i32;
        if ahead < 0 {
            return;
        }
        let window = u64::from(segment.window) << self.scale;
        let ack = self.una + ahead as u64;
        let most = self.end + u64::from(self.fin_queued);
        assert!(ack <= most, "acknowledges what was never sent: {segment}\n{self:?}");
        if ahead > 0 {
            self.una = ack;
            self.nxt = self.nxt.max(ack);
            self.duplicates = 0;
            self.rto = RTO;
            self.timer = None;
            self.recover = self.recover.filter(|end| ack < *end);
            self.resend = self.recover.is_some();
        } else if self.nxt > self.una && segment.len == 0 && window == self.window {
            self.duplicates += 1;
            if self.duplicates == 3 && self.recover.is_none() {
                self.recover = Some(self.nxt);
                self.resend = true;
            }
        }
        self.window = window;
    }

    fn on_data(&mut self, now: Instant, at: i64, segment: &Segment, payload: &[u8]) {
        let end = at + payload.len() as i64;
        if at < 0 {
            // Where the SYN was; a probe with old data at the most.
            self.ack_now = true;
            return;
        }
        let (at, end) = (at as u64, end as u64);
        self.incoming.check(at, payload);
        assert!(end <= self.edge, "{} octets beyond the window: {segment}", end - self.edge);
        if segment.has(FIN) {
            assert!(self.fin_at.is_none_or(|fin| fin == end), "FIN moved: {segment}");
            self.fin_at = Some(end);
        }
        assert!(self.fin_at.is_none_or(|fin| fin >= end), "data beyond the FIN: {segment}");
        if end <= self.rcv_nxt && !payload.is_empty() {
            self.twice = Some((at, end));
            self.ack_now = true;
            return;
        }
        if at > self.rcv_nxt {
            self.keep(at, end + u64::from(segment.has(FIN)));
            self.ack_now = true;
        } else if !payload.is_empty() {
            let gap = !self.runs.is_empty();
            self.rcv_nxt = end;
            self.join();
            self.unacked += 1;
            let quick = self.quick > 0;
            self.quick = self.quick.saturating_sub(1);
            if gap || quick || self.unacked >= self.habits.ack_every {
                self.ack_now = true;
            } else {
                self.ack_at.get_or_insert(now + self.habits.ack_delay);
            }
        }
        if self.fin_at == Some(self.rcv_nxt) {
            self.rcv_nxt += 1;
            self.ack_now = true;
        } else if self.fin_at.is_some() {
            self.ack_now = true;
        }
    }

    /// Takes the runs that `rcv_nxt` has reached.
    fn join(&mut self) {
        while let Some((&start, &end)) = self.runs.first_key_value() {
            if start > self.rcv_nxt {
                return;
            }
            self.runs.pop_first();
            self.recent.retain(|at| *at != start);
            self.rcv_nxt = self.rcv_nxt.max(end);
        }
    }

    fn keep(&mut self, at: u64, end: u64) {
        if at == end {
            return;
        }
        let covers = self.runs.range(..=at).next_back().is_some_and(|(_, &last)| last >= end);
        if covers {
            self.twice = Some((at, end));
        }
        let (mut start, mut last) = (at, end);
        let touching: Vec<u64> = self
            .runs
            .range(..=end)
            .rev()
            .take_while(|(_, run_end)| **run_end >= at)
            .map(|(&run_start, _)| run_start)
            .collect();
        for run in touching {
            last = last.max(self.runs.remove(&run).expect("a run that was just seen"));
            start = start.min(run);
            self.recent.retain(|at| *at != run);
        }
        self.runs.insert(start, last);
        self.recent.insert(0, start);
    }

    // ---- segments out --------------------------------------------------------------------

    fn next(&self) -> Option<Instant> {
        let start = if let State::Idle(at) = self.state { Some(at) } else { None };
        [start, self.timer, self.ack_at].into_iter().flatten().min()
    }

    fn run(&mut self, now: Instant, out: &mut Vec<(Segment, Bytes)>) {
        match self.state {
            State::Idle(at) if now >= at => {
                self.state = State::SynSent;
                self.send_syn(now, out);
            }
            State::SynSent if self.timer.is_some_and(|at| at <= now) => {
                self.rto = (self.rto * 2).min(RTO_MAX);
                self.send_syn(now, out);
            }
            State::Idle(_) | State::SynSent => {}
            State::Open => self.run_open(now, out),
        }
    }

    fn send_syn(&mut self, now: Instant, out: &mut Vec<(Segment, Bytes)>) {
        let flags = if self.habits.ecn { SYN | ECE | CWR } else { SYN };
        let mut segment = Segment::new(self.ends, flags, self.iss, 0);
        segment.window = self.habits.buffer.min(0xffff) as u16;
        segment.mss = Some(self.habits.mss);
        segment.scale = Some(self.own_scale());
        segment.sack_permitted = self.habits.sack;
        segment.timestamp = self.habits.timestamps.then(|| (self.clock(now), 0));
        self.timer = Some(now + self.rto);
        out.push((segment, Bytes::new()));
    }

    fn run_open(&mut self, now: Instant, out: &mut Vec<(Segment, Bytes)>) {
        let before = out.len();
        let all = self.end + u64::from(self.fin_queued);
        if self.timer.is_some_and(|at| at <= now) {
            self.timer = None;
            self.rto = (self.rto * 2).min(RTO_MAX);
            self.nxt = self.una;
            self.duplicates = 0;
            self.recover = None;
            if self.window == 0 && self.una < self.end {
                self.send_data(now, self.una, 1, out);
            }
        }
        if std::mem::take(&mut self.resend) && self.nxt > self.una {
            let octets = (self.end - self.una).min(u64::from(self.habits.mss) - 12);
            self.send_data(now, self.una, octets, out);
        }
        let most = self.una + self.window.min(FLIGHT);
        while self.nxt < all && (self.nxt < most || self.nxt == self.end) {
            let octets = (self.end - self.nxt).min(most.saturating_sub(self.nxt));
            let octets = octets.min(u64::from(self.habits.mss) - 12);
            self.send_data(now, self.nxt, octets, out);
            let sent = out.last().map_or(0, |(_, data)| data.len() as u64);
            self.nxt += sent;
            if self.nxt == self.end && self.fin_queued {
                self.nxt += 1;
            }
        }
        if self.una < all && self.timer.is_none() {
            self.timer = Some(now + self.rto);
        }
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_now = true;
        }
        if self.ack_now && out.len() == before {
            let segment = self.header(now, ACK, self.nxt);
            out.push((segment, Bytes::new()));
        }
        if out.len() > before {
            self.ack_now = false;
            self.ack_at = None;
            self.unacked = 0;
        }
    }

    fn send_data(&mut self, now: Instant, at: u64, octets: u64, out: &mut Vec<(Segment, Bytes)>) {
        let data = match octets {
            0 => Bytes::new(),
            _ => self.outgoing.piece(at, octets as usize),
        };
        let fin = self.fin_queued && at + data.len() as u64 == self.end;
        let flags = ACK | PSH | if fin { FIN } else { 0 };
        let segment = self.header(now, flags, at);
        out.push((segment, data));
    }

    /// A segment's header with all that every one of an open connection says.
    fn header(&mut self, now: Instant, flags: u8, at: u64) -> Segment {
        let ack = self.irs.wrapping_add(1).wrapping_add(self.rcv_nxt as u32);
        let ece = if self.echo_mark { ECE } else { 0 };
        let mut segment = Segment::new(self.ends, flags | ece, self.seq(at), ack);
        let grown = (self.read + self.habits.buffer as u64).max(self.edge);
        let worthwhile = u64::from(self.habits.mss).min(self.habits.buffer as u64 / 2);
        if grown - self.edge >= worthwhile {
            self.edge = grown;
        }
        // Rounded up: down would take back what was offered.
        let scale = self.own_scale();
        let field = self.edge.saturating_sub(self.rcv_nxt).div_ceil(1 << scale).min(0xffff);
        self.edge = self.edge.max(self.rcv_nxt + (field << scale));
        segment.window = field as u16;
        segment.timestamp = self.habits.timestamps.then(|| (self.clock(now), self.ts_recent));
        self.last_ack = self.rcv_nxt;
        if self.habits.sack {
            let seq = |offset: u64| self.irs.wrapping_add(1).wrapping_add(offset as u32);
            let twice = self.twice.take();
            let runs = self.recent.iter().map(|start| (*start, self.runs[start]));
            segment.sacks =
                twice.into_iter().chain(runs).take(4).map(|(s, e)| (seq(s), seq(e))).collect();
        }
        segment
    }

    fn clock(&self, now: Instant) -> u32 {
        self.iss.wrapping_add(now.since(self.start).as_millis() as u32)
    }
}

impl Socket for Tcp {
    fn read(&mut self, _: Pattern, offset: u64) -> (u64, bool) {
        let eof = self.fin_at.is_some_and(|fin| self.rcv_nxt > fin);
        let octets = self.rcv_nxt - u64::from(eof) - offset;
        self.read += octets;
        let growth = (self.read + self.habits.buffer as u64).saturating_sub(self.edge);
        let offered = self.edge.saturating_sub(self.rcv_nxt);
        let mss = u64::from(self.habits.mss);
        if growth >= self.habits.buffer as u64 / 2 || (offered < 2 * mss && growth >= mss) {
            self.ack_now = true;
        }
        (octets, eof)
    }

    fn wants_more(&mut self) -> bool {
        self.end - self.una.min(self.end) < LOW_WATER as u64
    }

    fn send(&mut self, data: Bytes) {
        self.end += data.len() as u64;
    }

    fn shutdown(&mut self) {
        self.fin_queued = true;
    }
}

/// One connection that it will open.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) server: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) iss: u32,
    pub(crate) flow: usize,
    pub(crate) habits: Habits,
    pub(crate) plan: Plan,
}

/// A host with any number of connections.
#[derive(Debug)]
pub(crate) struct Ideal {
    pub(crate) mac: MacAddr,
    pub(crate) ip: Ipv4Addr,
    conns: Vec<(Tcp, App)>,
}

impl Ideal {
    pub(crate) fn new(mac: MacAddr, ip: Ipv4Addr, calls: Vec<Call>) -> Self {
        let conn = |call: Call| {
            let ends = Ends {
                source: ip,
                source_port: call.port,
                destination: call.server,
                destination_port: 80,
            };
            let tcp = Tcp::new(call.habits, ends, call.flow, call.iss, call.at);
            (tcp, App::new(call.plan, call.flow, true, call.at))
        };
        Self { mac, ip, conns: calls.into_iter().map(conn).collect() }
    }

    pub(crate) fn arrive(&mut self, now: Instant, frame: &Frame) {
        let Some(segment) = Segment::read(&frame.octets) else { return };
        let ends = segment.ends.reversed();
        if let Some((tcp, _)) = self.conns.iter_mut().find(|(tcp, _)| tcp.ends == ends) {
            let payload = &frame.octets[segment.at..segment.at + segment.len];
            tcp.on_segment(now, &segment, payload);
        }
    }

    pub(crate) fn run(&mut self, now: Instant) -> Vec<(Segment, Bytes)> {
        let mut out = Vec::new();
        for (tcp, app) in &mut self.conns {
            if tcp.state == State::Open {
                app.run(now, tcp);
            }
            tcp.run(now, &mut out);
        }
        out
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.conns.iter().flat_map(|(tcp, app)| [tcp.next(), app.next()]).flatten().min()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.conns.iter().all(|(tcp, _)| tcp.is_over())
    }

    pub(crate) fn apps(&self) -> impl Iterator<Item = &App> {
        self.conns.iter().map(|(_, app)| app)
    }
}
