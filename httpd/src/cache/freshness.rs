//! How current an entry is: when its file was compared last, and when it is compared next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Trail;
use crate::limits::{CHANGE_INTERVAL, REVALIDATE_AFTER, STALE_AT_MOST, WATCHED_REVALIDATE_AFTER};

/// Milliseconds since the cache was made: the one clock of its entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) u64);

/// What is to be done about an entry before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Nothing.
    Fresh,
    /// It is served, and compared alongside.
    Due,
    /// It is compared first.
    TooOld,
}

/// Kept with each entry; workers read it, the cold side writes it.
#[derive(Debug)]
pub(crate) struct Freshness {
    /// When a comparison that found it the same began.
    checked: AtomicU64,
    /// Somebody has asked for a comparison, and it is under way.
    comparing: AtomicBool,
    /// The disk has not answered in time: until it does nobody waits for it any more.
    late: AtomicBool,
    /// The directories that tell of changes; `None`: nobody does.
    trail: Option<Arc<Trail>>,
}

impl Freshness {
    /// Of what was looked at `checked`, or later, along `trail` if that is watched.
    pub(crate) fn new(checked: Millis, trail: Option<Arc<Trail>>) -> Self {
        Self {
            checked: AtomicU64::new(checked.0),
            comparing: AtomicBool::new(false),
            late: AtomicBool::new(false),
            trail,
        }
    }

    pub(crate) fn age(&self, now: Millis) -> Age {
        let checked = self.checked();
        let (due, old) = match &self.trail {
            Some(trail) if trail.changed() < checked => (WATCHED_REVALIDATE_AFTER, Duration::MAX),
            Some(_) => (CHANGE_INTERVAL, CHANGE_INTERVAL),
            None => (REVALIDATE_AFTER, STALE_AT_MOST),
        };
        let age = u128::from(now.0.saturating_sub(checked.0));
        if age <= due.as_millis() {
            Age::Fresh
        } else if age <= old.as_millis() || self.late.load(Ordering::Relaxed) {
            Age::Due
        } else {
            Age::TooOld
        }
    }

    /// Whether the caller shall ask for the comparison that is due; true for one caller only until
    /// [`touch`](Self::touch) or [`give_up`](Self::give_up).
    pub(crate) fn begin(&self) -> bool {
        !self.comparing.swap(true, Ordering::Relaxed)
    }

    /// The way to it, if that is watched.
    pub(crate) fn trail(&self) -> Option<&Arc<Trail>> {
        self.trail.as_ref()
    }

    /// When the comparison began that found it as it is.
    pub(crate) fn checked(&self) -> Millis {
        Millis(self.checked.load(Ordering::Relaxed))
    }

    /// It is still the same, as a comparison that began at `checked` has found.
    pub(crate) fn touch(&self, checked: Millis) {
        self.checked.store(checked.0, Ordering::Relaxed);
        self.give_up();
    }

    /// It is not what it was: it is compared before it is served again.
    pub(crate) fn expire(&self) {
        self.checked.store(0, Ordering::Relaxed);
    }

    /// Nobody knows; the next lookup that finds it due or too old asks again.
    pub(crate) fn give_up(&self) {
        self.late.store(false, Ordering::Relaxed);
        self.comparing.store(false, Ordering::Relaxed);
    }

    /// The comparison takes too long to wait for it.
    pub(crate) fn set_late(&self) {
        self.late.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Directory;

    #[test]
    fn one_caller_compares() {
        let (due, old) =
            (REVALIDATE_AFTER.as_millis() as u64 + 1, STALE_AT_MOST.as_millis() as u64 + 1);
        let entry = Freshness::new(Millis(0), None);
        assert_eq!(entry.age(Millis(due - 1)), Age::Fresh);
        assert_eq!(entry.age(Millis(due)), Age::Due);
        assert!(entry.begin() && !entry.begin());
        assert_eq!(entry.age(Millis(old)), Age::TooOld, "one is under way, and it is waited for");
        entry.touch(Millis(due));
        assert_eq!(entry.age(Millis(old)), Age::Due);
        assert!(entry.begin());
        entry.expire();
        assert_eq!(entry.age(Millis(old)), Age::TooOld);
    }

    #[test]
    fn nobody_waits_for_a_disk_that_does_not_answer() {
        let entry = Freshness::new(Millis(0), None);
        let (now, then) = (Millis(1_000_000), Millis(2_000_000));
        assert_eq!(entry.age(now), Age::TooOld);
        entry.set_late();
        assert_eq!(entry.age(now), Age::Due);
        entry.touch(now);
        assert_eq!((entry.age(now), entry.age(then)), (Age::Fresh, Age::TooOld));
    }

    #[test]
    fn what_is_watched_is_fresh_until_something_changes() {
        let directory = Arc::new(Directory::default());
        let trail = Arc::new(Trail::new(vec![Arc::clone(&directory)], false));
        let entry = Freshness::new(Millis(1000), Some(trail));
        let rest = WATCHED_REVALIDATE_AFTER.as_millis() as u64;
        assert_eq!(entry.age(Millis(1000 + rest)), Age::Fresh);
        // What nobody tells of is found in the end; nobody waits for that.
        assert_eq!(entry.age(Millis(1001 + rest)), Age::Due);
        assert_eq!(entry.age(Millis(1000 * rest)), Age::Due);
        // In the same millisecond it may have been before or after.
        for at in [1000, 1001] {
            directory.change(Millis(at), false);
            assert_eq!(entry.age(Millis(2000)), Age::TooOld);
        }
        entry.touch(Millis(2000));
        assert_eq!(entry.age(Millis(2000 + rest)), Age::Fresh);
        // Where something changes all the time not each request waits for a comparison.
        directory.change(Millis(2001), false);
        let interval = CHANGE_INTERVAL.as_millis() as u64;
        assert_eq!(entry.age(Millis(2000 + interval)), Age::Fresh);
        assert_eq!(entry.age(Millis(2001 + interval)), Age::TooOld);
    }
}
