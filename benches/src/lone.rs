//! What is measured on the appliance alone: its memory, its rest, its start.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tagwire_lab::{Lab, LabProcess, Pod};

use crate::BenchError;
use crate::contender::{Contender, Programs};
use crate::machine;
use crate::report::median;

/// Connections of the idle case.
pub const IDLE_CONNECTIONS: usize = 100_000;
/// The appliance's addresses in the idle case, and threads of the client, one for each: it has
/// 28,232 ports for each address, and fewer files for each table of them.
const IDLE_ADDRESSES: usize = 8;
const IDLE_EACH: usize = IDLE_CONNECTIONS / IDLE_ADDRESSES;
/// The first of them, beyond those of all pods.
const FIRST_IDLE_ADDRESS: u8 = 200;
/// How often the appliance is started to see how long that takes, and whether it answers at
/// once.
pub const STARTS: usize = 10;
/// The announcements of a new address are over by then (RFC 5227).
const SETTLE: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one attempt to connect to a server that is not there yet may take.
const ATTEMPT: Duration = Duration::from_millis(1);
const REQUEST: &[u8] = b"GET /1k HTTP/1.1\r\nHost: bench\r\n\r\n";

/// Memory under idle connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Idle {
    /// Their congestion control.
    pub congestion: String,
    /// How many.
    pub connections: usize,
    /// Octets resident before.
    pub before: u64,
    /// And with them.
    pub after: u64,
}

impl Idle {
    /// Octets for each connection.
    pub fn per_connection(&self) -> f64 {
        self.after.saturating_sub(self.before) as f64 / self.connections as f64
    }
}

/// The appliance at rest.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Rest {
    /// CPU time in nanoseconds over the span.
    pub cpu_ns: u64,
    /// The span in nanoseconds.
    pub span_ns: u64,
    /// Octets resident.
    pub resident: u64,
}

impl Rest {
    /// Parts of a CPU, in per cent.
    pub fn cpu_percent(&self) -> f64 {
        self.cpu_ns as f64 * 100.0 / self.span_ns as f64
    }
}

/// Starts, from exec to the first octet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Starts {
    /// Microseconds of each.
    pub micros: Vec<f64>,
}

impl Starts {
    /// Their median in milliseconds.
    pub fn median_ms(&self) -> f64 {
        median(self.micros.clone()) / 1000.0
    }
}

/// First pings and first curls, by a client that has not heard of the appliance.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Firsts {
    /// Starts for each.
    pub of: usize,
    /// Pings answered.
    pub pings: usize,
    /// Files received.
    pub curls: usize,
}

/// The spare pod, and what runs there.
#[derive(Debug, Clone, Copy)]
pub struct Lone<'a> {
    lab: &'a Lab,
    programs: &'a Programs,
}

impl<'a> Lone<'a> {
    /// In the lab's spare pod.
    pub fn new(lab: &'a Lab, programs: &'a Programs) -> Self {
        Self { lab, programs }
    }

