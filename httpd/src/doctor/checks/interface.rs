//! What the interface is, and what of the kernel's is in the way on it.

use std::net::IpAddr;

use tagwire_core::nic::Interface;
use tagwire_netstack::MacAddr;

use super::super::facts::Facts;
use super::super::network::{Below, Link};
use super::super::rivals::Rival;
use super::super::{Finding, Verdict};
use crate::appliance;
use crate::config::Config;
use crate::vlan::VlanConfig;

use Verdict::{Failed, Unknown, Warning};

/// Ethertypes of tags: 802.1Q, and 802.1ad around it.
const CUSTOMER: u16 = 0x8100;
const SERVICE: u16 = 0x88a8;

/// The interface, and the rest of the namespace as far as it can be seen.
pub(super) struct View<'a> {
    config: &'a Config,
    interface: &'a Interface,
    features: &'a Result<Vec<String>, String>,
    links: Result<&'a [Link], &'a str>,
    link: Option<&'a Link>,
}

impl<'a> View<'a> {
    pub(super) fn new(config: &'a Config, facts: &'a Facts, interface: &'a Interface) -> Self {
        let links = facts.links.as_deref().map_err(String::as_str);
        let link = links.unwrap_or_default().iter().find(|link| link.name == interface.name);
        Self { config, interface, features: &facts.features, links, link }
    }

    fn vlans(&self) -> impl Iterator<Item = &'a VlanConfig> {
        self.config.vlans.iter()
    }

    /// One of our addresses that the kernel has on `link`, in a VLAN that `there` says.
    fn same_address(
        &self,
        link: &Link,
        there: impl Fn(&VlanConfig) -> bool,
    ) -> Option<(IpAddr, u8)> {
        let ours = |address| {
            let mut vlans = self.vlans().filter(|vlan| there(vlan));
            vlans.any(|vlan| vlan.addresses.iter().any(|own| own.address() == address))
        };
        link.addresses.iter().copied().find(|(address, _)| ours(*address))
    }

    fn others(&self) -> impl Iterator<Item = &'a Link> {
        self.links.unwrap_or_default().iter()
    }

    /// The VLAN devices on `link` whose tag is one of ours, with it.
    fn devices_on(&self, link: &Link) -> impl Iterator<Item = (&'a Link, &'a VlanConfig)> {
        let on = Below::Here(link.index);
        let devices = self.others().filter(move |device| device.below == on);
        devices.filter_map(|device| {
            let vlan = self.vlans().find(|vlan| device.tag.is_some() && device.tag == tag(vlan))?;
            Some((device, vlan))
        })
    }

    /// The interface that ours stands on, where it is in this namespace and not a cable's other end.
    fn master(&self) -> Option<&'a Link> {
        let link = self.link?;
        let Below::Here(index) = link.below else { return None };
        let stands = link.kind.as_deref() != Some("veth");
        self.others().find(|other| stands && other.index == index)
    }
}

/// The outer tag of what we take: ethertype and VID.
fn tag(vlan: &VlanConfig) -> Option<(u16, u16)> {
    let vid = vlan.id.outer()?;
    Some((if vlan.id.inner().is_some() { SERVICE } else { CUSTOMER }, vid))
}

pub(super) fn interface(view: &View<'_>) -> Finding {
    let name = &view.interface.name;
    let mac = MacAddr(view.interface.mac);
    let Some(link) = view.link else {
        let why = view.links.err().unwrap_or("it is not listed");
        return Finding::new(
            "interface",
            Unknown,
            format!("{name}, {mac}; its type and what is around it cannot be seen ({why})"),
            "allow socket(AF_NETLINK) in the seccomp profile, or look with 'ip -d link' and 'ip address'",
        );
    };
    match (link.kind.as_deref(), link.tag) {
        (Some(kind @ ("ipvlan" | "ipvtap")), _) => Finding::new(
            "interface",
            Failed,
            format!(
                "{name} is an {kind}, which passes up what is for the kernel's own addresses only"
            ),
            "use a macvlan",
        ),
        (_, Some((_, vid))) if view.vlans().any(|vlan| tag(vlan) == link.tag) => Finding::new(
            "interface",
            Warning,
            format!("{name} stands for VLAN {vid}: its frames come without that tag"),
            "serve with --vlan 0, unless there is a second tag in the first",
        ),
        (kind, _) => Finding::fine(
            "interface",
            format!("{name}, {}, {mac}", kind.unwrap_or("a network card")),
        ),
    }
}

