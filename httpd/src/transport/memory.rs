//! A transport in memory, and the client at its other end.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tagwire_netstack::VlanStack;

use super::{Local, Transport, TransportError};

/// Both ends, and the wire between.
#[derive(Default)]
struct Wire {
    /// One element is one arrival.
    arrivals: VecDeque<Vec<u8>>,
    half_closed: bool,
    queue: VecDeque<Bytes>,
    queued: usize,
    most_queued: usize,
    /// Octets that the client will take; `None`: all.
    window: Option<usize>,
    received: Vec<u8>,
    closed: bool,
    aborted: bool,
    dropped: bool,
    deadline: Option<Duration>,
    expired: bool,
    draining: bool,
    server: Option<Waker>,
    client: Option<Waker>,
    /// Where the client is, if not on this host.
    peer: Option<Ipv4Addr>,
}

impl Wire {
    /// The server waits; a client that waits for that goes on.
    fn wait<T>(&mut self, server: &Waker) -> Poll<T> {
        self.server = Some(server.clone());
        self.client.take().into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    /// The connection is over, and with it what is queued; how much that was is still known.
    fn abort(&mut self) {
        self.aborted = true;
        self.queue.clear();
    }

    fn pump(&mut self) {
        while let Some(mut data) = self.queue.pop_front() {
            let take = self.window.map_or(data.len(), |window| window.min(data.len()));
            self.received.extend_from_slice(&data.split_to(take));
            self.queued -= take;
            self.window = self.window.map(|window| window - take);
            if !data.is_empty() {
                self.queue.push_front(data);
                break;
            }
        }
        for waker in [self.server.take(), self.client.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The server's end.
pub(crate) struct Memory(Rc<RefCell<Wire>>);

/// The client's end.
#[derive(Clone)]
pub(crate) struct Client(Rc<RefCell<Wire>>);

pub(crate) fn pair() -> (Memory, Client) {
    let wire = Rc::new(RefCell::new(Wire::default()));
    (Memory(Rc::clone(&wire)), Client(wire))
}

/// With a client at another address.
pub(crate) fn pair_from(peer: Ipv4Addr) -> (Memory, Client) {
    let (memory, client) = pair();
    client.0.borrow_mut().peer = Some(peer);
    (memory, client)
}

impl Transport for Memory {
    fn local(&self) -> Local {
        Local { vlan: VlanStack::UNTAGGED, address: Ipv4Addr::LOCALHOST.into() }
    }

    fn peer(&self) -> SocketAddr {
        (self.0.borrow().peer.unwrap_or(Ipv4Addr::LOCALHOST), 40_000).into()
    }

    async fn read(&mut self, into: &mut BytesMut) -> Result<usize, TransportError> {
        poll_fn(|context| {
            let mut wire = self.0.borrow_mut();
            if let Some(data) = wire.arrivals.pop_front() {
                into.extend_from_slice(&data);
                return Poll::Ready(Ok(data.len()));
            }
            if wire.aborted {
                return Poll::Ready(Err(TransportError::Closed));
            }
            if wire.half_closed {
                return Poll::Ready(Ok(0));
            }
            if wire.draining {
                return Poll::Ready(Err(TransportError::Draining));
            }
            if std::mem::take(&mut wire.expired) {
                return Poll::Ready(Err(TransportError::TimedOut));
            }
            wire.wait(context.waker())
        })
        .await
    }

    fn send(&mut self, data: Bytes) -> Result<(), TransportError> {
        let mut wire = self.0.borrow_mut();
        if wire.closed || wire.aborted {
            return Err(TransportError::Closed);
        }
        wire.queued += data.len();
        wire.queue.push_back(data);
        wire.most_queued = wire.most_queued.max(wire.queued);
        wire.pump();
        Ok(())
    }

    fn queued(&self) -> usize {
        self.0.borrow().queued
    }

    async fn drained(&mut self, low_water: usize) -> Result<(), TransportError> {
        poll_fn(|context| {
            let mut wire = self.0.borrow_mut();
            if wire.aborted {
                return Poll::Ready(Err(TransportError::Closed));
            }
            if wire.queued <= low_water {
                return Poll::Ready(Ok(()));
            }
            if std::mem::take(&mut wire.expired) {
                return Poll::Ready(Err(TransportError::TimedOut));
            }
            wire.wait(context.waker())
        })
        .await
    }

    fn close(&mut self) {
        self.change().closed = true;
    }

    fn abort(&mut self) {
        self.change().abort();
    }

    fn set_deadline(&mut self, after: Option<Duration>) {
        self.change().deadline = after;
    }

    fn sends_away(&self) -> bool {
        self.0.borrow().draining
    }
}

impl Memory {
    fn change(&mut self) -> RefMut<'_, Wire> {
        let mut wire = self.0.borrow_mut();
        wire.client.take().into_iter().for_each(Waker::wake);
        wire
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut wire = self.change();
        wire.dropped = true;
        if !wire.closed {
            wire.abort();
        }
    }
}

impl Client {
    /// One arrival at the server.
    pub(crate) fn write(&self, data: impl AsRef<[u8]>) {
        let mut wire = self.0.borrow_mut();
        wire.arrivals.push_back(data.as_ref().to_vec());
        wire.pump();
    }

    pub(crate) fn half_close(&self) {
        let mut wire = self.0.borrow_mut();
        wire.half_closed = true;
        wire.pump();
    }

    pub(crate) fn reset(&self) {
        let mut wire = self.0.borrow_mut();
        wire.abort();
        wire.pump();
    }

    /// Takes no more than `octets` from now on.
    pub(crate) fn take_only(&self, octets: usize) {
        let mut wire = self.0.borrow_mut();
        wire.window = Some(octets);
        wire.pump();
    }

    /// Takes everything from now on.
    pub(crate) fn take_all(&self) {
        let mut wire = self.0.borrow_mut();
        wire.window = None;
        wire.pump();
    }

    /// Lets the deadline pass that the server has set; returns which it was.
    pub(crate) fn expire(&self) -> Duration {
        let mut wire = self.0.borrow_mut();
        wire.expired = true;
        wire.pump();
        wire.deadline.expect("the server has set a deadline")
    }

    pub(crate) fn drain(&self) {
        let mut wire = self.0.borrow_mut();
        wire.draining = true;
        wire.pump();
    }

    /// Waits until the server has closed its side; true if orderly.
    pub(crate) async fn ended(&self) -> bool {
        self.until(|wire| wire.closed || wire.aborted).await;
        !self.0.borrow().aborted
    }

    /// Waits until the server's task is through with the connection.
    pub(crate) async fn dropped(&self) {
        self.until(|wire| wire.dropped).await;
    }

    /// Waits for so many octets, and takes all there are.
    pub(crate) async fn receive(&self, octets: usize) -> Vec<u8> {
        self.until(|wire| wire.received.len() >= octets).await;
        std::mem::take(&mut self.0.borrow_mut().received)
    }

    /// Waits until the server waits with nothing left to do.
    pub(crate) async fn resting(&self) {
        self.until(|wire| wire.arrivals.is_empty() && wire.server.is_some()).await;
    }

    /// What has arrived and was not taken.
    pub(crate) fn received(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().received)
    }

    /// What the server has queued first.
    pub(crate) fn peek(&self) -> Bytes {
        self.0.borrow().queue.front().cloned().unwrap_or_default()
    }

    pub(crate) fn most_queued(&self) -> usize {
        self.0.borrow().most_queued
    }

    async fn until(&self, done: impl Fn(&Wire) -> bool) {
        poll_fn(|context| {
            let mut wire = self.0.borrow_mut();
            if done(&wire) {
                return Poll::Ready(());
            }
            wire.client = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
