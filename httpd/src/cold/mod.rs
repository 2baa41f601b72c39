//! The cold side: everything that may block, on a thread of its own.
//!
//! Workers send commands over a bounded queue that never blocks them; answers come back through
//! a oneshot, followed by the worker's wake callback. One load per file or part of one runs however
//! many wait for it. It also serves the control socket and the admin
//! endpoint, and talks to a supervisor.

mod admin;
mod compress;
mod control;
mod directory;
mod files;
mod flights;
mod load;
mod preload;
mod resolve;
mod runtime;
mod siblings;
pub(crate) mod supervisor;
mod watch;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use tagwire_core::driver::DriverKind;
use tokio::sync::{Semaphore, mpsc};

use crate::cache::{Cache, Charge, Entry, Millis, Place, Span};
use crate::content::Wake;
use crate::health::Health;
use crate::limits::{COLD_QUEUE, COLD_QUEUE_FOR_CHUNKS, COLD_QUEUE_FOR_WAITERS};
use crate::sandbox::{Role, Sandbox, SandboxError};
use crate::site::{Site, Sites};

use admin::Admin;
pub use admin::AdminListener;
pub use control::{Appliance, Listener};
pub(crate) use files::Root;
use preload::{Done, Preload};
pub use supervisor::Supervisor;
use watch::Watch;

/// How long its end may take.
const STOP_TIME: Duration = Duration::from_secs(2);

/// What the cold side works on.
pub struct ColdConfig {
    /// The control socket, if there is one.
    pub control: Option<Listener>,
    /// The admin endpoint's socket, if there is one.
    pub admin: Option<AdminListener>,
    /// How the process fares, and who is told.
    pub health: (Arc<Health>, Supervisor),
    /// Whom the control socket's commands are for.
    pub appliance: Arc<dyn Appliance>,
    /// The cache that it fills.
    pub cache: Arc<Cache>,
    /// What the workers and others ask of it.
    pub orders: Orders,
    /// Have inotify tell what changes on disk.
    pub watch: bool,
    /// Its threads are left what they need of this.
    pub sandbox: Sandbox,
    /// Read files by io_uring, or without.
    pub driver: DriverKind,
    /// How long a request waits for a comparison with the disk if there is an older answer.
    pub patience: Duration,
}

/// The far end of a [`ColdHandle`].
pub struct Orders(mpsc::Receiver<Command>);

/// A way to ask the cold side, before it is there.
pub fn orders() -> (ColdHandle, Orders) {
    let (commands, orders) = mpsc::channel(COLD_QUEUE);
    (ColdHandle { commands }, Orders(orders))
}

