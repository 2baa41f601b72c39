//! Directories without an index file.

use super::*;
use crate::limits::MERGED_RESPONSE;
use crate::listing::ListingFormat;

fn bench(format: ListingFormat) -> Bench {
    let listing = Some(format);
    let bench =
        Bench::with(1 << 26, |root| SiteSettings { listing, ..SiteSettings::new(root.to_owned()) });
    bench.file("dir/a", "hello");
    bench.file("dir/b c", "x");
    bench.file("indexed/index.html", "index");
    bench
}

#[test]
fn a_directory_without_an_index_is_listed_where_it_shall_be() {
    let off = bench(ListingFormat::Off);
    assert_eq!(status_line(&off.text(get("/dir/"))), "HTTP/1.1 403 Forbidden");
    for (format, kind, begin) in [
        (ListingFormat::Html, "text/html; charset=utf-8", "<!doctype html>"),
        (ListingFormat::Json, "application/json", "[\n{\"name\":\"a\","),
        (ListingFormat::Auto, "text/html; charset=utf-8", "<!doctype html>"),
    ] {
        let bench = bench(format);
        let (head, body) = ask(&bench, "/dir/", "");
        assert_eq!(status_line(&head), "HTTP/1.1 200 OK");
        assert_eq!(field(&head, "Content-Type"), Some(kind));
        assert_eq!(field(&head, "X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(field(&head, "Vary"), (format == ListingFormat::Auto).then_some("Accept"));
        assert_eq!((field(&head, "Last-Modified"), field(&head, "Accept-Ranges")), (None, None));
        assert!(body.starts_with(begin.as_bytes()), "{}", body.escape_ascii());
        let tag = field(&head, "ETag").unwrap().to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        // Once more from the cache, and what leads elsewhere does so still.
        assert_eq!(ask(&bench, "/dir/", "Range: bytes=0-1\r\n"), (head.clone(), body));
        let without = bench.text(get("/dir/").replace("GET", "HEAD"));
        assert_eq!(without, format!("{head}\r\n\r\n"));
        let (_, index) = ask(&bench, "/indexed/", "");
        assert_eq!(index, b"index");
        assert_eq!(status_line(&bench.text(get("/dir"))), "HTTP/1.1 301 Moved Permanently");
        for (condition, status) in [
            (format!("If-None-Match: {tag}"), "304 Not Modified"),
            ("If-Modified-Since: Sun, 06 Nov 2094 08:49:37 GMT".to_owned(), "200 OK"),
            ("If-None-Match: \"x\"".to_owned(), "200 OK"),
            (format!("If-Match: {tag}"), "412 Precondition Failed"),
        ] {
            let answer =
                bench.text(format!("GET /dir/ HTTP/1.1\r\nHost: x\r\n{condition}\r\n\r\n"));
            assert_eq!(status_line(&answer), format!("HTTP/1.1 {status}"), "{condition}");
            assert!(status != "304 Not Modified" || field(&answer, "ETag") == Some(&*tag));
        }
    }
}

#[test]
fn the_client_chooses_a_form() {
    let bench = bench(ListingFormat::Auto);
    for _ in 0..2 {
        for (path, lines, json) in [
            ("/dir/", "", false),
            ("/dir/", "Accept: application/json\r\n", true),
            ("/dir/?format=json", "", true),
            ("/dir/?format=html", "Accept: application/json\r\n", false),
        ] {
            let (head, body) = ask(&bench, path, lines);
            assert_eq!(body.starts_with(b"["), json, "{path} {lines}");
            let kind = field(&head, "Content-Type").unwrap();
            assert_eq!(kind == "application/json", json, "{path} {lines}");
        }
    }
    let tags = ["", "Accept: application/json\r\n"].map(|lines| {
        let (head, _) = ask(&bench, "/dir/", lines);
        field(&head, "ETag").unwrap().to_owned()
    });
    assert_ne!(tags[0], tags[1]);
    assert_eq!(bench.cache.stats().loads, 1, "both are made at once");
}

#[test]
fn a_listing_follows_its_directory() {
    let bench = bench(ListingFormat::Json);
    let names = |passed: Duration| {
        bench.at(passed);
        String::from_utf8(ask(&bench, "/dir/", "").1).unwrap()
    };
    assert!(names(Duration::ZERO).contains("\"a\""));
    bench.file("dir/new", "x");
    fs::remove_file(bench.root.path().join("dir/a")).unwrap();
    let now = names(Duration::from_secs(60));
    assert!(now.contains("\"new\"") && !now.contains("\"a\""), "{now}");
}

#[test]
fn a_long_listing_is_sent_whole() {
    let bench = bench(ListingFormat::Html);
    for name in 0..200 {
        bench.file(&format!("dir/{name}"), "");
    }
    for _ in 0..2 {
        let (_, body) = ask(&bench, "/dir/", "");
        assert!(body.len() > MERGED_RESPONSE);
        assert!(body.ends_with(b"</body></html>\n"));
    }
}

#[test]
fn a_long_listing_is_compressed_once() {
    use crate::compress::tests::decoded;
    use crate::encoding::Coding;
    for (format, vary) in
        [(ListingFormat::Html, "Accept-Encoding"), (ListingFormat::Auto, "Accept, Accept-Encoding")]
    {
        let bench = Bench::with(1 << 26, |root| SiteSettings {
            listing: Some(format),
            compress: Some([Coding::Gzip].into()),
            compress_min_size: Some(1000),
            ..SiteSettings::new(root.to_owned())
        });
        (0..100).for_each(|name| bench.file(&format!("dir/{name}"), ""));
        bench.file("short/a", "");
        let gzip = "Accept-Encoding: gzip\r\n";
        let forms = if format == ListingFormat::Auto { &["html", "json"][..] } else { &["html"] };
        for form in forms {
            let path = format!("/dir/?format={form}");
            let (head, plain) = ask(&bench, &path, "");
            assert_eq!(
                (field(&head, "Vary"), field(&head, "Content-Encoding")),
                (Some(vary), None)
            );
            let (encoded_head, encoded) = ask(&bench, &path, gzip);
            assert_eq!(field(&encoded_head, "Content-Encoding"), Some("gzip"), "{form}");
            assert_eq!(field(&encoded_head, "Vary"), Some(vary));
            assert_eq!(field(&encoded_head, "Content-Type"), field(&head, "Content-Type"));
            assert!(encoded.len() < plain.len() / 2 && decoded(Coding::Gzip, &encoded) == plain);
            let tag = field(&encoded_head, "ETag").unwrap();
            assert_ne!(field(&head, "ETag"), Some(tag));
            let (head, _) = ask(&bench, &path, &format!("{gzip}Range: bytes=0-1\r\n"));
            assert_eq!(head, encoded_head);
            let known = format!("{gzip}If-None-Match: {tag}\r\n");
            let answer = bench.text(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{known}\r\n"));
            assert_eq!(status_line(&answer), "HTTP/1.1 304 Not Modified");
            assert_eq!((field(&answer, "ETag"), field(&answer, "Vary")), (Some(tag), Some(vary)));
        }
        let stats = bench.cache.stats();
        assert_eq!((stats.loads, stats.compressions), (1, forms.len() as u64));
        let (head, _) = ask(&bench, "/short/", gzip);
        assert_eq!(field(&head, "Content-Encoding"), None, "it is shorter than what is compressed");
    }
}
