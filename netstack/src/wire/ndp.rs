//! Neighbour discovery's messages (RFC 4861 4): the part behind the ICMPv6 header's four
//! octets. Who may send them, and with which hop limit, is not looked at here.

use std::net::Ipv6Addr;

use super::WireError;
use crate::config::{Ipv6Cidr, MacAddr};

/// Router Solicitation.
pub const TYPE_ROUTER_SOLICITATION: u8 = 133;
/// Router Advertisement.
pub const TYPE_ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbor Solicitation.
pub const TYPE_SOLICITATION: u8 = 135;
/// Neighbor Advertisement.
pub const TYPE_ADVERTISEMENT: u8 = 136;
/// Redirect.
pub const TYPE_REDIRECT: u8 = 137;

const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
const OPTION_PREFIX: u8 = 3;
const OPTION_MTU: u8 = 5;
const OPTION_NONCE: u8 = 14;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;
const FLAG_ON_LINK: u8 = 0x80;
const FLAG_AUTONOMOUS: u8 = 0x40;

/// Names one solicitation of ours, to know it again if it comes back (RFC 7527).
pub type Nonce = [u8; 6];

/// "Who has the target?"
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The address that is asked for.
    pub target: Ipv6Addr,
    /// The asker's own link-layer address.
    pub source_mac: Option<MacAddr>,
    /// RFC 7527's nonce, if it has six octets.
    pub nonce: Option<Nonce>,
}

/// "The target is here."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The sender routes.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It overrides what is cached.
    pub override_cached: bool,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// Where the target is.
    pub target_mac: Option<MacAddr>,
}

/// RFC 4191 2.1: how much a router wants to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// If there is no other.
    Low,
    /// As any.
    Medium,
    /// Before others.
    High,
}

/// A router's words about itself and the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterAdvertisement<'a> {
    /// Hop limit for hosts to use; 0: not stated.
    pub hop_limit: u8,
    /// How long it is a default router, in seconds; 0: it is none.
    pub lifetime: u16,
    /// Among several.
    pub preference: Preference,
    /// Its own link-layer address.
    pub source_mac: Option<MacAddr>,
    /// MTU of the link, in octets.
    pub mtu: Option<u32>,
    options: &'a [u8],
}

/// A prefix of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The prefix; what stands behind it is of no meaning.
    pub prefix: Ipv6Cidr,
    /// Its addresses are reached without a router.
    pub on_link: bool,
    /// Addresses may be formed from it.
    pub autonomous: bool,
    /// Seconds; `u32::MAX` for ever.
    pub valid: u32,
    /// Seconds; `u32::MAX` for ever.
    pub preferred: u32,
}

impl RouterAdvertisement<'_> {
    /// The prefix information options.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        Options(self.options).filter_map(|(kind, body)| {
            // Length 4: 30 octets behind type and length.
            let body: &[u8; 30] = body.try_into().ok()?;
            let word = |at: usize| {
                u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]])
            };
            (kind == OPTION_PREFIX && body[0] <= 128).then(|| Prefix {
                prefix: Ipv6Cidr { address: address(&body[14..]), prefix: body[0] },
                on_link: body[1] & FLAG_ON_LINK != 0,
                autonomous: body[1] & FLAG_AUTONOMOUS != 0,
                valid: word(2),
                preferred: word(6),
            })
        })
    }
}

/// The first 16 octets of `octets`, which has them, as an address.
fn address(octets: &[u8]) -> Ipv6Addr {
    octets.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets))
}

/// Options whose lengths have been checked: kind and what follows the length.
#[derive(Clone, Copy)]
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, units], _) = self.0.split_first_chunk::<2>()?;
        let (option, rest) = self.0.split_at_checked(usize::from(units) * 8)?;
        self.0 = rest;
        Some((kind, option.get(2..)?))
    }
}

impl<'a> Options<'a> {
    /// RFC 4861 4.6: a length of 0, or one beyond the end, refuses the whole message.
    fn check(octets: &'a [u8]) -> Result<Self, WireError> {
        let mut rest = octets;
        while !rest.is_empty() {
            let units = usize::from(*rest.get(1).ok_or(WireError::Malformed)?);
            if units == 0 {
                return Err(WireError::Malformed);
            }
            rest = rest.get(units * 8..).ok_or(WireError::Malformed)?;
        }
        Ok(Self(octets))
    }

    fn find<const N: usize>(self, wanted: u8) -> Option<[u8; N]> {
        let mut found = self.filter(|(kind, body)| *kind == wanted && body.len() == N);
        found.next().and_then(|(_, body)| body.try_into().ok())
    }
}

/// Reads a solicitation; `octets` is the whole ICMPv6 message.
pub fn parse_solicitation(octets: &[u8]) -> Result<Solicitation, WireError> {
    let (fixed, options) = octets.split_at_checked(24).ok_or(WireError::Malformed)?;
    let options = Options::check(options)?;
    Ok(Solicitation {
        target: address(&fixed[8..]),
        source_mac: options.find(OPTION_SOURCE).map(MacAddr),
        nonce: options.find(OPTION_NONCE),
    })
}

/// Reads an advertisement; `octets` is the whole ICMPv6 message.
pub fn parse_advertisement(octets: &[u8]) -> Result<Advertisement, WireError> {
    let (fixed, options) = octets.split_at_checked(24).ok_or(WireError::Malformed)?;
    let options = Options::check(options)?;
    Ok(Advertisement {
        router: fixed[4] & FLAG_ROUTER != 0,
        solicited: fixed[4] & FLAG_SOLICITED != 0,
        override_cached: fixed[4] & FLAG_OVERRIDE != 0,
        target: address(&fixed[8..]),
        target_mac: options.find(OPTION_TARGET).map(MacAddr),
    })
}

