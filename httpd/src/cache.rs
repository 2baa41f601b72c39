//! The content cache: bounded in octets, shared by the workers and the cold side, holding what
//! is ready to send.
//!
//! Workers read, the cold side writes. Files of at most one [`CHUNK`] are one entry with their
//! body; larger ones are an entry without body, and chunks under the file's identity, so that a
//! changed file has other chunks and never mixes with its former self.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use httparse::Header;
use quick_cache::sync::Cache as QuickCache;
use quick_cache::{Equivalent, OptionsBuilder, Weighter};

use crate::date::unix_seconds;
use crate::encoding::{self, Coding};
use crate::limits::{CHUNK, MAX_REFUSAL_PATH, MAX_REFUSALS, SETTLED_AFTER};
use crate::respond::{Entity, FileHead, Status};
use crate::site::{Site, SiteId};

mod freshness;

pub(crate) use freshness::{Age, Freshness, Millis};

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
}

impl FileId {
    /// Whether a response that began with `other` may go on with this. A file that was replaced
    /// meanwhile has lost a link, and so was changed, without another content.
    pub fn same_content(&self, other: &Self) -> bool {
        Self { changed: other.changed, changed_ns: other.changed_ns, ..*self } == *other
    }

    /// How long it takes from `now` on until the next change is sure to have another time; `None`:
    /// it is sure already.
    pub(crate) fn settles_in(&self, now: SystemTime) -> Option<Duration> {
        let since = Duration::new(u64::try_from(self.changed).ok()?, self.changed_ns);
        // One that is ahead of our clock is another machine's, or from before the clock was set.
        let age = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(since)?;
        SETTLED_AFTER.checked_sub(age).filter(|left| !left.is_zero())
    }
}

/// What the cache keeps its content under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A path of a site as requested, see [`crate::target::Target::path`].
    Path(SiteId, Box<[u8]>),
    /// A chunk of a large file.
    Chunk(FileId, u32),
}

/// [`Key`] without owning the path: a lookup allocates nothing.
#[derive(Hash)]
enum KeyRef<'a> {
    Path(SiteId, &'a [u8]),
    Chunk(FileId, u32),
}

impl Key {
    fn borrow(&self) -> KeyRef<'_> {
        match self {
            Self::Path(site, path) => KeyRef::Path(*site, path),
            &Self::Chunk(id, index) => KeyRef::Chunk(id, index),
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
            _ => false,
        }
    }
}

/// What the cache holds.
#[derive(Debug, Clone)]
pub(crate) enum Cached {
    Entry(Arc<Entry>),
    Chunk(Bytes),
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
    /// A directory named without its slash: the encoded path with it.
    Redirect(Box<str>),
    /// Nothing that is served.
    Refused(Status),
}

/// A file as it was found.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where, relative to www-root (with `index.html`).
    pub path: Box<[u8]>,
    /// Which content it had.
    pub id: FileId,
    /// The content; `None`: it comes in chunks.
    pub body: Option<Bytes>,
}

/// A file, ready to send: one representation of it.
#[derive(Debug)]
pub struct File {
    /// Which content this is.
    pub id: FileId,
    /// Where it was found, relative to www-root (with `index.html`).
    pub path: Box<[u8]>,
    /// Modification time as Last-Modified shows it, seconds since 1970.
    pub modified: u64,
    /// Entity tag with its quotes.
    pub etag: Box<str>,
    /// What its heads are made of.
    pub head: FileHead,
    /// The content; `None`: it comes in chunks.
    pub body: Option<Bytes>,
    /// Other representations; `None`: this is all there is.
    pub variants: Option<Box<Variants>>,
}

/// Encoded representations of a file beside the plain one.
#[derive(Debug)]
pub struct Variants {
    /// Files on disk that are such: they belong to the identity of the file.
    siblings: Box<[(Coding, FileId)]>,
    /// The shortest one first; each is an entry that has no others.
    encoded: Box<[(Coding, Arc<Entry>)]>,
}

