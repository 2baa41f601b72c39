//! Encoded representations of files: those that are deployed beside them, and those that we make.

use super::*;
use crate::compress::tests::decoded;
use crate::encoding::Coding;

/// Asks for `path` with this Accept-Encoding.
fn ask_in(bench: &Bench, path: &str, accepted: &str, lines: &str) -> (String, Vec<u8>) {
    ask(bench, path, &format!("Accept-Encoding: {accepted}\r\n{lines}"))
}

/// What a sibling in the tests holds: nobody decodes it.
fn encoded(coding: Coding) -> Vec<u8> {
    format!("{coding} of it").repeat(20).into_bytes()
}

/// A file with all of its siblings.
fn put_all(bench: &Bench, path: &str, content: &[u8]) {
    bench.file(path, content);
    for coding in Coding::ALL {
        bench.file(&format!("{path}{}", coding.suffix()), encoded(coding));
    }
}

#[test]
fn a_sibling_is_sent_to_whom_likes_it() {
    let bench = Bench::new(1 << 26);
    let plain = "a { color: red }\n".repeat(100);
    put_all(&bench, "a.css", plain.as_bytes());
    for (accepted, expected) in [
        ("br", Some(Coding::Brotli)),
        ("zstd", Some(Coding::Zstd)),
        ("gzip, deflate", Some(Coding::Gzip)),
        ("gzip;q=0.5, zstd;q=0.9, br;q=0.1", Some(Coding::Zstd)),
        // Alike, so the shortest one.
        ("gzip, deflate, br, zstd", Some(Coding::Brotli)),
        ("identity;q=0, *", Some(Coding::Brotli)),
        ("identity", None),
        ("identity;q=0", None),
        ("gzip;q=0", None),
        ("", None),
    ] {
        let (head, body) = ask_in(&bench, "/a.css", accepted, "");
        assert_eq!(status_line(&head), "HTTP/1.1 200 OK", "{accepted}");
        assert_eq!(field(&head, "Content-Type"), Some("text/css; charset=utf-8"));
        assert_eq!(field(&head, "Content-Encoding"), expected.map(Coding::token), "{accepted}");
        assert_eq!(field(&head, "Vary"), Some("Accept-Encoding"), "{accepted}");
        assert_eq!(body, expected.map_or(plain.clone().into_bytes(), encoded), "{accepted}");
        let request =
            format!("HEAD /a.css HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accepted}\r\n\r\n");
        assert_eq!(bench.text(request).trim_end(), head, "{accepted}");
    }
    let (head, _) = ask(&bench, "/a.css", "");
    assert_eq!(
        (field(&head, "Content-Encoding"), field(&head, "Vary")),
        (None, Some("Accept-Encoding"))
    );
    assert_eq!(bench.cache.stats().loads, 4, "each file is read once");

    // By its own name it is a file like others.
    let (head, body) = ask_in(&bench, "/a.css.gz", "gzip", "");
    assert_eq!(field(&head, "Content-Type"), Some("application/gzip"));
    assert_eq!((field(&head, "Content-Encoding"), field(&head, "Vary")), (None, None));
    assert_eq!(body, encoded(Coding::Gzip));
    bench.file("alone", "x");
    let (head, _) = ask_in(&bench, "/alone", "gzip", "");
    assert_eq!((field(&head, "Content-Encoding"), field(&head, "Vary")), (None, None));
}

