//! ICMPv6 (RFC 4443): echo, errors about what we have sent, errors about what we got.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{Ipv6, Out};
use crate::ip::Packet;
use crate::ip::icmp::{IcmpError, SegmentError, Unreachable};
use crate::limit::TokenBucket;
use crate::tcp::demux::FourTuple;
use crate::tcp::seq::SeqNum;
use crate::time::Instant;
use crate::wire::icmpv6::{
    self, CODE_PORT, FIRST_INFORMATIONAL, HEADER_LEN, Message, PARAMETER_NEXT, TYPE_ECHO_REPLY,
    TYPE_ECHO_REQUEST, TYPE_PARAMETER, TYPE_TIME_EXCEEDED, TYPE_TOO_BIG, TYPE_UNREACHABLE,
};
use crate::wire::ipv6::{self, MIN_MTU, NEXT_ICMPV6, NEXT_TCP, NEXT_UDP};
use crate::wire::ipv6_ext::{Problem, Upper, upper_of_quote};
use crate::wire::ndp::TYPE_REDIRECT;

/// How many errors are sent in all (RFC 4443 2.4 (f)), whose example is 10 at once and one each
/// 100 ms.
pub(super) const ERRORS: TokenBucket = TokenBucket::new(50, Duration::from_millis(10));
/// Of an address far away, what does not tell its host from another: a host may have a prefix of
/// 64 bits to itself, and use any address of it (RFC 7934 6).
const HOST_BITS: u128 = u64::MAX as u128;

/// An error that a packet deserves, whether or not it may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    kind: u8,
    code: u8,
    word: u32,
    to_group: bool,
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        let Problem { code, pointer, to_group } = problem;
        Self { kind: TYPE_PARAMETER, code, word: pointer as u32, to_group }
    }
}

impl Fault {
    /// Nobody serves what is behind the headers: a closed UDP port (RFC 4443 3.1), or a
    /// protocol that is unknown here (RFC 8200 4).
    pub(crate) fn unserved(upper: &Upper<'_>) -> Self {
        let (kind, code, word) = match upper.protocol {
            NEXT_UDP => (TYPE_UNREACHABLE, CODE_PORT, 0),
            _ => (TYPE_PARAMETER, PARAMETER_NEXT, upper.protocol_at as u32),
        };
        Self { kind, code, word, to_group: false }
    }
}

impl Ipv6 {
    /// Tells the sender of `packet` what was wrong with it, unless RFC 4443 2.4 (e) forbids
    /// it. `alone`: the frame was for our station only.
    pub(crate) fn complain(
        &mut self,
        now: Instant,
        packet: &ipv6::Packet<'_>,
        alone: bool,
        fault: Fault,
        out: &mut Out<'_>,
    ) {
        let ipv6::Header { source, destination, next_header, .. } = packet.header;
        // (e.1), (e.2): an error about an error or a redirect.
        let upper = upper_of_quote(next_header, packet.payload);
        let about_error = match upper {
            Some((NEXT_ICMPV6, message)) => message
                .first()
                .is_none_or(|kind| *kind < FIRST_INFORMATIONAL || *kind == TYPE_REDIRECT),
            _ => false,
        };
        // (e.3) to (e.5): to a group, with the exceptions that they name; (e.6): from nobody.
        let to_group = destination.is_multicast() || !alone;
        let nobody = source.is_unspecified() || self.addresses.state(source).is_some();
        if about_error || to_group && !fault.to_group || nobody {
            return;
        }
        let ours = if destination.is_multicast() {
            self.addresses.source_for(source).map(|(address, _)| address)
        } else {
            Some(destination)
        };
        let Some(ours) = ours else { return };
        // On the link all hosts share a prefix.
        let shared = if self.routers.is_on_link(source) { 0 } else { HOST_BITS };
        let host = source.to_bits() & !shared;
        if !self.errors.take(now, host) {
            out.stats.icmp_limited += 1;
            return;
        }
        // RFC 4443 2.4 (c): as much of the packet as fits 1280 octets.
        let room = MIN_MTU - ipv6::HEADER_LEN - HEADER_LEN;
        let quote = &packet.octets[..packet.octets.len().min(room)];
        let mut message = icmpv6::make_error(fault.kind, fault.code, fault.word, quote);
        icmpv6::seal(ours, source, &mut message);
        out.stats.icmp_error_out += 1;
        out.outbox.push(Packet::Icmpv6 { source: ours, destination: source, message }, out.stats);
    }

