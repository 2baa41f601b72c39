//! What the workers of one interface tell each other.
//!
//! The kernel gives a connection's segments to its worker, and all else to the first one
//! ([`Steering`](tagwire_core::packet::Steering)), which is the only one that speaks for the
//! address. What it learns that others need it posts to them:
//!
//! - who has which address, as each worker sends by itself ([`Note::Neighbor`]);
//! - ICMP errors, which concern the connection whose packet they quote: to the one whose it is, lest
//!   a flood of them cost a copy for each worker; one that quotes something that takes more reading
//!   goes to all ([`Note::Frame`]);
//! - TCP segments that came in fragments or behind IPv6 extension headers, of which the kernel's
//!   program sees no ports: to the one whose connection it is ([`Note::Stray`]);
//! - router advertisements, and what says that another station has an IPv6 address of ours: from
//!   the same frames each worker comes to the same addresses and routers ([`Note::Frame`]).
//!
//! Another worker that needs a neighbour asks by ARP or ND itself; the answer comes by the first.
//!
//! The queues are bounded and nobody waits for room: what is lost is lost as on a busy wire, and
//! counted. What becomes of our addresses has room of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tagwire_core::packet::Steering;
use tagwire_core::waker::Waker;
use tagwire_netstack::{AddressEvent, Checksum, FrameMeta, Instant, MacAddr, Stray, VlanTag};

/// Notes that wait for one worker, of all VLANs, at the most.
const QUEUE: usize = 1024;
/// Beside them, of each VLAN, what has become of an address: it is not said again, and a worker that does not hear
/// of it serves what it should not, or does not serve what it should. There are a few a minute.
const ADDRESSES: usize = 128;
/// Octets of frames and segments in them, at the most.
const QUEUE_OCTETS: usize = 4 << 20;

/// Protocol number of TCP.
const TCP: u8 = 6;

/// What one worker tells another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A station has an address.
    Neighbor(IpAddr, MacAddr),
    /// One of our addresses can be used, or not.
    Address(AddressEvent),
    /// A frame that may concern the other's connections.
    Frame {
        /// From the Ethernet header on.
        octets: Box<[u8]>,
        /// The tag that is not in them any more.
        tag: Option<VlanTag>,
        /// When it came.
        received: Instant,
    },
    /// A segment of a connection of the other's.
    Stray(Stray),
}

impl Note {
    /// What it holds beside itself.
    fn octets(&self) -> usize {
        match self {
            Self::Neighbor(..) | Self::Address(_) => 0,
            Self::Frame { octets, .. } => octets.len(),
            Self::Stray(stray) => stray.cost(),
        }
    }

    /// The room that it takes of that which has a bound for all: one or none.
    fn count(&self) -> usize {
        usize::from(!matches!(self, Self::Address(_)))
    }
}

/// A note, and the VLAN that it is about, by its place among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) vlan: usize,
    pub(super) note: Note,
}

/// The way to another worker.
#[derive(Debug, Clone)]
struct Slot {
    letters: SyncSender<Letter>,
    /// How many there are but those of addresses, and what they hold.
    waiting: Arc<AtomicUsize>,
    octets: Arc<AtomicUsize>,
    waker: Waker,
}

impl Slot {
    /// Puts a letter in; false if there is no room.
    fn put(&self, letter: Letter) -> bool {
        let (size, count) = (letter.note.octets(), letter.note.count());
        let octets = self.octets.fetch_add(size, Ordering::Relaxed) + size;
        let waiting = self.waiting.fetch_add(count, Ordering::Relaxed) + count;
        let room = count == 0 || octets <= QUEUE_OCTETS && waiting <= QUEUE;
        let put = room && self.letters.try_send(letter).is_ok();
        if put {
            self.waker.wake();
        } else {
            self.release(size, count);
        }
        put
    }

    fn release(&self, size: usize, count: usize) {
        self.octets.fetch_sub(size, Ordering::Relaxed);
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }
}

