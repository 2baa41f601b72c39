//! The attacks, one after the other.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tagwire_lab::{CLIENT_ADDRESS, CLIENT_ADDRESS_V6, CLIENT_INTERFACE, LabProcess};

use super::arena::{Arena, Load, Server};
use super::flood::{Flood, Pace};
use super::frames::Attack;
use super::report::{Blind, Results, Round, Series, Slow};
use super::slow::{self, Crowd};
use crate::BenchError;
use crate::load::port_range;
use crate::lone;
use crate::machine;

/// All cases, in their order; what `--only` takes.
pub const CASES: [&str; 11] = [
    "generator",
    "syn-to-nobody",
    "syn",
    "syn-on-link",
    "syn-max",
    "blind",
    "slow",
    "fragments",
    "fragments-v6",
    "arp",
    "nd",
];

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Rounds of each flood of SYNs.
    pub rounds: usize,
    /// How long the client is measured each time.
    pub time: Duration,
    /// Frames in a second of the floods with a rate.
    pub rate: u64,
    /// Segments that are injected.
    pub injected: u64,
    /// Downloads at once under injection.
    pub downloads: usize,
    /// Addresses of the floods of neighbours.
    pub addresses: u64,
    /// Slow connections.
    pub connections: usize,
    /// How long they stay once all are there.
    pub stay: Duration,
    /// Octets of memory that they may cost.
    pub budget: u64,
}

impl Scale {
    /// As the targets are stated.
    pub const FULL: Self = Self {
        rounds: 3,
        time: Duration::from_secs(3),
        rate: 50_000,
        injected: 10_000_000,
        downloads: 8,
        addresses: 1_000_000,
        connections: 50_000,
        stay: Duration::from_secs(70),
        budget: 256 << 20,
    };

    /// To see that all works.
    pub const QUICK: Self = Self {
        rounds: 1,
        time: Duration::from_secs(1),
        rate: 5_000,
        injected: 50_000,
        downloads: 2,
        addresses: 10_000,
        connections: 400,
        stay: Duration::from_secs(2),
        ..Self::FULL
    };
}

/// Injected segments in a second: fast, and not so fast that downloads do not get on.
const INJECTION_RATE: u64 = 200_000;
/// The ports of the downloads that are injected into: an attacker that knows the range.
const PORTS: std::ops::Range<u16> = 40_000..40_256;
/// A download's rate, so that it lives long under fire.
const DOWNLOAD_RATE: &str = "4M";

/// Runs cases and says on standard error what it is at.
#[derive(Debug)]
pub struct Cases<'a> {
    arena: &'a mut Arena,
    scale: Scale,
    /// What has come of them.
    pub results: Results,
}

impl<'a> Cases<'a> {
    /// In this arena.
    pub fn new(arena: &'a mut Arena, scale: Scale) -> Self {
        Self { arena, scale, results: Results::default() }
    }

    /// Runs one by its name in [`CASES`].
    ///
    /// # Errors
    /// When a server ends, or a tool fails.
    pub fn run(&mut self, case: &str) -> Result<(), BenchError> {
        eprintln!("{case} ...");
        let paced = Pace { rate: Some(self.scale.rate), frames: None };
        match case {
            "generator" => self.syn(case, Attack::Nobody, Pace::default())?,
            "syn-to-nobody" => self.syn(case, Attack::Nobody, paced)?,
            "syn" => self.syn(case, Attack::SynOffLink, paced)?,
            "syn-on-link" => self.syn(case, Attack::SynOnLink, paced)?,
            "syn-max" => self.syn(case, Attack::SynOffLink, self.highest_pace()?)?,
            "blind" => self.blind()?,
            "slow" => self.slow()?,
            "fragments" => self.spare(case, Attack::Fragments, paced)?,
            "arp" => self.spare(case, Attack::Arp, self.of_addresses(paced))?,
            "fragments-v6" | "nd" if !self.arena.ipv6 => {
                eprintln!("  left out: this tagwire has no IPv6");
            }
            "fragments-v6" => self.spare(case, Attack::FragmentsV6, paced)?,
            "nd" => self.spare(case, Attack::Neighbours, self.of_addresses(paced))?,
            _ => return Err(format!("there is no case {case}").into()),
        }
        self.arena.check_alive()
    }

    fn of_addresses(&self, pace: Pace) -> Pace {
        Pace { frames: Some(self.scale.addresses), ..pace }
    }

