//! Paths and peers that a sender meets seldom and must get right, one test each.

use std::time::Duration;

use crate::app::Plan;
use crate::path::{Loss, PER_CENT};
use crate::setup::{Flow, Setup};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
/// Octets per second of payload that 100 Mbit/s carry in full segments.
const LINK: f64 = 12.5e6 * 1448.0 / 1514.0;

/// A download over the whole of which `share` of the link's payload is had.
#[track_caller]
fn assert_share(setup: &Setup, octets: u64, share: f64) {
    let mut net = setup.build();
    let limit = Duration::from_secs_f64(octets as f64 / LINK / share);
    assert!(
        net.received(0, octets, limit),
        "{} of {octets} in {limit:?}\n{}",
        net.client(0).received,
        net.describe()
    );
    net.finish(net.elapsed() + 200 * S);
}

#[test]
fn a_third_of_the_acknowledgements_is_lost() {
    let mut setup = Setup::new(100, 20 * MS, Flow::download(20_000_000));
    setup.up.loss = Loss::Uniform(30 * PER_CENT);
    assert_share(&setup, 20_000_000, 0.8);
}

#[test]
fn a_receiver_that_acknowledges_every_sixteenth_segment() {
    let mut setup = Setup::new(100, 20 * MS, Flow::download(20_000_000));
    setup.habits.ack_every = 16;
    assert_share(&setup, 20_000_000, 0.85);
}

#[test]
fn a_link_that_is_down_for_half_a_minute() {
    let mut setup = Setup::new(100, 20 * MS, Flow::download(60_000_000));
    let start = setup.build().start;
    let outage = Some((start + S, start + 31 * S));
    (setup.down.outage, setup.up.outage) = (outage, outage);
    let mut net = setup.build();
    // The last time-out before the end doubles what the first of them took: at most as long
    // again as the outage was.
    assert!(net.received(0, 60_000_000, 68 * S), "{}", net.describe());
    net.finish(200 * S);
}

#[test]
fn a_queue_of_eight_seconds() {
    let mut setup = Setup::new(10, 20 * MS, Flow::download(20_000_000));
    setup.down.queue = 10_000_000;
    let mut net = setup.build();
    assert!(net.received(0, 20_000_000, 18 * S), "{}", net.describe());
    assert_eq!(net.counter("tcp_rto"), 0, "a queue is no loss: {}", net.describe());
    assert_eq!(net.monitor.sent().again, 0, "{}", net.describe());
}

#[test]
fn a_reader_that_pauses_for_a_minute_and_a_half() {
    let mut client = Plan::client(1, 100, 1_000_000);
    client.read_every = 90 * S;
    let mut setup = Setup::new(100, 20 * MS, Flow::of(client));
    setup.habits.buffer = 200_000;
    let mut net = setup.build();
    net.finish(1000 * S);
    assert!(net.counter("tcp_window_probe") > 0);
    // A probe after 0.2, 0.4, 0.8 ... s of each pause, not more often.
    assert!(net.counter("frames_out") < 1000, "{}", net.describe());
}

#[test]
fn a_slow_reader_never_stalls() {
    // 40 times a second half of what it holds: 64 KiB for each.
    let mut client = Plan::client(1, 100, 4_000_000);
    client.read_every = 25 * MS;
    let mut setup = Setup::new(100, 2 * MS, Flow::of(client));
    setup.habits.buffer = 65_536;
    let mut net = setup.build();
    let readings = 4_000_000 / 65_536;
    assert!(net.received(0, 4_000_000, 25 * MS * (readings * 5 / 4)), "{}", net.describe());
    assert_eq!(net.monitor.sent().again, 0, "{}", net.describe());
}

#[test]
fn a_thousand_small_responses_take_a_round_trip_each() {
    let rtt = 20 * MS;
    let setup = Setup::new(100, rtt, Flow::of(Plan::client(1000, 100, 500)));
    let mut net = setup.build();
    // One for the handshake, and the time on the wire.
    assert!(net.received(0, 500_000, rtt * 1001 + 200 * MS), "{}", net.describe());
    assert!(net.counter("frames_out") < 1020, "acknowledgements ride on data: {}", net.describe());
}

