//! The limit: a server that keeps nothing.
//!
//! It answers ARP, ping and SYN, and each TCP segment with payload by one canned HTTP response
//! whose numbers come from the segment itself. Nothing is checked, remembered or sent
//! twice. What is left is the cost of the wire path, with the very loop that the appliance
//! runs on: no server on a packet socket can cost much less.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use bytes::Bytes;
use tagwire_core::clock::Nanos;
use tagwire_core::nic::Interface;
use tagwire_core::packet::{Gso, GsoKind, RxFrame, TxChecksum, TxFrame};
use tagwire_core::worker::Machine;

/// The largest body: the response is one frame, and an IPv4 packet is at most 64 KiB.
pub const MAX_BODY: usize = 60_000;

const TAGGED: usize = 18;
const IP: usize = TAGGED;
const TCP: usize = IP + 20;
/// Room for all headers, TCP options included.
const HEAD: usize = TCP + 60;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// What follows the headers of an answer.
enum Body {
    None,
    Response,
    Echo(Vec<u8>),
}

/// An answer to be sent.
struct Reply {
    head: [u8; HEAD],
    len: usize,
    /// A TCP segment, whose checksum is left to the kernel.
    is_tcp: bool,
    body: Body,
}

/// A stateless reflector, driven by a [`Worker`](tagwire_core::worker::Worker).
pub struct Reflector {
    mac: [u8; 6],
    address: [u8; 4],
    /// VLAN tag, in the order of the wire.
    tag: [u8; 4],
    mss: u16,
    response: Bytes,
    replies: VecDeque<Reply>,
}

impl Reflector {
    /// A reflector that answers for `address` with `body` octets (at most [`MAX_BODY`]).
    pub fn new(interface: &Interface, vlan: u16, address: Ipv4Addr, body: usize) -> Self {
        let mut response =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\nContent-Type: text/html\r\n\r\n")
                .into_bytes();
        response.resize(response.len() + body, b'x');
        let [high, low] = vlan.to_be_bytes();
        Self {
            mac: interface.mac,
            address: address.octets(),
            tag: [0x81, 0, high, low],
            mss: interface.mtu - 40,
            response: response.into(),
            replies: VecDeque::with_capacity(256),
        }
    }

    /// The headers up to the EtherType.
    fn reply(&self, to: [u8; 6], ethertype: [u8; 2]) -> Reply {
        let mut head = [0; HEAD];
        head[..6].copy_from_slice(&to);
        head[6..12].copy_from_slice(&self.mac);
        head[12..16].copy_from_slice(&self.tag);
        head[16..18].copy_from_slice(&ethertype);
        Reply { head, len: TAGGED, is_tcp: false, body: Body::None }
    }

    fn ip_header(&self, reply: &mut Reply, protocol: u8, to: [u8; 4], total: usize) {
        let ip = &mut reply.head[IP..TCP];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        ip[6] = 0x40; // don't fragment
        ip[8] = 64;
        ip[9] = protocol;
        ip[12..16].copy_from_slice(&self.address);
        ip[16..20].copy_from_slice(&to);
        let checksum = !fold(sum(ip));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        reply.len = TCP;
    }

    /// The answer to what follows an Ethernet header, if it is for us.
    fn answer(&self, now: Nanos, from: [u8; 6], octets: &[u8], ethertype: u16) -> Option<Reply> {
        match ethertype {
            0x0806 => self.answer_arp(from, octets.first_chunk()?),
            0x0800 => self.answer_ip(now, from, octets),
            _ => None,
        }
    }

    fn answer_arp(&self, from: [u8; 6], request: &[u8; 28]) -> Option<Reply> {
        if request[7] != 1 || request[24..28] != self.address {
            return None;
        }
        let mut reply = self.reply(from, [8, 6]);
        let arp = &mut reply.head[TAGGED..TAGGED + 28];
        arp[..8].copy_from_slice(&request[..8]);
        arp[7] = 2;
        arp[8..14].copy_from_slice(&self.mac);
        arp[14..18].copy_from_slice(&self.address);
        arp[18..28].copy_from_slice(&request[8..18]);
        reply.len = TAGGED + 28;
        Some(reply)
    }