impl Variants {
    /// The one in which a request with these fields is answered; `None`: the file as it is.
    pub(crate) fn choose(&self, fields: &[Header<'_>]) -> Option<&Arc<Entry>> {
        let asked =
            fields.iter().filter(|field| field.name.eq_ignore_ascii_case("accept-encoding"));
        let offered = self.encoded.iter().map(|&(coding, _)| coding);
        let chosen = encoding::choose(asked.map(|field| field.value), offered)?;
        self.encoded.iter().find(|(coding, _)| *coding == chosen).map(|(_, entry)| entry)
    }

    fn weight(&self) -> usize {
        let encoded: usize = self.encoded.iter().map(|(_, entry)| entry.weight()).sum();
        size_of::<Self>() + size_of_val(&*self.siblings) + size_of_val(&*self.encoded) + encoded
    }
}

impl File {
    /// Prepares what is sent for a file of `site`, at the time `now`; `siblings` are encoded files
    /// beside it, of which those that could be read are `encoded`.
    pub(crate) fn new(
        site: &Site,
        plain: Source,
        siblings: Vec<(Coding, FileId)>,
        encoded: Vec<(Coding, Source)>,
        now: SystemTime,
    ) -> Self {
        let varies = !encoded.is_empty();
        let mut encoded: Vec<_> = encoded
            .into_iter()
            .map(|(coding, source)| {
                let file = Self::representation(site, &plain.path, source, Some(coding), true, now);
                (coding, file)
            })
            .collect();
        // Between those that a client likes alike the shortest is the best.
        encoded.sort_by_key(|(coding, file)| (file.id.len, *coding));
        let entry = |(coding, file)| (coding, Arc::new(Entry::new(Answer::File(file), Millis(0))));
        let variants = Variants {
            siblings: siblings.into(),
            encoded: encoded.into_iter().map(entry).collect(),
        };
        let path = plain.path.clone();
        Self {
            variants: (!variants.siblings.is_empty()).then(|| Box::new(variants)),
            ..Self::representation(site, &path, plain, None, varies, now)
        }
    }

    /// `source` as a representation of the file at `name`, which says what it is about.
    fn representation(
        site: &Site,
        name: &[u8],
        Source { path, id, body }: Source,
        coding: Option<Coding>,
        varies: bool,
        now: SystemTime,
    ) -> Self {
        // Files from before 1970 are rare enough to look like 1970. RFC 9110 8.8.2.1: a time in
        // the future is not sent.
        let modified = u64::try_from(id.modified).unwrap_or(0).min(unix_seconds(now));
        // No inode: replicas of the same content on several nodes share their validators. Two
        // encodings of one file may be of one length.
        let mark = coding.map(|coding| format!("-{coding}")).unwrap_or_default();
        let etag = format!("\"{:x}.{:x}-{:x}{mark}\"", id.modified, id.modified_ns, id.len);
        let entity = Entity {
            content_type: &site.content_type(name),
            coding,
            len: id.len,
            modified,
            etag: &etag,
            varies,
        };
        let head = FileHead::new(&entity, &site.fields(name));
        Self { id, path, modified, etag: etag.into(), head, body, variants: None }
    }

    /// Octets of the representation.
    pub fn octets(&self) -> u64 {
        self.body.as_ref().map_or(self.id.len, |body| body.len() as u64)
    }

    /// The encoded files beside it that there were when it was loaded.
    pub(crate) fn siblings(&self) -> &[(Coding, FileId)] {
        self.variants.as_ref().map_or(&[], |variants| &variants.siblings)
    }

    /// Number of chunks of a file without body.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.id.len.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX)
    }
}

impl Entry {
    /// An entry whose file was looked at `checked`, or later.
    pub(crate) fn new(answer: Answer, checked: Millis) -> Self {
        Self { answer, freshness: Freshness::new(checked) }
    }

    /// Octets that the entry takes, bookkeeping included.
    fn weight(&self) -> usize {
        let extra = match &self.answer {
            Answer::File(file) => {
                file.path.len()
                    + file.etag.len()
                    + file.head.weight()
                    + file.body.as_ref().map_or(0, Bytes::len)
                    + file.variants.as_ref().map_or(0, |variants| variants.weight())
            }
            Answer::Redirect(location) => location.len(),
            Answer::Refused(_) => 0,
        };
        size_of::<Self>() + extra
    }
}

