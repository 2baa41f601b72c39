//! Networks of servers on the left that run our stack, and one ideal client on the right.

use std::time::Duration;

use tagwire_netstack::{Instant, Offload, TcpConfig};

use crate::app::{App, Plan};
use crate::host::{Host, HostConfig};
use crate::ideal::{Call, Habits, Ideal};
use crate::net::{Net, Node, Side, ip, mac};
use crate::pair;
use crate::path::PathConfig;
use crate::rng::Rng;

pub(crate) const FIRST_PORT: u16 = 40_000;

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// Which server it goes to.
    pub(crate) server: usize,
    /// When it begins.
    pub(crate) after: Duration,
    pub(crate) client: Plan,
    pub(crate) serve: Plan,
}

impl Flow {
    /// A download of so many octets from the first server.
    pub(crate) fn download(octets: u64) -> Self {
        Self::of(Plan::client(1, 100, octets))
    }

    pub(crate) fn of(client: Plan) -> Self {
        Self { server: 0, after: Duration::ZERO, serve: Plan::server(&client), client }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) down: PathConfig,
    pub(crate) up: PathConfig,
    pub(crate) mtu: u16,
    pub(crate) habits: Habits,
    /// One for each server.
    pub(crate) servers: Vec<TcpConfig>,
    pub(crate) flows: Vec<Flow>,
    /// The first flow's sequence numbers soon wrap, both ways.
    pub(crate) wrap: bool,
    pub(crate) trace: bool,
}

impl Setup {
    /// One server, one flow, a path without faults: `rate` in Mbit/s, a queue of a
    /// bandwidth-delay product, but not less than 128 KiB.
    pub(crate) fn new(rate: u64, rtt: Duration, flow: Flow) -> Self {
        let product = (rate as f64 * 125_000.0 * rtt.as_secs_f64()) as usize;
        let path = PathConfig::clean(rate * 1_000_000, rtt / 2, product.max(128 << 10));
        Self {
            seed: 0,
            down: path.clone(),
            up: path,
            mtu: 1500,
            habits: Habits::default(),
            servers: vec![TcpConfig::default()],
            flows: vec![flow],
            wrap: false,
            trace: true,
        }
    }

    pub(crate) fn build(&self) -> Net {
        let mut rng = Rng(self.seed);
        let (client_ip, client_mac) = (ip(Side::Right, 0), mac(Side::Right, 0));
        let host = |(index, tcp): (usize, &TcpConfig)| HostConfig {
            mac: mac(Side::Left, index),
            ip: ip(Side::Left, index),
            mtu: self.mtu,
            secret: rng.next(),
            offload: Offload::FULL,
            tcp: tcp.clone(),
        };
        let hosts: Vec<HostConfig> = self.servers.iter().enumerate().map(host).collect();
        let mut start = Instant::from_millis(1_000_000 + rng.between(0, 1 << 24));
        if self.wrap {
            start = pair::before_wrap(&hosts[0], (client_ip, client_mac), FIRST_PORT, start);
        }
        let mut net = Net::new(start, self.down.clone(), self.up.clone(), &mut rng, self.trace);
        let ports = || (FIRST_PORT..).zip(&self.flows).enumerate();
        for (index, config) in hosts.into_iter().enumerate() {
            let mut host = Host::new(config, start);
            host.meet(start, client_ip, client_mac);
            for (flow, (port, plan)) in ports().filter(|(_, (_, plan))| plan.server == index) {
                host.expect(port, flow, false, plan.serve.clone());
            }
            net.add(Side::Left, Node::Stack(Box::new(host)));
        }
        let call = |(flow, (port, plan)): (usize, (u16, &Flow))| Call {
            at: start + plan.after,
            server: ip(Side::Left, plan.server),
            port,
            iss: if self.wrap { u32::MAX - 50 } else { rng.next() as u32 },
            flow,
            habits: Habits { mss: self.mtu - 40, ..self.habits.clone() },
            plan: plan.client.clone(),
        };
        let client = Ideal::new(client_mac, client_ip, ports().map(call).collect());
        net.add(Side::Right, Node::Ideal(Box::new(client)));
        net
    }
}

/// What one has who built a network by [`Setup`].
impl Net {
    pub(crate) fn client(&self, flow: usize) -> &App {
        let ideal = self.ideals().next().expect("an ideal client");
        ideal.apps().nth(flow).expect("a flow of that number")
    }

    /// Runs until flow's client has received `octets`; whether that was before `limit`.
    pub(crate) fn received(&mut self, flow: usize, octets: u64, limit: Duration) -> bool {
        let end = self.start + limit;
        while self.client(flow).received < octets {
            if !self.step(end) {
                return false;
            }
        }
        true
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now.since(self.start)
    }

    /// Sum of a counter over all servers.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let of = |host: &Host| host.stack.stats().iter().find(|(known, _)| *known == name);
        self.hosts().map(|host| of(host).expect("a known counter").1).sum()
    }
}
