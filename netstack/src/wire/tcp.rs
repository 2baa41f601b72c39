//! TCP headers and options (RFC 9293 3.1, 3.2; RFC 7323; RFC 2018).

use std::fmt;

use etherparse::TcpHeaderSlice;

use super::WireError;
use super::ecn::Ecn;
use crate::tcp::seq::SeqNum;

/// Octets of a header without options.
pub const HEADER_LEN: usize = 20;
/// Octets of a header with the timestamp option, padded: that of a usual segment.
pub const HEADER_LEN_TIMESTAMP: usize = 32;
/// Octets of the largest header.
pub const MAX_HEADER_LEN: usize = 60;
/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 16;
/// RFC 7323 2.3: a larger shift count is taken as this.
pub const MAX_WINDOW_SCALE: u8 = 14;

const KIND_END: u8 = 0;
const KIND_NOP: u8 = 1;
const KIND_MSS: u8 = 2;
const KIND_WINDOW_SCALE: u8 = 3;
const KIND_SACK_PERMITTED: u8 = 4;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMP: u8 = 8;
const KIND_USER_TIMEOUT: u8 = 28;
const KIND_FAST_OPEN: u8 = 34;
/// RFC 5482 3: the value is in minutes.
const USER_TIMEOUT_MINUTES: u16 = 0x8000;

/// Control bits (RFC 9293 3.1), as they stand in the header's octet 13.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push function.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement field is significant.
    pub const ACK: Self = Self(0x10);
    /// ECN-Echo (RFC 3168 6.1).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168 6.1).
    pub const CWR: Self = Self(0x80);

    /// Whether all of `other`'s bits are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// RFC 7323 3.2's option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the value that it echoes.
    pub echo: u32,
}

/// Blocks of one SACK option: the option space holds no more (RFC 2018 3).
pub const MAX_SACK_BLOCKS: usize = 4;

/// RFC 2018 3's option: what has arrived beyond the acknowledgement. Each block is its first
/// sequence number and the one past its last.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(SeqNum, SeqNum); MAX_SACK_BLOCKS],
    count: u8,
}

impl SackBlocks {
    /// Adds a block behind the others; one that finds no room is left out.
    pub fn push(&mut self, start: SeqNum, end: SeqNum) {
        if let Some(block) = self.blocks.get_mut(usize::from(self.count)) {
            *block = (start, end);
            self.count += 1;
        }
    }

    /// The blocks in the order in which they stand in the option.
    pub fn as_slice(&self) -> &[(SeqNum, SeqNum)] {
        &self.blocks[..usize::from(self.count)]
    }

    /// Whether there is no block.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Reads what follows the option's length octet. RFC 2018 3: eight octets a block, or
    /// it is no SACK option, and says nothing.
    fn parse(octets: &[u8]) -> Self {
        let mut blocks = Self::default();
        let (pairs, rest) = octets.as_chunks::<8>();
        if rest.is_empty() {
            for &[s0, s1, s2, s3, e0, e1, e2, e3] in pairs {
                let start = u32::from_be_bytes([s0, s1, s2, s3]);
                let end = u32::from_be_bytes([e0, e1, e2, e3]);
                blocks.push(SeqNum(start), SeqNum(end));
            }
        }
        blocks
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// RFC 7413 4.1.1's option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOpen {
    /// An empty one, which asks for a cookie; or one of a length that ours do not have.
    Request,
    /// A cookie of the length that ours have.
    Cookie([u8; 8]),
}

/// The options that we know; the rest are skipped (RFC 9293 3.2, MUST-6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size, in octets.
    pub mss: Option<u16>,
    /// Window scale shift count, at most [`MAX_WINDOW_SCALE`].
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamp: Option<Timestamp>,
    /// SACK blocks; none if the option is not there.
    pub sack: SackBlocks,
    /// User timeout (RFC 5482), in seconds; zero, which is reserved, is left out.
    pub user_timeout: Option<u32>,
    /// Fast Open.
    pub fast_open: Option<FastOpen>,
}

/// A segment's header, options and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number of the first octet (of the SYN, where it is set).
    pub seq: SeqNum,
    /// Acknowledgement number; means something only with ACK.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// The window field as it stands, unscaled.
    pub window: u16,
    /// Options.
    pub options: Options,
    /// The ECN field of the packet that carried it. [`parse`] does not see that; who does
    /// sets it.
    pub ecn: Ecn,
    /// Data.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// SEG.LEN: octets of sequence space, SYN and FIN counted.
    pub fn sequence_len(&self) -> u32 {
        self.payload.len() as u32
            + u32::from(self.flags.has(Flags::SYN))
            + u32::from(self.flags.has(Flags::FIN))
    }
}

