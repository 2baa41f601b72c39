//! The topology: who hears whom, with which tag, and what is left afterwards.
#![forbid(unsafe_code)]

mod common;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::skipped;
use rustix::event::{PollFd, PollFlags, poll};
use tagwire_core::lab::WireSocket;
use tagwire_lab::{CLIENT_ADDRESS, Lab, LabProcess, Namespace, POD_INTERFACE, Signal};

/// A socket that hears what arrives at an interface.
fn listen(namespace: &Namespace, interface: &str) -> WireSocket {
    let index = namespace.interface_index(interface).unwrap();
    namespace.run(|| WireSocket::open(index)).unwrap().unwrap()
}

/// The next frame that arrives, within two seconds.
fn next_frame(socket: &WireSocket) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        if let Some(len) = socket.recv(&mut buffer).unwrap() {
            buffer.truncate(len);
            return buffer;
        }
        assert!(Instant::now() < deadline, "no frame within two seconds");
        let timeout = Duration::from_millis(100).try_into().unwrap();
        poll(&mut [PollFd::new(&socket.as_fd(), PollFlags::IN)], Some(&timeout)).unwrap();
    }
}

fn ping(from: &Namespace, address: impl ToString) -> bool {
    let ping = from.command("ping").args(["-c1", "-W2", &address.to_string()]);
    ping.output().unwrap().status.success()
}

#[test]
fn the_pod_hears_the_client_with_the_tag_and_its_kernel_is_silent() {
    if skipped() {
        return;
    }
    let lab = Lab::builder().vlan(42).build().unwrap();
    let pod = listen(lab.pod(0).namespace(), POD_INTERFACE);
    assert!(!ping(lab.client(), lab.pod(0).address()), "nobody is there to answer");

    let frame = next_frame(&pod);
    assert_eq!(frame[..6], [0xff; 6], "a broadcast");
    assert_eq!(frame[12..16], [0x81, 0x00, 0, 42], "behind the tag");
    assert_eq!(frame[16..18], [0x08, 0x06], "it asks for the address by ARP");
    let [sender, target] = [&frame[32..36], &frame[42..46]];
    assert_eq!(sender, CLIENT_ADDRESS.octets());
    assert_eq!(target, lab.pod(0).address().octets());
}

#[test]
fn without_a_vlan_there_is_no_tag() {
    if skipped() {
        return;
    }
    let lab = Lab::builder().untagged().build().unwrap();
    let pod = listen(lab.pod(0).namespace(), POD_INTERFACE);
    assert!(!ping(lab.client(), lab.pod(0).address()));
    assert_eq!(next_frame(&pod)[12..14], [0x08, 0x06]);
}

#[test]
fn pods_with_a_kernel_stack_answer_behind_the_tag() {
    if skipped() {
        return;
    }
    for builder in [Lab::builder().pods(2), Lab::builder().pods(2).untagged()] {
        let lab = builder.build().unwrap();
        for pod in lab.pods() {
            pod.kernel_stack().unwrap();
            assert!(ping(lab.client(), pod.address()), "{} is silent", pod.address());
        }
        // They share the node's interface, and hear each other too.
        assert!(ping(lab.pod(0).namespace(), lab.pod(1).address()));
        assert_eq!(lab.pod(1).address().to_string(), "192.168.123.151");
    }
}

#[test]
fn what_has_another_tag_or_none_does_not_reach_the_kernel() {
    if skipped() {
        return;
    }
    let lab = Lab::builder().vlan(42).build().unwrap();
    lab.pod(0).kernel_stack().unwrap();
    let client = listen(lab.client(), "eth0");
    let node = listen(lab.node(), "nic0");
    assert!(ping(lab.pod(0).namespace(), CLIENT_ADDRESS));
    let request = loop {
        let frame = next_frame(&client);
        if frame[16..18] == IPV4 {
            break frame;
        }
    };
    assert_eq!(request[12..16], [0x81, 0x00, 0, 42]);
    drain(&node);

    // The same echo request again, as the client would get it from a foreign VLAN.
    let untagged = [&request[..12], &request[16..]].concat();
    let mut foreign = request.clone();
    foreign[15] = 43;
    for frame in [&untagged, &foreign, &request] {
        node.send(frame).unwrap();
    }
    let replies = drain(&node);
    assert_eq!(replies.len(), 1, "only the one with the right tag is answered: {replies:02x?}");
    assert_eq!(replies[0][12..18], [0x81, 0x00, 0, 42, 0x08, 0x00]);
}

