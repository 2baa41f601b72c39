//! Response heads (RFC 9112 4, RFC 9110 15): one allocation each, no formatting on the hit path.

use std::ops::Range;

use bytes::Bytes;

use crate::date::{DATE_LINE, imf_fixdate};
use crate::encoding::Coding;

/// RFC 9110 15.5.6: the list is required.
const ALLOW: &str = "Allow: GET, HEAD, OPTIONS\r\n";
/// Where a POST is taken, too.
const ALLOW_POST: &str = "Allow: GET, HEAD, POST, OPTIONS\r\n";

/// The interim answer to who holds a body back (RFC 9110 15.2.1).
pub const CONTINUE: Bytes = Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n");

/// The statuses of small answers, those without a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 400.
    BadRequest,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 408.
    RequestTimeout,
    /// 411.
    LengthRequired,
    /// 412.
    PreconditionFailed,
    /// 413.
    ContentTooLarge,
    /// 414.
    TargetTooLong,
    /// 429 (RFC 6585 4).
    TooManyRequests,
    /// 431 (RFC 6585 5): its octets.
    HeadTooLarge,
    /// 431: the number of its fields.
    TooManyFields,
    /// 500.
    Internal,
    /// 501.
    NotImplemented,
    /// 503.
    Unavailable,
    /// 505.
    VersionNotSupported,
}

impl Status {
    /// Code and reason, as the status line and the small page show them.
    pub const fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::LengthRequired => "411 Length Required",
            Self::PreconditionFailed => "412 Precondition Failed",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::TargetTooLong => "414 URI Too Long",
            Self::TooManyRequests => "429 Too Many Requests",
            Self::HeadTooLarge | Self::TooManyFields => "431 Request Header Fields Too Large",
            Self::Internal => "500 Internal Server Error",
            Self::NotImplemented => "501 Not Implemented",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// The number alone.
    pub fn code(self) -> u16 {
        // The texts begin with it, see the test.
        self.text().split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(500)
    }

    /// Fields that belong to the status.
    const fn fields(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => ALLOW,
            Self::TooManyRequests | Self::Unavailable => "Retry-After: 1\r\n",
            _ => "",
        }
    }
}

/// What the response says about the connection (RFC 9112 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It stays, as HTTP/1.1 connections do.
    Keep,
    /// It stays, which an HTTP/1.0 client must be told.
    KeepOld,
    /// It ends with this response.
    Close,
}

impl Persistence {
    /// Whether another request may follow.
    pub fn keeps(self) -> bool {
        self != Self::Close
    }

    fn field(self) -> &'static [u8] {
        match self {
            Self::Keep => b"",
            Self::KeepOld => b"Connection: keep-alive\r\n",
            Self::Close => b"Connection: close\r\n",
        }
    }
}

/// What every head has besides its prebuilt part.
#[derive(Debug, Clone, Copy)]
pub struct Common<'a> {
    /// The worker's current `Date` line.
    pub date: &'a [u8; DATE_LINE],
    /// The connection's fate.
    pub persistence: Persistence,
    /// Whole lines that each answer of the site has, see [`crate::cors`].
    pub site: &'a [u8],
}

/// Puts a response together: prebuilt lines, the site's, Date, Connection, the blank line, and
/// `body`, which may be empty. The hit path's only allocation.
pub fn assemble<const N: usize>(prebuilt: [&[u8]; N], common: Common<'_>, body: &[u8]) -> Bytes {
    let connection = common.persistence.field();
    let lines: usize = prebuilt.iter().map(|lines| lines.len()).sum();
    let len = lines + common.site.len() + DATE_LINE + connection.len() + 2 + body.len();
    // Exactly `len`: Bytes takes over a full Vec without another allocation.
    let mut response = Vec::with_capacity(len);
    for lines in prebuilt {
        response.extend_from_slice(lines);
    }
    response.extend_from_slice(common.site);
    response.extend_from_slice(common.date);
    response.extend_from_slice(connection);
    response.extend_from_slice(b"\r\n");
    response.extend_from_slice(body);
    Bytes::from(response)
}

/// What the heads of a representation say of it.
#[derive(Debug, Clone, Copy)]
pub struct Entity<'a> {
    /// The media type.
    pub content_type: &'a str,
    /// How it is encoded.
    pub coding: Option<Coding>,
    /// Octets.
    pub len: u64,
    /// Last-Modified, seconds since 1970.
    pub modified: u64,
    /// Entity tag with its quotes.
    pub etag: &'a str,
    /// It is one of several, chosen by Accept-Encoding.
    pub varies: bool,
}

