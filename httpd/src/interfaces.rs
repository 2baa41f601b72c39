//! Figures of the interface and of the VLANs on it, for who asks over HTTP, see [`crate::builtin`].
//!
//! Each worker publishes what it has counted, at most every hundredth of a second, in places that
//! nobody else writes to: no frame waits for somebody who asks, and who asks waits for nobody.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tagwire_netstack::{Stats, VlanStack};

/// What is counted in a VLAN, by VPP's names. A large segment that the link cuts is one packet, as
/// it is to VPP.
const TRAFFIC: [&str; 7] =
    ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "drops", "ip4", "ip6"];
/// What is lost where no VLAN is known: for want of room in the ring, as too long for it, and on the
/// way out.
const LOSSES: [&str; 3] = ["rx-miss", "rx-error", "tx-error"];

/// A worker's counts of [`TRAFFIC`] in one VLAN.
pub type Traffic = [u64; TRAFFIC.len()];
/// A worker's counts of [`LOSSES`].
pub type Losses = [u64; LOSSES.len()];

/// What a stack has counted.
pub fn traffic(stats: &Stats) -> Traffic {
    [
        stats.frames_in,
        stats.octets_in,
        stats.frames_out,
        stats.octets_out,
        stats.drops(),
        stats.ipv4_in,
        stats.ipv6_in,
    ]
}

/// The interface, and what all workers have published of it.
#[derive(Debug, Default)]
pub struct Interfaces {
    name: String,
    vlans: Box<[VlanStack]>,
    workers: Box<[Published]>,
}

/// What one worker has.
#[derive(Debug)]
struct Published {
    /// In each VLAN.
    traffic: Box<[[AtomicU64; TRAFFIC.len()]]>,
    losses: [AtomicU64; LOSSES.len()],
}

/// A worker's place to publish in.
#[derive(Debug)]
pub struct Meter {
    interfaces: Arc<Interfaces>,
    worker: usize,
}

/// One interface: the one that frames come by, or a VLAN on it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) figures: Vec<(&'static str, u64)>,
}

impl Interfaces {
    /// The interface of this name, with these VLANs, each of which so many workers serve.
    pub fn new(name: &str, vlans: &[VlanStack], workers: usize) -> Self {
        let published = || Published {
            traffic: vlans.iter().map(|_| Default::default()).collect(),
            losses: Default::default(),
        };
        Self {
            name: name.to_owned(),
            vlans: vlans.into(),
            workers: std::iter::repeat_with(published).take(workers).collect(),
        }
    }

    /// The place of each worker.
    pub fn meters(self: &Arc<Self>) -> impl Iterator<Item = Meter> {
        let this = Arc::clone(self);
        (0..self.workers.len()).map(move |worker| Meter { interfaces: Arc::clone(&this), worker })
    }

    /// All of them, named as VPP names them: first the interface itself, with all that came and
    /// went by it, then each VLAN that has a tag.
    pub(crate) fn all(&self) -> Vec<Interface> {
        let of_vlan = |vlan: usize| {
            let each = self.workers.iter().filter_map(|worker| worker.traffic.get(vlan));
            sum(each.map(load))
        };
        let of_vlans: Vec<Traffic> = (0..self.vlans.len()).map(of_vlan).collect();
        let losses = sum(self.workers.iter().map(|worker| load(&worker.losses)));
        let own = TRAFFIC.into_iter().zip(sum(of_vlans.iter().copied()));
        let own = own.chain(LOSSES.into_iter().zip(losses)).collect();
        let tagged = self.vlans.iter().zip(of_vlans);
        let tagged = tagged.filter(|(vlan, _)| **vlan != VlanStack::UNTAGGED);
        let tagged = tagged.map(|(vlan, traffic)| Interface {
            name: format!("{}.{vlan}", self.name),
            figures: TRAFFIC.into_iter().zip(traffic).collect(),
        });
        let own = Interface { name: self.name.clone(), figures: own };
        std::iter::once(own).chain(tagged).collect()
    }
}

impl Meter {
    /// This worker has counted so much in its VLANs, in their order, and lost so much.
    pub fn publish(&self, traffic: impl Iterator<Item = Traffic>, losses: Losses) {
        let Some(published) = self.interfaces.workers.get(self.worker) else { return };
        published.traffic.iter().zip(traffic).for_each(|(places, counts)| store(places, counts));
        store(&published.losses, losses);
    }
}

fn store<const N: usize>(places: &[AtomicU64; N], counts: [u64; N]) {
    places.iter().zip(counts).for_each(|(place, count)| place.store(count, Relaxed));
}

fn load<const N: usize>(places: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|at| places[at].load(Relaxed))
}

fn sum<const N: usize>(each: impl Iterator<Item = [u64; N]>) -> [u64; N] {
    each.fold([0; N], |sum, more| std::array::from_fn(|at| sum[at].saturating_add(more[at])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_vlans_are_summed_under_the_names_of_vpp() {
        let vlans = ["123", "0", "100.200"].map(|text| text.parse().unwrap());
        let interfaces = Arc::new(Interfaces::new("macvlan0", &vlans, 2));
        let meters: Vec<Meter> = interfaces.meters().collect();
        meters[0].publish([[1; 7], [10; 7], [100; 7]].into_iter(), [5, 6, 7]);
        meters[1].publish([[2; 7], [20; 7], [0; 7]].into_iter(), [1, 0, 0]);
        // Counts are since the start, and so what was published before is not added.
        meters[1].publish([[3; 7], [20; 7], [0; 7]].into_iter(), [2, 0, 0]);
        let all = interfaces.all();
        let names: Vec<_> = all.iter().map(|interface| &*interface.name).collect();
        assert_eq!(names, ["macvlan0", "macvlan0.123", "macvlan0.100.200"]);
        let sums: Vec<Vec<u64>> = all
            .iter()
            .map(|interface| interface.figures.iter().map(|(_, count)| *count).collect())
            .collect();
        assert_eq!(sums[0], [134, 134, 134, 134, 134, 134, 134, 7, 6, 7]);
        assert_eq!((&sums[1], &sums[2]), (&vec![4; 7], &vec![100; 7]));
        let figures: Vec<_> = all[0].figures.iter().map(|(name, _)| *name).collect();
        assert_eq!(figures, [&TRAFFIC[..], &LOSSES].concat());
    }
}
