//! Reassembly of data that came out of order (RFC 9293 3.10.7.4, "seventh").
//!
//! Where copies of an octet differ the first one stands, as it does in the receive queue: what
//! has been acknowledged, selectively or not, cannot be changed by whoever guesses a sequence
//! number later.

use super::seq::SeqNum;
use crate::wire::tcp::{MAX_SACK_BLOCKS, SackBlocks};

/// Separate runs kept at the most for one connection. A sender in recovery makes one run for
/// each loss in its window; more is a peer that sends crumbs to be stored, and what
/// is dropped here is sent again.
const MAX_RUNS: usize = 64;

/// Runs of received octets, in order, with a gap before each. In a box, while there are any: most
/// connections never have one.
#[derive(Debug, Default)]
pub(crate) struct Assembler(Option<Box<Runs>>);

#[derive(Debug, Default)]
struct Runs {
    runs: Vec<Run>,
    /// Counts segments; see [`Run::touched`].
    clock: u32,
    /// Octets in all runs.
    held: u32,
}

/// Octets without a gap. Where one touches the next they stay apart: to join them would copy
/// the second for a segment of one octet.
#[derive(Debug)]
struct Run {
    start: SeqNum,
    /// When the newest segment came that is (partly) here.
    touched: u32,
    octets: Vec<u8>,
}

/// What became of a segment's text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inserted {
    /// All of it is held now.
    pub(crate) complete: bool,
    /// The first part of it that was held already.
    pub(crate) duplicate: Option<(SeqNum, SeqNum)>,
}

impl Run {
    fn end(&self) -> SeqNum {
        self.start + self.octets.len() as u32
    }
}

impl Assembler {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn runs(&self) -> &[Run] {
        self.0.as_ref().map_or(&[], |held| &held.runs)
    }

    /// Octets held.
    pub(crate) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.held as usize)
    }

    /// The first octet held.
    pub(crate) fn start(&self) -> Option<SeqNum> {
        self.runs().first().map(|run| run.start)
    }

    /// One past the last octet held.
    pub(crate) fn end(&self) -> Option<SeqNum> {
        self.runs().last().map(Run::end)
    }

    /// Keeps what of `data` is not held yet; the first copy of an octet wins. The caller has
    /// cut `data` to the window.
    pub(crate) fn insert(&mut self, seq: SeqNum, data: &[u8]) -> Inserted {
        if data.is_empty() {
            return Inserted { complete: true, duplicate: None };
        }
        self.0.get_or_insert_default().insert(seq, data)
    }

    /// Adds what is held to `blocks`, runs that touch as one block, that with the newest
    /// segment first (RFC 2018 4), as far as there is room.
    pub(crate) fn newest(&self, blocks: &mut SackBlocks) {
        let mut newest: [Option<(u32, SeqNum, SeqNum)>; MAX_SACK_BLOCKS] = [None; _];
        let mut runs = self.runs().iter().peekable();
        while let Some(run) = runs.next() {
            let (start, mut end, mut touched) = (run.start, run.end(), run.touched);
            while let Some(next) = runs.next_if(|next| next.start == end) {
                end = next.end();
                touched = touched.max(next.touched);
            }
            let newer = |place: &Option<(u32, SeqNum, SeqNum)>| {
                place.is_none_or(|(other, ..)| other < touched)
            };
            if let Some(at) = newest.iter().position(newer) {
                newest[at..].rotate_right(1);
                newest[at] = Some((touched, start, end));
            }
        }
        for (_, start, end) in newest.into_iter().flatten() {
            blocks.push(start, end);
        }
    }

    /// Takes the first run if it begins at `next` or before: its octets from `next` on.
    pub(crate) fn take(&mut self, next: SeqNum) -> Option<Vec<u8>> {
        let held = self.0.as_mut()?;
        if held.runs.first()?.start.after(next) {
            return None;
        }
        let mut run = held.runs.remove(0);
        held.held -= run.octets.len() as u32;
        if held.runs.is_empty() {
            self.0 = None;
        }
        let stale = (next.octets_since(run.start) as usize).min(run.octets.len());
        run.octets.drain(..stale);
        Some(run.octets)
    }
}

