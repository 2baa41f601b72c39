//! Ranges (RFC 9110 14) and If-Range (13.1.5), of the 26 octets of `/letters`.

use crate::case::{Case, with};
use crate::subjects::BIG;

const RANGES: &[&str] = &[
    "bytes=0-0",
    "bytes=0-4",
    "bytes=0-25",
    "bytes=0-26",
    "bytes=0-",
    "bytes=1-",
    "bytes=25-",
    "bytes=25-25",
    "bytes=26-",
    "bytes=26-30",
    "bytes=-1",
    "bytes=-26",
    "bytes=-27",
    "bytes=-0",
    "bytes=-",
    "bytes=",
    "bytes",
    "bytes 0-4",
    "",
    "bytes=5-2",
    "bytes=4-4",
    "bytes=00-04",
    "bytes=0-99999999999999999999999999",
    "bytes=9223372036854775807-",
    "bytes=9223372036854775808-",
    "bytes=18446744073709551616-",
    "bytes=0-9223372036854775807",
    "bytes=-9223372036854775808",
    "bytes=-99999999999999999999999999",
    "BYTES=0-4",
    "Bytes=0-4",
    "bytes =0-4",
    "bytes= 0-4",
    "bytes=0 -4",
    "bytes=0- 4",
    "bytes=0-4 ",
    " bytes=0-4",
    "bytes=\t0-4",
    "bytes=a-b",
    "bytes=0-a",
    "bytes=a-",
    "bytes=0x0-4",
    "bytes=+0-4",
    "bytes=0--4",
    "bytes=--4",
    "bytes=0-4-8",
    "bytes=0-4x",
    "bytes=0.5-4",
    "bytes=0",
    "bytes:0-4",
    "bytes=0:4",
    "\"bytes=0-4\"",
    "items=0-4",
    "none",
    "octets=0-4",
    // Lists.
    "bytes=0-0,2-2",
    "bytes=0-0, 2-2",
    "bytes=0-0 ,2-2",
    "bytes=0-0;2-2",
    "bytes=0-0,",
    "bytes=,0-0",
    "bytes=,",
    "bytes=0-0,,2-2",
    "bytes=0-0,-1",
    "bytes=-1,0-0",
    "bytes=20-,0-3",
    "bytes=0-4,2-8",
    "bytes=0-4,5-8",
    "bytes=0-4,0-4",
    "bytes=0-4,4-4",
    "bytes=0-,0-",
    "bytes=0-,0-,0-",
    "bytes=0-25,0-25",
    "bytes=0-12,13-25",
    "bytes=0-4,30-40",
    "bytes=30-40,0-4",
    "bytes=30-40,50-60",
    "bytes=0-4,5-2",
    "bytes=5-2,0-4",
    "bytes=0-4,x",
    "bytes=x,0-4",
    "bytes=0-4,-0",
    "bytes=0-0,2-2,4-4,6-6,8-8",
    "bytes=0-4,bytes=6-8",
    "bytes=1-1,3-3,1-1",
];

