//! Segments that belong to no connection: passive open (RFC 9293 3.10.7.1, 3.10.7.2 and
//! SYN-RECEIVED).

use super::connection::Connection;
use super::demux::FourTuple;
use super::listen::HalfOpen;
use super::seq::SeqNum;
use super::{Env, Tcp, ecn, isn, push_reset};
use crate::wire::tcp::{Flags, Segment};

/// How far a connection that takes a TIME-WAIT record's place begins beyond what that one
/// sent: one unscaled window and a little, as Linux.
const ISS_ABOVE_TIME_WAIT: u32 = 65537;

impl Tcp {
    /// RFC 9293 3.10.7.1 (CLOSED) and 3.10.7.2 (LISTEN).
    /// `above`: what a former connection of the same ends sent up to.
    pub(super) fn on_unknown(
        &mut self,
        env: &mut Env<'_>,
        tuple: FourTuple,
        segment: &Segment<'_>,
        above: Option<SeqNum>,
    ) {
        let flags = segment.flags;
        if flags.has(Flags::RST) {
            env.stats.tcp_reset_ignored += 1;
            return;
        }
        if !self.listeners.contains(&tuple.local.port) {
            env.stats.tcp_syn_refused += u64::from(flags.has(Flags::SYN) && !flags.has(Flags::ACK));
            self.send_reset(env, &tuple, segment);
        } else if flags.has(Flags::ACK) {
            if !self.on_cookie(env, tuple, segment) {
                self.send_reset(env, &tuple, segment);
            }
        } else if flags.has(Flags::SYN) && !flags.has(Flags::FIN) {
            self.on_syn(env, tuple, segment, above);
        } else {
            // RFC 9293 3.10.7.2, fourth: whatever it is, it is dropped. So is SYN with FIN,
            // which no client sends and which filters look for (as Linux).
            env.stats.tcp_no_syn += 1;
        }
    }

    /// RFC 9293 3.10.7.1: a reset in reply to a segment that belongs to nothing.
    fn send_reset(&mut self, env: &mut Env<'_>, tuple: &FourTuple, segment: &Segment<'_>) {
        if !self.resets.take(env.now) {
            env.stats.tcp_reset_limited += 1;
        } else if segment.flags.has(Flags::ACK) {
            push_reset(env, tuple, segment.ack, None);
        } else {
            push_reset(env, tuple, SeqNum(0), Some(segment.seq + segment.sequence_len()));
        }
    }

    /// A SYN for a port that listens.
    fn on_syn(
        &mut self,
        env: &mut Env<'_>,
        tuple: FourTuple,
        segment: &Segment<'_>,
        above: Option<SeqNum>,
    ) {
        if self.connections.len() >= self.config.max_connections {
            // Silence: the peer tries again, by when there may be room.
            env.stats.tcp_syn_dropped += 1;
            return;
        }
        if self.half_open.len() >= self.config.backlog || self.is_memory_short() {
            self.send_cookie(env, tuple, segment);
            return;
        }
        env.stats.tcp_syn += 1;
        let mut record = HalfOpen::from_syn(&tuple, segment, &self.config, env.now);
        record.iss = isn::initial_sequence(&self.keys, &tuple, env.now);
        record.ts_offset = isn::timestamp_offset(&self.keys, &tuple);
        if let Some(above) = above {
            // RFC 1122 4.2.2.13 (b): larger than any number of the old incarnation, which may
            // have sent faster than the clock behind the numbers ticks.
            record.iss = record.iss.latest(above + ISS_ABOVE_TIME_WAIT);
        }
        let (open_now, answer) = self.judge_fast_open(&tuple, segment, env.now);
        record.fast_open = answer;
        if open_now {
            // All of it: one SYN's data is less than any receive buffer.
            record.taken = segment.payload.len().min(self.config.receive_buffer) as u16;
        }
        self.half_open.insert(tuple, record, env.station, &self.config, env.now);
        env.answer(tuple, record.syn_ack(&tuple, self.mss.of(&tuple), &self.config, env.now));
        if open_now {
            self.fast_open(env, tuple, &record, segment);
        }
    }

