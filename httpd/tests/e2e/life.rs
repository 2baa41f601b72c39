//! From the start to the end as a pod's keeper sees it: the log's lines, how many a crowd of peers can
//! cause, and what goes on while it drains.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;
use tagwire_lab::{Lab, Signal};

use crate::admin::{ADMIN, Supervisor, bed_in, metric, missing};
use crate::bed::{ADDRESS, Bed, content, wait_until};
use crate::client::Client;
use crate::raw::{SYN, Station};

const SOON: Duration = Duration::from_secs(10);
/// How long peers do what they can.
const FLOOD: Duration = Duration::from_secs(5);

/// Each line of a log that is JSON: an event with a time, a level and a message.
fn events(log: &str) -> Vec<Value> {
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        let word = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("no {name}: {line}"));
        assert!(word("timestamp").ends_with('Z') && !word("message").is_empty(), "{line}");
        assert!(["ERROR", "WARN", "INFO"].contains(&word("level")), "{line}");
        event
    };
    log.lines().map(event).collect()
}

fn messages(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["message"].as_str().unwrap()).collect()
}

#[test]
fn each_event_from_the_start_to_the_end_is_a_line_of_json() {
    let Some(mut bed) = crate::admin::bed() else { return };
    bed.start(&["--log-format", "json", "--admin", ADMIN]);
    bed.assert_serves();
    let control = bed.control();
    bed.command(&["reload", "--control"]).arg(&control).stdout_string().unwrap();
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "down"]);
    wait_until("it is noticed", SOON, || bed.status()["link_up"] == false);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "up"]);
    wait_until("it is back", SOON, || bed.status()["ready"] == true);
    bed.appliance().signal(Signal::TERM).unwrap();
    bed.appliance().wait_timeout(SOON).unwrap().expect("it ends");
    let log = bed.appliance().log();
    bed.forget();
    let events = events(&log);
    let said = messages(&events);
    for message in ["ready", "reloaded", "nothing is served", "the link is up", "shutting down"] {
        assert!(said.iter().any(|said| said.starts_with(message)), "no {message:?} in {said:?}");
    }
    assert_eq!(said.last(), Some(&"stopped"));
    let ready = events.iter().find(|event| event["message"] == "ready").unwrap();
    assert_eq!((&ready["interface"], &ready["port"]), (&"macvlan0".into(), &80.into()));

    // So is the one that says why it does not start.
    let refused = bed.command(&["serve", "--interface", "no-such-if0", "--vlan", "123"]);
    let refused = refused.args(["--address", "192.168.123.150/24", "--log-format", "json"]);
    let output = refused.arg("--www-root").arg(bed.www()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let events = self::events(&String::from_utf8(output.stderr).unwrap());
    assert!(messages(&events).last().unwrap().contains("no-such-if0"), "{events:?}");
    assert_eq!(events.last().unwrap()["level"], "ERROR");
    bed.finish();
}

/// Who has read the log (a shim, a collector, `| head`) may end first.
#[test]
fn a_log_that_nobody_reads_any_more_costs_its_lines_and_nothing_else() {
    for format in ["text", "json"] {
        let Some(mut bed) = crate::admin::bed() else { return };
        let script = r#"exec "$0" "$@" 2> >(exec head -n 1 >&2)"#;
        let command = bed.lab().pod(0).command_as_appliance("bash").args(["-c", script]);
        let command = command
            .arg(bed.program())
            .args(["serve", "--interface", "macvlan0", "--vlan", "123"])
            .args(["--address", "192.168.123.150/24", "--log-format", format, "--www-root"])
            .arg(bed.www())
            .arg("--control")
            .arg(bed.control());
        bed.start_with(command);
        bed.pod_ok(&["ip", "link", "set", "macvlan0", "down"]);
        wait_until("it is noticed", SOON, || bed.status()["link_up"] == false);
        bed.pod_ok(&["ip", "link", "set", "macvlan0", "up"]);
        wait_until("it is back", SOON, || bed.status()["ready"] == true);
        bed.assert_serves();
        bed.stop();
        bed.finish();
    }
}

