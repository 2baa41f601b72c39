//! `tagwire doctor`: what would keep the appliance from working is said before anything runs.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;
use tagwire_lab::{APPLIANCE_ID, Lab, LabCommand};

use crate::admin::bed;
use crate::bed::{ADDRESS, ADDRESS_V6, Bed, said};
use crate::privileges::capable;

/// `tagwire doctor --json` by a command of the program, and what it says.
struct Report {
    output: Output,
    checks: Vec<Value>,
}

impl Report {
    /// Of the lab's VLAN on an interface.
    fn of(bed: &Bed, command: LabCommand, interface: &str) -> Self {
        Self::in_vlan(bed, command, interface, "123")
    }

    fn in_vlan(bed: &Bed, command: LabCommand, interface: &str, vlan: &str) -> Self {
        let command = command.args(["doctor", "--vlan", vlan, "--address", "192.168.123.150/24"]);
        let command = command.args(["--interface", interface, "--json", "--www-root"]);
        let command = command.arg(bed.www()).arg("--control").arg(bed.control());
        let output = command.args(["--admin", "127.0.0.1:9090"]).output().unwrap();
        let object: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
        assert_eq!(object["fine"], output.status.code() == Some(0), "{}", said(&output));
        assert!(output.stderr.is_empty(), "{}", said(&output));
        let checks = object["checks"].as_array().unwrap().clone();
        Self { output, checks }
    }

    fn usual(bed: &Bed) -> Self {
        Self::of(bed, bed.command(&[]), "macvlan0")
    }

    #[track_caller]
    fn assert(&self, check: &str, verdict: &str, parts: &[&str]) {
        let found = self.checks.iter().find(|it| it["check"] == check);
        let found = found.unwrap_or_else(|| panic!("no {check}: {}", said(&self.output)));
        assert_eq!(found["verdict"], verdict, "{}", said(&self.output));
        for part in parts {
            assert!(found.to_string().contains(part), "{part}: {found}");
        }
    }

    /// This check fails, none else does, and so does the command.
    #[track_caller]
    fn assert_failed(&self, check: &str, parts: &[&str]) {
        self.assert(check, "failed", parts);
        let failed = self.checks.iter().filter(|it| it["verdict"] == "failed").count();
        assert_eq!((failed, self.output.status.code()), (1, Some(1)), "{}", said(&self.output));
    }

    #[track_caller]
    fn assert_works(&self) {
        assert_eq!(self.output.status.code(), Some(0), "{}", said(&self.output));
    }
}

#[test]
fn nothing_is_wrong_where_the_appliance_will_work() {
    let Some(mut bed) = bed() else { return };
    let healthy = Report::usual(&bed);
    healthy.assert_works();
    healthy.assert("capability", "fine", &["ambient set"]);
    healthy.assert("confinement", "fine", &["no_new_privs"]);
    healthy.assert("sandbox", "fine", &["Landlock with ABI ", "seccomp"]);
    healthy.assert("interface", "fine", &["macvlan0, macvlan, "]);
    healthy.assert("offloads", "fine", &["checksums by"]);
    healthy.assert("vlan-filter", "fine", &["none on macvlan0"]);
    // As in a pod: what the macvlan stands on is the node's.
    healthy.assert("master", "unknown", &["VLAN 123"]);
    healthy.assert("address-in-use", "fine", &[]);
    healthy.assert("www-root", "fine", &["1 file, 1 KiB"]);
    healthy.assert("admin", "fine", &["free"]);

    // Whoever does not show the control groups to it has that said.
    let blind = bed.command(&[]).mount("tmpfs", "/sys/fs/cgroup");
    let blind = Report::of(&bed, blind, "macvlan0");
    blind.assert_works();
    blind.assert("memory", "unknown", &["/sys/fs/cgroup says nothing"]);

    // It has left nothing behind, and while the appliance runs it is that which has the ports.
    bed.start(&["--admin", "127.0.0.1:9090"]);
    let running = Report::usual(&bed);
    running.assert_works();
    running.assert("address-in-use", "fine", &[]);
    running.assert("control", "warning", &["process "]);
    running.assert("admin", "fine", &["while process "]);
    bed.assert_serves();
    bed.finish();
}

