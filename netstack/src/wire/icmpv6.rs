//! ICMPv6 (RFC 4443): the header that all messages share, echo, and errors.

use std::net::Ipv6Addr;

use etherparse::Icmpv6Slice;

use super::ipv6::NEXT_ICMPV6;
use super::{WireError, checksum::pseudo_header_v6};

/// Octets of an echo's or an error's header.
pub const HEADER_LEN: usize = 8;
/// Destination unreachable.
pub const TYPE_UNREACHABLE: u8 = 1;
/// Packet too big.
pub const TYPE_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TYPE_TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const TYPE_PARAMETER: u8 = 4;
/// Echo request.
pub const TYPE_ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const TYPE_ECHO_REPLY: u8 = 129;
/// Types below this are errors (RFC 4443 2.1).
pub const FIRST_INFORMATIONAL: u8 = 128;
/// Code of "destination unreachable": nobody listens on the port.
pub const CODE_PORT: u8 = 4;
/// Code of "parameter problem": an erroneous header field.
pub const PARAMETER_HEADER: u8 = 0;
/// Code of "parameter problem": an unrecognised Next Header.
pub const PARAMETER_NEXT: u8 = 1;
/// Code of "parameter problem": an unrecognised option.
pub const PARAMETER_OPTION: u8 = 2;
/// Code of "parameter problem": a first fragment without all headers (RFC 7112).
pub const PARAMETER_FIRST_FRAGMENT: u8 = 3;

const CHECKSUM_AT: usize = 2;

/// A message whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The message's type.
    pub kind: u8,
    /// The type's code.
    pub code: u8,
    /// The whole message, eight octets at least.
    pub octets: &'a [u8],
}

impl<'a> Message<'a> {
    /// The second word of the header: MTU, pointer, or identifier and sequence number.
    pub fn word(&self) -> u32 {
        let [_, _, _, _, a, b, c, d, ..] = *self.octets else { return 0 };
        u32::from_be_bytes([a, b, c, d])
    }

    /// What an error quotes: the packet that it is about, cut short.
    pub fn quote(&self) -> &'a [u8] {
        self.octets.get(HEADER_LEN..).unwrap_or_default()
    }
}

/// Reads a message and verifies its checksum, which IPv6 makes mandatory (RFC 4443 2.3).
pub fn parse(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    octets: &[u8],
) -> Result<Message<'_>, WireError> {
    let slice = Icmpv6Slice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    let sum = pseudo_header_v6(source, destination, NEXT_ICMPV6, octets.len() as u32);
    if sum.feed(octets).finish() != 0 {
        return Err(WireError::Checksum);
    }
    Ok(Message { kind: slice.type_u8(), code: slice.code_u8(), octets })
}

/// Puts the checksum into a message of at least four octets.
pub fn seal(source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8]) {
    message[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
    let sum = pseudo_header_v6(source, destination, NEXT_ICMPV6, message.len() as u32);
    let checksum = sum.feed(message).finish();
    message[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// An error message, not sealed, that quotes `quote`, which the caller has cut to size.
pub fn make_error(kind: u8, code: u8, word: u32, quote: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend_from_slice(quote);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

    #[test]
    fn what_is_sealed_is_read_back_between_the_same_addresses_only() {
        let mut message = make_error(TYPE_TOO_BIG, 0, 1400, b"quoted");
        seal(A, B, &mut message);
        let read = parse(A, B, &message).unwrap();
        assert_eq!((read.kind, read.code, read.word()), (TYPE_TOO_BIG, 0, 1400));
        assert_eq!(read.quote(), b"quoted");
        assert_eq!(parse(A, A, &message), Err(WireError::Checksum));
        message[9] ^= 1;
        assert_eq!(parse(A, B, &message), Err(WireError::Checksum));
        assert_eq!(parse(A, B, &message[..7]), Err(WireError::Malformed));
    }
}
