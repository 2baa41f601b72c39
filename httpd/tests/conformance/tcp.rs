//! The dialect that the TCP cases are written in: a connection whose every segment the case
//! chooses, in sequence numbers relative to both initial ones. The SYN is 0, the first octet 1.
//!
//! ```text
//! let mut conn = Conn::open(host);
//! conn.send(seg(RST).seq(conn.snd_nxt + 1));
//! conn.expect(ACK, 1);            // a challenge ACK of octet 1, next of all
//! conn.expect_silence("...");     // an echo request that is sent now is answered first
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use crate::host::{Host, PATIENCE, TCP};
use crate::ip::{self, Datagram, long, word};
pub(crate) use crate::packet::{ACK, RST, SYN};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

/// The MSS that the cases offer unless they say so: what fits an MTU of 1500 in both families.
pub(crate) const MSS: u16 = 1400;
/// The port that both subjects serve.
pub(crate) const HTTP: u16 = 80;

/// Options of the segments that the cases send.
pub(crate) mod opt {
    pub(crate) fn mss(mss: u16) -> Vec<u8> {
        [vec![2, 4], mss.to_be_bytes().to_vec()].concat()
    }

    pub(crate) fn scale(shift: u8) -> Vec<u8> {
        vec![1, 3, 3, shift]
    }

    pub(crate) fn sack_permitted() -> Vec<u8> {
        vec![1, 1, 4, 2]
    }

    pub(crate) fn timestamps(value: u32, echo: u32) -> Vec<u8> {
        let mut octets = vec![1, 1, 8, 10];
        octets.extend(value.to_be_bytes());
        octets.extend(echo.to_be_bytes());
        octets
    }
}

/// A segment that was received; its numbers are relative once a [`Conn`] returns it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) at: Instant,
    pub(crate) ports: (u16, u16),
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    pub(crate) mss: Option<u16>,
    pub(crate) scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) timestamps: Option<(u32, u32)>,
    pub(crate) sack: Vec<(u32, u32)>,
    /// Kinds of all options in their order, no-operations left out.
    pub(crate) kinds: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// Of the packet that it came in.
    pub(crate) traffic_class: u8,
    pub(crate) fragment: u16,
    pub(crate) hop_limit: u8,
}

impl Segment {
    pub(crate) fn of(datagram: &Datagram) -> Self {
        let octets = &datagram.payload;
        let header = usize::from(octets[12] >> 4) * 4;
        assert!((20..=octets.len()).contains(&header), "a TCP header of {header} octets");
        let mut segment = Self {
            at: datagram.at,
            ports: (word(octets, 0), word(octets, 2)),
            flags: octets[13],
            seq: long(octets, 4),
            ack: long(octets, 8),
            window: word(octets, 14),
            mss: None,
            scale: None,
            sack_permitted: false,
            timestamps: None,
            sack: Vec::new(),
            kinds: Vec::new(),
            data: octets[header..].to_vec(),
            traffic_class: datagram.traffic_class,
            fragment: datagram.fragment,
            hop_limit: datagram.hop_limit,
        };
        segment.read_options(&octets[20..header]);
        segment
    }

    fn read_options(&mut self, mut options: &[u8]) {
        while let [kind, rest @ ..] = options {
            match kind {
                0 => return,
                1 => options = rest,
                kind => {
                    let option = &options[..usize::from(rest[0])];
                    self.kinds.push(*kind);
                    match (kind, option.len()) {
                        (2, 4) => self.mss = Some(word(option, 2)),
                        (3, 3) => self.scale = Some(option[2]),
                        (4, 2) => self.sack_permitted = true,
                        (5, _) => {
                            let edges = option[2..].chunks(8);
                            self.sack = edges.map(|two| (long(two, 0), long(two, 4))).collect();
                        }
                        (8, 10) => self.timestamps = Some((long(option, 2), long(option, 6))),
                        _ => {}
                    }
                    options = &options[option.len()..];
                }
            }
        }
    }

    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// What it takes of sequence numbers.
    pub(crate) fn len(&self) -> u32 {
        self.data.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    pub(crate) fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len())
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (ACK, '.'), (URG, 'U')];
        let flags: String =
            names.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, name)| name).collect();
        let Self { seq, ack, window, kinds, sack, .. } = self;
        let len = self.data.len();
        write!(f, "[{flags}] {seq}+{len} ack {ack} win {window} opts {kinds:?} sack {sack:?}")
    }
}

/// A segment to send; what is not said is the connection's next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Out {
    flags: u8,
    seq: Option<u32>,
    ack: Option<u32>,
    window: Option<u16>,
    urgent: u16,
    options: Vec<u8>,
    timestamps: Option<Option<(u32, u32)>>,
    data: Vec<u8>,
    traffic_class: u8,
    damage: bool,
    reserved: u8,
}

