//! The kernel boundary.

#[cfg(feature = "lab")]
pub mod lab;
