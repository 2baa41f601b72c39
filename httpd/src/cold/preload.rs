//! `--preload`: what would be served is loaded before anybody asks for it.
//!
//! A thread aside goes through each site's directories ([`Walk`]) and tells what it finds; the cold
//! thread loads it, as if it had been asked for. Files come first that are cached whole, then those
//! in chunks, the shorter ones first. What the cache has no room for is left out: what is loaded shall
//! not push out what was loaded before ([`Space`]).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, statat};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;

use super::directory::is_unfit;
use super::files::{Found, Stop, Walk as Way, complain, refusal};
use super::load::Loader;
use super::runtime::{aside, spawn};
use super::{LoadError, Loaded, Room, waiter};
use crate::cache::{Answer, Cache, CacheStats, Entry, Span};
use crate::content::Wake;
use crate::encoding::Coding;
use crate::limits::CHUNK;
use crate::respond::Status;
use crate::site::{Site, Sites};

/// Files that are loaded at the same time: fewer than wait for compression at the most, so that none is
/// put off.
const LOADS: usize = 8;
const ALL_LOADS: u32 = LOADS as u32;
/// Files that were found and wait to be loaded.
const FOUND: usize = 64;
/// Files in chunks that are remembered until the others are loaded.
const LARGE: usize = 4096;
/// What an entry takes beside its content, roughly.
const ENTRY: u64 = 1500;
/// How often the log says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// How far it is.
#[derive(Debug, Default)]
pub(crate) struct Preload {
    begun: OnceLock<Instant>,
    /// How long it took.
    took: OnceLock<Duration>,
    found: AtomicU64,
    loaded: AtomicU64,
    octets: AtomicU64,
    failed: AtomicU64,
    /// The first of these.
    first_failed: OnceLock<Box<[u8]>>,
    left_out: AtomicU64,
    /// Nothing more was looked for, as the cache was full.
    full: AtomicBool,
}

/// A moment's figures of it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct PreloadStats {
    /// It is over, and the appliance serves.
    pub(crate) done: bool,
    pub(crate) seconds: f64,
    /// Files that would be served.
    pub(crate) found: u64,
    /// Those of them that are in the cache.
    pub(crate) loaded: u64,
    /// Their octets on disk.
    pub(crate) octets: u64,
    /// Those that could not be read.
    pub(crate) failed: u64,
    /// Those that the cache has no room for, of those that were found.
    pub(crate) left_out: u64,
    /// The cache is full, so that not all files were looked for.
    pub(crate) full: bool,
}

impl Preload {
    /// The figures; `None`: nobody wants it.
    pub(super) fn stats(&self) -> Option<PreloadStats> {
        let begun = self.begun.get()?;
        let took = self.took.get();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(PreloadStats {
            done: took.is_some(),
            seconds: took.copied().unwrap_or_else(|| begun.elapsed()).as_secs_f64(),
            found: count(&self.found),
            loaded: count(&self.loaded),
            octets: count(&self.octets),
            failed: count(&self.failed),
            left_out: count(&self.left_out),
            full: self.full.load(Ordering::Relaxed),
        })
    }

    /// Counts a file that cannot be had; why, the cold side complains of by itself.
    fn fail(&self, path: &[u8]) {
        add(&self.failed, 1);
        let _ = self.first_failed.set(path.into());
    }

    /// So many of what was loaded had to go again.
    fn lose(&self, count: u64) {
        let count = count.min(self.loaded.load(Ordering::Relaxed));
        self.loaded.fetch_sub(count, Ordering::Relaxed);
        add(&self.left_out, count);
    }

    fn report(&self, what: &str) {
        let Some(PreloadStats { found, loaded, octets, failed, left_out, seconds, .. }) =
            self.stats()
        else {
            return;
        };
        tracing::info!(loaded, found, octets, failed, left_out, seconds, "{what}");
    }
}

