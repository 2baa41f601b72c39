//! The request target (RFC 9112 3.2): decoded, normalised, contained.
//!
//! 1. `http://host/path` (absolute-form) is reduced to its path.
//! 2. The query is split off.
//! 3. Percent-encoding is decoded once (`%2F` is a slash, as nginx has it). A malformed one, NUL
//!    and control octets are refused.
//! 4. `//` and `/./` collapse, `..` removes the segment before it; one that would climb above
//!    the root is refused.
//!
//! What comes out is relative: it neither begins with `/` nor has a segment `..`. The cold side
//! opens it with `RESOLVE_BENEATH` all the same: this is the first of two fences. A backslash
//! is an ordinary octet here, as it is in a file's name.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use crate::request::is_host;

/// What is encoded of a path that we write ourselves: all but the unreserved octets (RFC 3986 2.3)
/// and the slash.
pub(crate) const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Target<'a> {
    /// Relative to www-root: `""` is the root itself, a trailing `/` means a directory. Octets,
    /// since names of files are octets.
    pub path: Cow<'a, [u8]>,
    /// What follows the first `?`, as sent.
    pub query: Option<&'a [u8]>,
    /// Host and port of an absolute-form target: they go before the Host field.
    pub host: Option<&'a [u8]>,
}

/// The target cannot be one of ours (answer 400).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// Neither origin-form nor an absolute `http` URI.
    Form,
    /// A `%` without two hexadecimal digits behind it.
    Percent,
    /// NUL, a control octet, or a fragment.
    Octet,
    /// `..` climbs above the root.
    Outside,
}

/// Reads a target of a GET or HEAD request.
///
/// # Errors
/// [`TargetError`] where the target is not to be interpreted.
pub fn resolve(target: &[u8]) -> Result<Target<'_>, TargetError> {
    let (host, origin) = origin_form(target)?;
    let (raw, query) = match origin.iter().position(|&octet| octet == b'?') {
        Some(mark) => (&origin[..mark], Some(&origin[mark + 1..])),
        None => (origin, None),
    };
    let raw = raw.strip_prefix(b"/").unwrap_or(raw);
    let path = if is_plain(raw)? { Cow::Borrowed(raw) } else { Cow::Owned(normalise(raw)?) };
    Ok(Target { path, query, host })
}

/// Splits scheme and authority off an absolute-form target (RFC 9112 3.2.2).
fn origin_form(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), TargetError> {
    if target.first() == Some(&b'/') {
        return Ok((None, target));
    }
    let scheme = target.get(..7).ok_or(TargetError::Form)?;
    if !scheme.eq_ignore_ascii_case(b"http://") {
        return Err(TargetError::Form);
    }
    let rest = &target[7..];
    let end = rest.iter().position(|octet| matches!(octet, b'/' | b'?')).unwrap_or(rest.len());
    let (host, origin) = rest.split_at(end);
    // RFC 9110 4.2.4: no user in it.
    if host.is_empty() || !is_host(host) {
        Err(TargetError::Form)
    } else {
        Ok((Some(host), origin))
    }
}

/// Whether the path needs neither decoding nor normalising: the usual case, one pass, no copy.
/// A leading dot in a segment counts as not plain; [`normalise`] sorts it out.
fn is_plain(raw: &[u8]) -> Result<bool, TargetError> {
    let mut plain = true;
    let mut previous = b'/';
    for &octet in raw {
        match octet {
            0..=0x1f | 0x7f | b'#' => return Err(TargetError::Octet),
            b'%' => plain = false,
            b'/' | b'.' if previous == b'/' => plain = false,
            _ => {}
        }
        previous = octet;
    }
    Ok(plain)
}

fn normalise(raw: &[u8]) -> Result<Vec<u8>, TargetError> {
    let decoded = percent_decode(raw)?;
    let mut path: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|&octet| octet == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            // At the end these mean the directory itself, which `path` names already.
            b"" | b"." => {}
            b".." => {
                path.pop().ok_or(TargetError::Outside)?; // the slash behind the segment
                let parent = path.iter().rposition(|&octet| octet == b'/').map_or(0, |at| at + 1);
                path.truncate(parent);
            }
            name => {
                path.extend_from_slice(name);
                if !last {
                    path.push(b'/');
                }
            }
        }
    }
    Ok(path)
}

fn percent_decode(raw: &[u8]) -> Result<Vec<u8>, TargetError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(&octet) = rest.next() {
        let octet = if octet == b'%' {
            let mut digit = || {
                let digit = char::from(*rest.next()?).to_digit(16)?;
                u8::try_from(digit).ok()
            };
            let high = digit().ok_or(TargetError::Percent)?;
            let low = digit().ok_or(TargetError::Percent)?;
            high << 4 | low
        } else {
            octet
        };
        if octet < 0x20 || octet == 0x7f {
            return Err(TargetError::Octet);
        }
        decoded.push(octet);
    }
    Ok(decoded)
}

