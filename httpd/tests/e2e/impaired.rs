//! A wire that loses, repeats, reorders and damages: slower, and all octets right.

use std::time::{Duration, Instant};

use tagwire_lab::{Direction, Lab, WireConfig};

use crate::bed::{Bed, alone, content};
use crate::client::download;

const MIB: usize = 1 << 20;

fn bed_with(wire: &str) -> Option<Bed> {
    let wire: WireConfig = wire.parse().unwrap();
    let mut bed = Bed::down(Lab::builder().wire(wire))?;
    bed.start(&[]);
    Some(bed)
}

fn assert_within(limit: Duration, work: impl FnOnce()) {
    let started = Instant::now();
    work();
    let took = started.elapsed();
    assert!(took < limit, "{took:?}");
}

#[test]
fn all_octets_are_right_on_a_bad_wire() {
    let plan = "seed=7,loss=1%,duplicate=1%,reorder=1%,corrupt=1%";
    let Some(bed) = bed_with(plan) else { return };
    let (small, large) = (content(5, MIB), content(6, 20 * MIB));
    bed.put("small.bin", &small);
    bed.put("large.bin", &large);
    let turn = alone();
    assert_within(Duration::from_secs(60), || {
        for _ in 0..5 {
            download(&bed, "/small.bin", &small, 4);
        }
        download(&bed, "/large.bin", &large, 1);
    });
    drop(turn);
    for direction in [Direction::Up, Direction::Down] {
        let counts = bed.lab().wire().unwrap().counts(direction);
        let hit = [counts.lost, counts.duplicated, counts.reordered, counts.corrupted];
        assert!(hit.iter().all(|&frames| frames > 10), "{direction:?}: {counts:?}");
    }
    assert!(bed.counted("drop_checksum") > 0);
    bed.finish();
}

#[test]
pub(crate) fn all_octets_are_right_on_a_bad_wire_with_delay() {
    let plan = "seed=8,delay=20ms,loss=1%,duplicate=1%,reorder=1%,corrupt=0.5%";
    let Some(bed) = bed_with(plan) else { return };
    let file = content(7, MIB);
    bed.put("file.bin", &file);
    assert_within(Duration::from_secs(40), || download(&bed, "/file.bin", &file, 8));
    bed.finish();
}

#[test]
pub(crate) fn a_long_wire_is_filled() {
    let Some(bed) = bed_with("delay=20ms") else { return };
    let file = content(8, 20 * MIB);
    bed.put("file.bin", &file);
    let turn = alone();
    // Slow start needs about ten round trips of 40 ms; a window that does not open, 320.
    assert_within(Duration::from_secs(6), || download(&bed, "/file.bin", &file, 1));
    drop(turn);
    bed.finish();
}
