//! Opening packet sockets: two for each worker.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::filter::{self, Vlan};
use super::steer::Steering;
use crate::error::OpenError;
use crate::nic::Interface;
use crate::sys::{self, set_option};

/// The protocol field of a socket that sees every frame: an `ETH_P_IP` one gets tagged frames
/// with the tag erased.
const ALL_FRAMES: u16 = (libc::ETH_P_ALL as u16).to_be();
const PACKET_IGNORE_OUTGOING: i32 = 23;
const PACKET_COPY_THRESH: i32 = 7;
const PACKET_FANOUT_FLAG_UNIQUEID: i32 = 0x2000;
/// The group has a hook of its own, which its members' PACKET_IGNORE_OUTGOING does not reach.
const PACKET_FANOUT_FLAG_IGNORE_OUTGOING: i32 = 0x4000;
/// Octets asked for as socket buffers; the kernel grants what `net.core.*mem_max` allows.
const SOCKET_BUFFER: i32 = 8 << 20;
/// Shorter frames than this are never worth a copy of their own beside the ring; any value
/// above 0 turns the copies of oversize frames on.
const COPY_THRESHOLD: i32 = 1;

fn io_error(what: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |error| OpenError::Io { what, error }
}

pub(crate) fn open() -> Result<OwnedFd, OpenError> {
    // Protocol 0: nothing is received before bind, so no frame gets past the filter.
    sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::Capability,
        _ => OpenError::Io { what: "a packet socket", error },
    })
}

/// The receiving socket, closed by its filter, not bound yet: the ring comes between.
pub(crate) fn open_receiver() -> Result<OwnedFd, OpenError> {
    let socket = open()?;
    let fd = socket.as_fd();
    attach_filter(fd, &filter::closed())?;
    set_option(fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1)
        .map_err(io_error("a socket without its own frames (PACKET_IGNORE_OUTGOING)"))?;
    set_option(fd, libc::SOL_PACKET, PACKET_COPY_THRESH, &COPY_THRESHOLD)
        .map_err(io_error("the way for oversize frames (PACKET_COPY_THRESH)"))?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &SOCKET_BUFFER)
        .map_err(io_error("the receive buffer"))?;
    Ok(socket)
}

/// Lets the frames of an address and some VLANs into a receiving socket.
pub(crate) fn admit(
    fd: BorrowedFd<'_>,
    interface: &Interface,
    vlans: &[Vlan],
) -> Result<(), OpenError> {
    attach_filter(fd, &filter::program(interface.mac, vlans, None))
}

/// Makes bound receiving sockets a group that shares the interface's frames: the first of them
/// is the first worker's, and so on. (The kernel keeps this order: it appends who joins, and
/// when the link returns it goes through its sockets by age.)
///
/// While it is not complete frames go to the wrong member, so they are closed until then.
pub(crate) fn join(
    members: &[BorrowedFd<'_>],
    steering: &Steering,
    vlans: &[Vlan],
) -> Result<(), OpenError> {
    let Some((first, others)) = members.split_first() else { return Ok(()) };
    let join = |fd, id: i32, flags| {
        let kind = libc::PACKET_FANOUT_CBPF as i32 | PACKET_FANOUT_FLAG_IGNORE_OUTGOING | flags;
        set_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &(id | kind << 16))
            .map_err(io_error("the workers' group of sockets (PACKET_FANOUT)"))
    };
    // An identifier that nobody else in this namespace uses is the kernel's to choose.
    join(*first, 0, PACKET_FANOUT_FLAG_UNIQUEID)?;
    let group = get_option(*first, libc::SOL_PACKET, libc::PACKET_FANOUT)
        .map_err(io_error("the identifier of the workers' group"))?;
    for other in others {
        join(*other, group & 0xffff, 0)?;
    }
    attach(*first, libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &steering.program(vlans))
        .map_err(io_error("the program that spreads frames over workers"))
}

/// Makes the interface pass the frames of a group up, or takes that back. The kernel counts
/// who wants a group, and forgets what a socket wanted with the socket.
pub(crate) fn set_membership(
    fd: BorrowedFd<'_>,
    index: i32,
    group: [u8; 6],
    wanted: bool,
) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&group);
    let membership = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: 6,
        mr_address: address,
    };
    let name = if wanted { libc::PACKET_ADD_MEMBERSHIP } else { libc::PACKET_DROP_MEMBERSHIP };
    set_option(fd, libc::SOL_PACKET, name, &membership)
}

