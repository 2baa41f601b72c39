//! Congestion control: how much may be in flight, and how fast it may leave.
//!
//! A controller knows octets, times and losses and nothing of segments. What is lost is
//! decided by [`recovery`](super::recovery), which also spends the window during a
//! recovery (PRR) unless the controller says that it does so itself.

use std::fmt::{self, Debug};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::seq::SeqNum;
use crate::time::Instant;

pub mod bbr;
pub mod cubic;
mod hystart;
#[cfg(test)]
mod sim;

/// The controllers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// [`cubic`]: gives way at losses, as most of the Internet's senders do.
    #[default]
    Cubic,
    /// [`bbr`]: keeps to the rate that the path delivers, and so carries much more over a path that
    /// loses by itself.
    Bbr,
}

impl Algorithm {
    /// What [`TcpConfig::congestion`](crate::TcpConfig) takes.
    pub fn constructor(self) -> fn(Start) -> Box<dyn Congestion> {
        match self {
            Self::Cubic => |start| Box::new(cubic::Cubic::new(start)),
            Self::Bbr => |start| Box::new(bbr::Bbr::new(start)),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        })
    }
}

/// A name that is not an [`Algorithm`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAlgorithm;

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such congestion control; there are cubic and bbr")
    }
}

impl std::error::Error for UnknownAlgorithm {}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cubic" => Ok(Self::Cubic),
            "bbr" => Ok(Self::Bbr),
            _ => Err(UnknownAlgorithm),
        }
    }
}

/// A round trip in four octets, as every connection has some: in nanoseconds, of which they
/// hold more than four seconds. A longer one counts as that long: on Earth a path has less, and
/// what a controller does with it, to tell a queue by its growth and to spread a window over it,
/// has no use beyond. Zero counts as a nanosecond, so that `Option` takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoundTrip(NonZeroU32);

impl RoundTrip {
    fn nanos(self) -> u32 {
        self.0.get()
    }

    fn as_secs_f64(self) -> f64 {
        f64::from(self.nanos()) / 1e9
    }
}

impl From<Duration> for RoundTrip {
    fn from(time: Duration) -> Self {
        // Ten seconds are as good as longer, and 64 bits hold them: each acknowledgement has some
        // of these.
        let nanos = time.as_secs().min(10) * 1_000_000_000 + u64::from(time.subsec_nanos());
        let nanos = nanos.min(u32::MAX.into()) as u32;
        Self(NonZeroU32::new(nanos).unwrap_or(NonZeroU32::MIN))
    }
}

/// What a controller is made from.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Payload octets of a full segment.
    pub mss: u32,
    /// The round trip of the handshake, where it could be measured.
    pub rtt: Option<Duration>,
    /// Unpredictable, the same in a run that is repeated: what a controller spreads its
    /// decisions by.
    pub seed: u64,
}

/// A sample of the rate at which the path delivers (draft-ietf-ccwg-bbr, "Delivery Rate
/// Samples"): from the departure of the newest segment that an acknowledgement covers to
/// that acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSample {
    /// Octets delivered in that time.
    pub delivered: u64,
    /// The longer of the time to send and the time to acknowledge them; never zero.
    pub interval: Duration,
    /// The connection's count of delivered octets when that segment left.
    pub prior_delivered: u64,
    /// Octets in flight just after that segment left, itself included.
    pub tx_in_flight: u32,
    /// Octets found lost in that time.
    pub lost: u64,
    /// The sender had nothing more to send at that time: the sample says less than the path can.
    pub app_limited: bool,
}

impl RateSample {
    /// Octets per second.
    pub fn rate(&self) -> f64 {
        self.delivered as f64 / self.interval.as_secs_f64()
    }
}

/// One acknowledgement that brought something new.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// When the acknowledgement was received.
    pub now: Instant,
    /// Octets that it shows to have arrived, cumulatively or selectively.
    pub octets: u32,
    /// SEG.ACK: all before it has arrived.
    pub ack: SeqNum,
    /// SND.MAX: the end of all that was ever sent.
    pub sent_end: SeqNum,
    /// Octets found lost by it.
    pub lost: u32,
    /// Octets in flight before it was counted.
    pub prior_in_flight: u32,
    /// Octets in flight after it was counted: neither arrived nor lost.
    pub in_flight: u32,
    /// Octets delivered on this connection so far, those of this acknowledgement included.
    pub delivered: u64,
    /// The round trip that it measured, of a segment sent once.
    pub rtt: Option<Duration>,
    /// The smoothed round-trip time (RFC 6298), if one was measured.
    pub smoothed_rtt: Option<Duration>,
    /// The rate that it measured.
    pub rate: Option<RateSample>,
    /// Whether the window was what held the sender back. It does not grow otherwise: an
    /// unused window proves nothing about the path (RFC 7661 3, RFC 9438 4.2).
    pub window_limited: bool,
    /// A recovery is under way: a loss was found and not everything that was sent before
    /// it has been acknowledged.
    pub in_recovery: bool,
}

