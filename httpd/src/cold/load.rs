//! Loads: commands in, cached entries and parts of large files out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_channel::oneshot::Canceled;
use percent_encoding::percent_encode;
use tagwire_core::driver::DriverKind;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::compress::{Compressed, Compressors};
use super::directory::list;
use super::files::{Stop, Walk, complain, identity_of, told};
use super::flights::Flights;
use super::preload::{self, Preload};
use super::resolve::{Resolved, Sight};
use super::runtime::{ReadFile, aside, spawn};
use super::siblings::{sibling_path, unfit};
use super::watch::Watch;
use super::{Command, Known, LoadError, Loaded, Room, Waiter};
use crate::cache::{
    Answer, Cache, Chunk, Encodings, Entry, File, FileId, Key, Millis, Progress, Source, Span,
    Trail,
};
use crate::encoding::Coding;
use crate::limits::{
    CHUNK, COMPRESSION_PATIENCE, LEAST_PIECE, OPEN_FILE_IDLE, OPEN_FILES, SETTLED_AFTER,
};
use crate::listing::Listing;
use crate::respond::Status;
use crate::site::{Site, Sites};
use crate::target::PATH;

/// A file that changes while it is read is read again that often, and as often waited for before.
const READ_ATTEMPTS: usize = 3;

/// Takes commands until every sender is gone.
pub(super) async fn run(
    cache: Arc<Cache>,
    watch: Arc<Watch>,
    driver: DriverKind,
    patience: Duration,
    preload: Arc<Preload>,
    mut queue: mpsc::Receiver<Command>,
) {
    let loader = Loader::new(cache, watch, driver, patience);
    while let Some(command) = queue.recv().await {
        if let Command::Preload(sites, done) = command {
            spawn(preload::run(Rc::clone(&loader), Arc::clone(&preload), sites, done));
        } else {
            loader.take(command);
        }
    }
}

pub(super) struct Loader {
    pub(super) cache: Arc<Cache>,
    watch: Arc<Watch>,
    /// The runtime's.
    driver: DriverKind,
    flights: Rc<Flights>,
    compressors: Compressors,
    /// Large files in use: a replaced file is sent to its end from the one that was opened.
    open: RefCell<HashMap<FileId, OpenFile>>,
    /// A task closes files that rest.
    sweeping: Cell<bool>,
}

struct OpenFile {
    file: Rc<ReadFile>,
    used: Instant,
}

/// A file that is being made an answer.
#[derive(Clone)]
struct Draft {
    plain: Source,
    encodings: Encodings,
    /// Its times tell it from what it may become.
    settled: bool,
    /// When it was looked at, and its way, if that is watched.
    checked: Millis,
    trail: Option<Arc<Trail>>,
}

impl Draft {
    fn entry(self, site: &Site) -> Arc<Entry> {
        // What is put off is tried again soon, whether something changes or not.
        let trail = self.trail.filter(|_| self.encodings.progress != Progress::PutOff);
        let file = File::new(site, self.plain, self.encodings, SystemTime::now());
        Arc::new(Entry::new(Answer::File(file), self.checked, trail))
    }
}

impl Loader {
    pub(super) fn new(
        cache: Arc<Cache>,
        watch: Arc<Watch>,
        driver: DriverKind,
        patience: Duration,
    ) -> Rc<Self> {
        Rc::new(Self {
            cache,
            watch,
            driver,
            flights: Flights::new(patience),
            compressors: Compressors::new(),
            open: RefCell::default(),
            sweeping: Cell::new(false),
        })
    }

    fn take(self: &Rc<Self>, command: Command) {
        match command {
            Command::Load { site, path, known, waiter } => {
                self.take_load(site, path, known, waiter);
            }
            Command::Revalidate { site, path, entry } => self.revalidate(site, path, entry),
            Command::Read { site, entry, span, room, waiter } => {
                self.take_read(site, entry, span, room, waiter);
            }
            Command::Sites(sites) => self.serve(&sites),
            // Not the loader's, see `run`.
            Command::Preload(..) => {}
        }
    }

    /// Lets go of what belongs to sites that are no more.
    fn serve(&self, sites: &Sites) {
        let ids: Vec<_> = sites.iter().map(|site| site.id).collect();
        self.cache.retain(|site| ids.contains(&site));
        self.watch.retain(|site| ids.contains(&site));
    }

    fn now(&self) -> Millis {
        self.cache.millis(Instant::now())
    }

