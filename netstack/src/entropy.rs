//! Keyed hashing: unpredictable to a peer, the same for the same secret.

use std::hash::{BuildHasher, Hasher};

use siphasher::sip::{SipHasher13, SipHasher24};

/// Hash keys for one stack, made from its secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    secret: [u8; 16],
}

impl Keys {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    /// A pseudo-random function of `input`, one for each `purpose` (RFC 6528 3: F()).
    pub(crate) fn prf(&self, purpose: u8, input: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write_u8(purpose);
        hasher.write(input);
        hasher.finish()
    }
}

/// Tables keyed by what peers choose hash with a secret, so that no peer can fill a bucket.
impl BuildHasher for Keys {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.secret)
    }
}
