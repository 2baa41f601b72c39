//! Parts of files, and the conditions before them.

use super::*;
use crate::limits::SMALL_RANGE;

#[test]
fn every_range_is_the_slice_it_names() {
    let bench = Bench::new(1 << 26);
    let octets: Vec<u8> = (0..3 * CHUNK + 1234).map(|at| (at * 7 / 3) as u8).collect();
    let len = octets.len();
    bench.file("small", &octets[..100]);
    bench.file("middle", &octets[..100_000]);
    bench.file("large", &octets);
    for (path, len) in [("/small", 100), ("/middle", 100_000), ("/large", len)] {
        let (head, body) = ask(&bench, path, "");
        assert_eq!(field(&head, "Accept-Ranges"), Some("bytes"));
        assert!(body == octets[..len], "{path}");
        for (first, last) in [
            (0, 0),
            (1, 98),
            (0, len - 1),
            (len - 1, len - 1),
            (CHUNK - 1, CHUNK),
            (CHUNK, 2 * CHUNK - 1),
            (CHUNK + 5, 3 * CHUNK + 7),
        ] {
            if last >= len {
                continue;
            }
            let (head, body) = ask(&bench, path, &format!("Range: bytes={first}-{last}\r\n"));
            assert_eq!(status_line(&head), "HTTP/1.1 206 Partial Content");
            let named = format!("bytes {first}-{last}/{len}");
            assert_eq!(field(&head, "Content-Range"), Some(&*named));
            assert!(body == octets[first..=last], "{path} {named}");
        }
        let (head, _) = ask(&bench, path, &format!("Range: bytes={len}-\r\n"));
        assert_eq!(status_line(&head), "HTTP/1.1 416 Range Not Satisfiable");
        assert_eq!(field(&head, "Content-Range"), Some(&*format!("bytes */{len}")));
    }
}

#[test]
fn several_ranges_come_as_parts() {
    let bench = Bench::new(1 << 26);
    let octets: Vec<u8> = (0..2 * CHUNK + 99).map(|at| (at / 3) as u8).collect();
    let len = octets.len();
    bench.file("small.txt", &octets[..100]);
    bench.file("large.txt", &octets);
    for (path, len, last) in [("/small.txt", 100, 10), ("/large.txt", len, CHUNK + 9)] {
        let (head, body) = ask(&bench, path, &format!("Range: bytes=-1,5-{last}\r\n"));
        assert_eq!(status_line(&head), "HTTP/1.1 206 Partial Content");
        let kind = field(&head, "Content-Type").unwrap();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let mut expected = Vec::new();
        for range in [len - 1..len, 5..last + 1] {
            let lead = format!(
                "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes \
                 {}-{}/{len}\r\n\r\n",
                range.start,
                range.end - 1
            );
            expected.extend_from_slice(lead.as_bytes());
            expected.extend_from_slice(&octets[range]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(body == expected, "{path}");
    }
}

#[test]
fn what_is_read_is_bounded_by_what_is_asked_for() {
    const CHUNKS: usize = 40;
    let octets: Vec<u8> = (0..CHUNKS * CHUNK).map(|at| (at / 7) as u8).collect();
    let list = |len: usize| {
        let ranges = (0..CHUNKS).map(|at| (at * CHUNK + 5, at * CHUNK + 4 + len));
        let ranges: Vec<_> = ranges.map(|(first, last)| format!("{first}-{last}")).collect();
        format!("Range: bytes={}\r\n", ranges.join(","))
    };
    for (lines, most) in [
        (list(1), CHUNKS),
        (list(SMALL_RANGE as usize), CHUNKS * SMALL_RANGE as usize),
        // More than that is worth a chunk, and is kept.
        (list(SMALL_RANGE as usize + 1), CHUNKS * CHUNK),
        // Nothing is read ahead beyond what is asked for.
        (format!("Range: bytes=0-{CHUNK}\r\n"), 2 * CHUNK),
        ("Range: bytes=5-5\r\n".to_owned(), CHUNK),
    ] {
        let bench = Bench::new(1 << 26);
        bench.file("large", &octets);
        let (head, body) = ask(&bench, "/large", &lines);
        assert_eq!(status_line(&head), "HTTP/1.1 206 Partial Content");
        assert!(body.len() < octets.len());
        let read = bench.cache.stats().octets_read;
        assert!(read <= most as u64, "{read} for {lines}");
    }
    // What is in the cache is not read once more.
    let bench = Bench::new(1 << 26);
    bench.file("large", &octets);
    assert!(ask(&bench, "/large", "").1 == octets);
    let read = bench.cache.stats().octets_read;
    assert_eq!(read, octets.len() as u64);
    let (_, body) = ask(&bench, "/large", &list(1));
    for at in 0..CHUNKS {
        let line = format!("bytes {}-{0}/{}\r\n\r\n", at * CHUNK + 5, octets.len());
        let from = body.windows(line.len()).position(|it| it == line.as_bytes()).unwrap();
        assert_eq!(body[from + line.len()], octets[at * CHUNK + 5]);
    }
    assert_eq!(bench.cache.stats().octets_read, read);
}

#[test]
fn conditions_go_before_ranges() {
    let bench = Bench::new(1 << 26);
    bench.file("a", "hello");
    let (head, _) = ask(&bench, "/a", "");
    let etag = field(&head, "ETag").unwrap().to_owned();
    let modified = field(&head, "Last-Modified").unwrap().to_owned();
    for (lines, status) in [
        (format!("If-Match: {etag}\r\nRange: bytes=0-0\r\n"), "206 Partial Content"),
        ("If-Match: \"other\"\r\nRange: bytes=0-0\r\n".into(), "412 Precondition Failed"),
        (format!("If-Range: {etag}\r\nRange: bytes=0-0\r\n"), "206 Partial Content"),
        (format!("If-Range: {modified}\r\nRange: bytes=0-0\r\n"), "206 Partial Content"),
        ("If-Range: \"other\"\r\nRange: bytes=0-0\r\n".into(), "200 OK"),
        ("If-Range: \"other\"\r\nRange: bytes=99-\r\n".into(), "200 OK"),
    ] {
        let (head, _) = ask(&bench, "/a", &lines);
        assert_eq!(status_line(&head), format!("HTTP/1.1 {status}"), "{lines}");
    }
    let known =
        format!("GET /a HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\nRange: bytes=0-0\r\n\r\n");
    assert!(bench.text(known).starts_with("HTTP/1.1 304 "));
    let head = bench.text("HEAD /a HTTP/1.1\r\nHost: x\r\nRange: bytes=0-0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "RFC 9110 14.2");
}