pub(crate) fn seg(flags: u8) -> Out {
    Out { flags, ..Out::default() }
}

/// A piece of request text.
pub(crate) fn text(data: &[u8]) -> Out {
    seg(ACK | PSH).data(data)
}

impl Out {
    pub(crate) fn seq(mut self, seq: u32) -> Self {
        self.seq = Some(seq);
        self
    }

    pub(crate) fn ack(mut self, ack: u32) -> Self {
        self.ack = Some(ack);
        self
    }

    pub(crate) fn window(mut self, window: u16) -> Self {
        self.window = Some(window);
        self
    }

    pub(crate) fn urgent(mut self, urgent: u16) -> Self {
        self.urgent = urgent;
        self
    }

    pub(crate) fn options(mut self, options: &[Vec<u8>]) -> Self {
        self.options = options.concat();
        self
    }

    /// These timestamps instead of the connection's; `None` leaves them out.
    pub(crate) fn timestamps(mut self, timestamps: Option<(u32, u32)>) -> Self {
        self.timestamps = Some(timestamps);
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    pub(crate) fn traffic_class(mut self, class: u8) -> Self {
        self.traffic_class = class;
        self
    }

    pub(crate) fn wrong_checksum(mut self) -> Self {
        self.damage = true;
        self
    }

    pub(crate) fn reserved_bits(mut self, bits: u8) -> Self {
        self.reserved = bits;
        self
    }
}

/// How a case opens a connection.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) options: Vec<Vec<u8>>,
    pub(crate) window: u16,
    /// The value of our first timestamp, which asks for that option.
    pub(crate) timestamps: Option<u32>,
    pub(crate) flags: u8,
}

impl Default for Open {
    fn default() -> Self {
        let (options, window) = (vec![opt::mss(MSS)], 65_535);
        Self { options, window, timestamps: None, flags: SYN }
    }
}

pub(crate) struct Conn<'h> {
    pub(crate) host: &'h mut Host,
    pub(crate) ports: (u16, u16),
    pub(crate) iss: u32,
    pub(crate) irs: u32,
    /// What this end sends next.
    pub(crate) snd_nxt: u32,
    /// What this end expects next.
    pub(crate) rcv_nxt: u32,
    pub(crate) window: u16,
    /// What this end's next segment says, and echoes.
    pub(crate) timestamps: Option<(u32, u32)>,
    /// Whether their FIN has come, in order.
    pub(crate) fin_taken: bool,
}

impl<'h> Conn<'h> {
    /// Two ports, and no segment sent yet.
    pub(crate) fn closed(host: &'h mut Host, port: u16) -> Self {
        let own = host.port();
        // Near the wrap, so that every case crosses it or comes near it.
        let iss = 0xffff_ff00_u32.wrapping_add(u32::from(own) & 0xff);
        let ports = (own, port);
        let window = 65_535;
        let (irs, timestamps, fin_taken) = (0, None, false);
        Self { host, ports, iss, irs, snd_nxt: 0, rcv_nxt: 0, window, timestamps, fin_taken }
    }

    /// Established, with an MSS and no other option.
    #[track_caller]
    pub(crate) fn open(host: &'h mut Host) -> Self {
        Self::open_with(host, Open::default()).0
    }

    /// Established, and the SYN-ACK.
    #[track_caller]
    pub(crate) fn open_with(host: &'h mut Host, open: Open) -> (Self, Segment) {
        let (mut conn, syn_ack) = Self::half_open(host, open);
        conn.send(seg(ACK));
        (conn, syn_ack)
    }

    /// SYN-RECEIVED at the other end, and the SYN-ACK.
    #[track_caller]
    pub(crate) fn half_open(host: &'h mut Host, open: Open) -> (Self, Segment) {
        let mut conn = Self::closed(host, HTTP);
        conn.window = open.window;
        let mut options = open.options;
        if let Some(value) = open.timestamps {
            options.push(opt::timestamps(value, 0));
        }
        conn.send(seg(open.flags).options(&options));
        let syn_ack = conn.syn_ack();
        if let (Some(own), Some((theirs, _))) = (open.timestamps, syn_ack.timestamps) {
            conn.timestamps = Some((own, theirs));
        }
        (conn, syn_ack)
    }

    /// Takes the answer to a SYN, whose numbers are the first.
    #[track_caller]
    pub(crate) fn syn_ack(&mut self) -> Segment {
        let segment = self.next_within(PATIENCE).expect("an answer to the SYN");
        assert!(segment.has(SYN | ACK) && !segment.has(RST), "the answer to a SYN: {segment}");
        // It came relative to an initial number that was not known.
        self.irs = self.irs.wrapping_add(segment.seq);
        self.rcv_nxt = 1;
        assert_eq!(segment.ack, self.snd_nxt, "the SYN is acknowledged");
        Segment { seq: 0, ..segment }
    }