impl PreloadStats {
    /// Why nothing is served yet, unless it is over.
    pub(crate) fn missing(&self) -> Option<String> {
        let Self { done, loaded, found, .. } = self;
        (!done).then(|| {
            format!("starting: {loaded} files are preloaded, of {found} that were found so far")
        })
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Calls who waits, however it ends.
pub(crate) struct Done(Option<Box<dyn FnOnce() + Send>>);

impl Done {
    pub(crate) fn new(call: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(call)))
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}

/// Loads what `sites` serve, and then drops `done`.
pub(super) async fn run(loader: Rc<Loader>, preload: Arc<Preload>, sites: Arc<Sites>, done: Done) {
    let begun = *preload.begun.get_or_init(Instant::now);
    let told = Arc::clone(&preload);
    let progress = spawn(async move {
        loop {
            told.report("preloading");
            sleep(PROGRESS).await;
        }
    });
    let (found, mut files) = mpsc::channel(FOUND);
    let walk = aside(move || {
        // Nobody hears what a walk finds that goes on once the cache is full, or after the end.
        let _ = sites.iter().try_for_each(|site| Walk { site, found: &found }.through_all());
    });
    let space = Space::new(&loader.cache);
    let loads = async {
        let mut large = load_files(&loader, &preload, &space, &mut files).await;
        large.sort_by_key(|large| large.len);
        for large in large {
            large.load(&loader, &preload, &space).await;
        }
    };
    tokio::join!(walk, loads);
    progress.abort();
    preload.lose(space.pushed_out());
    let _ = preload.took.set(begun.elapsed());
    preload.report("preloaded");
    if let Some(first) = preload.first_failed.get() {
        let failed = preload.failed.load(Ordering::Relaxed);
        tracing::warn!(failed, first = %first.escape_ascii(), "files could not be preloaded");
    }
    let left_out = preload.left_out.load(Ordering::Relaxed);
    if left_out > 0 {
        let capacity = loader.cache.stats().capacity;
        let at_least = preload.full.load(Ordering::Relaxed);
        tracing::warn!(
            left_out,
            at_least,
            capacity,
            "the cache has no room for all that is served; raise --cache-size to preload the rest"
        );
    }
    drop(done);
}

/// Room in the cache.
struct Space {
    cache: Arc<Cache>,
    /// Evictions before it began.
    before: u64,
    /// Octets that are being loaded.
    coming: Cell<u64>,
}

impl Space {
    fn new(cache: &Arc<Cache>) -> Rc<Self> {
        let before = cache.stats().evictions;
        Rc::new(Self { cache: Arc::clone(cache), before, coming: Cell::new(0) })
    }

    /// What had to go nevertheless, as the cache's parts fill up unevenly.
    fn pushed_out(&self) -> u64 {
        self.cache.stats().evictions.saturating_sub(self.before)
    }

    /// Whether there is room for so many octets beside those that are coming. Once something was
    /// pushed out there is none any more.
    fn has(&self, octets: u64) -> bool {
        let CacheStats { bytes, capacity, evictions, .. } = self.cache.stats();
        let needed = bytes.saturating_add(self.coming.get()).saturating_add(octets);
        needed <= capacity / 8 * 7 && evictions == self.before
    }
}

/// A file that would be served.
struct File {
    site: Arc<Site>,
    /// As it is asked for.
    path: Vec<u8>,
    len: u64,
}

/// Loads all that are found and have room. Returns those that come in chunks.
async fn load_files(
    loader: &Rc<Loader>,
    preload: &Arc<Preload>,
    space: &Rc<Space>,
    files: &mut mpsc::Receiver<File>,
) -> Vec<Large> {
    let places = Arc::new(Semaphore::new(LOADS));
    let large = Rc::new(RefCell::new(Vec::new()));
    while let Some(file) = files.recv().await {
        add(&preload.found, 1);
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let octets = ENTRY + if file.is_large() { 0 } else { file.len };
        if !space.has(octets) {
            // What is on its way was estimated: wait for what it really takes.
            let _ = places.acquire_many(ALL_LOADS - 1).await;
        }
        if !space.has(octets) {
            add(&preload.left_out, 1);
            // Where not even an empty file has room a walk through all the others would only delay the start.
            if !space.has(ENTRY) {
                preload.full.store(true, Ordering::Relaxed);
                files.close();
            }
            continue;
        }
        space.coming.set(space.coming.get() + octets);
        let (loader, preload, space) = (Rc::clone(loader), Arc::clone(preload), Rc::clone(space));
        let large = Rc::clone(&large);
        spawn(async move {
            if let Some(found) = file.load(&loader, &preload).await {
                let mut large = large.borrow_mut();
                if large.len() < LARGE {
                    large.push(found);
                } else {
                    add(&preload.left_out, 1);
                }
            }
            space.coming.set(space.coming.get() - octets);
            drop(place);
        });
    }
    let _ = places.acquire_many(ALL_LOADS).await;
    large.take()
}

impl File {
    fn is_large(&self) -> bool {
        self.len > CHUNK as u64
    }

    /// Loads it, and all that it is compressed to; what is left of it, if it comes in chunks.
    async fn load(self, loader: &Rc<Loader>, preload: &Preload) -> Option<Large> {
        let entry = loader.load_whole(&self.site, &self.path).await;
        match &entry.answer {
            Answer::File(file) if file.body.is_none() => {
                let len = file.id.len;
                return Some(Large { site: self.site, entry, len });
            }
            Answer::Refused(_) => preload.fail(&self.path),
            Answer::File(_) | Answer::Listing(_) | Answer::Redirect(_) => {
                add(&preload.loaded, 1);
                add(&preload.octets, self.len);
            }
        }
        None
    }
}

/// A file of which the chunks are still missing.
struct Large {
    site: Arc<Site>,
    entry: Arc<Entry>,
    len: u64,
}

impl Large {
    /// Loads its chunks, if all of them have room.
    async fn load(self, loader: &Rc<Loader>, preload: &Preload, space: &Space) {
        let Answer::File(file) = &self.entry.answer else { return };
        let chunks = file.chunks();
        if !space.has(self.len + u64::from(chunks) * ENTRY) || !loader.cache.keeps_chunks() {
            add(&preload.left_out, 1);
            return;
        }
        for index in 0..chunks {
            if self.load_chunk(loader, Span::chunk(self.len, index)).await.is_err() {
                preload.fail(&file.path);
                return;
            }
        }
        add(&preload.loaded, 1);
        add(&preload.octets, self.len);
    }