    /// As fast as the generator gets on every contender while the client is at work: how fast that is
    /// depends on what the server leaves of the client's CPU, and all are to meet the same flood.
    fn highest_pace(&self) -> Result<Pace, BenchError> {
        let mut highest = u64::MAX;
        for &server in self.arena.contenders() {
            let flood = self.arena.flood(server, Attack::SynOffLink, Pace::default())?;
            self.arena.load(server, Load::KeepAlive, self.scale.time)?;
            let rate = self.arena.calm(flood)?.rate() as u64;
            eprintln!("  {server:?}: up to {rate}/s");
            highest = highest.min(rate);
        }
        Ok(Pace { rate: Some(highest.max(1)), frames: None })
    }

    /// A flood on each server in turn, round after round.
    fn syn(&mut self, case: &str, attack: Attack, pace: Pace) -> Result<(), BenchError> {
        for round in 1..=self.scale.rounds {
            for &server in self.arena.contenders() {
                for load in Load::ALL {
                    let before = self.arena.load(server, load, self.scale.time)?;
                    let flood = self.arena.flood(server, attack.clone(), pace)?;
                    let under = self.arena.load(server, load, self.scale.time)?;
                    let flood = self.arena.calm(flood)?;
                    self.note(case, server, load, Round { before, under, after: None, flood });
                }
            }
            eprintln!("  {round}/{}", self.scale.rounds);
        }
        Ok(())
    }

    fn note(&mut self, case: &str, server: Server, load: Load, round: Round) {
        let same = |one: &&mut Series| one.case == case && one.server == server && one.load == load;
        match self.results.series.iter_mut().find(same) {
            Some(series) => series.rounds.push(round),
            None => {
                let (case, rounds) = (case.to_owned(), vec![round]);
                self.results.series.push(Series { case, server, load, rounds });
            }
        }
    }

    /// A flood on an appliance of its own, with a look at the time after it.
    fn spare(&mut self, case: &str, attack: Attack, pace: Pace) -> Result<(), BenchError> {
        let mut appliance = self.arena.start_spare()?;
        let (server, time) = (Server::Spare, self.scale.time);
        for load in Load::ALL {
            let before = self.arena.load(server, load, time)?;
            let listener = self.listen()?;
            let flood = self.arena.flood(server, attack.clone(), pace)?;
            let under = self.arena.load(server, load, time)?;
            // All the addresses, also those that the client did not see.
            let flood = match pace.frames {
                Some(_) => flood.wait()?,
                None => self.arena.calm(flood)?,
            };
            let after = Some(self.arena.load(server, load, time)?);
            if pace.frames.is_some() {
                let asked = asked_for_client(listener);
                self.results.asked_again.push((format!("{case}, {}", load.name()), asked));
            }
            self.note(case, server, load, Round { before, under, after, flood });
        }
        if let Some(status) = appliance.wait_timeout(Duration::ZERO)? {
            return Err(format!("the appliance has ended: {status}: {}", appliance.log()).into());
        }
        Ok(())
    }

    /// Listens for what the spare appliance asks about its neighbours.
    fn listen(&self) -> Result<LabProcess, BenchError> {
        let mac = self.arena.pod(Server::Spare).mac().map(|octet| format!("{octet:02x}")).join(":");
        let tag = if self.arena.lab.vlan().is_some() { "vlan and " } else { "" };
        // 135: a neighbour solicitation.
        let filter = format!("ether src {mac} and {tag}(arp or (ip6 and ip6[40] = 135))");
        let tcpdump = self.arena.lab.client().command("tcpdump");
        let mut process = tcpdump.args(["-lnni", CLIENT_INTERFACE, &filter]).capture().spawn()?;
        process.wait_for_line("listening", Duration::from_secs(10))?;
        Ok(process)
    }

    /// Downloads whose digests are checked, while segments are injected into them.
    fn blind(&mut self) -> Result<(), BenchError> {
        let range = format!("{} {}", PORTS.start, PORTS.end - 1);
        port_range(&self.arena.lab, &range)?;
        let outcome = self.downloads_under_fire();
        port_range(&self.arena.lab, "1024 65535")?;
        self.results.blind = Some(outcome?);
        Ok(())
    }

