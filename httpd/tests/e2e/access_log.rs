//! The access log end to end: every request is in it, and nothing waits for it.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use serde_json::Value;
use tagwire_lab::{Lab, Signal};

use crate::bed::{Bed, INDEX, content, said, wait_until};
use crate::client::Client;

const SOON: Duration = Duration::from_secs(10);

/// A file in the directory that the appliance may write.
fn file(bed: &Bed, name: &str) -> PathBuf {
    bed.lab().scratch().join("run").join(name)
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn counted(bed: &Bed, counter: &str) -> u64 {
    bed.figure("access_log", counter)
}

/// Starts the appliance from a shell, by a script that ends with `exec "$0" "$@"`.
fn start_from_shell(bed: &mut Bed, script: &str, more: &[&str]) {
    let line =
        ["serve", "--interface", "macvlan0", "--vlan", "123", "--address", "192.168.123.150/24"];
    let shell = bed.lab().pod(0).command_as_appliance(Path::new("/bin/sh"));
    let command = shell
        .args(["-c", script])
        .arg(bed.program())
        .args(line)
        .arg("--www-root")
        .arg(bed.www())
        .arg("--control")
        .arg(bed.control())
        .args(more);
    bed.start_with(command);
}

/// A pipe with a name, and its reading end; it counts as read for as long as that lives.
fn fifo(bed: &Bed, name: &str) -> (PathBuf, File) {
    let path = file(bed, name);
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    // Both ends in one, so that it is open without anybody who reads.
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    (path, reader)
}

/// A request whose line in the log has twelve thousand octets.
fn long_request() -> String {
    format!(
        "GET /?{} HTTP/1.1\r\nHost: x\r\nUser-Agent: {}\r\n\r\n",
        "q".repeat(6000),
        "u".repeat(6000)
    )
}

#[test]
fn a_file_is_renamed_again_and_again_under_load_and_no_line_is_lost() {
    const CLIENTS: usize = 4;
    const RENAMES: usize = 10;
    /// So that a test that fails has an end.
    const MOST_REQUESTS: usize = 20_000;
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let path = file(&bed, "access.log");
    bed.start(&["--workers", "2", "--access-log", path.to_str().unwrap()]);
    let server = bed.server();
    let over = &AtomicBool::new(false);
    let requests = std::thread::scope(|scope| {
        let run = |client| {
            let namespace = bed.lab().client();
            let requests = namespace.run(|| {
                let mut connection = Client::connect_here(server);
                let mut requests = 0;
                while !over.load(Ordering::Relaxed) && requests < MOST_REQUESTS {
                    let path = format!("/?{client}.{requests}");
                    assert_eq!(connection.get(&path).status, 200);
                    requests += 1;
                }
                requests
            });
            requests.unwrap()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || run(client))).collect();
        for turn in 1..=RENAMES {
            wait_until("there are lines", SOON, || !lines(&path).is_empty());
            fs::rename(&path, file(&bed, &format!("access.log.{turn}"))).unwrap();
            bed.signal(Signal::USR1);
            wait_until("there is a new file", SOON, || path.exists());
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<usize>>()
    });
    let all = || {
        let old = (1..=RENAMES).flat_map(|turn| lines(&file(&bed, &format!("access.log.{turn}"))));
        old.chain(lines(&path)).collect::<Vec<_>>()
    };
    let total: usize = requests.iter().sum();
    wait_until("all is written", SOON, || all().len() == total);
    let all: HashSet<String> = all().iter().map(|line| words(line, 4)).collect();
    for (client, requests) in requests.into_iter().enumerate() {
        for request in 0..requests {
            let line = format!("\"GET /?{client}.{request} HTTP/1.1\" 200");
            assert!(all.contains(&line), "{line}");
        }
    }
    assert_eq!((counted(&bed, "written"), counted(&bed, "dropped")), (total as u64, 0));
    bed.finish();
}

/// So many words of a line behind its time.
fn words(line: &str, count: usize) -> String {
    let (_, rest) = line.split_once("] ").unwrap();
    rest.split(' ').take(count).collect::<Vec<_>>().join(" ")
}

#[test]
fn standard_output_has_lines_of_json_and_nothing_else() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let path = file(&bed, "stdout");
    let script = format!("exec \"$0\" \"$@\" > {}", path.display());
    start_from_shell(&mut bed, &script, &["--access-log", "-", "--access-log-format", "json"]);
    let large = content(3, 20 << 20);
    bed.put("large.bin", &large);
    let page = ["curl", "-gsS", "-m", "5", "-A", "a \"b\"", "-e", "http://c/"];
    for path in ["/", "/missing"] {
        bed.client_ok(&[&page[..], &[&bed.url(path)]].concat());
    }
    // Of a download that its client ends, what it has taken is told, about.
    let mut client = Client::connect_small(&bed, 65_536);
    client.ask("GET", "/large.bin");
    client.head();
    let taken = client.body(3 << 20).len() as u64;
    drop(client);
    wait_until("all are there", SOON, || lines(&path).len() == 3);
    let said: Vec<Value> =
        lines(&path).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&said[0]["target"], &said[0]["status"]), (&"/".into(), &200.into()));
    assert_eq!((&said[0]["cache"], &said[0]["body_octets"]), (&"miss".into(), &INDEX.len().into()));
    assert_eq!(
        (&said[0]["user_agent"], &said[0]["referer"]),
        (&"a \"b\"".into(), &"http://c/".into())
    );
    assert_eq!((&said[1]["target"], &said[1]["status"]), (&"/missing".into(), &404.into()));
    let octets = said[2]["body_octets"].as_u64().unwrap();
    assert!((taken..taken + (2 << 20)).contains(&octets), "{octets} octets, and {taken} were read");
    assert!(said[2]["duration_us"].as_u64().unwrap() > 0);
    // A signal that is for a file does no harm.
    bed.signal(Signal::USR1);
    bed.assert_serves();
    bed.stop();
    assert_eq!(lines(&path).len(), 4, "the last lines are written at the end");
    bed.finish();
}

