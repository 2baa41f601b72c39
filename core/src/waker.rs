//! Waking a worker that sleeps in the kernel, from another thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The worker runs: it will look before it sleeps.
const AWAKE: u8 = 0;
/// The worker sleeps, or is about to: it must be told by the event.
const ASLEEP: u8 = 1;
/// The worker was woken and has not looked yet.
const WOKEN: u8 = 2;

#[derive(Debug)]
struct Shared {
    event: File,
    /// [`AWAKE`], [`ASLEEP`] or [`WOKEN`]. All changes are read-modify-write operations of this
    /// one variable, so a wake either comes before the worker goes to sleep, which
    /// then fails, or sees that it sleeps, and writes the event: none is lost.
    state: AtomicU8,
}

/// Wakes one worker. Cheap to clone, usable from any thread.
///
/// Only the wake that finds the worker asleep costs a system call.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

impl Waker {
    /// For a worker that does not sleep yet.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and has no other owner.
        let event = unsafe { File::from_raw_fd(fd) };
        Ok(Self { shared: Arc::new(Shared { event, state: AtomicU8::new(AWAKE) }) })
    }

    /// Makes the worker take another turn. What the caller did before this is seen by that
    /// turn.
    pub fn wake(&self) {
        if self.shared.state.swap(WOKEN, Ordering::AcqRel) == ASLEEP {
            // The counter cannot overflow: one write for each time that the worker sleeps.
            let _ = (&self.shared.event).write(&1u64.to_ne_bytes());
        }
    }

    /// The worker looks: true if it was woken since the last look. Everything that wakers did
    /// before is visible to what follows.
    pub(crate) fn take(&self) -> bool {
        self.is_pending() && self.shared.state.swap(AWAKE, Ordering::AcqRel) == WOKEN
    }

    /// Whether a wake has not been looked at.
    pub(crate) fn is_pending(&self) -> bool {
        self.shared.state.load(Ordering::Relaxed) == WOKEN
    }

    /// The worker wants to sleep: false if it was woken and must look first. From here until
    /// [`awake`](Self::awake) a wake writes the event.
    #[must_use]
    pub(crate) fn sleep(&self) -> bool {
        self.change(AWAKE, ASLEEP)
    }

    /// The worker does not sleep any more, whatever ended it.
    pub(crate) fn awake(&self) {
        // If this fails the worker was woken, which `take` will find.
        self.change(ASLEEP, AWAKE);
    }

    fn change(&self, from: u8, to: u8) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        self.shared.state.compare_exchange(from, to, success, failure).is_ok()
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
    use std::os::fd::AsRawFd;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::*;

    /// What the event counts, or `None` if it was not written.
    fn event(waker: &Waker) -> Option<u64> {
        let mut counter = [0; 8];
        (&waker.shared.event).read_exact(&mut counter).ok().map(|()| u64::from_ne_bytes(counter))
    }

    #[test]
    fn only_a_sleeper_is_woken_by_the_event() {
        let waker = Waker::new().unwrap();
        assert!(!waker.take());
        waker.wake();
        assert_eq!(event(&waker), None);
        assert!(!waker.sleep(), "it has not looked yet");
        assert!(waker.take() && !waker.take());
        assert!(waker.sleep());
        waker.wake();
        waker.clone().wake();
        assert_eq!(event(&waker), Some(1));
        waker.awake();
        assert!(waker.take());
        // Something else ends this sleep.
        assert!(waker.sleep());
        waker.awake();
        assert!(!waker.take());
        waker.wake();
        assert_eq!(event(&waker), None);
    }

    /// A worker that trusts the handshake gets through all of another thread's work; a
    /// lost wake would leave it asleep.
    #[test]
    fn no_wake_is_lost() {
        const WAKES: u32 = 100_000;
        let waker = Waker::new().unwrap();
        let done = AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for i in 1..=WAKES {
                    done.store(i, Ordering::Relaxed);
                    waker.wake();
                    // Sometimes let it fall asleep, sometimes catch it on its way.
                    for _ in 0..i % 256 {
                        std::hint::spin_loop();
                    }
                }
            });
            let mut seen = 0;
            while seen < WAKES {
                if waker.take() {
                    seen = done.load(Ordering::Relaxed);
                } else if waker.sleep() {
                    let fd = waker.event().as_raw_fd();
                    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                    // SAFETY: one pollfd, valid for the length of the call.
                    let ready = unsafe { libc::poll(&raw mut poll, 1, 10_000) };
                    assert_ne!(ready, 0, "a wake was lost after {seen}");
                    waker.awake();
                    waker.clear();
                }
            }
        });
    }
}
