//! Waking a worker that sleeps in the kernel, from another thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
struct Shared {
    event: File,
    /// Set by the first wake after the worker has looked; spares the system call of those
    /// that follow.
    pending: AtomicBool,
}

/// Wakes one worker. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and has no other owner.
        let event = unsafe { File::from_raw_fd(fd) };
        Ok(Self { shared: Arc::new(Shared { event, pending: AtomicBool::new(false) }) })
    }

    /// Makes the worker take another turn. What the caller did before this is seen by that
    /// turn.
    pub fn wake(&self) {
        if !self.shared.pending.swap(true, Ordering::AcqRel) {
            // The counter cannot overflow: one write for each time that the worker looked.
            let _ = (&self.shared.event).write(&1u64.to_ne_bytes());
        }
    }

    /// The worker looks: true if it was woken since the last look. Everything that wakers did
    /// before is visible to what follows.
    pub(crate) fn take(&self) -> bool {
        self.shared.pending.load(Ordering::Relaxed)
            && self.shared.pending.swap(false, Ordering::AcqRel)
    }

    /// Whether a wake has not been looked at.
    pub(crate) fn is_pending(&self) -> bool {
        self.shared.pending.load(Ordering::Relaxed)
    }

    /// Makes the event unreadable again.
    pub(crate) fn clear(&self) {
        let _ = (&self.shared.event).read(&mut [0; 8]);
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wakes_are_one_until_it_is_looked_at() {
        let waker = Waker::new().unwrap();
        assert!(!waker.take());
        waker.wake();
        waker.clone().wake();
        let mut counter = [0; 8];
        (&waker.shared.event).read_exact(&mut counter).unwrap();
        assert_eq!(u64::from_ne_bytes(counter), 1);
        assert!(waker.take());
        assert!(!waker.take());
        waker.wake();
        assert!((&waker.shared.event).read(&mut counter).is_ok());
    }
}
