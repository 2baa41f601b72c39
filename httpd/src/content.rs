//! One worker's view of what is served: the sites, the shared cache, the way to the cold side, the time.

use std::cell::{Cell, Ref, RefCell};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use crate::access_log::Log;
use crate::cache::{Age, Answer, Cache, Entry, File, Millis};
use crate::cold::{self, ColdHandle, LoadError, Loaded};
use crate::date::{DATE_LINE, DateLine};
use crate::interfaces::Interfaces;
use crate::limits::{
    CHUNK, Limits, PIPELINED_REQUESTS, READ_AHEAD, SMALL_RANGE, STREAM_LOW_WATER, STREAM_QUEUES,
    UNFINISHED_HEADS,
};
use crate::respond::Status;
use crate::shares::{Client, Share, Shares};
use crate::site::{Site, Sites};
use crate::tally::Tally;

/// Called by the cold side after it has answered, from its own thread: wakes the worker that
/// sleeps in the kernel, so that its executor runs the task that waited.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What the cache knows of a path.
#[derive(Debug)]
pub enum Lookup {
    /// This is the answer.
    Hit(Arc<Entry>),
    /// The cold side must be asked: [`Content::load`].
    Miss,
}

/// A worker's own; it is not shared between threads.
pub struct Content {
    sites: RefCell<Arc<Sites>>,
    cache: Arc<Cache>,
    cold: ColdHandle,
    wake: Wake,
    date: RefCell<DateLine>,
    now: Cell<Millis>,
    hits: Cell<u64>,
    misses: Cell<u64>,
    /// Responses in chunks that are being sent.
    streams: Cell<usize>,
    limits: Cell<Limits>,
    /// Octets of heads that wait for their end.
    unfinished: Rc<Shares>,
    /// Octets of requests that wait for their turn.
    pipelined: Rc<Shares>,
    /// What was refused and cut off.
    pub tally: Tally,
    /// What built-in pages show.
    interfaces: Arc<Interfaces>,
    shows_interfaces: Cell<bool>,
    log: Option<Log>,
}

/// A response in chunks under way: its share of [`STREAM_QUEUES`].
pub(crate) struct Streaming<'a>(&'a Content);

impl Streaming<'_> {
    /// How far the queue runs down before the next chunk follows.
    pub(crate) fn low_water(&self) -> usize {
        (STREAM_QUEUES / self.0.streams.get()).min(STREAM_LOW_WATER)
    }
}

impl Drop for Streaming<'_> {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

impl Content {
    /// A worker's view of `sites` through `cache`, which `cold` fills. Call [`tick`](Self::tick)
    /// on every turn.
    pub fn new(sites: Arc<Sites>, cache: Arc<Cache>, cold: ColdHandle, wake: Wake) -> Self {
        let shows_interfaces = Cell::new(sites.have_builtin());
        Self {
            sites: RefCell::new(sites),
            cache,
            cold,
            wake,
            date: RefCell::new(DateLine::new(SystemTime::UNIX_EPOCH)),
            now: Cell::default(),
            hits: Cell::default(),
            misses: Cell::default(),
            streams: Cell::default(),
            limits: Cell::new(Limits::DEFAULT),
            unfinished: Shares::new(UNFINISHED_HEADS),
            pipelined: Shares::new(PIPELINED_REQUESTS),
            tally: Tally::default(),
            interfaces: Arc::default(),
            shows_interfaces,
            log: None,
        }
    }

    /// The same, whose built-in pages show these.
    #[must_use]
    pub fn with_interfaces(self, interfaces: Arc<Interfaces>) -> Self {
        Self { interfaces, ..self }
    }

    /// Whether a site has such pages.
    pub(crate) fn shows_interfaces(&self) -> bool {
        self.shows_interfaces.get()
    }

    /// What built-in pages show.
    pub(crate) fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Tells the time. The worker reads the clocks once per turn, not once per request.
    pub fn tick(&self, now: Instant, wall: SystemTime) {
        self.now.set(self.cache.millis(now));
        self.date.borrow_mut().update(wall);
        let (hits, misses) = (self.hits.take(), self.misses.take());
        if hits + misses > 0 {
            self.cache.count(hits, misses);
        }
    }

    /// The current `Date` line.
    pub fn date_line(&self) -> [u8; DATE_LINE] {
        *self.date.borrow().line()
    }