#[test]
fn a_disk_that_is_full_costs_lines_and_no_answer() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.start(&["--access-log", "/dev/full"]);
    for _ in 0..3 {
        bed.assert_serves();
    }
    wait_until("the lines are counted", SOON, || counted(&bed, "failed") == 3);
    let log = bed.appliance().log();
    assert_eq!(log.matches("the access log loses lines").count(), 1, "{log}");
    bed.finish();
}

#[test]
fn a_reader_that_reads_nothing_costs_lines_and_delays_no_answer() {
    /// More than the log holds for each worker, in lines of twelve thousand octets.
    const REQUESTS: u64 = 1200;
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let (path, mut reader) = fifo(&bed, "fifo");
    bed.start(&["--access-log", path.to_str().unwrap()]);
    let request = long_request();
    let mut client = Client::connect(&bed);
    for _ in 0..REQUESTS {
        client.send(request.as_bytes());
        assert_eq!(client.answer().status, 200);
    }
    assert!(counted(&bed, "dropped") > 0);
    bed.appliance().wait_for_line("the access log loses lines", SOON).unwrap();
    assert_eq!(bed.appliance().log().matches("the access log loses lines").count(), 1);
    // Somebody reads: what was kept is there, in whole lines, and so is what comes then.
    std::thread::scope(|scope| {
        let lines = scope.spawn(|| {
            let mut lines = 0;
            for line in BufReader::new(&mut reader).split(b'\n') {
                let line = line.unwrap();
                assert!(line.starts_with(b"192.168.123.1") && line.ends_with(b"\""));
                if line.windows(6).any(|octets| octets == b"/?last") {
                    break;
                }
                lines += 1;
            }
            lines
        });
        wait_until("what was kept is written", SOON, || {
            counted(&bed, "written") + counted(&bed, "dropped") == REQUESTS
        });
        assert_eq!(client.get("/?last").status, 200);
        assert_eq!(lines.join().unwrap(), REQUESTS - counted(&bed, "dropped"));
    });
    // The end does not wait for a reader either.
    for _ in 0..50 {
        client.send(request.as_bytes());
        assert_eq!(client.answer().status, 200);
    }
    bed.finish();
}

