//! Response heads (RFC 9112 4, RFC 9110 15): one allocation each, no formatting on the hit path.

use bytes::Bytes;

use crate::date::{DATE_LINE, imf_fixdate};

/// The statuses that we send.
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
    /// 413.
    ContentTooLarge,
    /// 414.
    TargetTooLong,
    /// 431 (RFC 6585 5).
    HeadTooLarge,
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
            Self::ContentTooLarge => "413 Content Too Large",
            Self::TargetTooLong => "414 URI Too Long",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Internal => "500 Internal Server Error",
            Self::NotImplemented => "501 Not Implemented",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// Fields that belong to the status.
    const fn fields(self) -> &'static str {
        match self {
            // RFC 9110 15.5.6: the list is required.
            Self::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            Self::Unavailable => "Retry-After: 1\r\n",
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
}

/// Puts a response together: prebuilt lines, Date, Connection, the blank line, and `body`, which
/// may be empty. The hit path's only allocation.
pub fn assemble(prebuilt: &[u8], common: Common<'_>, body: &[u8]) -> Bytes {
    let connection = common.persistence.field();
    let len = prebuilt.len() + DATE_LINE + connection.len() + 2 + body.len();
    // Exactly `len`: Bytes takes over a full Vec without another allocation.
    let mut response = Vec::with_capacity(len);
    response.extend_from_slice(prebuilt);
    response.extend_from_slice(common.date);
    response.extend_from_slice(connection);
    response.extend_from_slice(b"\r\n");
    response.extend_from_slice(body);
    Bytes::from(response)
}

/// The head lines of a file's 200, but for Date and Connection.
///
/// There is no `Accept-Ranges`: ranges are not served.
pub fn file_head(content_type: &str, len: u64, modified: u64, etag: &str) -> Box<[u8]> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: tagwire\r\nContent-Type: {content_type}\r\nContent-Length: \
         {len}\r\nLast-Modified: {}\r\nETag: {etag}\r\n",
        imf_fixdate(modified)
    )
    .into_bytes()
    .into()
}

/// The head lines of a file's 304 (RFC 9110 15.4.5), but for Date and Connection.
pub fn not_modified_head(modified: u64, etag: &str) -> Box<[u8]> {
    format!(
        "HTTP/1.1 304 Not Modified\r\nServer: tagwire\r\nLast-Modified: {}\r\nETag: {etag}\r\n",
        imf_fixdate(modified)
    )
    .into_bytes()
    .into()
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
    assemble(head.as_bytes(), common, if with_body { body.as_bytes() } else { b"" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; DATE_LINE] = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

    fn common(persistence: Persistence) -> Common<'static> {
        Common { date: DATE, persistence }
    }

    #[test]
    fn a_file_is_one_exact_allocation() {
        let head = file_head("text/plain; charset=utf-8", 5, 784_111_777, "\"x\"");
        assert_eq!(
            assemble(&head, common(Persistence::Close), b"hello"),
            "HTTP/1.1 200 OK\r\nServer: tagwire\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 5\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"x\"\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\r\nhello"
        );
    }

    #[test]
    fn refusals_have_a_body_but_for_head() {
        let whole = refusal(Status::MethodNotAllowed, common(Persistence::KeepOld), true);
        let text = std::str::from_utf8(&whole).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(head.contains("\r\nAllow: GET, HEAD\r\n"));
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
