//! Measures Tagwire beside nginx and beside the limit.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tagwire_benches::contender::{Contender, FILES, Programs, SERVER_CPU};
use tagwire_benches::lone::Lone;
use tagwire_benches::report::Results;
use tagwire_benches::rounds::{self, Arena, Case};
use tagwire_benches::{BenchError, machine, mixes};
use tagwire_lab::Lab;

/// Masks for receive-packet steering: the client's work on CPU 0, the servers' on CPU 1.
const CLIENT_CPUS: u64 = 1;
const SERVER_CPUS: u64 = 2;

/// Measures Tagwire beside nginx and beside the limit, in a lab on this machine.
///
/// Needs root, two CPUs, and a machine that does nothing else.
#[derive(Debug, Parser)]
struct Options {
    /// The appliance
    #[arg(long, default_value = "target/release/tagwire")]
    binary: PathBuf,
    /// The reflector
    #[arg(long, default_value = "target/release/reflector")]
    reflector: PathBuf,
    /// Rounds of each case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The same of a mix: with more, the start of many connections weighs less
    #[arg(long, default_value_t = mixes::SECONDS, value_parser = clap::value_parser!(u64).range(1..))]
    mix_seconds: u64,
    /// Measure only this, or these; mixes: sizes, many, cold, gzip, half and huge
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = [
        "small", "latency", "medium", "large", "idle", "rest", "start", "first", "mixes", "sizes",
        "many", "cold", "gzip", "half", "huge",
    ])]
    only: Vec<String>,
    /// Where the figures go
    #[arg(long, default_value = "bench-results/bench.json")]
    json: PathBuf,
    /// Fail if a target is missed
    #[arg(long)]
    strict: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        let given = |name: &str| self.only.iter().any(|only| only == name);
        self.only.is_empty() || given(name) || given(mixes::ALL) && mixes::NAMES.contains(&name)
    }
}

fn run(options: &Options) -> Result<bool, BenchError> {
    tagwire_lab::require_tools(&["wrk", "nginx", "curl", "ping", "chrt"])?;
    let lab = Lab::builder().pods(Contender::SPARE_POD + 1).build()?;
    lab.steer(CLIENT_CPUS, SERVER_CPUS)?;
    let files = [&FILES[..], &mixes::FILES].concat();
    let programs = Programs::prepare(&lab, &options.binary, Some(&options.reflector), &files)?;
    let programs = programs.pinned(SERVER_CPU);
    let mixes = mixes::cases(|name| options.wants(name));
    mixes::put_files(programs.www(), &mixes)?;
    let mut results = Results::default();

    let lone = Lone::new(&lab, &programs);
    if options.wants("start") {
        println!("start: from exec to the first octet");
        results.starts = Some(lone.starts()?);
    }
    if options.wants("first") {
        println!("first: the first ping, the first curl");
        results.firsts = Some(lone.firsts()?);
    }
    if options.wants("rest") {
        println!("rest: CPU and memory of an appliance that is left alone");
        results.rest = Some(lone.rest()?);
    }
    if options.wants("idle") {
        println!("idle: memory of idle connections");
        for congestion in ["cubic", "bbr"] {
            results.idle.push(lone.idle(congestion)?);
        }
    }
    let cases: Vec<Case> =
        rounds::cases().into_iter().filter(|case| options.wants(case.name)).collect();
    let all = [cases, mixes].concat();
    let mut arena = Arena::open(&lab, &programs, &all)?;
    let rounds = options.rounds as usize;
    for mut case in all {
        println!("{}: {}", case.name, case.title);
        let mix = case.least.is_some();
        let rounds = if mix { rounds.min(mixes::ROUNDS) } else { rounds };
        let time = Duration::from_secs(if mix { options.mix_seconds } else { options.seconds });
        if case.name == "half" {
            let half = arena.capacity(&case, Contender::Nginx)? / 2.0;
            println!("  {half:.0} requests/s, half of what nginx can answer");
            case.pace = Some(half as u64);
        }
        results.cases.push(arena.measure(&case, rounds, time)?);
    }

    println!("{}", results.table());
    machine::write_json(
        &options.json,
        &json!({ "targets": results.targets(), "results": results }),
    )?;
    println!("Every round is in {}.", options.json.display());
    Ok(results.targets().iter().all(|target| target.holds))
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(holds) if holds || !options.strict => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("tagwire-bench: a target is missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tagwire-bench: {error}");
            ExitCode::from(2)
        }
    }
}
