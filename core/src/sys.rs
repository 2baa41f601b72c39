//! Small wrappers of system calls that more than one file needs.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A socket, close-on-exec and non-blocking.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(domain, kind, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Types that are plain data for the kernel: every octet may be read.
///
/// # Safety
/// The type has no padding octets that are uninitialised, and no pointers that the kernel
/// keeps after the call.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: integers have neither padding nor pointers.
unsafe impl Plain for i32 {}
// SAFETY: four u32 without padding.
unsafe impl Plain for libc::tpacket_req {}
// SAFETY: an i32, two u16 and eight octets, without padding.
unsafe impl Plain for libc::packet_mreq {}

/// `setsockopt` with a plain value.
pub(crate) fn set_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    // SAFETY: `value` is valid for `size_of::<T>()` octets for the length of the call, and
    // plain by its trait.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Binds to a link-layer or netlink address.
///
/// # Safety
/// `T` is the sockaddr type of the socket's family.
pub(crate) unsafe fn bind<T>(fd: BorrowedFd<'_>, address: &T) -> io::Result<()> {
    // SAFETY: `address` is valid for its size for the length of the call; its type is right
    // by the caller's promise.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(address).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
