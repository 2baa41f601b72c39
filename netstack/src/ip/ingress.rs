//! Which IPv4 packets are ours (RFC 1122 3.2.1).

use std::net::Ipv4Addr;

use crate::config::Ipv4Cidr;
use crate::stats::Stats;
use crate::wire::WireError;
use crate::wire::ipv4::{self, Packet};

/// A packet that was admitted.
pub(crate) struct Admitted<'a> {
    pub(crate) packet: Packet<'a>,
    /// To one of our unicast addresses; otherwise it is a broadcast.
    pub(crate) unicast: bool,
}

/// Validates a packet and its addresses; counts why it is dropped.
pub(crate) fn admit<'a>(
    subnet: Ipv4Cidr,
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
    let unicast = packet.destination == subnet.address;
    let broadcast =
        packet.destination == Ipv4Addr::BROADCAST || Some(packet.destination) == subnet.broadcast();
    if !unicast && !broadcast {
        stats.drop_address += 1;
        return None;
    }
    if is_martian(packet.source, subnet) {
        stats.drop_martian += 1;
        return None;
    }
    if packet.is_fragment {
        stats.drop_fragment += 1;
        return None;
    }
    Some(Admitted { packet, unicast })
}

/// RFC 1122 3.2.1.3: sources that no other host can have.
fn is_martian(source: Ipv4Addr, subnet: Ipv4Cidr) -> bool {
    source.octets()[0] == 0
        || source.is_loopback()
        || source.is_multicast()
        || source.octets()[0] >= 240
        || source == subnet.address
        || Some(source) == subnet.broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn martian_sources() {
        let subnet = Ipv4Cidr { address: Ipv4Addr::new(192, 168, 123, 150), prefix: 24 };
        for martian in [
            [0, 0, 0, 0],
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [255, 255, 255, 255],
            [240, 0, 0, 1],
            [192, 168, 123, 150],
            [192, 168, 123, 255],
        ] {
            assert!(is_martian(Ipv4Addr::from(martian), subnet), "{martian:?}");
        }
        assert!(!is_martian(Ipv4Addr::new(192, 168, 123, 1), subnet));
        assert!(!is_martian(Ipv4Addr::new(8, 8, 8, 8), subnet));
    }
}
