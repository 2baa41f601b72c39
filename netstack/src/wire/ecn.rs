//! The ECN field of IP headers (RFC 3168 5): two bits of IPv4's TOS and IPv6's traffic class.

/// What the field says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ecn {
    /// The transport does not take marks: congestion drops the packet.
    #[default]
    NotEct,
    /// Reserved for experiments (RFC 8311).
    Ect1,
    /// The transport takes marks.
    Ect0,
    /// Congestion experienced.
    Ce,
}

impl Ecn {
    /// The field of a TOS or traffic class octet.
    pub const fn of(class: u8) -> Self {
        match class & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0,
            Self::Ect1 => 1,
            Self::Ect0 => 2,
            Self::Ce => 3,
        }
    }
}

/// Writes the field into a complete header of either family; IPv4's checksum follows (RFC 1624 3).
/// Needs the header's first 12 octets.
pub fn mark(packet: &mut [u8], ecn: Ecn) {
    if packet[0] >> 4 == 6 {
        packet[1] = packet[1] & !0x30 | ecn.bits() << 4;
        return;
    }
    let old = u16::from_be_bytes([packet[0], packet[1]]);
    packet[1] = packet[1] & !3 | ecn.bits();
    let new = u16::from_be_bytes([packet[0], packet[1]]);
    let sum = u16::from_be_bytes([packet[10], packet[11]]);
    let mut sum = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{ipv4, ipv6};

    const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

    proptest! {
        #[test]
        fn a_marked_ipv4_header_is_still_sound(from: u32, to: u32, length in 0usize..1480) {
            let mut packet = vec![0; ipv4::HEADER_LEN + length];
            ipv4::emit(&mut packet, Ipv4Addr::from(from), Ipv4Addr::from(to), 6, length);
            let plain = packet.clone();
            for ecn in ALL {
                mark(&mut packet, ecn);
                let parsed = ipv4::parse(&packet);
                prop_assert_eq!(parsed.map(|packet| Ecn::of(packet.traffic_class)), Ok(ecn));
            }
            mark(&mut packet, Ecn::NotEct);
            prop_assert_eq!(packet, plain);
        }
    }

    #[test]
    fn ipv6_carries_it_beside_version_and_flow_label() {
        let header = ipv6::Header {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
            next_header: ipv6::NEXT_TCP,
            hop_limit: 64,
            flow_label: 0xf_ffff,
        };
        let mut packet = vec![0; ipv6::HEADER_LEN];
        ipv6::emit(&mut packet, &header, 0);
        for ecn in ALL {
            mark(&mut packet, ecn);
            let parsed = ipv6::parse(&packet).expect("a packet");
            assert_eq!((Ecn::of(parsed.traffic_class), parsed.header), (ecn, header));
        }
    }
}
