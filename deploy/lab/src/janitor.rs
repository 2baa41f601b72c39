//! Cleaning up, whatever happened.
//!
//! Each lab leaves a record in /run/tagwire-lab while it is up: who owns it (process id
//! and start time, since ids are used again) and what it has made. A lab that is dropped
//! removes itself. One whose owner was killed is removed by the janitor, at the start of
//! the next lab or by `tagwire-lab clean`. Both go by the record, so there is one way to
//! take a lab down, and it may be gone twice.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::error::{LabError, LabResult};
use crate::namespace::netns_path;
use crate::tools::run_tool;

/// Where the records are. On a tmpfs, as the namespaces are not there after a reboot.
const RECORDS: &str = "/run/tagwire-lab";

/// How the folder of a lab's files begins, before the lab's name.
const SCRATCH_PREFIX: &str = "tagwire-lab-";

/// What a lab has made, and for whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The lab's name.
    pub(crate) name: String,
    owner_pid: i32,
    /// In clock ticks since boot, from /proc/PID/stat.
    owner_start: u64,
    /// `cli`, `node`, `pod0`...: each is a namespace, see [`Record::namespace`].
    pub(crate) roles: Vec<String>,
    /// A folder for files that must not outlive the lab.
    pub(crate) scratch: PathBuf,
}

impl Record {
    /// A record of a lab that this process is about to make.
    pub(crate) fn new(name: String, roles: Vec<String>) -> LabResult<Self> {
        let owner_pid = getpid().as_raw_nonzero().get();
        let owner_start = start_time(owner_pid)
            .map_err(|error| LabError::new("cannot read /proc/self/stat", error, "mount /proc"))?;
        let scratch = std::env::temp_dir().join(format!("{SCRATCH_PREFIX}{name}"));
        Ok(Self { name, owner_pid, owner_start, roles, scratch })
    }

    /// The name of the namespace for a role.
    pub(crate) fn namespace(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }

    fn path(&self) -> PathBuf {
        Path::new(RECORDS).join(format!("{}.json", self.name))
    }

    /// Writes it down. This comes before anything is made.
    pub(crate) fn write(&self) -> LabResult<()> {
        let write = || {
            fs::create_dir_all(RECORDS)?;
            // A reader must never see half of it.
            let draft = self.path().with_extension("draft");
            fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
            fs::rename(draft, self.path())
        };
        write().map_err(|error: io::Error| {
            LabError::new(
                format!("cannot write the lab's record to {}", self.path().display()),
                error,
                "run as root, with /run writable",
            )
        })
    }

    fn owner_is_alive(&self) -> bool {
        start_time(self.owner_pid).is_ok_and(|start| start == self.owner_start)
    }

    fn is_ours(&self) -> bool {
        self.owner_pid == getpid().as_raw_nonzero().get() && self.owner_is_alive()
    }

    /// Takes the lab down: processes, namespaces (and with them all interfaces), files,
    /// and at last this record. What is gone already is no error; the rest is tried even
    /// if a part fails, and the record stays then, for the next janitor.
    pub(crate) fn remove(&self) -> LabResult<()> {
        let mut failure = None;
        for role in &self.roles {
            let namespace = self.namespace(role);
            kill_inside(&netns_path(&namespace));
            if netns_path(&namespace).exists() {
                failure = run_tool("ip", &["netns", "del", &namespace]).err().or(failure);
            }
        }
        if self.scratch_is_plausible() {
            match fs::remove_dir_all(&self.scratch) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    failure = Some(cannot_remove(&self.scratch, &error));
                }
                _ => {}
            }
        }
        match failure {
            Some(error) => Err(error),
            None => match fs::remove_file(self.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(cannot_remove(&self.path(), &error))
                }
                _ => Ok(()),
            },
        }
    }

    /// A record is a file that somebody may have edited; a folder is removed whole only
    /// if it is named as ours are.
    fn scratch_is_plausible(&self) -> bool {
        self.scratch.is_absolute()
            && self
                .scratch
                .file_name()
                .is_some_and(|name| *name == *format!("{SCRATCH_PREFIX}{}", self.name))
    }
}

