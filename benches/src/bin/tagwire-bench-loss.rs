//! Measures goodput on bad lines, beside the kernel's TCP.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tagwire_benches::loss::cell::{Cell, Congestion, QUEUE, RATE};
use tagwire_benches::loss::report;
use tagwire_benches::loss::schedule::Plan;
use tagwire_benches::{BenchError, machine};

/// Measures goodput over lines that lose and reorder frames: Tagwire beside nginx on the kernel's TCP.
///
/// Downloads of 20 MB by curl in a lab on this machine, both servers with the same congestion control
/// over the same seeded wire of 100 Mbit/s. Needs root, nginx, curl and Linux 6.6 or later.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Options {
    /// The appliance
    #[arg(long, default_value = "target/release/tagwire")]
    binary: PathBuf,
    /// Measure only these cells: loss@rtt, reorder@rtt, fair@rtt
    #[arg(long, value_name = "CELL,...", value_delimiter = ',')]
    cells: Vec<Cell>,
    /// The congestion control of both
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_values = ["cubic", "bbr"])]
    congestion: Vec<Congestion>,
    /// Runs of each contender in each cell, with the seeds 1 to N
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    first_seed: u64,
    /// Seconds after which a download is cut, and its goodput what has arrived by then
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Labs at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    labs: u8,
    /// One seed, downloads cut after 5 seconds: to see that all works
    #[arg(long)]
    quick: bool,
    /// Where the figures go
    #[arg(long, default_value = "bench-results/bench-loss.json")]
    json: PathBuf,
    /// Fail if a target is missed
    #[arg(long)]
    strict: bool,
}

const EXAMPLES: &str = "Examples:
  tagwire-bench-loss                                      all cells, about 20 minutes
  tagwire-bench-loss --quick                              the same with one seed, coarse
  tagwire-bench-loss --cells 1%@20ms,reorder@20ms --congestion bbr
  tagwire-bench-loss --cells 1%@20ms --seeds 1 --first-seed 4   one run again

Cells: loss of 0, 0.1, 1, 3 and 10 % and `reorder` and `fair`, each with 1, 20 and 100 ms; with --cells
any others too. The table goes to standard output, progress to standard error.";

fn run(options: &Options) -> Result<bool, BenchError> {
    tagwire_lab::require_tools(&["nginx", "curl", "ss"])?;
    let help = Command::new(&options.binary).args(["serve", "--help"]).output();
    let help = help.map_err(|error| format!("{}: {error}", options.binary.display()))?;
    let has_option = String::from_utf8_lossy(&help.stdout).contains("--congestion");
    if !has_option {
        eprintln!("this tagwire has no option --congestion: what it uses is up to it");
    }
    let (seeds, limit) = if options.quick { (1, 5) } else { (options.seeds, options.limit) };
    let plan = Plan {
        tagwire: options.binary.clone(),
        has_option,
        cells: if options.cells.is_empty() { Cell::all() } else { options.cells.clone() },
        congestions: options.congestion.clone(),
        seeds: (options.first_seed..).take(seeds as usize).collect(),
        limit: Duration::from_secs(limit),
        share: Duration::from_secs(limit),
        labs: options.labs.into(),
    };
    let results = plan.run()?;
    println!("{}", report::table(&results));
    let cells: Vec<_> = results
        .iter()
        .map(|result| {
            json!({
                "name": result.cell.to_string(),
                "congestion": result.congestion,
                "ratio": result.ratio(),
                "target": result.target(),
                "holds": result.holds(),
                "tagwire": result.tagwire,
                "kernel": result.kernel,
            })
        })
        .collect();
    machine::write_json(
        &options.json,
        &json!({
            "line": { "bits_per_second": RATE, "queue_frames": QUEUE, "loss": "to the client" },
            "has_option_congestion": has_option,
            "limit_seconds": limit,
            "cells": cells,
        }),
    )?;
    println!("Every run is in {}.", options.json.display());
    Ok(results.iter().all(report::CellResult::holds))
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(holds) if holds || !options.strict => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("tagwire-bench-loss: a target is missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tagwire-bench-loss: {error}");
            ExitCode::from(2)
        }
    }
}