    fn answer_ip(&self, now: Nanos, from: [u8; 6], octets: &[u8]) -> Option<Reply> {
        let ip = octets.first_chunk::<20>()?;
        if ip[16..20] != self.address {
            return None;
        }
        let source = [ip[12], ip[13], ip[14], ip[15]];
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let inner = octets.get(usize::from(ip[0] & 15) * 4..total)?;
        match ip[9] {
            1 => self.answer_ping(from, source, inner),
            6 => self.answer_tcp(now, from, source, inner),
            _ => None,
        }
    }

    fn answer_ping(&self, from: [u8; 6], source: [u8; 4], echo: &[u8]) -> Option<Reply> {
        if *echo.first()? != 8 {
            return None;
        }
        let mut echo = echo.to_vec();
        echo[..4].fill(0);
        let checksum = !fold(sum(&echo));
        echo[2..4].copy_from_slice(&checksum.to_be_bytes());
        let mut reply = self.reply(from, [8, 0]);
        self.ip_header(&mut reply, 1, source, 20 + echo.len());
        reply.body = Body::Echo(echo);
        Some(reply)
    }

    fn answer_tcp(
        &self,
        now: Nanos,
        from: [u8; 6],
        source: [u8; 4],
        segment: &[u8],
    ) -> Option<Reply> {
        let tcp = segment.first_chunk::<20>()?;
        let header_len = usize::from(tcp[12] >> 4) * 4;
        let options = segment.get(20..header_len)?;
        let payload_len = (segment.len() - header_len) as u32;
        let (their_seq, their_ack) = (field(tcp, 4), field(tcp, 8));
        let flags = tcp[13];
        let stamp = timestamp(options);

        let mut reply = self.reply(from, [8, 0]);
        let mut at = TCP + 20;
        let mut option = |octets: &[u8]| {
            reply.head[at..at + octets.len()].copy_from_slice(octets);
            at += octets.len();
        };
        let (seq, mut ack, mut out) = if flags & RST != 0 {
            return None;
        } else if flags & SYN != 0 {
            let [high, low] = self.mss.to_be_bytes();
            option(&[2, 4, high, low, 1, 3, 3, 7]);
            (1000, their_seq.wrapping_add(1), SYN | ACK)
        } else if payload_len > 0 {
            reply.body = Body::Response;
            (their_ack, their_seq.wrapping_add(payload_len), PSH | ACK)
        } else if flags & FIN != 0 {
            (their_ack, their_seq, ACK)
        } else {
            return None;
        };
        if flags & FIN != 0 {
            ack = ack.wrapping_add(1);
            out |= FIN;
        }
        if let Some(stamp) = stamp {
            option(&[1, 1, 8, 10]);
            option(&((now.0 / 1_000_000) as u32).to_be_bytes());
            option(&stamp);
        }
        let body = if matches!(reply.body, Body::Response) { self.response.len() } else { 0 };
        let length = at - TCP + body;
        self.ip_header(&mut reply, 6, source, 20 + length);
        let head = &mut reply.head;
        // The pseudo-header's sum; the kernel or the card adds the rest.
        let pseudo = fold(sum(&head[IP + 12..TCP]) + 6 + length as u32);
        let header = &mut head[TCP..at];
        header[..2].copy_from_slice(&tcp[2..4]);
        header[2..4].copy_from_slice(&tcp[..2]);
        header[4..8].copy_from_slice(&u32::to_be_bytes(seq));
        header[8..12].copy_from_slice(&ack.to_be_bytes());
        header[12] = ((at - TCP) as u8 / 4) << 4;
        header[13] = out;
        header[14..16].fill(0xff);
        header[16..18].copy_from_slice(&pseudo.to_be_bytes());
        reply.len = at;
        reply.is_tcp = true;
        Some(reply)
    }
}

