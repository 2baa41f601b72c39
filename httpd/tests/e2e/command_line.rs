//! The command line: what is wrong is said in one line, before anything is served.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use tagwire_lab::{Lab, LabCommand};

use crate::bed::{Bed, said};

/// A command line that works, in pairs of option and value.
fn good(bed: &Bed) -> Vec<(&'static str, String)> {
    vec![
        ("--interface", "macvlan0".to_owned()),
        ("--vlan", "123".to_owned()),
        ("--address", "192.168.123.150/24".to_owned()),
        ("--www-root", bed.www().display().to_string()),
    ]
}

/// Runs a command that must fail with one line on standard error that has all of `parts`.
pub(crate) fn assert_fails(command: LabCommand, code: i32, parts: &[&str]) {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let what = format!("{parts:?}: {}", said(&output));
    assert_eq!(output.status.code(), Some(code), "{what}");
    assert!(output.stdout.is_empty(), "{what}");
    assert_eq!(error.lines().count(), 1, "{what}");
    assert!(error.starts_with("tagwire: error: ") && error.ends_with('\n'), "{what}");
    for part in parts {
        assert!(error.contains(part), "{what}");
    }
}

/// `tagwire serve` with a working command line and changes to it; ended if it serves.
pub(crate) fn serve(bed: &Bed, changes: &[(&'static str, &str)]) -> LabCommand {
    let mut options = good(bed);
    for (option, value) in changes {
        match options.iter_mut().find(|(known, _)| known == option) {
            Some(known) => known.1 = (*value).to_owned(),
            None => options.push((option, (*value).to_owned())),
        }
    }
    bounded(bed).args(options.iter().flat_map(|(option, value)| [option, value.as_str()]))
}

/// What should fail must not hang the test.
fn bounded(bed: &Bed) -> LabCommand {
    let command = bed.lab().pod(0).command_as_appliance("timeout");
    command.args(["-s", "KILL", "10"]).arg(bed.program()).arg("serve")
}

#[test]
fn bad_usage_is_one_line_and_exit_code_2() {
    let Some(bed) = Bed::down(Lab::builder()) else { return };
    for (option, value, parts) in [
        ("--vlan", "5000", &["5000", "4094"][..]),
        ("--vlan", "-1", &["-1"]),
        ("--vlan", "blue", &["blue", "4094"]),
        ("--address", "192.168.123.150", &["192.168.123.150/24"]),
        ("--address", "192.168.123.150/33", &["33", "32"]),
        ("--address", "192.168.123.300/24", &["192.168.123.300"]),
        ("--address", "192.168.123.255/24", &["192.168.123.255"]),
        ("--workers", "0", &["workers", "64", "auto"]),
        ("--port", "0", &["port", "65535"]),
        ("--cache-size", "lots", &["lots", "size"]),
        ("--gateway", "10.0.0.1", &["10.0.0.1", "192.168.123.150/24"]),
        ("--log-format", "xml", &["xml", "json"]),
        ("--busy-poll", "soon", &["soon", "microseconds"]),
        ("--driver", "epoll", &["epoll", "io_uring", "poll"]),
        ("--admin", "9090", &["9090", "0.0.0.0:9090"]),
        ("--drain", "soon", &["soon", "seconds"]),
        ("--no-such-option", "1", &["--no-such-option", "--help"]),
    ] {
        assert_fails(serve(&bed, &[(option, value)]), 2, parts);
    }
    for (at, (option, _)) in good(&bed).iter().enumerate() {
        if *option == "--vlan" {
            continue;
        }
        let mut options = good(&bed);
        options.remove(at);
        let line = options.iter().flat_map(|(option, value)| [option, value.as_str()]);
        assert_fails(bounded(&bed).args(line), 2, &[option]);
    }
    assert_fails(bed.command(&["dance"]), 2, &["dance"]);
    assert_fails(bed.command(&[]), 2, &["tagwire serve"]);
    bed.finish();
}

#[test]
fn a_start_that_cannot_be_is_one_line_and_exit_code_1() {
    let Some(bed) = Bed::down(Lab::builder()) else { return };
    assert_fails(serve(&bed, &[("--interface", "eth7")]), 1, &["eth7"]);

    let folder = bed.lab().scratch().join("private");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let folder = folder.to_str().unwrap();
    let root = |path: &str| serve(&bed, &[("--www-root", path)]);
    assert_fails(root(folder), 1, &[folder]);
    assert_fails(root("/no/such/folder"), 1, &["/no/such/folder"]);
    let page = bed.www().join("index.html").display().to_string();
    assert_fails(root(&page), 1, &[&page]);

    let control = |path: &str| serve(&bed, &[("--control", path)]);
    assert_fails(control("/no/such/folder/control"), 1, &["/no/such/folder/control"]);
    assert_fails(control(&page), 1, &[&page]);

    bed.pod_ok(&["ip", "link", "set", "lo", "up"]);
    let taken =
        bed.lab().pod(0).namespace().run(|| TcpListener::bind("127.0.0.1:9090").unwrap()).unwrap();
    let admin = |address: &str| serve(&bed, &[("--admin", address)]);
    assert_fails(admin("127.0.0.1:9090"), 1, &["127.0.0.1:9090", "another process", "--admin"]);
    drop(taken);
    assert_fails(admin("10.9.9.9:9090"), 1, &["10.9.9.9:9090", "address of this host"]);

    let without = bed.lab().pod(0).namespace().command_without_capabilities("timeout");
    let line = good(&bed);
    let line = line.iter().flat_map(|(option, value)| [option, value.as_str()]);
    let without = without.args(["-s", "KILL", "10"]).arg(bed.program()).arg("serve").args(line);
    assert_fails(without, 1, &["CAP_NET_RAW"]);

    bed.pod_ok(&["ip", "link", "set", "macvlan0", "down"]);
    assert_fails(serve(&bed, &[]), 1, &["macvlan0", "down", "ip link set macvlan0 up"]);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "up"]);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "mtu", "500"]);
    assert_fails(serve(&bed, &[]), 1, &["macvlan0", "500", "mtu"]);
    bed.finish();
}

