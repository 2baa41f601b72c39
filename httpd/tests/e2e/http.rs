//! HTTP on one connection: HEAD, keep-alive, pipelining, half-closed clients.

use std::io::Write;

use crate::bed::{Bed, INDEX, content};
use crate::client::{Client, request};

/// Files of several sizes, so that the order of answers shows: below and above what goes out
/// in one piece with its head, several segments, and more than a chunk of the cache.
const SIZES: [usize; 8] = [0, 1, 300, 1400, 1401, 20_000, 100_000, 1_200_000];

fn put_files(bed: &Bed) -> Vec<(String, Vec<u8>)> {
    let file = |(i, &len): (usize, &usize)| {
        let (name, octets) = (format!("f{i}.bin"), content(i as u64, len));
        bed.put(&name, &octets);
        (format!("/{name}"), octets)
    };
    SIZES.iter().enumerate().map(file).collect()
}

#[test]
pub(crate) fn head_is_get_without_the_body() {
    let Some(bed) = Bed::up() else { return };
    let mut files = put_files(&bed);
    files.push(("/".to_owned(), INDEX.to_vec()));
    let mut client = Client::connect(&bed);
    for (path, octets) in &files {
        let get = client.get(path);
        assert_eq!((get.status, get.body.len()), (200, octets.len()), "{path}");
        client.ask("HEAD", path);
        let head = client.head();
        assert_eq!(head.lines_but_date(), get.lines_but_date(), "{path}");
    }
    for path in ["/missing", "/%00"] {
        let mut client = Client::connect(&bed);
        let get = client.get(path);
        let mut client = Client::connect(&bed);
        client.ask("HEAD", path);
        let head = client.head();
        assert_eq!(
            (head.status, head.field("Content-Type")),
            (get.status, Some("text/html; charset=utf-8"))
        );
        client.half_close();
        client.assert_end();
    }
    bed.finish();
}

#[test]
pub(crate) fn a_connection_serves_many_requests() {
    let Some(bed) = Bed::up() else { return };
    let files = put_files(&bed);
    let mut client = Client::connect(&bed);
    for round in 0..1000 {
        let (path, octets) = &files[round % (files.len() - 1)];
        let answer = client.get(path);
        assert!(answer.status == 200 && answer.body == *octets, "{round}: {}", answer.head);
        if round % 10 == 0 {
            let missing = client.get("/missing");
            assert_eq!((missing.status, missing.field("Connection")), (404, None));
        }
    }
    assert_eq!(bed.counted("tcp_accepted"), 1);
    bed.finish();
}

#[test]
pub(crate) fn a_connection_ends_when_either_side_says_so() {
    let Some(bed) = Bed::up() else { return };
    for (request, keeps) in [
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        let mut client = Client::connect(&bed);
        client.send(request.as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, &*answer.body), (200, INDEX));
        let expected = if keeps { "keep-alive" } else { "close" };
        assert_eq!(answer.field("Connection"), Some(expected), "{request}");
        if keeps {
            assert_eq!(client.get("/").status, 200);
        } else {
            client.assert_end();
        }
    }
    bed.finish();
}

#[test]
pub(crate) fn a_thousand_pipelined_requests_are_answered_in_order() {
    let Some(bed) = Bed::up() else { return };
    let files = put_files(&bed);
    let order = |i: usize| &files[(i * 5 + i / 8) % files.len()];
    let requests: String = (0..1000).map(|i| request("GET", &order(i).0)).collect();
    let mut client = Client::connect(&bed);
    let mut writer = client.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        // One write; beside the reading, since no side holds so much for the other.
        scope.spawn(move || writer.write_all(requests.as_bytes()).unwrap());
        for i in 0..1000 {
            let (path, octets) = order(i);
            let answer = client.answer();
            assert_eq!(answer.status, 200);
            assert!(answer.body == *octets, "answer {i} is not {path}: {}", answer.head);
        }
    });
    client.half_close();
    client.assert_end();
    bed.finish();
}

#[test]
pub(crate) fn a_client_that_has_said_all_gets_all() {
    let Some(bed) = Bed::up() else { return };
    let files = put_files(&bed);
    let large = content(9, 5 << 20);
    bed.put("large.bin", &large);

    let mut client = Client::connect(&bed);
    client.ask("GET", "/large.bin");
    client.half_close();
    assert!(client.answer().body == large);
    client.assert_end();

    let mut client = Client::connect(&bed);
    let requests: String = files.iter().map(|(path, _)| request("GET", path)).collect();
    client.send(requests.as_bytes());
    client.half_close();
    for (path, octets) in &files {
        assert!(client.answer().body == *octets, "{path}");
    }
    client.assert_end();

    // Nothing or half a request was said: there is nothing to answer.
    for said in ["", "GET / HTT"] {
        let mut client = Client::connect(&bed);
        client.send(said.as_bytes());
        client.half_close();
        client.assert_end();
    }
    bed.finish();
}

#[test]
pub(crate) fn a_request_may_come_octet_by_octet() {
    let Some(bed) = Bed::up() else { return };
    let mut client = Client::connect(&bed);
    for octet in request("GET", "/").as_bytes() {
        client.send(&[*octet]);
    }
    assert_eq!(client.answer().body, INDEX);
    bed.finish();
}

#[test]
pub(crate) fn what_the_client_sends_in_large_frames_is_taken_whole() {
    let Some(bed) = Bed::up() else { return };
    // Its kernel hands down up to 64 KiB in one frame, more than a slot of the receive ring.
    let requests = request("HEAD", "/").repeat(20_000);
    let mut client = Client::connect(&bed);
    let mut writer = client.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(requests.as_bytes()).unwrap());
        for _ in 0..20_000 {
            assert_eq!(client.head().status, 200);
        }
    });
    let status = bed.status();
    assert!(status["driver"]["rx_oversize"].as_u64() > Some(0), "{status}");
    assert_eq!(status["driver"]["rx_truncated"], 0, "{status}");
    bed.finish();
}
