//! What all of them count together, and what went wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Faults whose texts are kept: the first ones say most.
const KEPT: usize = 20;

/// Counters that only rise.
#[derive(Debug, Default)]
pub struct Tally {
    checked: AtomicU64,
    octets: AtomicU64,
    cut: AtomicU64,
    changed: AtomicU64,
    wrk: AtomicU64,
    h2load: AtomicU64,
    faults: AtomicU64,
    texts: Mutex<Vec<String>>,
}

/// What they stand at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers that were checked octet by octet, and their octets.
    pub checked: u64,
    /// See `checked`.
    pub octets: u64,
    /// Downloads that the client has cut.
    pub cut: u64,
    /// Files that were replaced.
    pub changed: u64,
    /// Requests that wrk has made.
    pub wrk: u64,
    /// And h2load.
    pub h2load: u64,
    /// What went wrong.
    pub faults: u64,
}

impl Tally {
    pub(super) fn checked(&self, octets: u64) {
        self.checked.fetch_add(1, Ordering::Relaxed);
        self.octets.fetch_add(octets, Ordering::Relaxed);
    }

    pub(super) fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn changed(&self) {
        self.changed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wrk(&self, requests: u64) {
        self.wrk.fetch_add(requests, Ordering::Relaxed);
    }

    pub(super) fn h2load(&self, requests: u64) {
        self.h2load.fetch_add(requests, Ordering::Relaxed);
    }

    /// Something went wrong.
    pub(super) fn fault(&self, text: String) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.len() < KEPT {
            eprintln!("FAULT: {text}");
            texts.push(text);
        }
    }

    /// The first of what went wrong.
    pub fn texts(&self) -> Vec<String> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How they stand.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            checked: of(&self.checked),
            octets: of(&self.octets),
            cut: of(&self.cut),
            changed: of(&self.changed),
            wrk: of(&self.wrk),
            h2load: of(&self.h2load),
            faults: of(&self.faults),
        }
    }
}
