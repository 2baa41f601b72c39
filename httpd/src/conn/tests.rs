use std::cell::Cell;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use async_executor::LocalExecutor;
use futures_channel::oneshot;
use futures_lite::future::block_on;
use serde_json::Value;
use tagwire_core::driver::DriverKind;
use tempfile::TempDir;

use super::*;
use crate::cache::Cache;
use crate::cold::{self, Appliance, ColdConfig, ColdSide};
use crate::content::Content;
use crate::interfaces::Interfaces;
use crate::limits::{BODY_TIMEOUT, CHUNK, LINGER_TIMEOUT, REVALIDATE_AFTER, STALE_AT_MOST};
use crate::sandbox::Sandbox;
use crate::site::{SiteSettings, Sites};
use crate::transport::memory::{Client, Memory, pair, pair_from};

mod bodies;
mod builtin;
mod downloads;
mod encodings;
mod limits;
mod listings;
mod noting;
mod pieces;
mod ranges;
mod sites;

struct NoAppliance;

impl Appliance for NoAppliance {
    fn status(&self, _: oneshot::Sender<Value>) {}
    fn reload(&self, _: oneshot::Sender<Result<usize, String>>) {}
    fn lame_duck(&self, _: bool) -> Result<(), &'static str> {
        Ok(())
    }
    fn is_lame_duck(&self) -> bool {
        false
    }
    fn sites(&self) -> Arc<Sites> {
        unreachable!("nobody asks for them")
    }
    fn beat(&self) {}
}

/// A site on a directory of its own, a worker's executor, and a clock that tests move.
struct Bench {
    root: TempDir,
    cache: Arc<Cache>,
    content: Rc<Content>,
    started: Instant,
    executor: Rc<LocalExecutor<'static>>,
    served: Rc<Cell<usize>>,
    _cold: ColdSide,
}

impl Bench {
    fn new(cache_size: u64) -> Self {
        Self::with(cache_size, |root| SiteSettings::new(root.to_owned()))
    }

    fn with(cache_size: u64, settings: impl FnOnce(&Path) -> SiteSettings) -> Self {
        Self::with_cache(Cache::new(cache_size), settings)
    }

    fn with_cache(cache: Cache, settings: impl FnOnce(&Path) -> SiteSettings) -> Self {
        let root = TempDir::new().unwrap();
        let cache = Arc::new(cache);
        let sites = Arc::new(Sites::open(&[settings(root.path())], None).unwrap());
        let (handle, orders) = cold::orders();
        let cold = ColdSide::start(ColdConfig {
            orders,
            watch: false,
            control: None,
            admin: None,
            health: cold::supervisor::none(),
            appliance: Arc::new(NoAppliance),
            cache: Arc::clone(&cache),
            sandbox: Sandbox::none(DriverKind::Uring),
            driver: DriverKind::default(),
            // As long as a busy machine takes, so that each answer is of what is there.
            patience: Duration::from_secs(60),
        })
        .unwrap();
        // The executor is driven by block_on, which every answer wakes by itself.
        let content = Content::new(sites, Arc::clone(&cache), handle, Arc::new(|| {}));
        let interfaces = Interfaces::new("eth0", &["123".parse().unwrap()], 1);
        let content = Rc::new(content.with_interfaces(Arc::new(interfaces)));
        let started = Instant::now();
        let executor = Rc::new(LocalExecutor::new());
        let bench =
            Self { root, cache, content, started, executor, served: Rc::default(), _cold: cold };
        bench.at(Duration::ZERO);
        bench
    }

