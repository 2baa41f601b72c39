//! The client that believes nothing: each octet of each answer is looked at.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tagwire_lab::SplitMix64;

use super::content::{BLOCK, Edition, Reader};
use super::site::Site;
use super::tally::Tally;
use crate::http::{Connection, Head, content_range};

/// The fewest octets of a part: it has a whole block wherever it begins.
const PART_LEAST: u64 = 2 * BLOCK as u64;
/// The most of a part of a small file, and of a large one.
const PART_MOST: [u64; 2] = [2_000, 3 << 20];
/// What a slow reader takes in a second, and what its socket holds.
const SLOW_RATE: f64 = 4e6;
const SLOW_BUFFER: usize = 64 * 1024;

/// What a checker does, and how often beside the others.
type Deed = (u64, &'static str, fn(&mut Checker<'_>) -> io::Result<()>);

const DEEDS: &[Deed] = &[
    (30, "a file on a kept connection", |it| it.whole(false)),
    (8, "a file on a new connection", |it| it.whole_and_close()),
    (2, "a file by HTTP/1.0", |it| it.old()),
    (15, "a part", |it| it.part(false)),
    (6, "two parts", |it| it.two_parts()),
    (10, "a file that may be known", |it| it.known()),
    (6, "the rest of a file", |it| it.rest()),
    (10, "a pipeline", |it| it.pipeline()),
    (4, "a head only", |it| it.head()),
    (3, "what is missing", |it| it.missing()),
    (4, "a head in pieces", |it| it.pieces()),
    (3, "a client that has said all", |it| it.half_close()),
    (3, "a reset after a request", |it| it.reset()),
];
const LARGE_DEEDS: &[Deed] = &[
    (4, "a large file", |it| it.whole(true)),
    (4, "a part of a large file", |it| it.part(true)),
    (3, "a large file that is cut", |it| it.cut()),
    (2, "a large file that is read slowly", |it| it.slow()),
];

/// One of them, with a connection that it keeps.
#[derive(Debug)]
pub struct Checker<'a> {
    server: SocketAddr,
    site: &'a Site,
    tally: &'a Tally,
    random: SplitMix64,
    kept: Option<Connection>,
    /// Entity tags that were seen, and of which version.
    tags: HashMap<u32, (String, u32)>,
}

impl<'a> Checker<'a> {
    /// The one of this number.
    pub fn new(server: SocketAddr, site: &'a Site, tally: &'a Tally, number: u64) -> Self {
        let random = SplitMix64::new(number);
        Self { server, site, tally, random, kept: None, tags: HashMap::new() }
    }

