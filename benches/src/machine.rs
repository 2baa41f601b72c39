//! What the machine says of itself: CPU time, memory, and who else is at work on it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};

use crate::BenchError;

/// Ticks of CPU time in a second: USER_HZ, which the kernel's interfaces have fixed.
const TICKS: u64 = 100;
/// The flag of a kernel thread in /proc/PID/stat.
const PF_KTHREAD: u64 = 0x0020_0000;
/// Processes and threads that one measured round starts itself, at the most.
const OWN_FORKS: u64 = 16;

/// What a CPU has done up to a moment, by /proc/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// User, nice, system, irq and softirq: most kernels sample these with the timer tick.
    pub sampled: Duration,
    /// Idle, waiting for a disk, stolen by the host: most kernels measure these exactly.
    pub unused: Duration,
}

impl CpuTimes {
    /// Reads them.
    ///
    /// # Errors
    /// When /proc/stat cannot be read, or the machine has no such CPU.
    pub fn read(cpu: usize) -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let missing = || io::Error::other(format!("this machine has no CPU {cpu}"));
        Self::parse(&stat, cpu).ok_or_else(missing)
    }

    fn parse(stat: &str, cpu: usize) -> Option<Self> {
        let name = format!("cpu{cpu}");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))?;
        let fields: Vec<u64> =
            line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let &[user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields.as_slice() else {
            return None;
        };
        let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS);
        Some(Self {
            sampled: time(user + nice + system + irq + softirq),
            unused: time(idle + iowait + steal),
        })
    }
}

/// A field of /proc/PID/status in KiB.
fn status_kib(pid: u32, field: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|line| {
        line.strip_prefix(field)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok()
    });
    found.ok_or_else(|| io::Error::other(format!("process {pid} has no {field}")))
}

/// The resident memory of a process, in octets.
///
/// # Errors
/// When the process is gone.
pub fn resident(pid: u32) -> io::Result<u64> {
    Ok(status_kib(pid, "VmRSS")? * 1024)
}

/// The CPU time of all threads of a process, to the nanosecond.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between being listed and being read.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        total += text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0u64);
    }
    Ok(Duration::from_nanos(total))
}

/// Keeps the calling thread on a CPU.
///
/// # Errors
/// When the machine has no such CPU, or the thread may not be there.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(None, &cpus)?)
}

/// Has the kernel write its files to disk and keep none of them in memory.
///
/// # Errors
/// When it does not let us (not as root, or in a container without that right).
pub fn forget_files() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// The work of others on this machine up to a moment.
#[derive(Debug, Clone)]
pub struct Others {
    /// CPU time of each process.
    ticks: HashMap<u32, u64>,
    forks: u64,
}

impl Others {
    /// Looks at all processes but ours.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn look(ours: &HashSet<u32>) -> io::Result<Self> {
        let mut ticks = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name.to_str().and_then(|name| name.parse::<u32>().ok());
            let Some(pid) = pid.filter(|pid| !ours.contains(pid)) else { continue };
            // It may have ended since.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            ticks.extend(user_ticks(&stat).map(|time| (pid, time)));
        }
        let stat = fs::read_to_string("/proc/stat")?;
        let forks = stat.lines().find_map(|line| line.strip_prefix("processes ")?.parse().ok());
        Ok(Self { ticks, forks: forks.unwrap_or(0) })
    }

    /// Whether others worked for more than two per cent of `time` since `before`, started
    /// processes or ended: then what was measured between is not ours alone.
    pub fn disturbed(&self, before: &Self, time: Duration) -> bool {
        let spent = |(pid, now): (&u32, &u64)| {
            now.saturating_sub(before.ticks.get(pid).copied().unwrap_or(0))
        };
        let ticks: u64 = self.ticks.iter().map(spent).sum();
        let allowed = time.as_secs_f64() * TICKS as f64 * 0.02;
        ticks as f64 > allowed
            || self.forks.saturating_sub(before.forks) > OWN_FORKS
            || before.ticks.keys().any(|pid| !self.ticks.contains_key(pid))
    }
}

/// The CPU time in /proc/PID/stat, unless it is a kernel thread's.
fn user_ticks(stat: &str) -> Option<u64> {
    // The name before may hold spaces and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let (flags, user, system) = (number(6)?, number(11)?, number(12)?);
    (flags & PF_KTHREAD == 0).then_some(user + system)
}

/// Name and count of the CPUs.
pub fn cpus() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{count} x {}", model.map_or("unknown CPU", |(_, name)| name))
}

/// The kernel's release.
pub fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// Writes figures to a file, with the date and what they were measured on.
///
/// # Errors
/// When it cannot be written, or `figures` is not an object.
pub fn write_json(path: &Path, figures: &Value) -> Result<(), BenchError> {
    let mut all = json!({
        "date": httpdate::fmt_http_date(SystemTime::now()),
        "machine": cpus(),
        "kernel": kernel(),
    });
    let (Some(all_fields), Some(fields)) = (all.as_object_mut(), figures.as_object()) else {
        return Err("figures are an object".into());
    };
    all_fields.extend(fields.clone());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_time_of_a_cpu_is_all_but_idle_waiting_and_stolen() {
        let stat = "cpu  1 1 1 1 1 1 1 1\ncpu1 100 20 3 999 999 4 5 999 0 0\ncpu10 1 1\n";
        let (sampled, unused) = (Duration::from_millis(1320), Duration::from_millis(29_970));
        assert_eq!(CpuTimes::parse(stat, 1), Some(CpuTimes { sampled, unused }));
        assert_eq!(CpuTimes::parse(stat, 10), None);
        assert_eq!(CpuTimes::parse(stat, 2), None);
    }

    #[test]
    fn a_name_with_spaces_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 0 0 0 30 12 0 0 20 0";
        assert_eq!(user_ticks(stat), Some(42));
        let kthread = "7 (kworker) I 2 0 0 0 -1 2129984 1 0 0 0 30 12 0 0 20 0";
        assert_eq!(user_ticks(kthread), None);
    }

    #[test]
    fn others_disturb_by_working_starting_and_ending() {
        let others =
            |ticks: &[(u32, u64)], forks| Others { ticks: ticks.iter().copied().collect(), forks };
        let (before, second) = (others(&[(1, 100), (2, 50)], 10), Duration::from_secs(1));
        assert!(!others(&[(1, 101), (2, 51)], 12).disturbed(&before, second));
        assert!(others(&[(1, 103), (2, 50)], 12).disturbed(&before, second));
        assert!(others(&[(1, 100), (2, 50), (3, 9)], 12).disturbed(&before, second));
        assert!(others(&[(1, 100), (2, 50)], 90).disturbed(&before, second));
        assert!(others(&[(1, 100)], 10).disturbed(&before, second));
    }

    #[test]
    fn a_process_has_memory_and_time() {
        let own = std::process::id();
        assert!(resident(own).unwrap() > 100_000);
        assert!(cpu_time(own).unwrap() > Duration::ZERO);
    }
}
