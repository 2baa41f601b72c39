//! What a connection sends, and when (RFC 9293 3.8, RFC 5681, RFC 6298).

use bytes::Bytes;

use super::congestion::{Idle, initial_window};
use super::connection::{Connection, Context, State};
use super::listen::timestamp_now;
use super::pacing::Pacer;
use super::recovery::Probe;
use super::seq::SeqNum;
use super::time_wait::TimeWait;
use super::timer::Timer;
use crate::config::TcpConfig;
use crate::time::Instant;
use crate::wire::ecn::Ecn;
use crate::wire::tcp::{
    Flags, HEADER_LEN, HEADER_LEN_TIMESTAMP, Header, Options, SackBlocks, Timestamp, emit,
};

/// A packet's length is 16 bits, with IPv6's header a little more: what one segment may carry with
/// the largest headers of either family.
const MAX_SEGMENT: u32 = 65535 - 40 - 60;

/// A segment that was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Built {
    /// Octets in the buffer: header, and payload if that was copied behind it.
    pub(crate) in_buffer: usize,
    /// Octets of payload that follow in slices.
    pub(crate) in_slices: usize,
    /// Octets of the TCP header alone.
    pub(crate) header_len: usize,
    /// The link is to cut the payload into pieces of this many octets.
    pub(crate) segment_size: Option<u16>,
    /// The ECN field of the packet that is to carry it.
    pub(crate) ecn: Ecn,
}

/// A segment that is to be written.
struct Plan {
    seq: SeqNum,
    octets: u32,
    fin: bool,
}

impl Connection {
    /// Writes the next segment that may go out now, if there is one: TCP header at the
    /// start of `buffer`, payload copied behind it if it fits, else as slices.
    pub(crate) fn output(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        slices: &mut Vec<Bytes>,
    ) -> Option<Built> {
        if self.state == State::Closed {
            return None;
        }
        if self.ack_now && (self.has_sack_blocks() || self.out_of_order > 0) {
            // RFC 2018 3: every acknowledgement that is sent while something is missing says
            // what is there. It goes alone, as data beside it would have to be cut for it.
            // RFC 5681 4.2: each segment out of order is acknowledged, as the peer counts them,
            // also those that came in one turn.
            let built = self.emit_empty(cx, self.acknowledgement_seq(), buffer);
            self.out_of_order = self.out_of_order.saturating_sub(1);
            self.ack_now = self.out_of_order > 0;
            return Some(built);
        }
        if let Some(plan) = self.plan(cx) {
            return Some(self.emit_data(cx, plan, buffer, slices));
        }
        if self.probe {
            // As Linux and BSD: an old sequence number without data must be answered by an
            // ACK (RFC 9293 3.8.4, 3.8.6.1), and no data can be lost by it.
            self.probe = false;
            return Some(self.emit_empty(cx, SeqNum(self.snd_una.0.wrapping_sub(1)), buffer));
        }
        if self.ack_now {
            return Some(self.emit_empty(cx, self.acknowledgement_seq(), buffer));
        }
        None
    }

    /// The sequence number of a segment without data: where the peer took back a part of its
    /// window, not one beyond that.
    fn acknowledgement_seq(&self) -> SeqNum {
        let edge = self.snd_una + self.snd_wnd;
        if edge.before(self.snd_nxt) { edge } else { self.snd_nxt }
    }

    /// What goes out next, if anything may.
    fn plan(&mut self, cx: &mut Context<'_>) -> Option<Plan> {
        if std::mem::take(&mut self.recovery.resend_first)
            && let Some(plan) = self.plan_first()
        {
            return Some(plan);
        }
        if std::mem::take(&mut self.recovery.probe_due)
            && let Some(plan) = self.plan_probe()
        {
            return Some(plan);
        }
        if self.pacing_rate().is_some()
            && (self.sent.lost() > 0 || self.send_end().after(self.snd_nxt))
            && let Some(at) = self.pacer.blocked_until(cx.now)
        {
            self.timers.set(Timer::Pacing, at);
            return None;
        }
        let plan = self.plan_retransmission(cx).or_else(|| self.plan_data(cx));
        if plan.is_none() {
            self.pacer.stop_owing();
        }
        plan
    }