    fn take_load(
        self: &Rc<Self>,
        site: Arc<Site>,
        path: Box<[u8]>,
        known: Option<Known>,
        waiter: Waiter,
    ) {
        // It may have come, or been compared, while the command was queued.
        match self.cache.entry(site.id, &path) {
            Some(entry)
                if !known.as_ref().is_some_and(|known| known.is(&entry))
                    || self.is_same_at_once(&site, &path, &entry) =>
            {
                waiter.answer(Ok(Loaded::Entry(entry)));
            }
            _ => {
                let known = known.map(|known| known.entry);
                self.load_entry(site, path, known, Some(waiter));
            }
        }
    }

    fn revalidate(self: &Rc<Self>, site: Arc<Site>, path: Box<[u8]>, entry: Arc<Entry>) {
        if !self.is_same_at_once(&site, &path, &entry)
            && !self.load_entry(site, path, Some(Arc::clone(&entry)), None)
        {
            // Nobody would ever ask again otherwise.
            entry.freshness.give_up();
        }
    }

    /// Brings the answer to `path` into the cache, unless `known` still is the answer.
    fn load_entry(
        self: &Rc<Self>,
        site: Arc<Site>,
        path: Box<[u8]>,
        known: Option<Arc<Entry>>,
        waiter: Option<Waiter>,
    ) -> bool {
        let (loader, old) = (Rc::clone(self), known.clone());
        self.flights.board(Key::Path(site.id, path.clone()), known, waiter, async move {
            let entry = loader.entry(&site, &path, old.as_ref(), COMPRESSION_PATIENCE).await;
            Ok(Loaded::Entry(entry))
        })
    }

    /// Brings the answer to `path` into the cache, with all that it is compressed to.
    pub(super) async fn load_whole(self: &Rc<Self>, site: &Arc<Site>, path: &[u8]) -> Arc<Entry> {
        self.entry(site, path, None, Duration::MAX).await
    }

    async fn entry(
        self: &Rc<Self>,
        site: &Arc<Site>,
        path: &[u8],
        old: Option<&Arc<Entry>>,
        patience: Duration,
    ) -> Arc<Entry> {
        let checked = self.now();
        let sight = self.look(site, path).await;
        if let Some(old) = old.filter(|old| sight.is_of(old)) {
            old.freshness.touch(checked);
            return Arc::clone(old);
        }
        self.cache.count_load();
        let Sight { found, trail } = sight;
        let answer = match found {
            Ok(Resolved::File(at, _, siblings)) => match self.read_all(site, &at, siblings).await {
                Ok((plain, encodings, settled)) => {
                    let draft = Draft { plain, encodings, settled, checked, trail };
                    return self.publish(site, path, draft, patience).await;
                }
                Err(status) => Answer::Refused(status),
            },
            Ok(Resolved::Directory(id)) => match self.listing(site, path, id, old).await {
                Ok((listing, true)) => Answer::Listing(listing),
                // What it becomes in this moment would not tell itself from it.
                Ok((listing, false)) => {
                    return Arc::new(Entry::new(Answer::Listing(listing), checked, None));
                }
                Err(status) => Answer::Refused(status),
            },
            Ok(Resolved::Redirect) => {
                Answer::Redirect(format!("/{}/", percent_encode(path, PATH)).into())
            }
            Err(status) => Answer::Refused(status),
        };
        if matches!(answer, Answer::Refused(Status::Unavailable)) {
            // That says nothing about the file.
            let unavailable = || Arc::new(Entry::new(answer, checked, None));
            return old.map_or_else(unavailable, Arc::clone);
        }
        let entry = Arc::new(Entry::new(answer, checked, trail));
        self.cache.put_entry(site.id, path, &entry);
        entry
    }

    /// Makes a file the answer to `path`, as it is for the time being if its compression takes
    /// longer than that.
    async fn publish(
        self: &Rc<Self>,
        site: &Arc<Site>,
        path: &[u8],
        mut draft: Draft,
        patience: Duration,
    ) -> Arc<Entry> {
        let mut compressed = self.compress(site, &mut draft);
        if let Some(under_way) = &mut compressed
            && let Ok(done) = timeout(patience, under_way).await
        {
            self.take_compressed(&mut draft, done);
            compressed = None;
        }
        let entry = draft.clone().entry(site);
        if !draft.settled {
            return entry;
        }
        self.cache.put_entry(site.id, path, &entry);
        if let Some(under_way) = compressed {
            let (loader, unfinished) = (Rc::clone(self), Arc::clone(&entry));
            let (site, path): (_, Box<[u8]>) = (Arc::clone(site), path.into());
            spawn(async move {
                loader.take_compressed(&mut draft, under_way.await);
                let there = loader.cache.entry(site.id, &path);
                if there.is_some_and(|there| Arc::ptr_eq(&there, &unfinished)) {
                    draft.checked = unfinished.freshness.checked();
                    let entry = draft.entry(&site);
                    loader.cache.put_entry(site.id, &path, &entry);
                }
            });
        }
        entry
    }

