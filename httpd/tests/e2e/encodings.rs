//! Encoded representations, by curl and by a client that decodes them itself.

use std::fs;
use std::io::Read;
use std::time::Duration;

use tagwire_lab::Lab;

use crate::bed::{Bed, said, wait_until};
use crate::client::{Answer, Client};

/// A change on disk is seen, and a text compressed, within this.
const SEEN: Duration = Duration::from_millis(2500);

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

/// The answer to a GET with this Accept-Encoding.
fn ask(bed: &Bed, method: &str, path: &str, lines: &str) -> Answer {
    let mut client = Client::connect(bed);
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n").as_bytes());
    if method == "HEAD" { client.head() } else { client.answer() }
}

fn ask_in(bed: &Bed, path: &str, accepted: &str) -> Answer {
    ask(bed, "GET", path, &format!("Accept-Encoding: {accepted}\r\n"))
}

/// What the answer's content is, decoded.
fn decoded(answer: &Answer) -> Vec<u8> {
    let mut octets = Vec::new();
    let encoded = &answer.body[..];
    match answer.field("Content-Encoding") {
        None => octets.extend_from_slice(encoded),
        Some("gzip") => {
            flate2::read::MultiGzDecoder::new(encoded).read_to_end(&mut octets).unwrap();
        }
        Some("br") => {
            brotli::Decompressor::new(encoded, 4096).read_to_end(&mut octets).unwrap();
        }
        Some("zstd") => octets = zstd::decode_all(encoded).unwrap(),
        Some(other) => panic!("nobody asked for {other}"),
    }
    octets
}

fn text(seed: u32) -> Vec<u8> {
    let lines = (0..5000u32).map(|n| format!("{{ \"number\": {}, \"of\": {seed} }}\n", n * seed));
    lines.collect::<String>().into_bytes()
}

#[test]
fn text_is_compressed_once_for_all_who_ask() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let first = text(1);
    bed.put("data.json", &first);
    bed.put("small.json", b"{}");
    bed.start(&["--compress", "gzip,br,zstd", "--compress-min-size", "2k"]);
    for coding in CODINGS {
        // The first one to come may get it as it is, if the machine is slow.
        wait_until("a compressed text", SEEN, || {
            ask_in(&bed, "/data.json", coding).field("Content-Encoding") == Some(coding)
        });
        let answer = ask_in(&bed, "/data.json", coding);
        assert!(answer.body.len() < first.len() / 3 && decoded(&answer) == first, "{coding}");
        assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(answer.field("Content-Type"), Some("application/json"));
        let lines = format!("Accept-Encoding: {coding}\r\n");
        let head = ask(&bed, "HEAD", "/data.json", &lines);
        assert_eq!(head.lines_but_date(), answer.lines_but_date());
        let etag = answer.field("ETag").unwrap();
        let known = ask(&bed, "GET", "/data.json", &format!("{lines}If-None-Match: {etag}\r\n"));
        assert_eq!((known.status, known.field("Vary")), (304, Some("Accept-Encoding")));
        let other = ask(&bed, "GET", "/data.json", &format!("If-None-Match: {etag}\r\n"));
        assert_eq!((other.status, &other.body), (200, &first));
        // The range is one of what is sent.
        let range = format!("{lines}Range: bytes=10-99\r\nIf-Range: {etag}\r\n");
        let part = ask(&bed, "GET", "/data.json", &range);
        assert_eq!((part.status, &part.body[..]), (206, &answer.body[10..100]));
    }
    let small = ask_in(&bed, "/small.json", "gzip");
    assert_eq!((small.field("Content-Encoding"), small.field("Vary")), (None, None));
    let status = bed.status();
    assert_eq!(status["cache"]["compressions"], 1, "{status}");

    // A new text is compressed anew.
    let second = text(2);
    bed.put("data.json", &second);
    wait_until("the new text, compressed", SEEN, || {
        let answer = ask_in(&bed, "/data.json", "gzip");
        answer.field("Content-Encoding").is_some() && decoded(&answer) == second
    });
    // As clients do it: with all that they can decode.
    for accepted in [None, Some("Accept-Encoding: gzip"), Some("Accept-Encoding: identity")] {
        let mut line = vec!["curl", "-gsS", "-m", "10", "--compressed"];
        accepted.iter().for_each(|field| line.extend(["-H", field]));
        let url = bed.url("/data.json");
        line.push(&url);
        let output = bed.client(&line);
        assert!(output.status.success() && output.stdout == second, "{}", said(&output));
    }
    bed.finish();
}

