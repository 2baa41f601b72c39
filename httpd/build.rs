//! Tells the program when it was built: at SOURCE_DATE_EPOCH, which makes builds repeatable
//! (reproducible-builds.org), else now.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    for sources in ["src", "../netstack/src", "../core/src"] {
        println!("cargo::rerun-if-changed={sources}");
    }
    let told = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok());
    let time = told.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    let date = humantime::format_rfc3339_seconds(time.unwrap_or_else(SystemTime::now)).to_string();
    // As VPP has it, without the Z.
    println!("cargo::rustc-env=TAGWIRE_BUILD_DATE={}", date.trim_end_matches('Z'));
}
