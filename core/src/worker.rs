//! The packet loop of one worker.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{self, Nanos};
use crate::counters::{Counters, add};
use crate::error::OpenError;
use crate::nic::{Interface, LinkMonitor, LinkNews};
use crate::packet::ring::{CLOCK_REFRESH, RxRing};
use crate::packet::{RxFrame, TxFrame, socket};
use crate::uring::Uring;
use crate::waker::Waker;

/// Frames taken from the ring before what they cause is done and sent: bounds the time to
/// the first answer under a flood, and the answers' memory.
const RX_BATCH: usize = 128;

/// What a worker drives. All calls come from the worker's thread, in this order within a
/// turn: `frame` for each frame, `advance` once, `transmit` until it has no more, `deadline`.
pub trait Machine {
    /// A frame was received.
    fn frame(&mut self, now: Nanos, frame: RxFrame<'_>);

    /// Do what is due: after the frames of this turn, before anything is sent.
    fn advance(&mut self, now: Nanos);

    /// The next frame to send: its leading octets go into `slot` (2048 octets), what follows
    /// them to `payload`, which is empty. Small frames are sent cheapest if they are all in
    /// the slot.
    fn transmit(
        &mut self,
        now: Nanos,
        slot: &mut [u8],
        payload: &mut Vec<Bytes>,
    ) -> Option<TxFrame>;

    /// When a turn is needed even if nothing happens.
    fn deadline(&mut self) -> Option<Nanos>;

    /// The interface's link went down or came up.
    fn link_changed(&mut self, now: Nanos, up: bool);

    /// Whether the loop should end, once all is sent.
    fn finished(&self) -> bool;
}

/// How a worker is set up.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Where it lives.
    pub interface: Interface,
    /// The VLAN identifier that frames must carry; `None`: untagged.
    pub vlan: Option<u16>,
    /// Frames that the receive ring holds; each takes 2 KiB.
    pub ring_slots: usize,
    /// How long to look for frames before sleeping. Zero sleeps at once; more trades a
    /// CPU for the time that a wake-up takes.
    pub busy_poll: Duration,
}

impl WorkerConfig {
    /// Frames in the ring unless told otherwise: 8 MiB, about 5 ms of a 10 Gbit/s link.
    pub const RING_SLOTS: usize = 4096;
}

/// A thread's sockets and rings. [`open`](Self::open) does all that can be refused;
/// [`run`](Self::run) needs no privilege.
pub struct Worker {
    interface: Interface,
    busy_poll: Duration,
    rx: RxRing,
    uring: Uring,
    link: LinkMonitor,
    waker: Waker,
    counters: Rc<Counters>,
}

impl Worker {
    /// Opens sockets and rings.
    ///
    /// # Errors
    /// [`OpenError`], whose text says what to do. Needs `CAP_NET_RAW`.
    pub fn open(config: &WorkerConfig) -> Result<Self, OpenError> {
        let interface = config.interface.clone();
        if !interface.up {
            return Err(OpenError::LinkDown { name: interface.name });
        }
        let io_error = |what| move |error| OpenError::Io { what, error };
        let link = LinkMonitor::open(interface.index).map_err(io_error("the link monitor"))?;
        let receiver = socket::open_receiver(&interface, config.vlan)?;
        let sender = socket::open_sender(&interface)?;
        let waker = Waker::new().map_err(io_error("an eventfd"))?;
        let uring = Uring::open(
            sender,
            receiver.as_raw_fd(),
            waker.event().as_raw_fd(),
            link.fd().as_raw_fd(),
        )?;
        let rx = RxRing::open(receiver, &interface, config.ring_slots)?;
        let busy_poll = config.busy_poll;
        let counters = Rc::new(Counters::default());
        Ok(Self { interface, busy_poll, rx, uring, link, waker, counters })
    }

