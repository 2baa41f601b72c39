//! Files and the network as Landlock leaves them (landlock(7)): some directories to be read, some
//! in which files may be written or removed, and nothing else; no TCP of the kernel's, no abstract Unix socket
//! and no signal to anybody outside. What is open stays open.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::{Paths, SandboxError};

/// The latest that is known here; of what it names, an earlier kernel does what it can.
const LATEST: ABI = ABI::V10;
/// The first that has all that matters here.
pub(super) const NEEDED: u8 = ABI::V6 as u8;

/// What ABIs before the needed one do not restrict.
pub(super) fn missing(abi: u8) -> &'static str {
    match abi {
        0..=2 => "truncation, TCP, abstract sockets and signals",
        3 => "TCP, abstract sockets and signals",
        4..NEEDED => "abstract sockets and signals",
        NEEDED.. => "",
    }
}

/// Whether what [`restrict`] returned is all that matters; the ABI.
///
/// # Errors
/// [`SandboxError::Landlock`]: it is not.
pub(super) fn check(restricted: Result<u8, String>) -> Result<u8, SandboxError> {
    restricted
        .map_err(|why| SandboxError::Landlock(Err(why)))
        .and_then(|abi| if abi < NEEDED { Err(SandboxError::Landlock(Ok(abi))) } else { Ok(abi) })
}

/// Restricts the calling thread: the ABI that the kernel has, or why there is no Landlock.
///
/// # Errors
/// A path cannot be opened.
pub(super) fn restrict(paths: &Paths) -> Result<Result<u8, String>, SandboxError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Vec::new();
    for path in &paths.read {
        rules.push(rule(path, read)?);
    }
    for path in &paths.remove {
        rules.push(rule(path, AccessFs::RemoveFile.into())?);
    }
    for path in &paths.write {
        let make = if path.is_dir() { AccessFs::MakeReg.into() } else { BitFlags::EMPTY };
        rules.push(rule(path, BitFlags::from(AccessFs::WriteFile) | make)?);
    }
    // A backtrace reads the names of functions out of the program's own file.
    rules.extend(rule(Path::new("/proc/self/exe"), AccessFs::ReadFile.into()).ok());
    Ok(apply(rules).map_err(|error| error.to_string()).and_then(|(status, abi)| {
        match (status, abi) {
            (RulesetStatus::NotEnforced, _) | (_, 0) => {
                Err("this kernel has it not, or not switched on".to_owned())
            }
            (_, abi) => Ok(abi),
        }
    }))
}

