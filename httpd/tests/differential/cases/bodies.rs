//! Bodies, and what says where they end (RFC 9112 6, 7; RFC 9110 10.1.1).

use crate::case::{Case, Shape, with};

/// Lines, and what follows the head.
const BODIES: &[(&str, &str, &str)] = &[
    ("none", "Content-Length: 0\r\n", ""),
    ("of five", "Content-Length: 5\r\n", "hello"),
    ("of five with a sign", "Content-Length: +5\r\n", "hello"),
    ("of minus five", "Content-Length: -5\r\n", "hello"),
    ("of 0x5", "Content-Length: 0x5\r\n", "hello"),
    ("of 5.0", "Content-Length: 5.0\r\n", "hello"),
    ("of 05", "Content-Length: 05\r\n", "hello"),
    ("of five and a space", "Content-Length: 5 \r\n", "hello"),
    ("of five in a list", "Content-Length: 5, 5\r\n", "hello"),
    ("of five and six in a list", "Content-Length: 5, 6\r\n", "hello"),
    ("of five twice", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
    ("of five and six", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
    ("of an empty length", "Content-Length:\r\n", ""),
    ("of a length that is text", "Content-Length: five\r\n", "hello"),
    ("of more than 64 bits", "Content-Length: 99999999999999999999\r\n", ""),
    ("of 2^64 and five", "Content-Length: 18446744073709551621\r\n", "hello"),
    ("of 2^63", "Content-Length: 9223372036854775808\r\n", ""),
    ("chunked", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    ("chunked, none", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("chunked, two chunks", "Transfer-Encoding: chunked\r\n", "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
    ("chunked in capitals", "Transfer-Encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    (
        "chunked with a trailer",
        "Transfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
    ),
    (
        "chunked with a broken trailer",
        "Transfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\nX A\r\n\r\n",
    ),
    (
        "chunked with an extension",
        "Transfer-Encoding: chunked\r\n",
        "5;a=b\r\nhello\r\n0;c\r\n\r\n",
    ),
    (
        "chunked with a quoted extension",
        "Transfer-Encoding: chunked\r\n",
        "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunked with a space behind the size",
        "Transfer-Encoding: chunked\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunked with a space before the size",
        "Transfer-Encoding: chunked\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunked with zeros before the size",
        "Transfer-Encoding: chunked\r\n",
        "0005\r\nhello\r\n000\r\n\r\n",
    ),
    (
        "chunked with capital digits",
        "Transfer-Encoding: chunked\r\n",
        "A\r\nhellohello\r\n0\r\n\r\n",
    ),
    (
        "chunked with 0x before the size",
        "Transfer-Encoding: chunked\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
    ),
    ("chunked with a sign", "Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n"),
    ("chunked with minus", "Transfer-Encoding: chunked\r\n", "-5\r\nhello\r\n0\r\n\r\n"),
    ("chunked with no size", "Transfer-Encoding: chunked\r\n", "\r\nhello\r\n0\r\n\r\n"),
    (
        "chunked with a size that is none",
        "Transfer-Encoding: chunked\r\n",
        "xyz\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunked with a size of 17 digits",
        "Transfer-Encoding: chunked\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunked with more than the size",
        "Transfer-Encoding: chunked\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
    ),
    ("chunked that ends in LF", "Transfer-Encoding: chunked\r\n", "5\nhello\n0\n\n"),
    ("chunked, size line ends in LF", "Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n"),
    ("chunked, data ends in LF", "Transfer-Encoding: chunked\r\n", "5\r\nhello\n0\r\n\r\n"),
    ("chunked with a bare CR", "Transfer-Encoding: chunked\r\n", "5\rXhello\r\n0\r\n\r\n"),
    ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("chunked, chunked", "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
    ("gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    ("chunked, identity", "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
    ("identity", "Transfer-Encoding: identity\r\n", ""),
    ("of a coding that nobody knows", "Transfer-Encoding: x\r\n", ""),
    ("of an empty coding", "Transfer-Encoding:\r\n", ""),
    ("xchunked", "Transfer-Encoding: xchunked\r\n", ""),
    ("chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n", ""),
    ("chunked with a parameter", "Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n"),
    ("chunked behind a vertical tab", "Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
    ("chunked, a space before the colon", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
    ("chunked with a length", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    (
        "chunked with a length behind",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "0\r\n\r\n",
    ),
    ("chunked in a folded line", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    ("with a coding of its content", "Content-Length: 5\r\nContent-Encoding: gzip\r\n", "hello"),
    ("that looks like a request", "Content-Length: 31\r\n", "GET /missing HTTP/1.1\r\nHost: x\r\n"),
    ("whose length is in a field with an underscore", "Content_Length: 5\r\n", ""),
    ("with another expectation", "Content-Length: 5\r\nExpect: 200-ok\r\n", "hello"),
    ("that is expected and there", "Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"),
    ("that is expected and none", "Content-Length: 0\r\nExpect: 100-continue\r\n", ""),
    ("that is expected without a length", "Expect: 100-continue\r\n", ""),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, lines, body) in BODIES {
        cases.push(Case::new(format!("body {name}"), with(lines) + body));
    }
    for (name, lines, body) in BODIES.iter().filter(|(name, ..)| POSTED.contains(name)) {
        let request = format!("POST /letters HTTP/1.1\r\nHost: tagwire\r\n{lines}\r\n{body}");
        cases.push(Case::new(format!("body of POST {name}"), request));
    }
    for len in [1000, 60_000, 70_000, 900_000] {
        let request = with(&format!("Content-Length: {len}\r\n")) + &"b".repeat(len);
        cases.push(Case::new(format!("body of {len} octets"), request));
        let chunks = "1000\r\n".to_owned() + &"b".repeat(0x1000) + "\r\n";
        let chunked = chunks.repeat(len / 0x1000) + "0\r\n\r\n";
        let request = with("Transfer-Encoding: chunked\r\n") + &chunked;
        cases.push(Case::new(format!("body of {len} octets, chunked"), request));
    }
    cases.push(Case::new("body of 2 MB", with("Content-Length: 2000000\r\n")));
    cases.extend([
        Case::new("body of HTTP/1.0", "GET /letters HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"),
        Case::new(
            "body of HTTP/1.0, chunked",
            "GET /letters HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        Case::new(
            "body of HTTP/1.0 that is kept",
            "GET /letters HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        ),
        Case::new("body of HEAD", "HEAD /letters HTTP/1.1\r\nHost: tagwire\r\nContent-Length: 5\r\n\r\nhello"),
        Case::new("body that is cut", with("Content-Length: 99\r\n") + "hello"),
        Case::new("body that is cut, chunked", with("Transfer-Encoding: chunked\r\n") + "5\r\nhel"),
        Case::new("body that is expected and comes", with("Content-Length: 5\r\nExpect: 100-continue\r\n"))
            .then("hello"),
        Case::new(
            "body that is expected and comes, chunked",
            with("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"),
        )
        .then("5\r\nhello\r\n0\r\n\r\n"),
        Case::new(
            "body that is expected in capitals and comes",
            with("Content-Length: 5\r\nExpect: 100-CONTINUE\r\n"),
        )
        .then("hello"),
        Case::new(
            "body that is expected by POST and comes",
            "POST /letters HTTP/1.1\r\nHost: tagwire\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
        .then("hello"),
        Case::new(
            "body that is expected for what is missing and comes",
            "GET /missing HTTP/1.1\r\nHost: tagwire\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
        .then("hello"),
        Case::new(
            "body that is expected in HTTP/1.0",
            "GET /letters HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
        .then("hello"),
        Case::new(
            "body, then a request",
            with("Content-Length: 5\r\n") + "hello" + &with(""),
        )
        .answered(&[Shape::Framed; 2]),
        Case::new(
            "body, chunked, then a request",
            with("Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n" + &with(""),
        )
        .answered(&[Shape::Framed; 2]),
        Case::new(
            "body with an empty line behind, then a request",
            with("Content-Length: 5\r\n") + "hello\r\n" + &with(""),
        )
        .answered(&[Shape::Framed; 2]),
    ]);
    cases
}

/// Bodies that are posted too.
const POSTED: &[&str] = &[
    "none",
    "of five",
    "of five and six",
    "of 2^64 and five",
    "chunked",
    "chunked with a sign",
    "chunked with a length",
    "gzip, chunked",
    "that is expected and there",
];
