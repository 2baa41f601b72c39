//! What the image and the manifests are held to: tests in `tests/`, and what they share.
//!
//! - [`manifests`]: renders them by `deploy/manifests` and a real kustomize.
//! - [`schema`]: the schemas of Kubernetes, OpenShift and Multus, strict: an unknown field is a mistake.
//! - [`seccomp`]: the profile that allows io_uring, derived from the runtime's default.
#![forbid(unsafe_code)]

pub mod manifests;
pub mod schema;
pub mod seccomp;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the source tree.
///
/// # Panics
///
/// When this crate stands somewhere else than in it.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the crate is in the tree")
}

/// Whether a test cannot run here for want of programs; it has then said so.
pub fn skipped_without(programs: &[&str]) -> bool {
    // What it answers does not matter: it could be started.
    let missing = programs.iter().find(|name| Command::new(name).arg("--help").output().is_err());
    if let Some(missing) = missing {
        skip(&format!("needs {missing}, see deploy/tools"));
    }
    missing.is_some()
}

/// Says that a test is skipped, as the end-to-end tests do.
pub fn skip(why: &str) {
    // libtest names the thread of a test after it. One write that begins a line of its own, whatever libtest
    // has just printed half of.
    let thread = std::thread::current();
    let line = format!("\nSKIPPED ({why}): {}\n", thread.name().unwrap_or("a test"));
    eprint!("{line}");
}
