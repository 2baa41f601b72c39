//! One worker: what the packet loop drives.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use async_executor::LocalExecutor;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tagwire_core::clock::Nanos;
use tagwire_core::counters::{Counters, add};
use tagwire_core::nic::Interface;
use tagwire_core::packet::{Groups, RxFrame, TxFrame};
use tagwire_core::waker::Waker;
use tagwire_core::worker::Machine;
use tagwire_netstack::{AddressEvent, AddressState, Instant, MacAddr, Stack, VlanStack};

use super::admission::Door;
use super::convert::{frame_meta, instant, tx_frame};
use super::gather::{Part, figures};
use super::link::{Link, LinkEnd, Steps};
use super::post::{self, Letter, Note, Post};
use super::reactor::Reactor;
use super::stream::Stream;
use super::syn_flood::{SynFlood, Syns};
use super::vlans::Vlans;
use crate::access_log::Log;
use crate::conn;
use crate::content::Content;
use crate::health::Beat;
use crate::interfaces::{self, Meter};
use crate::limits::Limits;
use crate::respond::Status;
use crate::site::Sites;
use crate::transport::Transport;

/// Between two looks whether every connection has settled while draining: a look visits
/// all of them.
const SETTLE_CHECK: Duration = Duration::from_millis(5);
/// The site's clock: `Date` needs seconds, revalidation tenths of one; reading the wall clock
/// on every turn would cost more than it gives.
const TICK: Duration = Duration::from_millis(10);

/// When notes for the access log are offered again that it did not take, as it was taking others.
const LOG_RETRY: Duration = Duration::from_millis(1);

/// What other threads ask of a worker.
#[derive(Debug)]
pub enum Message {
    /// Finish what is being sent within that time, close, and end.
    Drain(Duration),
    /// Send clients elsewhere, or do so no more: all are served, and keep no connection.
    LameDuck(bool),
    /// End at once: another worker has failed.
    End,
    /// Say how you are.
    Status(Part),
    /// Say that you are: it is dropped.
    Beat(Beat),
    /// Serve these from now on, within these limits.
    Settings(Arc<Sites>, Limits),
}

/// Workers that end together: one that has settled stays until all have, as its connections'
/// frames would go to others without it.
#[derive(Debug, Clone)]
pub struct Together {
    unsettled: Arc<AtomicUsize>,
    wakers: Arc<[Waker]>,
}

impl Together {
    /// The workers of these wakers.
    pub fn new(wakers: &[Waker]) -> Self {
        let unsettled = Arc::new(AtomicUsize::new(wakers.len()));
        Self { unsettled, wakers: wakers.into() }
    }

    /// One more has settled.
    fn settled(&self) {
        if self.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wakers.iter().for_each(Waker::wake);
        }
    }

    fn all_settled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire) == 0
    }
}

#[derive(Debug, Clone, Copy)]
struct Drain {
    until: Instant,
    next_check: Instant,
    settled: bool,
    aborted: bool,
}

/// What a worker is made of.
pub struct Parts {
    /// Its own stack in each VLAN, and what `status` says of that VLAN that does not change.
    pub stacks: Vec<(Stack, Map<String, Value>)>,
    /// Its view of what is served.
    pub content: Content,
    /// What other threads ask of it.
    pub messages: mpsc::Receiver<Message>,
    /// Its way to the other workers.
    pub post: Post,
    /// The interface, as long as nothing changes.
    pub link: Link,
    /// The groups that its interface passes up.
    pub groups: Groups,
    /// Its guard against floods of SYNs.
    pub syn_flood: SynFlood,
    /// Who is let in.
    pub door: Door,
    /// Where it publishes what its interface has done.
    pub meter: Meter,
    /// All the workers.
    pub together: Together,
    /// What `status` says that does not change.
    pub identity: Map<String, Value>,
}

/// Stacks, tasks and site of one worker; [`Machine`] is how core's loop drives it.
pub struct HttpWorker {
    vlans: Vlans,
    executor: LocalExecutor<'static>,
    content: Rc<Content>,
    messages: mpsc::Receiver<Message>,
    post: Post,
    when_ready: Option<Box<dyn FnOnce()>>,
    groups: Groups,
    /// A frame to a group came: it may have changed which groups are wanted.
    heard_group: bool,
    /// The interface did not join all of them the last time.
    groups_refused: bool,
    syn_flood: SynFlood,
    door: Door,
    meter: Meter,
    /// Frames came or went that are not published yet.
    unpublished: bool,
    together: Together,
    /// Another worker has failed.
    ended: bool,
    port: u16,
    started: Instant,
    next_tick: Instant,
    /// What the access log did not take is offered to it again then.
    log_again: Option<Instant>,
    drain: Option<Drain>,
    driver: Rc<Counters>,
    /// What `status` says that does not change.
    identity: Map<String, Value>,
    link: Link,
    /// The interface is lost.
    lost_link: Option<LinkEnd>,
}