#[test]
fn each_representation_has_validators_of_its_own() {
    let bench = Bench::new(1 << 26);
    put_all(&bench, "a.txt", &[b'x'; 1000]);
    // Of one length, and one time.
    bench.file("a.txt.gz", vec![b'g'; 100]);
    bench.file("a.txt.br", vec![b'b'; 100]);
    let time = fs::metadata(bench.root.path().join("a.txt")).unwrap().modified().unwrap();
    for name in ["a.txt.gz", "a.txt.br"] {
        let file = fs::File::options().write(true).open(bench.root.path().join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    let all = ["identity", "br", "gzip", "zstd"];
    let tag = |accepted| {
        let (head, body) = ask_in(&bench, "/a.txt", accepted, "");
        (
            field(&head, "ETag").unwrap().to_owned(),
            field(&head, "Last-Modified").unwrap().to_owned(),
            body,
        )
    };
    let known: Vec<_> = all.map(tag).into();
    for (accepted, (own, modified, body)) in all.iter().zip(&known) {
        for (other, (etag, ..)) in all.iter().zip(&known) {
            let same = accepted == other;
            assert_eq!(own == etag, same, "{accepted} {other}");
            let request = format!(
                "GET /a.txt HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accepted}\r\nIf-None-Match: {etag}\r\n\r\n"
            );
            let answer = bench.text(request);
            let status = if same { "HTTP/1.1 304 Not Modified" } else { "HTTP/1.1 200 OK" };
            assert_eq!(status_line(&answer), status, "{accepted} {other}");
            assert_eq!(field(&answer, "ETag"), Some(&**own));
            assert_eq!(field(&answer, "Vary"), Some("Accept-Encoding"));

            let lines = format!("Range: bytes=10-19\r\nIf-Range: {etag}\r\n");
            let (head, part) = ask_in(&bench, "/a.txt", accepted, &lines);
            if same {
                assert_eq!(status_line(&head), "HTTP/1.1 206 Partial Content");
                let range = format!("bytes 10-19/{}", body.len());
                assert_eq!(field(&head, "Content-Range"), Some(&*range));
                assert_eq!(
                    field(&head, "Content-Encoding"),
                    Some(*accepted).filter(|name| *name != "identity")
                );
                assert_eq!(part, body[10..20]);
            } else {
                assert_eq!(status_line(&head), "HTTP/1.1 200 OK");
                assert_eq!(part, *body);
            }
        }
        // Several of them share it.
        let lines = format!("Range: bytes=10-19\r\nIf-Range: {modified}\r\n");
        let (head, _) = ask_in(&bench, "/a.txt", accepted, &lines);
        assert_eq!(status_line(&head), "HTTP/1.1 200 OK");
    }
    let (head, _) = ask_in(&bench, "/a.txt", "gzip", "Range: bytes=100-\r\n");
    assert_eq!(field(&head, "Content-Range"), Some("bytes */100"));
    assert_eq!(field(&head, "Vary"), Some("Accept-Encoding"));
}

#[test]
fn siblings_of_any_size_are_sent_and_resumed() {
    let bench = Bench::new(1 << 26);
    let (plain, gzip) = (pattern(3 * CHUNK), pattern(2 * CHUNK + 77));
    bench.file("big.json", &plain);
    bench.file("big.json.gz", &gzip);
    bench.file("big.json.br", b"short");
    for (accepted, expected) in [("identity", &plain[..]), ("gzip", &gzip), ("br, gzip", b"short")]
    {
        let (head, body) = ask_in(&bench, "/big.json", accepted, "");
        assert_eq!(field(&head, "Content-Type"), Some("application/json"));
        assert!(body == expected, "{accepted}");
    }
    let (head, body) = ask_in(&bench, "/big.json", "gzip", "Range: bytes=1048570-1048580\r\n");
    assert_eq!(status_line(&head), "HTTP/1.1 206 Partial Content");
    assert!(body == gzip[1_048_570..=1_048_580]);
}

#[test]
fn siblings_that_come_change_and_go_are_noticed() {
    let bench = Bench::new(1 << 26);
    let mut now = 0;
    let mut sent = || {
        now += 60;
        bench.at(Duration::from_secs(now));
        let (head, body) = ask_in(&bench, "/a.txt", "gzip, br", "");
        (field(&head, "Content-Encoding").map(str::to_owned), String::from_utf8(body).unwrap())
    };
    let (plain, gzip) = ("x".repeat(100), Some("gzip".to_owned()));
    bench.file("a.txt", &plain);
    assert_eq!(sent(), (None, plain.clone()));
    bench.file("a.txt.gz", "first");
    assert_eq!(sent(), (gzip.clone(), "first".to_owned()));
    bench.file(".a.txt.gz", "other");
    rename(bench.root.path(), ".a.txt.gz", "a.txt.gz");
    assert_eq!(sent(), (gzip.clone(), "other".to_owned()));
    bench.file("a.txt.br", "br");
    assert_eq!(sent(), (Some("br".to_owned()), "br".to_owned()));
    fs::remove_file(bench.root.path().join("a.txt.br")).unwrap();
    assert_eq!(sent(), (gzip.clone(), "other".to_owned()));
    let loads = bench.cache.stats().loads;
    assert_eq!(sent(), (gzip, "other".to_owned()));
    assert_eq!(bench.cache.stats().loads, loads, "nothing has changed");

    // The file changes, and nobody thinks of its sibling.
    let file = fs::File::options().write(true).open(bench.root.path().join("a.txt")).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(10)).unwrap();
    assert_eq!(sent(), (None, plain.clone()));
    fs::remove_file(bench.root.path().join("a.txt.gz")).unwrap();
    assert_eq!(sent(), (None, plain));
}

#[test]
fn what_is_no_sibling_is_not_sent() {
    let bench = Bench::new(1 << 26);
    bench.file("a.txt", "hello");
    bench.file("a.txt.gz", "not shorter");
    bench.file("a.txt.br", "");
    fs::create_dir(bench.root.path().join("a.txt.zst")).unwrap();
    for _ in 0..2 {
        let (head, body) = ask_in(&bench, "/a.txt", "gzip, br, zstd", "");
        assert_eq!((field(&head, "Content-Encoding"), field(&head, "Vary")), (None, None));
        assert_eq!(body, b"hello");
        bench.at(Duration::from_secs(60));
    }
    assert_eq!(bench.cache.stats().loads, 3, "nor looked at again as long as it is the same");
}

#[test]
fn pages_of_all_kinds_are_sent_encoded() {
    let bench = Bench::with(1 << 26, |root| SiteSettings {
        fallback: Some("app.html".to_owned()),
        error_pages: [(403, "403.html".to_owned())].into(),
        ..SiteSettings::new(root.to_owned())
    });
    put_all(&bench, "dir/index.html", &[b'i'; 1000]);
    put_all(&bench, "app.html", &[b'a'; 1000]);
    put_all(&bench, "403.html", &[b'e'; 1000]);
    bench.file("bare/x", "x");
    for (path, status) in [("/dir/", "200 OK"), ("/none", "200 OK"), ("/bare/", "403 Forbidden")] {
        let (head, body) = ask_in(&bench, path, "zstd", "");
        assert_eq!(status_line(&head), format!("HTTP/1.1 {status}"));
        assert_eq!(field(&head, "Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(field(&head, "Content-Encoding"), Some("zstd"), "{path}");
        assert_eq!(field(&head, "Vary"), Some("Accept-Encoding"), "{path}");
        assert_eq!(body, encoded(Coding::Zstd), "{path}");
    }
}

/// A bench whose site compresses texts of 1 KiB and more in all codings.
fn compressing(cache_size: u64) -> Bench {
    Bench::with(cache_size, |root| SiteSettings {
        compress: Some(Coding::ALL.into()),
        compress_min_size: Some(1024),
        ..SiteSettings::new(root.to_owned())
    })
}

fn text(len: usize) -> Vec<u8> {
    (0..).flat_map(|n: usize| format!("line {n}\n").into_bytes()).take(len).collect()
}

/// Octets that nothing makes shorter.
fn noise(len: usize) -> Vec<u8> {
    let states = std::iter::successors(Some(1u64), |state| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1))
    });
    states.skip(1).map(|state| (state >> 56) as u8).take(len).collect()
}

