//! The one capability: raised to open packet sockets, explained where it is not to be had, and then
//! given up with all others, for good.
//!
//! Sets of capabilities belong to threads. The main thread gives them up before it starts any other, so
//! that all have none.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::fs::{StatVfsMountFlags, getxattr, statvfs};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    capability_is_in_ambient_set, capability_is_in_bounding_set, clear_ambient_capability_set,
    no_new_privs, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use tagwire_core::namespace::owns_network;

/// What opens packet sockets.
const NEEDED: CapabilitySet = CapabilitySet::NET_RAW;
/// The file that this process executes.
const PROGRAM: &str = "/proc/self/exe";

/// Makes `CAP_NET_RAW` effective where it is only permitted, as a program's file gives it that has
/// `cap_net_raw+p`. (With `+ep` such a file could not even be executed where the bounding set has no
/// `CAP_NET_RAW`, and nobody would be left to say why.)
pub fn raise() {
    if let Ok(sets) = capabilities(None)
        && sets.permitted.contains(NEEDED)
        && !sets.effective.contains(NEEDED)
    {
        let effective = sets.effective | NEEDED;
        // What is permitted may be made effective; were it refused, then the socket says so next.
        let _ = set_capabilities(None, CapabilitySets { effective, ..sets });
    }
}

/// Where `CAP_NET_RAW` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The user is root.
    Root,
    /// The ambient set, as podman and systemd fill it.
    Ambient,
    /// The program's file.
    File,
    /// Who started the program left it to it, by inheritable capabilities say.
    Starter,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "since the user is root",
            Self::Ambient => "from the ambient set",
            Self::File => "from the program's file",
            Self::Starter => "from whoever started the program",
        })
    }
}

/// Where the capability comes from, which is there and [raised](raise).
pub fn source() -> Source {
    let ambient = capability_is_in_ambient_set(NEEDED).unwrap_or(false);
    match (geteuid().is_root(), ambient, file_gives()) {
        (true, ..) => Source::Root,
        (_, true, _) => Source::Ambient,
        (.., true) => Source::File,
        _ => Source::Starter,
    }
}

/// Takes every capability out of every set of this thread (out of the bounding set as far as
/// that is allowed, with `CAP_SETPCAP`), and makes sure that no program which it might execute gets any.
///
/// # Errors
/// The kernel refuses it, or there is one left.
pub fn give_up() -> io::Result<()> {
    let sets = capabilities(None)?;
    clear_ambient_capability_set()?;
    if sets.permitted.contains(CapabilitySet::SETPCAP) {
        let effective = sets.effective | CapabilitySet::SETPCAP;
        set_capabilities(None, CapabilitySets { effective, ..sets })?;
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // Behind the last that this kernel knows.
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    let none = CapabilitySet::empty();
    let nothing = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, nothing)?;
    set_no_new_privs(true)?;
    if capabilities(None)? != nothing {
        return Err(io::Error::other("some are left"));
    }
    Ok(())
}

/// Why `CAP_NET_RAW` is not to be had, or is of no use. The text names the one thing to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// It is outside of the bounding set.
    Bounding,
    /// Neither the user nor the program's file has it.
    Ungiven {
        /// The effective user.
        user: u32,
        /// The program's file.
        program: PathBuf,
    },
    /// The program's file has it, which is void by `no_new_privs`.
    NoNewPrivs,
    /// The program's file has it, and lies where that does not count.
    Nosuid {
        /// The program's file.
        program: PathBuf,
    },
    /// The program's file has it, and the kernel did not give it.
    Withheld,
    /// It is there and does not count in this network namespace.
    Foreign,
    /// It is there, and a packet socket was refused all the same.
    Forbidden,
}

/// What of a process decides about its capability.
#[derive(Debug, Clone)]
struct Facts {
    /// It has the capability.
    has: bool,
    /// The bounding set has.
    bounding: bool,
    /// The program's file has, or gets all of the bounding set, as what root executes does.
    given: bool,
    no_new_privs: bool,
    /// The program's file lies on a file system that is mounted so.
    nosuid: bool,
    /// Its capabilities count in its network namespace.
    owns_network: bool,
    user: u32,
    program: PathBuf,
}

impl Facts {
    fn gather() -> Self {
        let no_suid = |stat: rustix::fs::StatVfs| stat.f_flag.contains(StatVfsMountFlags::NOSUID);
        Self {
            has: capabilities(None).is_ok_and(|sets| sets.effective.contains(NEEDED)),
            bounding: capability_is_in_bounding_set(NEEDED).unwrap_or(true),
            given: file_gives() || root_is_given_all(),
            no_new_privs: no_new_privs().unwrap_or(false),
            nosuid: statvfs(PROGRAM).is_ok_and(no_suid),
            owns_network: owns_network().unwrap_or(true),
            user: geteuid().as_raw(),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tagwire")),
        }
    }

    /// What is in the way first.
    fn lack(self) -> Lack {
        let Self { user, program, .. } = self;
        if self.has {
            return if self.owns_network { Lack::Forbidden } else { Lack::Foreign };
        }
        match (self.bounding, self.given) {
            (false, _) => Lack::Bounding,
            (true, false) => Lack::Ungiven { user, program },
            (true, true) if self.no_new_privs => Lack::NoNewPrivs,
            (true, true) if self.nosuid => Lack::Nosuid { program },
            (true, true) => Lack::Withheld,
        }
    }
}