    /// The first unacknowledged segment, whatever the windows say.
    fn plan_first(&mut self) -> Option<Plan> {
        let sent = self.snd_nxt.octets_since(self.snd_una);
        (sent > 0).then(|| self.plan_again(self.snd_una, sent.min(self.mss)))
    }

    /// RFC 8985 7.3: new data if there is some, else the last segment once more.
    fn plan_probe(&mut self) -> Option<Plan> {
        let waiting = self.send_end().octets_since(self.snd_nxt);
        let room = self.snd_wnd.saturating_sub(self.snd_nxt.octets_since(self.snd_una));
        let octets = waiting.min(room).min(self.mss);
        if octets > 0 {
            let end = self.snd_nxt + octets;
            self.recovery.probe = Some(Probe { end, resent: 0 });
            let fin = self.fin_queued && octets == waiting;
            return Some(Plan { seq: self.snd_nxt, octets, fin });
        }
        let (seq, octets) = self.sent.tail(self.mss, self.fin_sent)?;
        self.recovery.probe = Some(Probe { end: self.snd_nxt, resent: octets });
        Some(self.plan_again(seq, octets))
    }

    /// Numbers that were sent before: their text, and the FIN if they reach to it.
    fn plan_again(&self, seq: SeqNum, numbers: u32) -> Plan {
        let text = self.send_end().octets_since(seq).min(numbers);
        Plan { seq, octets: text, fin: numbers > text }
    }

    /// What was found lost, as far as the window goes.
    fn plan_retransmission(&mut self, cx: &Context<'_>) -> Option<Plan> {
        if self.sent.lost() == 0 || self.recovery.wants_new_data() {
            return None;
        }
        let (seq, numbers) = self.sent.first_lost()?;
        let room = self.window().saturating_sub(self.in_flight());
        // What the peer took its window back from is not sent again, except by the timer.
        let peer = (self.snd_una + self.snd_wnd).octets_since(seq);
        if peer == 0 {
            return None;
        }
        let most = numbers.min(peer).min(self.largest(cx));
        let octets = most.min(room - room % self.mss);
        if octets > 0 {
            return Some(self.plan_again(seq, octets));
        }
        // A short piece needs no more room than it has.
        (most <= room).then(|| self.plan_again(seq, most))
    }

    /// The congestion window, in octets.
    fn window(&self) -> u32 {
        self.recovery.window().unwrap_or_else(|| self.congestion.window())
    }

    /// Octets per second at which to send. PRR paces by itself: it sends as things arrive.
    fn pacing_rate(&self) -> Option<u64> {
        if self.recovery.window().is_some() { None } else { self.congestion.pacing_rate() }
    }

    /// The most that one frame may carry, in octets.
    fn largest(&self, cx: &Context<'_>) -> u32 {
        if !cx.segmentation {
            return self.mss;
        }
        let most = match self.pacing_rate() {
            Some(rate) => Pacer::quantum(rate, self.mss).min(MAX_SEGMENT),
            None => MAX_SEGMENT,
        };
        (most / self.mss).max(1) * self.mss
    }

    /// The next data, as both windows allow.
    fn plan_data(&mut self, cx: &mut Context<'_>) -> Option<Plan> {
        let end = self.send_end();
        let waiting = end.octets_since(self.snd_nxt);
        let fin_waits = self.fin_queued && self.snd_nxt.at_or_before(end);
        if self.sent.is_full() {
            // As if the window were: acknowledgements will make room.
            return None;
        }
        if waiting == 0 {
            // A FIN takes no window: it is one number, and the peer needs no buffer for it.
            return fin_waits.then_some(Plan { seq: self.snd_nxt, octets: 0, fin: true });
        }
        if !self.has_outstanding() {
            // Before the window is looked at: it may be too old to be used.
            let idle = Idle {
                span: cx.now.since(self.delivery.last_departure),
                rto: self.rtt.rto(cx.config),
            };
            self.delivery.last_departure = cx.now;
            self.congestion.on_send(cx.now, 0, Some(idle));
        }
        let congestion = self.window().saturating_sub(self.in_flight());
        let peer = self.snd_wnd.saturating_sub(self.snd_nxt.octets_since(self.snd_una));
        let sws_override = std::mem::take(&mut self.sws_override);
        let usable = congestion.min(peer);
        // RFC 3168 6.1.2: CWR stands on one segment, and a link that cuts a large one into several
        // would set it on each.
        let largest = if self.ecn.tell_reduced { self.mss } else { self.largest(cx) };
        let mut octets = waiting.min(usable).min(largest);
        if octets < waiting {
            // More waits than may go: full segments only (RFC 9293 3.8.6.2.1 (1)).
            octets -= octets % self.mss;
            if octets == 0 {
                if self.has_outstanding() {
                    // Acknowledgements will come and open the windows.
                    return None;
                }
                // (3): half of the largest window that the peer ever had is worth a segment;
                // the congestion window is never smaller than one.
                let worth_it = peer >= (self.snd_wnd_max / 2).min(self.mss) || sws_override;
                if peer > 0 && worth_it {
                    octets = peer.min(waiting).min(self.mss);
                } else {
                    if !self.timers.is_armed(Timer::Persist) {
                        let wait = self
                            .rtt
                            .rto(cx.config)
                            .saturating_mul(1 << self.persist_backoff.min(16));
                        self.timers.set(Timer::Persist, cx.now + wait.min(cx.config.rto_max));
                    }
                    return None;
                }
            }
        }
        let fin = fin_waits && octets == waiting;
        Some(Plan { seq: self.snd_nxt, octets, fin })
    }

