//! A packet socket for a wire in user space.
//!
//! The lab's wire takes frames from one interface and puts them, late, twice, damaged or
//! never, onto another. So it wants each frame as it was on the wire. The kernel strips
//! the VLAN tag of what it receives into metadata (`PACKET_AUXDATA`); [`WireSocket::recv`]
//! puts it back in line, and what [`WireSocket::send`] sends carries its tag in line.
//!
//! One system call per frame: it is made to be plain, not fast. The appliance has rings.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Where a tag sits in a frame: behind the two MAC addresses.
const TAG_OFFSET: usize = 12;
const TAG_LEN: usize = 4;
/// The tag protocol where the kernel does not name one.
const ETHERTYPE_VLAN: u16 = 0x8100;

/// Room for what waits to be forwarded while the wire's thread does not run.
const RECEIVE_BUFFER: libc::c_int = 32 << 20;

/// A packet socket on one interface of the namespace it was made in, for every frame
/// that arrives there, whomever it is for.
#[derive(Debug)]
pub struct WireSocket {
    fd: OwnedFd,
}

impl WireSocket {
    /// Opens the socket on the interface `ifindex` of the calling thread's namespace.
    /// It does not block: poll it for readiness.
    ///
    /// # Errors
    ///
    /// What the kernel says: `EPERM` without CAP_NET_RAW, `ENODEV` for no such interface.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers. Protocol 0: nothing is received before the bind.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above returned a new descriptor, which nobody else owns.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        // Else it would see, and forward back, what it sends itself.
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        // Past the system's limit, which needs CAP_NET_ADMIN; up to it will have to do.
        if socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
            socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
        }
        socket.bind(ifindex)?;
        Ok(socket)
    }

    fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the option value is a c_int and its length is given.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                ptr::from_ref(&value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn bind(&self, ifindex: u32) -> io::Result<()> {
        // SAFETY: sockaddr_ll is integers only: all zero is a value of it.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
        // SAFETY: the address is a sockaddr_ll and its length is given.
        let result = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                ptr::from_ref(&address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes the next frame into `buffer`, its VLAN tag in line, and says how long it
    /// is; `None` when there is none. A frame that does not fit is an error of kind
    /// `InvalidData`: forwarding half of it would be a lie.
    ///
    /// # Errors
    ///
    /// What the kernel says, `ENETDOWN` among it when the interface goes down.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // The frame is read four octets into the buffer: a tag is then put in line by
        // moving two addresses, not the frame.
        let Some(room) = buffer.get_mut(TAG_LEN..) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no room for a frame"));
        };
        let mut iov = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        let mut control = Control([MaybeUninit::uninit(); CONTROL_LEN]);
        // SAFETY: msghdr is integers and pointers: all zero is a value of it.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
        // SAFETY: every pointer in `message` is to memory that outlives the call, with
        // its length beside it.
        let len = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) };
        if len < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        if message.msg_flags & libc::MSG_TRUNC != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of more than {} octets", buffer.len() - TAG_LEN),
            ));
        }
        let len = len as usize;
        // SAFETY: recvmsg filled the message and its control buffer, both alive here.
        match unsafe { stripped_tag(&message) } {
            Some(tag) if len >= TAG_OFFSET => {
                buffer.copy_within(TAG_LEN..TAG_LEN + TAG_OFFSET, 0);
                buffer[TAG_OFFSET..TAG_OFFSET + TAG_LEN].copy_from_slice(&tag);
                Ok(Some(len + TAG_LEN))
            }
            _ => {
                buffer.copy_within(TAG_LEN..TAG_LEN + len, 0);
                Ok(Some(len))
            }
        }
    }

    /// Sends one whole frame, its VLAN tag, if any, in line.
    ///
    /// # Errors
    ///
    /// What the kernel says: `EMSGSIZE` above the interface's MTU, `WouldBlock` or
    /// `ENOBUFS` when there is no room to queue it.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length are the slice's.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// How many frames the kernel has dropped since the last call because the socket's
    /// buffer was full: frames this wire never saw.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn take_overruns(&self) -> io::Result<u32> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the option's value is a tpacket_stats and its length is given.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                ptr::from_mut(&mut stats).cast(),
                &raw mut len,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(stats.tp_drops) }
    }
}

impl AsFd for WireSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A control message header and `tpacket_auxdata` (20 octets), with room to spare.
const CONTROL_LEN: usize = 64;

/// The kernel writes a `cmsghdr` at its start, so it is aligned as one.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_LEN]);

/// The tag that the kernel took out of a frame, as it was in line.
///
/// # Safety
///
/// `message` must be as recvmsg left it, its control buffer alive.
unsafe fn stripped_tag(message: &libc::msghdr) -> Option<[u8; TAG_LEN]> {
    // SAFETY: the message is valid by contract, and CMSG_NXTHDR walks no further than
    // the control length that the kernel has set.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            if control.cmsg_level == libc::SOL_PACKET
                && control.cmsg_type == libc::PACKET_AUXDATA
                && control.cmsg_len >= libc::CMSG_LEN(size_of::<AuxData>() as u32) as _
            {
                let aux = libc::CMSG_DATA(control).cast::<AuxData>().read_unaligned();
                return aux.tag();
            }
            header = libc::CMSG_NXTHDR(message, control);
        }
    }
    None
}

/// `struct tpacket_auxdata` of linux/if_packet.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct AuxData {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

impl AuxData {
    fn tag(&self) -> Option<[u8; TAG_LEN]> {
        if self.status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let tpid = if self.status & libc::TP_STATUS_VLAN_TPID_VALID == 0 {
            ETHERTYPE_VLAN
        } else {
            self.vlan_tpid
        };
        let ([a, b], [c, d]) = (tpid.to_be_bytes(), self.vlan_tci.to_be_bytes());
        Some([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aux(status: u32) -> AuxData {
        AuxData {
            status,
            len: 60,
            snaplen: 60,
            mac: 0,
            net: 14,
            vlan_tci: 0x607b,
            vlan_tpid: 0x88a8,
        }
    }

    #[test]
    fn a_stripped_tag_comes_back_as_it_was_in_line() {
        let both = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
        assert_eq!(aux(0).tag(), None);
        assert_eq!(aux(libc::TP_STATUS_VLAN_VALID).tag(), Some([0x81, 0x00, 0x60, 0x7b]));
        assert_eq!(aux(both).tag(), Some([0x88, 0xa8, 0x60, 0x7b]));
    }

    #[test]
    fn auxdata_has_the_kernel_layout() {
        assert_eq!(size_of::<AuxData>(), 20);
    }
}
