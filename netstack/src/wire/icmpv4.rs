//! ICMP for IPv4 (RFC 792): echo, and errors with what they quote.

use etherparse::Icmpv4Slice;

use super::{WireError, checksum::Sum};

/// Octets of an echo's or an error's header.
pub const HEADER_LEN: usize = 8;
const TYPE_ECHO_REPLY: u8 = 0;
const TYPE_ECHO_REQUEST: u8 = 8;
/// Destination unreachable.
pub const TYPE_UNREACHABLE: u8 = 3;
/// Time exceeded.
pub const TYPE_TIME_EXCEEDED: u8 = 11;
/// Code of "time exceeded": fragments were missing.
pub const CODE_REASSEMBLY: u8 = 1;
/// Parameter problem.
pub const TYPE_PARAMETER: u8 = 12;
/// Code of "destination unreachable": the protocol is not served.
pub const CODE_PROTOCOL: u8 = 2;
/// Code of "destination unreachable": nobody listens on the port.
pub const CODE_PORT: u8 = 3;
/// Code of "destination unreachable": fragmentation needed and DF set.
pub const CODE_FRAGMENTATION: u8 = 4;

/// A message that we act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// An echo request: the whole message, header included.
    EchoRequest(&'a [u8]),
    /// Destination unreachable, time exceeded or parameter problem.
    Error {
        /// One of the `TYPE_` constants.
        kind: u8,
        /// The type's code.
        code: u8,
        /// Next-hop MTU in octets (RFC 1191 4), of code [`CODE_FRAGMENTATION`]; 0 if it is not
        /// stated.
        mtu: u16,
        /// The packet that it is about, from its IP header on, cut short.
        quote: &'a [u8],
    },
    /// Any other type.
    Other,
}

/// Reads a message and verifies its checksum.
pub fn parse(octets: &[u8]) -> Result<Message<'_>, WireError> {
    let slice = Icmpv4Slice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    if Sum::new().feed(octets).finish() != 0 {
        return Err(WireError::Checksum);
    }
    Ok(match (slice.type_u8(), slice.code_u8()) {
        (TYPE_ECHO_REQUEST, 0) => Message::EchoRequest(octets),
        (kind @ (TYPE_UNREACHABLE | TYPE_TIME_EXCEEDED | TYPE_PARAMETER), code) => Message::Error {
            kind,
            code,
            mtu: u16::from_be_bytes([octets[6], octets[7]]),
            quote: &octets[HEADER_LEN..],
        },
        _ => Message::Other,
    })
}

/// An error message that quotes `quote`, which the caller has cut to size.
pub fn make_error(kind: u8, code: u8, quote: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(quote);
    let checksum = Sum::new().feed(&message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// Turns an echo request into its reply in place: type 0 and a new checksum; identifier,
/// sequence number and data return as they came (RFC 1122 3.2.2.6).
pub fn make_echo_reply(message: &mut [u8]) {
    message[0] = TYPE_ECHO_REPLY;
    message[2..4].fill(0);
    let checksum = Sum::new().feed(message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_a_valid_reply_with_the_same_data() {
        let mut message = vec![TYPE_ECHO_REQUEST, 0, 0, 0, 0x12, 0x34, 0, 1, b'h', b'i', b'!'];
        let checksum = Sum::new().feed(&message).finish();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(parse(&message), Ok(Message::EchoRequest(&message)));
        make_echo_reply(&mut message);
        assert_eq!(parse(&message), Ok(Message::Other));
        assert_eq!((message[0], &message[4..]), (0, &b"\x12\x34\0\x01hi!"[..]));
        message[9] ^= 1;
        assert_eq!(parse(&message), Err(WireError::Checksum));
    }

    #[test]
    fn an_error_carries_its_quote() {
        for kind in [TYPE_UNREACHABLE, TYPE_TIME_EXCEEDED, TYPE_PARAMETER] {
            let message = make_error(kind, 1, b"quoted");
            let wanted = Message::Error { kind, code: 1, mtu: 0, quote: b"quoted" };
            assert_eq!(parse(&message), Ok(wanted));
        }
        // Source quench (RFC 6633) and redirect are nothing to a host that serves.
        for kind in [4, 5] {
            assert_eq!(parse(&make_error(kind, 0, b"quoted")), Ok(Message::Other));
        }
    }
}
