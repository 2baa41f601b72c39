//! Loads: commands in, cached entries and chunks out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures_channel::oneshot::Canceled;
use percent_encoding::percent_encode;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::compress::{Compressed, Compressors};
use super::directory::list;
use super::files::{Stop, Walk, complain, identity_of};
use super::flights::Flights;
use super::resolve::{Resolved, is_same, resolve};
use super::runtime::{ReadFile, aside, spawn};
use super::siblings::{sibling_path, unfit};
use super::{Command, Known, LoadError, Loaded, Waiter};
use crate::cache::{Answer, Cache, Encodings, Entry, File, FileId, Key, Millis, Progress, Source};
use crate::encoding::Coding;
use crate::limits::{CHUNK, COMPRESSION_PATIENCE, OPEN_FILE_IDLE, OPEN_FILES};
use crate::listing::Listing;
use crate::respond::Status;
use crate::site::Site;
use crate::target::PATH;

/// A file that changes while it is read is read again that often, and as often waited for before.
const READ_ATTEMPTS: usize = 3;

/// Takes commands until every sender is gone.
pub(super) async fn run(cache: Arc<Cache>, mut queue: mpsc::Receiver<Command>) {
    let loader = Rc::new(Loader {
        cache,
        flights: Flights::new(),
        compressors: Compressors::new(),
        open: RefCell::default(),
        sweeping: Cell::new(false),
    });
    while let Some(command) = queue.recv().await {
        loader.take(command);
    }
}

struct Loader {
    cache: Arc<Cache>,
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
}

impl Draft {
    fn entry(self, site: &Site, checked: Millis) -> Arc<Entry> {
        let file = File::new(site, self.plain, self.encodings, SystemTime::now());
        Arc::new(Entry::new(Answer::File(file), checked))
    }
}

