//! IPv6 extension headers (RFC 8200 4), walked within bounds.

use etherparse::{Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};

use super::icmpv6::{PARAMETER_FIRST_FRAGMENT, PARAMETER_HEADER, PARAMETER_NEXT, PARAMETER_OPTION};
use super::ipv6::{HEADER_LEN, NEXT_ICMPV6, NEXT_TCP, Packet};

const HOP_BY_HOP: u8 = 0;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT: u8 = 59;
const DESTINATION: u8 = 60;
const OPTION_PAD1: u8 = 0;
const OPTION_PADN: u8 = 1;
/// A hop-by-hop option whose meaning is for routers (RFC 2711).
const OPTION_ROUTER_ALERT: u8 = 5;
/// Octets of a Fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// Extension headers that are walked, as many as RFC 8200 4.1 lists and one twice. Honest
/// packets have one or two; a longer chain only costs time (RFC 8504 5.3 allows the bound).
pub const MAX_HEADERS: usize = 7;
/// Octets of all extension headers together.
pub const MAX_OCTETS: usize = 512;
/// Options of one header (RFC 8504 5.3 suggests 8 other than padding).
pub const MAX_OPTIONS: usize = 8;

/// What was found behind the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper<'a> {
    /// The upper layer's protocol.
    pub protocol: u8,
    /// Its header and data.
    pub payload: &'a [u8],
    /// Where the field stands that names the protocol, counted from the packet's start.
    pub protocol_at: usize,
    /// A Router Alert option stood in a hop-by-hop header (RFC 2711).
    pub router_alert: bool,
    /// A Fragment header was among them, of a packet that is whole (RFC 6946).
    pub fragment_header: bool,
}

/// A part of a packet (RFC 8200 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Names the packet, with its addresses.
    pub identification: u32,
    /// What the first fragment's payload begins with.
    pub next_header: u8,
    /// Where the payload belongs in the original's, in octets.
    pub offset: usize,
    /// More fragments follow.
    pub more: bool,
    /// The octets.
    pub payload: &'a [u8],
}

/// What a chain of headers leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain<'a> {
    /// An upper layer.
    Upper(Upper<'a>),
    /// A fragment of a packet.
    Fragment(Fragment<'a>),
    /// RFC 8200 4.7: nothing, deliberately.
    Nothing,
}

/// Why a chain is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Cut short, or lengths that do not fit.
    Malformed,
    /// Beyond [`MAX_HEADERS`], [`MAX_OCTETS`] or [`MAX_OPTIONS`].
    TooLong,
    /// An option that asks for silence.
    Discard,
    /// The sender is to be told by a Parameter Problem.
    Problem(Problem),
}

/// A Parameter Problem that is due (RFC 4443 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The message's code.
    pub code: u8,
    /// The offending octet, counted from the packet's start.
    pub pointer: usize,
    /// Also about a packet to a group (RFC 8200 4.2, action 10).
    pub to_group: bool,
}

fn problem(code: u8, pointer: usize) -> Refusal {
    Refusal::Problem(Problem { code, pointer, to_group: false })
}

/// Walks a packet's extension headers.
pub fn walk<'a>(packet: &Packet<'a>) -> Result<Chain<'a>, Refusal> {
    walk_from(packet.octets, HEADER_LEN, packet.header.next_header, 6, false)
}

/// Walks the headers in the payload of a packet that was put together from fragments.
/// Offsets in it count from the start of that payload: there is no packet to point into.
pub fn walk_reassembled(next_header: u8, payload: &[u8]) -> Result<Chain<'_>, Refusal> {
    walk_from(payload, 0, next_header, 0, true)
}

