//! What the process may do.

use super::super::facts::Facts;
use super::super::{Finding, Verdict};
use crate::config::Config;
use crate::driver::DriverChoice;
use crate::memory_limit::{Limit, Mebibytes, Shortage, need};
use crate::sandbox::SandboxMode;

use Verdict::{Failed, Unknown, Warning};

/// The first Linux that has openat2(2) with RESOLVE_CACHED.
const OLDEST: (u32, u32) = (5, 12);
/// The first whose io_uring has what the workers need.
const URING: (u32, u32) = (6, 1);

pub(super) fn capability(facts: &Facts) -> Finding {
    match &facts.capability {
        Ok(source) => Finding::fine("capability", format!("CAP_NET_RAW, {source}")),
        Err(error) => Finding::said("capability", Failed, error),
    }
}

/// What there is of it, for who reads the lines around it: what it is in the way of fails by itself.
pub(super) fn confinement(facts: &Facts) -> Finding {
    let seccomp = if facts.filtered { "a seccomp filter" } else { "no seccomp filter" };
    let privileges = if facts.no_new_privs { "no_new_privs" } else { "without no_new_privs" };
    Finding::fine("confinement", format!("{seccomp}, {privileges}"))
}

pub(super) fn kernel(facts: &Facts) -> Finding {
    let release = &facts.kernel;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => return Finding::fine("kernel", format!("{release}, of which nothing is known")),
    };
    if version < OLDEST {
        let found = format!("Linux {release} has no openat2(2) with RESOLVE_CACHED");
        Finding::new("kernel", Failed, found, "use Linux 5.12 or later, 6.1 for io_uring")
    } else if version < URING {
        let found = format!("the io_uring of Linux {release} lacks what is needed of it");
        Finding::new("kernel", Warning, found, "use Linux 6.1 or later, for less CPU time")
    } else {
        Finding::fine("kernel", format!("Linux {release}"))
    }
}

pub(super) fn io_uring(config: &Config, facts: &Facts) -> Finding {
    let sysctl = match &facts.uring_disabled {
        Some(value) => format!("kernel.io_uring_disabled is {value}"),
        None => "this kernel has no kernel.io_uring_disabled".to_owned(),
    };
    match (&facts.uring, config.driver) {
        (None, _) => Finding::fine("io_uring", format!("not asked for by --driver poll; {sysctl}")),
        (Some(Ok(())), _) => Finding::fine(
            "io_uring",
            format!(
                "works with all that the workers need: deferred task work, a single issuer, registered \
                 files, restrictions; {sysctl}"
            ),
        ),
        (Some(Err(refusal)), DriverChoice::Uring) => Finding::said("io_uring", Failed, refusal),
        (Some(Err(refusal)), _) => {
            let mut finding = Finding::said("io_uring", Warning, refusal);
            finding.found += "; the poll driver serves, for more CPU time";
            finding
        }
    }
}

pub(super) fn sandbox(config: &Config, facts: &Facts) -> Finding {
    let layers = &facts.layers;
    match config.sandbox {
        SandboxMode::Off => return Finding::fine("sandbox", "switched off by --sandbox off"),
        SandboxMode::Strict => {
            if let Err(error) = layers.check() {
                return Finding::said("sandbox", Failed, &error);
            }
        }
        SandboxMode::BestEffort => {}
    }
    match (&layers.landlock, &layers.seccomp) {
        (Err(why), _) => Finding::new(
            "sandbox",
            Warning,
            format!("no Landlock ({why}): files and network will not be restricted"),
            "add landlock to lsm= on the kernel's command line, or allow its three system calls in \
             the seccomp profile",
        ),
        (_, Err(why)) => Finding::new(
            "sandbox",
            Warning,
            format!("no seccomp ({why}): system calls will not be restricted"),
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
        (Ok(abi), Ok(())) => {
            // A later kernel would have it: nothing to do about it here.
            let without = match layers.missing() {
                "" => String::new(),
                missing => format!(", without {missing}"),
            };
            Finding::fine("sandbox", format!("Landlock with ABI {abi}{without}, seccomp"))
        }
    }
}

pub(super) fn memory(config: &Config, facts: &Facts) -> Finding {
    let need = need(config);
    let most = Mebibytes(need.most);
    let takes = format!("cache and connections take up to {most}");
    if let Some(shortage) = Shortage::find(facts.memory, need) {
        let verdict = if shortage.is_fatal() { Failed } else { Warning };
        return Finding::said("memory", verdict, &shortage);
    }
    match facts.memory {
        Limit::Octets(limit) => {
            Finding::fine("memory", format!("{takes}, the limit is {}", Mebibytes(limit)))
        }
        Limit::None => Finding::fine("memory", format!("{takes}, and there is no limit")),
        Limit::Unseen => Finding::new(
            "memory",
            Unknown,
            format!("{takes}; /sys/fs/cgroup says nothing of a limit"),
            format!("see to it that the container may have {most}"),
        ),
    }
}
