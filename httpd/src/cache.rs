//! The content cache: bounded in octets, shared by the workers and the cold side, holding what
//! is ready to send.
//!
//! Workers read, the cold side writes. Files of at most one [`CHUNK`] are one entry with their
//! body; larger ones are an entry without body, and chunks under the file's identity, so that a
//! changed file has other chunks and never mixes with its former self. What clients hold of these
//! beside the cache has a bound of its own ([`Buffers`]).

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use quick_cache::sync::Cache as QuickCache;
use quick_cache::{DefaultHashBuilder, Equivalent, Lifecycle, OptionsBuilder, Weighter};

use crate::limits::{
    CHUNK, DOWNLOAD_MEMORY, MAX_REFUSAL_PATH, MAX_REFUSALS, SETTLED_AFTER,
    WHOLE_SECONDS_SETTLED_AFTER,
};
use crate::listing::Listing;
use crate::respond::Status;
use crate::site::SiteId;

mod alive;
mod buffers;
mod freshness;
mod representation;
mod trail;

use alive::Alive;
pub use buffers::DownloadStats;
pub(crate) use buffers::{Buffers, Charge, Chunk, Place};
pub(crate) use freshness::{Age, Freshness, Millis};
pub(crate) use representation::{Encodings, Progress};
pub use representation::{File, Source, Variants};
pub(crate) use trail::{Directory, Trail};

/// Which content a file had, and who might read it: it changes whenever either may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device of the file system.
    pub device: u64,
    /// Inode on it.
    pub inode: u64,
    /// Octets.
    pub len: u64,
    /// Last modification, seconds since 1970.
    pub modified: i64,
    /// Nanoseconds within that second.
    pub modified_ns: u32,
    /// Last change of content, mode, owner, links or name, seconds since 1970. Unlike the
    /// modification time nobody can set it: it tells a file that was written in place and got
    /// its old time back, and one that is not ours to read any more.
    pub changed: i64,
    /// Nanoseconds within that second.
    pub changed_ns: u32,
    /// Hard links, 0 once it has no name any more.
    pub links: u64,
}

impl FileId {
    /// Whether a response that has read `before` from an open file may go on with what it is now.
    /// One that was replaced has lost a link, one that was saved as a backup has got one: that is
    /// a change without another content. Any other change may be that of a file that was written
    /// in place and got its old time back, and cannot be told from it: neither can another mode,
    /// another owner, or another name.
    pub fn continues(&self, before: &Self) -> bool {
        let Self { changed, changed_ns, links, .. } = *before;
        *self == *before
            || (self.links != links && Self { changed, changed_ns, links, ..*self } == *before)
    }

    /// How long it takes from `now` on until the next change is sure to have another time; `None`:
    /// it is sure already.
    pub(crate) fn settles_in(&self, now: SystemTime) -> Option<Duration> {
        let since = Duration::new(u64::try_from(self.changed).ok()?, self.changed_ns);
        // One that is ahead of our clock is another machine's, or from before the clock was set.
        let age = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(since)?;
        // A finer clock hardly ever stops at one.
        let whole_seconds = self.changed_ns == 0;
        let settled = if whole_seconds { WHOLE_SECONDS_SETTLED_AFTER } else { SETTLED_AFTER };
        settled.checked_sub(age).filter(|left| !left.is_zero())
    }
}

/// Octets of a large file that are read at once: a chunk, or fewer of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    pub(crate) start: u64,
    /// At most a [`CHUNK`].
    pub(crate) len: u32,
}

impl Span {
    /// A chunk of a file of `file_len` octets.
    pub(crate) fn chunk(file_len: u64, index: u32) -> Self {
        let start = u64::from(index) * CHUNK as u64;
        // At most a chunk, so it fits.
        Self { start, len: file_len.saturating_sub(start).min(CHUNK as u64) as u32 }
    }