fn walk_from(
    octets: &[u8],
    mut at: usize,
    mut next: u8,
    mut named_at: usize,
    reassembled: bool,
) -> Result<Chain<'_>, Refusal> {
    let start = at;
    let mut headers = 0;
    let mut router_alert = false;
    let mut fragment_header = false;
    loop {
        let rest = octets.get(at..).ok_or(Refusal::Malformed)?;
        match next {
            HOP_BY_HOP | DESTINATION | ROUTING | FRAGMENT => {}
            NO_NEXT => return Ok(Chain::Nothing),
            protocol => {
                return Ok(Chain::Upper(Upper {
                    protocol,
                    payload: rest,
                    protocol_at: named_at,
                    router_alert,
                    fragment_header,
                }));
            }
        }
        headers += 1;
        if headers > MAX_HEADERS {
            return Err(Refusal::TooLong);
        }
        if next == FRAGMENT {
            let slice =
                Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| Refusal::Malformed)?;
            let offset = usize::from(slice.fragment_offset().value()) * 8;
            let more = slice.more_fragments();
            let payload = &rest[FRAGMENT_HEADER_LEN..];
            // RFC 6946: offset 0 and no more is a whole packet, whatever waits under its
            // identification. A fragment inside of a reassembled packet is nobody's.
            if offset == 0 && !more {
                fragment_header = true;
                next = slice.next_header().0;
                named_at = at;
                at += FRAGMENT_HEADER_LEN;
                continue;
            }
            if reassembled {
                return Err(Refusal::Malformed);
            }
            // RFC 8200 4.5: all but the last are of whole units, and none ends beyond what a
            // payload length can say.
            if more && !payload.len().is_multiple_of(8) {
                return Err(problem(PARAMETER_HEADER, 4));
            }
            if offset + payload.len() > usize::from(u16::MAX) {
                return Err(problem(PARAMETER_HEADER, at + 2));
            }
            let next_header = slice.next_header().0;
            if offset == 0 && !is_chain_complete(next_header, payload) {
                // RFC 7112: who is asked to judge by a first fragment must see all headers.
                return Err(problem(PARAMETER_FIRST_FRAGMENT, 0));
            }
            let identification = slice.identification();
            return Ok(Chain::Fragment(Fragment {
                identification,
                next_header,
                offset,
                more,
                payload,
            }));
        }
        if next == HOP_BY_HOP && (headers > 1 || reassembled) {
            // RFC 8200 4: it may only stand first; elsewhere it is a header unknown to us.
            return Err(problem(PARAMETER_NEXT, named_at));
        }
        let slice = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| Refusal::Malformed)?;
        let header = slice.slice();
        if next == ROUTING {
            // RFC 5095: type 0 like any other that is not known: skipped where it has nothing
            // left to do, refused where it has.
            if header[3] != 0 {
                return Err(problem(PARAMETER_HEADER, at + 2));
            }
        } else {
            let alert = check_options(&header[2..], at + 2)?;
            router_alert |= alert && next == HOP_BY_HOP;
        }
        next = slice.next_header().0;
        named_at = at;
        at += header.len();
        if at - start > MAX_OCTETS {
            return Err(Refusal::TooLong);
        }
    }
}

/// Options are type, length, data; those that are not known say in the two highest bits of
/// their type what is to be done (RFC 8200 4.2). Whether there is a Router Alert.
fn check_options(options: &[u8], start: usize) -> Result<bool, Refusal> {
    let mut router_alert = false;
    let mut at = 0;
    let mut count = 0;
    while let Some(&kind) = options.get(at) {
        if kind == OPTION_PAD1 {
            at += 1;
            continue;
        }
        let length = usize::from(*options.get(at + 1).ok_or(Refusal::Malformed)?);
        if at + 2 + length > options.len() {
            return Err(Refusal::Malformed);
        }
        if kind != OPTION_PADN {
            count += 1;
            if count > MAX_OPTIONS {
                return Err(Refusal::TooLong);
            }
        }
        router_alert |= kind == OPTION_ROUTER_ALERT;
        if !matches!(kind, OPTION_PADN | OPTION_ROUTER_ALERT) {
            let to_group = match kind >> 6 {
                0 => None,
                1 => return Err(Refusal::Discard),
                2 => Some(true),
                _ => Some(false),
            };
            if let Some(to_group) = to_group {
                let pointer = start + at;
                return Err(Refusal::Problem(Problem {
                    code: PARAMETER_OPTION,
                    pointer,
                    to_group,
                }));
            }
        }
        at += 2 + length;
    }
    Ok(router_alert)
}

