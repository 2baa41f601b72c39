//! Two groups of hosts on either side of one bottleneck, in virtual time.

use std::net::Ipv4Addr;
use std::time::Duration;

use tagwire_netstack::{Instant, MacAddr};

use crate::host::{Host, answer_arp};
use crate::ideal::Ideal;
use crate::monitor::Monitor;
use crate::path::{Path, PathConfig};
use crate::rng::Rng;
use crate::segment::Segment;

/// Which side of the bottleneck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Where the servers are.
    Left,
    /// Where the clients are.
    Right,
}

pub(crate) fn mac(side: Side, index: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, if side == Side::Left { 1 } else { 2 }, index as u8])
}

pub(crate) fn ip(side: Side, index: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 123, if side == Side::Left { 100 } else { 1 } + index as u8)
}

pub(crate) enum Node {
    Stack(Box<Host>),
    Ideal(Box<Ideal>),
}

impl Node {
    fn mac(&self) -> MacAddr {
        match self {
            Self::Stack(host) => host.config.mac,
            Self::Ideal(ideal) => ideal.mac,
        }
    }

    fn next(&self) -> Option<Instant> {
        match self {
            Self::Stack(host) => host.next(),
            Self::Ideal(ideal) => ideal.next(),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Stack(host) => host.is_done(),
            Self::Ideal(ideal) => ideal.is_done(),
        }
    }
}

struct Place {
    side: Side,
    node: Node,
    touched: bool,
}

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    places: Vec<Place>,
    /// From left to right.
    pub(crate) down: Path,
    /// From right to left.
    pub(crate) up: Path,
    pub(crate) monitor: Monitor,
    trace: bool,
}

impl Net {
    /// With `trace`, and if the environment asks for it, every frame is printed.
    pub(crate) fn new(
        now: Instant,
        down: PathConfig,
        up: PathConfig,
        rng: &mut Rng,
        trace: bool,
    ) -> Self {
        Self {
            now,
            start: now,
            places: Vec::new(),
            down: Path::new(down, Rng(rng.next()), now),
            up: Path::new(up, Rng(rng.next()), now),
            monitor: Monitor::default(),
            trace: trace && std::env::var_os("TAGWIRE_SIM_TRACE").is_some(),
        }
    }

    pub(crate) fn add(&mut self, side: Side, node: Node) {
        self.places.push(Place { side, node, touched: true });
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.places.iter().filter_map(|place| match &place.node {
            Node::Stack(host) => Some(&**host),
            Node::Ideal(_) => None,
        })
    }

    pub(crate) fn ideals(&self) -> impl Iterator<Item = &Ideal> {
        self.places.iter().filter_map(|place| match &place.node {
            Node::Ideal(ideal) => Some(&**ideal),
            Node::Stack(_) => None,
        })
    }

    /// Everything is served, closed and forgotten.
    pub(crate) fn is_done(&self) -> bool {
        self.places.iter().all(|place| place.node.is_done())
    }

    /// Lets everything happen that happens next, unless that is after `end`: then false.
    pub(crate) fn step(&mut self, end: Instant) -> bool {
        let nodes = self.places.iter().map(|place| match place.touched {
            true => Some(self.now),
            false => place.node.next(),
        });
        let next = nodes.chain([self.down.next(), self.up.next()]).flatten().min();
        let Some(next) = next.filter(|at| *at <= end) else {
            self.now = end;
            return false;
        };
        self.now = next.max(self.now);
        for side in [Side::Right, Side::Left] {
            self.deliver(side);
        }
        for index in 0..self.places.len() {
            let place = &self.places[index];
            if place.touched || place.node.next().is_some_and(|at| at <= self.now) {
                self.run(index);
            }
        }
        true
    }

    /// Runs until everything is done. Panics at `limit`.
    pub(crate) fn finish(&mut self, limit: Duration) {
        let end = self.start + limit;
        while !self.is_done() {
            assert!(self.step(end), "not done after {limit:?}\n{}", self.describe());
        }
    }

