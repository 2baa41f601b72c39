//! TCP (RFC 9293), the server's side.
//!
//! A segment's way: [`Tcp::on_segment`] finds what its four-tuple belongs to, a
//! [connection](connection), a [half-open](listen) or a [TIME-WAIT](time_wait) record, or
//! nothing, which is answered by RST. What a connection then wants to send waits until
//! [`Tcp::next_ready`] names it and its output is asked for.

use std::collections::VecDeque;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

mod acknowledgement;
mod assembler;
pub mod congestion;
pub(crate) mod connection;
mod delivery;
pub(crate) mod demux;
mod input;
mod isn;
mod listen;
pub(crate) mod output;
mod pacing;
mod prr;
mod rack;
mod receive;
mod recovery;
mod rtt;
mod send_buffer;
mod sent;
pub(crate) mod seq;
mod syn_cookie;
mod time_wait;
mod timeout;
mod timer;

use connection::{CloseReason, Connection, Context, Events, Outcome, State};
use demux::{ConnId, Demux, FourTuple, Slab};
use listen::{Due, HalfOpen, HalfOpenTable, timestamp_now};
use output::Built;
use syn_cookie::SynCookies;
use time_wait::{TimeWaitTable, Verdict};

use crate::config::MacAddr;
pub(crate) use crate::config::TcpConfig;
use crate::entropy::Keys;
use crate::ip::Outbox;
use crate::ip::icmp::IcmpError;
use crate::stats::Stats;
use crate::time::Instant;
use crate::timers::TimerQueue;
use crate::wire::tcp::{Flags, Header, Options, Segment, Timestamp};

/// How far a connection that takes a TIME-WAIT record's place begins beyond what that one
/// sent: one unscaled window and a little, as Linux.
const ISS_ABOVE_TIME_WAIT: u32 = 65537;

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

impl Env<'_> {
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

/// All connections of a stack.
#[derive(Debug)]
pub(crate) struct Tcp {
    config: TcpConfig,
    keys: Keys,
    /// What the link carries in one segment without options.
    mss: u16,
    segmentation: bool,
    listeners: Vec<u16>,
    demux: Demux,
    connections: Slab<Connection>,
    half_open: HalfOpenTable,
    cookies: SynCookies,
    time_wait: TimeWaitTable,
    timers: TimerQueue<ConnId>,
    /// Connections that may have something to send, in the order of their turns.
    ready: VecDeque<ConnId>,
    /// Connections with events for the application.
    eventful: VecDeque<ConnId>,
}