/// Reads a segment. The checksum is the caller's: it needs the pseudo-header.
pub fn parse(octets: &[u8]) -> Result<Segment<'_>, WireError> {
    let header = TcpHeaderSlice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    if header.source_port() == 0 || header.destination_port() == 0 {
        return Err(WireError::Malformed);
    }
    let header_len = header.slice().len();
    Ok(Segment {
        source_port: header.source_port(),
        destination_port: header.destination_port(),
        seq: SeqNum(header.sequence_number()),
        ack: SeqNum(header.acknowledgment_number()),
        flags: Flags(octets[13]),
        window: header.window_size(),
        options: parse_options(&octets[HEADER_LEN..header_len]),
        ecn: Ecn::NotEct,
        payload: &octets[header_len..],
    })
}

/// Reads the options that we know. One with a wrong length ends the list, as nothing
/// behind it can be trusted; what came before it counts.
fn parse_options(mut rest: &[u8]) -> Options {
    // RFC 7323 appendix A: NOP NOP timestamp, the layout of nearly every segment.
    if let [KIND_NOP, KIND_NOP, KIND_TIMESTAMP, 10, v0, v1, v2, v3, e0, e1, e2, e3] = *rest {
        return Options {
            timestamp: Some(Timestamp {
                value: u32::from_be_bytes([v0, v1, v2, v3]),
                echo: u32::from_be_bytes([e0, e1, e2, e3]),
            }),
            ..Options::default()
        };
    }
    // The same with SACK blocks: the layout of an acknowledgement while something is missing.
    if let [
        KIND_NOP,
        KIND_NOP,
        KIND_TIMESTAMP,
        10,
        v0,
        v1,
        v2,
        v3,
        e0,
        e1,
        e2,
        e3,
        KIND_NOP,
        KIND_NOP,
        KIND_SACK,
        length,
        ref blocks @ ..,
    ] = *rest
        && usize::from(length) == blocks.len() + 2
    {
        return Options {
            timestamp: Some(Timestamp {
                value: u32::from_be_bytes([v0, v1, v2, v3]),
                echo: u32::from_be_bytes([e0, e1, e2, e3]),
            }),
            sack: SackBlocks::parse(blocks),
            ..Options::default()
        };
    }
    let mut options = Options::default();
    loop {
        match *rest {
            [] | [KIND_END, ..] => return options,
            [KIND_NOP, ref tail @ ..] => {
                rest = tail;
                continue;
            }
            [KIND_MSS, 4, a, b, ..] => options.mss = Some(u16::from_be_bytes([a, b])),
            [KIND_WINDOW_SCALE, 3, shift, ..] => {
                options.window_scale = Some(shift.min(MAX_WINDOW_SCALE));
            }
            [KIND_SACK_PERMITTED, 2, ..] => options.sack_permitted = true,
            [KIND_TIMESTAMP, 10, v0, v1, v2, v3, e0, e1, e2, e3, ..] => {
                options.timestamp = Some(Timestamp {
                    value: u32::from_be_bytes([v0, v1, v2, v3]),
                    echo: u32::from_be_bytes([e0, e1, e2, e3]),
                });
            }
            [KIND_FAST_OPEN, 10, a, b, c, d, e, f, g, h, ..] => {
                options.fast_open = Some(FastOpen::Cookie([a, b, c, d, e, f, g, h]));
            }
            [KIND_FAST_OPEN, 2..=18, ..] => options.fast_open = Some(FastOpen::Request),
            [KIND_USER_TIMEOUT, 4, a, b, ..] => {
                let field = u16::from_be_bytes([a, b]);
                let value = u32::from(field & !USER_TIMEOUT_MINUTES);
                let unit = if field & USER_TIMEOUT_MINUTES == 0 { 1 } else { 60 };
                options.user_timeout = Some(value * unit).filter(|seconds| *seconds > 0);
            }
            [KIND_SACK, length, ref tail @ ..]
                if let Some(blocks) =
                    usize::from(length).checked_sub(2).and_then(|n| tail.get(..n)) =>
            {
                options.sack = SackBlocks::parse(blocks);
            }
            _ => {}
        }
        match rest.get(1) {
            Some(&length) if length >= 2 && usize::from(length) <= rest.len() => {
                rest = &rest[usize::from(length)..];
            }
            _ => return options,
        }
    }
}

