//! The stack against an independent TCP, smoltcp, over paths of any rate, delay, queue and MTU
//! that lose, double, reorder and corrupt, in virtual time: a thousand seeds, every octet
//! compared.
//!
//! `TAGWIRE_SIM_SEED=n cargo test -p tagwire-netstack --test sim_smoltcp` repeats one seed and
//! prints its scenario; with `TAGWIRE_SIM_TRACE=1` every frame as well.

mod client;
#[path = "../common/link.rs"]
mod link;
#[path = "../common/path.rs"]
mod path;
#[path = "../common/rng.rs"]
mod rng;
mod scenario;
#[path = "../common/seeds.rs"]
mod seeds;
mod server;
mod trace;

use std::time::Duration;

use client::Client;
use path::Path;
use rng::Rng;
use scenario::{Scenario, US};
use server::Server;
use tagwire_netstack::wire::ethernet::{self, TPID_8021Q};
use tagwire_netstack::{Counts, FrameMeta, Instant, Stack, VlanTag};

const SEEDS: u64 = 1000;
/// What the longest back-off of either side may take several times over. Longer without one
/// octet of progress is a livelock or a connection that hangs.
const PROGRESS_LIMIT: Duration = Duration::from_secs(600);

struct Simulation {
    scenario: Scenario,
    now: Instant,
    start: Instant,
    stack: Stack,
    server: Server,
    client: Client,
    /// From the stack to smoltcp, and back.
    down: Path,
    up: Path,
    rng: Rng,
    trace: bool,
}

impl Simulation {
    fn new(seed: u64, trace: bool) -> Self {
        let mut rng = Rng(seed);
        let scenario = Scenario::new(&mut rng);
        if trace {
            eprintln!("seed {seed}: {scenario:#?}");
        }
        let start = Instant::from_millis(rng.between(1, 1 << 33));
        let mut stack = Stack::new(scenario.config(rng.next()), start);
        stack.listen(80);
        Self {
            now: start,
            start,
            stack,
            server: Server::default(),
            client: Client::new(&scenario, rng.next(), start),
            down: Path::new(scenario.down.clone(), Rng(rng.next()), start),
            up: Path::new(scenario.up.clone(), Rng(rng.next()), start),
            rng,
            trace: trace && std::env::var_os("TAGWIRE_SIM_TRACE").is_some(),
            scenario,
        }
    }

    /// Runs until both sides have closed everything and the stack has forgotten it.
    fn run(&mut self) {
        let (mut progress, mut since) = (0, self.now);
        loop {
            self.turn();
            let over = self.client.is_done()
                && self.server.live() == 0
                && self.stack.counts() == Counts::default();
            if over {
                break;
            }
            let after = self.next().expect("nothing will ever happen again");
            // smoltcp may ask to be polled at once, again and again.
            self.now = after.max(self.now + Duration::from_micros(1));
            let reached = self.server.progress() + self.client.progress();
            if reached != progress {
                (progress, since) = (reached, self.now);
            }
            if self.now.since(since) > PROGRESS_LIMIT {
                panic!(
                    "no progress for {PROGRESS_LIMIT:?} of virtual time\n{}\n{:?}\n{:?}\n{:?}\n{:?} {:?}",
                    self.client.describe(),
                    self.server,
                    self.stack.connections().collect::<Vec<_>>(),
                    self.stack.stats(),
                    self.down.counts,
                    self.up.counts,
                );
            }
        }
        for (k, plan) in self.scenario.plans.iter().enumerate() {
            let up = self.server.finished.get(&k).copied();
            let down = self.client.received(k);
            if plan.abort.is_some() {
                assert!(up.unwrap_or(0) <= plan.upload && down <= plan.download, "client {k}");
            } else {
                assert_eq!((up, down), (Some(plan.upload), plan.download), "client {k}");
            }
        }
    }

    /// Everything that happens at one moment.
    fn turn(&mut self) {
        while let Some(frame) = self.up.receive(self.now) {
            self.arrive(frame.octets);
        }
        while let Some(frame) = self.down.receive(self.now) {
            self.client.arrive(frame.octets);
        }
        if self.stack.poll_timeout().is_some_and(|at| at <= self.now) {
            self.stack.handle_timeout(self.now);
            let next = self.stack.poll_timeout();
            assert!(next.is_none_or(|at| at > self.now), "a timeout that stays due");
        }
        let plans = &self.scenario.plans;
        self.server.run(self.now, &mut self.stack, plans, &mut self.rng);
        let mtu = usize::from(self.scenario.mtu);
        for frame in link::drain(&mut self.stack, self.now, self.scenario.buffer_len, mtu) {
            let frame = self.untag(frame);
            self.note("us  ", &frame);
            if let Some(refusal) = self.down.send(self.now, frame) {
                self.up.inject(self.now, refusal);
            }
        }
        for frame in self.client.run(self.now, self.start, plans, &mut self.rng) {
            self.note("peer", &frame);
            self.up.send(self.now, frame);
        }
    }

    fn next(&mut self) -> Option<Instant> {
        let client = self.client.next(self.now, self.start, &self.scenario.plans);
        let stack = self.stack.poll_timeout();
        [client, stack, self.down.next(), self.up.next(), self.server.next()]
            .into_iter()
            .flatten()
            .min()
    }

    fn note(&self, who: &str, frame: &[u8]) {
        if self.trace {
            let at = self.now.since(self.start).as_secs_f64();
            eprintln!("{at:12.6} {who} {}", trace::line(frame));
        }
    }

    /// A frame reaches the stack, with its tag in it or beside it.
    fn arrive(&mut self, mut frame: Vec<u8>) {
        let mut meta = FrameMeta::default();
        if let Some(vid) = self.scenario.vlan {
            if self.scenario.stripped_tag {
                meta.vlan = Some(VlanTag { tpid: TPID_8021Q, tci: vid });
            } else {
                let [tpid, tci] = [TPID_8021Q.to_be_bytes(), vid.to_be_bytes()];
                frame.splice(12..12, [tpid[0], tpid[1], tci[0], tci[1]]);
            }
        }
        self.stack.handle_frame(self.now, &frame, &meta);
    }

    /// A frame leaves the stack; its tag must be the one agreed on.
    fn untag(&self, mut frame: Vec<u8>) -> Vec<u8> {
        let parsed = ethernet::parse(&frame).expect("an Ethernet frame");
        assert_eq!((parsed.source, parsed.tags), (US, self.scenario.vlan_stack().into()));
        if self.scenario.vlan.is_some() {
            frame.drain(12..16);
        }
        frame
    }
}

#[test]
fn a_thousand_seeds() {
    seeds::run(SEEDS, "--test sim_smoltcp", |seed, only| Simulation::new(seed, only).run());
}
