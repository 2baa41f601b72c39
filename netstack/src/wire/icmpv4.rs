//! ICMP for IPv4 (RFC 792): echo.

use etherparse::Icmpv4Slice;

use super::{WireError, checksum::Sum};

/// Octets of an echo message's header.
pub const HEADER_LEN: usize = 8;
const TYPE_ECHO_REPLY: u8 = 0;
const TYPE_ECHO_REQUEST: u8 = 8;

/// A message that we act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// An echo request: the whole message, header included.
    EchoRequest(&'a [u8]),
    /// Any other type.
    Other,
}

/// Reads a message and verifies its checksum.
pub fn parse(octets: &[u8]) -> Result<Message<'_>, WireError> {
    let slice = Icmpv4Slice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    if Sum::new().feed(octets).finish() != 0 {
        return Err(WireError::Checksum);
    }
    if slice.type_u8() == TYPE_ECHO_REQUEST && slice.code_u8() == 0 {
        Ok(Message::EchoRequest(octets))
    } else {
        Ok(Message::Other)
    }
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
}
