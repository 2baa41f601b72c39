//! The stack of one worker, and who waits for what in it.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tagwire_netstack::timers::TimerQueue;
use tagwire_netstack::{ConnId, Instant, Recv, Stack, State};

use super::stream::Stream;
use crate::transport::{Local, TransportError};

/// What the reactor keeps of a connection beside the stack's own state.
#[derive(Debug)]
struct Slot {
    id: ConnId,
    /// The task that waits in `read` or `drained`.
    waker: Option<Waker>,
    deadline: Instant,
    hint: Instant,
}

/// A worker's stack and its waiting tasks.
#[derive(Debug)]
pub struct Reactor {
    stack: Stack,
    /// The time of this turn: one clock reading serves all that happens in it.
    now: Instant,
    /// By [`ConnId::index`].
    slots: Vec<Option<Slot>>,
    timers: TimerQueue<ConnId>,
    /// Streams that live.
    streams: usize,
    draining: bool,
    lame_duck: bool,
}

impl Reactor {
    /// Wraps a stack.
    pub fn new(stack: Stack, now: Instant) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            stack,
            now,
            slots: Vec::new(),
            timers: TimerQueue::default(),
            streams: 0,
            draining: false,
            lame_duck: false,
        }))
    }

    /// The stack.
    pub fn stack(&mut self) -> &mut Stack {
        &mut self.stack
    }

    /// The time of this turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Begins a turn at `now`: wakes the tasks whose deadlines have passed.
    pub fn begin_turn(&mut self, now: Instant) {
        self.now = now;
        if self.stack.poll_timeout().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now);
        }
        while let Some((_, id)) = self.timers.pop_due(now) {
            let Some(slot) = slot_mut(&mut self.slots, id) else { continue };
            slot.hint = Instant::NEVER;
            if slot.deadline > now {
                self.timers.arm(id, slot.deadline, &mut slot.hint);
            } else if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// Hands the stack's events to the tasks that wait for them. Returns a connection that
    /// is new and has no task yet, and its peer; `None` when there are no more events.
    pub fn next_accepted(this: &Rc<RefCell<Self>>) -> Option<(Stream, SocketAddr)> {
        let mut guard = this.borrow_mut();
        let reactor = &mut *guard;
        while let Some((id, events)) = reactor.stack.poll_event() {
            if events.accepted {
                let Some(tuple) = reactor.stack.addresses(id) else { continue };
                let peer = SocketAddr::from(tuple.remote);
                let index = id.index as usize;
                if reactor.slots.len() <= index {
                    reactor.slots.resize_with(index + 1, || None);
                }
                let (deadline, hint) = (Instant::NEVER, Instant::NEVER);
                reactor.slots[index] = Some(Slot { id, waker: None, deadline, hint });
                reactor.streams += 1;
                return Some((Stream::new(Rc::clone(this), id), peer));
            }
            if let Some(waker) = slot_mut(&mut reactor.slots, id).and_then(|slot| slot.waker.take())
            {
                waker.wake();
            }
        }
        None
    }

    /// The next time at which a turn is needed.
    pub fn deadline(&self) -> Option<Instant> {
        [self.stack.poll_timeout(), self.timers.next()].into_iter().flatten().min()
    }

    /// From now on idle connections are told to end.
    pub fn drain(&mut self) {
        self.draining = true;
        for slot in self.slots.iter_mut().flatten() {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether each answer is its connection's last from now on. Those that rest are left alone: a client
    /// that asks on one in this very moment is answered.
    pub fn set_lame_duck(&mut self, on: bool) {
        self.lame_duck = on;
    }

    /// Streams that live: connections that are still served.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// Whether everything sent has been acknowledged, and nothing is served any more.
    pub fn has_settled(&self) -> bool {
        self.streams == 0 && self.stack.connections().all(|(.., state)| is_settled(state))
    }

    /// Resets what has not settled; says how many connections those were.
    pub fn abort_all(&mut self, now: Instant) -> usize {
        let connections = self.stack.connections().filter(|(.., state)| !is_settled(*state));
        let open: Vec<ConnId> = connections.map(|(id, ..)| id).collect();
        open.iter().for_each(|id| self.stack.abort(now, *id));
        open.len()
    }

    /// The VLAN and the own address of a connection, which is unspecified once it is over.
    pub(super) fn local(&self, id: ConnId) -> Local {
        let tuple = self.stack.addresses(id);
        let address = tuple.map_or(Ipv4Addr::UNSPECIFIED.into(), |tuple| tuple.local.ip);
        Local { vlan: self.stack.vlan(), address }
    }

    /// The peer of a connection; known as long as its stream lives.
    pub(super) fn peer(&self, id: ConnId) -> SocketAddr {
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        self.stack.addresses(id).map_or(nobody, |tuple| tuple.remote.into())
    }

    /// Whether a connection ends with its next answer.
    pub(super) fn sends_away(&self) -> bool {
        self.draining || self.lame_duck
    }

    // ---- for streams ---------------------------------------------------------------------

    pub(super) fn poll_read(
        &mut self,
        id: ConnId,
        into: &mut BytesMut,
        waker: &Waker,
    ) -> Poll<Result<usize, TransportError>> {
        match self.stack.recv(id, into) {
            Recv::Data(octets) => Poll::Ready(Ok(octets)),
            Recv::Finished => Poll::Ready(Ok(0)),
            Recv::Closed(_) => Poll::Ready(Err(TransportError::Closed)),
            Recv::Pending if self.draining => Poll::Ready(Err(TransportError::Draining)),
            Recv::Pending => self.wait(id, waker),
        }
    }

    pub(super) fn poll_drained(
        &mut self,
        id: ConnId,
        low_water: usize,
        waker: &Waker,
    ) -> Poll<Result<(), TransportError>> {
        if self.stack.closed(id).is_some() {
            return Poll::Ready(Err(TransportError::Closed));
        }
        if self.stack.notify_below(id, low_water) {
            return Poll::Ready(Ok(()));
        }
        self.wait(id, waker)
    }

    /// Waits for the connection's next event or its deadline.
    fn wait<T>(&mut self, id: ConnId, waker: &Waker) -> Poll<Result<T, TransportError>> {
        let Some(slot) = slot_mut(&mut self.slots, id) else {
            return Poll::Ready(Err(TransportError::Closed));
        };
        if slot.deadline <= self.now {
            return Poll::Ready(Err(TransportError::TimedOut));
        }
        match &mut slot.waker {
            Some(old) => old.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        Poll::Pending
    }

    pub(super) fn send(&mut self, id: ConnId, data: Bytes) -> Result<(), TransportError> {
        self.stack.send(id, data).map_err(|_| TransportError::Closed)
    }

    pub(super) fn set_deadline(&mut self, id: ConnId, after: Option<Duration>) {
        if let Some(slot) = slot_mut(&mut self.slots, id) {
            slot.deadline = after.map_or(Instant::NEVER, |after| self.now + after);
            self.timers.arm(id, slot.deadline, &mut slot.hint);
        }
    }

    /// The stream is gone.
    pub(super) fn release(&mut self, id: ConnId, orderly: bool) {
        self.streams -= 1;
        if !orderly {
            self.stack.abort(self.now, id);
        }
        self.stack.release(self.now, id);
        if let Some(slot) = self.slots.get_mut(id.index as usize)
            && let Some(gone) = slot.take_if(|slot| slot.id == id)
        {
            self.timers.disarm(id, gone.hint);
        }
    }
}

/// Our side is done: FIN sent and acknowledged, or over.
fn is_settled(state: State) -> bool {
    matches!(state, State::FinWait2 | State::Closed)
}

fn slot_mut(slots: &mut [Option<Slot>], id: ConnId) -> Option<&mut Slot> {
    slots.get_mut(id.index as usize)?.as_mut().filter(|slot| slot.id == id)
}
