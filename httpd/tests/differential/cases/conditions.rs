//! Conditions (RFC 9110 13). All files are of Sun, 06 Nov 1994 08:49:37 GMT.

use crate::case::{Case, with};

const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

/// Values of If-None-Match and If-Match.
const TAGS: &[(&str, &str)] = &[
    ("its own", "{etag}"),
    ("its own, weak", "W/{etag}"),
    ("its own, weak in small", "w/{etag}"),
    ("another", "\"x\""),
    ("another, weak", "W/\"x\""),
    ("any", "*"),
    ("any in quotes", "\"*\""),
    ("empty", ""),
    ("the empty one", "\"\""),
    ("a list that ends with it", "\"a\", \"b\", {etag}"),
    ("a list that begins with it", "{etag}, \"b\""),
    ("a list without spaces", "\"a\",{etag},\"b\""),
    ("a list with empty members", ",,{etag},"),
    ("a list of others", "\"a\", \"b\""),
    ("a list of weak ones", "W/\"a\", W/{etag}"),
    ("any among others", "\"a\", *"),
    ("without quotes", "abc"),
    ("half a tag", "\"abc"),
    ("with a comma in it", "\"a,b\", {etag}"),
    ("with a space before", "   {etag}"),
    ("with more behind", "{etag}x"),
    ("with a semicolon behind", "{etag};q=1"),
];

/// Values of If-Modified-Since and If-Unmodified-Since.
const DATES: &[(&str, &str)] = &[
    ("the same", SAME),
    ("later", LATER),
    ("earlier", EARLIER),
    ("much later", "Tue, 19 Jan 2038 03:14:08 GMT"),
    ("in year 9999", "Fri, 31 Dec 9999 23:59:59 GMT"),
    ("1970", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("before 1970", "Wed, 31 Dec 1969 23:59:59 GMT"),
    ("RFC 850", "Sunday, 06-Nov-94 08:49:37 GMT"),
    ("asctime", "Sun Nov  6 08:49:37 1994"),
    ("of another weekday", "Mon, 06 Nov 1994 08:49:37 GMT"),
    ("of no weekday", "06 Nov 1994 08:49:37 GMT"),
    ("in small letters", "sun, 06 nov 1994 08:49:37 gmt"),
    ("of another zone", "Sun, 06 Nov 1994 09:49:37 +0100"),
    ("without a zone", "Sun, 06 Nov 1994 08:49:37"),
    ("of a 32nd", "Sun, 32 Nov 1994 08:49:37 GMT"),
    ("of February 30", "Wed, 30 Feb 1994 08:49:37 GMT"),
    ("at 25 o'clock", "Sun, 06 Nov 1994 25:49:37 GMT"),
    ("with length", "Sun, 06 Nov 1994 08:49:37 GMT; length=26"),
    ("ISO 8601", "1994-11-06T08:49:37Z"),
    ("a number", "784111777"),
    ("nonsense", "yesterday"),
    ("empty", ""),
    ("zero", "0"),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for field in ["If-None-Match", "If-Match"] {
        for (name, value) in TAGS {
            let lines = format!("{field}: {value}\r\n");
            cases.push(Case::new(format!("{field} {name}"), with(&lines)));
        }
    }
    for field in ["If-Modified-Since", "If-Unmodified-Since"] {
        for (name, value) in DATES {
            let lines = format!("{field}: {value}\r\n");
            cases.push(Case::new(format!("{field} {name}"), with(&lines)));
        }
    }
    let both = |name: &str, lines: &str| {
        let lines = lines.replace("SAME", SAME).replace("LATER", LATER).replace("EARLIER", EARLIER);
        Case::new(format!("conditions {name}"), with(&lines))
    };
    cases.extend([
        both("tag known, date old", "If-None-Match: {etag}\r\nIf-Modified-Since: EARLIER\r\n"),
        both("tag unknown, date new", "If-None-Match: \"x\"\r\nIf-Modified-Since: LATER\r\n"),
        both("tag and date known", "If-None-Match: {etag}\r\nIf-Modified-Since: SAME\r\n"),
        both("date before tag", "If-Modified-Since: LATER\r\nIf-None-Match: \"x\"\r\n"),
        both("tag wanted, date old", "If-Match: {etag}\r\nIf-Unmodified-Since: EARLIER\r\n"),
        both("tag not wanted, date new", "If-Match: \"x\"\r\nIf-Unmodified-Since: LATER\r\n"),
        both("wanted and known", "If-Match: {etag}\r\nIf-None-Match: {etag}\r\n"),
        both("wanted and unknown", "If-Match: {etag}\r\nIf-None-Match: \"x\"\r\n"),
        both("not wanted, known", "If-Match: \"x\"\r\nIf-None-Match: {etag}\r\n"),
        both(
            "not modified, unmodified",
            "If-Modified-Since: SAME\r\nIf-Unmodified-Since: SAME\r\n",
        ),
        both(
            "not modified, modified",
            "If-Modified-Since: SAME\r\nIf-Unmodified-Since: EARLIER\r\n",
        ),
        both("tag in two lines", "If-None-Match: \"x\"\r\nIf-None-Match: {etag}\r\n"),
        both("wanted in two lines", "If-Match: \"x\"\r\nIf-Match: {etag}\r\n"),
        both("date in two lines", "If-Modified-Since: EARLIER\r\nIf-Modified-Since: SAME\r\n"),
    ]);
    for (target, line) in [
        ("/missing", "If-None-Match: *"),
        ("/missing", "If-Match: *"),
        ("/missing", "If-Modified-Since: SAME"),
        ("/sub", "If-None-Match: *"),
        ("/sub/", "If-None-Match: *"),
        ("/sub/", "If-Modified-Since: SAME"),
        ("/bare/", "If-Match: *"),
        ("/empty", "If-None-Match: *"),
    ] {
        let line = line.replace("SAME", SAME);
        for method in ["GET", "HEAD"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: tagwire\r\n{line}\r\n\r\n");
            cases.push(Case::new(format!("conditions {method} {target} {line}"), request));
        }
    }
    for (name, line) in [
        ("known", "If-None-Match: {etag}"),
        ("not wanted", "If-Match: \"x\""),
        ("not modified", "If-Modified-Since: SAME"),
        ("modified", "If-Unmodified-Since: EARLIER"),
    ] {
        let line = line.replace("SAME", SAME).replace("EARLIER", EARLIER);
        for (method, version) in [("HEAD", "1.1"), ("GET", "1.0"), ("POST", "1.1")] {
            let request = format!(
                "{method} /letters HTTP/{version}\r\nHost: tagwire\r\n{line}\r\nContent-Length: 0\r\n\r\n"
            );
            cases.push(Case::new(format!("conditions {name}, {method} {version}"), request));
        }
    }
    cases
}
