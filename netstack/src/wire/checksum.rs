//! The Internet checksum (RFC 1071).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A sum in progress: 16-bit one's complement, kept wide until it is folded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// An empty sum.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds octets that begin on an even offset of the summed message.
    ///
    /// Eight at a time in native order: the one's complement sum is the same in either
    /// byte order up to a swap (RFC 1071 2 (B)), which [`Sum::fold`] does once.
    pub fn feed(self, octets: &[u8]) -> Self {
        let (words, rest) = octets.as_chunks::<8>();
        let mut sum = self.0;
        for word in words {
            let word = u64::from_ne_bytes(*word);
            let (wrapped, carry) = sum.overflowing_add(word);
            sum = wrapped + u64::from(carry);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            let (wrapped, carry) = sum.overflowing_add(u64::from_ne_bytes(last));
            sum = wrapped + u64::from(carry);
        }
        Self(sum)
    }

    /// The folded 16-bit sum, not complemented: what a field holds while its completion is
    /// left to the link (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    pub fn fold(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// The checksum: the complement of the folded sum. Over data that contains its own
    /// correct checksum it is zero.
    pub fn finish(self) -> u16 {
        !self.fold()
    }
}

/// The sum over IPv4's pseudo-header (RFC 9293 3.1).
pub fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Sum {
    let mut header = [0; 12];
    header[..4].copy_from_slice(&source.octets());
    header[4..8].copy_from_slice(&destination.octets());
    header[9] = protocol;
    header[10..].copy_from_slice(&length.to_be_bytes());
    Sum::new().feed(&header)
}

/// The sum over IPv6's pseudo-header (RFC 8200 8.1).
pub fn pseudo_header_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    length: u32,
) -> Sum {
    let mut header = [0; 40];
    header[..16].copy_from_slice(&source.octets());
    header[16..32].copy_from_slice(&destination.octets());
    header[32..36].copy_from_slice(&length.to_be_bytes());
    header[39] = next_header;
    Sum::new().feed(&header)
}

/// The pseudo-header's sum for two addresses of one family; `None` if they are not.
pub fn pseudo_header_of(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
) -> Option<Sum> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Some(pseudo_header(source, destination, protocol, length as u16))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Some(pseudo_header_v6(source, destination, protocol, length as u32))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 4.1's algorithm, to the letter.
    fn plain(octets: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in octets.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let sum = Sum::new().feed(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
    }

    proptest! {
        #[test]
        fn equals_the_plain_algorithm(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::new().feed(&octets).finish(), plain(&octets));
        }

        #[test]
        fn a_sum_in_even_parts_is_the_sum_of_the_whole(
            octets in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..100,
        ) {
            let cut = (cut * 2).min(octets.len() & !1);
            let (head, tail) = octets.split_at(cut);
            prop_assert_eq!(
                Sum::new().feed(head).feed(tail).finish(),
                Sum::new().feed(&octets).finish()
            );
        }
    }
}
