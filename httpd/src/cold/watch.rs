//! Changes on disk, as inotify(7) tells them.
//!
//! Directories are watched, not files: those on the way of each path that is cached, symlinks
//! followed, so that a renamed directory and a symlink that is swapped are noticed as a written
//! file is. An event marks its directory ([`Directory`]), and nothing more: each entry knows its
//! own way ([`Trail`]) and is compared with the disk when it is asked for next.
//!
//! Where that does not work, entries are compared every now and then, as if nothing was watched:
//! on network file systems, overlay and FUSE, whose contents change without this kernel's doing;
//! where a directory may be searched but not read; and beyond the number of watches that there
//! may be.

mod explore;

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::files::tells_events;
use crate::cache::{Cache, Directory, Millis, Trail};
use crate::limits::{MAX_REFUSAL_PATH, MAX_TRAILS, MAX_WATCHES, REWATCH_AFTER};
use crate::site::{Site, SiteId};

/// All that can make a path lead to something else. Not what is read.
const EVENTS: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);

/// Events are taken in batches this far apart: somebody who writes all the time costs no more.
const BATCH_INTERVAL: Duration = Duration::from_millis(10);
/// Events of a batch, of which the kernel merges those that are alike.
const BATCH: usize = 4096;
/// Room for some dozens of events with names, see inotify(7).
const BUFFER: usize = 16 * 1024;

/// The watched directories. The cold side's threads share it.
pub(super) struct Watch {
    /// None: nothing is watched.
    inotify: Option<OwnedFd>,
    /// Nothing is watched any more.
    failed: AtomicBool,
    /// Directories at the most.
    limit: usize,
    /// Whose clock it goes by.
    cache: Arc<Cache>,
    state: Mutex<State>,
    events: AtomicU64,
    overflows: AtomicU64,
    /// Ways that could not be watched.
    unwatched: AtomicU64,
    /// That there are too many was said.
    complained: AtomicBool,
}

#[derive(Default)]
struct State {
    /// By watch descriptor.
    directories: HashMap<i32, Arc<Directory>>,
    /// What is known of directories by their paths, with a slash at the end, if there is no
    /// symlink on the way.
    trails: HashMap<SiteId, HashMap<Box<[u8]>, Remembered>>,
    /// When watches that nobody needs were looked for.
    swept: Option<Millis>,
}

struct Remembered {
    /// None: it cannot be watched.
    trail: Option<Arc<Trail>>,
    since: Millis,
}

/// A directory cannot be watched.
struct Unwatchable;

/// A moment's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct WatchStats {
    /// Directories that are watched.
    directories: usize,
    /// Events that came.
    events: u64,
    /// How often the kernel lost some.
    overflows: u64,
    /// Ways that could not be watched.
    unwatched: u64,
}

impl Watch {
    /// `on`: watches directories; where it cannot, says why and watches nothing.
    pub(super) fn new(on: bool, cache: Arc<Cache>) -> Arc<Self> {
        Self::with_limit(on, cache, MAX_WATCHES)
    }

    fn with_limit(on: bool, cache: Arc<Cache>, limit: usize) -> Arc<Self> {
        let open = || inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = on.then(open).and_then(|opened| {
            let complain = |error: &Errno| {
                tracing::warn!(
                    %error,
                    "no inotify: files are compared when they are asked for; raise sysctl \
                     fs.inotify.max_user_instances"
                );
            };
            opened.inspect_err(complain).ok()
        });
        Arc::new(Self {
            inotify,
            failed: AtomicBool::new(false),
            limit,
            cache,
            state: Mutex::default(),
            events: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
            unwatched: AtomicU64::new(0),
            complained: AtomicBool::new(false),
        })
    }

    pub(super) fn stats(&self) -> WatchStats {
        WatchStats {
            directories: self.state().directories.len(),
            events: self.events.load(Ordering::Relaxed),
            overflows: self.overflows.load(Ordering::Relaxed),
            unwatched: self.unwatched.load(Ordering::Relaxed),
        }
    }

