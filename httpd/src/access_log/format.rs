//! How a line looks.
//!
//! Numbers, IPv4 addresses and plain text go around `fmt`, and text in runs: so a line costs half of the
//! instructions, and under load the log's thread has the CPU that the workers want.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use tagwire_netstack::VlanStack;

use super::Format;
use super::batch::{Batch, Line, Note, Texts};
use crate::date::{imf_fixdate, unix_seconds};

/// Formats lines. It keeps the second that it has formatted last.
pub(super) struct Formatter {
    format: Format,
    second: u64,
    /// `10/Oct/2000:13:55:36 +0000`, or `2000-10-10T13:55:36`.
    date: String,
}

impl Formatter {
    pub(super) fn new(format: Format) -> Self {
        let mut formatter = Self { format, second: 0, date: String::new() };
        formatter.show(0);
        formatter
    }

    fn show(&mut self, second: u64) {
        self.second = second;
        // "Sun, 06 Nov 1994 08:49:37 GMT", each part at its place.
        let date = imf_fixdate(second);
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        self.date = match self.format {
            Format::Combined => format!("{day}/{month}/{year}:{time} +0000"),
            Format::Json => {
                let month = MONTHS.find(month).unwrap_or(0) / 3 + 1;
                format!("{year}-{month:02}-{day}T{time}")
            }
        };
    }

    /// Adds a line to `text`, its end included.
    pub(super) fn line(&mut self, line: &Line, texts: &Texts<'_>, text: &mut Vec<u8>) {
        let second = unix_seconds(line.time);
        if second != self.second {
            self.show(second);
        }
        match self.format {
            Format::Combined => self.combined(line, texts, text),
            Format::Json => self.json(line, texts, text),
        }
        text.push(b'\n');
    }

    fn combined(&self, line: &Line, texts: &Texts<'_>, text: &mut Vec<u8>) {
        let Line { peer, status, octets, .. } = line;
        address(peer.ip(), text);
        text.extend_from_slice(b" - - [");
        text.extend_from_slice(self.date.as_bytes());
        text.extend_from_slice(b"] \"");
        escape(Some(texts.line).filter(|line| !line.is_empty()), text);
        text.extend_from_slice(b"\" ");
        number(*status, text);
        text.push(b' ');
        number(*octets, text);
        text.extend_from_slice(b" \"");
        escape(texts.referer, text);
        text.extend_from_slice(b"\" \"");
        escape(texts.user_agent, text);
        text.push(b'"');
    }

    fn json(&self, line: &Line, texts: &Texts<'_>, text: &mut Vec<u8>) {
        let Line { time, duration, vlan, peer, status, octets, hit, request, .. } = line;
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_millis();
        put(text, format_args!("{{\"time\":\"{}.{millis:03}Z\"", self.date));
        match *vlan {
            VlanStack::UNTAGGED => member("vlan", None, text),
            vlan => put(text, format_args!(",\"vlan\":\"{vlan}\"")),
        }
        text.extend_from_slice(b",\"remote_addr\":\"");
        address(peer.ip(), text);
        text.extend_from_slice(b"\",\"remote_port\":");
        number(peer.port(), text);
        let words = request_line(texts.line);
        for (at, name) in ["method", "target", "protocol"].into_iter().enumerate() {
            member(name, words.map(|words| words[at]), text);
        }
        // What is no request line is shown as it came.
        member("line", words.is_none().then_some(texts.line), text);
        text.extend_from_slice(b",\"status\":");
        number(*status, text);
        text.extend_from_slice(b",\"body_octets\":");
        number(*octets, text);
        member("referer", texts.referer, text);
        member("user_agent", texts.user_agent, text);
        member("x_forwarded_for", texts.x_forwarded_for, text);
        member("host", texts.host, text);
        member("site", texts.site, text);
        text.extend_from_slice(b",\"duration_us\":");
        number(duration.as_micros(), text);
        member("cache", hit.map(|hit| if hit { &b"hit"[..] } else { b"miss" }), text);
        text.extend_from_slice(b",\"request\":");
        number(*request, text);
        text.push(b'}');
    }
}