    fn emit_data(
        &mut self,
        cx: &mut Context<'_>,
        plan: Plan,
        buffer: &mut [u8],
        slices: &mut Vec<Bytes>,
    ) -> Built {
        let offset = plan.seq.octets_since(self.snd_una) as usize;
        let header_len = self.header_len();
        let mut octets = plan.octets as usize;
        let mut fin = plan.fin;
        let mut in_slices = 0;
        // A small payload is copied: one contiguous frame costs the kernel less to take than
        // a gathered one (7.5 against 9 us for each request, measured).
        if let Some(room) = buffer.get_mut(header_len..header_len + octets) {
            self.send.copy(offset, room);
        } else {
            in_slices = self.send.gather(offset, octets, slices);
            fin &= in_slices == octets;
            octets = in_slices;
        }
        let empties_queue = offset + octets == self.send.len();
        let mut flags = Flags::ACK;
        if empties_queue && octets > 0 {
            flags = flags.with(Flags::PSH);
        }
        if fin {
            flags = flags.with(Flags::FIN);
            self.fin_sent = true;
        }
        // RFC 3168 6.1.4, 6.1.5: neither what is sent again nor what carries no data may be marked.
        let new_data = octets > 0 && plan.seq == self.snd_nxt;
        flags = flags.with(self.ecn.flags(new_data));
        self.write_header(cx, plan.seq, flags, SackBlocks::default(), buffer);

        // RFC 6298 (5.1). Before the probe is armed, which comes in its place (RFC 8985 7.2).
        if !self.timers.is_armed(Timer::Retransmit) {
            self.timers.set(Timer::Retransmit, cx.now + self.rtt.rto(cx.config));
        }
        self.record_departure(cx, plan.seq, octets as u32 + u32::from(fin));
        Built {
            in_buffer: header_len + octets - in_slices,
            in_slices,
            header_len,
            segment_size: (octets > self.mss as usize).then_some(self.mss as u16),
            ecn: if new_data && self.ecn.enabled { Ecn::Ect0 } else { Ecn::NotEct },
        }
    }

    /// Keeps what is to be known of `numbers` from `seq` on that leave now.
    fn record_departure(&mut self, cx: &mut Context<'_>, seq: SeqNum, numbers: u32) {
        let in_flight = self.in_flight();
        let idle = !self.has_outstanding();
        if idle {
            self.last_progress = cx.now;
        } else {
            self.congestion.on_send(cx.now, in_flight, None);
        }
        if let Some(rate) = self.pacing_rate() {
            let burst = idle.then(|| initial_window(self.mss));
            self.pacer.on_sent(cx.now, numbers, rate, burst);
        }
        self.recovery.on_sent(numbers);
        let departure = self.delivery.depart(cx.now, in_flight, numbers);
        if seq == self.snd_nxt {
            self.sent.push(numbers, departure);
            self.snd_nxt += numbers;
            if self.snd_nxt == self.send_end() && in_flight + numbers < self.window() {
                self.delivery.limit_by_application(in_flight + numbers);
            }
        } else {
            cx.stats.tcp_retransmit += 1;
            self.sent.resend(seq, numbers, departure);
            self.recovery.on_resent(seq, numbers, cx.now);
            if seq == self.snd_una {
                // The timer is for what is oldest, from when it last left (as Linux): else it
                // ends a recovery that has just begun.
                self.timers.set(Timer::Retransmit, cx.now + self.rtt.rto(cx.config));
            }
        }
        self.arm_probe(cx);
    }

