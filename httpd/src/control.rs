//! `tagwire status` and `tagwire reload`: what a running appliance is asked over its control
//! socket. What it answers with is in [`crate::cold`].

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// How long the appliance may take: longer than it gives itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why it was not done; the text says what to do.
#[derive(Debug)]
pub enum ControlError {
    /// Nobody answers at the socket, or not in time.
    Unreachable(PathBuf, io::Error),
    /// What answers there is no appliance.
    Foreign(PathBuf, serde_json::Error),
    /// It says that it did not, and why.
    Refused(String),
    /// It is not through with it, and may still do it.
    Pending(String),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(path, error) => write!(
                f,
                "no appliance answers at {}: {error}; give the path that it was started with \
                 (--control), as the same user",
                path.display()
            ),
            Self::Foreign(path, error) => write!(
                f,
                "{} answers with something else than JSON: {error}; give the control socket of \
                 tagwire",
                path.display()
            ),
            Self::Refused(why) => write!(f, "not reloaded: {why}; all is served as before"),
            Self::Pending(why) => write!(f, "not reloaded yet: {why}"),
        }
    }
}

impl std::error::Error for ControlError {}

/// Sends a command to the appliance behind `control`; returns its answer as it came, and as JSON.
///
/// # Errors
/// [`ControlError`]: nobody answered, or with something else.
pub fn ask(control: &Path, command: &str) -> Result<(String, Value), ControlError> {
    let answer = exchange(control, command)
        .map_err(|error| ControlError::Unreachable(control.to_owned(), error))?;
    let value = serde_json::from_str(&answer)
        .map_err(|error| ControlError::Foreign(control.to_owned(), error))?;
    Ok((answer, value))
}

/// Has the appliance behind `control` read its sites and limits again, and says so.
///
/// # Errors
/// [`ControlError`]: they are served as before, unless it is [`ControlError::Pending`].
pub fn reload(control: &Path) -> Result<String, ControlError> {
    let (_, answer) = ask(control, "reload")?;
    match (&answer["reloaded"]["sites"], &answer["error"], &answer["pending"]) {
        (Value::Number(sites), ..) => Ok(format!("reloaded: {sites} sites\n")),
        (_, Value::String(why), _) => Err(ControlError::Refused(why.clone())),
        (.., Value::String(why)) => Err(ControlError::Pending(why.clone())),
        _ => Err(ControlError::Refused(format!("it answers {answer}"))),
    }
}

fn exchange(control: &Path, command: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What comes of a reload that is answered so.
    fn answered(answer: &'static str) -> Result<String, String> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut line = [0; 7];
            client.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"reload\n");
            client.write_all(answer.as_bytes()).unwrap();
        });
        let result = reload(&path).map_err(|error| error.to_string());
        server.join().unwrap();
        result
    }

    #[test]
    fn a_reload_says_what_came_of_it() {
        assert_eq!(answered("{\"reloaded\":{\"sites\":3}}\n").unwrap(), "reloaded: 3 sites\n");
        for (answer, part) in [
            ("{\"error\":\"a.toml: line 7: nonsense\"}", "a.toml: line 7: nonsense; all is served"),
            ("{\"pending\":\"a disk takes its time\"}", "not reloaded yet: a disk takes its time"),
            ("[]", "it answers []"),
            ("", "give the control socket"),
        ] {
            let error = answered(answer).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn nobody_there_is_one_clear_line() {
        let error = ask(Path::new("/none/there"), "status").unwrap_err().to_string();
        assert!(error.contains("/none/there") && error.contains("--control"));
        assert!(!error.contains('\n'));
    }
}