    fn downloads_under_fire(&self) -> Result<Blind, BenchError> {
        let arena = &*self.arena;
        let server = SocketAddr::from((arena.pod(Server::Tagwire).address(), 80));
        let mut idle = arena.lab.client().run(|| TcpStream::connect(server))??;
        lone::request(&mut idle)?;
        let file = arena.lab.scratch().join("www/20m");
        let digest = arena.lab.client().command("sha256sum").arg(file).stdout_string()?;
        let digest = digest.split_whitespace().next().unwrap_or_default();
        // The status of curl is to be heard behind the pipe.
        let script = format!(
            "set -o pipefail; curl -sS --max-time 300 --limit-rate {DOWNLOAD_RATE} {} | sha256sum",
            arena.url(Server::Tagwire, "20m")
        );
        let download = || -> Result<(), String> {
            let command = arena.lab.client().command("bash").args(["-c", &script]);
            let output = command.output().map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stdout);
            if output.status.success() && said.starts_with(digest) {
                return Ok(());
            }
            let why = String::from_utf8_lossy(&output.stderr);
            Err(format!("{}: {} {}", output.status, said.trim(), why.trim()))
        };
        let pace = Pace {
            rate: Some(INJECTION_RATE.min(self.scale.injected)),
            frames: Some(self.scale.injected),
        };
        let flood = arena.flood(Server::Tagwire, Attack::Blind(PORTS), pace)?;
        let outcomes: Vec<Result<(), String>> = thread::scope(|scope| {
            let loops: Vec<_> = (0..self.scale.downloads)
                .map(|_| scope.spawn(|| repeat(&flood, download)))
                .collect();
            loops.into_iter().flat_map(|one| one.join().unwrap_or_default()).collect()
        });
        let flood = flood.wait()?;
        let failures: Vec<String> = outcomes.iter().filter_map(|one| one.clone().err()).collect();
        let idle_lives = lone::request(&mut idle).is_ok();
        Ok(Blind { flood, downloads: outcomes.len(), failed: failures.len(), failures, idle_lives })
    }

    /// A great many clients that hardly do anything.
    fn slow(&mut self) -> Result<(), BenchError> {
        let Scale { connections, stay, budget, time, .. } = self.scale;
        let arena = &*self.arena;
        slow::prepare(&arena.lab)?;
        let mut appliance = arena.start_spare()?;
        let pid = appliance.pid().ok_or("the appliance has ended")?;
        let server = arena.pod(Server::Spare).address();
        let load = || arena.load(Server::Spare, Load::KeepAlive, time);
        let before = load()?;
        let resident_before = machine::resident(pid)?;
        let crowd = Crowd::default();
        let (under, resident_most) = thread::scope(|scope| {
            let namespace = arena.lab.client();
            let clients =
                scope.spawn(|| namespace.run(|| slow::crowd(server, connections, &crowd)));
            let watched = || -> Result<_, BenchError> {
                let mut most = resident_before;
                let mut full_at = None;
                while full_at.is_none_or(|at: Instant| at.elapsed() < stay) {
                    if clients.is_finished() {
                        return Err("the slow clients have ended".into());
                    }
                    thread::sleep(Duration::from_millis(50));
                    most = most.max(machine::resident(pid)?);
                    if full_at.is_none() && crowd.is_complete(connections) {
                        eprintln!("  {} are there", crowd.opened.load(Ordering::Relaxed));
                        full_at = Some(Instant::now());
                    }
                }
                let under = load()?;
                Ok((under, most.max(machine::resident(pid)?)))
            };
            let watched = watched();
            crowd.leave.store(true, Ordering::Relaxed);
            clients.join().map_err(|_| "the slow clients' thread has panicked")???;
            watched
        })?;
        thread::sleep(Duration::from_secs(1));
        let after = load()?;
        if let Some(status) = appliance.wait_timeout(Duration::ZERO)? {
            return Err(format!("the appliance has ended: {status}: {}", appliance.log()).into());
        }
        self.results.slow = Some(Slow {
            connections,
            opened: crowd.opened.into_inner(),
            closed: crowd.closed.into_inner(),
            resident_before,
            resident_most,
            budget,
            before,
            under,
            after,
        });
        Ok(())
    }
}

/// Does something again and again until the flood is over; at least once.
fn repeat<T>(flood: &Flood, work: impl Fn() -> T) -> Vec<T> {
    let mut done = vec![work()];
    while !flood.is_over() {
        done.push(work());
    }
    done
}

/// How often the client's addresses were asked for, in what tcpdump has printed.
fn asked_for_client(mut tcpdump: LabProcess) -> usize {
    // What it said until now is enough, however it ends.
    let _ = tcpdump.terminate(Duration::from_secs(2));
    count_questions(&tcpdump.log())
}

fn count_questions(log: &str) -> usize {
    let (v4, v6) = (format!("who-has {CLIENT_ADDRESS} "), format!("who has {CLIENT_ADDRESS_V6},"));
    log.lines().filter(|line| line.contains(&v4) || line.contains(&v6)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_for_the_client_and_no_other_are_counted() {
        let log = "listening on eth0\n\
            11:00 ARP, Request who-has 192.168.123.1 tell 192.168.123.152, length 28\n\
            11:00 ARP, Request who-has 192.168.123.17 tell 192.168.123.152, length 28\n\
            11:00 IP6 fe80::1 > ff02::1: ICMP6, neighbor solicitation, who has fd00:123::1, length 32\n\
            11:00 IP6 fe80::1 > ff02::1: ICMP6, neighbor solicitation, who has fd00:123::1:2, length 32";
        assert_eq!(count_questions(log), 2);
    }
}
