//! The chunked coding of a request's body (RFC 9112 7.1), read past: no request of ours uses its
//! content, but where it ends the next request begins.
//!
//! Nothing is taken leniently. A line that ends without CR, an extension without end, a size that
//! is no hexadecimal number: whoever stands before us may have read it otherwise, and the
//! connection ends (request smuggling).

use crate::limits::{MAX_CHUNK_OVERHEAD, MAX_DISCARDED_BODY};

/// The body cannot be framed, or is larger than what is read past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBody;

/// Finds the end of a chunked body, however it arrives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    /// Of the current chunk: what is still to come.
    left: u64,
    /// Octets of content so far, and of everything else.
    content: u64,
    overhead: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Size,
    Digits,
    /// Behind the size, up to CR.
    Extension,
    SizeLf,
    Content,
    ContentCr,
    ContentLf,
    /// At the start of a trailer line, or of the empty one.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

impl Chunked {
    /// Takes what has arrived next, and returns how much of it belongs to the body; whether the
    /// body is over says [`is_over`](Self::is_over).
    ///
    /// # Errors
    /// [`BadBody`]: the connection must end.
    pub fn take(&mut self, input: &[u8]) -> Result<usize, BadBody> {
        let mut at = 0;
        while at < input.len() && self.state != State::End {
            if self.state == State::Content {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                self.left -= here as u64;
                at += here;
                if self.left == 0 {
                    self.state = State::ContentCr;
                }
                continue;
            }
            self.overhead += 1;
            if self.overhead > MAX_CHUNK_OVERHEAD {
                return Err(BadBody);
            }
            self.state = self.step(input[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// The last octet was taken.
    pub fn is_over(&self) -> bool {
        self.state == State::End
    }

    fn step(&mut self, octet: u8) -> Result<State, BadBody> {
        use State::{
            Content, ContentCr, ContentLf, Digits, End, EndLf, Extension, Size, SizeLf, Trailer,
            TrailerLf, TrailerStart,
        };
        Ok(match (self.state, octet) {
            (Size | Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(octet).to_digit(16).ok_or(BadBody)?;
                self.left = self.left.checked_mul(16).ok_or(BadBody)? + u64::from(digit);
                if self.content.saturating_add(self.left) > u64::from(MAX_DISCARDED_BODY) {
                    return Err(BadBody);
                }
                Digits
            }
            (Digits, b';') => Extension,
            (Extension, 0x21..=0x7e | b' ' | b'\t' | 0x80..) => Extension,
            (Digits | Extension, b'\r') => SizeLf,
            (SizeLf, b'\n') if self.left == 0 => TrailerStart,
            (SizeLf, b'\n') => {
                self.content += self.left;
                Content
            }
            (ContentCr, b'\r') => ContentLf,
            (ContentLf, b'\n') => Size,
            (TrailerStart, b'\r') => EndLf,
            (EndLf, b'\n') => End,
            (Trailer, b'\r') => TrailerLf,
            (TrailerLf, b'\n') => TrailerStart,
            // A line that begins with a blank continues the one before (obs-fold).
            (TrailerStart, 0x21..=0x7e) | (Trailer, 0x20..=0x7e | b'\t' | 0x80..) => Trailer,
            _ => return Err(BadBody),
        })
    }
}

/// Any octets: no panic, and the same end, or the same refusal, in whatever pieces they arrive.
pub fn fuzz_chunked(data: &[u8]) {
    let mut whole = Chunked::default();
    let end = whole.take(data);
    let mut split = Chunked::default();
    let (mut taken, mut refused) = (0, false);
    for octet in data {
        match split.take(std::slice::from_ref(octet)) {
            Ok(octets) => taken += octets,
            Err(BadBody) => {
                refused = true;
                break;
            }
        }
    }
    match end {
        Ok(end) => assert!(!refused && taken == end && split == whole),
        Err(BadBody) => assert!(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn end(body: &str) -> Result<Option<usize>, BadBody> {
        fuzz_chunked(body.as_bytes());
        let mut chunked = Chunked::default();
        let taken = chunked.take(body.as_bytes())?;
        Ok(chunked.is_over().then_some(taken))
    }

    #[test]
    fn where_bodies_end() {
        for (body, rest) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "GET / "),
            ("00A\r\n0123456789\r\n000\r\n\r\n", "x"),
            ("5;name=\"value\";x\r\nhello\r\n0\r\n\r\n", ""),
            ("1\r\na\r\n2\r\nbc\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", "more"),
        ] {
            assert_eq!(end(&format!("{body}{rest}")), Ok(Some(body.len())), "{body:?}");
            for cut in 0..body.len() {
                assert_eq!(end(&body[..cut]), Ok(None), "{body:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_refused() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+5\r\nhello",
            " 5\r\nhello",
            "5 \r\nhello",
            "0x5\r\nhello",
            "5\nhello\n0\n\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5;a\nb\r\nhello",
            "5;\0\r\nhello",
            "0\r\n\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\r\n",
            "10001\r\n",
            "ffffffffffffffff\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ] {
            assert_eq!(end(body), Err(BadBody), "{body:?}");
        }
        // Each chunk is small enough, and all of them together are not.
        let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
        assert_eq!(end(&format!("{chunk}{chunk}0\r\n\r\n")), Ok(Some(2 * chunk.len() + 5)));
        assert_eq!(end(&format!("{chunk}{chunk}1\r\n")), Err(BadBody));
        // A body that is nothing but heads of chunks, or an extension without end.
        assert_eq!(end(&"1\r\nx\r\n".repeat(10_000)), Err(BadBody));
        assert_eq!(end(&format!("1;{}", "x".repeat(100_000))), Err(BadBody));
    }

    proptest! {
        #[test]
        fn any_octets_are_survived(data in prop::collection::vec(
            prop_oneof![prop::sample::select(b"\r\n;0123aF x:".to_vec()), any::<u8>()], 0..60,
        )) {
            fuzz_chunked(&data);
        }
    }
}
