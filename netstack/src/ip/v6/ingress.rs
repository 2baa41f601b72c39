//! Which IPv6 packets are ours (RFC 8200, RFC 4291 2).

use std::net::Ipv6Addr;

use super::Ipv6;
use crate::stats::Stats;
use crate::wire::ipv6::{self, Packet};

/// A packet that was admitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted<'a> {
    pub(crate) packet: Packet<'a>,
    /// To one of our unicast addresses; otherwise to a group that we are in.
    pub(crate) unicast: bool,
    /// From `::` or from an address that we have or want: only duplicate detection says such
    /// things.
    pub(crate) contends: bool,
}

impl Ipv6 {
    /// Validates a packet and its addresses; counts why it is dropped.
    pub(crate) fn admit<'a>(&self, stats: &mut Stats, octets: &'a [u8]) -> Option<Admitted<'a>> {
        let Ok(packet) = ipv6::parse(octets) else {
            stats.drop_malformed += 1;
            return None;
        };
        let ipv6::Header { source, destination, .. } = packet.header;
        let unicast = self.addresses.owns(destination);
        if !unicast && !self.is_member(destination) {
            stats.drop_address += 1;
            return None;
        }
        if is_martian(source) {
            stats.drop_martian += 1;
            return None;
        }
        let contends = source.is_unspecified() || self.addresses.state(source).is_some();
        Some(Admitted { packet, unicast, contends })
    }
}

/// Sources that no other host can have (RFC 4291 2.5.3, 2.5.5.2, 2.7).
fn is_martian(source: Ipv6Addr) -> bool {
    source.is_multicast() || source.is_loopback() || source.to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn martian_sources() {
        for martian in ["::1", "ff02::1", "ff0e::7", "::ffff:10.0.0.1"] {
            assert!(is_martian(martian.parse().unwrap()), "{martian}");
        }
        for honest in ["fe80::1", "2001:db8::1", "fd00::1", "::"] {
            assert!(!is_martian(honest.parse().unwrap()), "{honest}");
        }
    }
}
