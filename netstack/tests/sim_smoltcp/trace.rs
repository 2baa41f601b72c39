//! One line for a frame, in tcpdump's manner.

use tagwire_netstack::wire::tcp::Flags;
use tagwire_netstack::wire::{arp, ethernet, ipv4, tcp};

pub(crate) fn line(octets: &[u8]) -> String {
    let Ok(frame) = ethernet::parse(octets) else { return "no Ethernet".to_owned() };
    if frame.ethertype == ethernet::ETHERTYPE_ARP {
        return format!("{:?}", arp::parse(frame.payload));
    }
    let Ok(packet) = ipv4::parse(frame.payload) else { return "no IPv4".to_owned() };
    let Ok(segment) = tcp::parse(packet.payload) else { return "no TCP".to_owned() };
    let letters = [
        (Flags::SYN, 'S'),
        (Flags::FIN, 'F'),
        (Flags::RST, 'R'),
        (Flags::PSH, 'P'),
        (Flags::ACK, '.'),
    ];
    let set = letters.iter().filter(|(flag, _)| segment.flags.has(*flag));
    format!(
        "{} > {} [{}] seq {} len {} ack {} win {} {:?}",
        segment.source_port,
        segment.destination_port,
        set.map(|(_, letter)| letter).collect::<String>(),
        segment.seq.0,
        segment.payload.len(),
        segment.ack.0,
        segment.window,
        segment.options,
    )
}
