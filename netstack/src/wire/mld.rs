//! Multicast Listener Discovery (RFC 3810, RFC 2710): queries in, reports out.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::WireError;

/// Multicast Listener Query, of both versions.
pub const TYPE_QUERY: u8 = 130;
/// Version 1's report.
pub const TYPE_REPORT_V1: u8 = 131;
/// Version 1's "done".
pub const TYPE_DONE_V1: u8 = 132;
/// Version 2's report.
pub const TYPE_REPORT_V2: u8 = 143;
/// ff02::16, all MLDv2-capable routers.
pub const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// The hop-by-hop header that every message carries: Router Alert with value 0 and PadN
/// (RFC 3810 5); its first octet is the Next Header of ICMPv6.
pub const ROUTER_ALERT: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];

const QUERY_V1_LEN: usize = 24;
const QUERY_V2_LEN: usize = 28;
const SOURCE_LEN: usize = 16;

/// A querier's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The querier speaks only version 1.
    pub version_1: bool,
    /// Answers are to be spread over this time.
    pub max_response: Duration,
    /// The group asked for; `::` for all.
    pub group: Ipv6Addr,
    sources: &'a [u8],
}

impl Query<'_> {
    /// The sources asked for; none for the whole group.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = Ipv6Addr> {
        self.sources.as_chunks::<SOURCE_LEN>().0.iter().map(|octets| Ipv6Addr::from(*octets))
    }
}

/// Reads a query; `octets` is the whole ICMPv6 message.
pub fn parse_query(octets: &[u8]) -> Result<Query<'_>, WireError> {
    let fixed = octets.first_chunk::<QUERY_V1_LEN>().ok_or(WireError::Malformed)?;
    let code = u16::from_be_bytes([fixed[4], fixed[5]]);
    let [.., group] = fixed.as_chunks::<8>().0 else { return Err(WireError::Malformed) };
    let mut address = [0; 16];
    address[..8].copy_from_slice(&fixed[8..16]);
    address[8..].copy_from_slice(group);
    let group = Ipv6Addr::from(address);
    // RFC 3810 8.1: the length tells the versions apart; any other is not taken.
    if octets.len() == QUERY_V1_LEN {
        let max_response = Duration::from_millis(u64::from(code));
        return Ok(Query { version_1: true, max_response, group, sources: &[] });
    }
    let sources = octets.get(QUERY_V2_LEN..).ok_or(WireError::Malformed)?;
    let count = usize::from(u16::from_be_bytes([octets[26], octets[27]]));
    let sources = sources.get(..count * SOURCE_LEN).ok_or(WireError::Malformed)?;
    // RFC 3810 5.1.3: from 32768 on it is a floating-point number.
    let millis = match code {
        0..0x8000 => u64::from(code),
        _ => u64::from(code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
    };
    Ok(Query { version_1: false, max_response: Duration::from_millis(millis), group, sources })
}

/// What a record says of a group (RFC 3810 5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// An answer: listening to these sources.
    IsInclude = 1,
    /// An answer: listening to all but these sources.
    IsExclude = 2,
    /// News: listening to these sources from now on; with none, leaving.
    ToInclude = 3,
    /// News: listening to all but these from now on; with none, joining.
    ToExclude = 4,
}

/// One group in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What is said.
    pub kind: RecordKind,
    /// Of which group.
    pub group: Ipv6Addr,
    /// About which sources.
    pub sources: Vec<Ipv6Addr>,
}

/// A version 2 report as an ICMPv6 message, not sealed.
pub fn make_report(records: &[Record]) -> Vec<u8> {
    let mut message = vec![TYPE_REPORT_V2, 0, 0, 0, 0, 0];
    message.extend((records.len() as u16).to_be_bytes());
    for record in records {
        message.extend([record.kind as u8, 0]);
        message.extend((record.sources.len() as u16).to_be_bytes());
        message.extend(record.group.octets());
        for source in &record.sources {
            message.extend(source.octets());
        }
    }
    message
}

/// A version 1 report or "done" as an ICMPv6 message, not sealed.
pub fn make_v1(kind: u8, group: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(group.octets());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 7);

    fn query(code: u16, tail: &[u8]) -> Vec<u8> {
        let mut message = vec![TYPE_QUERY, 0, 0, 0];
        message.extend(code.to_be_bytes());
        message.extend([0, 0]);
        message.extend(GROUP.octets());
        message.extend_from_slice(tail);
        message
    }

    #[test]
    fn the_length_tells_the_version() {
        let first = query(1000, &[]);
        let read = parse_query(&first).unwrap();
        assert!(read.version_1 && read.group == GROUP);
        assert_eq!(read.max_response, Duration::from_secs(1));
        for length in [0, 8, 23, 25, 27] {
            let long = query(1000, &[0; 4]);
            assert_eq!(parse_query(&long[..length]), Err(WireError::Malformed), "{length}");
        }
        let second = query(1000, &[2, 125, 0, 0]);
        assert!(!parse_query(&second).unwrap().version_1);
    }

    #[test]
    fn sources_and_the_long_response_code() {
        let mut message = query(0x8000, &[2, 125, 0, 1]);
        assert_eq!(parse_query(&message), Err(WireError::Malformed));
        message.extend(Ipv6Addr::LOCALHOST.octets());
        let read = parse_query(&message).unwrap();
        assert_eq!(read.sources().collect::<Vec<_>>(), [Ipv6Addr::LOCALHOST]);
        // RFC 3810 5.1.3: (mant | 0x1000) << (exp + 3).
        assert_eq!(read.max_response, Duration::from_millis(0x1000 << 3));
    }

    #[test]
    fn reports_are_laid_out_as_the_rfc_draws_them() {
        let sources = vec![Ipv6Addr::LOCALHOST];
        let record = Record { kind: RecordKind::IsInclude, group: GROUP, sources };
        let message = make_report(&[record]);
        assert_eq!(message[..12], [143, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1]);
        assert_eq!(message[12..28], GROUP.octets());
        assert_eq!(message[28..], Ipv6Addr::LOCALHOST.octets());
        assert_eq!(make_v1(TYPE_DONE_V1, GROUP)[8..], GROUP.octets());
    }
}
