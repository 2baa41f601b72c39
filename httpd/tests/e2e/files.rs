//! Which request gets which answer, and how files on disk become answers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::bed::{Bed, INDEX};
use crate::client::{Answer, Client};

/// The answer to one request on a connection of its own.
fn ask(bed: &Bed, request: &str) -> Answer {
    let mut client = Client::connect(bed);
    client.send(request.as_bytes());
    client.answer()
}

fn get(bed: &Bed, path: &str) -> Answer {
    ask(bed, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

#[test]
fn requests_that_are_refused_say_why() {
    let Some(bed) = Bed::up() else { return };
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9000));
    let long_head = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(20_000));
    let many_fields = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(100));
    for (request, status) in [
        ("garbage\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("GET index.html HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
        ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (&long_target, 414),
        (&long_head, 431),
        (&many_fields, 431),
        ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    ] {
        let answer = ask(&bed, request);
        let shown: String = request.chars().take(60).collect();
        assert_eq!(answer.status, status, "{shown:?}: {}", answer.head);
        assert!(!answer.body.is_empty() && answer.field("Date").is_some(), "{shown:?}");
        let allow = (status == 405).then_some("GET, HEAD, OPTIONS");
        assert_eq!(answer.field("Allow"), allow, "{shown:?}");
    }
    bed.assert_serves();
    bed.finish();
}

#[test]
fn nothing_outside_of_www_root_is_served() {
    let Some(bed) = Bed::up() else { return };
    let (www, outside) = (bed.www(), bed.lab().scratch().join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    bed.put("sub/page.html", b"page");
    symlink(outside.join("secret"), www.join("absolute")).unwrap();
    symlink("../outside/secret", www.join("relative")).unwrap();
    symlink(&outside, www.join("folder")).unwrap();
    symlink("/proc/self/root", www.join("magic")).unwrap();
    symlink("loop", www.join("loop")).unwrap();
    symlink("sub/page.html", www.join("inside")).unwrap();
    mknodat(CWD, www.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    bed.put("private", b"private");
    fs::set_permissions(www.join("private"), fs::Permissions::from_mode(0o600)).unwrap();
    for (path, status) in [
        ("/../outside/secret", 400),
        ("/sub/../../outside/secret", 400),
        ("/%2e%2e/outside/secret", 400),
        ("/.%2E/outside/secret", 400),
        ("/..%2foutside%2Fsecret", 400),
        ("/sub/%2e%2e/%2e%2e/outside/secret", 400),
        ("/..", 400),
        ("/%00", 400),
        ("/index.html%00.txt", 400),
        ("/%zz", 400),
        ("/%", 400),
        // Decoded once, not twice.
        ("/%252e%252e/outside/secret", 404),
        ("/..%5coutside%5csecret", 404),
        ("/absolute", 403),
        ("/relative", 403),
        ("/folder/secret", 403),
        ("/magic/etc/passwd", 403),
        ("/loop", 403),
        ("/fifo", 403),
        ("/private", 403),
        ("/missing", 404),
        ("/index.html/more", 404),
        ("/sub/../index.html", 200),
        ("/sub/%2e%2e/index.html", 200),
        ("/sub%2fpage.html", 200),
        ("//sub///page.html", 200),
        ("/inside", 200),
    ] {
        let answer = get(&bed, path);
        assert_eq!(answer.status, status, "{path}: {}", answer.head);
        assert!(!answer.body.windows(6).any(|six| six == b"secret"), "{path} leads outside");
    }
    bed.finish();
}

#[test]
fn folders_have_an_index_and_a_slash() {
    let Some(bed) = Bed::up() else { return };
    bed.put("with/index.html", b"with");
    bed.put("with space/index.html", b"space");
    fs::create_dir(bed.www().join("without")).unwrap();
    let redirect = get(&bed, "/with?a=b");
    assert_eq!((redirect.status, redirect.field("Location")), (301, Some("/with/?a=b")));
    let redirect = get(&bed, "/with%20space");
    assert_eq!((redirect.status, redirect.field("Location")), (301, Some("/with%20space/")));
    for (path, status, body) in [
        ("/", 200, INDEX),
        ("/with/", 200, b"with"),
        ("/with/?query", 200, b"with"),
        ("/with%20space/", 200, b"space"),
        ("http://tagwire/with/", 200, b"with"),
    ] {
        let answer = get(&bed, path);
        assert_eq!((answer.status, &*answer.body), (status, body), "{path}");
        assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"));
    }
    assert_eq!(get(&bed, "/without/").status, 403);
    // curl follows the redirect.
    let page = bed.client_ok(&["curl", "-gsSL", "-m", "5", &bed.url("/with")]);
    assert_eq!(page, "with");
    bed.finish();
}

#[test]
fn a_file_says_what_it_is_and_whether_it_is_news() {
    let Some(bed) = Bed::up() else { return };
    for (name, expected) in [
        ("a.html", "text/html"),
        ("a.css", "text/css"),
        ("a.js", "text/javascript"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.svg", "image/svg+xml"),
        ("a.unheard-of", "application/octet-stream"),
    ] {
        bed.put(name, b"content");
        let answer = get(&bed, &format!("/{name}"));
        let kind = answer.field("Content-Type").unwrap();
        assert_eq!(kind.split(';').next(), Some(expected), "{name}");
    }

    let answer = get(&bed, "/a.css");
    let (etag, modified) = (answer.field("ETag").unwrap(), answer.field("Last-Modified").unwrap());
    for (field, status) in [
        (format!("If-None-Match: {etag}"), 304),
        (format!("If-None-Match: \"other\", W/{etag}"), 304),
        ("If-None-Match: \"other\"".to_owned(), 200),
        (format!("If-Modified-Since: {modified}"), 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), 200),
    ] {
        let mut client = Client::connect(&bed);
        client.send(format!("GET /a.css HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("ETag")), (status, Some(etag)), "{field}");
        // A 304 has no body: what follows is the next answer.
        assert_eq!(client.get("/").body, INDEX, "{field}");
    }
    bed.finish();
}
