//! What the process takes from itself once everything is open and before the first frame is read, so
//! that whoever should get to run code in it finds little to do.
//!
//! | layer | what is left | where |
//! |---|---|---|
//! | capabilities | none, and no program could get any | [`privileges`](crate::privileges) |
//! | files, network | the directories that are served, read only, and the access log's; no TCP of the kernel's | [`files`] (Landlock) |
//! | system calls | those that a thread of its [`Role`] makes; any other kills the process | [`calls`] (seccomp) |
//! | io_uring | the operations of the packet loop, where it is that which carries them; reads of files | `core/src/restrictions.rs` |
//! | packet sockets | the sending one never receives | `core/src/packet/socket.rs` |
//!
//! Landlock and seccomp depend on the kernel and on who has configured it: [`SandboxMode`]. Both are
//! inherited by threads that are started later: the main thread is restricted while it is alone
//! ([`Sandbox::enter`]), and each thread then gives up what only others need
//! ([`Sandbox::narrow`]).

use std::fmt;
use std::iter;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;

use serde_json::{Value, json};
use tagwire_core::driver::DriverKind;

mod calls;
mod files;

pub use calls::Role;

/// How much of it there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxMode {
    /// All, or no start.
    Strict,
    /// What this kernel has.
    #[default]
    BestEffort,
    /// Neither Landlock nor seccomp.
    Off,
}

impl FromStr for SandboxMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "strict" => Ok(Self::Strict),
            "best-effort" => Ok(Self::BestEffort),
            "off" => Ok(Self::Off),
            other => Err(format!("{other:?} is no sandbox; use strict, best-effort or off")),
        }
    }
}

impl fmt::Display for SandboxMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::BestEffort => "best-effort",
            Self::Off => "off",
        })
    }
}

/// What of the file system is needed after the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// Directories whose files are read.
    pub read: Vec<PathBuf>,
    /// Directories in which files are made and written on, never shortened; and pipes and devices.
    pub write: Vec<PathBuf>,
    /// Directories of which files are removed, sockets say.
    pub remove: Vec<PathBuf>,
}

/// The directory of a file by its name, and where a symlink leads.
fn beside(file: &Path) -> Vec<PathBuf> {
    let parent = |file: &Path| match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let led_to = file.canonicalize().ok().map(|file| parent(&file));
    iter::once(parent(file)).chain(led_to).collect()
}

impl Paths {
    /// A file is read again, whatever has its name then.
    pub fn read_beside(&mut self, file: &Path) {
        self.read.extend(beside(file));
    }

    /// A file is written on, and made anew where it has gone. A pipe or a device is not.
    pub fn write_beside(&mut self, file: &Path) {
        if file.is_file() || !file.exists() {
            self.write.extend(beside(file));
        } else {
            self.write.push(file.to_owned());
        }
    }

    /// A file is removed.
    pub fn remove_beside(&mut self, file: &Path) {
        self.remove.extend(beside(file));
    }
}

/// Why there is none, though there must be; the text says what to do.
#[derive(Debug)]
pub enum SandboxError {
    /// Landlock is not there, or not all of it: its ABI.
    Landlock(Result<u8, String>),
    /// Filters of system calls are refused, and why.
    Seccomp(String),
    /// A directory that was named cannot be opened.
    Path(PathBuf, String),
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Landlock(Ok(abi)) => write!(
                f,
                "--sandbox strict needs Landlock's ABI {} (Linux 6.12), and this kernel has {abi}; \
                 use a later kernel, or --sandbox best-effort",
                files::NEEDED
            ),
            Self::Landlock(Err(why)) => write!(
                f,
                "--sandbox strict needs Landlock, and there is none ({why}); add landlock to lsm= on \
                 the kernel's command line, allow its three system calls in the seccomp profile, or \
                 use --sandbox best-effort"
            ),
            Self::Seccomp(why) => write!(
                f,
                "--sandbox strict needs seccomp, which is refused ({why}); use a kernel with \
                 CONFIG_SECCOMP_FILTER, or --sandbox best-effort"
            ),
            Self::Path(path, why) => write!(
                f,
                "{} cannot be opened for the sandbox ({why}); make it, or name another one",
                path.display()
            ),
        }
    }
}

