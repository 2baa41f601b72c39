//! What happens to a frame: decided by the seed, the direction and the frame's number.
//!
//! Nothing else enters, neither time nor the frames before: the n-th frame of a
//! direction meets the same fate in every run, and switching on one impairment does not
//! change which frames another one hits.

use super::Direction;
use super::config::Impairments;
use crate::random::SplitMix64;

/// What the wire will do to one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fate {
    pub(super) lost: bool,
    pub(super) duplicated: bool,
    pub(super) reordered: bool,
    /// Where the flipped bits are drawn from.
    pub(super) corrupted: Option<SplitMix64>,
    /// The part of the jitter that it gets, 0 to 1.
    pub(super) jitter: f64,
    /// Where among the places it could be moved by it is, 0 to 1.
    place: f64,
}

impl Fate {
    pub(super) fn of(seed: u64, direction: Direction, number: u64, plan: &Impairments) -> Self {
        // A stream per direction, and in it a stream per frame.
        let mut stream =
            SplitMix64::new(seed ^ (direction as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
        let mut frame =
            SplitMix64::new(stream.next().wrapping_add(number.wrapping_mul(FRAME_STRIDE)));
        // Every draw is made whether it is used or not, so that none shifts the others.
        let mut hits = |probability: f64| frame.fraction() < probability;
        let lost = hits(plan.loss);
        let duplicated = hits(plan.duplicate);
        let reordered = hits(plan.reorder);
        let corrupted = hits(plan.corrupt);
        let jitter = frame.fraction();
        let corrupted = corrupted.then_some(frame);
        let place = frame.fraction();
        Self { lost, duplicated, reordered, corrupted, jitter, place }
    }

    /// Behind how many later frames it is delivered if it is reordered: 1 to `most`.
    pub(super) fn places(&self, most: u32) -> u32 {
        1 + (self.place * f64::from(most)) as u32
    }
}

/// Far from any multiple of the generator's own step, so that the streams of two frames
/// do not overlap.
const FRAME_STRIDE: u64 = 0xa076_1d64_78bd_642f;

/// Flips one to three bits behind the Ethernet header and the VLAN tags.
pub(super) fn flip_bits(frame: &mut [u8], mut random: SplitMix64) {
    let tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    let header = match (tag(12), tag(16)) {
        (true, true) => 22,
        (true, false) => 18,
        _ => 14,
    };
    let Some(body) = frame.get_mut(header..).filter(|body| !body.is_empty()) else { return };
    let bits = body.len() as u64 * 8;
    let first = random.next() % bits;
    for i in 0..=random.next() % 3 {
        // Neighbours, so that no two are the same bit: one flipped twice would be none.
        let bit = (first + i) % bits;
        body[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lossy(loss: f64) -> Impairments {
        Impairments { loss, ..Impairments::default() }
    }

    fn lost(seed: u64, direction: Direction, plan: &Impairments) -> Vec<u64> {
        (0..10_000).filter(|&n| Fate::of(seed, direction, n, plan).lost).collect()
    }

    #[test]
    fn a_seed_decides_and_the_rate_is_the_one_asked_for() {
        let plan = lossy(0.1);
        let first = lost(7, Direction::Up, &plan);
        assert_eq!(first, lost(7, Direction::Up, &plan));
        assert_ne!(first, lost(8, Direction::Up, &plan));
        assert_ne!(first, lost(7, Direction::Down, &plan));
        assert!((900..1100).contains(&first.len()), "{} of 10000 lost", first.len());
        assert!(lost(7, Direction::Up, &lossy(0.0)).is_empty());
        assert_eq!(lost(7, Direction::Up, &lossy(1.0)).len(), 10_000);
    }

    #[test]
    fn one_impairment_does_not_change_whom_another_hits() {
        let both = Impairments { duplicate: 0.5, corrupt: 0.5, ..lossy(0.1) };
        assert_eq!(lost(7, Direction::Up, &lossy(0.1)), lost(7, Direction::Up, &both));
    }

    #[test]
    fn a_frame_is_moved_by_any_of_the_places() {
        let plan = Impairments { reorder: 1.0, ..Impairments::default() };
        let places = |n| Fate::of(7, Direction::Down, n, &plan).places(3);
        let mut times = [0; 4];
        (0..3000).for_each(|n| times[places(n) as usize] += 1);
        assert_eq!(times[0], 0);
        assert!(times[1..].iter().all(|&times| (900..1100).contains(&times)), "{times:?}");
    }

    #[test]
    fn one_to_three_bits_flip_behind_the_headers() {
        for (ethertype, header) in [([0x81, 0x00], 18), ([0x08, 0x00], 14)] {
            for seed in 0..500 {
                let mut frame = [0_u8; 60];
                frame[12..14].copy_from_slice(&ethertype);
                let before = frame;
                flip_bits(&mut frame, SplitMix64::new(seed));
                assert_eq!(frame[..header], before[..header]);
                let flipped: u32 = frame[header..].iter().map(|octet| octet.count_ones()).sum();
                assert!((1..=3).contains(&flipped), "{flipped} bits");
            }
        }
        flip_bits(&mut [0; 14], SplitMix64::new(0));
        flip_bits(&mut [], SplitMix64::new(0));
    }
}
