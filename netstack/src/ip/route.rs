//! Where an IPv4 packet goes next (RFC 1122 3.3.1): on the link, to the gateway, or nowhere.

use std::net::Ipv4Addr;

use crate::config::Ipv4Cidr;

/// A host's IPv4 addresses and routing table: the subnets on the link, at most one default
/// gateway.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    subnets: Vec<Ipv4Cidr>,
    gateway: Option<Ipv4Addr>,
}

impl Routes {
    pub(crate) fn new(subnets: Vec<Ipv4Cidr>, gateway: Option<Ipv4Addr>) -> Self {
        Self { subnets, gateway }
    }

    /// Our addresses with their subnets.
    pub(crate) fn subnets(&self) -> &[Ipv4Cidr] {
        &self.subnets
    }

    /// Whether `address` is one of ours.
    pub(crate) fn owns(&self, address: Ipv4Addr) -> bool {
        self.subnets.iter().any(|subnet| subnet.address == address)
    }

    /// Whether `address` means all hosts of one of our subnets.
    pub(crate) fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        self.subnets.iter().any(|subnet| subnet.broadcast() == Some(address))
    }

    /// Whether `address` can be another host's on the link.
    pub(crate) fn is_neighbor(&self, address: Ipv4Addr) -> bool {
        let special =
            |subnet: &Ipv4Cidr| [subnet.broadcast(), subnet.network()].contains(&Some(address));
        self.subnets.iter().any(|subnet| subnet.contains(address))
            && !self.subnets.iter().any(special)
    }

    /// The neighbour to hand a packet for `destination` to.
    pub(crate) fn next_hop(&self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.subnets.iter().any(|subnet| subnet.contains(destination)) {
            Some(destination)
        } else {
            self.gateway
        }
    }

    /// Which of our addresses speaks to the neighbour `hop`: the one of its subnet.
    pub(crate) fn source_for(&self, hop: Ipv4Addr) -> Option<Ipv4Addr> {
        let near = self.subnets.iter().find(|subnet| subnet.contains(hop));
        near.or(self.subnets.first()).map(|subnet| subnet.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 1);

    fn routes(gateway: Option<Ipv4Addr>) -> Routes {
        let first = Ipv4Cidr { address: Ipv4Addr::new(10, 1, 2, 3), prefix: 24 };
        let second = Ipv4Cidr { address: Ipv4Addr::new(172, 16, 0, 9), prefix: 16 };
        Routes::new(vec![first, second], gateway)
    }

    #[test]
    fn on_link_by_gateway_or_nowhere() {
        let far = Ipv4Addr::new(10, 1, 3, 1);
        for near in [Ipv4Addr::new(10, 1, 2, 200), Ipv4Addr::new(172, 16, 200, 1)] {
            assert_eq!(routes(Some(GATEWAY)).next_hop(near), Some(near));
        }
        assert_eq!(routes(Some(GATEWAY)).next_hop(far), Some(GATEWAY));
        assert_eq!(routes(None).next_hop(far), None);
    }

    #[test]
    fn a_neighbour_is_asked_from_the_address_of_its_subnet() {
        let routes = routes(None);
        let own = |hop: [u8; 4]| routes.source_for(hop.into()).unwrap().octets();
        assert_eq!(own([10, 1, 2, 1]), [10, 1, 2, 3]);
        assert_eq!(own([172, 16, 5, 5]), [172, 16, 0, 9]);
        assert_eq!(own([9, 9, 9, 9]), [10, 1, 2, 3]);
        assert_eq!(Routes::new(Vec::new(), None).source_for(GATEWAY), None);
    }

    #[test]
    fn the_ends_of_every_subnet_are_no_neighbours() {
        let routes = routes(None);
        for (address, neighbor) in [
            ([10, 1, 2, 0], false),
            ([10, 1, 2, 255], false),
            ([172, 16, 255, 255], false),
            ([172, 16, 0, 0], false),
            ([172, 16, 2, 255], true),
            ([10, 1, 2, 7], true),
            ([10, 1, 3, 7], false),
        ] {
            assert_eq!(routes.is_neighbor(address.into()), neighbor, "{address:?}");
        }
    }
}
