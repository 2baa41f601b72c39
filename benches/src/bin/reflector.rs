//! The reflector.
#![forbid(unsafe_code)]
fn main() {}
