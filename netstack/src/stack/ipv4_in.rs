//! IPv4: what its packets carry, whole or in fragments, and the ICMP errors that answer some
//! (RFC 1122 3.2.2).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Stack, is_udp_sound};
use crate::frame::{Checksum, FrameMeta};
use crate::ip::reassembly::{Expired, Fragment, Key};
use crate::ip::{self, Packet};
use crate::limit::TokenBucket;
use crate::time::Instant;
use crate::wire::ethernet::Frame;
use crate::wire::{icmpv4, ipv4};

/// RFC 1812 4.3.2.3: an error quotes as much as leaves it within 576 octets.
const MAX_QUOTE: usize = 576 - ipv4::HEADER_LEN - icmpv4::HEADER_LEN;
/// The largest payload of a packet (RFC 791: its length has 16 bits).
const MAX_PAYLOAD: usize = 65_535 - ipv4::HEADER_LEN;

/// How many ICMP errors are sent in all (RFC 1812 4.3.2.8), as Linux's `icmp_msgs_burst` and
/// `icmp_msgs_per_sec`.
pub(super) const ERRORS: TokenBucket = TokenBucket::new(50, Duration::from_millis(1));

/// What a packet carries, and between whom.
struct Datagram<'a> {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    traffic_class: u8,
    payload: &'a [u8],
    /// The packet, or its first fragment, from its header on.
    quote: &'a [u8],
    /// It came in fragments.
    reassembled: bool,
}

impl Stack {
    pub(super) fn on_ipv4(&mut self, now: Instant, frame: &Frame<'_>, meta: &FrameMeta) {
        let admitted = ip::ingress::admit(&self.routes, &mut self.stats, frame.payload);
        let Some(admitted) = admitted else { return };
        let packet = admitted.packet;
        // RFC 1122 3.3.6: unicast IP in a link-layer broadcast is not for a host.
        if admitted.unicast && frame.destination.is_group() {
            self.stats.drop_address += 1;
            return;
        }
        if !self.usable(packet.destination) {
            self.stats.drop_unusable_in += 1;
            return;
        }
        // RFC 1122 3.2.2.6: an echo to a broadcast may be discarded, and is: it serves only to
        // multiply an attacker's packets. And 3.2.2: no error answers a broadcast.
        if !admitted.unicast {
            self.stats.drop_protocol += 1;
            return;
        }
        let ipv4::Packet { source, destination, protocol, traffic_class, payload, .. } = packet;
        let Some(part) = packet.fragment else {
            let datagram = Datagram {
                source,
                destination,
                protocol,
                traffic_class,
                payload,
                quote: frame.payload,
                reassembled: false,
            };
            self.on_datagram(now, frame, meta, &datagram);
            return;
        };
        let id = part.id.into();
        let key = Key { source: source.into(), destination: destination.into(), id, protocol };
        let fragment = Fragment {
            offset: part.offset,
            more: part.more,
            payload,
            next: protocol,
            quote: cut(frame.payload),
            most: MAX_PAYLOAD,
            traffic_class,
        };
        let whole = self.reassembly.insert(now, key, &fragment, &mut self.stats);
        if let Some(whole) = whole {
            let datagram = Datagram {
                source,
                destination,
                protocol,
                traffic_class: whole.traffic_class,
                payload: &whole.payload,
                quote: &whole.quote,
                reassembled: true,
            };
            // Nobody has seen it whole before.
            let meta = FrameMeta { checksum: Checksum::Unverified, ..*meta };
            self.on_datagram(now, frame, &meta, &datagram);
        }
    }

    fn on_datagram(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        meta: &FrameMeta,
        datagram: &Datagram<'_>,
    ) {
        let Datagram { source, destination, protocol, traffic_class, payload, .. } = *datagram;
        match protocol {
            ipv4::PROTOCOL_TCP => {
                let ends = (source.into(), destination.into());
                let station = frame.source;
                if datagram.reassembled {
                    self.on_detoured(now, station, meta, ends, traffic_class, payload);
                } else {
                    self.on_segment(now, station, meta, ends, traffic_class, payload);
                }
            }
            ipv4::PROTOCOL_ICMP => {
                let room = self.mtu - ipv4::HEADER_LEN;
                let (outbox, stats) = (&mut self.outbox, &mut self.stats);
                let about =
                    ip::icmp::on_message(outbox, stats, (source, destination), payload, room);
                if let Some(error) = about {
                    self.on_segment_error(now, &error);
                }
            }
            ipv4::PROTOCOL_UDP => self.on_udp(now, meta, datagram),
            _ => {
                self.stats.drop_protocol += 1;
                self.send_error(now, icmpv4::CODE_PROTOCOL, datagram);
            }
        }
    }

    /// RFC 1122 4.1.3.1: nobody listens on any port.
    fn on_udp(&mut self, now: Instant, meta: &FrameMeta, datagram: &Datagram<'_>) {
        let ends = (datagram.source.into(), datagram.destination.into());
        if !is_udp_sound(&mut self.stats, meta, ends, datagram.payload) {
            return;
        }
        self.stats.drop_protocol += 1;
        self.send_error(now, icmpv4::CODE_PORT, datagram);
    }

    /// Answers a datagram with "destination unreachable". The caller has seen to RFC 1122
    /// 3.2.2: it was to our unicast address in a unicast frame, from a host, is no ICMP
    /// error, and the quote is of a first fragment.
    fn send_error(&mut self, now: Instant, code: u8, datagram: &Datagram<'_>) {
        let Datagram { source, destination, quote, .. } = *datagram;
        self.push_error(now, icmpv4::TYPE_UNREACHABLE, code, (destination, source), quote);
    }

    fn push_error(
        &mut self,
        now: Instant,
        kind: u8,
        code: u8,
        (source, destination): (Ipv4Addr, Ipv4Addr),
        quote: &[u8],
    ) {
        if !self.icmp_limits.take(now, destination) {
            self.stats.icmp_limited += 1;
            return;
        }
        self.stats.icmp_error_out += 1;
        let message = icmpv4::make_error(kind, code, cut(quote));
        self.outbox.push(Packet::Icmp { source, destination, message }, &mut self.stats);
    }

    /// RFC 1122 3.3.2: what has waited for its fragments for too long is answered if the first
    /// one has come, unless it is ICMP, which may be an error.
    pub(super) fn reassembly_timeout(&mut self, now: Instant) {
        while let Some(expired) = self.reassembly.expire(now, &mut self.stats) {
            let Some(Expired { key, quote }) = expired else { continue };
            if let (IpAddr::V4(theirs), IpAddr::V4(ours)) = (key.source, key.destination)
                && key.protocol != ipv4::PROTOCOL_ICMP
            {
                let (kind, code) = (icmpv4::TYPE_TIME_EXCEEDED, icmpv4::CODE_REASSEMBLY);
                self.push_error(now, kind, code, (ours, theirs), &quote);
            }
        }
    }
}

/// What an error quotes of a packet, padding of the frame left out.
fn cut(packet: &[u8]) -> &[u8] {
    let stated = match packet {
        [_, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    &packet[..packet.len().min(stated).min(MAX_QUOTE)]
}
