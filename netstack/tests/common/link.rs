//! What a link does with the frames that a stack gives out: gathers their slices, completes
//! their checksums and cuts large segments, checking on the way that each can be sent.

use std::net::IpAddr;

use bytes::Bytes;
use tagwire_netstack::wire::checksum::{Sum, pseudo_header_of};
use tagwire_netstack::wire::{ethernet, ipv4, ipv6};
use tagwire_netstack::{Instant, IpFamily, Stack, Transmit};

const TCP_SEQ: usize = 4;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const FIN_AND_PSH: u8 = 0x09;

/// Takes everything that the stack has to send now, as complete frames of at most `mtu`.
pub(crate) fn drain(
    stack: &mut Stack,
    now: Instant,
    buffer_len: usize,
    mtu: usize,
) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; buffer_len];
    let mut slices = Vec::new();
    let mut frames = Vec::new();
    let mut turns = 0;
    while let Some(transmit) = stack.poll_transmit(now, &mut buffer, &mut slices) {
        frames.extend(complete(&transmit, &buffer, &slices, mtu));
        slices.clear();
        turns += 1;
        assert!(turns < 100_000, "the stack never stops sending");
    }
    frames
}

/// The frames on the wire that one [`Transmit`] becomes.
fn complete(transmit: &Transmit, buffer: &[u8], slices: &[Bytes], mtu: usize) -> Vec<Vec<u8>> {
    let mut frame = buffer[..transmit.len].to_vec();
    frame.extend(slices.concat());
    let tags = ethernet::parse(&frame).expect("an Ethernet frame").tags;
    let network = ethernet::header_len(tags);
    let ip_len = frame.len() - network;
    let Some(cut) = transmit.segmentation else {
        assert!(ip_len <= mtu, "{ip_len} octets of IP do not fit an MTU of {mtu}");
        if let Some(request) = transmit.checksum {
            let start = usize::from(request.start);
            let sum = Sum::new().feed(&frame[start..]).finish();
            let at = start + usize::from(request.offset);
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        return vec![frame];
    };

    let request = transmit.checksum.expect("who cuts a segment completes its checksums");
    let (transport, header_len) = (usize::from(request.start), usize::from(cut.header_len));
    let size = usize::from(cut.size);
    assert!(ip_len <= 65535, "{ip_len} octets do not fit a packet");
    assert!(frame.len() > header_len + size, "nothing to cut");
    assert!(header_len - network + size <= mtu, "pieces of {size} do not fit an MTU of {mtu}");
    let packet = &frame[network..];
    let (source, destination): (IpAddr, IpAddr) = match cut.family {
        IpFamily::V4 => {
            let packet = ipv4::parse(packet).expect("an IPv4 packet");
            (packet.source.into(), packet.destination.into())
        }
        IpFamily::V6 => {
            let header = ipv6::parse(packet).expect("an IPv6 packet").header;
            (header.source.into(), header.destination.into())
        }
    };
    let pseudo = |octets: usize| {
        pseudo_header_of(source, destination, ipv4::PROTOCOL_TCP, octets - transport)
            .expect("both of one family")
    };
    let at = transport + TCP_CHECKSUM;
    let field = u16::from_be_bytes([frame[at], frame[at + 1]]);
    assert_eq!(field, pseudo(frame.len()).fold(), "the pseudo-header's sum");

    let (header, payload) = frame.split_at(header_len);
    let seq_at = transport + TCP_SEQ;
    let first = u32::from_be_bytes(header[seq_at..seq_at + 4].try_into().expect("four octets"));
    let count = payload.chunks(size).len();
    let piece = |(index, data): (usize, &[u8])| {
        let mut piece = [header, data].concat();
        let packet_len = piece.len() - transport;
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let protocol = ipv4::PROTOCOL_TCP;
                ipv4::emit(&mut piece[network..], source, destination, protocol, packet_len);
            }
            _ => piece[network + 4..][..2].copy_from_slice(&(packet_len as u16).to_be_bytes()),
        }
        let seq = first.wrapping_add((index * size) as u32);
        piece[seq_at..seq_at + 4].copy_from_slice(&seq.to_be_bytes());
        if index + 1 < count {
            piece[transport + TCP_FLAGS] &= !FIN_AND_PSH;
        }
        piece[at..at + 2].fill(0);
        let sum = pseudo(piece.len()).feed(&piece[transport..]).finish();
        piece[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        piece
    };
    payload.chunks(size).enumerate().map(piece).collect()
}
