//! Which frames are ours: VLAN and destination address.

use crate::config::MacAddr;
use crate::frame::FrameMeta;
use crate::stats::Stats;
use crate::wire::ethernet::{self, Frame, TPID_8021Q};

/// The VLAN identifier of a Tag Control Information field.
const VID_MASK: u16 = 0x0fff;

/// Takes a frame that belongs to `vlan` and is for `mac` or a group; counts why not.
pub(crate) fn admit<'a>(
    mac: MacAddr,
    vlan: Option<u16>,
    stats: &mut Stats,
    octets: &'a [u8],
    meta: &FrameMeta,
) -> Option<Frame<'a>> {
    let Ok(frame) = ethernet::parse(octets) else {
        stats.drop_malformed += 1;
        return None;
    };
    // A stripped tag is the outer one; one in line behind it makes two, which is another VLAN.
    let tci = match (meta.vlan, frame.tci) {
        (None, inline) => inline,
        (Some(tag), None) if tag.tpid == TPID_8021Q => Some(tag.tci),
        (Some(_), _) => {
            stats.drop_vlan += 1;
            return None;
        }
    };
    // 802.1Q 6.9: VID 0 only carries a priority; the frame counts as untagged.
    let vid = tci.map(|tci| tci & VID_MASK).filter(|vid| *vid != 0);
    if vid != vlan {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::VlanTag;
    use crate::wire::ethernet::{ETHERTYPE_ARP, TPID_8021AD, emit};

    const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn admitted(
        vlan: Option<u16>,
        stripped: Option<(u16, u16)>,
        inline: Option<u16>,
        destination: MacAddr,
    ) -> Result<(), &'static str> {
        let mut octets = [0; 60];
        emit(&mut octets, destination, PEER, inline, ETHERTYPE_ARP);
        let vlan_tag = stripped.map(|(tpid, tci)| VlanTag { tpid, tci });
        let meta = FrameMeta { vlan: vlan_tag, ..FrameMeta::default() };
        let mut stats = Stats::default();
        match admit(US, vlan, &mut stats, &octets, &meta) {
            Some(_) => Ok(()),
            None => Err(stats.iter().find(|(_, count)| *count == 1).unwrap().0),
        }
    }

    #[test]
    fn the_tag_decides_wherever_it_stands() {
        let q = TPID_8021Q;
        assert_eq!(admitted(Some(123), Some((q, 123)), None, US), Ok(()));
        assert_eq!(admitted(Some(123), Some((q, 0xe000 | 123)), None, US), Ok(()));
        assert_eq!(admitted(Some(123), None, Some(123), US), Ok(()));
        assert_eq!(admitted(Some(123), None, None, US), Err("drop_vlan"));
        assert_eq!(admitted(Some(123), Some((q, 124)), None, US), Err("drop_vlan"));
        assert_eq!(admitted(Some(123), Some((q, 123)), Some(123), US), Err("drop_vlan"));
        assert_eq!(admitted(Some(123), Some((TPID_8021AD, 123)), None, US), Err("drop_vlan"));
        assert_eq!(admitted(None, None, None, US), Ok(()));
        assert_eq!(admitted(None, Some((q, 0)), None, US), Ok(()));
        assert_eq!(admitted(None, Some((q, 5)), None, US), Err("drop_vlan"));
    }

    #[test]
    fn only_our_unicast_and_groups() {
        assert_eq!(admitted(None, None, None, MacAddr::BROADCAST), Ok(()));
        assert_eq!(admitted(None, None, None, MacAddr([2, 0, 0, 0, 0, 9])), Err("drop_mac"));
    }
}
