//! `tagwire status`: asks a running appliance over its control socket.

use std::fmt::{self, Write as _};
use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// How long the appliance may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no status; the text says what to do.
#[derive(Debug)]
pub enum StatusError {
    /// Nobody answers at the socket, or not in time.
    Unreachable(PathBuf, io::Error),
    /// What answers there is no appliance.
    Foreign(PathBuf, serde_json::Error),
}

impl fmt::Display for StatusError {
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
                "{} answers with something else than a status: {error}; give the control socket of \
                 tagwire",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StatusError {}

/// The answer of the appliance behind `control`: a table, or the JSON as it came.
///
/// # Errors
/// [`StatusError`]; nothing was printed then.
pub fn ask(control: &Path, json: bool) -> Result<String, StatusError> {
    let answer =
        exchange(control).map_err(|error| StatusError::Unreachable(control.to_owned(), error))?;
    let status: Value = serde_json::from_str(&answer)
        .map_err(|error| StatusError::Foreign(control.to_owned(), error))?;
    Ok(if json { answer } else { table(&status) })
}

fn exchange(control: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"status\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// One line per figure, the names of nested ones joined by dots.
fn table(status: &Value) -> String {
    let mut rows = Vec::new();
    flatten(status, String::new(), &mut rows);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut table = String::new();
    for (name, value) in rows {
        // Writing to a String does not fail.
        let _ = writeln!(table, "{name:width$}  {value}");
    }
    table
}

fn flatten(value: &Value, name: String, rows: &mut Vec<(String, String)>) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| flatten(value, inner(key), rows));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, item)| flatten(item, inner(&at.to_string()), rows));
        }
        Value::String(text) => rows.push((name, text.clone())),
        other => rows.push((name, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_for_people() {
        let status =
            json!({ "version": "1", "cache": { "hits": 7, "bytes": 0 }, "ips": ["a", "b"] });
        let text = table(&status);
        for line in ["version      1", "cache.hits   7", "ips.1        b"] {
            assert!(text.lines().any(|row| row == line), "{line} in {text}");
        }
    }

    #[test]
    fn nobody_there_is_one_line() {
        let error = ask(Path::new("/nonexistent/socket"), false).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/socket") && error.contains("--control"));
        assert!(!error.contains('\n'));
    }
}