/// Any octets: no panic, and a path that is accepted stays beneath the root.
pub fn fuzz_target(data: &[u8]) {
    if let Ok(target) = resolve(data) {
        assert_contained(&target.path);
        // Decoded means decoded: nothing that is left could be taken for encoding or dots again.
        let again = normalise_segments_only(&target.path);
        assert_eq!(again, *target.path, "normalising is idempotent");
    }
}

fn assert_contained(path: &[u8]) {
    assert_ne!(path.first(), Some(&b'/'), "relative");
    assert!(path.iter().all(|&octet| octet >= 0x20 && octet != 0x7f), "no control octets");
    let inner = path.strip_suffix(b"/").unwrap_or(path);
    if !inner.is_empty() {
        for segment in inner.split(|&octet| octet == b'/') {
            assert!(!matches!(segment, b"" | b"." | b".."), "normal segments");
        }
    }
}

fn normalise_segments_only(path: &[u8]) -> Vec<u8> {
    let encoded: Vec<u8> =
        path.iter().flat_map(|octet| format!("%{octet:02x}").into_bytes()).collect();
    normalise(&encoded).expect("a normal path is accepted again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_and_their_paths() {
        for (target, path) in [
            ("/", ""),
            ("/index.html", "index.html"),
            ("/a/b/", "a/b/"),
            ("/a//b", "a/b"),
            ("//a", "a"),
            ("/./a/./b/.", "a/b/"),
            ("/a/b/..", "a/"),
            ("/a/b/../c", "a/c"),
            ("/a/..", ""),
            ("/a/../b", "b"),
            ("/a%2fb", "a/b"),
            ("/%61%62", "ab"),
            ("/a%20b", "a b"),
            ("/%252e%252e/x", "%2e%2e/x"),
            ("/..a/...", "..a/..."),
            ("/.well-known/x", ".well-known/x"),
            ("/a\\..\\b", "a\\..\\b"),
            ("/a+b", "a+b"),
            ("http://host/a", "a"),
            ("HTTP://host:80/a/../b", "b"),
            ("http://host", ""),
        ] {
            assert_eq!(*resolve(target.as_bytes()).unwrap().path, *path.as_bytes(), "{target}");
        }
        assert_eq!(&*resolve(b"/%ff").unwrap().path, b"\xff");
    }

    #[test]
    fn the_query_is_split_off_before_decoding() {
        let with = resolve(b"/a%3fb?c=../..&d=%00?").unwrap();
        assert_eq!((&*with.path, with.query), (&b"a?b"[..], Some(&b"c=../..&d=%00?"[..])));
        assert_eq!(resolve(b"http://host?q").unwrap().query, Some(&b"q"[..]));
        assert_eq!(resolve(b"/a?").unwrap().query, Some(&b""[..]));
        assert_eq!(resolve(b"/a").unwrap().query, None);
        assert_eq!(resolve(b"http://host:80?q").unwrap().host, Some(&b"host:80"[..]));
        assert_eq!(resolve(b"/a").unwrap().host, None);
    }

    #[test]
    fn what_is_refused() {
        for (target, error) in [
            (&b""[..], TargetError::Form),
            (b"*", TargetError::Form),
            (b"host:80", TargetError::Form),
            (b"https://host/", TargetError::Form),
            (b"http:///a", TargetError::Form),
            (b"http://user@host/a", TargetError::Form),
            (b"/..", TargetError::Outside),
            (b"/../etc/passwd", TargetError::Outside),
            (b"/a/../../b", TargetError::Outside),
            (b"/%2e%2e/b", TargetError::Outside),
            (b"/.%2E/b", TargetError::Outside),
            (b"/a%2f..%2f..%2fb", TargetError::Outside),
            (b"/a//..//..//b", TargetError::Outside),
            (b"http://host/../b", TargetError::Outside),
            (b"/%", TargetError::Percent),
            (b"/%4", TargetError::Percent),
            (b"/%zz", TargetError::Percent),
            (b"/%+1", TargetError::Percent),
            (b"/%00", TargetError::Octet),
            (b"/a%0d%0ab", TargetError::Octet),
            (b"/a%7f", TargetError::Octet),
            (b"/a\x01", TargetError::Octet),
            (b"/a#b", TargetError::Octet),
        ] {
            assert_eq!(resolve(target), Err(error), "{}", target.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_decoded_path_never_leaves(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "/", "..", ".", "%2e", "%2E%2e", "%2f", "a", "%", "%00", "\\", "?", "b c", "%25",
                ]),
                0..12,
            ),
        ) {
            fuzz_target(format!("/{}", parts.concat()).as_bytes());
        }

        #[test]
        fn any_octets_are_survived(data in prop::collection::vec(any::<u8>(), 0..64)) {
            fuzz_target(&data);
        }
    }
}
