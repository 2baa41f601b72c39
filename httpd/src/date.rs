//! The `Date` field (RFC 9110 6.6.1), formatted once a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Octets of `Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n`.
pub const DATE_LINE: usize = 37;

/// A worker's own formatted field line. It has no clock: the time is an argument.
#[derive(Debug)]
pub struct DateLine {
    /// Seconds since 1970 that `line` shows.
    second: u64,
    line: [u8; DATE_LINE],
}

impl DateLine {
    /// The line for `now`.
    pub fn new(now: SystemTime) -> Self {
        let mut date = Self { second: 0, line: *b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" };
        date.update(now);
        date
    }

    /// Formats anew when `now` is in another second than the time before.
    pub fn update(&mut self, now: SystemTime) {
        let second = unix_seconds(now);
        if second != self.second {
            self.second = second;
            let text = imf_fixdate(second);
            self.line[6..6 + text.len()].copy_from_slice(text.as_bytes());
        }
    }

    /// The whole field line, CRLF included.
    pub fn line(&self) -> &[u8; DATE_LINE] {
        &self.line
    }
}

/// 9999-12-31T23:59:59Z: the last one that an HTTP date can show.
pub const LAST_SECOND: u64 = 253_402_300_799;

/// Whole seconds since 1970, within what an HTTP date can show (years 1970 to 9999).
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST_SECOND)
}

/// `second` since 1970 in the fixed format of RFC 9110 5.6.7: always 29 octets.
pub fn imf_fixdate(second: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_follows_the_second() {
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        let mut date = DateLine::new(at(784_111_777_000));
        assert_eq!(date.line(), b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        date.update(at(784_111_777_999));
        assert_eq!(date.line(), b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        date.update(at(784_111_778_000));
        assert_eq!(date.line(), b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
    }

    #[test]
    fn times_outside_of_the_format_are_clamped() {
        assert_eq!(unix_seconds(UNIX_EPOCH - Duration::from_secs(1)), 0);
        let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(DateLine::new(far).line(), b"Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n");
    }
}
