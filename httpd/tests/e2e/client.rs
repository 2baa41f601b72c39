//! A client on a kernel socket, for what curl cannot be told to do.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use sha2::{Digest, Sha256};
use tagwire_lab::Namespace;

use crate::bed::Bed;

/// No answer for so long is none at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the appliance.
pub(crate) struct Client {
    socket: TcpStream,
    /// Received, and not yet part of an answer.
    input: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and fields, as received.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A field of the head.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The head without its Date, which may differ between two answers.
    pub(crate) fn lines_but_date(&self) -> Vec<&str> {
        self.head.lines().filter(|line| !line.starts_with("Date: ")).collect()
    }
}

impl Client {
    /// Connects from the bed's client.
    pub(crate) fn connect(bed: &Bed) -> Self {
        let server = bed.server();
        bed.lab().client().run(|| Self::connect_here(server)).unwrap()
    }

    /// Connects from the namespace of the calling thread.
    pub(crate) fn connect_here(server: SocketAddr) -> Self {
        Self::from(TcpStream::connect(server).unwrap())
    }

    /// Connects with a receive buffer of so many octets (the kernel doubles it), set before, so
    /// that the window is small from the start.
    pub(crate) fn connect_small(bed: &Bed, buffer: usize) -> Self {
        let open = || -> rustix::io::Result<TcpStream> {
            let family =
                if bed.server().is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket(family, SocketType::STREAM, None)?;
            sockopt::set_socket_recv_buffer_size(&socket, buffer)?;
            connect(&socket, &bed.server())?;
            Ok(socket.into())
        };
        Self::from(bed.lab().client().run(open).unwrap().unwrap())
    }

    /// Connects from this address and port of a namespace.
    pub(crate) fn connect_from(place: &Namespace, own: SocketAddr, server: SocketAddr) -> Self {
        let open = || -> rustix::io::Result<TcpStream> {
            let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket(family, SocketType::STREAM, None)?;
            bind(&socket, &own)?;
            connect(&socket, &server)?;
            Ok(socket.into())
        };
        Self::from(place.run(open).unwrap().unwrap())
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(crate) fn send(&mut self, octets: &[u8]) {
        self.socket.write_all(octets).unwrap();
    }

    /// Sends a request without a body.
    pub(crate) fn ask(&mut self, method: &str, path: &str) {
        self.send(request(method, path).as_bytes());
    }

    /// The answer to a GET.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path);
        self.answer()
    }

    pub(crate) fn half_close(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer, with its body.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let len: usize = if answer.status == 304 {
            0
        } else {
            answer.field("Content-Length").expect("each answer has a length").parse().unwrap()
        };
        answer.body = self.body(len);
        answer
    }

    /// Whether all of the next answer, which has a body, is here.
    fn has_answer(&self) -> bool {
        let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") else {
            return false;
        };
        let head = str::from_utf8(&self.input[..end]).unwrap();
        let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let len: usize = len.expect("each answer has a length").parse().unwrap();
        self.input.len() >= end + 4 + len
    }

    /// So many octets behind a head.
    pub(crate) fn body(&mut self, len: usize) -> Vec<u8> {
        while self.input.len() < len {
            self.receive();
        }
        let rest = self.input.split_off(len);
        std::mem::replace(&mut self.input, rest)
    }

    /// The next answer, which has no body.
    pub(crate) fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.receive();
        };
        let head = String::from_utf8(self.input.drain(..end).collect()).unwrap();
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {head}"));
        Answer { status, head, body: Vec::new() }
    }

    /// The length and the digest of the next answer's body, which is hashed as it comes.
    pub(crate) fn digest(&mut self) -> (u64, Vec<u8>) {
        let answer = self.head();
        assert_eq!(answer.status, 200, "{}", answer.head);
        let len: u64 = answer.field("Content-Length").unwrap().parse().unwrap();
        let mut hash = Sha256::new();
        let mut taken = std::mem::take(&mut self.input);
        assert!(taken.len() as u64 <= len, "more than one answer");
        hash.update(&taken);
        let mut left = len - taken.len() as u64;
        taken.resize(256 * 1024, 0);
        while left > 0 {
            let room = taken.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let octets = self.socket.read(&mut taken[..room]).unwrap();
            assert_ne!(octets, 0, "the end, {left} of {len} octets early");
            hash.update(&taken[..octets]);
            left -= octets as u64;
        }
        (len, hash.finalize().to_vec())
    }

    /// Takes what comes next, which is something.
    pub(crate) fn receive(&mut self) {
        let mut buffer = [0; 64 * 1024];
        let octets = self.socket.read(&mut buffer).unwrap();
        assert_ne!(octets, 0, "the end, behind {}", self.input.escape_ascii());
        self.input.extend_from_slice(&buffer[..octets]);
    }

    /// Takes what is left: nothing, and then the end.
    pub(crate) fn assert_end(&mut self) {
        let mut rest = std::mem::take(&mut self.input);
        self.socket.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.escape_ascii().to_string(), "");
    }

    /// Reads until an error or the end; what it was, and how much came before.
    pub(crate) fn read_to_error(&mut self) -> (usize, io::Result<()>) {
        let (taken, end) = self.take_to_error();
        (taken.len(), end)
    }

    /// Reads until an error or the end; what it was, and what came before.
    pub(crate) fn take_to_error(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut taken = std::mem::take(&mut self.input);
        let end = self.socket.read_to_end(&mut taken);
        (taken, end.map(|_| ()))
    }
}

impl From<TcpStream> for Client {
    fn from(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket, input: Vec::new() }
    }
}

/// Reads what comes for any of `clients`, none of which waits for another, and gives `done` the answer
/// of each once it is whole.
pub(crate) fn answers(clients: Vec<Client>, mut done: impl FnMut(usize, Answer)) {
    let patience = PATIENCE.try_into().unwrap();
    let mut left: Vec<_> = clients.into_iter().enumerate().collect();
    while !left.is_empty() {
        let polled = left.iter().map(|(_, client)| PollFd::new(&client.socket, PollFlags::IN));
        let mut polled: Vec<_> = polled.collect();
        assert_ne!(poll(&mut polled, Some(&patience)).unwrap(), 0, "nothing comes for anybody");
        let ready: Vec<_> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        left.retain_mut(|(number, client)| {
            if ready.next() != Some(true) {
                return true;
            }
            client.receive();
            let whole = client.has_answer();
            if whole {
                done(*number, client.answer());
            }
            !whole
        });
    }
}

/// A request without a body.
pub(crate) fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: tagwire\r\n\r\n")
}

/// Downloads a file several times at once on connections of their own, from the client's
/// namespace, and compares each with `content`.
pub(crate) fn download(bed: &Bed, path: &str, content: &[u8], times: usize) {
    let server = bed.server();
    let expected = (content.len() as u64, Sha256::digest(content).to_vec());
    let all = || {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..times)
                .map(|_| {
                    scope.spawn(|| {
                        let mut client = Client::connect_here(server);
                        client.ask("GET", path);
                        client.digest()
                    })
                })
                .collect();
            for client in clients {
                assert!(client.join().unwrap() == expected, "{path} came damaged");
            }
        });
    };
    bed.lab().client().run(all).unwrap();
}
