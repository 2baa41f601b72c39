//! `tagwire status`, `tagwire reload` and `tagwire lame-duck`: what a running appliance is asked over its
//! control socket. What it answers with is in [`crate::cold`].

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use serde_json::Value;

/// How long the appliance may take: longer than it gives itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where nothing is read or gathered first, and somebody waits who has little time: a pod's end.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(3);

/// Why it was not done; the text says what to do.
#[derive(Debug)]
pub enum ControlError {
    /// Nobody answers at the socket, or not in time.
    Unreachable(PathBuf, io::Error),
    /// What answers there is no appliance.
    Foreign(PathBuf, serde_json::Error),
    /// It says that it did not read anything again, and why.
    NotReloaded(String),
    /// It did not do what was asked for, and says why.
    Refused(String),
    /// It has not answered in this time, and may do it still.
    Silent(PathBuf, Duration),
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
            Self::Refused(why) => write!(f, "not done: {why}"),
            Self::Silent(path, time) => write!(
                f,
                "no answer at {} within {} s, and it may be done still; its log and 'tagwire status' \
                 say",
                path.display(),
                time.as_secs()
            ),
            Self::NotReloaded(why) => write!(f, "not reloaded: {why}; all is served as before"),
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
    ask_within(PATIENCE, control, command)
}

fn ask_within(
    time: Duration,
    control: &Path,
    command: &str,
) -> Result<(String, Value), ControlError> {
    let unreachable = |error| ControlError::Unreachable(control.to_owned(), error);
    let deadline = Instant::now() + time;
    let stream = connect(control).map_err(unreachable)?;
    let answer = exchange(stream, command, deadline).map_err(|error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            ControlError::Silent(control.to_owned(), time)
        }
        _ => unreachable(error),
    })?;
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
        (_, Value::String(why), _) => Err(ControlError::NotReloaded(why.clone())),
        (.., Value::String(why)) => Err(ControlError::Pending(why.clone())),
        _ => Err(ControlError::NotReloaded(format!("it answers {answer}"))),
    }
}

/// Has the appliance behind `control` be a lame duck, or be one no more, and says so.
///
/// # Errors
/// [`ControlError`]: all is as before, unless it is [`ControlError::Silent`].
pub fn lame_duck(control: &Path, on: bool) -> Result<String, ControlError> {
    let command = if on { "lame-duck on" } else { "lame-duck off" };
    let (text, answer) = ask_within(PATIENCE_AT_THE_END, control, command)?;
    if answer["lame_duck"] != on {
        let why = answer["error"].as_str().unwrap_or(text.trim_end());
        return Err(ControlError::Refused(why.to_owned()));
    }
    Ok(match on {
        true => "a lame duck: not ready, and each answer ends its connection\n".to_owned(),
        false => "a lame duck no more: connections are kept\n".to_owned(),
    })
}

/// Connects, and does not wait where others do.
fn connect(control: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(control)?).map_err(|error| match error {
        Errno::AGAIN => io::Error::other("it has as many clients as it takes"),
        error => error.into(),
    })?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn exchange(mut stream: UnixStream, command: &str, deadline: Instant) -> io::Result<String> {
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(ErrorKind::TimedOut)),
        left => Ok(Some(left)),
    };
    // A line fits the socket's buffer.
    stream.write_all(format!("{command}\n").as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        stream.set_read_timeout(left()?)?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(more) => answer.extend_from_slice(&piece[..more]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(answer).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What comes of a reload that is answered so.
    fn answered(answer: &'static str) -> Result<String, String> {
        asked(b"reload\n", answer, reload)
    }

    /// What comes of a command that is sent as this line, and answered so.
    fn asked(
        line: &'static [u8],
        answer: &'static str,
        command: impl Fn(&Path) -> Result<String, ControlError>,
    ) -> Result<String, String> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut sent = vec![0; line.len()];
            client.read_exact(&mut sent).unwrap();
            assert_eq!(sent, line);
            client.write_all(answer.as_bytes()).unwrap();
        });
        let result = command(&path).map_err(|error| error.to_string());
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
    fn a_lame_duck_is_one_only_where_the_appliance_says_so() {
        let on = |answer| asked(b"lame-duck on\n", answer, |path| lame_duck(path, true));
        assert!(on("{\"lame_duck\":true}\n").unwrap().starts_with("a lame duck:"));
        let off = |answer| asked(b"lame-duck off\n", answer, |path| lame_duck(path, false));
        assert!(off("{\"lame_duck\":false}\n").unwrap().contains("no more"));
        // One that is older.
        let error = on("{\"error\":\"unknown command; there are: status, reload\"}\n").unwrap_err();
        assert!(error.ends_with("there are: status, reload"), "{error}");
        assert!(!error.contains('\n') && off("{\"lame_duck\":true}\n").is_err());
    }

    /// Whoever ends a pod has little time.
    #[test]
    fn who_does_not_answer_is_not_waited_for_long() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let fill = || rustix::net::listen(&listener, 0);
        fill().unwrap();
        let asked = Instant::now();
        let first = lame_duck(&path, true).unwrap_err();
        assert!(matches!(first, ControlError::Silent(..)), "{first}");
        assert!(first.to_string().contains("may be done still"), "{first}");
        assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
        // Its place is not free yet: the next one finds none.
        let next = lame_duck(&path, true).unwrap_err().to_string();
        assert!(next.contains("as many clients as it takes"), "{next}");
        // One that says a little now and then does not prolong it.
        fill().unwrap();
        let server = thread::spawn(move || {
            let _gone = listener.accept().unwrap();
            let (mut slow, _) = listener.accept().unwrap();
            while slow.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        let slow = loop {
            match lame_duck(&path, true).unwrap_err() {
                ControlError::Unreachable(..) => thread::yield_now(),
                error => break error,
            }
        };
        assert!(matches!(slow, ControlError::Silent(..)), "{slow}");
        server.join().unwrap();
    }

    #[test]
    fn nobody_there_is_one_clear_line() {
        let error = ask(Path::new("/none/there"), "status").unwrap_err().to_string();
        assert!(error.contains("/none/there") && error.contains("--control"));
        assert!(!error.contains('\n'));
    }
}