/// The lines of a file's heads, but for Date and Connection, made when it is loaded.
#[derive(Debug)]
pub struct FileHead {
    /// Those of the 200: the status line, type, coding and length, what concerns this file as the
    /// answer to its own name, and what any answer of its site has.
    whole: Box<[u8]>,
    /// Where those about the kind of content end: each of several parts has them.
    kind_end: usize,
    /// Where those about the content end: an error page has no more of the file than that.
    entity_end: usize,
    /// Where those begin that 304 and 206 have too (RFC 9110 15.4.5, 15.3.7).
    shared: usize,
    /// Where the site's begin.
    site: usize,
    len: u64,
    varies: bool,
}

/// The status line of every file's head.
const OK: &str = "HTTP/1.1 200 OK\r\n";

/// That of its parts.
const PARTIAL: &str = "HTTP/1.1 206 Partial Content\r\n";

/// RFC 9110 12.5.5: what else decides about the answer.
const VARY: &str = "Vary: Accept-Encoding\r\n";

impl FileHead {
    /// For a representation; `fields` are whole lines of its site.
    pub fn new(entity: &Entity<'_>, fields: &str) -> Self {
        let coding = entity.coding.map(|coding| format!("Content-Encoding: {coding}\r\n"));
        let kind = format!(
            "{OK}Content-Type: {}\r\n{}",
            entity.content_type,
            coding.as_deref().unwrap_or("")
        );
        let len = format!("Content-Length: {}\r\n", entity.len);
        let own = "Accept-Ranges: bytes\r\n";
        let validators =
            format!("Last-Modified: {}\r\nETag: {}\r\n", imf_fixdate(entity.modified), entity.etag);
        let entity_end = kind.len() + len.len();
        let shared = entity_end + own.len();
        let mut head = Self {
            whole: Box::default(),
            kind_end: kind.len(),
            entity_end,
            shared,
            site: shared + validators.len(),
            len: entity.len,
            varies: entity.varies,
        };
        let lines = [&*kind, &len, own, &validators, "Server: tagwire\r\n", head.vary(), fields];
        head.whole = lines.concat().into_bytes().into();
        head
    }

    fn vary(&self) -> &'static str {
        if self.varies { VARY } else { "" }
    }

    /// Whether the representation is one of several.
    pub fn varies(&self) -> bool {
        self.varies
    }

    /// Octets that it holds.
    pub fn weight(&self) -> usize {
        self.whole.len()
    }

    /// The lines of the 200.
    pub fn whole(&self) -> &[u8] {
        &self.whole
    }

    fn shared(&self) -> &[u8] {
        &self.whole[self.shared..]
    }

    /// Type and coding.
    fn kind(&self) -> &[u8] {
        &self.whole[OK.len()..self.kind_end]
    }

    /// 304: the client has it.
    pub fn not_modified(&self, common: Common<'_>) -> Bytes {
        assemble([b"HTTP/1.1 304 Not Modified\r\n", self.shared()], common, b"")
    }

    /// The head of the file as the page of an error: nothing by which the file would be kept, or
    /// asked for in parts, under the name that was asked for.
    pub fn error(&self, status: Status, common: Common<'_>) -> Bytes {
        let entity = &self.whole[OK.len()..self.entity_end];
        let site = &self.whole[self.site..];
        let fields = status.fields().as_bytes();
        let line = format!("HTTP/1.1 {}\r\n", status.text());
        assemble([line.as_bytes(), entity, fields, site], common, b"")
    }

    /// 206 with one part, and `body` behind the head.
    pub fn part(&self, part: &Range<u64>, common: Common<'_>, body: &[u8]) -> Bytes {
        let own = format!(
            "Content-Length: {}\r\n{}\r\n",
            part.end - part.start,
            self.content_range(part)
        );
        assemble([PARTIAL.as_bytes(), self.kind(), own.as_bytes(), self.shared()], common, body)
    }

    /// 206 with several parts: its head, and what stands before each part and behind the last one
    /// (RFC 9110 14.6, RFC 2046 5.1.1). `boundary` must not occur in the file. A coding stands in
    /// each part: it is the parts that are encoded, and not what holds them together.
    pub fn parts(
        &self,
        parts: &[Range<u64>],
        boundary: &str,
        common: Common<'_>,
    ) -> (Bytes, Vec<Bytes>, Bytes) {
        let start = format!("\r\n--{boundary}\r\n");
        let leads: Vec<Bytes> = parts
            .iter()
            .map(|part| {
                let range = format!("{}\r\n\r\n", self.content_range(part));
                Bytes::from([start.as_bytes(), self.kind(), range.as_bytes()].concat())
            })
            .collect();
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let octets: u64 = parts.iter().map(|part| part.end - part.start).sum();
        let len = octets + leads.iter().chain([&end]).map(|lines| lines.len() as u64).sum::<u64>();
        let own = format!(
            "{PARTIAL}Content-Type: multipart/byteranges; boundary={boundary}\r\n\
             Content-Length: {len}\r\n"
        );
        (assemble([own.as_bytes(), self.shared()], common, b""), leads, end)
    }

    fn content_range(&self, part: &Range<u64>) -> String {
        format!("Content-Range: bytes {}-{}/{}", part.start, part.end - 1, self.len)
    }

    /// 416: there is nothing of what was asked for (RFC 9110 15.5.17).
    pub fn unsatisfiable(&self, common: Common<'_>) -> Bytes {
        let fields = format!("Content-Range: bytes */{}\r\n{}", self.len, self.vary());
        small("416 Range Not Satisfiable", &fields, common, true)
    }

    /// 412: the client wanted another one.
    pub fn precondition_failed(&self, common: Common<'_>, with_body: bool) -> Bytes {
        small(Status::PreconditionFailed.text(), self.vary(), common, with_body)
    }
}

