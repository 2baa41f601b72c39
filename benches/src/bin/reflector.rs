//! Runs the reflector that marks the limit.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tagwire_benches::reflector::{MAX_BODY, Reflector};
use tagwire_core::driver::DriverKind;
use tagwire_core::nic::Interface;
use tagwire_core::packet::Vlan;
use tagwire_core::worker::{Worker, WorkerConfig};

/// Answers every request with the same response and remembers nothing: the limit that a
/// server on a packet socket is measured against.
#[derive(Debug, Parser)]
struct Options {
    /// The interface to live on
    #[arg(long)]
    interface: String,
    /// The VLAN that frames carry
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..4095))]
    vlan: u16,
    /// The address to answer for
    #[arg(long)]
    address: Ipv4Addr,
    /// Octets of the response's body
    #[arg(long, value_parser = clap::value_parser!(u32).range(..=MAX_BODY as i64))]
    body: u32,
    /// Microseconds to look for frames before sleeping
    #[arg(long, default_value_t = 0)]
    busy_poll: u64,
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let interface = Interface::find(&options.interface)?;
    let config = WorkerConfig {
        interface: interface.clone(),
        vlans: [Vlan::Tagged(options.vlan)].into(),
        ring_slots: WorkerConfig::ring_slots(&interface),
        busy_poll: Duration::from_micros(options.busy_poll),
    };
    let worker = Worker::alone(&config, DriverKind::Uring)?;
    let body = options.body as usize;
    let mut reflector = Reflector::new(&interface, options.vlan, options.address, body);
    println!("ready");
    Ok(worker.run(&mut reflector)?)
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reflector: {error}");
            ExitCode::FAILURE
        }
    }
}
