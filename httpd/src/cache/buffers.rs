//! The memory of downloads: octets of large files on their way from the disk to clients.
//!
//! Whoever wants such octets takes a [`Charge`] for them first, of a budget that all workers share.
//! The charge lives as long as the octets do, wherever they wait: for the disk, for their turn, for
//! a client's acknowledgement. What the cache keeps as well is charged while somebody holds it, once
//! however many hold it, as it would stay if the cache let it go. So all large files together hold the
//! cache and this budget, and no more.
//!
//! Nobody waits for room while holding any, and those that wait are served in their order
//! ([`Buffers::wait_for_room`]).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::alive::{Alive, Counted};
use crate::content;
use crate::limits::COLD_QUEUE_FOR_CHUNKS;

/// The budget, and who waits for it. One per process.
#[derive(Debug)]
pub(crate) struct Buffers {
    budget: usize,
    /// An octet is a permit.
    room: Arc<Semaphore>,
    /// Places in the queue for the disk.
    places: Arc<Semaphore>,
    downloads: AtomicUsize,
    waiting: AtomicUsize,
    waited: AtomicU64,
}

/// A moment's figures of downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DownloadStats {
    /// Octets that they may hold.
    pub budget: u64,
    /// Octets that they hold.
    pub held: u64,
    /// Answers from large files that are being sent.
    pub streams: u64,
    /// Those of them that wait for room.
    pub waiting: u64,
    /// How often one had to.
    pub waited: u64,
}

/// A share of the budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A place in the queue for the disk, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Buffers {
    /// Downloads may hold `budget` octets.
    pub(super) fn new(budget: usize) -> Self {
        let budget = budget.min(Semaphore::MAX_PERMITS);
        Self {
            budget,
            room: Arc::new(Semaphore::new(budget)),
            places: Arc::new(Semaphore::new(COLD_QUEUE_FOR_CHUNKS)),
            downloads: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            waited: AtomicU64::new(0),
        }
    }

    /// Octets that downloads may hold.
    pub(super) fn budget(&self) -> u64 {
        self.budget as u64
    }

    /// Octets that nobody holds or waits for.
    pub(crate) fn free(&self) -> usize {
        self.room.available_permits()
    }

    /// Whether somebody waits for room.
    pub(crate) fn are_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Room for so many octets, if there is any.
    pub(crate) fn take(&self, octets: usize) -> Option<Charge> {
        let octets = u32::try_from(octets).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(octets).ok().map(Charge)
    }

    /// Room for so many octets, behind those that have waited longer. Only for who holds none, as
    /// those that hold some are seen to give it back. `wake` wakes the caller's worker.
    pub(crate) async fn wait_for_room(&self, octets: usize, wake: &content::Wake) -> Charge {
        let _waiting = Waiting::new(self);
        // Nobody could ever have more.
        let octets = u32::try_from(octets.min(self.budget)).unwrap_or(u32::MAX);
        let acquired = Arc::clone(&self.room).acquire_many_owned(octets);
        Charge(wakefully(acquired, wake).await.expect("it is never closed"))
    }

    /// A place in the queue for the disk, if one is free.
    pub(crate) fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place)
    }

    /// A place in the queue for the disk, behind those that have waited longer.
    pub(crate) async fn wait_for_place(&self, wake: &content::Wake) -> Place {
        let acquired = Arc::clone(&self.places).acquire_owned();
        Place(wakefully(acquired, wake).await.expect("it is never closed"))
    }

    /// One more download.
    pub(crate) fn begin_download(&self) {
        self.downloads.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub(crate) fn end_download(&self) {
        self.downloads.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> DownloadStats {
        DownloadStats {
            budget: self.budget(),
            held: (self.budget - self.free()) as u64,
            streams: self.downloads.load(Ordering::Relaxed) as u64,
            waiting: self.waiting.load(Ordering::Relaxed) as u64,
            waited: self.waited.load(Ordering::Relaxed),
        }
    }
}

/// One who waits for room, however that ends.
struct Waiting<'a>(&'a Buffers);

impl<'a> Waiting<'a> {
    fn new(buffers: &'a Buffers) -> Self {
        buffers.waiting.fetch_add(1, Ordering::Relaxed);
        buffers.waited.fetch_add(1, Ordering::Relaxed);
        Self(buffers)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wakes a task and the worker that runs it, which may sleep in the kernel.
struct Both {
    task: Waker,
    worker: content::Wake,
}

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.task.wake_by_ref();
        (self.worker)();
    }
}

/// Waits for what another worker may let go of.
async fn wakefully<F: Future>(future: F, wake: &content::Wake) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let both = Both { task: context.waker().clone(), worker: Arc::clone(wake) };
        future.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(both))))
    })
    .await
}

/// Octets of a large file in memory.
#[derive(Debug)]
pub(crate) struct Chunk {
    octets: Vec<u8>,
    /// What those have taken who hold it beside the cache.
    charge: Mutex<Weak<Charge>>,
    /// That the cache has taken it.
    counted: OnceLock<Counted>,
}

