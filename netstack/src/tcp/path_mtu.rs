//! The size of packets that a path carries: told by routers (RFC 1191, RFC 8201), as far as
//! they can be believed (RFC 5927), or found by what does not arrive (RFC 4821, RFC 8899).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::connection::{Connection, Context, Outcome, State};
use super::demux::FourTuple;
use super::sent::Fate;
use super::seq::SeqNum;
use super::{Env, Tcp};
use crate::entropy::Keys;
use crate::ip::icmp::IcmpError;
use crate::time::Instant;
use crate::wire::tcp::{HEADER_LEN, HEADER_LEN_TIMESTAMP};

/// Destinations remembered. An entry needs a segment in flight to that destination, so only
/// peers and routers of theirs make any.
const MAX_PATHS: usize = 1024;
/// RFC 1191 6.3, RFC 8899 5.1.1 (PMTU_RAISE_TIMER): what was learnt is forgotten after this.
const LIFETIME: Duration = Duration::from_secs(600);
/// No router is believed that its link carries less. IPv4 says 68 (RFC 791), which would make
/// each segment mostly header: as Linux (`min_pmtu`) we take what every host of today's
/// Internet is reached by. RFC 8200 5 says 1280.
const MIN_MTU_V4: u16 = 552;
const MIN_MTU_V6: u16 = 1280;
/// RFC 1191 7: sizes of links, for routers that do not say theirs.
const PLATEAUS: [u16; 8] = [8166, 4352, 2002, 1492, 1400, 1280, 1006, MIN_MTU_V4];
/// RFC 4821 7.7 (eff_pmtu base): what is tried where full segments vanish, as Linux
/// (`tcp_base_mss`): 1024 octets of text and the headers.
const BASE_MTU: u16 = 1024 + 40;
/// Timeouts one after another, without progress, that make a black hole likely.
const VANISHED: u8 = 3;

/// Octets of the IP and TCP headers without options.
fn overhead(tuple: &FourTuple) -> u16 {
    let ip = if tuple.remote.ip.is_ipv4() { 20 } else { 40 };
    ip + HEADER_LEN as u16
}

fn min_mtu(tuple: &FourTuple) -> u16 {
    if tuple.remote.ip.is_ipv4() { MIN_MTU_V4 } else { MIN_MTU_V6 }
}

/// What was learnt of paths, by destination.
#[derive(Debug)]
pub(crate) struct PathMtus {
    paths: HashMap<IpAddr, (u16, Instant), Keys>,
}

impl PathMtus {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { paths: HashMap::with_hasher(keys) }
    }

    /// The MTU of the path to a destination, if one was learnt.
    fn get(&self, destination: IpAddr, now: Instant) -> Option<u16> {
        // Mostly nothing was: then the hash is saved.
        if self.paths.is_empty() {
            return None;
        }
        self.paths.get(&destination).filter(|(_, until)| *until > now).map(|(mtu, _)| *mtu)
    }

    fn learn(&mut self, destination: IpAddr, mtu: u16, now: Instant) {
        if self.paths.len() >= MAX_PATHS && !self.paths.contains_key(&destination) {
            self.paths.retain(|_, (_, until)| *until > now);
            if self.paths.len() >= MAX_PATHS
                && let Some(oldest) =
                    self.paths.iter().min_by_key(|(_, (_, until))| *until).map(|(ip, _)| *ip)
            {
                self.paths.remove(&oldest);
            }
        }
        self.paths.insert(destination, (mtu, now + LIFETIME));
    }

    /// What a new connection may send in one segment without options, of the link's `mss`.
    pub(crate) fn mss(&self, tuple: &FourTuple, mss: u16, now: Instant) -> u16 {
        match self.get(tuple.remote.ip, now) {
            Some(mtu) => mss.min(mtu - overhead(tuple)),
            None => mss,
        }
    }
}

