//! What the checks look at.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::thread::{SecureComputingMode, no_new_privs, secure_computing_mode};
use serde_json::Value;
use tagwire_core::error::OpenError;
use tagwire_core::inspect;
use tagwire_core::nic::Interface;
use tagwire_core::refusal;

use super::network::{self, Link};
use super::rivals::{self, Rival};
use crate::cold::{AdminListener, ColdError};
use crate::config::Config;
use crate::control;
use crate::driver::DriverChoice;
use crate::memory_limit::{self, Limit};
use crate::privileges::{self, Lack, Source};
use crate::sandbox::Layers;
use crate::site::{Site, SiteSettings};

/// Entries of a www-root that are looked at.
const MOST_ENTRIES: u64 = 100_000;

/// All of them. An error is the text that the start would end with.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) capability: Result<Source, String>,
    pub(super) no_new_privs: bool,
    /// A seccomp filter is on this process.
    pub(super) filtered: bool,
    /// The kernel's release.
    pub(super) kernel: String,
    /// What io_uring says; nobody asked it where the driver is poll.
    pub(super) uring: Option<Result<(), String>>,
    /// The sysctl kernel.io_uring_disabled, which Linux has since 6.6.
    pub(super) uring_disabled: Option<String>,
    /// What `--sandbox` could use.
    pub(super) layers: Layers,
    pub(super) memory: Limit,
    pub(super) interface: Result<Interface, String>,
    /// All interfaces of the namespace.
    pub(super) links: Result<Vec<Link>, String>,
    /// ethtool's features of the interface that are on.
    pub(super) features: Result<Vec<String>, String>,
    /// Stations that have one of our addresses; `None`: nobody could be asked.
    pub(super) rivals: Option<Result<Vec<Rival>, String>>,
    pub(super) roots: Vec<(PathBuf, Result<Files, String>)>,
    /// The process of the appliance that answers at the control socket.
    pub(super) running: Option<u64>,
    /// Whether the control socket could be made.
    pub(super) control: Result<(), String>,
    /// Whether the admin endpoint's port could be had.
    pub(super) admin: Result<(), String>,
    pub(super) access_log: Result<(), String>,
}

/// What is in a www-root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) count: u64,
    pub(super) octets: u64,
    /// How many cannot be read, and one of them.
    pub(super) unreadable: Option<(u64, PathBuf)>,
    /// There are more than were looked at.
    pub(super) more: bool,
}

impl Facts {
    /// In the order of the start: what needs the capability goes before it is given up, the rest
    /// comes after, so that root is told what it may do without.
    pub(super) fn gather(config: &Config) -> Self {
        privileges::raise();
        let capability = capability();
        let name = &config.interface;
        let interface = Interface::find(name).map_err(|error| error.to_string());
        let rivals = match (&capability, &interface) {
            (Ok(_), Ok(found)) if found.is_up() => {
                Some(rivals::find(config, found).map_err(|error| error.to_string()))
            }
            _ => None,
        };
        let no_new_privs = no_new_privs().unwrap_or(false);
        let given_up = privileges::give_up();
        let running = config.control.as_deref().and_then(running);
        Self {
            capability: match given_up {
                Ok(()) => capability,
                Err(error) => Err(crate::appliance::StartError::Kept(error).to_string()),
            },
            no_new_privs,
            filtered: secure_computing_mode().is_ok_and(|mode| mode == SecureComputingMode::Filter),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            uring: (config.driver != DriverChoice::Poll)
                .then(|| refusal::probe().map_err(|refusal| refusal.to_string())),
            uring_disabled: fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
                .ok()
                .map(|text| text.trim().to_owned()),
            layers: Layers::probe(),
            memory: memory_limit::limit(),
            interface,
            links: network::links().map_err(|error| error.to_string()),
            features: inspect::features(name).map_err(|error| error.to_string()),
            rivals,
            roots: config.sites.iter().map(root).collect(),
            running,
            control: config.control.as_deref().map_or(Ok(()), may_be_made),
            admin: config.admin.map_or(Ok(()), |address| {
                AdminListener::bind(address).map(drop).map_err(|error| error.to_string())
            }),
            access_log: config.access_log.target.check().map_err(|error| error.to_string()),
        }
    }
}

