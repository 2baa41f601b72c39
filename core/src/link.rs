//! What becomes of the interface, as rtnetlink(7) tells it: down, up, another address, another MTU,
//! gone.
//!
//! A worker keeps what is known of its interface and lets the monitor bring that up to date. The kernel
//! drops messages where many come at once (ENOBUFS); then, and before the first turn, the
//! interface is asked itself. None of that needs a privilege or opens anything.
//!
//! An interface that is gone does not come back: one of the same name is another to the kernel,
//! with an index of its own. The packet sockets of the old one could be bound to it by bind(2) only
//! if they were no members of a fanout group (`packet_do_bind` refuses those), and its address, its ring
//! slots and its memberships would be those of the old one. New sockets need `CAP_NET_RAW`,
//! which is given up by then. So its end is told, and that there is another one, and a start does the rest.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::netlink::{attributes, messages, text};
use crate::nic::{Interface, LinkState, name_of};
use crate::sys;

/// Octets of `ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Octets of messages read at once: twice the kernel's largest of the group (`NLMSG_GOODSIZE` on
/// pages of 4 KiB).
const BATCH: usize = 8192;

/// A netlink socket in the link group.
#[derive(Debug)]
pub(crate) struct LinkMonitor {
    socket: OwnedFd,
}

impl LinkMonitor {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        // SAFETY: sockaddr_nl is plain data for which zeros are valid.
        let mut address: libc::sockaddr_nl = unsafe { zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        // SAFETY: a netlink socket takes a sockaddr_nl.
        unsafe { sys::bind(socket.as_fd(), &address)? };
        Ok(Self { socket })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for a message; false if none came in that time.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let fd = self.socket.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one pollfd, valid for the length of the call.
        unsafe { libc::poll(&raw mut poll, 1, milliseconds) > 0 }
    }

    /// Drops what waits.
    pub(crate) fn forget(&self) {
        self.read(|_| {});
    }

    /// Brings what is known of the interface up to date by the messages that wait.
    pub(crate) fn follow(&self, known: &mut Interface) {
        if !self.read(|messages| follow(known, messages)) {
            self.resync(known);
        }
    }

    /// The same by asking for the interface itself.
    pub(crate) fn resync(&self, known: &mut Interface) {
        let is_gone =
            |known: &Interface| matches!(known.link, LinkState::Gone | LinkState::Replaced);
        if !is_gone(known) {
            match name_of(self.fd(), known.index) {
                // If it is renamed in between, a message about that is on its way.
                Ok(name) => {
                    if let Ok(Some(found)) = Interface::ask(self.fd(), &name)
                        && found.index == known.index
                    {
                        *known = Interface { name: std::mem::take(&mut known.name), ..found };
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                    known.link = LinkState::Gone;
                }
                // Who may not ask knows nothing new.
                Err(_) => {}
            }
        }
        if known.link == LinkState::Gone && Interface::ask(self.fd(), &known.name).is_ok() {
            known.link = LinkState::Replaced;
        }
    }

    /// Gives all messages that wait to `take`, in batches. False if some were lost.
    fn read(&self, mut take: impl FnMut(&[u8])) -> bool {
        let mut buffer = [0u8; BATCH];
        let mut complete = true;
        loop {
            // SAFETY: `buffer` is valid for its length for the length of the call.
            let got = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                )
            };
            match usize::try_from(got) {
                Ok(got) => {
                    complete &= got <= buffer.len();
                    take(&buffer[..got.min(buffer.len())]);
                }
                Err(_) => match io::Error::last_os_error().raw_os_error() {
                    Some(libc::ENOBUFS) => complete = false,
                    Some(libc::EINTR) => {}
                    _ => return complete,
                },
            }
        }
    }
}

/// What one message says of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
struct News<'a> {
    deleted: bool,
    index: i32,
    flags: i32,
    name: Option<&'a [u8]>,
    mac: Option<[u8; 6]>,
    mtu: Option<u32>,
}

