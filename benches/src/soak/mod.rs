//! Mixed traffic for a long time: no error, no wrong octet, flat memory.
//!
//! An appliance whose cache is smaller than what it serves stands under wrk and h2load
//! ([`traffic`]) while its files are replaced beneath it ([`site`]). A client of ours asks in every
//! way there is ([`checker`]): whole files and parts, kept connections and new ones, pipelined,
//! conditional, slow, cut in the middle. Each octet of a file says where it belongs ([`content`]),
//! so that the client knows an old version from a new one, and both from a mixture.
//!
//! `tagwire-soak` (`make soak`) runs it for an hour, or for `SOAK_SECONDS`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tagwire_lab::{APPLIANCE_ID, Lab, LabProcess, Signal};

use crate::BenchError;
use crate::contender::Programs;
use crate::load::port_range;
use crate::machine;
use crate::report::median;

pub mod checker;
pub mod content;
pub mod site;
pub mod tally;
pub mod traffic;

use checker::Checker;
use site::Site;
use tally::{Counts, Tally};

/// Checkers of small files, and of large ones.
const CHECKERS: [u64; 2] = [6, 3];
/// Less than half of what is served.
const CACHE: &str = "24m";
/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(10);
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// What memory may grow by from the beginning of the second half to the end: what an allocator
/// keeps swings by that much, and a leak of ten octets for each request is more in an hour.
const GROWTH: f64 = 0.05;
const GROWTH_OCTETS: f64 = (4 << 20) as f64;
/// By then the cache is full, and what waits in TIME-WAIT is as much as it will be.
const LONG_ENOUGH: Duration = Duration::from_secs(100);
/// How long connections may take to be gone after their clients.
const SETTLE: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug)]
pub struct Summary {
    /// How long the traffic lasted.
    pub took: Duration,
    /// What was counted.
    pub counts: Counts,
    /// The first of what went wrong.
    pub faults: Vec<String>,
    /// Octets resident at the beginning of the second half, at the end, and at the most.
    pub resident: [f64; 3],
    /// What the appliance says of itself at the end.
    pub status: Value,
}

impl Summary {
    /// How much memory has grown in the second half, in octets.
    pub fn growth(&self) -> f64 {
        self.resident[1] - self.resident[0]
    }

    /// Whether memory is flat; what is too short to tell passes.
    pub fn is_flat(&self) -> bool {
        self.took < LONG_ENOUGH || self.growth() <= GROWTH_OCTETS.max(self.resident[0] * GROWTH)
    }

    /// Whether all is well.
    pub fn holds(&self) -> bool {
        let Counts { checked, cut, changed, wrk, h2load, faults, .. } = self.counts;
        let all_at_work = [checked, cut, changed, wrk, h2load].iter().all(|&count| count > 0);
        faults == 0 && all_at_work && self.is_flat()
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let Counts { checked, octets, cut, changed, wrk, h2load, faults } = self.counts;
        let mib = self.resident.map(|octets| octets / f64::from(1 << 20));
        let verdict = |holds| if holds { "holds" } else { "MISSES" };
        let counter = |path: &str| self.status.pointer(path).cloned().unwrap_or(Value::Null);
        let mut text = format!("\n{:.0} s of mixed traffic\n", self.took.as_secs_f64());
        for (what, value) in [
            ("answers checked", checked.to_string()),
            ("octets checked", octets.to_string()),
            ("requests of wrk", wrk.to_string()),
            ("requests of h2load", h2load.to_string()),
            ("files replaced", changed.to_string()),
            ("connections cut by the client", cut.to_string()),
            ("connections accepted", counter("/stack/tcp_accepted").to_string()),
            ("memory, second half to end, most", {
                format!("{:.1} MiB to {:.1} MiB, {:.1} MiB", mib[0], mib[1], mib[2])
            }),
        ] {
            text += &format!("  {what:<34}{value}\n");
        }
        text += &format!("no error, no wrong octet: {} faults: {}\n", faults, verdict(faults == 0));
        let grown = self.growth() / f64::from(1 << 20);
        text += &format!("flat memory: {grown:+.1} MiB: {}\n", verdict(self.is_flat()));
        for fault in &self.faults {
            text += &format!("  {fault}\n");
        }
        text
    }
}