/// A connection whose segments were made smaller than its ends had agreed.
#[derive(Debug)]
pub(super) struct Narrowed {
    /// What they had agreed on, options taken off.
    ceiling: u32,
    /// When a larger size is tried again.
    raise_at: Instant,
    /// The size is a guess until something is acknowledged beyond this number.
    guessed: Option<SeqNum>,
    /// Other connections to this destination may profit from it.
    news: bool,
}

impl Tcp {
    /// An ICMP error of either family quotes a segment that may be ours.
    pub(crate) fn on_icmp(
        &mut self,
        env: &mut Env<'_>,
        tuple: &FourTuple,
        seq: SeqNum,
        error: IcmpError,
    ) {
        let in_flight = |connection: &&Connection| {
            // RFC 5927 4.1: who does not know what is in flight is not on the path.
            seq.at_or_after(connection.snd_una) && seq.before(connection.snd_nxt)
        };
        let id = self.find(tuple);
        let Some(connection) = id.and_then(|id| self.connections.get(id)).filter(in_flight) else {
            env.stats.tcp_icmp_ignored += 1;
            return;
        };
        let IcmpError::PacketTooBig { mtu } = error else {
            // RFC 5461 4, RFC 5927 5.2: no error ends a connection that is established, whether
            // RFC 1122 4.2.3.9 calls it soft or hard. The timers decide.
            env.stats.tcp_icmp_soft += 1;
            return;
        };
        let current = connection.packet_len();
        let mtu = match mtu {
            0 => PLATEAUS.into_iter().find(|plateau| *plateau < current).unwrap_or(MIN_MTU_V4),
            _ => u16::try_from(mtu).unwrap_or(u16::MAX),
        };
        let mtu = mtu.max(min_mtu(tuple));
        if mtu >= current {
            // RFC 1191 3: it must not be used to raise the size, and one that was sent before
            // the size was lowered says nothing new.
            env.stats.tcp_icmp_ignored += 1;
            return;
        }
        env.stats.tcp_path_mtu_lowered += 1;
        self.paths.learn(tuple.remote.ip, mtu, env.now);
        if let Some(id) = id {
            self.step(env, id, |connection, cx| {
                connection.narrow(cx, mtu, None);
                Outcome::Continue
            });
        }
    }

    /// Keeps what a connection has found of its path for the next ones.
    pub(super) fn publish_path(&mut self, tuple: &FourTuple, mtu: u16, now: Instant) {
        self.paths.learn(tuple.remote.ip, mtu, now);
    }
}

impl Connection {
    /// Octets of a full packet.
    fn packet_len(&self) -> u16 {
        self.mss as u16 + self.headers_len()
    }

    fn option_len(&self) -> u16 {
        if self.timestamps.is_some() { (HEADER_LEN_TIMESTAMP - HEADER_LEN) as u16 } else { 0 }
    }

    /// Sends no larger packets than `mtu`, and what is out in larger ones once more. No
    /// congestion dropped those: the window stays.
    fn narrow(&mut self, cx: &Context<'_>, mtu: u16, guessed: Option<SeqNum>) {
        let ceiling = self.narrowed.as_ref().map_or(self.mss, |narrowed| narrowed.ceiling);
        let raise_at = cx.now + LIFETIME;
        self.narrowed = Some(Box::new(Narrowed { ceiling, raise_at, guessed, news: false }));
        self.set_mss(mtu);
        self.sent.detect(|_| Fate::Lost, |_| {});
    }

    /// Whether no packet is larger than `mtu`, or will be once more is tried.
    pub(super) fn fits(&self, mtu: u16) -> bool {
        let ceiling = self.narrowed.as_ref().map_or(self.mss, |narrowed| narrowed.ceiling);
        ceiling.max(self.mss) + u32::from(self.headers_len()) <= mtu.into()
    }