    fn path(&mut self, to: Side) -> &mut Path {
        match to {
            Side::Right => &mut self.down,
            Side::Left => &mut self.up,
        }
    }

    /// Frames that have arrived at `side`.
    fn deliver(&mut self, side: Side) {
        let now = self.now;
        while let Some(frame) = self.path(side).receive(now) {
            let to = &frame.octets[..6];
            let mut answers = Vec::new();
            let mut watched = false;
            for place in self.places.iter_mut().filter(|place| place.side == side) {
                if to != place.node.mac().0 && to[0] & 1 == 0 {
                    continue;
                }
                place.touched = true;
                match &mut place.node {
                    Node::Stack(host) => {
                        host.arrive(now, &frame);
                        watched |= !frame.damaged;
                    }
                    Node::Ideal(ideal) => {
                        ideal.arrive(now, &frame);
                        answers.extend(answer_arp(&frame.octets, ideal.ip, ideal.mac));
                    }
                }
            }
            if self.trace {
                self.note(if side == Side::Right { "  ->" } else { "  <-" }, &frame.octets);
            }
            if watched && let Some(segment) = Segment::read(&frame.octets) {
                self.monitor.arrived(&segment);
            }
            for answer in answers {
                self.send(side, answer);
            }
        }
    }

    fn run(&mut self, index: usize) {
        let place = &mut self.places[index];
        place.touched = false;
        let side = place.side;
        let frames = match &mut place.node {
            Node::Stack(host) => host.run(self.now),
            Node::Ideal(ideal) => {
                let from = ideal.mac;
                let segments = ideal.run(self.now);
                let to = |segment: &Segment| mac_of(segment.ends.destination);
                segments
                    .iter()
                    .map(|(segment, data)| segment.write(from, to(segment), data))
                    .collect()
            }
        };
        let timeouts = match &self.places[index].node {
            Node::Stack(host) => Some(host.stack.stats().tcp_rto),
            Node::Ideal(_) => None,
        };
        for frame in frames {
            let segment = timeouts.and_then(|count| Some((Segment::read(&frame)?, count)));
            self.send(side, frame);
            if let Some((segment, timeouts)) = segment {
                self.monitor.left(&segment, timeouts);
            }
        }
    }

    /// A frame leaves a host on `from`.
    fn send(&mut self, from: Side, frame: Vec<u8>) {
        if self.trace {
            self.note(if from == Side::Left { "->" } else { "<-" }, &frame);
        }
        let now = self.now;
        let other = if from == Side::Left { Side::Right } else { Side::Left };
        let path = self.path(other);
        if let Some(refusal) = path.send(now, frame) {
            self.path(from).inject(now, refusal);
        }
    }

    fn note(&self, what: &str, frame: &[u8]) {
        let at = self.now.since(self.start).as_secs_f64();
        match Segment::read(frame) {
            Some(segment) => eprintln!("{at:12.6} {what} {segment}"),
            None => eprintln!("{at:12.6} {what} {} octets, no sound TCP", frame.len()),
        }
    }

    /// What every host is at.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("down {:?}\nup {:?}\n", self.down.counts, self.up.counts);
        for host in self.hosts() {
            text += &format!("{} {:?}", host.config.ip, host.stack.counts());
            for (_, tuple, state) in host.stack.connections() {
                text += &format!("\n  {tuple:?} {state:?}");
            }
            let counted = host.stack.stats().iter().filter(|(_, count)| *count > 0);
            for (name, count) in counted {
                text += &format!(" {name}={count}");
            }
            text += "\n";
        }
        for ideal in self.ideals() {
            text += &format!("{ideal:?}\n");
        }
        text
    }
}

fn mac_of(address: Ipv4Addr) -> MacAddr {
    let last = address.octets()[3];
    if last >= 100 {
        mac(Side::Left, usize::from(last - 100))
    } else {
        mac(Side::Right, usize::from(last - 1))
    }
}
