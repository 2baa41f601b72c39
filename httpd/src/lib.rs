//! The appliance.
#![forbid(unsafe_code)]
