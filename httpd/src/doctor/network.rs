//! The interfaces of this network namespace and the kernel's addresses on them, by rtnetlink(7). (/sys
//! shows those of the namespace in which it was mounted, which may be another.)

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// More than the kernel puts into one answer to a dump.
const ANSWER: usize = 64 * 1024;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Its type where that is software: `macvlan`, `vlan`, `veth` say.
    pub(super) kind: Option<String>,
    pub(super) up: bool,
    /// Ethertype and VID of the tag that a VLAN device stands for.
    pub(super) tag: Option<(u16, u16)>,
    pub(super) below: Below,
    /// The kernel's own addresses on it, with the lengths of their prefixes.
    pub(super) addresses: Vec<(IpAddr, u8)>,
}

/// What an interface stands on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Below {
    #[default]
    Nothing,
    /// An interface of this namespace, by its index.
    Here(u32),
    /// One of another namespace.
    Elsewhere,
}

/// All interfaces.
///
/// # Errors
/// The kernel tells none, as where a seccomp profile forbids netlink.
pub(super) fn links() -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
        if let RouteNetlinkMessage::NewLink(message) = message {
            links.push(link(message));
        }
    })?;
    dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
        if let RouteNetlinkMessage::NewAddress(message) = message
            && let Some(address) = address(&message.attributes)
            && let Some(link) = links.iter_mut().find(|link| link.index == message.header.index)
        {
            link.addresses.push((address, message.header.prefix_len));
        }
    })?;
    Ok(links)
}

/// Has the kernel list something.
fn dump(
    request: RouteNetlinkMessage,
    mut listed: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(request));
    request.finalize();
    let mut octets = vec![0; request.buffer_len()];
    request.serialize(&mut octets);

    // The kernel is who a netlink socket talks to unless told otherwise.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &octets, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER];
    loop {
        let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
        for message in messages(&answer[..length]) {
            // What this version of the crate does not understand is no reason to hide the rest.
            match NetlinkMessage::deserialize(message).map(|message| message.payload) {
                Ok(NetlinkPayload::Done(_)) => return Ok(()),
                Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
                Ok(NetlinkPayload::InnerMessage(message)) => listed(message),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// The messages of an answer, each of which begins with its length and is padded to four octets.
fn messages(mut octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*octets.first_chunk()?) as usize;
        let message = octets.get(..length).filter(|message| !message.is_empty())?;
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn link(message: LinkMessage) -> Link {
    let flags = LinkFlags::Up | LinkFlags::Running;
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(flags),
        ..Link::default()
    };
    let mut elsewhere = false;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Link(index) if index != 0 => link.below = Below::Here(index),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                        LinkInfo::Data(InfoData::Vlan(vlan)) => link.tag = tag(&vlan),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if elsewhere {
        link.below = Below::Elsewhere;
    }
    link
}

fn tag(vlan: &[InfoVlan]) -> Option<(u16, u16)> {
    let vid = vlan.iter().find_map(|it| if let InfoVlan::Id(vid) = it { Some(*vid) } else { None });
    let protocol = vlan.iter().find_map(|it| match it {
        InfoVlan::Protocol(protocol) => Some(u16::from(*protocol)),
        _ => None,
    });
    Some((protocol?, vid?))
}

/// The interface's own address: of a point-to-point link the other attribute is the peer's.
fn address(attributes: &[AddressAttribute]) -> Option<IpAddr> {
    let local = attributes.iter().find_map(|it| match it {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        attributes.iter().find_map(|it| match it {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{InfoKind, VlanProtocol};

    use super::*;

    #[test]
    fn the_loopback_is_listed() {
        let links = links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((lo.index, lo.below, &lo.kind, lo.tag), (1, Below::Nothing, &None, None));
    }

    #[test]
    fn a_vlan_device_has_its_tag_and_what_it_stands_on() {
        let vlan = vec![InfoVlan::Id(123), InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)];
        let infos = vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(vlan))];
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp;
        message.attributes = vec![
            LinkAttribute::IfName("eth0.123".to_owned()),
            LinkAttribute::Link(3),
            LinkAttribute::LinkInfo(infos),
        ];
        let expected = Link {
            index: 7,
            name: "eth0.123".to_owned(),
            kind: Some("vlan".to_owned()),
            up: true,
            tag: Some((0x88a8, 123)),
            below: Below::Here(3),
            addresses: Vec::new(),
        };
        assert_eq!(link(message.clone()), expected);
        // In another namespace that index is another interface's.
        message.attributes.push(LinkAttribute::LinkNetNsId(0));
        message.header.flags = LinkFlags::Up;
        assert_eq!(link(message), Link { below: Below::Elsewhere, up: false, ..expected });
    }

    #[test]
    fn an_answer_is_cut_into_messages() {
        let message = |length: u32, octets: usize| {
            let mut message = length.to_ne_bytes().to_vec();
            message.resize(octets, 0);
            message
        };
        let answer = [message(18, 20), message(16, 16)].concat();
        let lengths: Vec<usize> = messages(&answer).map(<[u8]>::len).collect();
        assert_eq!(lengths, [18, 16]);
        // What is cut off or has no length ends it.
        assert_eq!(messages(&answer[..35]).count(), 1);
        assert_eq!(messages(&message(0, 16)).count(), 0);
    }
}
