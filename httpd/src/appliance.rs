//! `tagwire serve`: checks, opens, starts, and ends in order.
//!
//! Everything that can be refused comes first and fails with one line, before anything is
//! served: interface, packet sockets, io_uring, www-root, control socket.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;

use futures_channel::oneshot;
use rustix::io::Errno;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tagwire_core::clock;
use tagwire_core::error::OpenError;
use tagwire_core::nic::Interface;
use tagwire_core::packet::Vlan;
use tagwire_core::waker::Waker;
use tagwire_core::worker::{Worker, WorkerConfig};
use tagwire_netstack::{Instant, MacAddr, Offload, Stack, TcpConfig, VlanStack};

use crate::cache::Cache;
use crate::cold::{ColdConfig, ColdError, ColdSide, StatusSource};
use crate::config::Config;
use crate::net::worker::{HttpWorker, Message};
use crate::site::Site;

/// The smallest MTU that is worth serving on: what every IPv4 host accepts (RFC 791 3.1).
const MIN_MTU: u16 = 576;

/// Why the appliance did not start, or ended; the text says what to do.
#[derive(Debug)]
pub enum StartError {
    /// Interface, sockets or rings.
    Open(OpenError),
    /// www-root, control socket or the cold side's runtime.
    Cold(ColdError),
    /// The interface's MTU is too small to serve anything.
    Mtu(String, u16),
    /// The system's random numbers, signals or threads.
    System(&'static str, io::Error),
    /// The packet loop failed while serving.
    Loop(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Cold(error) => error.fmt(f),
            Self::Mtu(name, mtu) => write!(
                f,
                "interface {name} has an MTU of {mtu}; raise it to 1500 (at least {MIN_MTU}) \
                 with 'ip link set {name} mtu 1500'"
            ),
            Self::System(what, error) => {
                write!(f, "{what} cannot be had ({error}); check the container's limits")
            }
            Self::Loop(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => f
                .write_str(
                    "the interface is gone: it was deleted or moved away; attach it again, then \
                     restart (a supervisor does by itself)",
                ),
            Self::Loop(error) => {
                write!(f, "the packet loop failed ({error}); restart, and check the kernel's log")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Reaches the worker from other threads.
#[derive(Clone)]
struct WorkerHandle {
    messages: mpsc::Sender<Message>,
    waker: Waker,
}

impl WorkerHandle {
    fn tell(&self, message: Message) {
        // A worker that has ended needs to be told nothing.
        let _ = self.messages.send(message);
        self.waker.wake();
    }
}

impl StatusSource for WorkerHandle {
    fn request(&self, reply: oneshot::Sender<Value>) {
        self.tell(Message::Status(reply));
    }
}

/// Serves until SIGTERM or SIGINT, then finishes what is being sent and returns.
///
/// # Errors
/// [`StartError`]; nothing was served then, except for [`StartError::Loop`].
pub fn run(config: &Config) -> Result<(), StartError> {
    let interface = Interface::find(&config.interface).map_err(StartError::Open)?;
    if interface.mtu < MIN_MTU {
        return Err(StartError::Mtu(interface.name, interface.mtu));
    }
    let worker = Worker::alone(&WorkerConfig {
        interface: interface.clone(),
        vlan: config.vlan.map_or(Vlan::Untagged, Vlan::Tagged),
        ring_slots: WorkerConfig::ring_slots(&interface),
        busy_poll: config.busy_poll,
    })
    .map_err(StartError::Open)?;

    let (messages, inbox) = mpsc::channel();
    let handle = WorkerHandle { messages, waker: worker.waker() };
    let cache = Arc::new(Cache::new(config.cache_size));
    let cold = ColdSide::start(ColdConfig {
        www_root: config.www_root.clone(),
        control: config.control.clone(),
        status: Arc::new(handle.clone()),
        cache: Arc::clone(&cache),
    })
    .map_err(StartError::Cold)?;
    let signals = watch_signals(handle)?;

    let waker = worker.waker();
    let site = Site::new(cache, cold.handle(), Arc::new(move || waker.wake()));
    let now = Instant::from_nanos(clock::now().0);
    let stack = Stack::new(stack_config(config, &interface)?, now);
    let mut machine = HttpWorker::new(
        stack,
        Rc::new(site),
        config.port,
        inbox,
        worker.counters(),
        identity(config, &interface),
        now,
    );
    tracing::info!(
        interface = interface.name,
        mac = %MacAddr(interface.mac),
        vlan = config.vlan.unwrap_or(0),
        address = %config.address,
        port = config.port,
        www_root = %config.www_root.display(),
        driver = "io_uring",
        "ready"
    );
    let served = worker.run(&mut machine).map_err(StartError::Loop);
    signals.close();
    // Its tasks go before the cold side that they may wait for.
    drop(machine);
    cold.stop();
    served?;
    tracing::info!("stopped");
    Ok(())
}

fn stack_config(
    config: &Config,
    interface: &Interface,
) -> Result<tagwire_netstack::Config, StartError> {
    let mut secret = [0; 16];
    let mut filled = 0;
    while filled < secret.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut secret[filled..], flags)
            .map_err(|error| StartError::System("random numbers", error.into()))?;
    }
    Ok(tagwire_netstack::Config {
        mac: MacAddr(interface.mac),
        vlan: config.vlan.and_then(VlanStack::tagged).unwrap_or(VlanStack::UNTAGGED),
        pcp: 0,
        mtu: interface.mtu,
        addresses: vec![config.address.cidr().into()],
        gateway: config.gateway,
        gateway6: None,
        slaac: false,
        stable_secret: None,
        secret,
        offload: Offload::FULL,
        tcp: TcpConfig::default(),
    })
}

/// What does not change about this process, for `status`.
fn identity(config: &Config, interface: &Interface) -> Value {
    json!({
        "pid": std::process::id(),
        "interface": interface.name,
        "mac": MacAddr(interface.mac).to_string(),
        "mtu": interface.mtu,
        "vlan": config.vlan,
        "address": config.address.to_string(),
        "gateway": config.gateway,
        "port": config.port,
        "www_root": config.www_root,
        "io": "io_uring",
    })
}

/// Starts the thread that turns SIGTERM and SIGINT into an orderly end.
fn watch_signals(worker: WorkerHandle) -> Result<signal_hook::iterator::Handle, StartError> {
    let failed = |error| StartError::System("signals", error);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let handle = signals.handle();
    thread::Builder::new()
        .name("tagwire-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                tracing::info!(signal, "shutting down: finishing what is being sent");
                worker.tell(Message::Drain);
            }
        })
        .map_err(failed)?;
    Ok(handle)
}
