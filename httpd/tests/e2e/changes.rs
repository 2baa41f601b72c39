//! What changes on disk while it is served: when that is seen, and what those get who are in the
//! middle of it; a disk that stalls.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use tagwire_lab::Lab;

use crate::bed::{Bed, content, wait_until};
use crate::client::{Answer, Client};

/// Changes take effect within this.
const SECOND: Duration = Duration::from_secs(1);

struct Visitor(Client);

impl Visitor {
    fn get(&mut self, host: &str, path: &str) -> Answer {
        self.0.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        self.0.answer()
    }

    /// Asks until the answer is this one.
    fn sees(&mut self, host: &str, path: &str, status: u16, body: &str) {
        wait_until(&format!("{path} of {host} is {status} {body}"), SECOND, || {
            let answer = self.get(host, path);
            answer.status == status && (body.is_empty() || answer.body == body.as_bytes())
        });
    }
}

/// A www-root as the kubelet mounts a ConfigMap.
fn mount_config_map(www: &Path) {
    for version in ["..v1", "..v2"] {
        fs::create_dir_all(www.join("map").join(version)).unwrap();
        for name in ["index.html", "page.txt"] {
            fs::write(www.join("map").join(version).join(name), format!("{version} {name}"))
                .unwrap();
        }
    }
    fs::write(www.join("map/..v2/only.txt"), "..v2 only.txt").unwrap();
    for (target, name) in [
        ("..v1", "..data"),
        ("..data/index.html", "index.html"),
        ("..data/page.txt", "page.txt"),
        ("..data/only.txt", "only.txt"),
    ] {
        symlink(target, www.join("map").join(name)).unwrap();
    }
}

fn changes_are_seen(bed: &Bed) {
    let www = bed.www();
    let put = |name: &str, content: &str| bed.put(name, content.as_bytes());
    let replace = |name: &str, content: &str| {
        put(".new", content);
        fs::rename(www.join(".new"), www.join(name)).unwrap();
    };
    put("index.html", "first");
    put("page.txt", "old");
    put("app.html", "app 1");
    put("404.html", "sorry 1");
    put("deep/er/page.txt", "deep 1");
    mount_config_map(&www);
    let mut visitor = Visitor(Client::connect(bed));
    for (host, path, status, body) in [
        ("x", "/", 200, "first"),
        ("x", "/page.txt", 200, "old"),
        ("x", "/later.txt", 404, ""),
        ("x", "/deep/", 403, ""),
        ("x", "/deep/er/page.txt", 200, "deep 1"),
        ("x", "/map/", 200, "..v1 index.html"),
        ("x", "/map/page.txt", 200, "..v1 page.txt"),
        ("x", "/map/only.txt", 404, ""),
        ("app", "/any/where", 200, "app 1"),
        ("err", "/any/where", 404, "sorry 1"),
    ] {
        let answer = visitor.get(host, path);
        assert_eq!(answer.status, status, "{path} of {host}");
        assert!(body.is_empty() || answer.body == body.as_bytes(), "{path} of {host}");
    }

    // Of the same length, so that nothing but its time tells.
    put("page.txt", "new");
    visitor.sees("x", "/page.txt", 200, "new");
    replace("page.txt", "third");
    visitor.sees("x", "/page.txt", 200, "third");
    put("later.txt", "here");
    visitor.sees("x", "/later.txt", 200, "here");
    fs::remove_file(www.join("page.txt")).unwrap();
    visitor.sees("x", "/page.txt", 404, "");

    replace("index.html", "second");
    visitor.sees("x", "/", 200, "second");
    put("deep/index.html", "now");
    visitor.sees("x", "/deep/", 200, "now");
    replace("app.html", "app 2");
    visitor.sees("app", "/any/where", 200, "app 2");
    replace("404.html", "sorry 2");
    visitor.sees("err", "/any/where", 404, "sorry 2");
    fs::create_dir(www.join("any")).unwrap();
    put("any/where", "itself");
    visitor.sees("app", "/any/where", 200, "itself");
    visitor.sees("err", "/any/where", 200, "itself");

    fs::rename(www.join("deep"), www.join("away")).unwrap();
    visitor.sees("x", "/deep/er/page.txt", 404, "");
    put("deep/er/page.txt", "deep 2");
    visitor.sees("x", "/deep/er/page.txt", 200, "deep 2");

    for (version, gone) in [("..v2", 200), ("..v1", 404), ("..v2", 200)] {
        symlink(version, www.join("map/..data_tmp")).unwrap();
        fs::rename(www.join("map/..data_tmp"), www.join("map/..data")).unwrap();
        let text = |name: &str| format!("{version} {name}");
        visitor.sees("x", "/map/page.txt", 200, &text("page.txt"));
        visitor.sees("x", "/map/", 200, &text("index.html"));
        visitor.sees("x", "/map/only.txt", gone, "");
    }
}

