//! What the admin endpoint says, worked out from the status: `/readyz` and `/metrics`. Who asks
//! and how is in [`crate::cold`].

pub mod metrics;
pub mod ready;
