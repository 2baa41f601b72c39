//! Conditional requests (RFC 9110 13): whether what the client knows is still what we have.
//!
//! The order is that of 13.2.2: If-Match, else If-Unmodified-Since (412); If-None-Match, else
//! If-Modified-Since (304). Range and If-Range, its fifth step, are in [`crate::range`].

use std::time::UNIX_EPOCH;

use httparse::Header;

/// What the conditions of a GET or HEAD come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They hold: it is answered.
    Proceed,
    /// The client has it: 304.
    NotModified,
    /// The client wanted another one: 412.
    Failed,
}

/// How a condition compares our entity tag with those that it lists (RFC 9110 8.8.3.2).
#[derive(Clone, Copy)]
enum Comparison {
    /// A weak tag, theirs or ours, matches nothing.
    Strong,
    /// Weak tags are as good as others.
    Weak,
}

/// Evaluates the conditions. `etag` is ours with its quotes, and `W/` if it is weak; `modified` in
/// seconds since 1970 as Last-Modified shows it, if it does.
pub fn evaluate(fields: &[Header<'_>], etag: &[u8], modified: Option<u64>) -> Verdict {
    let (mut matches, mut none_match) = (None, None);
    let (mut unmodified_since, mut modified_since) = (None, None);
    for field in fields {
        // A list may be spread over several lines (RFC 9110 5.3).
        if field.name.eq_ignore_ascii_case("if-none-match") {
            *none_match.get_or_insert(false) |= lists(field.value, etag, Comparison::Weak);
        } else if field.name.eq_ignore_ascii_case("if-modified-since") {
            only(&mut modified_since, field.value);
        } else if field.name.eq_ignore_ascii_case("if-match") {
            *matches.get_or_insert(false) |= lists(field.value, etag, Comparison::Strong);
        } else if field.name.eq_ignore_ascii_case("if-unmodified-since") {
            only(&mut unmodified_since, field.value);
        }
    }
    // Dates say nothing about what has none (13.1.3, 13.1.4).
    let not_later = |date: Option<&[u8]>| Some(modified? <= date.and_then(seconds)?);
    // Steps 1 and 2: with If-Match, If-Unmodified-Since is not evaluated.
    let same = matches.unwrap_or_else(|| not_later(unmodified_since).unwrap_or(true));
    // Steps 3 and 4: likewise.
    let known = none_match.unwrap_or_else(|| not_later(modified_since).unwrap_or(false));
    match (same, known) {
        (false, _) => Verdict::Failed,
        (true, true) => Verdict::NotModified,
        (true, false) => Verdict::Proceed,
    }
}

/// Keeps the only value of a field: several dates are none (13.1.3).
fn only<'a>(kept: &mut Option<&'a [u8]>, value: &'a [u8]) {
    *kept = Some(if kept.is_some() { b"" } else { value });
}

/// `*`, or a list of entity tags one of which is ours. Reading ends at the first thing that is no
/// tag.
fn lists(value: &[u8], etag: &[u8], comparison: Comparison) -> bool {
    let own = etag.strip_prefix(b"W/");
    let mut rest = value.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        // No field value has other white space than blanks and tabs, but where there is any it is the same
        // before the first tag and between them.
        while let [octet, more @ ..] = rest
            && (*octet == b',' || octet.is_ascii_whitespace())
        {
            rest = more;
        }
        let weak = rest.strip_prefix(b"W/");
        let tag = weak.unwrap_or(rest);
        let Some(quote) = tag
            .strip_prefix(b"\"")
            .and_then(|inside| inside.iter().position(|&octet| octet == b'"'))
        else {
            return false;
        };
        let (tag, more) = tag.split_at(quote + 2);
        rest = more.trim_ascii_start();
        if !matches!(rest, [] | [b',', ..]) {
            return false;
        }
        let strong = weak.is_none() && own.is_none();
        if tag == own.unwrap_or(etag) && (strong || matches!(comparison, Comparison::Weak)) {
            return true;
        }
    }
}