/// The sending socket, bound; it receives nothing.
pub(crate) fn open_sender(interface: &Interface) -> Result<OwnedFd, OpenError> {
    let socket = open()?;
    let fd = socket.as_fd();
    set_option(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)
        .map_err(io_error("a socket with offloads (PACKET_VNET_HDR)"))?;
    // Straight to the driver: our frames need no queueing discipline, and it costs a lock.
    set_option(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)
        .map_err(io_error("a socket past the queueing discipline"))?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &SOCKET_BUFFER)
        .map_err(io_error("the send buffer"))?;
    bind(fd, interface.index, 0).map_err(io_error("the sending socket's binding"))?;
    // Should anybody bind it to a protocol, it stays deaf. The receiving sockets' filters
    // cannot be locked like this: a flood of SYNs changes them (see `syns`).
    attach_filter(fd, &filter::closed())?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1)
        .map_err(io_error("a filter that stays (SO_LOCK_FILTER)"))?;
    Ok(socket)
}

/// Lets the receiving socket see frames.
pub(crate) fn bind_receiver(fd: BorrowedFd<'_>, interface: &Interface) -> Result<(), OpenError> {
    bind(fd, interface.index, ALL_FRAMES).map_err(|error| match error.raw_os_error() {
        Some(libc::ENETDOWN) => OpenError::LinkDown { name: interface.name.clone() },
        _ => OpenError::Io { what: "the receiving socket's binding", error },
    })
}

fn bind(fd: BorrowedFd<'_>, index: i32, protocol: u16) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data for which zeros are valid.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index;
    // SAFETY: a packet socket takes a sockaddr_ll.
    unsafe { sys::bind(fd, &address) }
}

fn attach_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> Result<(), OpenError> {
    set_filter(fd, program).map_err(io_error("the filter"))
}

/// Gives a socket a filter in place of the one that it has.
pub(crate) fn set_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    attach(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
}

/// Gives a socket a program; one that it has is replaced at once.
fn attach(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel
    // copies them and does not write.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Frames dropped for want of room since the last call (`PACKET_STATISTICS` starts anew with
/// each reading).
pub(crate) fn kernel_drops(fd: BorrowedFd<'_>) -> u64 {
    // SAFETY: tpacket_stats is plain data for which zeros are valid.
    let mut stats: libc::tpacket_stats = unsafe { zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: `stats` and `length` are valid for writing for the length of the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    if result < 0 { 0 } else { stats.tp_drops.into() }
}

/// The size of a socket's send buffer, as the kernel has granted it.
pub(crate) fn send_buffer(fd: BorrowedFd<'_>) -> io::Result<usize> {
    get_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF).map(|size| size.max(0) as usize)
}

/// An option that is an int.
fn get_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value = 0i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` and `length` are valid for writing for the length of the call.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// What of a socket's send buffer is taken up by frames that have not left (SIOCOUTQ, which is
/// TIOCOUTQ by number).
pub(crate) fn unsent(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut size = 0i32;
    // SAFETY: the request writes an int to where `size` is.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(size.max(0) as usize) }
}

/// Takes a pending error off a socket.
pub(crate) fn take_error(fd: BorrowedFd<'_>) {
    // Reading it clears it.
    let _ = get_option(fd, libc::SOL_SOCKET, libc::SO_ERROR);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nic::LinkState;

    #[test]
    fn the_filter_of_the_sending_socket_stays() {
        let (name, link) = ("lo".into(), LinkState::Up);
        let lo = Interface { name, index: 1, mac: [0; 6], mtu: 1500, link };
        let sender = match open_sender(&lo) {
            Ok(sender) => sender,
            Err(OpenError::Capability) => {
                eprintln!("SKIPPED (needs CAP_NET_RAW)");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let refused = |result: io::Result<()>| {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
        };
        refused(set_filter(sender.as_fd(), &filter::closed()));
        refused(set_option(sender.as_fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0));
        refused(set_option(sender.as_fd(), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &0));
    }
}