const IPV4: [u8; 2] = [0x08, 0x00];

/// What arrives until nothing has for a while.
fn drain(socket: &WireSocket) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut buffer = vec![0; 70_000];
    loop {
        while let Some(len) = socket.recv(&mut buffer).unwrap() {
            frames.push(buffer[..len].to_vec());
        }
        let timeout = Duration::from_millis(200).try_into().unwrap();
        if poll(&mut [PollFd::new(&socket.as_fd(), PollFlags::IN)], Some(&timeout)).unwrap() == 0 {
            return frames;
        }
    }
}

#[test]
fn two_labs_do_not_hear_each_other() {
    if skipped() {
        return;
    }
    let (one, two) = (Lab::up().unwrap(), Lab::up().unwrap());
    assert_ne!(one.name(), two.name());
    one.pod(0).kernel_stack().unwrap();
    assert!(ping(one.client(), one.pod(0).address()));
    assert!(!ping(two.client(), two.pod(0).address()), "the address is the other lab's");
}

#[test]
fn ipv6_is_spoken_only_on_request() {
    if skipped() {
        return;
    }
    let silent = Lab::up().unwrap();
    let addresses =
        |lab: &Lab| lab.client().command("ip").args(["-6", "address"]).stdout_string().unwrap();
    assert_eq!(addresses(&silent), "");
    let lab = Lab::builder().ipv6().build().unwrap();
    assert!(addresses(&lab).contains("fd00:123::1/64"), "{}", addresses(&lab));
}

#[test]
fn both_families_reach_a_pod_at_once_and_no_router_is_solicited() {
    if skipped() {
        return;
    }
    let lab = Lab::builder().ipv6().build().unwrap();
    let pod = lab.pod(0);
    let heard = listen(pod.namespace(), POD_INTERFACE);
    pod.kernel_stack().unwrap();
    assert_eq!(pod.address_v6().to_string(), "fd00:123::150");
    assert!(ping(lab.client(), pod.address_v6()));
    assert!(ping(lab.client(), pod.address()));
    let icmp: Vec<u8> = drain(&heard)
        .iter()
        .filter(|frame| frame[16..18] == [0x86, 0xdd] && frame[24] == 58)
        .map(|frame| frame[58])
        .collect();
    // Solicitation (or advertisement) of neighbours and echo; a router solicitation is 133.
    assert!(icmp.contains(&135) && icmp.contains(&128), "{icmp:?}");
    assert!(!icmp.contains(&133), "{icmp:?}");
}

#[test]
fn two_tags_are_pushed_and_both_must_be_right() {
    if skipped() {
        return;
    }
    let lab = Lab::builder().vlan(42).outer_vlan(7).ipv6().build().unwrap();
    lab.pod(0).kernel_stack().unwrap();
    let client = listen(lab.client(), "eth0");
    let node = listen(lab.node(), "nic0");
    assert!(ping(lab.client(), lab.pod(0).address_v6()));
    assert!(ping(lab.pod(0).namespace(), CLIENT_ADDRESS));
    let request = loop {
        let frame = next_frame(&client);
        if frame[20..22] == IPV4 {
            break frame;
        }
    };
    assert_eq!(request[12..20], [0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 42]);
    drain(&node);
    let (mut outer, mut inner) = (request.clone(), request.clone());
    outer[15] = 8;
    inner[19] = 43;
    let mut both_of_802_1q = request.clone();
    both_of_802_1q[12..14].copy_from_slice(&[0x81, 0x00]);
    let one = [&request[..12], &request[16..]].concat();
    for frame in [&outer, &inner, &both_of_802_1q, &one, &request] {
        node.send(frame).unwrap();
    }
    // The kernels also report their IPv6 groups, each in its own time.
    let mut replies = drain(&node);
    replies.retain(|frame| frame[20..22] == IPV4);
    assert_eq!(replies.len(), 1, "only the one with both tags is answered: {replies:02x?}");
}

#[test]
fn steering_reaches_the_interfaces_of_the_lab() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    lab.steer(1, 2).unwrap();
    for (namespace, interface, mask) in [(lab.client(), "eth0", "1"), (lab.node(), "nic0", "2")] {
        let file = format!("/sys/class/net/{interface}/queues/rx-0/rps_cpus");
        let read = Command::new("ip")
            .args(["netns", "exec", namespace.name(), "cat", &file])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), mask, "{interface}");
    }
}

fn is_up(namespace: &Namespace) -> bool {
    namespace.path().exists()
}