/// A worker's mailbox, and the addresses of all.
#[derive(Debug)]
pub struct Post {
    own: usize,
    inbox: Receiver<Letter>,
    /// Each worker's, in order.
    slots: Arc<[Slot]>,
    steering: Steering,
    lost: u64,
}

impl Post {
    /// One for each worker, in the order of their wakers; `steering` says whose a connection is. They
    /// write of so many VLANs.
    pub fn between(wakers: &[Waker], steering: Steering, vlans: usize) -> Vec<Self> {
        let room = QUEUE + ADDRESSES * vlans;
        let (letters, inboxes): (Vec<_>, Vec<_>) =
            wakers.iter().map(|_| sync_channel(room)).unzip();
        let slots = letters.into_iter().zip(wakers.iter().cloned());
        let slots: Arc<[Slot]> = slots
            .map(|(letters, waker)| Slot {
                letters,
                waiting: Arc::default(),
                octets: Arc::default(),
                waker,
            })
            .collect();
        let posts = inboxes.into_iter().enumerate();
        posts
            .map(|(own, inbox)| Self { own, inbox, slots: Arc::clone(&slots), steering, lost: 0 })
            .collect()
    }

    /// Whether there is nobody to talk to.
    pub(super) fn is_alone(&self) -> bool {
        self.slots.len() == 1
    }

    /// The next letter for this worker.
    pub(super) fn next(&self) -> Option<Letter> {
        if self.is_alone() {
            return None;
        }
        let letter = self.inbox.try_recv().ok()?;
        self.slots[self.own].release(letter.note.octets(), letter.note.count());
        Some(letter)
    }

    /// Notes that found a full queue.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Tells all the others.
    pub(super) fn tell(&mut self, vlan: usize, note: &Note) {
        for to in 0..self.slots.len() {
            if to != self.own {
                self.put(to, vlan, note.clone());
            }
        }
    }

    /// Puts a note in another worker's queue, or counts it as lost.
    fn put(&mut self, to: usize, vlan: usize, note: Note) {
        self.lost += u64::from(!self.slots[to].put(Letter { vlan, note }));
    }

    /// Sends a segment to the worker whose connection it is; gives it back if that is this one.
    pub(super) fn redirect(&mut self, vlan: usize, stray: Stray) -> Option<Stray> {
        let owner = self.steering.worker(stray.source, stray.destination.port());
        if owner == self.own {
            return Some(stray);
        }
        self.put(owner, vlan, Note::Stray(stray));
        None
    }

    /// Passes on a frame if others may need it.
    pub(super) fn pass_on(&mut self, vlan: usize, octets: &[u8], meta: &FrameMeta, now: Instant) {
        if self.is_alone() {
            return;
        }
        let Some(concern) = concern(octets) else { return };
        let note = || {
            let received = meta.received.unwrap_or(now);
            Note::Frame { octets: octets.into(), tag: meta.vlan, received }
        };
        match concern {
            Concern::All => self.tell(vlan, &note()),
            Concern::Connection(peer, port) => {
                let owner = self.steering.worker(peer, port);
                if owner != self.own {
                    self.put(owner, vlan, note());
                }
            }
        }
    }
}

/// What the stack must know of a frame that was passed on: its checksum, an ICMP message's, is
/// verified in any case.
pub(super) fn meta(tag: Option<VlanTag>, received: Instant) -> FrameMeta {
    FrameMeta { vlan: tag, checksum: Checksum::Unverified, received: Some(received) }
}

/// Which others may need a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concern {
    All,
    /// Who has the connection of this peer with this port of ours.
    Connection(SocketAddr, u16),
}

