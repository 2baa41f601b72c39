//! The packet loop of one worker.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{self, Nanos};
use crate::counters::{Counters, add};
use crate::driver::{Driver, DriverKind, Wait};
use crate::error::OpenError;
use crate::link::LinkMonitor;
use crate::nic::Interface;
use crate::packet::ring::{self, RxRing};
use crate::packet::{Groups, RxFrame, Steering, SynFilter, TxFrame, Vlan, filter, socket};
use crate::poll::Poll;
use crate::uring::Uring;
use crate::waker::Waker;

/// Frames taken from the ring before what they cause is done and sent: bounds the time to
/// the first answer under a flood, and the answers' memory.
const RX_BATCH: usize = 128;

/// Octets queued, or one frame more, before the kernel gets them and the receive ring is looked at
/// again. All slots full of large frames would be 3 ms of work, in which acknowledgements that are there
/// count as late: with 1,024 connections every fifth frame was a tail loss probe.
const TX_OCTETS: usize = 1 << 20;

/// How long the last frames may wait for room in the socket's buffer before the worker ends
/// without them. A device that takes nothing for so long has no link.
const LAST_FRAMES: Duration = Duration::from_secs(1);

/// What a worker drives. All calls come from the worker's thread, in this order within a
/// turn: `frame` for each frame, `advance` once, `transmit` until it has no more, `deadline`.
pub trait Machine {
    /// A frame was received.
    fn frame(&mut self, now: Nanos, frame: RxFrame<'_>);

    /// Do what is due: after the frames of this turn, before anything is sent.
    fn advance(&mut self, now: Nanos);

    /// The next frame to send: its leading octets go into `slot` (2048 octets, or a frame of the
    /// interface's MTU where that is longer), what follows
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

    /// The interface is not as it was: its link, its address or its MTU. Frames to a new address are
    /// taken by then. One that is gone stays gone; how long the machine goes on is its own affair.
    fn link_changed(&mut self, now: Nanos, interface: &Interface);

    /// Whether the loop should end, once all is sent.
    fn finished(&self) -> bool;
}

/// How a worker is set up.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Where it lives.
    pub interface: Interface,
    /// The VLANs whose frames are taken, [`MAX_VLANS`](crate::packet::MAX_VLANS) at the most.
    pub vlans: Arc<[Vlan]>,
    /// Frames that the receive ring holds; each takes 2 KiB, and as much more as the
    /// interface's MTU needs (16 KiB with 9000).
    pub ring_slots: usize,
    /// How long to look for frames before sleeping. Zero sleeps at once; more trades a
    /// CPU for the time that a wake-up takes.
    pub busy_poll: Duration,
}

impl WorkerConfig {
    /// Octets of the ring unless told otherwise.
    const RING_OCTETS: usize = 8 << 20;
    /// Fewer frames than this do not bridge a worker's longest turn.
    const FEWEST_SLOTS: usize = 2048;

    /// Frames in the ring unless told otherwise: 8 MiB, about 5 ms of a 10 Gbit/s link; with
    /// jumbo frames up to 32 MiB.
    pub fn ring_slots(interface: &Interface) -> usize {
        (Self::RING_OCTETS / ring::slot_size(interface.mtu)).max(Self::FEWEST_SLOTS)
    }
}

/// The packet sockets of one worker, open but not driven yet. Unlike the [`Worker`] that they
/// become they may go from thread to thread.
#[derive(Debug)]
pub struct Port {
    interface: Interface,
    vlans: Arc<[Vlan]>,
    busy_poll: Duration,
    rx: RxRing,
    sender: OwnedFd,
    link: LinkMonitor,
    waker: Waker,
}

impl Port {
    /// Opens the sockets of as many workers as `steering` spreads connections over; the first one
    /// is for the worker that gets all that is no connection's. Frames that come are kept
    /// from here on.
    ///
    /// They must live as long as each other: a member that leaves changes who gets what.
    ///
    /// # Errors
    /// [`OpenError`], whose text says what to do. Needs `CAP_NET_RAW`.
    pub fn open(config: &WorkerConfig, steering: &Steering) -> Result<Vec<Self>, OpenError> {
        let ports = (0..steering.workers())
            .map(|_| Self::open_closed(config))
            .collect::<Result<Vec<_>, _>>()?;
        if ports.len() > 1 {
            let members: Vec<_> = ports.iter().map(|port| port.rx.fd()).collect();
            socket::join(&members, steering, &config.vlans)?;
        }
        for port in &ports {
            socket::admit(port.rx.fd(), &port.interface, &config.vlans)?;
        }
        Ok(ports)
    }