/// Runs it all against `binary` with so many workers.
///
/// # Errors
/// When something cannot be started, or the appliance does not live to a good end.
pub fn run(binary: &Path, workers: u32, time: Duration) -> Result<Summary, BenchError> {
    tagwire_lab::require_tools(&["wrk", "h2load"])?;
    let lab = Lab::builder().build()?;
    let programs = Programs::prepare(&lab, binary, None, &traffic::FILES)?;
    let site = Site::make(programs.www())?;
    let run = lab.scratch().join("run");
    fs::create_dir(&run)?;
    chown(&run, Some(APPLIANCE_ID), Some(APPLIANCE_ID))?;
    let control = run.join("control");
    // New connections by the thousand a second, to one address and port.
    port_range(&lab, "1024 65535")?;
    let workers = workers.to_string();
    let options = ["--cache-size", CACHE, "--workers", &workers, "--control"];
    let options = [&options[..], &[control.to_str().ok_or("a path of UTF-8")?]].concat();
    let appliance = programs.start_tagwire(&lab, lab.pod(0), &options)?;
    Soak { lab: &lab, programs: &programs, site, tally: Tally::default(), appliance, control }
        .run(time)
}

struct Soak<'a> {
    lab: &'a Lab,
    programs: &'a Programs,
    site: Site,
    tally: Tally,
    appliance: LabProcess,
    control: PathBuf,
}

impl Soak<'_> {
    fn run(mut self, time: Duration) -> Result<Summary, BenchError> {
        let (lab, pid) = (self.lab, self.appliance.pid().ok_or("the appliance has ended")?);
        let start = Instant::now();
        let until = start + time;
        let samples = thread::scope(|scope| {
            let (site, tally) = (&self.site, &self.tally);
            let address = lab.pod(0).address();
            let server = SocketAddr::from((address, 80));
            // What cannot go on is a fault among the others.
            let told = |what: &str, result: Result<(), BenchError>| {
                if let Err(error) = result {
                    tally.fault(format!("{what}: {error}"));
                }
            };
            scope.spawn(move || told("the writer", site.change(until, tally).map_err(Into::into)));
            scope.spawn(move || told("wrk", traffic::wrk(lab, address, until, tally)));
            scope.spawn(move || told("h2load", traffic::h2load(lab, address, until, tally)));
            scope.spawn(move || {
                let all = || check(server, site, tally, until);
                told("the checkers", lab.client().run(all).map_err(Into::into));
            });
            watch(pid, start, until, tally)
        });
        let samples = samples.map_err(|error| format!("{error}: {}", self.appliance.log()))?;
        let took = start.elapsed();
        let status = self.settled()?;
        self.end()?;
        let (counts, faults) = (self.tally.counts(), self.tally.texts());
        let resident = resident(&samples, time);
        Ok(Summary { took, counts, faults, resident, status })
    }

    /// Waits until all connections are gone: then nothing is left of them.
    fn settled(&self) -> Result<Value, BenchError> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let status = self.programs.status(self.lab.pod(0), &self.control)?;
            let left = status["connections"].as_u64();
            if left == Some(0) {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.tally.fault(format!("{left:?} connections are left: {status}"));
                return Ok(status);
            }
            thread::sleep(SAMPLE_EVERY);
        }
    }

    fn end(&mut self) -> Result<(), BenchError> {
        self.appliance.signal(Signal::TERM)?;
        let status = self.appliance.wait_timeout(END)?;
        let log = self.appliance.log();
        if status.is_some_and(|status| status.success()) && !log.contains("panic") {
            return Ok(());
        }
        Err(format!("the appliance has not ended well: {status:?}: {log}").into())
    }
}

/// All checkers, in the namespace of the calling thread.
fn check(server: SocketAddr, site: &Site, tally: &Tally, until: Instant) {
    thread::scope(|scope| {
        for (large, count) in [(false, CHECKERS[0]), (true, CHECKERS[1])] {
            for number in 0..count {
                let seed = number << 1 | u64::from(large);
                scope.spawn(move || Checker::new(server, site, tally, seed).run(large, until));
            }
        }
    });
}

