//! One connection from ESTABLISHED on: its state, and the calls of the application on it.
//!
//! What a received segment does is in [`input`](super::input), what its text does in
//! [`receive`](super::receive), what is sent when in [`output`](super::output), what a timer
//! does in [`timeout`](super::timeout).
//! SYN-RECEIVED is a [record](super::listen) before there is a connection, TIME-WAIT a
//! [record](super::time_wait) after it.

use std::num::NonZeroU32;

use bytes::{Bytes, BytesMut};

use super::assembler::Assembler;
use super::congestion::{Congestion, Start};
use super::delivery::Delivery;
use super::demux::FourTuple;
use super::ecn::EcnState;
use super::listen::HalfOpen;
use super::pacing::Pacer;
use super::path_mtu::Narrowed;
use super::recovery::Recovery;
use super::rtt::RttEstimator;
use super::send_buffer::SendBuffer;
use super::sent::SentQueue;
use super::seq::SeqNum;
use super::timer::{Timer, Timers};
use crate::config::TcpConfig;
use crate::stats::Stats;
use crate::time::Instant;
use crate::wire::tcp::{HEADER_LEN, HEADER_LEN_TIMESTAMP};

/// Full segments acknowledged one by one at the start, as Linux (`TCP_MAX_QUICKACKS`).
const QUICK_ACKS: u8 = 16;
/// RFC 7323 2.3: no window is as large.
const MAX_WINDOW: u32 = 1 << 30;
/// What a full segment of the peer's is taken for until one was seen (RFC 9293 3.7.1).
const DEFAULT_MSS: u32 = 536;

/// What every step of a connection is given.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    /// When the frame that is handled arrived; else the same.
    pub(crate) received: Instant,
    pub(crate) config: &'a TcpConfig,
    /// The link cuts large segments.
    pub(crate) segmentation: bool,
    /// Octets that may still wait out of order, on all connections together.
    pub(crate) reassembly_left: usize,
    pub(crate) stats: &'a mut Stats,
}

/// RFC 9293 3.3.2, without the states that are records of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Data flows both ways.
    Established,
    /// We closed; our FIN is not acknowledged yet.
    FinWait1,
    /// Our FIN is acknowledged; the peer may go on sending.
    FinWait2,
    /// The peer closed; we may go on sending.
    CloseWait,
    /// Both closed at the same time; our FIN is not acknowledged yet.
    Closing,
    /// The peer closed, then we; our FIN is not acknowledged yet.
    LastAck,
    /// Over. Received data may still be read.
    Closed,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides closed in order.
    Finished,
    /// The peer sent RST.
    Reset,
    /// The peer did not answer for too long.
    TimedOut,
    /// We aborted.
    Aborted,
}

/// What has happened to a connection since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The connection is new.
    pub accepted: bool,
    /// There is data to read, or the end of it.
    pub readable: bool,
    /// The send queue has drained to the mark that was asked for.
    pub writable: bool,
    /// The connection is over.
    pub closed: bool,
}

impl Events {
    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }
}

/// RFC 7323 state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimestampState {
    pub(crate) offset: u32,
    /// TS.Recent.
    pub(crate) recent: u32,
}

/// What a step leads to, beyond the connection's own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The connection goes on.
    Continue,
    /// The connection is over at once, for this reason.
    Close(CloseReason),
    /// Over, and the peer is to be told by RST.
    Abort(CloseReason),
    /// Both FINs are acknowledged and the last was the peer's: leave a TIME-WAIT record.
    TimeWait,
}

