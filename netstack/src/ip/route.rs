//! Where a packet goes next (RFC 1122 3.3.1): on the link, to the gateway, or nowhere.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::Ipv4Cidr;

/// A host's routing table: one subnet, at most one default gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routes {
    pub(crate) subnet: Ipv4Cidr,
    pub(crate) gateway: Option<Ipv4Addr>,
}

impl Routes {
    /// The neighbour to hand a packet for `destination` to.
    pub(crate) fn next_hop(&self, destination: IpAddr) -> Option<IpAddr> {
        match destination {
            IpAddr::V4(near) if self.subnet.contains(near) => Some(destination),
            IpAddr::V4(_) => self.gateway.map(IpAddr::V4),
            IpAddr::V6(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_link_by_gateway_or_nowhere() {
        let subnet = Ipv4Cidr { address: Ipv4Addr::new(10, 1, 2, 3), prefix: 24 };
        let near = IpAddr::from([10, 1, 2, 200]);
        let far = IpAddr::from([10, 1, 3, 1]);
        let gateway = Some(Ipv4Addr::new(10, 1, 2, 1));
        let routes = Routes { subnet, gateway };
        assert_eq!(routes.next_hop(near), Some(near));
        assert_eq!(routes.next_hop(far), gateway.map(IpAddr::V4));
        assert_eq!(Routes { subnet, gateway: None }.next_hop(far), None);
    }
}