/// Starts an appliance that serves one www-root as three sites.
fn start(bed: &mut Bed, watch: &str) {
    let www = bed.lab().scratch().join("www");
    let www = www.display();
    let text = format!(
        "[serve]\nwatch = \"{watch}\"\n\n[[site]]\nwww-root = \"{www}\"\n\n\
         [[site]]\nhosts = [\"app\"]\nwww-root = \"{www}\"\nfallback = \"app.html\"\n\n\
         [[site]]\nhosts = [\"err\"]\nwww-root = \"{www}\"\nerror-pages = {{ 404 = \"404.html\" }}\n"
    );
    let config = bed.configure(&text);
    bed.start(&["--config", &config]);
}

#[test]
fn what_changes_takes_effect_within_a_second() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.serve_from("tmpfs");
    start(&mut bed, "auto");
    changes_are_seen(&bed);
    let watch = &bed.status()["watch"];
    assert!(watch["directories"].as_u64() > Some(3) && watch["events"].as_u64() > Some(10));
    bed.finish();
}

#[test]
fn what_changes_takes_effect_within_a_second_without_inotify() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    start(&mut bed, "off");
    changes_are_seen(&bed);
    assert_eq!(bed.status()["watch"]["events"], 0);
    bed.finish();
}

#[test]
fn what_is_watched_is_not_compared() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.serve_from("tmpfs");
    bed.start(&[]);
    bed.put("page.txt", b"page");
    let mut client = Client::connect(&bed);
    assert_eq!(client.get("/page.txt").body, b"page");
    let misses = || bed.status()["cache"]["misses"].as_u64().unwrap();
    let before = misses();
    // Longer than anything is served without that where nothing tells of changes.
    std::thread::sleep(2 * SECOND);
    assert_eq!(client.get("/page.txt").body, b"page");
    assert_eq!(misses(), before);
    bed.finish();
}

#[test]
fn a_reload_moves_the_watches() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.serve_from("tmpfs");
    start(&mut bed, "auto");
    bed.put("old/deep/er/page.txt", b"old");
    bed.put("new/page.txt", b"new");
    let www = bed.lab().scratch().join("www");
    let reload = |other: &str| {
        let www = www.display();
        let other = format!("[[site]]\nhosts = [\"other\"]\nwww-root = \"{www}/{other}\"\n");
        bed.configure(&format!("[[site]]\nwww-root = \"{www}\"\n\n{other}"));
        bed.command(&["reload", "--control"]).arg(bed.control()).stdout_string().unwrap();
    };
    reload("old");
    let directories = || bed.status()["watch"]["directories"].as_u64().unwrap();
    let mut visitor = Visitor(Client::connect(&bed));
    visitor.sees("other", "/deep/er/page.txt", 200, "old");
    assert_eq!(directories(), 3);
    reload("new");
    wait_until("the old ones are let go", 10 * SECOND, || directories() == 0);
    visitor.sees("other", "/page.txt", 200, "new");
    assert_eq!(directories(), 1);
    bed.put("new/page.txt", b"newer");
    visitor.sees("other", "/page.txt", 200, "newer");
    bed.finish();
}

/// Has `change` happen to a file that is being sent, and checks that nothing of it arrives.
fn in_the_middle(cut: bool, change: impl FnOnce(&Path)) {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    // Less than the file, so that the rest of it must come from the disk.
    bed.start(&["--cache-size", "4m"]);
    let octets = content(21, 24 << 20);
    bed.put("file.bin", &octets);
    let mut client = Client::connect_small(&bed, 8192);
    client.ask("GET", "/file.bin");
    let answer = client.head();
    assert_eq!(answer.field("Content-Length"), Some(&*octets.len().to_string()));
    // The head may be on its way before the file is opened for its first part.
    client.receive();
    change(&bed.www().join("file.bin"));
    let (taken, end) =
        if cut { client.take_to_error() } else { (client.body(octets.len()), Ok(())) };
    assert!(octets.starts_with(&taken), "no octet of another file");
    assert_eq!(taken.len() < octets.len(), cut, "{} octets, {end:?}", taken.len());
    // It is served as it is now, and nothing else has suffered.
    let now = fs::read(bed.www().join("file.bin")).unwrap();
    // What was known of it may cut another answer first.
    wait_until("the file as it is now", SECOND, || {
        bed.client(&["curl", "-gsS", &bed.url("/file.bin")]).stdout == now
    });
    bed.assert_serves();
    bed.finish();
}

