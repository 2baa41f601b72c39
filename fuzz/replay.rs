//! Replays a target's committed corpus; included by the test `corpus` of each crate that has
//! harnesses.

use std::path::Path;

/// Calls `harness` with every file in the corpus of `target`, naming the one it is at.
pub(crate) fn replay(target: &str, harness: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).expect("a corpus for each target");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    for path in paths {
        let octets = std::fs::read(&path).expect("a readable file");
        // Shown only where the harness panics.
        println!("{}", path.display());
        harness(&octets);
    }
}
