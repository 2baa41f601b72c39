//! Congestion control: how much may be in flight.
//!
//! A controller knows octets, times and losses; loss detection and the inflation of the
//! window during recovery are [`recovery`](super::recovery)'s.

use std::fmt::Debug;
use std::time::Duration;

use crate::time::Instant;

pub mod cubic;

/// New data was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// When the acknowledgement came.
    pub now: Instant,
    /// Octets that it newly covers.
    pub octets: u32,
    /// The smoothed round-trip time, if one was measured.
    pub rtt: Option<Duration>,
    /// Whether the window was what held the sender back. It does not grow otherwise: an
    /// unused window proves nothing about the path (RFC 7661 3, RFC 9438 4.2).
    pub window_limited: bool,
}

/// A congestion controller for one connection.
pub trait Congestion: Debug + Send {
    /// The congestion window, in octets; at least one MSS.
    fn window(&self) -> u32;

    /// New data was acknowledged outside of recovery.
    fn on_ack(&mut self, acked: Acked);

    /// A loss was detected by duplicate acknowledgements; `flight` octets were out.
    /// Called once for each window of data.
    fn on_loss(&mut self, now: Instant, flight: u32);

    /// The retransmission timer expired with `flight` octets out. `repeated` is set when
    /// the same data had timed out before (RFC 5681 3.1: the threshold is set only once).
    fn on_timeout(&mut self, now: Instant, flight: u32, repeated: bool);
}

/// RFC 6928 2: min(10 · MSS, max(2 · MSS, 14600)).
pub fn initial_window(mss: u32) -> u32 {
    (10 * mss).min((2 * mss).max(14600))
}
