//! Goodput on bad lines: Tagwire beside nginx on the kernel's TCP, with the same congestion
//! control, over the same wire with the same seed.
//!
//! # How it is measured
//!
//! A [`cell`] is a line of 100 Mbit/s in both directions, each with a tail-drop queue of 1000 frames
//! before it, with a round-trip time, that loses or reorders frames on their way to the client. A run
//! is one download of 20 MB by curl, from its first SYN; the wire begins anew with the
//! seed before each, so that the n-th frame meets the same fate whoever sends it. A run that is not
//! through within a time limit counts by what has arrived until then, for both contenders alike.
//! Contenders take turns, seed after seed; what counts is the ratio of medians.
//!
//! In a `fair` cell two flows of each share the line for a while; the first quarter is not counted.
//!
//! The kernel's server gets its congestion control by its route (`ip route ... congctl`), which neither
//! needs nor changes what the machine's other namespaces use, and is checked with `ss`. Neither the kernel's
//! server nor the client remembers paths (`tcp_no_metrics_save`).
//!
//! Cells are bound by their line and not by the CPU: several labs ([`arena`]) run
//! at once. Whether that is true is counted: a run in which more than one in 50 frames left the
//! wire over half a millisecond late is repeated, and marked if it stays so.

pub mod arena;
pub mod cell;
pub mod report;
pub mod schedule;
