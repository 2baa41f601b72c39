//! A lab with a contender of each kind behind its wire, and downloads over it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tagwire_lab::{Direction, Lab, LabProcess, Namespace, Pod, Wire, WireConfig, WireCounts};

use super::cell::{Cell, Congestion};
use crate::BenchError;
use crate::contender::Programs;

/// What is downloaded: name and octets.
pub const FILE: (&str, usize) = ("20m", 20_000_000);
/// A server that has not sent for so long will not go on with what was asked of it before.
const QUIET: Duration = Duration::from_millis(100);
/// How long to wait for that.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of so many frames one may be late.
const PUNCTUAL: u64 = 50;
/// The first part of a shared line's time does not count: the flows begin one by one.
const WARM_UP: f64 = 0.25;

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// We.
    Tagwire,
    /// nginx on the kernel's TCP.
    Kernel,
}

/// One download, or one contender's part of a shared line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The wire's seed.
    pub seed: u64,
    /// Octets of the body that have arrived, ...
    pub octets: u64,
    /// ... in so many microseconds from the first SYN on.
    pub micros: u64,
    /// All came before the time was over.
    pub complete: bool,
    /// The wire did not keep its time, or lost frames that it should not have.
    pub disturbed: bool,
}

impl Run {
    /// Octets in a second.
    pub fn goodput(&self) -> f64 {
        self.octets as f64 * 1e6 / self.micros.max(1) as f64
    }
}

/// The lab and its servers: for each congestion control one of ours and one of the kernel's.
#[derive(Debug)]
pub struct Arena {
    // Before the lab: they are ended first.
    _servers: Vec<LabProcess>,
    lab: Lab,
    congestions: Vec<Congestion>,
}

impl Arena {
    /// Brings it up. `options` are of Tagwire's command line, for each congestion control.
    ///
    /// # Errors
    /// When a server does not start, or the kernel's has not the congestion control that it
    /// should.
    pub fn open(
        tagwire: &Path,
        congestions: &[Congestion],
        options: impl Fn(Congestion) -> Vec<&'static str>,
    ) -> Result<Self, BenchError> {
        let pods = congestions.len() * 2;
        let lab = Lab::builder().pods(pods).wire(WireConfig::default()).build()?;
        let programs = Programs::prepare(&lab, tagwire, None, &[FILE])?;
        forget_paths(lab.client())?;
        let mut servers = Vec::new();
        for (index, &congestion) in congestions.iter().enumerate() {
            let (ours, theirs) = (lab.pod(index * 2), lab.pod(index * 2 + 1));
            servers.push(programs.start_tagwire(&lab, ours, &options(congestion))?);
            servers.push(programs.start_nginx(&lab, theirs)?);
            forget_paths(theirs.namespace())?;
            theirs.congestion_control(congestion.name())?;
        }
        let arena = Self { _servers: servers, lab, congestions: congestions.to_vec() };
        for &congestion in congestions {
            // Into its cache, and the addresses into the neighbours' tables.
            arena.curl(arena.address(Server::Tagwire, congestion), PATIENCE)?;
            arena.check_kernel(congestion)?;
        }
        Ok(arena)
    }

    fn pod(&self, server: Server, congestion: Congestion) -> &Pod {
        let index = self.congestions.iter().position(|it| *it == congestion).unwrap_or(0);
        self.lab.pod(index * 2 + usize::from(server == Server::Kernel))
    }

    fn address(&self, server: Server, congestion: Congestion) -> Ipv4Addr {
        self.pod(server, congestion).address()
    }

    fn wire(&self) -> &Wire {
        self.lab.wire().expect("this lab was built with a wire")
    }

    /// Sees in the kernel's own list that a connection of its server has the congestion
    /// control that was asked for.
    fn check_kernel(&self, congestion: Congestion) -> Result<(), BenchError> {
        let server = SocketAddr::from((self.address(Server::Kernel, congestion), 80));
        let mut stream = self.lab.client().run(|| TcpStream::connect(server))??;
        ask(&mut stream)?;
        stream.read_exact(&mut [0])?;
        let list = self.pod(Server::Kernel, congestion).command("ss").args(["-tinHO"]);
        let list = list.stdout_string()?;
        if list.split_whitespace().any(|word| word == congestion.name()) {
            return Ok(());
        }
        Err(format!("the kernel's server does not use {}: {list}", congestion.name()).into())
    }

    /// Downloads the file by curl over a wire of this cell that has just begun.
    ///
    /// # Errors
    /// When curl says anything else than that it has all, or that the time is over.
    pub fn download(
        &self,
        server: Server,
        congestion: Congestion,
        cell: Cell,
        seed: u64,
        limit: Duration,
    ) -> Result<Run, BenchError> {
        let address = self.address(server, congestion);
        let (curl, disturbed) = self.over(cell, seed, || self.curl(address, limit))?;
        let (octets, time) = curl?;
        let complete = octets == FILE.1 as u64;
        Ok(Run { seed, octets, micros: (time * 1e6) as u64, complete, disturbed })
    }