#[test]
fn text_is_compressed_once_and_decodes_to_the_file() {
    let bench = compressing(1 << 26);
    for (len, name) in [(1024, "small.js"), (100_000, "middle.svg"), (CHUNK, "large.json")] {
        let plain = text(len);
        bench.file(name, &plain);
        let path = format!("/{name}");
        let before = bench.cache.stats();
        // Nobody waits long for what takes long.
        let asked = Instant::now();
        while field(&ask_in(&bench, &path, "*", "").0, "Content-Encoding").is_none() {
            assert!(asked.elapsed() < Duration::from_secs(60), "{name}");
            std::thread::yield_now();
        }
        let mut tags = Vec::new();
        for _ in 0..3 {
            for coding in Coding::ALL {
                let (head, body) = ask_in(&bench, &path, coding.token(), "");
                assert_eq!(field(&head, "Content-Encoding"), Some(coding.token()));
                assert_eq!(field(&head, "Vary"), Some("Accept-Encoding"));
                assert!(decoded(coding, &body) == plain, "{coding}");
                tags.push(field(&head, "ETag").unwrap().to_owned());

                let (head, part) = ask_in(&bench, &path, coding.token(), "Range: bytes=5-20\r\n");
                let range = format!("bytes 5-20/{}", body.len());
                assert_eq!(field(&head, "Content-Range"), Some(&*range));
                assert_eq!(part, body[5..=20]);
                let lines = format!("Range: bytes=-7\r\nIf-Range: {}\r\n", tags.last().unwrap());
                let (_, part) = ask_in(&bench, &path, coding.token(), &lines);
                assert_eq!(part, body[body.len() - 7..]);
            }
            let (head, body) = ask(&bench, &path, "");
            assert!(body == plain);
            assert_eq!(field(&head, "Vary"), Some("Accept-Encoding"));
            tags.push(field(&head, "ETag").unwrap().to_owned());
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 4, "one for each form: {tags:?}");
        let stats = bench.cache.stats();
        assert_eq!((stats.loads, stats.compressions), (before.loads + 1, before.compressions + 1));
    }
}

