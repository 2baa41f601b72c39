//! Round-trip time and retransmission timeout (RFC 6298).

use std::time::Duration;

use super::TcpConfig;

/// No round trip was measured.
const UNKNOWN: u64 = u64::MAX;
/// RFC 6298 2: K.
const K: u32 = 4;

/// Smoothed round-trip time, its variance, and the timeout that follows. Every connection has
/// one, so times are nanoseconds in eight octets and not sixteen.
#[derive(Debug)]
pub(crate) struct RttEstimator {
    /// [`UNKNOWN`] before the first measurement.
    srtt: u64,
    rttvar: u64,
    /// How often the timeout was doubled since a round trip was last measured.
    backoff: u8,
}

impl RttEstimator {
    pub(crate) fn new() -> Self {
        Self { srtt: UNKNOWN, rttvar: 0, backoff: 0 }
    }

    /// A round trip was measured on data that was sent once (Karn).
    pub(crate) fn sample(&mut self, rtt: Duration) {
        // A century is as good as longer, and leaves room for the sums.
        let rtt = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 16);
        if self.srtt == UNKNOWN {
            // RFC 6298 (2.2)
            self.rttvar = rtt / 2;
            self.srtt = rtt;
        } else {
            // RFC 6298 (2.3)
            self.rttvar = (self.rttvar * 3 + self.srtt.abs_diff(rtt)) / 4;
            self.srtt = (self.srtt * 7 + rtt) / 8;
        }
        // RFC 6298 3 and (5.5), Karn: only a measurement ends the back-off. An acknowledgement
        // of what was sent twice says nothing about the path: on one that has become
        // slower than the timeout, each segment would be sent twice for ever.
        self.backoff = 0;
    }

    pub(crate) fn srtt(&self) -> Option<Duration> {
        (self.srtt != UNKNOWN).then(|| Duration::from_nanos(self.srtt))
    }

    /// The timeout with its back-off, RFC 6298 (5.5).
    pub(crate) fn rto(&self, config: &TcpConfig) -> Duration {
        // The floor is under the variance, as in Linux, and not under the whole (RFC 6298 (2.4)):
        // on a long and steady path the whole would be hardly more than a round trip, and
        // an acknowledgement that the peer holds back a spurious timeout.
        let base = match self.srtt() {
            Some(srtt) => srtt + (Duration::from_nanos(self.rttvar) * K).max(config.rto_min),
            None => config.rto_initial,
        };
        base.min(config.rto_max).saturating_mul(1 << self.backoff.min(16)).min(config.rto_max)
    }

    /// The timer expired.
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Timeouts since a round trip was last measured.
    pub(crate) fn backoff(&self) -> u8 {
        self.backoff
    }

    pub(crate) fn is_backed_off(&self) -> bool {
        self.backoff > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_arithmetic_of_section_2() {
        let config = TcpConfig { rto_min: ms(1), ..TcpConfig::default() };
        let mut rtt = RttEstimator::new();
        assert_eq!(rtt.rto(&config), ms(1000));
        rtt.sample(ms(100));
        assert_eq!((rtt.srtt(), rtt.rto(&config)), (Some(ms(100)), ms(300)));
        rtt.sample(ms(180));
        // RTTVAR = 3/4 · 50 + 1/4 · 80 = 57.5; SRTT = 7/8 · 100 + 1/8 · 180 = 110.
        assert_eq!((rtt.srtt(), rtt.rto(&config)), (Some(ms(110)), ms(340)));
    }

    #[test]
    fn back_off_doubles_up_to_the_ceiling_and_ends_with_a_measurement() {
        let config = TcpConfig::default();
        let mut rtt = RttEstimator::new();
        rtt.sample(ms(1));
        assert_eq!(rtt.rto(&config), ms(201));
        rtt.back_off();
        assert_eq!(rtt.rto(&config), ms(402));
        for _ in 0..300 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(&config), config.rto_max);
        rtt.sample(ms(1));
        assert_eq!(rtt.rto(&config), ms(201));
    }
}
