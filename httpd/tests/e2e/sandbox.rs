//! The sandbox around a whole appliance: it serves inside, and says what is missing. What it forbids is
//! tried in `tests/sandbox.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use tagwire_lab::Lab;

use crate::bed::{Bed, said};
use crate::privileges::threads;

/// Makes the kernel look to this thread, and to what it starts, as if it had no Landlock.
fn forbid_landlock() {
    let calls = [
        libc::SYS_landlock_create_ruleset,
        libc::SYS_landlock_add_rule,
        libc::SYS_landlock_restrict_self,
    ];
    let rules = calls.map(|call| (call, Vec::new()));
    let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32));
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(BTreeMap::from(rules), allow, refuse, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// Runs a test on a thread of its own, named as the test's is.
fn apart(attempt: impl FnOnce() + Send + 'static) {
    let name = std::thread::current().name().map(str::to_owned);
    let thread = std::thread::Builder::new().name(name.unwrap_or_default());
    thread.spawn(attempt).unwrap().join().unwrap();
}

#[test]
fn all_threads_are_inside_and_serve() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.put("big.txt", &b"to be compressed ".repeat(4096));
    bed.put("list/a.txt", b"");
    bed.start(&["--workers", "2", "--sandbox", "strict", "--listing", "html"]);
    for (thread, fields) in threads(&bed) {
        let field = |name: &str| {
            fields
                .iter()
                .find(|(field, _)| field == name)
                .map(|(_, value)| value.parse::<u32>().unwrap())
        };
        assert_eq!(field("Seccomp"), Some(2), "{thread}");
        // clone3 refused; what all may; what this one may.
        assert!(field("Seccomp_filters") >= Some(3), "{thread}");
    }
    let status = bed.status();
    let sandbox = &status["sandbox"];
    assert_eq!(
        (&sandbox["landlock"], &sandbox["seccomp"]),
        (&"on".into(), &"on".into()),
        "{sandbox}"
    );
    assert_eq!(sandbox["mode"], "strict");
    let line = bed.command(&["status", "--control"]).arg(bed.control()).stdout_string().unwrap();
    assert!(line.contains("strict, Landlock on, seccomp on"), "{line}");

    bed.assert_serves();
    let (text, list) = (bed.url("/big.txt"), bed.url("/list/"));
    bed.client_ok(&["curl", "-fsS", "-m5", "--compressed", &text]);
    let listing = bed.client_ok(&["curl", "-fsS", "-m5", &list]);
    assert!(listing.contains("a.txt"), "{listing}");
    bed.put("new.txt", b"made later");
    assert_eq!(bed.client_ok(&["curl", "-fsS", "-m5", &bed.url("/new.txt")]), "made later");
    let missing = bed.client(&["curl", "-fsS", "-m5", &bed.url("/nothing")]);
    assert_eq!(missing.status.code(), Some(22), "{}", said(&missing));
    let control = bed.control();
    bed.stop();
    assert!(!control.exists(), "the control socket stays behind");
    bed.finish();
}

#[test]
fn a_reload_goes_where_it_may() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let scratch = bed.lab().scratch().to_owned();
    for name in ["releases/1", "releases/2"] {
        fs::create_dir_all(scratch.join(name)).unwrap();
        fs::write(scratch.join(name).join("index.html"), name).unwrap();
    }
    // Not beside the configuration file, which may be read.
    let elsewhere = tempfile::TempDir::new().unwrap();
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let serve = |root: &Path| {
        format!(
            "vlan = 123\naddress = \"192.168.123.150/24\"\nsandbox-read = \"{}\"\n[[site]]\nwww-root = \"{}\"\n",
            scratch.join("releases").display(),
            root.display()
        )
    };
    // As releases are deployed: a symlink that leads to another directory later.
    let current = scratch.join("current");
    let lead_to = |name: &str| {
        let _ = fs::remove_file(&current);
        std::os::unix::fs::symlink(scratch.join(name), &current).unwrap();
    };
    lead_to("releases/1");
    let path = bed.configure_all(&serve(&current));
    bed.start_with(bed.command(&["serve", "--config", &path]));
    let page = |bed: &Bed| bed.client_ok(&["curl", "-fsS", "-m5", &bed.url("/")]);
    assert_eq!(page(&bed), "releases/1");
    let reload =
        |bed: &Bed| bed.command(&["reload", "--control"]).arg(bed.control()).output().unwrap();
    lead_to("releases/2");
    assert!(reload(&bed).status.success());
    assert_eq!(page(&bed), "releases/2");

    lead_to(elsewhere.path().to_str().unwrap());
    let refused = reload(&bed);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("--sandbox-read"), "{}", said(&refused));
    assert_eq!(page(&bed), "releases/2");
    bed.finish();
}

#[test]
fn without_landlock_strict_says_so_and_best_effort_serves() {
    apart(|| {
        forbid_landlock();
        let Some(mut bed) = Bed::down(Lab::builder()) else { return };
        let www = bed.www();
        let strict = bed.lab().pod(0).command_as_appliance("timeout");
        let strict = strict.args(["-s", "KILL", "20"]).arg(bed.program());
        let strict =
            strict.args(["serve", "--interface", "macvlan0", "--vlan", "123", "--www-root"]);
        let strict = strict.arg(www).args(["--address", "192.168.123.150/24"]);
        let output = strict.args(["--sandbox", "strict"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(error.starts_with("tagwire: error: --sandbox strict needs Landlock"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");

        bed.start(&[]);
        bed.assert_serves();
        let sandbox = bed.status()["sandbox"].clone();
        assert_eq!((&sandbox["landlock"], &sandbox["seccomp"]), (&"missing".into(), &"on".into()));
        assert!(bed.appliance().log().contains("no Landlock"));
        bed.stop();

        bed.start(&["--sandbox", "off"]);
        bed.assert_serves();
        let sandbox = bed.status()["sandbox"].clone();
        assert_eq!((&sandbox["landlock"], &sandbox["seccomp"]), (&"off".into(), &"off".into()));
        bed.finish();
    });
}