    /// Has a draft compressed in the codings that its site wants, but for those in which it is
    /// there already.
    fn compress(&self, site: &Site, draft: &mut Draft) -> Option<Compressed> {
        let Draft { plain, encodings, settled, .. } = draft;
        let body = plain.body.as_ref()?;
        if !self.cache.is_worth(plain.id.len) {
            return None;
        }
        let there = |coding: &Coding| encodings.read.iter().any(|(read, _)| read == coding);
        let wanted = site.codings(&plain.path, plain.id.len).iter().copied();
        let wanted: Vec<_> = wanted.filter(|coding| !there(coding)).collect();
        if wanted.is_empty() {
            return None;
        }
        encodings.progress = Progress::PutOff;
        // What is not kept would be compressed for each request.
        if !*settled {
            return None;
        }
        let compressed = self.start_compression(&plain.path, wanted, body);
        if compressed.is_some() {
            encodings.progress = Progress::UnderWay;
        }
        compressed
    }

    /// Has what is at `path` compressed; `None`: there is too much of that for now.
    fn start_compression(
        &self,
        path: &[u8],
        codings: Vec<Coding>,
        body: &Bytes,
    ) -> Option<Compressed> {
        let compressed = self.compressors.start(path, codings, body.clone());
        if compressed.is_none() {
            self.cache.count_compression_put_off();
        }
        compressed
    }

    fn take_compressed(&self, draft: &mut Draft, done: Result<Vec<(Coding, Bytes)>, Canceled>) {
        if done.is_ok() {
            self.cache.count_compression();
        }
        // One that has failed would fail again: the file stays as it is.
        let compressed = done.unwrap_or_default().into_iter();
        draft.encodings.compressed =
            compressed.map(|(coding, body)| (coding, self.cache.body(body.into()))).collect();
        draft.encodings.progress = Progress::Done;
    }

    /// Whether `entry` is known to be the answer to `path` without waiting; it counts as compared
    /// then.
    fn is_same_at_once(&self, site: &Site, path: &[u8], entry: &Entry) -> bool {
        let checked = self.now();
        let sight = Sight::at_once(&self.watch, site, path);
        let same = sight.is_some_and(|sight| sight.is_of(entry));
        if same {
            entry.freshness.touch(checked);
        }
        same
    }

    async fn look(&self, site: &Arc<Site>, path: &[u8]) -> Sight {
        if let Some(sight) = Sight::at_once(&self.watch, site, path) {
            return sight;
        }
        let (watch, site) = (Arc::clone(&self.watch), Arc::clone(site));
        let path: Box<[u8]> = path.into();
        let seen = aside(move || Sight::at_last(&watch, &site, &path)).await;
        seen.unwrap_or(Sight { found: Err(Status::Internal), trail: None })
    }

    async fn open(&self, site: &Arc<Site>, path: &[u8]) -> Result<(OwnedFd, FileId), Status> {
        if let Some(opened) = told(site.root.open_file(path, Walk::Plain)) {
            return opened;
        }
        look_aside(site, path, |site, path| site.root.open_file(path, Walk::Any)).await
    }

    /// The listing of the directory at `path`, and whether the directory's times tell it from what
    /// it may become.
    async fn listing(
        &self,
        site: &Arc<Site>,
        path: &[u8],
        id: FileId,
        old: Option<&Arc<Entry>>,
    ) -> Result<(Listing, bool), Status> {
        settle(&id).await;
        let mut listing = look_aside(site, path, list).await?;
        let settled = listing.directory().settles_in(SystemTime::now()).is_none();
        if let Some(Answer::Listing(before)) = old.map(|old| &old.answer) {
            listing.share(before);
        }
        // What is not kept would be compressed for each request.
        if settled {
            self.compress_listing(site, path, &mut listing).await;
        }
        Ok((listing, settled))
    }

