//! ICMP (RFC 792, RFC 1122 3.2.2): echo, and errors about what we have sent.

use std::net::Ipv4Addr;

use super::{Outbox, Packet};
use crate::stats::Stats;
use crate::tcp::demux::FourTuple;
use crate::tcp::seq::SeqNum;
use crate::wire::{WireError, icmpv4, ipv4};

/// What an error says of a packet that we have sent, in either family.
///
/// Whoever can guess a four-tuple can send one: it is for the transport to believe it only
/// about what it has in flight (RFC 5927).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IcmpError {
    /// "Fragmentation needed" or "packet too big": a link of the path carries IP packets of at
    /// most `mtu` octets; 0 if the router does not say (RFC 1191 5).
    PacketTooBig {
        /// Octets.
        mtu: u32,
    },
    /// It did not arrive.
    Unreachable(Unreachable),
    /// It was in transit, or in reassembly, for too long.
    TimeExceeded,
    /// Its header was not understood.
    ParameterProblem,
}

/// Why a packet did not arrive. RFC 1122 4.2.3.9 calls `Protocol` and `Port` hard errors and
/// the others soft ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// No route to the network.
    Network,
    /// The last router did not find the host.
    Host,
    /// The host does not serve the protocol.
    Protocol,
    /// Nobody listens on the port.
    Port,
    /// A filter forbids it.
    Prohibited,
}

/// An error about a TCP segment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentError {
    /// Whose segment.
    pub(crate) tuple: FourTuple,
    /// Its sequence number.
    pub(crate) seq: SeqNum,
    pub(crate) error: IcmpError,
}

/// Answers an echo request, or gives back what an error is about; `source` sent it to our
/// `address`. The link carries messages of `room` octets.
pub(crate) fn on_message(
    outbox: &mut Outbox,
    stats: &mut Stats,
    (source, address): (Ipv4Addr, Ipv4Addr),
    octets: &[u8],
    room: usize,
) -> Option<SegmentError> {
    match icmpv4::parse(octets) {
        Ok(icmpv4::Message::EchoRequest(message)) => {
            // RFC 1122 3.2.2.6: whole, or, as we send no fragments, as much as goes.
            let mut message = message[..message.len().min(room)].to_vec();
            icmpv4::make_echo_reply(&mut message);
            stats.icmp_echo += 1;
            outbox.push(Packet::Icmp { source: address, destination: source, message }, stats);
        }
        Ok(icmpv4::Message::Error { kind, code, mtu, quote }) => {
            let about = segment_error(address, classify(kind, code, mtu), quote);
            match about {
                Some(_) => stats.icmp_error_in += 1,
                None => stats.icmp_ignored += 1,
            }
            return about;
        }
        // RFC 6633: source quench is ignored. So are redirects: a stack with one gateway
        // gains nothing by them, and who can send them could take its packets away.
        Ok(icmpv4::Message::Other) => stats.drop_protocol += 1,
        Err(WireError::Checksum) => stats.drop_checksum += 1,
        Err(WireError::Malformed) => stats.drop_malformed += 1,
    }
    None
}

/// RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1.
fn classify(kind: u8, code: u8, mtu: u16) -> IcmpError {
    match (kind, code) {
        (icmpv4::TYPE_TIME_EXCEEDED, _) => IcmpError::TimeExceeded,
        (icmpv4::TYPE_PARAMETER, _) => IcmpError::ParameterProblem,
        (_, icmpv4::CODE_FRAGMENTATION) => IcmpError::PacketTooBig { mtu: u32::from(mtu) },
        (_, icmpv4::CODE_PROTOCOL) => IcmpError::Unreachable(Unreachable::Protocol),
        (_, icmpv4::CODE_PORT) => IcmpError::Unreachable(Unreachable::Port),
        (_, 0 | 6 | 11) => IcmpError::Unreachable(Unreachable::Network),
        (_, 9 | 10 | 13..=15) => IcmpError::Unreachable(Unreachable::Prohibited),
        _ => IcmpError::Unreachable(Unreachable::Host),
    }
}

/// What a quoted packet was, if it can be ours: from the address that the error came to.
fn segment_error(address: Ipv4Addr, error: IcmpError, quote: &[u8]) -> Option<SegmentError> {
    let quote = ipv4::parse_quote(quote).ok()?;
    if quote.source != address || quote.protocol != ipv4::PROTOCOL_TCP {
        return None;
    }
    // RFC 792: of the transport's header there are eight octets at least, the ports and the
    // sequence number.
    let [a, b, c, d, seq @ ..] = *quote.payload.first_chunk::<8>()?;
    let (local, remote) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(SegmentError {
        tuple: FourTuple::new((address, local), (quote.destination, remote)),
        seq: SeqNum(u32::from_be_bytes(seq)),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

    fn quoted(source: Ipv4Addr, protocol: u8) -> Vec<u8> {
        let mut packet = vec![0; ipv4::HEADER_LEN];
        ipv4::emit(&mut packet, source, PEER, protocol, 1480);
        packet.extend([0, 80, 0x9c, 0x40, 0x12, 0x34, 0x56, 0x78]);
        packet
    }

    #[test]
    fn the_quote_names_the_connection_and_the_segment() {
        let error = IcmpError::PacketTooBig { mtu: 1400 };
        let told = segment_error(US, error, &quoted(US, ipv4::PROTOCOL_TCP)).unwrap();
        assert_eq!(told.tuple, FourTuple::new((US, 80), (PEER, 40_000)));
        assert_eq!((told.seq, told.error), (SeqNum(0x1234_5678), error));
        assert_eq!(segment_error(US, error, &quoted(PEER, ipv4::PROTOCOL_TCP)), None);
        assert_eq!(segment_error(US, error, &quoted(US, 17)), None);
    }

    #[test]
    fn types_and_codes() {
        let unreachable = |code| classify(icmpv4::TYPE_UNREACHABLE, code, 576);
        assert_eq!(unreachable(4), IcmpError::PacketTooBig { mtu: 576 });
        for (code, why) in [
            (0, Unreachable::Network),
            (1, Unreachable::Host),
            (2, Unreachable::Protocol),
            (3, Unreachable::Port),
            (5, Unreachable::Host),
            (13, Unreachable::Prohibited),
        ] {
            assert_eq!(unreachable(code), IcmpError::Unreachable(why));
        }
        assert_eq!(classify(icmpv4::TYPE_TIME_EXCEEDED, 0, 0), IcmpError::TimeExceeded);
        assert_eq!(classify(icmpv4::TYPE_PARAMETER, 0, 0), IcmpError::ParameterProblem);
    }
}
