//! A client's side of a connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// No octet for so long is a fault.
const PATIENCE: Duration = Duration::from_secs(30);
const PIECE: usize = 64 * 1024;
/// More than any head of ours has.
const MOST_HEAD: usize = 8 * 1024;

/// A connection, with what has come and was not asked for yet.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
}

/// An answer's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    text: String,
}

impl Head {
    fn parse(text: &str) -> Option<Self> {
        let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some(Self { status, text: text.to_owned() })
    }

    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Octets of the head itself.
    pub fn octets(&self) -> usize {
        self.text.len()
    }

    /// Octets of the body, by Content-Length.
    pub fn body_len(&self) -> Option<u64> {
        self.field("Content-Length")?.parse().ok()
    }

    /// First octet, octet behind the last, and length of the whole, by Content-Range.
    pub fn part(&self) -> Option<(u64, u64, u64)> {
        content_range(self.field("Content-Range")?)
    }
}

/// Reads `bytes 0-4/26`.
pub fn content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (span, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    Some((first.parse().ok()?, last.checked_add(1)?, whole.parse().ok()?))
}

impl Connection {
    /// Connects from the namespace of the calling thread.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, input: Vec::new() })
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The socket alone, when nothing more has come.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends.
    ///
    /// # Errors
    /// As the socket has them.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets)
    }

    /// The next answer's head.
    ///
    /// # Errors
    /// When none comes, or something else.
    pub fn head(&mut self) -> io::Result<Head> {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.input.len() > MOST_HEAD {
                return Err(self.odd("no head"));
            }
            self.receive()?;
        };
        let head = std::str::from_utf8(&self.input[..end]).ok().and_then(Head::parse);
        let head = head.ok_or_else(|| self.odd("no head"))?;
        self.input.drain(..end);
        Ok(head)
    }

    /// Takes the next `len` octets, piece by piece.
    ///
    /// # Errors
    /// When they do not come, or `take` does not like them.
    pub fn body(
        &mut self,
        len: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> io::Result<()> {
        let mut left = len;
        while left > 0 {
            if self.input.is_empty() {
                self.receive()?;
            }
            let here = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            take(&self.input[..here]).map_err(io::Error::other)?;
            self.input.drain(..here);
            left -= here as u64;
        }
        Ok(())
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// When none comes.
    pub fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.input.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.input[..at]).into_owned();
                self.input.drain(..at + 2);
                return Ok(line);
            }
            if self.input.len() > MOST_HEAD {
                return Err(self.odd("no line"));
            }
            self.receive()?;
        }
    }

    /// The server ends the connection, and nothing comes before that.
    ///
    /// # Errors
    /// When it is otherwise.
    pub fn end(mut self) -> io::Result<()> {
        if self.input.is_empty() && self.stream.read(&mut [0])? == 0 {
            return Ok(());
        }
        Err(self.odd("more than was asked for"))
    }

    /// Ends it by a RST.
    ///
    /// # Errors
    /// As the socket has them.
    pub fn reset(self) -> io::Result<()> {
        set_socket_linger(&self.stream, Some(Duration::ZERO))?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let had = self.input.len();
        self.input.resize(had + PIECE, 0);
        let got = self.stream.read(&mut self.input[had..]);
        self.input.truncate(had + *got.as_ref().unwrap_or(&0));
        match got {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn odd(&self, what: &str) -> io::Error {
        let shown = &self.input[..self.input.len().min(200)];
        io::Error::other(format!("{what}: {}", shown.escape_ascii()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_parts() {
        let text = "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\ncontent-range: bytes \
                    0-4/26\r\n\r\n";
        let head = Head::parse(text).unwrap();
        assert_eq!((head.status, head.body_len(), head.part()), (206, Some(5), Some((0, 5, 26))));
        assert_eq!(head.field("ETag"), None);
        assert_eq!(Head::parse("HTTP/1.0 200 OK\r\n\r\n"), None);
        assert_eq!(content_range("bytes */26"), None);
    }
}
