//! The seccomp profile allows what the runtime's default allows, the three calls of io_uring, and nothing else.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use serde_json::Value;
use tagwire_deploy::{root, seccomp};

/// Where containers-common has it.
const DEFAULT: &str = "/usr/share/containers/seccomp.json";

fn json(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// With `TAGWIRE_BLESS` set it writes both files, from the default that is installed.
#[test]
fn it_is_the_default_with_io_uring() {
    let (profile, object) = (
        root().join("deploy/seccomp/tagwire.json"),
        root().join("deploy/seccomp/seccompprofile.json"),
    );
    let installed = Path::new(DEFAULT).exists().then(|| seccomp::derive(&json(Path::new(DEFAULT))));
    if std::env::var_os("TAGWIRE_BLESS").is_some() {
        let derived = installed.as_ref().expect("the default profile is installed");
        for (path, value) in [(&profile, derived), (&object, &seccomp::as_object(derived))] {
            fs::write(path, format!("{}\n", serde_json::to_string_pretty(value).unwrap())).unwrap();
        }
    }
    let ours = json(&profile);
    assert_eq!(
        json(&object),
        seccomp::as_object(&ours),
        "one is the other: TAGWIRE_BLESS=1 writes both"
    );
    let allowed = seccomp::allowed(&ours);
    for call in seccomp::IO_URING {
        assert!(allowed.contains(&format!("{call} null")), "{call}");
    }
    // The machine may have a later default than ours was derived from: it may allow more.
    let Some(installed) = installed else { return };
    let default = seccomp::allowed(&installed);
    let more: Vec<_> = allowed.difference(&default).collect();
    assert!(more.is_empty(), "not in {DEFAULT}: {more:?}");
}

#[test]
fn conditions_are_resolved_for_us() {
    let rule = |name: &str, includes: &str, excludes: &str| -> Value {
        let text = format!(
            r#"{{"names":["{name}"],"action":"SCMP_ACT_ALLOW","args":[],"includes":{includes},"excludes":{excludes}}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let default = serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            rule("read", "{}", "{}"),
            rule("mount", r#"{"caps":["CAP_SYS_ADMIN"]}"#, "{}"),
            rule("raw", r#"{"caps":["CAP_NET_RAW"]}"#, "{}"),
            rule("socket", "{}", r#"{"caps":["CAP_AUDIT_WRITE"]}"#),
            rule("not_for_raw", "{}", r#"{"caps":["CAP_NET_RAW"]}"#),
            rule("s390", r#"{"arches":["s390x"]}"#, "{}"),
            rule("arch_prctl", r#"{"arches":["amd64","x32"]}"#, "{}"),
        ],
    });
    let mut expected = vec!["arch_prctl null", "raw null", "read null", "socket null"];
    let calls = seccomp::IO_URING.map(|call| format!("{call} null"));
    expected.extend(calls.iter().map(|call| &**call));
    expected.sort_unstable();
    let derived = seccomp::allowed(&seccomp::derive(&default));
    assert_eq!(derived.iter().collect::<Vec<_>>(), expected);
}