/// 204 that tells what may be done (RFC 9110 9.3.7); whether that is POST, too.
pub fn options(post: bool, common: Common<'_>) -> Bytes {
    let allow = if post { ALLOW_POST } else { ALLOW };
    // 8.6: no Content-Length in a 204.
    assemble([b"HTTP/1.1 204 No Content\r\nServer: tagwire\r\n", allow.as_bytes()], common, b"")
}

/// 405 for what takes POST beside the usual.
pub fn not_allowed_but_post(common: Common<'_>) -> Bytes {
    small(Status::MethodNotAllowed.text(), ALLOW_POST, common, true)
}

/// What is made for one request and kept by nobody: JSON.
pub fn json(status: &str, content: &str, common: Common<'_>, with_body: bool) -> Bytes {
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: tagwire\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
        content.len()
    );
    assemble([head.as_bytes()], common, if with_body { content.as_bytes() } else { b"" })
}

/// A whole small answer for a request that gets no file. `with_body` is false for HEAD.
pub fn refusal(status: Status, common: Common<'_>, with_body: bool) -> Bytes {
    small(status.text(), status.fields(), common, with_body)
}

/// 301 to the directory's own name; `location` is an encoded path, `query` goes along as sent.
pub fn redirect(
    location: &str,
    query: Option<&[u8]>,
    common: Common<'_>,
    with_body: bool,
) -> Bytes {
    // httparse lets octets above 0x7f through; a Location is ASCII (RFC 9110 10.2.2).
    let query =
        query.filter(|query| query.is_ascii()).and_then(|query| std::str::from_utf8(query).ok());
    let mark = if query.is_some() { "?" } else { "" };
    let field = format!("Location: {location}{mark}{}\r\n", query.unwrap_or(""));
    small("301 Moved Permanently", &field, common, with_body)
}