#[test]
fn an_idle_connection_starts_again_with_the_initial_window() {
    let rtt = 100 * MS;
    let mut client = Plan::client(2, 100, 4_000_000);
    client.think = 30 * S;
    let mut net = Setup::new(100, rtt, Flow::of(client)).build();
    assert!(net.received(0, 4_000_000, 10 * S));
    let request = net.now + 30 * S;
    // The request has arrived, and nothing was acknowledged yet.
    while net.step(request + rtt * 9 / 10) {}
    let sent = net.monitor.sent().new - 4_000_000;
    assert!((1..=14_600).contains(&sent), "{sent} octets at once");
    net.finish(200 * S);
}

#[test]
fn an_application_that_sends_little_by_little_is_not_held_back() {
    let client = Plan::client(1, 100, 1_000_000);
    let mut flow = Flow::of(client);
    flow.serve.trickle = Some((10_000, 50 * MS));
    let mut net = Setup::new(100, 20 * MS, flow).build();
    // 99 pauses, the handshake, the request, and the last piece's way, over half a round trip of
    // which pacing may spread it.
    assert!(net.received(0, 1_000_000, 99 * 50 * MS + 60 * MS), "{}", net.describe());
}

#[test]
fn sequence_numbers_wrap_under_loss() {
    let mut setup = Setup::new(100, 20 * MS, Flow::download(4_000_000));
    setup.down.loss = Loss::Uniform(PER_CENT);
    setup.wrap = true;
    let mut net = setup.build();
    net.finish(200 * S);
}

#[test]
fn bursts_of_loss() {
    let mut setup = Setup::new(100, 20 * MS, Flow::download(10_000_000));
    // Six frames at a time, once in 2000.
    setup.down.loss = Loss::Burst { enter: 500, leave: 17 * PER_CENT };
    assert_share(&setup, 10_000_000, 0.15);
}

#[test]
fn reordering_costs_nothing() {
    let mut setup = Setup::new(100, 20 * MS, Flow::download(20_000_000));
    setup.down.reorder = 5 * PER_CENT;
    setup.down.queue = 4 << 20;
    let mut net = setup.build();
    let limit = Duration::from_secs_f64(20e6 / LINK / 0.9);
    assert!(net.received(0, 20_000_000, limit), "{}", net.describe());
    let sent = net.monitor.sent();
    // A few until the window for reordering has widened (RFC 8985 6.2).
    assert!(sent.again < sent.new / 200, "{sent:?} {}", net.describe());
}

/// How long a response of `segments` takes whose last `lost` are lost once, beyond the time that
/// it takes without.
fn tail_loss(segments: u64, lost: u64, rtt: Duration) -> Duration {
    let octets = segments * 1448;
    let run = |drop| {
        let mut setup = Setup::new(100, rtt, Flow::download(octets));
        setup.down.drop = drop;
        setup.trace = lost > 0;
        let mut net = setup.build();
        assert!(net.received(0, octets, 10 * S), "{}", net.describe());
        (net.elapsed(), net.down.counts.sent)
    };
    let (without, last) = run(0..0);
    let (with, _) = run(last + 1 - lost..last + 1);
    with - without
}

#[test]
fn a_lost_tail_is_found_by_a_probe() {
    let rtt = 20 * MS;
    for segments in [3, 6, 10] {
        // RFC 8985 7.2: the probe leaves two round trips after the last acknowledgement, which
        // comes one after the segment.
        let extra = tail_loss(segments, 1, rtt);
        assert!(extra <= rtt * 3 + 4 * MS, "{segments} segments: {extra:?}");
        // What it tells brings the other one.
        let extra = tail_loss(segments, 2, rtt);
        assert!(extra <= rtt * 9 / 2 + 4 * MS, "{segments} segments, two lost: {extra:?}");
    }
}

#[test]
fn a_lone_segment_that_is_lost_is_probed_for_before_the_timeout() {
    // RFC 8985 7.2: with one segment in flight the peer's delayed acknowledgement is waited for,
    // but not longer than the retransmission timeout.
    let extra = tail_loss(1, 1, 20 * MS);
    assert!(extra <= 250 * MS, "{extra:?}");
}