impl Lack {
    /// Finds out why a packet socket was refused.
    pub fn find() -> Self {
        Facts::gather().lack()
    }
}

/// Whether what this user executes gets capabilities, as he is root, and the securebits leave that its meaning.
fn root_is_given_all() -> bool {
    let means_nothing = CapabilitiesSecureBits::NO_ROOT;
    geteuid().is_root()
        && !capabilities_secure_bits().is_ok_and(|bits| bits.contains(means_nothing))
}

/// Whether the program's file permits `CAP_NET_RAW` to whoever executes it.
fn file_gives() -> bool {
    // struct vfs_cap_data: a magic number, then words of permitted and inheritable capabilities in
    // turns, all in little endian; of three versions the longest has 24 octets.
    let mut attribute = [0; 24];
    let read = getxattr(PROGRAM, "security.capability", &mut attribute[..]);
    let permitted = u32::from_le_bytes([attribute[4], attribute[5], attribute[6], attribute[7]]);
    read.is_ok_and(|length| length >= 8) && u64::from(permitted) & NEEDED.bits() != 0
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bounding => f.write_str(
                "CAP_NET_RAW is missing: it was dropped from the bounding set; have it added by \
                 securityContext.capabilities.add: [NET_RAW] (Kubernetes) or --cap-add NET_RAW \
                 (podman)",
            ),
            Self::Ungiven { user, program } => write!(
                f,
                "CAP_NET_RAW is missing: neither user {user} nor the program's file has it; give it \
                 to the file with 'setcap cap_net_raw+p {}'",
                program.display()
            ),
            Self::NoNewPrivs => f.write_str(
                "CAP_NET_RAW is missing: no_new_privs makes the capability of the program's file void; \
                 set securityContext.allowPrivilegeEscalation: true (Kubernetes) or leave \
                 --security-opt no-new-privileges out (podman)",
            ),
            Self::Nosuid { program } => write!(
                f,
                "CAP_NET_RAW is missing: {} has it, on a file system that is mounted nosuid, where \
                 that does not count; mount that with suid",
                program.display()
            ),
            Self::Withheld => f.write_str(
                "CAP_NET_RAW is missing: the program's file has it, and the kernel did not give it, as \
                 to a program that is traced; start it without a tracer",
            ),
            Self::Foreign => f.write_str(
                "CAP_NET_RAW does not count here: this network namespace belongs to another user \
                 namespace than the process; give the pod a network of its own with hostNetwork: false \
                 (Kubernetes) or by leaving --network host out (podman)",
            ),
            Self::Forbidden => f.write_str(
                "packet sockets are forbidden although CAP_NET_RAW is there: a security module or a \
                 seccomp profile refuses socket(AF_PACKET); allow it in the policy of the container",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_does_not_come_back() {
        // The sets are those of a thread.
        let thread = std::thread::spawn(|| {
            let before = capabilities(None).unwrap();
            give_up().unwrap();
            let mut again = before;
            again.effective |= NEEDED;
            again.permitted |= NEEDED;
            assert_eq!(set_capabilities(None, again), Err(Errno::PERM));
            raise();
            assert!(capabilities(None).unwrap().effective.is_empty());
            assert!(no_new_privs().unwrap());
            assert!(
                !before.permitted.contains(CapabilitySet::SETPCAP)
                    || !capability_is_in_bounding_set(NEEDED).unwrap()
            );
        });
        thread.join().unwrap();
    }

    #[test]
    fn what_is_in_the_way_first_is_named() {
        let fine = Facts {
            has: true,
            bounding: true,
            given: true,
            no_new_privs: false,
            nosuid: false,
            owns_network: true,
            user: 10_000,
            program: "/tagwire".into(),
        };
        let without = Facts { has: false, ..fine.clone() };
        let program: PathBuf = "/tagwire".into();
        let ungiven = Lack::Ungiven { user: 10_000, program: program.clone() };
        for (facts, lack, field) in [
            (fine.clone(), Lack::Forbidden, "socket(AF_PACKET)"),
            (Facts { owns_network: false, ..fine }, Lack::Foreign, "hostNetwork: false"),
            // Whatever else is wrong: nothing brings it back into the bounding set.
            (
                Facts { bounding: false, no_new_privs: true, given: false, ..without.clone() },
                Lack::Bounding,
                "capabilities.add: [NET_RAW]",
            ),
            (
                Facts { no_new_privs: true, given: false, ..without.clone() },
                ungiven,
                "setcap cap_net_raw+p /tagwire",
            ),
            (
                Facts { no_new_privs: true, nosuid: true, ..without.clone() },
                Lack::NoNewPrivs,
                "allowPrivilegeEscalation: true",
            ),
            (Facts { nosuid: true, ..without.clone() }, Lack::Nosuid { program }, "with suid"),
            (without.clone(), Lack::Withheld, "tracer"),
            (
                Facts { user: 0, no_new_privs: true, ..without },
                Lack::NoNewPrivs,
                "allowPrivilegeEscalation",
            ),
        ] {
            let found = facts.clone().lack();
            assert_eq!(found, lack, "{facts:?}");
            let text = found.to_string();
            assert!(text.contains(field) && !text.contains('\n'), "{text}");
        }
    }
}
