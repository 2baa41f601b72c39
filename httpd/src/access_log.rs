//! The access log: a line for each request that was answered, in nginx's combined format or JSON.
//!
//! ```text
//!   worker: Log, a batch of its own  --once a turn-->  its mailbox  ----->  tagwire-log: formats, writes
//! ```
//!
//! 1. A worker notes a request in a batch that nobody else sees ([`Log`]); no call, no lock.
//! 2. At the end of a turn it puts the batch into its mailbox, whose lock the other side holds for
//!    the exchange of two pointers. Should it be held just then, the next turn does it. A mailbox
//!    that is full, as the disk or the reader of a pipe is slow, costs lines, which are counted and
//!    told of ([`complaints`]), and never an answer.
//! 3. A thread of its own empties the mailboxes, formats what was in them ([`format`](mod@format)) and
//!    writes it, to a file in large pieces, to a pipe as it has room ([`output`]); it then lets
//!    more come together for a while, so that under load nobody has to wake it.
//! 4. SIGUSR1 has it open its file anew. What was noted before goes to either file, and nothing is
//!    lost: the old one is written to its last whole line.
//!
//! An answer whose body is short is noted once it is queued, as nginx notes what the kernel has
//! taken; one of more than [`NOTED_WHEN_QUEUED`] octets when the client has acknowledged all of it,
//! or when its connection ends, with what was acknowledged by then.

mod batch;
mod complaints;
pub(crate) mod format;
mod output;
mod thread;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::io::Errno;

pub use batch::Note;
pub(crate) use batch::{Log, Unfinished};
pub use format::fuzz_access_log;
pub use thread::{AccessLog, Opened, Reopener};

/// Octets of a body up to which an answer is noted when it is queued: about what a path's first
/// round trips carry.
pub const NOTED_WHEN_QUEUED: usize = 64 * 1024;

/// Where the access log goes, and in which shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Where to.
    pub target: Target,
    /// How a line looks.
    pub format: Format,
}

/// Where the access log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    #[default]
    Off,
    /// Standard output.
    Stdout,
    /// A file, which lines are appended to.
    File(PathBuf),
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// As nginx's and Apache's `combined`, in UTC.
    #[default]
    Combined,
    /// One JSON object a line.
    Json,
}

impl Target {
    /// Whether lines can be written there, as far as that shows without opening or making anything.
    ///
    /// # Errors
    /// They cannot, for this process's user.
    pub fn check(&self) -> Result<(), AccessLogError> {
        match self {
            Self::File(path) => {
                output::check(path).map_err(|error| AccessLogError(path.clone(), error))
            }
            Self::Off | Self::Stdout => Ok(()),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "off" => Ok(Self::Off),
            "-" => Ok(Self::Stdout),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "combined" => Ok(Self::Combined),
            "json" => Ok(Self::Json),
            other => Err(format!("{other:?} is no format of the access log; use combined or json")),
        }
    }
}

/// The access log cannot be had; the text says what to do.
#[derive(Debug)]
pub struct AccessLogError(PathBuf, io::Error);

impl fmt::Display for AccessLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, error) = self;
        let path = path.display();
        // open(2) on a FIFO.
        if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
            return write!(f, "nobody reads the access log {path}; start its reader first");
        }
        write!(
            f,
            "the access log {path} cannot be written: {error}; name another file with \
             --access-log, in a directory that user {} may write, or - for standard output",
            rustix::process::geteuid().as_raw()
        )
    }
}

impl std::error::Error for AccessLogError {}