pub(super) fn link(view: &View<'_>) -> Finding {
    let name = &view.interface.name;
    if view.interface.is_up() {
        return Finding::fine("link", "up");
    }
    let remedy = match view.master() {
        Some(master) if !master.up => {
            format!("set up what it stands on, {}: 'ip link set {0} up'", master.name)
        }
        _ => format!("'ip link set {name} up', or see to the cable, and to the interface below it"),
    };
    Finding::new("link", Failed, format!("{name} is down"), remedy)
}

pub(super) fn mtu(view: &View<'_>) -> Finding {
    let refused = view.vlans().find_map(|vlan| appliance::mtu(vlan, view.interface).err());
    match refused {
        Some(error) => Finding::said("mtu", Failed, &error),
        None => Finding::fine("mtu", view.interface.mtu.to_string()),
    }
}

/// Who computes what. Nothing of it keeps us from serving: frames that were merged (GRO, LRO) come
/// whole beside the ring, and a tag that the card has taken off is told with the frame.
pub(super) fn offloads(view: &View<'_>) -> Finding {
    let Ok(features) = view.features else { return unseen("offloads", view) };
    let any = |names: &[&str]| names.iter().any(|name| features.iter().any(|it| it == name));
    let by = |card: bool| if card { "the card" } else { "the kernel" };
    let checksums = by(any(&["tx-checksum-ip-generic", "tx-checksum-ipv4"]));
    let segments = by(any(&["tx-tcp-segmentation"]));
    let verified = if any(&["rx-checksum"]) { "the card" } else { "Tagwire" };
    let merging = ["rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro"];
    let merged: Vec<_> = merging.into_iter().filter(|name| any(&[name])).collect();
    let merged = if merged.is_empty() {
        "nothing merged".to_owned()
    } else {
        format!("merged by {}, which costs a copy", merged.join(", "))
    };
    Finding::fine(
        "offloads",
        format!(
            "sent: checksums by {checksums}, segments by {segments}; received: checksums by \
             {verified}, {merged}"
        ),
    )
}

/// A card that lets pass only the VLANs that were registered with it. A macvlan shows its master's.
pub(super) fn vlan_filter(view: &View<'_>) -> Option<Finding> {
    let mut tags = view.vlans().filter_map(tag).peekable();
    tags.peek()?;
    let Ok(features) = view.features else { return Some(unseen("vlan-filter", view)) };
    let name = &view.interface.name;
    let filtered = tags.find_map(|(protocol, vid)| {
        let filter = if protocol == SERVICE { "rx-vlan-stag-filter" } else { "rx-vlan-filter" };
        features.iter().any(|it| it == filter).then_some((filter, vid))
    });
    let Some((filter, vid)) = filtered else {
        return Some(Finding::fine("vlan-filter", format!("none on {name}")));
    };
    let card = match view.link.and_then(|link| link.kind.as_deref()) {
        Some("macvlan" | "macvtap") => view.master().map_or("MASTER", |master| &master.name),
        _ => name,
    };
    Some(Finding::new(
        "vlan-filter",
        Warning,
        format!(
            "{filter} is on, and a macvlan or packet socket does not register VLAN {vid} with the card: the \
             sign is that it works only while tcpdump runs"
        ),
        format!("'ethtool -K {card} {filter} off' on the node"),
    ))
}