#[test]
fn what_is_not_compressed() {
    let bench = compressing(1 << 26);
    bench.file("short.txt", text(1023));
    bench.file("picture.png", text(5000));
    bench.file("noise.txt", noise(5000));
    bench.file("chunks.txt", text(CHUNK + 1));
    for path in ["/short.txt", "/picture.png", "/noise.txt", "/chunks.txt"] {
        let (head, _) = ask_in(&bench, path, "gzip, br, zstd", "");
        assert_eq!(
            (field(&head, "Content-Encoding"), field(&head, "Vary")),
            (None, None),
            "{path}"
        );
    }
    // What would not be kept would be compressed for each request.
    let bench = compressing(64 * 1024);
    bench.file("a.txt", text(5000));
    let (head, _) = ask_in(&bench, "/a.txt", "gzip", "");
    assert_eq!(field(&head, "Content-Encoding"), None);
    // Nobody has asked for it.
    let bench = Bench::new(1 << 26);
    bench.file("a.txt", text(5000));
    let (head, _) = ask_in(&bench, "/a.txt", "gzip", "");
    assert_eq!((field(&head, "Content-Encoding"), bench.cache.stats().compressions), (None, 0));
}

#[test]
fn a_sibling_goes_before_compression() {
    let bench = compressing(1 << 26);
    bench.file("a.txt", text(5000));
    bench.file("a.txt.gz", encoded(Coding::Gzip));
    let (_, body) = ask_in(&bench, "/a.txt", "gzip", "");
    assert_eq!(body, encoded(Coding::Gzip));
    let (head, body) = ask_in(&bench, "/a.txt", "br", "");
    assert_eq!(field(&head, "Content-Encoding"), Some("br"));
    assert_eq!(decoded(Coding::Brotli, &body), text(5000));
    // Gone: its coding is made too.
    fs::remove_file(bench.root.path().join("a.txt.gz")).unwrap();
    bench.at(Duration::from_secs(60));
    let (_, body) = ask_in(&bench, "/a.txt", "gzip", "");
    assert_eq!(decoded(Coding::Gzip, &body), text(5000));
}
