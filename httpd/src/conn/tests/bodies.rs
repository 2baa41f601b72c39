//! Bodies of requests: they are read past, or the connection ends.

use super::*;
use crate::limits::MAX_DISCARDED_BODY;

#[test]
fn a_chunked_body_is_read_past() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    let chunked = "GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = bench.text(format!("{chunked}3\r\nabc\r\n0\r\n\r\n{}", get("/none")));
    let answers = split_answers(&answer);
    assert_eq!(answers[0].1, "hello");
    assert_eq!(status_line(answers[1].0), "HTTP/1.1 404 Not Found");
    // What follows nonsense is no request.
    let answer = bench.text(format!("{chunked}3\nabc\n0\n\n{}", get("/a")));
    assert_eq!(split_answers(&answer).len(), 1);
}

#[test]
fn a_body_that_is_held_back_is_called_for() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    let expect = "Host: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let client = bench.connect();
    client.write(format!("GET /a HTTP/1.1\r\n{expect}"));
    bench.run(async {
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(client.receive(interim.len()).await, interim);
        client.write(format!("abc{}", get("/none")));
        client.half_close();
        assert!(client.ended().await);
    });
    let answer = String::from_utf8(client.received()).unwrap();
    let answers = split_answers(&answer);
    assert_eq!(answers[0].1, "hello");
    assert_eq!(status_line(answers[1].0), "HTTP/1.1 404 Not Found");
    // It comes all the same: nobody needs to be called.
    let answer = bench.text(format!("GET /a HTTP/1.1\r\n{expect}abc{}", get("/none")));
    assert_eq!(split_answers(&answer).len(), 2);
    // Whether it comes after a refusal is not known, and so neither where a request begins.
    let answer = bench.text(format!("POST /a HTTP/1.1\r\n{expect}abc{}", get("/none")));
    let [(head, _)] = split_answers(&answer)[..] else { panic!("{answer}") };
    assert_eq!(field(head, "Connection"), Some("close"));
    // A refusal that ends the connection needs no body.
    let answer = bench.text(format!("POST /a HTTP/1.1\r\n{expect}"));
    assert_eq!(status_line(&answer), "HTTP/1.1 405 Method Not Allowed");
}

#[test]
fn a_body_is_read_past_within_bounds() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    let most = MAX_DISCARDED_BODY as usize;
    let body = "x".repeat(most);
    for method in ["GET", "HEAD", "OPTIONS", "POST"] {
        let head = format!("{method} /a HTTP/1.1\r\nHost: x\r\n");
        for framed in [
            format!("Content-Length: {most}\r\n\r\n{body}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{most:x}\r\n{body}\r\n0\r\n\r\n"),
        ] {
            let answer = bench.text(format!("{head}{framed}{}", get("/none")));
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{method}: {answer}");
            assert!(answer.contains("HTTP/1.1 404 "), "{method}: {answer}");
        }
        // An octet more, and the connection ends: at once where that is known.
        let answer = bench.text(format!("{head}Content-Length: {}\r\n\r\n{body}", most + 1));
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("Connection: close"));
        let chunks = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}", most + 1);
        let answer = bench.text(format!("{head}{chunks}x\r\n0\r\n\r\n{}", get("/none")));
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{method}: {answer}");
    }
}
