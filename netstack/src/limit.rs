//! How often something may be done: token buckets on the stack's own clock.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::entropy::Keys;
use crate::time::Instant;

/// `burst` at once, and one more each `interval`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    interval: Duration,
    burst: u32,
    /// When the bucket is full again: each token taken moves it by `interval`.
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) const fn new(burst: u32, interval: Duration) -> Self {
        Self { interval, burst, full_at: Instant::from_nanos(0) }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let granted = full_at.since(now) <= self.interval * self.burst;
        if granted {
            self.full_at = full_at;
        }
        granted
    }
}

/// The rate of ICMP errors, in all and to one host.
#[derive(Debug)]
pub(crate) struct ErrorLimits {
    all: TokenBucket,
    /// Hosts share a bucket with few others, which they cannot choose.
    hosts: Vec<TokenBucket>,
    keys: Keys,
}

const HOST_BUCKETS: usize = 256;
/// To one host, as Linux's `icmp_ratelimit` of either family: one a second after a few.
const HOST_BURST: u32 = 6;
const HOST_INTERVAL: Duration = Duration::from_secs(1);

impl ErrorLimits {
    /// Limits of which `all` is for all hosts together.
    pub(crate) fn new(keys: Keys, all: TokenBucket) -> Self {
        let host = TokenBucket::new(HOST_BURST, HOST_INTERVAL);
        Self { all, hosts: vec![host; HOST_BUCKETS], keys }
    }

    /// Whether an error may go to `host`. What the host's own limit refuses is not taken from
    /// the others.
    pub(crate) fn take(&mut self, now: Instant, host: impl Hash) -> bool {
        let bucket = self.keys.hash_one(host) as usize % HOST_BUCKETS;
        self.hosts[bucket].take(now) && self.all.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = TokenBucket::new(5, Duration::from_millis(10));
        let take = |bucket: &mut TokenBucket, ms| bucket.take(Instant::from_millis(ms));
        assert_eq!((0..20).filter(|_| take(&mut bucket, 1000)).count(), 5);
        assert!(!take(&mut bucket, 1009));
        assert!(take(&mut bucket, 1010) && !take(&mut bucket, 1010));
        // It never holds more than the burst.
        assert_eq!((0..20).filter(|_| take(&mut bucket, 60_000)).count(), 5);
        let taken = (0..1000).filter(|i| take(&mut bucket, 60_000 + i)).count();
        assert!((98..=100).contains(&taken), "{taken}");
    }
}
