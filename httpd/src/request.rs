//! The request head (RFC 9112 2 to 6), read with httparse and framed without a second opinion.
//!
//! What is refused here leaves it unclear where the next request begins, or would let a proxy
//! and us disagree about it (request smuggling): the connection ends with the answer.

use std::mem::MaybeUninit;

use httparse::Header;

use crate::limits::{Limits, MAX_DISCARDED_BODY};
use crate::respond::Status;

/// What the request line asks to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The representation.
    Get,
    /// Its head only.
    Head,
    /// What may be done with it.
    Options,
    /// Something with a body, which a static site does not allow; a page that is built in may.
    Post,
    /// A method that HTTP defines and a static site does not allow (405).
    NotAllowed,
    /// Anything else (501).
    Unknown,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 9.1).
    fn from_token(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            "POST" => Self::Post,
            "PUT" | "DELETE" | "CONNECT" | "TRACE" | "PATCH" => Self::NotAllowed,
            _ => Self::Unknown,
        }
    }
}

/// A whole, well-framed request head; it borrows from the buffer it was read from.
#[derive(Debug)]
pub struct Head<'h, 'b> {
    /// Octets of the head, blank line included.
    pub len: usize,
    /// The method.
    pub method: Method,
    /// The target as sent, see [`crate::target`].
    pub target: &'b [u8],
    /// All fields in their order.
    pub fields: &'h [Header<'b>],
    /// The host that it is for, with its port, as sent; an absolute-form target has its own.
    pub host: Option<&'b [u8]>,
    /// The body that follows.
    pub body: Body,
    /// The client holds the body back until it is told to go on (RFC 9110 10.1.1).
    pub expects: bool,
    /// HTTP/1.0, whose connections end unless both sides say otherwise.
    pub old: bool,
    /// Whether the connection may carry another request (RFC 9112 9.3).
    pub keep_alive: bool,
    /// There are conditions, see [`crate::conditional`].
    pub conditional: bool,
    /// There is a `Range`, see [`crate::range`].
    pub ranged: bool,
}

/// What follows a head (RFC 9112 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// So many octets, at most [`MAX_DISCARDED_BODY`].
    Length(u32),
    /// Chunks, see [`crate::chunked`].
    Chunked,
}

impl Body {
    /// No octet follows.
    pub fn is_none(self) -> bool {
        self == Self::Length(0)
    }
}

/// Places in the parser's table of fields.
const SLOTS: usize = *Limits::FIELDS.end();

/// The parser's table of fields, on the caller's stack.
pub type Slots<'b> = [MaybeUninit<Header<'b>>; SLOTS];

/// An empty table for [`parse`].
pub fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; SLOTS]
}

/// Reads the head at the start of `input`. `None`: it has not arrived whole, and may still.
///
/// # Errors
/// The status to answer before the connection is closed.
pub fn parse<'h, 'b>(
    input: &'b [u8],
    slots: &'h mut Slots<'b>,
    limits: &Limits,
) -> Result<Option<Head<'h, 'b>>, Status> {
    if !may_begin(input) {
        return Err(Status::BadRequest);
    }
    // Neither the start of a line nor what follows the first octet too many is looked at: a head is
    // judged alike however much of it arrives at once.
    let input = input.get(..=limits.max_head).unwrap_or_else(|| {
        let lines = input.iter().rposition(|&octet| octet == b'\n').map_or(0, |end| end + 1);
        &input[..lines]
    });
    let mut request = httparse::Request::new(&mut []);
    let slots = &mut slots[..limits.max_fields.min(SLOTS)];
    let len = match request.parse_with_uninit_headers(input, slots) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return too_long(input, limits).map_or(Ok(None), Err),
        Err(httparse::Error::TooManyHeaders) => return Err(Status::TooManyFields),
        Err(httparse::Error::Version) => return Err(bad_version(input)),
        Err(_) => return Err(Status::BadRequest),
    };
    if has_bare_lf(&input[..len]) {
        return Err(Status::BadRequest);
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(Status::BadRequest);
    };
    if target.len() > limits.max_target {
        return Err(Status::TargetTooLong);
    }
    if len > limits.max_head {
        return Err(Status::HeadTooLarge);
    }
    let fields: &'h [Header<'b>] = request.headers;
    let framing = Framing::read(fields, minor == 0)?;
    Ok(Some(Head {
        len,
        method: Method::from_token(method),
        target: target.as_bytes(),
        fields,
        host: framing.host,
        body: framing.body,
        expects: framing.expects,
        old: minor == 0,
        keep_alive: framing.keep_alive,
        conditional: framing.conditional,
        ranged: framing.ranged,
    }))
}