impl Loader {
    fn take(self: &Rc<Self>, command: Command) {
        match command {
            Command::Load { site, path, known, waiter } => {
                self.take_load(site, path, known, waiter);
            }
            Command::Revalidate { site, path, entry } => self.revalidate(site, path, entry),
            Command::Chunk { site, entry, index, waiter } => {
                self.load_chunk(site, entry, index, waiter);
            }
        }
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
            Ok(Loaded::Entry(loader.entry(&site, &path, old.as_ref()).await))
        })
    }

    async fn entry(
        self: &Rc<Self>,
        site: &Arc<Site>,
        path: &[u8],
        old: Option<&Arc<Entry>>,
    ) -> Arc<Entry> {
        let checked = self.now();
        let found = self.look(site, path).await;
        if let Some(old) = old.filter(|old| is_same(old, &found)) {
            old.freshness.touch(checked);
            return Arc::clone(old);
        }
        self.cache.count_load();
        let answer = match found {
            Ok(Resolved::File(at, _, siblings)) => match self.draft(site, &at, siblings).await {
                Ok(draft) => return self.publish(site, path, draft, checked).await,
                Err(status) => Answer::Refused(status),
            },
            Ok(Resolved::Directory(id)) => match self.listing(site, path, id).await {
                Ok((listing, true)) => Answer::Listing(listing),
                // What it becomes in this moment would not tell itself from it.
                Ok((listing, false)) => {
                    return Arc::new(Entry::new(Answer::Listing(listing), checked));
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
            let unavailable = || Arc::new(Entry::new(answer, checked));
            return old.map_or_else(unavailable, Arc::clone);
        }
        let entry = Arc::new(Entry::new(answer, checked));
        self.cache.put_entry(site.id, path, &entry);
        entry
    }

    /// Makes a file the answer to `path`, as it is for the time being if its compression takes
    /// longer than anybody should wait.
    async fn publish(
        self: &Rc<Self>,
        site: &Arc<Site>,
        path: &[u8],
        mut draft: Draft,
        checked: Millis,
    ) -> Arc<Entry> {
        let mut compressed = self.compress(site, &mut draft);
        if let Some(under_way) = &mut compressed
            && let Ok(done) = timeout(COMPRESSION_PATIENCE, under_way).await
        {
            self.take_compressed(&mut draft, done);
            compressed = None;
        }
        let entry = draft.clone().entry(site, checked);
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
                    let entry = draft.entry(&site, unfinished.freshness.checked());
                    loader.cache.put_entry(site.id, &path, &entry);
                }
            });
        }
        entry
    }

    /// Has a draft compressed in the codings that its site wants, but for those in which it is
    /// there already.
    fn compress(&self, site: &Site, draft: &mut Draft) -> Option<Compressed> {
        let Draft { plain, encodings, settled } = draft;
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
        // What is not kept would be compressed for each request.
        let start = || self.compressors.start(&plain.path, wanted, body.clone());
        let compressed = settled.then(start).flatten();
        encodings.progress = match compressed {
            Some(_) => Progress::UnderWay,
            None => {
                self.cache.count_compression_put_off();
                Progress::PutOff
            }
        };
        compressed
    }

    fn take_compressed(&self, draft: &mut Draft, done: Result<Vec<(Coding, Bytes)>, Canceled>) {
        if done.is_ok() {
            self.cache.count_compression();
        }
        // One that has failed would fail again: the file stays as it is.
        draft.encodings.compressed = done.unwrap_or_default();
        draft.encodings.progress = Progress::Done;
    }

    /// Whether `entry` is known to be the answer to `path` without waiting; it counts as compared
    /// then.
    fn is_same_at_once(&self, site: &Site, path: &[u8], entry: &Entry) -> bool {
        let checked = self.now();
        let found = at_once(resolve(site, path, Walk::Plain));
        let same = found.is_some_and(|found| is_same(entry, &found));
        if same {
            entry.freshness.touch(checked);
        }
        same
    }

    async fn look(&self, site: &Arc<Site>, path: &[u8]) -> Result<Resolved, Status> {
        match at_once(resolve(site, path, Walk::Plain)) {
            Some(found) => found,
            None => with_patience(site, path, resolve).await,
        }
    }

    async fn open(&self, site: &Arc<Site>, path: &[u8]) -> Result<(OwnedFd, FileId), Status> {
        let open = |site: &Site, path: &[u8], walk| site.root.open_file(path, walk);
        match at_once(open(site, path, Walk::Plain)) {
            Some(opened) => opened,
            None => with_patience(site, path, open).await,
        }
    }

    /// The listing of the directory at `path`, and whether the directory's times tell it from what
    /// it may become.
    async fn listing(
        &self,
        site: &Arc<Site>,
        path: &[u8],
        id: FileId,
    ) -> Result<(Listing, bool), Status> {
        if let Some(time) = id.settles_in(SystemTime::now()) {
            sleep(time).await;
        }
        let listing = with_patience(site, path, |site, path, _| list(site, path)).await?;
        let settled = listing.directory().settles_in(SystemTime::now()).is_none();
        Ok((listing, settled))
    }

    /// The file at `path` with its siblings.
    async fn draft(
        &self,
        site: &Arc<Site>,
        path: &[u8],
        siblings: Vec<(Coding, FileId)>,
    ) -> Result<Draft, Status> {
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
        Ok(Draft { plain, encodings, settled })
    }

    /// Reads a file, but for what comes in chunks; and whether its times tell it from what it may
    /// become.
    async fn read(&self, site: &Arc<Site>, path: &[u8]) -> Result<(Source, bool), Status> {
        let (mut reads, mut waits) = (READ_ATTEMPTS, READ_ATTEMPTS);
        while reads > 0 {
            let (fd, id) = self.open(site, path).await?;
            let unsettled = id.settles_in(SystemTime::now());
            if let Some(time) = unsettled.filter(|_| waits > 0) {
                waits -= 1;
                sleep(time).await;
                continue;
            }
            reads -= 1;
            let settled = unsettled.is_none();
            if id.len > CHUNK as u64 {
                return Ok((Source { path: path.into(), id, body: None }, settled));
            }
            let file = ReadFile::new(fd).map_err(|_| Status::Unavailable)?;
            // At most a chunk, so it fits.
            let octets = file.read(0, id.len as usize).await.map_err(|error| {
                complain("read", path, &error);
                Status::Internal
            })?;
            // Half an old and half a new file would pass for whole otherwise.
            if octets.len() as u64 == id.len && identity(site, &file).await == Some(id) {
                let body = Some(Bytes::from(octets));
                return Ok((Source { path: path.into(), id, body }, settled));
            }
        }
        Err(Status::Unavailable)
    }

    fn load_chunk(
        self: &Rc<Self>,
        site: Arc<Site>,
        entry: Arc<Entry>,
        index: u32,
        waiter: Option<Waiter>,
    ) {
        let Answer::File(file) = &entry.answer else { return };
        let id = file.id;
        if waiter.is_none() && self.cache.has_chunk(id, index) {
            return;
        }
        if let Some(octets) = self.cache.chunk(id, index) {
            if let Some(waiter) = waiter {
                waiter.answer(Ok(Loaded::Chunk(octets)));
            }
            return;
        }
        let loader = Rc::clone(self);
        self.flights.board(Key::Chunk(id, index), None, waiter, async move {
            let Answer::File(file) = &entry.answer else { return Err(LoadError::Changed) };
            let octets = loader.chunk(&site, file, index).await?;
            loader.cache.put_chunk(id, index, octets.clone());
            Ok(Loaded::Chunk(octets))
        });
    }

    async fn chunk(
        self: &Rc<Self>,
        site: &Arc<Site>,
        file: &File,
        index: u32,
    ) -> Result<Bytes, LoadError> {
        let open = self.opened(site, file).await?;
        self.cache.count_load();
        let offset = u64::from(index) * CHUNK as u64;
        // At most a chunk, so it fits.
        let len = file.id.len.saturating_sub(offset).min(CHUNK as u64) as usize;
        let octets = open.read(offset, len).await.map_err(|error| {
            complain("read", &file.path, &error);
            LoadError::Unreadable
        })?;
        let same = identity(site, &open).await.is_some_and(|id| id.same_content(&file.id));
        if octets.len() == len && same {
            Ok(Bytes::from(octets))
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
        if !id.same_content(&file.id) {
            return Err(LoadError::Changed);
        }
        let opened = Rc::new(ReadFile::new(fd).map_err(|_| LoadError::Overloaded)?);
        let mut open = self.open.borrow_mut();
        if open.len() >= OPEN_FILES {
            let oldest = open.iter().min_by_key(|(_, file)| file.used).map(|(id, _)| *id);
            oldest.and_then(|id| open.remove(&id));
        }
        open.insert(file.id, OpenFile { file: Rc::clone(&opened), used });
        drop(open);
        self.sweep();
        Ok(opened)
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

/// What was found without waiting, if that can tell.
fn at_once<T>(found: Result<T, Stop>) -> Option<Result<T, Status>> {
    match found {
        Ok(found) => Some(Ok(found)),
        Err(Stop::Refused(status)) => Some(Err(status)),
        Err(Stop::NotPlain) => None,
    }
}

/// Looks wherever `path` leads, however long that takes.
async fn with_patience<T: Send + 'static>(
    site: &Arc<Site>,
    path: &[u8],
    look: fn(&Site, &[u8], Walk) -> Result<T, Stop>,
) -> Result<T, Status> {
    let (site, path): (_, Box<[u8]>) = (Arc::clone(site), path.into());
    let found = aside(move || at_once(look(&site, &path, Walk::Any))).await;
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
