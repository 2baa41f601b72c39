//! The table of goodputs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tagwire_netstack::congestion::Algorithm;

use crate::path::{Loss, PER_CENT};
use crate::setup::{Flow, Setup};

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
    congestion: Algorithm,
}

const CONTROLLERS: [Algorithm; 2] = [Algorithm::Cubic, Algorithm::Bbr];
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
            congestion: Algorithm::Cubic,
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
                    let known = CONTROLLERS.into_iter().find(|known| known.to_string() == value);
                    cell.congestion = known.expect("a congestion controller");
                }
                _ => panic!("{key} is not part of a cell"),
            }
        }
        cell
    }

    fn setup(&self, seed: u64, trace: bool) -> Setup {
        let rtt = Duration::from_secs_f64(self.rtt / 1000.0);
        let mut setup = Setup::new(self.rate, rtt, Flow::download(self.size * 1_000_000));
        let part = |per_cent: f64| (per_cent * PER_CENT as f64) as u64;
        setup.down.loss = Loss::Uniform(part(self.loss));
        setup.down.reorder = part(self.reorder);
        setup.down.duplicate = part(self.duplicate);
        setup.down.corrupt = part(self.corrupt);
        if self.queue > 0 {
            setup.down.queue = self.queue << 10;
        }
        (setup.seed, setup.trace, setup.mtu) = (seed, trace, self.mtu);
        setup.habits.buffer = 64 << 20;
        setup.servers[0].congestion = self.congestion.constructor();
        setup
    }

    fn run(&self, seed: u64, trace: bool) -> Outcome {
        let mut net = self.setup(seed, trace).build();
        net.received(0, self.size * 1_000_000, LIMIT);
        let client = net.client(0);
        let began = client.sent_at.unwrap_or(net.start);
        let last = if net.elapsed() < LIMIT { client.last_at.unwrap_or(net.now) } else { net.now };
        // The request's way is not the download's.
        let span = last.since(began).as_secs_f64() - self.rtt / 2000.0;
        let goodput = client.received as f64 / span;
        Outcome { goodput, report: net.describe() }
    }

    fn median(&self) -> f64 {
        let mut goodputs: Vec<f64> = (0..SEEDS).map(|seed| self.run(seed, false).goodput).collect();
        goodputs.sort_by(f64::total_cmp);
        goodputs[goodputs.len() / 2]
    }

    /// What the sender owes on this path, in octets per second.
    fn floor(&self) -> f64 {
        let mss = f64::from(self.mtu) - 52.0;
        let line = self.rate as f64 * 125_000.0;
        let payload = line * mss / (mss + 66.0);
        let rtt = self.rtt / 1000.0;
        let octets = self.size as f64 * 1e6;
        // Doubling from the initial window to what the path holds takes so many round trips.
        let window = line * rtt / mss;
        let doublings = (window / 10.0).max(1.0).log2() + 2.0;
        let bound = octets / (octets / payload + doublings * rtt);
        let lost = (self.loss + self.corrupt) / 100.0;
        if self.congestion == Algorithm::Bbr {
            // The startup is slower, and the rate that is probed for is not the whole.
            return 0.8 * bound * (1.0 - lost);
        }
        if lost == 0.0 {
            return 0.8 * bound;
        }
        // Mathis et al. 1997, which RFC 9438 4.3 keeps for a gentler decrease with a slower
        // increase; and RFC 9438 5.1, equation 6, with C = 0.4.
        let reno = 1.22 / lost.sqrt();
        let cubic = 1.054 * (rtt / lost).powf(0.75);
        if lost < 0.05 {
            return (0.8 * mss / rtt * reno.max(cubic)).min(0.6 * bound);
        }
        // Beyond a few per cent one window in three ends in a timeout of 200 ms (Padhye et al.
        // 1998), which on a short path is what counts.
        0.25 * mss / rtt.max(0.005) * reno.max(cubic)
    }

    fn name(&self) -> String {
        let mut text = format!(
            "{:5} rate={:<4} rtt={:<3} loss={:<3}",
            self.congestion.to_string(),
            self.rate,
            self.rtt,
            self.loss
        );
        let others = [
            ("reorder", self.reorder, 0.0),
            ("dup", self.duplicate, 0.0),
            ("corrupt", self.corrupt, 0.0),
            ("queue", self.queue as f64, 0.0),
            ("mtu", f64::from(self.mtu), 1500.0),
        ];
        for (name, value, _) in others.iter().filter(|(_, value, usual)| value != usual) {
            text += &format!(" {name}={value}");
        }
        text
    }
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for congestion in CONTROLLERS {
        let usual = Cell { congestion, ..Cell::default() };
        for loss in [0.0, 0.1, 1.0, 3.0, 10.0] {
            for rtt in [0.1, 1.0, 20.0, 100.0, 300.0] {
                cells.push(Cell { loss, rtt, ..usual.clone() });
            }
        }
        for loss in [0.0, 0.1, 1.0] {
            for rtt in [0.1, 1.0, 20.0] {
                cells.push(Cell { rate: 1000, loss, rtt, ..usual.clone() });
            }
        }
        cells.extend([
            Cell { reorder: 5.0, rtt: 1.0, ..usual.clone() },
            Cell { reorder: 5.0, ..usual.clone() },
            Cell { reorder: 5.0, rtt: 100.0, ..usual.clone() },
            Cell { reorder: 5.0, loss: 1.0, ..usual.clone() },
            Cell { duplicate: 5.0, ..usual.clone() },
            Cell { corrupt: 1.0, ..usual.clone() },
            Cell { queue: 32, ..usual.clone() },
            Cell { queue: 4096, ..usual.clone() },
            Cell { mtu: 576, ..usual.clone() },
            Cell { mtu: 576, loss: 1.0, ..usual.clone() },
            Cell { mtu: 9000, ..usual.clone() },
            Cell { mtu: 9000, loss: 1.0, ..usual },
        ]);
    }
    cells
}

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netsim/goodput.txt");
/// A run is the same every time on one machine; another's logarithms and roots may differ in
/// the last bit, and a median of three by a little for it.
const TOLERANCE: f64 = 0.03;

