//! What the appliance takes as a pod of podman: the image, its start, its memory at rest and with 10,000
//! connections, with each driver. `--json` for scripts.
#![forbid(unsafe_code)]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/podman.rs"]
mod podman;

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use podman::{PodmanPod, URL};
use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tagwire_deploy::root;

/// Starts of which the median is taken.
const STARTS: usize = 11;
const CONNECTIONS: usize = 10_000;
const SERVER: &str = "192.168.123.150:80";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: tagwire\r\n\r\n";

fn main() {
    let figures: Vec<Value> =
        [("poll", None), ("io_uring", Some(("SECCOMP_PROFILE", "tagwire.json")))]
            .into_iter()
            .filter_map(|(driver, profile)| measure(driver, profile.as_slice()))
            .collect();
    if std::env::args().any(|arg| arg == "--json") {
        println!("{}", Value::from(figures));
        return;
    }
    println!(
        "| driver | binary, octets | image, packed | process to ready | podman start to ready | at rest | {CONNECTIONS} connections |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in figures {
        let text = |name: &str| row[name].to_string();
        println!(
            "| {} | {} | {} | {} ms | {} ms | {} KiB | {} KiB |",
            row["driver"].as_str().unwrap_or_default(),
            text("image_octets"),
            text("archive_octets"),
            text("process_to_ready_ms"),
            text("podman_start_to_ready_ms"),
            text("rest_kib"),
            text("connected_kib"),
        );
    }
}

/// The figures with this driver; `None` where there can be no pod, which has then been said.
fn measure(driver: &str, variables: &[(&str, &str)]) -> Option<Value> {
    let pod = PodmanPod::up(variables)?;
    pod.wait_until_ready();
    let mut of_process = Vec::new();
    let mut of_podman = Vec::new();
    for number in 0..STARTS {
        eprint!("\r{driver}: start {} of {STARTS} ", number + 1);
        let container = pod.container();
        pod.podman(&["stop", "--time", "10", &container]);
        let before = SystemTime::now();
        pod.podman(&["start", &container]);
        let ready = ready_after(&pod, before);
        of_podman.push(milliseconds(ready, before));
        of_process.push(milliseconds(ready, begun(&pod)));
    }
    let rest = resident(&pod);
    eprint!("\r{driver}: {CONNECTIONS} connections ");
    let page = pod.curl(URL);
    let connected = pod.lab.client().run(|| {
        let connections = connect(&page).unwrap();
        let connected = resident(&pod);
        // All of them are there still.
        connections.into_iter().for_each(|connection| ask(&connection, &page).unwrap());
        connected
    });
    eprintln!();
    let archive = root().join("target/image/tagwire.tar");
    // What runs, wherever its image was made from.
    let binary = PathBuf::from(format!("/proc/{}/exe", pod.pid()));
    let len = |path| fs::metadata(path).unwrap().len();
    Some(json!({
        "driver": driver,
        "image_octets": len(binary),
        "archive_octets": len(archive),
        "process_to_ready_ms": median(of_process),
        "podman_start_to_ready_ms": median(of_podman),
        "rest_kib": rest,
        "connected_kib": connected.unwrap(),
    }))
}

/// When the log says `ready`, of a start that is not before `before`.
fn ready_after(pod: &PodmanPod, before: SystemTime) -> SystemTime {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let log = pod.log();
        let told = log.lines().rev().filter(|line| line.contains("\"ready\"")).find_map(|line| {
            let event: Value = serde_json::from_str(line).ok()?;
            humantime::parse_rfc3339(event["timestamp"].as_str()?).ok()
        });
        if let Some(ready) = told.filter(|ready| *ready > before) {
            return ready;
        }
        assert!(Instant::now() < deadline, "not ready:\n{log}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// When its process began, to a tick of 10 ms before it did (proc_pid_stat(5), field 22).
fn begun(pod: &PodmanPod) -> SystemTime {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pod.pid())).unwrap();
    // The name, field 2, may have spaces and parentheses.
    let fields = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = fields.split_whitespace().nth(19).unwrap().parse().unwrap();
    let began = Duration::from_millis(ticks * 1000 / clock_ticks_per_second());
    let since_boot = clock_gettime(ClockId::Boottime);
    let since_boot = Duration::new(since_boot.tv_sec as u64, since_boot.tv_nsec as u32);
    SystemTime::now() - (since_boot - began)
}

fn milliseconds(later: SystemTime, earlier: SystemTime) -> u64 {
    later.duration_since(earlier).unwrap().as_millis() as u64
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Resident memory in KiB.
fn resident(pod: &PodmanPod) -> u64 {
    pod.status("VmRSS").trim_end_matches("kB").trim().parse().unwrap()
}

/// Connections of this namespace, each of which has had an answer and stays open.
fn connect(page: &[u8]) -> io::Result<Vec<TcpStream>> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = CONNECTIONS as u64 + 100;
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?;
    (0..CONNECTIONS)
        .map(|_| {
            let connection = TcpStream::connect(SERVER)?;
            connection.set_read_timeout(Some(Duration::from_secs(10)))?;
            ask(&connection, page)?;
            Ok(connection)
        })
        .collect()
}

/// Has a request answered with this page.
fn ask(mut connection: &TcpStream, page: &[u8]) -> io::Result<()> {
    connection.write_all(REQUEST)?;
    let mut answer = [0; 65536];
    let mut length = 0;
    while !answer[..length].ends_with(page) {
        match connection.read(&mut answer[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    Ok(())
}
