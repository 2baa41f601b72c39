//! Conformance, clause by clause, against two subjects: the appliance, and Linux's own TCP/IP
//! (nginx in the pod beside it) behind the same VLAN.
//!
//! Each case is a function over a [`host::Host`], an end of the cable that no kernel speaks for:
//! it sends frame by frame what the clause is about and says what must come of it. A case that
//! passes on both subjects is conformance. One that fails on a subject is a bug, or a line of
//! [`differences::DIFFERENCES`] that argues it.
//!
//! This is a test target with a harness of its own, since all cases share one lab and are run
//! twice: `cargo test -p tagwire --test conformance -- [--list] [PART OF A NAME]...`. `--list`
//! prints each case with its RFC, section and requirement; a run ends with the matrix of case
//! and subjects. Without root the suite says that it was skipped.
#![forbid(unsafe_code)]

#[allow(dead_code)] // what the end-to-end tests need more of it
#[path = "../e2e/bed.rs"]
mod bed;
mod case;
mod differences;
#[allow(dead_code)] // what the differential suite needs more of it
#[path = "../common/harness.rs"]
mod harness;
mod host;
mod hub;
mod ip;
#[path = "../common/nginx.rs"]
mod nginx;
#[allow(dead_code)] // what the end-to-end tests need more of it
#[path = "../common/packet.rs"]
mod packet;
mod run;
mod subjects;
mod tcp;

mod rfc1122;
mod rfc2018;
mod rfc4861;
mod rfc5927;
mod rfc5961;
mod rfc6298;
mod rfc7323;
mod rfc8200;
mod rfc826;
mod rfc9293_closing;
mod rfc9293_established;
mod rfc9293_open;
mod rfc9293_rules;

use case::Case;

/// All of them, in the order of the matrix.
const CASES: &[&[Case]] = &[
    rfc9293_open::CASES,
    rfc9293_established::CASES,
    rfc9293_closing::CASES,
    rfc9293_rules::CASES,
    rfc5961::CASES,
    rfc7323::CASES,
    rfc2018::CASES,
    rfc6298::CASES,
    rfc1122::CASES,
    rfc826::CASES,
    rfc8200::CASES,
    rfc4861::CASES,
    rfc5927::CASES,
];

fn main() -> std::process::ExitCode {
    run::main(CASES.concat())
}