/// Key, value, list and hash slots of the cache, and the allocator's share.
const SLOT_OVERHEAD: u64 = 160;

#[derive(Debug, Clone)]
struct ByOctets;

impl Weighter<Key, Cached> for ByOctets {
    fn weight(&self, key: &Key, value: &Cached) -> u64 {
        let key = match key {
            Key::Path(_, path) => path.len() as u64,
            Key::Chunk(..) => 0,
        };
        let value = match value {
            Cached::Entry(entry) => entry.weight() as u64,
            Cached::Chunk(octets) => octets.len() as u64,
        };
        SLOT_OVERHEAD + key + value
    }
}

/// The cache. One per process, in an `Arc`.
#[derive(Debug)]
pub struct Cache {
    content: QuickCache<Key, Cached, ByOctets>,
    /// Refusals live apart: a scan for random names evicts other refusals only.
    refusals: QuickCache<Key, Arc<Entry>>,
    capacity: u64,
    epoch: Instant,
    hits: AtomicU64,
    misses: AtomicU64,
    loads: AtomicU64,
}

/// A moment's figures of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CacheStats {
    /// Octets that it may hold.
    pub capacity: u64,
    /// Octets that it holds, bookkeeping included.
    pub bytes: u64,
    /// Files and chunks that it holds.
    pub entries: u64,
    /// Lookups that were answered from it.
    pub hits: u64,
    /// Lookups that were not.
    pub misses: u64,
    /// Files and chunks read from disk.
    pub loads: u64,
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
        Self {
            content: QuickCache::with_options(
                options,
                ByOctets,
                Default::default(),
                Default::default(),
            ),
            refusals: QuickCache::new(MAX_REFUSALS),
            capacity,
            epoch: Instant::now(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            loads: AtomicU64::new(0),
        }
    }

    /// The entries' time at `now`.
    pub(crate) fn millis(&self, now: Instant) -> Millis {
        let passed = now.saturating_duration_since(self.epoch).as_millis();
        Millis(u64::try_from(passed).unwrap_or(u64::MAX))
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
    pub(crate) fn chunk(&self, id: FileId, index: u32) -> Option<Bytes> {
        match self.content.get(&KeyRef::Chunk(id, index)) {
            Some(Cached::Chunk(octets)) => Some(octets),
            _ => None,
        }
    }

    /// Whether a chunk is there, without counting as its use.
    pub(crate) fn has_chunk(&self, id: FileId, index: u32) -> bool {
        self.content.contains_key(&KeyRef::Chunk(id, index))
    }

    /// Whether chunks loaded ahead would live until they are asked for.
    pub(crate) fn reads_ahead(&self) -> bool {
        self.capacity >= 16 * CHUNK as u64
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
    pub(crate) fn put_chunk(&self, id: FileId, index: u32, octets: Bytes) {
        self.content.insert(Key::Chunk(id, index), Cached::Chunk(octets));
    }

    /// Adds a worker's counts.
    pub(crate) fn count(&self, hits: u64, misses: u64) {
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
    }

    /// Counts one read of a file or chunk.
    pub(crate) fn count_load(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }

    /// The figures of the moment.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            capacity: self.capacity,
            bytes: self.content.weight(),
            entries: self.content.len() as u64,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            loads: self.loads.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SiteId = SiteId::for_tests();

    fn id(inode: u64, len: u64) -> FileId {
        FileId {
            device: 1,
            inode,
            len,
            modified: 784_111_777,
            modified_ns: 0,
            changed: 0,
            changed_ns: 0,
        }
    }

    fn source(path: &[u8], id: FileId) -> Source {
        let body = Some(Bytes::from(vec![b'x'; id.len as usize]));
        Source { path: path.into(), id, body }
    }

    fn file(path: &[u8], len: usize) -> Arc<Entry> {
        let source = source(path, id(1, len as u64));
        let file = File::new(&Site::for_tests(), source, vec![], vec![], SystemTime::now());
        Arc::new(Entry::new(Answer::File(file), Millis(0)))
    }

    #[test]
    fn it_stays_within_its_octets() {
        let cache = Cache::new(10 * CHUNK as u64);
        for index in 0..100 {
            cache.put_chunk(id(7, 100 << 20), index, Bytes::from(vec![0; CHUNK]));
            cache.put_entry(SITE, format!("f{index}").as_bytes(), &file(b"f", 1000));
            assert!(cache.stats().bytes <= 10 * CHUNK as u64);
        }
        assert!(cache.stats().entries > 8);
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
        cache.put_chunk(id(1, 2 << 20), 0, Bytes::from_static(b"x"));
        assert!(cache.entry(SITE, b"a").is_none());
        assert!(cache.chunk(id(1, 2 << 20), 0).is_none());
        assert_eq!(cache.stats().bytes, 0);
    }

    #[test]
    fn encoded_ones_count() {
        let entry = |encoded: &[(Coding, u64)]| {
            let siblings = encoded.iter().map(|&(coding, len)| (coding, id(2, len))).collect();
            let encoded = encoded.iter().map(|&(coding, len)| (coding, source(b"a.x", id(2, len))));
            let plain = source(b"a", id(1, 1000));
            let site = Site::for_tests();
            let file = File::new(&site, plain, siblings, encoded.collect(), SystemTime::now());
            Entry::new(Answer::File(file), Millis(0))
        };
        let (plain, two) = (entry(&[]), entry(&[(Coding::Gzip, 300), (Coding::Brotli, 200)]));
        assert!(two.weight() > plain.weight() + 500, "{} {}", two.weight(), plain.weight());
        let Answer::File(file) = &two.answer else { panic!("a file") };
        let variants = file.variants.as_ref().unwrap();
        let order: Vec<_> = variants.encoded.iter().map(|(coding, _)| *coding).collect();
        assert_eq!(order, [Coding::Brotli, Coding::Gzip], "the shortest first");
    }

    #[test]
    fn no_file_is_from_the_future() {
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        let site = Site::for_tests();
        let from = |modified| {
            let source = source(b"a", FileId { modified, ..id(1, 1) });
            File::new(&site, source, vec![], vec![], now)
        };
        assert_eq!((from(999).modified, from(1001).modified, from(-5).modified), (999, 1000, 0));
        assert_ne!(from(1001).etag, from(1002).etag);
        assert_ne!(from(-5).etag, from(-6).etag);
    }

    #[test]
    fn a_change_of_this_moment_may_hide_the_next_one() {
        let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        let file = |changed, changed_ns| FileId { changed, changed_ns, ..id(1, 1) };
        assert_eq!(file(1000, 0).settles_in(at(1000, 0)), Some(SETTLED_AFTER));
        let left = file(999, 999_000_000).settles_in(at(1000, 9_000_000));
        assert_eq!(left, Some(SETTLED_AFTER - Duration::from_millis(10)));
        assert_eq!(file(1000, 0).settles_in(at(1000, 20_000_000)), None);
        assert_eq!(file(2000, 0).settles_in(at(1000, 0)), None, "a clock of its own");
        assert_eq!(file(-1, 0).settles_in(at(1000, 0)), None);
    }

    #[test]
    fn paths_and_chunks_are_told_apart() {
        let cache = Cache::new(1 << 26);
        cache.put_entry(SITE, b"a", &file(b"a", 1));
        cache.put_chunk(id(1, 2 << 20), 1, Bytes::from_static(b"x"));
        assert!(cache.entry(SITE, b"a").is_some());
        assert!(cache.entry(SITE, b"b").is_none());
        assert!(cache.chunk(id(1, 2 << 20), 1).is_some());
        assert!(cache.chunk(id(1, 2 << 20), 0).is_none());
        assert!(cache.chunk(id(2, 2 << 20), 1).is_none());
    }

    #[test]
    fn refusals_are_bounded_and_keep_nothing_from_its_place() {
        let cache = Cache::new(1 << 20);
        let refused = Arc::new(Entry::new(Answer::Refused(Status::NotFound), Millis(0)));
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
