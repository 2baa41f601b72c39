//! The cases that are measured in rounds, contender after contender.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tagwire_lab::{Lab, LabProcess};

use crate::BenchError;
use crate::contender::{Contender, Programs, SERVER_CPU};
use crate::load::{Ask, MANY, Steady, Wrk, WrkResult};
use crate::lone::raise_file_limit;
use crate::machine::{self, CpuTimes, Others};
use crate::pace::{self, CLIENT_CPU};
use crate::pauses::Watch;
use crate::report::median;

/// How often a round that others disturbed is repeated before it counts all the same.
const REPEATS: usize = 4;
/// So many undisturbed rounds make a median.
const ENOUGH: usize = 3;
/// Between a disturbed round and the next try.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is asked for, and by how many at once.
#[derive(Debug, Clone)]
pub struct Case {
    /// What `--only` takes.
    pub name: &'static str,
    /// What the table says.
    pub title: String,
    /// What is asked for.
    pub ask: Ask,
    /// Connections of the client.
    pub connections: u32,
    /// Who takes part.
    pub contenders: &'static [Contender],
    /// Requests in a second, where the client keeps to a rate.
    pub pace: Option<u64>,
    /// The server is new in each round, and the kernel has no file in memory.
    pub cold: bool,
    /// So many times nginx's requests per server-CPU second are wanted at least.
    pub least: Option<f64>,
}

impl Case {
    /// A case without peculiarities.
    pub fn new(
        name: &'static str,
        title: impl Into<String>,
        ask: Ask,
        connections: u32,
        contenders: &'static [Contender],
    ) -> Self {
        let title = title.into();
        Self { name, title, ask, connections, contenders, pace: None, cold: false, least: None }
    }
}

/// All that are no mix ([`crate::mixes`]).
pub fn cases() -> [Case; 4] {
    use Contender::{
        Nginx, Reflector, ReflectorBusyPoll, Tagwire, TagwireBusyPoll, TagwireLog, TagwirePoll,
    };
    let three = &[Tagwire, TagwirePoll, Nginx];
    let case = |name, title, file, connections, contenders| {
        Case::new(name, title, Ask::File(file), connections, contenders)
    };
    [
        case(
            "small",
            "1 KiB file, 32 connections",
            "/1k",
            32,
            &[Tagwire, TagwirePoll, TagwireLog, Nginx, Reflector],
        ),
        case(
            "latency",
            "1 KiB file, 1 connection",
            "/1k",
            1,
            &[Tagwire, TagwireBusyPoll, TagwirePoll, Nginx, Reflector, ReflectorBusyPoll],
        ),
        case("medium", "100 KiB file, 8 connections", "/100k", 8, three),
        case("large", "100 MiB file, 4 connections", "/100m", 4, three),
    ]
}

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

    /// Requests for each second of the server's whole cost.
    pub fn requests_per_cpu_second(&self) -> f64 {
        1e6 / self.cpu_per_request()
    }

    /// The server's whole cost of a million octets in microseconds.
    pub fn cpu_per_megabyte(&self) -> f64 {
        self.server_cpu_us as f64 / (self.client.bytes.max(1) as f64 / 1e6)
    }

    /// Requests in a second.
    pub fn requests_per_second(&self) -> f64 {
        self.client.requests_per_second()
    }

    /// Octets in a second.
    pub fn bytes_per_second(&self) -> f64 {
        self.client.bytes as f64 * 1e6 / self.client.micros.max(1) as f64
    }

    /// Median latency in microseconds.
    pub fn p50(&self) -> f64 {
        self.client.p50
    }

    /// The 99th percentile in microseconds.
    pub fn p99(&self) -> f64 {
        self.client.p99
    }

    /// The same without the machine's pauses; NaN where they were not watched.
    pub fn steady_p99(&self) -> f64 {
        self.client.steady.map_or(f64::NAN, |steady| steady.p99)
    }

    /// What a line about a round says of the machine's pauses.
    fn steadily(&self) -> String {
        self.client.steady.map_or(String::new(), |Steady { p99, touched }| {
            format!(", {p99:.0} us without the machine's pauses ({:.1} %)", touched * 100.0)
        })
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
    /// See [`Case::least`].
    pub least: Option<f64>,
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
    programs: &'a Programs,
    wrk: Wrk<'a>,
    servers: Vec<(Contender, LabProcess)>,
}

