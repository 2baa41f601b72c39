//! What memory the process may have, and what it will want.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::config::{Config, MIN_MEMORY_BUDGET};
use crate::limits::{CHUNK, COLD_LOADS, PIPELINED_REQUESTS, UNFINISHED_HEADS};

/// Where the kernel's control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// What the program has touched, its threads' stacks, and all that is small.
const BASE: u64 = 16 << 20;
/// Chunks of large files without which none is sent.
const FEW_CHUNKS: usize = 16;

/// What limits the memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The least limit of its control groups and their ancestors, in octets.
    Octets(u64),
    /// They have none.
    None,
    /// They cannot be seen.
    Unseen,
}

/// What a configuration takes, in octets. Receive rings are not counted: the kernel charges them to no
/// group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// With the smallest cache and memory budget, 8 downloads at a time took 48 MiB (measured), in 40
    /// the kernel ended the process.
    pub(crate) least: u64,
    /// With cache, connections, what they share and loads as full as they may be.
    pub(crate) most: u64,
}

/// What `config` takes.
pub(crate) fn need(config: &Config) -> Need {
    let of_each = (UNFINISHED_HEADS + PIPELINED_REQUESTS) as u64;
    let shared = (COLD_LOADS * CHUNK) as u64;
    Need {
        least: BASE + (MIN_MEMORY_BUDGET + FEW_CHUNKS * CHUNK) as u64,
        most: (BASE + shared + of_each * config.workers as u64)
            .saturating_add(config.cache_size)
            // What clients hold of smaller files has the same bound beside the cache.
            .saturating_add(2 * config.download_memory as u64)
            .saturating_add(config.memory_budget as u64),
    }
}

/// The limit is less than what is needed; the text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    limit: u64,
    need: Need,
}

impl Shortage {
    /// What is short in `limit`, if anything.
    pub(crate) fn find(limit: Limit, need: Need) -> Option<Self> {
        match limit {
            Limit::Octets(limit) if limit < need.most => Some(Self { limit, need }),
            _ => None,
        }
    }

    /// There is too little to start with.
    pub(crate) fn is_fatal(self) -> bool {
        self.limit < self.need.least
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = Mebibytes(self.limit);
        if self.is_fatal() {
            write!(
                f,
                "the memory limit is {limit}, and {} are the least to serve with; raise \
                 resources.limits.memory (Kubernetes), --memory (podman) or MemoryMax= (systemd)",
                Mebibytes(self.need.least)
            )
        } else {
            write!(
                f,
                "the memory limit is {limit}, and a full cache with as many connections as may be takes \
                 {}: the kernel would end the process; raise it, or lower --cache-size, \
                 --memory-budget and --download-memory",
                Mebibytes(self.need.most)
            )
        }
    }
}

impl std::error::Error for Shortage {}

/// Octets, shown in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mebibytes(pub(crate) u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.div_ceil(1 << 20))
    }
}

/// The least of the limits on this process's memory by its control groups (cgroups(7), of version 1 or
/// 2) and their ancestors.
pub(crate) fn limit() -> Limit {
    let Ok(groups) = fs::read_to_string("/proc/self/cgroup") else { return Limit::Unseen };
    limit_of(&groups, |path| fs::read_to_string(Path::new(MOUNT).join(path)).ok())
}

/// That of what /proc/self/cgroup says, by files beneath the mount.
fn limit_of(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Limit {
    let mut least = None;
    // The root of version 2 has no limit, and says so by having no such file.
    let mut seen = read(Path::new("cgroup.controllers")).is_some();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("", "memory.max"),
            some if some.split(',').any(|it| it == "memory") => ("memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container the mount may begin at the process's own group, whose path is then not
        // beneath it: the last of the ancestors, the mount itself, is looked at in any case.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let Some(text) = read(&Path::new(mount).join(group).join(file)) else { continue };
            seen = true;
            // Version 2 says "max" where there is none, version 1 the largest multiple of a page.
            let limit = text.trim().parse().ok();
            let limit = limit.filter(|limit: &u64| *limit < i64::MAX as u64 - 65_536);
            least = [least, limit].into_iter().flatten().min();
        }
    }
    match least {
        Some(octets) => Limit::Octets(octets),
        None if seen => Limit::None,
        None => Limit::Unseen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_ancestors_counts() {
        let files = |all: &'static [(&str, &str)]| {
            move |path: &Path| {
                let has = |(name, _): &&(&str, &str)| Path::new(name) == path;
                all.iter().find(has).map(|(_, text)| (*text).to_owned())
            }
        };
        let v2 = files(&[
            ("cgroup.controllers", "cpu memory\n"),
            ("a/memory.max", "5000\n"),
            ("a/b/memory.max", "9000"),
        ]);
        assert_eq!(limit_of("0::/a/b\n", v2), Limit::Octets(5000));
        assert_eq!(limit_of("0::/c\n", v2), Limit::None);
        let inside = files(&[("memory.max", "33554432\n")]);
        assert_eq!(limit_of("0::/\n", inside), Limit::Octets(32 << 20));
        // The group's path is that outside of the container.
        assert_eq!(limit_of("0::/kubepods/pod7/x\n", inside), Limit::Octets(32 << 20));
        assert_eq!(limit_of("0::/\n", files(&[("memory.max", "max\n")])), Limit::None);
        let v1 = files(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/pod/memory.limit_in_bytes", "777\n"),
        ]);
        assert_eq!(limit_of("3:cpu:/x\n2:rdma,memory:/pod\n0::/\n", v1), Limit::Octets(777));
        assert_eq!(limit_of("2:memory:/\n", v1), Limit::None);
        assert_eq!(limit_of("nonsense", files(&[])), Limit::Unseen);
        assert_eq!(limit_of("0::/\n", files(&[])), Limit::Unseen);
    }

    #[test]
    fn too_little_is_told_from_less_than_there_may_be() {
        let need = Need { least: 48 << 20, most: 500 << 20 };
        let find = |limit| Shortage::find(Limit::Octets(limit), need);
        let fatal = find(32 << 20).unwrap();
        let text = fatal.to_string();
        assert!(fatal.is_fatal() && !text.contains('\n'), "{text}");
        assert!(text.starts_with("the memory limit is 32 MiB, and 48 MiB"), "{text}");
        let scarce = find(256 << 20).unwrap();
        assert!(!scarce.is_fatal() && scarce.to_string().contains("--cache-size"), "{scarce}");
        assert_eq!(find(500 << 20), None);
        assert_eq!(Shortage::find(Limit::None, need), None);
    }
}
