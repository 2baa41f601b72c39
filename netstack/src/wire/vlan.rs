//! 802.1Q and 802.1ad tags: which VLAN a stack lives in, and the tags that a frame carries.

use std::fmt;
use std::str::FromStr;

use crate::frame::VlanTag;

/// Octets of a tag.
pub const TAG_LEN: usize = 4;
/// Tag Protocol Identifier of 802.1Q (a C-tag).
pub const TPID_8021Q: u16 = 0x8100;
/// Tag Protocol Identifier of 802.1ad (an S-tag, the outer one of two).
pub const TPID_8021AD: u16 = 0x88a8;
/// The VLAN identifier of a Tag Control Information field.
const VID_MASK: u16 = 0x0fff;
/// The highest identifier of a VLAN; 4095 is reserved (802.1Q table 9-2).
const MAX_VID: u16 = 4094;
/// Where the priority (PCP) stands in a Tag Control Information field.
const PCP_SHIFT: u32 = 13;

impl VlanTag {
    /// The VLAN identifier; 0 if the tag carries only a priority.
    pub const fn vid(self) -> u16 {
        self.tci & VID_MASK
    }
}

/// The VLAN that a stack lives in: none, one 802.1Q tag, or an 802.1ad S-tag with a C-tag
/// behind it.
///
/// As text: `0` for untagged, `123` for one tag, `100.200` for S-tag 100 and C-tag 200.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VlanStack {
    /// 0: untagged.
    outer: u16,
    /// 0: no second tag.
    inner: u16,
}

impl VlanStack {
    /// No tag.
    pub const UNTAGGED: Self = Self { outer: 0, inner: 0 };

    /// One 802.1Q tag; `None` if `vid` is not within 1 to 4094.
    pub const fn tagged(vid: u16) -> Option<Self> {
        if is_vid(vid) { Some(Self { outer: vid, inner: 0 }) } else { None }
    }

    /// An 802.1ad S-tag and a C-tag; `None` if either is not within 1 to 4094.
    pub const fn stacked(outer: u16, inner: u16) -> Option<Self> {
        if is_vid(outer) && is_vid(inner) { Some(Self { outer, inner }) } else { None }
    }

    /// The identifier in the only or outer tag: the one that a driver may find stripped.
    pub fn outer(self) -> Option<u16> {
        (self.outer != 0).then_some(self.outer)
    }

    /// The identifier in the second tag.
    pub fn inner(self) -> Option<u16> {
        (self.inner != 0).then_some(self.inner)
    }

    /// Whether a frame with these tags belongs here.
    ///
    /// An S-tag is taken with 802.1Q's TPID as well: many switches stack those.
    pub fn matches(self, tags: &Tags) -> bool {
        match (tags.outer, tags.inner) {
            (None, _) => self == Self::UNTAGGED,
            // 802.1Q 6.9: VID 0 only carries a priority; the frame counts as untagged.
            (Some(tag), None) => {
                tag.tpid == TPID_8021Q && tag.vid() == self.outer && self.inner == 0
            }
            (Some(outer), Some(inner)) => {
                self.inner != 0
                    && matches!(outer.tpid, TPID_8021Q | TPID_8021AD)
                    && inner.tpid == TPID_8021Q
                    && (outer.vid(), inner.vid()) == (self.outer, self.inner)
            }
        }
    }

    /// The tags of a frame that is sent with priority `pcp` (0 to 7; its low three bits count),
    /// which all of them carry. Untagged with a priority is a tag with VID 0 (802.1Q 6.9).
    pub fn tags(self, pcp: u8) -> Tags {
        let priority = u16::from(pcp & 7) << PCP_SHIFT;
        let tag = |tpid, vid| Some(VlanTag { tpid, tci: priority | vid });
        match (self.outer, self.inner) {
            (0, _) if priority == 0 => Tags::default(),
            (vid, 0) => Tags { outer: tag(TPID_8021Q, vid), inner: None },
            (outer, inner) => {
                Tags { outer: tag(TPID_8021AD, outer), inner: tag(TPID_8021Q, inner) }
            }
        }
    }
}

const fn is_vid(vid: u16) -> bool {
    0 < vid && vid <= MAX_VID
}

impl fmt::Display for VlanStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner {
            0 => write!(f, "{}", self.outer),
            inner => write!(f, "{}.{inner}", self.outer),
        }
    }
}

