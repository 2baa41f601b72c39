//! The one place that knows which runtime drives the cold side: tokio-uring, or, where io_uring is
//! refused, tokio.
//!
//! Both are tokio on the current thread, which carries channels, timers and the control socket. Reads
//! of files go through io_uring; without it what the kernel has in memory is read on the spot, and the
//! rest on threads that may wait for the disk.

use std::cell::Cell;
use std::fs::File as StdFile;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use tagwire_core::driver::DriverKind;
use tagwire_core::restrictions::make_for_reads;
use tokio::task::{JoinHandle, LocalSet};
use tokio_uring::buf::BoundedBuf;

use crate::cache::FileId;
use crate::limits::COLD_LOADS;

/// Submissions that one turn of the ring takes; more wait for the next turn.
const RING_ENTRIES: u32 = 64;

pub(super) enum Runtime {
    Uring(tokio_uring::Runtime),
    /// The tasks are ended before the threads that they wait for.
    Plain(LocalSet, tokio::runtime::Runtime),
}

impl Runtime {
    /// # Errors
    /// io_uring is refused, or a limit of the process is reached.
    pub(super) fn start(driver: DriverKind) -> io::Result<Self> {
        match driver {
            DriverKind::Uring => {
                let mut ring = tokio_uring::uring_builder();
                ring.setup_r_disabled();
                let mut builder = tokio_uring::builder();
                builder.entries(RING_ENTRIES).uring_builder(&ring);
                make_for_reads(|| tokio_uring::Runtime::new(&builder)).map(Self::Uring)
            }
            DriverKind::Poll => {
                // A load waits for one thing at a time.
                let mut builder = tokio::runtime::Builder::new_current_thread();
                let runtime = builder.enable_all().max_blocking_threads(COLD_LOADS).build()?;
                Ok(Self::Plain(LocalSet::new(), runtime))
            }
        }
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Plain(tasks, runtime) => tasks.block_on(runtime, future),
        }
    }
}

/// Runs `task` beside the others on the cold thread.
pub(super) fn spawn<F: Future<Output = ()> + 'static>(task: F) -> JoinHandle<()> {
    tokio::task::spawn_local(task)
}

/// Runs `work`, which may wait for a disk, on a thread beside this one. `None`: it panicked.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// A file that is read at offsets.
pub(super) struct ReadFile {
    file: Arc<OwnedFd>,
    /// The same open file: tokio-uring lends its descriptor as a bare number only.
    ring: Option<tokio_uring::fs::File>,
    /// What it was when it was last looked at.
    seen: Cell<FileId>,
}

impl ReadFile {
    /// One that was `seen` as it was opened, for the runtime of this driver.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new(file: OwnedFd, seen: FileId, driver: DriverKind) -> io::Result<Self> {
        let ring = match driver {
            DriverKind::Uring => {
                Some(tokio_uring::fs::File::from_std(StdFile::from(file.try_clone()?)))
            }
            DriverKind::Poll => None,
        };
        Ok(Self { file: Arc::new(file), ring, seen: Cell::new(seen) })
    }

    /// Whether it has kept its content up to `now`. Each look is compared with the one before: a
    /// link that is gone explains what was changed at the time, and nothing later.
    pub(super) fn continues(&self, now: FileId) -> bool {
        let continues = now.continues(&self.seen.get());
        if continues {
            self.seen.set(now);
        }
        continues
    }

    pub(super) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    /// Reads `len` octets at `offset`, or as many as there are before the end of the file.
    pub(super) async fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        match &self.ring {
            Some(ring) => read_by_ring(ring, offset, len).await,
            None => read_plainly(&self.file, offset, len).await,
        }
    }
}

