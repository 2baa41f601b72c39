//! What `tagwire doctor` looks at and only a system call of ours tells.

use std::io;
use std::os::fd::AsRawFd;

use crate::error::OpenError;
use crate::nic::request_for;
use crate::packet::socket;
use crate::sys;

/// Whether a packet socket is to be had. It receives nothing.
///
/// # Errors
/// What the start would end with.
pub fn packet_socket() -> Result<(), OpenError> {
    socket::open().map(drop)
}

/// Octets of a feature's name (ETH_GSTRING_LEN).
const NAME_LEN: usize = 32;
/// The set of strings that names features (ETH_SS_FEATURES).
const FEATURE_NAMES: u32 = 4;
/// Linux has about 60.
const MAX_FEATURES: usize = 1024;
const GET_SET_INFO: u32 = 0x37;
const GET_STRINGS: u32 = 0x1b;
const GET_FEATURES: u32 = 0x3a;

/// The features of an interface that are on, by the names that `ethtool -k` has in its long list:
/// `rx-vlan-filter` say.
///
/// By ioctl, since the kernel tells them over netlink in a family of its own, whose crates bring a
/// runtime with them.
///
/// # Errors
/// There is no such interface, or a seccomp profile forbids the question.
pub fn features(interface: &str) -> io::Result<Vec<String>> {
    // struct ethtool_sset_info: command, reserved, a mask of 64 bits, a count for each bit in it.
    let mut info = [GET_SET_INFO, 0, 0, 0, 0];
    let mask = (1u64 << FEATURE_NAMES).to_ne_bytes();
    for (word, octets) in info[2..4].iter_mut().zip(mask.chunks_exact(4)) {
        *word = u32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]]);
    }
    // SAFETY: with one bit in the mask there is one count.
    unsafe { ethtool(interface, &mut info)? };
    let count = info[4] as usize;
    if count > MAX_FEATURES {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    // struct ethtool_gstrings: command, set, count, names.
    let mut names = vec![0; 3 + count * NAME_LEN / 4];
    names[..3].copy_from_slice(&[GET_STRINGS, FEATURE_NAMES, count as u32]);
    // SAFETY: as many names as the kernel has just said: it is built with a number of features, which is
    // the same for all interfaces.
    unsafe { ethtool(interface, &mut names)? };
    // struct ethtool_gfeatures: command, blocks, and for each 32 features available, requested,
    // active, never changed.
    let blocks = count.div_ceil(32);
    let mut states = vec![0; 2 + blocks * 4];
    states[..2].copy_from_slice(&[GET_FEATURES, blocks as u32]);
    // SAFETY: no more blocks are written than it says that there are.
    unsafe { ethtool(interface, &mut states)? };
    let octets: Vec<u8> = names[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let active = |at: &usize| states[2 + at / 32 * 4 + 2] & 1 << (at % 32) != 0;
    let name = |at: usize| {
        let name = octets[at * NAME_LEN..].iter().take(NAME_LEN).take_while(|octet| **octet != 0);
        String::from_utf8_lossy(&name.copied().collect::<Vec<_>>()).into_owned()
    };
    Ok((0..count).filter(active).map(name).collect())
}

/// One request of ethtool; the answer takes the place of `words`.
///
/// # Safety
/// `words` is as long as the answer to the request that it begins with.
unsafe fn ethtool(interface: &str, words: &mut [u32]) -> io::Result<()> {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = request_for(interface)?;
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the kernel reads and writes `words`, which are long enough by the caller's promise; they
    // and the ifreq, whose name is terminated, outlive the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_features_by_their_names() {
        assert!(features("no-such-if0").is_err());
        assert!(features("a-name-that-is-too-long").is_err());
        let features = features("lo").unwrap();
        assert!(features.iter().any(|name| name == "loopback"), "{features:?}");
        assert!(features.iter().all(|name| !name.is_empty()));
    }
}