    fn emit_empty(&mut self, cx: &mut Context<'_>, seq: SeqNum, buffer: &mut [u8]) -> Built {
        let sack =
            if self.has_sack_blocks() { self.take_sack_blocks() } else { SackBlocks::default() };
        let flags = Flags::ACK.with(self.ecn.flags(false));
        let header_len = self.write_header(cx, seq, flags, sack, buffer);
        Built {
            in_buffer: header_len,
            in_slices: 0,
            header_len,
            segment_size: None,
            ecn: Ecn::NotEct,
        }
    }

    fn header_len(&self) -> usize {
        if self.timestamps.is_some() { HEADER_LEN_TIMESTAMP } else { HEADER_LEN }
    }

    /// Every segment acknowledges and states the window, so whatever goes out settles both.
    /// Returns the header's length.
    fn write_header(
        &mut self,
        cx: &mut Context<'_>,
        seq: SeqNum,
        flags: Flags,
        sack: SackBlocks,
        buffer: &mut [u8],
    ) -> usize {
        let window = self.advertise(cx.config);
        let length = emit(
            buffer,
            &Header {
                source_port: self.tuple.local.port,
                destination_port: self.tuple.remote.port,
                seq,
                ack: self.rcv_nxt,
                flags,
                window,
                options: Options {
                    timestamp: self.timestamps.map(|state| Timestamp {
                        value: timestamp_now(state.offset, cx.now),
                        echo: state.recent,
                    }),
                    sack,
                    ..Options::default()
                },
            },
        );
        self.last_ack_sent = self.rcv_nxt;
        self.ack_now = false;
        self.unacked = 0;
        self.timers.stop(Timer::DelayedAck);
        cx.stats.tcp_out += 1;
        length
    }

    /// How far the window's right edge could move now, in octets.
    pub(super) fn window_growth(&self, config: &TcpConfig) -> u32 {
        let free = config.receive_buffer.saturating_sub(self.ready.len()) as u32;
        (self.rcv_nxt + free).octets_since(self.rcv_adv)
    }

    /// The largest window that we ever offer, in octets.
    pub(super) fn window_max(&self, config: &TcpConfig) -> u32 {
        config.receive_buffer as u32 + (1 << self.rcv_scale)
    }

    /// RFC 9293 3.8.6.2.2: the right edge stays until it can move by a full segment or half
    /// of the buffer, whichever is less.
    pub(super) fn worthwhile_growth(&self, config: &TcpConfig) -> u32 {
        self.mss.min(config.receive_buffer as u32 / 2)
    }

    /// The window field. The right edge never moves left.
    fn advertise(&mut self, config: &TcpConfig) -> u16 {
        let growth = self.window_growth(config);
        if growth >= self.worthwhile_growth(config) {
            self.rcv_adv += growth;
        }
        let window = self.rcv_adv.octets_since(self.rcv_nxt);
        // Rounded up, as rounding down would take back what was offered. The buffer
        // holds a scale unit more than it says.
        let field = window.div_ceil(1 << self.rcv_scale).min(0xffff);
        let field = field as u16;
        self.rcv_adv = self.rcv_adv.latest(self.rcv_nxt + (u32::from(field) << self.rcv_scale));
        field
    }

    /// What must be kept to answer for this connection once it is over.
    pub(crate) fn epitaph(&mut self, now: Instant, config: &TcpConfig) -> TimeWait {
        let fin_wait_2 = !self.peer_finished();
        TimeWait {
            snd_nxt: self.snd_nxt,
            rcv_nxt: self.rcv_nxt,
            window: self.advertise(config),
            timestamps: self.timestamps.map(|state| (state.recent, state.offset)),
            fin_wait_2,
            objected: self.objected,
            expires: now + if fin_wait_2 { config.fin_wait_2 } else { config.time_wait },
        }
    }
}
