//! Octets read as a sequence of operations.

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A frame of the octets that follow, as they are.
    Raw,
    /// A frame whose lower layers are right, with a TCP segment near what a connection
    /// expects.
    Segment,
    /// A whole handshake.
    Open,
    /// An acknowledgement of everything that the peer has seen.
    Acknowledge,
    /// The next in-order data.
    Data,
    /// Time passes, and what falls due is done.
    Advance,
    Recv,
    Send,
    Shutdown,
    Release,
    Abort,
    Notify,
    /// An ARP packet.
    Arp,
    /// An ICMP echo request.
    Echo,
    /// The link goes down or comes up.
    Link,
    /// The port is opened or closed to new connections.
    Listen,
    /// A fragment of an echo request or of anything.
    Fragment,
    /// An ICMP error with a quote.
    Error,
    /// A datagram for UDP, or with options, or for a protocol that nobody knows.
    Datagram,
    /// A frame with two tags, in line or one of them beside it.
    Tagged,
}

const ALL: [Operation; 20] = [
    Operation::Raw,
    Operation::Segment,
    Operation::Open,
    Operation::Acknowledge,
    Operation::Data,
    Operation::Advance,
    Operation::Recv,
    Operation::Send,
    Operation::Shutdown,
    Operation::Release,
    Operation::Abort,
    Operation::Notify,
    Operation::Arp,
    Operation::Echo,
    Operation::Link,
    Operation::Listen,
    Operation::Fragment,
    Operation::Error,
    Operation::Datagram,
    Operation::Tagged,
];

/// Reads numbers from a fuzzer's octets; where they end, zeros follow.
#[derive(Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// The next operation, and whether the stack's output is left to queue up after it.
    pub(super) fn operation(&mut self) -> Option<(Operation, bool)> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some((ALL[usize::from(first & 0x7f) % ALL.len()], first & 0x80 != 0))
    }

    pub(super) fn octet(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    pub(super) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.octet(), self.octet()])
    }

    pub(super) fn double(&mut self) -> u32 {
        u32::from_be_bytes([self.octet(), self.octet(), self.octet(), self.octet()])
    }

    pub(super) fn octets(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A signed distance, mostly small: none, within ±128, within ±32768, or any.
    pub(super) fn distance(&mut self) -> u32 {
        match self.octet() % 8 {
            0..=3 => 0,
            4 | 5 => i32::from(self.octet() as i8) as u32,
            6 => i32::from(self.word() as i16) as u32,
            _ => self.double(),
        }
    }
}
