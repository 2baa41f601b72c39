//! The same requests to Tagwire and to nginx, octet by octet, and their answers side by side.
//!
//! Each case ([`cases`]) is what one connection sends, valid or broken, to both over the same
//! www-root ([`subjects`]). What came back ([`exchange`]) is compared: the statuses, the fields
//! that matter, the bodies, and whether the connection stays open ([`compare`]). Each difference
//! is a line of [`differences::DIFFERENCES`] with its reason; one that is not there fails the
//! suite, and so does a line that is no longer true.
//!
//! A test target with a harness of its own: `cargo test -p tagwire --test differential --
//! [--list] [PART OF A NAME]...`. Without root the suite says that it was skipped.
#![forbid(unsafe_code)]

#[allow(dead_code)] // what the end-to-end tests need more of it
#[path = "../e2e/bed.rs"]
mod bed;
mod case;
mod cases;
mod compare;
mod differences;
mod exchange;
#[path = "../common/harness.rs"]
mod harness;
#[path = "../common/nginx.rs"]
mod nginx;
mod run;
mod subjects;

fn main() -> std::process::ExitCode {
    run::main(cases::all())
}