fn rule(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, SandboxError> {
    let opened = PathFd::new(path);
    let failed = |error: landlock::PathFdError| {
        let why = std::error::Error::source(&error).map(ToString::to_string);
        SandboxError::Path(path.to_owned(), why.unwrap_or_else(|| error.to_string()))
    };
    Ok(PathBeneath::new(opened.map_err(failed)?, access))
}

fn apply(rules: Vec<PathBeneath<PathFd>>) -> Result<(RulesetStatus, u8), RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(LATEST))?
        .handle_access(AccessNet::from_all(LATEST))?
        .scope(Scope::from_all(LATEST))?
        .create()?
        .add_rules(rules.into_iter().map(Ok::<_, RulesetError>))?
        .restrict_self()?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u8,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    };
    Ok((status.ruleset, abi))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, ErrorKind};
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    /// Tries something on a thread that is restricted to these paths; `None`: there is no Landlock.
    fn restricted<T: Send>(paths: &Paths, attempt: impl FnOnce() -> T + Send) -> Option<(u8, T)> {
        let work = || match restrict(paths).unwrap() {
            Ok(abi) => Some((abi, attempt())),
            Err(why) => {
                eprintln!("SKIPPED (no Landlock: {why})");
                None
            }
        };
        thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    fn denied<T>(result: io::Result<T>) -> bool {
        result.err().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn directories_are_read_and_nothing_is_written() {
        let dir = TempDir::new().unwrap();
        let (www, run) = (dir.path().join("www"), dir.path().join("run"));
        fs::create_dir_all(www.join("in/it")).unwrap();
        fs::create_dir(&run).unwrap();
        let page = www.join("in/page");
        fs::write(&page, "a page").unwrap();
        let socket = run.join("socket");
        drop(UnixListener::bind(&socket).unwrap());
        fs::write(dir.path().join("beside"), "").unwrap();
        let log = dir.path().join("log");
        fs::create_dir(&log).unwrap();
        let mut paths = Paths { read: vec![www.clone()], ..Paths::default() };
        paths.remove_beside(&socket);
        paths.write_beside(&log.join("access.log"));
        restricted(&paths, || {
            assert_eq!(fs::read(&page).unwrap(), b"a page");
            assert_eq!(fs::read_dir(&www).unwrap().count(), 1);
            assert!(denied(fs::read("/etc/passwd")));
            assert!(denied(fs::read(dir.path().join("beside"))));
            assert!(denied(fs::read_dir("/")));
            assert!(denied(File::create(&page)));
            assert!(denied(OpenOptions::new().append(true).open(&page)));
            assert!(denied(File::create(www.join("new"))));
            assert!(denied(fs::create_dir(www.join("new"))));
            assert!(denied(fs::remove_file(&page)));
            assert!(denied(fs::rename(&page, www.join("other"))));
            assert!(denied(fs::remove_dir(www.join("in/it"))));
            assert!(denied(File::create(run.join("new"))));
            assert!(denied(UnixListener::bind(run.join("new"))));
            fs::remove_file(&socket).unwrap();
            let append =
                || OpenOptions::new().append(true).create(true).open(log.join("access.log"));
            append().and_then(|_| append()).unwrap();
            assert!(denied(fs::read(log.join("access.log"))));
            assert!(denied(fs::remove_file(log.join("access.log"))));
            File::open("/proc/self/exe").unwrap();
        });
    }

    #[test]
    fn where_a_log_is_written_files_are_made_and_not_read() {
        let dir = TempDir::new().unwrap();
        let (log, beside) = (dir.path().join("log"), dir.path().join("beside"));
        for folder in [&log, &beside] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("old"), "old").unwrap();
        }
        let append = |path: &Path| OpenOptions::new().append(true).create(true).open(path);
        let paths = Paths { write: vec![log.clone(), "/dev/full".into()], ..Paths::default() };
        restricted(&paths, || {
            append(&log.join("new")).unwrap();
            append(&log.join("old")).unwrap();
            append(Path::new("/dev/full")).unwrap();
            assert!(denied(fs::read(log.join("old"))));
            assert!(denied(fs::remove_file(log.join("old"))));
            assert!(denied(fs::create_dir(log.join("folder"))));
            assert!(denied(append(&beside.join("old"))) && denied(append(&beside.join("new"))));
            assert!(denied(append(Path::new("/dev/null"))));
        });
    }

    #[test]
    fn there_is_no_tcp_and_nobody_behind_an_abstract_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let name = format!("tagwire-{}", std::process::id());
        let outside = SocketAddr::from_abstract_name(&name).unwrap();
        let _unix = UnixListener::bind_addr(&outside).unwrap();
        let attempts = || {
            (
                TcpStream::connect(address),
                TcpListener::bind("127.0.0.1:0"),
                UnixStream::connect_addr(&outside),
            )
        };
        let Some((abi, (connect, bind, unix))) = restricted(&Paths::default(), attempts) else {
            return;
        };
        assert_eq!((denied(connect), denied(bind)), (abi >= 4, abi >= 4), "ABI {abi}");
        assert_eq!(denied(unix), abi >= NEEDED, "ABI {abi}");
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let paths = Paths { read: vec!["/no/such/folder".into()], ..Paths::default() };
        let error = restrict(&paths).unwrap_err().to_string();
        assert!(error.contains("/no/such/folder cannot be opened"), "{error}");
    }
}