/// Whatever peers send and ask for, each thing that the log says comes once a second at the most.
#[test]
fn peers_cannot_flood_the_log() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    // Each of them is complained of when it is asked for first.
    for n in 0..1000 {
        bed.put(&format!("locked/{n}"), b"text");
        let encoded = format!("locked/{n}.gz");
        bed.put(&encoded, b"locked");
        let locked = fs::Permissions::from_mode(0o000);
        fs::set_permissions(bed.www().join(&encoded), locked).unwrap();
    }
    bed.start(&["--log-format", "json", "--workers", "2"]);
    let before = bed.appliance().log().lines().count();
    let station = Station::open(&bed);
    let begin = Instant::now();
    let (mut frames, mut asked) = (0u32, 0);
    while begin.elapsed() < FLOOD {
        for n in 0..400u32 {
            frames += 1;
            let packet = match n % 4 {
                0 => station.echo_request(frames as u16),
                1 => station.arp(1, station.address, ADDRESS),
                2 => station.segment(SYN, frames),
                _ => station.icmp(5, frames as u16),
            };
            let mut frame = station.ethernet(&packet);
            if n % 8 >= 4 && n % 4 > 1 {
                // Damaged, where no filter looks.
                let at = frame.len() - 1 - (n as usize % 16);
                frame[at] ^= 0x55;
            }
            station.send(&frame);
        }
        let url = bed.url(&format!("/locked/[{asked}-{}]", asked + 49));
        let field = "Accept-Encoding: gzip";
        bed.client_ok(&["curl", "-s", "-m5", "-o", "/dev/null", "-H", field, &url]);
        asked = (asked + 50) % 1000;
        bed.client(&["curl", "-s", "-m1", "-X", "NON SENSE", &bed.url("/[0-19]")]);
    }
    // At last another station has the address, as it says again and again.
    for _ in 0..500 {
        station.send(&station.ethernet(&station.arp(2, ADDRESS, ADDRESS)));
    }
    bed.appliance().wait_for_line("ADDRESS CONFLICT", SOON).unwrap();
    let log = bed.appliance().log();
    let events = events(&log);
    let mut last: HashMap<&str, f64> = HashMap::new();
    for event in &events[before..] {
        // 2026-11-28T13:41:23.123456Z
        let clock: Vec<f64> = event["timestamp"].as_str().unwrap()[11..]
            .trim_end_matches('Z')
            .split(':')
            .map(|part| part.parse().unwrap())
            .collect();
        let at = clock[0] * 3600.0 + clock[1] * 60.0 + clock[2];
        let since = last.insert(event["message"].as_str().unwrap(), at).map(|then| at - then);
        // The limit is a second; between its clock and the log's the thread may be kept waiting.
        assert!(since.is_none_or(|since| !(0.0..0.8).contains(&since)), "{since:?}: {event}");
    }
    let lines = events.len() - before;
    let seconds = begin.elapsed().as_secs() as usize;
    let complaints = messages(&events).iter().filter(|said| said.contains("sent encoded")).count();
    assert!((1..=seconds + 1).contains(&complaints), "{complaints} in {seconds} s: {log}");
    // The others are states: of the address, and of a flood of SYNs for each worker.
    assert!(lines <= complaints + 6, "{lines} lines for {frames} frames:\n{log}");
    bed.appliance().signal(Signal::TERM).unwrap();
    bed.ends_well();
}

/// A request that comes while a download is finished is answered, and is the last of its connection.
#[test]
fn while_it_drains_it_is_not_ready_and_answers_are_the_last_ones() {
    let wire = "down.rate=40mbit".parse().unwrap();
    let Some(mut bed) = bed_in(Lab::builder().wire(wire)) else { return };
    let supervisor = Supervisor::of(&bed);
    let file = content(19, 10 << 20);
    bed.put("file.bin", &file);
    let command = bed
        .serve(&["192.168.123.150/24"])
        .args(["--admin", ADMIN])
        .env("NOTIFY_SOCKET", &supervisor.path);
    bed.start_with(command);
    let mut client = Client::connect(&bed);
    client.ask("GET", "/file.bin");
    let head = client.head();
    assert_eq!((head.status, head.field("Connection")), (200, None));
    bed.appliance().signal(Signal::TERM).unwrap();
    wait_until("it drains", SOON, || missing(&bed).contains("shutting down"));
    assert_eq!((metric(&bed, "tagwire_draining"), metric(&bed, "tagwire_ready")), (1.0, 0.0));
    // On the connection that the download keeps.
    client.ask("GET", "/");
    assert!(client.body(file.len()) == file, "the file came damaged");
    let last = client.answer();
    assert_eq!((last.status, last.field("Connection")), (200, Some("close")));
    client.assert_end();
    bed.ends_well();
    assert!(supervisor.told().starts_with("READY=1"));
    assert!(supervisor.told().starts_with("STOPPING=1"));
    bed.finish();
}
