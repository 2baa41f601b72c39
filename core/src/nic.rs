//! The interface: what it is, and whether its link is up.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::clock;
use crate::error::OpenError;
use crate::sys;

/// How long [`Interface::wait_until_up`] waits.
const LINK_PATIENCE: Duration = Duration::from_secs(2);

/// An Ethernet interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, `macvlan0`.
    pub name: String,
    /// Its index.
    pub index: i32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The largest IP packet it carries, in octets.
    pub mtu: u16,
    /// Administratively up, and with a carrier.
    pub up: bool,
}

impl Interface {
    /// Looks an interface up.
    ///
    /// # Errors
    /// [`OpenError::NoInterface`] and [`OpenError::NotEthernet`].
    pub fn find(name: &str) -> Result<Self, OpenError> {
        let missing = || OpenError::NoInterface { name: name.to_owned(), others: names() };
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.bytes().any(|b| b == 0) {
            return Err(missing());
        }
        let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)
            .map_err(|error| OpenError::Io { what: "a socket for interface requests", error })?;
        Self::ask(socket.as_fd(), name)
            .map_err(|_| missing())?
            .ok_or_else(|| OpenError::NotEthernet { name: name.to_owned() })
    }

    /// Asks for the interface `name` by any socket; `None`: it is not Ethernet.
    fn ask(socket: BorrowedFd<'_>, name: &str) -> io::Result<Option<Self>> {
        let ask = |request| ioctl(socket, name, request);
        let index = ask(libc::SIOCGIFINDEX)?;
        let hardware = ask(libc::SIOCGIFHWADDR)?;
        let mtu = ask(libc::SIOCGIFMTU)?;
        let flags = ask(libc::SIOCGIFFLAGS)?;
        // SAFETY: each union field is the one that its request has filled; all are plain
        // data, valid for any octets.
        let (index, hardware, mtu, flags) = unsafe {
            (
                index.ifr_ifru.ifru_ifindex,
                hardware.ifr_ifru.ifru_hwaddr,
                mtu.ifr_ifru.ifru_mtu,
                i32::from(flags.ifr_ifru.ifru_flags),
            )
        };
        if hardware.sa_family != libc::ARPHRD_ETHER {
            return Ok(None);
        }
        let mut mac = [0; 6];
        for (octet, raw) in mac.iter_mut().zip(hardware.sa_data) {
            *octet = raw as u8;
        }
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        Ok(Some(Self { name: name.to_owned(), index, mac, mtu, up: is_up(flags) }))
    }

    /// Waits a little for a link that is only about to come up: of an interface that was just
    /// set up the kernel tells the carrier up to a second late.
    pub(crate) fn wait_until_up(&mut self, monitor: &LinkMonitor) -> Result<(), OpenError> {
        let until = clock::now().after(LINK_PATIENCE);
        while !self.up {
            monitor.read();
            *self = Self::find(&self.name)?;
            let left = until.since(clock::now());
            let hopeless = || left.is_zero() || !is_set_up(&self.name) || !monitor.wait(left);
            if !self.up && hopeless() {
                return Err(OpenError::LinkDown { name: self.name.clone() });
            }
        }
        Ok(())
    }
}

/// Whether somebody has set the interface up, carrier or not.
fn is_set_up(name: &str) -> bool {
    let flags = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)
        .and_then(|socket| ioctl(socket.as_fd(), name, libc::SIOCGIFFLAGS));
    // SAFETY: the union field is the one that the request has filled.
    flags.is_ok_and(|ifreq| i32::from(unsafe { ifreq.ifr_ifru.ifru_flags }) & libc::IFF_UP != 0)
}

fn is_up(flags: i32) -> bool {
    let wanted = libc::IFF_UP | libc::IFF_RUNNING;
    flags & wanted == wanted
}

fn ioctl(fd: BorrowedFd<'_>, name: &str, request: libc::Ioctl) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain data for which zeros are valid.
    let mut ifreq: libc::ifreq = unsafe { zeroed() };
    for (to, from) in ifreq.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the interface requests read a name from, and write an answer to, the ifreq
    // that outlives the call. The name is terminated: it is shorter than the field.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut ifreq) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(ifreq) }
}

/// The names of the interfaces that there are, for an error message.
fn names() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: returns null or an array that ends with an index of zero; each entry's name
    // is a terminated string; the array is freed once, after its last use.
    unsafe {
        let list = libc::if_nameindex();
        let mut entry = list;
        while !list.is_null() && (*entry).if_index != 0 {
            names.push(std::ffi::CStr::from_ptr((*entry).if_name).to_string_lossy().into_owned());
            entry = entry.add(1);
        }
        if !list.is_null() {
            libc::if_freenameindex(list);
        }
    }
    names
}

/// Tells when an interface goes down or comes back: a netlink socket in the link group.
#[derive(Debug)]
pub(crate) struct LinkMonitor {
    socket: OwnedFd,
    index: i32,
}

