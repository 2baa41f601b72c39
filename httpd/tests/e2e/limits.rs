//! Limits from end to end: who takes too much is told so or cut off, and the others are served.

use std::io::Write;
use std::time::Duration;

use tagwire_lab::{Lab, Signal};

use crate::bed::{Bed, INDEX, content, wait_until};
use crate::client::{Answer, Client, request};

const SOON: Duration = Duration::from_secs(10);

/// A counter of the HTTP side.
fn counted(bed: &Bed, counter: &str) -> u64 {
    bed.figure("http", counter)
}

/// Connections that have had an answer, and so are there.
fn served(bed: &Bed, count: usize) -> Vec<Client> {
    let connect = |_| {
        let mut client = Client::connect(bed);
        assert_eq!(client.get("/").status, 200);
        client
    };
    (0..count).map(connect).collect()
}

/// The answer on a connection of its own.
fn answer(bed: &Bed) -> Answer {
    Client::connect(bed).get("/")
}

#[test]
pub(crate) fn a_client_has_so_many_connections_whatever_worker_they_come_to() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let write = |bed: &Bed, most| bed.configure(&format!("[limits]\nmax-per-address = {most}\n"));
    let config = write(&bed, "6");
    bed.start(&["--workers", "3", "--config", &config]);
    let mut clients = served(&bed, 6);
    let mut turned_away = Client::connect(&bed);
    let answered = turned_away.get("/");
    assert_eq!((answered.status, answered.field("Retry-After")), (429, Some("1")));
    assert_eq!(answered.field("Connection"), Some("close"));
    turned_away.assert_end();
    // Somebody else is not concerned.
    let add = ["ip", "address", "add", "192.168.123.77/24", "dev"];
    let interface = bed.lab().client_interface().to_owned();
    bed.client_ok(&[&add[..], &[&interface]].concat());
    let other = ["curl", "-gsS", "-m", "5", "-4", "--interface", "192.168.123.77"];
    if bed.server().is_ipv4() {
        assert_eq!(bed.client_ok(&[&other[..], &[&bed.url("/")]].concat()).as_bytes(), INDEX);
    }
    // A place that is given back is free, whoever had it.
    drop(clients.pop());
    wait_until("there is room again", SOON, || answer(&bed).status == 200);
    assert!(counted(&bed, "over_max_per_address") >= 1);

    // SIGHUP changes it; those that are there stay.
    write(&bed, "0");
    bed.appliance().signal(Signal::HUP).unwrap();
    wait_until("the limit is gone", SOON, || {
        clients.extend([Client::connect(&bed), Client::connect(&bed)]);
        clients.iter_mut().rev().take(2).all(|client| client.get("/").status == 200)
    });
    assert!(clients[..5].iter_mut().all(|client| client.get("/").status == 200));
    bed.finish();
}

#[test]
fn connections_in_all_have_a_limit() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.start(&["--workers", "2", "--max-connections", "4"]);
    let mut clients = served(&bed, 4);
    let refused = answer(&bed);
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")));
    assert_eq!(counted(&bed, "over_max_connections"), 1);
    assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
    clients.clear();
    wait_until("there is room again", SOON, || answer(&bed).status == 200);
    bed.finish();
}

#[test]
pub(crate) fn who_reads_or_sends_too_slowly_is_cut_off() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.put("file.bin", &content(4, 3 << 20));
    bed.put("some.bin", &content(5, 200_000));
    bed.start(&[
        "--send-timeout",
        "1",
        "--head-timeout",
        "1",
        "--idle-timeout",
        "1",
        "--min-rate=50000",
    ]);
    // A crowd of each kind at once, and everybody else is served.
    let readers: Vec<Client> = ["/file.bin", "/file.bin", "/some.bin"]
        .into_iter()
        .map(|path| {
            let mut client = Client::connect_small(&bed, 4096);
            client.ask("GET", path);
            client
        })
        .collect();
    let mut senders: Vec<Client> = (0..20).map(|_| Client::connect(&bed)).collect();
    for sender in &mut senders {
        sender.send(b"GET / HTTP/1.1\r\nHost:");
    }
    let mut silent = Client::connect(&bed);
    bed.assert_serves();
    wait_until("the readers are cut off", SOON, || counted(&bed, "slow_reader") == 3);
    for mut reader in readers {
        let (taken, end) = reader.read_to_error();
        assert!(taken < 200_000 && end.is_err(), "{taken} octets, then {end:?}");
    }
    for sender in &mut senders {
        assert_eq!(sender.answer().status, 408);
    }
    silent.assert_end();
    // The smaller answer's reader rested, too, before it was waited for.
    assert_eq!((counted(&bed, "head_timeout"), counted(&bed, "idle_timeout")), (20, 2));
    bed.assert_serves();
    bed.finish();
}

#[test]
fn a_connection_has_so_many_requests() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.start(&["--max-requests", "3"]);
    let mut client = Client::connect(&bed);
    for end in [None, None, Some("close")] {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.field("Connection")), (200, end));
    }
    client.assert_end();
    assert_eq!(counted(&bed, "last_request"), 1);
    // curl does not notice.
    let urls: Vec<String> = (0..10).map(|n| bed.url(&format!("/?{n}"))).collect();
    let line: Vec<&str> =
        ["curl", "-gsSf", "-m", "10"].into_iter().chain(urls.iter().map(|url| &**url)).collect();
    assert_eq!(bed.client_ok(&line).as_bytes(), INDEX.repeat(10));
    bed.finish();
}

#[test]
fn bombs_cost_what_a_request_may_cost() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let file = content(6, 900_000);
    bed.put("file.bin", &file);
    bed.start(&["--send-timeout", "2"]);
    let mut client = Client::connect(&bed);
    // Thousands of ranges, and as many as there may be, each of them nearly all of the file.
    for ranges in ["0-0,".repeat(3000), "1-,0-,".repeat(32)] {
        let range = format!("Range: bytes={ranges}");
        client.send(format!("GET /file.bin HTTP/1.1\r\nHost: x\r\n{range}\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert!(answer.body == file, "not more than the file: {}", answer.body.len());
    }
    drop(client);
    // A flood of requests whose answers nobody reads.
    let before = bed.memory("VmRSS");
    let mut client = Client::connect_small(&bed, 4096);
    let flood = request("GET", "/file.bin").repeat(20_000);
    let mut writer = client.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        // It ends with the connection, and hears of the reset.
        scope.spawn(move || writer.write_all(flood.as_bytes()).unwrap_err());
        bed.assert_serves();
        wait_until("the flood is cut off", SOON, || counted(&bed, "slow_reader") == 1);
    });
    let (taken, _) = client.read_to_error();
    assert!(taken < file.len(), "{taken} octets");
    let grown = bed.memory("VmRSS").saturating_sub(before);
    assert!(grown < 8192, "{grown} KiB for a client that does not read");
    bed.assert_serves();
    bed.finish();
}