    /// Asks and checks until the time comes. Some have to do with large files, the others with
    /// small ones.
    pub fn run(&mut self, large: bool, until: Instant) {
        let deeds = if large { LARGE_DEEDS } else { DEEDS };
        let all: u64 = deeds.iter().map(|(weight, ..)| weight).sum();
        while Instant::now() < until {
            let mut at = self.random.next() % all;
            let chosen = deeds.iter().find(|(weight, ..)| {
                let here = at < *weight;
                at = at.wrapping_sub(*weight);
                here
            });
            let Some((_, name, deed)) = chosen else { continue };
            if let Err(error) = deed(self) {
                self.tally.fault(format!("{name}: {error}"));
                self.kept = None;
            }
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next() % limit
    }

    fn open(&self) -> io::Result<Connection> {
        Connection::open(self.server)
    }

    /// The kept connection, which goes back there once all of it was as it should be.
    fn kept(&mut self) -> io::Result<Connection> {
        self.kept.take().map_or_else(|| self.open(), Ok)
    }

    /// Reads a file's head and all of it.
    fn answer(&mut self, connection: &mut Connection, file: u32, asked: Instant) -> io::Result<()> {
        let head = connection.head()?;
        self.read(connection, file, asked, &head, |_| {})
    }

    /// Reads a whole file behind its head; `pace` sees how much has come.
    fn read(
        &mut self,
        connection: &mut Connection,
        file: u32,
        asked: Instant,
        head: &Head,
        mut pace: impl FnMut(usize),
    ) -> io::Result<()> {
        let len = head.body_len().filter(|_| head.status == 200).ok_or_else(|| odd(head))?;
        let mut reader = Reader::new(file, 0);
        connection.body(len, |piece| {
            pace(piece.len());
            reader.take(piece)
        })?;
        let edition = self.edition(file, reader.version(), asked)?;
        if len != Site::len(edition) {
            return wrong(format!("{edition:?} in {len} octets"));
        }
        let tag = head.field("ETag").ok_or_else(|| odd(head))?;
        self.tags.insert(file, (tag.to_owned(), edition.version));
        self.tally.checked(len);
        Ok(())
    }

    /// The version that was seen, which must be one that may be.
    fn edition(&self, file: u32, version: Option<u32>, asked: Instant) -> io::Result<Edition> {
        let version = version.ok_or_else(|| io::Error::other("less than a block"))?;
        let edition = Edition { file, version };
        self.site.check(edition, asked).map_err(io::Error::other)?;
        Ok(edition)
    }

    fn whole(&mut self, large: bool) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, large), self.kept()?);
        let asked = Instant::now();
        connection.send(get(file, "").as_bytes())?;
        self.answer(&mut connection, file, asked)?;
        self.kept = Some(connection);
        Ok(())
    }

    fn whole_and_close(&mut self) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, false), self.open()?);
        let asked = Instant::now();
        connection.send(get(file, "Connection: close\r\n").as_bytes())?;
        self.answer(&mut connection, file, asked)?;
        connection.end()
    }

    fn old(&mut self) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, false), self.open()?);
        let asked = Instant::now();
        connection.send(format!("GET {} HTTP/1.0\r\n\r\n", Site::target(file)).as_bytes())?;
        self.answer(&mut connection, file, asked)?;
        connection.end()
    }

    /// A span that each version of the file has at least the beginning of.
    fn span(&mut self, file: u32, large: bool) -> (u64, u64) {
        let first = self.below(Site::least_len(file) - PART_LEAST);
        let len = PART_LEAST + self.below(PART_MOST[usize::from(large)]);
        (first, first + len)
    }

    fn part(&mut self, large: bool) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, large), self.kept()?);
        let (first, end) = self.span(file, large);
        let asked = Instant::now();
        let range = format!("Range: bytes={first}-{}\r\n", end - 1);
        connection.send(get(file, &range).as_bytes())?;
        let head = connection.head()?;
        let part = head.part().filter(|_| head.status == 206).ok_or_else(|| odd(&head))?;
        if head.body_len() != Some(part.1 - part.0) {
            return Err(odd(&head));
        }
        self.read_part(&mut connection, file, asked, part, (first, end))?;
        self.kept = Some(connection);
        Ok(())
    }

    /// Reads a part, which must be what was asked for of a version of that length.
    fn read_part(
        &mut self,
        connection: &mut Connection,
        file: u32,
        asked: Instant,
        (first, end, whole): (u64, u64, u64),
        wanted: (u64, u64),
    ) -> io::Result<u32> {
        let mut reader = Reader::new(file, first);
        connection.body(end - first, |piece| reader.take(piece))?;
        let edition = self.edition(file, reader.version(), asked)?;
        let len = Site::len(edition);
        if (first, end, whole) != (wanted.0, wanted.1.min(len), len) {
            return wrong(format!("{edition:?}: {first}-{end}/{whole}, not {wanted:?} of {len}"));
        }
        self.tally.checked(end - first);
        Ok(edition.version)
    }

    /// Both must be of one version (RFC 9110 15.3.7.2 has them in the order of the request).
    fn two_parts(&mut self) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, false), self.kept()?);
        let first = self.below(200);
        let second = 500 + self.below(200);
        let spans = [(second, second + 200), (first, first + 150)];
        let [(a, b), (c, d)] = spans;
        let asked = Instant::now();
        let range = format!("Range: bytes={a}-{},{c}-{}\r\n", b - 1, d - 1);
        connection.send(get(file, &range).as_bytes())?;
        let head = connection.head()?;
        let boundary = head
            .field("Content-Type")
            .and_then(|value| value.strip_prefix("multipart/byteranges; boundary="))
            .filter(|_| head.status == 206)
            .ok_or_else(|| odd(&head))?;
        let mut versions = Vec::new();
        for span in spans {
            let (empty, dashes) = (connection.line()?, connection.line()?);
            if !empty.is_empty() || dashes != format!("--{boundary}") {
                return wrong(format!("{dashes:?} for a boundary"));
            }
            let mut part = None;
            loop {
                let line = connection.line()?;
                if line.is_empty() {
                    break;
                }
                part = line.strip_prefix("Content-Range: ").and_then(content_range).or(part);
            }
            let part = part.ok_or_else(|| odd(&head))?;
            versions.push(self.read_part(&mut connection, file, asked, part, span)?);
        }
        let (empty, dashes) = (connection.line()?, connection.line()?);
        if !empty.is_empty() || dashes != format!("--{boundary}--") || versions[0] != versions[1] {
            return wrong(format!("{dashes:?} at the end of versions {versions:?}"));
        }
        self.kept = Some(connection);
        Ok(())
    }

    /// A file whose tag was seen before, if one was.
    fn tagged(&mut self) -> (u32, String, u32) {
        for _ in 0..50 {
            let file = Site::pick(&mut self.random, false);
            if let Some((tag, version)) = self.tags.get(&file) {
                return (file, tag.clone(), *version);
            }
        }
        (0, "\"none\"".to_owned(), 0)
    }

    fn known(&mut self) -> io::Result<()> {
        let (file, tag, version) = self.tagged();
        let mut connection = self.kept()?;
        let asked = Instant::now();
        connection.send(get(file, &format!("If-None-Match: {tag}\r\n")).as_bytes())?;
        let head = connection.head()?;
        if head.status == 304 {
            self.edition(file, Some(version), asked)?;
            self.tally.checked(0);
        } else {
            self.read(&mut connection, file, asked, &head, |_| {})?;
        }
        self.kept = Some(connection);
        Ok(())
    }

    /// Resumes: the rest of the version that is known, or all of another.
    fn rest(&mut self) -> io::Result<()> {
        let (file, tag, version) = self.tagged();
        let (first, _) = self.span(file, false);
        let mut connection = self.kept()?;
        let asked = Instant::now();
        let lines = format!("Range: bytes={first}-\r\nIf-Range: {tag}\r\n");
        connection.send(get(file, &lines).as_bytes())?;
        let head = connection.head()?;
        if let Some(part) = head.part().filter(|_| head.status == 206) {
            let seen = self.read_part(&mut connection, file, asked, part, (first, u64::MAX))?;
            if seen != version {
                return wrong(format!("the rest of version {seen} for version {version}"));
            }
        } else {
            self.read(&mut connection, file, asked, &head, |_| {})?;
        }
        self.kept = Some(connection);
        Ok(())
    }

    fn pipeline(&mut self) -> io::Result<()> {
        let count = 2 + self.below(15);
        let files: Vec<u32> = (0..count).map(|_| Site::pick(&mut self.random, false)).collect();
        let mut connection = self.kept()?;
        let asked = Instant::now();
        let requests: String = files.iter().map(|&file| get(file, "")).collect();
        connection.send(requests.as_bytes())?;
        for file in files {
            self.answer(&mut connection, file, asked)?;
        }
        self.kept = Some(connection);
        Ok(())
    }

    fn head(&mut self) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, false), self.kept()?);
        let request = get(file, "").replacen("GET", "HEAD", 1);
        connection.send(request.as_bytes())?;
        let head = connection.head()?;
        if head.status != 200 || head.body_len().is_none() {
            return Err(odd(&head));
        }
        self.tally.checked(0);
        self.kept = Some(connection);
        Ok(())
    }

    fn missing(&mut self) -> io::Result<()> {
        let mut connection = self.kept()?;
        let name = self.below(1000);
        let request = format!("GET /soak/missing-{name} HTTP/1.1\r\nHost: soak\r\n\r\n");
        connection.send(request.as_bytes())?;
        let head = connection.head()?;
        let len = head.body_len().filter(|_| head.status == 404).ok_or_else(|| odd(&head))?;
        connection.body(len, |_| Ok(()))?;
        self.tally.checked(len);
        self.kept = Some(connection);
        Ok(())
    }

    fn pieces(&mut self) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, false), self.kept()?);
        let asked = Instant::now();
        for piece in get(file, "Accept: */*\r\n").as_bytes().chunks(7) {
            connection.send(piece)?;
        }
        self.answer(&mut connection, file, asked)?;
        self.kept = Some(connection);
        Ok(())
    }

    fn half_close(&mut self) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, false), self.open()?);
        let asked = Instant::now();
        connection.send(get(file, "").as_bytes())?;
        connection.stream().shutdown(Shutdown::Write)?;
        self.answer(&mut connection, file, asked)?;
        connection.end()
    }

    fn reset(&mut self) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, false), self.open()?);
        connection.send(get(file, "").repeat(3).as_bytes())?;
        self.tally.cut();
        connection.reset()
    }

    /// Goes away in the middle, half of the times by a reset.
    fn cut(&mut self) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, true), self.open()?);
        connection.send(get(file, "").as_bytes())?;
        let head = connection.head()?;
        let len = head.body_len().filter(|_| head.status == 200).ok_or_else(|| odd(&head))?;
        let (enough, mut reader) = (self.below(len), Reader::new(file, 0));
        connection.body(enough, |piece| reader.take(piece))?;
        self.tally.cut();
        if self.below(2) == 0 { connection.reset() } else { Ok(()) }
    }

    fn slow(&mut self) -> io::Result<()> {
        let (file, mut connection) = (Site::pick(&mut self.random, true), self.open()?);
        set_socket_recv_buffer_size(connection.stream(), SLOW_BUFFER)?;
        let asked = Instant::now();
        connection.send(get(file, "Connection: close\r\n").as_bytes())?;
        let head = connection.head()?;
        let pace = |octets| thread::sleep(Duration::from_secs_f64(octets as f64 / SLOW_RATE));
        self.read(&mut connection, file, asked, &head, pace)?;
        connection.end()
    }
}

fn get(file: u32, lines: &str) -> String {
    format!("GET {} HTTP/1.1\r\nHost: soak\r\n{lines}\r\n", Site::target(file))
}

fn odd(head: &Head) -> io::Error {
    io::Error::other(format!("not as it should be: {head:?}"))
}

fn wrong<T>(what: String) -> io::Result<T> {
    Err(io::Error::other(what))
}
