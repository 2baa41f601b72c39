//! Round-trip time and retransmission timeout (RFC 6298).

use std::time::Duration;

use super::TcpConfig;

/// RFC 6298 2: K.
const K: u32 = 4;

/// Smoothed round-trip time, its variance, and the timeout that follows.
#[derive(Debug)]
pub(crate) struct RttEstimator {
    srtt: Option<Duration>,
    rttvar: Duration,
    /// The timeout before back-off.
    base: Duration,
    /// How often the timeout was doubled since a round trip was last measured.
    backoff: u8,
}

impl RttEstimator {
    pub(crate) fn new(config: &TcpConfig) -> Self {
        Self { srtt: None, rttvar: Duration::ZERO, base: config.rto_initial, backoff: 0 }
    }

    /// A round trip was measured on data that was sent once (Karn).
    pub(crate) fn sample(&mut self, rtt: Duration, config: &TcpConfig) {
        let srtt = match self.srtt {
            // RFC 6298 (2.2)
            None => {
                self.rttvar = rtt / 2;
                rtt
            }
            // RFC 6298 (2.3)
            Some(srtt) => {
                self.rttvar = (self.rttvar * 3 + srtt.abs_diff(rtt)) / 4;
                (srtt * 7 + rtt) / 8
            }
        };
        self.srtt = Some(srtt);
        // RFC 6298 3 and (5.5), Karn: only a measurement ends the back-off. An acknowledgement
        // of what was sent twice says nothing about the path: on one that has become
        // slower than the timeout, each segment would be sent twice for ever.
        self.backoff = 0;
        // The floor is under the variance, as in Linux, and not under the whole (RFC 6298 (2.4)):
        // on a long and steady path the whole would be hardly more than a round trip, and
        // an acknowledgement that the peer holds back a spurious timeout.
        self.base = (srtt + (self.rttvar * K).max(config.rto_min)).min(config.rto_max);
    }

    pub(crate) fn srtt(&self) -> Option<Duration> {
        self.srtt
    }

    /// The timeout with its back-off, RFC 6298 (5.5).
    pub(crate) fn rto(&self, config: &TcpConfig) -> Duration {
        self.base.saturating_mul(1 << self.backoff.min(16)).min(config.rto_max)
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
        let mut rtt = RttEstimator::new(&config);
        assert_eq!(rtt.rto(&config), ms(1000));
        rtt.sample(ms(100), &config);
        assert_eq!((rtt.srtt(), rtt.rto(&config)), (Some(ms(100)), ms(300)));
        rtt.sample(ms(180), &config);
        // RTTVAR = 3/4 · 50 + 1/4 · 80 = 57.5; SRTT = 7/8 · 100 + 1/8 · 180 = 110.
        assert_eq!((rtt.srtt(), rtt.rto(&config)), (Some(ms(110)), ms(340)));
    }

    #[test]
    fn back_off_doubles_up_to_the_ceiling_and_ends_with_a_measurement() {
        let config = TcpConfig::default();
        let mut rtt = RttEstimator::new(&config);
        rtt.sample(ms(1), &config);
        assert_eq!(rtt.rto(&config), ms(201));
        rtt.back_off();
        assert_eq!(rtt.rto(&config), ms(402));
        for _ in 0..300 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(&config), config.rto_max);
        rtt.sample(ms(1), &config);
        assert_eq!(rtt.rto(&config), ms(201));
    }
}
