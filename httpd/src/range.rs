//! Range requests (RFC 9110 14): which octets of a representation a request asks for.
//!
//! What nginx does with a list is what clients in the field are used to: ranges that lie behind
//! the end are skipped, and nothing left, or a list that cannot be read, is 416. Ranges that
//! overlap or touch are sent once, as one (15.3.7.2), so that no list makes an answer longer than
//! the file and the heads of its parts; a list of more than [`MAX_RANGES`] is ignored (14.2:
//! "egregious"). What is apart stays apart however small the gap, which 15.3.7.2 leaves to us: nginx
//! joins nothing, and there are clients that look for each range that they have asked for.

use std::ops::Range;

use httparse::Header;

use crate::conditional::seconds;
use crate::limits::MAX_RANGES;

/// What a GET is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The whole representation: 200.
    Whole,
    /// One part: 206 with its Content-Range.
    Part(Range<u64>),
    /// Several, apart from each other, in the order in which they were asked for: 206 in
    /// `multipart/byteranges`.
    Parts(Vec<Range<u64>>),
    /// None that exists: 416.
    Unsatisfiable,
}

/// Reads `Range` and `If-Range` of a GET whose other conditions have passed (RFC 9110 13.2.2,
/// step 5), for a representation of `len` octets with the entity tag `etag`, quotes included, and
/// the Last-Modified of `modified` seconds since 1970; `None` where a date does not tell
/// representations apart, as it does not for encoded ones (8.8.2.2).
pub fn select(fields: &[Header<'_>], len: u64, etag: &[u8], modified: Option<u64>) -> Selection {
    let mut ranges = None;
    for field in fields {
        if field.name.eq_ignore_ascii_case("range") {
            // It is no list of fields (5.3): two of them say nothing that could be relied on.
            if ranges.replace(field.value).is_some() {
                return Selection::Whole;
            }
        } else if field.name.eq_ignore_ascii_case("if-range")
            && !is_current(field.value, etag, modified)
        {
            return Selection::Whole;
        }
    }
    ranges.map_or(Selection::Whole, |value| parse(value, len))
}

/// RFC 9110 13.1.5: a strong comparison, or exactly our date.
fn is_current(value: &[u8], etag: &[u8], modified: Option<u64>) -> bool {
    let value = value.trim_ascii();
    if value.first() == Some(&b'"') || value.starts_with(b"W/") {
        return value == etag;
    }
    seconds(value).is_some_and(|date| Some(date) == modified)
}

/// Reads the value of a `Range` field for a representation of `len` octets.
pub fn parse(value: &[u8], len: u64) -> Selection {
    let value = value.trim_ascii();
    // 14.1: units are case-insensitive; one that we do not know is ignored (14.2).
    let Some((unit, list)) = value.split_at_checked(6) else { return Selection::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Selection::Whole;
    }
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut count = 0;
    for spec in list.split(|&octet| octet == b',') {
        let spec = spec.trim_ascii();
        if spec.is_empty() {
            // 5.6.1.2: empty elements of a list are read over.
            continue;
        }
        count += 1;
        if count > MAX_RANGES {
            return Selection::Whole;
        }
        match resolve(spec, len) {
            Some(range) if range.is_empty() => {}
            Some(range) => found.push(range),
            None => return Selection::Unsatisfiable,
        }
    }
    let mut parts = coalesce(found);
    match parts.len() {
        // There is no octet to ask for in an empty file; a browser that resumes one that it has
        // whole is answered with it, as nginx does.
        0 if len == 0 && count > 0 => Selection::Whole,
        0 => Selection::Unsatisfiable,
        1 if parts[0] == (0..len) && count > 1 => Selection::Whole,
        1 => Selection::Part(parts.remove(0)),
        _ => Selection::Parts(parts),
    }
}

/// One range-spec within `len` octets: empty where nothing of it exists, `None` where it is none.
fn resolve(spec: &[u8], len: u64) -> Option<Range<u64>> {
    let dash = spec.iter().position(|&octet| octet == b'-')?;
    let (first, last) = (spec[..dash].trim_ascii_end(), spec[dash + 1..].trim_ascii_start());
    match (first, last) {
        (b"", b"") => None,
        (b"", suffix) => Some(len - number(suffix)?.min(len)..len),
        (first, b"") => Some(number(first)?.min(len)..len),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            // The last position is inclusive, and may be behind the end.
            Some(first.min(len)..last.saturating_add(1).min(len).max(first.min(len)))
        }
    }
}