    /// The way of `path`, if it is known without waiting; `Some(None)`: it cannot be watched.
    pub(super) fn recall(&self, site: &Site, path: &[u8]) -> Option<Option<Arc<Trail>>> {
        if self.watches(site).is_none() {
            return Some(None);
        }
        let state = self.state();
        let known = state.trails.get(&site.id)?.get(directory_of(path))?;
        let valid = match &known.trail {
            Some(trail) => trail.moved() < known.since,
            None => self.now().0.saturating_sub(known.since.0) < REWATCH_AFTER.as_millis() as u64,
        };
        valid.then(|| known.trail.clone())
    }

    /// The way of `path`, from now on watched, if it can be. May wait for the disk.
    pub(super) fn explore(&self, site: &Site, path: &[u8]) -> Option<Arc<Trail>> {
        self.watches(site)?;
        let since = self.now();
        let (trail, whole) = match explore::explore(self, site, path) {
            Ok(found) => (Some(Arc::new(Trail::new(found.met, found.links))), found.whole),
            Err(Unwatchable) => {
                self.unwatched.fetch_add(1, Ordering::Relaxed);
                (None, true)
            }
        };
        // Where nothing is watched a directory need not be there, and so there are any number of them:
        // as of refusals, no long ones are remembered.
        if !whole || trail.is_none() && directory_of(path).len() > MAX_REFUSAL_PATH {
            return trail;
        }
        let mut state = self.state();
        if state.remembered() >= MAX_TRAILS {
            state.forget_unused();
        }
        if state.remembered() < MAX_TRAILS {
            let (directory, of_site) =
                (directory_of(path), state.trails.entry(site.id).or_default());
            let remembered = Remembered { trail: trail.clone(), since };
            match of_site.get_mut(directory) {
                // The same one, so that entries which have it are seen to be on the same way.
                Some(known) => match (&mut known.trail, &trail) {
                    (Some(old), Some(new)) if old.is_same(new) => known.since = since,
                    _ => *known = remembered,
                },
                None => {
                    of_site.insert(directory.into(), remembered);
                }
            }
        }
        trail
    }

    /// Forgets all sites but those that `keep` says.
    pub(super) fn retain(&self, keep: impl Fn(SiteId) -> bool) {
        let mut state = self.state();
        state.trails.retain(|site, _| keep(*site));
        self.sweep(&mut state);
    }

    fn watches(&self, site: &Site) -> Option<&OwnedFd> {
        let works = site.root.tells_events() && !self.failed.load(Ordering::Relaxed);
        self.inotify.as_ref().filter(|_| works)
    }

    /// Watches an open directory.
    fn watch(&self, directory: BorrowedFd<'_>) -> Result<Arc<Directory>, Unwatchable> {
        let inotify = self.inotify.as_ref().ok_or(Unwatchable)?;
        if !tells_events(directory) {
            return Err(Unwatchable);
        }
        // There is no way to name a directory by its descriptor but this.
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        // Held while the kernel is asked, so that no event is looked up before its directory
        // is there.
        let mut state = self.state();
        let mut added = inotify::add_watch(inotify, &path, EVENTS);
        if added == Err(Errno::NOSPC) && self.sweep_now_and_then(&mut state) {
            added = inotify::add_watch(inotify, &path, EVENTS);
        }
        let watch = added.map_err(|error| {
            if error == Errno::NOSPC {
                self.complain(state.directories.len(), "raise sysctl fs.inotify.max_user_watches");
            }
            Unwatchable
        })?;
        if let Some(known) = state.directories.get(&watch) {
            return Ok(Arc::clone(known));
        }
        if state.directories.len() >= self.limit {
            self.sweep_now_and_then(&mut state);
        }
        if state.directories.len() >= self.limit {
            // It was there a moment ago; and if it is gone, so much the better.
            let _ = inotify::remove_watch(inotify, watch);
            self.complain(self.limit, "put files into fewer directories");
            return Err(Unwatchable);
        }
        let new = Arc::new(Directory::default());
        state.directories.insert(watch, Arc::clone(&new));
        Ok(new)
    }

