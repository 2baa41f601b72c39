//! Where the process is in its life, and whether its workers' loops turn: what probes and a
//! supervisor are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Workers are asked so often whether they turn.
pub const BEAT: Duration = Duration::from_secs(1);
/// A worker that has not turned for so long after it was asked to is stuck: ten times what its
/// longest turn takes on a machine that has no time for it would still be less.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not all workers run yet.
    Starting,
    /// They run.
    Serving,
    /// Told to end: what is under way is finished.
    Draining,
}

/// What a supervisor is told, as it happens (sd_notify(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// All addresses can be used, or sites and limits have been read again.
    Ready,
    /// Sites and limits are being read again.
    Reloading,
    /// The end has begun.
    Stopping,
}

/// Health of the process; all threads may ask and tell.
#[derive(Debug)]
pub struct Health {
    since: Instant,
    phase: AtomicU8,
    lame_duck: AtomicBool,
    /// For each worker when it was asked to turn, in milliseconds; 0: it has turned since.
    asked: Box<[AtomicU64]>,
    notices: mpsc::UnboundedSender<Notice>,
}

/// What a worker answers by dropping it in its next turn.
#[derive(Debug)]
pub struct Beat {
    health: Arc<Health>,
    worker: usize,
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.health.asked[self.worker].store(0, Ordering::Relaxed);
    }
}

impl Health {
    /// That of a process with so many workers, and what its supervisor is to be told.
    pub fn new(workers: usize) -> (Arc<Self>, mpsc::UnboundedReceiver<Notice>) {
        let (notices, told) = mpsc::unbounded_channel();
        let health = Self {
            since: Instant::now(),
            phase: AtomicU8::new(Phase::Starting as u8),
            lame_duck: AtomicBool::new(false),
            asked: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            notices,
        };
        (Arc::new(health), told)
    }

    /// All workers run.
    pub fn started(&self) {
        let (from, to) = (Phase::Starting as u8, Phase::Serving as u8);
        // One that was told to end before does not begin to serve.
        let _ = self.phase.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The end begins. Says whether it had begun before.
    pub fn drain(&self) -> bool {
        let before = self.phase.swap(Phase::Draining as u8, Ordering::Relaxed);
        self.tell(Notice::Stopping);
        before == Phase::Draining as u8
    }

    /// Clients are to go elsewhere before the end, or are not any more. Says whether that is news.
    pub fn set_lame_duck(&self, on: bool) -> bool {
        self.lame_duck.swap(on, Ordering::Relaxed) != on
    }

    /// Whether clients are to go elsewhere before the end.
    pub fn is_lame_duck(&self) -> bool {
        self.lame_duck.load(Ordering::Relaxed)
    }

    /// Where the process is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Starting as u8 => Phase::Starting,
            phase if phase == Phase::Serving as u8 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Tells the supervisor, if there is one.
    pub fn tell(&self, notice: Notice) {
        // Without one nobody listens.
        let _ = self.notices.send(notice);
    }

    /// For each worker what it is to be asked with, unless it still owes an answer.
    pub fn beats(self: &Arc<Self>) -> Vec<Option<Beat>> {
        let now = self.now();
        let beat = |(worker, asked): (usize, &AtomicU64)| {
            let free = asked.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            free.ok().map(|_| Beat { health: Arc::clone(self), worker })
        };
        self.asked.iter().enumerate().map(beat).collect()
    }

    /// The workers that do not turn, each with how long it has not.
    pub fn stuck(&self) -> Vec<(usize, Duration)> {
        self.stuck_at(self.now())
    }

    fn stuck_at(&self, now: u64) -> Vec<(usize, Duration)> {
        let waited = |asked: &AtomicU64| match asked.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            at => Duration::from_millis(now.saturating_sub(at)),
        };
        let each = self.asked.iter().map(waited).enumerate();
        each.filter(|(_, waited)| *waited > STUCK_AFTER).collect()
    }

    /// Milliseconds, never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_owes_an_answer_is_stuck_in_the_end_and_is_asked_no_more() {
        let (health, _) = Health::new(2);
        let mut beats = health.beats();
        assert!(beats.iter().all(Option::is_some));
        // The first one answers.
        beats[0] = None;
        let again = health.beats();
        assert!(again[0].is_some() && again[1].is_none());
        drop(again);
        let later = health.now() + 10_500;
        let stuck = health.stuck_at(later);
        assert!(matches!(stuck[..], [(1, waited)] if waited > STUCK_AFTER), "{stuck:?}");
        assert_eq!(health.stuck(), []);
        drop(beats);
        assert_eq!(health.stuck_at(later), []);
    }

    #[test]
    fn the_end_is_the_last_phase() {
        let (health, mut told) = Health::new(1);
        assert_eq!(health.phase(), Phase::Starting);
        health.started();
        assert_eq!(health.phase(), Phase::Serving);
        assert!(!health.drain() && health.drain());
        health.started();
        assert_eq!(health.phase(), Phase::Draining);
        assert_eq!(told.try_recv(), Ok(Notice::Stopping));
    }
}
