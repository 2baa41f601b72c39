//! Opening the two packet sockets.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::filter;
use crate::error::OpenError;
use crate::nic::Interface;
use crate::sys::{self, set_option};

/// The protocol field of a socket that sees every frame: an `ETH_P_IP` one gets tagged frames
/// with the tag erased.
const ALL_FRAMES: u16 = (libc::ETH_P_ALL as u16).to_be();
const PACKET_IGNORE_OUTGOING: i32 = 23;
const PACKET_COPY_THRESH: i32 = 7;
/// Octets asked for as socket buffers; the kernel grants what `net.core.*mem_max` allows.
const SOCKET_BUFFER: i32 = 8 << 20;
/// Shorter frames than this are never worth a copy of their own beside the ring; any value
/// above 0 turns the copies of oversize frames on.
const COPY_THRESHOLD: i32 = 1;

fn io_error(what: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |error| OpenError::Io { what, error }
}

fn open() -> Result<OwnedFd, OpenError> {
    // Protocol 0: nothing is received before bind, so no frame gets past the filter.
    sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::Capability,
        _ => OpenError::Io { what: "a packet socket", error },
    })
}

/// The receiving socket, filtered, not bound yet: the ring comes between.
pub(crate) fn open_receiver(
    interface: &Interface,
    vlan: Option<u16>,
) -> Result<OwnedFd, OpenError> {
    let socket = open()?;
    let fd = socket.as_fd();
    attach_filter(fd, &filter::program(interface.mac, vlan)).map_err(io_error("the filter"))?;
    set_option(fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1)
        .map_err(io_error("a socket without its own frames (PACKET_IGNORE_OUTGOING)"))?;
    set_option(fd, libc::SOL_PACKET, PACKET_COPY_THRESH, &COPY_THRESHOLD)
        .map_err(io_error("the way for oversize frames (PACKET_COPY_THRESH)"))?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &SOCKET_BUFFER)
        .map_err(io_error("the receive buffer"))?;
    Ok(socket)
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

fn attach_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel
    // copies them and does not write.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
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
    let mut size = 0i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `size` and `length` are valid for writing for the length of the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            (&raw mut size).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(size.max(0) as usize) }
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
    let mut error = 0i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `error` and `length` are valid for writing for the length of the call.
    unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut error).cast(),
            &raw mut length,
        )
    };
}
