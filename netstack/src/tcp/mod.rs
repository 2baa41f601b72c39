//! TCP (RFC 9293), the server's side.
//!
//! A segment's way: [`Tcp::on_segment`] finds what its four-tuple belongs to, a
//! [connection](connection), a [half-open](listen) or a [TIME-WAIT](time_wait) record, or
//! nothing, which is answered by RST. What a connection then wants to send waits until
//! [`Tcp::next_ready`] names it and its output is asked for.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

mod acknowledgement;
mod assembler;
pub mod congestion;
pub(crate) mod connection;
mod delivery;
pub(crate) mod demux;
mod ecn;
mod fast_open;
mod input;
mod isn;
mod listen;
mod memory;
mod open;
pub(crate) mod output;
mod pacing;
mod path_mtu;
mod prr;
mod rack;
mod receive;
mod recovery;
mod rtt;
mod send_buffer;
mod sent;
pub(crate) mod seq;
mod syn_cookie;
mod syn_gate;
mod time_wait;
mod timeout;
mod timer;

use connection::{CloseReason, Connection, Context, Events, Outcome, State};
use demux::{ConnId, Demux, FourTuple, Slab};
use listen::{Due, HalfOpenTable, timestamp_now};
use output::Built;
use path_mtu::PathMtus;
use syn_cookie::SynCookies;
use syn_gate::SynGate;
use time_wait::{TimeWaitTable, Verdict};

use crate::config::MacAddr;
pub(crate) use crate::config::TcpConfig;
use crate::entropy::Keys;
use crate::ip::Outbox;
use crate::limit::TokenBucket;
use crate::stats::Stats;
use crate::time::Instant;
use crate::timers::TimerQueue;
use crate::wire::tcp::{Flags, Header, Options, Segment, Timestamp};

/// RSTs for segments that belong to nothing, at once and then a thousand a second: each costs a
/// frame, and who scans or floods would have one for each of theirs. Who has a true question
/// asks again.
const RESETS_AT_ONCE: u32 = 100;
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// What the layers around TCP lend it for one step.
pub(crate) struct Env<'a> {
    pub(crate) now: Instant,
    /// When the frame that is handled arrived; else the same.
    pub(crate) received: Instant,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) stats: &'a mut Stats,
    /// The station that sent the frame that this step is about, where there is one.
    pub(crate) station: Option<MacAddr>,
}

impl<'a> Env<'a> {
    /// For a step that no frame is the cause of.
    pub(crate) fn new(now: Instant, outbox: &'a mut Outbox, stats: &'a mut Stats) -> Self {
        Self { now, received: now, outbox, stats, station: None }
    }

    /// Sends a segment that no connection stands behind. It goes straight back to the station
    /// that it answers: to look that up for every SYN would let a flood from invented
    /// neighbours fill the neighbour table's queue and shout an ARP request for each, while who
    /// can send us frames in another station's name can send that station the same segment
    /// itself. What a connection sends later is resolved, by then with a peer that is there.
    fn answer(&mut self, tuple: FourTuple, header: Header) {
        self.stats.tcp_out += 1;
        self.outbox.push_segment(tuple, header, self.station, self.stats);
    }
}

/// What the link carries in one segment without options, in octets, by family (RFC 9293 3.7.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkMss {
    pub(crate) v4: u16,
    pub(crate) v6: u16,
}

impl LinkMss {
    fn of(self, tuple: &FourTuple) -> u16 {
        if tuple.local.ip.is_ipv6() { self.v6 } else { self.v4 }
    }
}

/// Distinguishes flow labels from the other uses of the stack's secret.
const PURPOSE_FLOW: u8 = 32;

/// All connections of a stack.
#[derive(Debug)]
pub(crate) struct Tcp {
    config: TcpConfig,
    keys: Keys,
    mss: LinkMss,
    segmentation: bool,
    listeners: Vec<u16>,
    demux: Demux,
    connections: Slab<Connection>,
    half_open: HalfOpenTable,
    cookies: SynCookies,
    gate: SynGate,
    /// RSTs for segments that belong to nothing.
    resets: TokenBucket,
    time_wait: TimeWaitTable,
    paths: PathMtus,
    timers: TimerQueue<ConnId>,
    /// Connections that may have something to send, in the order of their turns.
    ready: VecDeque<ConnId>,
    /// Connections with events for the application.
    eventful: VecDeque<ConnId>,
    /// Octets that connections hold, and of those what waits out of order.
    charged: usize,
    reassembly: usize,
    /// Where the next connection to give way is looked for.
    next_look: usize,
}

