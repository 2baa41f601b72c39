//! One connection: what a case says, and what comes back.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::case::{Case, Shape};

/// Sent behind each case, with the end of what is said: is the connection still served?
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: tagwire\r\nConnection: close\r\n\r\n";
/// What `/last` is.
pub(crate) const LAST_BODY: &[u8] = b"the last answer\n";
/// No answer for so long is none at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, interim ones too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) shape: Shape,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The values of a field, those of several lines joined.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// All that came back.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) answers: Vec<Answer>,
    /// The connection was served on.
    pub(crate) stays: bool,
    /// What is no answer: it ends the reading.
    pub(crate) garbage: Vec<u8>,
    /// It ended by a reset.
    pub(crate) reset: bool,
}

/// Runs a case against a server, from the namespace of the calling thread.
pub(crate) fn run(case: &Case, server: Ipv4Addr, etag: &str) -> Exchange {
    let mut wire = Wire::connect(server, &case.answers);
    for (at, part) in case.parts.iter().enumerate() {
        if at > 0 {
            wire.read_until(|wire| !wire.answers.is_empty());
        }
        wire.write(&replaced(part, b"{etag}", etag.as_bytes()));
    }
    let finals = |wire: &Wire| wire.answers.iter().filter(|it| it.status >= 200).count();
    wire.read_until(|wire| finals(wire) >= case.answers.len());
    wire.write(LAST);
    let _ = wire.socket.shutdown(Shutdown::Write);
    wire.read_until(|_| false);
    let stays = wire.answers.pop_if(|answer| answer.body == LAST_BODY).is_some();
    Exchange { answers: wire.answers, stays, garbage: wire.input, reset: wire.reset }
}

struct Wire {
    socket: TcpStream,
    shapes: VecDeque<Shape>,
    input: Vec<u8>,
    answers: Vec<Answer>,
    /// No more will come.
    over: bool,
    reset: bool,
}

impl Wire {
    fn connect(server: Ipv4Addr, shapes: &[Shape]) -> Self {
        let socket = TcpStream::connect(SocketAddr::from((server, 80))).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let shapes = shapes.iter().copied().collect();
        Self { socket, shapes, input: Vec::new(), answers: Vec::new(), over: false, reset: false }
    }

    fn write(&mut self, octets: &[u8]) {
        // A server that has ended the connection already takes it as a reset.
        if let Err(error) = self.socket.write_all(octets) {
            assert!(
                matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                "{error}"
            );
        }
    }

    fn read_until(&mut self, enough: impl Fn(&Self) -> bool) {
        let mut buffer = vec![0; 64 * 1024];
        while !self.over && !enough(self) {
            match self.socket.read(&mut buffer) {
                Ok(0) => self.over = true,
                Ok(octets) => self.input.extend_from_slice(&buffer[..octets]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    (self.over, self.reset) = (true, true);
                }
                Err(error) => {
                    panic!("{error}, behind {:?} {}", self.answers, self.input.escape_ascii())
                }
            }
            while let Some(answer) = self.take_answer() {
                self.answers.push(answer);
            }
        }
    }

    /// The answer at the start of the input, once it is whole.
    fn take_answer(&mut self) -> Option<Answer> {
        let end = self.input.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&self.input[..end]).ok()?;
        let status: u16 = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let shape = self.shapes.front().copied().unwrap_or(Shape::Framed);
        let mut answer = Answer { status, shape, fields: fields.collect(), body: Vec::new() };
        let bodiless = status < 200 || matches!(status, 204 | 304) || shape == Shape::HeadOnly;
        let len = match answer.field("Content-Length") {
            _ if bodiless => 0,
            Some(len) => len.parse().ok()?,
            None if self.over => self.input.len() - end - 4,
            None => return None,
        };
        let all = end + 4 + len;
        if self.input.len() < all {
            return None;
        }
        answer.body = self.input[end + 4..all].to_vec();
        self.input.drain(..all);
        if status >= 200 {
            self.shapes.pop_front();
        }
        Some(answer)
    }
}

/// `text` with each `old` replaced.
pub(crate) fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.windows(old.len()).position(|window| window == old) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    out.extend_from_slice(rest);
    out
}