/// When memory was looked at, and what it was.
type Samples = Vec<(Duration, f64)>;

/// Looks at memory and tells how it goes, until the time comes.
fn watch(pid: u32, start: Instant, until: Instant, tally: &Tally) -> Result<Samples, BenchError> {
    let (mut samples, mut told, mut before) = (Samples::new(), start, Counts::default());
    while Instant::now() < until {
        thread::sleep(SAMPLE_EVERY.min(until.saturating_duration_since(Instant::now())));
        samples.push((start.elapsed(), machine::resident(pid)? as f64));
        if told.elapsed() >= TELL_EVERY {
            let counts = tally.counts();
            tell(start, told.elapsed(), &before, &counts, &samples);
            (told, before) = (Instant::now(), counts);
        }
    }
    Ok(samples)
}

fn tell(start: Instant, span: Duration, before: &Counts, now: &Counts, samples: &Samples) {
    let rate = |count: fn(&Counts) -> u64| (count(now) - count(before)) as f64 / span.as_secs_f64();
    println!(
        "  {:>5.0} s  checked {:>6.0}/s {:>6.1} MB/s  wrk {:>6.0}/s  h2load {:>6.0}/s  replaced {:>3.0}/s  \
         cut {:>3.0}/s  {:>6.1} MiB  {} faults",
        start.elapsed().as_secs_f64(),
        rate(|it| it.checked),
        rate(|it| it.octets) / 1e6,
        rate(|it| it.wrk),
        rate(|it| it.h2load),
        rate(|it| it.changed),
        rate(|it| it.cut),
        samples.last().map_or(f64::NAN, |(_, octets)| octets / f64::from(1 << 20)),
        now.faults,
    );
}

/// The medians of the first tenth of the second half and of the last tenth, and the most.
fn resident(samples: &Samples, time: Duration) -> [f64; 3] {
    let within = |from: f64, to: f64| {
        let (from, to) = (time.mul_f64(from), time.mul_f64(to));
        let those = samples.iter().filter(|(at, _)| (from..to).contains(at));
        median(those.map(|(_, octets)| *octets).collect())
    };
    let most = samples.iter().map(|(_, octets)| *octets).fold(0.0, f64::max);
    [within(0.5, 0.6), within(0.9, 2.0), most]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(resident: [f64; 3]) -> Summary {
        let counts =
            Counts { checked: 1, octets: 1, cut: 1, changed: 1, wrk: 1, h2load: 1, faults: 0 };
        let (took, faults, status) = (Duration::from_secs(100), Vec::new(), Value::Null);
        Summary { took, counts, faults, resident, status }
    }

    #[test]
    fn memory_is_compared_between_the_halves() {
        let mib = f64::from(1 << 20);
        let samples = (0..100).map(|at| (Duration::from_secs(at), at as f64)).collect();
        assert_eq!(resident(&samples, Duration::from_secs(100)), [54.5, 94.5, 99.0]);
        assert!(summary([50.0 * mib, 53.9 * mib, 60.0 * mib]).holds());
        assert!(!summary([50.0 * mib, 54.1 * mib, 60.0 * mib]).holds());
        assert!(summary([200.0 * mib, 209.0 * mib, 220.0 * mib]).holds());
        assert!(!summary([f64::NAN, 1.0, 1.0]).holds());
        let mut short = summary([50.0 * mib, 90.0 * mib, 90.0 * mib]);
        short.took = Duration::from_secs(20);
        assert!(short.holds() && !short.table().contains("MISSES"));
    }

    #[test]
    fn nothing_done_and_a_fault_are_no_success() {
        let mut idle = summary([1.0, 1.0, 1.0]);
        assert!(idle.table().contains("holds") && !idle.table().contains("MISSES"));
        idle.counts.h2load = 0;
        assert!(!idle.holds());
        let mut faulty = summary([1.0, 1.0, 1.0]);
        (faulty.counts.faults, faulty.faults) = (1, vec!["an octet".to_owned()]);
        assert!(!faulty.holds() && faulty.table().contains("an octet"));
    }
}
