//! Reading sites and limits again, for SIGHUP and for `tagwire reload` alike: a mistake changes nothing.
//!
//! One thread at a time reads. Who asks meanwhile gets what the reading after that comes to, which is one
//! for all of them: a disk that does not answer, and clients that go on asking, pile up nothing.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use futures_channel::oneshot;

use crate::cli;
use crate::config::Config;
use crate::health::{Health, Notice};
use crate::limits::Limits;
use crate::sandbox::Sandbox;
use crate::site::{SiteError, Sites, check_vlans};
use crate::vlan::ids;

/// Has the workers serve these sites within these limits from now on.
type Serve = dyn Fn(&Arc<Sites>, Limits) + Send + Sync;

/// Reads what an appliance serves again, one time after the other.
pub struct Reloader {
    config: Config,
    /// What is served.
    sites: Mutex<Arc<Sites>>,
    sandbox: Sandbox,
    health: Arc<Health>,
    serve: Box<Serve>,
    errands: Arc<Errands<Result<usize, String>>>,
}

impl Reloader {
    /// For an appliance that was started with `config` and serves `sites`; its supervisor is told.
    pub fn new(
        config: Config,
        sites: Arc<Sites>,
        sandbox: Sandbox,
        health: Arc<Health>,
        serve: impl Fn(&Arc<Sites>, Limits) + Send + Sync + 'static,
    ) -> Self {
        Self {
            config,
            sites: Mutex::new(sites),
            sandbox,
            health,
            serve: Box::new(serve),
            errands: Arc::default(),
        }
    }

    /// Has sites and limits read by a thread that begins with that after now; `reply` gets what
    /// [`reload`](Self::reload) returns.
    pub fn request(self: &Arc<Self>, reply: oneshot::Sender<Result<usize, String>>) {
        let reloader = Arc::clone(self);
        if let Err(error) = self.errands.run(reply, move || reloader.reload()) {
            tracing::error!(%error, "not reloaded: no thread can be had for it");
        }
    }

    /// Reads sites and limits and serves by them; says in the log what came of it. Takes as long as
    /// the disk does. Returns how many sites there are.
    ///
    /// # Errors
    /// One line that says what is wrong, with the file and the line of a mistake; all is served as
    /// before.
    pub fn reload(&self) -> Result<usize, String> {
        self.health.tell(Notice::Reloading);
        let reloaded = self.replace();
        self.health.tell(Notice::Ready);
        reloaded
    }

    fn replace(&self) -> Result<usize, String> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read(&sites) {
            Ok((new, limits)) => {
                *sites = Arc::new(new);
                let count = sites.iter().count();
                tracing::info!(sites = count, "reloaded");
                (self.serve)(&sites, limits);
                Ok(count)
            }
            Err(error) => {
                tracing::error!(error, "not reloaded: all is served as before");
                Err(error)
            }
        }
    }

    /// Sites and limits as the configuration file has them now; without one, the same directories
    /// opened anew: they may have been replaced.
    fn read(&self, before: &Sites) -> Result<(Sites, Limits), String> {
        let old = &self.config;
        let new = cli::read_again(old)?;
        // Those that are served take a restart, so the sites must suit them as they are.
        check_vlans(&new.sites, &ids(&old.vlans)).map_err(|(_, message)| message)?;
        let sites = Sites::open(&new.sites, Some(before)).map_err(|error| self.explain(&error))?;
        let limits = new.limits;
        let rest = Config { sites: old.sites.clone(), limits: old.limits, ..new };
        if rest != *old {
            tracing::warn!("not only sites and limits have changed: the rest takes a restart");
        }
        Ok((sites, limits))
    }

    /// What is wrong, also where it is for the sandbox.
    fn explain(&self, error: &SiteError) -> String {
        match error {
            SiteError::WwwRoot(path, error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && self.sandbox.restricts_files() =>
            {
                format!(
                    "www-root {} cannot be read: {error}; it must be readable for this user, and lie \
                     in a directory that was a www-root at the start or was named by --sandbox-read: \
                     restart with that",
                    path.display()
                )
            }
            error => error.to_string(),
        }
    }
}

/// Who waits for a piece of work that is done for all of them at once.
struct Errands<T>(Mutex<Queue<T>>);

