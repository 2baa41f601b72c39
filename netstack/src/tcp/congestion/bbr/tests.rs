use proptest::prelude::*;

use super::version1::Version1;
use super::*;
use crate::tcp::congestion::cubic::Cubic;
use crate::tcp::congestion::sim::{self, FAST_ETHERNET, Flow, MSS, Path, Sim};
use crate::tcp::seq::SeqNum;

fn make(start: Start) -> Box<dyn Congestion> {
    Box::new(Bbr::new(start))
}

fn version1(start: Start) -> Box<dyn Congestion> {
    Box::new(Version1::new(start))
}

/// Octets a second of each flow between two points in time, and segments that the queue dropped.
fn measure(sim: &mut Sim, from: u64, to: u64) -> (Vec<f64>, u64) {
    sim.run(Duration::from_secs(from));
    let before: Vec<u64> = sim.flows.iter().map(|flow| flow.goodput).collect();
    let drops = sim.queue_drops;
    sim.run(Duration::from_secs(to));
    let rates = sim
        .flows
        .iter()
        .zip(before)
        .map(|(flow, before)| (flow.goodput - before) as f64 / (to - from) as f64)
        .collect();
    (rates, sim.queue_drops - drops)
}

/// `count` flows, a second apart, between 20 and 60 s.
fn several(path: Path, count: u64) -> (Vec<f64>, u64) {
    let flows = (0..count)
        .map(|index| {
            let mut flow = Flow::new(make, index + 1);
            flow.start = Duration::from_secs(index);
            flow
        })
        .collect();
    measure(&mut Sim::new(path, flows), 20, 60)
}

/// What the link carries of payload, in octets per second.
fn capacity(path: Path) -> f64 {
    path.rate as f64 * f64::from(MSS) / f64::from(MSS + 66)
}

#[test]
fn carries_nearly_what_the_path_does_whatever_it_loses_at_random() {
    for (loss, rtt, goodput) in sim::cells(make) {
        // Startup takes its share of 20 MB: one and a half seconds of it at 100 ms.
        let least = match (rtt, loss) {
            (100, 10.0) => 5.5e6,
            (100, _) => 7.0e6,
            (_, 10.0) => 8.0e6,
            (_, 3.0) => 9.5e6,
            _ => 10.2e6,
        };
        assert!(goodput > least, "{loss} % {rtt} ms: {goodput}");
    }
}

#[test]
fn carries_nearly_what_version_1_does_whatever_is_lost_at_random() {
    let theirs = sim::cells(version1);
    for ((loss, rtt, ours), (.., theirs)) in sim::cells(make).into_iter().zip(theirs) {
        // A round of a millisecond has but some segments: chance makes single ones look like much.
        let least = match (rtt, loss) {
            (1, 10.0) => 0.78,
            (1, 3.0) => 0.92,
            _ => 0.95,
        };
        assert!(ours > least * theirs, "{loss} % {rtt} ms: {ours} {theirs}");
    }
}

/// Two flows of ours and two of version 1, all at once, with the queue of a thousand frames:
/// what ours carry together, in parts of what those do.
fn beside_version1(rtt: u64, seed: u64) -> f64 {
    let path = Path { queue: 1_514_000, rtt: Duration::from_millis(rtt), ..FAST_ETHERNET };
    let flows = (0..4)
        .map(|index| {
            let ours = (index + seed).is_multiple_of(2);
            let mut flow = Flow::new(if ours { make } else { version1 }, seed * 10 + index);
            flow.start = Duration::from_millis(2 * index);
            flow
        })
        .collect();
    let (rates, _) = measure(&mut Sim::new(path, flows), 5, 20);
    let (even, odd) = (rates[0] + rates[2], rates[1] + rates[3]);
    if seed.is_multiple_of(2) { even / odd } else { odd / even }
}