/// The transmission control block.
///
/// ```text
///  send:      SND.UNA                      SND.NXT        end of the queue
///               | sent (one record for each  | not sent yet  |  (FIN)
///               | frame: in flight, lost,    |               |
///               | selectively acknowledged)  |               |
///
///  receive:   read by the     RCV.NXT                       RCV.ADV
///             application | ready |  gaps and runs (assembler) |
/// ```
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) tuple: FourTuple,
    /// Of its IPv6 packets (RFC 6437).
    pub(crate) flow_label: u32,
    pub(super) state: State,

    /// Oldest unacknowledged sequence number.
    pub(super) snd_una: SeqNum,
    /// One past the highest ever sent.
    pub(super) snd_nxt: SeqNum,
    /// What is on its way between the two.
    pub(super) sent: SentQueue,
    /// The peer's window in octets, counted from its last acknowledgement.
    pub(super) snd_wnd: u32,
    pub(super) snd_wl1: SeqNum,
    pub(super) snd_wl2: SeqNum,
    /// The largest window that the peer ever offered (RFC 9293 3.8.6.2.1).
    pub(super) snd_wnd_max: u32,
    pub(super) snd_scale: u8,
    /// Payload octets of a full segment, options taken off.
    pub(super) mss: u32,
    /// Its path was found to carry less than full segments.
    pub(super) narrowed: Option<Box<Narrowed>>,
    pub(super) send: SendBuffer,
    /// Octets of the queue that nobody else holds; about, as a frame under way holds what it carries
    /// and a cache may give up what it shares, but never more than there are.
    pub(super) own_queued: u32,
    /// A FIN stands behind the queue.
    pub(super) fin_queued: bool,
    pub(super) fin_sent: bool,

    pub(super) rcv_nxt: SeqNum,
    /// Right edge of the offered window; it never moves left.
    pub(super) rcv_adv: SeqNum,
    pub(super) rcv_scale: u8,
    pub(super) ready: BytesMut,
    pub(super) assembler: Assembler,
    /// Text that came twice and was not reported yet (RFC 2883).
    pub(super) duplicate: Option<(SeqNum, SeqNum)>,
    /// Where the peer's FIN stands, once seen.
    pub(super) peer_fin: Option<SeqNum>,

    /// SACK blocks may be sent and are believed (RFC 2018 2).
    pub(super) sack_permitted: bool,
    pub(super) timestamps: Option<TimestampState>,
    pub(super) last_ack_sent: SeqNum,
    /// An acknowledgement is due at once.
    pub(super) ack_now: bool,
    /// Octets received since the last acknowledgement.
    pub(super) unacked: u32,
    /// Segments out of order that are not acknowledged yet, each of them (RFC 5681 4.2).
    pub(super) out_of_order: u8,
    /// Octets of a full segment of the peer's, as far as seen.
    pub(super) rcv_mss: u16,
    /// Full segments that will each be acknowledged at once.
    pub(super) quick_acks: u8,
    /// When a segment without data was last found unacceptable and answered.
    pub(super) objected: Instant,
    /// When a challenge ACK was last sent (RFC 5961).
    pub(super) challenged: Instant,

    /// Send a probe that asks for an acknowledgement.
    pub(super) probe: bool,
    /// Send into a window that is smaller than is worth a segment.
    pub(super) sws_override: bool,
    pub(super) recovery: Recovery,
    pub(super) ecn: EcnState,
    pub(super) delivery: Delivery,
    pub(super) pacer: Pacer,
    pub(super) rtt: RttEstimator,
    pub(super) congestion: Box<dyn Congestion>,
    /// A round trip is measured once this is acknowledged.
    pub(super) round_end: SeqNum,
    /// When data was last acknowledged, or first sent after all had been.
    pub(super) last_progress: Instant,
    /// When the peer last acknowledged something new: our packets arrive.
    pub(crate) last_reached: Instant,
    /// When a segment last came that had passed the checks of both numbers: see `hear`.
    pub(super) last_heard: Instant,
    /// What the peer asks for in place of our user timeout, in seconds (RFC 5482).
    pub(super) peer_timeout: Option<u32>,
    pub(super) keepalives_unanswered: u8,
    pub(super) persist_backoff: u8,
    pub(super) timers: Timers,

    /// Octets counted for it in the stack's memory, and of those the assembler's.
    pub(super) charged: u32,
    pub(super) charged_reassembly: u32,
    /// Tell the application when the queue is shorter than this.
    low_water: Option<NonZeroU32>,
    pub(super) events: Events,
    /// The application has let go of it.
    pub(super) released: bool,
    pub(super) reason: Option<CloseReason>,
    /// In the stack's list of connections that may have something to send.
    pub(super) in_ready: bool,
    /// In the stack's list of connections with events.
    pub(super) in_events: bool,
}

/// There are as many as the memory has room for, and most of them rest.
const _: () = assert!(size_of::<Connection>() <= 664);

