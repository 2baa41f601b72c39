//! Why a worker cannot start, in words that say what to do.

use std::fmt;
use std::io;

/// Why [`Worker::open`](crate::worker::Worker::open) failed. Its text is one line: what is
/// wrong; what to do.
#[derive(Debug)]
pub enum OpenError {
    /// There is no interface of that name.
    NoInterface {
        /// What was asked for.
        name: String,
        /// What there is.
        others: Vec<String>,
    },
    /// The interface is not Ethernet.
    NotEthernet {
        /// Its name.
        name: String,
    },
    /// The interface is down or has no carrier.
    LinkDown {
        /// Its name.
        name: String,
    },
    /// A packet socket was refused.
    Capability,
    /// io_uring was refused.
    Uring {
        /// What `io_uring_setup` said.
        error: io::Error,
        /// `kernel.io_uring_disabled`, where it can be read.
        sysctl: Option<u8>,
    },
    /// Another step failed.
    Io {
        /// What was being made.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl OpenError {
    pub(crate) fn uring(error: io::Error) -> Self {
        let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Self::Uring { error, sysctl }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterface { name, others } => write!(
                f,
                "there is no interface {name:?} here (there are: {}); name one with --interface, \
                 or check that Multus attached the network to this pod",
                others.join(", ")
            ),
            Self::NotEthernet { name } => write!(
                f,
                "interface {name} is not Ethernet; name a macvlan, veth or network card with --interface"
            ),
            Self::LinkDown { name } => write!(
                f,
                "interface {name} is down; bring it up with 'ip link set {name} up', or check the \
                 carrier of the interface below it"
            ),
            Self::Capability => f.write_str(
                "a packet socket was refused: CAP_NET_RAW is missing; give it with \
                 securityContext.capabilities.add: [NET_RAW] (Kubernetes) or --cap-add NET_RAW (podman)",
            ),
            Self::Uring { error, sysctl } => {
                write!(f, "io_uring was refused ({error}); ")?;
                match (error.raw_os_error(), sysctl) {
                    (Some(libc::EPERM), Some(2)) => f.write_str(
                        "kernel.io_uring_disabled is 2: set it to 0 on the node with \
                         'sysctl kernel.io_uring_disabled=0'",
                    ),
                    (Some(libc::EPERM), Some(1)) => f.write_str(
                        "kernel.io_uring_disabled is 1: set it to 0 on the node, or add this \
                         process's group to kernel.io_uring_group",
                    ),
                    (Some(libc::EPERM | libc::ENOSYS), Some(0)) => f.write_str(
                        "a seccomp profile forbids it: run with one that allows io_uring_setup, \
                         io_uring_enter and io_uring_register",
                    ),
                    (Some(libc::ENOMEM), _) => f.write_str(
                        "not enough memory may be locked: raise the memory limit or 'ulimit -l'",
                    ),
                    _ => f.write_str(
                        "the kernel or a seccomp profile forbids it: Linux 6.1 or later is needed, \
                         and a profile that allows the three io_uring system calls",
                    ),
                }
            }
            Self::Io { what, error } => match error.raw_os_error() {
                Some(libc::ENOMEM) => write!(
                    f,
                    "{what} could not be made ({error}); raise the container's memory limit"
                ),
                _ => write!(f, "{what} could not be made ({error}); check the kernel's log"),
            },
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_refused_io_uring_is_named() {
        let text = |errno, sysctl| {
            OpenError::Uring { error: io::Error::from_raw_os_error(errno), sysctl }.to_string()
        };
        assert!(text(libc::EPERM, Some(2)).contains("io_uring_disabled is 2"));
        assert!(text(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(text(libc::ENOSYS, Some(0)).contains("seccomp"));
        assert!(text(libc::ENOSYS, None).contains("6.1"));
        assert!(!text(libc::EPERM, Some(1)).contains('\n'));
    }
}