impl Machine for Reflector {
    fn frame(&mut self, now: Nanos, frame: RxFrame<'_>) {
        // The worker's filter has chosen the VLAN; here only where the packet begins matters.
        let Some(header) = frame.bytes.first_chunk::<TAGGED>() else { return };
        let inline = frame.meta.vlan.is_none();
        let (at, start) = if inline { (16, TAGGED) } else { (12, 14) };
        let ethertype = u16::from_be_bytes([header[at], header[at + 1]]);
        let from = [header[6], header[7], header[8], header[9], header[10], header[11]];
        let reply = self.answer(now, from, &frame.bytes[start..], ethertype);
        self.replies.extend(reply);
    }

    fn advance(&mut self, _now: Nanos) {}

    fn transmit(
        &mut self,
        _now: Nanos,
        slot: &mut [u8],
        payload: &mut Vec<Bytes>,
    ) -> Option<TxFrame> {
        let Reply { head, len, is_tcp, body } = self.replies.pop_front()?;
        slot[..len].copy_from_slice(&head[..len]);
        let mut frame = TxFrame { len, checksum: None, gso: None };
        if is_tcp {
            frame.checksum = Some(TxChecksum { start: TCP as u16, offset: 16 });
        }
        match body {
            Body::None => {}
            Body::Echo(echo) => {
                frame.len += echo.len();
                slot[len..frame.len].copy_from_slice(&echo);
            }
            Body::Response => {
                // The MSS counts no options (RFC 6691).
                let size = self.mss - (len - TCP - 20) as u16;
                if self.response.len() <= usize::from(size) {
                    frame.len += self.response.len();
                    slot[len..frame.len].copy_from_slice(&self.response);
                } else {
                    payload.push(self.response.clone());
                    let header_len = len as u16;
                    frame.gso = Some(Gso { kind: GsoKind::TcpV4, size, header_len });
                }
            }
        }
        Some(frame)
    }

    fn deadline(&mut self) -> Option<Nanos> {
        None
    }

    fn link_changed(&mut self, _now: Nanos, _interface: &Interface) {}

    fn finished(&self) -> bool {
        false
    }
}

/// A 32-bit field of a TCP header.
fn field(tcp: &[u8; 20], at: usize) -> u32 {
    u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]])
}

/// The peer's TSval (RFC 7323), if the options have one.
fn timestamp(options: &[u8]) -> Option<[u8; 4]> {
    // As every common stack lays out all segments but its SYN.
    if let [1, 1, 8, 10, a, b, c, d, ..] = *options {
        return Some([a, b, c, d]);
    }
    let mut rest = options;
    loop {
        match *rest {
            [8, 10, a, b, c, d, ..] => return Some([a, b, c, d]),
            [1, ..] => rest = &rest[1..],
            [kind, len, ..] if kind > 1 && len > 1 => rest = rest.get(usize::from(len)..)?,
            _ => return None,
        }
    }
}

/// The ones' complement sum, not folded.
pub(crate) fn sum(octets: &[u8]) -> u32 {
    let pairs = octets.chunks(2);
    pairs.map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

pub(crate) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_is_found_wherever_it_stands() {
        assert_eq!(timestamp(&[1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0]), Some([1, 2, 3, 4]));
        // As Linux sends it in a SYN: MSS, SACK permitted, timestamps, no-op, window scale.
        let syn = [2, 4, 5, 180, 4, 2, 8, 10, 9, 8, 7, 6, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(timestamp(&syn), Some([9, 8, 7, 6]));
        assert_eq!(timestamp(&[2, 4, 5, 180]), None);
        assert_eq!(timestamp(&[3, 0, 0, 0]), None);
        assert_eq!(timestamp(&[2, 40, 5, 180]), None);
    }

    #[test]
    fn checksums_are_the_internets() {
        // RFC 1071, 3.
        assert_eq!(fold(sum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
        assert_eq!(fold(sum(&[0xff, 0xff, 1])), 0x0100);
    }
}