#[test]
fn beside_version_1_it_keeps_its_share() {
    for rtt in [1, 20] {
        for seed in 1..=4 {
            let ratio = beside_version1(rtt, seed);
            assert!((0.7..=1.4).contains(&ratio), "{rtt} ms, seed {seed}: {ratio}");
        }
    }
    // Here the queue is not much longer than the path, and overflows. What that loses we
    // answer, and version 1 does not.
    for seed in 1..=4 {
        let ratio = beside_version1(100, seed);
        assert!(ratio > 0.35, "100 ms, seed {seed}: {ratio}");
    }
}

#[test]
fn fills_a_link_for_long_with_a_short_queue() {
    for loss in [0.0, 0.01] {
        let path = Path { loss, ..FAST_ETHERNET };
        let mut sim = Sim::new(path, vec![Flow::new(make, 1)]);
        let (rates, drops) = measure(&mut sim, 5, 60);
        assert!(rates[0] > 0.95 * capacity(path) * (1.0 - loss), "{loss}: {rates:?}");
        assert_eq!(drops, 0);
        assert!(sim.queue_peak < 600_000, "{}", sim.queue_peak);
    }
}

#[test]
fn several_flows_share_a_bottleneck_and_lose_little() {
    for (count, least) in [(2, 0.5), (4, 0.5), (8, 0.4)] {
        let path = Path { queue: 250_000, ..FAST_ETHERNET };
        let (rates, drops) = several(path, count);
        let total: f64 = rates.iter().sum();
        assert!(total > 0.96 * capacity(path), "{count}: {rates:?}");
        for rate in &rates {
            assert!(rate * count as f64 > least * total, "{count}: {rates:?}");
        }
        let lost = (drops * u64::from(MSS)) as f64 / (total * 40.0);
        assert!(lost < 0.04, "{count}: {lost}");
    }
}

#[test]
fn a_shallow_queue_is_not_overrun() {
    // A quarter of the bandwidth-delay product.
    let path = Path { queue: 62_500, ..FAST_ETHERNET };
    for count in [1, 2] {
        let (rates, drops) = several(path, count);
        let total: f64 = rates.iter().sum();
        assert!(total > 0.95 * capacity(path), "{rates:?}");
        let lost = (drops * u64::from(MSS)) as f64 / (total * 40.0);
        assert!(lost < 0.01, "{lost}");
    }
    // Where many crowd into it, what each may take for the path's own loss is bounded.
    let (rates, drops) = several(path, 8);
    let lost = (drops * u64::from(MSS)) as f64 / (rates.iter().sum::<f64>() * 40.0);
    assert!(lost < 0.15, "{lost}");
}

#[test]
fn cubic_beside_it_is_not_starved() {
    let cubic: fn(Start) -> Box<dyn Congestion> = |start| Box::new(Cubic::new(start));
    for queue in [125_000, 250_000, 1_250_000] {
        let path = Path { queue, ..FAST_ETHERNET };
        let mut sim = Sim::new(path, vec![Flow::new(make, 1), Flow::new(cubic, 1)]);
        let (rates, _) = measure(&mut sim, 20, 60);
        assert!(rates.iter().all(|&rate| rate > 3.5e6), "{queue}: {rates:?}");
    }
}

#[test]
fn a_rate_that_falls_is_followed_and_one_that_rises_is_found() {
    let mut sim = Sim::new(FAST_ETHERNET, vec![Flow::new(make, 1)]);
    sim.run(Duration::from_secs(5));
    sim.set_rate(FAST_ETHERNET.rate / 10);
    let (rates, drops) = measure(&mut sim, 15, 25);
    assert!(rates[0] > 1.1e6, "{rates:?}");
    assert_eq!(drops, 0);
    sim.set_rate(FAST_ETHERNET.rate);
    let (rates, _) = measure(&mut sim, 35, 40);
    assert!(rates[0] > 11.0e6, "{rates:?}");
}

#[test]
fn marks_hold_the_queue_down_and_drop_nothing() {
    let path = Path { mark: Some(125_000), ..FAST_ETHERNET };
    let mut sim = Sim::new(path, vec![Flow::new(make, 1)]);
    let (rates, drops) = measure(&mut sim, 5, 30);
    assert_eq!(drops, 0);
    assert!(rates[0] > 9.5e6, "{rates:?}");
    assert!(sim.queue_peak < 600_000, "{}", sim.queue_peak);
}

