//! Files of many gigabytes: a crowd at different places of one, clients that read slowly, and files
//! that are replaced when somebody has just asked for them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tagwire_lab::Lab;

use crate::bed::{Bed, alone, content, wait_until};
use crate::client::{Client, answers, download};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// How long it may take until the appliance hears of the end of its clients: where a busy machine has lost
/// a reset, a later probe of the window brings the next one, or `--send-timeout` (60 s) ends it.
const PATIENCE: Duration = Duration::from_secs(90);
/// Octets of the process that are neither cache nor downloads, in KiB: code, rings, connections.
const REST: u64 = 48 * 1024;

/// A file that is all zeros but for a mark of its own at each of some places.
struct Marked {
    len: u64,
    places: u64,
}

impl Marked {
    const MARK: usize = 4096;
    /// What a client asks for around a mark.
    const PART: u64 = 512 * 1024;

    fn put(&self, bed: &Bed, name: &str) {
        let file = File::create(bed.www().join(name)).unwrap();
        file.set_len(self.len).unwrap();
        for place in 0..self.places {
            file.write_all_at(&content(place, Self::MARK), self.mark(place)).unwrap();
        }
    }

    /// Where a mark is: across borders of pieces, too, and the last one at the end of the file.
    fn mark(&self, place: u64) -> u64 {
        (place + 1) * (self.len / self.places) - Self::MARK as u64 - 999 * (self.places - 1 - place)
    }

    /// The part that has a mark in its middle, or at its end.
    fn part(&self, place: u64) -> (u64, u64) {
        let from = self.mark(place) - Self::PART / 2;
        (from, (from + Self::PART).min(self.len))
    }

    fn assert_is_part(&self, place: u64, octets: &[u8]) {
        let (from, to) = self.part(place);
        assert_eq!(octets.len() as u64, to - from);
        let (before, rest) = octets.split_at(Self::PART as usize / 2);
        let (mark, behind) = rest.split_at(Self::MARK);
        let zero = |octets: &[u8]| octets.iter().all(|octet| *octet == 0);
        assert!(zero(before) && zero(behind) && mark == content(place, Self::MARK), "{place}");
    }
}

/// Waits until downloads hold nothing any more.
fn gives_all_back(bed: &Bed) {
    wait_until("all is given back", PATIENCE, || {
        let status = bed.status();
        ["streams", "waiting", "held"].iter().all(|name| status["downloads"][name] == 0)
    });
}

fn allow_files(count: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < count) {
        let maximum = maximum.map(|maximum| maximum.max(count));
        setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum }).unwrap();
    }
}

#[test]
fn a_thousand_clients_at_different_places_of_ten_gibibytes() {
    const CLIENTS: u64 = 1000;
    const BUDGET: u64 = 16 * MIB;
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    allow_files(CLIENTS + 1000);
    let file = Marked { len: 10 * GIB + 12_345, places: CLIENTS };
    file.put(&bed, "huge.bin");
    bed.start(&["--cache-size", "16m", "--download-memory", "16m"]);
    let turn = alone();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&bed)).collect();
    for (place, client) in clients.iter_mut().enumerate() {
        let (from, to) = file.part(place as u64);
        let range = format!("Range: bytes={from}-{}", to - 1);
        client.send(format!("GET /huge.bin HTTP/1.1\r\nHost: x\r\n{range}\r\n\r\n").as_bytes());
    }
    assert_eq!(bed.figure("downloads", "budget"), BUDGET);
    let mut most_held = 0;
    answers(clients, |place, answer| {
        assert_eq!(answer.status, 206, "{}", answer.head);
        file.assert_is_part(place as u64, &answer.body);
        if place % 100 == 0 {
            most_held = most_held.max(bed.figure("downloads", "held"));
        }
    });
    drop(turn);
    assert!((1..=BUDGET).contains(&most_held), "{most_held} octets held");
    let peak = bed.memory("VmHWM");
    assert!(peak < 32 * 1024 + REST, "{peak} KiB resident at the peak");
    // Nothing is read to be thrown away.
    let read = bed.figure("cache", "octets_read");
    assert!(read < CLIENTS * Marked::PART * 3 / 2, "{read} octets read");
    assert_eq!(bed.figure("http", "gave_way"), 0);
    gives_all_back(&bed);
    bed.finish();
}

#[test]
fn ten_gibibytes_are_downloaded_in_little_memory() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    File::create(bed.www().join("huge.bin")).unwrap().set_len(10 * GIB).unwrap();
    bed.start(&["--cache-size", "16m", "--download-memory", "16m"]);
    let turn = alone();
    let url = bed.url("/huge.bin");
    let format = "%{http_code} %{size_download}";
    let said = bed.client_ok(&["curl", "-sS", "-o", "/dev/null", "-w", format, &url]);
    drop(turn);
    assert_eq!(said, format!("200 {}", 10 * GIB));
    let peak = bed.memory("VmHWM");
    assert!(peak < 32 * 1024 + REST, "{peak} KiB resident at the peak");
    // Each octet once.
    assert_eq!(bed.figure("cache", "octets_read"), 10 * GIB);
    bed.finish();
}

#[test]
fn clients_that_read_nothing_neither_fill_the_memory_nor_slow_down_others() {
    const SLOW: usize = 200;
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let file = content(61, 64 * MIB as usize);
    bed.put("large.bin", &file);
    bed.start(&["--cache-size", "8m"]);
    let turn = alone();
    let slow: Vec<_> = (0..SLOW)
        .map(|number| {
            let mut client = Client::connect_small(&bed, 8192);
            let from = number * 300_000;
            let range = format!("Range: bytes={from}-");
            client
                .send(format!("GET /large.bin HTTP/1.1\r\nHost: x\r\n{range}\r\n\r\n").as_bytes());
            assert_eq!(client.head().status, 206);
            client
        })
        .collect();
    let held = |bed: &Bed| bed.figure("downloads", "held");
    let before = held(&bed);
    assert!(before < SLOW as u64 * 256 * 1024, "{before} octets held");
    let loads = bed.figure("cache", "loads");
    download(&bed, "/large.bin", &file, 1);
    // By the chunk, as if nobody else were there.
    let loads = bed.figure("cache", "loads") - loads;
    assert!(loads < 2 * 64, "{loads} reads");
    drop(turn);
    assert_eq!(bed.figure("downloads", "streams"), SLOW as u64);
    assert_eq!(bed.figure("http", "gave_way"), 0);
    let peak = bed.memory("VmHWM");
    assert!(peak < (8 + 64) * 1024 + REST, "{peak} KiB resident at the peak");
    drop(slow);
    gives_all_back(&bed);
    bed.finish();
}

#[test]
fn a_file_replaced_just_before_it_is_sent_is_sent_whole() {
    let Some(bed) = Bed::up() else { return };
    let versions = [content(71, 2 * MIB as usize), content(72, 3 * MIB as usize)];
    let replace = |version: &[u8]| {
        bed.put(".new", version);
        fs::rename(bed.www().join(".new"), bed.www().join("large.bin")).unwrap();
    };
    replace(&versions[0]);
    let mut client = Client::connect(&bed);
    for round in 0..20 {
        // It is known, and then another.
        client.ask("HEAD", "/large.bin");
        assert_eq!(client.head().status, 200);
        replace(&versions[(round + 1) % 2]);
        let answer = client.get("/large.bin");
        assert_eq!(answer.status, 200);
        assert!(versions.contains(&answer.body), "{} octets of no version", answer.body.len());
    }
    bed.finish();
}
