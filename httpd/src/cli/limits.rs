//! The options under "Limits".

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::config::parse_size;
use crate::limits::Limits;

/// The heading in the help, by which `[limits]` of the configuration file knows its options.
pub(super) const HEADING: &str = "Limits";

#[derive(Debug, Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct LimitArgs {
    /// Octets of a request's head, 256 to 64k; more is answered 431
    #[arg(long, env = "MAX_HEAD", value_name = "SIZE", value_parser = head, default_value = "16k")]
    max_head: usize,
    /// Header fields of a request, 1 to 256; more is answered 431
    #[arg(long, env = "MAX_FIELDS", value_name = "N", value_parser = fields, default_value = "64")]
    max_fields: usize,
    /// Octets of a request's target, 1 to 64k; more is answered 414
    #[arg(long, env = "MAX_TARGET", value_name = "SIZE", value_parser = target, default_value = "8k")]
    max_target: usize,
    /// Seconds from a head's first octet to its last, 1 to 3600; more is answered 408
    #[arg(long, env = "HEAD_TIMEOUT", value_name = "S", value_parser = seconds, default_value = "10")]
    head_timeout: Duration,
    /// Seconds that a connection may rest between requests, 1 to 3600
    #[arg(long, env = "IDLE_TIMEOUT", value_name = "S", value_parser = seconds, default_value = "75")]
    idle_timeout: Duration,
    /// Seconds in which a client must take something of its answer, 1 to 3600; else it is reset
    #[arg(long, env = "SEND_TIMEOUT", value_name = "S", value_parser = seconds, default_value = "60")]
    send_timeout: Duration,
    /// Octets a second that it must take over that time, up to 1048576; 0: any progress will do
    #[arg(long, env = "MIN_RATE", value_name = "OCTETS", value_parser = rate, default_value = "240")]
    min_rate: u32,
    /// Requests on one connection; 0: any number
    #[arg(long, env = "MAX_REQUESTS", value_name = "N", value_parser = requests, default_value = "0")]
    max_requests: u32,
    /// Connections at one time, 1 to 262144; more are answered 503
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "N", value_parser = connections, default_value = "262144")]
    max_connections: usize,
    /// The same of one IPv4 address or IPv6 /64; more are answered 429; 0: any number
    #[arg(long, env = "MAX_PER_ADDRESS", value_name = "N", value_parser = per_address, default_value = "0")]
    max_per_address: usize,
}

impl From<LimitArgs> for Limits {
    fn from(given: LimitArgs) -> Self {
        let LimitArgs {
            max_head,
            max_fields,
            max_target,
            head_timeout,
            idle_timeout,
            send_timeout,
            min_rate,
            max_requests,
            max_connections,
            max_per_address,
        } = given;
        Self {
            max_head,
            max_fields,
            max_target,
            head_timeout,
            idle_timeout,
            send_timeout,
            min_rate,
            max_requests,
            max_connections,
            max_per_address,
        }
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

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn read(line: &[&str]) -> Result<Limits, String> {
        let read = Alone::try_parse_from([&["x"], line].concat());
        read.map(|read| read.limits.into()).map_err(|error| error.to_string())
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
