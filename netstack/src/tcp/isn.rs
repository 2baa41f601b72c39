//! Initial sequence numbers (RFC 6528) and timestamp offsets.

use super::demux::FourTuple;
use super::seq::SeqNum;
use crate::entropy::Keys;
use crate::time::Instant;

const PURPOSE_ISN: u8 = 1;
const PURPOSE_TIMESTAMP: u8 = 2;

/// RFC 6528 3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey), where M is
/// a 4 microsecond timer.
pub(crate) fn initial_sequence(keys: &Keys, tuple: &FourTuple, now: Instant) -> SeqNum {
    let m = (now.as_nanos() / 4_000) as u32;
    SeqNum(m.wrapping_add(keys.prf(PURPOSE_ISN, tuple.octets().as_ref()) as u32))
}

/// RFC 7323 5.4: the timestamp clock starts at a random offset for each connection, so that
/// it tells nobody how long the machine has been up.
pub(crate) fn timestamp_offset(keys: &Keys, tuple: &FourTuple) -> u32 {
    keys.prf(PURPOSE_TIMESTAMP, tuple.octets().as_ref()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_one_every_four_microseconds_and_differs_between_tuples_and_secrets() {
        let keys = Keys::new([1; 16]);
        let tuple = FourTuple::for_test(1);
        let at = |nanos| initial_sequence(&keys, &tuple, Instant::from_nanos(nanos));
        assert_eq!(at(40_000) - at(0), 10);
        let other = initial_sequence(&keys, &FourTuple::for_test(2), Instant::from_nanos(0));
        assert_ne!(other, at(0));
        let secret = initial_sequence(&Keys::new([2; 16]), &tuple, Instant::from_nanos(0));
        assert_ne!(secret, at(0));
    }
}
