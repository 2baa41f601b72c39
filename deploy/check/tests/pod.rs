//! A real pod: the image and the manifest, run by podman on the lab's node, on a macvlan without IPAM.
#![forbid(unsafe_code)]

mod common;
#[path = "common/podman.rs"]
mod podman;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use podman::{PodmanPod, URL, said};
use serde_json::Value;
use tagwire_deploy::manifests::{of_kind, render};
use tagwire_deploy::root;

/// CAP_NET_RAW in the masks of /proc/PID/status.
const NET_RAW: u64 = 1 << 13;

#[test]
fn a_rootless_pod_with_our_seccomp_profile_uses_io_uring() {
    serves_rootless(&[("SECCOMP_PROFILE", "tagwire.json")], "io_uring");
}

#[test]
fn a_rootless_pod_with_the_default_seccomp_profile_polls() {
    serves_rootless(&[], "poll");
}

/// The welcome page, from a pod that has no right left, and its end.
fn serves_rootless(more: &[(&str, &str)], driver: &str) {
    let Some(pod) = PodmanPod::up(more) else { return };
    pod.wait_until_ready();
    let ping = pod.client(&["ping", "-c", "2", "-i", "0.1", "-w", "10", "192.168.123.150"]);
    assert!(ping.status.success(), "{}", said(&ping));
    assert_eq!(pod.curl(URL), fs::read(root().join("deploy/www/index.html")).unwrap());

    for ids in ["Uid", "Gid"] {
        assert!(pod.status(ids).split_whitespace().all(|id| id == "10000"), "{}", pod.status(ids));
    }
    assert_eq!((&*pod.status("Seccomp"), &*pod.status("NoNewPrivs")), ("2", "1"));
    // In the bounding set it may stay: without CAP_SETPCAP nobody can take it out, and no_new_privs voids it.
    for (set, most) in
        [("CapInh", 0), ("CapPrm", 0), ("CapEff", 0), ("CapAmb", 0), ("CapBnd", NET_RAW)]
    {
        let mask = u64::from_str_radix(&pod.status(set), 16).unwrap();
        assert_eq!(mask & !most, 0, "{set}: {mask:x}");
    }
    let probed = ready(&pod);
    assert!(probed.ends_with("200"), "{probed}");
    let status = pod.podman(&["exec", &pod.container(), "/tagwire", "status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["io"], driver, "{status}");
    // And who wants to know what is in the way; in this image is nothing else.
    let doctor = pod.podman(&["exec", &pod.container(), "/tagwire", "doctor", "--json"]);
    let doctor: Value = serde_json::from_str(&doctor).unwrap();
    let checks = doctor["checks"].as_array().unwrap();
    for (check, verdict) in [
        ("capability", "fine"),
        ("io_uring", if driver == "poll" { "warning" } else { "fine" }),
        ("memory", "fine"),
        ("interface", "fine"),
        ("addresses", "fine"),
        ("www-root", "fine"),
        // It runs.
        ("control", "warning"),
        ("admin", "fine"),
    ] {
        let found = checks.iter().find(|found| found["check"] == check);
        assert_eq!(
            found.map(|found| &found["verdict"]),
            Some(&verdict.into()),
            "{check}: {doctor}"
        );
    }
    assert_eq!(doctor["fine"], true, "{doctor}");

    // The preStop of Kubernetes, which podman knows none of: whoever asks in this time is served.
    let container = pod.container();
    let command = pre_stop();
    let before: Vec<&str> =
        ["exec", &container].into_iter().chain(command.iter().map(String::as_str)).collect();
    let (said, page) = thread::scope(|scope| {
        let said = scope.spawn(|| pod.podman(&before));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !ready(&pod).ends_with("503") {
            assert!(Instant::now() < deadline, "still ready\n{}", pod.log());
        }
        let page = pod.client(&["curl", "-isS", "-m", "10", URL]);
        (said.join().unwrap(), page)
    });
    assert!(said.starts_with("a lame duck"), "{said}");
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("Connection: close"), "{page}");

    pod.podman(&["stop", "--time", "10", &container]);
    assert_eq!(
        pod.podman(&["inspect", "--format", "{{.State.ExitCode}}", &container]),
        "0",
        "{}",
        pod.log()
    );
}

/// What a readiness probe is told, and the status behind it: asked from the pod's network, as the image has nothing
/// that could ask.
fn ready(pod: &PodmanPod) -> String {
    let url = "http://127.0.0.1:9090/readyz";
    let ask = ["-n", "curl", "-sS", "-m", "10", "-w", "%{http_code}", url];
    pod.on_node("nsenter").args(["-t", &pod.pid()]).args(ask).stdout_string().unwrap()
}

/// The command that the manifests of a cluster have the kubelet run first.
fn pre_stop() -> Vec<String> {
    let variables =
        [("MACVLAN_MASTER", "nic0"), ("VLAN_ID", "123"), ("IP_ADDRESS", "192.168.123.150/24")];
    let objects = render(&variables).unwrap();
    let workload = of_kind(&objects, "Deployment").unwrap();
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    let command = &container["lifecycle"]["preStop"]["exec"]["command"];
    serde_json::from_value(command.clone()).unwrap()
}

#[test]
fn a_download_from_a_volume_is_finished_after_sigterm() {
    finishes_a_download(&[("SECCOMP_PROFILE", "tagwire.json"), ("COMPONENTS", "www-pvc")]);
}

#[test]
fn a_download_is_finished_with_the_default_seccomp_profile_too() {
    finishes_a_download(&[("COMPONENTS", "www-pvc")]);
}

fn finishes_a_download(more: &[(&str, &str)]) {
    let Some(pod) = PodmanPod::up(more) else { return };
    pod.wait_until_ready();
    let volume = pod.podman(&["volume", "inspect", "--format", "{{.Mountpoint}}", "tagwire-www"]);
    let content: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(PathBuf::from(volume).join("file"), &content).unwrap();

    let received = pod.lab.scratch().join("received");
    let url = format!("{URL}file");
    // It takes four seconds, of which the appliance grants five.
    let mut download = pod
        .lab
        .client()
        .command("curl")
        .args(["-sS", "--limit-rate", "2M", "-m", "30", "-o"])
        .arg(&received)
        .arg(&url)
        .capture()
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::metadata(&received).map_or(0, |file| file.len()) == 0 {
        assert!(Instant::now() < deadline, "no octet: {}\n{}", download.log(), pod.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let container = pod.container();
    pod.podman(&["stop", "--time", "10", &container]);
    assert!(download.wait().unwrap().success(), "{}", download.log());
    assert!(fs::read(&received).unwrap() == content, "other octets");
    assert_eq!(
        pod.podman(&["inspect", "--format", "{{.State.ExitCode}}", &container]),
        "0",
        "{}",
        pod.log()
    );
}
