//! The generator: a thread in the client's namespace that sends forged frames at a rate.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tagwire_core::lab::{FrameSender, MAX_BATCH};
use tagwire_lab::{CLIENT_INTERFACE, Lab};

use super::frames::Forge;
use crate::pace::CLIENT_CPU;
use crate::{BenchError, machine};

/// How often a paced flood sends what is due.
const TICK: Duration = Duration::from_micros(500);
/// Forged before the flood begins and sent again and again: what is measured is the server, not how fast
/// frames can be made up. More than any table of the server's holds.
const POOL: usize = 1 << 17;

/// How fast, and how many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// Frames in a second; `None`: as many as go.
    pub rate: Option<u64>,
    /// The flood ends after so many; `None`: when it is stopped.
    pub frames: Option<u64>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// In so many microseconds.
    pub micros: u64,
}

impl Sent {
    /// Frames in a second.
    pub fn rate(self) -> f64 {
        self.frames as f64 * 1e6 / self.micros.max(1) as f64
    }
}

/// A flood under way. It stops when this is dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    frames: Arc<AtomicU64>,
    start: Instant,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Flood {
    /// Begins to send, on CPU 0 if `pinned`, at no higher priority than anything else there.
    ///
    /// # Errors
    /// When there is no sending from the client's interface.
    pub fn start(
        lab: &Lab,
        mut forge: Forge,
        pace: Pace,
        pinned: bool,
    ) -> Result<Self, BenchError> {
        let index = lab.client().interface_index(CLIENT_INTERFACE)?;
        let sender = lab.client().run(|| FrameSender::open(index))??;
        let pool = pace.frames.map_or(POOL, |frames| POOL.min(frames.max(1) as usize));
        // A flood that is counted is of frames that are all different.
        let fresh = pace.frames.is_some();
        let mut frames: Vec<Vec<u8>> = vec![Vec::new(); if fresh { MAX_BATCH } else { pool }];
        frames.iter_mut().for_each(|frame| forge.write(frame));
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let start = Instant::now();
        let thread = thread::Builder::new().name("flood".to_owned()).spawn(move || {
            if pinned {
                machine::pin(CLIENT_CPU)?;
            }
            let mut next = 0;
            while !stopped.load(Ordering::Relaxed) {
                let sent = counted.load(Ordering::Relaxed);
                let until = match pace.rate {
                    Some(rate) => (rate as f64 * start.elapsed().as_secs_f64()) as u64,
                    None => u64::MAX,
                };
                let due = until.min(pace.frames.unwrap_or(u64::MAX)).saturating_sub(sent);
                if due == 0 {
                    if pace.frames.is_some_and(|frames| sent >= frames) {
                        return Ok(());
                    }
                    thread::sleep(TICK);
                    continue;
                }
                let end = frames.len().min(next + (due as usize).min(MAX_BATCH));
                let gone = sender.send(&frames[next..end])?;
                if fresh {
                    frames[next..next + gone].iter_mut().for_each(|frame| forge.write(frame));
                }
                next = (next + gone) % frames.len();
                counted.fetch_add(gone as u64, Ordering::Relaxed);
            }
            Ok(())
        })?;
        Ok(Self { stop, frames: count, start, thread: Some(thread) })
    }

    /// Stops it, unless it has ended.
    ///
    /// # Errors
    /// When it could not send all along.
    pub fn stop(mut self) -> Result<Sent, BenchError> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits for the end of a flood of a number of frames.
    ///
    /// # Errors
    /// When it could not send all along.
    pub fn wait(mut self) -> Result<Sent, BenchError> {
        self.join()
    }

    fn join(&mut self) -> Result<Sent, BenchError> {
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| "the flood's thread has panicked")??;
        }
        let micros = self.start.elapsed().as_micros() as u64;
        Ok(Sent { frames: self.frames.load(Ordering::Relaxed), micros })
    }

    /// Whether all is sent.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.join();
    }
}
