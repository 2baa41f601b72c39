//! The cases that are measured in rounds, contender after contender.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tagwire_lab::{Lab, LabProcess};

use crate::BenchError;
use crate::contender::{Contender, Programs, SERVER_CPU};
use crate::load::{Wrk, WrkResult};
use crate::machine::{CpuTimes, Others};
use crate::report::median;

/// How often a round that others disturbed is repeated before it counts all the same.
const REPEATS: usize = 4;
/// So many undisturbed rounds make a median.
const ENOUGH: usize = 3;
/// Between a disturbed round and the next try.
const PATIENCE: Duration = Duration::from_millis(500);

/// A file, and how many ask for it at once.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What `--only` takes.
    pub name: &'static str,
    /// What the table says.
    pub title: &'static str,
    /// What is asked for.
    pub path: &'static str,
    /// Connections of the client.
    pub connections: u32,
    /// Who takes part.
    pub contenders: &'static [Contender],
}

/// All of them.
pub const CASES: [Case; 4] = [
    Case {
        name: "small",
        title: "1 KiB file, 32 connections",
        path: "/1k",
        connections: 32,
        contenders: &[Contender::Tagwire, Contender::Nginx, Contender::Reflector],
    },
    Case {
        name: "latency",
        title: "1 KiB file, 1 connection",
        path: "/1k",
        connections: 1,
        contenders: &Contender::ALL,
    },
    Case {
        name: "medium",
        title: "100 KiB file, 8 connections",
        path: "/100k",
        connections: 8,
        contenders: &[Contender::Tagwire, Contender::Nginx],
    },
    Case {
        name: "large",
        title: "100 MiB file, 4 connections",
        path: "/100m",
        connections: 4,
        contenders: &[Contender::Tagwire, Contender::Nginx],
    },
];

/// One round of one contender.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Round {
    /// What the client counted.
    pub client: WrkResult,
    /// Time that the server's CPU was not idle, in microseconds.
    pub server_cpu_us: u64,
    /// The same as the kernel's timer tick has sampled it (user, nice, system, irq, softirq).
    pub sampled_cpu_us: u64,
    /// Others were at work on the machine, however often it was repeated.
    pub disturbed: bool,
}

impl Round {
    /// The server's whole cost of a request in microseconds.
    pub fn cpu_per_request(&self) -> f64 {
        self.server_cpu_us as f64 / self.client.requests.max(1) as f64
    }

    /// The server's whole cost of a million octets in microseconds.
    pub fn cpu_per_megabyte(&self) -> f64 {
        self.server_cpu_us as f64 / (self.client.bytes.max(1) as f64 / 1e6)
    }

    /// Requests in a second.
    pub fn requests_per_second(&self) -> f64 {
        self.client.requests as f64 * 1e6 / self.client.micros.max(1) as f64
    }

    /// Octets in a second.
    pub fn bytes_per_second(&self) -> f64 {
        self.client.bytes as f64 * 1e6 / self.client.micros.max(1) as f64
    }

    /// Median latency in microseconds.
    pub fn p50(&self) -> f64 {
        self.client.p50
    }
}

/// The rounds of one contender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Series {
    /// Whose.
    pub contender: Contender,
    /// In the order of time.
    pub rounds: Vec<Round>,
}

impl Series {
    /// The rounds that count: those that others did not disturb, unless there are hardly any.
    pub fn counting(&self) -> Vec<&Round> {
        let quiet: Vec<&Round> = self.rounds.iter().filter(|round| !round.disturbed).collect();
        if quiet.len() >= ENOUGH { quiet } else { self.rounds.iter().collect() }
    }

    /// The median over the rounds that count of what `figure` takes from each.
    pub fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(self.counting().into_iter().map(figure).collect())
    }

    /// Whether disturbed rounds had to count.
    pub fn is_disturbed(&self) -> bool {
        self.counting().iter().any(|round| round.disturbed)
    }
}

/// What came of a case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// What the table says.
    pub title: String,
    /// Rounds that were measured again because others were at work.
    pub repeated: usize,
    /// A series for each contender.
    pub series: Vec<Series>,
}

