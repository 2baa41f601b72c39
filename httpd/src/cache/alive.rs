//! What lives of files, whoever holds it.
//!
//! The cache's own size bounds what it keeps, but what it lets go of lives on while a client takes
//! it: a crowd of slow ones could hold its size many times over. So all that was read to be kept is
//! counted until nobody holds it any more; while it is too much, nothing more is read to be kept
//! ([`Cache::is_crowded`](super::Cache)).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Octets that live.
#[derive(Debug, Clone, Default)]
pub(super) struct Alive(Arc<AtomicU64>);

impl Alive {
    pub(super) fn octets(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many more, until the result is dropped.
    pub(super) fn count(&self, octets: usize) -> Counted {
        let octets = octets as u64;
        self.0.fetch_add(octets, Ordering::Relaxed);
        Counted { octets, alive: self.clone() }
    }

    /// The body of a file.
    pub(super) fn body(&self, octets: Vec<u8>) -> Bytes {
        let _counted = self.count(octets.len());
        Bytes::from_owner(Body { octets, _counted })
    }
}

/// Octets that are counted as long as this lives.
#[derive(Debug)]
pub(super) struct Counted {
    octets: u64,
    alive: Alive,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.0.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

struct Body {
    octets: Vec<u8>,
    _counted: Counted,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_counted_until_the_last_holder_lets_go() {
        let alive = Alive::default();
        let body = alive.body(vec![7; 100]);
        let part = body.clone().slice(10..20);
        let other = alive.count(5);
        assert_eq!((alive.octets(), &part[..]), (105, &[7; 10][..]));
        drop((body, other));
        assert_eq!(alive.octets(), 100);
        drop(part);
        assert_eq!(alive.octets(), 0);
    }
}
