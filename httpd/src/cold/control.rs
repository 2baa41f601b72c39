//! The control socket: a Unix stream that answers one line with one JSON object.
//!
//! `status` is the command that there is. Only the own user may connect (mode 0600).

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::runtime::spawn;
use crate::cache::Cache;

/// What the rest of the appliance has to say in `status`.
pub trait StatusSource: Send + Sync {
    /// Gathers a JSON object and sends it, from any thread, at any time soon. Its members stand
    /// beside `version` and `cache` in the answer. Must not block: the cold side calls it.
    fn request(&self, reply: oneshot::Sender<Value>);
}

/// How long the status may take to gather, and a client to send its line.
const PATIENCE: Duration = Duration::from_secs(2);
/// Octets of a command line.
const MAX_LINE: usize = 256;
/// Clients at one time: some that say nothing do not keep the others waiting.
const CLIENTS: usize = 16;
/// Connections that wait in the kernel.
const BACKLOG: i32 = 16;

/// The socket, listening; its file is removed with it.
pub(super) struct Listener {
    socket: StdListener,
    path: PathBuf,
    /// Device and inode, lest another's socket at the same path be removed.
    node: (u64, u64),
}

impl Listener {
    /// # Errors
    /// Another one listens there, something else has the name, or it cannot be made.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
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
pub(super) async fn serve(listener: Listener, status: Arc<dyn StatusSource>, cache: Arc<Cache>) {
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
                let (status, cache) = (Arc::clone(&status), Arc::clone(&cache));
                spawn(async move {
                    let served = answer(client, status.as_ref(), &cache);
                    if let Ok(Err(error)) = tokio::time::timeout(2 * PATIENCE, served).await {
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
    status: &dyn StatusSource,
    cache: &Cache,
) -> io::Result<()> {
    let line = read_line(&mut client).await?;
    let answer = match line.trim_ascii() {
        b"status" => gather(status, cache).await,
        _ => json!({ "error": "unknown command; there is: status" }),
    };
    client.write_all(format!("{answer}\n").as_bytes()).await?;
    client.shutdown().await
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

async fn gather(status: &dyn StatusSource, cache: &Cache) -> Value {
    let (reply, answered) = oneshot::channel();
    status.request(reply);
    let mut object = match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(Value::Object(object))) => object,
        // The cache's figures are of use even when the worker does not answer.
        _ => {
            serde_json::Map::from_iter([("error".to_owned(), json!("the worker does not answer"))])
        }
    };
    object.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    object.insert("cache".to_owned(), json!(cache.stats()));
    Value::Object(object)
}
