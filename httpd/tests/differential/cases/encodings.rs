//! Encoded siblings (RFC 9110 12.5.3, 8.4): `/packed.txt` has one of gzip.

use crate::case::Case;

const ACCEPTED: &[&str] = &[
    "gzip",
    "GZIP",
    "x-gzip",
    "gzip, deflate, br",
    "gzip, deflate, br, zstd",
    "br, gzip",
    "deflate",
    "br",
    "identity",
    "identity, gzip",
    "gzip, identity",
    "*",
    "*;q=0",
    "*;q=0.5",
    "",
    "gzip;q=1",
    "gzip;q=1.0",
    "gzip;q=1.000",
    "gzip;q=0",
    "gzip;q=0.0",
    "gzip;q=0.000",
    "gzip;q=0.001",
    "gzip;q=0.5",
    "gzip; q=0.5",
    "gzip ;q=0.5",
    "gzip;Q=0",
    "gzip;q=2",
    "gzip;q=-1",
    "gzip;q=x",
    "gzip;q=",
    "gzip;q",
    "gzip;x=y",
    "gzip;q=0, *",
    "*;q=0, gzip",
    "identity;q=0",
    "identity;q=0, gzip;q=0",
    "identity;q=1, gzip;q=0.5",
    "identity;q=0.5, gzip;q=1",
    "deflate;q=1, gzip;q=0.1",
    "gzipped",
    "not-gzip",
    "xgzip",
    "gzip-not, gzip",
    "gzip,",
    ",gzip",
    ",,gzip,,",
    "gzip gzip",
    "\"gzip\"",
    "gzip;q=0.5;q=0",
];

pub(crate) fn cases() -> Vec<Case> {
    let on = |name: &str, line: &str, lines: &str| {
        Case::new(format!("encoding {name}"), format!("{line}\r\nHost: tagwire\r\n{lines}\r\n"))
    };
    let packed = "GET /packed.txt HTTP/1.1";
    let gzip = "Accept-Encoding: gzip\r\n";
    let mut cases: Vec<Case> = ACCEPTED
        .iter()
        .map(|value| on(&format!("{value:?}"), packed, &format!("Accept-Encoding: {value}\r\n")))
        .collect();
    let both = |lines: &str| format!("{gzip}{lines}\r\n");
    cases.extend([
        on("without the field", packed, ""),
        on("in two lines", packed, "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n"),
        on("of HEAD", "HEAD /packed.txt HTTP/1.1", gzip),
        on("of HTTP/1.0", "GET /packed.txt HTTP/1.0", gzip),
        on("of POST", "POST /packed.txt HTTP/1.1", gzip),
        on("by a proxy", packed, &both("Via: 1.1 proxy")),
        on("of the sibling itself", "GET /packed.txt.gz HTTP/1.1", gzip),
        on("of the sibling itself, without", "GET /packed.txt.gz HTTP/1.1", ""),
        on("of a file without a sibling", "GET /plain.txt HTTP/1.1", gzip),
        on("of what is missing", "GET /missing HTTP/1.1", gzip),
        on("of a sibling without a file", "GET /alone.txt HTTP/1.1", gzip),
        on("of an index", "GET /packed/ HTTP/1.1", gzip),
        on("of a directory", "GET /packed HTTP/1.1", gzip),
        on("of a part", packed, &both("Range: bytes=0-4")),
        on("of two parts", packed, &both("Range: bytes=0-0,4-4")),
        on("of a part behind it", packed, &both("Range: bytes=1000-")),
        on("of a part, without", packed, "Range: bytes=1000-1003\r\n"),
        on("not modified", packed, &both("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT")),
        on("modified", packed, &both("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT")),
        on("known, whatever it is", packed, &both("If-None-Match: *")),
        on("not wanted", packed, &both("If-Match: \"x\"")),
    ]);
    cases
}
