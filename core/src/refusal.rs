//! Whether io_uring can be used here, and if not, who refuses it and what to do about it.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode};

use crate::sys;
use crate::uring;

/// A system call of io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Setup,
    Register,
    Enter,
}

/// Who refuses io_uring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `kernel.io_uring_disabled` is 2.
    DisabledForAll,
    /// It is 1, and this process is not in the group of `kernel.io_uring_group`, which is -1 where
    /// there is none.
    DisabledForOthers {
        /// That group.
        group: i64,
    },
    /// A seccomp filter.
    Seccomp {
        /// `kernel.io_uring_disabled` where it forbids as well.
        disabled: Option<u8>,
    },
    /// A security module: SELinux, say.
    SecurityModule,
    /// The kernel is older than 6.1.
    OldKernel {
        /// Its release.
        release: String,
    },
    /// The kernel was built without it, or hides it.
    NotBuiltIn {
        /// Its release.
        release: String,
    },
    /// Its rings find no memory.
    NoMemory,
    /// None that we know.
    Unknown,
}

/// io_uring was refused. The text is one line: what is wrong; what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    call: Call,
    errno: i32,
    cause: Cause,
}

impl Refusal {
    /// Who it was.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    pub(crate) fn of(call: Call, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or_default();
        Self { call, errno, cause: Facts::gather().cause(call, errno) }
    }
}

/// Tries whether io_uring can be used as workers use it: makes their ring, registers a file, has one
/// request done, and forgets it.
///
/// # Errors
/// It cannot; by whose fault.
pub fn probe() -> Result<(), Refusal> {
    attempt().map_err(|(call, error)| Refusal::of(call, &error))
}

fn attempt() -> Result<(), (Call, io::Error)> {
    // Any file does.
    let file =
        sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0).map_err(|error| (Call::Register, error))?;
    let mut ring: IoUring = uring::ring(file.as_raw_fd())?;
    // SAFETY: it points to nothing.
    let queued = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
    debug_assert!(queued.is_ok(), "the queue is new");
    ring.submit_and_wait(1).map_err(|error| (Call::Enter, error))?;
    Ok(())
}

/// What tells one cause from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    /// `kernel.io_uring_disabled`, which Linux has since 6.6.
    disabled: Option<u8>,
    /// `kernel.io_uring_group`.
    group: i64,
    /// This process is in it.
    in_group: bool,
    /// A seccomp filter is on this thread.
    filtered: bool,
    /// What `io_uring_enter` says of a descriptor that is none. The sysctl does not concern it, so
    /// anything but EBADF comes from a filter that forbids all of io_uring, or from a kernel
    /// that does not have it.
    enter: i32,
    /// As uname(2) has it.
    release: String,
}

impl Facts {
    fn gather() -> Self {
        let number = |path: &str| -> Option<i64> {
            fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok())
        };
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let group = number("/proc/sys/kernel/io_uring_group").unwrap_or(-1);
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            disabled: number("/proc/sys/kernel/io_uring_disabled")
                .and_then(|value| u8::try_from(value).ok()),
            group,
            in_group: groups(&status).any(|own| own == group),
            filtered: field(&status, "Seccomp").next() == Some("2"),
            enter: enter_nothing(),
            release: release.trim().to_owned(),
        }
    }

    fn cause(self, call: Call, errno: i32) -> Cause {
        let Self { disabled, group, in_group, filtered, enter, release } = self;
        let forbids = disabled.filter(|value| match value {
            0 => false,
            1 => !in_group,
            _ => true,
        });
        let all_filtered = filtered && enter != libc::EBADF;
        let seccomp = Cause::Seccomp { disabled: forbids };
        match (errno, call) {
            (libc::EPERM | libc::ENOSYS, _) if all_filtered && !lacks_uring(disabled, &release) => {
                seccomp
            }
            (libc::EPERM, Call::Setup) => match forbids {
                Some(1) => Cause::DisabledForOthers { group },
                Some(_) => Cause::DisabledForAll,
                None if filtered => seccomp,
                None => Cause::SecurityModule,
            },
            (libc::EPERM | libc::ENOSYS, _) if filtered && enter == libc::EBADF => seccomp,
            (libc::ENOSYS, _) => Cause::NotBuiltIn { release },
            (libc::EACCES | libc::EPERM, _) => Cause::SecurityModule,
            // It does not know the flags.
            (libc::EINVAL, _) => Cause::OldKernel { release },
            (libc::ENOMEM, _) => Cause::NoMemory,
            _ => Cause::Unknown,
        }
    }
}