    /// Wakes this worker from other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What the driver has done and lost, as it goes on.
    pub fn counters(&self) -> Rc<Counters> {
        Rc::clone(&self.counters)
    }

    /// Drives `machine` until it is finished.
    ///
    /// # Errors
    /// The ring itself failed; single frames that could not be sent are counted instead.
    pub fn run(mut self, machine: &mut impl Machine) -> io::Result<()> {
        self.uring.register_thread();
        let mut next_refresh = Nanos(0);
        loop {
            let now = clock::now();
            add(&self.counters.turns, 1);
            if now >= next_refresh {
                next_refresh = now.after(CLOCK_REFRESH);
                self.rx.refresh_clock(now);
            }
            if self.waker.take() {
                // Whoever wakes us may ask for the counters.
                self.count_kernel_drops();
            }
            for _ in 0..RX_BATCH {
                if !self.rx.next(&self.counters, |frame| machine.frame(now, frame)) {
                    break;
                }
            }
            machine.advance(now);
            let more = self.collect(now, machine);
            if machine.finished() && !more {
                if self.uring.has_queued() || self.uring.is_blocked() {
                    // The last frames: a short wait in case they must wait for room.
                    self.uring.enter(Some(Some(Duration::from_millis(100))), &self.counters)?;
                }
                if !self.uring.is_blocked() {
                    return Ok(());
                }
                continue;
            }
            let sleep = !more && !self.rx.has_frame() && !self.waker.is_pending();
            if !sleep && !self.uring.has_queued() {
                continue;
            }
            let wait = if sleep { self.time_to_sleep(machine) } else { None };
            let happened = self.uring.enter(wait, &self.counters)?;
            if happened.wake {
                self.waker.clear();
            }
            if happened.link || happened.receive_error {
                self.look_at_link(machine);
            }
        }
    }

    /// Asks the machine for frames; true if it may have more than fit.
    fn collect(&mut self, now: Nanos, machine: &mut impl Machine) -> bool {
        loop {
            let Some(slot) = self.uring.next_slot() else { return !self.uring.is_blocked() };
            let (octets, payload) = slot.parts();
            match machine.transmit(now, octets, payload) {
                Some(frame) => self.uring.push(&frame, &self.counters),
                None => return false,
            }
        }
    }

    /// How long to sleep; `None`: not at all. Spins first where that is asked for.
    fn time_to_sleep(&mut self, machine: &mut impl Machine) -> Option<Option<Duration>> {
        let deadline = machine.deadline();
        if !self.busy_poll.is_zero() {
            // What is queued must go out before we look for its answer.
            if self.uring.has_queued() {
                return None;
            }
            let start = clock::now();
            let until = start.after(self.busy_poll);
            loop {
                for _ in 0..16 {
                    if self.rx.has_frame() || self.waker.is_pending() {
                        return None;
                    }
                    std::hint::spin_loop();
                }
                let now = clock::now();
                if deadline.is_some_and(|deadline| deadline <= now) {
                    return None;
                }
                if now >= until {
                    break;
                }
            }
        }
        add(&self.counters.waits, 1);
        let now = clock::now();
        match deadline {
            Some(deadline) if deadline <= now => None,
            Some(deadline) => Some(Some(deadline.since(now))),
            None => Some(None),
        }
    }

    fn count_kernel_drops(&self) {
        add(&self.counters.rx_kernel_drops, socket::kernel_drops(self.rx.fd()));
    }

    fn look_at_link(&mut self, machine: &mut impl Machine) {
        let up = match self.link.read() {
            LinkNews::Up(up) => Some(up),
            LinkNews::Lost => Interface::find(&self.interface.name).ok().map(|found| found.up),
            LinkNews::None => None,
        };
        // Reading the error clears it; else the poll would report it for ever.
        socket::take_error(self.rx.fd());
        if let Some(up) = up.filter(|up| *up != self.interface.up) {
            self.interface.up = up;
            machine.link_changed(clock::now(), up);
        }
    }
}
