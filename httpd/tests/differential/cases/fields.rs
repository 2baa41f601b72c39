//! Field lines (RFC 9112 5, RFC 9110 5).

use crate::case::{Case, with};

const LINES: &[(&str, &str)] = &[
    ("that is usual", "Accept: */*\r\n"),
    ("without a value", "Accept:\r\n"),
    ("without a space", "Accept:*/*\r\n"),
    ("with spaces around", "Accept:   */*   \r\n"),
    ("with tabs around", "Accept:\t*/*\t\r\n"),
    ("with a space before the colon", "Accept : */*\r\n"),
    ("with a tab before the colon", "Accept\t: */*\r\n"),
    ("with a space in its name", "Acc ept: */*\r\n"),
    ("without a colon", "Accept\r\n"),
    ("without a name", ": value\r\n"),
    ("that is a colon", ":\r\n"),
    ("folded by a space", "X-A: a\r\n b\r\n"),
    ("folded by a tab", "X-A: a\r\n\tb\r\n"),
    ("folded to nothing", "X-A: a\r\n \r\n"),
    ("with underscores", "X_A_B: c\r\n"),
    ("with a dot in its name", "X.A: c\r\n"),
    ("with all that a token may have", "!#$%&'*+-.^_`|~09azAZ: c\r\n"),
    ("with a slash in its name", "X/A: c\r\n"),
    ("with a parenthesis in its name", "X(A): c\r\n"),
    ("with quotes in its name", "\"X\": c\r\n"),
    ("with an at sign in its name", "X@A: c\r\n"),
    ("with a bracket in its name", "X[A]: c\r\n"),
    ("with an equals sign in its name", "X=A: c\r\n"),
    ("with NUL in its name", "X\0A: c\r\n"),
    ("with NUL in its value", "X-A: b\0c\r\n"),
    ("with a control octet in its name", "X\u{1}A: c\r\n"),
    ("with a control octet in its value", "X-A: b\u{1}c\r\n"),
    ("with a vertical tab in its value", "X-A: b\u{b}c\r\n"),
    ("with DEL in its value", "X-A: b\u{7f}c\r\n"),
    ("with a tab in its value", "X-A: b\tc\r\n"),
    ("with a bare CR in its value", "X-A: b\rc\r\n"),
    ("with a bare CR at its end", "X-A: b\r\r\n"),
    ("with a bare CR in its name", "X\rA: c\r\n"),
    ("that ends in LF", "X-A: b\n"),
    ("with UTF-8 in its value", "X-A: \u{e4}\u{65e5}\r\n"),
    ("with UTF-8 in its name", "X-\u{e4}: b\r\n"),
    ("with a colon in its value", "X-A: b:c\r\n"),
    ("a hundred times", ""),
    ("with cookies", "Cookie: a=b; c=d\r\nCookie: e=f\r\n"),
    ("Upgrade", "Connection: upgrade\r\nUpgrade: websocket\r\n"),
    (
        "Upgrade to h2c",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    ),
    ("Accept that allows nothing", "Accept: image/none\r\n"),
    ("Accept-Charset that allows nothing", "Accept-Charset: x\r\n"),
    ("Accept-Language", "Accept-Language: de\r\n"),
    ("Accept-Encoding identity", "Accept-Encoding: identity\r\n"),
    ("Accept-Encoding empty", "Accept-Encoding:\r\n"),
    ("Max-Forwards", "Max-Forwards: 0\r\n"),
    ("Pragma", "Pragma: no-cache\r\n"),
    ("Cache-Control no-cache", "Cache-Control: no-cache\r\n"),
    ("Cache-Control only-if-cached", "Cache-Control: only-if-cached\r\n"),
    ("TE", "TE: trailers, deflate\r\n"),
    ("Trailer", "Trailer: X-A\r\n"),
    ("Via", "Via: 1.1 proxy\r\n"),
    ("X-Forwarded-For", "X-Forwarded-For: 1.2.3.4\r\n"),
    ("X-HTTP-Method-Override", "X-HTTP-Method-Override: DELETE\r\n"),
    ("X-Original-URL", "X-Original-URL: /missing\r\n"),
    ("X-Rewrite-URL", "X-Rewrite-URL: /missing\r\n"),
    ("X-Accel-Redirect", "X-Accel-Redirect: /missing\r\n"),
    ("Authorization", "Authorization: Basic YTpi\r\n"),
    ("Origin", "Origin: http://other\r\n"),
    ("Referer", "Referer: http://other/\r\n"),
    ("User-Agent empty", "User-Agent:\r\n"),
    ("User-Agent of old", "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0)\r\n"),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, lines) in LINES {
        let lines = if lines.is_empty() { "X-A: b\r\n".repeat(100) } else { (*lines).to_owned() };
        cases.push(Case::new(format!("field {name}"), with(&lines)));
    }
    for count in [30, 60, 500] {
        let lines: String = (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
        cases.push(Case::new(format!("field, {count} of them"), with(&lines)));
    }
    for len in [1000, 4000, 7000] {
        let line = format!("X-A: {}\r\n", "a".repeat(len));
        cases.push(Case::new(format!("field of {len} octets"), with(&line)));
    }
    let line = format!("X-A: {}\r\n", "a".repeat(60_000));
    cases.push(Case::new("field of 60000 octets", with(&line)));
    let line = format!("X-{}: a\r\n", "a".repeat(3000));
    cases.push(Case::new("field with a name of 3000 octets", with(&line)));
    let line = format!("X-A: {}\r\n", "a".repeat(3000));
    cases.push(Case::new("field of 3000 octets four times", with(&line.repeat(4))));
    cases.push(Case::new(
        "field line before the first",
        "GET /letters HTTP/1.1\r\n folded: x\r\nHost: tagwire\r\n\r\n",
    ));
    cases.push(Case::new(
        "field line that begins with a space",
        "GET /letters HTTP/1.1\r\nHost: tagwire\r\n X-A: b\r\n\r\n",
    ));
    cases.push(Case::new(
        "field of octet 255",
        [&b"GET /letters HTTP/1.1\r\nHost: tagwire\r\nX-A: \xff\r\n\r\n"[..]].concat(),
    ));
    cases
}
