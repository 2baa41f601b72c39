//! A client that asks at a steady rate, however long the answers take.
//!
//! wrk asks again as soon as it is answered: it shows what a server can do at most, and while the
//! server is slow it asks for less. Here request number n is due at n / rate. Its latency counts
//! from then on, also while it waits for a connection to be free, so that a server that pauses has
//! all that came due meanwhile against it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::http::Connection;
use crate::load::{Steady, WrkResult};
use crate::machine;
use crate::pauses::Pause;

/// The client's CPU.
pub const CLIENT_CPU: usize = 0;
/// An answer that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was answered.
#[derive(Debug)]
pub struct Paced {
    /// When each request was due, and when it was answered.
    answers: Vec<(Instant, Instant)>,
    bytes: u64,
    micros: u64,
}

impl Paced {
    /// The figures, once of all answers and once without those that a pause of the machine touches.
    pub fn result(&self, pauses: &[Pause]) -> WrkResult {
        let mut untouched = Vec::with_capacity(self.answers.len());
        let mut all = Vec::with_capacity(self.answers.len());
        for &(due, answered) in &self.answers {
            let micros = (answered - due).as_secs_f64() * 1e6;
            all.push(micros);
            if !pauses.iter().any(|pause| pause.touches(due, answered)) {
                untouched.push(micros);
            }
        }
        let touched = 1.0 - untouched.len() as f64 / all.len() as f64;
        let steady = Steady { p99: percentile(&mut untouched, 0.99), touched };
        let requests = all.len() as u64;
        let (p50, p99) = (percentile(&mut all, 0.5), percentile(&mut all, 0.99));
        let (bytes, micros, steady) = (self.bytes, self.micros, Some(steady));
        WrkResult { requests, bytes, micros, p50, p99, errors: 0, steady }
    }
}

fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Asks for a file for so long, from the namespace of the calling thread, which is a client from
/// then on.
///
/// # Errors
/// When a connection fails, or an answer is not like the first one.
pub fn run(
    server: SocketAddr,
    path: &str,
    connections: usize,
    rate: u64,
    time: Duration,
) -> io::Result<Paced> {
    machine::pin(CLIENT_CPU)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    let mut wires = (0..connections)
        .map(|_| Wire::open(server, request.as_bytes()))
        .collect::<io::Result<Vec<Wire>>>()?;
    let mut free: VecDeque<usize> = (0..wires.len()).collect();
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut answers = Vec::with_capacity((rate as f64 * time.as_secs_f64()) as usize + 1);
    let mut bytes = 0;
    let (start, mut number) = (Instant::now(), 0);
    loop {
        let now = Instant::now();
        // All that has become due, in its order.
        loop {
            let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
            if due > now || due >= start + time {
                break;
            }
            waiting.push_back(due);
            number += 1;
        }
        while let (Some(&due), Some(&at)) = (waiting.front(), free.front()) {
            wires[at].ask(request.as_bytes(), due)?;
            waiting.pop_front();
            free.pop_front();
        }
        if waiting.is_empty() && free.len() == wires.len() && now >= start + time {
            break;
        }
        for at in ready(&wires)? {
            if let Some(asked) = wires[at].take()? {
                answers.push((asked, Instant::now()));
                bytes += wires[at].len as u64;
                free.push_back(at);
            }
        }
        if wires.iter().any(|wire| wire.asked.is_some_and(|asked| asked.elapsed() > PATIENCE)) {
            return Err(io::Error::other("a request is not answered"));
        }
    }
    Ok(Paced { answers, bytes, micros: start.elapsed().as_micros() as u64 })
}

/// Connections that have something to read. It never waits: who sleeps wakes up too late.
fn ready(wires: &[Wire]) -> io::Result<Vec<usize>> {
    let busy: Vec<usize> = (0..wires.len()).filter(|&at| wires[at].asked.is_some()).collect();
    let mut fds: Vec<PollFd<'_>> =
        busy.iter().map(|&at| PollFd::new(&wires[at].stream, PollFlags::IN)).collect();
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    let ready = busy.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(&at, _)| at).collect())
}

/// A connection with at most one request under way.
struct Wire {
    stream: TcpStream,
    /// Octets of an answer, which is always the same but for its Date.
    len: usize,
    have: usize,
    /// When the request was due whose answer is waited for.
    asked: Option<Instant>,
}

impl Wire {
    /// Connects, and learns what an answer is like.
    fn open(server: SocketAddr, request: &[u8]) -> io::Result<Self> {
        let mut connection = Connection::open(server)?;
        connection.send(request)?;
        let head = connection.head()?;
        let body = head.body_len().filter(|_| head.status == 200);
        let body = body.ok_or_else(|| io::Error::other(format!("no file: {head:?}")))?;
        connection.body(body, |_| Ok(()))?;
        let stream = connection.into_stream();
        stream.set_nonblocking(true)?;
        Ok(Self { stream, len: head.octets() + body as usize, have: 0, asked: None })
    }

    fn ask(&mut self, request: &[u8], due: Instant) -> io::Result<()> {
        self.stream.write_all(request)?;
        (self.asked, self.have) = (Some(due), 0);
        Ok(())
    }

    /// Reads what there is; when the answer is whole, since when it was due.
    fn take(&mut self) -> io::Result<Option<Instant>> {
        let mut octets = [0; 16 * 1024];
        let got = match self.stream.read(&mut octets) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            got => got?,
        };
        let right = self.have > 0 || octets.starts_with(b"HTTP/1.1 200 ");
        self.have += got;
        if got == 0 || !right || self.have > self.len {
            return Err(io::Error::other("another answer than the first one"));
        }
        Ok(if self.have == self.len { self.asked.take() } else { None })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers on a connection, the last request after a pause.
    fn serve(mut stream: TcpStream, pause_at: usize, pause: Duration) {
        let mut octets = [0; 1024];
        for number in 1.. {
            match stream.read(&mut octets) {
                Ok(0) | Err(_) => return,
                Ok(_) if number == pause_at => thread::sleep(pause),
                Ok(_) => {}
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }

    #[test]
    fn what_came_due_in_a_pause_counts_against_the_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        // One connection, which learns first; of its fifty requests the tenth is answered late.
        let pause = Duration::from_millis(300);
        thread::spawn(move || serve(listener.accept().unwrap().0, 11, pause));
        let time = Duration::from_millis(500);
        let result = thread::spawn(move || run(server, "/", 1, 100, time)).join().unwrap().unwrap();
        let late = result.answers.iter().find(|(due, at)| *at - *due > pause / 2).unwrap();
        let steady = result.result(&[Pause { from: late.0, to: late.0 + pause }]).steady.unwrap();
        let result = result.result(&[]);
        assert_eq!(result.steady, Some(Steady { p99: result.p99, touched: 0.0 }));
        // All that came due in the pause and in as much time after it.
        assert!(steady.p99 < result.p50 && steady.touched > 0.5, "{steady:?}");
        assert_eq!((result.requests, result.errors), (50, 0));
        assert_eq!(result.bytes, 50 * 40);
        // Thirty of the fifty came due while nothing was answered.
        assert!(result.p50 > 10_000.0 && result.p99 > 250_000.0, "{result:?}");
    }
}
