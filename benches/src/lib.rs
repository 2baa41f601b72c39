//! How fast it is: beside the limit, and beside nginx.
#![forbid(unsafe_code)]

pub mod reflector;
