//! What tests against the appliance share.

#[path = "../../../deploy/lab/tests/common/mod.rs"]
mod lab;

use std::path::PathBuf;

pub(crate) use lab::skipped;

/// The appliance that is tested: the one that `TAGWIRE_BINARY` names, or that was built
/// beside this test.
pub(crate) fn tagwire() -> PathBuf {
    let named = std::env::var_os("TAGWIRE_BINARY").map(PathBuf::from);
    let program = named.unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().join("tagwire")
    });
    assert!(program.exists(), "{}: build it: cargo build -p tagwire", program.display());
    program
}