fn small(status: &str, fields: &str, common: Common<'_>, with_body: bool) -> Bytes {
    let body = format!(
        "<!doctype html>\n<html lang=\"en\"><head><title>{status}</title></head>\n<body>\
         <h1>{status}</h1></body></html>\n"
    );
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: tagwire\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\n{fields}",
        body.len()
    );
    assemble([head.as_bytes()], common, if with_body { body.as_bytes() } else { b"" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; DATE_LINE] = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

    const PLAIN: Entity<'static> = Entity {
        content_type: "text/plain; charset=utf-8",
        coding: None,
        len: 5,
        modified: 784_111_777,
        etag: "\"x\"",
        varies: false,
    };

    fn common(persistence: Persistence) -> Common<'static> {
        Common { date: DATE, persistence, site: b"" }
    }

    #[test]
    fn a_file_has_one_head_for_each_answer() {
        let head = FileHead::new(&PLAIN, "A: b\r\n");
        let site = "Server: tagwire\r\nA: b\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: \
                    close\r\n\r\n";
        let shared =
            format!("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"x\"\r\n{site}");
        let common = common(Persistence::Close);
        assert_eq!(
            assemble([head.whole()], common, b"hello"),
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\
                 Accept-Ranges: bytes\r\n{shared}hello"
            )
        );
        assert_eq!(head.not_modified(common), format!("HTTP/1.1 304 Not Modified\r\n{shared}"));
        assert_eq!(
            head.part(&(1..3), common, b"el"),
            format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: 2\r\nContent-Range: bytes 1-2/5\r\n{shared}el"
            )
        );
        assert_eq!(
            head.error(Status::NotFound, common),
            format!(
                "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: \
                 5\r\n{site}"
            )
        );
        assert_eq!((Status::NotFound.code(), Status::VersionNotSupported.code()), (404, 505));
        let text = head.unsatisfiable(common);
        let text = std::str::from_utf8(&text).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 416 ") && text.contains("\r\nContent-Range: bytes */5\r\n")
        );
    }

    #[test]
    fn every_answer_says_how_it_is_encoded_and_that_it_was_chosen() {
        let encoded = Entity { coding: Some(Coding::Brotli), varies: true, ..PLAIN };
        let head = FileHead::new(&encoded, "");
        let common = common(Persistence::Keep);
        let (whole, parts) =
            (assemble([head.whole()], common, b""), head.parts(&[0..1, 3..4], "b", common));
        for (answer, coding) in [
            (whole, true),
            (head.part(&(1..3), common, b"el"), true),
            (head.error(Status::NotFound, common), true),
            (head.not_modified(common), false),
            (parts.0, false),
            (head.unsatisfiable(common), false),
            (head.precondition_failed(common, true), false),
        ] {
            let text = std::str::from_utf8(&answer).unwrap();
            assert_eq!(text.matches("\r\nVary: Accept-Encoding\r\n").count(), 1, "{text}");
            assert_eq!(text.contains("\r\nContent-Encoding: br\r\n"), coding, "{text}");
        }
        let lead = "\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Encoding: br\r\n\
                    Content-Range: bytes 0-0/5\r\n\r\n";
        assert_eq!(parts.1[0], lead);
    }

    #[test]
    fn several_parts_are_as_long_as_they_say() {
        let head = FileHead::new(&Entity { content_type: "text/plain", len: 9, ..PLAIN }, "");
        let (head, leads, end) = head.parts(&[0..1, 7..9], "b", common(Persistence::Keep));
        let text = std::str::from_utf8(&head).unwrap();
        assert!(text.contains("\r\nContent-Type: multipart/byteranges; boundary=b\r\n"));
        let body = [&leads[0], &b"a"[..], &leads[1], b"hi", &end].concat();
        assert!(text.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{text}");
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            "\r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/9\r\n\r\na\r\n--b\r\n\
             Content-Type: text/plain\r\nContent-Range: bytes 7-8/9\r\n\r\nhi\r\n--b--\r\n"
        );
    }

    #[test]
    fn refusals_have_a_body_but_for_head() {
        let whole = refusal(Status::MethodNotAllowed, common(Persistence::KeepOld), true);
        let text = std::str::from_utf8(&whole).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(head.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"));
        assert!(head.contains("\r\nConnection: keep-alive"));
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        let short = refusal(Status::MethodNotAllowed, common(Persistence::KeepOld), false);
        assert_eq!(&short[..], &whole[..whole.len() - body.len()]);
    }

    #[test]
    fn a_redirect_keeps_the_query() {
        let location = |query| {
            let answer = redirect("/a%20b/", query, common(Persistence::Keep), true);
            let text = String::from_utf8(answer.to_vec()).unwrap();
            text.lines()
                .find_map(|line| line.strip_prefix("Location: ").map(str::to_owned))
                .unwrap()
        };
        assert_eq!(location(None), "/a%20b/");
        assert_eq!(location(Some(b"c=d")), "/a%20b/?c=d");
        assert_eq!(location(Some(b"")), "/a%20b/?");
        assert_eq!(location(Some(b"\xff")), "/a%20b/");
    }
}