    fn at(&self, passed: Duration) {
        self.content.tick(self.started + passed, UNIX_EPOCH + Duration::from_secs(784_111_777));
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn connect(&self) -> Client {
        let (server, client) = pair();
        let (content, served) = (Rc::clone(&self.content), Rc::clone(&self.served));
        self.executor
            .spawn(async move {
                serve(server, content).await;
                served.set(served.get() + 1);
            })
            .detach();
        client
    }

    fn run<R>(&self, test: impl Future<Output = R>) -> R {
        block_on(self.executor.run(test))
    }

    /// Sends `requests` in one piece, closes our side, and returns all that comes back.
    fn exchange(&self, requests: impl AsRef<[u8]>) -> Vec<u8> {
        let client = self.connect();
        client.write(requests);
        client.half_close();
        self.run(async {
            assert!(client.ended().await, "an orderly end");
            client.received()
        })
    }

    fn text(&self, requests: impl AsRef<[u8]>) -> String {
        String::from_utf8(self.exchange(requests)).unwrap()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn status_line(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

/// The answers in `text`, each as its head and body, by Content-Length.
fn split_answers(mut text: &str) -> Vec<(&str, &str)> {
    let mut answers = Vec::new();
    while !text.is_empty() {
        let (head, rest) = text.split_once("\r\n\r\n").unwrap();
        let len = field(head, "Content-Length").map_or(0, |len| len.parse().unwrap());
        let (body, rest) = rest.split_at(len);
        answers.push((head, body));
        text = rest;
    }
    answers
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// A GET with more lines, answered as its head and its body.
fn ask(bench: &Bench, path: &str, lines: &str) -> (String, Vec<u8>) {
    let answer = bench.exchange(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"));
    let end = answer.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(answer[..end - 4].to_vec()).unwrap();
    assert_eq!(field(&head, "Content-Length"), Some(&*(answer.len() - end).to_string()), "{head}");
    (head, answer[end..].to_vec())
}

#[test]
fn a_file_is_served_with_its_fields() {
    let bench = Bench::new(1 << 26);
    bench.file("a.txt", "hello");
    for _ in 0..2 {
        let answer = bench.text(get("/a.txt"));
        let [(head, body)] = split_answers(&answer)[..] else { panic!("{answer}") };
        assert_eq!(status_line(head), "HTTP/1.1 200 OK");
        assert_eq!(field(head, "Date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(field(head, "Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(field(head, "Server"), Some("tagwire"));
        assert_eq!(field(head, "Connection"), None);
        assert!(field(head, "ETag").unwrap().starts_with('"'));
        assert!(field(head, "Last-Modified").is_some());
        assert_eq!(body, "hello");
    }
    bench.at(Duration::ZERO);
    let stats = bench.cache.stats();
    assert_eq!((stats.loads, stats.hits, stats.misses), (1, 1, 1));
}

#[test]
fn paths_and_their_statuses() {
    let bench = Bench::new(1 << 26);
    bench.file("index.html", "root");
    bench.file("dir/index.html", "inside");
    bench.file("bare/file", "x");
    bench.file("a b/index.html", "x");
    bench.file("empty", "");
    for (path, status) in [
        ("/", "200 OK"),
        ("/dir/", "200 OK"),
        ("/empty", "200 OK"),
        ("/dir/./x/../index.html", "200 OK"),
        ("http://other/dir/", "200 OK"),
        ("/dir", "301 Moved Permanently"),
        ("/bare/", "403 Forbidden"),
        ("/none", "404 Not Found"),
        ("/index.html/", "404 Not Found"),
        ("/index.html/x", "404 Not Found"),
        ("/../etc/passwd", "400 Bad Request"),
        ("/%00", "400 Bad Request"),
        ("*", "400 Bad Request"),
    ] {
        for _ in 0..2 {
            let answer = bench.text(get(path));
            assert_eq!(status_line(&answer), format!("HTTP/1.1 {status}"), "{path}");
        }
    }
    assert_eq!(field(&bench.text(get("/a%20b?c=d")), "Location"), Some("/a%20b/?c=d"));
}

#[test]
fn methods_and_their_statuses() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    let answer = bench.text("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    let answers = split_answers(&answer);
    assert_eq!(status_line(answers[0].0), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(field(answers[0].0, "Allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(answers[1].1, "hello", "the connection goes on behind the body");
    assert!(bench.text("BREW /a HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 501 "));
    assert!(bench.text("GET /a HTTP/3.0\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 505 "));
    let answer = bench.text("GET /a HTTP/1.2\r\nHost: x\r\n\r\n".repeat(2));
    let answers = split_answers(&answer);
    assert_eq!(answers.iter().map(|(_, body)| *body).collect::<Vec<_>>(), ["hello"; 2]);
}

#[test]
fn what_can_become_no_request_is_not_waited_for() {
    let bench = Bench::new(1 << 26);
    // The beginning of a TLS hello.
    let client = bench.connect();
    client.write(b"\x16\x03\x01");
    let answer = bench.run(client.receive(1));
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());
}

#[test]
fn head_is_get_without_the_body() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    bench.file("big", vec![0; 3 * CHUNK]);
    for path in ["/a", "/big", "/none", "/%zz", "/.."] {
        let whole = bench.exchange(get(path));
        let head = bench.exchange(get(path).replace("GET", "HEAD"));
        let end = whole.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(head, whole[..end], "{path}");
    }
    // A big file's HEAD reads none of it.
    bench.file("big2", vec![0; 3 * CHUNK]);
    let before = bench.cache.stats().loads;
    bench.exchange(get("/big2").replace("GET", "HEAD"));
    assert_eq!(bench.cache.stats().loads, before + 1);
}

#[test]
fn conditions_lead_to_304() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    let answer = bench.text(get("/a"));
    let (etag, modified) =
        (field(&answer, "ETag").unwrap(), field(&answer, "Last-Modified").unwrap());
    for condition in [format!("If-None-Match: {etag}"), format!("If-Modified-Since: {modified}")] {
        let request = format!("GET /a HTTP/1.1\r\nHost: x\r\n{condition}\r\n\r\n");
        let both = bench.text(format!("{request}{}", get("/a")));
        let (head, rest) = both.split_once("\r\n\r\n").unwrap();
        assert_eq!(status_line(head), "HTTP/1.1 304 Not Modified");
        assert_eq!(field(head, "ETag"), Some(etag));
        assert!(rest.starts_with("HTTP/1.1 200 OK"), "no body between them");
    }
}

#[test]
fn a_thousand_pipelined_requests_in_one_segment() {
    let bench = Bench::new(1 << 26);
    for n in 0..10 {
        bench.file(&format!("{n}"), n.to_string().repeat(2000));
    }
    let client = bench.connect();
    client.take_only(0);
    client.write((0..1000).map(|n| get(&format!("/{}", n % 10))).collect::<String>());
    client.half_close();
    let text = bench.run(async {
        client.resting().await;
        client.take_all();
        assert!(client.ended().await);
        String::from_utf8(client.received()).unwrap()
    });
    assert!(client.most_queued() <= PIPELINE_QUEUE + 4096, "{}", client.most_queued());
    let answers = split_answers(&text);
    assert_eq!(answers.len(), 1000);
    for (n, (_, body)) in answers.iter().enumerate() {
        assert_eq!(*body, (n % 10).to_string().repeat(2000));
    }
}

#[test]
fn requests_split_anywhere_are_answered_alike() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    let requests = format!(
        "{}GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody\r\n{}HEAD /n HTTP/1.0\r\n\r\n",
        get("/a"),
        get("/none")
    );
    let whole = bench.text(&requests);
    assert_eq!(whole.matches("HTTP/1.1 200").count(), 2);
    assert_eq!(whole.matches("HTTP/1.1 404").count(), 2);
    for at in 1..requests.len() {
        let client = bench.connect();
        client.write(&requests[..at]);
        client.write(&requests[at..]);
        let answer = bench.run(async {
            client.ended().await;
            client.received()
        });
        assert_eq!(String::from_utf8(answer).unwrap(), whole, "split at {at}");
    }
    let client = bench.connect();
    requests.bytes().for_each(|octet| client.write([octet]));
    let answer = bench.run(async {
        client.ended().await;
        client.received()
    });
    assert_eq!(String::from_utf8(answer).unwrap(), whole, "octet by octet");
}

#[test]
fn connections_are_kept_as_agreed() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    for (request, connection) in [
        ("GET /a HTTP/1.1\r\nHost: x\r\n\r\n", None),
        ("GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", Some("close")),
        ("GET /a HTTP/1.0\r\n\r\n", Some("close")),
        ("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive")),
    ] {
        let client = bench.connect();
        client.write(request);
        client.write(get("/a"));
        let text = bench.run(async {
            if connection == Some("close") {
                client.ended().await;
            } else {
                client.resting().await;
            }
            String::from_utf8(client.received()).unwrap()
        });
        assert_eq!(field(text.split("\r\n\r\n").next().unwrap(), "Connection"), connection);
        let answers = if connection == Some("close") { 1 } else { 2 };
        assert_eq!(split_answers(&text).len(), answers, "{request}");
    }
}

#[test]
fn broken_requests_are_answered_and_lingered_for() {
    let bench = Bench::new(1 << 26);
    let endless =
        format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(Limits::DEFAULT.max_head));
    for (request, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "413"),
        (&endless, "431"),
    ] {
        let client = bench.connect();
        client.write(request);
        bench.run(async {
            assert!(client.ended().await);
            let text = String::from_utf8(client.received()).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {text}");
            assert_eq!(field(&text, "Connection"), Some("close"));
            assert_eq!(split_answers(&text).len(), 1);
            // More is taken, not answered, until the client is through.
            client.write("more\r\n\r\n");
            client.resting().await;
            assert_eq!(client.expire(), LINGER_TIMEOUT);
            client.dropped().await;
            assert!(client.received().is_empty());
        });
    }
}

#[test]
fn time_runs_out() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    let client = bench.connect();
    client.write(get("/a"));
    bench.run(async {
        client.receive(1).await;
        client.resting().await;
        assert_eq!(client.expire(), Limits::DEFAULT.idle_timeout);
        assert!(client.ended().await);
        assert!(client.received().is_empty(), "an idle connection ends without a word");
    });
    let client = bench.connect();
    client.write("GET /a HT");
    bench.run(async {
        client.resting().await;
        assert_eq!(client.expire(), Limits::DEFAULT.head_timeout);
        assert!(client.ended().await);
        assert!(client.received().starts_with(b"HTTP/1.1 408 "));
    });
    let client = bench.connect();
    client.write("GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n");
    bench.run(async {
        client.receive(1).await;
        client.resting().await;
        assert_eq!(client.expire(), BODY_TIMEOUT);
        assert!(client.ended().await);
    });
}

#[test]
fn empty_lines_do_not_stretch_the_time_for_a_head() {
    let bench = Bench::new(1 << 26);
    let client = bench.connect();
    client.write("\r");
    client.write("\n");
    client.write("GET /a HT");
    bench.run(async {
        client.resting().await;
        assert_eq!(client.expire(), Limits::DEFAULT.head_timeout);
        assert!(client.ended().await);
    });
}

#[test]
fn the_last_answer_is_seen_through() {
    let bench = Bench::new(1 << 26);
    bench.file("a", vec![b'x'; 100_000]);
    let last = "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned();
    for (request, half_close) in [(last, false), (get("/a"), true)] {
        // A client that takes it slowly gets all of it.
        let client = bench.connect();
        client.take_only(0);
        client.write(&request);
        let close = || half_close.then(|| client.half_close());
        close();
        bench.run(async {
            client.ended().await;
            client.resting().await;
            if !half_close {
                assert_eq!(client.expire(), LINGER_TIMEOUT);
                client.resting().await;
            }
            for _ in 0..3 {
                client.take_only(Limits::DEFAULT.least_progress());
                assert_eq!(client.expire(), Limits::DEFAULT.send_timeout);
                client.resting().await;
            }
            client.take_all();
            client.dropped().await;
            assert!(client.ended().await, "orderly");
            assert!(client.received().ends_with(&vec![b'x'; 100_000]));
        });
        // One that takes nothing does not hold it for ever.
        let client = bench.connect();
        client.take_only(0);
        client.write(&request);
        let close = || half_close.then(|| client.half_close());
        close();
        bench.run(async {
            client.ended().await;
            client.resting().await;
            while client.expire() != Limits::DEFAULT.send_timeout {
                client.resting().await;
            }
            client.dropped().await;
            assert!(!client.ended().await, "aborted");
        });
    }
}

#[test]
fn a_shutdown_waits_for_the_last_answer() {
    let bench = Bench::new(1 << 26);
    bench.file("a", vec![b'x'; 100_000]);
    let client = bench.connect();
    client.take_only(0);
    client.drain();
    client.write(get("/a"));
    bench.run(async {
        assert!(client.ended().await);
        // Further requests that were on their way must not turn into a reset before it.
        client.resting().await;
        client.take_all();
        client.dropped().await;
        assert!(client.ended().await);
        assert!(client.received().ends_with(b"x"));
    });
}

#[test]
fn the_process_shuts_down() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    let (resting, asking) = (bench.connect(), bench.connect());
    bench.run(async {
        resting.resting().await;
        resting.drain();
        assert!(resting.ended().await);
        asking.drain();
        asking.write(get("/a"));
        assert!(asking.ended().await);
        let text = String::from_utf8(asking.received()).unwrap();
        assert_eq!(field(&text, "Connection"), Some("close"));
        assert!(text.ends_with("hello"));
    });
}

#[test]
fn a_reset_ends_the_task() {
    let bench = Bench::new(1 << 26);
    let client = bench.connect();
    bench.run(async {
        client.resting().await;
        client.reset();
        client.dropped().await;
    });
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Checks a whole download of `content`, taken at the client's full speed.
fn downloads(bench: &Bench, path: &str, content: &[u8]) {
    let answer = bench.exchange(get(path));
    let end = answer.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap() + 4;
    assert!(answer[end..] == *content, "{path}: all octets, in order");
}

fn rename(root: &Path, from: &str, to: &str) {
    fs::rename(root.join(from), root.join(to)).unwrap();
}

#[test]
fn a_changed_file_is_noticed_within_a_second() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "old");
    downloads(&bench, "/a", b"old");
    bench.file("a", "newer");
    bench.at(REVALIDATE_AFTER);
    downloads(&bench, "/a", b"old");
    // The request that finds the entry due is still answered from it; the load follows.
    bench.at(STALE_AT_MOST);
    downloads(&bench, "/a", b"old");
    let loaded = Instant::now();
    while bench.cache.stats().loads < 2 || !bench.text(get("/a")).ends_with("newer") {
        assert!(loaded.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    // Who comes later waits for the comparison.
    bench.file("a", "newest");
    bench.at(Duration::from_secs(1));
    downloads(&bench, "/a", b"newest");
    assert!(STALE_AT_MOST < Duration::from_secs(1));
}

#[test]
fn what_has_rested_is_compared_before_it_is_served() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "old");
    bench.file("b", "same");
    bench.file("c", "gone");
    for (path, content) in [("/a", "old"), ("/b", "same"), ("/c", "gone")] {
        downloads(&bench, path, content.as_bytes());
    }
    bench.file("a", "newer");
    fs::remove_file(bench.root.path().join("c")).unwrap();
    bench.at(Duration::from_secs(60));
    downloads(&bench, "/a", b"newer");
    downloads(&bench, "/b", b"same");
    assert!(bench.text(get("/c")).starts_with("HTTP/1.1 404 "));
    assert_eq!(bench.cache.stats().loads, 5, "what is the same is not loaded again");
}

