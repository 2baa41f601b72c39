//! The load beside the checks: wrk and h2load, a slice of time after the other.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tagwire_lab::Lab;

use super::site::Site;
use super::tally::Tally;
use crate::BenchError;
use crate::load::Wrk;

/// How long each run of a program is at the most.
const SLICE: Duration = Duration::from_secs(10);
/// File, connections, and lines of the head, in turns.
const WRK: [(&str, u32, &[&str]); 4] = [
    ("1k", 16, &[]),
    ("10k", 4, &["-H", "Connection: close"]),
    ("100k", 8, &[]),
    ("10k", 8, &["-H", "Range: bytes=100-5099"]),
];
/// h2load's connections, and requests that it has under way on each: it pipelines them.
const H2LOAD: [(u32, u32); 3] = [(8, 8), (16, 1), (2, 32)];

/// The files that wrk asks for: they do not change.
pub(super) const FILES: [(&str, usize); 3] =
    [("1k", 1 << 10), ("10k", 10 << 10), ("100k", 100 << 10)];

fn slices(until: Instant) -> impl Iterator<Item = (usize, Duration)> {
    (0..).map_while(move |turn| {
        let left = until.saturating_duration_since(Instant::now());
        // Both programs count in whole seconds.
        let whole = Duration::from_secs(left.min(SLICE).as_secs());
        (!whole.is_zero()).then_some((turn, whole))
    })
}

/// Runs wrk until the time comes.
///
/// # Errors
/// When it cannot be run.
pub(super) fn wrk(
    lab: &Lab,
    server: Ipv4Addr,
    until: Instant,
    tally: &Tally,
) -> Result<(), BenchError> {
    let wrk = Wrk::new(lab)?;
    for (turn, time) in slices(until) {
        let (file, connections, options) = WRK[turn % WRK.len()];
        let url = format!("http://{server}/{file}");
        let result = wrk.run_as_it_comes(&url, connections, time, options)?;
        tally.wrk(result.requests);
        if result.errors > 0 || result.requests == 0 {
            tally.fault(format!("wrk {url} {options:?}: {result:?}"));
        }
    }
    Ok(())
}

/// Runs h2load, which speaks HTTP/1.1 here, until the time comes.
///
/// # Errors
/// When it cannot be run.
pub(super) fn h2load(
    lab: &Lab,
    server: Ipv4Addr,
    until: Instant,
    tally: &Tally,
) -> Result<(), BenchError> {
    let list = lab.scratch().join("targets");
    let targets = Site::small_targets().map(|target| format!("http://{server}{target}\n"));
    fs::write(&list, targets.collect::<String>())?;
    for (turn, time) in slices(until) {
        let (connections, pipelined) = H2LOAD[turn % H2LOAD.len()];
        let command = lab.client().command("h2load").args(["--h1", "-t", "1"]);
        let command = command.args(["-c", &connections.to_string(), "-m", &pipelined.to_string()]);
        let command = command.args(["-D", &time.as_secs().to_string(), "-i"]).arg(&list);
        let output = command.stdout_string()?;
        let result = H2loadResult::parse(&output).ok_or("h2load said something else")?;
        tally.h2load(result.succeeded);
        if result.failed > 0 || result.other > 0 || result.succeeded == 0 {
            tally.fault(format!("h2load -c {connections} -m {pipelined}: {result:?}:\n{output}"));
        }
    }
    Ok(())
}

/// What h2load counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct H2loadResult {
    succeeded: u64,
    /// Failed, in whatever way.
    failed: u64,
    /// Answers with another status than 2xx.
    other: u64,
}

impl H2loadResult {
    fn parse(output: &str) -> Option<Self> {
        let counts = |start: &str| {
            let line = output.lines().find_map(|line| line.strip_prefix(start))?;
            Some(line.split(',').filter_map(|part| {
                let (count, what) = part.trim().split_once(' ')?;
                Some((count.parse::<u64>().ok()?, what.to_owned()))
            }))
        };
        let mut result = Self { succeeded: 0, failed: 0, other: 0 };
        for (count, what) in counts("requests:")? {
            match what.as_str() {
                "succeeded" => result.succeeded = count,
                // An error is a failure too.
                "failed" => result.failed = count,
                _ => {}
            }
        }
        let statuses = counts("status codes:")?;
        result.other = statuses.filter(|(_, what)| what != "2xx").map(|(count, _)| count).sum();
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_says() {
        let output = "finished in 3.00s, 5000.00 req/s\nrequests: 90 total, 80 started, 75 done, 70 \
                      succeeded, 5 failed, 3 errored, 2 timeout\nstatus codes: 70 2xx, 1 3xx, 2 4xx, 3 \
                      5xx\n";
        let expected = H2loadResult { succeeded: 70, failed: 5, other: 6 };
        assert_eq!(H2loadResult::parse(output), Some(expected));
        assert_eq!(H2loadResult::parse("h2load: not found"), None);
    }
}
