//! Pages that are built in.

use super::*;

fn bench(on: Option<bool>) -> Bench {
    let bench = Bench::with(1 << 26, |root| SiteSettings {
        builtin_json: on,
        ..SiteSettings::new(root.to_owned())
    });
    bench.file("version.json", "a file");
    bench
}

fn post(lines: &str, body: &str) -> String {
    format!("POST /interface_stats.json HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}")
}

/// The names in statistics, or what is wrong with the only one.
fn names(body: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(body).unwrap();
    let stats = value["interface_stats"].as_array().unwrap();
    let word =
        |stat: &Value| stat.get("error").unwrap_or(&stat["name"]).as_str().unwrap().to_owned();
    stats.iter().map(word).collect()
}

#[test]
fn they_are_hidden_where_nobody_asks_for_them() {
    for off in [None, Some(false)] {
        let bench = bench(off);
        assert_eq!(ask(&bench, "/version.json", "").1, b"a file");
        assert_eq!(
            status_line(&ask(&bench, "/interface_list.json", "").0),
            "HTTP/1.1 404 Not Found"
        );
        let answer = bench.text(post("Content-Length: 4\r\n", "eth0"));
        assert_eq!(status_line(&answer), "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(field(&answer, "Allow"), Some("GET, HEAD, OPTIONS"));
    }
}

#[test]
fn they_go_before_files_and_are_kept_by_nobody() {
    let bench = bench(Some(true));
    for (path, part) in [
        ("/version.json", "{\"vpp_details\":{"),
        ("/version.json?x", "{\"vpp_details\":{"),
        ("//./version%2ejson", "{\"vpp_details\":{"),
        ("/interface_list.json", "{\"interface_list\":[\"eth0\",\"eth0.123\"]}"),
        ("/interface_stats.json", "{\"interface_stats\":[{"),
    ] {
        let (head, body) = ask(&bench, path, "Range: bytes=0-1\r\n");
        assert_eq!(status_line(&head), "HTTP/1.1 200 OK", "{path}");
        assert!(body.starts_with(part.as_bytes()), "{path}: {}", body.escape_ascii());
        assert_eq!(field(&head, "Content-Type"), Some("application/json"));
        assert_eq!(field(&head, "Cache-Control"), Some("no-store"));
        assert_eq!(field(&head, "X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(bench.text(get(path).replace("GET", "HEAD")), format!("{head}\r\n\r\n"));
    }
    for path in ["/a/version.json", "/version.json/", "/Version.json"] {
        assert_eq!(status_line(&ask(&bench, path, "").0), "HTTP/1.1 404 Not Found", "{path}");
    }
    assert_eq!(bench.cache.stats().loads, 3, "none of them was looked for on disk");
}

#[test]
fn an_interface_is_named_in_a_query_or_in_a_body() {
    let bench = bench(Some(true));
    for (named, found, status) in [
        ("", "eth0 eth0.123", "200 OK"),
        ("eth0", "eth0", "200 OK"),
        ("eth0.123", "eth0.123", "200 OK"),
        ("eth0.124", "UnknownInterface", "404 Not Found"),
    ] {
        let expected =
            (format!("HTTP/1.1 {status}"), found.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let (head, body) = ask(&bench, &format!("/interface_stats.json?name={named}"), "");
        let body = String::from_utf8(body).unwrap();
        assert_eq!((status_line(&head).to_owned(), names(&body)), expected);
        let body = format!("{named}\n");
        let length = format!("Content-Length: {}\r\n", body.len());
        let answers = bench.text(post(&length, &body) + &get("/none"));
        let [(head, body), (next, _)] = split_answers(&answers)[..] else { panic!("{answers}") };
        assert_eq!((status_line(head).to_owned(), names(body)), expected);
        assert_eq!(status_line(next), "HTTP/1.1 404 Not Found");
    }
}

#[test]
fn a_body_that_comes_in_pieces_is_waited_for() {
    let bench = bench(Some(true));
    for (lines, interim) in [
        ("Content-Length: 8\r\n", &b""[..]),
        ("Content-Length: 8\r\nExpect: 100-continue\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let client = bench.connect();
        client.write(post(lines, ""));
        bench.run(async {
            assert_eq!(client.receive(interim.len()).await, interim);
            client.write("eth0");
            while bench.executor.try_tick() {}
            client.write(".123");
            // What follows the body is the next request for sure.
            client.write(get("/none"));
            client.half_close();
            assert!(client.ended().await);
        });
        let answers = String::from_utf8(client.received()).unwrap();
        let [(head, body), (next, _)] = split_answers(&answers)[..] else { panic!("{answers}") };
        assert_eq!((field(head, "Connection"), names(body)), (None, vec!["eth0.123".to_owned()]));
        assert_eq!(status_line(next), "HTTP/1.1 404 Not Found");
    }
    // One that is refused may be sent all the same, or not.
    for lines in ["Content-Length: 257\r\n", "Transfer-Encoding: chunked\r\n"] {
        let answer = bench.text(post(&format!("{lines}Expect: 100-continue\r\n"), ""));
        let [(head, _)] = split_answers(&answer)[..] else { panic!("{answer}") };
        assert_eq!(field(head, "Connection"), Some("close"), "{lines}");
    }
    // Half of it is none.
    let client = bench.connect();
    client.write(post("Content-Length: 8\r\n", "eth0"));
    client.half_close();
    bench.run(client.ended());
    assert_eq!(client.received(), b"");
}

#[test]
fn what_else_is_sent_to_them_is_refused() {
    let bench = bench(Some(true));
    let long = "x".repeat(257);
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (request, status) in [
        (post("Content-Length: 257\r\n", &long), "413 Content Too Large"),
        (post(chunked, "4\r\neth0\r\n0\r\n\r\n"), "411 Length Required"),
        (post("", "").replace("POST", "PUT"), "405 Method Not Allowed"),
        (post("", "").replace("POST", "BREW"), "501 Not Implemented"),
        (post("", "").replace("interface_stats", "interface_list"), "405 Method Not Allowed"),
        (post("", "").replace("interface_stats", "none"), "405 Method Not Allowed"),
        (post("", "").replace("POST", "OPTIONS"), "204 No Content"),
    ] {
        let answers = bench.text(request.clone() + &get("/version.json"));
        let answers = split_answers(&answers);
        assert_eq!(status_line(answers[0].0), format!("HTTP/1.1 {status}"));
        assert_eq!(answers.len(), 2, "{request}");
        let stats = request.contains("interface_stats");
        let allow = field(answers[0].0, "Allow");
        let post = if stats { "GET, HEAD, POST, OPTIONS" } else { "GET, HEAD, OPTIONS" };
        assert!(allow.is_none_or(|allow| allow == post), "{request}: {allow:?}");
    }
    assert_eq!(bench.content.tally.body_refused.get(), 2);
}