/// Takes a batch of messages into what is known of an interface.
fn follow(known: &mut Interface, octets: &[u8]) {
    for (kind, body) in messages(octets) {
        if let Some(news) = News::of(kind, body) {
            news.tell(known);
        }
    }
}

impl<'a> News<'a> {
    /// What a message of this type says, if it is about a link (rtnetlink(7)): ifinfomsg { family u8,
    /// pad u8, type u16, index i32, flags u32, change u32 }, and attributes.
    fn of(kind: u16, body: &'a [u8]) -> Option<Self> {
        let deleted = match kind {
            libc::RTM_NEWLINK => false,
            libc::RTM_DELLINK => true,
            _ => return None,
        };
        let header = body.get(..LINK_HEADER)?;
        // A bridge tells by the same group, and by DELLINK too, what becomes of its ports.
        if i32::from(header[0]) != libc::AF_UNSPEC {
            return None;
        }
        let field = |at: usize| i32::from_ne_bytes([0, 1, 2, 3].map(|octet| header[at + octet]));
        let (index, flags) = (field(4), field(8));
        let mut news = Self { deleted, index, flags, name: None, mac: None, mtu: None };
        for (kind, value) in attributes(&body[LINK_HEADER..]) {
            match kind {
                libc::IFLA_IFNAME => news.name = Some(text(value)),
                libc::IFLA_ADDRESS => news.mac = value.try_into().ok(),
                libc::IFLA_MTU => news.mtu = value.try_into().ok().map(u32::from_ne_bytes),
                _ => {}
            }
        }
        Some(news)
    }