/// Whether a first fragment's payload reaches to the end of the upper layer's header.
fn is_chain_complete(next_header: u8, payload: &[u8]) -> bool {
    upper_of_quote(next_header, payload).is_some_and(|(upper, rest)| {
        let needed = match upper {
            NEXT_TCP => rest.get(12).map_or(20, |offset| usize::from(offset >> 4) * 4),
            NEXT_ICMPV6 => 4,
            UDP => 8,
            _ => 0,
        };
        rest.len() >= needed
    })
}

/// The upper layer's protocol and what there is of it, in a packet that need not be whole and
/// is not judged.
pub fn upper_of_quote(next_header: u8, payload: &[u8]) -> Option<(u8, &[u8])> {
    let (mut next, mut rest) = (next_header, payload);
    for _ in 0..=MAX_HEADERS {
        match next {
            HOP_BY_HOP | DESTINATION | ROUTING => {
                let slice = Ipv6RawExtHeaderSlice::from_slice(rest).ok()?;
                next = slice.next_header().0;
                rest = &rest[slice.slice().len()..];
            }
            FRAGMENT => {
                let slice = Ipv6FragmentHeaderSlice::from_slice(rest).ok()?;
                if slice.fragment_offset().value() != 0 {
                    return None;
                }
                next = slice.next_header().0;
                rest = &rest[FRAGMENT_HEADER_LEN..];
            }
            _ => return Some((next, rest)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::super::ipv6::{Header, emit, parse};
    use super::*;

    /// A packet of these extension headers, each `(its own number, its octets but for the
    /// first)`, and a payload of protocol 6.
    fn packet(extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (index, (_, octets)) in extensions.iter().enumerate() {
            body.push(extensions.get(index + 1).map_or(NEXT_TCP, |(number, _)| *number));
            body.extend_from_slice(octets);
        }
        body.extend_from_slice(payload);
        let header = Header {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
            next_header: extensions.first().map_or(NEXT_TCP, |(number, _)| *number),
            hop_limit: 64,
            flow_label: 0,
        };
        let mut packet = vec![0; HEADER_LEN];
        emit(&mut packet, &header, body.len());
        packet.extend(body);
        packet
    }

    fn walked(extensions: &[(u8, &[u8])]) -> Result<usize, Refusal> {
        let octets = packet(extensions, &[9; 20]);
        match walk(&parse(&octets).unwrap())? {
            Chain::Upper(upper) => {
                assert_eq!((upper.protocol, upper.payload), (NEXT_TCP, &[9; 20][..]));
                Ok(upper.protocol_at)
            }
            other => panic!("{other:?}"),
        }
    }

    fn refused(code: u8, pointer: usize) -> Result<usize, Refusal> {
        Err(problem(code, pointer))
    }

    const PADDED: &[u8] = &[0, 1, 4, 0, 0, 0, 0];

    #[test]
    fn known_headers_are_skipped_in_any_number_within_bounds() {
        assert_eq!(walked(&[]), Ok(6));
        assert_eq!(walked(&[(HOP_BY_HOP, PADDED), (DESTINATION, PADDED)]), Ok(48));
        assert_eq!(walked(&[(DESTINATION, PADDED); MAX_HEADERS]), Ok(40 + 8 * 6));
        assert_eq!(walked(&[(DESTINATION, PADDED); MAX_HEADERS + 1]), Err(Refusal::TooLong));
        // 33 units of eight octets, of PadN, twice.
        let mut large = vec![32, 1, 255];
        large.resize(2 + 2 + 255 - 1, 0);
        large.extend([1, 2, 0, 0, 0]);
        assert_eq!(large.len() % 8, 7);
        assert_eq!(walked(&[(DESTINATION, &large)]), Ok(40));
        assert_eq!(walked(&[(DESTINATION, &large[..]); 2]), Err(Refusal::TooLong));
    }

    #[test]
    fn hop_by_hop_stands_first_or_is_unknown() {
        let late = walked(&[(DESTINATION, PADDED), (HOP_BY_HOP, PADDED)]);
        assert_eq!(late, refused(PARAMETER_NEXT, 40));
    }

    #[test]
    fn a_routing_header_with_segments_left_is_refused_whatever_its_type() {
        assert_eq!(walked(&[(ROUTING, &[0, 0, 0, 0, 0, 0, 0])]), Ok(40));
        assert_eq!(walked(&[(ROUTING, &[0, 0, 1, 0, 0, 0, 0])]), refused(PARAMETER_HEADER, 42));
        assert_eq!(walked(&[(ROUTING, &[0, 4, 1, 0, 0, 0, 0])]), refused(PARAMETER_HEADER, 42));
    }

    #[test]
    fn unknown_options_do_what_their_bits_say() {
        let option = |kind: u8| walked(&[(DESTINATION, &[0, kind, 4, 0, 0, 0, 0])]);
        assert_eq!(option(0x1e), Ok(40));
        assert_eq!(option(0x5e), Err(Refusal::Discard));
        let told = |to_group| Problem { code: PARAMETER_OPTION, pointer: 42, to_group };
        assert_eq!(option(0x9e), Err(Refusal::Problem(told(true))));
        assert_eq!(option(0xde), Err(Refusal::Problem(told(false))));
        let beyond = walked(&[(DESTINATION, &[0, 1, 5, 0, 0, 0, 0])]);
        assert_eq!(beyond, Err(Refusal::Malformed));
        let many = [1, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0];
        assert_eq!(walked(&[(DESTINATION, &many)]), Ok(40));
        let more = [&[2], &many[1..], &[0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0]].concat();
        assert_eq!(walked(&[(DESTINATION, &more)]), Err(Refusal::TooLong));
    }

    #[test]
    fn atomic_fragments_are_whole_packets() {
        assert_eq!(walked(&[(FRAGMENT, &[0, 0, 0, 1, 2, 3, 4])]), Ok(40));
    }

    fn fragment(offset_and_more: u16, payload: &[u8]) -> Result<(usize, bool, u32), Refusal> {
        let [a, b] = offset_and_more.to_be_bytes();
        let octets = packet(&[(FRAGMENT, &[0, a, b, 1, 2, 3, 4])], payload);
        match walk(&parse(&octets).unwrap())? {
            Chain::Fragment(fragment) => {
                assert_eq!((fragment.payload, fragment.next_header), (payload, NEXT_TCP));
                Ok((fragment.offset, fragment.more, fragment.identification))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fragments_are_whole_units_within_64_kibioctets_and_the_first_has_all_headers() {
        let mut first = [0; 24];
        first[12] = 0x60;
        assert_eq!(fragment(1, &first), Ok((0, true, 0x0102_0304)));
        assert_eq!(fragment(64, &[0; 5]), Ok((64, false, 0x0102_0304)));
        assert_eq!(fragment(65, &[0; 5]), Err(problem(PARAMETER_HEADER, 4)));
        assert_eq!(fragment(0xfff8, &[0; 8]), Err(problem(PARAMETER_HEADER, 42)));
        // RFC 7112: a TCP header that says 28 octets.
        first[12] = 0x70;
        assert_eq!(fragment(1, &first), Err(problem(PARAMETER_FIRST_FRAGMENT, 0)));
        assert_eq!(fragment(1, &first[..16]), Err(problem(PARAMETER_FIRST_FRAGMENT, 0)));
    }

    #[test]
    fn a_chain_that_is_cut_off_is_malformed() {
        let octets = packet(&[(DESTINATION, PADDED), (FRAGMENT, &[0, 0, 0, 1, 2, 3, 4])], &[]);
        for length in HEADER_LEN + 1..HEADER_LEN + 16 {
            let mut cut = octets[..length].to_vec();
            cut[5] = (length - HEADER_LEN) as u8;
            assert_eq!(walk(&parse(&cut).unwrap()), Err(Refusal::Malformed), "{length}");
        }
    }
}
