//! `--preload`: nothing is served, and nobody is told that it is, before all that fits is in the cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use tagwire_lab::{Lab, Signal};

use crate::admin::{ADMIN, Supervisor, bed, missing};
use crate::bed::{Bed, wait_until};
use crate::client::Client;

const SOON: Duration = Duration::from_secs(10);

fn figure(status: &Value, name: &str) -> u64 {
    status["preload"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {status}"))
}

#[test]
fn ten_thousand_files_are_there_from_the_first_request_on() {
    const DIRECTORIES: usize = 100;
    const FILES: usize = 10_000;
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let name = |number: usize| format!("{}/{number}.txt", number % DIRECTORIES);
    for number in 0..FILES {
        bed.put(&name(number), format!("this is {number}").as_bytes());
    }
    bed.put(".hidden", b"nobody gets it");
    for number in 0..3 {
        let broken = bed.www().join(format!("broken{number}"));
        fs::write(&broken, "x").unwrap();
        fs::set_permissions(&broken, fs::Permissions::from_mode(0o000)).unwrap();
    }
    bed.start(&["--preload"]);
    let status = bed.status();
    assert_eq!(status["preload"]["done"], true);
    let found = ["found", "loaded", "failed", "left_out"].map(|name| figure(&status, name));
    assert_eq!(found, [FILES as u64 + 4, FILES as u64 + 1, 3, 0]);
    let before = bed.figure("cache", "loads");
    let mut client = Client::connect(&bed);
    for number in (0..FILES).step_by(97) {
        let answer = client.get(&format!("/{}", name(number)));
        assert_eq!((answer.status, answer.body), (200, format!("this is {number}").into_bytes()));
    }
    assert_eq!(client.get("/").status, 200);
    assert_eq!(bed.figure("cache", "loads"), before, "nothing is loaded any more");
    assert_eq!(client.get("/broken0").status, 403);
    // One line for all of them.
    let log = bed.appliance().log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("could not be preloaded")).collect();
    assert!(matches!(said[..], [line] if line.contains("failed=3")), "{log}");
    assert!(log.find("preloaded").unwrap() < log.rfind("ready").unwrap(), "{log}");
    bed.finish();
}

#[test]
fn what_has_no_room_is_left_out_and_told() {
    const FILES: usize = 40;
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    for number in 0..FILES {
        bed.put(&format!("{number}.bin"), &vec![number as u8; 1 << 20]);
    }
    bed.put("large.bin", &vec![1; 3 << 20]);
    bed.start(&["--preload", "--cache-size", "16m"]);
    let status = bed.status();
    let [found, loaded, left_out] = ["found", "loaded", "left_out"].map(|it| figure(&status, it));
    assert_eq!((found, loaded + left_out), (FILES as u64 + 2, FILES as u64 + 2));
    assert!((10..=15).contains(&loaded), "{loaded} loaded");
    assert_eq!(status["cache"]["evictions"], 0);
    let log = bed.appliance().log();
    assert!(log.contains(&format!("left_out={left_out}")) && log.contains("raise --cache-size"));
    assert_eq!(Client::connect(&bed).get("/large.bin").body, vec![1; 3 << 20]);
    bed.finish();
}

#[test]
fn nobody_is_told_that_it_is_ready_before_it_is() {
    let Some(mut bed) = bed() else { return };
    let supervisor = Supervisor::of(&bed);
    // Text that takes a while to compress: words, in an order that repeats nowhere.
    let text = |seed: u64| -> Vec<u8> {
        let octets = crate::bed::content(seed, 1 << 20);
        octets.into_iter().map(|octet| b"etaoin shrdlucmfw"[usize::from(octet % 17)]).collect()
    };
    for number in 0..12 {
        bed.put(&format!("{number}.txt"), &text(number));
    }
    let serve = |bed: &Bed, compress| {
        bed.serve(&["192.168.123.150/24"])
            .args(["--preload", "--admin", ADMIN, "--compress", compress])
            .env("NOTIFY_SOCKET", &supervisor.path)
    };
    let command = serve(&bed, "br");
    bed.begin_with(command);
    bed.appliance().wait_for_line("preloading", SOON).unwrap();
    let why = missing(&bed);
    assert!(why.contains("starting: ") && why.contains("files are preloaded"), "{why}");
    let status = bed.status();
    assert_eq!((&status["ready"], &status["preload"]["done"]), (&false.into(), &false.into()));
    assert!(status["missing"][0].as_str().unwrap().starts_with("starting: "), "{status}");
    // Who is to send clients elsewhere from the start says so already.
    bed.command(&["lame-duck", "--control"]).arg(bed.control()).stdout_string().unwrap();
    let why = missing(&bed);
    assert!(why.contains("files are preloaded") && why.contains("lame duck"), "{why}");
    assert_eq!(bed.status()["lame_duck"], true);
    // It ends as soon as it is told to, and has served nobody.
    bed.appliance().signal(Signal::TERM).unwrap();
    bed.ends_well();
    assert_eq!(supervisor.told(), "STOPPING=1\n");

    let command = serve(&bed, "off");
    bed.begin_with(command);
    assert_eq!(supervisor.told(), "READY=1\n");
    let status = bed.status();
    assert_eq!((&status["ready"], &status["preload"]["done"]), (&true.into(), &true.into()));
    wait_until("it is ready", SOON, || missing(&bed).is_empty());
    assert_eq!(status["preload"]["loaded"], 13);
    bed.finish();
}
