//! Which site answers, and with which page.

use super::*;

#[test]
fn paths_that_lead_to_nothing_lead_to_the_fallback() {
    let bench = Bench::with(1 << 26, |root| SiteSettings {
        fallback: Some("app.html".to_owned()),
        ..SiteSettings::new(root.to_owned())
    });
    bench.file("app.html", "app");
    bench.file("real.txt", "real");
    for (path, expected) in [("/a/b", "app"), ("/a/b", "app"), ("/real.txt", "real"), ("/", "403")]
    {
        let answer = bench.text(get(path));
        assert!(answer.contains(expected), "{path}: {answer}");
    }
    let (head, body) = ask(&bench, "/deep/link", "Range: bytes=1-1\r\n");
    assert_eq!((status_line(&head), &body[..]), ("HTTP/1.1 206 Partial Content", &b"p"[..]));
    assert_eq!(field(&head, "Content-Type"), Some("text/html; charset=utf-8"));
    // Without it, what there is for a miss.
    let bench = Bench::with(1 << 26, |root| SiteSettings {
        fallback: Some("app.html".to_owned()),
        ..SiteSettings::new(root.to_owned())
    });
    assert_eq!(status_line(&bench.text(get("/any"))), "HTTP/1.1 404 Not Found");
}

#[test]
fn errors_have_their_own_pages() {
    let bench = Bench::with(1 << 26, |root| SiteSettings {
        error_pages: [(404, "errors/404.html".to_owned()), (403, "none.html".to_owned())].into(),
        ..SiteSettings::new(root.to_owned())
    });
    bench.file("errors/404.html", "not here");
    bench.file("bare/.secret", "x");
    for path in ["/none", "/none", "/bare/.secret"] {
        let (head, body) = ask(&bench, path, "Range: bytes=0-1\r\nIf-None-Match: *\r\n");
        assert_eq!((status_line(&head), &body[..]), ("HTTP/1.1 404 Not Found", &b"not here"[..]));
        assert_eq!((field(&head, "ETag"), field(&head, "Last-Modified")), (None, None));
    }
    let head = bench.text(get("/none").replace("GET", "HEAD"));
    assert!(head.starts_with("HTTP/1.1 404 ") && head.ends_with("\r\n\r\n"), "{head}");
    // The page itself is missing: the small one.
    let answer = bench.text(get("/bare/"));
    assert_eq!(status_line(&answer), "HTTP/1.1 403 Forbidden");
    assert!(answer.contains("<h1>403 Forbidden</h1>"));
    // Asked for by its own name it is a file like others.
    assert_eq!(status_line(&bench.text(get("/errors/404.html"))), "HTTP/1.1 200 OK");
}

#[test]
fn the_host_leads_to_a_site() {
    let roots = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    fs::write(roots[1].path().join("a"), "other").unwrap();
    let bench = Bench::new(1 << 26);
    bench.file("a", "first");
    let settings = |root: &Path, host: &str| SiteSettings {
        hosts: vec![host.to_owned()],
        ..SiteSettings::new(root.to_owned())
    };
    let all = [settings(bench.root.path(), "first"), settings(roots[1].path(), "other.example")];
    bench.content.replace_sites(Arc::new(Sites::open(&all, None).unwrap()));
    for (target, host, expected) in [
        ("/a", "first", "first"),
        ("/a", "Other.Example:80", "other"),
        ("/a", "unknown", "first"),
        // RFC 9112 3.2.2.
        ("http://other.example/a", "first", "other"),
    ] {
        let answer = bench.text(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(split_answers(&answer)[0].1, expected, "{target} {host}");
    }
}

#[test]
fn pages_of_other_origins_may_read_each_answer() {
    let bench = Bench::with(1 << 26, |root| SiteSettings {
        cors: Some(toml::from_str("origins = [\"https://app.example\"]\nmax-age = 9").unwrap()),
        ..SiteSettings::new(root.to_owned())
    });
    bench.file("a", "hello");
    bench.file("dir/index.html", "x");
    let send = |method: &str, path: &str, lines: &str| {
        bench.text(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"))
    };
    let count = |answer: &str, line: &str| answer.matches(&format!("\r\n{line}\r\n")).count();
    for (method, path, lines, status) in [
        ("GET", "/a", "", "200"),
        ("HEAD", "/a", "", "200"),
        ("GET", "/a", "If-None-Match: *\r\n", "304"),
        ("GET", "/a", "Range: bytes=0-1\r\n", "206"),
        ("GET", "/a", "Range: bytes=0-0,4-4\r\n", "206"),
        ("GET", "/a", "Range: bytes=9-\r\n", "416"),
        ("GET", "/a", "If-Match: \"x\"\r\n", "412"),
        ("GET", "/dir", "", "301"),
        ("GET", "/none", "", "404"),
        ("GET", "/..", "", "400"),
        ("POST", "/a", "", "405"),
        ("OPTIONS", "/a", "", "204"),
        ("OPTIONS", "/a", "Access-Control-Request-Method: GET\r\n", "204"),
    ] {
        for (origin, granted) in [("app.example", 1), ("app.example.evil", 0)] {
            let answer = send(method, path, &format!("Origin: https://{origin}\r\n{lines}"));
            let case = format!("{method} {path} {lines}{origin}: {answer}");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case}");
            let allowed = count(&answer, "Access-Control-Allow-Origin: https://app.example");
            assert_eq!((allowed, count(&answer, "Vary: Origin")), (granted, 1), "{case}");
            let asked = lines.starts_with("Access-Control") && granted == 1;
            let told = count(&answer, "Access-Control-Allow-Methods: GET, HEAD, OPTIONS");
            assert_eq!(told, usize::from(asked), "{case}");
            assert_eq!(count(&answer, "Access-Control-Max-Age: 9"), usize::from(asked), "{case}");
        }
    }
    // Without an origin it is a request like others, which a cache must not give to a page.
    let answer = send("GET", "/a", "");
    assert!(count(&answer, "Vary: Origin") == 1 && !answer.contains("Access-Control"), "{answer}");
}