impl Tcp {
    pub(crate) fn new(config: TcpConfig, keys: Keys, mss: LinkMss, segmentation: bool) -> Self {
        Self {
            config,
            keys,
            mss,
            segmentation,
            listeners: Vec::new(),
            demux: Demux::new(keys),
            connections: Slab::default(),
            half_open: HalfOpenTable::new(keys),
            cookies: SynCookies::new(keys),
            gate: SynGate::new(keys),
            resets: TokenBucket::new(RESETS_AT_ONCE, RESET_INTERVAL),
            time_wait: TimeWaitTable::new(keys),
            paths: PathMtus::new(keys),
            timers: TimerQueue::default(),
            ready: VecDeque::new(),
            eventful: VecDeque::new(),
            charged: 0,
            reassembly: 0,
            next_look: 0,
        }
    }

    /// The IPv6 flow label of a connection's packets: unpredictable, the same for all of them,
    /// never 0 (RFC 6437 3). IPv4 has none.
    pub(crate) fn flow_label(&self, tuple: &FourTuple) -> u32 {
        if tuple.local.ip.is_ipv4() {
            return 0;
        }
        (self.keys.prf(PURPOSE_FLOW, tuple.octets().as_ref()) as u32 & 0xf_ffff).max(1)
    }

    /// Segments of connections over IPv6 that begin from now on have this size.
    pub(crate) fn set_mss_v6(&mut self, mss: u16) {
        self.mss.v6 = mss;
    }

    /// The link carries packets of `mtu` octets now, and in segments without options `mss`.
    pub(crate) fn set_link_mtu(&mut self, env: &mut Env<'_>, mss: LinkMss, mtu: u16) {
        self.mss = mss;
        let too_large =
            |(id, connection): (ConnId, &Connection)| (!connection.fits(mtu)).then_some(id);
        let too_large: Vec<ConnId> = self.connections().filter_map(too_large).collect();
        for id in too_large {
            self.step(env, id, |connection, _| {
                connection.fit(mtu);
                Outcome::Continue
            });
        }
    }

    pub(crate) fn listen(&mut self, port: u16) {
        if !self.listeners.contains(&port) {
            self.listeners.push(port);
        }
    }

    pub(crate) fn unlisten(&mut self, port: u16) {
        self.listeners.retain(|open| *open != port);
    }

    // ---- segments in ---------------------------------------------------------------------

    pub(crate) fn on_segment(
        &mut self,
        env: &mut Env<'_>,
        source: IpAddr,
        destination: IpAddr,
        segment: &Segment<'_>,
    ) {
        env.stats.tcp_in += 1;
        let tuple =
            FourTuple::new((destination, segment.destination_port), (source, segment.source_port));
        self.dispatch(env, tuple, segment);
        if self.memory() > self.config.memory_budget {
            self.reclaim(env);
        }
    }

    /// The connection of these ends.
    #[inline]
    fn find(&self, tuple: &FourTuple) -> Option<ConnId> {
        self.demux.find(&self.connections, tuple)
    }

    fn dispatch(&mut self, env: &mut Env<'_>, tuple: FourTuple, segment: &Segment<'_>) {
        if let Some(id) = self.find(&tuple) {
            if self.half_open.fast_open() > 0 && self.half_open.get(&tuple).is_some() {
                self.on_fast_open(env, id, tuple, segment);
                return;
            }
            self.step(env, id, |connection, cx| connection.on_segment(cx, segment));
            return;
        }
        if self.half_open.get(&tuple).is_some() {
            self.on_half_open(env, tuple, segment);
            return;
        }
        match self.time_wait.on_segment(&tuple, segment, env.now, &self.config) {
            None => self.on_unknown(env, tuple, segment, None),
            Some(Verdict::Ignore) if segment.flags.has(Flags::RST) => {
                env.stats.tcp_reset_ignored += 1;
            }
            Some(Verdict::Ignore) => env.stats.tcp_ignored += 1,
            Some(Verdict::Limited) => env.stats.tcp_challenge_limited += 1,
            Some(Verdict::Over) => env.stats.tcp_reset_in += 1,
            Some(Verdict::Acknowledge) => self.acknowledge_time_wait(env, &tuple),
            Some(Verdict::Reset(seq, ack)) => push_reset(env, &tuple, seq, Some(ack)),
            Some(Verdict::Reopen { above }) => {
                self.on_unknown(env, tuple, segment, Some(above));
            }
        }
    }

    fn acknowledge_time_wait(&mut self, env: &mut Env<'_>, tuple: &FourTuple) {
        let Some(record) = self.time_wait.get(tuple) else { return };
        let header = Header {
            source_port: tuple.local.port,
            destination_port: tuple.remote.port,
            seq: record.snd_nxt,
            ack: record.rcv_nxt,
            flags: Flags::ACK,
            window: record.window,
            options: Options {
                timestamp: record.timestamps.map(|(recent, offset)| Timestamp {
                    value: timestamp_now(offset, env.now),
                    echo: recent,
                }),
                ..Options::default()
            },
        };
        env.answer(*tuple, header);
    }

