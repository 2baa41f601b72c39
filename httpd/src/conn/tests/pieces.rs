//! Whole connections by chance, see [`fuzz_connection`].

use proptest::prelude::*;

use super::*;

/// What requests are made of, and what they should not be made of.
const WORDS: [&str; 42] = [
    "GET ",
    "HEAD ",
    "OPTIONS ",
    "POST ",
    "/",
    "/a",
    "/large",
    "/dir",
    "/none",
    "/closed",
    "/%zz",
    "*",
    "http://other/a",
    " HTTP/1.1",
    " HTTP/1.0",
    "\r\n",
    "\n",
    "\r\n\r\n",
    "Host: x\r\n",
    "Host: other\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 65536\r\n",
    "abc",
    "Transfer-Encoding: chunked\r\n",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Range: bytes=1-2\r\n",
    "Range: bytes=0-0,2-2\r\n",
    "Range: bytes=9-\r\n",
    "If-None-Match: *\r\n",
    "If-Match: \"x\"\r\n",
    "Accept-Encoding: gzip\r\n",
    "Origin: https://x\r\n",
    "Access-Control-Request-Method: GET\r\n",
    "A:",
    "?q",
    " ",
    "\0",
    "\r",
];

/// A whole request, to put others behind.
fn request() -> impl Strategy<Value = String> {
    let methods = ["GET", "HEAD", "OPTIONS", "POST", "BREW"];
    let targets =
        ["/", "/a", "/large", "/dir?x", "/none", "/closed", "/lost", "/..", "http://other/none"];
    let field = prop::sample::select(
        WORDS.into_iter().filter(|word| word.ends_with("\r\n")).collect::<Vec<_>>(),
    );
    (
        prop::sample::select(methods.to_vec()),
        prop::sample::select(targets.to_vec()),
        prop::sample::select(vec!["1.0", "1.1"]),
        prop::collection::vec(field, 0..3),
        prop::sample::select(vec!["", "abc", "3\r\nabc\r\n0\r\n\r\n", "\r\n"]),
    )
        .prop_map(|(method, target, version, fields, body)| {
            let fields = fields.concat();
            format!("{method} {target} HTTP/{version}\r\nHost: x\r\n{fields}\r\n{body}")
        })
}

proptest! {
    #[test]
    fn requests_are_answered_alike_in_any_pieces(
        requests in prop::collection::vec(request(), 1..5),
        seed: u8,
    ) {
        fuzz_connection(&[&[seed], requests.concat().as_bytes()].concat());
    }

    #[test]
    fn words_in_any_order_are_answered_alike(
        words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..24),
        seed: u8,
    ) {
        fuzz_connection(&[&[seed], words.concat().as_bytes()].concat());
    }

    #[test]
    fn any_octets_are_survived(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_connection(&data);
    }
}

#[test]
fn long_heads_are_judged_alike_in_any_pieces() {
    let max = Limits::DEFAULT.max_head;
    let filler = |octets: usize| "a".repeat(octets);
    for head in [
        format!("GET /{}", filler(max + 600)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", filler(max + 600)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", filler(9000), filler(9000)),
        format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", filler(max + 600)),
        format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\0\r\n\r\n", filler(max + 600)),
        format!("GET / HTTP/9.9\r\nHost: x\r\nA: {}\r\n\r\n", filler(max + 600)),
        format!("\r\n\r\nGET /{} HTTP/1.1\r\nHost: x\r\n\r\n", filler(8191)),
    ] {
        for seed in [10, 100, 255] {
            fuzz_connection(&[&[seed], head.as_bytes()].concat());
        }
    }
}
