//! Loads: commands in, cached entries and chunks out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::sync::{Semaphore, mpsc};

use super::files::{Found, complain, identity_of};
use super::runtime::{ReadFile, spawn};
use super::siblings::{sibling_path, siblings, unfit};
use super::{Command, LoadError, Loaded, Waiter};
use crate::cache::{Answer, Cache, Entry, File, FileId, Key, Source};
use crate::limits::{
    CHUNK, COLD_LOADS, COLD_QUEUE, COLD_QUEUE_FOR_CHUNKS, COLD_QUEUE_FOR_WAITERS, OPEN_FILE_IDLE,
    OPEN_FILES,
};
use crate::respond::Status;
use crate::site::Site;

/// What a path keeps as it is in a Location (RFC 3986 3.3).
const LOCATION: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A file that changes while it is read is read again that often.
const READ_ATTEMPTS: usize = 3;

/// Takes commands until every sender is gone.
pub(super) async fn run(cache: Arc<Cache>, mut queue: mpsc::Receiver<Command>) {
    let loader = Rc::new(Loader {
        cache,
        waiting: RefCell::default(),
        permits: Semaphore::new(COLD_LOADS),
        open: RefCell::default(),
        sweeping: Cell::new(false),
    });
    while let Some(command) = queue.recv().await {
        loader.take(command);
    }
}

struct Loader {
    cache: Arc<Cache>,
    /// Loads that run or wait for a permit, and who waits for each.
    waiting: RefCell<HashMap<Key, Vec<Waiter>>>,
    permits: Semaphore,
    /// Large files in use: a replaced file is sent to its end from the one that was opened.
    open: RefCell<HashMap<FileId, OpenFile>>,
    /// A task closes files that rest.
    sweeping: Cell<bool>,
}

struct OpenFile {
    file: Rc<ReadFile>,
    used: Instant,
}

impl Loader {
    fn take(self: &Rc<Self>, command: Command) {
        match command {
            Command::Load { site, path, known, waiter } => {
                // It may have come, or been compared, while the command was queued.
                let now = self.cache.millis(Instant::now());
                let old = |entry: &_| known.as_ref().is_some_and(|known| known.is(entry));
                match self.cache.entry(site.id, &path, now) {
                    Some(entry) if !old(&entry) || self.is_same(&site, &path, &entry) => {
                        waiter.answer(Ok(Loaded::Entry(entry)));
                    }
                    _ => {
                        self.load_entry(site, path, Some(waiter));
                    }
                }
            }
            Command::Revalidate { site, path, entry } => self.revalidate(site, path, &entry),
            Command::Chunk { site, entry, index, waiter } => {
                self.load_chunk(site, entry, index, waiter);
            }
        }
    }

    /// Starts `load` under `key`, unless it runs already; `waiter` is answered with its result.
    /// False if too much is under way; `waiter` knows it then.
    fn once<F>(self: &Rc<Self>, key: Key, waiter: Option<Waiter>, load: F) -> bool
    where
        F: AsyncFnOnce(&Rc<Self>) -> Result<Loaded, LoadError> + 'static,
    {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(waiters) = waiting.get_mut(&key) {
            waiters.extend(waiter);
            return true;
        }
        // As in the queue before it, a download's next chunk has places of its own.
        let places = match (&key, &waiter) {
            (Key::Chunk(..), Some(_)) => COLD_QUEUE,
            (Key::Path(..), Some(_)) => COLD_QUEUE - COLD_QUEUE_FOR_CHUNKS,
            (_, None) => COLD_QUEUE - COLD_QUEUE_FOR_WAITERS,
        };
        if waiting.len() >= places {
            drop(waiting);
            if let Some(waiter) = waiter {
                waiter.answer(Err(LoadError::Overloaded));
            }
            return false;
        }
        waiting.insert(key.clone(), waiter.into_iter().collect());
        drop(waiting);
        let flight = Flight { loader: Rc::clone(self), key };
        spawn(async move {
            let permit = flight.loader.permits.acquire().await;
            let result = load(&flight.loader).await;
            drop(permit);
            flight.land(&result);
        });
        true
    }

    fn load_entry(
        self: &Rc<Self>,
        site: Arc<Site>,
        path: Box<[u8]>,
        waiter: Option<Waiter>,
    ) -> bool {
        self.once(Key::Path(site.id, path.clone()), waiter, async move |loader: &Rc<Self>| {
            let answer = loader.answer(&site, &path).await;
            let entry = Arc::new(Entry::new(answer, loader.cache.millis(Instant::now())));
            loader.cache.put_entry(site.id, &path, &entry);
            Ok(Loaded::Entry(entry))
        })
    }

    fn revalidate(self: &Rc<Self>, site: Arc<Site>, path: Box<[u8]>, entry: &Arc<Entry>) {
        if !self.is_same(&site, &path, entry) && !self.load_entry(site, path, None) {
            // Nobody would ever ask again otherwise.
            entry.give_up();
        }
    }

    /// Whether `entry` is still the answer to `path`; it is known as compared then.
    fn is_same(&self, site: &Site, path: &[u8], entry: &Entry) -> bool {
        let same = match (&entry.answer, resolve(site, path)) {
            (Answer::File(file), Ok(Resolved::File(at, id))) => {
                file.id == id && *file.path == *at && *siblings(site, &at) == *file.siblings()
            }
            (Answer::Redirect(_), Ok(Resolved::Redirect)) => true,
            _ => false,
        };
        if same {
            entry.touch(self.cache.millis(Instant::now()));
        }
        same
    }