impl<'a> Arena<'a> {
    /// Starts the contenders of `cases`. Those that are not measured are idle.
    ///
    /// # Errors
    /// When one does not start.
    pub fn open(lab: &'a Lab, programs: &'a Programs, cases: &[Case]) -> Result<Self, BenchError> {
        // One for each connection of the client, and what a server has open beside them.
        let most = cases.iter().map(|case| u64::from(case.connections)).max().unwrap_or(0);
        raise_file_limit(most + 2_000)?;
        let wanted = |contender| cases.iter().any(|case| case.contenders.contains(&contender));
        let servers = Contender::ALL
            .into_iter()
            .filter(|contender| wanted(*contender))
            .map(|contender| Ok((contender, programs.start(lab, contender)?)))
            .collect::<Result<Vec<_>, BenchError>>()?;
        Ok(Self { lab, programs, wrk: Wrk::new(lab)?, servers })
    }

    /// Measures a case: each contender once in each round.
    ///
    /// # Errors
    /// When a contender does not answer.
    pub fn measure(
        &mut self,
        case: &Case,
        rounds: usize,
        time: Duration,
    ) -> Result<CaseResult, BenchError> {
        let mut series: Vec<Series> = case
            .contenders
            .iter()
            .map(|&contender| Series { contender, rounds: Vec::with_capacity(rounds) })
            .collect();
        for contender in case.contenders {
            self.warm(case, *contender)?;
        }
        let mut repeated = 0;
        for number in 1..=rounds {
            for one in &mut series {
                let round = self.round(case, one.contender, time, &mut repeated)?;
                println!(
                    "  {} {number}/{rounds} {:<20} {:>9.0}/s {:>9.2} us CPU/request (sampled {:.2})  p50 {:>6.0} us  \
                     p99 {:>6.0} us{}{}",
                    case.name,
                    one.contender.name(),
                    round.requests_per_second(),
                    round.cpu_per_request(),
                    round.sampled_cpu_us as f64 / round.client.requests.max(1) as f64,
                    round.p50(),
                    round.p99(),
                    round.steadily(),
                    if round.disturbed { "  (disturbed)" } else { "" },
                );
                one.rounds.push(round);
            }
        }
        let (name, title) = (case.name.to_owned(), case.title.clone());
        Ok(CaseResult { name, title, least: case.least, repeated, series })
    }

    /// Fills caches, makes neighbours known, touches memory.
    fn warm(&self, case: &Case, contender: Contender) -> Result<(), BenchError> {
        let mut asked = 0;
        loop {
            asked += self.load(case, contender, Duration::from_secs(1))?.requests;
            if case.ask != Ask::Many || case.cold || asked >= MANY {
                return Ok(());
            }
        }
    }

    /// The requests in a second that a contender can answer.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn capacity(&self, case: &Case, contender: Contender) -> Result<f64, BenchError> {
        self.warm(case, contender)?;
        Ok(self.load(case, contender, Duration::from_secs(2))?.requests_per_second())
    }

    fn load(
        &self,
        case: &Case,
        contender: Contender,
        time: Duration,
    ) -> Result<WrkResult, BenchError> {
        let (address, connections) = (contender.address(self.lab), case.connections);
        match (case.pace, case.ask) {
            (Some(rate), Ask::File(path)) => {
                let server = SocketAddr::from((address, 80));
                let client = || pace::run(server, path, connections as usize, rate, time);
                let watch = Watch::start(&[CLIENT_CPU, SERVER_CPU]);
                let paced = self.lab.client().run(client)??;
                Ok(paced.result(&watch.end()?))
            }
            _ => self.wrk.run(address, case.ask, connections, time),
        }
    }

    /// Ends a contender and starts it anew, with no file in the kernel's memory.
    fn begin_anew(&mut self, contender: Contender) -> Result<(), BenchError> {
        let running = self.servers.iter_mut().find(|(running, _)| *running == contender);
        let (_, process) = running.ok_or("it was never started")?;
        process.kill();
        machine::forget_files()?;
        *process = self.programs.start_again(self.lab, contender)?;
        Ok(())
    }

    fn round(
        &mut self,
        case: &Case,
        contender: Contender,
        time: Duration,
        repeated: &mut usize,
    ) -> Result<Round, BenchError> {
        for attempt in 0.. {
            if case.cold {
                self.begin_anew(contender)?;
            }
            let ours = self.own_processes();
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
        let servers = self.servers.iter().filter_map(|(_, process)| process.pid());
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