impl HttpWorker {
    /// A worker that serves what its parts say, on `port`.
    pub fn new(parts: Parts, port: u16, driver: Rc<Counters>, now: Instant) -> Self {
        let Parts {
            mut stacks,
            content,
            messages,
            post,
            link,
            groups,
            syn_flood,
            door,
            meter,
            together,
            identity,
        } = parts;
        for (stack, _) in &mut stacks {
            stack.listen(port);
            if !post.is_alone() {
                stack.collect_strays();
            }
        }
        content.tick(std::time::Instant::now(), SystemTime::now());
        Self {
            vlans: Vlans::new(stacks, now),
            executor: LocalExecutor::new(),
            content: Rc::new(content),
            messages,
            post,
            when_ready: None,
            groups,
            heard_group: true,
            groups_refused: false,
            syn_flood,
            door,
            meter,
            unpublished: false,
            together,
            ended: false,
            port,
            started: now,
            next_tick: now + TICK,
            log_again: None,
            drain: None,
            driver,
            identity,
            link,
            lost_link: None,
        }
    }

    /// Tells those who ask over HTTP what frames have come and gone.
    fn publish(&mut self) {
        if !self.unpublished || !self.content.shows_interfaces() {
            return;
        }
        self.unpublished = false;
        let of_vlan =
            |it: &Rc<RefCell<Reactor>>| interfaces::traffic(it.borrow_mut().stack().stats());
        let driver = &self.driver;
        let unsent = [
            &driver.tx_no_buffers,
            &driver.tx_too_long,
            &driver.tx_bad_offload,
            &driver.tx_link_down,
            &driver.tx_errors,
        ];
        let unsent = unsent.into_iter().map(Cell::get).sum();
        let losses = [driver.rx_kernel_drops.get(), driver.rx_truncated.get(), unsent];
        self.meter.publish(self.vlans.iter().map(of_vlan), losses);
    }

    /// What other workers have to say.
    fn take_notes(&mut self, now: Instant) {
        while let Some(Letter { vlan, note }) = self.post.next() {
            let mut reactor = self.vlans.at(vlan);
            match note {
                Note::Neighbor(address, mac) => reactor.stack().learn_neighbor(now, address, mac),
                Note::Address(event) => reactor.stack().follow_address(now, event),
                Note::Frame { octets, tag, received } => {
                    reactor.stack().handle_frame(now, &octets, &post::meta(tag, received));
                }
                Note::Stray(stray) => reactor.stack().handle_stray(now, &stray),
            }
        }
    }

    /// Sees to it that the interface passes up the groups that the stack's addresses need. Each
    /// worker does: the kernel counts them.
    fn join_groups(&mut self) {
        self.heard_group = false;
        let of_each =
            |reactor: &Rc<RefCell<Reactor>>| reactor.borrow_mut().stack().multicast_macs();
        let groups = self.vlans.iter().flat_map(of_each);
        let groups: Vec<_> = groups.map(|MacAddr(group)| group).collect();
        let set = self.groups.set(&groups);
        let refused = std::mem::replace(&mut self.groups_refused, set.is_err());
        // It is tried again and again; each frame to a group may bring that on.
        if let (Err(error), false) = (set, refused) {
            tracing::warn!(%error, "the interface joins no group: neighbours may not find us");
        }
    }

    /// Gives segments that came to this worker for want of visible ports to whom they belong.
    fn redirect_strays(&mut self, now: Instant) {
        if self.post.is_alone() {
            return;
        }
        for (vlan, reactor) in self.vlans.iter().enumerate() {
            let mut reactor = reactor.borrow_mut();
            while let Some(stray) = reactor.stack().poll_stray() {
                if let Some(own) = self.post.redirect(vlan, stray) {
                    reactor.stack().handle_stray(now, &own);
                }
            }
        }
    }