    /// Octets of the body and seconds of one download.
    fn curl(&self, address: Ipv4Addr, limit: Duration) -> Result<(u64, f64), BenchError> {
        let url = format!("http://{address}/{}", FILE.0);
        let curl = self.lab.client().command("curl").args(["-s", "-o", "/dev/null"]);
        let output = curl
            .args(["--max-time", &limit.as_secs_f64().to_string()])
            .args(["-w", "%{http_code} %{size_download} %{time_total}", &url])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<&str> = said.split_whitespace().collect();
        // 28: the time is over. Before a response that is code 0.
        if let (Some(0 | 28), [code @ ("200" | "000"), octets, time]) =
            (output.status.code(), words.as_slice())
            && (*code == "200" || output.status.code() == Some(28))
        {
            return Ok((octets.parse()?, time.parse()?));
        }
        Err(format!("curl of {url} has failed: {}, {said}", output.status).into())
    }

    /// Lets two flows of each contender share the line for so long; ours and the kernel's part.
    ///
    /// # Errors
    /// When a connection fails.
    pub fn share(
        &self,
        congestion: Congestion,
        cell: Cell,
        seed: u64,
        time: Duration,
    ) -> Result<[Run; 2], BenchError> {
        let servers = [Server::Tagwire, Server::Kernel];
        // Who begins is not always the same.
        let mut order = [0, 1, 0, 1];
        order.rotate_left((seed % 2) as usize);
        let (octets, disturbed) = self.over(cell, seed, || {
            let start = Instant::now();
            let counted = start + time.mul_f64(WARM_UP)..start + time;
            thread::scope(|scope| {
                let flows = order.map(|who| {
                    let server = SocketAddr::from((self.address(servers[who], congestion), 80));
                    let counted = counted.clone();
                    (who, scope.spawn(move || self.receive(server, counted)))
                });
                let mut octets = [0; 2];
                for (who, flow) in flows {
                    octets[who] += flow.join().map_err(|_| "a flow's thread has panicked")??;
                }
                Ok::<_, BenchError>(octets)
            })
        })?;
        let micros = time.mul_f64(1.0 - WARM_UP).as_micros() as u64;
        Ok(octets?.map(|octets| Run { seed, octets, micros, complete: false, disturbed }))
    }

    /// Asks for the file again and again, and counts what arrives within a span.
    fn receive(&self, server: SocketAddr, counted: Range<Instant>) -> Result<u64, BenchError> {
        let connect = || TcpStream::connect_timeout(&server, PATIENCE);
        let mut stream = self.lab.client().run(connect)??;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut buffer = vec![0; 256 << 10];
        let (mut octets, mut left) = (0, 0);
        loop {
            if left < FILE.1 as u64 / 2 {
                // The next before the last octet of this one: the line is not to run dry.
                ask(&mut stream)?;
                left += FILE.1 as u64;
            }
            let now = Instant::now();
            if now >= counted.end {
                return Ok(octets);
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Err("a connection that shared the line was closed".into()),
                Ok(got) => {
                    left = left.saturating_sub(got as u64);
                    octets += if counted.contains(&now) { got as u64 } else { 0 };
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does something over a wire of this cell that has just begun; whether it was disturbed.
    fn over<T>(
        &self,
        cell: Cell,
        seed: u64,
        work: impl FnOnce() -> T,
    ) -> Result<(T, bool), BenchError> {
        let wire = self.wire();
        wire.replan(cell.wire(seed))?;
        let before = wire.counts(Direction::Down);
        let done = work();
        let after = wire.counts(Direction::Down);
        wire.replan(WireConfig::default())?;
        self.wait_for_silence();
        Ok((done, disturbed(before, after)))
    }

    /// A download that was cut leaves a server that still sends, until it hears of it.
    fn wait_for_silence(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = (self.wire().counts(Direction::Down).received, Instant::now());
        while seen.1.elapsed() < QUIET && Instant::now() < deadline {
            thread::sleep(QUIET / 10);
            let received = self.wire().counts(Direction::Down).received;
            if received != seen.0 {
                seen = (received, Instant::now());
            }
        }
    }
}

/// Whether the wire did what it should not have.
fn disturbed(before: WireCounts, after: WireCounts) -> bool {
    let frames = after.forwarded - before.forwarded;
    after.failed > before.failed || (after.late - before.late) * PUNCTUAL > frames
}

/// Requests the file on a connection that is kept.
fn ask(stream: &mut TcpStream) -> io::Result<()> {
    let (file, _) = FILE;
    write!(stream, "GET /{file} HTTP/1.1\r\nHost: bench\r\n\r\n")
}

/// What a kernel remembers of one connection must not change the next: each seed is to begin
/// like the first.
fn forget_paths(namespace: &Namespace) -> Result<(), BenchError> {
    let script = "echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save";
    namespace.command("sh").args(["-c", script]).stdout_string()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_that_is_late_disturbs() {
        let counts = |forwarded, late, failed| WireCounts {
            forwarded,
            late,
            failed,
            ..WireCounts::default()
        };
        let before = counts(1000, 500, 1);
        assert!(!disturbed(before, counts(2000, 520, 1)));
        assert!(disturbed(before, counts(2000, 521, 1)));
        assert!(disturbed(before, counts(2000, 500, 2)));
    }

    #[test]
    fn goodput_is_of_the_time_that_was_taken() {
        let run =
            Run { seed: 1, octets: 5_000_000, micros: 500_000, complete: false, disturbed: false };
        assert!((run.goodput() - 10e6).abs() < 1.0);
    }
}
