//! Content codings (RFC 9110 8.4.1), and which of them a request asks for (12.5.3).
//!
//! What the field says is weighed as the RFC has it: a coding by its own name goes before `*`, the
//! greatest weight wins, and nothing is sent that has a weight of zero. Two things are left open
//! there:
//!
//! - A request without the field takes any coding by the letter. It gets the file as it is, as
//!   nginx has it: who can decode says so.
//! - A client that takes neither the file as it is (`identity;q=0`) nor a coding that there is gets
//!   the file as it is, not 406. nginx does so and 12.1 allows it; nobody was ever helped by the
//!   error, and a file that is never encoded need not be asked what the field says.

use std::fmt;

use httparse::Header;

/// A coding, the one that packs best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878, 9659).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in fields.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the name of a file's encoded sibling has behind the file's own.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// Names of codings are case-insensitive (8.4.1); `x-gzip` is `gzip` (8.4.1.3).
    fn from_token(token: &[u8]) -> Option<Self> {
        let named = |coding: &Self| token.eq_ignore_ascii_case(coding.token().as_bytes());
        let alias = || token.eq_ignore_ascii_case(b"x-gzip").then_some(Self::Gzip);
        Self::ALL.into_iter().find(named).or_else(alias)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// The coding out of `offered`, the preferred one first, in which a request with these values of
/// Accept-Encoding is answered; `None`: in none.
pub fn choose<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    offered: impl Iterator<Item = Coding>,
) -> Option<Coding> {
    let wishes = Wishes::read(values);
    let mut best: Option<(Coding, u16)> = None;
    for coding in offered {
        let weight = wishes.weight(coding);
        if best.is_none_or(|(_, known)| weight > known) {
            best = Some((coding, weight));
        }
    }
    // As good as the file itself is better: it is shorter.
    let (coding, weight) = best?;
    (weight > 0 && weight >= wishes.identity()).then_some(coding)
}

/// Of what there is encoded, the preferred one first, what a request with these fields is answered
/// with; `None`: none of it.
pub(crate) fn pick<'a, T>(fields: &[Header<'_>], encoded: &'a [(Coding, T)]) -> Option<&'a T> {
    let asked = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("accept-encoding"));
    let offered = encoded.iter().map(|&(coding, _)| coding);
    let chosen = choose(asked.map(|field| field.value), offered)?;
    encoded.iter().find(|(coding, _)| *coding == chosen).map(|(_, form)| form)
}

/// Weights in thousandths, where the request has any.
#[derive(Default)]
struct Wishes {
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    others: Option<u16>,
}

impl Wishes {
    fn read<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut wishes = Self::default();
        // A list may be spread over several lines (5.3).
        for element in values.flat_map(|value| value.split(|&octet| octet == b',')) {
            let (name, weight) = weighted(element);
            let place = match Coding::from_token(name) {
                Some(coding) => &mut wishes.codings[coding as usize],
                None if name.eq_ignore_ascii_case(b"identity") => &mut wishes.identity,
                None if name == b"*" => &mut wishes.others,
                None => continue,
            };
            // What is refused once is not sent.
            *place = Some(place.map_or(weight, |known| known.min(weight)));
        }
        wishes
    }

    fn weight(&self, coding: Coding) -> u16 {
        self.codings[coding as usize].or(self.others).unwrap_or(0)
    }

    /// The file as it is: taken though nobody names it, but liked less than what is named.
    fn identity(&self) -> u16 {
        self.identity.or(self.others).unwrap_or(0)
    }
}

/// An element of the list, with its weight in thousandths.
fn weighted(element: &[u8]) -> (&[u8], u16) {
    match element.iter().position(|&octet| octet == b';') {
        None => (element.trim_ascii(), 1000),
        Some(mark) => (element[..mark].trim_ascii(), weight(element[mark + 1..].trim_ascii())),
    }
}

/// RFC 9110 12.4.2. What is none weighs nothing: a coding is not sent on a guess.
pub(crate) fn weight(parameter: &[u8]) -> u16 {
    let ([b'q' | b'Q', b'=', whole @ (b'0' | b'1')], rest) =
        parameter.split_at(parameter.len().min(3))
    else {
        return 0;
    };
    let fraction = match rest {
        [] => rest,
        [b'.', fraction @ ..] if fraction.len() <= 3 => fraction,
        _ => return 0,
    };
    let thousandths = [100, 10, 1].iter().zip(fraction).try_fold(0, |sum, (place, digit)| {
        digit.is_ascii_digit().then(|| sum + place * u16::from(digit - b'0'))
    });
    match (whole, thousandths) {
        (b'0', Some(thousandths)) => thousandths,
        (b'1', Some(0)) => 1000,
        _ => 0,
    }
}

/// Any octets as the value of Accept-Encoding behind one that says what is offered, in one line or
/// in two: what is chosen is offered, and as good as anything else by a plain reading.
pub fn fuzz_accept_encoding(data: &[u8]) {
    let Some((&[offer, at], value)) = data.split_first_chunk() else { return };
    let mut offered = Coding::ALL.to_vec();
    offered.rotate_left(usize::from(offer >> 3) % 3);
    offered.retain(|&coding| offer & (1 << coding as u8) != 0);
    let (first, second) = value.split_at(usize::from(at).min(value.len()));
    for lines in [&[value][..], &[first, second]] {
        let chosen = choose(lines.iter().copied(), offered.iter().copied());
        assert_eq!(chosen, by_the_letter(lines, &offered), "{:?}", value.escape_ascii());
    }
}

