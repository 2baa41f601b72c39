//! What the application gave to send and the peer has not acknowledged yet.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Slices one frame may gather at the most. A packet socket takes up to
/// `UIO_MAXIOV` (1024); past some dozens a frame is better cut short than gathered from crumbs.
const MAX_SLICES: usize = 48;

/// Places for slices that a queue keeps when it is empty: an answer is a head and a body, or one
/// slice. With none an answer would cost an allocation, with more an idle connection keeps them.
const KEPT: usize = 2;

/// A queue of slices; nothing is copied to be kept or to be sent again.
///
/// ```text
///     SND.UNA                SND.NXT                    end
///        |  sent, unacked       |   not sent yet         |
///        [ slice ][ slice     |     ][ slice ][ slice    ]
/// offset 0                                               len
/// ```
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    slices: VecDeque<Bytes>,
    len: usize,
    /// A slice's index and its offset: where the last gathering ended. Sending goes
    /// forward, so the next one nearly always starts there, however many slices wait. What
    /// a window reaches has an offset of 30 bits (RFC 7323 2.3).
    hint: (u32, u32),
}

impl SendBuffer {
    /// Octets queued.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Octets that refer to what is queued. What is nobody else's the connection counts.
    pub(crate) fn overhead(&self) -> usize {
        self.slices.capacity() * size_of::<Bytes>()
    }

    /// Queues a slice; returns how many of its octets nobody else holds, as a cache does.
    pub(crate) fn push(&mut self, slice: Bytes) -> u32 {
        if slice.is_empty() {
            return 0;
        }
        if self.slices.capacity() == 0 {
            self.slices.reserve_exact(KEPT);
        }
        let own = own(&slice, slice.len());
        self.len += slice.len();
        self.slices.push_back(slice);
        own
    }

    /// Drops the first `octets`: they are acknowledged. Returns how many of them nobody else holds.
    pub(crate) fn acknowledge(&mut self, octets: usize) -> u32 {
        debug_assert!(octets <= self.len);
        let mut left = octets.min(self.len);
        self.len -= left;
        let (mut gone, mut own_gone) = (0, 0u32);
        while left > 0 {
            let Some(front) = self.slices.front_mut() else { break };
            own_gone = own_gone.saturating_add(own(front, left));
            if front.len() > left {
                front.advance(left);
                break;
            }
            left -= front.len();
            self.slices.pop_front();
            gone += 1;
        }
        let (index, start) = self.hint();
        match (index.checked_sub(gone), start.checked_sub(octets)) {
            (Some(index), Some(start)) => self.set_hint(index, start),
            _ => self.set_hint(0, 0),
        }
        if self.slices.is_empty() && self.slices.capacity() > KEPT {
            // An idle connection keeps no memory of its busiest moment.
            self.slices = VecDeque::new();
        }
        own_gone
    }

    /// What is left of `before` octets that nobody else holds when so many of them have `gone`: never
    /// more than there are.
    pub(crate) fn less_own(&self, before: u32, gone: u32) -> u32 {
        let most = u32::try_from(self.len).unwrap_or(u32::MAX);
        before.saturating_sub(gone).min(most)
    }

    fn hint(&self) -> (usize, usize) {
        (self.hint.0 as usize, self.hint.1 as usize)
    }

    /// Without one the search begins at the front.
    fn set_hint(&mut self, index: usize, start: usize) {
        // No slice is empty: the index is not beyond the offset.
        let fits = index > 0 && start <= u32::MAX as usize;
        self.hint = if fits { (index as u32, start as u32) } else { (0, 0) };
    }

    /// The index of the slice that holds `offset`, and the offset within it.
    fn seek(&mut self, offset: usize) -> (usize, usize) {
        let (mut index, mut start) = self.hint();
        if start > offset {
            (index, start) = (0, 0);
        }
        while let Some(slice) = self.slices.get(index) {
            if start + slice.len() > offset {
                break;
            }
            start += slice.len();
            index += 1;
        }
        self.set_hint(index, start);
        (index, offset - start)
    }

    /// Copies `octets` octets from `offset` into `target`.
    pub(crate) fn copy(&mut self, offset: usize, target: &mut [u8]) {
        let (mut index, mut skip) = self.seek(offset);
        let mut filled = 0;
        while filled < target.len() {
            let slice = &self.slices[index][skip..];
            let take = slice.len().min(target.len() - filled);
            target[filled..filled + take].copy_from_slice(&slice[..take]);
            filled += take;
            index += 1;
            skip = 0;
        }
    }

    /// Adds references to up to `octets` octets from `offset` to `target`; returns how
    /// many they are, fewer only if they lie in more slices than one frame may gather.
    pub(crate) fn gather(
        &mut self,
        offset: usize,
        octets: usize,
        target: &mut Vec<Bytes>,
    ) -> usize {
        let (mut index, mut skip) = self.seek(offset);
        let mut gathered = 0;
        for _ in 0..MAX_SLICES {
            if gathered == octets {
                break;
            }
            let slice = &self.slices[index];
            let take = (slice.len() - skip).min(octets - gathered);
            target.push(slice.slice(skip..skip + take));
            gathered += take;
            index += 1;
            skip = 0;
        }
        gathered
    }

    /// Lets go of the slices; [`len`](Self::len) goes on to say how much has never arrived.
    pub(crate) fn abandon(&mut self) {
        *self = Self { len: self.len, ..Self::default() };
    }
}

/// Of the first `octets` of a slice, those that nobody else holds.
fn own(slice: &Bytes, octets: usize) -> u32 {
    let octets = if slice.is_unique() { octets.min(slice.len()) } else { 0 };
    u32::try_from(octets).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain vector: any mix of pushes, acknowledgements and reads.
        #[test]
        fn behaves_like_a_plain_queue_of_octets(
            steps in proptest::collection::vec((0usize..4, 0usize..50, 0usize..200), 1..60),
        ) {
            let mut buffer = SendBuffer::default();
            let mut model: Vec<u8> = Vec::new();
            let mut next = 0u8;
            for (what, a, b) in steps {
                match what {
                    0 | 1 => {
                        let slice: Vec<u8> = (0..a).map(|_| { next = next.wrapping_add(1); next }).collect();
                        model.extend(&slice);
                        buffer.push(Bytes::from(slice));
                    }
                    2 => {
                        let octets = a.min(model.len());
                        model.drain(..octets);
                        buffer.acknowledge(octets);
                    }
                    _ => {
                        let offset = a.min(model.len());
                        let octets = b.min(model.len() - offset);
                        let mut copied = vec![0; octets];
                        buffer.copy(offset, &mut copied);
                        prop_assert_eq!(&copied, &model[offset..offset + octets]);
                        let mut slices = Vec::new();
                        let gathered = buffer.gather(offset, octets, &mut slices);
                        prop_assert!(gathered == octets || slices.len() == MAX_SLICES);
                        prop_assert_eq!(slices.concat(), &model[offset..offset + gathered]);
                    }
                }
                prop_assert_eq!(buffer.len(), model.len());
            }
        }
    }
}