impl CaseResult {
    /// The series of a contender, if it took part.
    pub fn of(&self, contender: Contender) -> Option<&Series> {
        self.series.iter().find(|series| series.contender == contender)
    }
}

/// The servers, running.
#[derive(Debug)]
pub struct Arena<'a> {
    lab: &'a Lab,
    wrk: Wrk<'a>,
    servers: Vec<LabProcess>,
}

impl<'a> Arena<'a> {
    /// Starts the contenders of `cases`. Those that are not measured are idle.
    ///
    /// # Errors
    /// When one does not start.
    pub fn open(lab: &'a Lab, programs: &Programs, cases: &[Case]) -> Result<Self, BenchError> {
        let wanted = |contender| cases.iter().any(|case| case.contenders.contains(&contender));
        let servers = Contender::ALL
            .into_iter()
            .filter(|contender| wanted(*contender))
            .map(|contender| programs.start(lab, contender))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { lab, wrk: Wrk::new(lab)?, servers })
    }

    /// Measures a case: each contender once in each round.
    ///
    /// # Errors
    /// When a contender does not answer.
    pub fn measure(
        &self,
        case: &Case,
        rounds: usize,
        time: Duration,
    ) -> Result<CaseResult, BenchError> {
        let mut series: Vec<Series> = case
            .contenders
            .iter()
            .map(|&contender| Series { contender, rounds: Vec::with_capacity(rounds) })
            .collect();
        // Caches filled, neighbours known, memory touched.
        for contender in case.contenders {
            self.load(case, *contender, Duration::from_secs(1))?;
        }
        let mut repeated = 0;
        for number in 1..=rounds {
            for one in &mut series {
                let round = self.round(case, one.contender, time, &mut repeated)?;
                println!(
                    "  {} {number}/{rounds} {:<20} {:>9.0}/s {:>9.2} us CPU/request (sampled {:.2})  p50 {:>6.0} us{}",
                    case.name,
                    one.contender.name(),
                    round.requests_per_second(),
                    round.cpu_per_request(),
                    round.sampled_cpu_us as f64 / round.client.requests.max(1) as f64,
                    round.p50(),
                    if round.disturbed { "  (disturbed)" } else { "" },
                );
                one.rounds.push(round);
            }
        }
        let (name, title) = (case.name.to_owned(), case.title.to_owned());
        Ok(CaseResult { name, title, repeated, series })
    }

    fn load(
        &self,
        case: &Case,
        contender: Contender,
        time: Duration,
    ) -> Result<WrkResult, BenchError> {
        self.wrk.run(contender.address(self.lab), case.path, case.connections, time)
    }

    fn round(
        &self,
        case: &Case,
        contender: Contender,
        time: Duration,
        repeated: &mut usize,
    ) -> Result<Round, BenchError> {
        let ours = self.own_processes();
        for attempt in 0.. {
            let others = Others::look(&ours)?;
            let start = Instant::now();
            let (begin, before) = (Instant::now(), CpuTimes::read(SERVER_CPU)?);
            let client = self.load(case, contender, time)?;
            let (wall, after) = (begin.elapsed(), CpuTimes::read(SERVER_CPU)?);
            let disturbed = Others::look(&ours)?.disturbed(&others, start.elapsed());
            if !disturbed || attempt == REPEATS {
                let busy = wall.saturating_sub(after.unused.saturating_sub(before.unused));
                let sampled = after.sampled.saturating_sub(before.sampled);
                return Ok(Round {
                    client,
                    server_cpu_us: busy.as_micros() as u64,
                    sampled_cpu_us: sampled.as_micros() as u64,
                    disturbed,
                });
            }
            *repeated += 1;
            std::thread::sleep(PATIENCE);
        }
        unreachable!("the loop ends at the latest with the last repeat")
    }

    /// This process and the servers with their workers.
    fn own_processes(&self) -> HashSet<u32> {
        let servers = self.servers.iter().filter_map(LabProcess::pid);
        let mut ours: HashSet<u32> = servers.collect();
        for pid in ours.clone() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            ours.extend(
                children
                    .unwrap_or_default()
                    .split_whitespace()
                    .filter_map(|p| p.parse::<u32>().ok()),
            );
        }
        ours.insert(std::process::id());
        ours
    }
}