    /// Makes packets fit our own link, which carries no larger ones than `mtu` any more. Unlike a
    /// path's, that size is known and not tried again.
    pub(super) fn fit(&mut self, mtu: u16) {
        let most = u32::from(mtu.saturating_sub(self.headers_len()));
        if let Some(narrowed) = &mut self.narrowed {
            narrowed.ceiling = narrowed.ceiling.min(most);
        }
        if self.mss > most {
            self.set_mss(mtu);
            self.sent.detect(|_| Fate::Lost, |_| {});
        }
    }

    fn headers_len(&self) -> u16 {
        self.option_len() + overhead(&self.tuple)
    }

    fn set_mss(&mut self, mtu: u16) {
        self.mss = u32::from(mtu - self.headers_len());
        self.congestion.set_mss(self.mss);
    }

    /// The retransmission timer has expired: where full segments vanish again and again a
    /// router may drop what is too big for it, and not say so (RFC 4821 7.7, RFC 8899 4.3).
    pub(super) fn suspect_black_hole(&mut self, cx: &mut Context<'_>) {
        let raised = self.narrowed.as_ref().is_some_and(|narrowed| narrowed.guessed.is_some());
        // A size that was raised to see whether it arrives has its answer at once.
        let patience = if raised && self.mss > u32::from(BASE_MTU) { 1 } else { VANISHED };
        let full = self.snd_nxt.octets_since(self.snd_una) >= self.mss;
        let current = self.packet_len();
        let floor = min_mtu(&self.tuple);
        if !full || self.rtt.backoff() < patience || current <= floor {
            return;
        }
        let mtu = if current > BASE_MTU.max(floor) { BASE_MTU.max(floor) } else { floor };
        cx.stats.tcp_black_hole += 1;
        self.narrow(cx, mtu, Some(self.snd_nxt));
    }

    /// Something was acknowledged on a path that was found narrow.
    pub(super) fn on_narrow_progress(&mut self, cx: &Context<'_>) {
        let Some(narrowed) = &mut self.narrowed else { return };
        if narrowed.guessed.is_some_and(|from| self.snd_una.after(from)) {
            // All that vanished has arrived in smaller segments: it was their size.
            narrowed.guessed = None;
            narrowed.news = true;
            if self.mss >= narrowed.ceiling {
                // And now the path carries what the ends had agreed on.
                self.narrowed = None;
                return;
            }
        }
        if cx.now >= narrowed.raise_at && self.state == State::Established {
            // RFC 8899 5.3: one step up, by the sizes that links have.
            let ceiling = narrowed.ceiling;
            narrowed.raise_at = cx.now + LIFETIME;
            narrowed.guessed = Some(self.snd_nxt);
            let most = ceiling as u16 + self.headers_len();
            let current = self.packet_len();
            let next = PLATEAUS.into_iter().rev().find(|plateau| *plateau > current);
            self.set_mss(next.map_or(most, |next| next.min(most)));
        }
    }

    /// The path's MTU, once it has proved to be what made segments vanish.
    pub(super) fn take_path_news(&mut self) -> Option<u16> {
        let news =
            self.narrowed.as_mut().is_some_and(|narrowed| std::mem::take(&mut narrowed.news));
        news.then(|| self.packet_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    #[test]
    fn paths_are_forgotten_and_bounded() {
        let mut paths = PathMtus::new(Keys::new([1; 16]));
        let tuple = FourTuple::for_test(1);
        assert_eq!(paths.mss(&tuple, 1460, at(0)), 1460);
        paths.learn(tuple.remote.ip, 1000, at(0));
        assert_eq!(paths.mss(&tuple, 1460, at(599)), 960);
        assert_eq!(paths.mss(&tuple, 500, at(599)), 500);
        assert_eq!(paths.mss(&tuple, 1460, at(600)), 1460);
        for i in 0..3000u32 {
            paths.learn(
                IpAddr::from((0x0b00_0000 + i).to_be_bytes()),
                1000,
                at(1 + u64::from(i / 10)),
            );
        }
        assert_eq!(paths.paths.len(), MAX_PATHS);
    }
}
