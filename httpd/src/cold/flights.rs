//! Loads under way: one for each file or part of one, however many wait for it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::runtime::spawn;
use super::{LoadError, Loaded, Waiter};
use crate::cache::{Entry, Key};
use crate::limits::{
    COLD_LOADS, COLD_QUEUE, COLD_QUEUE_FOR_CHUNKS, COLD_QUEUE_FOR_WAITERS, COLD_READS,
};

/// All loads that run or wait for a permit.
pub(super) struct Flights {
    under_way: RefCell<HashMap<Key, Passengers>>,
    loads: Semaphore,
    reads: Semaphore,
    /// How long a waiter waits when there is another answer.
    patience: Duration,
}

/// Who waits for a load.
#[derive(Default)]
struct Passengers {
    waiters: Vec<Waiter>,
    /// It takes too long to wait for it, and this is the answer meanwhile.
    meanwhile: Option<Arc<Entry>>,
}

impl Flights {
    pub(super) fn new(patience: Duration) -> Rc<Self> {
        Rc::new(Self {
            under_way: RefCell::default(),
            loads: Semaphore::new(COLD_LOADS),
            reads: Semaphore::new(COLD_READS),
            patience,
        })
    }

    /// Starts `load` under `key`, unless one runs already; `waiter` is answered with the result of
    /// the one that runs, or with `known` when that takes too long. False if too much is under
    /// way; `waiter` knows it then.
    pub(super) fn board(
        self: &Rc<Self>,
        key: Key,
        known: Option<Arc<Entry>>,
        waiter: Option<Waiter>,
        load: impl Future<Output = Result<Loaded, LoadError>> + 'static,
    ) -> bool {
        let mut under_way = self.under_way.borrow_mut();
        let count = under_way.len();
        let place = match under_way.entry(key.clone()) {
            Place::Vacant(place) => place,
            Place::Occupied(mut there) => {
                let passengers = there.get_mut();
                match (&passengers.meanwhile, waiter) {
                    (Some(entry), Some(waiter)) => {
                        waiter.answer(Ok(Loaded::Entry(Arc::clone(entry))));
                    }
                    (_, waiter) => passengers.waiters.extend(waiter),
                }
                return true;
            }
        };
        // As in the queue before it, a download's next chunk has places of its own.
        let places = match (&key, &waiter) {
            (Key::Chunk(..) | Key::Part(..), Some(_)) => COLD_QUEUE,
            (Key::Path(..), Some(_)) => COLD_QUEUE - COLD_QUEUE_FOR_CHUNKS,
            (_, None) => COLD_QUEUE - COLD_QUEUE_FOR_WAITERS,
        };
        if count >= places {
            drop(under_way);
            if let Some(waiter) = waiter {
                waiter.answer(Err(LoadError::Overloaded));
            }
            return false;
        }
        place.insert(Passengers { waiters: waiter.into_iter().collect(), meanwhile: None });
        drop(under_way);
        let result = Err(LoadError::Unreadable);
        let flight = Flight { flights: Rc::clone(self), key, known, result };
        spawn(flight.fly(load));
        true
    }
}

/// A load under way. However it ends, even by a panic, its waiters are let go.
struct Flight {
    flights: Rc<Flights>,
    key: Key,
    /// What is in the cache, however old.
    known: Option<Arc<Entry>>,
    /// What those get who wait when it ends.
    result: Result<Loaded, LoadError>,
}

impl Flight {
    async fn fly(mut self, load: impl Future<Output = Result<Loaded, LoadError>>) {
        self.result = self.loaded(load).await;
    }

    /// The result of `load`; who waits too long for it gets meanwhile what is known.
    async fn loaded(
        &self,
        load: impl Future<Output = Result<Loaded, LoadError>>,
    ) -> Result<Loaded, LoadError> {
        let mut load = pin!(async {
            let permits = match self.key {
                Key::Path(..) => &self.flights.loads,
                Key::Chunk(..) | Key::Part(..) => &self.flights.reads,
            };
            // Neither is ever closed.
            let _permit = permits.acquire().await;
            load.await
        });
        if let Some(known) = &self.known {
            match timeout(self.flights.patience, load.as_mut()).await {
                Ok(result) => return result,
                Err(_) => self.delay(known),
            }
        }
        load.await
    }

