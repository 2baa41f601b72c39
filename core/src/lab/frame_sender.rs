//! A packet socket that only sends, many frames with one system call.
//!
//! For floods: frames leave by the device at once, past its queueing discipline and past the
//! programs of traffic control, so that each carries its VLAN tag in line.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::sys;

/// Frames that one system call sends at most.
pub const MAX_BATCH: usize = 64;

/// The sending end on one interface of the namespace that it was made in.
#[derive(Debug)]
pub struct FrameSender {
    fd: OwnedFd,
}

impl FrameSender {
    /// Opens it on the interface `ifindex` of the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// What the kernel says: `EPERM` without CAP_NET_RAW, `ENODEV` for no such interface.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        // Protocol 0: nothing is received.
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        sys::set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)?;
        // SAFETY: sockaddr_ll is integers only: all zero is a value of it.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
        // SAFETY: a sockaddr_ll is the address of a packet socket.
        unsafe { sys::bind(fd.as_fd(), &address)? };
        Ok(Self { fd })
    }

    /// Sends whole frames, the first [`MAX_BATCH`] of them at most, and says how many have
    /// left. It does not wait for room.
    ///
    /// # Errors
    ///
    /// What the kernel says of the first, but for the want of room, which is 0 frames.
    pub fn send<F: AsRef<[u8]>>(&self, frames: &[F]) -> io::Result<usize> {
        let frames = &frames[..frames.len().min(MAX_BATCH)];
        // SAFETY: iovec is a pointer and a length: all zero is a value of it.
        let mut vectors: [libc::iovec; MAX_BATCH] = unsafe { zeroed() };
        // SAFETY: mmsghdr is integers and pointers: all zero is a value of it.
        let mut messages: [libc::mmsghdr; MAX_BATCH] = unsafe { zeroed() };
        for ((frame, vector), message) in frames.iter().zip(&mut vectors).zip(&mut messages) {
            let frame = frame.as_ref();
            // The kernel only reads it.
            vector.iov_base = frame.as_ptr().cast_mut().cast();
            vector.iov_len = frame.len();
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: as many messages as frames are filled, each with one vector that points to a
        // frame; all of them outlive the call.
        let sent = unsafe {
            libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), frames.len() as u32, 0)
        };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => Ok(0),
            _ => Err(error),
        }
    }
}