/// The running cold side. Dropping it stops it, as [`stop`](Self::stop) does.
pub struct ColdSide {
    stop: Option<oneshot::Sender<()>>,
    /// Disconnected once the thread has ended.
    ended: std::sync::mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl ColdSide {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`ColdError`]: nothing runs then.
    pub fn start(config: ColdConfig) -> Result<Self, ColdError> {
        let (stop, stopped) = oneshot::channel();
        let (started, start) = std::sync::mpsc::channel();
        let (running, ended) = std::sync::mpsc::channel::<()>();
        let ColdConfig { control, admin, health: (health, supervisor), appliance, .. } = config;
        let ColdConfig { cache, orders: Orders(orders), watch, sandbox, driver, patience, .. } =
            config;
        let watch = Watch::new(watch, Arc::clone(&cache));
        let preload = Arc::new(Preload::default());
        let thread = std::thread::Builder::new()
            .name("tagwire-cold".to_owned())
            .spawn(move || {
                let _running = running;
                let runtime = runtime::Runtime::start(driver).map_err(ColdError::Runtime);
                // What the runtime has opened is all that it may.
                let restricted = |runtime| {
                    sandbox.narrow(Role::Cold).map_err(ColdError::Sandbox).map(|()| runtime)
                };
                let runtime = match runtime.and_then(restricted) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        // The starter waits for exactly this message.
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let _ = started.send(Ok(()));
                runtime.block_on(async move {
                    let (asked, probed) = (Arc::clone(&appliance), admin.is_some());
                    runtime::spawn(supervisor.run(asked, Arc::clone(&health), probed));
                    let inside = Arc::new(control::Inside {
                        cache: Arc::clone(&cache),
                        watch: Arc::clone(&watch),
                        preload: Arc::clone(&preload),
                    });
                    if let Some(listener) = admin {
                        let admin = Admin {
                            appliance: Arc::clone(&appliance),
                            health,
                            inside: Arc::clone(&inside),
                            status: admin::Shared::default(),
                            disk: Arc::new(Semaphore::new(1)),
                            unreadable: admin::Shared::default(),
                        };
                        runtime::spawn(admin::serve(listener, Arc::new(admin)));
                    }
                    let served = control.map(|listener| {
                        runtime::spawn(control::serve(listener, appliance, inside))
                    });
                    runtime::spawn(Arc::clone(&watch).run());
                    runtime::spawn(load::run(cache, watch, driver, patience, preload, orders));
                    // It ends when it is dropped.
                    let _ = stopped.await;
                    if let Some(served) = served {
                        // Ends the task and so removes the socket.
                        served.abort();
                        let _ = served.await;
                    }
                });
            })
            .map_err(ColdError::Thread)?;
        match start.recv() {
            Ok(Ok(())) => Ok(Self { stop: Some(stop), ended, thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ColdError::Runtime(io::Error::other("its thread died"))),
        }
    }

    /// Ends the thread, whatever waits; removes the control socket. A thread that a disk does
    /// not let go is left behind after [`STOP_TIME`].
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for ColdSide {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.ended.recv_timeout(STOP_TIME) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a disk does not answer: ending without its files being closed");
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the cold side ended with a panic");
        }
    }
}

/// Why the cold side did not start; the text says what to do.
#[derive(Debug)]
pub enum ColdError {
    /// The control socket cannot be made.
    Control(PathBuf, io::Error),
    /// The admin endpoint cannot be had.
    Admin(SocketAddr, io::Error),
    /// No runtime.
    Runtime(io::Error),
    /// No thread.
    Thread(io::Error),
    /// Its thread cannot be restricted.
    Sandbox(SandboxError),
}

