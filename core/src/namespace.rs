//! Who owns the network namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// Whether a capability of this process counts in its network namespace. It does not if that belongs
/// to another user namespace than its own, above or beside it (user_namespaces(7)).
///
/// # Errors
/// /proc is not there.
pub fn owns_network() -> io::Result<bool> {
    let network = File::open("/proc/self/ns/net")?;
    // SAFETY: the request takes no argument; the result is checked (ioctl_ns(2)).
    let owner = unsafe { libc::ioctl(network.as_raw_fd(), libc::NS_GET_USERNS) };
    if owner < 0 {
        return match io::Error::last_os_error() {
            // The owner is out of this process's sight, so its own namespace is not it.
            error if error.raw_os_error() == Some(libc::EPERM) => Ok(false),
            error => Err(error),
        };
    }
    // SAFETY: `owner` was just opened and has no other owner.
    let owner = File::from(unsafe { OwnedFd::from_raw_fd(owner) }).metadata()?;
    let own = std::fs::metadata("/proc/self/ns/user")?;
    Ok((owner.dev(), owner.ino()) == (own.dev(), own.ino()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_that_made_no_namespace_can_tell() {
        super::owns_network().unwrap();
    }
}