impl Chunk {
    pub(crate) fn new(octets: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { octets, charge: Mutex::default(), counted: OnceLock::new() })
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The cache takes it: its octets live from now on until nobody holds them.
    pub(super) fn is_kept(&self, alive: &Alive) {
        self.counted.get_or_init(|| alive.count(self.octets.len()));
    }

    /// A hold on it that costs nothing, as others have one.
    pub(crate) fn share(self: &Arc<Self>) -> Option<Bytes> {
        let charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
        Some(self.held_by(charge))
    }

    /// A hold on it, for which `charge` was taken.
    pub(crate) fn hold(self: &Arc<Self>, charge: Charge) -> Bytes {
        let mut slot = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        let charge = slot.upgrade().unwrap_or_else(|| {
            let charge = Arc::new(charge);
            *slot = Arc::downgrade(&charge);
            charge
        });
        self.held_by(charge)
    }

    fn held_by(self: &Arc<Self>, charge: Arc<Charge>) -> Bytes {
        Bytes::from_owner(Held { chunk: Arc::clone(self), _charge: charge })
    }
}

/// A chunk and the charge for it; dropped in this order.
struct Held {
    chunk: Arc<Chunk>,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.chunk.octets
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn wake() -> content::Wake {
        Arc::new(|| {})
    }

    #[test]
    fn what_is_held_is_charged_once_and_as_long_as_anybody_holds_it() {
        let buffers = Buffers::new(1000);
        let chunk = Chunk::new(vec![7; 400]);
        assert!(chunk.share().is_none(), "nobody has paid for it");
        let first = chunk.hold(buffers.take(400).unwrap());
        let second = chunk.hold(buffers.take(400).unwrap()).slice(10..20);
        let third = chunk.share().unwrap();
        assert_eq!(buffers.free(), 600);
        assert!(buffers.take(601).is_none());
        drop((first, third));
        assert_eq!((&second[..], buffers.free()), (&[7; 10][..], 600));
        drop(second);
        assert_eq!(buffers.free(), 1000);
        assert!(chunk.share().is_none());
        // It may outlive the cache's own.
        let kept = chunk.hold(buffers.take(400).unwrap());
        drop(chunk);
        assert_eq!((kept.len(), buffers.free()), (400, 600));
    }

    #[test]
    fn those_that_wait_are_served_in_their_order() {
        let (buffers, wake) = (Buffers::new(100), wake());
        let all = buffers.take(100).unwrap();
        block_on(async {
            let mut large = pin!(buffers.wait_for_room(80, &wake));
            let mut small = pin!(buffers.wait_for_room(10, &wake));
            assert!(poll_once(large.as_mut()).await.is_none());
            assert!(poll_once(small.as_mut()).await.is_none());
            assert!(buffers.are_short());
            assert_eq!(buffers.stats().waiting, 2);
            drop(all);
            // Whoever comes now does not get before them.
            assert!(buffers.take(50).is_none());
            let large = poll_once(large.as_mut()).await.expect("it is the first one's turn");
            let small = poll_once(small.as_mut()).await.expect("and then the next one's");
            assert!(!buffers.are_short());
            drop((large, small));
        });
        assert_eq!((buffers.free(), buffers.stats().waited), (100, 2));
    }

    #[test]
    fn more_than_there_is_at_all_is_waited_for_no_longer_than_for_all() {
        let buffers = Buffers::new(100);
        let charge = block_on(buffers.wait_for_room(1000, &wake()));
        assert_eq!(buffers.free(), 0);
        drop(charge);
        assert_eq!(buffers.free(), 100);
    }

    #[test]
    fn who_gives_up_waiting_takes_nobodys_turn() {
        let (buffers, wake) = (Buffers::new(100), wake());
        let all = buffers.take(100).unwrap();
        block_on(async {
            {
                let mut gone = pin!(buffers.wait_for_room(60, &wake));
                assert!(poll_once(gone.as_mut()).await.is_none());
            }
            assert!(!buffers.are_short());
            let mut next = pin!(buffers.wait_for_room(100, &wake));
            assert!(poll_once(next.as_mut()).await.is_none());
            drop(all);
            assert!(poll_once(next.as_mut()).await.is_some());
        });
    }

    #[test]
    fn the_sleeping_worker_of_who_waits_is_woken() {
        let buffers = Buffers::new(100);
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let wake: content::Wake = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let all = buffers.take(100).unwrap();
        block_on(async {
            let mut wait = pin!(buffers.wait_for_room(1, &wake));
            assert!(poll_once(wait.as_mut()).await.is_none());
            assert_eq!(woken.load(Ordering::Relaxed), 0);
            drop(all);
            assert_eq!(woken.load(Ordering::Relaxed), 1);
        });
    }
}
