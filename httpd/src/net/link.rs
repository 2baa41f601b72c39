//! What is done when the interface changes under the workers.
//!
//! What can be followed is: a link that goes down and comes back, another MAC address, another
//! MTU as long as it carries what the VLANs need. What cannot is an interface that is gone (see `core`'s
//! `link`): nothing is served from then on, `/readyz` says so, and the process ends, so that a supervisor
//! starts another, which has the capability to open sockets: at once when there is an interface of
//! the same name, else after some time, in which it may come.

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};
use tagwire_core::counters;
use tagwire_core::counters::add;
use tagwire_core::nic::{Interface, LinkState};
use tagwire_netstack::{Instant, MacAddr};

use super::gather::figures;
use crate::vlan::VlanConfig;

/// How long an interface that is gone is waited for: longer than a tool takes that deletes it and makes
/// it anew, and no longer than a supervisor should be kept from what it does about it.
const GONE_PATIENCE: Duration = Duration::from_secs(10);

counters! {
    /// What has become of the interface.
    LinkChanges {
        /// Its link came up.
        up,
        /// Somebody has set it down.
        down,
        /// It lost its carrier, or its master went down.
        no_carrier,
        /// It got another MAC address.
        mac,
        /// It got another MTU.
        mtu,
        /// It was deleted or moved away.
        gone,
        /// It is gone, and another one has its name.
        replaced,
    }
}

/// Why the process cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// The interface is gone.
    Gone,
    /// It is, and there is another one of its name.
    Replaced,
}

/// What the stacks are to be told, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// The interface's address.
    pub(super) mac: Option<MacAddr>,
    /// What packets may have in each VLAN.
    pub(super) mtus: Option<Vec<u16>>,
    /// Whether frames can be sent.
    pub(super) up: Option<bool>,
}

/// The interface as a worker knows it, and what it must be like.
#[derive(Debug)]
pub struct Link {
    interface: Interface,
    vlans: Box<[VlanConfig]>,
    /// The MTU at the start: ring slots and sending slots are made for it.
    most: u16,
    changes: LinkChanges,
    /// It is gone: the process ends then.
    ends_at: Option<Instant>,
    /// Whether this worker tells the log.
    speaks: bool,
}

impl Link {
    /// An interface that is up and carries what these VLANs need. One of the workers speaks for all.
    pub fn new(interface: &Interface, vlans: &[VlanConfig], speaks: bool) -> Self {
        Self {
            interface: interface.clone(),
            vlans: vlans.into(),
            most: interface.mtu,
            changes: LinkChanges::default(),
            ends_at: None,
            speaks,
        }
    }

    /// Whether requests can be served over it.
    pub(super) fn is_up(&self) -> bool {
        self.trouble().is_none()
    }

    /// The interface's name.
    pub(super) fn name(&self) -> &str {
        &self.interface.name
    }

    /// The interface's address.
    pub(super) fn mac(&self) -> MacAddr {
        MacAddr(self.interface.mac)
    }