#[test]
fn a_file_truncated_while_it_is_sent_ends_the_connection() {
    in_the_middle(true, |file| {
        fs::File::options().write(true).open(file).unwrap().set_len(1000).unwrap();
    });
}

#[test]
fn a_file_overwritten_while_it_is_sent_ends_the_connection() {
    in_the_middle(true, |file| {
        // At its end only, with as many octets.
        let file = fs::File::options().write(true).open(file).unwrap();
        file.write_all_at(b"another", (24 << 20) - 7).unwrap();
    });
}

#[test]
fn a_file_overwritten_under_its_old_time_ends_the_connection() {
    in_the_middle(true, |file| {
        let file = fs::File::options().write(true).open(file).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"another", (24 << 20) - 7).unwrap();
        file.set_modified(before).unwrap();
    });
}

#[test]
fn a_file_of_another_mode_ends_the_connection() {
    // Nothing tells it from the one before.
    in_the_middle(true, |file| {
        fs::set_permissions(file, fs::Permissions::from_mode(0o604)).unwrap();
    });
}

#[test]
fn a_file_that_gets_another_name_is_sent_to_its_end() {
    in_the_middle(false, |file| fs::hard_link(file, file.with_extension("backup")).unwrap());
}

#[test]
fn a_file_that_grows_while_it_is_sent_ends_the_connection() {
    in_the_middle(true, |file| {
        fs::File::options().append(true).open(file).unwrap().write_all(b"more").unwrap();
    });
}

#[test]
fn a_file_replaced_while_it_is_sent_is_sent_to_its_end() {
    in_the_middle(false, |file| {
        let new = file.with_extension("new");
        fs::write(&new, content(22, 1 << 20)).unwrap();
        fs::rename(new, file).unwrap();
    });
}

#[test]
fn a_disk_that_stalls_delays_no_cached_answer_and_loads_once() {
    const WAITERS: usize = 50;
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    // One of those file systems that may keep anybody waiting.
    bed.serve_from("ramfs");
    bed.start(&[]);
    bed.put("cached.txt", b"cached");
    bed.put("stalled.txt", b"stalled");
    let mut client = Client::connect(&bed);
    assert_eq!(client.get("/cached.txt").body, b"cached");
    // Whoever opens the file waits until this process allows it.
    let gate = Fanotify::init(InitFlags::FAN_CLASS_CONTENT, EventFFlags::empty()).unwrap();
    let stalled = bed.www().join("stalled.txt");
    gate.mark(
        MarkFlags::FAN_MARK_ADD,
        MaskFlags::FAN_OPEN_PERM,
        nix::fcntl::AT_FDCWD,
        Some(&stalled),
    )
    .unwrap();
    let loads = bed.status()["cache"]["loads"].as_u64().unwrap();
    let mut waiters: Vec<_> = (0..WAITERS).map(|_| Client::connect(&bed)).collect();
    for waiter in &mut waiters {
        waiter.ask("GET", "/stalled.txt");
    }
    let events = gate.read_events().unwrap();
    assert_eq!(events.len(), 1, "one load for all of them");
    let stalls = Instant::now();
    // Longer than any comparison counts, and with what was never loaded too.
    while stalls.elapsed() < 3 * SECOND {
        let asked = Instant::now();
        assert_eq!(client.get("/cached.txt").body, b"cached");
        assert!(asked.elapsed() < SECOND, "{:?}", asked.elapsed());
    }
    bed.put("fresh.txt", b"fresh");
    assert_eq!(client.get("/fresh.txt").body, b"fresh");
    let status = bed.status();
    assert_eq!(status["cache"]["loads"].as_u64(), Some(loads + 2), "{status}");
    let opened = events[0].fd().unwrap();
    gate.write_response(FanotifyResponse::new(opened, Response::FAN_ALLOW)).unwrap();
    for waiter in &mut waiters {
        assert_eq!(waiter.answer().body, b"stalled");
    }
    drop(gate);
    bed.finish();
}
