//! Files beneath www-root: how a path is resolved, and why it cannot leave.
//!
//! 1. `openat2` with `RESOLVE_BENEATH`: no `..`, no absolute path and no symlink gets out.
//! 2. First with `O_PATH`, which opens nothing: FIFOs, devices and sockets are recognised
//!    without being touched.
//! 3. Only a regular file is then opened for reading, and compared with what step 2 saw.
//!
//! A look at a disk can take as long as the disk likes. What the kernel has in its memory is looked
//! at on the spot ([`Walk::Plain`]); what it has not, on a thread of its own ([`Walk::Any`]).

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, openat, openat2};
use rustix::io::Errno;

use crate::cache::FileId;
use crate::respond::Status;

/// Complaints about files are this far apart: a peer can ask for a broken one as fast as it likes.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Logs what is wrong with the file at `path`, now and then: all threads that look at files together.
pub(super) fn complain(what: &str, path: &[u8], error: &dyn Display) {
    static LAST: Mutex<(Option<Instant>, u64)> = Mutex::new((None, 0));
    let now = Instant::now();
    let unsaid = {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.is_some_and(|last| now.saturating_duration_since(last) < COMPLAINT_INTERVAL) {
            last.1 += 1;
            return;
        }
        std::mem::replace(&mut *last, (Some(now), 0)).1
    };
    tracing::warn!(error = %error, path = %path.escape_ascii(), unsaid, "a file cannot be {what}");
}

/// How a path is gone along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// Through what the kernel has in its memory, of one local file system and without symlinks:
    /// it never waits, and cannot always tell.
    Plain,
    /// The same, but through what is on the disk too.
    Straight,
    /// Wherever it leads, which may take its time.
    Any,
}

/// Why a path leads to nothing that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// That is the answer.
    Refused(Status),
    /// Only [`Walk::Any`] can tell.
    NotPlain,
}

/// What a look has told; `None`: it could not tell.
pub(super) fn told<T>(found: Result<T, Stop>) -> Option<Result<T, Status>> {
    match found {
        Ok(found) => Some(Ok(found)),
        Err(Stop::Refused(status)) => Some(Err(status)),
        Err(Stop::NotPlain) => None,
    }
}

/// Local file systems (statfs(2), linux/magic.h): they answer from the kernel's memory without
/// asking anybody. Network file systems do not, nor does FUSE.
const LOCAL: [u64; 15] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0xf2f5_2010, // F2FS
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // ZFS
    0x7371_7368, // SquashFS
    0xe0f5_e1e2, // EROFS
    0x0000_9660, // ISO 9660
    0x0000_4d44, // FAT
    0x2011_bab0, // exFAT
    0x7366_746e, // NTFS
    0x3153_464a, // JFS
    OVERLAY,
];

/// Layers of other file systems, nearly always local ones: a container's image.
const OVERLAY: u64 = 0x794c_7630;

/// www-root, held open: it stays the same directory whatever its name leads to later.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
    /// It lies on a local file system.
    local: bool,
    /// It is one whose changes inotify tells.
    tells_events: bool,
}

