//! A VLAN that the appliance lives in, as it is configured.

use std::net::IpAddr;

use tagwire_core::packet::{MAX_VLANS, Vlan};
use tagwire_netstack::{Acd, IpCidr, VlanStack};

use crate::config::{MAX_MTU, MIN_MTU, MIN_MTU_IPV6};

/// Own addresses in a VLAN at the most: each costs a look at every frame.
const MAX_ADDRESSES: usize = 16;

/// Octets of two VLAN tags.
const TWO_TAGS: u16 = 8;

/// One of the interface's VLANs, or what comes without a tag, and who the appliance is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanConfig {
    /// Its tag, or two in each other, or none.
    pub id: VlanStack,
    /// Priority of what is sent, 0 to 7.
    pub pcp: u8,
    /// The largest IP packet in octets; `None`: the interface's.
    pub mtu: Option<u16>,
    /// The own addresses and their networks.
    pub addresses: Vec<IpCidr>,
    /// Default gateways, one for each family at the most, inside of those networks.
    pub gateways: Vec<IpAddr>,
    /// Take IPv6 addresses and routers from router advertisements.
    pub slaac: bool,
    /// Whether addresses are probed for before they are used.
    pub acd: Acd,
}

impl VlanConfig {
    /// Whether there are IPv6 addresses, or may be.
    pub fn speaks_ipv6(&self) -> bool {
        self.slaac || self.addresses.iter().any(|address| address.address().is_ipv6())
    }

    /// What its tags cost a packet. The kernel lets a packet socket's frames have one 802.1Q tag beside the
    /// MTU, but no 802.1ad one (`packet_extra_vlan_len_allowed`).
    pub fn tags_len(&self) -> u16 {
        if self.id.inner().is_some() { TWO_TAGS } else { 0 }
    }

    /// The MTU to use on an interface of this one: that, or the smaller one that was asked for.
    pub fn mtu_on(&self, interface: u16) -> u16 {
        let most = interface.saturating_sub(self.tags_len()).min(MAX_MTU);
        self.mtu.map_or(most, |mtu| mtu.min(most))
    }

    /// The least MTU that an interface must have.
    pub fn least_mtu(&self) -> u16 {
        let needed = if self.speaks_ipv6() { MIN_MTU_IPV6 } else { MIN_MTU };
        needed + self.tags_len()
    }

    /// What the packet filter is to let through.
    pub fn filter(&self) -> Vlan {
        match (self.id.outer(), self.id.inner()) {
            (Some(outer), Some(inner)) => Vlan::Stacked { outer, inner },
            (Some(vid), None) => Vlan::Tagged(vid),
            (None, _) => Vlan::Untagged,
        }
    }

    /// Checks what concerns more than one of the settings.
    ///
    /// # Errors
    /// They do not go together; the text says what to do.
    pub fn check(&self) -> Result<(), String> {
        let addresses = &self.addresses;
        if addresses.is_empty() && !self.slaac {
            return Err("--address <ADDRESS> is missing; give one as 192.168.123.150/24, or \
                        --slaac for IPv6 by router advertisements"
                .to_owned());
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(format!("{} addresses; give {MAX_ADDRESSES} or less", addresses.len()));
        }
        for (at, address) in addresses.iter().enumerate() {
            if addresses[..at].iter().any(|other| other.address() == address.address()) {
                return Err(format!("{} is given twice; give it once", address.address()));
            }
        }
        check_gateways(addresses, &self.gateways)?;
        match self.mtu {
            Some(mtu) if mtu < MIN_MTU_IPV6 && self.speaks_ipv6() => Err(format!(
                "an MTU of {mtu} carries no IPv6; give {MIN_MTU_IPV6} or more, or IPv4 addresses \
                 only"
            )),
            _ => Ok(()),
        }
    }

    /// Checks whether this one may be beside `others`.
    ///
    /// # Errors
    /// It is one of them, or one too many.
    pub fn check_beside(&self, others: &[Self]) -> Result<(), String> {
        if others.iter().any(|other| other.id == self.id) {
            let id = self.id;
            return Err(format!("VLAN {id} is there already; give each one [[vlan]]"));
        }
        if others.len() >= MAX_VLANS {
            return Err(format!("more than {MAX_VLANS} VLANs; start another process for the rest"));
        }
        Ok(())
    }
}

/// Which VLANs these are.
pub(crate) fn ids(vlans: &[VlanConfig]) -> Vec<VlanStack> {
    vlans.iter().map(|vlan| vlan.id).collect()
}

/// Checks that each gateway can be reached directly, and that there is one for a family at the
/// most.
///
/// # Errors
/// One cannot be; the text says what to do.
fn check_gateways(addresses: &[IpCidr], gateways: &[IpAddr]) -> Result<(), String> {
    for (at, gateway) in gateways.iter().enumerate() {
        if gateways[..at].iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
            return Err(format!("gateway {gateway} is a second one; name one for each family"));
        }
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let networks = || addresses.iter().filter(|network| network.contains(*gateway));
        if networks().next().is_none() && !link_local {
            let listed: Vec<_> = addresses.iter().map(IpCidr::to_string).collect();
            return Err(format!(
                "gateway {gateway} is not in the network of {}; name a router inside of it",
                listed.join(" or ")
            ));
        }
        for network in networks() {
            let taken = match (network, gateway) {
                (IpCidr::V4(cidr), IpAddr::V4(gateway)) => {
                    [cidr.network(), cidr.broadcast()].contains(&Some(*gateway))
                }
                _ => false,
            };
            if taken || network.address() == *gateway {
                return Err(format!("gateway {gateway} is not a router's address in {network}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_address;

    #[test]
    fn gateways() {
        let addresses = ["192.168.123.150/24", "10.1.2.3/16", "fd00:123::150/64"]
            .map(|text| parse_address(text).unwrap());
        let check = |gateways: &[&str]| {
            let gateways: Vec<_> = gateways.iter().map(|text| text.parse().unwrap()).collect();
            check_gateways(&addresses, &gateways)
        };
        for fine in [
            &[][..],
            &["192.168.123.1"],
            &["10.1.0.1", "fd00:123::1"],
            &["fe80::1"],
            &["fd00:123::"],
        ] {
            assert_eq!(check(fine), Ok(()), "{fine:?}");
        }
        for (bad, part) in [
            (&["10.2.0.1"][..], "not in the network of 192.168.123.150/24 or 10.1.2.3/16 or fd00"),
            (&["fd00:124::1"], "not in the network"),
            (&["10.1.0.1", "192.168.123.1"], "a second one"),
            (&["fe80::1", "fe80::2"], "a second one"),
            (&["192.168.123.150"], "not a router's address"),
            (&["192.168.123.255"], "not a router's address"),
            (&["10.1.0.0"], "not a router's address"),
            (&["fd00:123::150"], "not a router's address"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(part), "{bad:?}: {error}");
        }
    }
}
