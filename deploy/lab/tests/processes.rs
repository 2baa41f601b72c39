//! Commands and closures in the lab's namespaces: as whom they run, and until when.
#![forbid(unsafe_code)]

mod common;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use common::skipped;
use tagwire_lab::{APPLIANCE_ID, CLIENT_ADDRESS, Lab, LabCommand, Signal};

/// CAP_NET_RAW in the masks of /proc/PID/status.
const NET_RAW: u64 = 1 << 13;

/// A field of the status of a command's process, which is `cat`.
fn status_field<'a>(status: &'a str, field: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim()
}

fn status_of(cat: LabCommand) -> String {
    cat.arg("/proc/self/status").stdout_string().unwrap()
}

fn assert_capabilities(status: &str, expected: u64) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let mask = u64::from_str_radix(status_field(status, set), 16).unwrap();
        assert_eq!(mask, expected, "{set}: {mask:x}");
    }
    let id = APPLIANCE_ID.to_string();
    for ids in ["Uid", "Gid"] {
        assert!(status_field(status, ids).split_whitespace().all(|it| it == id), "{status}");
    }
    assert_eq!(status_field(status, "Groups"), "");
    assert_eq!(status_field(status, "NoNewPrivs"), "1");
}

#[test]
fn the_appliance_has_one_capability_and_can_be_without() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let pod = lab.pod(0).namespace();
    assert_capabilities(&status_of(pod.command_as_appliance("cat")), NET_RAW);
    assert_capabilities(&status_of(pod.command_without_capabilities("cat")), 0);
    assert_ne!(status_field(&status_of(pod.command("cat")), "CapEff"), "0000000000000000");
}

#[test]
fn a_process_may_have_a_file_system_of_its_own() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let folder = lab.scratch().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "ours").unwrap();
    let stat = lab.pod(0).command_as_appliance("stat").mount("tmpfs", &folder);
    let kind = stat.args(["--file-system", "--format=%T"]).arg(&folder).stdout_string().unwrap();
    assert_eq!(kind.trim(), "tmpfs");
    assert_eq!(std::fs::read(folder.join("file")).unwrap(), b"ours");
}

#[test]
fn a_published_program_runs_as_the_appliance() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let copy = lab.publish("/bin/true".as_ref()).unwrap();
    let status = lab.pod(0).command_as_appliance(copy).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_command_can_be_pinned() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let status = status_of(lab.client().command_as_appliance("cat").cpus("0"));
    assert_eq!(status_field(&status, "Cpus_allowed_list"), "0");
}

#[test]
fn a_closure_runs_inside_and_its_sockets_stay_there() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let listener = lab.client().run(|| TcpListener::bind((CLIENT_ADDRESS, 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let mut greeting = "hello".to_owned();
    lab.client()
        .run(|| {
            TcpStream::connect(address).unwrap();
            greeting.push_str(" from inside");
        })
        .unwrap();
    assert_eq!(greeting, "hello from inside");
    listener.accept().unwrap();
    let elsewhere = lab.node().run(|| TcpStream::connect(address)).unwrap();
    assert!(elsewhere.is_err(), "the node has no such address");
}

#[test]
fn the_output_is_kept_and_waited_for() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let script = "echo getting there; sleep 0.1; echo now ready >&2; exec sleep 1000";
    let mut process = lab.client().command("sh").args(["-c", script]).capture().spawn().unwrap();
    assert_eq!(process.wait_for_line("ready", Duration::from_secs(5)).unwrap(), "now ready");
    assert_eq!(process.log(), "getting there\nnow ready");
    assert_eq!(process.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    let error = process.wait_for_line("never", Duration::from_millis(20)).unwrap_err();
    assert!(error.why().contains("getting there"), "{error}");
    let status = process.terminate(Duration::from_secs(5)).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    let error = process.wait_for_line("never", Duration::from_secs(5)).unwrap_err();
    assert!(error.why().contains("it has ended"), "{error}");
    assert!(process.signal(Signal::TERM).is_err());
}

#[test]
fn what_a_process_said_last_is_there_once_its_end_was_waited_for() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    for _ in 0..20 {
        let mut process = lab.client().command("seq").args(["20000"]).capture().spawn().unwrap();
        let status = process.wait_timeout(Duration::from_secs(10)).unwrap();
        assert!(status.is_some_and(|status| status.success()));
        assert!(process.log().ends_with("\n20000"));
    }
}

#[test]
fn one_that_does_not_end_when_asked_is_killed_with_its_children() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let script = "trap '' TERM; sleep 1000 & echo child $!; wait; wait";
    let mut process = lab.client().command("sh").args(["-c", script]).capture().spawn().unwrap();
    let line = process.wait_for_line("child", Duration::from_secs(5)).unwrap();
    let child = line.trim_start_matches("child ").to_owned();
    let error = process.terminate(Duration::from_millis(50)).unwrap_err();
    assert!(error.what().contains("did not end"), "{error}");
    let alive = || {
        std::fs::read_to_string(format!("/proc/{child}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    };
    for _ in 0..1000 {
        if !alive() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("its child {child} lives on");
}

#[test]
fn a_program_that_is_not_there_says_so() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let output = lab.client().command("no-such-program").output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-program"));
}
