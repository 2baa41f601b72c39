//! What a wire does to frames, as asked for.

use std::str::FromStr;
use std::time::Duration;

use crate::error::LabError;

/// What a wire does, in each direction, and the seed of its decisions.
///
/// It can be written as text, which the command line takes:
///
/// ```
/// use tagwire_lab::WireConfig;
///
/// let wire: WireConfig = "seed=7,delay=10ms,rate=100mbit,down.loss=1%".parse()?;
/// assert_eq!((wire.up.loss, wire.down.loss), (0.0, 0.01));
/// # Ok::<(), tagwire_lab::LabError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WireConfig {
    /// The same seed gives the same decision for the n-th frame of a direction.
    pub seed: u64,
    /// From the client to the node.
    pub up: Impairments,
    /// From the node to the client.
    pub down: Impairments,
}

/// What a wire does in one direction. The default does nothing but forward.
#[derive(Debug, Clone, PartialEq)]
pub struct Impairments {
    /// How long each frame is on its way.
    pub delay: Duration,
    /// Up to how much longer, at random. Frames do not overtake each other by this.
    pub jitter: Duration,
    /// The probability that a frame is lost.
    pub loss: f64,
    /// The probability that a frame arrives twice.
    pub duplicate: f64,
    /// The probability that a frame is held back for [`Self::reorder_by`], so that
    /// later ones overtake it.
    pub reorder: f64,
    /// How long a reordered frame is held back; with [`Self::reorder_places`], how long
    /// at most, should nothing come that it could follow.
    pub reorder_by: Duration,
    /// If not 0, a reordered frame is delivered after one to so many of the frames behind
    /// it, however long those take: by places and not by time.
    pub reorder_places: u32,
    /// The probability that one to three bits of a frame flip, behind its Ethernet
    /// header and VLAN tag.
    pub corrupt: f64,
    /// Bits per second that fit through; `None` for no limit.
    pub rate: Option<u64>,
    /// How many frames may wait for their turn at that rate; more are dropped.
    pub queue_limit: usize,
}

impl Default for Impairments {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(1),
            reorder_places: 0,
            corrupt: 0.0,
            rate: None,
            queue_limit: 1000,
        }
    }
}

impl Default for WireConfig {
    fn default() -> Self {
        Self::symmetric(0, Impairments::default())
    }
}

impl WireConfig {
    /// A wire that does the same in both directions.
    pub fn symmetric(seed: u64, impairments: Impairments) -> Self {
        Self { seed, up: impairments.clone(), down: impairments }
    }
}

impl FromStr for WireConfig {
    type Err = LabError;

    /// Reads `key=value` pairs between commas; `up.` or `down.` before a key means one
    /// direction.
    fn from_str(text: &str) -> Result<Self, LabError> {
        let mut config = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            config.set(pair).map_err(|why| {
                LabError::new(
                    format!("cannot read \"{pair}\" of the wire"),
                    why,
                    "keys: seed, delay, jitter, loss, duplicate, reorder, reorder_by, \
                     reorder_places, corrupt, rate, queue; such as seed=7,delay=10ms,loss=1%,rate=100mbit,down.loss=2%",
                )
            })?;
        }
        Ok(config)
    }
}

impl WireConfig {
    fn set(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').ok_or("it has no value")?;
        if key == "seed" {
            self.seed = value.parse().map_err(|error| format!("not a number: {error}"))?;
            return Ok(());
        }
        let (key, directions) = match key.split_once('.') {
            Some(("up", key)) => (key, vec![&mut self.up]),
            Some(("down", key)) => (key, vec![&mut self.down]),
            _ => (key, vec![&mut self.up, &mut self.down]),
        };
        for direction in directions {
            direction.set(key, value)?;
        }
        Ok(())
    }
}

impl Impairments {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "delay" => self.delay = duration(value)?,
            "jitter" => self.jitter = duration(value)?,
            "loss" => self.loss = probability(value)?,
            "duplicate" => self.duplicate = probability(value)?,
            "reorder" => self.reorder = probability(value)?,
            "reorder_by" => self.reorder_by = duration(value)?,
            "reorder_places" => {
                self.reorder_places = value.parse().map_err(|_| "not a number of places")?;
            }
            "corrupt" => self.corrupt = probability(value)?,
            "rate" => self.rate = Some(rate(value)?),
            "queue" => {
                self.queue_limit = value.parse().map_err(|_| "not a number of frames")?;
            }
            _ => return Err(format!("there is no key \"{key}\"")),
        }
        Ok(())
    }
}

/// Splits a number from its unit and scales it by the factor of the unit.
fn scaled(value: &str, units: &[(&str, f64)]) -> Option<f64> {
    let split = value.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let number: f64 = number.parse().ok()?;
    (number >= 0.0).then_some(number * factor)
}

fn duration(value: &str) -> Result<Duration, String> {
    scaled(value, &[("us", 1e-6), ("ms", 1e-3), ("s", 1.0)])
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "not a duration such as 250us, 10ms or 1.5s".to_owned())
}

fn probability(value: &str) -> Result<f64, String> {
    scaled(value, &[("%", 0.01), ("", 1.0)])
        .filter(|p| *p <= 1.0)
        .ok_or_else(|| "not a probability such as 1% or 0.01".to_owned())
}

fn rate(value: &str) -> Result<u64, String> {
    scaled(value, &[("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)])
        .filter(|rate| *rate >= 1.0)
        .map(|rate| rate as u64)
        .ok_or_else(|| "not a rate such as 64kbit, 100mbit or 1gbit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_for_one_direction_or_both() {
        let wire: WireConfig =
            "seed=9, delay=1.5ms, up.rate=64kbit, queue=5, corrupt=0.25, down.reorder_by=250us,\
             reorder_places=3"
                .parse()
                .unwrap();
        let both = Impairments {
            delay: Duration::from_micros(1500),
            queue_limit: 5,
            reorder_places: 3,
            corrupt: 0.25,
            ..Impairments::default()
        };
        let up = Impairments { rate: Some(64_000), ..both.clone() };
        let down = Impairments { reorder_by: Duration::from_micros(250), ..both };
        assert_eq!(wire, WireConfig { seed: 9, up, down });
        assert_eq!("".parse::<WireConfig>().unwrap(), WireConfig::default());
    }

    #[test]
    fn nonsense_is_refused_with_the_keys() {
        for text in ["loss", "loss=101%", "loss=-1", "lots=1", "rate=1", "delay=10", "left.loss=1"]
        {
            let error = text.parse::<WireConfig>().unwrap_err();
            assert!(error.fix().contains("keys: seed"), "{text}: {error}");
        }
    }
}