    fn complain(&self, watched: usize, remedy: &str) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                watched,
                "too many directories to watch: files in the others are compared when they are \
                 asked for, which costs more; {remedy}"
            );
        }
    }

    fn sweep_now_and_then(&self, state: &mut State) -> bool {
        const INTERVAL: u64 = 1000;
        let now = self.now();
        let due = state.swept.is_none_or(|swept| now.0.saturating_sub(swept.0) >= INTERVAL);
        if due {
            state.swept = Some(now);
            self.sweep(state);
        }
        due
    }

    /// Gives up the watches that no entry needs.
    fn sweep(&self, state: &mut State) {
        state.forget_unused();
        let Some(inotify) = &self.inotify else { return };
        state.directories.retain(|&watch, directory| {
            let needed = Arc::strong_count(directory) > 1;
            if !needed {
                // Its directory may be gone, and the watch with it.
                let _ = inotify::remove_watch(inotify, watch);
            }
            needed
        });
    }

    /// Takes events as they come.
    pub(super) async fn run(self: Arc<Self>) {
        let Some(inotify) = &self.inotify else { return };
        #[allow(
            deprecated,
            reason = "what replaces it is unsafe, for descriptors that may be closed meanwhile"
        )]
        let ready = match AsyncFd::with_interest(inotify.as_fd(), Interest::READABLE) {
            Ok(ready) => ready,
            Err(error) => return self.fail(&error),
        };
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(inotify, &mut buffer);
        loop {
            let mut guard = match ready.readable().await {
                Ok(guard) => guard,
                Err(error) => return self.fail(&error),
            };
            for _ in 0..BATCH {
                match events.next() {
                    Ok(event) => {
                        let named = event.file_name().is_some();
                        self.take(event.wd(), event.events(), named);
                    }
                    Err(Errno::AGAIN) => {
                        guard.clear_ready();
                        break;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return self.fail(&error),
                }
            }
            drop(guard);
            tokio::time::sleep(BATCH_INTERVAL).await;
        }
    }

    fn take(&self, watch: i32, flags: ReadFlags, named: bool) {
        self.events.fetch_add(1, Ordering::Relaxed);
        // Not before the change itself.
        let now = self.now();
        let mut state = self.state();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "changes on disk came too fast to be told: all files are compared again"
            );
            state.directories.values().for_each(|directory| directory.change(now, true));
        } else if flags.contains(ReadFlags::IGNORED) {
            // Deleted, or its file system was unmounted; or we gave it up, and forgot it.
            state.directories.remove(&watch).into_iter().for_each(|gone| gone.lose());
        } else if let Some(directory) = state.directories.get(&watch) {
            // Without a name it is the directory itself.
            directory.change(now, !named || flags.contains(ReadFlags::ISDIR));
        }
    }

    /// Never was it seen; should it be, nothing may pass for watched.
    fn fail(&self, error: &dyn std::fmt::Display) {
        tracing::error!(%error, "inotify has failed: files are compared when they are asked for");
        self.failed.store(true, Ordering::Relaxed);
        let mut state = self.state();
        state.trails.clear();
        state.directories.drain().for_each(|(_, directory)| directory.lose());
    }

    fn now(&self) -> Millis {
        self.cache.millis(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one of its parts only.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Directories whose ways are remembered.
    fn remembered(&self) -> usize {
        self.trails.values().map(HashMap::len).sum()
    }

    /// Forgets the ways that no entry goes.
    fn forget_unused(&mut self) {
        for of_site in self.trails.values_mut() {
            of_site.retain(|_, known| {
                known.trail.as_ref().is_some_and(|trail| Arc::strong_count(trail) > 1)
            });
        }
    }
}

/// The directory of a path, with its slash.
fn directory_of(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&octet| octet == b'/').map_or(0, |slash| slash + 1);
    &path[..end]
}

#[cfg(test)]
mod tests;