    /// What this worker has to say to others, and of its addresses to the operator.
    fn tell_others(&mut self) {
        for (vlan, reactor) in self.vlans.iter().enumerate() {
            let mut reactor = reactor.borrow_mut();
            let stack = reactor.stack();
            while let Some(event) = stack.poll_address_event() {
                report_address(stack.vlan(), event);
                self.post.tell(vlan, &Note::Address(event));
            }
            if !self.post.is_alone() {
                while let Some((address, mac)) = stack.poll_neighbor_update() {
                    self.post.tell(vlan, &Note::Neighbor(address, mac));
                }
            }
        }
        if let Some(ready) = self.when_ready.take_if(|_| self.vlans.have_all_addresses()) {
            ready();
        }
    }

    /// Why it has ended without being told to, if it has: the interface, by its name.
    pub fn lost_link(&self) -> Option<(&str, LinkEnd)> {
        let end = self.lost_link.filter(|_| self.drain.is_none())?;
        Some((self.link.name(), end))
    }

    /// Calls this once all addresses can be used, which may be at once.
    pub fn when_ready(&mut self, call: impl FnOnce() + 'static) {
        self.when_ready = Some(Box::new(call));
    }

    fn take_messages(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Drain(time) => self.begin_drain(time),
                Message::LameDuck(on) => {
                    self.vlans.iter().for_each(|reactor| reactor.borrow_mut().set_lame_duck(on));
                }
                Message::End => self.ended = true,
                Message::Status(part) => part.answer(self.status()),
                Message::Beat(beat) => drop(beat),
                Message::Settings(sites, limits) => {
                    self.content.replace_sites(sites);
                    self.content.set_limits(limits);
                }
            }
        }
    }

    /// Starts to serve a connection, or to turn it away.
    fn let_in(&mut self, stream: Stream, peer: IpAddr) {
        let content = Rc::clone(&self.content);
        let tally = &content.tally;
        let vlan = stream.local().vlan;
        let task = match self.door.admit(vlan, peer, &content.limits()) {
            Ok(None) => self.executor.spawn(conn::serve(stream, content)),
            Ok(Some(place)) => self.executor.spawn(async move {
                conn::serve(stream, content).await;
                drop(place);
            }),
            Err(status) => {
                let counter = match status {
                    Status::TooManyRequests => &tally.over_max_per_address,
                    _ => &tally.over_max_connections,
                };
                add(counter, 1);
                let Some(told) = self.door.turn_away(vlan, peer) else {
                    // The stream goes, and resets it.
                    add(&tally.reset_unanswered, 1);
                    return;
                };
                self.executor.spawn(async move {
                    conn::turn_away(stream, content, status).await;
                    drop(told);
                })
            }
        };
        task.detach();
    }

    fn begin_drain(&mut self, time: Duration) {
        if self.drain.is_some() {
            return;
        }
        for reactor in self.vlans.iter() {
            let mut reactor = reactor.borrow_mut();
            reactor.stack().unlisten(self.port);
            reactor.drain();
        }
        let now = self.vlans.at(0).now();
        self.drain =
            Some(Drain { until: now + time, next_check: now, settled: false, aborted: false });
    }

    /// Looks whether everything sent has been acknowledged; at the end of its time, aborts.
    fn check_drain(&mut self, now: Instant) {
        let Some(drain) = &mut self.drain else { return };
        if drain.settled || drain.next_check > now {
            return;
        }
        drain.next_check = now + SETTLE_CHECK;
        if drain.until <= now && !drain.aborted {
            drain.aborted = true;
            let open: usize = self.vlans.iter().map(|it| it.borrow_mut().abort_all(now)).sum();
            if open > 0 {
                tracing::warn!(
                    connections = open,
                    "shutdown: out of time, what is still being sent is cut off"
                );
            }
            // Their tasks hear of it in the next turn, and note what has become of their answers.
            return;
        }
        drain.settled = drain.aborted || self.vlans.iter().all(|it| it.borrow().has_settled());
        if drain.settled {
            self.together.settled();
        }
    }

    /// Everything an operator asks for first.
    fn status(&self) -> Value {
        let uptime = self.vlans.at(0).now().since(self.started);
        let lost = std::iter::once(("notes_lost", self.post.lost()));
        let driver = self.driver.iter().chain(lost).chain(self.syn_flood.status());
        let sends_away = self.vlans.at(0).sends_away();
        let mut status = json!({
            "uptime_seconds": uptime.as_secs_f64(),
            "mac": self.link.mac().to_string(),
            "link_up": self.link.is_up(),
            "link": self.link.status(),
            "draining": self.drain.is_some(),
            "ready": !sends_away && self.link.is_up() && self.vlans.have_all_addresses(),
            "http": figures(self.content.tally.iter()),
            "access_log": self.content.log().map(Log::status),
            "driver": figures(driver),
        });
        if let Some(status) = status.as_object_mut() {
            status.extend(self.vlans.status());
            status.extend(self.identity.clone());
        }
        status
    }
}

