//! Host (RFC 9112 3.2, RFC 9110 7.2).

use crate::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    let host = |host: &str| {
        let request = format!("GET /letters HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Case::new(format!("host {}", host.escape_debug()), request)
    };
    let mut cases: Vec<Case> = [
        "tagwire",
        "TAGWIRE",
        "tagwire.",
        "tagwire:80",
        "tagwire:8080",
        "tagwire:",
        "tagwire:http",
        "tagwire:80:80",
        "tagwire:99999",
        "192.168.123.150",
        "[fd00::1]",
        "[fd00::1]:80",
        "[fd00::1",
        "fd00::1",
        "[",
        "]",
        "[]",
        "a_b",
        "-",
        ".",
        "..",
        "a..b",
        "*",
        "%",
        "a%2eb",
        "user@tagwire",
        "tagwire/path",
        "http://tagwire/",
        "tagwire?q",
        "tagwire#f",
        "tag wire",
        "tagwire, other",
        "tagwire\\x",
        "tag\"wire",
        "tag<wire>",
        "t\u{e4}gwire",
        "tag\u{1}wire",
        "tag\u{7f}wire",
        "tag\0wire",
        "tag\twire",
        "",
        " tagwire",
        "tagwire ",
        "\ttagwire\t",
    ]
    .into_iter()
    .map(host)
    .collect();
    let get = |lines: &str| format!("GET /letters HTTP/1.1\r\n{lines}\r\n");
    cases.extend([
        Case::new("host missing", get("")),
        Case::new("host without a value or space", get("Host:\r\n")),
        Case::new("host without a space", get("Host:tagwire\r\n")),
        Case::new("host in capitals", get("HOST: tagwire\r\n")),
        Case::new("host last", get("Accept: */*\r\nHost: tagwire\r\n")),
        Case::new("host twice, the same", get("Host: tagwire\r\nHost: tagwire\r\n")),
        Case::new("host twice, another", get("Host: tagwire\r\nHost: other\r\n")),
        Case::new("host twice, one empty", get("Host:\r\nHost: tagwire\r\n")),
        Case::new("host of 300 letters", get(&format!("Host: {}\r\n", "a".repeat(300)))),
        Case::new("host in HTTP/1.0, broken", "GET /letters HTTP/1.0\r\nHost: a/b\r\n\r\n"),
        Case::new("host in HTTP/1.0, twice", "GET /letters HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    ]);
    let target = |target: &str, lines: &str| {
        let request = format!("GET {target} HTTP/1.1\r\n{lines}\r\n");
        Case::new(format!("host {target} {}", lines.trim_end()), request)
    };
    cases.extend([
        target("http://tagwire/letters", "Host: tagwire\r\n"),
        target("http://tagwire/letters", "Host: other\r\n"),
        target("http://tagwire/letters", "Host:\r\n"),
        target("http://tagwire/letters", ""),
        target("http://tagwire:80/letters", "Host: tagwire\r\n"),
        target("http://tagwire:/letters", "Host: tagwire\r\n"),
        target("http://tagwire:x/letters", "Host: tagwire\r\n"),
        target("http://[fd00::1]/letters", "Host: tagwire\r\n"),
        target("http://[fd00::1]:80/letters", "Host: tagwire\r\n"),
        target("http://[fd00::1/letters", "Host: tagwire\r\n"),
        target("http://user@tagwire/letters", "Host: tagwire\r\n"),
        target("http://user:word@tagwire/letters", "Host: tagwire\r\n"),
        target("HTTP://TAGWIRE/letters", "Host: tagwire\r\n"),
        target("https://tagwire/letters", "Host: tagwire\r\n"),
        target("ftp://tagwire/letters", "Host: tagwire\r\n"),
        target("http:/letters", "Host: tagwire\r\n"),
        target("http:///letters", "Host: tagwire\r\n"),
        target("http://", "Host: tagwire\r\n"),
        target("http://tagwire", "Host: tagwire\r\n"),
        target("http://tagwire?q", "Host: tagwire\r\n"),
        target("http://tagwire/letters?q=1", "Host: tagwire\r\n"),
        target("http://tagwire/letters#f", "Host: tagwire\r\n"),
        target("http://tagwire/sub", "Host: tagwire\r\n"),
        target("//tagwire/letters", "Host: tagwire\r\n"),
    ]);
    cases
}