async fn read_by_ring(
    ring: &tokio_uring::fs::File,
    offset: u64,
    len: usize,
) -> io::Result<Vec<u8>> {
    let mut octets = Vec::with_capacity(len);
    while octets.len() < len {
        let filled = octets.len();
        let (read, slice) = ring.read_at(octets.slice(filled..len), offset + filled as u64).await;
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

async fn read_plainly(file: &Arc<OwnedFd>, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; len];
    let at_once = |octets: &mut [u8], offset| {
        preadv2(file, &mut [IoSliceMut::new(octets)], offset, ReadWriteFlags::NOWAIT)
    };
    let filled = match fill(&mut octets, 0, offset, at_once) {
        (filled, Ok(())) => filled,
        // It is not in memory, or the file system cannot tell; other errors come again.
        (filled, Err(_)) => {
            let file = Arc::clone(file);
            let waiting = move || {
                let last = |octets: &mut [u8], offset| pread(&*file, octets, offset);
                let (filled, read) = fill(&mut octets, filled, offset, last);
                read.map(|()| (octets, filled))
            };
            let died = || io::Error::other("the thread that read has panicked");
            let filled;
            (octets, filled) = aside(waiting).await.ok_or_else(died)??;
            filled
        }
    };
    octets.truncate(filled);
    Ok(octets)
}

/// Reads into `octets`, of which `filled` are there, until they or the file end; how many are there
/// then. The file's octets begin at `offset`.
fn fill(
    octets: &mut [u8],
    mut filled: usize,
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize, Errno>,
) -> (usize, Result<(), Errno>) {
    while filled < octets.len() {
        match read(&mut octets[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;
    use crate::cold::files::identity_of;

    const DRIVERS: [DriverKind; 2] = [DriverKind::Uring, DriverKind::Poll];

    fn file(content: &[u8]) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.into()
    }

    fn opened(file: OwnedFd, driver: DriverKind) -> ReadFile {
        let seen = identity_of(file.as_fd()).unwrap();
        ReadFile::new(file, seen, driver).unwrap()
    }

    #[test]
    fn a_file_is_read_at_offsets_and_to_its_end() {
        let content: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        for driver in DRIVERS {
            Runtime::start(driver).unwrap().block_on(async {
                let file = opened(file(&content), driver);
                for (offset, len) in [(0, 300_000), (70_000, 100_000), (299_999, 10), (300_000, 10)]
                {
                    let end = content.len().min(offset + len);
                    let read = file.read(offset as u64, len).await.unwrap();
                    assert!(read == content[offset..end], "{driver}: {len} at {offset}");
                }
                assert!(file.read(0, 0).await.unwrap().is_empty());
            });
        }
    }

    /// No filter of system calls sees what a ring does: it is asked from inside for what it is not for.
    #[test]
    fn the_ring_does_nothing_but_read() {
        let runtime = Runtime::start(DriverKind::Uring).unwrap();
        runtime.block_on(async {
            let refused = Some(Errno::ACCESS.raw_os_error());
            let opened = tokio_uring::fs::File::open("/dev/null").await;
            assert_eq!(opened.err().and_then(|error| error.raw_os_error()), refused);
            let there = tokio_uring::fs::File::from_std(StdFile::open("/dev/null").unwrap());
            let written = there.write_at(vec![0], 0).submit().await.0;
            assert_eq!(written.err().and_then(|error| error.raw_os_error()), refused);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let connected = tokio_uring::net::TcpStream::connect(listener.local_addr().unwrap());
            let error = connected.await.err();
            assert_eq!(error.and_then(|error| error.raw_os_error()), refused);
        });
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for driver in DRIVERS {
            Runtime::start(driver).unwrap().block_on(async {
                let directory = StdFile::open(std::env::temp_dir()).unwrap();
                let file = opened(directory.into(), driver);
                let error = file.read(0, 10).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::IsADirectory, "{driver}");
            });
        }
    }

    /// What was read at once is not read again, and what is behind it not lost.
    #[test]
    fn a_read_goes_on_where_it_was_left() {
        let content = *b"0123456789";
        let mut octets = [0; 8];
        let mut calls = 0;
        let (filled, read) = fill(&mut octets, 0, 2, |octets, offset| {
            calls += 1;
            match calls {
                1 => {
                    octets[..3].copy_from_slice(&content[offset as usize..][..3]);
                    Ok(3)
                }
                2 => Err(Errno::INTR),
                _ => Err(Errno::AGAIN),
            }
        });
        assert_eq!((filled, read), (3, Err(Errno::AGAIN)));
        let (filled, read) = fill(&mut octets, filled, 2, |octets, offset| {
            let rest = &content[offset as usize..];
            let len = rest.len().min(octets.len());
            octets[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        });
        assert_eq!((filled, read), (8, Ok(())));
        assert_eq!(octets, *b"23456789");
    }
}