    /// Takes it into what is known of an interface.
    fn tell(&self, known: &mut Interface) {
        match known.link {
            LinkState::Replaced => {}
            LinkState::Gone => {
                if !self.deleted && self.name == Some(known.name.as_bytes()) {
                    known.link = LinkState::Replaced;
                }
            }
            _ if self.index != known.index => {}
            _ if self.deleted => known.link = LinkState::Gone,
            _ => {
                known.link = LinkState::of(self.flags);
                known.mac = self.mac.unwrap_or(known.mac);
                let mtu = self.mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
                known.mtu = mtu.unwrap_or(known.mtu);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute;

    const UP: i32 = libc::IFF_UP | libc::IFF_RUNNING;
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn message(kind: u16, family: i32, index: i32, flags: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let mut octets = (32 + attributes.len() as u32).to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend([0; 10]);
        octets.extend([family as u8, 0, 0, 0]);
        octets.extend(index.to_ne_bytes());
        octets.extend(flags.to_ne_bytes());
        octets.extend([0; 4]);
        octets.extend(attributes);
        octets
    }

    fn about(kind: u16, index: i32, flags: i32, name: &str, mac: [u8; 6], mtu: u32) -> Vec<u8> {
        let name = [name.as_bytes(), b"\0"].concat();
        let attributes = [
            attribute(libc::IFLA_IFNAME, &name),
            attribute(libc::IFLA_MTU, &mtu.to_ne_bytes()),
            attribute(libc::IFLA_ADDRESS, &mac),
        ];
        message(kind, libc::AF_UNSPEC, index, flags, &attributes)
    }

    fn ours(flags: i32) -> Vec<u8> {
        about(libc::RTM_NEWLINK, 3, flags, "macvlan0", MAC, 1500)
    }

    fn deleted(index: i32) -> Vec<u8> {
        about(libc::RTM_DELLINK, index, 0, "macvlan0", MAC, 1500)
    }

    fn before() -> Interface {
        let (name, link) = ("macvlan0".to_owned(), LinkState::Up);
        Interface { name, index: 3, mac: MAC, mtu: 1500, link }
    }

    #[test]
    fn each_thing_that_can_become_of_a_link() {
        use LinkState::{Down, Gone, NoCarrier, Replaced, Up};
        let new = |index, name, mac, mtu| about(libc::RTM_NEWLINK, index, UP, name, mac, mtu);
        let again = new(7, "macvlan0", OTHER_MAC, 9000);
        let same_index = new(3, "macvlan0", OTHER_MAC, 9000);
        // A port that leaves its bridge.
        let left = message(libc::RTM_DELLINK, libc::AF_BRIDGE, 3, UP, &[]);
        let bare = message(libc::RTM_NEWLINK, libc::AF_UNSPEC, 3, UP, &[]);
        let route = message(libc::RTM_NEWROUTE, libc::AF_UNSPEC, 3, 0, &[]);
        for (what, batch, link, mac, mtu) in [
            ("nothing", vec![], Up, MAC, 1500),
            ("set down", vec![ours(0)], Down, MAC, 1500),
            ("set down, which running says late", vec![ours(libc::IFF_RUNNING)], Down, MAC, 1500),
            ("its master is down", vec![ours(libc::IFF_UP)], NoCarrier, MAC, 1500),
            ("down and up", vec![ours(0), ours(UP)], Up, MAC, 1500),
            ("up and down", vec![ours(UP), ours(0)], Down, MAC, 1500),
            ("another's news", vec![new(4, "eth0", OTHER_MAC, 9000)], Up, MAC, 1500),
            ("another MAC", vec![new(3, "macvlan0", OTHER_MAC, 1500)], Up, OTHER_MAC, 1500),
            ("another MTU", vec![new(3, "macvlan0", MAC, 1400)], Up, MAC, 1400),
            ("an MTU of no packet", vec![new(3, "macvlan0", MAC, 70_000)], Up, MAC, u16::MAX),
            ("another name", vec![new(3, "eth7", MAC, 1500)], Up, MAC, 1500),
            ("no attributes", vec![bare], Up, MAC, 1500),
            ("no link's news", vec![route], Up, MAC, 1500),
            ("a bridge without it", vec![left], Up, MAC, 1500),
            ("another is deleted", vec![deleted(4)], Up, MAC, 1500),
            ("deleted", vec![ours(0), deleted(3)], Gone, MAC, 1500),
            (
                "deleted, and another comes",
                vec![deleted(3), new(7, "eth0", MAC, 9)],
                Gone,
                MAC,
                1500,
            ),
            ("deleted, and made again", vec![deleted(3), again.clone()], Replaced, MAC, 1500),
            ("made again by its index", vec![deleted(3), same_index], Replaced, MAC, 1500),
            ("and that is gone, too", vec![deleted(3), again, deleted(7)], Replaced, MAC, 1500),
        ] {
            let mut known = before();
            follow(&mut known, &batch.concat());
            assert_eq!((known.link, known.mac, known.mtu), (link, mac, mtu), "{what}");
            assert_eq!((&*known.name, known.index), ("macvlan0", 3), "{what}");
            // The same in messages of their own.
            let mut one_by_one = before();
            batch.iter().for_each(|message| follow(&mut one_by_one, message));
            assert_eq!(one_by_one, known, "{what}");
        }
    }

    #[test]
    fn cut_messages_are_read_as_far_as_they_are_whole() {
        let whole = [ours(0), about(libc::RTM_NEWLINK, 3, UP, "macvlan0", OTHER_MAC, 576)].concat();
        for cut in 0..whole.len() {
            let mut known = before();
            follow(&mut known, &whole[..cut]);
            let expected = if cut < whole.len() / 2 { LinkState::Up } else { LinkState::Down };
            assert_eq!((known.link, known.mac), (expected, MAC), "{cut}");
        }
        // An attribute that is longer than its message is none.
        let (kind, body) = messages(&whole).next().unwrap();
        let mut body = body.to_vec();
        body[LINK_HEADER] = 0xff;
        assert_eq!(News::of(kind, &body).unwrap().name, None);
    }

    #[test]
    fn who_has_lost_messages_asks() {
        let monitor = LinkMonitor::open().unwrap();
        let mut gone = Interface { index: i32::MAX, name: "no-such-if0".into(), ..before() };
        monitor.resync(&mut gone);
        assert_eq!(gone.link, LinkState::Gone);
        monitor.resync(&mut gone);
        assert_eq!(gone.link, LinkState::Gone);
        gone.name = "lo".into();
        monitor.resync(&mut gone);
        assert_eq!(gone.link, LinkState::Replaced);
    }
}
