//! The octets that are sent: each depends on where it stands, on the flow and on the direction.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::rng::Rng;

/// A prime, so that no shift that a sender is likely to make maps the pattern to itself.
const PERIOD: usize = 1_048_573;

static OCTETS: LazyLock<Bytes> = LazyLock::new(|| {
    let mut rng = Rng(1);
    let words = (0..PERIOD.div_ceil(8)).flat_map(|_| rng.next().to_ne_bytes());
    words.take(PERIOD).collect::<Vec<u8>>().into()
});

/// One direction of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pattern(usize);

impl Pattern {
    pub(crate) fn new(flow: usize, up: bool) -> Self {
        Self(flow * 7919 + usize::from(up) * 3571)
    }

    /// At most `most` octets from `offset` on, at least one.
    pub(crate) fn piece(self, offset: u64, most: usize) -> Bytes {
        let start = (self.0 + offset as usize) % PERIOD;
        OCTETS.slice(start..PERIOD.min(start + most))
    }

    /// Panics where `octets` are not those at `offset`.
    #[track_caller]
    pub(crate) fn check(self, mut offset: u64, mut octets: &[u8]) {
        while !octets.is_empty() {
            let piece = self.piece(offset, octets.len());
            let (head, tail) = octets.split_at(piece.len());
            assert!(
                head == piece,
                "other octets than were sent, within {} of {offset}",
                head.len()
            );
            offset += head.len() as u64;
            octets = tail;
        }
    }
}
