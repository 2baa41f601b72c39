//! Which IPv4 packets are ours (RFC 1122 3.2.1).

use std::net::Ipv4Addr;

use super::route::Routes;
use crate::stats::Stats;
use crate::wire::WireError;
use crate::wire::ipv4::{self, Packet, Part};
use crate::wire::tcp;

/// A packet that was admitted.
pub(crate) struct Admitted<'a> {
    pub(crate) packet: Packet<'a>,
    /// To one of our unicast addresses; otherwise it is a broadcast.
    pub(crate) unicast: bool,
}

/// Validates a packet and its addresses; counts why it is dropped.
pub(crate) fn admit<'a>(
    routes: &Routes,
    stats: &mut Stats,
    octets: &'a [u8],
) -> Option<Admitted<'a>> {
    let packet = match ipv4::parse(octets) {
        Ok(packet) => packet,
        Err(WireError::Checksum) => {
            stats.drop_checksum += 1;
            return None;
        }
        Err(WireError::Malformed) => {
            stats.drop_malformed += 1;
            return None;
        }
    };
    let unicast = routes.owns(packet.destination);
    let broadcast =
        packet.destination == Ipv4Addr::BROADCAST || routes.is_broadcast(packet.destination);
    if !unicast && !broadcast {
        stats.drop_address += 1;
        return None;
    }
    if is_martian(packet.source, routes) {
        stats.drop_martian += 1;
        return None;
    }
    if packet.source_routed {
        stats.drop_options += 1;
        return None;
    }
    if let Some(part) = packet.fragment
        && (!unicast || is_tiny(&packet, part))
    {
        stats.drop_fragment += 1;
        return None;
    }
    Some(Admitted { packet, unicast })
}

/// RFC 1858 3.2, RFC 3128: TCP's header is whole in the first fragment and begins in no other.
fn is_tiny(packet: &Packet<'_>, part: Part) -> bool {
    packet.protocol == ipv4::PROTOCOL_TCP
        && match part.offset {
            0 => packet.payload.len() < tcp::HEADER_LEN,
            offset => offset < tcp::HEADER_LEN,
        }
}

/// RFC 1122 3.2.1.3: sources that no other host can have.
fn is_martian(source: Ipv4Addr, routes: &Routes) -> bool {
    source.octets()[0] == 0
        || source.is_loopback()
        || source.is_multicast()
        || source.octets()[0] >= 240
        || routes.owns(source)
        || routes.is_broadcast(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ipv4Cidr;

    #[test]
    fn martian_sources() {
        let first = Ipv4Cidr { address: Ipv4Addr::new(192, 168, 123, 150), prefix: 24 };
        let second = Ipv4Cidr { address: Ipv4Addr::new(10, 0, 0, 1), prefix: 30 };
        let routes = Routes::new(vec![first, second], None);
        for martian in [
            [0, 0, 0, 0],
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [255, 255, 255, 255],
            [240, 0, 0, 1],
            [192, 168, 123, 150],
            [192, 168, 123, 255],
            [10, 0, 0, 1],
            [10, 0, 0, 3],
        ] {
            assert!(is_martian(Ipv4Addr::from(martian), &routes), "{martian:?}");
        }
        assert!(!is_martian(Ipv4Addr::new(192, 168, 123, 1), &routes));
        assert!(!is_martian(Ipv4Addr::new(8, 8, 8, 8), &routes));
    }
}