/// Whether a head may begin so: of what may not, nothing more needs to come. A TLS hello, say, has
/// no line that could be waited for. Empty lines may come first, and a CR alone may become one.
pub fn may_begin(input: &[u8]) -> bool {
    match input {
        [] | [b'\r'] | [b'\r', b'\n', ..] | [b'\n', ..] => true,
        [first, ..] => first.is_ascii_graphic(),
    }
}

/// Makes a later minor version of HTTP/1 in the request line the last one that we know, as RFC 9110
/// 2.5 wants it read; false if there is none.
pub fn lower_version(input: &mut [u8]) -> bool {
    let end = input.iter().position(|&octet| octet == b'\n').unwrap_or(input.len());
    let line = input[..end].trim_ascii_end().len();
    match input[..line].last_chunk_mut() {
        Some([b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'2'..=b'9']) => {
            *minor = b'1';
            true
        }
        _ => false,
    }
}

/// What is wrong with a head that is not whole and already longer than it may become. Nothing
/// shorter is refused for its length.
fn too_long(input: &[u8], limits: &Limits) -> Option<Status> {
    if input.len() <= limits.max_head {
        None
    } else if input.trim_ascii_start().contains(&b'\n') {
        Some(Status::HeadTooLarge)
    } else {
        Some(Status::TargetTooLong)
    }
}

/// Whether a line ends in LF alone. RFC 9112 2.2 lets a recipient take that for an end, as httparse
/// does; who stands before us may have taken it for a part of the line (request smuggling).
fn has_bare_lf(head: &[u8]) -> bool {
    // Without a branch, so that it is done by many octets at a time.
    head.iter()
        .zip(&head[1..])
        .fold(false, |bare, (&one, &next)| bare | (next == b'\n') & (one != b'\r'))
}

/// 505 for another version of HTTP, 400 for what is no version (HTTP/0.9 has none).
fn bad_version(input: &[u8]) -> Status {
    let line = input.trim_ascii_start().split(|&octet| octet == b'\n').next().unwrap_or_default();
    let version = line.trim_ascii_end().rsplit(|&octet| octet == b' ').next().unwrap_or_default();
    match version.strip_prefix(b"HTTP/") {
        // Ours, but not in its place: a space too many before it.
        Some(b"1.0" | b"1.1") => Status::BadRequest,
        Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Status::VersionNotSupported
        }
        _ => Status::BadRequest,
    }
}

/// What the fields say about where the request ends and whether another may follow.
struct Framing<'b> {
    host: Option<&'b [u8]>,
    body: Body,
    expects: bool,
    keep_alive: bool,
    conditional: bool,
    ranged: bool,
}

