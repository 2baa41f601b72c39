//! Where io_uring is forbidden, as container runtimes' profiles do it.

use rustix::io::Errno;
use tagwire_core::lab::seccomp::{Forbidden, forbid_io_uring};
use tagwire_lab::Lab;

use crate::bed::{Bed, content};
use crate::command_line::{assert_fails, serve};

const REFUSALS: [Forbidden; 2] =
    [Forbidden::Errno(Errno::PERM.raw_os_error()), Forbidden::Errno(Errno::NOSYS.raw_os_error())];

/// Runs `test` in a bed where io_uring is forbidden: to a thread and to what it starts, the lab's
/// processes among it; and for good.
fn where_forbidden(forbidden: Forbidden, test: fn(Bed)) {
    let attempt = move || {
        forbid_io_uring(forbidden).unwrap();
        if let Some(bed) = Bed::down(Lab::builder()) {
            test(bed);
        }
    };
    // Named as a test's thread is, for what it says when it is skipped.
    let name = std::thread::current().name().map(str::to_owned);
    let thread = std::thread::Builder::new().name(name.unwrap_or_default());
    if let Err(panic) = thread.spawn(attempt).unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// It serves what is in the cache, what is loaded in chunks, and what has changed.
fn assert_serves_files(bed: &Bed) {
    let large = content(7, 5 << 20);
    bed.put("large", &large);
    for _ in 0..2 {
        bed.assert_serves();
        let got = bed.client(&["curl", "-gsSf", "-m", "20", &bed.url("/large")]);
        assert!(got.status.success() && got.stdout == large, "{}", got.status);
    }
}

#[test]
fn auto_serves_by_the_poll_driver_and_says_why() {
    for forbidden in REFUSALS {
        where_forbidden(forbidden, |mut bed| {
            bed.start(&["--driver", "auto"]);
            assert_serves_files(&bed);
            let status = bed.status();
            assert_eq!(status["io"], "poll", "{status}");
            let reason = status["io_reason"].as_str().unwrap_or_default();
            assert!(reason.contains("seccomp profile forbids it"), "{status}");
            let control = bed.control();
            let table = bed.command(&["status", "--control"]).arg(&control);
            let table = table.stdout_string().unwrap();
            let said = |line: &str| line.starts_with("packets by") && line.contains("seccomp");
            assert!(table.lines().any(said), "{table}");
            let log = bed.appliance().log();
            let about: Vec<_> = log.lines().filter(|line| line.contains("io_uring")).collect();
            assert!(about.len() == 1 && about[0].contains("WARN"), "{log}");
            bed.finish();
        });
    }
}

#[test]
fn io_uring_or_nothing_is_one_line() {
    for forbidden in REFUSALS {
        where_forbidden(forbidden, |bed| {
            let parts = ["io_uring", "seccomp", "--driver poll does without"];
            assert_fails(serve(&bed, &[("--driver", "io_uring")]), 1, &parts);
            bed.finish();
        });
    }
}

#[test]
fn the_poll_driver_never_touches_io_uring() {
    where_forbidden(Forbidden::Death, |mut bed| {
        bed.start(&["--driver", "poll"]);
        assert_serves_files(&bed);
        let status = bed.status();
        assert_eq!(
            (&status["io"], &status["io_reason"]),
            (&"poll".into(), &"--driver asks for it".into())
        );
        bed.finish();
    });
}

#[test]
fn io_uring_is_used_where_it_is_allowed() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.start(&["--driver", "io_uring"]);
    assert_serves_files(&bed);
    assert_eq!(bed.status()["io"], "io_uring");
    bed.finish();
}