impl fmt::Display for ColdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(path, error) => write!(
                f,
                "the control socket {} cannot be made: {error}; name another path with --control, \
                 in a directory that user {} may write",
                path.display(),
                rustix::process::geteuid().as_raw()
            ),
            Self::Admin(address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "the admin endpoint {address} cannot be had: another process listens there; give \
                 another port with --admin, or end that process (ss -ltnp shows it)"
            ),
            Self::Admin(address, error) => write!(
                f,
                "the admin endpoint {address} cannot be had: {error}; give an address of this host \
                 and a port above 1023 with --admin, 0.0.0.0:9090 say"
            ),
            Self::Runtime(error) => write!(
                f,
                "files cannot be loaded: {error}; raise the limits of memory and open files, or do \
                 without io_uring by --driver poll"
            ),
            Self::Thread(error) => {
                write!(f, "no thread for loading files: {error}; raise the limit of processes")
            }
            Self::Sandbox(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ColdError {}

/// What was loaded.
#[derive(Debug, Clone)]
pub(crate) enum Loaded {
    Entry(Arc<Entry>),
    Part(Bytes),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadError {
    /// The file is not the one that the response began with.
    Changed,
    /// It could not be read.
    Unreadable,
    /// The cold side is too far behind, or gone.
    Overloaded,
}

/// One who waits for a load.
pub(crate) struct Waiter {
    reply: oneshot::Sender<Result<Loaded, LoadError>>,
    wake: Wake,
}

impl Waiter {
    fn answer(self, result: Result<Loaded, LoadError>) {
        // A connection that is gone does not wait any more.
        let _ = self.reply.send(result);
        (self.wake)();
    }
}

pub(crate) enum Command {
    /// The answer to a path. `known` is too old to be served unless its file is still the same.
    Load { site: Arc<Site>, path: Box<[u8]>, known: Option<Known>, waiter: Waiter },
    /// Is the file behind `entry` still the same?
    Revalidate { site: Arc<Site>, path: Box<[u8]>, entry: Arc<Entry> },
    /// Octets of the file of `entry`.
    Read { site: Arc<Site>, entry: Arc<Entry>, span: Span, room: Room, waiter: Waiter },
    /// These are served from now on, and no others.
    Sites(Arc<Sites>),
    /// What these serve is loaded.
    Preload(Arc<Sites>, Done),
}

/// What a part of a large file needs until it is there.
pub(crate) struct Room {
    /// For its octets, in whose hands ever they are.
    pub(crate) charge: Charge,
    /// In the queue for the disk.
    pub(crate) place: Place,
}

/// An entry as a worker has seen it.
pub(crate) struct Known {
    entry: Arc<Entry>,
    checked: Millis,
}

impl Known {
    /// Whether `entry` is the same one, and was not compared since.
    fn is(&self, entry: &Arc<Entry>) -> bool {
        Arc::ptr_eq(&self.entry, entry) && self.checked == entry.freshness.checked()
    }
}

/// What a request to the cold side becomes; `None`: it was not taken.
pub(crate) type Asked = Option<oneshot::Receiver<Result<Loaded, LoadError>>>;

/// Waits for the answer.
pub(crate) async fn answer(asked: Asked) -> Result<Loaded, LoadError> {
    match asked {
        Some(reply) => reply.await.unwrap_or(Err(LoadError::Overloaded)),
        None => Err(LoadError::Overloaded),
    }
}

/// Sends commands to the cold side; never blocks, but for [`serve`](Self::serve). Cheap to clone.
#[derive(Clone)]
pub struct ColdHandle {
    commands: mpsc::Sender<Command>,
}

impl ColdHandle {
    /// A way to nobody: nothing is ever loaded.
    pub(crate) fn to_nobody() -> Self {
        Self { commands: mpsc::channel(1).0 }
    }

    /// Says which sites are served from now on. Waits for a place in the queue: not for workers.
    pub fn serve(&self, sites: &Arc<Sites>) {
        // A cold side that has ended has nothing to let go of.
        let _ = self.commands.blocking_send(Command::Sites(Arc::clone(sites)));
    }

    /// Has what `sites` serve loaded, and `done` called then, or when nobody will any more. Waits for a
    /// place in the queue: not for workers.
    pub fn preload(&self, sites: &Arc<Sites>, done: impl FnOnce() + Send + 'static) {
        // A cold side that has ended drops it, which calls.
        let _ = self.commands.blocking_send(Command::Preload(Arc::clone(sites), Done::new(done)));
    }

    pub(crate) fn load(
        &self,
        site: &Arc<Site>,
        path: &[u8],
        known: Option<&Arc<Entry>>,
        wake: &Wake,
    ) -> Asked {
        if self.commands.capacity() <= COLD_QUEUE_FOR_CHUNKS {
            return None;
        }
        let (waiter, reply) = waiter(wake);
        let known = known
            .map(|entry| Known { entry: Arc::clone(entry), checked: entry.freshness.checked() });
        let (site, path) = (Arc::clone(site), path.into());
        self.commands.try_send(Command::Load { site, path, known, waiter }).ok()?;
        Some(reply)
    }

    pub(crate) fn read(
        &self,
        site: &Arc<Site>,
        entry: &Arc<Entry>,
        span: Span,
        room: Room,
        wake: &Wake,
    ) -> Asked {
        let (waiter, reply) = waiter(wake);
        let (site, entry) = (Arc::clone(site), Arc::clone(entry));
        self.commands.try_send(Command::Read { site, entry, span, room, waiter }).ok()?;
        Some(reply)
    }

    pub(crate) fn revalidate(
        &self,
        site: &Arc<Site>,
        path: &[u8],
        entry: Arc<Entry>,
    ) -> Result<(), LoadError> {
        if self.commands.capacity() <= COLD_QUEUE_FOR_WAITERS {
            return Err(LoadError::Overloaded);
        }
        let command = Command::Revalidate { site: Arc::clone(site), path: path.into(), entry };
        self.commands.try_send(command).map_err(|_| LoadError::Overloaded)
    }
}

fn waiter(wake: &Wake) -> (Waiter, oneshot::Receiver<Result<Loaded, LoadError>>) {
    let (reply, receiver) = oneshot::channel();
    (Waiter { reply, wake: Arc::clone(wake) }, receiver)
}

#[cfg(test)]
mod tests;