    fn pod(&self) -> &'a Pod {
        self.lab.pod(Contender::SPARE_POD)
    }

    fn address(&self) -> Ipv4Addr {
        self.pod().address()
    }

    fn start(&self) -> Result<(LabProcess, u32), BenchError> {
        let process = self.programs.start_tagwire(self.lab, self.pod(), &[])?;
        let pid = process.pid().ok_or("the appliance has ended")?;
        Ok((process, pid))
    }

    /// Opens connections that each make one request and then wait, under this congestion
    /// control.
    ///
    /// # Errors
    /// When one is not answered, or does not live until all are there.
    pub fn idle(&self, congestion: &str) -> Result<Idle, BenchError> {
        raise_file_limit(IDLE_EACH as u64 + 200)?;
        let [a, b, c, _] = self.address().octets();
        let last = (FIRST_IDLE_ADDRESS..).take(IDLE_ADDRESSES);
        let addresses: Vec<_> = last.map(|last| Ipv4Addr::new(a, b, c, last)).collect();
        let given: Vec<_> = addresses.iter().map(|address| format!("{address}/24")).collect();
        let given: Vec<_> = given.iter().map(String::as_str).collect();
        let options = ["--congestion", congestion];
        let mut process = self.programs.start_tagwire_at(self.lab, self.pod(), &given, &options)?;
        let pid = process.pid().ok_or("the appliance has ended")?;
        let (before, after) = self.lab.client().run(|| -> io::Result<(u64, u64)> {
            // The first requests pay for what all share: the cache, the tables.
            let _first = addresses.iter().map(asked).collect::<io::Result<Vec<_>>>()?;
            let before = machine::resident(pid)?;
            thread::scope(|scope| {
                let hold = |address| {
                    let (tell, told) = mpsc::channel();
                    let (keep, kept) = mpsc::channel::<()>();
                    let holds = move || hold_idle(address, &tell, &kept);
                    (told, keep, scope.spawn(holds))
                };
                let holders: Vec<_> = addresses.iter().map(hold).collect();
                // Those that have failed tell nothing, and their result says so below.
                holders.iter().for_each(|(told, ..)| told.recv().unwrap_or_default());
                let after = machine::resident(pid)?;
                for (_, keep, holder) in holders {
                    drop(keep);
                    holder.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                }
                Ok((before, after))
            })
        })??;
        process.kill();
        let congestion = congestion.to_owned();
        Ok(Idle { congestion, connections: IDLE_CONNECTIONS, before, after })
    }

    /// Leaves a new appliance alone.
    ///
    /// # Errors
    /// When it does not start or does not live.
    pub fn rest(&self) -> Result<Rest, BenchError> {
        let (mut process, pid) = self.start()?;
        thread::sleep(SETTLE);
        let (start, before) = (Instant::now(), machine::cpu_time(pid)?);
        thread::sleep(REST);
        let cpu = machine::cpu_time(pid)?.saturating_sub(before);
        let span = start.elapsed();
        let resident = machine::resident(pid)?;
        process.kill();
        Ok(Rest { cpu_ns: cpu.as_nanos() as u64, span_ns: span.as_nanos() as u64, resident })
    }

    /// Starts it again and again. The span begins before the first exec of the line that
    /// puts it into its pod (nsenter, taskset, setpriv), so it is longer than the appliance's.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn starts(&self) -> Result<Starts, BenchError> {
        // What is measured is the appliance, not how often the client's kernel asks for
        // an address that nobody has yet: once a second.
        self.neighbour("replace", &["lladdr", &mac_text(self.pod().mac()), "nud", "permanent"])?;
        let server = SocketAddr::from((self.address(), 80));
        let micros = (0..STARTS)
            .map(|_| {
                let start = Instant::now();
                let mut process = self.programs.spawn_tagwire(self.lab, self.pod(), &[])?;
                let served = self.lab.client().run(|| first_octet(server, start + PATIENCE))?;
                let took = start.elapsed();
                if !served {
                    return Err(format!("it does not serve: {}", process.log()).into());
                }
                process.kill();
                Ok(took.as_secs_f64() * 1e6)
            })
            .collect::<Result<Vec<f64>, BenchError>>()?;
        self.neighbour("del", &[])?;
        Ok(Starts { micros })
    }

    /// One ping to each new appliance, one curl to each other.
    ///
    /// # Errors
    /// When it does not start.
    pub fn firsts(&self) -> Result<Firsts, BenchError> {
        let address = self.address().to_string();
        let url = format!("http://{address}/1k");
        let mut firsts = Firsts { of: STARTS, ..Firsts::default() };
        for _ in 0..STARTS {
            let (mut process, _) = self.start()?;
            self.forget()?;
            let ping = self.lab.client().command("ping").args(["-c1", "-W1", &address]);
            firsts.pings += usize::from(ping.output()?.status.success());
            process.kill();
            let (mut process, _) = self.start()?;
            self.forget()?;
            let curl = self.lab.client().command("curl").args(["-sf", "--max-time", "1", &url]);
            firsts.curls += usize::from(curl.output()?.stdout.len() == 1024);
            process.kill();
        }
        Ok(firsts)
    }

    /// Makes the client forget every neighbour.
    fn forget(&self) -> Result<(), BenchError> {
        let interface = self.lab.client_interface();
        let flush = ["neigh", "flush", "dev", interface];
        self.lab.client().command("ip").args(flush).stdout_string()?;
        Ok(())
    }

    fn neighbour(&self, verb: &str, more: &[&str]) -> Result<(), BenchError> {
        let address = self.address().to_string();
        let command = self.lab.client().command("ip").args(["neigh", verb, &address]);
        command.args(["dev", self.lab.client_interface()]).args(more).stdout_string()?;
        Ok(())
    }
}

/// A connection that has made a request.
fn asked(address: &Ipv4Addr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((*address, 80)), PATIENCE)?;
    // It ends with a RST: the kernel would see so many orphans through for minutes.
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    request(&mut stream)?;
    Ok(stream)
}

/// Opens its part of the idle connections, tells when all are there, and holds them until its
/// caller lets go.
fn hold_idle(address: &Ipv4Addr, tell: &Sender<()>, kept: &Receiver<()>) -> io::Result<()> {
    // A thread may have as many files as a process if its table of them is its own.
    unshare(CloneFlags::CLONE_FILES)?;
    let streams = (0..IDLE_EACH).map(|_| asked(address)).collect::<io::Result<Vec<_>>>()?;
    let _ = tell.send(());
    // An error: the other end was dropped, which is the sign.
    let _ = kept.recv();
    for stream in &streams {
        stream.set_nonblocking(true)?;
        match stream.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) => return Err(io::Error::other("an idle connection was closed")),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Sends a request and reads its response whole.
pub(crate) fn request(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let mut octets = [0; 4096];
    let mut have = 0;
    loop {
        let got = stream.read(&mut octets[have..])?;
        have += got;
        let head = octets[..have].windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|head| have - head - 4 >= 1024) {
            return Ok(());
        }
        if got == 0 {
            return Err(io::Error::other("the response was cut"));
        }
    }
}

/// Connects until it is served; whether that was before the deadline.
fn first_octet(server: SocketAddr, deadline: Instant) -> bool {
    while Instant::now() < deadline {
        let Ok(mut stream) = TcpStream::connect_timeout(&server, ATTEMPT) else { continue };
        let asked =
            stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(REQUEST));
        if asked.is_ok() && stream.read(&mut [0]).is_ok_and(|got| got > 0) {
            return true;
        }
    }
    false
}

pub(crate) fn raise_file_limit(wanted: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    Ok(())
}
