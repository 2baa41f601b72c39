//! ICMP (RFC 792, RFC 1122 3.2.2): echo.

use std::net::Ipv4Addr;

use super::{Outbox, Packet};
use crate::stats::Stats;
use crate::wire::{WireError, icmpv4};

/// Answers an echo request; `source` asked our `address`.
pub(crate) fn on_message(
    outbox: &mut Outbox,
    stats: &mut Stats,
    source: Ipv4Addr,
    address: Ipv4Addr,
    octets: &[u8],
) {
    match icmpv4::parse(octets) {
        Ok(icmpv4::Message::EchoRequest(message)) => {
            let mut message = message.to_vec();
            icmpv4::make_echo_reply(&mut message);
            stats.icmp_echo += 1;
            outbox.push(Packet::Icmp { source: address, destination: source, message }, stats);
        }
        Ok(icmpv4::Message::Other) => stats.drop_protocol += 1,
        Err(WireError::Checksum) => stats.drop_checksum += 1,
        Err(WireError::Malformed) => stats.drop_malformed += 1,
    }
}
