//! The limits that an operator may change: options under "Limits", or `[limits]` of the
//! configuration file. SIGHUP reads them again; each says what it then applies to.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What one peer, and all of them, may take. [`Limits::DEFAULT`] is what nobody needs to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a request head, request line and blank line included. Browsers stay below 8 KiB
    /// even with many cookies; nginx takes 32 KiB. Above: 431 (RFC 6585 5). From the next head on.
    pub max_head: usize,
    /// Header fields of a request. Above: 431. From the next head on.
    pub max_fields: usize,
    /// Octets of a request target. RFC 9112 3 asks for at least 8000. Above: 414. From the next
    /// head on.
    pub max_target: usize,
    /// How long a head may take from its first octet to its last: the end of a slowloris (408).
    /// From the next wait on, as the other times.
    pub head_timeout: Duration,
    /// How long a connection may rest between two requests. nginx's `keepalive_timeout`; longer
    /// than the 60 s for which common proxies keep theirs, so that the proxy closes first.
    pub idle_timeout: Duration,
    /// How long a client may acknowledge nothing, or less than [`min_rate`](Self::min_rate) asks
    /// for, of what is sent to it. nginx's `send_timeout`.
    pub send_timeout: Duration,
    /// Octets a second that a client must acknowledge, over each [`send_timeout`](Self::send_timeout)
    /// in which it does not take all; one that is slower is reset. 0: a single octet will do. The
    /// slowest mobile networks carry ten times as much; IIS cuts at the same.
    pub min_rate: u32,
    /// Requests on a connection; the last one's answer says `Connection: close`. 0: any number, as
    /// nothing grows with them. From the next request on.
    pub max_requests: u32,
    /// Connections that are served at one time, by all workers. Above: 503. From the next
    /// connection on.
    pub max_connections: usize,
    /// Of one client, which is an IPv4 address or an IPv6 /64, by all workers. Above: 429 (RFC 6585
    /// 4). 0: any number, as behind one address may be a proxy or a city. From the next connection
    /// on, and those are counted that come from then on.
    pub max_per_address: usize,
}

impl Limits {
    /// Unless told otherwise.
    pub const DEFAULT: Self = Self {
        max_head: 16 * 1024,
        max_fields: 64,
        max_target: 8 * 1024,
        head_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        send_timeout: Duration::from_secs(60),
        min_rate: 240,
        max_requests: 0,
        max_connections: *Self::CONNECTIONS.end(),
        max_per_address: 0,
    };

    /// What [`max_head`](Self::max_head) may be: a head that is read in pieces is parsed again for
    /// each line.
    pub const HEAD: RangeInclusive<usize> = 256..=64 * 1024;
    /// What [`max_fields`](Self::max_fields) may be. The parser's table has so many places; it lives
    /// on the stack only while a head is parsed.
    pub const FIELDS: RangeInclusive<usize> = 1..=256;
    /// What [`max_target`](Self::max_target) may be.
    pub const TARGET: RangeInclusive<usize> = 1..=64 * 1024;
    /// What the times may be, in seconds.
    pub const SECONDS: RangeInclusive<u64> = 1..=3600;
    /// What [`min_rate`](Self::min_rate) may be.
    pub const RATE: RangeInclusive<u32> = 0..=1 << 20;
    /// What [`max_connections`](Self::max_connections) may be: more have no room in the stack.
    pub const CONNECTIONS: RangeInclusive<usize> = 1..=1 << 18;

    /// Octets that a client must acknowledge within [`send_timeout`](Self::send_timeout).
    pub fn least_progress(&self) -> usize {
        let octets = u64::from(self.min_rate) * self.send_timeout.as_secs();
        usize::try_from(octets).unwrap_or(usize::MAX).max(1)
    }

    /// Whether the request behind `served` others is the last one of its connection.
    pub fn is_last(&self, served: u32) -> bool {
        self.max_requests.checked_sub(1).is_some_and(|last| served >= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_nothing_still_asks_for_an_octet() {
        let least = |min_rate| Limits { min_rate, ..Limits::DEFAULT }.least_progress();
        assert_eq!((least(0), least(1), least(240)), (1, 60, 14_400));
    }

    #[test]
    fn the_last_request_is_known_before_it_is_answered() {
        let last =
            |max_requests, served| Limits { max_requests, ..Limits::DEFAULT }.is_last(served);
        assert!(!last(0, u32::MAX) && last(1, 0) && !last(3, 1) && last(3, 2) && last(3, 9));
    }
}