#[test]
fn a_listing_is_compressed_in_each_form() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let name = |n: u32| format!("dir/one-of-many-files-{n}.txt");
    (0..200).for_each(|n| bed.put(&name(n), b"x"));
    bed.start(&["--listing", "auto", "--compress", "gzip,br,zstd"]);
    for form in ["Accept: text/html\r\n", "Accept: application/json\r\n"] {
        let plain = ask(&bed, "GET", "/dir/", form);
        assert_eq!((plain.status, plain.field("Content-Encoding")), (200, None));
        for coding in CODINGS {
            let lines = format!("{form}Accept-Encoding: {coding}\r\n");
            let listed = || ask(&bed, "GET", "/dir/", &lines);
            wait_until("a compressed listing", SEEN, || {
                listed().field("Content-Encoding") == Some(coding)
            });
            let answer = listed();
            assert!(answer.body.len() < plain.body.len() / 2, "{coding}");
            assert!(decoded(&answer) == plain.body, "{coding}");
            assert_eq!(answer.field("Vary"), Some("Accept, Accept-Encoding"));
            assert_eq!(answer.field("Content-Type"), plain.field("Content-Type"));
            let etag = answer.field("ETag").unwrap();
            assert_ne!(plain.field("ETag"), Some(etag));
            let known = format!("{lines}If-None-Match: {etag}\r\n");
            assert_eq!(ask(&bed, "GET", "/dir/", &known).status, 304);
        }
    }
    // As a client does it, of the directory as it is by then.
    bed.put(&name(200), b"x");
    wait_until("the new file in a compressed listing", SEEN, || {
        let url = bed.url("/dir/");
        let page = bed.client(&["curl", "-gsS", "-m", "10", "--compressed", &url]);
        String::from_utf8_lossy(&page.stdout).contains("one-of-many-files-200.txt")
    });
    bed.finish();
}

#[test]
fn siblings_are_sent_as_they_are_deployed() {
    let Some(bed) = Bed::up() else { return };
    let (first, second) = (text(3), text(4));
    bed.put("app.js", &first);
    let path = bed.www().join("app.js").to_str().unwrap().to_owned();
    let made = bed.client(&["gzip", "-k9", &path]);
    assert!(made.status.success(), "{}", said(&made));
    bed.put("app.js.zst", &zstd::encode_all(&first[..], 19).unwrap());
    let deployed = fs::read(format!("{path}.gz")).unwrap();
    let answer = ask_in(&bed, "/app.js", "gzip");
    assert!(answer.body == deployed && decoded(&answer) == first);
    let answer = ask_in(&bed, "/app.js", "gzip;q=0.9, zstd");
    assert_eq!((answer.field("Content-Encoding"), decoded(&answer) == first), (Some("zstd"), true));
    assert_eq!(ask_in(&bed, "/app.js", "br").field("Content-Encoding"), None);
    let by_name = ask(&bed, "GET", "/app.js.gz", "");
    assert_eq!(by_name.field("Content-Type"), Some("application/gzip"));
    assert!(by_name.body == deployed);

    // A sibling comes.
    let mut brotli = Vec::new();
    brotli::BrotliCompress(&mut &first[..], &mut brotli, &Default::default()).unwrap();
    bed.put("app.js.br", &brotli);
    wait_until("a new sibling", SEEN, || ask_in(&bed, "/app.js", "br").body == brotli);

    // One is replaced, and one goes.
    bed.put(".app.js.gz", &deployed);
    let file = fs::File::options().append(true).open(bed.www().join(".app.js.gz")).unwrap();
    // A second member, of nothing: another file, that decodes to the same.
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    encoder.try_finish().unwrap();
    drop(encoder);
    let replaced = fs::read(bed.www().join(".app.js.gz")).unwrap();
    assert_ne!(replaced, deployed);
    fs::rename(bed.www().join(".app.js.gz"), bed.www().join("app.js.gz")).unwrap();
    fs::remove_file(bed.www().join("app.js.br")).unwrap();
    wait_until("the replaced sibling", SEEN, || {
        let answer = ask_in(&bed, "/app.js", "gzip");
        answer.body == replaced && decoded(&answer) == first
    });
    wait_until("its end", SEEN, || ask_in(&bed, "/app.js", "br").body == first);

    // The file changes, and its siblings are forgotten: nobody gets the old text.
    let time = std::time::SystemTime::now() + Duration::from_secs(2);
    bed.put(".app.js", &second);
    fs::File::options()
        .write(true)
        .open(bed.www().join(".app.js"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    fs::rename(bed.www().join(".app.js"), bed.www().join("app.js")).unwrap();
    wait_until("the new file", SEEN, || ask_in(&bed, "/app.js", "identity").body == second);
    for coding in CODINGS {
        assert!(decoded(&ask_in(&bed, "/app.js", coding)) == second, "{coding}");
    }
    bed.finish();
}

#[test]
fn sites_say_what_they_compress() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let octets = text(5);
    bed.put("a.txt", &octets);
    let www = bed.www().display().to_string();
    let settings = format!(
        "[[site]]\nwww-root = \"{www}\"\n[[site]]\nhosts = [\"off.example\"]\nwww-root = \"{www}\"\n\
         compress = \"off\"\n[[site]]\nhosts = [\"br.example\"]\nwww-root = \"{www}\"\ncompress = \"br\"\n"
    );
    let config = bed.configure(&settings);
    bed.start(&["--config", &config]);
    for (host, coding) in
        [("any.example", Some("gzip")), ("off.example", None), ("br.example", Some("br"))]
    {
        let ask = || {
            let mut client = Client::connect(&bed);
            client.send(
                format!(
                    "GET /a.txt HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip, br, zstd\r\n\r\n"
                )
                .as_bytes(),
            );
            client.answer()
        };
        wait_until(host, SEEN, || ask().field("Content-Encoding") == coding);
        assert!(decoded(&ask()) == octets, "{host}");
    }
    bed.stop();
    bed.start(&["--compress", "off"]);
    let answer = ask_in(&bed, "/a.txt", "gzip, br, zstd");
    assert_eq!((answer.field("Content-Encoding"), answer.field("Vary")), (None, None));
    bed.finish();
}
