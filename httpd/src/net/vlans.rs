//! The VLANs of one worker: a stack for each.
//!
//! They are networks of their own. The same address may be ours in two of them, or two of their
//! stations have it, and what comes in one must reach nothing of another: no connection, no
//! neighbour, no address. With a stack for each that holds because they share no table, and not because
//! every look-up heeds a tag; and what a crowd in one takes is not taken from another: each has its part
//! of the memory. What they share is the worker: its sockets and rings, its turns, its tasks.
//!
//! The price is a look at each stack in each turn, some hundred instructions for one that rests.

use std::cell::{RefCell, RefMut};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tagwire_netstack::{AddressState, FrameMeta, Instant, Stack, Transmit, VlanStack};

use super::gather::{add, figures};
use super::reactor::Reactor;
use super::stream::Stream;

/// Figures of each VLAN that are added up.
const SUMS: [&str; 6] = ["connections", "half_open", "time_wait", "memory", "neighbors", "stack"];

/// One VLAN of a worker.
struct Vlan {
    id: VlanStack,
    reactor: Rc<RefCell<Reactor>>,
    /// What `status` says of it that does not change: an object.
    identity: Map<String, Value>,
}

/// All of them, at least one.
pub(super) struct Vlans {
    all: Box<[Vlan]>,
    /// Whose frame is sent next.
    turn: usize,
}

impl Vlans {
    /// A stack for each, and what `status` says of it that does not change.
    pub(super) fn new(stacks: Vec<(Stack, Map<String, Value>)>, now: Instant) -> Self {
        let all = stacks.into_iter().map(|(stack, identity)| Vlan {
            id: stack.vlan(),
            reactor: Reactor::new(stack, now),
            identity,
        });
        Self { all: all.collect(), turn: 0 }
    }

    /// The VLAN that a frame belongs to; the first one, which drops and counts it, if to none.
    pub(super) fn whose(&self, octets: &[u8], meta: &FrameMeta) -> usize {
        if let [_] = &*self.all {
            return 0;
        }
        let Some(tags) = tagwire_netstack::tags(octets, meta) else { return 0 };
        self.all.iter().position(|vlan| vlan.id.matches(&tags)).unwrap_or(0)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// A connection of one of them that is new, and its peer.
    pub(super) fn next_accepted(&self, vlan: usize) -> Option<(Stream, SocketAddr)> {
        Reactor::next_accepted(&self.all[vlan].reactor)
    }

    /// One of them.
    pub(super) fn at(&self, vlan: usize) -> RefMut<'_, Reactor> {
        self.all[vlan].reactor.borrow_mut()
    }

    /// All of them in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<RefCell<Reactor>>> {
        self.all.iter().map(|vlan| &vlan.reactor)
    }

    /// The next frame to send. While several have some, they take turns.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        slot: &mut [u8],
        payload: &mut Vec<Bytes>,
    ) -> Option<Transmit> {
        for _ in 0..self.all.len() {
            let vlan = self.turn;
            self.turn = if vlan + 1 < self.all.len() { vlan + 1 } else { 0 };
            let transmit = self.at(vlan).stack().poll_transmit(now, slot, payload);
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// When the first of them needs a turn.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.iter().filter_map(|reactor| reactor.borrow().deadline()).min()
    }

    /// Whether every address that was asked for can be used, in all of them.
    pub(super) fn have_all_addresses(&self) -> bool {
        self.iter().all(|reactor| has_all_addresses(reactor.borrow_mut().stack()))
    }

    /// What they say of themselves: figures for all together, and each on its own.
    pub(super) fn status(&self) -> Map<String, Value> {
        let each: Vec<Map<String, Value>> = self.all.iter().map(Vlan::status).collect();
        let mut all = Map::new();
        for name in SUMS {
            let mut figures = each.iter().filter_map(|vlan| vlan.get(name));
            if let Some(mut sum) = figures.next().cloned() {
                figures.for_each(|figure| add(&mut sum, figure));
                all.insert(name.to_owned(), sum);
            }
        }
        let states = each.iter().filter_map(|vlan| vlan.get("address_states")?.as_array());
        all.insert("address_states".to_owned(), states.flatten().cloned().collect());
        // Of the only VLAN that there is, the appliance says all.
        if let [only] = &*each {
            all.extend(only.get_key_value("mtu").map(|(name, mtu)| (name.clone(), mtu.clone())));
        }
        all.insert("vlans".to_owned(), each.into_iter().map(Value::Object).collect());
        all
    }
}

impl Vlan {
    fn status(&self) -> Map<String, Value> {
        let mut reactor = self.reactor.borrow_mut();
        let stack = reactor.stack();
        let counts = stack.counts();
        let tag = (self.id != VlanStack::UNTAGGED).then(|| self.id.to_string());
        let states: Value = stack.address_states().map(|it| address_state(&tag, it)).collect();
        let counters = figures(stack.stats().iter());
        let mut status = self.identity.clone();
        let figures = json!({
            "mtu": stack.mtu(),
            "ready": has_all_addresses(stack),
            "address_states": states,
            "connections": counts.connections,
            "half_open": counts.half_open,
            "time_wait": counts.time_wait,
            "memory": counts.memory,
            "neighbors": stack.neighbors(),
            "stack": counters,
        });
        if let Value::Object(figures) = figures {
            status.extend(figures);
        }
        status
    }
}

fn has_all_addresses(stack: &Stack) -> bool {
    stack.address_states().all(|(_, state)| state == AddressState::Assigned)
}

fn address_state(tag: &Option<String>, (address, state): (IpAddr, AddressState)) -> Value {
    let (state, by) = match state {
        AddressState::Tentative => ("tentative", None),
        AddressState::Assigned => ("assigned", None),
        AddressState::Conflicted { by } => ("conflicted", Some(by.to_string())),
    };
    let mut value = json!({ "address": address, "vlan": tag, "state": state });
    if let (Some(by), Some(object)) = (by, value.as_object_mut()) {
        object.insert("by".to_owned(), by.into());
    }
    value
}
