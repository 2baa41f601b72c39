//! Measures what attackers cost a client, beside the kernel's TCP.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tagwire_benches::attack::arena::Arena;
use tagwire_benches::attack::cases::{CASES, Cases, Scale};
use tagwire_benches::{BenchError, machine};

/// Measures a client while the segment is flooded: Tagwire beside nginx on the kernel's TCP.
///
/// In a lab on this machine: client and attacker on CPU 0, servers on CPU 1. Needs root, two
/// CPUs that do nothing else, nginx, wrk, curl, tcpdump and Linux 6.6 or later.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Options {
    /// The appliance
    #[arg(long, default_value = "target/release/tagwire")]
    binary: PathBuf,
    /// Only these cases
    #[arg(long, value_name = "CASE,...", value_delimiter = ',', value_parser = CASES)]
    only: Vec<String>,
    /// Small numbers and short times: to see that all works
    #[arg(long)]
    quick: bool,
    /// Frames in a second of the floods with a rate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Seconds that the client is measured each time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Rounds of each flood of SYNs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Slow connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: Option<u32>,
    /// MiB of memory that the slow connections may cost
    #[arg(long, value_name = "MIB", default_value_t = Scale::FULL.budget >> 20)]
    budget: u64,
    /// Where the figures go
    #[arg(long, default_value = "bench-results/bench-attack.json")]
    json: PathBuf,
    /// Fail if a target is missed
    #[arg(long)]
    strict: bool,
}

const EXAMPLES: &str = "Examples:
  tagwire-bench-attack                                  all cases, about 10 minutes
  tagwire-bench-attack --quick                          all cases, small: about a minute
  tagwire-bench-attack --only syn,syn-max --rounds 5
  tagwire-bench-attack --only slow --connections 10000

The table goes to standard output, progress to standard error.";

impl Options {
    fn scale(&self) -> Scale {
        let scale = if self.quick { Scale::QUICK } else { Scale::FULL };
        Scale {
            rounds: self.rounds.map_or(scale.rounds, usize::from),
            time: self.seconds.map_or(scale.time, Duration::from_secs),
            rate: self.rate.unwrap_or(scale.rate),
            connections: self.connections.map_or(scale.connections, |n| n as usize),
            budget: self.budget << 20,
            ..scale
        }
    }
}

fn run(options: &Options) -> Result<bool, BenchError> {
    tagwire_lab::require_tools(&["nginx", "wrk", "curl", "sha256sum", "tcpdump"])?;
    let mut arena = Arena::open(&options.binary, true, true)?;
    let mut cases = Cases::new(&mut arena, options.scale());
    let wanted = |case: &str| options.only.is_empty() || options.only.iter().any(|it| it == case);
    for case in CASES.into_iter().filter(|case| wanted(case)) {
        cases.run(case)?;
    }
    let results = cases.results;
    println!("{}", results.table());
    let targets = results.targets();
    machine::write_json(&options.json, &json!({ "targets": targets, "results": results }))?;
    println!("Every round is in {}.", options.json.display());
    Ok(targets.iter().all(|target| target.holds))
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(holds) if holds || !options.strict => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("tagwire-bench-attack: a target is missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tagwire-bench-attack: {error}");
            ExitCode::from(2)
        }
    }
}
