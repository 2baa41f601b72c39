//! Errors that a person can act on.

use std::fmt;

/// What a function of the lab returns.
pub type LabResult<T> = Result<T, LabError>;

/// What failed, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabError {
    what: String,
    why: String,
    fix: String,
}

impl LabError {
    /// An error from its three parts: `what` could not be done, `why`, and the `fix`.
    pub fn new(what: impl Into<String>, why: impl fmt::Display, fix: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.to_string(), fix: fix.into() }
    }

    /// What could not be done.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Why it could not.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What to do about it.
    pub fn fix(&self) -> &str {
        &self.fix
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  what to do: {}", self.what, self.why.trim_end(), self.fix)
    }
}

impl std::error::Error for LabError {}
