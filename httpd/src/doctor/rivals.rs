//! Whether another station has one of the addresses: each is probed for as at a strict start (RFC 5227
//! 2.1.1, RFC 4862 5.4), and not taken.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tagwire_core::clock::{self, Nanos};
use tagwire_core::driver::DriverKind;
use tagwire_core::nic::Interface;
use tagwire_core::packet::{Groups, RxFrame, TxFrame};
use tagwire_core::worker::{Machine, Worker, WorkerConfig};
use tagwire_netstack::{Acd, AddressState, MacAddr, Stack, VlanStack};

use crate::appliance::{self, StartError};
use crate::config::Config;
use crate::net::convert::{frame_meta, instant, tx_frame};
use crate::vlan::VlanConfig;

/// How long it takes: the first probe is sent within a second (RFC 5227 1.1, PROBE_WAIT), and
/// answered at once. An address would be taken after four.
const PATIENCE: Duration = Duration::from_millis(1800);
/// Frames that the ring holds: nobody is served by it.
const RING_SLOTS: usize = 256;

/// Another station that has one of our addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rival {
    pub(super) address: IpAddr,
    pub(super) vlan: VlanStack,
    pub(super) mac: MacAddr,
}

/// Those that answer now.
///
/// # Errors
/// Nobody can be asked.
pub(super) fn find(config: &Config, interface: &Interface) -> Result<Vec<Rival>, StartError> {
    let worker = WorkerConfig {
        interface: interface.clone(),
        vlans: config.vlans.iter().map(VlanConfig::filter).collect::<Arc<[_]>>(),
        ring_slots: RING_SLOTS,
        busy_poll: Duration::ZERO,
    };
    let worker = Worker::alone(&worker, DriverKind::Poll).map_err(StartError::Open)?;
    let now = clock::now();
    let mut probes = Vec::new();
    for vlan in &config.vlans {
        let mtu = appliance::mtu(vlan, interface)?;
        for address in &vlan.addresses {
            let stack = appliance::stack_config(config, vlan, interface, mtu)?;
            // One stack for each: what one does about its address is no matter of the others.
            let stack = tagwire_netstack::Config {
                addresses: vec![*address],
                gateway: None,
                gateway6: None,
                acd: Acd::Strict,
                slaac: false,
                ..stack
            };
            let stack = Stack::new(stack, instant(now));
            probes.push(Probe { stack, address: address.address() });
        }
    }
    let groups = worker.groups().map_err(StartError::Open)?;
    let mut prober = Prober { probes, groups, until: now.after(PATIENCE), ended: false };
    worker.run(&mut prober).map_err(StartError::Loop)?;
    Ok(prober.probes.iter().filter_map(Probe::rival).collect())
}

/// A stack that wants one address.
struct Probe {
    stack: Stack,
    address: IpAddr,
}

impl Probe {
    fn state(&self) -> Option<AddressState> {
        let mut states = self.stack.address_states();
        states.find(|(address, _)| *address == self.address).map(|(_, state)| state)
    }

    fn rival(&self) -> Option<Rival> {
        match self.state()? {
            AddressState::Conflicted { by } => {
                Some(Rival { address: self.address, vlan: self.stack.vlan(), mac: by })
            }
            AddressState::Tentative | AddressState::Assigned => None,
        }
    }

    /// It has found out, and is to say nothing more: an address that is free would be announced.
    fn is_done(&self) -> bool {
        self.state() != Some(AddressState::Tentative)
    }
}

/// What the packet loop drives until all is known, or the time is over.
struct Prober {
    probes: Vec<Probe>,
    groups: Groups,
    until: Nanos,
    ended: bool,
}

impl Machine for Prober {
    fn frame(&mut self, now: Nanos, frame: RxFrame<'_>) {
        let meta = frame_meta(&frame);
        for probe in &mut self.probes {
            probe.stack.handle_frame(instant(now), frame.bytes, &meta);
        }
    }

    fn advance(&mut self, now: Nanos) {
        let at = instant(now);
        let mut groups = Vec::new();
        for Probe { stack, .. } in &mut self.probes {
            if stack.poll_timeout().is_some_and(|due| due <= at) {
                stack.handle_timeout(at);
            }
            groups.extend(stack.multicast_macs().into_iter().map(|MacAddr(group)| group));
        }
        // Answers to IPv6's probes go to a group, which any kernel that speaks it has joined.
        let _ = self.groups.set(&groups);
        self.ended = now >= self.until || self.probes.iter().all(Probe::is_done);
    }

    fn transmit(
        &mut self,
        now: Nanos,
        slot: &mut [u8],
        payload: &mut Vec<Bytes>,
    ) -> Option<TxFrame> {
        let waiting = self.probes.iter_mut().filter(|probe| !probe.is_done());
        let mut frames =
            waiting.filter_map(|it| it.stack.poll_transmit(instant(now), slot, payload));
        frames.next().map(tx_frame)
    }

    fn deadline(&mut self) -> Option<Nanos> {
        let due = self.probes.iter().filter_map(|probe| probe.stack.poll_timeout()).min();
        let due = due.map_or(self.until, |due| Nanos(due.as_nanos()));
        Some(due.min(self.until))
    }

    fn link_changed(&mut self, now: Nanos, interface: &Interface) {
        let up = interface.is_up();
        for probe in &mut self.probes {
            probe.stack.set_link(instant(now), up);
        }
    }

    fn finished(&self) -> bool {
        self.ended
    }
}