    /// Sends a segment, and counts it if it was the next in order.
    pub(crate) fn send(&mut self, out: Out) {
        let flags = out.flags;
        let len = out.data.len() as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let segment = self.octets(&out);
        if out.seq.is_none() {
            self.snd_nxt = self.snd_nxt.wrapping_add(len);
        }
        let mut packet = ip::packet(TCP, self.host.own(), self.host.theirs(), &segment);
        if out.traffic_class != 0 {
            match self.host.own() {
                std::net::IpAddr::V4(_) => {
                    packet = packet.with(1, out.traffic_class).summed();
                }
                std::net::IpAddr::V6(_) => {
                    packet.octets[0] |= out.traffic_class >> 4;
                    packet.octets[1] |= out.traffic_class << 4;
                }
            }
        }
        self.host.send(&packet);
    }

    /// A segment as it is sent, header and all.
    pub(crate) fn octets(&self, out: &Out) -> Vec<u8> {
        let mut options = out.options.clone();
        let timestamps = out.timestamps.unwrap_or(self.timestamps);
        if let Some((value, echo)) = timestamps
            && out.flags & SYN == 0
        {
            options.extend(opt::timestamps(value, echo));
        }
        while !options.len().is_multiple_of(4) {
            options.push(0);
        }
        let has_ack = out.flags & ACK != 0 || out.ack.is_some();
        let ack = if has_ack { self.irs.wrapping_add(out.ack.unwrap_or(self.rcv_nxt)) } else { 0 };
        let mut octets = Vec::new();
        octets.extend(self.ports.0.to_be_bytes());
        octets.extend(self.ports.1.to_be_bytes());
        octets.extend(self.iss.wrapping_add(out.seq.unwrap_or(self.snd_nxt)).to_be_bytes());
        octets.extend(ack.to_be_bytes());
        octets.extend([(20 + options.len() as u8) << 2 | out.reserved, out.flags]);
        octets.extend(out.window.unwrap_or(self.window).to_be_bytes());
        octets.extend([0, 0]);
        octets.extend(out.urgent.to_be_bytes());
        octets.extend(&options);
        octets.extend(&out.data);
        octets = ip::with_checksum(TCP, self.host.own(), self.host.theirs(), octets, 16);
        if out.damage {
            octets[17] ^= 1;
        }
        octets
    }

    /// The next segment of this connection, if one comes in time.
    pub(crate) fn next_within(&mut self, limit: Duration) -> Option<Segment> {
        self.next_until(Instant::now() + limit)
    }

    pub(crate) fn next_until(&mut self, deadline: Instant) -> Option<Segment> {
        loop {
            let datagram = self.host.hear_ip(deadline)?;
            if let Some(segment) = self.taken(&datagram) {
                return Some(segment);
            }
        }
    }

    /// A datagram's segment, if it is of this connection.
    fn taken(&mut self, datagram: &Datagram) -> Option<Segment> {
        if datagram.protocol != TCP {
            return None;
        }
        let mut segment = Segment::of(datagram);
        if segment.ports != (self.ports.1, self.ports.0) {
            return None;
        }
        segment.seq = segment.seq.wrapping_sub(self.irs);
        segment.ack = segment.ack.wrapping_sub(self.iss);
        for (left, right) in &mut segment.sack {
            *left = left.wrapping_sub(self.iss);
            *right = right.wrapping_sub(self.iss);
        }
        if segment.seq == self.rcv_nxt && !segment.has(SYN) && !segment.has(RST) {
            self.rcv_nxt = segment.end();
            self.fin_taken |= segment.has(FIN);
        }
        if let (Some((_, recent)), Some((value, _))) = (&mut self.timestamps, segment.timestamps) {
            *recent = value;
        }
        Some(segment)
    }

    /// The next segment has these flags (PSH is all the same) and this acknowledgement.
    #[track_caller]
    pub(crate) fn expect(&mut self, flags: u8, ack: u32) -> Segment {
        let Some(segment) = self.next_within(PATIENCE) else {
            panic!("nothing came; expected flags {flags:#04x} and ack {ack}");
        };
        assert!(
            segment.flags | PSH == flags | PSH && segment.ack == ack,
            "expected flags {flags:#04x} and ack {ack}, not {segment}"
        );
        segment
    }

    /// The next reset, which must be of this connection's port and nothing else before it.
    #[track_caller]
    pub(crate) fn expect_reset(&mut self) -> Segment {
        let segment = self.next_within(PATIENCE).expect("a reset");
        assert!(segment.has(RST), "a reset, not {segment}");
        segment
    }