impl std::error::Error for SandboxError {}

/// The layers that this kernel has, or why it has them not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layers {
    /// Landlock's ABI.
    pub(crate) landlock: Result<u8, String>,
    pub(crate) seccomp: Result<(), String>,
}

impl Layers {
    /// Tries them, on a thread that has no more to do then.
    pub(crate) fn probe() -> Self {
        let tried = || {
            let landlock = match files::restrict(&Paths::default()) {
                Ok(tried) => tried,
                Err(error) => Err(error.to_string()),
            };
            Self { landlock, seccomp: calls::restrict(Role::Any, DriverKind::Poll) }
        };
        thread::scope(|scope| scope.spawn(tried).join()).unwrap_or_else(|_| {
            let why = || "the attempt failed".to_owned();
            Self { landlock: Err(why()), seccomp: Err(why()) }
        })
    }

    /// What `--sandbox strict` would fail with.
    pub(crate) fn check(&self) -> Result<u8, SandboxError> {
        let abi = files::check(self.landlock.clone())?;
        self.seccomp.clone().map_err(SandboxError::Seccomp)?;
        Ok(abi)
    }

    /// What Landlock does not restrict here; empty where it is complete or is not there.
    pub(crate) fn missing(&self) -> &'static str {
        self.landlock.as_ref().map_or("", |abi| files::missing(*abi))
    }
}

/// The sandbox of this process.
#[derive(Debug, Clone, Copy)]
pub struct Sandbox {
    mode: SandboxMode,
    driver: DriverKind,
    /// Landlock's ABI as far as it is used; 0: nothing is.
    landlock: u8,
    seccomp: bool,
}

impl Sandbox {
    /// None at all.
    pub const fn none(driver: DriverKind) -> Self {
        Self { mode: SandboxMode::Off, driver, landlock: 0, seccomp: false }
    }

    /// Restricts the calling thread, and those that it starts from now on. It should be the only
    /// one. Says in the log what is missing.
    ///
    /// # Errors
    /// [`SandboxError`]: a layer is missing that there must be, or a path.
    pub fn enter(
        mode: SandboxMode,
        driver: DriverKind,
        paths: &Paths,
    ) -> Result<Self, SandboxError> {
        if mode == SandboxMode::Off {
            return Ok(Self::none(driver));
        }
        let strict = mode == SandboxMode::Strict;
        let tried = files::restrict(paths)?;
        if strict {
            files::check(tried.clone())?;
        }
        let landlock = match tried {
            Ok(abi) => {
                let missing = files::missing(abi);
                if !missing.is_empty() {
                    tracing::info!(abi, missing, "Landlock of this kernel is not complete");
                }
                abi
            }
            Err(why) => {
                tracing::warn!(why, "no Landlock: files and the network are not restricted");
                0
            }
        };
        let seccomp = match calls::restrict(Role::Any, driver) {
            Ok(()) => true,
            Err(why) if strict => return Err(SandboxError::Seccomp(why)),
            Err(why) => {
                tracing::warn!(why, "no seccomp: system calls are not restricted");
                false
            }
        };
        Ok(Self { mode, driver, landlock, seccomp })
    }

