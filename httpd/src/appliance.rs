//! `tagwire serve`: checks, opens, starts, and ends in order.
//!
//! Everything that can be refused comes first and fails with one line, before anything is
//! served: interface, packet sockets, io_uring or what does without, www-root, control socket. What
//! needs a capability is open before there is a second thread; then they are given up.

use std::fmt;
use std::io;
use std::iter;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use futures_channel::oneshot;
use serde_json::{Map, Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;
use tagwire_core::clock;
use tagwire_core::driver::DriverKind;
use tagwire_core::error::OpenError;
use tagwire_core::nic::Interface;
use tagwire_core::packet::{Steering, Vlan};
use tagwire_core::refusal;
use tagwire_core::waker::Waker;
use tagwire_core::worker::{Port, Worker, WorkerConfig};
use tagwire_netstack::{Instant, IpCidr, MacAddr, Offload, Stack, TcpConfig, VlanStack};

use crate::access_log::{AccessLog, AccessLogError, Log, Reopener, Target};
use crate::cache::Cache;
use crate::cold::{
    self, AdminListener, Appliance, ColdConfig, ColdError, ColdHandle, ColdSide, Supervisor,
};
use crate::config::Config;
use crate::content::Content;
use crate::driver::Driver;
use crate::health::{Health, Notice, Phase};
use crate::interfaces::{Interfaces, Meter};
use crate::limits::{COMPARISON_PATIENCE, Limits, MAX_TURNED_AWAY};
use crate::memory_limit::{self, Shortage};
use crate::net::admission::{Census, Door};
use crate::net::gather::Part;
use crate::net::link::{Link, LinkEnd};
use crate::net::post::Post;
use crate::net::syn_flood::SynFlood;
use crate::net::worker::{HttpWorker, Message, Parts, Together};
use crate::privileges::{self, Lack};
use crate::reload::Reloader;
use crate::sandbox::{Paths, Role, Sandbox, SandboxError};
use crate::site::{SiteError, Sites};
use crate::vlan::{VlanConfig, ids};

/// Why the appliance did not start, or ended; the text says what to do.
#[derive(Debug)]
pub enum StartError {
    /// Interface, sockets or rings.
    Open(OpenError),
    /// The capability for packet sockets.
    Lack(Lack),
    /// Capabilities are kept against our will.
    Kept(io::Error),
    /// The sandbox that there must be.
    Sandbox(SandboxError),
    /// www-root.
    Site(SiteError),
    /// Control socket or the cold side's runtime.
    Cold(ColdError),
    /// The access log.
    AccessLog(AccessLogError),
    /// The limit of memory.
    Memory(Shortage),
    /// The interface's MTU is smaller than what is needed.
    Mtu(String, u16, u16),
    /// The system's random numbers, signals or threads.
    System(&'static str, io::Error),
    /// The packet loop failed while serving.
    Loop(io::Error),
    /// The interface of this name was lost while serving.
    Link(String, LinkEnd),
}

impl StartError {
    /// Whether what ended is the interface, of which a supervisor may know more than we do.
    pub fn is_link_lost(&self) -> bool {
        matches!(self, Self::Link(..))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error @ OpenError::Uring(_)) => {
                write!(f, "{error}; --driver poll does without")
            }
            Self::Open(error) => error.fmt(f),
            Self::Lack(lack) => lack.fmt(f),
            Self::Kept(error) => write!(
                f,
                "the capabilities cannot be given up ({error}); a seccomp profile must allow capset \
                 and prctl"
            ),
            Self::Sandbox(error) => error.fmt(f),
            Self::Site(error) => error.fmt(f),
            Self::Cold(error) => error.fmt(f),
            Self::AccessLog(error) => error.fmt(f),
            Self::Memory(shortage) => shortage.fmt(f),
            Self::Mtu(name, mtu, needed) => write!(
                f,
                "interface {name} has an MTU of {mtu} and needs {needed}; raise it with \
                 'ip link set {name} mtu {}'",
                needed.max(&1500)
            ),
            Self::System(what, error) => {
                write!(f, "{what} cannot be had ({error}); check the container's limits")
            }
            Self::Link(name, LinkEnd::Gone) => write!(
                f,
                "interface {name} is gone: it was deleted, by itself or with its master, or moved away; \
                 attach it again and restart; Multus does so for a new pod, not for a container of the \
                 old one"
            ),
            Self::Link(name, LinkEnd::Replaced) => write!(
                f,
                "interface {name} was deleted and another one has its name: that needs new sockets, and \
                 CAP_NET_RAW to open them, which is given up; restart (a supervisor does by itself)"
            ),
            Self::Loop(error) => {
                write!(f, "the packet loop failed ({error}); restart, and check the kernel's log")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Reaches the workers from other threads.
#[derive(Clone)]
struct Crew {
    workers: Arc<[(mpsc::Sender<Message>, Waker)]>,
}

impl Crew {
    /// Tells each worker, in order.
    fn tell(&self, messages: impl Iterator<Item = Message>) {
        for ((inbox, waker), message) in self.workers.iter().zip(messages) {
            // A worker that has ended needs to be told nothing.
            let _ = inbox.send(message);
            waker.wake();
        }
    }
}

/// What the control socket's commands and signals reach.
struct Controls {
    crew: Crew,
    reloader: Arc<Reloader>,
    health: Arc<Health>,
    served: Arc<Mutex<Arc<Sites>>>,
    drain: Duration,
    /// Who waits for what is preloaded.
    go_on: mpsc::Sender<GoOn>,
}

impl Controls {
    /// Ends what is served: in order at the first time, at once at the second.
    fn end(&self, signal: i32) {
        if self.health.drain() {
            tracing::warn!(signal, "ending at once: what is being sent is cut off");
            self.crew.tell(iter::repeat_with(|| Message::End));
        } else {
            tracing::info!(signal, "shutting down: finishing what is being sent");
            self.crew.tell(iter::repeat_with(|| Message::Drain(self.drain)));
            // Nobody waits who serves already.
            let _ = self.go_on.send(GoOn::End);
        }
    }
}

impl Appliance for Controls {
    fn status(&self, reply: oneshot::Sender<Value>) {
        self.crew.tell(Part::for_each(self.crew.workers.len(), reply).map(Message::Status));
    }

    fn reload(&self, reply: oneshot::Sender<Result<usize, String>>) {
        self.reloader.request(reply);
    }

    fn lame_duck(&self, on: bool) -> Result<(), &'static str> {
        if self.health.phase() == Phase::Draining {
            return Err("it is shutting down: no connection is kept, and no new one taken");
        }
        if self.health.set_lame_duck(on) {
            match on {
                true => tracing::info!("lame duck: not ready, each answer ends its connection"),
                false => tracing::info!("lame duck no more: connections are kept"),
            }
        }
        self.crew.tell(iter::repeat_with(|| Message::LameDuck(on)));
        Ok(())
    }

    fn is_lame_duck(&self) -> bool {
        self.health.is_lame_duck()
    }

    fn sites(&self) -> Arc<Sites> {
        Arc::clone(&self.served.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn beat(&self) {
        for ((inbox, waker), beat) in self.crew.workers.iter().zip(self.health.beats()) {
            if let Some(beat) = beat {
                // A worker that has ended is not asked whether it turns.
                let _ = inbox.send(Message::Beat(beat));
                waker.wake();
            }
        }
    }
}

/// Ends all workers when one of them does, however it ended.
struct EndsAll(Crew);

impl Drop for EndsAll {
    fn drop(&mut self) {
        self.0.tell(iter::repeat_with(|| Message::End));
    }
}

/// What ends the wait for what is preloaded.
#[derive(Debug, PartialEq, Eq)]
enum GoOn {
    Serve,
    End,
}

/// Serves until SIGTERM or SIGINT, then finishes what is being sent and returns.
///
/// # Errors
/// [`StartError`]; nothing was served then, except for [`StartError::Loop`] and [`StartError::Link`].
pub fn run(config: &Config) -> Result<(), StartError> {
    let interface = Interface::find(&config.interface).map_err(StartError::Open)?;
    let networks: Vec<(&VlanConfig, u16)> = config
        .vlans
        .iter()
        .map(|vlan| mtu(vlan, &interface).map(|mtu| (vlan, mtu)))
        .collect::<Result<_, _>>()?;
    match Shortage::find(memory_limit::limit(), memory_limit::need(config)) {
        Some(shortage) if shortage.is_fatal() => return Err(StartError::Memory(shortage)),
        Some(shortage) => tracing::warn!("{shortage}"),
        None => {}
    }
    let steering = Steering::new(config.workers, u32::from_ne_bytes(random()?));
    let filter: Vec<Vlan> = config.vlans.iter().map(VlanConfig::filter).collect();
    privileges::raise();
    let ports = Port::open(
        &WorkerConfig {
            interface: interface.clone(),
            vlans: filter.clone().into(),
            ring_slots: WorkerConfig::ring_slots(&interface),
            busy_poll: config.busy_poll,
        },
        &steering,
    )
    .map_err(|error| match error {
        OpenError::Capability => StartError::Lack(Lack::find()),
        error => StartError::Open(error),
    })?;
    // Files are opened without them, too: what root may read by its capabilities only is found at
    // the start, not at a reload.
    privileges::give_up().map_err(StartError::Kept)?;
    // What counts is what is allowed without them.
    let driver = config
        .driver
        .decide(refusal::probe)
        .map_err(|refusal| StartError::Open(OpenError::Uring(refusal)))?;

    let wakers: Vec<Waker> = ports.iter().map(Port::waker).collect();
    let (senders, inboxes): (Vec<_>, Vec<_>) = ports.iter().map(|_| mpsc::channel()).unzip();
    let crew = Crew { workers: senders.into_iter().zip(wakers.iter().cloned()).collect() };
    let cache = Cache::new(config.cache_size).with_download_memory(config.download_memory);
    let cache = Arc::new(cache);
    let census = Arc::new(Census::default());
    let sites = Arc::new(Sites::open(&config.sites, None).map_err(StartError::Site)?);
    let access_log = AccessLog::open(&config.access_log).map_err(StartError::AccessLog)?;
    let control = config.control.as_deref().map(cold::Listener::bind).transpose();
    let control = control.map_err(StartError::Cold)?;
    let admin = config.admin.map(AdminListener::bind).transpose().map_err(StartError::Cold)?;
    let (health, notices) = Health::new(config.workers);
    let supervisor = Supervisor::connect(notices);
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGXFSZ])
        .map_err(|error| StartError::System("signals", error))?;
    // All that needs more is open, and there is one thread.
    let sandbox = Sandbox::enter(config.sandbox, driver.kind, &paths(config));
    let sandbox = sandbox.map_err(StartError::Sandbox)?;
    let (cold_handle, orders) = cold::orders();
    let served = Arc::new(Mutex::new(Arc::clone(&sites)));
    let (all, loads, now_served) = (crew.clone(), cold_handle.clone(), Arc::clone(&served));
    let serve = move |sites: &Arc<Sites>, limits| {
        all.tell(iter::repeat_with(|| Message::Settings(Arc::clone(sites), limits)));
        loads.serve(sites);
        *now_served.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(sites);
    };
    let reloader =
        Reloader::new(config.clone(), Arc::clone(&sites), sandbox, Arc::clone(&health), serve);
    let (go_on, waits) = mpsc::channel();
    let controls = Arc::new(Controls {
        crew: crew.clone(),
        reloader: Arc::new(reloader),
        health: Arc::clone(&health),
        served,
        drain: config.drain,
        go_on: go_on.clone(),
    });
    let cold = ColdSide::start(ColdConfig {
        control,
        admin,
        health: (Arc::clone(&health), supervisor),
        appliance: Arc::clone(&controls) as _,
        cache: Arc::clone(&cache),
        orders,
        watch: config.watch,
        sandbox,
        driver: driver.kind,
        patience: COMPARISON_PATIENCE,
    })
    .map_err(StartError::Cold)?;
    let access_log = access_log.map(|log| log.start(config.workers, sandbox)).transpose();
    let access_log = access_log.map_err(StartError::AccessLog)?;
    let reopener = access_log.as_ref().map(AccessLog::reopener);
    let signals = watch_signals(signals, controls, reopener, sandbox)?;

    let stacks = networks
        .iter()
        .map(|(vlan, mtu)| {
            let stack = stack_config(config, vlan, &interface, *mtu)?;
            Ok((stack, vlan_identity(vlan)))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let identity = identity(config, &interface, &driver, &stacks, sandbox);
    let vlans = ids(&config.vlans);
    let interfaces = Arc::new(Interfaces::new(&config.interface, &vlans, config.workers));
    let together = Together::new(&wakers);
    let posts = Post::between(&wakers, steering, stacks.len());
    let mut berths =
        ports.into_iter().zip(inboxes).zip(posts).zip(interfaces.meters()).enumerate().map(
            |(index, (((port, messages), post), meter))| Berth {
                port,
                messages,
                post,
                link: Link::new(&interface, &config.vlans, index == 0),
                meter,
                interfaces: Arc::clone(&interfaces),
                together: together.clone(),
                stacks: stacks
                    .iter()
                    .map(|(stack, identity)| {
                        let passive = index > 0;
                        (tagwire_netstack::Config { passive, ..stack.clone() }, identity.clone())
                    })
                    .collect(),
                filter: filter.clone(),
                sites: Arc::clone(&sites),
                cache: Arc::clone(&cache),
                cold: cold_handle.clone(),
                limits: config.limits,
                census: Arc::clone(&census),
                identity: identity.clone(),
                log: access_log.as_ref().map(|access_log| access_log.log(index)),
                listen: config.port,
                driver: driver.kind,
                sandbox,
            },
        );
    if config.preload {
        cold_handle.preload(&sites, move || {
            // Nobody waits who was told to end.
            let _ = go_on.send(GoOn::Serve);
        });
        if waits.recv() == Ok(GoOn::End) {
            signals.close();
            cold.stop();
            drop(access_log);
            tracing::info!("stopped before anything was served");
            return Ok(());
        }
    }
    // There is at least one worker, and it is for this thread.
    let Some(first) = berths.next() else { return Ok(()) };
    let (started, starts) = mpsc::channel();
    let mut threads = Vec::new();
    for (number, berth) in (1..).zip(berths) {
        let (crew, started) = (crew.clone(), started.clone());
        let serve = move || {
            let ends_all = EndsAll(crew);
            let served = berth.serve(|_| {
                // Only a first worker that has failed does not wait for this.
                let _ = started.send(());
            });
            drop(ends_all);
            served
        };
        let name = format!("tagwire-worker-{number}");
        let thread = thread::Builder::new().name(name).spawn(serve);
        threads.push(thread.map_err(|error| StartError::System("threads", error))?);
    }
    drop(started);
    let others = threads.len();
    let ready = (config.clone(), interface, driver.kind);
    let served = first.serve(|machine| {
        // One that cannot start ends the rest, so nobody waits for ever.
        if starts.iter().take(others).count() == others {
            health.started();
            machine.when_ready(move || {
                log_ready(&ready.0, &ready.1, ready.2);
                health.tell(Notice::Ready);
            });
        }
    });
    drop(EndsAll(crew));
    let served = threads.into_iter().fold(served, |served, thread| {
        let died = || Err(StartError::System("a worker", io::Error::other("it has panicked")));
        served.and(thread.join().unwrap_or_else(|_| died()))
    });
    signals.close();
    // Workers' tasks go before the cold side that they may wait for, and have noted all.
    cold.stop();
    drop(access_log);
    served?;
    tracing::info!("stopped");
    Ok(())
}

fn log_ready(config: &Config, interface: &Interface, driver: DriverKind) {
    let vlans: Vec<_> = config.vlans.iter().map(|vlan| vlan.id.to_string()).collect();
    tracing::info!(
        interface = interface.name,
        mac = %MacAddr(interface.mac),
        vlan = vlans.join(","),
        address = addresses(&config.vlans).join(","),
        port = config.port,
        www_root = %www_roots(config).join(","),
        workers = config.workers,
        driver = %driver,
        "ready"
    );
}

/// All that a worker is made from, on its way to its thread.
struct Berth {
    port: Port,
    messages: mpsc::Receiver<Message>,
    post: Post,
    link: Link,
    meter: Meter,
    interfaces: Arc<Interfaces>,
    together: Together,
    stacks: Vec<(tagwire_netstack::Config, Map<String, Value>)>,
    filter: Vec<Vlan>,
    sites: Arc<Sites>,
    cache: Arc<Cache>,
    cold: ColdHandle,
    limits: Limits,
    census: Arc<Census>,
    identity: Map<String, Value>,
    log: Option<Log>,
    listen: u16,
    driver: DriverKind,
    sandbox: Sandbox,
}

impl Berth {
    /// Serves on this thread until the end; calls `started` when nothing can be refused any more.
    fn serve(self, started: impl FnOnce(&mut HttpWorker)) -> Result<(), StartError> {
        let worker = Worker::open(self.port, self.driver).map_err(StartError::Open)?;
        let waker = worker.waker();
        let now = Instant::from_nanos(clock::now().0);
        let wake = Arc::new(move || waker.wake());
        let mut content =
            Content::new(self.sites, self.cache, self.cold, wake).with_interfaces(self.interfaces);
        content.set_limits(self.limits);
        if let Some(log) = self.log {
            content.log_to(log);
        }
        let parts = Parts {
            stacks: self
                .stacks
                .into_iter()
                .map(|(config, identity)| (Stack::new(config, now), identity))
                .collect(),
            content,
            door: Door::new(self.census),
            meter: self.meter,
            messages: self.messages,
            post: self.post,
            link: self.link,
            groups: worker.groups().map_err(StartError::Open)?,
            syn_flood: SynFlood::new(
                worker.syn_filter().map_err(StartError::Open)?,
                self.filter,
                u32::from_ne_bytes(random()?),
                now,
            ),
            together: self.together,
            identity: self.identity,
        };
        self.sandbox.narrow(Role::Worker).map_err(StartError::Sandbox)?;
        let mut machine = HttpWorker::new(parts, self.listen, worker.counters(), now);
        started(&mut machine);
        worker.run(&mut machine).map_err(StartError::Loop)?;
        let lost = machine.lost_link();
        lost.map_or(Ok(()), |(name, end)| Err(StartError::Link(name.to_owned(), end)))
    }
}

/// The MTU to use in a VLAN, all of which the interface must carry at the start.
pub(crate) fn mtu(vlan: &VlanConfig, interface: &Interface) -> Result<u16, StartError> {
    let asked = vlan.mtu.map_or(0, |mtu| mtu + vlan.tags_len());
    let needed = vlan.least_mtu().max(asked);
    if interface.mtu < needed {
        return Err(StartError::Mtu(interface.name.clone(), interface.mtu, needed));
    }
    Ok(vlan.mtu_on(interface.mtu))
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut octets = [0; N];
    let mut filled = 0;
    while filled < N {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut octets[filled..], flags)
            .map_err(|error| StartError::System("random numbers", error.into()))?;
    }
    Ok(octets)
}

pub(crate) fn stack_config(
    config: &Config,
    vlan: &VlanConfig,
    interface: &Interface,
    mtu: u16,
) -> Result<tagwire_netstack::Config, StartError> {
    let mut gateways = (None, None);
    for gateway in &vlan.gateways {
        match gateway {
            IpAddr::V4(v4) => gateways.0 = Some(*v4),
            IpAddr::V6(v6) => gateways.1 = Some(*v6),
        }
    }
    Ok(tagwire_netstack::Config {
        mac: MacAddr(interface.mac),
        vlan: vlan.id,
        pcp: vlan.pcp,
        mtu,
        addresses: vlan.addresses.clone(),
        gateway: gateways.0,
        gateway6: gateways.1,
        acd: vlan.acd,
        slaac: vlan.slaac,
        stable_secret: None,
        passive: false,
        secret: random()?,
        offload: Offload::FULL,
        tcp: TcpConfig {
            rto_min: config.rto_min,
            ecn: config.ecn,
            fast_open: config.fast_open,
            // Connections are spread evenly over workers, and so is what they may take. Of VLANs each
            // has its part, lest a crowd in one make connections in another give way.
            memory_budget: config.memory_budget / config.workers / config.vlans.len(),
            // Those that are turned away need room, too, to be told.
            max_connections: Limits::CONNECTIONS.end() + MAX_TURNED_AWAY,
            congestion: config.congestion.constructor(),
            ..TcpConfig::default()
        },
    })
}

/// What does not change about this process, for `status`. Of the only VLAN that there is, it says
/// all.
fn identity(
    config: &Config,
    interface: &Interface,
    driver: &Driver,
    stacks: &[(tagwire_netstack::Config, Map<String, Value>)],
    sandbox: Sandbox,
) -> Map<String, Value> {
    let identity = json!({
        "pid": std::process::id(),
        "interface": interface.name,
        "addresses": addresses(&config.vlans),
        "memory_budget": config.memory_budget,
        "fast_open": config.fast_open,
        "congestion": config.congestion.to_string(),
        "port": config.port,
        "www_root": www_roots(config).join(","),
        "io": driver.kind.to_string(),
        "io_reason": driver.reason,
        "sandbox": sandbox.report(),
    });
    let Value::Object(mut identity) = identity else { return Map::new() };
    if let [(_, only)] = stacks {
        identity.extend(only.clone());
    }
    identity
}

/// The same of a VLAN.
fn vlan_identity(vlan: &VlanConfig) -> Map<String, Value> {
    let identity = json!({
        "vlan": (vlan.id != VlanStack::UNTAGGED).then(|| vlan.id.to_string()),
        "pcp": vlan.pcp,
        "addresses": addresses(std::slice::from_ref(vlan)),
        "gateways": vlan.gateways,
    });
    if let Value::Object(identity) = identity { identity } else { Map::new() }
}

fn addresses(vlans: &[VlanConfig]) -> Vec<String> {
    vlans.iter().flat_map(|vlan| &vlan.addresses).map(IpCidr::to_string).collect()
}

/// What of the file system is needed from the start on.
fn paths(config: &Config) -> Paths {
    let roots = config.sites.iter().map(|site| &site.www_root);
    let read = roots.chain(&config.sandbox_read).cloned().collect();
    let mut paths = Paths { read, ..Paths::default() };
    if let Some(file) = &config.file {
        paths.read_beside(file);
    }
    if let Target::File(log) = &config.access_log.target {
        paths.write_beside(log);
    }
    if let Some(control) = &config.control {
        paths.remove_beside(control);
    }
    paths
}

/// The directories that are served.
fn www_roots(config: &Config) -> Vec<String> {
    config.sites.iter().map(|site| site.www_root.display().to_string()).collect()
}

/// Starts the thread that turns SIGTERM and SIGINT into an orderly end, SIGHUP into the sites and
/// limits that the configuration file has by then, and SIGUSR1 into a new file of the access log.
fn watch_signals(
    mut signals: Signals,
    controls: Arc<Controls>,
    access_log: Option<Reopener>,
    sandbox: Sandbox,
) -> Result<signal_hook::iterator::Handle, StartError> {
    let handle = signals.handle();
    thread::Builder::new()
        .name("tagwire-signals".to_owned())
        .spawn(move || {
            if let Err(error) = sandbox.narrow(Role::Helper) {
                // It goes on with what all threads have together.
                tracing::warn!(%error, "the thread for signals is not restricted further");
            }
            for signal in signals.forever() {
                match (signal, &access_log) {
                    // What comes of it is in the log. A disk that takes its time does not keep
                    // the end waiting.
                    (SIGHUP, _) => controls.reload(oneshot::channel().0),
                    (SIGUSR1, Some(access_log)) => access_log.reopen(),
                    (SIGUSR1, None) => tracing::info!("SIGUSR1: there is no access log"),
                    // Its default is the end of the process. So it is an error of who writes (EFBIG): the
                    // access log, which counts it as it does a full disk.
                    (SIGXFSZ, _) => {}
                    _ => controls.end(signal),
                }
            }
        })
        .map_err(|error| StartError::System("signals", error))?;
    Ok(handle)
}
