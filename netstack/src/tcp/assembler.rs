//! Reassembly of data that came out of order (RFC 9293 3.10.7.4, "seventh").

use super::seq::SeqNum;

/// Separate runs kept at the most for one connection. A sender in recovery makes one run for
/// each loss in its window; more is a peer that sends crumbs to be stored, and what
/// is dropped here is sent again.
const MAX_RUNS: usize = 64;

/// Runs of received octets, in order, with a gap before each.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    start: SeqNum,
    octets: Vec<u8>,
}

impl Run {
    fn end(&self) -> SeqNum {
        self.start + self.octets.len() as u32
    }
}

impl Assembler {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// One past the last octet held.
    pub(crate) fn end(&self) -> Option<SeqNum> {
        self.runs.last().map(Run::end)
    }

    /// Keeps what of `data` is not held yet; the first copy of an octet wins. Returns
    /// whether all of it is held now. The caller has cut `data` to the window.
    pub(crate) fn insert(&mut self, seq: SeqNum, data: &[u8]) -> bool {
        let (mut start, mut rest) = (seq, data);
        let mut index = self.runs.partition_point(|run| run.end().before(start));
        while !rest.is_empty() {
            // Runs from `index` on end at `start` or after it.
            match self.runs.get_mut(index) {
                Some(run) if run.start.at_or_before(start) => {
                    // Held already up to the run's end; what follows it may extend it.
                    let held = (run.end().octets_since(start) as usize).min(rest.len());
                    rest = &rest[held..];
                    start += held as u32;
                    let limit = self.runs.get(index + 1).map(|next| next.start);
                    let room = limit.map_or(rest.len(), |next| {
                        (next.octets_since(start) as usize).min(rest.len())
                    });
                    self.runs[index].octets.extend_from_slice(&rest[..room]);
                    rest = &rest[room..];
                    start += room as u32;
                    index += 1;
                }
                next => {
                    let gap = next.map_or(rest.len(), |next| {
                        (next.start.octets_since(start) as usize).min(rest.len())
                    });
                    if self.runs.len() == MAX_RUNS {
                        return false;
                    }
                    self.runs.insert(index, Run { start, octets: rest[..gap].to_vec() });
                    rest = &rest[gap..];
                    start += gap as u32;
                    index += 1;
                }
            }
        }
        true
    }

    /// Takes the first run if it begins at `next` or before: its octets from `next` on.
    pub(crate) fn take(&mut self, next: SeqNum) -> Option<Vec<u8>> {
        if self.runs.first()?.start.after(next) {
            return None;
        }
        let mut run = self.runs.remove(0);
        if self.runs.is_empty() {
            self.runs = Vec::new();
        }
        let stale = (next.octets_since(run.start) as usize).min(run.octets.len());
        run.octets.drain(..stale);
        Some(run.octets)
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
            assert!(assembler.insert(SeqNum(10 + i * 2), b"x"));
        }
        assert!(!assembler.insert(SeqNum(1000), b"x"));
        // What fills a gap between two held runs needs no new one.
        assert!(assembler.insert(SeqNum(11), b"y"));
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
            prop_assert!(assembler.is_empty());
        }
    }
}
