//! When a CPU of this machine was somewhere else: the host had taken it from a virtual machine, or the
//! firmware from the kernel.
//!
//! A thread on each watched CPU sleeps for [`PERIOD`] after [`PERIOD`] with a priority above all that is
//! measured, so that it wakes up in time unless nothing runs there. It cannot tell a host's pause from a
//! stretch in which the kernel does not let go of the CPU, which a kernel without preemption may do for
//! some hundred frames: beside `perf record -a -e cpu-clock`, whose samples such a stretch does not stop,
//! four fifths and more of the time that the watchers had missed was the host's.

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::gettid;

use crate::machine;

/// How often a watcher looks.
const PERIOD: Duration = Duration::from_micros(500);
/// Who wakes up so much too late, was kept.
const LATE: Duration = Duration::from_micros(500);

/// A CPU did nothing from the first moment to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// When the watcher should have woken up.
    pub from: Instant,
    /// When it did.
    pub to: Instant,
}

impl Pause {
    /// Whether what was due and answered then may have waited for this pause: it was under way meanwhile, or
    /// began in as much time again, in which a server with half a load does what was left undone.
    pub fn touches(&self, due: Instant, answered: Instant) -> bool {
        let over = self.to + self.to.duration_since(self.from);
        answered >= self.from && due <= over
    }
}

/// Watchers at work.
#[derive(Debug)]
pub struct Watch {
    over: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<io::Result<Vec<Pause>>>>,
}

impl Watch {
    /// Has a watcher at each of these CPUs.
    pub fn start(cpus: &[usize]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let watchers = cpus
            .iter()
            .map(|&cpu| {
                let over = Arc::clone(&over);
                thread::spawn(move || watch(cpu, &over))
            })
            .collect();
        Self { over, watchers }
    }

    /// Ends them. The pauses that they have seen, CPU after CPU.
    ///
    /// # Errors
    /// When a watcher could not have its CPU or its priority (a real-time one, by `chrt` of util-linux).
    pub fn end(mut self) -> io::Result<Vec<Pause>> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for watcher in self.watchers.drain(..) {
            let pauses = watcher.join().map_err(|_| io::Error::other("a watcher panicked"))?;
            all.extend(pauses?);
        }
        Ok(all)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn watch(cpu: usize, over: &AtomicBool) -> io::Result<Vec<Pause>> {
    machine::pin(cpu)?;
    let own = gettid().as_raw_nonzero().to_string();
    let raised = Command::new("chrt").args(["--fifo", "--pid", "1", &own]).status()?;
    if !raised.success() {
        return Err(io::Error::other(format!("chrt gives no real-time priority: {raised}")));
    }
    let mut pauses = Vec::new();
    let mut due = Instant::now() + PERIOD;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        if now.saturating_duration_since(due) > LATE {
            pauses.push(Pause { from: due, to: now });
        }
        due = now + PERIOD;
    }
    Ok(pauses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_touches_what_waits_and_what_comes_just_after() {
        let ms = |ms| Duration::from_millis(ms);
        let start = Instant::now();
        let pause = Pause { from: start + ms(100), to: start + ms(110) };
        let touches = |due, answered| pause.touches(start + ms(due), start + ms(answered));
        assert!(!touches(90, 99) && touches(90, 100) && touches(105, 106));
        assert!(touches(90, 200) && touches(120, 121) && !touches(121, 122));
    }
}