/// Whether the kernel itself has no io_uring: it came with Linux 5.1, and from 6.6 on it
/// brings its sysctl.
fn lacks_uring(disabled: Option<u8>, release: &str) -> bool {
    disabled.is_none() && version(release).is_some_and(|at| !((5, 1)..(6, 6)).contains(&at))
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The words of a line of /proc/PID/status.
fn field<'a>(status: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace()
}

fn groups(status: &str) -> impl Iterator<Item = i64> {
    field(status, "Gid").chain(field(status, "Groups")).filter_map(|text| text.parse().ok())
}

fn enter_nothing() -> i32 {
    // SAFETY: no pointers, and no ring.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_enter, -1, 0, 0, 0, 0usize, 0usize) };
    if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or_default() } else { 0 }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "io_uring_setup",
            Self::Register => "io_uring_register",
            Self::Enter => "io_uring_enter",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, errno, cause } = self;
        let error = io::Error::from_raw_os_error(*errno);
        write!(f, "io_uring was refused ({call}: {error}); {cause}")
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DisabledForAll => f.write_str(
                "kernel.io_uring_disabled is 2: set it to 0 on the node with \
                 'sysctl kernel.io_uring_disabled=0'",
            ),
            Self::DisabledForOthers { group: -1 } => f.write_str(
                "kernel.io_uring_disabled is 1: set it to 0 on the node, or kernel.io_uring_group to \
                 a group of this process",
            ),
            Self::DisabledForOthers { group } => write!(
                f,
                "kernel.io_uring_disabled is 1: set it to 0 on the node, or put this process into \
                 group {group} (kernel.io_uring_group)"
            ),
            Self::Seccomp { disabled } => {
                f.write_str(
                    "a seccomp profile forbids it: run with one that allows io_uring_setup, \
                     io_uring_enter and io_uring_register, deploy/seccomp/tagwire.json say",
                )?;
                match disabled {
                    Some(value) => write!(
                        f,
                        ", and set kernel.io_uring_disabled, which is {value}, to 0 on the node"
                    ),
                    None => Ok(()),
                }
            }
            Self::SecurityModule => f.write_str(
                "a security module forbids it: allow it in the SELinux policy of this process \
                 ('ausearch -m avc' on the node shows the denial)",
            ),
            Self::OldKernel { release } => {
                write!(f, "the kernel ({release}) is too old: Linux 6.1 or later is needed")
            }
            Self::NotBuiltIn { release } => write!(
                f,
                "the kernel ({release}) has no io_uring: Linux 6.1 or later is needed, built with \
                 CONFIG_IO_URING"
            ),
            Self::NoMemory => f.write_str(
                "not enough memory may be locked or charged: raise the memory limit or 'ulimit -l'",
            ),
            Self::Unknown => f.write_str(
                "Linux 6.1 or later is needed, and a seccomp profile that allows the three io_uring \
                 system calls",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel where nothing forbids it.
    fn facts() -> Facts {
        Facts {
            disabled: Some(0),
            group: -1,
            in_group: false,
            filtered: false,
            enter: libc::EBADF,
            release: "6.12.57+deb13-amd64".to_owned(),
        }
    }

    #[track_caller]
    fn assert_cause(facts: Facts, call: Call, errno: i32, expected: &Cause, said: &[&str]) {
        let cause = facts.cause(call, errno);
        assert_eq!(cause, *expected);
        let text = Refusal { call, errno, cause }.to_string();
        for part in said {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\n') && text.starts_with("io_uring was refused ("), "{text}");
    }

    #[test]
    fn a_sysctl_is_told_from_a_seccomp_profile() {
        let seccomp = |disabled| Cause::Seccomp { disabled };
        let all = || Facts { disabled: Some(2), ..facts() };
        let set = |facts, errno, expected: Cause, said: &[&str]| {
            assert_cause(facts, Call::Setup, errno, &expected, said);
        };
        set(all(), libc::EPERM, Cause::DisabledForAll, &["sysctl kernel.io_uring_disabled=0"]);
        // Its filter has nothing against io_uring: others are in the way.
        let harmless = Facts { filtered: true, ..all() };
        set(harmless, libc::EPERM, Cause::DisabledForAll, &["io_uring_disabled is 2"]);
        // Docker and podman, alone and with the sysctl.
        for errno in [libc::EPERM, libc::ENOSYS] {
            let profile = Facts { filtered: true, enter: errno, ..facts() };
            set(profile, errno, seccomp(None), &["seccomp/tagwire.json"]);
            let both = Facts { filtered: true, enter: errno, ..all() };
            set(both, errno, seccomp(Some(2)), &["seccomp", "io_uring_disabled, which is 2"]);
            // One that forbids the first call only.
            let first = Facts { filtered: true, ..facts() };
            set(first, errno, seccomp(None), &["seccomp"]);
            // A kernel before the sysctl.
            let before = Facts {
                filtered: true,
                enter: errno,
                disabled: None,
                release: "5.14.0-503.el9.x86_64".to_owned(),
                ..facts()
            };
            set(before, errno, seccomp(None), &["seccomp"]);
        }
        // One that forbids one of the others only.
        for call in [Call::Register, Call::Enter] {
            let other = Facts { filtered: true, ..facts() };
            assert_cause(other, call, libc::EPERM, &seccomp(None), &[&call.to_string()]);
        }
    }

    #[test]
    fn the_sysctl_that_lets_a_group_through() {
        let some = Facts { disabled: Some(1), group: 990, ..facts() };
        let others = Cause::DisabledForOthers { group: 990 };
        assert_cause(some.clone(), Call::Setup, libc::EPERM, &others, &["into group 990"]);
        let nobody = Facts { group: -1, ..some.clone() };
        let others = Cause::DisabledForOthers { group: -1 };
        assert_cause(nobody, Call::Setup, libc::EPERM, &others, &["io_uring_group to a group"]);
        // Who is in it is refused by somebody else.
        let member = Facts { in_group: true, filtered: true, ..some };
        let seccomp = Cause::Seccomp { disabled: None };
        assert_cause(member, Call::Setup, libc::EPERM, &seccomp, &["seccomp"]);
    }

    #[test]
    fn kernels_memory_and_modules() {
        let old = "5.15.0-1-amd64".to_owned();
        let facts_of = |release: &String| Facts { release: release.clone(), ..facts() };
        let cause = Cause::OldKernel { release: old.clone() };
        let said = ["5.15.0-1-amd64", "6.1"];
        assert_cause(facts_of(&old), Call::Setup, libc::EINVAL, &cause, &said);
        // Without io_uring its filter says nothing about it.
        for (release, filtered) in [("4.18.0", false), ("4.18.0", true), ("6.12.0", true)] {
            let release = release.to_owned();
            let none =
                Facts { disabled: None, filtered, enter: libc::ENOSYS, ..facts_of(&release) };
            let cause = Cause::NotBuiltIn { release };
            assert_cause(none, Call::Setup, libc::ENOSYS, &cause, &["CONFIG_IO_URING"]);
        }
        let memory = ["ulimit -l", "memory limit"];
        assert_cause(facts(), Call::Setup, libc::ENOMEM, &Cause::NoMemory, &memory);
        let module = Cause::SecurityModule;
        for errno in [libc::EACCES, libc::EPERM] {
            assert_cause(facts(), Call::Setup, errno, &module, &["SELinux"]);
        }
        assert_cause(facts(), Call::Setup, libc::EMFILE, &Cause::Unknown, &["6.1"]);
    }

    #[test]
    fn the_status_of_a_process_is_read() {
        let status = "Name:\tx\nGid:\t100\t101\t101\t101\nGroups:\t7 990 \nSeccomp:\t2\n";
        assert_eq!(groups(status).collect::<Vec<_>>(), [100, 101, 101, 101, 7, 990]);
        assert_eq!(field(status, "Seccomp").next(), Some("2"));
        assert_eq!(field(status, "Seccomp_filters").next(), None);
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("strange"), None);
        let facts = Facts::gather();
        assert!(version(&facts.release).is_some(), "{facts:?}");
    }
}