impl Machine for HttpWorker {
    fn frame(&mut self, now: Nanos, frame: RxFrame<'_>) {
        let meta = frame_meta(&frame);
        let now = instant(now);
        let vlan = self.vlans.whose(frame.bytes, &meta);
        self.vlans.at(vlan).stack().handle_frame(now, frame.bytes, &meta);
        self.post.pass_on(vlan, frame.bytes, &meta, now);
        self.unpublished = true;
        self.heard_group |= frame.bytes.first().is_some_and(|octet| octet & 1 != 0);
    }

    fn advance(&mut self, now: Nanos) {
        if let Some(log) = self.content.log() {
            log.begin_turn(now);
        }
        let now = instant(now);
        self.take_notes(now);
        self.redirect_strays(now);
        self.vlans.iter().for_each(|reactor| reactor.borrow_mut().begin_turn(now));
        self.tell_others();
        if self.heard_group {
            self.join_groups();
        }
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            // Addresses come and go with time, too.
            self.heard_group = true;
            self.content.tick(std::time::Instant::now(), SystemTime::now());
            let seen = self.vlans.iter().map(|it| Syns::of(it.borrow_mut().stack().stats()));
            self.syn_flood.look(now, seen, &self.driver);
            self.publish();
        }
        self.take_messages();
        for vlan in 0..self.vlans.len() {
            while let Some((stream, peer)) = self.vlans.next_accepted(vlan) {
                self.syn_flood.remember(peer.ip());
                self.let_in(stream, peer.ip());
            }
        }
        while self.executor.try_tick() {}
        self.door.settle(self.vlans.iter().map(|it| it.borrow().streams()).sum());
        self.check_drain(now);
        self.lost_link = self.link.end(now);
        if let Some(log) = self.content.log() {
            let later = now + LOG_RETRY;
            self.log_again = (!log.hand_over()).then_some(later);
        }
    }

    fn transmit(
        &mut self,
        now: Nanos,
        slot: &mut [u8],
        payload: &mut Vec<Bytes>,
    ) -> Option<TxFrame> {
        let transmit = self.vlans.transmit(instant(now), slot, payload)?;
        self.unpublished = true;
        Some(tx_frame(transmit))
    }

    fn deadline(&mut self) -> Option<Nanos> {
        let check = self.drain.filter(|drain| !drain.settled).map(|drain| drain.next_check);
        // What is let up must go on to change when nothing comes.
        let look = self.syn_flood.is_on() || self.unpublished && self.content.shows_interfaces();
        let look = look.then_some(self.next_tick);
        let deadline = [self.vlans.deadline(), check, look, self.log_again, self.link.ends_at()];
        let deadline = deadline.into_iter().flatten().min();
        deadline.map(|at| Nanos(at.as_nanos()))
    }

    fn link_changed(&mut self, now: Nanos, interface: &Interface) {
        let now = instant(now);
        let Steps { mac, mtus, up } = self.link.follow(now, interface);
        for (vlan, reactor) in self.vlans.iter().enumerate() {
            let mut reactor = reactor.borrow_mut();
            let stack = reactor.stack();
            if let Some(mac) = mac {
                stack.set_mac(now, mac);
            }
            if let Some(mtu) = mtus.as_ref().and_then(|mtus| mtus.get(vlan)) {
                stack.set_mtu(now, *mtu);
            }
            if let Some(up) = up {
                stack.set_link(now, up);
            }
        }
        if let Some(MacAddr(mac)) = mac {
            self.syn_flood.readdress(mac);
        }
    }

    fn finished(&self) -> bool {
        self.ended
            || self.lost_link.is_some()
            || self.drain.is_some_and(|drain| drain.settled) && self.together.all_settled()
    }
}

/// Says in the log what has become of one of our addresses (RFC 5227).
fn report_address(vlan: VlanStack, event: AddressEvent) {
    let address = event.address;
    match event.state {
        AddressState::Tentative => tracing::info!(%address, %vlan, "probing for the address"),
        AddressState::Assigned => tracing::info!(%address, %vlan, "the address is ours"),
        AddressState::Conflicted { by } => tracing::error!(
            %address,
            %vlan,
            %by,
            "ADDRESS CONFLICT: another station has this address; nothing is served at it until \
             that station is silent. Remove one of the two, or give this one another --address"
        ),
    }
}
