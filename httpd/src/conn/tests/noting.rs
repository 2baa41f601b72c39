//! What the access log is told.

use std::path::PathBuf;

use tagwire_core::driver::DriverKind;

use super::*;
use crate::access_log::{AccessLog, AccessLogConfig, Format, Target as LogTarget};
use crate::sandbox::Sandbox;

/// A bench whose requests are logged, and what they are logged by.
struct Logged {
    bench: Bench,
    access_log: AccessLog,
    dir: TempDir,
}

impl Logged {
    fn new(format: Format) -> Self {
        let dir = TempDir::new().unwrap();
        let target = LogTarget::File(Self::path(&dir));
        let opened = AccessLog::open(&AccessLogConfig { target, format }).unwrap().unwrap();
        let access_log = opened.start(1, Sandbox::none(DriverKind::Poll)).unwrap();
        let mut bench = Bench::with(1 << 26, |root| SiteSettings {
            hosts: vec!["x".to_owned()],
            ..SiteSettings::new(root.to_owned())
        });
        Rc::get_mut(&mut bench.content).unwrap().log_to(access_log.log(0));
        Self { bench, access_log, dir }
    }

    fn path(dir: &TempDir) -> PathBuf {
        dir.path().join("log")
    }

    /// All lines.
    fn lines(self) -> Vec<String> {
        while !self.bench.content.log().unwrap().hand_over() {
            std::thread::yield_now();
        }
        drop(self.access_log);
        let text = fs::read_to_string(Self::path(&self.dir)).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn each_answer_is_a_line_with_its_status_and_the_octets_of_its_body() {
    let logged = Logged::new(Format::Combined);
    let bench = &logged.bench;
    bench.file("a", "hello");
    bench.file("b", vec![b'x'; 50_000]);
    bench.file("c", vec![b'x'; 100_000]);
    bench.file("big", vec![b'x'; 3 * CHUNK]);
    bench.exchange(get("/none"));
    let get = |path: &str, lines: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let requests = [
        get("/a?q=1", "Referer: http://y/\"\r\nUser-Agent: me\r\n"),
        get("/a", "").replace("GET", "HEAD"),
        get("/a", "If-None-Match: *\r\n"),
        get("/a", "Range: bytes=1-2\r\n"),
        get("/b", ""),
        get("/c", ""),
        get("/big", ""),
        get("/big", "Range: bytes=0-9,100-109\r\n"),
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        get("/a", "Expect: 100-continue\r\nContent-Length: 3\r\n"),
        "abc".to_owned(),
        "GET /a  HTTP/1.1\r\n\r\n".to_owned(),
    ];
    let answer = bench.exchange(requests.concat());
    let last = bench.connect();
    last.write("GET /half");
    bench.run(async {
        last.resting().await;
        last.expire();
        last.ended().await;
    });
    let multipart = String::from_utf8_lossy(&answer);
    let multipart = multipart.split("multipart/byteranges").nth(1).unwrap();
    let multipart = field(multipart, "Content-Length").unwrap().to_owned();
    let lines = logged.lines();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            let mut parts = line.splitn(2, "] ");
            assert!(parts.next().unwrap().starts_with("127.0.0.1 - - ["), "{line}");
            parts.next().unwrap()
        })
        .collect();
    assert_eq!(
        seen,
        [
            &*format!("\"GET /none HTTP/1.1\" 404 {} \"-\" \"-\"", refusal("404 Not Found")),
            "\"GET /a?q=1 HTTP/1.1\" 200 5 \"http://y/\\x22\" \"me\"",
            "\"HEAD /a HTTP/1.1\" 200 0 \"-\" \"-\"",
            "\"GET /a HTTP/1.1\" 304 0 \"-\" \"-\"",
            "\"GET /a HTTP/1.1\" 206 2 \"-\" \"-\"",
            "\"GET /b HTTP/1.1\" 200 50000 \"-\" \"-\"",
            "\"GET /c HTTP/1.1\" 200 100000 \"-\" \"-\"",
            "\"GET /big HTTP/1.1\" 200 3145728 \"-\" \"-\"",
            &*format!("\"GET /big HTTP/1.1\" 206 {multipart} \"-\" \"-\""),
            "\"OPTIONS * HTTP/1.1\" 204 0 \"-\" \"-\"",
            "\"GET /a HTTP/1.1\" 200 5 \"-\" \"-\"",
            &*format!("\"GET /a  HTTP/1.1\" 400 {} \"-\" \"-\"", refusal("400 Bad Request")),
            &*format!("\"GET /half\" 408 {} \"-\" \"-\"", refusal("408 Request Timeout")),
        ]
    );
}

/// Octets of the small page for a status.
fn refusal(status: &str) -> usize {
    let page = "<!doctype html>\n<html lang=\"en\"><head><title></title></head>\n<body><h1></h1></body></html>\n";
    page.len() + 2 * status.len()
}