/// Which others may need a frame, as far as can be seen at a glance; the stack looks closer. An
/// ICMP error in fragments or behind extension headers is nobody's: it quotes too much to be one.
fn concern(frame: &[u8]) -> Option<Concern> {
    const VLAN: u16 = 0x8100;
    const ICMPV4: u8 = 1;
    const ICMPV6: u8 = 58;
    // The inner tag of two is in line.
    let ip = if half(frame, 12) == Some(VLAN) { 18 } else { 14 };
    let packet = frame.get(ip..)?;
    match half(frame, ip - 2)? {
        0x0800 if packet.get(9) == Some(&ICMPV4) => {
            let header = usize::from(packet[0] & 15) * 4;
            let message = packet.get(header..)?;
            // RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem.
            let error = matches!(message.first()?, 3 | 4 | 5 | 11 | 12);
            error.then(|| quoted_v4(message).unwrap_or(Concern::All))
        }
        0x86dd if packet.get(6) == Some(&ICMPV6) => {
            let message = packet.get(40..)?;
            match message.first()? {
                // RFC 4443 2.1: errors have the high bit of their type clear.
                0..128 => Some(quoted_v6(message).unwrap_or(Concern::All)),
                // RFC 4861: router advertisement, neighbour advertisement.
                134 | 136 => Some(Concern::All),
                // RFC 4862 5.4.3: a solicitation from nowhere probes for an address.
                135 => (packet.get(8..24) == Some(&[0; 16])).then_some(Concern::All),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whose connection's packet an ICMP error quotes, if that is plain TCP.
fn quoted_v4(message: &[u8]) -> Option<Concern> {
    let quote = message.get(8..)?;
    let header = usize::from(quote.first()? & 15) * 4;
    let peer: [u8; 4] = quote.get(16..20)?.try_into().ok()?;
    let plain = header >= 20 && quote.get(9) == Some(&TCP);
    quoted(IpAddr::from(peer), quote.get(header..).filter(|_| plain)?)
}

fn quoted_v6(message: &[u8]) -> Option<Concern> {
    let quote = message.get(8..)?;
    let peer: [u8; 16] = quote.get(24..40)?.try_into().ok()?;
    quoted(IpAddr::from(peer), quote.get(40..).filter(|_| quote[6] == TCP)?)
}

/// The segment was ours: from our port to the peer's.
fn quoted(peer: IpAddr, segment: &[u8]) -> Option<Concern> {
    let (ours, theirs) = (half(segment, 0)?, half(segment, 2)?);
    Some(Concern::Connection(SocketAddr::new(peer, theirs), ours))
}

fn half(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

#[cfg(test)]
mod tests {
    use tagwire_netstack::AddressState;

    use super::*;

    /// An attacker decides how many notes of other kinds there are.
    #[test]
    fn what_becomes_of_an_address_finds_room_where_nothing_else_does() {
        let worker = || Waker::new().unwrap();
        let mut posts = Post::between(&[worker(), worker()], Steering::new(2, 1), 2);
        let told = AddressEvent { address: [10, 0, 0, 1].into(), state: AddressState::Assigned };
        for size in [100, QUEUE_OCTETS / 8] {
            let octets = vec![0; size].into_boxed_slice();
            let frame = Note::Frame { octets, tag: None, received: Instant::from_millis(0) };
            let fit = QUEUE.min(QUEUE_OCTETS / size) as u64;
            let before = posts[0].lost();
            for _ in 0..fit + 5 {
                posts[0].tell(0, &frame);
            }
            assert_eq!(posts[0].lost() - before, 5);
            for vlan in 0..2 {
                (0..ADDRESSES).for_each(|_| posts[0].tell(vlan, &Note::Address(told)));
            }
            assert_eq!(posts[0].lost() - before, 5);
            let mut got = Vec::new();
            while let Some(Letter { vlan, note }) = posts[1].next() {
                got.push(vlan);
                assert_eq!(note == Note::Address(told), got.len() as u64 > fit);
            }
            assert_eq!(got[fit as usize..], [[0; ADDRESSES], [1; ADDRESSES]].concat());
        }
    }

    fn frame(tag: bool, ethertype: [u8; 2], ip: &[u8], kind: u8) -> Vec<u8> {
        let mut octets = vec![2; 12];
        if tag {
            octets.extend([0x81, 0, 0, 100]);
        }
        octets.extend(ethertype);
        octets.extend(ip);
        octets.extend([kind, 0, 0, 0]);
        octets
    }

    #[test]
    fn what_concerns_all_is_told_from_the_rest() {
        let concerns_all = |frame: &[u8]| concern(frame) == Some(Concern::All);
        let mut v4 = [0; 20];
        (v4[0], v4[9]) = (0x45, 1);
        let mut options = [0; 24];
        (options[0], options[9]) = (0x46, 1);
        let mut v6 = [0; 40];
        (v6[0], v6[6]) = (0x60, 58);
        for tag in [false, true] {
            let four = |kind| concerns_all(&frame(tag, [8, 0], &v4, kind));
            assert!(four(3) && four(11) && four(12) && !four(0) && !four(8) && !four(13));
            assert!(concerns_all(&frame(tag, [8, 0], &options, 3)));
            let six = |kind| concerns_all(&frame(tag, [0x86, 0xdd], &v6, kind));
            assert!(six(1) && six(2) && six(4) && !six(128) && !six(129));
            assert!(six(134) && six(135) && six(136) && !six(133));
            let mut from = v6;
            from[8] = 0xfd;
            assert!(!concerns_all(&frame(tag, [0x86, 0xdd], &from, 135)), "who has it?");
            assert!(!concerns_all(&frame(tag, [8, 6], &v4, 3)));
            let mut tcp = v4;
            tcp[9] = 6;
            assert!(!concerns_all(&frame(tag, [8, 0], &tcp, 3)));
            let whole = frame(tag, [8, 0], &v4, 3);
            for len in 0..whole.len() - 4 {
                assert!(!concerns_all(&whole[..len]));
            }
        }
    }

    #[test]
    fn an_error_about_a_segment_goes_to_who_has_its_connection() {
        // 80 of ours and 40,000 of the peer's, behind options in one of them.
        let ports = [0, 80, 0x9c, 0x40, 1, 2, 3, 4];
        let (mut v4, mut v6) = ([0; 20], [0; 40]);
        (v4[0], v4[9]) = (0x45, 1);
        (v6[0], v6[6]) = (0x60, 58);
        let mut quote4 = [0; 24];
        (quote4[0], quote4[9]) = (0x46, 6);
        quote4[16..20].copy_from_slice(&[192, 0, 2, 1]);
        let mut quote6 = [0; 40];
        (quote6[0], quote6[6]) = (0x60, 6);
        quote6[24..].copy_from_slice(&[0x20; 16]);
        type Case<'a> = (&'a [u8], &'a [u8], [u8; 2], IpAddr);
        let cases: [Case<'_>; 2] = [
            (&v4, &quote4, [8, 0], [192, 0, 2, 1].into()),
            (&v6, &quote6, [0x86, 0xdd], [0x20; 16].into()),
        ];
        for (ip, quote, ethertype, peer) in cases {
            for tag in [false, true] {
                let mut octets = frame(tag, ethertype, ip, 3);
                octets.extend([0; 4]);
                octets.extend(quote);
                octets.extend(ports);
                let wanted = Concern::Connection(SocketAddr::new(peer, 40_000), 80);
                assert_eq!(concern(&octets), Some(wanted));
                // Cut short it is for all to look at, or for nobody.
                let least = octets.len() - 4;
                assert_eq!(concern(&octets[..least]), Some(wanted));
                assert_eq!(concern(&octets[..least - 1]), Some(Concern::All));
                (0..least).for_each(|len| assert_ne!(concern(&octets[..len]), Some(wanted)));
                // Another protocol's packet.
                let protocol =
                    octets.len() - ports.len() - quote.len() + if ip.len() == 20 { 9 } else { 6 };
                octets[protocol] = 17;
                assert_eq!(concern(&octets), Some(Concern::All));
            }
        }
    }
}
