//! Conditional requests (RFC 9110 13): whether the client's copy is still the one we have.
//!
//! The preconditions that matter to a GET of a cache in between are If-None-Match and
//! If-Modified-Since, in the order of 13.2.2. Both can only turn 200 into 304.

use std::time::UNIX_EPOCH;

use httparse::Header;

/// Whether the answer to this GET or HEAD is 304. `etag` is ours with its quotes, `modified` in
/// seconds since 1970 as Last-Modified shows it.
pub fn not_modified(fields: &[Header<'_>], etag: &[u8], modified: u64) -> bool {
    let mut matches = None;
    let mut since = None;
    for field in fields {
        if field.name.eq_ignore_ascii_case("if-none-match") {
            // A list may be spread over several lines (RFC 9110 5.3).
            *matches.get_or_insert(false) |= lists(field.value, etag);
        } else if field.name.eq_ignore_ascii_case("if-modified-since") {
            since = Some(field.value);
        }
    }
    // 13.2.2 step 3: with If-None-Match, If-Modified-Since is not evaluated.
    matches.unwrap_or_else(|| since.is_some_and(|date| unmodified_since(date, modified)))
}

/// `*`, or a list of entity tags one of which is ours by weak comparison (8.8.3.2). Reading ends
/// at the first thing that is no tag.
fn lists(value: &[u8], etag: &[u8]) -> bool {
    let mut rest = value.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        while let [b',' | b' ' | b'\t', more @ ..] = rest {
            rest = more;
        }
        let tag = rest.strip_prefix(b"W/").unwrap_or(rest);
        let Some(quote) = tag
            .strip_prefix(b"\"")
            .and_then(|inside| inside.iter().position(|&octet| octet == b'"'))
        else {
            return false;
        };
        let (tag, more) = tag.split_at(quote + 2);
        if tag == etag {
            return true;
        }
        rest = more;
    }
}

/// 13.1.3: an invalid date is ignored.
fn unmodified_since(date: &[u8], modified: u64) -> bool {
    let parsed =
        std::str::from_utf8(date).ok().and_then(|text| httpdate::parse_http_date(text).ok());
    let since = parsed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.is_some_and(|since| modified <= since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &[u8] = b"\"5f-3e8\"";
    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const MODIFIED: u64 = 784_111_777;

    fn answer(fields: &[(&str, &str)]) -> bool {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        not_modified(&fields, ETAG, MODIFIED)
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
        assert!(!answer(&[("If-Match", "\"other\"")]));
        assert!(!answer(&[]));
    }
}
