//! What peers may take, and what happens to those that take more.

use std::net::Ipv4Addr;

use super::*;
use crate::limits::{GIVE_WAY_AFTER, PIPELINED_REQUESTS, UNFINISHED_HEADS};

impl Bench {
    fn limited(limits: Limits) -> Self {
        let bench = Self::new(1 << 26);
        bench.content.set_limits(limits);
        bench
    }

    /// The counters of what is refused and ended that are not zero.
    fn counted(&self) -> Vec<(&'static str, u64)> {
        let all = self.content.tally.iter();
        all.filter(|(name, count)| *count > 0 && !name.starts_with("answers_")).collect()
    }

    /// A connection from another address.
    fn connect_from(&self, peer: Ipv4Addr) -> Client {
        let (server, client) = pair_from(peer);
        self.executor.spawn(serve(server, Rc::clone(&self.content))).detach();
        client
    }

    /// A connection that is one too many.
    pub(super) fn connect_turned_away(&self, status: Status) -> Client {
        let (server, client) = pair();
        self.executor.spawn(turn_away(server, Rc::clone(&self.content), status)).detach();
        client
    }
}

#[test]
fn each_refusal_ends_the_connection_and_is_counted_by_its_reason() {
    let limits = Limits { max_head: 1000, max_fields: 4, max_target: 50, ..Limits::DEFAULT };
    let field = "A: b\r\n";
    let head = |lines: &str| format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    for (request, status, reason) in [
        (head(&format!("A: {}\r\n", "b".repeat(1000))), "431", "head_too_large"),
        (head(&field.repeat(4)), "431", "too_many_fields"),
        (get(&format!("/{}", "a".repeat(50))), "414", "target_too_long"),
        (head("Content-Length: 70000\r\n"), "413", "body_refused"),
        // NUL and other control octets.
        (head("A: b\0\r\n"), "400", "bad_request"),
        (head("A: b\x01c\r\n"), "400", "bad_request"),
        (get("/a\0b"), "400", "bad_request"),
        ("G\0T / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "400", "bad_request"),
        // Folded lines (RFC 9112 5.2), and those that begin with a space.
        (head("A: b\r\n c: d\r\n"), "400", "bad_request"),
        (head("A: b\r\n\tContent-Length: 3\r\n"), "400", "bad_request"),
        ("GET / HTTP/1.1\r\n Host: x\r\n\r\n".to_owned(), "400", "bad_request"),
        // Lines that end otherwise than in CR and LF.
        (head("A: b\nContent-Length: 3\r\n"), "400", "bad_request"),
        (head("A: b\rContent-Length: 3\r\n"), "400", "bad_request"),
        ("GET / HTTP/1.1\nHost: x\r\n\r\n".to_owned(), "400", "bad_request"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\n".to_owned(), "400", "bad_request"),
        // Two opinions about where the body ends.
        (head("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), "400", "bad_request"),
        (head("Content-Length: 3\r\nContent-Length: 4\r\n"), "400", "bad_request"),
        (head("Transfer-Encoding: identity\r\n"), "501", "bad_request"),
        (head("Transfer-Encoding: chunked, chunked\r\n"), "501", "bad_request"),
        (head("Transfer-Encoding : chunked\r\n"), "400", "bad_request"),
    ] {
        let bench = Bench::limited(limits);
        // What follows is no request, and not answered.
        let answer = bench.text(format!("{request}{}", get("/")));
        let [(head, _)] = split_answers(&answer)[..] else { panic!("{request:?}: {answer}") };
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert_eq!(super::field(head, "Connection"), Some("close"), "{request:?}");
        assert_eq!(bench.counted(), [(reason, 1)], "{request:?}");
    }
}

#[test]
fn nonsense_in_a_chunked_body_ends_the_connection() {
    for body in
        ["3\nabc\r\n0\r\n\r\n", "-3\r\n", "3;\n", "g\r\n", "3\r\nabcd\r\n", "fffffffffffffffff\r\n"]
    {
        let bench = Bench::limited(Limits::DEFAULT);
        let chunked = "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = bench.text(format!("{chunked}{body}{}", get("/")));
        assert_eq!(split_answers(&answer).len(), 1, "{body:?}");
        assert_eq!(bench.counted(), [("body_refused", 1)], "{body:?}");
    }
}

#[test]
fn a_head_that_trickles_in_has_its_time() {
    let limits = Limits { head_timeout: Duration::from_secs(3), ..Limits::DEFAULT };
    let bench = Bench::limited(limits);
    let client = bench.connect();
    bench.run(async {
        for octet in b"GET / HTTP/1.1\r\nA: b\r\nA: b" {
            client.write([*octet]);
            client.resting().await;
        }
        assert_eq!(client.expire(), limits.head_timeout);
        assert!(client.ended().await);
        assert!(client.received().starts_with(b"HTTP/1.1 408 "));
    });
    assert_eq!(bench.counted(), [("head_timeout", 1)]);
}

const HOSTILE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
const LEGITIMATE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[test]
fn heads_without_end_of_one_address_leave_room_for_those_of_others() {
    const HEAD: usize = 60_000;
    let bench = Bench::limited(Limits { max_head: 64 * 1024, ..Limits::DEFAULT });
    bench.file("a", "hello");
    let head = format!("GET /a HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(HEAD - 29));
    // Half of the room is left for others.
    let fit = UNFINISHED_HEADS / 2 / HEAD;
    let clients: Vec<_> = (0..=fit).map(|_| bench.connect_from(HOSTILE)).collect();
    bench.run(async {
        for client in &clients {
            client.write(&head);
            client.resting().await;
        }
        assert!(clients[fit - 1].received().is_empty());
        assert!(clients[fit].received().starts_with(b"HTTP/1.1 503 "));
        // One whose head comes in two pieces meanwhile is served.
        let other = bench.connect_from(LEGITIMATE);
        other.write(&head);
        other.resting().await;
        other.write("\r\n\r\n");
        other.resting().await;
        assert!(other.received().ends_with(b"\r\n\r\nhello"));
        // Those that go make room.
        clients[0].reset();
        clients[0].dropped().await;
        let next = bench.connect_from(HOSTILE);
        next.write(&head);
        next.resting().await;
        assert!(next.received().is_empty());
    });
    assert_eq!(bench.counted(), [("heads_full", 1)]);
}

#[test]
fn empty_lines_in_pieces_are_no_reason_to_wait_longer() {
    for turned_away in [false, true] {
        let bench =
            Bench::limited(Limits { idle_timeout: Duration::from_secs(2), ..Limits::DEFAULT });
        let (client, allowed) = match turned_away {
            false => (bench.connect(), Duration::from_secs(2)),
            true => (bench.connect_turned_away(Status::Unavailable), Limits::DEFAULT.head_timeout),
        };
        bench.run(async {
            client.resting().await;
            let other = Limits { idle_timeout: Duration::from_secs(3), ..Limits::DEFAULT };
            bench.content.set_limits(Limits { head_timeout: Duration::from_secs(4), ..other });
            for piece in ["\r", "\n", "\r", "\n\r"] {
                client.write(piece);
                client.resting().await;
            }
            assert_eq!(client.expire(), allowed, "it is still the same wait");
            assert!(client.ended().await);
            assert!(client.received().is_empty(), "nothing has begun");
        });
        assert_eq!(bench.counted(), [("idle_timeout", 1)]);
    }
}

#[test]
fn requests_sent_ahead_from_one_address_leave_room_for_those_of_others() {
    // Small files by pipelining, large ones part by part.
    for size in [PIPELINE_QUEUE + 1, CHUNK + PIPELINE_QUEUE] {
        let cache = Cache::new(1 << 26).with_download_memory(1 << 28);
        let bench = Bench::with_cache(cache, |root| SiteSettings::new(root.to_owned()));
        bench.file("a", vec![b'x'; size]);
        bench.file("b", "hello");
        let more = 60_000 / get("/b").len();
        let ahead = get("/b").repeat(more);
        let fit = PIPELINED_REQUESTS / 2 / ahead.len();
        let mut clients: Vec<_> = (0..=fit).map(|_| bench.connect_from(HOSTILE)).collect();
        clients.push(bench.connect_from(LEGITIMATE));
        bench.run(async {
            for client in &clients {
                client.take_only(0);
                client.write(get("/a") + &ahead);
                client.resting().await;
            }
            // Of a large file nothing is begun.
            let full = if size > CHUNK { 0 } else { 1 };
            for (at, answers) in [(0, 1 + more), (fit, full), (fit + 1, 1 + more)] {
                let client = &clients[at];
                client.take_all();
                client.half_close();
                assert!(client.ended().await, "all that was answered arrives");
                let got = client.received();
                let heads = got.windows(13).filter(|it| it.starts_with(b"HTTP/1.1 200 "));
                assert_eq!(heads.count(), answers);
            }
        });
        assert_eq!(bench.counted(), [("pipelines_full", 1)]);
    }
}

#[test]
fn what_was_used_of_a_buffer_is_let_go() {
    let mut input = BytesMut::zeroed(64 * 1024);
    input.advance(64 * 1024 - 10);
    shrink(&mut input);
    assert!(input.len() == 10 && !input.try_reclaim(1000));
}

#[test]
fn who_reads_too_slowly_is_reset() {
    for (min_rate, taken, lives) in
        [(240, 14_400, true), (240, 14_399, false), (0, 1, true), (0, 0, false)]
    {
        let bench = Bench::limited(Limits { min_rate, ..Limits::DEFAULT });
        for size in [100_000, 8 * CHUNK] {
            bench.file("a", vec![b'x'; size]);
            let client = bench.connect();
            // The head, so that more than a chunk's end is waited for.
            client.take_only(1000);
            client.write("GET /a HTTP/1.0\r\n\r\n");
            bench.run(async {
                client.resting().await;
                // The time for what a client still sends, which a large answer comes before.
                if size < CHUNK {
                    assert_eq!(client.expire(), LINGER_TIMEOUT);
                    client.resting().await;
                }
                client.take_only(taken);
                let time = Limits::DEFAULT.send_timeout;
                // What large files hold is looked at more often, in case others need it.
                let look = if size < CHUNK { time } else { GIVE_WAY_AFTER };
                for _ in 1..time.as_secs() / look.as_secs() {
                    assert_eq!(client.expire(), look);
                    client.resting().await;
                }
                assert_eq!(client.expire(), look);
                if lives {
                    client.resting().await;
                } else {
                    client.dropped().await;
                    assert!(!client.ended().await, "aborted");
                }
            });
            client.reset();
            bench.at(Duration::from_secs(60));
        }
        let counted: &[_] = if lives { &[] } else { &[("slow_reader", 2)] };
        assert_eq!(bench.counted(), counted, "{min_rate}, {taken}");
    }
}

#[test]
fn the_last_request_of_a_connection_says_so() {
    let bench = Bench::limited(Limits { max_requests: 3, ..Limits::DEFAULT });
    bench.file("a", "hello");
    let answer = bench.text(get("/a").repeat(5));
    let ends: Vec<_> =
        split_answers(&answer).iter().map(|(head, _)| field(head, "Connection")).collect();
    assert_eq!(ends, [None, None, Some("close")]);
    assert_eq!(bench.counted(), [("last_request", 1)]);
}

#[test]
fn one_connection_too_many_is_told_so() {
    let bench = Bench::limited(Limits::DEFAULT);
    bench.file("a", "hello");
    for (status, line) in [
        (Status::Unavailable, "HTTP/1.1 503 Service Unavailable"),
        (Status::TooManyRequests, "HTTP/1.1 429 Too Many Requests"),
    ] {
        let answered = |request: String| {
            let client = bench.connect_turned_away(status);
            client.write(request);
            client.half_close();
            bench.run(async {
                assert!(client.ended().await);
                String::from_utf8(client.received()).unwrap()
            })
        };
        let answer = answered(get("/a").repeat(2));
        let [(head, body)] = split_answers(&answer)[..] else { panic!("{answer}") };
        assert_eq!((status_line(head), field(head, "Connection")), (line, Some("close")));
        assert_eq!(field(head, "Retry-After"), Some("1"));
        assert!(!body.is_empty());
        assert!(answered(get("/a").replace("GET", "HEAD")).ends_with("\r\n\r\n"));
        let expects = "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        let answer = answered(format!("GET /a HTTP/1.1\r\nHost: x\r\n{expects}"));
        assert_eq!(status_line(&answer), line, "nothing is called for");
    }
    // It does not get the time of one that is served.
    let client = bench.connect_turned_away(Status::Unavailable);
    bench.run(async {
        client.resting().await;
        assert_eq!(client.expire(), Limits::DEFAULT.head_timeout);
        assert!(client.ended().await);
        assert!(client.received().is_empty());
    });
}
