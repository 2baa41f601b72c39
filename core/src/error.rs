//! Why a worker cannot start, in words that say what to do.

use std::fmt;
use std::io;

use crate::refusal::Refusal;

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
    Uring(Refusal),
    /// Another step failed.
    Io {
        /// What was being made.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
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
            Self::Uring(refusal) => refusal.fmt(f),
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