#[test]
fn a_file_that_got_its_old_time_back_is_noticed() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "old");
    downloads(&bench, "/a", b"old");
    let path = bench.root.path().join("a");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    // Times are taken from a clock that ticks every few milliseconds.
    std::thread::sleep(Duration::from_millis(20));
    bench.file("a", "new");
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    bench.at(Duration::from_secs(60));
    downloads(&bench, "/a", b"new");
}

#[test]
fn a_connection_is_small() {
    let bench = Bench::new(0);
    let (server, _client) = pair();
    let size = size_of_val(&serve(server, Rc::clone(&bench.content)));
    assert!(size_of::<Memory>() == size_of::<usize>());
    // The transport, the input, the site, where it waits: no copies of them, no room for what is
    // not there while it rests. 100,000 of these have 1.5 KiB each for all that they are.
    assert!(size < 200, "{size} octets for each connection that rests");
}

#[test]
fn options_tell_what_is_allowed() {
    let bench = Bench::new(1 << 26);
    for target in ["*", "/any", "/"] {
        let answer =
            bench.text(format!("OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n{}", get("/none")));
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(status_line(head), "HTTP/1.1 204 No Content");
        assert_eq!(field(head, "Allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(field(head, "Content-Length"), None);
        assert!(rest.starts_with("HTTP/1.1 404 "), "the connection goes on");
    }
}
