//! Whole connections for the fuzzer: any octets in any pieces, answered from memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tagwire_netstack::VlanStack;

use super::serve;
use crate::cache::{Answer, Cache, Chunk, Encodings, Entry, File, FileId, Millis, Source};
use crate::cold::ColdHandle;
use crate::content::Content;
use crate::cors::CorsSettings;
use crate::encoding::Coding;
use crate::limits::CHUNK;
use crate::respond::Status;
use crate::site::{Site, SiteSettings, Sites};
use crate::transport::{Local, Transport, TransportError};

/// Any octets behind one that says how they are split. Whatever they are, the connection ends in
/// order; each answer is framed as RFC 9112 has it, and nothing follows the last one; and the
/// answers are the same however the octets arrive.
pub fn fuzz_connection(data: &[u8]) {
    /// More of them octet by octet would only take time.
    const SHORT: usize = 400;
    let Some((&seed, octets)) = data.split_first() else { return };
    let whole = exchange(octets, octets.len().max(1));
    let some = 1 + usize::from(seed);
    for piece in [some, 1].into_iter().filter(|piece| *piece > 1 || octets.len() <= SHORT) {
        whole.assert_is(&exchange(octets, piece));
    }
}

/// What came of a connection.
struct Exchange {
    answers: Vec<Received>,
    /// The client was told to send a body.
    called: bool,
}

/// An answer; where parts of a file are separated by chance, as if they were not.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    status: u16,
    head: String,
    body: Bytes,
}

impl Exchange {
    /// A body that was called for and does not come, or is none, has no answer; one that was there
    /// before it was called for has (RFC 9110 10.1.1). That alone may depend on how octets arrive.
    fn assert_is(&self, other: &Self) {
        let (some, more) = match self.answers.len() <= other.answers.len() {
            true => (&self.answers, &other.answers),
            false => (&other.answers, &self.answers),
        };
        let left_out = usize::from(self.called || other.called);
        assert!(more.len() - some.len() <= left_out, "{some:#?} and {more:#?}");
        assert_eq!(some[..], more[..some.len()]);
    }
}

/// Sends `octets` in pieces of this length, and nothing behind them.
fn exchange(octets: &[u8], piece: usize) -> Exchange {
    thread_local! {
        static CONTENT: Rc<Content> = Rc::new(content());
    }
    let wire = Rc::new(RefCell::new(Wire::default()));
    let arrivals = octets.chunks(piece).map(<[u8]>::to_vec).collect();
    let script = Script { arrivals, ends: 0, wire: Rc::clone(&wire) };
    let served = serve(script, CONTENT.with(Rc::clone));
    let ended = pin!(served).poll(&mut Context::from_waker(Waker::noop()));
    assert!(ended.is_ready(), "there is nothing to wait for");
    let Wire { sent, closed, aborted, .. } = &*wire.borrow();
    assert!(*closed && !*aborted, "an orderly end");
    let head = octets.windows(5).any(|word| word == b"HEAD ");
    let mut exchange = Exchange { answers: Vec::new(), called: false };
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let (answer, last) = Received::read(&mut rest, head);
        assert!(!last || rest.is_empty(), "nothing follows Connection: close");
        match answer.status {
            100 => exchange.called = true,
            _ => exchange.answers.push(answer),
        }
    }
    exchange
}