impl Tcp {
    pub(crate) fn new(config: TcpConfig, keys: Keys, mss: u16, segmentation: bool) -> Self {
        Self {
            config,
            keys,
            mss,
            segmentation,
            listeners: Vec::new(),
            demux: Demux::with_hasher(keys),
            connections: Slab::default(),
            half_open: HalfOpenTable::new(keys),
            cookies: SynCookies::new(keys),
            time_wait: TimeWaitTable::new(keys),
            timers: TimerQueue::default(),
            ready: VecDeque::new(),
            eventful: VecDeque::new(),
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
        if let Some(&id) = self.demux.get(&tuple) {
            self.step(env, id, |connection, cx| connection.on_segment(cx, segment));
            return;
        }
        if self.half_open.get(&tuple).is_some() {
            self.on_half_open(env, tuple, segment);
            return;
        }
        if self.time_wait.get(&tuple).is_some() {
            match self.time_wait.on_segment(&tuple, segment, env.now, &self.config) {
                Verdict::Ignore => return,
                Verdict::Acknowledge => {
                    self.acknowledge_time_wait(env, &tuple);
                    return;
                }
                Verdict::Reopen { above } => {
                    self.on_unknown(env, tuple, segment, Some(above));
                    return;
                }
            }
        }
        self.on_unknown(env, tuple, segment, None);
    }

    /// An ICMP error of either family quotes a segment that may be ours.
    pub(crate) fn on_icmp(
        &mut self,
        env: &mut Env<'_>,
        _tuple: &FourTuple,
        _seq: seq::SeqNum,
        _error: IcmpError,
    ) {
        env.stats.tcp_icmp_ignored += 1;
    }

    /// RFC 9293 3.10.7.1 (CLOSED) and 3.10.7.2 (LISTEN).
    /// `above`: what a former connection of the same ends sent up to.
    fn on_unknown(
        &mut self,
        env: &mut Env<'_>,
        tuple: FourTuple,
        segment: &Segment<'_>,
        above: Option<seq::SeqNum>,
    ) {
        let flags = segment.flags;
        if flags.has(Flags::RST) {
            return;
        }
        let listens = self.listeners.contains(&tuple.local.port);
        if listens && flags.has(Flags::SYN) && !flags.has(Flags::ACK) && !flags.has(Flags::FIN) {
            self.on_syn(env, tuple, segment, above);
        } else if !(listens && self.on_cookie(env, tuple, segment)) {
            send_reset(env, &tuple, segment);
        }
    }

    /// A SYN for a port that listens.
    fn on_syn(
        &mut self,
        env: &mut Env<'_>,
        tuple: FourTuple,
        segment: &Segment<'_>,
        above: Option<seq::SeqNum>,
    ) {
        if self.connections.len() >= self.config.max_connections {
            // Silence: the peer tries again, by when there may be room.
            env.stats.tcp_syn_dropped += 1;
            return;
        }
        if self.half_open.len() >= self.config.backlog {
            self.send_cookie(env, tuple, segment);
            return;
        }
        env.stats.tcp_syn += 1;
        let mut record = HalfOpen::from_syn(segment, &self.config, env.now);
        record.iss = isn::initial_sequence(&self.keys, &tuple, env.now);
        record.ts_offset = isn::timestamp_offset(&self.keys, &tuple);
        if let Some(above) = above {
            // RFC 1122 4.2.2.13 (b): larger than any number of the old incarnation, which may
            // have sent faster than the clock behind the numbers ticks.
            record.iss = record.iss.latest(above + ISS_ABOVE_TIME_WAIT);
        }
        self.half_open.insert(tuple, record, env.station, &self.config, env.now);
        env.answer(tuple, record.syn_ack(&tuple, self.mss, &self.config, env.now));
    }

    /// Answers a SYN and keeps nothing.
    fn send_cookie(&mut self, env: &mut Env<'_>, tuple: FourTuple, segment: &Segment<'_>) {
        env.stats.tcp_cookie_sent += 1;
        let mut record = HalfOpen::from_syn(segment, &self.config, env.now);
        let stamp = self.cookies.bake(&mut record, &tuple, env.now);
        let mut header = record.syn_ack(&tuple, self.mss, &self.config, env.now);
        if let (Some(timestamp), Some(value)) = (&mut header.options.timestamp, stamp) {
            timestamp.value = value;
        }
        env.answer(tuple, header);
    }

    /// A segment for a port that listens, which belongs to nothing. Whether it answers a
    /// cookie, and so was dealt with.
    fn on_cookie(&mut self, env: &mut Env<'_>, tuple: FourTuple, segment: &Segment<'_>) -> bool {
        let flags = segment.flags;
        if !flags.has(Flags::ACK) || flags.has(Flags::SYN) || !self.cookies.are_out(env.now) {
            return false;
        }
        let Some(record) = self.cookies.taste(&tuple, segment, &self.config, env.now) else {
            env.stats.tcp_cookie_rejected += 1;
            return false;
        };
        if self.connections.len() >= self.config.max_connections {
            // As with a record: what the peer sends again may find room, while the cookie lasts.
            env.stats.tcp_syn_dropped += 1;
            return true;
        }
        env.stats.tcp_cookie_accepted += 1;
        self.establish(env, tuple, &record, segment);
        true
    }

    /// The handshake's ACK has come.
    fn establish(
        &mut self,
        env: &mut Env<'_>,
        tuple: FourTuple,
        record: &HalfOpen,
        segment: &Segment<'_>,
    ) {
        env.stats.tcp_accepted += 1;
        let connection = Connection::establish(tuple, record, self.mss, env.now, &self.config);
        let id = self.connections.insert(Box::new(connection));
        self.demux.insert(tuple, id);
        self.step(env, id, |connection, cx| connection.on_segment(cx, segment));
    }

    /// RFC 9293 3.10.7.4 for SYN-RECEIVED.
    fn on_half_open(&mut self, env: &mut Env<'_>, tuple: FourTuple, segment: &Segment<'_>) {
        let Some(record) = self.half_open.get(&tuple).copied() else { return };
        let rcv_nxt = record.irs + 1;
        if segment.flags.has(Flags::RST) {
            if segment.seq == rcv_nxt {
                env.stats.tcp_reset_in += 1;
                self.half_open.remove(&tuple);
            }
            return;
        }
        if segment.flags.has(Flags::SYN) {
            if !segment.flags.has(Flags::ACK) && segment.seq != record.irs {
                // The peer has begun anew, another one behind the same translator has got the
                // port, or this one is forged. Nobody can tell, so the record stays and the SYN
                // gets a cookie: whichever of the two is true can finish.
                self.send_cookie(env, tuple, segment);
                return;
            }
            // Our SYN-ACK was lost, or is on its way: say it again.
            env.stats.tcp_retransmit += 1;
            env.answer(tuple, record.syn_ack(&tuple, self.mss, &self.config, env.now));
            return;
        }
        if !segment.flags.has(Flags::ACK) {
            return;
        }
        if segment.ack != record.iss + 1 {
            if self.on_cookie(env, tuple, segment) {
                self.half_open.remove(&tuple);
            } else {
                send_reset(env, &tuple, segment);
            }
            return;
        }
        let window = self.config.receive_buffer.min(0xffff) as u32;
        if segment.seq.before(rcv_nxt) || segment.seq.after(rcv_nxt + window) {
            // Not acceptable: it belongs to a SYN that another has replaced. Our SYN-ACK, sent
            // again in its time, is the acknowledgement that it should get.
            return;
        }
        if self.connections.len() >= self.config.max_connections {
            // The record stays; the peer's data, sent again, will find room or an end.
            env.stats.tcp_syn_dropped += 1;
            return;
        }
        self.half_open.remove(&tuple);
        self.establish(env, tuple, &record, segment);
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
        match outcome {
            Outcome::Continue => {}
            Outcome::Close(reason) => connection.finish(reason),
            Outcome::Abort(reason) => {
                if !was_closed {
                    let last = connection.epitaph(env.now, &self.config);
                    push_reset(env, &tuple, last.snd_nxt, Some(last.rcv_nxt));
                }
                connection.finish(reason);
            }
            Outcome::TimeWait => {
                let record = connection.epitaph(env.now, &self.config);
                let acknowledge = connection.ack_now;
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
                self.demux.remove(&tuple);
                if reason == CloseReason::TimedOut {
                    env.stats.tcp_timed_out += 1;
                }
            }
            self.timers.disarm(id, std::mem::replace(&mut connection.timers.hint, Instant::NEVER));
            if connection.released {
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
                    let header = record.syn_ack(&tuple, self.mss, &self.config, env.now);
                    env.stats.tcp_retransmit += 1;
                    env.station = station;
                    env.answer(tuple, header);
                }
                Due::GivenUp => env.stats.tcp_timed_out += 1,
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

    /// Connections, half-open and TIME-WAIT records held now.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.len(),
            half_open: self.half_open.len(),
            time_wait: self.time_wait.len(),
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

/// RFC 9293 3.10.7.1: a reset in reply to a segment that belongs to nothing.
fn send_reset(env: &mut Env<'_>, tuple: &FourTuple, segment: &Segment<'_>) {
    if segment.flags.has(Flags::ACK) {
        push_reset(env, tuple, segment.ack, None);
    } else {
        push_reset(env, tuple, seq::SeqNum(0), Some(segment.seq + segment.sequence_len()));
    }
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