/// An HTTP date in seconds since 1970; an invalid one is ignored (13.1.3, 13.1.4).
pub(crate) fn seconds(date: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(date).ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Any octets as the value of each condition: no panic; what matches strongly matches weakly; other
/// tags before and behind change nothing; each condition alone comes to what RFC 9110 13.1 says.
pub fn fuzz_conditional(data: &[u8]) {
    const OWN: &[u8] = b"\"5f-3e8\"";
    const OTHER: &[u8] = b"\"other\"";
    for own in [OWN, &[b"W/", OWN].concat()] {
        let listed = |comparison| lists(data, own, comparison);
        let (strong, weak) = (listed(Comparison::Strong), listed(Comparison::Weak));
        assert!(weak || !strong, "strong is stricter");
        let any = data.trim_ascii() == b"*";
        assert!(!strong || any || own == OWN, "nothing is strongly equal to a weak tag");
        if !any {
            let behind = lists(&[OTHER, b", ", data].concat(), own, Comparison::Weak);
            let before = lists(&[data, b", ", OTHER].concat(), own, Comparison::Weak);
            assert_eq!((behind, before), (weak, weak), "other tags do not matter");
        }
        for (name, expected) in [
            ("If-Match", if strong { Verdict::Proceed } else { Verdict::Failed }),
            ("If-None-Match", if weak { Verdict::NotModified } else { Verdict::Proceed }),
            ("If-Modified-Since", Verdict::Proceed),
            ("If-Unmodified-Since", Verdict::Proceed),
        ] {
            assert_eq!(evaluate(&[Header { name, value: data }], own, None), expected, "{name}");
        }
    }
    let later = |name, modified| evaluate(&[Header { name, value: data }], OWN, Some(modified));
    if seconds(data).is_some() {
        assert_eq!(later("If-Modified-Since", 0), Verdict::NotModified);
        assert_eq!(later("If-Unmodified-Since", u64::MAX), Verdict::Failed);
    } else {
        assert_eq!(later("If-Modified-Since", 0), Verdict::Proceed);
        assert_eq!(later("If-Unmodified-Since", u64::MAX), Verdict::Proceed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ETAG: &[u8] = b"\"5f-3e8\"";
    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const MODIFIED: u64 = 784_111_777;

    fn verdict(fields: &[(&str, &str)]) -> Verdict {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        evaluate(&fields, ETAG, Some(MODIFIED))
    }

    fn answer(fields: &[(&str, &str)]) -> bool {
        verdict(fields) == Verdict::NotModified
    }

    #[test]
    fn if_none_match() {
        for (value, expected) in [
            ("\"5f-3e8\"", true),
            ("W/\"5f-3e8\"", true),
            ("*", true),
            (" * ", true),
            ("\"a\", \"5f-3e8\"", true),
            ("\"a,b\" ,, W/\"5f-3e8\" , \"c\"", true),
            ("\"a\"", false),
            ("5f-3e8", false),
            ("\"5f-3e8", false),
            ("w/\"5f-3e8\"", false),
            ("\"a\", *", false),
            ("\"5f-3e8\"x", false),
            ("\"5f-3e8\";q=1", false),
            ("\"5f-3e8\" \"a\"", false),
            ("\"a\" , \"5f-3e8\" ", true),
            ("", false),
            ("\"\"", false),
        ] {
            assert_eq!(answer(&[("If-None-Match", value)]), expected, "{value}");
        }
        assert!(answer(&[("if-none-match", "\"a\""), ("IF-NONE-MATCH", "\"5f-3e8\"")]));
    }

    #[test]
    fn if_modified_since() {
        for (value, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", true),
            ("Sun, 06 Nov 1994 08:49:38 GMT", true),
            ("Sun, 06 Nov 1994 08:49:36 GMT", false),
            ("Sunday, 06-Nov-94 08:49:37 GMT", true),
            ("Sun Nov  6 08:49:37 1994", true),
            ("yesterday", false),
            ("", false),
        ] {
            assert_eq!(answer(&[("If-Modified-Since", value)]), expected, "{value}");
        }
    }

    #[test]
    fn the_tag_goes_before_the_date() {
        let later = ("If-Modified-Since", "Sun, 06 Nov 1995 08:49:37 GMT");
        assert!(!answer(&[later, ("If-None-Match", "\"other\"")]));
        assert!(answer(&[("If-None-Match", "\"5f-3e8\""), ("If-Modified-Since", "nonsense")]));
        assert!(!answer(&[]));
        let same = ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(answer(&[same]) && !answer(&[same, same]));
    }

    #[test]
    fn what_fails_a_request() {
        let (earlier, later) = ("Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (fields, expected) in [
            (&[("If-Match", "\"5f-3e8\"")][..], Verdict::Proceed),
            (&[("If-Match", "*")], Verdict::Proceed),
            (&[("If-Match", "\"a\""), ("if-match", "\"b\", \"5f-3e8\"")], Verdict::Proceed),
            (&[("If-Match", "\"a\"")], Verdict::Failed),
            (&[("If-Match", "W/\"5f-3e8\"")], Verdict::Failed),
            (&[("If-Match", "")], Verdict::Failed),
            (&[("If-Unmodified-Since", later)], Verdict::Proceed),
            (&[("If-Unmodified-Since", earlier)], Verdict::Failed),
            (&[("If-Unmodified-Since", "yesterday")], Verdict::Proceed),
            (&[("If-Unmodified-Since", earlier), ("If-Match", "*")], Verdict::Proceed),
            (&[("If-Match", "\"a\""), ("If-None-Match", "*")], Verdict::Failed),
            (&[("If-Match", "*"), ("If-None-Match", "*")], Verdict::NotModified),
            (&[("If-Unmodified-Since", later), ("If-Modified-Since", later)], Verdict::NotModified),
        ] {
            assert_eq!(verdict(fields), expected, "{fields:?}");
        }
    }
    #[test]
    fn what_has_a_weak_tag_and_no_date() {
        let weak = [b"W/", ETAG].concat();
        for (name, value, expected) in [
            ("If-None-Match", "W/\"5f-3e8\"", Verdict::NotModified),
            ("If-None-Match", "\"5f-3e8\"", Verdict::NotModified),
            ("If-None-Match", "\"a\"", Verdict::Proceed),
            ("If-Match", "W/\"5f-3e8\"", Verdict::Failed),
            ("If-Match", "\"5f-3e8\"", Verdict::Failed),
            ("If-Match", "*", Verdict::Proceed),
            ("If-Modified-Since", "Sun, 06 Nov 2094 08:49:37 GMT", Verdict::Proceed),
            ("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", Verdict::Proceed),
        ] {
            let fields = [Header { name, value: value.as_bytes() }];
            assert_eq!(evaluate(&fields, &weak, None), expected, "{name}: {value}");
        }
    }

    proptest! {
        #[test]
        fn a_list_has_the_tags_that_it_was_made_of(
            tags in prop::collection::vec(
                (any::<bool>(), prop::sample::select(vec!["5f-3e8", "", "a", ",", "*", "W/", " "])),
                0..5,
            ),
            separator in prop::sample::select(vec![",", ", ", " ,\t", ",,"]),
        ) {
            let text = |&(weak, tag): &(bool, &str)| {
                format!("{}\"{tag}\"", if weak { "W/" } else { "" })
            };
            let list = tags.iter().map(text).collect::<Vec<_>>().join(separator);
            let has = |strong: bool| tags.iter().any(|&(weak, tag)| {
                tag == "5f-3e8" && !(strong && weak)
            });
            prop_assert_eq!(lists(list.as_bytes(), ETAG, Comparison::Weak), has(false));
            prop_assert_eq!(lists(list.as_bytes(), ETAG, Comparison::Strong), has(true));
            fuzz_conditional(list.as_bytes());
        }

        #[test]
        fn any_octets_are_survived(data in prop::collection::vec(any::<u8>(), 0..40)) {
            fuzz_conditional(&data);
        }
    }
}