    /// The first segment within [`PATIENCE`] that is so; others are passed over.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, is_it: impl Fn(&Segment) -> bool) -> Segment {
        self.wait_within(PATIENCE, what, is_it)
    }

    #[track_caller]
    pub(crate) fn wait_within(
        &mut self,
        limit: Duration,
        what: &str,
        is_it: impl Fn(&Segment) -> bool,
    ) -> Segment {
        let deadline = Instant::now() + limit;
        let mut others = Vec::new();
        while let Some(segment) = self.next_until(deadline) {
            if is_it(&segment) {
                return segment;
            }
            others.push(segment.to_string());
        }
        panic!("{what}: not within {limit:?}; what came: {others:?}");
    }

    /// What comes before the answer to an echo request that is sent now.
    #[track_caller]
    pub(crate) fn before_marker(&mut self) -> Vec<Segment> {
        let datagrams = self.host.datagrams_before_marker();
        datagrams.iter().filter_map(|datagram| self.taken(datagram)).collect()
    }

    /// Nothing has come of what was sent.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, what: &str) {
        let heard = self.before_marker();
        let heard: Vec<String> = heard.iter().map(ToString::to_string).collect();
        assert!(heard.is_empty(), "{what} was answered: {heard:?}");
    }

    /// Takes new text, without acknowledging it, until the marker has come.
    #[track_caller]
    pub(crate) fn flight(&mut self) -> Vec<Segment> {
        let first = self.wait_for("text", |it| !it.data.is_empty());
        let rest = self.before_marker();
        let mut edge = first.seq;
        let new = |it: &Segment| {
            let new = !it.data.is_empty() && it.seq == edge;
            edge = if new { it.end() } else { edge };
            new
        };
        std::iter::once(first).chain(rest).filter(new).collect()
    }

    /// Nothing but acknowledgements without text of what was sent.
    #[track_caller]
    pub(crate) fn expect_no_text(&mut self, what: &str) {
        let heard = self.before_marker();
        assert!(heard.iter().all(|it| it.len() == 0), "{what}: {}", heard[0]);
    }

    /// The connection is there still, and in order: a segment that is not acceptable is
    /// objected to with these numbers.
    #[track_caller]
    pub(crate) fn expect_alive(&mut self) {
        self.request("/", false);
        let page = self.response();
        assert_eq!(page, crate::bed::INDEX);
    }

    /// There is no connection: what is sent is answered by a reset.
    #[track_caller]
    pub(crate) fn expect_gone(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Again, since a kernel may have queued the first behind what ends the connection,
            // and finds then a socket that is closed and says nothing.
            self.send(seg(ACK));
            while let Some(segment) = self.next_within(PATIENCE / 10) {
                if segment.has(RST) {
                    return;
                }
            }
        }
        panic!("the connection is there still");
    }

    /// Sends a request.
    pub(crate) fn request(&mut self, path: &str, close: bool) {
        let connection = if close { "Connection: close\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n{connection}\r\n");
        self.send(text(request.as_bytes()));
    }

    /// Takes a response, acknowledging each segment, and returns its body. A FIN that comes
    /// with it is counted and not acknowledged.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Vec<u8> {
        let mut response: Vec<u8> = Vec::new();
        loop {
            let before = self.rcv_nxt;
            let segment = self.next_within(PATIENCE).expect("more of a response");
            assert!(!segment.has(RST), "a reset in a response: {segment}");
            if self.rcv_nxt != before {
                response.extend(&segment.data);
                if !segment.data.is_empty() {
                    self.send(seg(ACK).ack(self.rcv_nxt - u32::from(segment.has(FIN))));
                }
            } else if !segment.data.is_empty() {
                self.send(seg(ACK));
            }
            if let Some(body) = body_of(&response) {
                return body;
            }
        }
    }

    /// Has the other end close first: FIN-WAIT-1 there, its text acknowledged, its FIN, which
    /// is counted here, not.
    #[track_caller]
    pub(crate) fn they_close(&mut self) {
        self.request("/", true);
        self.response();
        self.take_fin();
    }

    /// Waits for the FIN, if it has not come with text.
    #[track_caller]
    pub(crate) fn take_fin(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.fin_taken {
            let segment = self.next_until(deadline).expect("a FIN");
            assert!(!segment.has(RST), "a FIN, not {segment}");
        }
    }

    /// Waits for a FIN that is not acknowledged to come again.
    #[track_caller]
    pub(crate) fn fin_again(&mut self) {
        let end = self.rcv_nxt;
        self.wait_for("the FIN again", |it| it.has(FIN) && it.end() == end);
    }
}

/// The body of a response that is whole.
fn body_of(response: &[u8]) -> Option<Vec<u8>> {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
    (response.len() >= end + length).then(|| response[end..].to_vec())
}