    fn open_closed(config: &WorkerConfig) -> Result<Self, OpenError> {
        let mut interface = config.interface.clone();
        let link = LinkMonitor::open()
            .map_err(|error| OpenError::Io { what: "the link monitor", error })?;
        interface.wait_until_up(&link)?;
        let waker = Waker::new().map_err(|error| OpenError::Io { what: "an eventfd", error })?;
        let sender = socket::open_sender(&interface)?;
        let rx = RxRing::open(socket::open_receiver()?, &interface, config.ring_slots)?;
        let (vlans, busy_poll) = (Arc::clone(&config.vlans), config.busy_poll);
        Ok(Self { interface, vlans, busy_poll, rx, sender, link, waker })
    }

    /// Wakes the worker that this becomes.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// A thread's sockets and rings. [`open`](Self::open) does all that can be refused;
/// [`run`](Self::run) needs no privilege.
pub struct Worker {
    turns: Turns,
    driver: Opened,
}

enum Opened {
    Uring(Box<Uring>),
    Poll(Poll),
}

impl Worker {
    /// Makes the rings of a worker, on the thread that is to [`run`](Self::run) it.
    ///
    /// # Errors
    /// [`OpenError`], whose text says what to do.
    pub fn open(port: Port, driver: DriverKind) -> Result<Self, OpenError> {
        let Port { interface, vlans, busy_poll, rx, sender, link, waker } = port;
        let mtu = interface.mtu;
        let watched = [rx.fd(), waker.event(), link.fd()].map(|fd| fd.as_raw_fd());
        let driver = match driver {
            DriverKind::Uring => Opened::Uring(Box::new(Uring::open(sender, mtu, watched)?)),
            DriverKind::Poll => Opened::Poll(Poll::open(sender, mtu, watched)),
        };
        let counters = Rc::new(Counters::default());
        let spins_until = None;
        let turns = Turns { interface, vlans, busy_poll, spins_until, rx, link, waker, counters };
        Ok(Self { turns, driver })
    }

    /// Opens the only worker of an interface.
    ///
    /// # Errors
    /// [`OpenError`], whose text says what to do. Needs `CAP_NET_RAW`.
    pub fn alone(config: &WorkerConfig, driver: DriverKind) -> Result<Self, OpenError> {
        let mut ports = Port::open(config, &Steering::new(1, 0))?;
        // It spreads over one worker, so there is one.
        Self::open(ports.remove(0), driver)
    }

    /// Wakes this worker from other threads.
    pub fn waker(&self) -> Waker {
        self.turns.waker.clone()
    }

    /// What the driver has done and lost, as it goes on.
    pub fn counters(&self) -> Rc<Counters> {
        Rc::clone(&self.turns.counters)
    }

    /// The groups that this worker's interface passes up; none at first.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn groups(&self) -> Result<Groups, OpenError> {
        Groups::new(self.turns.rx.fd(), &self.turns.interface)
            .map_err(|error| OpenError::Io { what: "the memberships of groups", error })
    }

    /// Which SYNs come up; all of them at first.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn syn_filter(&self) -> Result<SynFilter, OpenError> {
        let Turns { rx, interface, vlans, .. } = &self.turns;
        SynFilter::new(rx.fd(), interface, Arc::clone(vlans))
            .map_err(|error| OpenError::Io { what: "the filter for SYNs", error })
    }

    /// Drives `machine` until it is finished. On the thread that opened this: the kernel
    /// takes submissions from no other.
    ///
    /// # Errors
    /// The ring itself failed, or there is no memory for another filter. Single frames that could not be
    /// sent are counted instead.
    pub fn run(self, machine: &mut impl Machine) -> io::Result<()> {
        let Self { mut turns, driver } = self;
        match driver {
            Opened::Uring(mut uring) => turns.run(&mut *uring, machine),
            Opened::Poll(mut poll) => turns.run(&mut poll, machine),
        }
    }
}

/// The loop, and what it looks at beside its driver.
struct Turns {
    interface: Interface,
    vlans: Arc<[Vlan]>,
    busy_poll: Duration,
    /// When it sleeps if nothing comes: a turn for news of the link only does not put that off.
    spins_until: Option<Nanos>,
    rx: RxRing,
    link: LinkMonitor,
    waker: Waker,
    counters: Rc<Counters>,
}

