//! TCP segments over IPv4 and Ethernet, written and read independently of the stack's own
//! code for it, so that an error there is not made twice.

use std::fmt;
use std::net::Ipv4Addr;

use tagwire_netstack::MacAddr;
use tagwire_netstack::wire::checksum::{Sum, pseudo_header};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
/// RFC 3168 6.1: the receiver has seen a mark.
pub(crate) const ECE: u8 = 0x40;
/// The sender has heard of it.
pub(crate) const CWR: u8 = 0x80;

const IP: usize = 14;
const TCP: usize = IP + 20;
const PROTOCOL_TCP: u8 = 6;

/// Where a segment goes from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ends {
    pub(crate) source: Ipv4Addr,
    pub(crate) source_port: u16,
    pub(crate) destination: Ipv4Addr,
    pub(crate) destination_port: u16,
}

impl Ends {
    pub(crate) fn reversed(self) -> Self {
        Self {
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) ends: Ends,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) mss: Option<u16>,
    pub(crate) scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    /// TSval and TSecr.
    pub(crate) timestamp: Option<(u32, u32)>,
    pub(crate) sacks: Vec<(u32, u32)>,
    /// RFC 3168 5: 0 for a packet without ECN, 3 for a mark.
    pub(crate) ecn: u8,
    /// Where the payload stands in the frame it was read from.
    pub(crate) at: usize,
    pub(crate) len: usize,
}

impl Segment {
    pub(crate) fn new(ends: Ends, flags: u8, seq: u32, ack: u32) -> Self {
        Self {
            ends,
            seq,
            ack,
            flags,
            window: 0,
            mss: None,
            scale: None,
            sack_permitted: false,
            timestamp: None,
            sacks: Vec::new(),
            ecn: 0,
            at: 0,
            len: 0,
        }
    }

    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Reads a frame without a tag; `None` where it is no TCP or a checksum is wrong.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        if frame.len() < TCP + 20 || frame[12..14] != [8, 0] || frame[IP + 9] != PROTOCOL_TCP {
            return None;
        }
        let total = usize::from(u16_at(frame, IP + 2));
        if frame[IP] != 0x45 || total < 40 || total > frame.len() - IP {
            return None;
        }
        let end = IP + total;
        let [source, destination] = [12, 16].map(|at| Ipv4Addr::from(u32_at(frame, IP + at)));
        let sum = pseudo_header(source, destination, PROTOCOL_TCP, (total - 20) as u16);
        if Sum::new().feed(&frame[IP..TCP]).finish() != 0
            || sum.feed(&frame[TCP..end]).finish() != 0
        {
            return None;
        }
        let at = TCP + usize::from(frame[TCP + 12] >> 4) * 4;
        if at < TCP + 20 || at > end {
            return None;
        }
        let ends = Ends {
            source,
            source_port: u16_at(frame, TCP),
            destination,
            destination_port: u16_at(frame, TCP + 2),
        };
        let [seq, ack] = [4, 8].map(|field| u32_at(frame, TCP + field));
        let mut segment = Self::new(ends, frame[TCP + 13], seq, ack);
        segment.window = u16_at(frame, TCP + 14);
        segment.ecn = frame[IP + 1] & 3;
        (segment.at, segment.len) = (at, end - at);
        segment.read_options(&frame[TCP + 20..at]);
        Some(segment)
    }

    fn read_options(&mut self, mut rest: &[u8]) {
        while let [kind, tail @ ..] = rest {
            if *kind == 0 {
                return;
            }
            if *kind == 1 {
                rest = tail;
                continue;
            }
            let length = usize::from(tail[0]);
            let body = &rest[2..length];
            match kind {
                2 => self.mss = Some(u16_at(body, 0)),
                3 => self.scale = Some(body[0]),
                4 => self.sack_permitted = true,
                5 => {
                    let blocks = body.as_chunks::<8>().0.iter();
                    self.sacks = blocks.map(|b| (u32_at(b, 0), u32_at(b, 4))).collect();
                }
                8 => self.timestamp = Some((u32_at(body, 0), u32_at(body, 4))),
                _ => {}
            }
            rest = &rest[length..];
        }
    }

    /// The frame that carries it with this payload.
    pub(crate) fn write(&self, from: MacAddr, to: MacAddr, payload: &[u8]) -> Vec<u8> {
        let mut options = Vec::with_capacity(40);
        if let Some(mss) = self.mss {
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
        }
        if self.sack_permitted {
            options.extend([1, 1, 4, 2]);
        }
        if let Some((value, echo)) = self.timestamp {
            options.extend([1, 1, 8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        if let Some(scale) = self.scale {
            options.extend([1, 3, 3, scale]);
        }
        if !self.sacks.is_empty() {
            let room = (40 - options.len() - 4) / 8;
            let blocks = &self.sacks[..self.sacks.len().min(room)];
            options.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for (start, end) in blocks {
                options.extend(start.to_be_bytes());
                options.extend(end.to_be_bytes());
            }
        }
        let header_len = 20 + options.len();
        let total = 20 + header_len + payload.len();
        let mut frame = Vec::with_capacity(IP + total);
        frame.extend(to.0);
        frame.extend(from.0);
        frame.extend([8, 0, 0x45, self.ecn]);
        frame.extend((total as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, PROTOCOL_TCP, 0, 0]);
        frame.extend(self.ends.source.octets());
        frame.extend(self.ends.destination.octets());
        frame.extend(self.ends.source_port.to_be_bytes());
        frame.extend(self.ends.destination_port.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([(header_len as u8 / 4) << 4, self.flags]);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(options);
        frame.extend(payload);
        let sum = Sum::new().feed(&frame[IP..TCP]).finish();
        frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
        let length = (total - 20) as u16;
        let sum = pseudo_header(self.ends.source, self.ends.destination, PROTOCOL_TCP, length);
        let sum = sum.feed(&frame[TCP..]).finish();
        frame[TCP + 16..TCP + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(octets[at..at + 4].try_into().expect("four octets"))
}

impl fmt::Display for Segment {
    /// As tcpdump writes it, with absolute numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ends { source_port, destination_port, .. } = self.ends;
        write!(f, "{source_port} > {destination_port} [")?;
        let letters = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (ECE, 'E'), (CWR, 'W')];
        for (flag, letter) in letters.into_iter().chain([(ACK, '.')]) {
            if self.has(flag) {
                write!(f, "{letter}")?;
            }
        }
        write!(f, "] seq {}", self.seq)?;
        if self.len > 0 {
            write!(f, ":{} ({})", self.seq.wrapping_add(self.len as u32), self.len)?;
        }
        if self.has(ACK) {
            write!(f, " ack {}", self.ack)?;
        }
        write!(f, " win {}", self.window)?;
        if let Some(mss) = self.mss {
            write!(f, " mss {mss} scale {:?} sack {}", self.scale, self.sack_permitted)?;
        }
        if let Some((value, echo)) = self.timestamp {
            write!(f, " ts {value}/{echo}")?;
        }
        for (start, end) in &self.sacks {
            write!(f, " {{{start}:{end}}}")?;
        }
        match self.ecn {
            0 => Ok(()),
            3 => write!(f, " CE"),
            _ => write!(f, " ECT"),
        }
    }
}