/// What a path leads to.
pub(super) enum Found {
    File(FileId),
    Directory(FileId),
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let local = fstatfs(&directory).is_ok_and(|stat| LOCAL.contains(&(stat.f_type as u64)));
        let tells_events = tells_events(directory.as_fd());
        let root = Self { directory, local, tells_events };
        // Says at start, not at the first request, whether openat2 is there and search allowed.
        match root.open_beneath(b".", OFlags::PATH, Walk::Any) {
            Err(Errno::NOSYS) => Err(io::Error::from(io::ErrorKind::Unsupported)),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(root),
        }
    }

    /// Whether names in it can be looked up still.
    ///
    /// # Errors
    /// They cannot: why.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.open_beneath(b".", OFlags::PATH, Walk::Any)?;
        if fstat(&self.directory)?.st_nlink == 0 {
            return Err(io::Error::other("the directory was removed; make it again, then reload"));
        }
        Ok(())
    }

    /// Whether both are the same directory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let place = |root: &Self| fstat(&root.directory).map(|stat| (stat.st_dev, stat.st_ino));
        place(self).is_ok_and(|here| place(other) == Ok(here))
    }

    /// Whether open files can be asked for their state on the spot.
    pub(super) fn is_local(&self) -> bool {
        self.local
    }

    /// As if it were not on a local file system.
    #[cfg(test)]
    pub(super) fn make_foreign(&mut self) {
        (self.local, self.tells_events) = (false, false);
    }

    /// Whether inotify tells what changes in it.
    pub(super) fn tells_events(&self) -> bool {
        self.tells_events
    }

    /// The directory once more, to look up names in it.
    pub(super) fn reopen(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.directory, c".", flags, Mode::empty())
    }

    /// Looks at `path` without opening it.
    pub(super) fn find(&self, path: &[u8], walk: Walk) -> Result<Found, Stop> {
        let (_, stat) = self.go(path, OFlags::PATH, walk)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Found::File(identity(&stat))),
            FileType::Directory => Ok(Found::Directory(identity(&stat))),
            _ => Err(Stop::Refused(Status::Forbidden)),
        }
    }

    /// Opens the regular file that [`find`](Self::find) has seen at `path`.
    pub(super) fn open_file(&self, path: &[u8], walk: Walk) -> Result<(OwnedFd, FileId), Stop> {
        // NONBLOCK: should a FIFO have taken the file's place since, opening it does not hang.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (file, stat) = self.go(path, flags, walk)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Stop::Refused(Status::Forbidden));
        }
        // io_uring would answer EAGAIN instead of waiting for the disk.
        rustix::fs::fcntl_setfl(&file, OFlags::empty())
            .map_err(|error| Stop::Refused(refusal(path, error)))?;
        Ok((file, identity(&stat)))
    }

    /// Opens the directory at `path`, as it is now.
    pub(super) fn open_directory(&self, path: &[u8]) -> Result<(OwnedFd, FileId), Stop> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (directory, stat) = self.go(path, flags, Walk::Any)?;
        Ok((directory, identity(&stat)))
    }

    fn go(&self, path: &[u8], flags: OFlags, walk: Walk) -> Result<(OwnedFd, Stat), Stop> {
        if walk == Walk::Plain && !self.local {
            return Err(Stop::NotPlain);
        }
        let path = if path.is_empty() { b"." } else { path };
        let refused = |error| Stop::Refused(refusal(path, error));
        let found = self.open_beneath(path, flags, walk).map_err(|error| match (walk, error) {
            // Not in memory; another mount, or out of www-root; a symlink.
            (Walk::Plain | Walk::Straight, Errno::AGAIN | Errno::XDEV | Errno::LOOP) => {
                Stop::NotPlain
            }
            _ => refused(error),
        })?;
        let stat = fstat(&found).map_err(refused)?;
        Ok((found, stat))
    }

    fn open_beneath(&self, path: &[u8], flags: OFlags, walk: Walk) -> Result<OwnedFd, Errno> {
        let fence = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let straight = fence | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        // A rename somewhere beneath the root at the same moment makes the kernel unsure whether
        // a `..` in a symlink got out: it says EAGAIN, and asks to be asked again.
        let (resolve, attempts) = match walk {
            Walk::Plain => (straight | ResolveFlags::CACHED, 1),
            Walk::Straight => (straight, 1),
            Walk::Any => (fence, 16),
        };
        let mut result = Err(Errno::AGAIN);
        for _ in 0..attempts {
            let flags = flags | OFlags::CLOEXEC;
            result = openat2(&self.directory, path, flags, Mode::empty(), resolve);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result
    }
}

/// Whether inotify tells what changes in a directory: of an overlay it does not when a layer
/// changes beneath it, and of others only what this kernel does itself.
pub(super) fn tells_events(directory: BorrowedFd<'_>) -> bool {
    let kind = fstatfs(directory).map(|stat| stat.f_type as u64);
    kind.is_ok_and(|kind| LOCAL.contains(&kind) && kind != OVERLAY)
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
        #[allow(clippy::unnecessary_cast, reason = "it has 32 bits on other machines")]
        links: stat.st_nlink as u64,
    }
}

/// What a failed open means to the client.
pub(super) fn refusal(path: &[u8], error: Errno) -> Status {
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
