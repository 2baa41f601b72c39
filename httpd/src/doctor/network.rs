//! The interfaces of this network namespace and the kernel's addresses on them, by rtnetlink(7). (/sys
//! shows those of the namespace in which it was mounted, which may be another.)

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use tagwire_core::netlink::{attributes, find, messages, text};

/// More than the kernel puts into one answer to a dump.
const ANSWER: usize = 64 * 1024;
/// Octets of `nlmsghdr`, of `ifinfomsg` and of `ifaddrmsg`.
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
/// Attributes of a VLAN device (linux/if_link.h), which libc does not name.
const VLAN_ID: u16 = 1;
const VLAN_PROTOCOL: u16 = 5;

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
    dump(libc::RTM_GETLINK, |kind, body| {
        if kind == libc::RTM_NEWLINK {
            links.extend(link(body));
        }
    })?;
    dump(libc::RTM_GETADDR, |kind, body| {
        if kind == libc::RTM_NEWADDR
            && let Some((index, address, length)) = address(body)
            && let Some(link) = links.iter_mut().find(|link| link.index == index)
        {
            link.addresses.push((address, length));
        }
    })?;
    Ok(links)
}

/// Has the kernel list something.
fn dump(request: u16, mut listed: impl FnMut(u16, &[u8])) -> io::Result<()> {
    // nlmsghdr { len u32, type u16, flags u16, seq u32, pid u32 }, and an ifinfomsg or ifaddrmsg of zeros,
    // which is all interfaces and all families.
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    const LENGTH: usize = MESSAGE_HEADER + LINK_HEADER;
    let mut octets = [0; LENGTH];
    octets[..4].copy_from_slice(&(LENGTH as u32).to_ne_bytes());
    octets[4..6].copy_from_slice(&request.to_ne_bytes());
    octets[6..8].copy_from_slice(&flags.to_ne_bytes());

    // The kernel is who a netlink socket talks to unless told otherwise.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &octets, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER];
    loop {
        let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
        for (kind, body) in messages(&answer[..length]) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                // nlmsgerr { error i32, and the request }: a negative errno.
                libc::NLMSG_ERROR => {
                    let error = body.first_chunk().map_or(0, |error| i32::from_ne_bytes(*error));
                    return Err(io::Error::from_raw_os_error(-error));
                }
                _ => listed(kind, body),
            }
        }
    }
}

/// An interface: ifinfomsg { family u8, pad u8, type u16, index i32, flags u32, change u32 }, and attributes.
fn link(body: &[u8]) -> Option<Link> {
    let (header, rest) = body.split_first_chunk::<LINK_HEADER>()?;
    let field = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|octet| header[at + octet]));
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    let mut link = Link { index: field(4), up: field(8) & up == up, ..Link::default() };
    let mut elsewhere = false;
    for (kind, value) in attributes(rest) {
        match kind {
            libc::IFLA_IFNAME => link.name = owned(text(value)),
            libc::IFLA_LINK => {
                let below = value.try_into().map_or(0, u32::from_ne_bytes);
                if below != 0 {
                    link.below = Below::Here(below);
                }
            }
            libc::IFLA_LINK_NETNSID => elsewhere = true,
            libc::IFLA_LINKINFO => {
                link.kind = find(value, libc::IFLA_INFO_KIND).map(|kind| owned(text(kind)));
                if link.kind.as_deref() == Some("vlan") {
                    link.tag = find(value, libc::IFLA_INFO_DATA).and_then(tag);
                }
            }
            _ => {}
        }
    }
    if elsewhere {
        link.below = Below::Elsewhere;
    }
    Some(link)
}