/// What [`emit`] writes.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// Window field, already scaled down.
    pub window: u16,
    /// Options.
    pub options: Options,
}

/// Writes the header and its options, padded to four octets, with a zero checksum field;
/// returns its length, at most [`MAX_HEADER_LEN`].
pub fn emit(buffer: &mut [u8], header: &Header) -> usize {
    let mut length = HEADER_LEN;
    let Options { mss, window_scale, sack_permitted, timestamp, ref sack, user_timeout, fast_open } =
        header.options;
    if let Some(mss) = mss {
        let [a, b] = mss.to_be_bytes();
        buffer[length..length + 4].copy_from_slice(&[KIND_MSS, 4, a, b]);
        length += 4;
    }
    if let Some(Timestamp { value, echo }) = timestamp {
        // Where SACK-permitted is due it takes the place of the two NOPs, as Linux does.
        let lead = if sack_permitted { [KIND_SACK_PERMITTED, 2] } else { [KIND_NOP, KIND_NOP] };
        buffer[length..length + 2].copy_from_slice(&lead);
        buffer[length + 2..length + 4].copy_from_slice(&[KIND_TIMESTAMP, 10]);
        buffer[length + 4..length + 8].copy_from_slice(&value.to_be_bytes());
        buffer[length + 8..length + 12].copy_from_slice(&echo.to_be_bytes());
        length += 12;
    } else if sack_permitted {
        buffer[length..length + 4].copy_from_slice(&[KIND_NOP, KIND_NOP, KIND_SACK_PERMITTED, 2]);
        length += 4;
    }
    if let Some(shift) = window_scale {
        buffer[length..length + 4].copy_from_slice(&[KIND_NOP, KIND_WINDOW_SCALE, 3, shift]);
        length += 4;
    }
    match fast_open {
        Some(FastOpen::Cookie(cookie)) => {
            buffer[length..length + 4].copy_from_slice(&[KIND_NOP, KIND_NOP, KIND_FAST_OPEN, 10]);
            buffer[length + 4..length + 12].copy_from_slice(&cookie);
            length += 12;
        }
        Some(FastOpen::Request) => {
            buffer[length..length + 4].copy_from_slice(&[KIND_NOP, KIND_NOP, KIND_FAST_OPEN, 2]);
            length += 4;
        }
        None => {}
    }
    if let Some(seconds) = user_timeout {
        let field = match u16::try_from(seconds) {
            Ok(field) if field < USER_TIMEOUT_MINUTES => field,
            _ => (seconds / 60).min(0x7fff) as u16 | USER_TIMEOUT_MINUTES,
        };
        let [a, b] = field.to_be_bytes();
        buffer[length..length + 4].copy_from_slice(&[KIND_USER_TIMEOUT, 4, a, b]);
        length += 4;
    }
    if !sack.is_empty() {
        // RFC 2018 3: as many as fit beside the other options, three beside a timestamp.
        let fitting = (MAX_HEADER_LEN - length).saturating_sub(4) / 8;
        let blocks = &sack.as_slice()[..fitting.min(sack.as_slice().len())];
        let option_len = 2 + 8 * blocks.len() as u8;
        buffer[length..length + 4].copy_from_slice(&[KIND_NOP, KIND_NOP, KIND_SACK, option_len]);
        length += 4;
        for (start, end) in blocks {
            buffer[length..length + 4].copy_from_slice(&start.0.to_be_bytes());
            buffer[length + 4..length + 8].copy_from_slice(&end.0.to_be_bytes());
            length += 8;
        }
    }
    buffer[0..2].copy_from_slice(&header.source_port.to_be_bytes());
    buffer[2..4].copy_from_slice(&header.destination_port.to_be_bytes());
    buffer[4..8].copy_from_slice(&header.seq.0.to_be_bytes());
    buffer[8..12].copy_from_slice(&header.ack.0.to_be_bytes());
    buffer[12] = ((length / 4) << 4) as u8;
    buffer[13] = header.flags.0;
    buffer[14..16].copy_from_slice(&header.window.to_be_bytes());
    buffer[16..20].fill(0);
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(options: Options) -> Header {
        Header {
            source_port: 80,
            destination_port: 40000,
            seq: SeqNum(1),
            ack: SeqNum(2),
            flags: Flags::SYN.with(Flags::ACK),
            window: 3,
            options,
        }
    }

    fn sack(blocks: &[(u32, u32)]) -> SackBlocks {
        let mut sack = SackBlocks::default();
        for (start, end) in blocks {
            sack.push(SeqNum(*start), SeqNum(*end));
        }
        sack
    }

    #[test]
    fn as_many_sack_blocks_as_fit_four_alone_and_three_beside_a_timestamp() {
        let blocks = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)];
        let mut buffer = [0; MAX_HEADER_LEN];
        let options = Options { sack: sack(&blocks), ..Options::default() };
        let length = emit(&mut buffer, &header(options));
        assert_eq!(
            (length, parse(&buffer[..length]).unwrap().options.sack),
            (56, sack(&blocks[..4]))
        );
        let timestamp = Some(Timestamp { value: 1, echo: 2 });
        let length = emit(&mut buffer, &header(Options { timestamp, ..options }));
        let segment = parse(&buffer[..length]).unwrap();
        assert_eq!((length, segment.options.sack), (60, sack(&blocks[..3])));
        assert_eq!(segment.options.timestamp, timestamp);
    }

    #[test]
    fn a_user_timeout_is_in_seconds_or_minutes() {
        assert_eq!(parse_options(&[28, 4, 0, 90]).user_timeout, Some(90));
        assert_eq!(parse_options(&[28, 4, 0x80, 2]).user_timeout, Some(120));
        assert_eq!(parse_options(&[28, 4, 0, 0]).user_timeout, None);
        assert_eq!(parse_options(&[28, 3, 1, 0]).user_timeout, None);
    }

    #[test]
    fn a_sack_option_of_a_wrong_length_says_nothing() {
        let block = [0, 0, 0, 1, 0, 0, 0, 2];
        let with = |lead: &[u8], tail: &[u8]| parse_options(&[lead, &block, tail].concat()).sack;
        assert_eq!(with(&[1, 1, 5, 10], &[]), sack(&[(1, 2)]));
        assert_eq!(with(&[5, 10], &[3, 3, 7, 0]), sack(&[(1, 2)]));
        assert!(with(&[5, 11], &[0, 0]).is_empty());
        assert!(with(&[5, 200], &[]).is_empty());
        assert!(with(&[5, 1], &[]).is_empty() && with(&[5, 0], &[]).is_empty());
        let stamp = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5];
        assert_eq!(with(&[&stamp[..], &[10]].concat(), &[]), sack(&[(1, 2)]));
        assert!(with(&[&stamp[..], &[18]].concat(), &[]).is_empty());
    }

    #[test]
    fn unknown_options_are_skipped_and_broken_ones_end_the_list() {
        assert_eq!(parse_options(&[253, 4, 9, 9, 2, 4, 5, 0xb4]).mss, Some(1460));
        assert_eq!(parse_options(&[2, 4, 5, 0xb4, 253, 0, 3, 3, 7, 0]).window_scale, None);
        assert_eq!(parse_options(&[2, 4, 5, 0xb4, 253, 40]).mss, Some(1460));
        assert_eq!(parse_options(&[3, 3, 200, 0]).window_scale, Some(14));
        assert_eq!(parse_options(&[8]), Options::default());
        // A known kind with another length is skipped by its length.
        assert_eq!(parse_options(&[2, 3, 5, 1, 3, 3, 7]).window_scale, Some(7));
        assert_eq!(parse_options(&[0, 2, 4, 5, 0xb4]).mss, None);
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed_back(
            mss in proptest::option::of(any::<u16>()),
            window_scale in proptest::option::of(0u8..=14),
            sack_permitted: bool,
            timestamp in proptest::option::of((any::<u32>(), any::<u32>())),
            blocks in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..=1),
            cookie in proptest::option::of(any::<[u8; 8]>()),
            user_timeout in proptest::option::of(1u32..0x8000),
        ) {
            let timestamp = timestamp.map(|(value, echo)| Timestamp { value, echo });
            // All at once would not fit: blocks are not for SYNs, nor cookies for others.
            let fast_open = if blocks.is_empty() { cookie.map(FastOpen::Cookie) } else { None };
            let sack = sack(&blocks);
            let options =
                Options { mss, window_scale, sack_permitted, timestamp, sack, user_timeout, fast_open };
            let mut buffer = [0; MAX_HEADER_LEN];
            let length = emit(&mut buffer, &header(options));
            prop_assert_eq!(length % 4, 0);
            let segment = parse(&buffer[..length]).unwrap();
            prop_assert_eq!(segment.options, options);
            prop_assert_eq!((segment.seq.0, segment.ack.0, segment.window), (1, 2, 3));
            prop_assert!(segment.payload.is_empty());
        }

        #[test]
        fn options_of_any_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..41)) {
            parse_options(&octets);
        }
    }
}