impl AsRef<FourTuple> for Connection {
    fn as_ref(&self) -> &FourTuple {
        &self.tuple
    }
}

impl Connection {
    /// The handshake's ACK has come: RFC 9293 3.10.7.4, fifth, SYN-RECEIVED.
    /// `our_mss` is what the link carries without options.
    pub(crate) fn establish(
        tuple: FourTuple,
        half_open: &HalfOpen,
        our_mss: u16,
        now: Instant,
        config: &TcpConfig,
    ) -> Self {
        let option_len = if half_open.ts_recent.is_some() {
            (HEADER_LEN_TIMESTAMP - HEADER_LEN) as u32
        } else {
            0
        };
        let mss = u32::from(half_open.peer_mss.min(our_mss)) - option_len;
        let snd_nxt = half_open.iss + 1;
        let rcv_nxt = half_open.irs + 1;
        let mut rtt = RttEstimator::new();
        // By Fast Open the handshake is not over, and has measured nothing yet.
        if half_open.retries == 0 && half_open.taken == 0 {
            rtt.sample(now.since(half_open.sent_at));
        }
        let mut timers = Timers::new();
        timers.set(Timer::Keepalive, now + config.keepalive_idle);
        let (snd_scale, rcv_scale) = half_open.scaling.unwrap_or((0, 0));
        Self {
            tuple,
            flow_label: 0,
            state: State::Established,
            snd_una: snd_nxt,
            snd_nxt,
            sent: SentQueue::new(snd_nxt),
            snd_wnd: 0,
            // So that the first segment, whatever its numbers, sets the window.
            snd_wl1: half_open.irs,
            snd_wl2: half_open.iss,
            snd_wnd_max: 0,
            snd_scale,
            mss,
            narrowed: None,
            send: SendBuffer::default(),
            own_queued: 0,
            fin_queued: false,
            fin_sent: false,
            rcv_nxt,
            rcv_adv: rcv_nxt + config.receive_buffer.min(0xffff) as u32,
            rcv_scale,
            ready: BytesMut::new(),
            assembler: Assembler::default(),
            duplicate: None,
            peer_fin: None,
            sack_permitted: half_open.sack_permitted,
            timestamps: half_open
                .ts_recent
                .map(|recent| TimestampState { offset: half_open.ts_offset, recent }),
            last_ack_sent: rcv_nxt,
            ack_now: false,
            unacked: 0,
            out_of_order: 0,
            rcv_mss: mss.min(DEFAULT_MSS) as u16,
            quick_acks: QUICK_ACKS,
            objected: Instant::from_nanos(0),
            challenged: Instant::from_nanos(0),
            probe: false,
            sws_override: false,
            recovery: Recovery::new(snd_nxt, now),
            ecn: EcnState::new(half_open.ecn),
            delivery: Delivery::new(now),
            pacer: Pacer::new(now),
            congestion: (config.congestion)(Start {
                mss,
                rtt: rtt.srtt(),
                seed: u64::from(half_open.iss.0),
            }),
            rtt,
            round_end: snd_nxt,
            last_progress: now,
            last_reached: now,
            last_heard: now,
            peer_timeout: half_open.user_timeout,
            keepalives_unanswered: 0,
            persist_backoff: 0,
            timers,
            charged: 0,
            charged_reassembly: 0,
            low_water: None,
            events: Events { accepted: true, ..Events::default() },
            released: false,
            reason: None,
            in_ready: false,
            in_events: false,
        }
    }

    /// One past the last octet in the send queue: where the FIN stands. Of a queue beyond what any
    /// window reaches it is a number that is not reached either, as half of the numbers are
    /// the past.
    pub(super) fn send_end(&self) -> SeqNum {
        let end = self.snd_una + self.send.len().min(MAX_WINDOW as usize) as u32;
        SeqNum(end.0.wrapping_sub(u32::from(self.fin_acknowledged())))
    }

    /// Our FIN was sent and acknowledged.
    fn fin_acknowledged(&self) -> bool {
        self.fin_sent && matches!(self.state, State::FinWait2 | State::Closed)
    }

    /// Octets of sequence space on their way: neither arrived nor lost, as far as known.
    pub(super) fn in_flight(&self) -> u32 {
        self.sent.in_flight().saturating_sub(self.recovery.duplicates)
    }

