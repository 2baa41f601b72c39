//! One connection, as the task that serves it sees it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tagwire_netstack::ConnId;

use super::reactor::Reactor;
use crate::transport::{Local, Transport, TransportError};

/// A [`Transport`] over our own TCP.
#[derive(Debug)]
pub struct Stream {
    reactor: Rc<RefCell<Reactor>>,
    id: ConnId,
    /// Whether the stack may finish what is queued once this is dropped.
    orderly: bool,
}

impl Stream {
    pub(super) fn new(reactor: Rc<RefCell<Reactor>>, id: ConnId) -> Self {
        Self { reactor, id, orderly: false }
    }
}

impl Transport for Stream {
    fn local(&self) -> Local {
        self.reactor.borrow().local(self.id)
    }

    fn peer(&self) -> SocketAddr {
        self.reactor.borrow().peer(self.id)
    }

    fn read(&mut self, into: &mut BytesMut) -> impl Future<Output = Result<usize, TransportError>> {
        poll_fn(|cx| self.reactor.borrow_mut().poll_read(self.id, into, cx.waker()))
    }

    fn send(&mut self, data: Bytes) -> Result<(), TransportError> {
        self.reactor.borrow_mut().send(self.id, data)
    }

    fn queued(&self) -> usize {
        self.reactor.borrow_mut().stack().queued(self.id)
    }

    async fn drained(&mut self, low_water: usize) -> Result<(), TransportError> {
        poll_fn(|cx| self.reactor.borrow_mut().poll_drained(self.id, low_water, cx.waker())).await
    }

    fn close(&mut self) {
        self.orderly = true;
        self.reactor.borrow_mut().stack().shutdown(self.id);
    }

    fn abort(&mut self) {
        self.orderly = false;
        let mut reactor = self.reactor.borrow_mut();
        let now = reactor.now();
        reactor.stack().abort(now, self.id);
    }

    fn set_deadline(&mut self, after: Option<Duration>) {
        self.reactor.borrow_mut().set_deadline(self.id, after);
    }

    fn sends_away(&self) -> bool {
        self.reactor.borrow().sends_away()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reactor.borrow_mut().release(self.id, self.orderly);
    }
}