    /// Takes a message that is not about the link; `source` sent it to our `address`, or to
    /// a group if `unicast` is not set.
    pub(crate) fn on_message(
        &self,
        source: Ipv6Addr,
        address: Ipv6Addr,
        unicast: bool,
        message: &Message<'_>,
        out: &mut Out<'_>,
    ) -> Option<SegmentError> {
        match message.kind {
            // An echo to a group may be answered (RFC 4443 4.2), and is not: as with IPv4's
            // broadcasts, one packet with a forged source would have many answers.
            TYPE_ECHO_REQUEST if unicast && message.code == 0 => {
                // RFC 4443 4.2: whole, or as much as goes in one packet.
                let room = self.mtu() - ipv6::HEADER_LEN;
                let mut reply = message.octets[..message.octets.len().min(room)].to_vec();
                reply[0] = TYPE_ECHO_REPLY;
                icmpv6::seal(address, source, &mut reply);
                out.stats.icmp_echo += 1;
                let packet =
                    Packet::Icmpv6 { source: address, destination: source, message: reply };
                out.outbox.push(packet, out.stats);
            }
            kind if kind < FIRST_INFORMATIONAL => {
                let error = classify(message);
                let about = error.and_then(|error| segment_error(address, error, message.quote()));
                match about {
                    Some(_) => out.stats.icmp_error_in += 1,
                    None => out.stats.icmp_ignored += 1,
                }
                return about;
            }
            _ => out.stats.drop_protocol += 1,
        }
        None
    }
}

fn classify(message: &Message<'_>) -> Option<IcmpError> {
    Some(match (message.kind, message.code) {
        // RFC 8201 4: no link carries less than 1280, so who says so is wrong.
        (TYPE_TOO_BIG, _) if (message.word() as usize) < MIN_MTU => return None,
        (TYPE_TOO_BIG, _) => IcmpError::PacketTooBig { mtu: message.word() },
        (TYPE_TIME_EXCEEDED, _) => IcmpError::TimeExceeded,
        (TYPE_PARAMETER, PARAMETER_NEXT) => IcmpError::Unreachable(Unreachable::Protocol),
        (TYPE_PARAMETER, _) => IcmpError::ParameterProblem,
        (TYPE_UNREACHABLE, CODE_PORT) => IcmpError::Unreachable(Unreachable::Port),
        (TYPE_UNREACHABLE, 1 | 5 | 6) => IcmpError::Unreachable(Unreachable::Prohibited),
        (TYPE_UNREACHABLE, 0 | 2) => IcmpError::Unreachable(Unreachable::Network),
        (TYPE_UNREACHABLE, _) => IcmpError::Unreachable(Unreachable::Host),
        _ => return None,
    })
}

/// Which of our segments an error is about; `None`: none of ours.
fn segment_error(address: Ipv6Addr, error: IcmpError, quote: &[u8]) -> Option<SegmentError> {
    let quote = ipv6::parse_quote(quote).ok()?;
    let ipv6::Header { source, destination, next_header, .. } = quote.header;
    let (NEXT_TCP, segment) = upper_of_quote(next_header, quote.payload)? else { return None };
    if source != address {
        return None;
    }
    let [a, b, c, d, seq @ ..] = *segment.first_chunk::<8>()?;
    let (local, remote) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(SegmentError {
        tuple: FourTuple::new((address, local), (destination, remote)),
        seq: SeqNum(u32::from_be_bytes(seq)),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 9, 0, 0, 0, 9);

    fn quoted(source: Ipv6Addr, next_header: u8) -> Vec<u8> {
        let mut packet = vec![0; ipv6::HEADER_LEN];
        let (destination, hop_limit, flow_label) = (PEER, 64, 0);
        let header = ipv6::Header { source, destination, next_header, hop_limit, flow_label };
        ipv6::emit(&mut packet, &header, 1440);
        packet.extend([0, 80, 0x9c, 0x40, 0x12, 0x34, 0x56, 0x78]);
        packet
    }

    #[test]
    fn the_quote_names_the_connection_and_the_segment() {
        let error = IcmpError::PacketTooBig { mtu: 1400 };
        let told = segment_error(US, error, &quoted(US, NEXT_TCP)).unwrap();
        assert_eq!(told.tuple, FourTuple::new((US, 80), (PEER, 40_000)));
        assert_eq!((told.seq, told.error), (SeqNum(0x1234_5678), error));
        assert_eq!(segment_error(US, error, &quoted(PEER, NEXT_TCP)), None);
        assert_eq!(segment_error(US, error, &quoted(US, NEXT_UDP)), None);
        assert_eq!(segment_error(US, error, &quoted(US, NEXT_TCP)[..47]), None);
    }

    #[test]
    fn types_and_codes() {
        let classified = |kind, code, word| {
            let octets = icmpv6::make_error(kind, code, word, &[]);
            classify(&Message { kind, code, octets: &octets })
        };
        let too_big = |mtu| Some(IcmpError::PacketTooBig { mtu });
        assert_eq!(classified(TYPE_TOO_BIG, 0, 1280), too_big(1280));
        assert_eq!(classified(TYPE_TOO_BIG, 0, 1279), None);
        for (code, why) in [
            (0, Unreachable::Network),
            (1, Unreachable::Prohibited),
            (3, Unreachable::Host),
            (4, Unreachable::Port),
            (6, Unreachable::Prohibited),
        ] {
            assert_eq!(classified(TYPE_UNREACHABLE, code, 0), Some(IcmpError::Unreachable(why)));
        }
        assert_eq!(classified(TYPE_TIME_EXCEEDED, 0, 0), Some(IcmpError::TimeExceeded));
        assert_eq!(classified(TYPE_PARAMETER, 0, 0), Some(IcmpError::ParameterProblem));
        assert_eq!(classified(100, 0, 0), None);
    }
}