    /// Runs one step of a connection and does what it leads to.
    fn step(
        &mut self,
        env: &mut Env<'_>,
        id: ConnId,
        step: impl FnOnce(&mut Connection, &mut Context<'_>) -> Outcome,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut cx = Context {
            now: env.now,
            received: env.received,
            config: &self.config,
            segmentation: self.segmentation,
            reassembly_left: self.config.reassembly_budget.saturating_sub(self.reassembly),
            stats: env.stats,
        };
        let outcome = step(connection, &mut cx);
        self.settle(env, id, outcome);
    }

    /// Does what a step led to, and keeps the lists that the connection belongs in.
    fn settle(&mut self, env: &mut Env<'_>, id: ConnId, outcome: Outcome) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let tuple = connection.tuple;
        let was_closed = connection.closed().is_some();
        if let Some(mtu) = connection.take_path_news() {
            self.publish_path(&tuple, mtu, env.now);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        match outcome {
            Outcome::Continue if !connection.is_lingering() => {}
            Outcome::Close(reason) => connection.finish(reason),
            Outcome::Abort(reason) => {
                if !was_closed {
                    let last = connection.epitaph(env.now, &self.config);
                    push_reset(env, &tuple, last.snd_nxt, Some(last.rcv_nxt));
                }
                connection.finish(reason);
            }
            // What lingers in FIN-WAIT-2 needs no more than a record either.
            Outcome::TimeWait | Outcome::Continue => {
                let record = connection.epitaph(env.now, &self.config);
                let acknowledge = connection.ack_now || connection.unacked > 0;
                self.time_wait.insert(tuple, record, &self.config, env.stats);
                connection.finish(CloseReason::Finished);
                if acknowledge {
                    // The peer's FIN, if it came last: the record does that.
                    self.acknowledge_time_wait(env, &tuple);
                }
            }
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Some(reason) = connection.closed() {
            if !was_closed {
                self.demux.remove(&tuple, id);
                if self.half_open.fast_open() > 0 {
                    // By Fast Open the handshake may not be over, and now never will be: its ACK
                    // must not open a second connection, without what the SYN brought.
                    self.half_open.remove(&tuple);
                }
                if reason == CloseReason::TimedOut {
                    env.stats.tcp_timed_out += 1;
                }
            }
            self.timers.disarm(id, std::mem::replace(&mut connection.timers.hint, Instant::NEVER));
            if connection.released {
                self.charge(id);
                self.connections.remove(id);
                return;
            }
        } else {
            if !connection.in_ready {
                connection.in_ready = true;
                self.ready.push_back(id);
            }
            self.timers.arm(id, connection.timers.next(), &mut connection.timers.hint);
        }
        if connection.events.any() && !connection.in_events && !connection.released {
            connection.in_events = true;
            self.eventful.push_back(id);
        }
        self.charge(id);
    }

    // ---- segments out --------------------------------------------------------------------

    /// Takes the connection whose turn it is to send, and where it sends to.
    pub(crate) fn next_ready(&mut self) -> Option<(ConnId, FourTuple)> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.in_ready = false;
                return Some((id, connection.tuple));
            }
        }
        None
    }

    /// Gives a connection a turn to send (again).
    pub(crate) fn mark_ready(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.in_ready
        {
            connection.in_ready = true;
            self.ready.push_back(id);
        }
    }

    /// The connection's next segment, TCP header first; `None` if it has nothing to send.
    pub(crate) fn output(
        &mut self,
        now: Instant,
        stats: &mut Stats,
        id: ConnId,
        buffer: &mut [u8],
        slices: &mut Vec<Bytes>,
    ) -> Option<Built> {
        let connection = self.connections.get_mut(id)?;
        let mut cx = Context {
            now,
            received: now,
            config: &self.config,
            segmentation: self.segmentation,
            reassembly_left: self.config.reassembly_budget.saturating_sub(self.reassembly),
            stats,
        };
        let built = connection.output(&mut cx, buffer, slices);
        // Without a segment a timer may have been armed too (a closed window).
        self.timers.arm(id, connection.timers.next(), &mut connection.timers.hint);
        if built.is_some() {
            // To the end of the line: connections take turns, one segment each.
            self.mark_ready(id);
        }
        built
    }

    // ---- time ----------------------------------------------------------------------------

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.half_open.next_timeout(), self.time_wait.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, env: &mut Env<'_>) {
        while let Some((at, id)) = self.timers.pop_due(env.now) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.timers.hint != at {
                continue;
            }
            connection.timers.hint = Instant::NEVER;
            if connection.timers.next() > env.now {
                self.timers.arm(id, connection.timers.next(), &mut connection.timers.hint);
                continue;
            }
            self.step(env, id, Connection::on_timers);
        }
        while let Some(due) = self.half_open.pop_due(env.now, &self.config) {
            match due {
                Due::SendAgain(tuple, record, station) => {
                    let header = record.syn_ack(&tuple, self.mss.of(&tuple), &self.config, env.now);
                    env.stats.tcp_retransmit += 1;
                    env.station = station;
                    env.answer(tuple, header);
                }
                Due::GivenUp(tuple) => {
                    // By Fast Open there may be a connection, which counts itself.
                    match self.find(&tuple) {
                        Some(id) => {
                            self.step(env, id, |_, _| Outcome::Close(CloseReason::TimedOut));
                        }
                        None => env.stats.tcp_timed_out += 1,
                    }
                }
            }
        }
        env.station = None;
        self.time_wait.expire(env.now);
    }

    // ---- the application -----------------------------------------------------------------

    pub(crate) fn poll_event(&mut self) -> Option<(ConnId, Events)> {
        while let Some(id) = self.eventful.pop_front() {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.in_events = false;
                return Some((id, std::mem::take(&mut connection.events)));
            }
        }
        None
    }

    pub(crate) fn connection(&self, id: ConnId) -> Option<&Connection> {
        self.connections.get(id)
    }

    pub(crate) fn send(&mut self, id: ConnId, data: Bytes) -> Result<(), CloseReason> {
        let connection = self.connections.get_mut(id).ok_or(CloseReason::Finished)?;
        connection.send(data)?;
        self.charge(id);
        self.mark_ready(id);
        Ok(())
    }

    pub(crate) fn notify_below(&mut self, id: ConnId, octets: usize) -> bool {
        self.connections.get_mut(id).is_none_or(|connection| connection.notify_below(octets))
    }

    pub(crate) fn recv(&mut self, id: ConnId, into: &mut BytesMut) -> Recv {
        let Some(connection) = self.connections.get_mut(id) else {
            return Recv::Closed(CloseReason::Finished);
        };
        let octets = connection.recv(into, &self.config);
        if octets > 0 {
            self.charge(id);
            self.mark_ready(id);
            return Recv::Data(octets);
        }
        match connection.closed() {
            Some(reason) if reason != CloseReason::Finished => Recv::Closed(reason),
            _ if connection.peer_finished() => Recv::Finished,
            Some(reason) => Recv::Closed(reason),
            None => Recv::Pending,
        }
    }

    pub(crate) fn shutdown(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.shutdown();
            self.mark_ready(id);
        }
    }

    pub(crate) fn release(&mut self, env: &mut Env<'_>, id: ConnId) {
        self.step(env, id, |connection, cx| connection.release(cx.now, cx.config));
    }

    pub(crate) fn abort(&mut self, env: &mut Env<'_>, id: ConnId) {
        self.step(env, id, |connection, _| {
            if connection.state() == State::Closed {
                Outcome::Continue
            } else {
                Outcome::Abort(CloseReason::Aborted)
            }
        });
    }

    /// Ends every connection of one of our addresses without a word: it is another's now.
    pub(crate) fn abandon(&mut self, env: &mut Env<'_>, local: IpAddr) {
        let theirs = |(id, connection): (ConnId, &Connection)| {
            (connection.tuple.local.ip == local).then_some(id)
        };
        let ids: Vec<_> = self.connections.iter().filter_map(theirs).collect();
        for id in ids {
            self.step(env, id, |connection, _| match connection.closed() {
                Some(_) => Outcome::Continue,
                None => Outcome::Close(CloseReason::Aborted),
            });
        }
    }

    /// Connections, half-open and TIME-WAIT records held now.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.len(),
            half_open: self.half_open.len(),
            time_wait: self.time_wait.len(),
            memory: self.memory(),
        }
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        self.connections.iter()
    }
}

/// What a stack holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections of every state but SYN-RECEIVED and TIME-WAIT.
    pub connections: usize,
    /// Connections in SYN-RECEIVED.
    pub half_open: usize,
    /// TIME-WAIT records.
    pub time_wait: usize,
    /// Octets that all of them hold, what was received and not read included.
    pub memory: usize,
}

/// What reading from a connection gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recv {
    /// So many octets were appended.
    Data(usize),
    /// Nothing yet; a readable event will come.
    Pending,
    /// The peer has closed its side, and all that it sent was read.
    Finished,
    /// The connection is over.
    Closed(CloseReason),
}

fn push_reset(env: &mut Env<'_>, tuple: &FourTuple, seq: seq::SeqNum, ack: Option<seq::SeqNum>) {
    let flags = if ack.is_some() { Flags::RST.with(Flags::ACK) } else { Flags::RST };
    let header = Header {
        source_port: tuple.local.port,
        destination_port: tuple.remote.port,
        seq,
        ack: ack.unwrap_or_default(),
        flags,
        window: 0,
        options: Options::default(),
    };
    env.stats.tcp_reset_out += 1;
    env.answer(*tuple, header);
}
