//! The stack.
#![forbid(unsafe_code)]
