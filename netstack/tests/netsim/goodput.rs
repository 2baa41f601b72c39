//! The table of goodputs.

use std::time::Duration;

use tagwire_netstack::{Instant, Offload, TcpConfig};

use crate::app::Plan;
use crate::host::{Host, HostConfig};
use crate::ideal::{Call, Habits, Ideal};
use crate::net::{Net, Node, Side, ip, mac};
use crate::path::{Loss, PER_CENT, PathConfig};
use crate::rng::Rng;

/// One cell: a path, and what controls the sender.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    /// Per cent of the frames that are lost, towards the client.
    loss: f64,
    /// Milliseconds.
    rtt: f64,
    /// Mbit/s.
    rate: u64,
    mtu: u16,
    /// Per cent of the frames that others overtake.
    reorder: f64,
    duplicate: f64,
    corrupt: f64,
    /// KiB of the bottleneck's queue; 0: a bandwidth-delay product, at least 128 KiB.
    queue: usize,
    /// MB that are asked for.
    size: u64,
    congestion: &'static str,
}

const CONTROLLERS: [&str; 1] = ["cubic"];
/// A transfer that is not over by then is measured by what it has done.
const LIMIT: Duration = Duration::from_secs(60);
const SEEDS: u64 = 3;

impl Default for Cell {
    fn default() -> Self {
        Self {
            loss: 0.0,
            rtt: 20.0,
            rate: 100,
            mtu: 1500,
            reorder: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            queue: 0,
            size: 20,
            congestion: "cubic",
        }
    }
}

/// What one run of a cell came to.
struct Outcome {
    /// Octets per second.
    goodput: f64,
    report: String,
}

impl Cell {
    /// `loss=1,rtt=20,rate=100,cc=cubic`, each as it is named above.
    fn parse(text: &str) -> Self {
        let mut cell = Self::default();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').expect("key=value");
            let number = || value.parse::<f64>().expect("a number");
            match key {
                "loss" => cell.loss = number(),
                "rtt" => cell.rtt = number(),
                "rate" => cell.rate = number() as u64,
                "mtu" => cell.mtu = number() as u16,
                "reorder" => cell.reorder = number(),
                "dup" => cell.duplicate = number(),
                "corrupt" => cell.corrupt = number(),
                "queue" => cell.queue = number() as usize,
                "size" => cell.size = number() as u64,
                "cc" => {
                    let known = CONTROLLERS.into_iter().find(|known| *known == value);
                    cell.congestion = known.expect("a congestion controller");
                }
                _ => panic!("{key} is not part of a cell"),
            }
        }
        cell
    }

    fn paths(&self) -> (PathConfig, PathConfig) {
        let rate = self.rate * 1_000_000;
        let product = (rate as f64 / 8.0 * self.rtt / 1000.0) as usize;
        let queue = if self.queue == 0 { product.max(128 << 10) } else { self.queue << 10 };
        let clean = PathConfig::clean(rate, Duration::from_secs_f64(self.rtt / 2000.0), queue);
        let part = |per_cent: f64| (per_cent * PER_CENT as f64) as u64;
        let down = PathConfig {
            loss: Loss::Uniform(part(self.loss)),
            reorder: part(self.reorder),
            duplicate: part(self.duplicate),
            corrupt: part(self.corrupt),
            ..clean.clone()
        };
        (down, clean)
    }

    fn run(&self, seed: u64, trace: bool) -> Outcome {
        let mut rng = Rng(seed);
        let start = Instant::from_millis(1_000_000 + rng.between(0, 1 << 24));
        let (down, up) = self.paths();
        let mut net = Net::new(start, down, up, &mut rng, trace);
        let mut server = Host::new(
            HostConfig {
                mac: mac(Side::Left, 0),
                ip: ip(Side::Left, 0),
                mtu: self.mtu,
                secret: rng.next(),
                offload: Offload::FULL,
                tcp: TcpConfig::default(),
            },
            start,
        );
        server.meet(start, ip(Side::Right, 0), mac(Side::Right, 0));
        let plan = Plan::client(1, 100, self.size * 1_000_000);
        let port = 40_000;
        server.expect(port, 0, false, Plan::server(&plan));
        let call = Call {
            at: start,
            server: ip(Side::Left, 0),
            port,
            iss: rng.next() as u32,
            flow: 0,
            habits: Habits { mss: self.mtu - 40, buffer: 64 << 20, ..Habits::default() },
            plan,
        };
        net.add(Side::Left, Node::Stack(Box::new(server)));
        let client = Ideal::new(mac(Side::Right, 0), ip(Side::Right, 0), vec![call]);
        net.add(Side::Right, Node::Ideal(Box::new(client)));
        let end = start + LIMIT;
        while !net.ideals().all(Ideal::is_done) && net.step(end) {}
        let server = net.hosts().next().expect("a server");
        let client = net.ideals().next().and_then(|ideal| ideal.apps().next()).expect("a client");
        let began = server.app(0).and_then(|app| app.sent_at).unwrap_or(start);
        let last = if client.is_done() { client.last_at.expect("data") } else { net.now };
        let goodput = client.received as f64 / last.since(began).as_secs_f64();
        Outcome { goodput, report: net.describe() }
    }

    fn median(&self) -> f64 {
        let mut goodputs: Vec<f64> = (0..SEEDS).map(|seed| self.run(seed, false).goodput).collect();
        goodputs.sort_by(f64::total_cmp);
        goodputs[goodputs.len() / 2]
    }
}

/// `cargo test ... --test netsim -- --nocapture table` prints the table.
#[test]
fn table() {
    if let Ok(text) = std::env::var("TAGWIRE_SIM_CELL") {
        let cell = Cell::parse(&text);
        for seed in 0..SEEDS {
            let outcome = cell.run(seed, true);
            println!("seed {seed}: {:.3} MB/s\n{}", outcome.goodput / 1e6, outcome.report);
        }
        return;
    }
    println!("MB/s, 100 Mbit/s, 1500 octets");
    for congestion in CONTROLLERS {
        for loss in [0.0, 0.1, 1.0, 3.0, 10.0] {
            print!("{congestion:6} {loss:4} %");
            for rtt in [0.1, 1.0, 20.0, 100.0, 300.0] {
                let cell = Cell { loss, rtt, congestion, ..Cell::default() };
                print!(" {:8.3}", cell.median() / 1e6);
            }
            println!();
        }
    }
}