#[test]
fn a_line_says_which_vlan_and_which_site() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let path = file(&bed, "access.log");
    let text = format!(
        "[serve]\naccess-log = \"{}\"\naccess-log-format = \"json\"\n\n[[site]]\nwww-root = \
         \"{www}\"\n\n[[site]]\nhosts = [\"other.example\"]\nwww-root = \"{www}\"\n",
        path.display(),
        www = bed.www().display()
    );
    let config = bed.configure(&text.replace("\"json\"", "\"xml\""));
    let checked = bed.command(&["check", &config]).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.contains("line 3: ") && said.contains("use combined or json"), "{said}");
    bed.configure(&text);
    bed.start(&["--config", &config]);
    let mut client = Client::connect(&bed);
    for host in ["other.example", "x"] {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(client.answer().status, 200);
    }
    wait_until("both are there", SOON, || lines(&path).len() == 2);
    let said: Vec<Value> =
        lines(&path).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said[0]["site"], "other.example");
    assert_eq!(said[1]["site"], bed.www().to_str().unwrap());
    assert_eq!((&said[0]["vlan"], &said[1]["vlan"]), (&"123".into(), &"123".into()));
    bed.finish();
}

#[test]
fn without_one_the_signal_is_no_end() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.start(&[]);
    bed.signal(Signal::USR1);
    bed.appliance().wait_for_line("there is no access log", SOON).unwrap();
    bed.assert_serves();
    assert!(bed.status()["access_log"].is_null());
    bed.finish();
}

#[test]
fn standard_output_that_nobody_reads_delays_neither_answers_nor_the_end() {
    const REQUESTS: u64 = 50;
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let (path, reader) = fifo(&bed, "stdout");
    // It blocks who writes, unlike what the appliance opens itself.
    let script = format!("exec \"$0\" \"$@\" > {}", path.display());
    start_from_shell(&mut bed, &script, &["--access-log", "-"]);
    let mut client = Client::connect(&bed);
    for _ in 0..REQUESTS {
        client.send(long_request().as_bytes());
        assert_eq!(client.answer().status, 200);
    }
    assert!(counted(&bed, "written") < REQUESTS, "the pipe is full");
    bed.finish();
    drop(reader);
}

#[test]
fn a_file_that_may_not_grow_costs_lines_and_those_that_follow_are_whole() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let path = file(&bed, "access.log");
    // As a disk does that is full in the middle of a line, and with a signal (setrlimit(2)).
    let script = "ulimit -f 8; exec \"$0\" \"$@\"";
    start_from_shell(&mut bed, script, &["--access-log", path.to_str().unwrap()]);
    let mut client = Client::connect(&bed);
    let mut requests = 0;
    wait_until("the file is full", SOON, || {
        for _ in 0..20 {
            assert_eq!(client.get("/?before").status, 200);
            requests += 1;
        }
        counted(&bed, "failed") > 0
    });
    let settled = |requests| counted(&bed, "written") + counted(&bed, "failed") == requests;
    wait_until("each line is written or lost", SOON, || settled(requests));
    let log = bed.appliance().log();
    assert!(log.contains("the access log loses lines") && log.contains("File too large"), "{log}");
    let whole = |line: &String| line.starts_with("192.168.123.1 - - [") && line.ends_with('"');
    let full = lines(&path);
    let (torn, before) = full.split_last().unwrap();
    assert!(before.iter().all(whole), "{before:?}");
    assert_eq!(before.len() as u64 + u64::from(whole(torn)), counted(&bed, "written"));
    // There is room again.
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(client.get("/?after").status, 200);
    wait_until("it is written on", SOON, || lines(&path).iter().any(|it| it.contains("/?after")));
    let after = lines(&path);
    assert!(after.iter().filter(|line| !line.is_empty()).all(whole), "{after:?}");
    bed.finish();
}