/// A segment that was found lost.
#[derive(Clone, Copy, Debug)]
pub struct LostSegment {
    /// Its payload octets.
    pub octets: u32,
    /// Octets in flight just after it left, itself included.
    pub tx_in_flight: u32,
    /// Octets found lost since it left, its own included.
    pub lost: u64,
    /// The connection's count of delivered octets when it left.
    pub prior_delivered: u64,
    /// The sender had nothing more to send when it left.
    pub app_limited: bool,
}

/// A congestion controller for one connection.
///
/// The order of calls for one acknowledgement: [`on_segment_lost`](Self::on_segment_lost)
/// for each segment that it shows to be lost, then [`on_loss`](Self::on_loss) if that
/// begins a recovery (or [`on_ecn`](Self::on_ecn)), then [`on_ack`](Self::on_ack), then
/// [`on_recovered`](Self::on_recovered) if it ends one.
pub trait Congestion: Debug + Send {
    /// The congestion window, in octets; at least one MSS.
    fn window(&self) -> u32;

    /// Octets per second at which to send; `None`: as fast as the windows allow.
    fn pacing_rate(&self) -> Option<u64>;

    /// Whether the controller bounds what is sent during a recovery by its window. Otherwise
    /// the sender does, by proportional rate reduction (RFC 9937) towards that window.
    fn governs_recovery(&self) -> bool {
        false
    }

    /// The payload octets of a full segment have changed.
    fn set_mss(&mut self, mss: u32);

    /// Data is about to leave. `in_flight` octets are out before it; `idle` is how long
    /// nothing was, if nothing was.
    fn on_send(&mut self, now: Instant, in_flight: u32, idle: Option<Idle>) {
        let _ = (now, in_flight, idle);
    }

    /// Something was acknowledged.
    fn on_ack(&mut self, acked: &Acked);

    /// A segment was found lost, otherwise than by a timeout of all that was out.
    fn on_segment_lost(&mut self, lost: &LostSegment) {
        let _ = lost;
    }

    /// A recovery begins: a loss was found, and `in_flight` octets were out before it was.
    /// Called once for each window of data.
    fn on_loss(&mut self, now: Instant, in_flight: u32);

    /// Everything that was out when the recovery began is acknowledged.
    fn on_recovered(&mut self, now: Instant) {
        let _ = now;
    }

    /// The path has marked a segment instead of dropping it (RFC 3168). Called once for each
    /// window of data, and not together with [`on_loss`](Self::on_loss).
    fn on_ecn(&mut self, now: Instant, in_flight: u32);

    /// The retransmission timer expired with `in_flight` octets out. `repeated` is set when
    /// the same data had timed out before (RFC 5681 3.1: the threshold is set only once).
    fn on_timeout(&mut self, now: Instant, in_flight: u32, repeated: bool);

    /// The last [`on_loss`](Self::on_loss) or [`on_timeout`](Self::on_timeout) was wrong:
    /// nothing had been lost. Goes back to what it was before, where that is more.
    fn on_spurious(&mut self, now: Instant);
}

/// A time in which nothing was in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// How long.
    pub span: Duration,
    /// The retransmission timeout.
    pub rto: Duration,
}

/// RFC 6928 2: min(10 · MSS, max(2 · MSS, 14600)).
pub fn initial_window(mss: u32) -> u32 {
    mss.saturating_mul(10).min(mss.saturating_mul(2).max(14600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_exact_to_four_seconds_and_then_that_long() {
        let nanos = |time| RoundTrip::from(time).nanos();
        assert_eq!(nanos(Duration::from_nanos(3_999_999_999)), 3_999_999_999);
        assert_eq!(nanos(Duration::from_nanos(u32::MAX.into())), u32::MAX);
        for long in [Duration::from_nanos((1 << 32) + 7), Duration::MAX] {
            assert_eq!(nanos(long), u32::MAX);
        }
        assert_eq!(nanos(Duration::ZERO), 1);
        assert_eq!(size_of::<Option<RoundTrip>>(), 4);
    }

    #[test]
    fn the_names_of_the_controllers_are_read_as_they_are_written() {
        for algorithm in [Algorithm::Cubic, Algorithm::Bbr] {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        assert_eq!("reno".parse::<Algorithm>(), Err(UnknownAlgorithm));
        let start = Start { mss: 1448, rtt: None, seed: 0 };
        assert!(!Algorithm::Cubic.constructor()(start).governs_recovery());
        assert!(Algorithm::Bbr.constructor()(start).governs_recovery());
    }
}