    /// Leaves the calling thread, and those that it starts from now on, what its role needs.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn narrow(self, role: Role) -> Result<(), SandboxError> {
        if self.seccomp {
            calls::restrict(role, self.driver).map_err(SandboxError::Seccomp)
        } else {
            Ok(())
        }
    }

    /// Whether files can be read in some directories only.
    pub fn restricts_files(self) -> bool {
        self.landlock > 0
    }

    /// The state of each layer, for `tagwire status`.
    pub fn report(self) -> Value {
        let Self { mode, driver, landlock, seccomp } = self;
        let state = |on: bool| match (on, mode) {
            (true, _) => "on",
            (false, SandboxMode::Off) => "off",
            (false, _) => "missing",
        };
        let files = match (state(landlock > 0), files::missing(landlock)) {
            ("on", "") => "on".to_owned(),
            ("on", missing) => format!("on, without {missing}"),
            (state, _) => state.to_owned(),
        };
        let ring = if driver == DriverKind::Uring { "restricted" } else { "none" };
        json!({
            "mode": mode.to_string(),
            "capabilities": "none",
            "landlock": files,
            "landlock_abi": landlock,
            "seccomp": state(seccomp),
            "packet_ring": ring,
            "file_ring": ring,
            "sender_filter": "locked",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_where_it_is_named_and_where_it_lies() {
        let dir = tempfile::TempDir::new().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("a.toml"), "").unwrap();
        let link = dir.path().join("a.toml");
        std::os::unix::fs::symlink(real.join("a.toml"), &link).unwrap();
        let mut paths = Paths::default();
        paths.read_beside(&link);
        assert_eq!(paths.read, [dir.path().to_owned(), real]);
        let mut paths = Paths::default();
        paths.write_beside(&link);
        paths.write_beside(Path::new("/dev/full"));
        assert_eq!(
            paths.write,
            [dir.path(), &dir.path().canonicalize().unwrap().join("real"), Path::new("/dev/full")]
        );
        let mut paths = Paths::default();
        paths.read_beside(Path::new("nowhere.toml"));
        assert_eq!(paths.read, [PathBuf::from(".")]);
    }

    #[test]
    fn what_is_missing_is_said_in_one_line() {
        for (error, part) in [
            (SandboxError::Landlock(Ok(2)), "ABI 6 (Linux 6.12), and this kernel has 2"),
            (SandboxError::Landlock(Err("ENOSYS".into())), "lsm="),
            (SandboxError::Seccomp("ENOSYS".into()), "CONFIG_SECCOMP_FILTER"),
            (SandboxError::Path("/none".into(), "why".into()), "/none cannot be opened"),
        ] {
            let text = error.to_string();
            assert!(text.contains(part) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn layers_are_tried_without_restricting_who_asks() {
        let layers = Layers::probe();
        // One that any machine has for which this is built; and this thread goes on as before.
        assert_eq!(layers.seccomp, Ok(()));
        assert!(
            std::fs::read_dir("/").is_ok() && std::net::TcpListener::bind("127.0.0.1:0").is_ok()
        );
        let with = |landlock: Result<u8, &str>, seccomp: Result<(), &str>| Layers {
            landlock: landlock.map_err(str::to_owned),
            seccomp: seccomp.map_err(str::to_owned),
        };
        let said = |layers: Layers| layers.check().map_err(|error| error.to_string());
        assert_eq!(said(with(Ok(files::NEEDED), Ok(()))), Ok(files::NEEDED));
        for (layers, part) in [
            (with(Ok(files::NEEDED - 1), Ok(())), "this kernel has 5"),
            (with(Err("ENOSYS"), Ok(())), "lsm="),
            (with(Ok(files::NEEDED), Err("ENOSYS")), "CONFIG_SECCOMP_FILTER"),
        ] {
            let text = said(layers).unwrap_err();
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_report_says_what_there_is() {
        let driver = DriverKind::Uring;
        let report = |mode, landlock, seccomp| Sandbox { mode, driver, landlock, seccomp }.report();
        let full = report(SandboxMode::Strict, 7, true);
        assert_eq!((&full["landlock"], &full["seccomp"]), (&json!("on"), &json!("on")));
        let old = report(SandboxMode::BestEffort, 2, false);
        assert_eq!(old["landlock"], "on, without truncation, TCP, abstract sockets and signals");
        assert_eq!((&old["mode"], &old["seccomp"]), (&json!("best-effort"), &json!("missing")));
        let none = Sandbox::none(DriverKind::Poll).report();
        assert_eq!((&none["landlock"], &none["seccomp"]), (&json!("off"), &json!("off")));
        for ring in ["packet_ring", "file_ring"] {
            assert_eq!((&full[ring], &none[ring]), (&json!("restricted"), &json!("none")));
        }
    }
}
