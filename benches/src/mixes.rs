//! Mixes: sizes by connections, more files than are usually looked at, encoded ones, a load
//! that leaves room, and a file that no cache holds. Each against nginx with the same features on.
//!
//! What is wanted is nginx's requests per server-CPU second times [`SMALL_LEAST`] for answers of
//! up to 10 KiB and times [`LARGE_LEAST`] from 100 KiB on; and under half of the load that nginx can
//! carry, a 99th percentile of at most [`P99_MOST`] of nginx's.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::contender::Contender;
use crate::load::{Ask, HUGE, HUGE_OCTETS, MANY, many_path};
use crate::rounds::Case;

/// See the module.
pub const SMALL_LEAST: f64 = 2.2;
/// See the module.
pub const LARGE_LEAST: f64 = 1.5;
/// See the module.
pub const P99_MOST: f64 = 0.8;

/// The name of all of them for `--only`.
pub const ALL: &str = "mixes";
/// Their own names.
pub const NAMES: [&str; 6] = ["sizes", "many", "cold", "gzip", "half", "huge"];

/// The rounds of a mix, at the most: mixes are many.
pub const ROUNDS: usize = 3;
/// The seconds of each round unless told otherwise.
pub const SECONDS: u64 = 2;

const BOTH: &[Contender] = &[Contender::Tagwire, Contender::Nginx];
/// Where [`HUGE`] is.
const HUGE_PATH: &str = "/huge";
/// Octets of each of the many.
const MANY_OCTETS: usize = 1 << 10;

/// Files whose sibling is encoded: path, octets, and the sibling's.
const PACKED: [(&str, usize, usize); 2] =
    [("/packed/small.html", 60 << 10, 10 << 10), ("/packed/large.html", 600 << 10, 100 << 10)];

/// Files of one size beside those of [`crate::contender::FILES`].
pub const FILES: [(&str, usize); 2] = [("10k", 10 << 10), ("1m", 1 << 20)];

/// The cases of these names.
pub fn cases(wanted: impl Fn(&str) -> bool) -> Vec<Case> {
    let mut all = Vec::new();
    for (file, size, least) in [
        ("/1k", "1 KiB", SMALL_LEAST),
        ("/10k", "10 KiB", SMALL_LEAST),
        ("/100k", "100 KiB", LARGE_LEAST),
        ("/1m", "1 MiB", LARGE_LEAST),
    ] {
        for connections in [1, 32, 1024] {
            let title = format!("{size}, {connections} connections");
            let case = Case::new("sizes", title, Ask::File(file), connections, BOTH);
            all.push(Case { least: Some(least), ..case });
        }
    }
    let many = |name, title: &str| {
        let title = format!("{MANY} files of 1 KiB, {title}, 32 connections");
        Case { least: Some(SMALL_LEAST), ..Case::new(name, title, Ask::Many, 32, BOTH) }
    };
    all.push(many("many", "warm"));
    all.push(Case { cold: true, ..many("cold", "cold") });
    for ((path, octets, sibling), least) in PACKED.into_iter().zip([SMALL_LEAST, LARGE_LEAST]) {
        let title = format!("{} KiB in gzip, {} KiB, 32 connections", octets >> 10, sibling >> 10);
        let case = Case::new("gzip", title, Ask::Gzip(path), 32, BOTH);
        all.push(Case { least: Some(least), ..case });
    }
    all.push(Case::new("half", "1 KiB, 32 connections, half load", Ask::File("/1k"), 32, BOTH));
    let title = "10 GiB file, 1 connection";
    all.push(Case::new("huge", title, Ask::File(HUGE_PATH), 1, BOTH));
    let title = "512 KiB parts of a 10 GiB file, 1,000 connections";
    all.push(Case::new("huge", title, Ask::Parts, 1000, BOTH));
    all.into_iter().filter(|case| wanted(case.name)).collect()
}

/// Makes the files of these cases.
///
/// # Errors
/// When they cannot be written.
pub fn put_files(www: &Path, cases: &[Case]) -> io::Result<()> {
    let put = |name: &str, octets: usize| {
        let path = www.join(name);
        let folder = path.parent().unwrap_or(www);
        if !folder.is_dir() {
            fs::create_dir_all(folder)?;
            for folder in folder.ancestors().take_while(|folder| *folder != www) {
                fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
            }
        }
        fs::write(&path, vec![b'x'; octets])?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
    };
    let asks = |ask: fn(&Ask) -> bool| cases.iter().any(|case| ask(&case.ask));
    if asks(|ask| *ask == Ask::Many) {
        (0..MANY).try_for_each(|file| put(&many_path(file), MANY_OCTETS))?;
    }
    if asks(|ask| matches!(ask, Ask::Gzip(_))) {
        for (path, octets, sibling) in PACKED {
            let name = &path[1..];
            put(name, octets)?;
            put(&format!("{name}.gz"), sibling)?;
        }
    }
    if asks(|ask| *ask == Ask::Parts) {
        put(HUGE, 0)?;
        fs::File::options().write(true).open(www.join(HUGE))?.set_len(HUGE_OCTETS)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_a_name_and_something_that_is_wanted() {
        for name in NAMES {
            let cases = cases(|it| it == name);
            assert!(!cases.is_empty(), "{name}");
            // How fast the disk's octets come is measured, and depends on the disk.
            let wanted = |case: &Case| case.least.is_some() || matches!(name, "half" | "huge");
            assert!(cases.iter().all(wanted), "{name}");
        }
        assert_eq!(cases(|_| true).len(), 19);
        assert_eq!(HUGE_PATH, format!("/{HUGE}"));
    }

    #[test]
    fn files_that_are_asked_for_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let cases = cases(|name| name == "gzip");
        put_files(folder, &cases).unwrap();
        for case in &cases {
            let Ask::Gzip(path) = case.ask else { panic!("{case:?}") };
            let len = |suffix: &str| {
                fs::metadata(folder.join(format!("{}{suffix}", &path[1..]))).unwrap().len()
            };
            assert!(len("") > len(".gz"), "{path}");
        }
    }
}