    async fn answer(&self, site: &Site, path: &[u8]) -> Answer {
        self.cache.count_load();
        match resolve(site, path) {
            Ok(Resolved::File(at, _)) => {
                self.file(site, &at).await.map_or_else(Answer::Refused, Answer::File)
            }
            Ok(Resolved::Redirect) => {
                Answer::Redirect(format!("/{}/", percent_encode(path, LOCATION)).into())
            }
            Err(status) => Answer::Refused(status),
        }
    }

    async fn file(&self, site: &Site, path: &[u8]) -> Result<File, Status> {
        let plain = self.read(site, path).await?;
        let siblings = siblings(site, path);
        let mut encoded = Vec::new();
        for &(coding, _) in &siblings {
            self.cache.count_load();
            let path = sibling_path(path, coding);
            let sibling = self.read(site, &path).await;
            match sibling.map(|source| unfit(&source.id, &plain.id).map_or(Ok(source), Err)) {
                Ok(Ok(source)) => encoded.push((coding, source)),
                Ok(Err(why)) => complain("sent encoded", &path, &why),
                Err(status) => complain("sent encoded", &path, &status.text()),
            }
        }
        Ok(File::new(site, plain, siblings, encoded, SystemTime::now()))
    }

    /// Reads a file, but for what comes in chunks.
    async fn read(&self, site: &Site, path: &[u8]) -> Result<Source, Status> {
        for _ in 0..READ_ATTEMPTS {
            let (fd, id) = site.root.open_file(path)?;
            let file = ReadFile::new(fd).map_err(|_| Status::Unavailable)?;
            if id.len > CHUNK as u64 {
                return Ok(Source { path: path.into(), id, body: None });
            }
            // At most a chunk, so it fits.
            let octets = file.read(0, id.len as usize).await.map_err(|error| {
                complain("read", path, &error);
                Status::Internal
            })?;
            // Half an old and half a new file would pass for whole otherwise.
            if octets.len() as u64 == id.len && identity_of(file.as_fd()) == Ok(id) {
                return Ok(Source { path: path.into(), id, body: Some(Bytes::from(octets)) });
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
        self.once(Key::Chunk(id, index), waiter, async move |loader: &Rc<Self>| {
            let Answer::File(file) = &entry.answer else { return Err(LoadError::Changed) };
            let octets = loader.chunk(&site, file, index).await?;
            loader.cache.put_chunk(id, index, octets.clone());
            Ok(Loaded::Chunk(octets))
        });
    }

    async fn chunk(
        self: &Rc<Self>,
        site: &Site,
        file: &File,
        index: u32,
    ) -> Result<Bytes, LoadError> {
        let open = self.opened(site, file)?;
        self.cache.count_load();
        let offset = u64::from(index) * CHUNK as u64;
        // At most a chunk, so it fits.
        let len = file.id.len.saturating_sub(offset).min(CHUNK as u64) as usize;
        let octets = open.read(offset, len).await.map_err(|error| {
            complain("read", &file.path, &error);
            LoadError::Unreadable
        })?;
        let same = identity_of(open.as_fd()).is_ok_and(|id| id.same_content(&file.id));
        if octets.len() == len && same {
            Ok(Bytes::from(octets))
        } else {
            self.open.borrow_mut().remove(&file.id);
            Err(LoadError::Changed)
        }
    }

    /// The file as it was opened before, or opened now if it is still the same.
    fn opened(self: &Rc<Self>, site: &Site, file: &File) -> Result<Rc<ReadFile>, LoadError> {
        let used = Instant::now();
        let mut open = self.open.borrow_mut();
        if let Some(known) = open.get_mut(&file.id) {
            known.used = used;
            return Ok(Rc::clone(&known.file));
        }
        let (fd, id) = site.root.open_file(&file.path).map_err(|status| match status {
            Status::Unavailable => LoadError::Overloaded,
            _ => LoadError::Changed,
        })?;
        if !id.same_content(&file.id) {
            return Err(LoadError::Changed);
        }
        if open.len() >= OPEN_FILES {
            let oldest = open.iter().min_by_key(|(_, file)| file.used).map(|(id, _)| *id);
            oldest.and_then(|id| open.remove(&id));
        }
        let opened = Rc::new(ReadFile::new(fd).map_err(|_| LoadError::Overloaded)?);
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

/// Looks at `path`, through an index file where it is a directory.
fn resolve(site: &Site, path: &[u8]) -> Result<Resolved, Status> {
    if site.hides(path) {
        return Err(Status::NotFound);
    }
    match site.root.find(path)? {
        Found::File(id) => Ok(Resolved::File(path.into(), id)),
        Found::Directory if path.is_empty() || path.ends_with(b"/") => {
            for name in &site.settings.index {
                let index = [path, name.as_bytes()].concat();
                match site.root.find(&index) {
                    Ok(Found::File(id)) => return Ok(Resolved::File(index.into(), id)),
                    Ok(Found::Directory) | Err(Status::NotFound) => {}
                    Err(status) => return Err(status),
                }
            }
            // As nginx: there is a directory, and it is not listed.
            Err(Status::Forbidden)
        }
        Found::Directory => Ok(Resolved::Redirect),
    }
}

/// Where a path leads.
enum Resolved {
    /// To a file, at this path.
    File(Box<[u8]>, FileId),
    /// To a directory that was named without its slash.
    Redirect,
}

/// A load under way. However it ends, even by a panic, its waiters are let go.
struct Flight {
    loader: Rc<Loader>,
    key: Key,
}

impl Flight {
    fn land(self, result: &Result<Loaded, LoadError>) {
        let waiters = self.loader.waiting.borrow_mut().remove(&self.key);
        for waiter in waiters.into_iter().flatten() {
            waiter.answer(result.clone());
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let waiters = self.loader.waiting.borrow_mut().remove(&self.key);
        for waiter in waiters.into_iter().flatten() {
            waiter.answer(Err(LoadError::Unreadable));
        }
    }
}
