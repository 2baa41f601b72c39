//! `tagwire`: reads the command line, starts the log, does the one thing that was asked.
//!
//! Exit codes: 0 done, 1 it could not be done, 2 bad usage, 3 the interface was lost while serving. Each
//! failure is one line on stderr.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use tagwire::appliance;
use tagwire::cli::{self, CliError, Command};
use tagwire::config::{Config, LogFormat};
use tagwire::control;
use tagwire::doctor;
use tagwire::status;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
const LINK_LOST: u8 = 3;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Command::Serve(config)) => {
            start_log(&config);
            match appliance::run(&config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    let code = if error.is_link_lost() { LINK_LOST } else { FAILED };
                    // Who reads the log by lines of JSON finds no other ones.
                    if config.log_format == LogFormat::Json && tracing::enabled!(Level::ERROR) {
                        tracing::error!("{error}");
                        return ExitCode::from(code);
                    }
                    fail(code, &error)
                }
            }
        }
        Ok(Command::Doctor { config, json }) => {
            let (text, fine) = doctor::examine(&config, json);
            let printed = print(&text);
            if fine { printed } else { ExitCode::from(FAILED) }
        }
        Ok(Command::Check { file, found: (options, vlans, sites) }) => {
            let vlans = if vlans > 0 { format!("{vlans} VLANs, ") } else { String::new() };
            print(&format!("{}: fine: {options} options, {vlans}{sites} sites\n", file.display()))
        }
        Ok(Command::Status { control, json }) => match status::ask(&control, json) {
            Ok(answer) => print(&answer),
            Err(error) => fail(FAILED, &error),
        },
        Ok(Command::Reload { control }) => match control::reload(&control) {
            Ok(done) => print(&done),
            Err(error) => fail(FAILED, &error),
        },
        Ok(Command::LameDuck { control, on, wait }) => match control::lame_duck(&control, on) {
            Ok(done) => {
                let printed = print(&done);
                thread::sleep(wait);
                printed
            }
            Err(error) => fail(FAILED, &error),
        },
        Err(CliError::Asked(text)) => print(&text),
        Err(CliError::Usage(line)) => fail(BAD_USAGE, &line),
    }
}

fn start_log(config: &Config) {
    let filter = config.log_filter.clone();
    let log = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(io::stderr)
        // It says so by eprintln!, which panics when nobody reads stderr any more: the line is lost, and
        // no thread with it.
        .log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => log.with_ansi(false).finish().with(filter).init(),
        LogFormat::Json => log.json().flatten_event(true).finish().with(filter).init(),
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough (`| head`) is no failure worth a word.
        Err(_) => ExitCode::from(FAILED),
    }
}

fn fail(code: u8, error: &impl Display) -> ExitCode {
    // Not eprintln!, which panics when stderr is closed; there is nobody left to tell then.
    let _ = writeln!(io::stderr(), "tagwire: error: {error}");
    ExitCode::from(code)
}