fn is_alive(pid: u32) -> bool {
    // A zombie is dead: nobody has asked for its status yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

/// Waits for a condition; not longer than five seconds.
fn eventually(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    condition()
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let namespaces = [lab.client(), lab.node(), lab.pod(0).namespace()].map(Namespace::clone);
    let scratch = lab.scratch().to_owned();
    std::fs::write(scratch.join("file"), "content").unwrap();
    // One that we hold, and one that has left our sight.
    let held = lab.client().command("sleep").arg("1000").spawn().unwrap();
    let pid = held.pid().unwrap();
    let astray = lab
        .client()
        .command("sh")
        .args(["-c", "setsid sleep 1000 > /dev/null 2>&1 & echo $!"])
        .stdout_string()
        .unwrap();
    let astray: u32 = astray.trim().parse().unwrap();
    assert!(is_alive(pid) && is_alive(astray));
    drop(lab);
    assert!(eventually(|| !is_alive(pid) && !is_alive(astray)));
    assert!(!namespaces.iter().any(is_up) && !scratch.exists());
    drop(held);
}

/// Brings up a lab in a process of its own, with a `sleep` running in its pod.
fn lab_of_another_process(signal: Signal) -> (Vec<String>, u32, LabProcess, Lab) {
    let host = Lab::up().unwrap();
    let mut owner = host
        .client()
        .command(env!("CARGO_BIN_EXE_tagwire-lab"))
        .args([
            "up",
            "--",
            "sh",
            "-c",
            "echo child $$; ls /run/netns; echo listed; exec sleep 1000",
        ])
        .stdin(Stdio::null())
        .capture()
        .spawn()
        .unwrap();
    owner.wait_for_line("listed", Duration::from_secs(20)).unwrap();
    let log = owner.log();
    let own = format!("tw{}-", owner.pid().unwrap());
    let namespaces: Vec<String> =
        log.lines().filter(|name| name.starts_with(&own)).map(str::to_owned).collect();
    let child = log.lines().find_map(|line| line.strip_prefix("child ")).unwrap().parse().unwrap();
    assert_eq!(namespaces.len(), 3, "{log}");
    assert!(is_alive(child));
    owner.signal(signal).unwrap();
    owner.wait_timeout(Duration::from_secs(10)).unwrap().unwrap();
    (namespaces, child, owner, host)
}

/// Whether nothing is left of a lab that `lab_of_another_process` has seen.
fn is_gone(namespaces: &[String]) -> bool {
    let lab = namespaces[0].rsplit_once('-').unwrap().0;
    let scratch = std::env::temp_dir().join(format!("tagwire-lab-{lab}"));
    let record = Path::new("/run/tagwire-lab").join(format!("{lab}.json"));
    !namespaces.iter().any(|name| Path::new("/run/netns").join(name).exists())
        && !scratch.exists()
        && !record.exists()
}

fn tagwire_lab(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_tagwire-lab")).args(args).output().unwrap()
}

#[test]
fn a_lab_whose_owner_was_killed_is_removed_by_the_next_or_by_hand() {
    if skipped() {
        return;
    }
    for by_hand in [false, true] {
        let (namespaces, child, _owner, _host) = lab_of_another_process(Signal::KILL);
        assert!(eventually(|| !is_alive(child)), "its processes die with it");
        // Another test's lab may have come up since, and its janitor have been faster.
        if by_hand {
            assert!(tagwire_lab(&["clean"]).status.success());
        } else {
            Lab::up().unwrap();
        }
        assert!(is_gone(&namespaces));
    }
}

#[test]
fn a_lab_whose_owner_was_asked_to_end_is_removed_by_it() {
    if skipped() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let (namespaces, child, _owner, _host) = lab_of_another_process(signal);
        assert!(eventually(|| !is_alive(child)));
        assert!(is_gone(&namespaces));
    }
}

#[test]
fn another_process_can_run_commands_in_a_lab() {
    if skipped() {
        return;
    }
    let lab = Lab::up().unwrap();
    let exec = |lab: &str, place: &str| {
        let output = tagwire_lab(&["exec", "--lab", lab, place, "--", "ip", "-brief", "address"]);
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    };
    assert!(exec(lab.name(), "cli").unwrap().contains("192.168.123.1/24"));
    assert!(exec(lab.name(), "pod0").unwrap().contains("macvlan0"));
    assert!(exec(lab.name(), "pod1").unwrap_err().contains("it has: cli, node, pod0"));
    assert!(exec("tw0-0", "cli").unwrap_err().contains(lab.name()));
}