/// Reads a router's advertisement; `octets` is the whole ICMPv6 message.
pub fn parse_router_advertisement(octets: &[u8]) -> Result<RouterAdvertisement<'_>, WireError> {
    let (fixed, octets) = octets.split_at_checked(16).ok_or(WireError::Malformed)?;
    let options = Options::check(octets)?;
    let mtu: Option<[u8; 6]> = options.find(OPTION_MTU);
    Ok(RouterAdvertisement {
        hop_limit: fixed[4],
        lifetime: u16::from_be_bytes([fixed[6], fixed[7]]),
        // RFC 4191 2.2: the reserved value is medium.
        preference: match fixed[5] >> 3 & 3 {
            1 => Preference::High,
            3 => Preference::Low,
            _ => Preference::Medium,
        },
        source_mac: options.find(OPTION_SOURCE).map(MacAddr),
        mtu: mtu.map(|[_, _, a, b, c, d]| u32::from_be_bytes([a, b, c, d])),
        options: octets,
    })
}

fn push_mac(message: &mut Vec<u8>, kind: u8, mac: Option<MacAddr>) {
    if let Some(MacAddr(mac)) = mac {
        message.extend([kind, 1]);
        message.extend(mac);
    }
}

/// A solicitation as an ICMPv6 message, not sealed.
pub fn make_solicitation(solicitation: &Solicitation) -> Vec<u8> {
    let mut message = vec![TYPE_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(solicitation.target.octets());
    push_mac(&mut message, OPTION_SOURCE, solicitation.source_mac);
    if let Some(nonce) = solicitation.nonce {
        message.extend([OPTION_NONCE, 1]);
        message.extend(nonce);
    }
    message
}

/// An advertisement as an ICMPv6 message, not sealed.
pub fn make_advertisement(advertisement: &Advertisement) -> Vec<u8> {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(advertisement.router, FLAG_ROUTER)
        | flag(advertisement.solicited, FLAG_SOLICITED)
        | flag(advertisement.override_cached, FLAG_OVERRIDE);
    let mut message = vec![TYPE_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(advertisement.target.octets());
    push_mac(&mut message, OPTION_TARGET, advertisement.target_mac);
    message
}

/// A router solicitation as an ICMPv6 message, not sealed.
pub fn make_router_solicitation(source_mac: Option<MacAddr>) -> Vec<u8> {
    let mut message = vec![TYPE_ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    push_mac(&mut message, OPTION_SOURCE, source_mac);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    #[test]
    fn solicitations_and_advertisements_are_read_back() {
        for source_mac in [None, Some(MAC)] {
            for nonce in [None, Some([1, 2, 3, 4, 5, 6])] {
                let solicitation = Solicitation { target: TARGET, source_mac, nonce };
                assert_eq!(parse_solicitation(&make_solicitation(&solicitation)), Ok(solicitation));
            }
        }
        for bits in 0..8 {
            let advertisement = Advertisement {
                router: bits & 1 != 0,
                solicited: bits & 2 != 0,
                override_cached: bits & 4 != 0,
                target: TARGET,
                target_mac: Some(MAC),
            };
            let message = make_advertisement(&advertisement);
            assert_eq!(parse_advertisement(&message), Ok(advertisement));
        }
    }

    #[test]
    fn an_option_without_length_or_cut_short_refuses_the_message() {
        let solicitation = Solicitation { target: TARGET, source_mac: Some(MAC), nonce: None };
        let mut message = make_solicitation(&solicitation);
        assert_eq!(parse_solicitation(&message[..31]), Err(WireError::Malformed));
        assert_eq!(parse_solicitation(&message[..23]), Err(WireError::Malformed));
        message[25] = 0;
        assert_eq!(parse_solicitation(&message), Err(WireError::Malformed));
        message[25] = 2;
        assert_eq!(parse_solicitation(&message), Err(WireError::Malformed));
    }

    #[test]
    fn a_router_advertisement_with_everything() {
        let mut message = vec![134, 0, 0, 0, 32, 0x08, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        message.extend([1, 1, 2, 0, 0, 0, 0, 9]);
        message.extend([5, 1, 0, 0, 0, 0, 0x05, 0xdc]);
        // RDNSS, of no use to a server, is skipped.
        message.extend([25, 1, 0, 0, 0, 0, 0, 0]);
        message.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x07, 0x08, 0, 0, 0, 0]);
        message.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).octets());
        let advertisement = parse_router_advertisement(&message).unwrap();
        assert_eq!((advertisement.hop_limit, advertisement.lifetime), (32, 1800));
        assert_eq!(advertisement.preference, Preference::High);
        assert_eq!((advertisement.source_mac, advertisement.mtu), (Some(MAC), Some(1500)));
        let prefixes: Vec<_> = advertisement.prefixes().collect();
        let [prefix] = prefixes[..] else { panic!("{prefixes:?}") };
        assert!(prefix.on_link && prefix.autonomous);
        assert_eq!((prefix.valid, prefix.preferred, prefix.prefix.prefix), (3600, 1800, 64));
        assert_eq!(prefix.prefix.address.to_string(), "2001:db8::");
        assert!(Preference::Low < Preference::Medium && Preference::Medium < Preference::High);
    }
}