impl<'b> Framing<'b> {
    fn read(fields: &[Header<'b>], old: bool) -> Result<Self, Status> {
        let (mut host, mut length, mut coding) = (None, None, None);
        let (mut close, mut keep, mut expects) = (false, false, false);
        let (mut conditional, mut ranged) = (false, false);
        for field in fields {
            // The length tells most fields apart before a letter is looked at.
            match field.name.len() {
                // RFC 9112 3.2: more than one, or an invalid one, is 400.
                4 if field.name.eq_ignore_ascii_case("host") => {
                    let first = host.replace(field.value).is_none();
                    if !first || !is_host(field.value) {
                        return Err(Status::BadRequest);
                    }
                }
                5 if field.name.eq_ignore_ascii_case("range") => ranged = true,
                // Other expectations are ignored, as nginx does, and all of them in HTTP/1.0
                // (RFC 9110 10.1.1).
                6 if field.name.eq_ignore_ascii_case("expect") => {
                    expects |=
                        !old && field.value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
                }
                8 if field.name.eq_ignore_ascii_case("if-match") => conditional = true,
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for option in field.value.split(|&octet| octet == b',') {
                        let option = option.trim_ascii();
                        close |= option.eq_ignore_ascii_case(b"close");
                        keep |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                13 if field.name.eq_ignore_ascii_case("if-none-match") => conditional = true,
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    // RFC 9112 6.3 allows a list of equal values; nobody honest sends one.
                    let value = content_length(field.value).ok_or(Status::BadRequest)?;
                    if length.replace(value).is_some() {
                        return Err(Status::BadRequest);
                    }
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    let chunked = field.value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                    if coding.replace(chunked).is_some() {
                        return Err(Status::BadRequest);
                    }
                }
                17 if field.name.eq_ignore_ascii_case("if-modified-since") => conditional = true,
                19 if field.name.eq_ignore_ascii_case("if-unmodified-since") => conditional = true,
                _ => {}
            }
        }
        if host.is_none() && !old {
            return Err(Status::BadRequest);
        }
        let body = match coding {
            // RFC 9112 6.1 and 6.3: both together, or a coding in HTTP/1.0, smell of smuggling.
            Some(_) if length.is_some() || old => return Err(Status::BadRequest),
            Some(true) => Body::Chunked,
            Some(false) => return Err(Status::NotImplemented),
            None => match u32::try_from(length.unwrap_or(0)) {
                Ok(octets) if octets <= MAX_DISCARDED_BODY => Body::Length(octets),
                _ => return Err(Status::ContentTooLarge),
            },
        };
        let keep_alive = !close && (!old || keep);
        Ok(Self { host, body, expects, keep_alive, conditional, ranged })
    }
}

/// Digits and nothing else (RFC 9110 8.6); no sign, no list, no overflow.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Host and port (RFC 3986 3.2.2, 3.2.3); each may be empty.
pub(crate) fn is_host(value: &[u8]) -> bool {
    // Most are nothing else. Each request is asked.
    if value.iter().all(|&octet| is_unescaped(octet)) {
        return true;
    }
    let colon = || value.iter().position(|&octet| octet == b':').unwrap_or(value.len());
    let literal = value.first() == Some(&b'[');
    let bracket = || value.iter().position(|&octet| octet == b']').map_or(value.len(), |at| at + 1);
    let (host, port) = value.split_at(if literal { bracket() } else { colon() });
    let fits = match host {
        [b'[', inside @ .., b']'] => {
            !inside.is_empty() && inside.iter().all(|&octet| octet == b':' || is_unescaped(octet))
        }
        name => is_name(name),
    };
    fits && matches!(port, [] | [b':', ..]) && port.iter().skip(1).all(u8::is_ascii_digit)
}

/// A reg-name.
fn is_name(mut name: &[u8]) -> bool {
    loop {
        name = match name {
            [] => return true,
            [octet, rest @ ..] if is_unescaped(*octet) => rest,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            _ => return false,
        };
    }
}

/// Unreserved, or a sub-delimiter (RFC 3986 2.2, 2.3).
fn is_unescaped(octet: u8) -> bool {
    /// Looked up, as to compare with each costs a request some hundreds of instructions.
    const UNESCAPED: [bool; 256] = {
        let mut table = [false; 256];
        let mut octet = 0;
        while octet < 128 {
            table[octet] = (octet as u8).is_ascii_alphanumeric();
            octet += 1;
        }
        let mut marks: &[u8] = b"-._~!$&'()*+,;=";
        while let [mark, rest @ ..] = marks {
            table[*mark as usize] = true;
            marks = rest;
        }
        table
    };
    UNESCAPED[usize::from(octet)]
}

/// Any octets: no panic; a head that is accepted lies within its limits, and is not accepted
/// any earlier nor differently when it arrives piece by piece.
pub fn fuzz_request_head(data: &[u8]) {
    let limits = &Limits::DEFAULT;
    let mut table = slots();
    let whole = parse(data, &mut table, limits);
    let Ok(Some(head)) = whole else { return };
    assert!(head.len <= limits.max_head && head.len <= data.len());
    assert!(head.target.len() <= limits.max_target);
    assert!(matches!(head.body, Body::Chunked | Body::Length(..=MAX_DISCARDED_BODY)));
    assert!(data[..head.len].ends_with(b"\n"));
    for end in 0..head.len {
        let mut table = slots();
        assert!(
            matches!(parse(&data[..end], &mut table, limits), Ok(None)),
            "whole only when whole"
        );
    }
    let mut table = slots();
    let again = parse(&data[..head.len], &mut table, limits);
    let Ok(Some(again)) = again else { panic!("what follows a head does not matter") };
    assert_eq!((again.len, again.target, again.body), (head.len, head.target, head.body));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(input: &str) -> Result<Option<usize>, Status> {
        parse(input.as_bytes(), &mut slots(), &Limits::DEFAULT)
            .map(|head| head.map(|head| head.len))
    }

    fn with<R>(input: &str, look: impl FnOnce(Head<'_, '_>) -> R) -> R {
        let mut table = slots();
        look(parse(input.as_bytes(), &mut table, &Limits::DEFAULT).unwrap().unwrap())
    }

    #[test]
    fn a_plain_get() {
        with("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nrest", |head| {
            assert_eq!(head.len, 30);
            assert_eq!(head.method, Method::Get);
            assert_eq!(head.target, b"/a?b");
            assert!(head.keep_alive && !head.old && !head.conditional);
            assert!(head.body.is_none());
            assert_eq!(head.host, Some(&b"x"[..]));
        });
    }

    #[test]
    fn methods() {
        for (token, method) in [
            ("HEAD", Method::Head),
            ("POST", Method::Post),
            ("PUT", Method::NotAllowed),
            ("OPTIONS", Method::Options),
            ("get", Method::Unknown),
            ("BREW", Method::Unknown),
        ] {
            with(&format!("{token} / HTTP/1.1\r\nHost: x\r\n\r\n"), |head| {
                assert_eq!(head.method, method, "{token}");
            });
        }
    }

    #[test]
    fn persistence() {
        for (version, connection, keep_alive) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: upgrade, CLOSE\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            with(&format!("GET / HTTP/{version}\r\nHost: x\r\n{connection}\r\n"), |head| {
                assert_eq!(head.keep_alive, keep_alive, "{version} {connection}");
            });
        }
    }

