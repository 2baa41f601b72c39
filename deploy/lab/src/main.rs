//! The lab, from the command line.
#![forbid(unsafe_code)]

mod demo;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::{Args, Parser, Subcommand};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tagwire_lab::{Lab, LabBuilder, LabError, LabResult, POD_INTERFACE, WireConfig};

/// A client, a node and its pods in network namespaces of this machine.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring a lab up: until Ctrl-C, or for as long as a command runs.
    Up {
        #[command(flatten)]
        plan: Plan,
        /// A command to run in the client's namespace; the lab goes down when it ends.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Run a command in a lab that is up.
    Exec {
        /// The lab's name, if several are up.
        #[arg(long, env = "TAGWIRE_LAB")]
        lab: Option<String>,
        /// cli, node, or pod0, pod1...
        place: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Remove what labs of dead processes left behind.
    Clean,
    /// Show the appliance at work in a lab: first ping, first page, a large download.
    Demo {
        #[command(flatten)]
        plan: Plan,
        /// The appliance: the `tagwire` binary.
        #[arg(long)]
        binary: PathBuf,
        /// Leave lab and appliance up until Ctrl-C.
        #[arg(long)]
        stay: bool,
    },
}

#[derive(Args)]
struct Plan {
    /// The VLAN; 0 for frames without a tag.
    #[arg(long, default_value_t = tagwire_lab::DEFAULT_VLAN)]
    vlan: u16,
    /// The VLAN of an 802.1ad tag around that one.
    #[arg(long)]
    outer_vlan: Option<u16>,
    /// How many pods.
    #[arg(long, default_value_t = 1)]
    pods: usize,
    /// Put a wire between client and node that does this to frames, such as
    /// seed=7,delay=10ms,loss=1%,rate=100mbit,down.loss=2%.
    #[arg(long)]
    wire: Option<WireConfig>,
    /// Give the client an IPv6 address too.
    #[arg(long)]
    ipv6: bool,
}

impl Plan {
    fn builder(self) -> LabBuilder {
        let mut builder = Lab::builder().vlan(Some(self.vlan).filter(|vlan| *vlan != 0));
        builder = builder.outer_vlan(self.outer_vlan).pods(self.pods);
        if let Some(wire) = self.wire {
            builder = builder.wire(wire);
        }
        if self.ipv6 { builder.ipv6() } else { builder }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = clean_up_on_signals().and_then(|()| run(cli.command));
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(command: Verb) -> LabResult<ExitCode> {
    match command {
        Verb::Up { plan, command } => up(plan, &command),
        Verb::Exec { lab, place, command } => {
            match tagwire_lab::exec(lab.as_deref(), &place, &command)? {}
        }
        Verb::Clean => {
            for name in tagwire_lab::clean()? {
                println!("removed {name}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Demo { plan, binary, stay } => {
            demo::run(plan.builder(), &binary, stay).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn up(plan: Plan, command: &[OsString]) -> LabResult<ExitCode> {
    let lab = plan.builder().build()?;
    if let Some((program, args)) = command.split_first() {
        let status = lab
            .client()
            .command(program)
            .args(args)
            .env("TAGWIRE_LAB", lab.name())
            .foreground()
            .status()?;
        return Ok(exit_code(status));
    }
    let exec = format!(
        "{} exec --lab {}",
        std::env::args().next().unwrap_or_else(|| "tagwire-lab".to_owned()),
        lab.name()
    );
    println!("The lab {} is up. Try, from other terminals:\n", lab.name());
    println!("  {exec} cli -- ip address");
    for (i, pod) in lab.pods().iter().enumerate() {
        println!("  {exec} pod{i} -- tcpdump -eni {POD_INTERFACE}");
        println!("  {exec} cli -- ping {}", pod.address());
    }
    println!("\nCtrl-C takes it down.");
    stay_up()
}

/// Sleeps until a signal ends the process.
fn stay_up() -> ! {
    to_be_ended(true);
    loop {
        thread::park();
    }
}

/// Whether a signal is the way this process is meant to end.
static TO_BE_ENDED: AtomicBool = AtomicBool::new(false);

fn to_be_ended(meant: bool) {
    TO_BE_ENDED.store(meant, Ordering::Relaxed);
}

/// The default action of these signals would leave the labs standing until the next
/// janitor comes.
fn clean_up_on_signals() -> LabResult<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| {
        LabError::new("cannot handle signals", error, "see `ulimit -n` and `ulimit -u`")
    })?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let meant = TO_BE_ENDED.load(Ordering::Relaxed);
            tagwire_lab::remove_own_and_exit(if meant { 0 } else { 128 + signal });
        }
    });
    Ok(())
}

/// The exit code of a command, as a shell reports it.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