/// Method, target and version, one space between them (RFC 9112 3); `None`: it is something else.
fn request_line(line: &[u8]) -> Option<[&[u8]; 3]> {
    let mut words = line.split(|&octet| octet == b' ');
    let [method, target, version] = [words.next()?, words.next()?, words.next()?];
    let whole = !method.is_empty() && !target.is_empty() && version.starts_with(b"HTTP/");
    (whole && words.next().is_none()).then_some([method, target, version])
}

/// Adds formatted text; memory takes it always.
fn put(text: &mut Vec<u8>, format: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(format);
}

fn number(number: impl itoa::Integer, text: &mut Vec<u8>) {
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn address(address: IpAddr, text: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push(b'.');
                }
                number(octet, text);
            }
        }
        IpAddr::V6(address) => put(text, format_args!("{address}")),
    }
}

/// As nginx escapes a variable: quotes, backslashes, and what is not printable ASCII as `\xHH`; `-`
/// for what is not there.
fn escape(value: Option<&[u8]>, text: &mut Vec<u8>) {
    let special = |octet: &u8| matches!(octet, b'"' | b'\\' | 0..=0x1f | 0x7f..);
    let mut rest = value.unwrap_or(b"-");
    while let Some(at) = rest.iter().position(special) {
        text.extend_from_slice(&rest[..at]);
        put(text, format_args!("\\x{:02X}", rest[at]));
        rest = &rest[at + 1..];
    }
    text.extend_from_slice(rest);
}

/// A member of an object behind others: a string, or null.
fn member(name: &str, value: Option<&[u8]>, text: &mut Vec<u8>) {
    text.extend_from_slice(b",\"");
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b"\":");
    let Some(value) = value else {
        text.extend_from_slice(b"null");
        return;
    };
    let special = |character| matches!(character, '"' | '\\' | '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}');
    text.push(b'"');
    for chunk in value.utf8_chunks() {
        let mut plain = 0;
        for (at, special) in chunk.valid().match_indices(special) {
            text.extend_from_slice(&chunk.valid().as_bytes()[plain..at]);
            plain = at + special.len();
            match special {
                "\"" => text.extend_from_slice(b"\\\""),
                "\\" => text.extend_from_slice(b"\\\\"),
                special => special
                    .chars()
                    .for_each(|it| put(text, format_args!("\\u{:04x}", u32::from(it)))),
            }
        }
        text.extend_from_slice(&chunk.valid().as_bytes()[plain..]);
        // No JSON has these; they look like nginx's.
        for octet in chunk.invalid() {
            put(text, format_args!("\\\\x{octet:02X}"));
        }
    }
    text.push(b'"');
}

