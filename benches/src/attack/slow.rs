//! Clients that are as slow as they can be: a great number of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use tagwire_lab::Lab;

use crate::BenchError;
use crate::lone::raise_file_limit;

/// The addresses that the clients come from, so that none needs more ports than there are.
const SOURCES: usize = 5;
/// Connections of one thread. Each has a table of open files of its own, so that the limit of
/// files, which is of a table, is far off.
const PART: usize = 10_000;
/// A reader's buffer: the smallest that the kernel gives.
const RECEIVE_BUFFER: usize = 2048;
/// Every connection gets its turn in a minute (those that send) or in a second.
const SEND_EVERY: Duration = Duration::from_secs(60);
const READ_EVERY: Duration = Duration::from_secs(1);
/// How often those whose turn it is get it.
const TICK: Duration = Duration::from_millis(50);
/// What a sender sends, octet by octet: it never ends its head.
const HEAD: &[u8] = b"GET /1k HTTP/1.1\r\nHost: slow\r\nX-Slow: ";
const REQUEST: &[u8] = b"GET /100m HTTP/1.1\r\nHost: slow\r\n\r\n";

/// How many there are.
#[derive(Debug, Default)]
pub struct Crowd {
    /// Connections that were opened.
    pub opened: AtomicUsize,
    /// That were refused.
    pub refused: AtomicUsize,
    /// That the server has closed since.
    pub closed: AtomicUsize,
    /// Threads whose connections are all there.
    complete: AtomicUsize,
    /// Set from outside, for all to go.
    pub leave: AtomicBool,
}

impl Crowd {
    /// Whether all that there will be of `connections` are there.
    pub fn is_complete(&self, connections: usize) -> bool {
        self.complete.load(Ordering::Relaxed) >= connections.div_ceil(PART)
    }
}

/// The addresses of the slow clients, beside the client's own.
fn sources() -> impl Iterator<Item = Ipv4Addr> {
    (0..SOURCES as u8).map(|index| Ipv4Addr::new(192, 168, 123, 20 + index))
}

/// Gives the client's interface their addresses.
///
/// # Errors
/// When that fails.
pub fn prepare(lab: &Lab) -> Result<(), BenchError> {
    raise_file_limit(PART as u64 + 500)?;
    for source in sources() {
        let address = format!("{source}/24");
        let command = lab.client().command("ip").args(["address", "add", &address, "dev"]);
        command.arg(lab.client_interface()).stdout_string()?;
    }
    Ok(())
}

struct Slow {
    stream: TcpStream,
    sent: usize,
}

/// Opens half of the connections to send slowly and half to read slowly, and keeps them at it
/// until [`Crowd::leave`] is set. To be run in the client's namespace.
///
/// # Errors
/// When a thread cannot have files of its own.
pub fn crowd(server: Ipv4Addr, connections: usize, crowd: &Crowd) -> Result<(), BenchError> {
    thread::scope(|scope| {
        let parts: Vec<_> = (0..connections)
            .step_by(PART)
            .map(|first| {
                let count = PART.min(connections - first);
                scope.spawn(move || -> io::Result<()> {
                    unshare(CloneFlags::CLONE_FILES)?;
                    part(server, count, crowd);
                    Ok(())
                })
            })
            .collect();
        for part in parts {
            part.join().map_err(|_| "a thread of slow clients has panicked")??;
        }
        Ok(())
    })
}

fn part(server: Ipv4Addr, connections: usize, crowd: &Crowd) {
    let sources: Vec<Ipv4Addr> = sources().collect();
    let (mut senders, mut readers) = (Vec::new(), Vec::new());
    for index in 0..connections {
        if crowd.leave.load(Ordering::Relaxed) {
            return;
        }
        let reads = index % 2 == 1;
        match open(sources[index % SOURCES], server, reads) {
            Ok(stream) => {
                crowd.opened.fetch_add(1, Ordering::Relaxed);
                let list = if reads { &mut readers } else { &mut senders };
                list.push(Some(Slow { stream, sent: 0 }));
            }
            Err(_) => drop(crowd.refused.fetch_add(1, Ordering::Relaxed)),
        }
    }
    crowd.complete.fetch_add(1, Ordering::Relaxed);
    let start = Instant::now();
    let (mut sending, mut reading) = (0, 0);
    while !crowd.leave.load(Ordering::Relaxed) {
        thread::sleep(TICK);
        let due = |every: Duration, count: usize| {
            (start.elapsed().as_secs_f64() / every.as_secs_f64() * count as f64) as usize
        };
        let closed = turns(&mut senders, &mut sending, due(SEND_EVERY, connections / 2), send)
            + turns(&mut readers, &mut reading, due(READ_EVERY, connections / 2), read);
        crowd.closed.fetch_add(closed, Ordering::Relaxed);
    }
}

/// Gives those whose turn it is their turn; how many are gone.
fn turns(
    list: &mut [Option<Slow>],
    done: &mut usize,
    due: usize,
    turn: impl Fn(&mut Slow) -> io::Result<()>,
) -> usize {
    let mut closed = 0;
    let count = list.len().max(1);
    // Not more than once each, however late it is.
    for index in (*done).max(due.saturating_sub(count))..due {
        let Some(slot) = list.get_mut(index % count) else { break };
        if slot.as_mut().is_some_and(|slow| turn(slow).is_err()) {
            *slot = None;
            closed += 1;
        }
    }
    *done = due;
    closed
}

fn open(from: Ipv4Addr, server: Ipv4Addr, reads: bool) -> io::Result<TcpStream> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if reads {
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    }
    bind(&socket, &SocketAddrV4::new(from, 0))?;
    connect(&socket, &SocketAddrV4::new(server, 80))?;
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    stream.write_all(if reads { REQUEST } else { &HEAD[..1] })?;
    Ok(stream)
}

fn send(slow: &mut Slow) -> io::Result<()> {
    slow.sent += 1;
    slow.stream.write_all(&[HEAD.get(slow.sent).copied().unwrap_or(b'x')])?;
    // Whether it was closed by the server shows in reading.
    read(slow)
}

fn read(slow: &mut Slow) -> io::Result<()> {
    match slow.stream.read(&mut [0]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}