#[test]
fn what_cannot_be_written_is_said_by_check_and_at_the_start() {
    let Some(bed) = Bed::down(Lab::builder()) else { return };
    let (directory, foreign) = (file(&bed, "directory"), file(&bed, "foreign"));
    fs::create_dir(&directory).unwrap();
    fs::write(&foreign, "").unwrap();
    let configure = |path: &Path| {
        bed.configure(&format!("[serve]\nport = 80\naccess-log = \"{}\"\n", path.display()))
    };
    for (path, why) in [
        (&directory, "Is a directory"),
        (&foreign, "Permission denied"),
        (&bed.www().join("new"), "Permission denied"),
        (&file(&bed, "none/access.log"), "No such file or directory"),
    ] {
        let line = format!("the access log {} cannot be written: {why}", path.display());
        let config = configure(path);
        let checked = bed.command(&["check", &config]).output().unwrap();
        assert_eq!(checked.status.code(), Some(2));
        assert!(said(&checked).contains(&format!("line 3: {line}")), "{}", said(&checked));
        let more = ["serve", "--interface", "macvlan0", "--vlan", "123", "--address"];
        let command = bed.command(&more).args(["192.168.123.150/24", "--config", &config]);
        let started = command.arg("--www-root").arg(bed.www()).output().unwrap();
        assert_eq!(started.status.code(), Some(1), "{}", said(&started));
        let last = said(&started).lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with(&format!("tagwire: error: {line}")), "{}", said(&started));
    }
    let path = file(&bed, "access.log");
    let checked = bed.command(&["check", &configure(&path)]).stdout_string().unwrap();
    assert!(checked.contains("fine: 2 options") && !path.exists(), "{checked}");
    bed.finish();
}

#[test]
fn a_file_that_was_removed_is_made_anew_and_a_reload_moves_nothing() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let (path, other) = (file(&bed, "access.log"), file(&bed, "other.log"));
    let text = |path: &Path| format!("[serve]\naccess-log = \"{}\"\n", path.display());
    let config = bed.configure(&text(&path));
    bed.start(&["--config", &config]);
    let mut client = Client::connect(&bed);
    let has = |request: &str| lines(&path).iter().any(|line| line.contains(request));
    assert_eq!(client.get("/?first").status, 200);
    wait_until("there is a line", SOON, || has("/?first"));
    fs::remove_file(&path).unwrap();
    assert_eq!(client.get("/?nowhere").status, 200);
    wait_until("its line is written", SOON, || counted(&bed, "written") == 2);
    assert!(!path.exists());
    bed.signal(Signal::USR1);
    wait_until("there is a new file", SOON, || path.exists());
    assert_eq!(client.get("/?anew").status, 200);
    wait_until("it is written", SOON, || has("/?anew"));
    // Sites and limits are read again, and this is neither.
    bed.configure(&text(&other));
    bed.signal(Signal::HUP);
    bed.appliance().wait_for_line("the rest takes a restart", SOON).unwrap();
    bed.appliance().wait_for_line("reloaded", SOON).unwrap();
    assert_eq!(client.get("/?reloaded").status, 200);
    wait_until("it is written where it was", SOON, || has("/?reloaded"));
    assert!(!other.exists());
    assert_eq!((counted(&bed, "failed"), counted(&bed, "dropped")), (0, 0));
    bed.finish();
}

#[test]
fn nothing_that_a_client_sends_looks_like_another_line() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let path = file(&bed, "access.log");
    bed.start(&["--access-log", path.to_str().unwrap()]);
    let requests: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: x\" 200 5 \"-\" \"forged\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nReferer: \\\x80\xff\xc3\xa4\tb\r\n\r\n",
        b"GET /?a\"b\\c HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x1b[2J\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a\r10.0.0.1 - - [forged] \"\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\n 10.0.0.1 - - [forged]\r\n\r\n",
    ];
    for request in requests {
        let mut client = Client::connect(&bed);
        client.send(request);
        client.answer();
    }
    wait_until("all are there", SOON, || lines(&path).len() >= requests.len());
    assert_eq!(counted(&bed, "written"), requests.len() as u64);
    let lines = lines(&path);
    assert_eq!(lines.len(), requests.len());
    for line in &lines {
        assert!(line.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{line:?}");
        assert!(line.starts_with("192.168.123.1 - - ["), "{line:?}");
        assert_eq!(line.matches('"').count(), 6, "{line:?}");
    }
    assert!(lines[0].ends_with(r#" "-" "x\x22 200 5 \x22-\x22 \x22forged""#), "{}", lines[0]);
    assert!(lines[1].ends_with(r#" "\x5C\x80\xFF\xC3\xA4\x09b" "-""#), "{}", lines[1]);
    bed.finish();
}
