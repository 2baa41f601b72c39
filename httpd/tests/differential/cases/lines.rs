//! Request lines and ends of lines (RFC 9112 2, 3).

use crate::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    let line = |line: &str| {
        let request = format!("{line}\r\nHost: tagwire\r\n\r\n");
        Case::new(format!("line {}", line.escape_debug()), request)
    };
    let mut cases: Vec<Case> = [
        "GET /letters HTTP/1.0",
        "GET /letters HTTP/1.2",
        "GET /letters HTTP/1.9",
        "GET /letters HTTP/1.10",
        "GET /letters HTTP/1.01",
        "GET /letters HTTP/01.1",
        "GET /letters HTTP/2.0",
        "GET /letters HTTP/3.0",
        "GET /letters HTTP/0.9",
        "GET /letters HTTP/9.9",
        "GET /letters HTTP/1",
        "GET /letters HTTP/1.",
        "GET /letters HTTP/.1",
        "GET /letters HTTP/1.1.1",
        "GET /letters HTTP/11.1",
        "GET /letters HTTP/1,1",
        "GET /letters http/1.1",
        "GET /letters Http/1.1",
        "GET /letters HTTP /1.1",
        "GET /letters HTTP/ 1.1",
        "GET /letters HTTP/1.1 ",
        "GET /letters HTTP/1.1  ",
        "GET /letters HTTP/1.1\t",
        "GET /letters HTTP/1.1 x",
        "GET /letters HTTP/1.1x",
        "GET /letters HTTPS/1.1",
        "GET /letters FTP/1.1",
        "GET  /letters HTTP/1.1",
        "GET /letters  HTTP/1.1",
        "GET\t/letters HTTP/1.1",
        "GET /letters\tHTTP/1.1",
        "GET /letters HTTP/1.1\r",
        " GET /letters HTTP/1.1",
        "\tGET /letters HTTP/1.1",
        "GET /letters\u{b} HTTP/1.1",
        "GET /letters\0 HTTP/1.1",
        "GET /letters\u{7f} HTTP/1.1",
        "GET\0 /letters HTTP/1.1",
        "GET /letters HTTP/1.1\0",
        "GET /let ters HTTP/1.1",
        "GET /letters",
        "GET /letters ",
        "GET",
        "GET ",
        "/letters",
        "garbage",
    ]
    .into_iter()
    .map(line)
    .collect();
    cases.extend([
        Case::new("line HTTP/1.0 without Host", "GET /letters HTTP/1.0\r\n\r\n"),
        Case::new("line of HTTP/0.9", "GET /letters\r\n"),
        Case::new("line behind an empty one", "\r\nGET /letters HTTP/1.1\r\nHost: tagwire\r\n\r\n"),
        Case::new(
            "line behind three empty ones",
            "\r\n\r\n\r\nGET /letters HTTP/1.1\r\nHost: tagwire\r\n\r\n",
        ),
        Case::new("line behind a bare LF", "\nGET /letters HTTP/1.1\r\nHost: tagwire\r\n\r\n"),
        Case::new("line behind a bare CR", "\rGET /letters HTTP/1.1\r\nHost: tagwire\r\n\r\n"),
        Case::new("lines that end in LF", "GET /letters HTTP/1.1\nHost: tagwire\n\n"),
        Case::new("lines that end in LF and CRLF", "GET /letters HTTP/1.1\nHost: tagwire\r\n\n"),
        Case::new("lines that end in CR", "GET /letters HTTP/1.1\rHost: tagwire\r\r").unfinished(),
        Case::new(
            "lines that end in CRCRLF",
            "GET /letters HTTP/1.1\r\r\nHost: tagwire\r\r\n\r\r\n",
        )
        .unfinished(),
        Case::new("line without an end", "GET /letters HTTP/1.1").unfinished(),
        Case::new("head without an end", "GET /letters HTTP/1.1\r\nHost: tagwire\r\n").unfinished(),
        Case::new("nothing at all", "").unfinished(),
        Case::new("empty lines only", "\r\n\r\n\r\n\r\n").unfinished(),
        Case::new("TLS client hello", *b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"),
        Case::new("NUL octets", [0; 16]),
        Case::new("octets above 127", [0xff; 16]).unfinished(),
        Case::new("SSH banner", "SSH-2.0-OpenSSH_9.2\r\n"),
        Case::new("SMTP greeting", "EHLO tagwire\r\n"),
    ]);
    cases
}
