//! The control socket: a Unix stream that answers one line with one JSON object.
//!
//! `status`, `reload`, `lame-duck on` and `lame-duck off` are the commands that there are. Only the own
//! user may connect (mode 0600).

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::ColdError;
use super::preload::{Preload, PreloadStats};
use super::runtime::spawn;
use super::watch::Watch;
use crate::cache::Cache;
use crate::site::Sites;

/// The rest of the appliance, as commands reach it. None may block: the cold side calls them;
/// the answer comes from any thread, at any time soon.
pub trait Appliance: Send + Sync {
    /// Gathers a JSON object. Its members stand beside `version`, `cache`, `downloads` and
    /// `watch` in `status`.
    fn status(&self, reply: oneshot::Sender<Value>);

    /// Reads sites and limits again and serves by them: how many sites there are, or in one line
    /// why not.
    fn reload(&self, reply: oneshot::Sender<Result<usize, String>>);

    /// Sends clients elsewhere from now on, or does so no more; all are served in either case. Or says in
    /// one line why it does neither.
    fn lame_duck(&self, on: bool) -> Result<(), &'static str>;

    /// Whether clients are sent elsewhere.
    fn is_lame_duck(&self) -> bool;

    /// What is served.
    fn sites(&self) -> Arc<Sites>;

    /// Asks the workers whether they turn, see [`Health`](crate::health::Health).
    fn beat(&self);
}

/// How long the status may take to gather, and a client to send its line and to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long reading the sites again may take, before the client is told to look at the log.
const RELOAD_PATIENCE: Duration = Duration::from_secs(7);
/// Octets of a command line.
const MAX_LINE: usize = 256;
/// Clients at one time: some that say nothing do not keep the others waiting.
const CLIENTS: usize = 16;
/// Connections that wait in the kernel.
const BACKLOG: i32 = 16;

/// What the cold side itself says in `status`.
pub(super) struct Inside {
    pub(super) cache: Arc<Cache>,
    pub(super) watch: Arc<Watch>,
    pub(super) preload: Arc<Preload>,
}

/// The socket, listening; its file is removed with it.
pub struct Listener {
    socket: StdListener,
    path: PathBuf,
    /// Device and inode, lest another's socket at the same path be removed.
    node: (u64, u64),
}

impl Listener {
    /// Makes it at `path`.
    ///
    /// # Errors
    /// Another one listens there, something else has the name, or it cannot be made.
    pub fn bind(path: &Path) -> Result<Self, ColdError> {
        Self::make(path).map_err(|error| ColdError::Control(path.to_owned(), error))
    }

    fn make(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Before bind, the file takes its mode from the socket: there is no moment at which
        // others could connect.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, BACKLOG)?;
        let file = path.symlink_metadata()?;
        let node = (file.dev(), file.ino());
        Ok(Self { socket: socket.into(), path: path.to_owned(), node })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let own =
            self.path.symlink_metadata().is_ok_and(|file| (file.dev(), file.ino()) == self.node);
        if own && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the control socket stays behind");
        }
    }
}

/// Removes what a process that died has left at `path`.
fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match path.symlink_metadata() {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::other("a file that is no socket has this name"));
    }
    match StdStream::connect(path) {
        Ok(_) => Err(io::Error::other("another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

/// Answers clients until it is dropped.
pub(super) async fn serve(listener: Listener, appliance: Arc<dyn Appliance>, inside: Arc<Inside>) {
    let clients = match listener.socket.try_clone().and_then(UnixListener::from_std) {
        Ok(clients) => clients,
        Err(error) => {
            tracing::error!(%error, "the control socket does not work");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match clients.accept().await {
            Ok((client, _)) => {
                let appliance = Arc::clone(&appliance);
                let inside = Arc::clone(&inside);
                spawn(async move {
                    if let Err(error) = answer(client, appliance.as_ref(), &inside).await {
                        tracing::debug!(%error, "a client of the control socket went away");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket takes no client");
                // Out of descriptors, most likely: not in a busy loop.
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn answer(
    mut client: UnixStream,
    appliance: &dyn Appliance,
    inside: &Inside,
) -> io::Result<()> {
    let line = in_time(read_line(&mut client)).await?;
    let answer = match line.trim_ascii() {
        b"status" => gather(appliance, inside).await,
        b"reload" => reload(appliance).await,
        b"lame-duck on" => lame_duck(appliance, true),
        b"lame-duck off" => lame_duck(appliance, false),
        _ => {
            json!({ "error": "unknown command; there are: status, reload, lame-duck on, lame-duck off" })
        }
    };
    let answer = format!("{answer}\n");
    in_time(async {
        client.write_all(answer.as_bytes()).await?;
        client.shutdown().await
    })
    .await
}

async fn in_time<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, exchange).await?
}

async fn read_line(client: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < MAX_LINE {
        if client.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    Ok(line)
}

async fn reload(appliance: &dyn Appliance) -> Value {
    let (reply, answered) = oneshot::channel();
    appliance.reload(reply);
    match tokio::time::timeout(RELOAD_PATIENCE, answered).await {
        Ok(Ok(Ok(sites))) => json!({ "reloaded": { "sites": sites } }),
        Ok(Ok(Err(why))) => json!({ "error": why }),
        Ok(Err(oneshot::Canceled)) => json!({ "error": "no thread can be had for it" }),
        Err(_) => json!({ "pending": "a disk takes its time, the log will say" }),
    }
}

fn lame_duck(appliance: &dyn Appliance, on: bool) -> Value {
    match appliance.lame_duck(on) {
        Ok(()) => json!({ "lame_duck": on }),
        Err(why) => json!({ "error": why }),
    }
}

pub(super) async fn gather(appliance: &dyn Appliance, inside: &Inside) -> Value {
    let Inside { cache, watch, preload } = inside;
    let preload = preload.stats();
    let mut object = match preload.as_ref().and_then(PreloadStats::missing) {
        // No worker serves yet.
        Some(missing) => Map::from_iter([
            ("ready".to_owned(), false.into()),
            ("missing".to_owned(), json!([missing])),
            ("draining".to_owned(), false.into()),
        ]),
        None => gather_workers(appliance).await,
    };
    object.extend(preload.map(|stats| ("preload".to_owned(), json!(stats))));
    object.insert("lame_duck".to_owned(), json!(appliance.is_lame_duck()));
    object.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    object.insert("cache".to_owned(), json!(cache.stats()));
    object.insert("downloads".to_owned(), json!(cache.download_stats()));
    object.insert("watch".to_owned(), json!(watch.stats()));
    Value::Object(object)
}

async fn gather_workers(appliance: &dyn Appliance) -> Map<String, Value> {
    let (reply, answered) = oneshot::channel();
    appliance.status(reply);
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(Value::Object(object))) => object,
        // The cache's figures are of use even when the worker does not answer.
        _ => Map::from_iter([("error".to_owned(), json!("the worker does not answer"))]),
    }
}
