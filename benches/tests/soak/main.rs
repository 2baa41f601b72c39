//! The beginning of `make soak`: two minutes of it where `CI` is set and 20 s elsewhere, or
//! `SOAK_SECONDS`. Needs root; without, it says so and passes.
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

use std::time::Duration;

use common::{skipped, tagwire};
use tagwire_benches::soak;

#[test]
fn mixed_traffic_meets_no_error_and_no_wrong_octet_and_memory_is_flat() {
    if skipped() {
        return;
    }
    let usual = if std::env::var_os("CI").is_some() { 120 } else { 20 };
    let given = std::env::var("SOAK_SECONDS").ok();
    let seconds = given.map_or(usual, |given| given.parse().expect("SOAK_SECONDS is a number"));
    let summary = soak::run(&tagwire(), 1, Duration::from_secs(seconds)).unwrap();
    println!("{}", summary.table());
    assert!(summary.holds(), "{}", summary.table());
}