#[test]
fn each_trouble_is_found() {
    let Some(bed) = bed() else { return };
    let without = bed.lab().pod(0).namespace().command_without_capabilities(bed.program());
    Report::of(&bed, without, "macvlan0")
        .assert_failed("capability", &["CAP_NET_RAW", "--cap-add"]);
    Report::of(&bed, bed.command(&[]), "eth7").assert_failed("interface", &["eth7", "macvlan0"]);

    bed.pod_ok(&["ip", "link", "set", "macvlan0", "down"]);
    Report::usual(&bed).assert_failed("link", &["ip link set macvlan0 up"]);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "up"]);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "mtu", "500"]);
    Report::usual(&bed).assert_failed("mtu", &["500"]);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "mtu", "1500"]);

    let taken = || TcpListener::bind("127.0.0.1:9090").unwrap();
    let taken = bed.lab().pod(0).namespace().run(taken).unwrap();
    Report::usual(&bed).assert_failed("admin", &["another process listens there", "--admin"]);
    drop(taken);
    let mode = |mode| fs::set_permissions(bed.www(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    Report::usual(&bed).assert_failed("www-root", &["cannot be read"]);
    mode(0o755);
    Report::usual(&bed).assert_works();
    bed.finish();
}

/// Gives the pod a macvlan `high0` whose master `low0` is in the same namespace.
fn add_macvlan(bed: &Bed) {
    bed.pod_ok(&["ip", "link", "add", "low0", "type", "veth", "peer", "name", "low1"]);
    bed.pod_ok(&["ip", "link", "add", "link", "low0", "name", "high0", "type", "macvlan"]);
    for name in ["low0", "low1", "high0"] {
        bed.pod_ok(&["ip", "link", "set", name, "up"]);
    }
}

const ADD_ADDRESS: [&str; 5] = ["ip", "address", "add", "192.168.123.150/24", "dev"];

#[test]
fn an_address_that_the_kernel_has_too_is_found() {
    let Some(bed) = bed() else { return };
    bed.pod_ok(&[&ADD_ADDRESS[..], &["macvlan0"]].concat());
    let untagged = |interface| Report::in_vlan(&bed, bed.command(&[]), interface, "0");
    untagged("macvlan0").assert_failed("addresses", &["resets", "150/24 dev macvlan0"]);
    // The kernel's is outside of the VLAN.
    let tagged = Report::usual(&bed);
    tagged.assert_works();
    tagged.assert("addresses", "warning", &["outside of the VLAN"]);
    bed.pod_ok(&["ip", "address", "flush", "dev", "macvlan0"]);

    add_macvlan(&bed);
    let above = untagged("high0");
    above.assert_works();
    above.assert("master", "fine", &["low0"]);
    bed.pod_ok(&[&ADD_ADDRESS[..], &["low0"]].concat());
    let above = untagged("high0");
    above.assert("master", "failed", &["192.168.123.150 on low0"]);
    // And that one answers.
    above.assert("address-in-use", "failed", &["has 192.168.123.150"]);
    assert_eq!(above.output.status.code(), Some(1));
    bed.finish();
}

#[test]
fn another_station_with_the_address_is_found() {
    let Some(bed) = Bed::down(Lab::builder().pods(2).ipv6()) else { return };
    let doctor = |address| {
        let command = bed.command(&["doctor", "--interface", "macvlan0", "--vlan", "123"]);
        let command = command.args(["--address", address, "--json", "--www-root"]);
        let output = command.arg(bed.www()).output().unwrap();
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = object["checks"].as_array().unwrap().clone();
        Report { output, checks }
    };
    let ours = ["192.168.123.150/24", "fd00:123::150/64"];
    for address in ours {
        doctor(address).assert("address-in-use", "fine", &["no other station"]);
    }
    bed.lab().pod(1).kernel_stack_in(bed.lab().vlan(), None, ADDRESS, ADDRESS_V6).unwrap();
    for address in ours {
        let rival = format!("has {} in VLAN 123", address.split('/').next().unwrap());
        doctor(address).assert_failed("address-in-use", &[&rival, "--address"]);
    }
    bed.finish();
}

#[test]
fn a_vlan_device_of_the_kernel_is_found() {
    let Some(bed) = bed() else { return };
    let add = |below, name| {
        let line = ["link", "add", "link", below, "name", name, "type", "vlan", "id", "123"];
        bed.lab().pod(0).command("ip").args(line).output().unwrap().status.success()
    };
    if !add("macvlan0", "tagged") {
        eprint!(
            "\nLEFT OUT (this kernel has no VLAN devices): a_vlan_device_of_the_kernel_is_found\n"
        );
        return;
    }
    let report = Report::usual(&bed);
    report.assert_works();
    report.assert("vlan-device", "warning", &["ip link del tagged"]);
    bed.pod_ok(&[&ADD_ADDRESS[..], &["tagged"]].concat());
    Report::usual(&bed).assert_failed("addresses", &["resets", "dev tagged"]);

    add_macvlan(&bed);
    assert!(add("low0", "thief"));
    let above = Report::of(&bed, bed.command(&[]), "high0");
    above.assert_failed("master", &["never comes to high0", "ip link del thief"]);
    bed.finish();
}

#[test]
fn the_source_of_the_capability_is_told() {
    let Some(bed) = bed() else { return };
    let root = Report::of(&bed, bed.lab().pod(0).command(bed.program()), "macvlan0");
    root.assert("capability", "fine", &["the user is root"]);
    let id = APPLIANCE_ID.to_string();
    let command = bed.lab().pod(0).command("setpriv");
    let command = command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    let command = command.args(["--inh-caps", "-all"]).arg(capable(&bed));
    let file = Report::of(&bed, command, "macvlan0");
    file.assert("capability", "fine", &["the program's file"]);
    bed.finish();
}

#[test]
fn lines_are_for_people() {
    let Some(bed) = bed() else { return };
    let doctor = |interface| {
        let command = bed.command(&["doctor", "--vlan", "123", "--address", "192.168.123.150/24"]);
        let output = command.args(["--interface", interface, "--www-root"]).arg(bed.www());
        let output = output.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    let (text, code) = doctor("macvlan0");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("ok    capability") && text.contains(" 0 failed"), "{text}");
    assert!(!text.contains('\x1b'), "colours for a pipe: {text}");
    let (text, code) = doctor("eth7");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FAIL  interface") && text.contains("-> name one with"), "{text}");
    let bad =
        bed.command(&["doctor", "--interface", "macvlan0", "--vlan", "5000"]).output().unwrap();
    assert_eq!(bad.status.code(), Some(2), "{}", said(&bad));
    bed.finish();
}