impl Turns {
    fn run(&mut self, driver: &mut impl Driver, machine: &mut impl Machine) -> io::Result<()> {
        let mut ends_at = None;
        // Since it was looked up the interface may have changed.
        self.look_at_link(machine, LinkMonitor::resync)?;
        loop {
            add(&self.counters.turns, 1);
            if self.waker.take() {
                // Whoever wakes us may ask for the counters.
                self.count_kernel_drops();
                self.spins_until = None;
            }
            let mut now = clock::now();
            if self.rx.has_frame() {
                self.spins_until = None;
                self.rx.begin_turn();
                for _ in 0..RX_BATCH {
                    let take = |frame: RxFrame<'_>| {
                        // What comes while the turn is under way must not seem to have come
                        // before it: on a busy machine that may be many milliseconds, and a
                        // round trip would be measured that is shorter than the path.
                        if frame.meta.received > now {
                            now = clock::now();
                        }
                        machine.frame(now, frame);
                    };
                    if !self.rx.next(&self.counters, take) {
                        break;
                    }
                }
                self.rx.end_turn(&self.counters);
            }
            machine.advance(now);
            let more = self.collect(now, driver, machine);
            let wait = if more || self.rx.has_frame() {
                Wait::No
            } else if machine.finished() {
                let ends_at = *ends_at.get_or_insert(now.after(LAST_FRAMES));
                match (driver.has_queued(), driver.is_full()) {
                    (true, _) => Wait::No,
                    (false, true) if now < ends_at => Wait::Until(ends_at),
                    (false, _) => return Ok(()),
                }
            } else {
                self.time_to_sleep(driver, machine)
            };
            let wait = if wait == Wait::No || self.waker.sleep() { wait } else { Wait::No };
            if wait == Wait::No && !driver.is_due() {
                continue;
            }
            let happened = driver.enter(wait, &self.counters)?;
            if wait != Wait::No {
                add(&self.counters.waits, 1);
                self.waker.awake();
            }
            if happened.wake {
                self.waker.clear();
            }
            if happened.link || happened.receive_error {
                self.look_at_link(machine, LinkMonitor::follow)?;
            }
        }
    }

    /// Asks the machine for frames; true if it may have more than fit.
    fn collect(
        &mut self,
        now: Nanos,
        driver: &mut impl Driver,
        machine: &mut impl Machine,
    ) -> bool {
        let mut queued = 0;
        loop {
            if queued >= TX_OCTETS {
                return !driver.is_full();
            }
            let Some(slot) = driver.next_slot() else {
                let full = driver.is_full();
                add(&self.counters.tx_full, full.into());
                return !full;
            };
            let (octets, payload) = slot.parts();
            match machine.transmit(now, octets, payload) {
                Some(frame) => {
                    queued += frame.len + payload.iter().map(Bytes::len).sum::<usize>();
                    driver.push(&frame, &self.counters);
                }
                None => return false,
            }
        }
    }

    /// How long to sleep. Spins first where that is asked for.
    fn time_to_sleep(&mut self, driver: &mut impl Driver, machine: &mut impl Machine) -> Wait {
        let deadline = machine.deadline();
        if !self.busy_poll.is_zero() {
            // What is queued must go out before we look for its answer.
            if driver.is_due() {
                return Wait::No;
            }
            let until = *self.spins_until.get_or_insert(clock::now().after(self.busy_poll));
            loop {
                for _ in 0..16 {
                    if self.rx.has_frame() || self.waker.is_pending() || driver.is_due() {
                        return Wait::No;
                    }
                    std::hint::spin_loop();
                }
                let now = clock::now();
                if deadline.is_some_and(|deadline| deadline <= now) {
                    self.spins_until = None;
                    return Wait::No;
                }
                if now >= until {
                    break;
                }
            }
            self.spins_until = None;
        }
        let Some(deadline) = deadline else { return Wait::Forever };
        if deadline <= clock::now() { Wait::No } else { Wait::Until(deadline) }
    }

    fn count_kernel_drops(&self) {
        add(&self.counters.rx_kernel_drops, socket::kernel_drops(self.rx.fd()));
    }

    /// Brings what is known of the interface up to date, and tells the machine.
    fn look_at_link(
        &mut self,
        machine: &mut impl Machine,
        look: impl FnOnce(&LinkMonitor, &mut Interface),
    ) -> io::Result<()> {
        let before = self.interface.clone();
        look(&self.link, &mut self.interface);
        // Reading the error clears it; else the poll would report it for ever.
        socket::take_error(self.rx.fd());
        if self.interface == before {
            return Ok(());
        }
        if self.interface.mac != before.mac {
            let program = filter::program(self.interface.mac, &self.vlans, None);
            socket::set_filter(self.rx.fd(), &program)?;
        }
        machine.link_changed(clock::now(), &self.interface);
        Ok(())
    }
}