/// What a look at the link monitor found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkNews {
    /// Nothing about our interface.
    None,
    /// The last state told.
    Up(bool),
    /// The interface was deleted, or moved to another namespace.
    Gone,
    /// Messages were lost (ENOBUFS): look at the interface itself.
    Lost,
}

impl LinkMonitor {
    pub(crate) fn open(index: i32) -> io::Result<Self> {
        let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        // SAFETY: sockaddr_nl is plain data for which zeros are valid.
        let mut address: libc::sockaddr_nl = unsafe { zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        // SAFETY: a netlink socket takes a sockaddr_nl.
        unsafe { sys::bind(socket.as_fd(), &address)? };
        Ok(Self { socket, index })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The interface `name` as it is now, if there is one. Opens nothing: a worker that serves may not.
    pub(crate) fn find(&self, name: &str) -> Option<Interface> {
        Interface::ask(self.fd(), name).ok().flatten()
    }

    /// Waits for a message; false if none came in that time.
    fn wait(&self, time: Duration) -> bool {
        let fd = self.socket.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one pollfd, valid for the length of the call.
        unsafe { libc::poll(&raw mut poll, 1, milliseconds) > 0 }
    }

    /// Reads all messages that wait.
    pub(crate) fn read(&self) -> LinkNews {
        let mut news = LinkNews::None;
        let mut buffer = [0u8; 8192];
        loop {
            // SAFETY: `buffer` is valid for its length for the length of the call.
            let got = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            let Ok(got) = usize::try_from(got) else {
                return match io::Error::last_os_error().raw_os_error() {
                    Some(libc::ENOBUFS) => LinkNews::Lost,
                    _ => news,
                };
            };
            match last_state(&buffer[..got], self.index) {
                LinkNews::None => {}
                told => news = told,
            }
        }
    }
}

/// The last state of interface `index` in a batch of rtnetlink messages (rtnetlink(7)):
/// nlmsghdr { len u32, type u16, flags u16, seq u32, pid u32 }, then for links
/// ifinfomsg { family u8, pad u8, type u16, index i32, flags u32, change u32 }.
fn last_state(mut octets: &[u8], index: i32) -> LinkNews {
    const HEADER: usize = 16;
    let mut state = LinkNews::None;
    while let Some(length) = octets.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l) as usize) {
        let Some(message) = octets.get(..length).filter(|m| m.len() >= HEADER + 16) else { break };
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        let field = |at: usize| {
            let at = HEADER + at;
            i32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]])
        };
        if field(4) == index {
            match kind {
                libc::RTM_NEWLINK => state = LinkNews::Up(is_up(field(8))),
                libc::RTM_DELLINK => state = LinkNews::Gone,
                _ => {}
            }
        }
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, index: i32, flags: i32) -> Vec<u8> {
        let mut octets = 32u32.to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend([0; 10]);
        octets.extend([0; 4]);
        octets.extend(index.to_ne_bytes());
        octets.extend(flags.to_ne_bytes());
        octets.extend([0; 4]);
        octets
    }

    #[test]
    fn the_last_message_about_the_interface_counts() {
        let up = libc::IFF_UP | libc::IFF_RUNNING;
        let mut batch = message(libc::RTM_NEWLINK, 3, 0);
        batch.extend(message(libc::RTM_NEWLINK, 3, up));
        batch.extend(message(libc::RTM_NEWLINK, 4, 0));
        assert_eq!(last_state(&batch, 3), LinkNews::Up(true));
        assert_eq!(last_state(&batch, 4), LinkNews::Up(false));
        assert_eq!(last_state(&batch, 5), LinkNews::None);
        assert_eq!(last_state(&message(libc::RTM_DELLINK, 3, up), 3), LinkNews::Gone);
        // Up without a carrier is down; cut messages are not read.
        assert_eq!(
            last_state(&message(libc::RTM_NEWLINK, 3, libc::IFF_UP), 3),
            LinkNews::Up(false)
        );
        for cut in 0..32 {
            assert_eq!(last_state(&batch[..cut], 3), LinkNews::None);
        }
    }

    #[test]
    fn a_monitor_finds_interfaces_by_its_own_socket() {
        let monitor = LinkMonitor::open(1).unwrap();
        let lo = Interface::ask(monitor.fd(), "lo").unwrap();
        assert_eq!((lo, monitor.find("no-such-if0")), (None, None));
    }

    #[test]
    fn the_loopback_is_no_ethernet_and_a_missing_one_names_the_others() {
        assert!(matches!(Interface::find("lo"), Err(OpenError::NotEthernet { .. })));
        match Interface::find("no-such-if0") {
            Err(OpenError::NoInterface { others, .. }) => assert!(others.contains(&"lo".into())),
            other => panic!("{other:?}"),
        }
    }
}
