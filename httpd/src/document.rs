//! Documents that are made and not read from a file, ready to send: listings.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;

use crate::encoding::Coding;
use crate::respond::{Common, assemble};

/// Without random keys, so that replicas of the same content share their tags.
pub(crate) fn digest(octets: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(octets);
    hasher.finish()
}

/// A document. It has no date of its own, as what it shows changes without one, and no parts.
#[derive(Debug)]
pub struct Document {
    /// Entity tag with its quotes, a weak one: equal octets have equal tags, and no more is claimed.
    pub etag: Box<str>,
    /// The content.
    pub body: Bytes,
    /// The lines of the 200, but for those of [`Common`].
    whole: Box<[u8]>,
    /// Where those about the kind of content end.
    kind_end: usize,
    /// Where those begin that a 304 has too.
    shared: usize,
    /// Where those begin that each coding of it has too.
    common: usize,
}

impl Document {
    /// A document of this media type; `fields` are whole lines of its site and its own.
    pub fn new(content_type: &str, body: String, fields: &str) -> Self {
        let kind = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n");
        let fields = format!("Server: tagwire\r\n{fields}");
        Self::of(kind.as_bytes(), None, body.into(), fields.as_bytes())
    }

    /// The same in a coding.
    pub(crate) fn encoded(&self, coding: Coding, body: Bytes) -> Self {
        let (kind, fields) = (&self.whole[..self.kind_end], &self.whole[self.common..]);
        Self::of(kind, Some(coding), body, fields)
    }

    fn of(kind: &[u8], coding: Option<Coding>, body: Bytes, fields: &[u8]) -> Self {
        let etag = format!("W/\"{:016x}\"", digest(&body));
        let coding = coding.map(|coding| format!("Content-Encoding: {coding}\r\n"));
        let coding = coding.unwrap_or_default();
        let length = format!("{coding}Content-Length: {}\r\n", body.len());
        let tag = format!("ETag: {etag}\r\n");
        let shared = kind.len() + length.len();
        Self {
            etag: etag.into(),
            body,
            kind_end: kind.len(),
            shared,
            common: shared + tag.len(),
            whole: [kind, length.as_bytes(), tag.as_bytes(), fields].concat().into(),
        }
    }

    /// Takes the octets of another if they are the same, and says whether they are.
    pub(crate) fn share(&mut self, other: &Self) -> bool {
        let same = self.body == other.body;
        if same {
            self.body = other.body.clone();
        }
        same
    }

    /// Octets that it holds.
    pub fn weight(&self) -> usize {
        self.etag.len() + self.body.len() + self.whole.len()
    }

    /// 200, and `body` behind the head.
    pub fn ok(&self, common: Common<'_>, body: &[u8]) -> Bytes {
        assemble([&self.whole], common, body)
    }

    /// 304: the client has it.
    pub fn not_modified(&self, common: Common<'_>) -> Bytes {
        assemble([b"HTTP/1.1 304 Not Modified\r\n", &self.whole[self.shared..]], common, b"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::Persistence;

    #[test]
    fn its_heads() {
        let document = Document::new("application/json", "[]".to_owned(), "A: b\r\n");
        let date = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let common = Common { date, persistence: Persistence::Keep, site: b"" };
        let shared = format!(
            "ETag: {}\r\nServer: tagwire\r\nA: b\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
            document.etag
        );
        assert_eq!(
            document.ok(common, b"[]"),
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n{shared}[]"
            )
        );
        assert_eq!(document.not_modified(common), format!("HTTP/1.1 304 Not Modified\r\n{shared}"));
        let again = Document::new("application/json", "[]".to_owned(), "");
        let other = Document::new("application/json", "[1]".to_owned(), "");
        assert!(document.etag == again.etag && document.etag != other.etag);
        assert!(document.etag.starts_with("W/\""));

        let encoded = document.encoded(Coding::Gzip, Bytes::from_static(b"gzipped"));
        let head = String::from_utf8(encoded.ok(common, b"").to_vec()).unwrap();
        let expected = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\
             Content-Length: 7\r\n{}",
            shared.replace(&*document.etag, &encoded.etag)
        );
        assert!(head == expected && encoded.etag != document.etag, "{head}");
    }
}
