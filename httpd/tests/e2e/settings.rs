//! Settings of TCP that a client sees, or an operator in `status`.

use tagwire_lab::Lab;

use crate::bed::{Bed, INDEX, content, said};
use crate::client::{Client, download};
use crate::detours::{Connection, Detour};
use crate::raw::{ACK, Station};

#[test]
pub(crate) fn fast_open_takes_the_request_with_the_syn_of_who_was_here_before() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.client_sysctl("ipv4/tcp_fastopen", "1");
    // Any worker must know a cookie that another one has given.
    bed.start(&["--fast-open", "--workers", "3"]);
    for _ in 0..6 {
        let page = bed.client(&["curl", "-gsS", "-m", "5", "--tcp-fastopen", &bed.url("/")]);
        assert!(page.status.success() && page.stdout == INDEX, "{}", said(&page));
    }
    assert_eq!(bed.counted("tcp_fast_open"), 5, "all but the one that got the cookie");
    assert_eq!(bed.counted("tcp_accepted"), 6);
    assert_eq!(bed.status()["fast_open"], true);
    bed.stop();

    bed.start(&[]);
    for _ in 0..3 {
        let page = bed.client(&["curl", "-gsS", "-m", "5", "--tcp-fastopen", &bed.url("/")]);
        assert!(page.status.success() && page.stdout == INDEX, "{}", said(&page));
    }
    assert_eq!(bed.counted("tcp_fast_open"), 0, "off unless asked for");
    bed.finish();
}

#[test]
fn a_memory_budget_holds_and_says_what_gave_way() {
    const BUDGET: u64 = 16 << 20;
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    bed.start(&["--memory-budget", "16m"]);
    let mut client = Client::connect(&bed);
    assert_eq!(client.get("/").status, 200);
    let held = bed.status()["memory"].as_u64().unwrap();
    assert!((500..100_000).contains(&held), "{held} octets for a connection");
    drop(client);

    // Requests whose first octet never comes: 22 MiB of them.
    let mut station = Station::open(&bed);
    station.heard_before_echo();
    for port in 50_000..50_400 {
        let connection = Connection { station: &station, port, detour: Detour::Fragments };
        let theirs = connection.open();
        for part in 0..40 {
            let segment = connection.segment(ACK, 1001 + part * 1400, theirs, &[b'x'; 1400]);
            connection.send_plainly(&segment);
        }
        if port % 20 == 0 {
            let held = bed.status()["memory"].as_u64().unwrap();
            assert!(held <= BUDGET, "{held} octets held");
        }
    }
    let status = bed.status();
    assert!(status["memory"].as_u64().unwrap() > BUDGET / 2, "{}", status["memory"]);
    assert_eq!(status["memory_budget"], BUDGET);
    let gave_way: u64 = ["tcp_memory_idle", "tcp_memory_slow"]
        .map(|counter| status["stack"][counter].as_u64().unwrap())
        .iter()
        .sum();
    assert!(gave_way > 50, "{gave_way}");
    bed.assert_serves();
    bed.finish();
}

#[test]
pub(crate) fn jumbo_frames_carry_a_download() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let node = ["link", "set", "nic0", "mtu", "9000"];
    bed.lab().node().command("ip").args(node).stdout_string().unwrap();
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "mtu", "9000"]);
    bed.client_ok(&["ip", "link", "set", "eth0", "mtu", "9000"]);
    let interface = bed.lab().client_interface().to_owned();
    bed.client_ok(&["ip", "link", "set", &interface, "mtu", "9000"]);
    let file = content(31, 20 << 20);
    bed.put("file.bin", &file);
    bed.start(&[]);
    assert_eq!(bed.status()["mtu"], 9000);
    download(&bed, "/file.bin", &file, 4);
    // In one frame each way, which no fragment may be.
    let size = (9000 - bed.echo_headers()).to_string();
    bed.ping(3, &["-Mdo", "-s", &size]);
    bed.finish();
}