pub(crate) fn cases() -> Vec<Case> {
    let on = |target: &str, name: String, lines: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: tagwire\r\n{lines}\r\n");
        Case::new(name, request)
    };
    let mut cases: Vec<Case> = RANGES
        .iter()
        .map(|range| {
            let name = format!("range {}", range.escape_debug());
            Case::new(name, with(&format!("Range: {range}\r\n")))
        })
        .collect();
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=1-", "bytes=0-0,1-1", "x"] {
        let line = format!("Range: {range}\r\n");
        cases.push(on("/empty", format!("range of nothing {range}"), &line));
    }
    for target in ["/", "/missing", "/sub", "/sub/", "/bare/"] {
        cases.push(on(target, format!("range of {target}"), "Range: bytes=0-4\r\n"));
    }
    let last = format!("bytes={}-", BIG - 3);
    let across = "bytes=1048570-1048585";
    let apart = format!("bytes=0-1,1048575-1048576,{}-", BIG - 2);
    for range in
        [&*last, across, &apart, "bytes=1000000-", "bytes=-2000000", "bytes=1048576-1048576"]
    {
        let line = format!("Range: {range}\r\n");
        cases.push(on("/big", format!("range of much {range}"), &line));
    }
    let many = |count: usize| {
        let list: Vec<String> =
            (0..count).map(|n| format!("{}-{}", n * 100, n * 100 + 1)).collect();
        format!("Range: bytes={}\r\n", list.join(","))
    };
    for count in [10, 64, 65, 500] {
        cases.push(on("/big", format!("range list of {count}"), &many(count)));
    }
    let bomb = format!("Range: bytes=0-{}\r\n", ",0-".repeat(500));
    cases.push(on("/big", "range list of 500 times all".to_owned(), &bomb));
    cases.extend(
        [
            ("range twice", "Range: bytes=0-4\r\nRange: bytes=6-8\r\n"),
            ("range twice, the same", "Range: bytes=0-4\r\nRange: bytes=0-4\r\n"),
            ("range in capitals", "RANGE: bytes=0-4\r\n"),
            ("request-range", "Request-Range: bytes=0-4\r\n"),
            ("range if its tag", "Range: bytes=0-4\r\nIf-Range: {etag}\r\n"),
            ("range if another tag", "Range: bytes=0-4\r\nIf-Range: \"x\"\r\n"),
            ("range if its tag, weak", "Range: bytes=0-4\r\nIf-Range: W/{etag}\r\n"),
            ("range if any tag", "Range: bytes=0-4\r\nIf-Range: *\r\n"),
            (
                "range if its date",
                "Range: bytes=0-4\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            ),
            (
                "range if a later date",
                "Range: bytes=0-4\r\nIf-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\n",
            ),
            (
                "range if an earlier date",
                "Range: bytes=0-4\r\nIf-Range: Sun, 06 Nov 1994 08:49:36 GMT\r\n",
            ),
            (
                "range if its date, RFC 850",
                "Range: bytes=0-4\r\nIf-Range: Sunday, 06-Nov-94 08:49:37 GMT\r\n",
            ),
            ("range if nonsense", "Range: bytes=0-4\r\nIf-Range: yesterday\r\n"),
            ("range if nothing", "Range: bytes=0-4\r\nIf-Range:\r\n"),
            ("range missing, if its tag", "If-Range: {etag}\r\n"),
            (
                "range that is unsatisfiable, if another tag",
                "Range: bytes=99-\r\nIf-Range: \"x\"\r\n",
            ),
            ("range that is unsatisfiable, if its tag", "Range: bytes=99-\r\nIf-Range: {etag}\r\n"),
            ("range and its tag known", "Range: bytes=0-4\r\nIf-None-Match: {etag}\r\n"),
            ("range and another tag known", "Range: bytes=0-4\r\nIf-None-Match: \"x\"\r\n"),
            ("range and another tag wanted", "Range: bytes=0-4\r\nIf-Match: \"x\"\r\n"),
            ("range and its tag wanted", "Range: bytes=0-4\r\nIf-Match: {etag}\r\n"),
            (
                "range not modified",
                "Range: bytes=0-4\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            ),
        ]
        .into_iter()
        .map(|(name, lines)| Case::new(name, with(lines))),
    );
    for (name, request) in [
        ("range in HTTP/1.0", "GET /letters HTTP/1.0\r\nRange: bytes=0-4\r\n\r\n"),
        ("range of HEAD", "HEAD /letters HTTP/1.1\r\nHost: tagwire\r\nRange: bytes=0-4\r\n\r\n"),
        (
            "range of HEAD that is unsatisfiable",
            "HEAD /letters HTTP/1.1\r\nHost: tagwire\r\nRange: bytes=99-\r\n\r\n",
        ),
        (
            "range of HEAD, several",
            "HEAD /letters HTTP/1.1\r\nHost: tagwire\r\nRange: bytes=0-0,2-2\r\n\r\n",
        ),
        (
            "range of POST",
            "POST /letters HTTP/1.1\r\nHost: tagwire\r\nContent-Length: 0\r\nRange: bytes=0-4\r\n\r\n",
        ),
    ] {
        cases.push(Case::new(name, request));
    }
    cases
}