    async fn load_chunk(&self, loader: &Rc<Loader>, span: Span) -> Result<(), LoadError> {
        let buffers = loader.cache.buffers();
        // This thread wakes itself.
        let wake: Wake = Arc::new(|| {});
        let charge = buffers.wait_for_room(span.len as usize, &wake).await;
        let place = buffers.wait_for_place(&wake).await;
        let (waiter, loaded) = waiter(&wake);
        let (site, entry) = (Arc::clone(&self.site), Arc::clone(&self.entry));
        loader.take_read(site, entry, span, Room { charge, place }, waiter);
        match loaded.await {
            Ok(Ok(Loaded::Part(_) | Loaded::Entry(_))) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LoadError::Overloaded),
        }
    }
}

/// A way through all that a site serves.
struct Walk<'a> {
    site: &'a Arc<Site>,
    found: &'a mpsc::Sender<File>,
}

/// Nobody wants to know more.
struct Unwanted;

impl Walk<'_> {
    fn through_all(&self) -> Result<(), Unwanted> {
        // By its own name, too, where it is an index file.
        if let Some(fallback) = &self.site.settings.fallback
            && let Ok(Found::File(id)) = self.site.root.find(fallback.as_bytes(), Way::Any)
        {
            self.tell(fallback.as_bytes().to_vec(), id.len)?;
        }
        let mut directories = vec![Vec::new()];
        while let Some(directory) = directories.pop() {
            self.through(&directory, &mut directories)?;
        }
        Ok(())
    }

    /// Tells the files of a directory, and remembers the directories in it.
    fn through(&self, path: &[u8], directories: &mut Vec<Vec<u8>>) -> Result<(), Unwanted> {
        let failed = |stop: Stop| {
            let status = if let Stop::Refused(status) = stop { status } else { Status::Internal };
            complain("looked through for preloading", path, &status.text());
        };
        let opened = self.site.root.open_directory(path).and_then(|(directory, _)| {
            Dir::new(directory).map_err(|error| Stop::Refused(refusal(path, error)))
        });
        let mut names = match opened {
            Ok(names) => names,
            Err(stop) => {
                failed(stop);
                return Ok(());
            }
        };
        let index = self.index(path);
        if let Some((_, len)) = index {
            self.tell(path.to_vec(), len)?;
        }
        while let Some(entry) = names.read() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    failed(Stop::Refused(refusal(path, error)));
                    return Ok(());
                }
            };
            let name = entry.file_name().to_bytes();
            let is_index = index.is_some_and(|(index, _)| index.as_bytes() == name);
            let place = [path, name].concat();
            if is_unfit(self.site, &place, name) || is_index || self.is_sibling(path, name) {
                continue;
            }
            if is_directory(&names, &entry) {
                directories.push([&place[..], b"/"].concat());
            } else if let Ok(Found::File(id)) = self.site.root.find(&place, Way::Any) {
                self.tell(place, id.len)?;
            }
        }
        Ok(())
    }

    /// The file that stands for a directory, and its length: it is asked for by the directory.
    fn index(&self, path: &[u8]) -> Option<(&str, u64)> {
        self.site.settings.index.iter().find_map(|name| {
            match self.site.root.find(&[path, name.as_bytes()].concat(), Way::Any) {
                Ok(Found::File(id)) => Some((&**name, id.len)),
                _ => None,
            }
        })
    }

    /// Whether it is sent in place of another file, and loaded with that.
    fn is_sibling(&self, path: &[u8], name: &[u8]) -> bool {
        let plain = Coding::ALL
            .iter()
            .find_map(|coding| name.strip_suffix(coding.suffix().as_bytes()))
            .filter(|plain| !plain.is_empty());
        plain.is_some_and(|plain| {
            matches!(self.site.root.find(&[path, plain].concat(), Way::Any), Ok(Found::File(_)))
        })
    }

    fn tell(&self, path: Vec<u8>, len: u64) -> Result<(), Unwanted> {
        let site = Arc::clone(self.site);
        self.found.blocking_send(File { site, path, len }).map_err(|_| Unwanted)
    }
}

/// Whether a name is a directory's own: one that is a symlink may lead in circles.
fn is_directory(names: &Dir, entry: &DirEntry) -> bool {
    match entry.file_type() {
        FileType::Directory => true,
        // File systems that keep no types in their directories.
        FileType::Unknown => {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            let stat = names.fd().and_then(|at| statat(at, entry.file_name(), flags));
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
