//! The one place that knows which runtime drives the cold side: tokio-uring.
//!
//! Its current-thread tokio carries channels, timers and the control socket; reads of files go
//! through io_uring.

use std::fs::File as StdFile;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_uring::buf::BoundedBuf;

/// Submissions that one turn of the ring takes; more wait for the next turn.
const RING_ENTRIES: u32 = 64;

pub(super) struct Runtime(tokio_uring::Runtime);

impl Runtime {
    /// # Errors
    /// io_uring is refused: by seccomp (EPERM or ENOSYS), by sysctl (EPERM), or by a limit.
    pub(super) fn start() -> io::Result<Self> {
        let mut builder = tokio_uring::builder();
        builder.entries(RING_ENTRIES);
        tokio_uring::Runtime::new(&builder).map(Self)
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }
}

/// Runs `task` beside the others on the cold thread.
pub(super) fn spawn<F: Future<Output = ()> + 'static>(task: F) -> JoinHandle<()> {
    tokio_uring::spawn(task)
}

/// Runs `work`, which may wait for a disk, on a thread beside this one. `None`: it panicked.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// A file that is read at offsets.
pub(super) struct ReadFile {
    ring: tokio_uring::fs::File,
    /// The same open file, for fstat: tokio-uring lends its descriptor as a bare number only.
    file: Arc<OwnedFd>,
}

impl ReadFile {
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new(file: OwnedFd) -> io::Result<Self> {
        let ring = tokio_uring::fs::File::from_std(StdFile::from(file.try_clone()?));
        Ok(Self { ring, file: Arc::new(file) })
    }

    pub(super) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    /// Reads `len` octets at `offset`, or as many as there are before the end of the file.
    pub(super) async fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut octets = Vec::with_capacity(len);
        while octets.len() < len {
            let filled = octets.len();
            let (read, slice) =
                self.ring.read_at(octets.slice(filled..len), offset + filled as u64).await;
            octets = slice.into_inner();
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(octets)
    }
}