    /// When the process ends, unless it is told to before.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.ends_at
    }

    /// Why the process ends, if it must by now.
    pub(super) fn end(&self, now: Instant) -> Option<LinkEnd> {
        self.ends_at.filter(|at| *at <= now)?;
        let replaced = self.interface.link == LinkState::Replaced;
        Some(if replaced { LinkEnd::Replaced } else { LinkEnd::Gone })
    }

    /// The interface is like this now: what the stacks must be told.
    pub(super) fn follow(&mut self, now: Instant, interface: &Interface) -> Steps {
        let was_up = self.is_up();
        let before = std::mem::replace(&mut self.interface, interface.clone());
        let mut steps = Steps::default();
        if before.mac != interface.mac {
            add(&self.changes.mac, 1);
            steps.mac = Some(self.mac());
        }
        if before.mtu != interface.mtu {
            add(&self.changes.mtu, 1);
            // With less than they need they keep what they have, and are not served.
            if interface.mtu >= self.least_mtu() {
                let mtu = interface.mtu.min(self.most);
                steps.mtus = Some(self.vlans.iter().map(|vlan| vlan.mtu_on(mtu)).collect());
            }
        }
        if before.link != interface.link {
            add(self.counter(), 1);
        }
        match interface.link {
            LinkState::Gone if self.ends_at.is_none() => self.ends_at = Some(now + GONE_PATIENCE),
            LinkState::Replaced => self.ends_at = Some(now),
            _ => {}
        }
        steps.up = Some(self.is_up()).filter(|up| *up != was_up);
        if self.speaks {
            self.report(&before);
        }
        steps
    }

    /// What counts that it came to be like this.
    fn counter(&self) -> &Cell<u64> {
        match self.interface.link {
            LinkState::Up => &self.changes.up,
            LinkState::Down => &self.changes.down,
            LinkState::NoCarrier => &self.changes.no_carrier,
            LinkState::Gone => &self.changes.gone,
            LinkState::Replaced => &self.changes.replaced,
        }
    }

    fn least_mtu(&self) -> u16 {
        self.vlans.iter().map(VlanConfig::least_mtu).max().unwrap_or(0)
    }

    /// Why nothing can be served over it.
    fn trouble(&self) -> Option<String> {
        let Interface { name, mtu, link, .. } = &self.interface;
        let least = self.least_mtu();
        match link {
            LinkState::Up if *mtu < least => Some(format!(
                "{name} has an MTU of {mtu} and needs {least}: ip link set {name} mtu {}",
                self.most
            )),
            LinkState::Up => None,
            LinkState::Down => Some(format!(
                "the link of {name} is down: somebody has set it down; ip link set {name} up"
            )),
            LinkState::NoCarrier => Some(format!(
                "the link of {name} is down: it has no carrier; a macvlan has none while its master \
                 is down"
            )),
            LinkState::Gone => Some(format!(
                "{name} is gone: it was deleted, by itself or with its master, or moved away"
            )),
            LinkState::Replaced => {
                Some(format!("{name} is gone, and the one of its name is another"))
            }
        }
    }

    /// Tells the log what has changed.
    fn report(&self, before: &Interface) {
        let Interface { name, mtu, link, .. } = &self.interface;
        if before.mac != self.interface.mac {
            let (was, mac) = (MacAddr(before.mac), self.mac());
            tracing::warn!(interface = name, %was, %mac, "another MAC address: it is announced");
        }
        if before.mtu != *mtu {
            let (was, used) = (before.mtu, (*mtu).min(self.most));
            if *mtu > self.most {
                tracing::warn!(
                    interface = name,
                    was,
                    mtu,
                    used,
                    "a larger MTU than that of the start: a restart makes use of it"
                );
            } else {
                tracing::warn!(
                    interface = name,
                    was,
                    mtu,
                    "another MTU: it is used where it suffices"
                );
            }
        }
        if before.link == *link && before.mtu == *mtu {
            return;
        }
        match (self.trouble(), link) {
            (Some(why), LinkState::Gone) => tracing::error!(
                why,
                seconds = GONE_PATIENCE.as_secs(),
                "nothing is served: it ends after this time, or when another interface has the name"
            ),
            (Some(why), _) => tracing::warn!(why, "nothing is served"),
            (None, _) if before.link != *link => {
                tracing::info!(interface = name, "the link is up");
            }
            (None, _) if before.mtu < self.least_mtu() => {
                tracing::info!(interface = name, mtu, "the MTU suffices: it serves again");
            }
            (None, _) => {}
        }
    }

    /// What `status` says of it.
    pub(super) fn status(&self) -> Value {
        let state = match self.interface.link {
            LinkState::Up if !self.is_up() => "mtu too small",
            LinkState::Up => "up",
            LinkState::Down => "down",
            LinkState::NoCarrier => "no carrier",
            LinkState::Gone => "gone",
            LinkState::Replaced => "replaced",
        };
        json!({
            "state": state,
            "trouble": self.trouble(),
            "mtu": self.interface.mtu,
            "changes": figures(self.changes.iter()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_address;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const START: Instant = Instant::from_millis(1000);

    fn interface(link: LinkState, mac: [u8; 6], mtu: u16) -> Interface {
        Interface { name: "macvlan0".to_owned(), index: 3, mac, mtu, link }
    }

    fn link(vlans: &[(&str, &str, Option<u16>)]) -> Link {
        let vlan = |&(id, address, mtu): &(&str, &str, Option<u16>)| VlanConfig {
            id: id.parse().unwrap(),
            pcp: 0,
            mtu,
            addresses: vec![parse_address(address).unwrap()],
            gateways: Vec::new(),
            slaac: false,
            acd: Default::default(),
        };
        let vlans: Vec<VlanConfig> = vlans.iter().map(vlan).collect();
        Link::new(&interface(LinkState::Up, MAC, 1500), &vlans, true)
    }

    const V4: (&str, &str, Option<u16>) = ("123", "10.0.0.5/24", None);
    const V6: (&str, &str, Option<u16>) = ("124", "fd00::5/64", None);

    #[test]
    fn what_the_stacks_are_told() {
        use LinkState::{Down, Gone, NoCarrier, Replaced, Up};
        let (mac, both) = (Some(MacAddr(OTHER_MAC)), &[V4, V6][..]);
        // Two tags are at the packet's expense; one that is configured smaller stays so.
        let tags = &[("100.7", "10.0.0.5/24", None), ("5", "10.0.0.5/24", Some(1000))][..];
        let mtus = |all: &[u16]| Some(all.to_vec());
        for (what, vlans, seen, expected) in [
            ("nothing", both, &[(Up, MAC, 1500)][..], &[(None, None, None)][..]),
            (
                "down and up",
                both,
                &[(Down, MAC, 1500), (Up, MAC, 1500)],
                &[(None, None, Some(false)), (None, None, Some(true))],
            ),
            (
                "down without a carrier is no more down",
                both,
                &[(NoCarrier, MAC, 1500), (Down, MAC, 1500), (Up, MAC, 1500)],
                &[(None, None, Some(false)), (None, None, None), (None, None, Some(true))],
            ),
            ("another MAC", both, &[(Up, OTHER_MAC, 1500)], &[(mac, None, None)]),
            (
                "another MAC while it is down",
                both,
                &[(Down, OTHER_MAC, 1500), (Up, OTHER_MAC, 1500)],
                &[(mac, None, Some(false)), (None, None, Some(true))],
            ),
            (
                "smaller, and as it was",
                both,
                &[(Up, MAC, 1400), (Up, MAC, 1500)],
                &[(None, mtus(&[1400, 1400]), None), (None, mtus(&[1500, 1500]), None)],
            ),
            (
                "larger than slots are made for",
                both,
                &[(Up, MAC, 9000)],
                &[(None, mtus(&[1500, 1500]), None)],
            ),
            (
                "each VLAN has its own",
                tags,
                &[(Up, MAC, 1400), (Up, MAC, 800)],
                &[(None, mtus(&[1392, 1000]), None), (None, mtus(&[792, 800]), None)],
            ),
            (
                "too small for IPv6, and enough again",
                both,
                &[(Up, MAC, 1279), (Up, MAC, 1280)],
                &[(None, None, Some(false)), (None, mtus(&[1280, 1280]), Some(true))],
            ),
            ("enough for IPv4", &[V4], &[(Up, MAC, 1279)], &[(None, mtus(&[1279]), None)]),
            ("too small for two tags", tags, &[(Up, MAC, 583)], &[(None, None, Some(false))]),
            (
                "gone for good",
                both,
                &[(Gone, MAC, 1500), (Replaced, MAC, 1500)],
                &[(None, None, Some(false)), (None, None, None)],
            ),
        ] {
            let mut link = link(vlans);
            for ((state, mac, mtu), (new_mac, mtus, up)) in seen.iter().zip(expected) {
                let steps = link.follow(START, &interface(*state, *mac, *mtu));
                let (mac, mtus) = (*new_mac, mtus.clone());
                assert_eq!(steps, Steps { mac, mtus, up: *up }, "{what}");
                assert_eq!(link.is_up(), link.status()["trouble"].is_null(), "{what}");
            }
        }
    }

    #[test]
    fn one_that_is_gone_ends_the_process_after_a_time_or_when_another_has_its_name() {
        let mut link = link(&[V4]);
        assert_eq!((link.ends_at(), link.end(START)), (None, None));
        link.follow(START, &interface(LinkState::Gone, MAC, 1500));
        let end = START + GONE_PATIENCE;
        assert_eq!((link.ends_at(), link.end(START)), (Some(end), None));
        // No news puts it off.
        link.follow(START + GONE_PATIENCE / 2, &interface(LinkState::Gone, MAC, 1400));
        assert_eq!((link.ends_at(), link.end(end)), (Some(end), Some(LinkEnd::Gone)));
        let soon = START + Duration::from_secs(1);
        link.follow(soon, &interface(LinkState::Replaced, MAC, 1500));
        assert_eq!(link.end(soon), Some(LinkEnd::Replaced));
    }

    #[test]
    fn each_change_is_counted_and_said() {
        use LinkState::{Down, Gone, NoCarrier, Replaced, Up};
        let mut link = link(&[V4, V6]);
        let mut see = |state, mac, mtu| {
            link.follow(START, &interface(state, mac, mtu));
            let status = link.status();
            let trouble = status["trouble"].as_str().unwrap_or_default().to_owned();
            let counts = status["changes"].as_object().unwrap().values();
            (status["state"].clone(), trouble, counts.map(|it| it.as_u64().unwrap()).sum::<u64>())
        };
        for (state, mac, mtu, name, part, count) in [
            (Down, MAC, 1500, "down", "ip link set macvlan0 up", 1),
            (NoCarrier, MAC, 1500, "no carrier", "master", 2),
            (Up, OTHER_MAC, 1500, "up", "", 4),
            (Up, OTHER_MAC, 1000, "mtu too small", "MTU of 1000 and needs 1280", 5),
            (Up, OTHER_MAC, 1500, "up", "", 6),
            (Gone, OTHER_MAC, 1500, "gone", "is gone: it was deleted", 7),
            (Replaced, OTHER_MAC, 1500, "replaced", "another", 8),
        ] {
            let (said, trouble, sum) = see(state, mac, mtu);
            assert_eq!((said, sum), (name.into(), count));
            assert!(trouble.contains(part) && trouble.is_empty() == part.is_empty(), "{trouble}");
        }
    }
}