    /// What is served at the moment.
    pub fn sites(&self) -> Ref<'_, Arc<Sites>> {
        self.sites.borrow()
    }

    /// Serves `sites` from now on; what is being answered is finished as it began.
    pub fn replace_sites(&self, sites: Arc<Sites>) {
        self.shows_interfaces.set(sites.have_builtin());
        self.sites.replace(sites);
    }

    /// Has each answer noted from now on.
    pub(crate) fn log_to(&mut self, log: Log) {
        self.log = Some(log);
    }

    /// Where answers are noted, if they are.
    pub(crate) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// What peers may take.
    pub fn limits(&self) -> Limits {
        self.limits.get()
    }

    /// Holds peers to `limits` from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
    }

    /// Room for so many octets of a client's head that is not whole, if there is any.
    pub(crate) fn keep_unfinished(&self, client: Client, octets: usize) -> Option<Share> {
        self.unfinished.take(client, octets)
    }

    /// Room for so many octets of requests that wait until those before them are answered, if there
    /// is any.
    pub(crate) fn keep_pipelined(&self, client: Client, octets: usize) -> Option<Share> {
        self.pipelined.take(client, octets)
    }

    /// The hot path. An entry that was not compared with its file for a while is served, and
    /// compared alongside; one that has rested for longer is compared first.
    pub fn lookup(&self, site: &Arc<Site>, path: &[u8]) -> Lookup {
        let now = self.now.get();
        let known = self.cache.entry(site.id, path).map(|entry| (entry.freshness.age(now), entry));
        let Some((age @ (Age::Fresh | Age::Due), entry)) = known else {
            self.misses.set(self.misses.get() + 1);
            return Lookup::Miss;
        };
        self.hits.set(self.hits.get() + 1);
        if age == Age::Due
            && entry.freshness.begin()
            && self.cold.revalidate(site, path, Arc::clone(&entry)).is_err()
        {
            entry.freshness.give_up();
        }
        Lookup::Hit(entry)
    }

    /// Asks the cold side for the answer to `path`. When it is overloaded or gone: what is in
    /// the cache, however old, else 503. The future borrows neither the path nor the site.
    pub fn load(&self, site: &Arc<Site>, path: &[u8]) -> impl Future<Output = Arc<Entry>> + use<> {
        let now = self.now.get();
        let known = self.cache.entry(site.id, path);
        let asked = self.cold.load(site, path, known.as_ref(), &self.wake);
        async move {
            match cold::answer(asked).await {
                Ok(Loaded::Entry(entry)) => entry,
                Ok(Loaded::Chunk(_)) | Err(_) => known.unwrap_or_else(|| {
                    Arc::new(Entry::new(Answer::Refused(Status::Unavailable), now, None))
                }),
            }
        }
    }

    /// Separates the parts of an answer. Nobody can guess it, so that no file contains it.
    pub(crate) fn boundary(&self) -> String {
        // Each state has keys of its own, and the first ones are random.
        let word = || RandomState::new().hash_one(());
        format!("{:016x}{:016x}", word(), word())
    }

    /// Counts a response in chunks until the result is dropped.
    pub(crate) fn streaming(&self) -> Streaming<'_> {
        self.streams.set(self.streams.get() + 1);
        Streaming(self)
    }

    /// The next octets of `part` of a file that comes in chunks, from the cache or through it; at
    /// least one, and at most to where a chunk ends. What is one of `several` parts and small is read
    /// by itself.
    ///
    /// # Errors
    /// The file is not what it was, or cannot be read: what has been sent cannot be completed.
    pub async fn octets(
        &self,
        site: &Arc<Site>,
        entry: &Arc<Entry>,
        part: Range<u64>,
        several: bool,
    ) -> Result<Bytes, LoadError> {
        let Answer::File(file) = &entry.answer else { return Err(LoadError::Changed) };
        let index = u32::try_from(part.start / CHUNK as u64).map_err(|_| LoadError::Changed)?;
        let first = part.start % CHUNK as u64;
        let last = (first + (part.end - part.start)).min(CHUNK as u64);
        // Within a chunk, so they fit.
        let within = |chunk: &Bytes| {
            let last = chunk.len().min(last as usize);
            chunk.slice((first as usize).min(last)..last)
        };
        if let Some(chunk) = self.cache.chunk(file.id, index) {
            self.hits.set(self.hits.get() + 1);
            self.read_ahead(site, entry, file, index, part.end);
            return Ok(within(&chunk));
        }
        self.misses.set(self.misses.get() + 1);
        let small = several && last - first <= SMALL_RANGE;
        let asked = if small {
            self.cold.part(site, entry, part.start, (last - first) as u32, &self.wake)
        } else {
            self.cold.chunk(site, entry, index, &self.wake)
        };
        self.read_ahead(site, entry, file, index, part.end);
        match cold::answer(asked).await? {
            Loaded::Chunk(octets) if small => Ok(octets),
            Loaded::Chunk(chunk) => Ok(within(&chunk)),
            Loaded::Entry(_) => Err(LoadError::Changed),
        }
    }

    /// Has the chunks behind `index` loaded, as far as the part that is sent goes, which ends at `end`.
    fn read_ahead(&self, site: &Arc<Site>, entry: &Arc<Entry>, file: &File, index: u32, end: u64) {
        if !self.cache.reads_ahead() {
            return;
        }
        let first = index + 1;
        let chunks = u32::try_from(end.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX);
        for next in first..first.saturating_add(READ_AHEAD).min(chunks) {
            if !self.cache.has_chunk(file.id, next) {
                self.cold.read_ahead(site, entry, next);
            }
        }
    }
}