fn capability() -> Result<Source, String> {
    inspect::packet_socket().map_err(|error| match error {
        OpenError::Capability => Lack::find().to_string(),
        error => error.to_string(),
    })?;
    Ok(privileges::source())
}

/// The process of the appliance that answers at a control socket.
fn running(control: &Path) -> Option<u64> {
    let (_, status) = control::ask(control, "status").ok()?;
    status.get("pid").and_then(Value::as_u64)
}

/// Whether a control socket can be made at `path`.
fn may_be_made(path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let access = accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    let free = match path.symlink_metadata() {
        Ok(file) if !file.file_type().is_socket() => {
            Err(io::Error::other("a file that is no socket has this name"))
        }
        _ => access.map_err(io::Error::from),
    };
    free.map_err(|error| ColdError::Control(path.to_owned(), error).to_string())
}

fn root(settings: &SiteSettings) -> (PathBuf, Result<Files, String>) {
    let path = settings.www_root.clone();
    let opened = Site::open(settings.clone()).map_err(|error| error.to_string());
    let files = opened.map(|site| files(&site, MOST_ENTRIES));
    (path, files)
}

/// Counts the files that could be served. Links to directories are not followed, lest one leads in
/// a circle.
fn files(site: &Site, most: u64) -> Files {
    let mut files = Files::default();
    let mut entries = 0;
    let root = &site.settings.www_root;
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        // One that may be searched but not read is served all the same.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            entries += 1;
            if entries > most {
                files.more = true;
                return files;
            }
            let path = entry.path();
            let place = path.strip_prefix(root).unwrap_or(&path);
            if site.hides(place.as_os_str().as_encoded_bytes()) {
                continue;
            }
            let Ok(file) = path.metadata() else { continue };
            if file.is_dir() && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if file.is_file() {
                files.count += 1;
                files.octets += file.len();
                if accessat(CWD, &path, Access::READ_OK, AtFlags::EACCESS).is_err() {
                    files.unreadable.get_or_insert((0, path)).0 += 1;
                }
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_control_socket_takes_a_directory_that_can_be_written() {
        let error = may_be_made(Path::new("/no/such/control")).unwrap_err();
        assert!(error.contains("/no/such/control") && error.contains("--control"), "{error}");
        let dir = TempDir::new().unwrap();
        assert_eq!(may_be_made(&dir.path().join("control")), Ok(()));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(may_be_made(&file).unwrap_err().contains("no socket"));
        // One that somebody has left behind goes at the start.
        let old = dir.path().join("old");
        drop(UnixListener::bind(&old).unwrap());
        assert_eq!((may_be_made(&old), running(&old)), (Ok(()), None));
    }

    #[test]
    fn files_are_counted_as_they_would_be_served() {
        let dir = TempDir::new().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(root.join(".git")).unwrap();
        fs::create_dir_all(root.join("a/.well-known")).unwrap();
        for name in
            ["index.html", "a/b/c", ".git/config", ".hidden", "a/.well-known/only-at-the-top"]
        {
            fs::write(root.join(name), "12345").unwrap();
        }
        // As a ConfigMap has its files, and a circle.
        symlink("a/b/c", root.join("link")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        symlink("nowhere", root.join("broken")).unwrap();
        let counted = |dotfiles, most| {
            let settings = SiteSettings { dotfiles, ..SiteSettings::new(root.to_owned()) };
            let site = Site::open(settings).unwrap();
            let Files { count, octets, unreadable, more } = files(&site, most);
            assert_eq!(unreadable, None);
            (count, octets, more)
        };
        assert_eq!(counted(false, 100), (3, 15, false));
        assert_eq!(counted(true, 100), (6, 30, false));
        assert!(counted(false, 2).2);
    }
}