impl Runs {
    fn insert(&mut self, seq: SeqNum, data: &[u8]) -> Inserted {
        let (mut start, mut rest) = (seq, data);
        let mut duplicate = None;
        self.clock = self.clock.wrapping_add(1);
        let touched = self.clock;
        let mut index = self.runs.partition_point(|run| run.end().before(start));
        while !rest.is_empty() {
            // Runs from `index` on end at `start` or after it.
            match self.runs.get_mut(index) {
                Some(run) if run.start.at_or_before(start) => {
                    // Held already up to the run's end; what follows it may extend it.
                    let held = (run.end().octets_since(start) as usize).min(rest.len());
                    if held > 0 {
                        duplicate.get_or_insert((start, start + held as u32));
                    }
                    run.touched = touched;
                    rest = &rest[held..];
                    start += held as u32;
                    let limit = self.runs.get(index + 1).map(|next| next.start);
                    let room = limit.map_or(rest.len(), |next| {
                        (next.octets_since(start) as usize).min(rest.len())
                    });
                    self.runs[index].octets.extend_from_slice(&rest[..room]);
                    self.held += room as u32;
                    rest = &rest[room..];
                    start += room as u32;
                    index += 1;
                }
                next => {
                    let gap = next.map_or(rest.len(), |next| {
                        (next.start.octets_since(start) as usize).min(rest.len())
                    });
                    if self.runs.len() == MAX_RUNS {
                        return Inserted { complete: false, duplicate };
                    }
                    self.runs.insert(index, Run { start, touched, octets: rest[..gap].to_vec() });
                    self.held += gap as u32;
                    rest = &rest[gap..];
                    start += gap as u32;
                    index += 1;
                }
            }
        }
        Inserted { complete: true, duplicate }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crumbs_are_bounded() {
        let mut assembler = Assembler::default();
        for i in 0..MAX_RUNS as u32 {
            assert!(assembler.insert(SeqNum(10 + i * 2), b"x").complete);
        }
        assert!(!assembler.insert(SeqNum(1000), b"x").complete);
        // What fills a gap between two held runs needs no new one.
        assert!(assembler.insert(SeqNum(11), b"y").complete);
    }

    fn blocks(assembler: &Assembler) -> Vec<(u32, u32)> {
        let mut blocks = SackBlocks::default();
        assembler.newest(&mut blocks);
        blocks.as_slice().iter().map(|(start, end)| (start.0, end.0)).collect()
    }

    #[test]
    fn the_newest_block_comes_first_and_neighbours_are_one() {
        let mut assembler = Assembler::default();
        for at in [10, 30, 50, 70, 90] {
            assembler.insert(SeqNum(at), b"0123456789");
        }
        assert_eq!(blocks(&assembler), [(90, 100), (70, 80), (50, 60), (30, 40)]);
        assembler.insert(SeqNum(20), b"0123456789");
        assert_eq!(blocks(&assembler), [(10, 40), (90, 100), (70, 80), (50, 60)]);
        // A segment that came before makes its block the newest too.
        assembler.insert(SeqNum(52), b"23");
        assert_eq!(blocks(&assembler), [(50, 60), (10, 40), (90, 100), (70, 80)]);
    }

    #[test]
    fn a_duplicate_is_named_and_the_first_copy_stands() {
        let mut assembler = Assembler::default();
        assembler.insert(SeqNum(10), b"abcde");
        let inserted = assembler.insert(SeqNum(12), b"XXXXXX");
        let duplicate = Some((SeqNum(12), SeqNum(15)));
        assert_eq!(inserted, Inserted { complete: true, duplicate });
        assert_eq!(assembler.take(SeqNum(10)).unwrap(), b"abcdeXXX");
    }

    proptest! {
        /// Any pieces of a stream in any order, overlapping or twice, around the wrap of the
        /// sequence space, come out as the stream.
        #[test]
        fn any_order_of_pieces_gives_the_stream(
            length in 1usize..400,
            base: u32,
            mut pieces in proptest::collection::vec((0usize..400, 1usize..80), 0..40),
        ) {
            let stream: Vec<u8> = (0..length).map(|i| (i * 7 + i / 251) as u8).collect();
            let base = SeqNum(base);
            // Finish with the whole stream, so that it can complete.
            pieces.push((0, length));
            let mut assembler = Assembler::default();
            let mut out = Vec::new();
            for (at, count) in pieces {
                let at = at.min(length);
                let end = (at + count).min(length);
                let next = base + out.len() as u32;
                let from = at.max(out.len()).min(end);
                assembler.insert(base + from as u32, &stream[from..end]);
                let mut next = next;
                while let Some(run) = assembler.take(next) {
                    next += run.len() as u32;
                    out.extend(run);
                }
            }
            prop_assert_eq!(out, stream);
            prop_assert!(assembler.is_empty() && assembler.held() == 0);
        }
    }
}
