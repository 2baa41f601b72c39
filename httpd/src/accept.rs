//! Which of two media types a request prefers (RFC 9110 12.5.1), by its Accept fields.

use httparse::Header;

use crate::encoding::weight;

/// Whether a client with these fields likes JSON better than HTML. Without a preference, and where
/// it takes neither, it does not.
pub fn prefers_json(fields: &[Header<'_>]) -> bool {
    let (mut json, mut html) = (Liking::default(), Liking::default());
    // A list may be spread over several lines (5.3).
    let accepts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("accept"));
    for element in accepts.flat_map(|field| field.value.split(|&octet| octet == b',')) {
        let (range, weight) = media_range(element);
        json.take(range, weight, b"application", b"json");
        html.take(range, weight, b"text", b"html");
    }
    json.weight > html.weight
}

/// A media range, and its weight in thousandths. Other parameters are not ours to tell apart.
fn media_range(element: &[u8]) -> (&[u8], u16) {
    let mut parts = element.split(|&octet| octet == b';').map(<[u8]>::trim_ascii);
    let range = parts.next().unwrap_or_default();
    let given = parts.find(|part| matches!(part, [b'q' | b'Q', b'=', ..]));
    (range, given.map_or(1000, weight))
}

/// What is known of one media type; it is not liked as long as nothing names it.
#[derive(Default)]
struct Liking {
    /// How exactly it was named: by `*/*`, by its type and `*`, by itself.
    precision: u8,
    weight: u16,
}

impl Liking {
    /// The most precise range counts, of several the one that likes it best.
    fn take(&mut self, range: &[u8], weight: u16, kind: &[u8], subtype: &[u8]) {
        let Some(slash) = range.iter().position(|&octet| octet == b'/') else { return };
        let (named, sub) = (&range[..slash], &range[slash + 1..]);
        let precision = match (named, sub) {
            (b"*", b"*") => 1,
            (named, b"*") if named.eq_ignore_ascii_case(kind) => 2,
            (named, sub)
                if named.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) =>
            {
                3
            }
            _ => return,
        };
        if precision > self.precision || precision == self.precision && weight > self.weight {
            *self = Self { precision, weight };
        }
    }
}

/// Any octets as the value of Accept: no panic, in one line or in two; what is ruled out is not
/// preferred.
pub fn fuzz_accept(data: &[u8]) {
    let field = |value| Header { name: "Accept", value };
    let whole = prefers_json(&[field(data)]);
    let (one, other) = data.split_at(data.len() / 2);
    if other.starts_with(b",") {
        assert_eq!(prefers_json(&[field(one), field(&other[1..])]), whole, "in two lines");
    }
    let behind = |value: &'static [u8]| prefers_json(&[field(data), field(value)]);
    assert!(!behind(b"text/html"), "nothing is liked better than what is liked most");
    assert!(!whole || behind(b"image/png, text/plain;q=0.5"), "others do not matter");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_prefers_json() {
        for (accept, expected) in [
            (&[][..], false),
            (&[""], false),
            (&["*/*"], false),
            (&["application/json"], true),
            (&["APPLICATION/JSON"], true),
            (&["application/json", "text/html"], false),
            (&["application/json, text/html;q=0.9"], true),
            (&["text/html;q=0.9", "application/json"], true),
            (&["application/json;q=0.9, text/html"], false),
            (&["application/json, */*"], false),
            (&["application/json, */*;q=0.5"], true),
            (&["application/*, */*;q=0.1"], true),
            (&["text/*;q=0.5, */*"], true),
            (&["text/html;q=0, */*"], true),
            (&["application/json;q=0, application/*"], false),
            (&["application/json;q=0"], false),
            (&["application/json;q=2"], false),
            (&["application/json;version=1;Q=0.9, text/html ; level=1 ; q=0.8"], true),
            (&["application/json;version=1;q=0.5, text/html;level=1"], false),
            (&["application/vnd.api+json"], false),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], false),
            (&["json"], false),
            (&["*/json"], false),
        ] {
            let fields: Vec<_> = accept
                .iter()
                .map(|value| Header { name: "accept", value: value.as_bytes() })
                .collect();
            assert_eq!(prefers_json(&fields), expected, "{accept:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_survived(data in prop::collection::vec(any::<u8>(), 0..60)) {
            fuzz_accept(&data);
        }

        #[test]
        fn any_list_is_read(words in prop::collection::vec(prop::sample::select(vec![
            "application/json", "text/html", "*/*", "text/*", "application/*", ";q=0.5", ";q=0", ",",
            " ", ";", "q=1", "/", "*",
        ]), 0..12)) {
            fuzz_accept(words.concat().as_bytes());
        }
    }
}
