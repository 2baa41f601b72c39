//! What flows that share one bottleneck leave each other.

use std::time::Duration;

use tagwire_netstack::TcpConfig;
use tagwire_netstack::congestion::Algorithm;

use crate::setup::{Flow, Setup};

/// Flows have come and found their share by then.
const SETTLED: Duration = Duration::from_secs(10);
/// BBR's flows find theirs at the probes of the round trip, once in five seconds, and eight of
/// them take a dozen of those.
const SETTLED_LATE: Duration = Duration::from_secs(60);
/// What is measured then.
const SPAN: Duration = Duration::from_secs(30);

struct Shares {
    /// MB/s by flow.
    goodputs: Vec<f64>,
    /// Jain's index: 1 where all are equal, 1/n where one has everything.
    jain: f64,
    /// The smallest by the largest.
    ratio: f64,
}

/// One server for each controller, `each` flows from every one; 100 Mbit/s, 20 ms, a queue of
/// a bandwidth-delay product.
fn share(servers: &[TcpConfig], each: usize, settled: Duration) -> Shares {
    let mut setup = Setup::new(100, Duration::from_millis(20), Flow::download(1 << 40));
    setup.servers = servers.to_vec();
    setup.trace = false;
    let count = servers.len() * each;
    let flow = |index: usize| Flow {
        server: index % servers.len(),
        after: Duration::from_millis(137) * index as u32,
        ..setup.flows[0].clone()
    };
    setup.flows = (0..count).map(flow).collect();
    let mut net = setup.build();
    let mut received = |until: Duration| {
        while net.step(net.start + until) {}
        (0..count).map(|flow| net.client(flow).received).collect::<Vec<_>>()
    };
    let (before, after) = (received(settled), received(settled + SPAN));
    let span = SPAN.as_secs_f64();
    let goodput = |(before, after): (&u64, &u64)| (after - before) as f64 / 1e6 / span;
    let goodputs: Vec<f64> = before.iter().zip(&after).map(goodput).collect();
    let sum: f64 = goodputs.iter().sum();
    let squares: f64 = goodputs.iter().map(|goodput| goodput * goodput).sum();
    let least = goodputs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = goodputs.iter().copied().fold(0.0, f64::max);
    Shares { jain: sum * sum / squares / count as f64, ratio: least / most, goodputs }
}

/// Two flows are fair to each other within 0.7 to 1.4 of their fair share: a ratio of a half, for
/// which Jain's index is 0.9.
fn check(
    name: &str,
    servers: &[TcpConfig],
    each: usize,
    settled: Duration,
    (jain, ratio): (f64, f64),
) {
    let shares = share(servers, each, settled);
    let all: f64 = shares.goodputs.iter().sum();
    let each: Vec<String> = shares.goodputs.iter().map(|goodput| format!("{goodput:.2}")).collect();
    let text = format!(
        "{name}: {} MB/s, together {all:.2}, Jain {:.3}, least/most {:.2}",
        each.join(" "),
        shares.jain,
        shares.ratio
    );
    println!("{text}");
    assert!(all > 11.2, "the bottleneck is not used: {text}");
    assert!(shares.jain >= jain && shares.ratio >= ratio, "{text}");
}

fn tcp(congestion: Algorithm) -> TcpConfig {
    TcpConfig { congestion: congestion.constructor(), ..TcpConfig::default() }
}

#[test]
fn fairness_of_two_cubic() {
    check("two cubic", &[tcp(Algorithm::Cubic)], 2, SETTLED, (0.9, 0.5));
}

#[test]
fn fairness_of_eight_cubic() {
    check("eight cubic", &[tcp(Algorithm::Cubic)], 8, SETTLED, (0.9, 0.4));
}

#[test]
fn fairness_of_two_bbr() {
    check("two bbr", &[tcp(Algorithm::Bbr)], 2, SETTLED, (0.9, 0.5));
}

#[test]
fn fairness_of_eight_bbr() {
    check("eight bbr", &[tcp(Algorithm::Bbr)], 8, SETTLED_LATE, (0.9, 0.3));
}

#[test]
fn two_bbr_beside_two_cubic_leave_them_something() {
    check(
        "two cubic, two bbr",
        &[tcp(Algorithm::Cubic), tcp(Algorithm::Bbr)],
        2,
        SETTLED,
        (0.5, 0.1),
    );
}
