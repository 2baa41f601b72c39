//! Files beneath www-root: how a path is resolved, and why it cannot leave.
//!
//! 1. `openat2` with `RESOLVE_BENEATH`: no `..`, no absolute path and no symlink gets out.
//! 2. First with `O_PATH`, which opens nothing: FIFOs, devices and sockets are recognised
//!    without being touched.
//! 3. Only a regular file is then opened for reading, and compared with what step 2 saw.

use std::cell::Cell;
use std::fmt::Display;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use crate::cache::FileId;
use crate::respond::Status;

/// Complaints about files are this far apart: a peer can ask for a broken one as fast as it likes.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Logs what is wrong with the file at `path`, now and then.
pub(super) fn complain(what: &str, path: &[u8], error: &dyn Display) {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
        static UNSAID: Cell<u64> = const { Cell::new(0) };
    }
    let now = Instant::now();
    if LAST.get().is_some_and(|last| now.duration_since(last) < COMPLAINT_INTERVAL) {
        UNSAID.set(UNSAID.get() + 1);
        return;
    }
    LAST.set(Some(now));
    let unsaid = UNSAID.take();
    tracing::warn!(error = %error, path = %path.escape_ascii(), unsaid, "a file cannot be {what}");
}

/// www-root, held open: it stays the same directory whatever its name leads to later.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// What a path leads to.
pub(super) enum Found {
    File(FileId),
    Directory,
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Self(rustix::fs::open(path, flags, Mode::empty())?);
        // Says at start, not at the first request, whether openat2 is there and search allowed.
        match root.open_beneath(b".", OFlags::PATH) {
            Err(Errno::NOSYS) => Err(io::Error::from(io::ErrorKind::Unsupported)),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(root),
        }
    }

    /// Whether both are the same directory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let place = |root: &Self| fstat(&root.0).map(|stat| (stat.st_dev, stat.st_ino));
        place(self).is_ok_and(|here| place(other) == Ok(here))
    }

    /// Looks at `path` without opening it.
    pub(super) fn find(&self, path: &[u8]) -> Result<Found, Status> {
        let path = if path.is_empty() { b"." } else { path };
        let found = self.open_beneath(path, OFlags::PATH).map_err(|error| refusal(path, error))?;
        let stat = fstat(&found).map_err(|error| refusal(path, error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Found::File(identity(&stat))),
            FileType::Directory => Ok(Found::Directory),
            _ => Err(Status::Forbidden),
        }
    }

    /// Opens the regular file that [`find`](Self::find) has seen at `path`.
    pub(super) fn open_file(&self, path: &[u8]) -> Result<(OwnedFd, FileId), Status> {
        // NONBLOCK: should a FIFO have taken the file's place since, opening it does not hang.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.open_beneath(path, flags).map_err(|error| refusal(path, error))?;
        let stat = fstat(&file).map_err(|error| refusal(path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Status::Forbidden);
        }
        // io_uring would answer EAGAIN instead of waiting for the disk.
        rustix::fs::fcntl_setfl(&file, OFlags::empty()).map_err(|error| refusal(path, error))?;
        Ok((file, identity(&stat)))
    }

    fn open_beneath(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // A rename somewhere beneath the root at the same moment makes the kernel unsure whether
        // a `..` in a symlink got out: it says EAGAIN, and asks to be asked again.
        const ATTEMPTS: usize = 16;
        let mut result = Err(Errno::AGAIN);
        for _ in 0..ATTEMPTS {
            result = openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result
    }
}

/// The identity of an open file as it is now.
pub(super) fn identity_of(file: BorrowedFd<'_>) -> Result<FileId, Errno> {
    fstat(file).map(|stat| identity(&stat))
}

fn identity(stat: &Stat) -> FileId {
    FileId {
        device: stat.st_dev,
        inode: stat.st_ino,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        modified: stat.st_mtime,
        // Below 10^9 by definition.
        modified_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        changed: stat.st_ctime,
        changed_ns: u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
    }
}

/// What a failed open means to the client.
fn refusal(path: &[u8], error: Errno) -> Status {
    match error {
        // ILSEQ: a file system that wants UTF-8, and a name that is none.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => {
            Status::NotFound
        }
        // XDEV: it leads out of www-root. NXIO: a socket, or a FIFO nobody writes to.
        Errno::ACCESS | Errno::PERM | Errno::XDEV | Errno::LOOP | Errno::NXIO => Status::Forbidden,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR => {
            Status::Unavailable
        }
        error => {
            complain("opened", path, &error);
            Status::Internal
        }
    }
}
