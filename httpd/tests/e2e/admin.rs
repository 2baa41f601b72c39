//! The admin endpoint, the supervisor that is told, and the end by SIGTERM as probes see it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tagwire_lab::{Lab, LabBuilder, Signal};

use crate::bed::{Bed, INDEX, content, said, wait_until};
use crate::client::Client;

/// Where probes ask: the pod's loopback stands for its eth0.
pub(crate) const ADMIN: &str = "127.0.0.1:9090";
const SOON: Duration = Duration::from_secs(10);

/// A bed whose pod has a loopback.
pub(crate) fn bed() -> Option<Bed> {
    bed_in(Lab::builder())
}

/// The same in another lab.
pub(crate) fn bed_in(lab: LabBuilder) -> Option<Bed> {
    let bed = Bed::down(lab)?;
    bed.pod_ok(&["ip", "link", "set", "lo", "up"]);
    Some(bed)
}

pub(crate) fn curl(bed: &Bed, more: &[&str], path: &str) -> Output {
    let url = format!("http://{ADMIN}{path}");
    let command = bed.lab().pod(0).command("curl").args(["-sS", "-m", "8"]).args(more);
    command.arg(url).output().unwrap()
}

/// A probe's status, 0 if nobody answers, and what it says.
fn probe(bed: &Bed, path: &str) -> (u16, Value) {
    let output = curl(bed, &["-w", "%{http_code}"], path);
    let text = String::from_utf8(output.stdout).unwrap();
    let (page, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    (status.parse().unwrap(), serde_json::from_str(page).unwrap_or_default())
}

/// What keeps it from being ready; nothing if it is.
pub(crate) fn missing(bed: &Bed) -> String {
    match probe(bed, "/readyz") {
        (200, page) => {
            assert_eq!(page["ready"], true);
            String::new()
        }
        (503, page) => page["missing"].as_array().unwrap().iter().map(Value::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

/// Who is told by sd_notify(3).
pub(crate) struct Supervisor {
    pub(crate) path: PathBuf,
    socket: UnixDatagram,
}

impl Supervisor {
    pub(crate) fn of(bed: &Bed) -> Self {
        let path = bed.lab().scratch().join("run/notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { path, socket }
    }

    /// What it is told next.
    pub(crate) fn told(&self) -> String {
        let mut octets = [0; 256];
        let len = self.socket.recv(&mut octets).unwrap();
        String::from_utf8(octets[..len].to_vec()).unwrap()
    }
}

/// A figure of the metrics.
pub(crate) fn metric(bed: &Bed, name: &str) -> f64 {
    let output = curl(bed, &[], "/metrics");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(text.ends_with("# EOF\n"), "{}", said(&output));
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[test]
fn probes_say_what_is_missing() {
    let Some(mut bed) = bed() else { return };
    bed.start(&["--admin", ADMIN, "--workers", "2"]);
    assert_eq!(probe(&bed, "/livez").0, 200);
    wait_until("it is ready", SOON, || missing(&bed).is_empty());
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "down"]);
    wait_until("the link is missing", SOON, || missing(&bed).contains("link of macvlan0 is down"));
    assert_eq!(probe(&bed, "/livez").0, 200, "a restart would not help");
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "up"]);
    wait_until("the link is back", SOON, || missing(&bed).is_empty());
    let readable = |mode| fs::set_permissions(bed.www(), fs::Permissions::from_mode(mode)).unwrap();
    readable(0o700);
    assert!(missing(&bed).contains("www"), "{}", missing(&bed));
    // Those that ask at the same time, too.
    thread::scope(|scope| {
        let probes: Vec<_> = (0..12).map(|_| scope.spawn(|| missing(&bed))).collect();
        for probe in probes {
            let missing = probe.join().unwrap();
            assert!(missing.contains("www"), "{missing}");
        }
    });
    readable(0o755);
    assert_eq!(missing(&bed), "");
    let log = bed.appliance().log();
    let lines = |part| log.lines().filter(|line| line.contains(part)).count();
    assert_eq!((lines("not ready: www-root"), lines("can be read again")), (1, 1), "{log}");
    // Nothing but these three, and nothing but to be read.
    assert_eq!(probe(&bed, "/").0, 404);
    let refused = curl(&bed, &["-X", "POST", "-w", "%{http_code}"], "/livez");
    assert_eq!(refused.stdout, b"405", "{}", said(&refused));
    let head = curl(&bed, &["-I"], "/readyz");
    assert!(head.stdout.starts_with(b"HTTP/1.1 200"), "{}", said(&head));
    bed.finish();
}

#[test]
fn metrics_follow_what_happens() {
    let Some(mut bed) = bed() else { return };
    bed.start(&["--admin", ADMIN, "--workers", "2"]);
    let figure = |name: &str| metric(&bed, name);
    let accepted = "tagwire_stack_tcp_accepted_total{vlan=\"123\"}";
    let before = figure(accepted);
    bed.assert_serves();
    assert_eq!(figure(accepted), before + 1.0);
    assert_eq!(figure("tagwire_ready"), 1.0);
    let held: Vec<Client> = (0..3).map(|_| Client::connect(&bed)).collect();
    wait_until("they are counted", SOON, || figure("tagwire_connections{vlan=\"123\"}") == 3.0);
    drop(held);
    let head = String::from_utf8(curl(&bed, &["-I"], "/metrics").stdout).unwrap();
    assert!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    bed.finish();
}

/// Clients that say nothing do not keep probes away for long.
#[test]
fn silent_clients_are_cut_off() {
    let Some(mut bed) = bed() else { return };
    bed.start(&["--admin", ADMIN]);
    let open = || (0..80).map(|_| TcpStream::connect(ADMIN).unwrap()).collect::<Vec<_>>();
    let silent = bed.lab().pod(0).namespace().run(open).unwrap();
    assert_eq!(probe(&bed, "/livez").0, 200);
    drop(silent);
    bed.finish();
}

#[test]
fn at_sigterm_it_is_not_ready_while_a_download_goes_on_and_a_second_one_ends_it() {
    let wire = "down.rate=20mbit".parse().unwrap();
    let Some(mut bed) = bed_in(Lab::builder().wire(wire)) else { return };
    bed.put("file.bin", &content(18, 40 << 20));
    bed.start(&["--admin", ADMIN, "--drain", "60s"]);
    let mut client = Client::connect(&bed);
    client.ask("GET", "/file.bin");
    assert_eq!(client.head().status, 200);
    bed.appliance().signal(Signal::TERM).unwrap();
    wait_until("it drains", SOON, || missing(&bed).contains("shutting down"));
    // There is no way back.
    let late =
        bed.command(&["lame-duck", "--off", "--control"]).arg(bed.control()).output().unwrap();
    assert!(
        !late.status.success() && said(&late).contains("it is shutting down"),
        "{}",
        said(&late)
    );
    assert_eq!(probe(&bed, "/livez").0, 200);
    bed.appliance().signal(Signal::TERM).unwrap();
    let status = bed.appliance().wait_timeout(SOON).unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    let log = bed.appliance().log();
    assert!(log.contains("ending at once"), "{log}");
}

/// What a pod's preStop does: who asks is served, and told that this was the last answer; nobody is ended without.
#[test]
fn a_lame_duck_serves_all_and_keeps_nobody() {
    let Some(mut bed) = bed() else { return };
    bed.start(&["--admin", ADMIN, "--workers", "2"]);
    let control = bed.control();
    let lame_duck = |more: &[&str]| {
        let command = bed.command(&["lame-duck", "--control"]).arg(&control).args(more);
        command.stdout_string().unwrap()
    };
    let keeps = |client: &mut Client| {
        let answer = client.get("/");
        assert_eq!((answer.status, &*answer.body), (200, INDEX));
        answer.field("connection") != Some("close")
    };
    wait_until("it is ready", SOON, || missing(&bed).is_empty());
    // Of both workers, most likely.
    let mut resting: Vec<Client> = (0..16).map(|_| Client::connect(&bed)).collect();
    assert!(resting.iter_mut().all(keeps));

    let asked = Instant::now();
    assert!(lame_duck(&["--for", "1s"]).starts_with("a lame duck:"));
    assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(missing(&bed).contains("lame duck"), "{}", missing(&bed));
    assert_eq!((metric(&bed, "tagwire_lame_duck"), metric(&bed, "tagwire_ready")), (1.0, 0.0));
    assert_eq!(probe(&bed, "/livez").0, 200);
    // Those that rested are there still, and each gets its answer before its connection ends.
    for client in &mut resting {
        assert!(!keeps(client));
        client.assert_end();
    }
    let mut new = Client::connect(&bed);
    assert!(!keeps(&mut new));
    new.assert_end();

    // What was so before is no event.
    lame_duck(&[]);
    assert!(lame_duck(&["--off"]).contains("no more"));
    wait_until("it is ready again", SOON, || missing(&bed).is_empty());
    let mut kept = Client::connect(&bed);
    assert!(keeps(&mut kept) && keeps(&mut kept));
    let log = bed.appliance().log();
    let lines = |part| log.lines().filter(|line| line.contains(part)).count();
    assert_eq!((lines("lame duck: not ready"), lines("lame duck no more")), (1, 1), "{log}");
    drop(kept);
    bed.finish();
}

#[test]
fn a_supervisor_is_told() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let supervisor = Supervisor::of(&bed);
    let control = bed.control();
    let command = bed
        .serve(&["192.168.123.150/24"])
        .env("NOTIFY_SOCKET", &supervisor.path)
        .env("WATCHDOG_USEC", "500000");
    bed.start_with(command);
    let told = |wanted: &str| {
        let mut said = supervisor.told();
        while said == "WATCHDOG=1\n" && wanted != said {
            said = supervisor.told();
        }
        assert!(said.starts_with(wanted), "{said:?} and not {wanted:?}");
    };
    told("READY=1\n");
    told("WATCHDOG=1\n");
    bed.command(&["reload", "--control"]).arg(&control).stdout_string().unwrap();
    told("RELOADING=1\nMONOTONIC_USEC=");
    told("READY=1\n");
    bed.appliance().signal(Signal::TERM).unwrap();
    told("STOPPING=1\n");
    bed.ends_well();
}