    #[test]
    fn bodies_and_who_waits_with_them() {
        for (version, lines, body, expects) in [
            ("1.1", "", Body::Length(0), false),
            ("1.1", "Content-Length: 5\r\n", Body::Length(5), false),
            ("1.1", "Transfer-Encoding: Chunked\r\n", Body::Chunked, false),
            ("1.1", "Content-Length: 5\r\nExpect: 100-Continue\r\n", Body::Length(5), true),
            ("1.1", "Content-Length: 5\r\nExpect: 200-ok\r\n", Body::Length(5), false),
            ("1.0", "Content-Length: 5\r\nExpect: 100-continue\r\n", Body::Length(5), false),
        ] {
            with(&format!("GET / HTTP/{version}\r\nHost: x\r\n{lines}\r\n"), |head| {
                assert_eq!((head.body, head.expects), (body, expects), "{version} {lines}");
            });
        }
    }

    #[test]
    fn what_is_refused() {
        for (lines, expected) in [
            ("GET / HTTP/1.1\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x/y\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost : x\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\nHost: x\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\nA: b\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\rA: b\r\n", Status::BadRequest),
            ("GET  / HTTP/1.1\r\nHost: x\r\n", Status::BadRequest),
            ("GET /a b HTTP/1.1\r\nHost: x\r\n", Status::BadRequest),
            ("GET /\r\n", Status::BadRequest),
            ("GET / HTTP/2.0\r\nHost: x\r\n", Status::VersionNotSupported),
            ("GET / HTTP/0.9\r\nHost: x\r\n", Status::VersionNotSupported),
            ("GET / HTTQ/1.1\r\nHost: x\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n", Status::BadRequest),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
                Status::BadRequest,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n",
                Status::BadRequest,
            ),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n", Status::ContentTooLarge),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                Status::BadRequest,
            ),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", Status::BadRequest),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n",
                Status::NotImplemented,
            ),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n", Status::NotImplemented),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: a\r\nTransfer-Encoding: b\r\n",
                Status::BadRequest,
            ),
        ] {
            assert_eq!(status(&format!("{lines}\r\n")), Err(expected), "{lines}");
        }
    }

    #[test]
    fn who_needs_a_host() {
        for target in ["/", "http://x/", "*"] {
            // RFC 9112 3.2: also where the target has one.
            let without = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert_eq!(status(&without), Err(Status::BadRequest), "{target}");
            assert!(status(&without.replace("1.1", "1.0")).unwrap().is_some(), "{target}");
        }
        with("GET / HTTP/1.1\r\nHost:\r\n\r\n", |head| assert_eq!(head.host, Some(&b""[..])));
    }

    #[test]
    fn hosts_and_ports() {
        for host in [
            "",
            "x",
            "X.y.",
            "a_b",
            "a%2eb",
            "192.168.1.2",
            "x:80",
            "x:",
            ":80",
            "[fd00::1]",
            "[::]:80",
            "[v1.a]",
            ".",
            "~!$&'()*+,;=",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "x:80:80",
            "x:http",
            "x:-1",
            "fd00::1",
            "[fd00::1",
            "[fd00::1]80",
            "[]",
            "[",
            "]",
            "a]",
            "[a%41]",
            "%",
            "%4",
            "%4g",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "a\\b",
            "\"a\"",
            "<a>",
            "\u{e4}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_later_minor_version_is_read_as_the_last_known() {
        for (line, expected) in [
            ("GET / HTTP/1.2\r\nA: b\r\n", Some("GET / HTTP/1.1\r\nA: b\r\n")),
            ("GET / HTTP/1.9\n", Some("GET / HTTP/1.1\n")),
            ("GET / HTTP/1.1\r\n", None),
            ("GET / HTTP/1.10\r\n", None),
            ("GET / HTTP/2.2\r\n", None),
            ("GET /\r\nA: HTTP/1.2\r\n", None),
            ("", None),
        ] {
            let mut input = line.as_bytes().to_vec();
            let lowered = lower_version(&mut input).then(|| String::from_utf8(input).unwrap());
            assert_eq!(lowered.as_deref(), expected, "{line}");
        }
    }

    /// Heads at a limit and just beyond it, and what is answered to those.
    #[test]
    fn limits() {
        let custom = Limits { max_head: 600, max_fields: 5, max_target: 90, ..Limits::DEFAULT };
        for limits in [Limits::DEFAULT, custom] {
            let status = |input: &str| {
                let mut table = slots();
                parse(input.as_bytes(), &mut table, &limits).map(|head| head.map(|head| head.len))
            };
            let target = |len| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(len - 1));
            assert!(status(&target(limits.max_target)).unwrap().is_some());
            assert_eq!(status(&target(limits.max_target + 1)), Err(Status::TargetTooLong));
            let endless = format!("GET /{}", "a".repeat(limits.max_head));
            assert_eq!(status(&endless), Err(Status::TargetTooLong));

            let fields = |count| {
                let more = (1..count).map(|n| format!("F{n}: v\r\n")).collect::<String>();
                format!("GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n")
            };
            assert!(status(&fields(limits.max_fields)).unwrap().is_some());
            assert_eq!(status(&fields(limits.max_fields + 1)), Err(Status::TooManyFields));

            let sized = |len: usize| {
                let frame = "GET / HTTP/1.1\r\nHost: x\r\nA: \r\n\r\n";
                frame.replace("A: ", &format!("A: {}", "b".repeat(len - frame.len())))
            };
            let max = limits.max_head;
            assert!(status(&sized(max)).unwrap().is_some());
            assert_eq!(status(&sized(max + 1)), Err(Status::HeadTooLarge));
            assert_eq!(status(&sized(max + 9)[..max + 1]), Err(Status::HeadTooLarge));
        }
        let odd = format!("{} /{} HTTP/1.1\r\nHost: x\r\n\r\n", "M".repeat(99), "a".repeat(8190));
        fuzz_request_head(odd.as_bytes());
    }

    proptest! {
        #[test]
        fn any_split_is_the_same_as_whole(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "GET ", "HEAD ", "/", "a", " HTTP/1.1", " HTTP/1.0", "\r\n", "\n", "Host: x\r\n",
                    "Content-Length: 7\r\n", "Connection: close\r\n", "If-None-Match: \"x\"\r\n", ":",
                    " ", "\r\n\r\n", "\0",
                ]),
                0..10,
            ),
        ) {
            fuzz_request_head(parts.concat().as_bytes());
            let request = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", parts.concat());
            fuzz_request_head(request.as_bytes());
        }

        #[test]
        fn any_octets_are_survived(data in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzz_request_head(&data);
        }
    }
}