impl Received {
    /// Reads the first answer, and whether it is the last one by its own words. One of them may be
    /// to a HEAD: then its body may be missing.
    fn read(rest: &mut &[u8], head_asked: bool) -> (Self, bool) {
        let end = rest.windows(4).position(|octets| octets == b"\r\n\r\n");
        let (head, behind) = rest.split_at(end.expect("a whole head") + 4);
        let head = std::str::from_utf8(head).expect("ASCII");
        let mut lines = head[..head.len() - 4].split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status: u16 = status.and_then(|line| line.get(..3)?.parse().ok()).expect("a status");
        let fields: Vec<_> = lines.map(|line| line.split_once(": ").expect("a field")).collect();
        for (at, (name, value)) in fields.iter().enumerate() {
            assert!(name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-'));
            assert!(value.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{name}: {value}");
            let again = fields[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            assert!(!again || *name == "Vary", "{name} comes once");
        }
        let field =
            |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let required: &[&str] = match status {
            100 => &[],
            204 => &["Date", "Allow"],
            206 => &["Date", "Content-Type", "ETag"],
            301 => &["Date", "Location"],
            304 => &["Date", "ETag"],
            405 => &["Date", "Allow"],
            416 => &["Date", "Content-Range"],
            200..600 => &["Date", "Content-Type"],
            _ => panic!("no status of ours: {status}"),
        };
        required.iter().for_each(|name| assert!(field(name).is_some(), "{name} in {head}"));
        let len: Option<usize> = field("Content-Length").map(|len| len.parse().expect("a length"));
        let len = match status {
            100 | 204 | 304 => {
                assert_eq!(len, None, "no body and no length: {head}");
                0
            }
            // Nothing of ours begins like this but another answer.
            _ if head_asked && (behind.is_empty() || behind.starts_with(b"HTTP/1.1 ")) => 0,
            _ => len.expect("a length"),
        };
        let (body, behind) = behind.split_at_checked(len).expect("as many octets as it says");
        let boundary = field("Content-Type").and_then(|kind| kind.split_once("boundary="));
        let (head, body) = match boundary {
            Some((_, chance)) => without(head, body, chance),
            None => (head.to_owned(), body.to_vec()),
        };
        *rest = behind;
        (Self { status, head, body: body.into() }, field("Connection") == Some("close"))
    }
}

/// An answer in parts without what was made up to separate them.
fn without(head: &str, body: &[u8], chance: &str) -> (String, Vec<u8>) {
    let mut plain = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.windows(chance.len()).position(|text| text == chance.as_bytes()) {
        plain.extend_from_slice(&rest[..at]);
        rest = &rest[at + chance.len()..];
    }
    (head.replace(chance, ""), [&plain, rest].concat())
}

/// Two sites in memory; whatever else is asked for cannot be loaded.
fn content() -> Content {
    let plain = SiteSettings::new("/".into());
    let other = SiteSettings {
        hosts: vec!["other".to_owned()],
        fallback: Some("a".to_owned()),
        error_pages: [(403, "a".to_owned())].into(),
        cors: Some(CorsSettings::for_every_origin()),
        builtin_json: Some(true),
        ..plain.clone()
    };
    let sites = Arc::new(Sites::open(&[plain, other], None).expect("there is a root"));
    let cache = Arc::new(Cache::new(64 * CHUNK as u64));
    for site in sites.iter() {
        fill(&cache, site);
    }
    Content::new(sites, cache, ColdHandle::to_nobody(), Arc::new(|| {}))
}

fn fill(cache: &Cache, site: &Site) {
    let large = CHUNK + 3;
    let source = |path: &str, len: usize, body: Option<&'static [u8]>| Source {
        path: path.as_bytes().into(),
        id: FileId {
            device: 0,
            inode: 0,
            len: len as u64,
            modified: 0,
            modified_ns: 0,
            changed: 0,
            changed_ns: 0,
            links: 1,
        },
        body: body.map(Bytes::from_static),
    };
    let file = |source, encoded| {
        let encodings = Encodings { read: encoded, ..Encodings::default() };
        let made = File::new(site, source, encodings, UNIX_EPOCH);
        Answer::File(made)
    };
    let packed = vec![(Coding::Gzip, source("a.gz", 4, Some(b"gzip")))];
    let whole = source("large", large, None);
    for (index, octets) in vec![b'x'; large].chunks(CHUNK).enumerate() {
        cache.put_chunk(whole.id, index as u32, Chunk::new(octets.to_vec()));
    }
    for (path, answer) in [
        ("", file(source("index.html", 4, Some(b"page")), Vec::new())),
        ("a", file(source("a", 5, Some(b"hello")), packed)),
        ("large", file(whole, Vec::new())),
        ("dir", Answer::Redirect("/dir/".into())),
        ("none", Answer::Refused(Status::NotFound)),
        ("closed", Answer::Refused(Status::Forbidden)),
    ] {
        let entry = Entry::new(answer, Millis::default(), None);
        cache.put_entry(site.id, path.as_bytes(), &Arc::new(entry));
    }
}

/// What has been sent.
#[derive(Default)]
struct Wire {
    sent: Vec<u8>,
    /// Octets of it that the client takes when it is waited for.
    queued: usize,
    closed: bool,
    aborted: bool,
}

/// A client that sends what it has, closes its side, and takes what is waited for.
struct Script {
    arrivals: VecDeque<Vec<u8>>,
    /// How often its end was read.
    ends: usize,
    wire: Rc<RefCell<Wire>>,
}

impl Transport for Script {
    fn local(&self) -> Local {
        Local { vlan: VlanStack::UNTAGGED, address: Ipv4Addr::LOCALHOST.into() }
    }

    fn peer(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 40_000).into()
    }

    async fn read(&mut self, into: &mut BytesMut) -> Result<usize, TransportError> {
        let piece = self.arrivals.pop_front().unwrap_or_default();
        self.ends += usize::from(piece.is_empty());
        assert!(self.ends < 4, "a connection that has ended is not read on and on");
        into.extend_from_slice(&piece);
        Ok(piece.len())
    }

    fn send(&mut self, data: Bytes) -> Result<(), TransportError> {
        let mut wire = self.wire.borrow_mut();
        assert!(!wire.closed && !wire.aborted, "nothing is sent behind the end");
        wire.queued += data.len();
        wire.sent.extend_from_slice(&data);
        Ok(())
    }

    fn queued(&self) -> usize {
        self.wire.borrow().queued
    }

    async fn drained(&mut self, low_water: usize) -> Result<(), TransportError> {
        let mut wire = self.wire.borrow_mut();
        wire.queued = wire.queued.min(low_water);
        Ok(())
    }

    fn close(&mut self) {
        self.wire.borrow_mut().closed = true;
    }

    fn abort(&mut self) {
        self.wire.borrow_mut().aborted = true;
    }

    fn set_deadline(&mut self, _: Option<Duration>) {}

    fn sends_away(&self) -> bool {
        false
    }
}
