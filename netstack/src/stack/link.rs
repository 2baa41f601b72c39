//! What becomes of the link below the stack: down and up, another hardware address, another MTU.

use super::{MIN_MTU, Stack, ipv6};
use crate::config::MacAddr;
use crate::tcp::{Env, LinkMss};
use crate::time::Instant;
use crate::wire::ipv6::MIN_MTU as MIN_MTU_V6;
use crate::wire::{ipv4, tcp as wire_tcp};

/// RFC 9293 3.7.1: MTU less the headers without options.
pub(super) fn mss_v4(mtu: usize) -> u16 {
    (mtu - ipv4::HEADER_LEN - wire_tcp::HEADER_LEN) as u16
}

impl Stack {
    /// The interface went down or came back. While it is down nothing is given out to be
    /// sent; when it comes back the addresses are announced, or probed for, anew.
    pub fn set_link(&mut self, now: Instant, up: bool) {
        if up != self.link_up {
            self.claims_link(now, up);
        }
        if up && !self.link_up && !self.passive {
            self.restart_v6(now);
        }
        self.link_up = up;
    }

    /// The interface has another hardware address. What is announced or probed for when a link comes
    /// back is so now, lest neighbours send to the old one; our IP addresses stay as they are.
    pub fn set_mac(&mut self, now: Instant, mac: MacAddr) {
        if mac == self.mac {
            return;
        }
        self.mac = mac;
        if let Some(ipv6) = &mut self.ipv6 {
            ipv6.set_mac(mac);
        }
        if self.link_up {
            self.set_link(now, false);
            self.set_link(now, true);
        }
    }

    /// The link carries packets of so many octets now, 68 at the least, and with IPv6 1280. Where that is
    /// less than before, connections send smaller segments from now on, for good, and what is out in
    /// larger ones once more; where it is more, connections that begin from now on profit.
    pub fn set_mtu(&mut self, now: Instant, mtu: u16) {
        let least = if self.ipv6.is_some() { MIN_MTU_V6 } else { MIN_MTU.into() };
        self.mtu = usize::from(mtu).max(least);
        if let Some(ipv6) = &mut self.ipv6 {
            ipv6.set_link_mtu(self.mtu);
        }
        let mss = LinkMss { v4: mss_v4(self.mtu), v6: ipv6::mss(self.mtu_v6()) };
        let mut env = Env::new(now, &mut self.outbox, &mut self.stats);
        self.tcp.set_link_mtu(&mut env, mss, self.mtu as u16);
    }

    /// The largest packet that is sent, in octets.
    pub fn mtu(&self) -> u16 {
        self.mtu as u16
    }
}