#[test]
fn two_at_one_control_socket_are_one_too_many() {
    let Some(bed) = Bed::up() else { return };
    let control = bed.control().display().to_string();
    assert_fails(serve(&bed, &[("--control", &control)]), 1, &[&control]);
    // The first one still has it.
    assert_eq!(bed.status()["addresses"][0], "192.168.123.150/24");
    bed.finish();
}

#[test]
fn the_environment_will_do_with_its_trailing_newlines() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let command = bed
        .command(&["serve"])
        .env("HOST_INTERFACE", "macvlan0\n")
        .env("VLAN_ID", "123\n")
        .env("IP_ADDRESS", "192.168.123.150/24\n")
        .env("WWW_ROOT", format!("{}\n", bed.www().display()));
    bed.start_with(command);
    bed.assert_serves();
    bed.finish();
}

#[test]
fn another_port_and_a_gateway() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.start(&["--port", "8080", "--gateway", "192.168.123.1", "--log-format", "json"]);
    // Another network behind the client, which the appliance reaches by its gateway only.
    bed.client_ok(&["ip", "address", "add", "10.1.2.3/32", "dev", "lo"]);
    for from in ["192.168.123.1", "10.1.2.3"] {
        let url = "http://192.168.123.150:8080/";
        bed.client_ok(&["curl", "-sSf", "-m", "5", "--interface", from, url]);
    }
    let refused = bed.client(&["curl", "-sS", "-m", "5", "http://192.168.123.150/"]);
    assert_eq!(refused.status.code(), Some(7), "{}", said(&refused));
    let log = bed.appliance().log();
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    bed.finish();
}

#[test]
fn status_is_for_people_and_for_programs() {
    let Some(bed) = Bed::up() else { return };
    bed.assert_serves();
    let status = bed.status();
    for section in ["stack", "driver", "cache"] {
        assert!(status[section].is_object(), "{status}");
    }
    assert_eq!((&status["link_up"], &status["vlan"]), (&true.into(), &"123".into()));
    assert!(status["neighbors"].as_u64() > Some(0), "{status}");
    let control = bed.control();
    let table = bed.command(&["status", "--control"]).arg(&control).stdout_string().unwrap();
    assert!(
        table.lines().any(|line| line.starts_with("stack.tcp_accepted") && line.ends_with(" 1"))
    );

    let nobody = bed.command(&["status", "--control", "/no/such/control"]);
    assert_fails(nobody, 1, &["/no/such/control", "--control"]);
    bed.finish();
}

#[test]
fn spinning_before_sleeping_serves_the_same() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.start(&["--busy-poll", "50"]);
    for _ in 0..10 {
        bed.assert_serves();
    }
    bed.finish();
}