/// A text that is no [`VlanStack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseVlanError;

impl fmt::Display for ParseVlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no VLAN: use an ID of 1 to 4094, two as S-tag.C-tag (100.200), \
             or 0 for untagged frames",
        )
    }
}

impl std::error::Error for ParseVlanError {}

impl FromStr for VlanStack {
    type Err = ParseVlanError;

    fn from_str(text: &str) -> Result<Self, ParseVlanError> {
        // u16's own parser would take "+5".
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(ParseVlanError)
        };
        match text.split_once('.') {
            Some((outer, inner)) => Self::stacked(number(outer)?, number(inner)?),
            None => match number(text)? {
                0 => Some(Self::UNTAGGED),
                vid => Self::tagged(vid),
            },
        }
        .ok_or(ParseVlanError)
    }
}

/// The tags of one frame; without an outer one there is no inner one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The first after the addresses.
    pub outer: Option<VlanTag>,
    /// The one behind it.
    pub inner: Option<VlanTag>,
}

impl Tags {
    /// All of them, outer first.
    pub fn iter(&self) -> impl Iterator<Item = VlanTag> {
        self.outer.into_iter().chain(self.inner)
    }
}

/// As sent with priority 0.
impl From<VlanStack> for Tags {
    fn from(vlan: VlanStack) -> Self {
        vlan.tags(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(list: &[(u16, u16)]) -> Tags {
        let mut list = list.iter().map(|&(tpid, tci)| VlanTag { tpid, tci });
        Tags { outer: list.next(), inner: list.next() }
    }

    #[test]
    fn texts_are_read_back_and_nothing_else_is_read() {
        for text in ["0", "1", "123", "4094", "100.200", "1.4094"] {
            assert_eq!(text.parse::<VlanStack>().unwrap().to_string(), text);
        }
        assert_eq!("0".parse(), Ok(VlanStack::UNTAGGED));
        assert_eq!("100.200".parse().ok(), VlanStack::stacked(100, 200));
        for text in
            ["", "4095", "65536", "-1", "+5", "blue", "1.", ".1", "1.0", "0.1", "1.2.3", "1 "]
        {
            assert_eq!(text.parse::<VlanStack>(), Err(ParseVlanError), "{text:?}");
        }
    }

    #[test]
    fn what_is_sent_is_accepted_back_with_every_priority() {
        for text in ["0", "7", "4094", "100.200"] {
            let vlan: VlanStack = text.parse().unwrap();
            for pcp in 0..8 {
                let tags = vlan.tags(pcp);
                assert!(vlan.matches(&tags), "{text} {pcp}");
                assert!(tags.iter().all(|tag| tag.tci >> PCP_SHIFT == u16::from(pcp)));
            }
        }
        assert_eq!(VlanStack::UNTAGGED.tags(0), Tags::default());
        assert_eq!(VlanStack::UNTAGGED.tags(3), tags(&[(TPID_8021Q, 0x6000)]));
        let both = [(TPID_8021AD, 0xe064), (TPID_8021Q, 0xe0c8)];
        assert_eq!(VlanStack::stacked(100, 200).unwrap().tags(7), tags(&both));
    }

    #[test]
    fn one_tag_or_two_and_in_that_order() {
        let (q, ad) = (TPID_8021Q, TPID_8021AD);
        let stacked = VlanStack::stacked(100, 200).unwrap();
        assert!(stacked.matches(&tags(&[(ad, 100), (q, 200)])));
        assert!(stacked.matches(&tags(&[(q, 100), (q, 200)])));
        for other in [
            &[(ad, 200), (q, 100)][..],
            &[(ad, 100), (ad, 200)],
            &[(ad, 100), (q, 0)],
            &[(ad, 0), (q, 200)],
            &[(0x9100, 100), (q, 200)],
            &[(ad, 100)],
            &[(q, 200)],
            &[],
        ] {
            assert!(!stacked.matches(&tags(other)), "{other:?}");
        }
        let single = VlanStack::tagged(100).unwrap();
        for other in [&[(ad, 100)][..], &[(q, 100), (q, 0)], &[(q, 0)], &[]] {
            assert!(!single.matches(&tags(other)), "{other:?}");
        }
        assert!(!VlanStack::UNTAGGED.matches(&tags(&[(q, 0), (q, 0)])));
    }
}