/// Any texts: one line each, of printable ASCII or of JSON that says the same.
pub fn fuzz_access_log(data: &[u8]) {
    let mut parts = data.split(|&octet| octet == 0xff);
    let note = Note {
        vlan: VlanStack::UNTAGGED,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)),
        line: parts.next().unwrap_or_default(),
        referer: parts.next(),
        user_agent: parts.next(),
        x_forwarded_for: parts.next(),
        host: parts.next(),
        site: parts.next(),
        status: 200,
        octets: data.len() as u64,
        hit: Some(true),
        request: 1,
    };
    let mut batch = Batch::default();
    for _ in 0..2 {
        batch.push(&note, UNIX_EPOCH + Duration::from_millis(784_111_777_042), Duration::ZERO);
    }
    for format in [Format::Combined, Format::Json] {
        let mut formatter = Formatter::new(format);
        let mut text = Vec::new();
        for (line, texts) in batch.iter() {
            formatter.line(line, &texts, &mut text);
        }
        let (first, second) = text.split_at(text.len() / 2);
        assert_eq!(first, second, "each line has its own texts");
        let first = first.strip_suffix(b"\n").expect("a line ends");
        assert!(!first.iter().any(u8::is_ascii_control), "and nowhere else");
        if format == Format::Json {
            let said: Value = serde_json::from_slice(first).expect("an object");
            for (name, value) in [
                ("referer", note.referer),
                ("user_agent", note.user_agent),
                ("x_forwarded_for", note.x_forwarded_for),
                ("host", note.host),
                ("site", note.site),
            ] {
                assert_eq!(said[name].is_null(), value.is_none());
                if let Some(Ok(value)) = value.map(str::from_utf8) {
                    assert_eq!(said[name], value, "what is text stays the same");
                }
            }
            assert!(said["line"].is_null() ^ said["target"].is_null());
        } else {
            assert!(first.is_ascii());
            assert_eq!(first.iter().filter(|&&octet| octet == b'"').count(), 6);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(note: &Note<'_>) -> [String; 2] {
        let mut batch = Batch::default();
        let time = UNIX_EPOCH + Duration::from_millis(784_111_777_042);
        batch.push(note, time, Duration::from_micros(1234));
        [Format::Combined, Format::Json].map(|format| {
            let mut text = Vec::new();
            let mut formatter = Formatter::new(format);
            batch.iter().for_each(|(line, texts)| formatter.line(line, &texts, &mut text));
            String::from_utf8(text).unwrap()
        })
    }

    fn note<'a>() -> Note<'a> {
        Note {
            vlan: "100.200".parse().unwrap(),
            peer: "192.0.2.7:40000".parse().unwrap(),
            line: b"GET /a?b HTTP/1.1",
            referer: Some(b"http://x/"),
            user_agent: Some(b"curl/8"),
            x_forwarded_for: Some(b"10.0.0.1, 10.0.0.2"),
            host: Some(b"x"),
            site: None,
            status: 206,
            octets: 5,
            hit: Some(false),
            request: 3,
        }
    }

    #[test]
    fn as_others_write_them() {
        let [combined, json] = lines(&note());
        assert_eq!(
            combined,
            "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b HTTP/1.1\" 206 5 \"http://x/\" \
             \"curl/8\"\n"
        );
        assert_eq!(
            json,
            "{\"time\":\"1994-11-06T08:49:37.042Z\",\"vlan\":\"100.200\",\"remote_addr\":\"192.0.2.7\",\
             \"remote_port\":40000,\"method\":\"GET\",\"target\":\"/a?b\",\"protocol\":\"HTTP/1.1\",\
             \"line\":null,\"status\":206,\"body_octets\":5,\"referer\":\"http://x/\",\"user_agent\":\
             \"curl/8\",\"x_forwarded_for\":\"10.0.0.1, 10.0.0.2\",\"host\":\"x\",\"site\":null,\"duration_us\":1234,\"cache\":\"miss\",\"request\":3}\n"
        );
    }

    #[test]
    fn what_is_not_printable_is_shown_and_does_no_harm() {
        let bad = Note {
            vlan: VlanStack::UNTAGGED,
            peer: "[2001:db8::1]:5".parse().unwrap(),
            line: b"\x16\x03\"\\ \xc3\xa4\xff\n",
            referer: None,
            user_agent: Some(b""),
            hit: None,
            ..note()
        };
        let [combined, json] = lines(&bad);
        assert_eq!(
            combined,
            "2001:db8::1 - - [06/Nov/1994:08:49:37 +0000] \"\\x16\\x03\\x22\\x5C \\xC3\\xA4\\xFF\\x0A\" \
             206 5 \"-\" \"\"\n"
        );
        let said: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(said["line"], "\x16\x03\"\\ ä\\xFF\n");
        assert!(
            ["vlan", "method", "target", "protocol", "referer", "cache"]
                .iter()
                .all(|name| said[name].is_null())
        );
        let [combined, _] = lines(&Note { line: b"", ..bad });
        assert!(combined.contains("] \"-\" 206"), "{combined}");
    }

    #[test]
    fn a_request_line_is_three_words() {
        for (line, whole) in [
            (&b"GET / HTTP/1.1"[..], true),
            (b"G\xff \x01 HTTP/", true),
            (b"GET  HTTP/1.1", false),
            (b" / HTTP/1.1", false),
            (b"GET /  HTTP/1.1", false),
            (b"GET / HTTP/1.1 ", false),
            (b"GET / x", false),
            (b"GET /", false),
            (b"", false),
        ] {
            assert_eq!(request_line(line).is_some(), whole, "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_one_line(data in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzz_access_log(&data);
        }
    }
}
