//! Proportional rate reduction (RFC 9937): how a recovery spends its window.
//!
//! On the way from the flight in which the loss happened to the window that the controller
//! wants, it sends in proportion to what arrives. So neither a burst nor a silence of half a
//! round trip marks the loss, and when more is lost than the reduction takes, it
//! builds up to the window again, at most one segment beyond what has arrived for each
//! acknowledgement.

/// The state of one recovery, in octets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prr {
    /// ssthresh: the window to arrive at.
    target: u32,
    /// RecoverFS: what was in flight when the recovery began.
    flight: u32,
    delivered: u64,
    sent: u64,
    /// What may be in flight now.
    window: u32,
}

impl Prr {
    pub(crate) fn new(target: u32, flight: u32) -> Self {
        Self { target, flight: flight.max(1), delivered: 0, sent: 0, window: 0 }
    }

    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    pub(crate) fn on_sent(&mut self, octets: u32) {
        self.sent += u64::from(octets);
    }

    /// An acknowledgement brought `delivered` octets and leaves `in_flight`. `safe`: it moved
    /// SND.UNA and showed no further loss (RFC 9937 6.2's SafeACK).
    pub(crate) fn on_ack(&mut self, delivered: u32, in_flight: u32, safe: bool, mss: u32) {
        self.delivered += u64::from(delivered);
        let ahead = self.delivered.saturating_sub(self.sent);
        let send = if in_flight > self.target {
            (self.delivered * u64::from(self.target))
                .div_ceil(u64::from(self.flight))
                .saturating_sub(self.sent)
        } else {
            let send = ahead.max(u64::from(delivered)) + if safe { u64::from(mss) } else { 0 };
            send.min(u64::from(self.target - in_flight))
        };
        // The first is sent again at once, whatever the sums say.
        let send = if self.sent == 0 { send.max(u64::from(mss)) } else { send };
        self.window = in_flight.saturating_add(send as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loss_of_twenty_sends_seven_for_ten_that_arrive() {
        // RFC 9937 8's shape: 20 segments out, one lost, the window goes to 14.
        let mut prr = Prr::new(1400, 2000);
        let mut in_flight = 1900;
        let mut sent = Vec::new();
        for _ in 0..19 {
            in_flight -= 100;
            prr.on_ack(100, in_flight, false, 100);
            let mut count = 0;
            while in_flight + 100 <= prr.window() {
                in_flight += 100;
                prr.on_sent(100);
                count += 1;
            }
            sent.push(count);
        }
        assert_eq!(sent[0], 1, "the lost one is sent again at once");
        assert!(sent.iter().all(|count| *count <= 1), "{sent:?}");
        assert_eq!(sent.iter().sum::<u32>(), 14);
        assert_eq!(in_flight, 1400);
    }

    #[test]
    fn after_heavy_loss_it_builds_up_again_by_what_arrives() {
        let mut prr = Prr::new(1400, 2000);
        // Fifteen of twenty are lost.
        prr.on_ack(100, 400, false, 100);
        assert_eq!(prr.window(), 500);
        prr.on_sent(100);
        prr.on_ack(100, 400, true, 100);
        assert_eq!(prr.window(), 600, "one more than has arrived while it is safe");
    }
}
