//! IPv4 headers (RFC 791).

use std::net::Ipv4Addr;

use etherparse::Ipv4HeaderSlice;

use super::{WireError, checksum::Sum};

/// Octets of a header without options: all that we send.
pub const HEADER_LEN: usize = 20;
/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// Time to live of what we send (RFC 1700's recommendation, Linux's default).
pub const TTL: u8 = 64;

/// A packet taken apart, its header's checksum verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// DSCP and ECN: the octet that was the type of service.
    pub traffic_class: u8,
    /// Which part of a fragmented datagram it is, if it is one.
    pub fragment: Option<Part>,
    /// It came with a source route (RFC 791 3.1), which no host should follow (RFC 7126 4.3).
    pub source_routed: bool,
    /// The octets that the total length covers after the header and its options.
    pub payload: &'a [u8],
}

/// A fragment's place in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The datagram's identification.
    pub id: u16,
    /// Octets before it.
    pub offset: usize,
    /// More follow.
    pub more: bool,
}

/// Whether a header's options hold a loose or strict source route. All others are skipped; so
/// is what follows one that cannot be read.
fn is_source_routed(mut options: &[u8]) -> bool {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    while let [kind, rest @ ..] = options {
        options = match (*kind, rest.first()) {
            (END, _) => return false,
            (NOP, _) => rest,
            (LOOSE | STRICT, _) => return true,
            (_, Some(&length)) if length >= 2 => options.get(length.into()..).unwrap_or(&[]),
            _ => return false,
        };
    }
    false
}

/// Reads a packet.
pub fn parse(octets: &[u8]) -> Result<Packet<'_>, WireError> {
    let header = Ipv4HeaderSlice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    let header_len = header.slice().len();
    let total_len = usize::from(header.total_len());
    if total_len < header_len || total_len > octets.len() {
        return Err(WireError::Malformed);
    }
    // RFC 1122 3.2.1.2: verify the header of every datagram.
    if Sum::new().feed(header.slice()).finish() != 0 {
        return Err(WireError::Checksum);
    }
    Ok(Packet {
        source: header.source_addr(),
        destination: header.destination_addr(),
        protocol: header.protocol().0,
        traffic_class: header.slice()[1],
        fragment: header.is_fragmenting_payload().then(|| Part {
            id: header.identification(),
            offset: usize::from(header.fragments_offset().value()) * 8,
            more: header.more_fragments(),
        }),
        source_routed: is_source_routed(header.options()),
        payload: &octets[header_len..total_len],
    })
}

/// What an ICMP error quotes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// The payload's first octets: at least eight (RFC 792).
    pub payload: &'a [u8],
}

/// Reads the beginning of a packet that an ICMP error quotes: its first fragment, or all of
/// it. Routers write into headers, so its checksum is not verified.
pub fn parse_quote(octets: &[u8]) -> Result<Quote<'_>, WireError> {
    let header = Ipv4HeaderSlice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    let payload = &octets[header.slice().len()..];
    if header.fragments_offset().value() != 0 || payload.len() < 8 {
        return Err(WireError::Malformed);
    }
    Ok(Quote {
        source: header.source_addr(),
        destination: header.destination_addr(),
        protocol: header.protocol().0,
        payload,
    })
}

/// Writes a header for `payload_len` octets: no options, DF set, identification 0 (an
/// atomic datagram, RFC 6864 4.1), TTL 64. Needs [`HEADER_LEN`] octets.
pub fn emit(
    buffer: &mut [u8],
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    payload_len: usize,
) -> usize {
    let total_len = (HEADER_LEN + payload_len) as u16;
    let buffer = &mut buffer[..HEADER_LEN];
    buffer[0] = 0x45;
    buffer[1] = 0;
    buffer[2..4].copy_from_slice(&total_len.to_be_bytes());
    buffer[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
    buffer[8] = TTL;
    buffer[9] = protocol;
    buffer[10..12].fill(0);
    buffer[12..16].copy_from_slice(&source.octets());
    buffer[16..20].copy_from_slice(&destination.octets());
    let checksum = Sum::new().feed(buffer).finish();
    buffer[10..12].copy_from_slice(&checksum.to_be_bytes());
    HEADER_LEN
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn what_is_emitted_is_parsed_back_without_its_padding() {
        let mut buffer = [7; 46];
        emit(&mut buffer, A, B, PROTOCOL_TCP, 5);
        let packet = parse(&buffer).unwrap();
        assert_eq!((packet.source, packet.destination, packet.protocol), (A, B, PROTOCOL_TCP));
        assert_eq!(packet.payload, [7; 5]);
        assert_eq!((packet.fragment, packet.source_routed), (None, false));
    }

    #[test]
    fn any_flipped_bit_of_the_header_is_noticed() {
        let mut good = [0; 40];
        emit(&mut good, A, B, PROTOCOL_TCP, 20);
        for bit in 0..HEADER_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_quote_is_cut_short_and_names_the_transport() {
        let mut buffer = [0; 28];
        emit(&mut buffer, A, B, PROTOCOL_TCP, 1000);
        let quote = parse_quote(&buffer).unwrap();
        assert_eq!((quote.source, quote.destination, quote.protocol), (A, B, PROTOCOL_TCP));
        assert_eq!(quote.payload, [0; 8]);
        assert_eq!(parse_quote(&buffer[..27]), Err(WireError::Malformed));
        buffer[7] = 1;
        assert_eq!(parse_quote(&buffer), Err(WireError::Malformed));
    }

    #[test]
    fn source_routes_are_noticed_behind_other_options() {
        for (options, routed) in [
            (&[1, 1, 131, 3][..], true),
            (&[137, 7, 4, 0], true),
            (&[7, 3, 4, 131], true),
            (&[7, 4, 4, 131], false),
            (&[0, 131, 3, 4], false),
            (&[148, 4, 0, 0], false),
            (&[7, 0, 131, 3], false),
            (&[1, 1, 1, 7], false),
            (&[7, 200, 131, 3], false),
        ] {
            assert_eq!(is_source_routed(options), routed, "{options:?}");
        }
    }

    #[test]
    fn total_length_rules() {
        let mut buffer = [0; 40];
        emit(&mut buffer, A, B, PROTOCOL_TCP, 21);
        assert_eq!(parse(&buffer), Err(WireError::Malformed));
        emit(&mut buffer, A, B, PROTOCOL_TCP, 20);
        assert!(parse(&buffer).is_ok());
    }
}
