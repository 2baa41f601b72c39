//! Which frames are ours: VLAN and destination address.

use crate::config::MacAddr;
use crate::frame::FrameMeta;
use crate::stats::Stats;
use crate::wire::ethernet::{self, Frame};
use crate::wire::vlan::{Tags, VlanStack};

/// Takes a frame that belongs to `vlan` and is for `mac` or a group; counts why not.
pub(crate) fn admit<'a>(
    mac: MacAddr,
    vlan: VlanStack,
    stats: &mut Stats,
    octets: &'a [u8],
    meta: &FrameMeta,
) -> Option<Frame<'a>> {
    let Ok(frame) = ethernet::parse(octets) else {
        stats.drop_malformed += 1;
        return None;
    };
    if !all_tags(meta, frame.tags).is_some_and(|tags| vlan.matches(&tags)) {
        stats.drop_vlan += 1;
        return None;
    }
    if frame.destination != mac && !frame.destination.is_group() {
        stats.drop_mac += 1;
        return None;
    }
    if frame.source.is_group() || frame.source == mac {
        stats.drop_malformed += 1;
        return None;
    }
    Some(frame)
}

/// The tags of a received frame, by which [`VlanStack::matches`] says whose it is where several stacks
/// share an interface; `None` if they are cut short, or three.
pub fn tags(octets: &[u8], meta: &FrameMeta) -> Option<Tags> {
    all_tags(meta, ethernet::parse(octets).ok()?.tags)
}

/// A stripped tag is the outer one; with two in line behind it there are three.
fn all_tags(meta: &FrameMeta, in_line: Tags) -> Option<Tags> {
    match (meta.vlan, in_line) {
        (None, in_line) => Some(in_line),
        (outer, Tags { outer: inner, inner: None }) => Some(Tags { outer, inner }),
        (Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::VlanTag;
    use crate::wire::ethernet::{ETHERTYPE_ARP, emit};
    use crate::wire::vlan::{TPID_8021AD, TPID_8021Q};

    const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn admitted(
        vlan: &str,
        stripped: Option<(u16, u16)>,
        inline: &[(u16, u16)],
        destination: MacAddr,
    ) -> Result<(), &'static str> {
        let tag = |(tpid, tci)| VlanTag { tpid, tci };
        let mut list = inline.iter().copied().map(tag);
        let tags = Tags { outer: list.next(), inner: list.next() };
        let mut octets = [0; 60];
        emit(&mut octets, destination, PEER, tags, ETHERTYPE_ARP);
        let meta = FrameMeta { vlan: stripped.map(tag), ..FrameMeta::default() };
        let (mut stats, vlan) = (Stats::default(), vlan.parse::<VlanStack>().unwrap());
        let admitted = match admit(US, vlan, &mut stats, &octets, &meta) {
            Some(_) => Ok(()),
            None => Err(stats.iter().find(|(_, count)| *count == 1).unwrap().0),
        };
        // Who chooses among several stacks comes to the same.
        let ours = super::tags(&octets, &meta).is_some_and(|tags| vlan.matches(&tags));
        assert_eq!(ours, admitted != Err("drop_vlan"));
        admitted
    }

    #[test]
    fn the_tag_decides_wherever_it_stands() {
        let (q, ad, other) = (TPID_8021Q, TPID_8021AD, Err("drop_vlan"));
        assert_eq!(admitted("123", Some((q, 123)), &[], US), Ok(()));
        assert_eq!(admitted("123", Some((q, 0xe000 | 123)), &[], US), Ok(()));
        assert_eq!(admitted("123", None, &[(q, 123)], US), Ok(()));
        assert_eq!(admitted("123", None, &[], US), other);
        assert_eq!(admitted("123", Some((q, 124)), &[], US), other);
        assert_eq!(admitted("123", Some((q, 123)), &[(q, 123)], US), other);
        assert_eq!(admitted("123", Some((ad, 123)), &[], US), other);
        assert_eq!(admitted("0", None, &[], US), Ok(()));
        assert_eq!(admitted("0", Some((q, 0)), &[], US), Ok(()));
        assert_eq!(admitted("0", None, &[(q, 0xa000)], US), Ok(()));
        assert_eq!(admitted("0", Some((q, 5)), &[], US), other);
    }

    #[test]
    fn two_tags_the_outer_one_stripped_or_not() {
        let (q, ad, other) = (TPID_8021Q, TPID_8021AD, Err("drop_vlan"));
        for outer in [(ad, 100), (q, 0x6000 | 100)] {
            assert_eq!(admitted("100.200", Some(outer), &[(q, 200)], US), Ok(()));
            assert_eq!(admitted("100.200", None, &[outer, (q, 200)], US), Ok(()));
            assert_eq!(admitted("100.200", Some(outer), &[], US), other);
            assert_eq!(admitted("100.200", Some(outer), &[(q, 200), (q, 200)], US), other);
        }
        assert_eq!(admitted("100.200", Some((q, 200)), &[(q, 100)], US), other);
    }

    #[test]
    fn only_our_unicast_and_groups() {
        assert_eq!(admitted("0", None, &[], MacAddr::BROADCAST), Ok(()));
        assert_eq!(admitted("0", None, &[], MacAddr([2, 0, 0, 0, 0, 9])), Err("drop_mac"));
    }
}