    /// Answers a SYN and keeps nothing.
    fn send_cookie(&mut self, env: &mut Env<'_>, tuple: FourTuple, segment: &Segment<'_>) {
        if !self.gate.admits(&tuple, segment.seq, env.now) {
            env.stats.tcp_cookie_limited += 1;
            return;
        }
        env.stats.tcp_cookie_sent += 1;
        let mut record = HalfOpen::from_syn(&tuple, segment, &self.config, env.now);
        let stamp = self.cookies.bake(&mut record, &tuple, env.now);
        let mut header = record.syn_ack(&tuple, self.mss.of(&tuple), &self.config, env.now);
        if let (Some(timestamp), Some(value)) = (&mut header.options.timestamp, stamp) {
            timestamp.value = value;
        }
        env.answer(tuple, header);
    }

    /// A segment for a port that listens, which belongs to nothing. Whether it answers a
    /// cookie, and so was dealt with.
    fn on_cookie(&mut self, env: &mut Env<'_>, tuple: FourTuple, segment: &Segment<'_>) -> bool {
        let flags = segment.flags;
        if flags.has(Flags::SYN) || !self.cookies.are_out(env.now) {
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
    pub(super) fn establish(
        &mut self,
        env: &mut Env<'_>,
        tuple: FourTuple,
        record: &HalfOpen,
        segment: &Segment<'_>,
    ) {
        debug_assert!(self.find(&tuple).is_none(), "{tuple:?} has a connection");
        env.stats.tcp_accepted += 1;
        self.gate.remember(tuple.remote.ip, env.now);
        let mss = self.paths.mss(&tuple, self.mss.of(&tuple), env.now);
        let mut connection = Connection::establish(tuple, record, mss, env.now, &self.config);
        connection.flow_label = self.flow_label(&tuple);
        let id = self.connections.insert(Box::new(connection));
        self.demux.insert(&tuple, id);
        self.step(env, id, |connection, cx| connection.on_segment(cx, segment));
    }

    /// RFC 9293 3.10.7.4 for SYN-RECEIVED.
    pub(super) fn on_half_open(
        &mut self,
        env: &mut Env<'_>,
        tuple: FourTuple,
        segment: &Segment<'_>,
    ) {
        let Some(record) = self.half_open.get(&tuple).copied() else { return };
        let rcv_nxt = record.irs + 1;
        if segment.flags.has(Flags::RST) {
            if segment.seq == rcv_nxt {
                env.stats.tcp_reset_in += 1;
                self.half_open.remove(&tuple);
            } else {
                env.stats.tcp_reset_ignored += 1;
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
            env.stats.tcp_syn_again += 1;
            let mut record = record;
            if record.ecn && !ecn::is_offered(segment) {
                record.ecn = false;
                self.half_open.withdraw_ecn(&tuple);
            }
            if !self.gate.admits_repeat(env.now) {
                env.stats.tcp_syn_again_limited += 1;
                return;
            }
            env.stats.tcp_retransmit += 1;
            env.answer(tuple, record.syn_ack(&tuple, self.mss.of(&tuple), &self.config, env.now));
            return;
        }
        if !segment.flags.has(Flags::ACK) {
            env.stats.tcp_ignored += 1;
            return;
        }
        if segment.ack != record.iss + 1 {
            if !self.on_cookie(env, tuple, segment) {
                self.send_reset(env, &tuple, segment);
            } else if self.find(&tuple).is_some() {
                // There was room for it.
                self.half_open.remove(&tuple);
            }
            return;
        }
        let window = self.config.receive_buffer.min(0xffff) as u32;
        if segment.seq.before(rcv_nxt) || segment.seq.after(rcv_nxt + window) {
            // Not acceptable: it belongs to a SYN that another has replaced. Our SYN-ACK, sent
            // again in its time, is the acknowledgement that it should get.
            env.stats.tcp_ignored += 1;
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
}
