//! What is measured: a bad line, and what is asked of us there.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tagwire_lab::{Impairments, WireConfig};

/// Bits per second of the line in either direction.
pub const RATE: u64 = 100_000_000;
/// Frames that the queue before the line holds, in either direction: 121 ms of full ones, as an
/// Ethernet interface of Linux has (txqueuelen). More are dropped at its tail.
pub const QUEUE: usize = 1000;
/// Round-trip times of the line when its queue is empty, in milliseconds.
pub const RTTS: [u32; 3] = [1, 20, 100];
/// Frames lost of those from the server to the client, in per cent. Acknowledgements come
/// through: their loss hardly matters to a sender, and what is measured is one thing at a time.
pub const LOSSES: [f64; 5] = [0.0, 0.1, 1.0, 3.0, 10.0];
/// Of the frames to the client are reordered...
const REORDERED: f64 = 0.05;
/// ... by up to so many places, ...
const PLACES: u32 = 3;
/// ... or, where nothing follows them that they could be behind, by so much time.
const PATIENCE: Duration = Duration::from_millis(5);

/// The congestion control of both contenders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// RFC 9438.
    Cubic,
    /// draft-ietf-ccwg-bbr.
    Bbr,
}

impl Congestion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cubic, Self::Bbr];

    /// As the kernel and `--congestion` call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

/// What the line does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It loses so many per cent of the frames to the client.
    Loss(f64),
    /// It reorders them.
    Reorder,
    /// Nothing; two flows of each contender share it.
    Fair,
}

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// What it does.
    pub kind: Kind,
    /// Its round-trip time in milliseconds.
    pub rtt_ms: u32,
}

/// What is asked of the ratio of our figure to the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// At least this.
    pub least: f64,
    /// At most this.
    pub most: Option<f64>,
}

impl Target {
    /// Whether a ratio meets it; one that is not a number does not.
    pub fn holds(self, ratio: f64) -> bool {
        ratio >= self.least && self.most.is_none_or(|most| ratio <= most)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.most {
            None => write!(f, ">= {}", self.least),
            Some(most) => write!(f, "{} to {most}", self.least),
        }
    }
}

impl Cell {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let kinds = LOSSES.map(Kind::Loss).into_iter().chain([Kind::Reorder, Kind::Fair]);
        kinds.flat_map(|kind| RTTS.map(|rtt_ms| Self { kind, rtt_ms })).collect()
    }

    /// The line, with the seed of its decisions.
    pub fn wire(self, seed: u64) -> WireConfig {
        let up = Impairments {
            delay: Duration::from_micros(u64::from(self.rtt_ms) * 500),
            rate: Some(RATE),
            queue_limit: QUEUE,
            ..Impairments::default()
        };
        let down = match self.kind {
            Kind::Loss(percent) => Impairments { loss: percent / 100.0, ..up.clone() },
            Kind::Reorder => Impairments {
                reorder: REORDERED,
                reorder_places: PLACES,
                reorder_by: PATIENCE,
                ..up.clone()
            },
            Kind::Fair => up.clone(),
        };
        WireConfig { seed, up, down }
    }

    /// What is asked of us.
    pub fn target(self, congestion: Congestion) -> Target {
        let (least, most) = match (self.kind, congestion) {
            (Kind::Fair, _) => (0.7, Some(1.4)),
            (Kind::Loss(_), Congestion::Cubic) => (1.0, None),
            (Kind::Loss(_), Congestion::Bbr) | (Kind::Reorder, _) => (0.95, None),
        };
        Target { least, most }
    }

    /// About how long `octets` take, at the most `limit`: to tell how long all will take.
    pub fn guess(self, congestion: Congestion, octets: u64, limit: Duration) -> Duration {
        let (rtt, line) = (f64::from(self.rtt_ms) / 1000.0, RATE as f64 / 8.0);
        let rate = match (self.kind, congestion) {
            (Kind::Fair, _) => return limit,
            // Mathis and others, "The Macroscopic Behavior of the TCP Congestion Avoidance
            // Algorithm" (1997); a loss of many segments costs timeouts beside.
            (Kind::Loss(percent), Congestion::Cubic) if percent > 0.0 => {
                1.2 * 1448.0 / (rtt * (percent / 100.0).sqrt()) / (1.0 + percent / 5.0)
            }
            (Kind::Loss(percent), Congestion::Bbr) if percent > 5.0 => line / 5.0,
            _ => line,
        };
        Duration::from_secs_f64(octets as f64 / rate.min(line * 0.9) + 10.0 * rtt).min(limit)
    }
}

/// `1%@20ms`, `reorder@20ms`, `fair@20ms`.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Loss(percent) => write!(f, "{percent}%")?,
            Kind::Reorder => write!(f, "reorder")?,
            Kind::Fair => write!(f, "fair")?,
        }
        write!(f, "@{}ms", self.rtt_ms)
    }
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (kind, rtt) = text.split_once('@')?;
            let rtt_ms = rtt.strip_suffix("ms")?.parse().ok().filter(|rtt| *rtt > 0)?;
            let kind = match kind {
                "reorder" => Kind::Reorder,
                "fair" => Kind::Fair,
                loss => {
                    let percent = loss.strip_suffix('%')?.parse().ok();
                    Kind::Loss(percent.filter(|percent| (0.0..=100.0).contains(percent))?)
                }
            };
            Some(Self { kind, rtt_ms })
        };
        read().ok_or_else(|| "not a cell such as 1%@20ms, reorder@20ms or fair@20ms".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_named_and_found_by_its_name() {
        let all = Cell::all();
        assert_eq!(all.len(), 21);
        for cell in all {
            assert_eq!(cell.to_string().parse(), Ok(cell));
        }
        for text in ["1%", "1@20ms", "101%@20ms", "reorder@0ms", "fair@20", "lots@1ms"] {
            assert!(text.parse::<Cell>().is_err(), "{text}");
        }
    }

    #[test]
    fn loss_and_reordering_are_of_the_data() {
        let cell: Cell = "3%@100ms".parse().unwrap();
        let wire = cell.wire(7);
        assert_eq!((wire.up.loss, wire.down.loss), (0.0, 0.03));
        assert_eq!(wire.up.delay + wire.down.delay, Duration::from_millis(100));
        assert_eq!(wire.down.rate, Some(RATE));
        let wire = "reorder@1ms".parse::<Cell>().unwrap().wire(7);
        assert_eq!((wire.down.reorder, wire.down.reorder_places, wire.up.reorder), (0.05, 3, 0.0));
    }

    #[test]
    fn targets_are_those_of_the_congestion_control() {
        let loss: Cell = "1%@20ms".parse().unwrap();
        assert!(!loss.target(Congestion::Cubic).holds(0.99));
        assert!(loss.target(Congestion::Bbr).holds(0.96));
        let fair = "fair@20ms".parse::<Cell>().unwrap().target(Congestion::Bbr);
        assert!(fair.holds(1.3) && !fair.holds(1.5) && !fair.holds(0.6) && !fair.holds(f64::NAN));
    }

    #[test]
    fn a_guess_is_never_longer_than_the_limit() {
        let limit = Duration::from_secs(20);
        for cell in Cell::all() {
            for congestion in Congestion::ALL {
                let guess = cell.guess(congestion, 20_000_000, limit);
                assert!(guess <= limit && guess >= Duration::from_secs(1), "{cell}: {guess:?}");
            }
        }
    }
}
