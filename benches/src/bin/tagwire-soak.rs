//! Mixed traffic for a long time: no error, no wrong octet, flat memory.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tagwire_benches::soak;

/// Keeps the appliance under mixed traffic, in a lab on this machine, and checks every octet.
///
/// Needs root.
#[derive(Debug, Parser)]
struct Options {
    /// The appliance
    #[arg(long, default_value = "target/release/tagwire")]
    binary: PathBuf,
    /// How long
    #[arg(long, env = "SOAK_SECONDS", default_value_t = 3600)]
    #[arg(value_parser = clap::value_parser!(u64).range(20..))]
    seconds: u64,
    /// The appliance's workers
    #[arg(long, default_value_t = 1)]
    workers: u32,
}

fn main() -> ExitCode {
    let Options { binary, seconds, workers } = Options::parse();
    match soak::run(&binary, workers, Duration::from_secs(seconds)) {
        Ok(summary) => {
            println!("{}", summary.table());
            if summary.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("tagwire-soak: {error}");
            ExitCode::from(2)
        }
    }
}
