//! What the filters of system calls forbid, tried from inside: a child process that has restricted
//! itself as the appliance does tries one thing, and its parent looks what became of it.
//!
//! What Landlock forbids harms a thread only, and is tried beside the code (`sandbox/files.rs`); so is
//! what is left of a ring and of a sending socket (`core`).
#![forbid(unsafe_code)]

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{getpid, test_kill_process};
use tagwire::privileges;
use tagwire::sandbox::{Paths, Role, Sandbox, SandboxMode};
use tagwire_core::driver::DriverKind;
use tagwire_core::lab::bpf::VlanShim;
use tempfile::TempDir;

/// What the child is to try, as which kind of thread, with which driver, and where it may read.
const PROBE: &str = "SANDBOX_PROBE";
const DRIVER: &str = "SANDBOX_DRIVER";
const ROLE: &str = "SANDBOX_ROLE";
const WWW: &str = "SANDBOX_WWW";

const SIGABRT: i32 = 6;
const SIGSYS: i32 = 31;

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
    /// It was the end of the process.
    Killed(i32),
}
use Outcome::{Done, Killed, Refused};

fn attempt(probe: &str, www: &Path) -> io::Result<()> {
    match probe {
        "read" => fs::read(www.join("page")).map(drop),
        "list" => fs::read_dir(www).map(|names| assert!(names.count() > 0)),
        "passwd" => fs::read("/etc/passwd").map(drop),
        "write" => File::create(www.join("new")).map(drop),
        "thread" => thread::Builder::new().spawn(|| {})?.join().map_err(|_| io::Error::other("?")),
        "inotify" => {
            let flags = rustix::fs::inotify::CreateFlags::empty();
            rustix::fs::inotify::init(flags).map(drop).map_err(io::Error::from)
        }
        "clock" => {
            thread::sleep(Duration::from_nanos(1));
            Ok(())
        }
        "panic" => match std::panic::catch_unwind(|| panic!("a probe")) {
            Err(_) => Ok(()),
        },
        "abort" => std::process::abort(),
        "socket" => rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)
            .map(drop)
            .map_err(io::Error::from),
        "packets" => rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None)
            .map(drop)
            .map_err(io::Error::from),
        "execute" => Err(Command::new("/bin/true").exec()),
        "process" => Command::new("/bin/true").spawn().map(drop),
        "trace" => ptrace::traceme().map_err(io::Error::from),
        "bpf" => VlanShim::attach(1, 1).map(drop),
        "namespace" => unshare(CloneFlags::CLONE_NEWUSER).map_err(io::Error::from),
        "ring" => io_uring::IoUring::new(2).map(drop),
        "signal" => test_kill_process(getpid()).map_err(io::Error::from),
        other => panic!("{other}?"),
    }
}

/// The child's side; no test by itself.
#[test]
fn probe() {
    let (Ok(probe), Ok(role), Some(www)) = (env::var(PROBE), env::var(ROLE), env::var_os(WWW))
    else {
        return;
    };
    let role = match &*role {
        "worker" => Role::Worker,
        "cold" => Role::Cold,
        "helper" => Role::Helper,
        "log" => Role::Log,
        other => panic!("{other}?"),
    };
    let poll = env::var(DRIVER).is_ok_and(|driver| driver == "poll");
    let driver = if poll { DriverKind::Poll } else { DriverKind::Uring };
    let www = Path::new(&www);
    privileges::give_up().unwrap();
    let paths = Paths { read: vec![www.to_owned()], ..Paths::default() };
    let sandbox = Sandbox::enter(SandboxMode::BestEffort, driver, &paths).unwrap();
    sandbox.narrow(role).unwrap();
    let done = attempt(&probe, www).is_ok();
    std::process::exit(if done { DONE } else { REFUSED });
}

const DONE: i32 = 40;
const REFUSED: i32 = 41;

fn run(probe: &str, role: &str, driver: DriverKind, www: &Path) -> (Outcome, String) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "probe", "--nocapture"])
        .env(PROBE, probe)
        .env(ROLE, role)
        .env(DRIVER, driver.to_string())
        .env(WWW, www)
        .env("RUST_BACKTRACE", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (outcome(output.status, &text), text)
}

fn outcome(status: ExitStatus, text: &str) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(DONE), _) => Done,
        (Some(REFUSED), _) => Refused,
        (_, Some(signal)) => Killed(signal),
        _ => panic!("{status}: {text}"),
    }
}

#[test]
fn what_no_thread_needs_kills_the_process() {
    let www = TempDir::new().unwrap();
    fs::write(www.path().join("page"), "").unwrap();
    let everyone = ["worker", "cold", "helper", "log"];
    let (all, none): (&[&str], &[&str]) = (&everyone, &[]);
    for (probe, may, otherwise) in [
        ("socket", none, Killed(SIGSYS)),
        ("packets", none, Killed(SIGSYS)),
        ("execute", none, Killed(SIGSYS)),
        ("process", none, Killed(SIGSYS)),
        ("trace", none, Killed(SIGSYS)),
        ("bpf", none, Killed(SIGSYS)),
        ("namespace", none, Killed(SIGSYS)),
        ("ring", none, Killed(SIGSYS)),
        ("signal", none, Killed(SIGSYS)),
        ("inotify", none, Killed(SIGSYS)),
        ("abort", none, Killed(SIGABRT)),
        ("clock", all, Done),
        ("panic", all, Done),
        ("read", all, Done),
        ("list", &["cold", "helper"], Killed(SIGSYS)),
        ("thread", &["cold", "helper"], Killed(SIGSYS)),
    ] {
        for (driver, role) in [DriverKind::Uring, DriverKind::Poll]
            .into_iter()
            .flat_map(|driver| everyone.map(|role| (driver, role)))
        {
            let expected = if may.contains(&role) { Done } else { otherwise };
            let (found, text) = run(probe, role, driver, www.path());
            assert_eq!(found, expected, "{probe} by {role} ({driver}): {text}");
            if probe == "panic" {
                assert!(text.contains("a probe") && text.contains("attempt"), "{role}: {text}");
            }
        }
    }
}

#[test]
fn both_layers_keep_writers_away() {
    let www = TempDir::new().unwrap();
    let landlock = fs::read_to_string("/sys/kernel/security/lsm");
    for (probe, role, expected) in [
        ("passwd", "worker", Refused),
        ("passwd", "cold", Refused),
        ("passwd", "helper", Refused),
        ("passwd", "log", Refused),
        ("write", "worker", Killed(SIGSYS)),
        ("write", "cold", Refused),
        ("write", "helper", Refused),
        ("write", "log", Killed(SIGSYS)),
    ] {
        if landlock.as_ref().is_ok_and(|modules| !modules.contains("landlock")) {
            eprintln!("SKIPPED (this kernel has no Landlock): {probe}");
            continue;
        }
        let (found, text) = run(probe, role, DriverKind::Uring, www.path());
        assert_eq!(found, expected, "{probe} by {role}: {text}");
    }
}