/// Digits; more than 64 bits of them mean "as far as there is".
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(value.saturating_mul(10).saturating_add(digit))
    })
}

/// Joins what overlaps or touches, and keeps the order of what is apart.
fn coalesce(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted: Vec<(usize, Range<u64>)> = ranges.into_iter().enumerate().collect();
    sorted.sort_by_key(|(_, range)| range.start);
    let mut joined: Vec<(usize, Range<u64>)> = Vec::with_capacity(sorted.len());
    for (place, range) in sorted {
        match joined.last_mut() {
            Some((first, before)) if range.start <= before.end => {
                before.end = before.end.max(range.end);
                *first = place.min(*first);
            }
            _ => joined.push((place, range)),
        }
    }
    joined.sort_by_key(|(place, _)| *place);
    joined.into_iter().map(|(_, range)| range).collect()
}

/// Any octets as a `Range` field for a file whose length the first two are: what is selected
/// exists, is disjoint, and is in all no more than there is.
pub fn fuzz_range(data: &[u8]) {
    let Some(([low, high], value)) = data.split_first_chunk() else { return };
    let len = u64::from(u16::from_le_bytes([*low, *high]));
    let parts = match parse(value, len) {
        Selection::Whole | Selection::Unsatisfiable => return,
        Selection::Part(part) => vec![part],
        Selection::Parts(parts) => parts,
    };
    assert!(
        parts.len() <= MAX_RANGES
            && parts.iter().all(|part| part.start < part.end && part.end <= len)
    );
    for (index, part) in parts.iter().enumerate() {
        let apart = |other: &Range<u64>| other.end < part.start || part.end < other.start;
        assert!(parts[index + 1..].iter().all(apart), "{parts:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use Selection::{Part, Parts, Unsatisfiable, Whole};

    #[test]
    fn what_is_selected_of_ten_octets() {
        for (value, expected) in [
            ("bytes=0-4", Part(0..5)),
            ("BYTES=0-4", Part(0..5)),
            ("bytes=0-9", Part(0..10)),
            ("bytes=0-", Part(0..10)),
            ("bytes=9-", Part(9..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-99", Part(0..10)),
            ("bytes=3-99", Part(3..10)),
            ("bytes=3-99999999999999999999999", Part(3..10)),
            ("bytes= 0 - 4 ", Part(0..5)),
            ("bytes=0-0,-1", Parts(vec![0..1, 9..10])),
            ("bytes=-1,0-0", Parts(vec![9..10, 0..1])),
            ("bytes=,0-0,,-1,", Parts(vec![0..1, 9..10])),
            ("bytes=0-2,3-5", Part(0..6)),
            ("bytes=3-5,0-2", Part(0..6)),
            ("bytes=8-,0-0,7-8", Parts(vec![7..10, 0..1])),
            ("bytes=0-4,20-30", Part(0..5)),
            ("bytes=5-2,0-1", Part(0..2)),
            ("bytes=0-,0-,0-", Whole),
            ("bytes=0-5,4-", Whole),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20,30-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-2", Unsatisfiable),
            ("bytes=", Unsatisfiable),
            ("bytes=-", Unsatisfiable),
            ("bytes=a-b", Unsatisfiable),
            ("bytes=0-4,x", Unsatisfiable),
            ("bytes=0x0-4", Unsatisfiable),
            ("bytes=+0-4", Unsatisfiable),
            ("bytes=0-4-5", Unsatisfiable),
            ("bytes 0-4", Whole),
            ("lines=0-4", Whole),
            ("bytes", Whole),
            ("", Whole),
        ] {
            assert_eq!(parse(value.as_bytes(), 10), expected, "{value}");
        }
        assert_eq!(parse(b"bytes=0-", 0), Whole);
        assert_eq!(parse(b"bytes=-5", 0), Whole);
    }

    #[test]
    fn too_many_ranges_are_ignored() {
        let list = |count| format!("bytes={}", vec!["0-0,5-5"; count].join(","));
        assert_eq!(parse(list(MAX_RANGES / 2).as_bytes(), 10), Parts(vec![0..1, 5..6]));
        assert_eq!(parse(list(MAX_RANGES / 2 + 1).as_bytes(), 10), Whole);
    }

    #[test]
    fn if_range() {
        let select = |lines: &[(&str, &str)]| {
            let fields: Vec<_> = lines
                .iter()
                .map(|(name, value)| Header { name, value: value.as_bytes() })
                .collect();
            super::select(&fields, 10, b"\"x\"", Some(784_111_777))
        };
        let range = ("Range", "bytes=0-4");
        for (value, expected) in [
            ("\"x\"", Part(0..5)),
            ("\"y\"", Whole),
            ("W/\"x\"", Whole),
            ("*", Whole),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Part(0..5)),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Whole),
            ("Sun, 06 Nov 1994 08:49:36 GMT", Whole),
            ("yesterday", Whole),
        ] {
            assert_eq!(select(&[range, ("if-range", value)]), expected, "{value}");
            assert_eq!(select(&[("If-Range", value), range]), expected, "{value}");
        }
        assert_eq!(select(&[range]), Part(0..5));
        assert_eq!(select(&[range, range]), Whole);
        assert_eq!(select(&[("If-Range", "\"x\"")]), Whole);

        let dated = [("Range", "bytes=0-4"), ("If-Range", "Sun, 06 Nov 1994 08:49:37 GMT")]
            .map(|(name, value)| Header { name, value: value.as_bytes() });
        let one_of_several = super::select(&dated, 10, b"\"x\"", None);
        assert_eq!(one_of_several, Whole, "the date of all of them");
    }

    proptest! {
        #[test]
        fn any_list_selects_what_its_ranges_name(
            len in 1u64..40,
            specs in prop::collection::vec((0u64..50, 0u64..50, 0u8..3), 1..8),
        ) {
            let mut named = vec![false; len as usize];
            let texts: Vec<String> = specs.iter().map(|&(a, b, kind)| {
                let (range, text) = match kind {
                    0 => (a..b.saturating_add(1), format!("{a}-{b}")),
                    1 => (a..len, format!("{a}-")),
                    _ => (len.saturating_sub(a)..len, format!("-{a}")),
                };
                (range.start..range.end.min(len)).for_each(|at| named[at as usize] = true);
                text
            }).collect();
            let selected = match parse(format!("bytes={}", texts.join(",")).as_bytes(), len) {
                Whole => std::iter::once(0..len).collect(),
                Part(part) => Vec::from([part]),
                Parts(parts) => parts,
                Unsatisfiable => Vec::new(),
            };
            let mut sent = vec![false; len as usize];
            for at in selected.into_iter().flatten() {
                prop_assert!(!std::mem::replace(&mut sent[at as usize], true), "sent once");
            }
            prop_assert_eq!(sent, named);
        }

        #[test]
        fn any_octets_are_survived(data in prop::collection::vec(any::<u8>(), 0..40)) {
            fuzz_range(&data);
            fuzz_range(&[&data[..data.len().min(2)], b"bytes=", &data[data.len().min(2)..]].concat());
        }
    }
}