    /// Has a listing compressed as its site wants text to be. It is not kept for long: what takes
    /// longer than anybody should wait is left out.
    async fn compress_listing(&self, site: &Site, path: &[u8], listing: &mut Listing) {
        let mut under_way = Vec::new();
        for form in listing.forms() {
            let len = form.body().len() as u64;
            let codings = site.text_codings(len);
            if codings.is_empty() || form.is_encoded() || !self.cache.is_worth(len) {
                continue;
            }
            if let Some(compressed) = self.start_compression(path, codings.to_vec(), form.body()) {
                under_way.push((form, compressed));
            }
        }
        let all = async {
            for (form, compressed) in under_way {
                if let Ok(encoded) = compressed.await {
                    self.cache.count_compression();
                    form.encode(encoded);
                }
            }
        };
        // Those that are ready by then are there.
        let _ = timeout(COMPRESSION_PATIENCE, all).await;
    }

    /// The file at `path` with its siblings, and whether their times tell them from what they may
    /// become.
    async fn read_all(
        self: &Rc<Self>,
        site: &Arc<Site>,
        path: &[u8],
        siblings: Vec<(Coding, FileId)>,
    ) -> Result<(Source, Encodings, bool), Status> {
        let (plain, mut settled) = self.read(site, path).await?;
        let mut read = Vec::new();
        for &(coding, _) in &siblings {
            self.cache.count_load();
            let path = sibling_path(path, coding);
            match self.read(site, &path).await {
                Ok((source, settles)) => {
                    settled &= settles;
                    match unfit(&source.id, &plain.id) {
                        None => read.push((coding, source)),
                        Some(why) => complain("sent encoded", &path, &why),
                    }
                }
                Err(status) => complain("sent encoded", &path, &status.text()),
            }
        }
        let encodings = Encodings { siblings, read, ..Encodings::default() };
        Ok((plain, encodings, settled))
    }

    /// Reads a file, but for what comes in chunks; and whether its times tell it from what it may
    /// become.
    async fn read(
        self: &Rc<Self>,
        site: &Arc<Site>,
        path: &[u8],
    ) -> Result<(Source, bool), Status> {
        let (mut reads, mut waits) = (READ_ATTEMPTS, READ_ATTEMPTS);
        while reads > 0 {
            let (fd, id) = self.open(site, path).await?;
            let unsettled = id.settles_in(SystemTime::now());
            if unsettled.is_some() && waits > 0 {
                waits -= 1;
                settle(&id).await;
                continue;
            }
            reads -= 1;
            let settled = unsettled.is_none();
            let file = ReadFile::new(fd, id, self.driver).map_err(|_| Status::Unavailable)?;
            let whole = if self.cache.is_crowded() { LEAST_PIECE } else { CHUNK };
            if id.len > whole as u64 {
                // Its first part is asked for in a moment, by whatever name it has then.
                self.keep_open(id, &Rc::new(file));
                return Ok((Source { path: path.into(), id, body: None }, settled));
            }
            // At most a chunk, so it fits.
            let octets = file.read(0, id.len as usize).await.map_err(|error| {
                complain("read", path, &error);
                Status::Internal
            })?;
            self.cache.count_read(octets.len());
            // Half an old and half a new file would pass for whole otherwise.
            if octets.len() as u64 == id.len && identity(site, &file).await == Some(id) {
                let body = Some(self.cache.body(octets));
                return Ok((Source { path: path.into(), id, body }, settled));
            }
        }
        Err(Status::Unavailable)
    }

    pub(super) fn take_read(
        self: &Rc<Self>,
        site: Arc<Site>,
        entry: Arc<Entry>,
        span: Span,
        room: Room,
        waiter: Waiter,
    ) {
        let Answer::File(file) = &entry.answer else { return };
        let id = file.id;
        let index = span.index(id.len);
        // It may have come while the command was queued.
        if let Some(chunk) = index.and_then(|index| self.cache.chunk(id, index)) {
            waiter.answer(Ok(Loaded::Part(chunk.hold(room.charge))));
            return;
        }
        let key = index.map_or(Key::Part(id, span), |index| Key::Chunk(id, index));
        let loader = Rc::clone(self);
        self.flights.board(key, None, Some(waiter), async move {
            let Answer::File(file) = &entry.answer else { return Err(LoadError::Changed) };
            let Room { charge, place } = room;
            let octets = loader.read_span(&site, file, span).await;
            drop(place);
            // Who comes next shall not be cut off as well.
            let octets = octets.inspect_err(|_| entry.freshness.expire())?;
            let chunk = Chunk::new(octets);
            if let Some(index) = index {
                loader.cache.put_chunk(id, index, Arc::clone(&chunk));
            }
            Ok(Loaded::Part(chunk.hold(charge)))
        });
    }

