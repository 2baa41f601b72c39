//! What carries the packets and reads the files: io_uring where it is allowed, else poll(2) and
//! plain reads.

use std::fmt::Display;
use std::str::FromStr;

use tagwire_core::driver::DriverKind;

/// What `--driver` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// io_uring, or the poll driver where it is refused.
    #[default]
    Auto,
    /// io_uring, or nothing.
    Uring,
    /// The poll driver.
    Poll,
}

impl FromStr for DriverChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::Uring),
            "poll" => Ok(Self::Poll),
            other => Err(format!("{other:?} is no driver; use auto, io_uring or poll")),
        }
    }
}

/// The driver of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Driver {
    pub(crate) kind: DriverKind,
    /// Why it is this one, if there is more to say than that it is the best.
    pub(crate) reason: Option<String>,
}

impl DriverChoice {
    /// Decides once for all of the process; `probe` tries io_uring, and is not called where nobody
    /// wants it.
    ///
    /// # Errors
    /// What refuses io_uring where nothing else will do.
    pub(crate) fn decide<E: Display>(
        self,
        probe: impl FnOnce() -> Result<(), E>,
    ) -> Result<Driver, E> {
        let asked = Some("--driver asks for it".to_owned());
        match self {
            Self::Poll => Ok(Driver { kind: DriverKind::Poll, reason: asked }),
            Self::Uring => probe().map(|()| Driver { kind: DriverKind::Uring, reason: asked }),
            Self::Auto => Ok(match probe() {
                Ok(()) => Driver { kind: DriverKind::Uring, reason: None },
                Err(refusal) => {
                    let reason = refusal.to_string();
                    tracing::warn!(
                        reason,
                        "serving by the poll driver, for somewhat more CPU time"
                    );
                    Driver { kind: DriverKind::Poll, reason: Some(reason) }
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_uring_is_used_where_it_is_allowed_and_wanted() {
        let decide = |choice: DriverChoice, probed: Result<(), &'static str>| {
            choice.decide(|| probed).map(|driver| (driver.kind, driver.reason))
        };
        let asked = || Some("--driver asks for it".to_owned());
        assert_eq!(decide(DriverChoice::Auto, Ok(())), Ok((DriverKind::Uring, None)));
        assert_eq!(
            decide(DriverChoice::Auto, Err("forbidden")),
            Ok((DriverKind::Poll, Some("forbidden".to_owned())))
        );
        assert_eq!(decide(DriverChoice::Uring, Ok(())), Ok((DriverKind::Uring, asked())));
        assert_eq!(decide(DriverChoice::Uring, Err("forbidden")), Err("forbidden"));
        let untouched = || -> Result<(), &str> { panic!("nobody asked for io_uring") };
        let driver = DriverChoice::Poll.decide(untouched).unwrap();
        assert_eq!((driver.kind, driver.reason), (DriverKind::Poll, asked()));
    }
}