fn owned(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// What a VLAN device says of itself. The ethertype is in network order, the VID is not.
fn tag(data: &[u8]) -> Option<(u16, u16)> {
    let field = |wanted| -> Option<[u8; 2]> { find(data, wanted)?.try_into().ok() };
    Some((u16::from_be_bytes(field(VLAN_PROTOCOL)?), u16::from_ne_bytes(field(VLAN_ID)?)))
}

/// An address, the interface that has it, and the length of its prefix: ifaddrmsg { family u8, prefix length u8,
/// flags u8, scope u8, index u32 }, and attributes.
fn address(body: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let (header, rest) = body.split_first_chunk::<ADDRESS_HEADER>()?;
    let [_, length, _, _, index @ ..] = *header;
    let address = |wanted| {
        let value = find(rest, wanted)?;
        let v4 = <[u8; 4]>::try_from(value).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
        let v6 = <[u8; 16]>::try_from(value).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
        v4.or(v6).ok()
    };
    // Of a point-to-point link the other attribute is the peer's.
    let address = address(libc::IFA_LOCAL).or_else(|| address(libc::IFA_ADDRESS))?;
    Some((u32::from_ne_bytes(index), address, length))
}

#[cfg(test)]
mod tests {
    use tagwire_core::netlink::attribute;

    use super::*;

    #[test]
    fn the_loopback_is_listed() {
        let links = links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((lo.index, lo.below, &lo.kind, lo.tag), (1, Below::Nothing, &None, None));
    }

    #[test]
    fn a_vlan_device_has_its_tag_and_what_it_stands_on() {
        let vlan = [
            attribute(VLAN_ID, &123u16.to_ne_bytes()),
            attribute(VLAN_PROTOCOL, &0x88a8u16.to_be_bytes()),
        ]
        .concat();
        let nested = 0x8000;
        let info = |kind: &[u8]| {
            let data = attribute(nested | libc::IFLA_INFO_DATA, &vlan);
            [attribute(libc::IFLA_INFO_KIND, kind), data].concat()
        };
        let message = |flags: i32, info: &[u8], more: &[u8]| {
            let mut octets = vec![0; 4];
            octets.extend(7i32.to_ne_bytes());
            octets.extend(flags.to_ne_bytes());
            octets.extend([0; 4]);
            octets.extend(attribute(libc::IFLA_IFNAME, b"eth0.123\0"));
            octets.extend(attribute(libc::IFLA_LINK, &3u32.to_ne_bytes()));
            octets.extend(attribute(nested | libc::IFLA_LINKINFO, info));
            octets.extend(more);
            octets
        };
        let up = libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_LOWER_UP;
        let expected = Link {
            index: 7,
            name: "eth0.123".to_owned(),
            kind: Some("vlan".to_owned()),
            up: true,
            tag: Some((0x88a8, 123)),
            below: Below::Here(3),
            addresses: Vec::new(),
        };
        let whole = message(up, &info(b"vlan\0"), &[]);
        assert_eq!(link(&whole).as_ref(), Some(&expected));
        // In another namespace that index is another interface's.
        let elsewhere = attribute(libc::IFLA_LINK_NETNSID, &0u32.to_ne_bytes());
        assert_eq!(
            link(&message(libc::IFF_UP, &info(b"vlan\0"), &elsewhere)),
            Some(Link { below: Below::Elsewhere, up: false, ..expected.clone() })
        );
        // The same numbers mean something else to another type.
        assert_eq!(
            link(&message(up, &info(b"vxlan\0"), &[])),
            Some(Link { kind: Some("vxlan".to_owned()), tag: None, ..expected })
        );
        for cut in 0..LINK_HEADER {
            assert_eq!(link(&whole[..cut]), None);
        }
        for cut in LINK_HEADER..whole.len() {
            assert_eq!(link(&whole[..cut]).unwrap().index, 7);
        }
    }

    #[test]
    fn an_address_is_the_interface_s_own() {
        let message = |attributes: &[Vec<u8>]| {
            [vec![libc::AF_INET as u8, 24, 0, 0], 7u32.to_ne_bytes().to_vec(), attributes.concat()]
                .concat()
        };
        let peer = attribute(libc::IFA_ADDRESS, &[192, 0, 2, 1]);
        let own = attribute(libc::IFA_LOCAL, &[192, 0, 2, 2]);
        let v6 = attribute(libc::IFA_ADDRESS, &Ipv6Addr::LOCALHOST.octets());
        let odd = attribute(libc::IFA_ADDRESS, &[1, 2, 3]);
        let found = |attributes: &[Vec<u8>]| address(&message(attributes));
        assert_eq!(found(std::slice::from_ref(&peer)), Some((7, [192, 0, 2, 1].into(), 24)));
        assert_eq!(found(&[peer, own]), Some((7, [192, 0, 2, 2].into(), 24)));
        assert_eq!(found(&[v6]), Some((7, Ipv6Addr::LOCALHOST.into(), 24)));
        assert_eq!(found(&[odd]), None);
        assert_eq!(address(&message(&[])[..7]), None);
    }
}