    /// Octets of a large file, as it was when its entry was made.
    async fn read_span(
        self: &Rc<Self>,
        site: &Arc<Site>,
        file: &File,
        span: Span,
    ) -> Result<Vec<u8>, LoadError> {
        // From then on each change shows, and so what is read later is of the same content.
        if let Some(time) = file.id.settles_in(SystemTime::now()) {
            sleep(time).await;
        }
        let open = self.opened(site, file).await?;
        self.cache.count_load();
        let octets = open.read(span.start, span.len as usize).await.map_err(|error| {
            complain("read", &file.path, &error);
            LoadError::Unreadable
        })?;
        self.cache.count_read(octets.len());
        let same = identity(site, &open).await.is_some_and(|id| open.continues(id));
        if octets.len() == span.len as usize && same {
            Ok(octets)
        } else {
            self.open.borrow_mut().remove(&file.id);
            Err(LoadError::Changed)
        }
    }

    /// The file as it was opened before, or opened now if it is still the same.
    async fn opened(
        self: &Rc<Self>,
        site: &Arc<Site>,
        file: &File,
    ) -> Result<Rc<ReadFile>, LoadError> {
        let used = Instant::now();
        if let Some(known) = self.open.borrow_mut().get_mut(&file.id) {
            known.used = used;
            return Ok(Rc::clone(&known.file));
        }
        let (fd, id) = self.open(site, &file.path).await.map_err(|status| match status {
            Status::Unavailable => LoadError::Overloaded,
            _ => LoadError::Changed,
        })?;
        // What has happened to its links since it was closed could hide anything else.
        if id != file.id {
            return Err(LoadError::Changed);
        }
        let opened =
            Rc::new(ReadFile::new(fd, id, self.driver).map_err(|_| LoadError::Overloaded)?);
        self.keep_open(file.id, &opened);
        Ok(opened)
    }

    /// Keeps a file open for the parts of it that are asked for next.
    fn keep_open(self: &Rc<Self>, id: FileId, file: &Rc<ReadFile>) {
        let mut open = self.open.borrow_mut();
        if open.len() >= OPEN_FILES && !open.contains_key(&id) {
            let oldest = open.iter().min_by_key(|(_, file)| file.used).map(|(id, _)| *id);
            oldest.and_then(|id| open.remove(&id));
        }
        open.insert(id, OpenFile { file: Rc::clone(file), used: Instant::now() });
        drop(open);
        self.sweep();
    }

    /// Closes files that rest; the task ends with the last one, so that an idle server sleeps.
    fn sweep(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let loader = Rc::clone(self);
        spawn(async move {
            while !loader.open.borrow().is_empty() {
                tokio::time::sleep(OPEN_FILE_IDLE / 2).await;
                loader.open.borrow_mut().retain(|_, file| file.used.elapsed() < OPEN_FILE_IDLE);
            }
            loader.sweeping.set(false);
        });
    }
}

/// Waits until the next change of a file would show, or as long as a request may wait for that.
async fn settle(id: &FileId) {
    if let Some(time) = id.settles_in(SystemTime::now()) {
        sleep(time.min(SETTLED_AFTER)).await;
    }
}

/// Looks wherever `path` leads, however long that takes.
async fn look_aside<T: Send + 'static>(
    site: &Arc<Site>,
    path: &[u8],
    look: fn(&Site, &[u8]) -> Result<T, Stop>,
) -> Result<T, Status> {
    let (site, path): (_, Box<[u8]>) = (Arc::clone(site), path.into());
    let found = aside(move || told(look(&site, &path))).await;
    found.flatten().unwrap_or(Err(Status::Internal))
}

/// The identity of an open file as it is now.
async fn identity(site: &Site, file: &ReadFile) -> Option<FileId> {
    if site.root.is_local() {
        return identity_of(file.descriptor().as_fd()).ok();
    }
    let descriptor = Arc::clone(file.descriptor());
    aside(move || identity_of(descriptor.as_fd())).await?.ok()
}

#[cfg(test)]
mod tests;