    /// Which chunk of a file of `file_len` octets it is, if it is one.
    pub(crate) fn index(self, file_len: u64) -> Option<u32> {
        let index = u32::try_from(self.start / CHUNK as u64).ok()?;
        (self == Self::chunk(file_len, index)).then_some(index)
    }
}

/// What the cache keeps its content under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A path of a site as requested, see [`crate::target::Target::path`].
    Path(SiteId, Box<[u8]>),
    /// A chunk of a large file.
    Chunk(FileId, u32),
    /// Octets of it that are no chunk: they are read, and not kept.
    Part(FileId, Span),
}

/// [`Key`] without owning the path: a lookup allocates nothing.
#[derive(Hash)]
enum KeyRef<'a> {
    Path(SiteId, &'a [u8]),
    Chunk(FileId, u32),
    Part(FileId, Span),
}

impl Key {
    fn borrow(&self) -> KeyRef<'_> {
        match self {
            Self::Path(site, path) => KeyRef::Path(*site, path),
            &Self::Chunk(id, index) => KeyRef::Chunk(id, index),
            &Self::Part(id, span) => KeyRef::Part(id, span),
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Through KeyRef, so that both hash alike by construction.
        self.borrow().hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        match (self, key) {
            (Self::Path(site, a), Key::Path(other, b)) => site == other && **a == **b,
            (Self::Chunk(id, index), Key::Chunk(other, at)) => index == at && id == other,
            (Self::Part(id, span), Key::Part(other, at)) => span == at && id == other,
            _ => false,
        }
    }
}

/// What the cache holds.
#[derive(Debug, Clone)]
pub(crate) enum Cached {
    Entry(Arc<Entry>),
    Chunk(Arc<Chunk>),
}

/// The answer to a path.
#[derive(Debug)]
pub struct Entry {
    /// What is answered.
    pub answer: Answer,
    /// How current it is.
    pub(crate) freshness: Freshness,
}

/// What a path leads to.
#[derive(Debug)]
pub enum Answer {
    /// A file.
    File(File),
    /// A directory without an index file.
    Listing(Listing),
    /// A directory named without its slash: the encoded path with it.
    Redirect(Box<str>),
    /// Nothing that is served.
    Refused(Status),
}

impl Entry {
    /// An entry whose file was looked at `checked`, or later, along `trail` if that is watched.
    pub(crate) fn new(answer: Answer, checked: Millis, trail: Option<Arc<Trail>>) -> Self {
        Self { answer, freshness: Freshness::new(checked, trail) }
    }

    /// Octets that the entry takes, bookkeeping included.
    fn weight(&self) -> usize {
        let extra = match &self.answer {
            Answer::File(file) => file.weight(),
            Answer::Listing(listing) => listing.weight(),
            Answer::Redirect(location) => location.len(),
            Answer::Refused(_) => 0,
        };
        size_of::<Self>() + extra
    }
}

/// Key, value, list and hash slots of the cache, and the allocator's share: by so much more than
/// entries hold a process grows that caches 20,000 empty files.
const SLOT_OVERHEAD: u64 = 288;

/// Counts what is let go for want of room, which is dropped once nobody waits for the lock.
#[derive(Debug, Clone, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Key, Cached> for Evictions {
    type RequestState = Vec<(Key, Cached)>;

    /// Not called for what is replaced.
    fn before_evict(&self, _: &mut Self::RequestState, _: &Key, _: &mut Cached) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn on_evict(&self, gone: &mut Self::RequestState, key: Key, value: Cached) {
        gone.push((key, value));
    }
}

#[derive(Debug, Clone)]
struct ByOctets;

impl Weighter<Key, Cached> for ByOctets {
    fn weight(&self, key: &Key, value: &Cached) -> u64 {
        let key = match key {
            Key::Path(_, path) => path.len() as u64,
            Key::Chunk(..) | Key::Part(..) => 0,
        };
        let value = match value {
            Cached::Entry(entry) => entry.weight() as u64,
            Cached::Chunk(chunk) => (size_of::<Chunk>() + chunk.octets().len()) as u64,
        };
        SLOT_OVERHEAD + key + value
    }
}