#[test]
fn of_an_answer_that_was_cut_off_what_has_arrived_counts() {
    let logged = Logged::new(Format::Combined);
    let bench = &logged.bench;
    bench.file("c", vec![b'x'; 100_000]);
    bench.file("big", vec![b'x'; 8 * CHUNK]);
    for (path, taken) in
        [("/c", 0), ("/c", 40_000), ("/big", 3 * CHUNK + 1), ("/big", 8 * CHUNK - 1)]
    {
        let client = bench.connect();
        client.take_only(0);
        client.write(get(path));
        bench.run(async {
            client.resting().await;
            // The head comes first.
            let head =
                client.peek().windows(4).position(|octets| octets == b"\r\n\r\n").unwrap() + 4;
            client.take_only(if taken == 0 { 10 } else { head + taken });
            client.resting().await;
            client.reset();
            client.dropped().await;
        });
    }
    // Nobody has cut this one off: it is slow.
    let client = bench.connect();
    client.take_only(1000);
    client.write(get("/c"));
    bench.run(async {
        client.resting().await;
        client.expire();
        client.dropped().await;
    });
    let lines = logged.lines();
    let octets: Vec<u64> =
        lines.iter().map(|line| line.split(' ').nth(9).unwrap().parse().unwrap()).collect();
    assert_eq!(octets[..4], [0, 40_000, 3 * CHUNK as u64 + 1, 8 * CHUNK as u64 - 1]);
    assert!((1..1000).contains(&octets[4]), "{}", lines[4]);
}

#[test]
fn json_tells_the_rest() {
    let logged = Logged::new(Format::Json);
    let bench = &logged.bench;
    bench.file("a", "hello");
    bench.exchange(get("/a").repeat(2));
    bench.exchange("POST /a HTTP/1.0\r\n\r\n");
    bench.exchange("nonsense\r\n\r\n");
    let turned_away = bench.connect_turned_away(Status::TooManyRequests);
    turned_away.write("GET /a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n");
    turned_away.half_close();
    bench.run(async { turned_away.ended().await });
    let lines = logged.lines();
    let said: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pick = |names: &[&str]| -> Vec<String> {
        let one = |line: &Value| {
            names.iter().map(|name| line[*name].to_string()).collect::<Vec<_>>().join(" ")
        };
        said.iter().map(one).collect()
    };
    assert_eq!(
        pick(&["method", "target", "protocol", "line"]),
        [
            "\"GET\" \"/a\" \"HTTP/1.1\" null",
            "\"GET\" \"/a\" \"HTTP/1.1\" null",
            "\"POST\" \"/a\" \"HTTP/1.0\" null",
            "null null null \"nonsense\"",
            "\"GET\" \"/a\" \"HTTP/1.1\" null",
        ]
    );
    assert_eq!(
        pick(&["status", "cache", "request", "host", "site", "x_forwarded_for"]),
        [
            "200 \"miss\" 1 \"x\" \"x\" null",
            "200 \"hit\" 2 \"x\" \"x\" null",
            "405 null 1 null \"x\" null",
            "400 null 1 null null null",
            "429 null 1 \"x\" \"x\" \"10.0.0.1\"",
        ]
    );
    for line in &said {
        assert_eq!(
            (&line["remote_addr"], &line["remote_port"]),
            (&"127.0.0.1".into(), &40_000.into())
        );
        assert!(line["duration_us"].is_u64() && line["time"].as_str().unwrap().ends_with('Z'));
    }
}

#[test]
fn what_is_refused_for_its_size_is_a_line_with_its_target() {
    let logged = Logged::new(Format::Json);
    let bench = &logged.bench;
    bench.content.set_limits(Limits {
        max_head: 1000,
        max_fields: 4,
        max_target: 50,
        ..Limits::DEFAULT
    });
    for request in [
        get(&format!("/{}", "a".repeat(50))),
        "GET /fields HTTP/1.1\r\nHost: x\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n".to_owned(),
        format!("GET /head HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "b".repeat(1000)),
        "GET /body HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n".to_owned(),
        "a".repeat(2000),
    ] {
        bench.exchange(request);
    }
    let seen: Vec<_> = logged
        .lines()
        .iter()
        .map(|line| {
            let said: Value = serde_json::from_str(line).unwrap();
            let target = said["target"].as_str().map_or(0, str::len);
            (said["status"].as_u64().unwrap(), target, said["line"].as_str().map_or(0, str::len))
        })
        .collect();
    assert_eq!(seen, [(414, 51, 0), (431, 7, 0), (431, 5, 0), (413, 5, 0), (414, 0, 2000)]);
}

#[test]
fn of_an_answer_to_a_client_that_has_gone_nothing_counts() {
    let logged = Logged::new(Format::Combined);
    let bench = &logged.bench;
    bench.file("a", "hello");
    bench.file("big", vec![b'x'; 2 * CHUNK]);
    // It goes while its file is loaded.
    for path in ["/a", "/big", "/none"] {
        let client = bench.connect();
        client.write(get(path));
        client.reset();
        bench.run(client.dropped());
    }
    // It goes before it has sent what it was told to send.
    let client = bench.connect();
    client.write("GET /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    bench.run(async {
        assert!(client.receive(1).await.starts_with(b"HTTP/1.1 100 "));
        client.reset();
        client.dropped().await;
    });
    let lines = logged.lines();
    let words = |line: &String| line.split(' ').skip(6).take(4).collect::<Vec<_>>().join(" ");
    assert_eq!(
        lines.iter().map(words).collect::<Vec<_>>(),
        [
            "/a HTTP/1.1\" 200 0",
            "/big HTTP/1.1\" 200 0",
            "/none HTTP/1.1\" 404 0",
            "/a HTTP/1.1\" 200 0",
        ]
    );
}