fn cannot_remove(path: &Path, error: &io::Error) -> LabError {
    LabError::new(
        format!("cannot remove {}", path.display()),
        error,
        "remove it by hand, then run `tagwire-lab clean`",
    )
}

/// Removes every lab whose owner is dead, and returns their names.
///
/// # Errors
///
/// When something of one cannot be removed; the others are removed all the same.
pub fn clean() -> LabResult<Vec<String>> {
    let _one_at_a_time = lock_records()?;
    let mut removed = Vec::new();
    let mut failure = None;
    for record in records() {
        if record.owner_is_alive() {
            continue;
        }
        match record.remove() {
            Ok(()) => removed.push(record.name),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(removed), Err)
}

/// Removes the labs of this process and ends it: what a handler of SIGINT and SIGTERM
/// does, since a signal's default action runs no destructor.
pub fn remove_own_and_exit(code: i32) -> ! {
    // Held to the end: no lab may come up or go down beside it.
    let _changing = changing();
    for record in records().iter().filter(|record| record.is_ours()) {
        if let Err(error) = record.remove() {
            eprintln!("{error}");
        }
    }
    std::process::exit(code);
}

/// Held while a lab of this process comes up or goes down.
pub(crate) fn changing() -> MutexGuard<'static, ()> {
    static CHANGING: Mutex<()> = Mutex::new(());
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The labs that are up, the oldest first.
pub(crate) fn live_records() -> Vec<Record> {
    let mut live: Vec<Record> = records().into_iter().filter(Record::owner_is_alive).collect();
    live.sort_by_key(|record| record.owner_start);
    live
}

fn records() -> Vec<Record> {
    let Ok(folder) = fs::read_dir(RECORDS) else { return Vec::new() };
    folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        // One that vanishes meanwhile was removed by its owner.
        .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
        .collect()
}

/// The janitors of several processes take turns.
fn lock_records() -> LabResult<File> {
    let path = Path::new(RECORDS).join("lock");
    let lock = || {
        fs::create_dir_all(RECORDS)?;
        let file = File::create(&path)?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(|error: io::Error| {
        LabError::new(
            format!("cannot lock {}", path.display()),
            error,
            "run as root, with /run writable",
        )
    })
}

/// When a process started, in clock ticks since boot.
fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name is in parentheses and may hold spaces and parentheses: the
    // fields are counted from behind it. The start time is the 22nd of all.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok())
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "not the format of proc(5)"))
}

/// What identifies a namespace: device and inode of the file that stands for it.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Kills every process in a namespace, unless it is the one that we are in.
fn kill_inside(namespace: &Path) {
    let Some(target) = identity(namespace) else { return };
    if identity(Path::new("/proc/self/ns/net")) == Some(target) {
        return;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let inside = || identity(&PathBuf::from(format!("/proc/{pid}/ns/net"))) == Some(target);
        if !inside() {
            continue;
        }
        let Some(Ok(pidfd)) = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()))
        else {
            continue;
        };
        // The descriptor holds the process, not the number: look again, then kill.
        if inside() {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new("tw1-0".to_owned(), vec!["cli".to_owned()]).unwrap()
    }

    #[test]
    fn an_owner_is_a_process_with_its_start_time() {
        let ours = record();
        assert!(ours.owner_is_alive() && ours.is_ours());
        let reused = Record { owner_start: ours.owner_start + 1, ..ours.clone() };
        assert!(!reused.owner_is_alive());
        let gone = Record { owner_pid: i32::MAX, ..ours };
        assert!(!gone.owner_is_alive());
    }

    #[test]
    fn only_a_folder_of_ours_is_removed_whole() {
        let ours = record();
        assert!(ours.scratch_is_plausible());
        for scratch in ["/", "/tmp", "tagwire-lab-tw1-0", "/tmp/tagwire-lab-other", "/tmp/.."] {
            let edited = Record { scratch: PathBuf::from(scratch), ..ours.clone() };
            assert!(!edited.scratch_is_plausible(), "{scratch}");
        }
    }
}