/// The cache. One per process, in an `Arc`.
#[derive(Debug)]
pub struct Cache {
    content: QuickCache<Key, Cached, ByOctets, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
    /// Refusals live apart: a scan for random names evicts other refusals only.
    refusals: QuickCache<Key, Arc<Entry>>,
    capacity: u64,
    alive: Alive,
    /// What downloads hold of large files.
    buffers: Buffers,
    epoch: Instant,
    hits: AtomicU64,
    misses: AtomicU64,
    loads: AtomicU64,
    octets_read: AtomicU64,
    compressions: AtomicU64,
    compressions_put_off: AtomicU64,
}

/// A moment's figures of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CacheStats {
    /// Octets that it may hold.
    pub capacity: u64,
    /// Octets that it holds, bookkeeping included.
    pub bytes: u64,
    /// Octets of files that live: its own, and those that it has let go of and clients still hold.
    pub alive: u64,
    /// Files and chunks that it holds.
    pub entries: u64,
    /// Lookups that were answered from it.
    pub hits: u64,
    /// Lookups that were not.
    pub misses: u64,
    /// Entries let go for want of room.
    pub evictions: u64,
    /// Files, and parts of large ones, read from disk.
    pub loads: u64,
    /// Octets of these.
    pub octets_read: u64,
    /// Files compressed.
    pub compressions: u64,
    /// Files that were left as they are for a while, as too many were being compressed.
    pub compressions_put_off: u64,
}