/// `cargo test -p tagwire-netstack --test netsim -- --nocapture table` prints the table;
/// `TAGWIRE_SIM_UPDATE=1` writes it to the snapshot, for the review of what a change of the sender
/// does; `TAGWIRE_SIM_CELL="loss=1,rtt=20,cc=cubic"` runs one cell and tells more of it.
#[test]
fn table() {
    if let Ok(text) = std::env::var("TAGWIRE_SIM_CELL") {
        let cell = Cell::parse(&text);
        for seed in 0..SEEDS {
            let outcome = cell.run(seed, true);
            println!("seed {seed}: {:.3} MB/s\n{}", outcome.goodput / 1e6, outcome.report);
        }
        println!("{} at least {:.3} MB/s", cell.name(), cell.floor() / 1e6);
        return;
    }
    let mut text = String::from(
        "# Goodput in MB/s: a download of 20 MB, or 60 s of it, the median of three seeds. rate in\n\
         # Mbit/s, rtt in ms, faults in per cent of the frames towards the client, queue in KiB\n\
         # (else a bandwidth-delay product, at least 128). Behind it what is owed at least.\n",
    );
    let cells = cells();
    let goodputs: Vec<f64> = parallel(&cells, |cell| cell.median() / 1e6);
    let mut poor = Vec::new();
    for (cell, goodput) in cells.iter().zip(&goodputs) {
        let (name, floor) = (cell.name(), cell.floor() / 1e6);
        let line = format!("{name:50} {goodput:8.3} {floor:8.3}");
        if *goodput < floor {
            poor.push(line.clone());
        }
        println!("{line}{}", if *goodput < floor { " <" } else { "" });
        text += &line;
        text.push('\n');
    }
    if std::env::var_os("TAGWIRE_SIM_UPDATE").is_some() {
        std::fs::write(SNAPSHOT, &text).expect("the snapshot can be written");
    }
    assert!(poor.is_empty(), "less than is owed:\n{}", poor.join("\n"));
    let snapshot = std::fs::read_to_string(SNAPSHOT).expect("the snapshot can be read");
    let changed = changes(&snapshot, &text);
    assert!(
        changed.is_empty(),
        "other goodputs than in the reviewed snapshot; TAGWIRE_SIM_UPDATE=1 takes them over:\n{}",
        changed.join("\n")
    );
}

/// Lines of `new` that differ from `old` by more than the tolerance.
fn changes(old: &str, new: &str) -> Vec<String> {
    fn values(line: &str) -> Option<(&str, f64)> {
        let (name, goodput) = line.split_at_checked(50)?;
        Some((name, goodput.split_whitespace().next()?.parse().ok()?))
    }
    let old: Vec<_> = old.lines().filter_map(values).collect();
    let differs = |line: &&str| {
        values(line).is_some_and(|(name, goodput)| {
            let before = old.iter().find(|(known, _)| *known == name);
            before.is_none_or(|(_, before)| (goodput / before - 1.0).abs() > TOLERANCE)
        })
    };
    new.lines().filter(differs).map(str::to_owned).collect()
}

/// `run` of each item, on all CPUs.
fn parallel<T: Sync, R: Send>(items: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, run(item)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}
