//! The limits that an operator may change: options under "Limits", or `[limits]` of the
//! configuration file. SIGHUP reads them again; each says what it then applies to.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::config::parse_size;

/// The heading in the help, by which `[limits]` knows its options.
pub const HEADING: &str = "Limits";

/// What one peer, and all of them, may take. [`Limits::DEFAULT`] is what nobody needs to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
#[command(next_help_heading = HEADING)]
pub struct Limits {
    /// Octets of a request head, request line and blank line included. Browsers stay below 8 KiB
    /// even with many cookies; nginx takes 32 KiB. Above: 431 (RFC 6585 5). From the next head on.
    #[arg(long, env = "MAX_HEAD", value_name = "SIZE", value_parser = head, default_value = "16k")]
    #[arg(help = "Octets of a request's head, 256 to 64k; more is answered 431")]
    pub max_head: usize,
    /// Header fields of a request. Above: 431. From the next head on.
    #[arg(long, env = "MAX_FIELDS", value_name = "N", value_parser = fields, default_value = "64")]
    #[arg(help = "Header fields of a request, 1 to 256; more is answered 431")]
    pub max_fields: usize,
    /// Octets of a request target. RFC 9112 3 asks for at least 8000. Above: 414. From the next
    /// head on.
    #[arg(long, env = "MAX_TARGET", value_name = "SIZE", value_parser = target, default_value = "8k")]
    #[arg(help = "Octets of a request's target, 1 to 64k; more is answered 414")]
    pub max_target: usize,
    /// How long a head may take from its first octet to its last: the end of a slowloris (408).
    /// From the next wait on, as the other times.
    #[arg(long, env = "HEAD_TIMEOUT", value_name = "S", value_parser = seconds, default_value = "10")]
    #[arg(help = "Seconds from a head's first octet to its last, 1 to 3600; more is answered 408")]
    pub head_timeout: Duration,
    /// How long a connection may rest between two requests. nginx's `keepalive_timeout`; longer
    /// than the 60 s for which common proxies keep theirs, so that the proxy closes first.
    #[arg(long, env = "IDLE_TIMEOUT", value_name = "S", value_parser = seconds, default_value = "75")]
    #[arg(help = "Seconds that a connection may rest between requests, 1 to 3600")]
    pub idle_timeout: Duration,
    /// How long a client may acknowledge nothing, or less than [`min_rate`](Self::min_rate) asks
    /// for, of what is sent to it. nginx's `send_timeout`.
    #[arg(long, env = "SEND_TIMEOUT", value_name = "S", value_parser = seconds, default_value = "60")]
    #[arg(
        help = "Seconds in which a client must take something of its answer, 1 to 3600; else it is reset"
    )]
    pub send_timeout: Duration,
    /// Octets a second that a client must acknowledge, over each [`send_timeout`](Self::send_timeout)
    /// in which it does not take all; one that is slower is reset. 0: a single octet will do. The
    /// slowest mobile networks carry ten times as much; IIS cuts at the same.
    #[arg(long, env = "MIN_RATE", value_name = "OCTETS", value_parser = rate, default_value = "240")]
    #[arg(
        help = "Octets a second that it must take over that time, up to 1048576; 0: any progress will do"
    )]
    pub min_rate: u32,
    /// Requests on a connection; the last one's answer says `Connection: close`. 0: any number, as
    /// nothing grows with them. From the next request on.
    #[arg(long, env = "MAX_REQUESTS", value_name = "N", value_parser = requests, default_value = "0")]
    #[arg(help = "Requests on one connection; 0: any number")]
    pub max_requests: u32,
    /// Connections that are served at one time, by all workers. Above: 503. From the next
    /// connection on.
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "N", value_parser = connections, default_value = "262144")]
    #[arg(help = "Connections at one time, 1 to 262144; more are answered 503")]
    pub max_connections: usize,
    /// Of one client, which is an IPv4 address or an IPv6 /64 in one VLAN, by all workers. Above: 429
    /// (RFC 6585 4). 0: any number, as behind one address may be a proxy or a city. From the next connection
    /// on, and those are counted that come from then on.
    #[arg(long, env = "MAX_PER_ADDRESS", value_name = "N", value_parser = per_address, default_value = "0")]
    #[arg(help = "The same of one IPv4 address or IPv6 /64; more are answered 429; 0: any number")]
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

/// A number that must lie within `range`.
fn number<T>(text: &str, range: &RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let text = text.trim();
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| out_of(text, "number", range))
}

fn size(text: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    let text = text.trim();
    let size = usize::try_from(parse_size(text)?).ok().filter(|size| range.contains(size));
    size.ok_or_else(|| out_of(text, "size", range))
}

fn out_of<T: Display>(text: &str, what: &str, range: &RangeInclusive<T>) -> String {
    format!("{text:?} is no {what} that is possible; use {} to {}", range.start(), range.end())
}

fn head(text: &str) -> Result<usize, String> {
    size(text, &Limits::HEAD)
}

fn fields(text: &str) -> Result<usize, String> {
    number(text, &Limits::FIELDS)
}

fn target(text: &str) -> Result<usize, String> {
    size(text, &Limits::TARGET)
}

fn seconds(text: &str) -> Result<Duration, String> {
    number(text, &Limits::SECONDS).map(Duration::from_secs)
}

fn rate(text: &str) -> Result<u32, String> {
    number(text, &Limits::RATE)
}

fn requests(text: &str) -> Result<u32, String> {
    number(text, &(0..=u32::MAX))
}

fn connections(text: &str) -> Result<usize, String> {
    number(text, &Limits::CONNECTIONS)
}

fn per_address(text: &str) -> Result<usize, String> {
    number(text, &(0..=*Limits::CONNECTIONS.end()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

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

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        limits: Limits,
    }

    fn read(line: &[&str]) -> Result<Limits, String> {
        let read = Alone::try_parse_from([&["x"], line].concat());
        read.map(|read| read.limits).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_that_are_documented() {
        assert_eq!(read(&[]), Ok(Limits::DEFAULT));
    }

    #[test]
    fn each_can_be_changed() {
        let line = "--max-head 32k --max-fields 100 --max-target 4096 --head-timeout 5 --idle-timeout \
                    30 --send-timeout 20 --min-rate 1000 --max-requests 7 --max-connections 9 \
                    --max-per-address 3";
        let expected = Limits {
            max_head: 32 * 1024,
            max_fields: 100,
            max_target: 4096,
            head_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(20),
            min_rate: 1000,
            max_requests: 7,
            max_connections: 9,
            max_per_address: 3,
        };
        assert_eq!(read(&line.split_whitespace().collect::<Vec<_>>()), Ok(expected));
        for (line, part) in [
            (["--max-head", "1"], "use 256 to 65536"),
            (["--max-head", "lots"], "no size"),
            (["--max-fields", "257"], "use 1 to 256"),
            (["--max-target", "1m"], "use 1 to 65536"),
            (["--head-timeout", "0"], "use 1 to 3600"),
            (["--idle-timeout", "75s"], "use 1 to 3600"),
            (["--min-rate", "-1"], "use 0 to 1048576"),
            (["--max-connections", "0"], "use 1 to 262144"),
        ] {
            let line = [format!("{}={}", line[0], line[1])];
            let error = read(&[&line[0]]).unwrap_err();
            assert!(error.contains(part), "{line:?}: {error}");
        }
    }
}