impl Cache {
    /// A cache of at most `capacity` octets; 0 keeps no content, and everything is still served.
    pub fn new(capacity: u64) -> Self {
        // Each shard has its own share, which must hold many chunks for eviction to be fair.
        const SHARD: u64 = 64 * 1024 * 1024;
        let shards = (capacity / SHARD).clamp(1, 16) as usize;
        // What an average entry weighs is a guess; it sizes the record of recently evicted keys.
        let entries = (capacity / (16 * 1024)).clamp(1024, 65_536) as usize;
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(entries)
            .weight_capacity(capacity)
            .build()
            .expect("both capacities are given");
        let evictions = Evictions::default();
        Self {
            content: QuickCache::with_options(
                options,
                ByOctets,
                Default::default(),
                evictions.clone(),
            ),
            evictions,
            refusals: QuickCache::new(MAX_REFUSALS),
            capacity,
            alive: Alive::default(),
            buffers: Buffers::new(DOWNLOAD_MEMORY),
            epoch: Instant::now(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            octets_read: AtomicU64::new(0),
            compressions: AtomicU64::new(0),
            compressions_put_off: AtomicU64::new(0),
        }
    }

    /// What is sent of large files may hold so many octets beside it.
    #[must_use]
    pub fn with_download_memory(self, octets: usize) -> Self {
        Self { buffers: Buffers::new(octets), ..self }
    }

    /// The entries' time at `now`; never 0, at which nothing has happened yet.
    pub(crate) fn millis(&self, now: Instant) -> Millis {
        let passed = now.saturating_duration_since(self.epoch).as_millis();
        Millis(u64::try_from(passed + 1).unwrap_or(u64::MAX))
    }

    /// The answer to `path` that is known, of whatever age.
    pub(crate) fn entry(&self, site: SiteId, path: &[u8]) -> Option<Arc<Entry>> {
        let key = KeyRef::Path(site, path);
        match self.content.get(&key) {
            Some(Cached::Entry(entry)) => Some(entry),
            _ => self.refusals.get(&key),
        }
    }

    /// A chunk, if it is there.
    pub(crate) fn chunk(&self, id: FileId, index: u32) -> Option<Arc<Chunk>> {
        match self.content.get(&KeyRef::Chunk(id, index)) {
            Some(Cached::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }

    /// What downloads hold of large files.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Whether what takes so many octets lives long enough here that it pays to work on it.
    pub(crate) fn is_worth(&self, octets: u64) -> bool {
        octets <= self.capacity / 16
    }

    /// Whether a chunk lives long enough here to be asked for again.
    pub(crate) fn keeps_chunks(&self) -> bool {
        self.is_worth(CHUNK as u64) && !self.is_crowded()
    }

    /// Whether clients hold so much of what the cache has let go of that nothing more shall be read
    /// to be kept: files come in pieces then, which are charged to the memory of downloads.
    pub(crate) fn is_crowded(&self) -> bool {
        self.alive.octets() > self.capacity.saturating_add(self.buffers.budget())
    }

    /// The body of a file that is kept.
    pub(crate) fn body(&self, octets: Vec<u8>) -> Bytes {
        self.alive.body(octets)
    }

    /// Takes the new answer to `path`, in place of the one before.
    pub(crate) fn put_entry(&self, site: SiteId, path: &[u8], entry: &Arc<Entry>) {
        if let Answer::Refused(_) = entry.answer {
            self.content.remove(&KeyRef::Path(site, path));
            if path.len() <= MAX_REFUSAL_PATH {
                self.refusals.insert(Key::Path(site, path.into()), Arc::clone(entry));
            }
        } else {
            self.content.insert(Key::Path(site, path.into()), Cached::Entry(Arc::clone(entry)));
            self.refusals.remove(&KeyRef::Path(site, path));
        }
    }

    /// Takes a chunk.
    pub(crate) fn put_chunk(&self, id: FileId, index: u32, chunk: Arc<Chunk>) {
        if self.is_crowded() {
            return;
        }
        chunk.is_kept(&self.alive);
        self.content.insert(Key::Chunk(id, index), Cached::Chunk(chunk));
    }

    /// Keeps the answers of those sites only.
    pub(crate) fn retain(&self, keep: impl Fn(SiteId) -> bool) {
        let keep = |key: &Key| match key {
            Key::Path(site, _) => keep(*site),
            // Several sites may have the same file.
            Key::Chunk(..) | Key::Part(..) => true,
        };
        self.content.retain(|key, _| keep(key));
        self.refusals.retain(|key, _| keep(key));
    }

    /// Adds a worker's counts.
    pub(crate) fn count(&self, hits: u64, misses: u64) {
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
    }

    /// Counts one read of a file, or of a part of one.
    pub(crate) fn count_load(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts so many octets that came from the disk.
    pub(crate) fn count_read(&self, octets: usize) {
        self.octets_read.fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// Counts one file that was compressed.
    pub(crate) fn count_compression(&self) {
        self.compressions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one file that will be compressed another time.
    pub(crate) fn count_compression_put_off(&self) {
        self.compressions_put_off.fetch_add(1, Ordering::Relaxed);
    }

    /// The same of downloads.
    pub fn download_stats(&self) -> DownloadStats {
        self.buffers.stats()
    }

    /// The figures of the moment.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            capacity: self.capacity,
            bytes: self.content.weight(),
            alive: self.alive.octets(),
            entries: self.content.len() as u64,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.0.load(Ordering::Relaxed),
            loads: self.loads.load(Ordering::Relaxed),
            octets_read: self.octets_read.load(Ordering::Relaxed),
            compressions: self.compressions.load(Ordering::Relaxed),
            compressions_put_off: self.compressions_put_off.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Site;

    const SITE: SiteId = SiteId::for_tests();

    pub(super) fn id(inode: u64, len: u64) -> FileId {
        FileId {
            device: 1,
            inode,
            len,
            modified: 784_111_777,
            modified_ns: 0,
            changed: 0,
            changed_ns: 0,
            links: 1,
        }
    }

    pub(super) fn source(path: &[u8], id: FileId) -> Source {
        let body = Some(Bytes::from(vec![b'x'; id.len as usize]));
        Source { path: path.into(), id, body }
    }

    fn file(path: &[u8], len: usize) -> Arc<Entry> {
        let source = source(path, id(1, len as u64));
        let encodings = Encodings::default();
        let file = File::new(&Site::for_tests(), source, encodings, SystemTime::now());
        Arc::new(Entry::new(Answer::File(file), Millis(0), None))
    }

    #[test]
    fn it_stays_within_its_octets() {
        let cache = Cache::new(10 * CHUNK as u64);
        for index in 0..100 {
            cache.put_chunk(id(7, 100 << 20), index, Chunk::new(vec![0; CHUNK]));
            cache.put_entry(SITE, format!("f{index}").as_bytes(), &file(b"f", 1000));
            assert!(cache.stats().bytes <= 10 * CHUNK as u64);
        }
        assert!(cache.stats().entries > 8);
    }

    /// What a plain LRU of so many octets would have had of a trace of paths, and of their lengths.
    struct Lru {
        capacity: usize,
        held: usize,
        /// The latest one last.
        order: std::collections::VecDeque<(u32, usize)>,
    }

    impl Lru {
        fn get(&mut self, name: u32, len: usize) -> bool {
            let at = self.order.iter().position(|(known, _)| *known == name);
            if let Some(at) = at {
                let _ = self.order.remove(at);
            } else {
                self.held += len;
            }
            self.order.push_back((name, len));
            while self.held > self.capacity {
                self.held -= self.order.pop_front().map_or(0, |(_, len)| len);
            }
            at.is_some()
        }
    }

    #[test]
    fn a_scan_of_files_that_nobody_asks_for_again_leaves_those_that_are_in_use() {
        const LEN: usize = 8 * 1024;
        const HOT: u32 = 200;
        let capacity = 4 << 20;
        let cache = Cache::new(capacity);
        let mut lru = Lru { capacity: capacity as usize, held: 0, order: Default::default() };
        // Whether ours had it, and whether an LRU would have had it.
        let mut get = |name: u32| {
            let path = name.to_be_bytes();
            let had = cache.entry(SITE, &path).is_some();
            if !had {
                cache.put_entry(SITE, &path, &file(&path, LEN));
            }
            (had, lru.get(name, LEN))
        };
        for name in (0..3).flat_map(|_| 0..HOT) {
            get(name);
        }
        // A crawler goes through a hundred times as much, and others go on.
        let (mut ours, mut theirs) = (0, 0);
        for cold in 0..100 * HOT {
            get(HOT + cold);
            if cold % 10 == 0 {
                let (had, lru_had) = get(cold / 10 % HOT);
                ours += u32::from(had);
                theirs += u32::from(lru_had);
            }
            assert!(cache.stats().bytes <= capacity);
        }
        let asked = 10 * HOT;
        assert!(ours * 100 >= asked * 95, "{ours} of {asked}");
        assert!(theirs * 100 <= asked * 5, "an LRU would have had {theirs} of {asked}");
    }

    #[test]
    fn empty_files_count_what_they_take() {
        let cache = Cache::new(4 << 20);
        for name in 0..20_000u32 {
            let path = name.to_be_bytes();
            cache.put_entry(SITE, &path, &file(&path, 0));
        }
        let CacheStats { bytes, entries, .. } = cache.stats();
        assert!(bytes <= 4 << 20 && entries < 20_000 && entries > 1000, "{entries} in {bytes}");
        // Head lines, which cannot be shared, and more.
        assert!(bytes / entries > size_of::<Entry>() as u64 + 200, "{entries} in {bytes}");
    }

    #[test]
    fn what_does_not_fit_takes_the_place_of_nothing_else() {
        let cache = Cache::new(64 * 1024);
        cache.put_entry(SITE, b"a", &file(b"a", 1000));
        cache.put_entry(SITE, b"a", &file(b"a", CHUNK));
        assert!(cache.entry(SITE, b"a").is_none(), "the former content must not be served");
    }

    #[test]
    fn a_cache_of_nothing_keeps_nothing() {
        let cache = Cache::new(0);
        cache.put_entry(SITE, b"a", &file(b"a", 1));
        cache.put_chunk(id(1, 2 << 20), 0, Chunk::new(b"x".to_vec()));
        assert!(cache.entry(SITE, b"a").is_none());
        assert!(cache.chunk(id(1, 2 << 20), 0).is_none());
        assert_eq!(cache.stats().bytes, 0);
    }

    #[test]
    fn a_change_of_this_moment_may_hide_the_next_one() {
        let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        let file = |changed, changed_ns| FileId { changed, changed_ns, ..id(1, 1) };
        assert_eq!(file(1000, 1).settles_in(at(1000, 1)), Some(SETTLED_AFTER));
        let left = file(999, 999_000_000).settles_in(at(1000, 9_000_000));
        assert_eq!(left, Some(SETTLED_AFTER - Duration::from_millis(10)));
        assert_eq!(file(1000, 1).settles_in(at(1000, 20_000_001)), None);
        // It keeps no more of the time than the second, or every other one.
        assert_eq!(
            file(1000, 0).settles_in(at(1001, 500_000_000)),
            Some(Duration::from_millis(500))
        );
        assert_eq!(file(1000, 0).settles_in(at(1002, 0)), None);
        assert_eq!(file(2000, 0).settles_in(at(1000, 0)), None, "a clock of its own");
        assert_eq!(file(-1, 0).settles_in(at(1000, 0)), None);
    }

    #[test]
    fn only_a_change_of_its_links_leaves_the_content() {
        let before = FileId { links: 2, changed: 1000, changed_ns: 5, ..id(1, 9) };
        let later = FileId { changed: 1001, ..before };
        for (now, continues) in [
            (before, true),
            // Unlinked, replaced by a rename, linked.
            (FileId { links: 1, ..later }, true),
            (FileId { links: 0, ..later }, true),
            (FileId { links: 3, ..later }, true),
            // Another mode or owner, or other octets and the old time.
            (later, false),
            (FileId { changed_ns: 6, ..before }, false),
            (FileId { links: 1, modified_ns: 1, ..later }, false),
            (FileId { links: 1, len: 10, ..later }, false),
            (FileId { links: 1, inode: 2, ..later }, false),
        ] {
            assert_eq!(now.continues(&before), continues, "{now:?}");
        }
    }

    #[test]
    fn paths_and_chunks_are_told_apart() {
        let cache = Cache::new(1 << 26);
        cache.put_entry(SITE, b"a", &file(b"a", 1));
        cache.put_chunk(id(1, 2 << 20), 1, Chunk::new(b"x".to_vec()));
        assert!(cache.entry(SITE, b"a").is_some());
        assert!(cache.entry(SITE, b"b").is_none());
        assert!(cache.chunk(id(1, 2 << 20), 1).is_some());
        assert!(cache.chunk(id(1, 2 << 20), 0).is_none());
        assert!(cache.chunk(id(2, 2 << 20), 1).is_none());
    }

    #[test]
    fn refusals_are_bounded_and_keep_nothing_from_its_place() {
        let cache = Cache::new(1 << 20);
        let refused = Arc::new(Entry::new(Answer::Refused(Status::NotFound), Millis(0), None));
        cache.put_entry(SITE, b"a", &file(b"a", 1));
        cache.put_entry(SITE, b"a", &refused);
        let answer = |path: &[u8]| cache.entry(SITE, path).unwrap();
        assert!(matches!(answer(b"a").answer, Answer::Refused(Status::NotFound)));
        assert_eq!(cache.stats().bytes, 0);
        cache.put_entry(SITE, b"a", &file(b"a", 1));
        assert!(matches!(answer(b"a").answer, Answer::File(_)));
        for n in 0..10 * MAX_REFUSALS {
            cache.put_entry(SITE, n.to_string().as_bytes(), &refused);
        }
        assert!(cache.refusals.len() <= MAX_REFUSALS);
        assert!(matches!(answer(b"a").answer, Answer::File(_)));
    }
}
