//! One worker's view of the site: the shared cache, the way to the cold side, the time.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use crate::cache::{Answer, Cache, Entry, File, Millis};
use crate::cold::{self, ColdHandle, LoadError, Loaded};
use crate::date::{DATE_LINE, DateLine};
use crate::limits::{READ_AHEAD, STREAM_LOW_WATER, STREAM_QUEUES};
use crate::respond::Status;

/// Called by the cold side after it has answered, from its own thread: wakes the worker that
/// sleeps in the kernel, so that its executor runs the task that waited.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What the cache knows of a path.
#[derive(Debug)]
pub enum Lookup {
    /// This is the answer.
    Hit(Arc<Entry>),
    /// The cold side must be asked: [`Site::load`].
    Miss,
}

/// A worker's own; it is not shared between threads.
pub struct Site {
    cache: Arc<Cache>,
    cold: ColdHandle,
    wake: Wake,
    date: RefCell<DateLine>,
    now: Cell<Millis>,
    hits: Cell<u64>,
    misses: Cell<u64>,
    /// Responses in chunks that are being sent.
    streams: Cell<usize>,
}

/// A response in chunks under way: its share of [`STREAM_QUEUES`].
pub(crate) struct Streaming<'a>(&'a Site);

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

impl Site {
    /// A worker's view of `cache`, which `cold` fills. Call [`tick`](Self::tick) on every turn.
    pub fn new(cache: Arc<Cache>, cold: ColdHandle, wake: Wake) -> Self {
        Self {
            cache,
            cold,
            wake,
            date: RefCell::new(DateLine::new(SystemTime::UNIX_EPOCH)),
            now: Cell::default(),
            hits: Cell::default(),
            misses: Cell::default(),
            streams: Cell::default(),
        }
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

    /// The hot path. An entry that has not been compared with its file for a second is served,
    /// and compared in the background; one that has rested for longer is compared first.
    pub fn lookup(&self, path: &[u8]) -> Lookup {
        let now = self.now.get();
        let Some(entry) = self.cache.entry(path, now) else {
            self.misses.set(self.misses.get() + 1);
            return Lookup::Miss;
        };
        if entry.is_too_old(now) {
            self.misses.set(self.misses.get() + 1);
            return Lookup::Miss;
        }
        self.hits.set(self.hits.get() + 1);
        if !matches!(entry.answer, Answer::Refused(_))
            && entry.due(now)
            && self.cold.revalidate(path, Arc::clone(&entry)).is_err()
        {
            entry.give_up();
        }
        Lookup::Hit(entry)
    }

    /// Asks the cold side for the answer to `path`. When it is overloaded or gone: what is in
    /// the cache, however old, else 503. The future borrows neither the path nor the site.
    pub fn load(&self, path: &[u8]) -> impl Future<Output = Arc<Entry>> + use<> {
        let now = self.now.get();
        let known = self.cache.entry(path, now);
        let asked = self.cold.load(path, known.as_ref(), &self.wake);
        async move {
            match cold::answer(asked).await {
                Ok(Loaded::Entry(entry)) => entry,
                Ok(Loaded::Chunk(_)) | Err(_) => known.unwrap_or_else(|| {
                    Arc::new(Entry::new(Answer::Refused(Status::Unavailable), now))
                }),
            }
        }
    }

    /// Counts a response in chunks until the result is dropped.
    pub(crate) fn streaming(&self) -> Streaming<'_> {
        self.streams.set(self.streams.get() + 1);
        Streaming(self)
    }

    /// Chunk `index` of a file that comes in chunks, from the cache or through it.
    ///
    /// # Errors
    /// The file is not what it was, or cannot be read: what has been sent cannot be completed.
    pub async fn chunk(&self, entry: &Arc<Entry>, index: u32) -> Result<Bytes, LoadError> {
        let Answer::File(file) = &entry.answer else { return Err(LoadError::Changed) };
        if let Some(octets) = self.cache.chunk(file.id, index) {
            self.hits.set(self.hits.get() + 1);
            self.read_ahead(entry, file, index);
            return Ok(octets);
        }
        self.misses.set(self.misses.get() + 1);
        let asked = self.cold.chunk(entry, index, &self.wake);
        self.read_ahead(entry, file, index);
        match cold::answer(asked).await? {
            Loaded::Chunk(octets) => Ok(octets),
            Loaded::Entry(_) => Err(LoadError::Changed),
        }
    }

    fn read_ahead(&self, entry: &Arc<Entry>, file: &File, index: u32) {
        if !self.cache.reads_ahead() {
            return;
        }
        let first = index + 1;
        for next in first..first.saturating_add(READ_AHEAD).min(file.chunks()) {
            if !self.cache.has_chunk(file.id, next) {
                self.cold.read_ahead(entry, next);
            }
        }
    }
}
