//! One worker's view of what is served: the sites, the shared cache, the way to the cold side, the time.

use std::cell::{Cell, Ref, RefCell};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::access_log::Log;
use crate::cache::{Age, Answer, Cache, Entry, Millis};
use crate::cold::{self, ColdHandle, Loaded};
use crate::date::{DATE_LINE, DateLine};
use crate::interfaces::Interfaces;
use crate::limits::{Limits, PIPELINED_REQUESTS, UNFINISHED_HEADS};
use crate::respond::Status;
use crate::shares::{Client, Share, Shares};
use crate::site::{Site, Sites};
use crate::tally::Tally;

mod download;
mod plan;

pub(crate) use download::Download;

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
                Ok(Loaded::Part(_)) | Err(_) => {
                    known.unwrap_or_else(|| refused(Status::Unavailable, now))
                }
            }
        }
    }

    /// An answer for this time only.
    pub(crate) fn refusal(&self, status: Status) -> Arc<Entry> {
        refused(status, self.now.get())
    }

    /// Separates the parts of an answer. Nobody can guess it, so that no file contains it.
    pub(crate) fn boundary(&self) -> String {
        // Each state has keys of its own, and the first ones are random.
        let word = || RandomState::new().hash_one(());
        format!("{:016x}{:016x}", word(), word())
    }
}

fn refused(status: Status, now: Millis) -> Arc<Entry> {
    Arc::new(Entry::new(Answer::Refused(status), now, None))
}