struct Queue<T> {
    /// A thread is there that looks here once more before it ends.
    is_served: bool,
    /// The work is to be done, whoever waits for it.
    wanted: bool,
    waiting: Vec<oneshot::Sender<T>>,
}

impl<T> Default for Errands<T> {
    fn default() -> Self {
        Self(Mutex::new(Queue { is_served: false, wanted: false, waiting: Vec::new() }))
    }
}

impl<T: Clone + Send + 'static> Errands<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `work` begun after now, and `reply` told its result.
    fn run(
        self: &Arc<Self>,
        reply: oneshot::Sender<T>,
        work: impl Fn() -> T + Send + 'static,
    ) -> io::Result<()> {
        let mut queue = self.queue();
        // Those that are gone wait no more: as many are here as have a connection.
        queue.waiting.retain(|waiter| !waiter.is_canceled());
        queue.waiting.push(reply);
        queue.wanted = true;
        if queue.is_served {
            return Ok(());
        }
        let errands = Arc::clone(self);
        let serve = move || {
            let _end = End(&errands);
            errands.serve(work);
        };
        let thread = thread::Builder::new().name("tagwire-reload".to_owned()).spawn(serve);
        match thread {
            Ok(_) => queue.is_served = true,
            // They hear that nobody answers.
            Err(_) => queue.clear(),
        }
        thread.map(drop)
    }

    /// Works until nobody wants anything.
    fn serve(&self, work: impl Fn() -> T) {
        loop {
            let mut queue = self.queue();
            if !queue.wanted {
                queue.is_served = false;
                return;
            }
            queue.wanted = false;
            let waiting = std::mem::take(&mut queue.waiting);
            drop(queue);
            let result = work();
            for waiter in waiting {
                // A client that has gone finds it in the log.
                let _ = waiter.send(result.clone());
            }
        }
    }
}

impl<T> Queue<T> {
    fn clear(&mut self) {
        (self.is_served, self.wanted) = (false, false);
        self.waiting.clear();
    }
}

/// A thread that a panic ends leaves the place to the next.
struct End<'a, T>(&'a Errands<T>);

impl<T> Drop for End<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn those_who_ask_while_it_is_under_way_get_the_next_one_together() {
        let errands = Arc::new(Errands::default());
        let (count, threads) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (begun, begins) = mpsc::channel();
        let (let_go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let ask = || {
            let (reply, answer) = oneshot::channel();
            let (count, gate, begun) = (Arc::clone(&count), Arc::clone(&gate), begun.clone());
            let place = Place::new(&threads);
            let work = move || {
                let _ = &place;
                begun.send(()).unwrap();
                gate.lock().unwrap().recv().unwrap();
                count.fetch_add(1, Ordering::Relaxed) + 1
            };
            errands.run(reply, work).unwrap();
            answer
        };
        let first = ask();
        begins.recv().unwrap();
        // Some of them do not wait for it, as a client does not that has heard that it takes long.
        let others: Vec<_> = (0..100).map(|_| ask()).step_by(10).collect();
        assert!(errands.queue().waiting.len() <= others.len() + 10);
        assert_eq!(threads.load(Ordering::Relaxed), 1, "the disk is waited for once");
        let_go.send(()).unwrap();
        let_go.send(()).unwrap();
        assert_eq!(block_on(first), Ok(1));
        for other in others {
            assert_eq!(block_on(other), Ok(2));
        }
        while threads.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        let again = ask();
        let_go.send(()).unwrap();
        assert_eq!(block_on(again), Ok(3));
    }

    /// Lives as long as the work that a thread has.
    struct Place(Arc<AtomicUsize>);

    impl Place {
        fn new(count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(count))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_that_panics_makes_way_for_the_next() {
        let errands: Arc<Errands<u8>> = Arc::default();
        let ask = |work: fn() -> u8| {
            let (reply, answer) = oneshot::channel();
            errands.run(reply, work).unwrap();
            block_on(answer)
        };
        assert!(ask(|| panic!("as a bug would")).is_err());
        while errands.queue().is_served {
            thread::yield_now();
        }
        assert_eq!(ask(|| 7), Ok(7));
    }
}
