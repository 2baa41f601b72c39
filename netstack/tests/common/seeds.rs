//! Runs a simulation for many seeds on all CPUs, or for the one that is asked for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// `TAGWIRE_SIM_SEED` names the one seed to repeat, `TAGWIRE_SIM_SEEDS` another number of them
/// than `count`. `run` is given the seed and whether it is the only one; `repeat` is what
/// `cargo test` is to be told so that it runs the failed seed again.
pub(crate) fn run(count: u64, repeat: &str, run: impl Fn(u64, bool) + Sync) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    if let Some(seed) = number("TAGWIRE_SIM_SEED") {
        run(seed, true);
        return;
    }
    let seeds = number("TAGWIRE_SIM_SEEDS").unwrap_or(count);
    let next = AtomicU64::new(0);
    let worker = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return failed;
            }
            if catch_unwind(AssertUnwindSafe(|| run(seed, false))).is_err() {
                eprintln!(
                    "seed {seed} failed; this repeats it, and with TAGWIRE_SIM_TRACE=1 prints every \
                     frame:\n  TAGWIRE_SIM_SEED={seed} cargo test -p tagwire-netstack {repeat}"
                );
                failed.push(seed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}