    /// Whether anything sent is not acknowledged.
    pub(super) fn has_outstanding(&self) -> bool {
        self.snd_nxt.after(self.snd_una)
    }

    /// Whether the application may still send.
    fn can_send(&self) -> bool {
        !self.fin_queued && matches!(self.state, State::Established | State::CloseWait)
    }

    /// Why it is over, if it is.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.reason
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Ends it: only reading what has come remains.
    pub(super) fn finish(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.reason = Some(reason);
        self.events.closed = true;
        self.timers.stop_all();
        self.send.abandon();
        self.own_queued = 0;
        self.sent.clear();
        self.assembler = Assembler::default();
        self.ack_now = false;
        self.probe = false;
        if reason != CloseReason::Finished {
            // After a reset nothing that came before it is handed out as if all were well.
            self.ready = BytesMut::new();
        }
    }

    // ---- the application's side ----------------------------------------------------------

    /// Queues data; see [`Stack::send`](crate::Stack::send).
    pub(crate) fn send(&mut self, data: Bytes) -> Result<(), CloseReason> {
        if !self.can_send() {
            return Err(self.reason.unwrap_or(CloseReason::Finished));
        }
        self.own_queued = self.own_queued.saturating_add(self.send.push(data));
        Ok(())
    }

    pub(crate) fn queued(&self) -> usize {
        self.send.len()
    }

    /// Asks for a writable event once at most `octets` are queued; true if that is so now.
    pub(crate) fn notify_below(&mut self, octets: usize) -> bool {
        let now = self.send.len() <= octets;
        let most = u32::try_from(octets).unwrap_or(u32::MAX);
        self.low_water = (!now).then(|| NonZeroU32::MIN.saturating_add(most));
        now
    }

    pub(super) fn check_low_water(&mut self) {
        if self.low_water.is_some_and(|mark| self.send.len() < mark.get() as usize) {
            self.low_water = None;
            self.events.writable = true;
        }
    }

    /// Moves what has been received to `into`. Returns octets moved.
    pub(crate) fn recv(&mut self, into: &mut BytesMut, config: &TcpConfig) -> usize {
        let octets = self.ready.len();
        if octets == 0 {
            return 0;
        }
        if into.is_empty() {
            *into = std::mem::take(&mut self.ready);
        } else {
            into.extend_from_slice(&self.ready);
            self.ready = BytesMut::new();
        }
        // RFC 9293 3.8.6.2.2: tell a window that has grown by enough to matter.
        if self.state != State::Closed
            && self.window_growth(config) >= self.worthwhile_growth(config)
        {
            let offered = self.rcv_adv.octets_since(self.rcv_nxt);
            if offered < config.receive_buffer as u32 / 2 {
                self.ack_now = true;
            }
        }
        octets
    }

    /// All data that will ever come has come (and may still wait to be read).
    pub(crate) fn peer_finished(&self) -> bool {
        self.peer_fin.is_some_and(|fin| self.rcv_nxt.after(fin))
    }

    /// In FIN-WAIT-2, and nobody is there to read what may still come.
    pub(crate) fn is_lingering(&self) -> bool {
        self.released && self.state == State::FinWait2 && self.assembler.is_empty()
    }

    /// The application has no more to send.
    pub(crate) fn shutdown(&mut self) {
        if self.can_send() {
            self.fin_queued = true;
            self.state = match self.state {
                State::CloseWait => State::LastAck,
                _ => State::FinWait1,
            };
        }
    }

    /// The application lets go. Returns what becomes of the connection.
    pub(crate) fn release(&mut self, now: Instant, config: &TcpConfig) -> Outcome {
        self.released = true;
        self.events = Events::default();
        if self.state == State::Closed {
            return Outcome::Close(self.reason.unwrap_or(CloseReason::Finished));
        }
        if !self.ready.is_empty() {
            // RFC 9293 3.6.1, MUST-17 by way of RFC 2525 2.17: data that nobody will read is lost;
            // the peer must not think that it arrived.
            return Outcome::Abort(CloseReason::Aborted);
        }
        self.shutdown();
        if self.state == State::FinWait2 {
            self.timers.set(Timer::Linger, now + config.fin_wait_2);
        }
        Outcome::Continue
    }
}