/// The kernel answers for its addresses, and resets connections to them.
pub(super) fn addresses(view: &View<'_>) -> Option<Finding> {
    let (link, name) = (view.link?, &view.interface.name);
    let untagged = |vlan: &VlanConfig| tag(vlan).is_none();
    let remedy = |device: &str, (address, prefix)| {
        format!(
            "'ip address del {address}/{prefix} dev {device}', and leave IPAM out of the \
             NetworkAttachmentDefinition"
        )
    };
    let on_device = view.devices_on(link).find_map(|(device, vlan)| {
        Some((device, view.same_address(device, |other| other.id == vlan.id)?))
    });
    let fights = view.same_address(link, untagged).map(|own| (link, own)).or(on_device);
    if let Some((device, own)) = fights {
        let (device, address) = (&device.name, own.0);
        return Some(Finding::new(
            "addresses",
            Failed,
            format!(
                "the kernel has {address} on {device} itself, and resets each connection to it"
            ),
            remedy(device, own),
        ));
    }
    if let Some(own) = view.same_address(link, |vlan| !untagged(vlan)) {
        return Some(Finding::new(
            "addresses",
            Warning,
            format!("the kernel has {} on {name} too, outside of the VLAN", own.0),
            remedy(name, own),
        ));
    }
    // Each IPv6 interface has a link-local address.
    let global = |it: &&(IpAddr, u8)| !matches!(it.0, IpAddr::V6(v6) if v6.is_unicast_link_local());
    Some(match link.addresses.iter().find(global) {
        Some((address, _)) => {
            Finding::fine("addresses", format!("the kernel has {address} on {name}, none of ours"))
        }
        None => Finding::fine("addresses", format!("none of the kernel's on {name}")),
    })
}

/// Another station that answers for an address of ours.
pub(super) fn address_in_use(facts: &Facts) -> Option<Finding> {
    let rivals = match facts.rivals.as_ref()? {
        Ok(rivals) => rivals,
        Err(error) => return Some(Finding::said("address-in-use", Unknown, error)),
    };
    let all: Vec<_> = rivals
        .iter()
        .map(|Rival { address, vlan, mac }| format!("{mac} has {address} in VLAN {vlan}"))
        .collect();
    Some(if all.is_empty() {
        Finding::fine("address-in-use", "no other station answers for what is ours")
    } else {
        let remedy = "remove one of the two, or give Tagwire another with --address";
        Finding::new("address-in-use", Failed, all.join(", "), remedy)
    })
}

/// VLAN devices of the kernel's on the interface.
pub(super) fn vlan_device(view: &View<'_>) -> Option<Finding> {
    let (device, vlan) = view.devices_on(view.link?).next()?;
    let name = &device.name;
    Some(Finding::new(
        "vlan-device",
        Warning,
        format!("the kernel has VLAN {} too, by {name}, and answers there for itself", vlan.id),
        format!("'ip link del {name}': Tagwire needs none"),
    ))
}

/// What a macvlan stands on.
pub(super) fn master(view: &View<'_>) -> Option<Finding> {
    let link = view.link?;
    let name = &link.name;
    let (tags, untagged): (Vec<_>, Vec<_>) = view.vlans().partition(|vlan| tag(vlan).is_some());
    if link.below == Below::Elsewhere && link.kind.as_deref() != Some("veth") {
        let vlans: Vec<_> = tags.iter().map(|vlan| vlan.id.to_string()).collect();
        let vlans = if vlans.is_empty() {
            "our address".to_owned()
        } else {
            format!("VLAN {}", vlans.join(", "))
        };
        return Some(Finding::new(
            "master",
            Unknown,
            format!("what {name} stands on is in another namespace"),
            format!(
                "see to it on the node that nothing of the kernel's there has {vlans}: 'ip -d link show \
                 type vlan', 'ip address'"
            ),
        ));
    }
    let master = view.master()?;
    let below = &master.name;
    if let Some((device, vlan)) = view.devices_on(master).next() {
        return Some(Finding::new(
            "master",
            Failed,
            format!(
                "VLAN {} of {below} goes to its device {}, and never comes to {name}",
                vlan.id, device.name
            ),
            format!(
                "'ip link del {0}', or stand {name} on {0} and serve with --vlan 0",
                device.name
            ),
        ));
    }
    let in_untagged = |vlan: &VlanConfig| untagged.iter().any(|it| it.id == vlan.id);
    if let Some((address, _)) = view.same_address(master, in_untagged) {
        return Some(Finding::new(
            "master",
            Failed,
            format!("the kernel has {address} on {below}, and answers for it in the same network"),
            format!("take it away from {below}, or give Tagwire another with --address"),
        ));
    }
    Some(Finding::fine("master", format!("{below} has no VLAN device and no address in the way")))
}

fn unseen(check: &'static str, view: &View<'_>) -> Finding {
    let name = &view.interface.name;
    let why = view.features.as_ref().err().map_or("", String::as_str);
    let found = format!("the features of {name} cannot be seen ({why})");
    Finding::new(check, Unknown, found, format!("look with 'ethtool -k {name}'"))
}
