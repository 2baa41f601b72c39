//! The interface: what it is, and whether its link is up. What becomes of it is told by [`crate::link`].

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::clock;
use crate::error::OpenError;
use crate::link::LinkMonitor;
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
    /// Whether it carries frames.
    pub link: LinkState,
}

/// Whether an interface carries frames, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It does.
    Up,
    /// It is set up and has no carrier: no cable, or, of a macvlan, a master that is down.
    NoCarrier,
    /// Somebody has set it down.
    Down,
    /// It was deleted, or moved to another namespace: sockets that are bound to it stay deaf.
    Gone,
    /// It is gone, and there is another one of its name.
    Replaced,
}

impl LinkState {
    /// What flags of netdevice(7) say.
    pub(crate) fn of(flags: i32) -> Self {
        match (flags & libc::IFF_UP != 0, flags & libc::IFF_RUNNING != 0) {
            (false, _) => Self::Down,
            (true, false) => Self::NoCarrier,
            (true, true) => Self::Up,
        }
    }
}

impl Interface {
    /// Whether it carries frames.
    pub fn is_up(&self) -> bool {
        self.link == LinkState::Up
    }

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
    pub(crate) fn ask(socket: BorrowedFd<'_>, name: &str) -> io::Result<Option<Self>> {
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
        Ok(Some(Self { name: name.to_owned(), index, mac, mtu, link: LinkState::of(flags) }))
    }

    /// Waits a little for a link that is only about to come up: of an interface that was just
    /// set up the kernel tells the carrier up to a second late.
    pub(crate) fn wait_until_up(&mut self, monitor: &LinkMonitor) -> Result<(), OpenError> {
        let until = clock::now().after(LINK_PATIENCE);
        while !self.is_up() {
            monitor.forget();
            *self = Self::find(&self.name)?;
            let left = until.since(clock::now());
            let hopeless = || left.is_zero() || self.link == LinkState::Down || !monitor.wait(left);
            if !self.is_up() && hopeless() {
                return Err(OpenError::LinkDown { name: self.name.clone() });
            }
        }
        Ok(())
    }
}

/// The name of the interface with this index, asked for by any socket.
pub(crate) fn name_of(socket: BorrowedFd<'_>, index: i32) -> io::Result<String> {
    // SAFETY: ifreq is plain data for which zeros are valid.
    let mut ifreq: libc::ifreq = unsafe { zeroed() };
    ifreq.ifr_ifru.ifru_ifindex = index;
    // SAFETY: the request reads an index from, and writes a name to, the ifreq that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFNAME, &raw mut ifreq) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = ifreq.ifr_name.iter().take_while(|octet| **octet != 0).map(|octet| *octet as u8);
    Ok(String::from_utf8_lossy(&name.collect::<Vec<_>>()).into_owned())
}

/// A request about the interface `name`; that it is terminated is seen to.
pub(crate) fn request_for(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain data for which zeros are valid.
    let mut ifreq: libc::ifreq = unsafe { zeroed() };
    if name.len() >= ifreq.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in ifreq.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(ifreq)
}

fn ioctl(fd: BorrowedFd<'_>, name: &str, request: libc::Ioctl) -> io::Result<libc::ifreq> {
    let mut ifreq = request_for(name)?;
    // SAFETY: the interface requests read a terminated name from, and write an answer to, the ifreq
    // that outlives the call.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_found_by_its_index_with_any_socket() {
        let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).unwrap();
        // The loopback is always the first one; it is no Ethernet.
        assert_eq!(name_of(socket.as_fd(), 1).unwrap(), "lo");
        assert_eq!(Interface::ask(socket.as_fd(), "lo").unwrap(), None);
        let error = name_of(socket.as_fd(), i32::MAX).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
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