    /// Lets those go who wait, and all who come, with what is known.
    fn delay(&self, known: &Arc<Entry>) {
        known.freshness.set_late();
        let waiters = match self.flights.under_way.borrow_mut().get_mut(&self.key) {
            Some(passengers) => {
                passengers.meanwhile = Some(Arc::clone(known));
                std::mem::take(&mut passengers.waiters)
            }
            None => Vec::new(),
        };
        for waiter in waiters {
            waiter.answer(Ok(Loaded::Entry(Arc::clone(known))));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // First, as who gets an answer may ask again at once.
        if let Some(known) = &self.known {
            known.freshness.give_up();
        }
        let passengers = self.flights.under_way.borrow_mut().remove(&self.key);
        for waiter in passengers.into_iter().flat_map(|passengers| passengers.waiters) {
            waiter.answer(self.result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_channel::oneshot;
    use tagwire_core::driver::DriverKind;

    use super::*;
    use crate::cache::{Age, Answer, Millis};
    use crate::cold::runtime::Runtime;
    use crate::cold::waiter;
    use crate::limits::COMPARISON_PATIENCE;
    use crate::respond::Status;
    use crate::site::SiteId;

    const NEVER: Millis = Millis(u64::MAX);

    fn key() -> Key {
        Key::Path(SiteId::for_tests(), b"a".as_slice().into())
    }

    fn entry() -> Arc<Entry> {
        Arc::new(Entry::new(Answer::Refused(Status::NotFound), Millis(0), None))
    }

    fn is(result: Result<Loaded, LoadError>, entry: &Arc<Entry>) -> bool {
        matches!(result, Ok(Loaded::Entry(got)) if Arc::ptr_eq(&got, entry))
    }

    #[test]
    fn all_who_come_meanwhile_get_the_one_load() {
        Runtime::start(DriverKind::default()).unwrap().block_on(async {
            let (flights, loaded) = (Flights::new(COMPARISON_PATIENCE), entry());
            let (done, load) = oneshot::channel::<Arc<Entry>>();
            let board = |load: Option<oneshot::Receiver<Arc<Entry>>>| {
                let (waiter, reply) = waiter(&(Arc::new(|| {}) as _));
                let load = async move {
                    let load = load.expect("only the first one's load is started");
                    Ok(Loaded::Entry(load.await.unwrap()))
                };
                assert!(flights.board(key(), None, Some(waiter), load));
                reply
            };
            let first = board(Some(load));
            let others: Vec<_> = (0..1000).map(|_| board(None)).collect();
            done.send(Arc::clone(&loaded)).unwrap();
            for reply in std::iter::once(first).chain(others) {
                assert!(is(reply.await.unwrap(), &loaded));
            }
            assert!(flights.under_way.borrow().is_empty());
        });
    }

    #[test]
    fn a_disk_that_stalls_delays_no_answer_that_is_known() {
        Runtime::start(DriverKind::default()).unwrap().block_on(async {
            let (flights, known) = (Flights::new(COMPARISON_PATIENCE), entry());
            let (done, load) = oneshot::channel::<()>();
            let board = |load: Option<oneshot::Receiver<()>>| {
                let (waiter, reply) = waiter(&(Arc::new(|| {}) as _));
                let loaded = Arc::clone(&known);
                let load = async move {
                    let _ = load.expect("only the first one's load is started").await;
                    loaded.freshness.touch(Millis(7));
                    Ok(Loaded::Entry(loaded))
                };
                assert!(flights.board(key(), Some(Arc::clone(&known)), Some(waiter), load));
                reply
            };
            assert_eq!(known.freshness.age(NEVER), Age::TooOld);
            assert!(is(board(Some(load)).await.unwrap(), &known));
            // Whoever looks from now on does not even ask; who has asked already waits no longer.
            assert_eq!(known.freshness.age(NEVER), Age::Due);
            let late = board(None);
            assert!(is(timeout(Duration::ZERO, late).await.unwrap().unwrap(), &known));
            done.send(()).unwrap();
            while !flights.under_way.borrow().is_empty() {
                tokio::task::yield_now().await;
            }
            assert_eq!(known.freshness.checked(), Millis(7));
            assert_eq!(known.freshness.age(NEVER), Age::TooOld, "the disk is asked again");
        });
    }

    #[test]
    fn a_load_that_dies_lets_its_waiters_go() {
        Runtime::start(DriverKind::default()).unwrap().block_on(async {
            let (flights, known) = (Flights::new(COMPARISON_PATIENCE), entry());
            let (waiter, reply) = waiter(&(Arc::new(|| {}) as _));
            assert!(known.freshness.begin());
            let load = async { panic!("as a bug would") };
            flights.board(key(), Some(Arc::clone(&known)), Some(waiter), load);
            assert!(matches!(reply.await, Ok(Err(LoadError::Unreadable))));
            assert!(known.freshness.begin(), "the next one asks again");
        });
    }
}