/// The same by a plain reading of the RFC.
fn by_the_letter(lines: &[&[u8]], offered: &[Coding]) -> Option<Coding> {
    let text = lines.iter().map(|line| String::from_utf8_lossy(line).to_ascii_lowercase());
    let text = text.collect::<Vec<_>>().join(",");
    let elements: Vec<(&str, u16)> = text
        .split(',')
        .map(|element| {
            let (name, parameter) = element.split_once(';').unwrap_or((element, "q=1"));
            let value = trimmed(parameter).strip_prefix("q=").unwrap_or("");
            let shape = value.len() <= 5
                && matches!(value.as_bytes(), [b'0' | b'1'] | [b'0' | b'1', b'.', ..])
                && value.bytes().skip(2).all(|octet| octet.is_ascii_digit());
            let number = value.parse::<f64>().ok().filter(|number| shape && *number <= 1.0);
            (trimmed(name), (number.unwrap_or(0.0) * 1000.0).round() as u16)
        })
        .collect();
    let least = |names: &[&str]| {
        elements.iter().filter(|(name, _)| names.contains(name)).map(|&(_, weight)| weight).min()
    };
    let weight = |coding: Coding| {
        let alias = if coding == Coding::Gzip { "x-gzip" } else { coding.token() };
        least(&[coding.token(), alias]).or(least(&["*"])).unwrap_or(0)
    };
    let heaviest = offered.iter().map(|&coding| weight(coding)).max()?;
    if heaviest == 0 || least(&["identity"]).or(least(&["*"])).is_some_and(|own| own > heaviest) {
        return None;
    }
    offered.iter().copied().find(|&coding| weight(coding) == heaviest)
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use Coding::{Brotli, Gzip, Zstd};

    fn chosen(lines: &[&str], offered: &[Coding]) -> Option<Coding> {
        choose(lines.iter().map(|line| line.as_bytes()), offered.iter().copied())
    }

    #[test]
    fn what_is_sent_of_three() {
        for (value, expected) in [
            ("gzip", Some(Gzip)),
            ("gzip, deflate, br, zstd", Some(Brotli)),
            ("GZip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("br;q=0.5, gzip", Some(Gzip)),
            ("br;q=0.5, gzip;q=0.51", Some(Gzip)),
            ("br;q=0.999,zstd;q=1.000", Some(Zstd)),
            ("br ; q=0.1 , gzip ; Q=0.2", Some(Gzip)),
            (",, gzip ,", Some(Gzip)),
            ("*", Some(Brotli)),
            ("*;q=0.1", Some(Brotli)),
            ("br;q=0, *", Some(Zstd)),
            ("gzip, *;q=0.5", Some(Gzip)),
            ("gzip, *;q=0", Some(Gzip)),
            // The file as it is.
            ("", None),
            ("identity", None),
            ("deflate, compress, sdch", None),
            ("*;q=0", None),
            ("gzip;q=0", None),
            ("gzip;q=0.000", None),
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.2, *;q=0.5, br;q=0, zstd;q=0", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("identity;q=0, gzip;q=0.001", Some(Gzip)),
            // Nothing is acceptable.
            ("identity;q=0", None),
            // What is refused once is refused.
            ("gzip, gzip;q=0", None),
            ("x-gzip;q=0, gzip", None),
            // No weights, and names of others.
            ("gzip;q=", None),
            ("gzip;q", None),
            ("gzip;", None),
            ("gzip;level=9", None),
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=.5", None),
            ("gzip;q=-1", None),
            ("gzip;q=0.5;x=y", None),
            ("gzip;q = 1", None),
            ("gzip br", None),
            ("gzipped", None),
            ("\"gzip\"", None),
        ] {
            assert_eq!(chosen(&[value], &[Brotli, Zstd, Gzip]), expected, "{value}");
        }
    }

    #[test]
    fn what_is_offered_decides_between_equals() {
        let all = "gzip, br, zstd";
        assert_eq!(chosen(&[all], &[Zstd, Gzip, Brotli]), Some(Zstd));
        assert_eq!(chosen(&[all], &[Gzip]), Some(Gzip));
        assert_eq!(chosen(&["br"], &[Gzip, Zstd]), None);
        assert_eq!(chosen(&[all], &[]), None);
    }

    #[test]
    fn several_lines_are_one_list() {
        assert_eq!(chosen(&["gzip;q=0.5", "br;q=0.4"], &[Brotli, Gzip]), Some(Gzip));
        assert_eq!(chosen(&["gzip", "gzip;q=0"], &[Gzip]), None);
        assert_eq!(chosen(&[], &[Brotli, Gzip]), None, "nothing was said");
    }

    fn element() -> impl Strategy<Value = String> {
        let name = "gzip|x-gzip|BR|br|zstd|identity|\\*|deflate| gzip |";
        let weight = "|;q=[01](\\.[0-9]{0,3})?| ; q=0|;Q=0\\.[0-9]{1,4}|;[a-z]=1|;q=[0-9.]{0,4}";
        (name, weight).prop_map(|(name, weight)| name + &weight)
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_what_the_letter_says(
            elements in prop::collection::vec(element(), 0..6),
            offer: u8,
            at: u8,
        ) {
            let value = elements.join(",");
            fuzz_accept_encoding(&[&[offer, at % 32][..], value.as_bytes()].concat());
        }

        #[test]
        fn any_octets_are_survived(data in prop::collection::vec(any::<u8>(), 0..60)) {
            fuzz_accept_encoding(&data);
        }
    }
}