#[test]
fn the_same_seed_decides_the_same_and_another_one_otherwise() {
    let waits = |seed| {
        let mut bbr = Bbr::new(Start { mss: MSS, rtt: None, seed });
        (0..8)
            .map(|_| {
                let now = Instant::from_millis(1);
                bbr.start_probe_down(now);
                let wait = bbr.probe_at.since(now);
                assert!((2.0..=3.0).contains(&wait.as_secs_f64()));
                wait
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(waits(7), waits(7));
    assert_ne!(waits(7), waits(8));
}

/// A path that carries 1 MB/s with a round trip of 100 ms, acknowledged each 10 ms.
struct Feed {
    bbr: Bbr,
    millis: u64,
    delivered: u64,
}

impl Feed {
    fn new() -> Self {
        let rtt = Some(Duration::from_millis(100));
        Self { bbr: Bbr::new(Start { mss: 1000, rtt, seed: 1 }), millis: 1000, delivered: 0 }
    }

    fn ack(&mut self, octets: u32, rtt_ms: u64, lost: u32) {
        self.millis += 10;
        self.delivered += u64::from(octets);
        let in_flight = 10 * octets;
        let rtt = Duration::from_millis(rtt_ms);
        let in_recovery = self.bbr.in_recovery;
        self.bbr.on_ack(&Acked {
            now: Instant::from_millis(self.millis),
            octets,
            ack: SeqNum(self.delivered as u32),
            sent_end: SeqNum((self.delivered + u64::from(in_flight)) as u32),
            lost,
            prior_in_flight: in_flight + octets,
            in_flight,
            delivered: self.delivered,
            rtt: Some(rtt),
            smoothed_rtt: Some(rtt),
            rate: Some(RateSample {
                delivered: u64::from(10 * octets).min(self.delivered),
                interval: Duration::from_millis(100),
                prior_delivered: self.delivered.saturating_sub(u64::from(10 * octets)),
                tx_in_flight: in_flight,
                lost: 0,
                app_limited: false,
            }),
            window_limited: true,
            in_recovery,
        });
    }

    fn lose(&mut self) {
        self.bbr.on_segment_lost(&LostSegment {
            octets: 1000,
            tx_in_flight: 100_000,
            lost: 1000,
            prior_delivered: self.delivered,
            app_limited: false,
        });
        if !self.bbr.in_recovery {
            self.bbr.on_loss(Instant::from_millis(self.millis), 100_000);
        }
    }

    /// To CRUISE.
    fn steady() -> Self {
        let mut feed = Self::new();
        for _ in 0..100 {
            feed.ack(10_000, 100, 0);
        }
        assert_eq!(feed.bbr.state, State::ProbeCruise, "{:?}", feed.bbr);
        feed
    }
}

#[test]
fn a_rate_that_stops_growing_for_three_rounds_ends_startup() {
    let mut feed = Feed::new();
    for _ in 0..25 {
        feed.ack(10_000, 100, 0);
    }
    assert_eq!(feed.bbr.state, State::Startup);
    let mut feed = Feed::steady();
    assert!((feed.bbr.bw - 1e6).abs() < 1e3, "{}", feed.bbr.bw);
    assert_eq!(feed.bbr.pacing_rate(), Some(990_000));
    feed.ack(10_000, 100, 0);
    // Twice the bandwidth-delay product, and what acknowledgements bunch.
    let window = feed.bbr.window();
    assert!((200_000..=225_000).contains(&window), "{window}");
}

#[test]
fn losses_end_startup_only_where_the_path_is_full() {
    // Six rounds that lose a tenth; each brings `growth` percent of the last.
    let end = |growth: u32, rtt_ms: u64| {
        let mut feed = Feed::new();
        let mut octets = 4000;
        for _ in 0..6 {
            for _ in 0..10 {
                for _ in 0..octets / 8000 + 1 {
                    feed.lose();
                }
                feed.ack(octets, if feed.delivered > 100_000 { rtt_ms } else { 100 }, 1000);
            }
            octets = octets * growth / 100;
        }
        feed.bbr.state
    };
    assert_eq!(end(200, 101), State::Startup);
    // A round trip that has grown may be noise as long as the rate grows.
    assert_eq!(end(200, 200), State::Startup);
    assert_ne!(end(110, 200), State::Startup);
}

#[test]
fn after_five_seconds_without_a_shorter_round_trip_it_looks_for_one() {
    let mut feed = Feed::steady();
    let mut seen = 0;
    for _ in 0..600 {
        feed.ack(10_000, 101, 0);
        if feed.bbr.state == State::ProbeRtt {
            seen += 1;
            assert!(feed.bbr.window() <= 51_000, "{}", feed.bbr.window());
        }
    }
    // In flight stays above half of the product here, so it does not end by itself.
    assert!(seen > 20, "{seen}");
    // What left meanwhile says nothing of the rate.
    let bw = feed.bbr.bw;
    for _ in 0..100 {
        feed.ack(4_000, 101, 0);
    }
    assert_eq!(feed.bbr.state, State::ProbeCruise);
    assert!(feed.bbr.bw > 0.9 * bw, "{}", feed.bbr.bw);
}

#[test]
fn a_spurious_loss_gives_back_bounds_and_window() {
    let mut feed = Feed::steady();
    let before = feed.bbr.window();
    for _ in 0..10 {
        feed.lose();
    }
    for _ in 0..25 {
        feed.lose();
        feed.ack(5_000, 100, 1000);
    }
    assert!(feed.bbr.bw_shortterm < 0.9e6, "{}", feed.bbr.bw_shortterm);
    assert!(feed.bbr.window() < before);
    feed.bbr.on_spurious(Instant::from_millis(feed.millis));
    assert!(feed.bbr.bw_shortterm.is_infinite());
    assert!(feed.bbr.window() >= before);
}

#[test]
fn a_timeout_leaves_one_segment_and_its_end_gives_the_window_back() {
    let mut feed = Feed::steady();
    let before = feed.bbr.window();
    feed.bbr.on_timeout(Instant::from_millis(feed.millis), 100_000, false);
    assert_eq!(feed.bbr.window(), 1000);
    feed.ack(1000, 100, 0);
    assert!(feed.bbr.window() >= 4000);
    feed.bbr.on_recovered(Instant::from_millis(feed.millis));
    assert!(feed.bbr.window() >= before * 9 / 10, "{} {before}", feed.bbr.window());
}

#[test]
fn idle_time_leaves_the_rate_as_it_was() {
    let mut feed = Feed::steady();
    let (rate, window) = (feed.bbr.pacing_rate(), feed.bbr.window());
    feed.millis += 60_000;
    let idle = Idle { span: Duration::from_secs(60), rto: Duration::from_millis(300) };
    feed.bbr.on_send(Instant::from_millis(feed.millis), 0, Some(idle));
    assert_eq!((feed.bbr.pacing_rate(), feed.bbr.window()), (rate, window));
    // The idle time has drained the queue: no search for the round trip.
    feed.ack(10_000, 100, 0);
    assert_ne!(feed.bbr.state, State::ProbeRtt);
}

#[test]
fn what_a_path_loses_by_itself_is_found_by_a_trial_and_forgotten_after_ten_seconds() {
    let mut feed = Feed::steady();
    // As if such losses had ended Startup.
    feed.bbr.startup_cut_short = true;
    feed.bbr.inflight_longterm = 100_000.0;
    let mut halved = false;
    // A segment of ten is lost, whatever the rate.
    for _ in 0..300 {
        let octets = feed.bbr.pacing_rate.min(1e6) as u32 / 100;
        for _ in 0..octets / 9000 + 1 {
            feed.lose();
        }
        feed.ack(octets * 9 / 10, 100, 1000);
        halved |= feed.bbr.own_loss.is_trial();
        if feed.bbr.own_loss.share() > 0.0 {
            break;
        }
    }
    assert!(halved);
    let share = feed.bbr.own_loss.share();
    assert!((0.07..=0.1).contains(&share), "{share}");
    assert_eq!(feed.bbr.state, State::Startup);
    assert!(feed.bbr.inflight_longterm.is_infinite());
    assert!(feed.bbr.bw_shortterm.is_infinite());
    for _ in 0..1010 {
        feed.ack(10_000, 100, 0);
    }
    assert_eq!(feed.bbr.own_loss.share(), 0.0);
}

#[test]
fn losses_that_go_away_at_half_the_rate_are_answered() {
    let mut feed = Feed::steady();
    let mut halved = false;
    for _ in 0..100 {
        let octets = feed.bbr.pacing_rate.min(1e6) as u32 / 100;
        // What is above six tenths of the old rate has no place.
        let fits = octets.min(6_000);
        for _ in 0..(octets - fits).div_ceil(1000) {
            feed.lose();
        }
        feed.ack(fits, 100, octets - fits);
        halved |= feed.bbr.own_loss.is_trial();
        assert_eq!(feed.bbr.own_loss.share(), 0.0);
    }
    assert!(halved || feed.bbr.bw <= 0.75e6, "{}", feed.bbr.bw);
}

proptest! {
    #[test]
    fn any_history_leaves_a_sane_window_and_rate(
        mss in 1u32..70_000,
        seed in any::<u64>(),
        steps in prop::collection::vec(
            (0u8..12, any::<u32>(), any::<u32>(), 0u64..10_000),
            1..300,
        ),
    ) {
        let mut mss = mss;
        let mut bbr = Bbr::new(Start { mss, rtt: None, seed });
        let mut now = 0u64;
        let mut delivered = 0u64;
        for (step, a, b, millis) in steps {
            now += millis;
            let at = Instant::from_millis(now);
            match step {
                0 => bbr.on_loss(at, a),
                1 => bbr.on_timeout(at, a, b % 2 == 0),
                2 => bbr.on_ecn(at, a),
                3 => bbr.on_spurious(at),
                4 => bbr.on_recovered(at),
                5 => {
                    mss = a % 70_000 + 1;
                    bbr.set_mss(mss);
                }
                6 => {
                    let span = Duration::from_millis(u64::from(a));
                    bbr.on_send(at, 0, Some(Idle { span, rto: span }));
                }
                7 => bbr.on_segment_lost(&LostSegment {
                    octets: a,
                    tx_in_flight: b,
                    lost: u64::from(a) + millis,
                    prior_delivered: u64::from(b),
                    app_limited: b % 2 == 0,
                }),
                _ => {
                    delivered += u64::from(a);
                    bbr.on_ack(&Acked {
                        now: at,
                        octets: a,
                        ack: SeqNum(a),
                        sent_end: SeqNum(b),
                        lost: b % 3 * 1000,
                        prior_in_flight: b,
                        in_flight: b / 2,
                        delivered,
                        rtt: (b % 3 == 0).then_some(Duration::from_micros(millis)),
                        smoothed_rtt: (b % 5 != 0).then_some(Duration::from_micros(millis)),
                        rate: (b % 4 != 0).then_some(RateSample {
                            delivered: u64::from(a),
                            interval: Duration::from_nanos(millis * 1000 + 1),
                            prior_delivered: delivered.saturating_sub(u64::from(b)),
                            tx_in_flight: b,
                            lost: u64::from(b % 10_000),
                            app_limited: b % 7 == 0,
                        }),
                        window_limited: b % 2 == 0,
                        in_recovery: b % 7 == 0,
                    });
                }
            }
            prop_assert!(bbr.window() >= mss && bbr.window() <= 1 << 30, "{bbr:?}");
            prop_assert!(bbr.pacing_rate().is_some_and(|rate| rate > 0));
            prop_assert!(bbr.cwnd.is_finite() && bbr.pacing_rate.is_finite(), "{bbr:?}");
            prop_assert!(!bbr.bw.is_nan() && !bbr.inflight_longterm.is_nan());
        }
    }
}
