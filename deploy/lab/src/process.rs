//! Processes in a namespace of the lab.
//!
//! A command is prefixed by the tools that put it in its place, each of which becomes
//! the next, so that the process id stays the same all along:
//!
//! ```text
//! nsenter --net=/run/netns/NAME -- [taskset -c CPUS] [unshare --mount -- sh -c MOUNT]
//!     setpriv --pdeathsig KILL [identity] -- PROGRAM ARGS
//! ```
//!
//! A process dies with its [`LabProcess`], with the lab, and with the process that runs
//! the lab, even if that is killed by SIGKILL. The last is the parent-death signal, which
//! goes by the parent *thread*: so all of them are started by one thread, which lives as
//! long as the lab does.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use crate::error::{LabError, LabResult};

/// The uid and gid of the appliance, as in the pod's manifest.
pub const APPLIANCE_ID: u32 = 10000;

/// As whom a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Caller,
    Appliance,
    NoCapability,
}

impl Identity {
    fn setpriv_options(self) -> Vec<String> {
        let capabilities = match self {
            Self::Caller => return Vec::new(),
            Self::Appliance => "-all,+net_raw",
            Self::NoCapability => "-all",
        };
        let id = APPLIANCE_ID.to_string();
        let mut options = vec!["--reuid", &id, "--regid", &id, "--clear-groups"];
        for set in ["--bounding-set", "--inh-caps", "--ambient-caps"] {
            options.extend([set, capabilities]);
        }
        options.push("--no-new-privs");
        options.into_iter().map(str::to_owned).collect()
    }
}

/// The thread that starts a lab's processes.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    orders: mpsc::Sender<Order>,
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

impl Spawner {
    /// The thread ends with the last handle on it.
    pub(crate) fn start() -> LabResult<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("lab-spawner".to_owned())
            .spawn(move || {
                for (mut command, reply) in inbox {
                    let child = command.spawn();
                    // It may hold our copy of a pipe's end, which would keep the pipe open.
                    drop(command);
                    // Nobody waits for the answer any more: the child must not live on.
                    if let Err(mpsc::SendError(Ok(mut child))) = reply.send(child) {
                        let _ = child.kill();
                        let _ = child.wait();
                    }
                }
            })
            .map_err(|error| {
                LabError::new("cannot start the lab's thread", error, "see `ulimit -u`")
            })?;
        Ok(Self { orders })
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = mpsc::sync_channel(1);
        let gone = || io::Error::other("the lab's thread has ended");
        self.orders.send((command, reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

/// A command to run in a namespace: a builder in the manner of [`std::process::Command`].
#[derive(Debug)]
pub struct LabCommand {
    namespace: PathBuf,
    identity: Identity,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    cpus: Option<String>,
    /// Kind and place of a file system of its own.
    mount: Option<(OsString, PathBuf)>,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    capture: Capture,
    foreground: bool,
    spawner: Spawner,
}

/// What becomes of a process's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capture {
    Off,
    Kept,
    KeptAndShown,
}

impl LabCommand {
    pub(crate) fn new(
        namespace: PathBuf,
        identity: Identity,
        program: &OsStr,
        spawner: Spawner,
    ) -> Self {
        Self {
            namespace,
            identity,
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            cpus: None,
            mount: None,
            stdin: None,
            stdout: None,
            stderr: None,
            capture: Capture::Off,
            foreground: false,
            spawner,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment; the rest is inherited.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Pins it to CPUs, in `taskset -c` notation: `"1"`, `"0,2-3"`.
    #[must_use]
    pub fn cpus(mut self, cpus: impl Into<String>) -> Self {
        self.cpus = Some(cpus.into());
        self
    }

    /// Gives it an empty file system of a kind, `tmpfs` say, on a folder. It ends with the process,
    /// and only through `/proc/PID/root` is it seen by others.
    #[must_use]
    pub fn mount(mut self, kind: impl Into<OsString>, folder: impl Into<PathBuf>) -> Self {
        self.mount = Some((kind.into(), folder.into()));
        self
    }

    /// Sets the standard input; without, it is inherited.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Sets the standard output; without, it is inherited.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Sets the standard error; without, it is inherited.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Keeps what it prints, on both outputs, for [`LabProcess::log`] and
    /// [`LabProcess::wait_for_line`].
    #[must_use]
    pub fn capture(mut self) -> Self {
        self.capture = Capture::Kept;
        self
    }

    /// Like [`Self::capture`], and shows each line on our standard output as well.
    #[must_use]
    pub fn capture_and_show(mut self) -> Self {
        self.capture = Capture::KeptAndShown;
        self
    }

    /// Leaves it in our process group, so that it may read from the terminal and a
    /// Ctrl-C there reaches it too. Its own children are then not killed with it, but
    /// by the end of the lab.
    #[must_use]
    pub fn foreground(mut self) -> Self {
        self.foreground = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// When the first tool of the line cannot be run. That the *program* cannot shows
    /// in its exit status (127) and on its standard error.
    pub fn spawn(mut self) -> LabResult<LabProcess> {
        let line = self.program_line();
        let log = self.connect_log().map_err(|error| cannot_run(&line, &error))?;
        let mut command = self.to_std();
        for (stdio, set) in [
            (self.stdin, Command::stdin as fn(&mut Command, Stdio) -> &mut Command),
            (self.stdout, Command::stdout),
            (self.stderr, Command::stderr),
        ] {
            if let Some(stdio) = stdio {
                set(&mut command, stdio);
            }
        }
        let child = self.spawner.spawn(command).map_err(|error| cannot_run(&line, &error))?;
        Ok(LabProcess { child: Some(child), own_group: !self.foreground, line, log })
    }

    /// Runs it to its end and returns its exit status.
    ///
    /// # Errors
    ///
    /// As [`Self::spawn`].
    pub fn status(self) -> LabResult<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Runs it to its end, with an empty standard input, and returns what it printed.
    ///
    /// # Errors
    ///
    /// As [`Self::spawn`]; that it failed is in [`Output::status`].
    pub fn output(mut self) -> LabResult<Output> {
        self.capture = Capture::Off;
        let process = self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        process.spawn()?.wait_with_output()
    }

    /// Runs it to its end and returns its standard output, if it succeeded.
    ///
    /// # Errors
    ///
    /// When it cannot be run or its exit status is not 0.
    pub fn stdout_string(self) -> LabResult<String> {
        let line = self.program_line();
        let output = self.output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(LabError::new(
            format!("`{line}` has failed"),
            format!("{}: {}{}", output.status, stdout, stderr),
            "see what the program says",
        ))
    }

    fn connect_log(&mut self) -> io::Result<Option<Arc<Log>>> {
        if self.capture == Capture::Off {
            return Ok(None);
        }
        // One pipe for both outputs: the lines come in the order they were written.
        let (reader, writer) = io::pipe()?;
        self.stdout = Some(writer.try_clone()?.into());
        self.stderr = Some(writer.into());
        let log = Arc::new(Log::default());
        let show = self.capture == Capture::KeptAndShown;
        let shared = Arc::clone(&log);
        thread::Builder::new()
            .name("lab-log".to_owned())
            .spawn(move || shared.fill(reader, show))?;
        Ok(Some(log))
    }

    fn to_std(&self) -> Command {
        let mut words = self.words().into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if !self.foreground {
            command.process_group(0);
        }
        command
    }

    /// The program and its arguments: what an error calls it.
    fn program_line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// The whole line, word by word.
    fn words(&self) -> Vec<OsString> {
        let mut setpriv = vec!["setpriv".into(), "--pdeathsig".into(), "KILL".into()];
        setpriv.extend(self.identity.setpriv_options());
        setpriv.push("--".into());
        self.words_with(setpriv)
    }

    fn words_with(&self, setpriv: Vec<String>) -> Vec<OsString> {
        let mut net = OsString::from("--net=");
        net.push(&self.namespace);
        let mut words = vec!["nsenter".into(), net, "--".into()];
        if let Some(cpus) = &self.cpus {
            words.extend(["taskset", "-c", cpus].map(OsString::from));
        }
        if let Some((kind, folder)) = &self.mount {
            const SCRIPT: &str = r#"mount -t "$0" "$0" "$1" && shift && exec "$@""#;
            words.extend(["unshare", "--mount", "--", "sh", "-c", SCRIPT].map(OsString::from));
            words.extend([kind.clone(), folder.into()]);
        }
        words.extend(setpriv.into_iter().map(OsString::from));
        words.push(self.program.clone());
        words.extend(self.args.iter().cloned());
        words
    }
}

/// The line that does the same from a shell: without the parent-death signal, which is
/// of use only to us.
impl fmt::Display for LabCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut setpriv = self.identity.setpriv_options();
        if !setpriv.is_empty() {
            setpriv.insert(0, "setpriv".into());
            setpriv.push("--".into());
        }
        let words: Vec<String> =
            self.words_with(setpriv).iter().map(|word| quoted(&word.to_string_lossy())).collect();
        f.write_str(&words.join(" "))
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn cannot_run(line: &str, error: &io::Error) -> LabError {
    LabError::new(format!("cannot run `{line}`"), error, "see that the tools are installed")
}

/// How long the output of a process that has ended may take to be read. Children of its own that live on
/// keep the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A process in a namespace. It is killed, with its process group, when this is dropped.
#[derive(Debug)]
pub struct LabProcess {
    /// `None` once it has ended and its status was taken.
    child: Option<Child>,
    own_group: bool,
    line: String,
    log: Option<Arc<Log>>,
}

impl LabProcess {
    /// Its process id: that of the program itself, not of a tool before it.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The child, for its pipes.
    pub fn child_mut(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Sends it a signal; not to its children.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> LabResult<()> {
        let pid = self.child.as_ref().map(Pid::from_child).ok_or_else(|| self.ended())?;
        kill_process(pid, signal).map_err(|error| self.failed("cannot be signalled", &error.into()))
    }

    /// Waits for its end, and for the last of what it has printed.
    ///
    /// # Errors
    ///
    /// When its end was waited for before.
    pub fn wait(&mut self) -> LabResult<ExitStatus> {
        let mut child = self.child.take().ok_or_else(|| self.ended())?;
        let status = child.wait().map_err(|error| self.failed("cannot be waited for", &error))?;
        if let Some(log) = &self.log {
            log.wait_for(LAST_WORDS, |log| log.ended.then_some(()));
        }
        Ok(status)
    }

    /// Waits for its end, but not longer than `limit`: `None` when it still runs.
    ///
    /// # Errors
    ///
    /// When its end was waited for before.
    pub fn wait_timeout(&mut self, limit: Duration) -> LabResult<Option<ExitStatus>> {
        let child = self.child.as_ref().ok_or_else(|| self.ended())?;
        let ended =
            wait_for_end(child, limit).map_err(|e| self.failed("cannot be waited for", &e))?;
        if ended { self.wait().map(Some) } else { Ok(None) }
    }

    /// Asks it to end (SIGTERM) and waits for that; after `grace` it is killed, which is
    /// an error.
    ///
    /// # Errors
    ///
    /// When it had to be killed, or had ended before.
    pub fn terminate(&mut self, grace: Duration) -> LabResult<ExitStatus> {
        self.signal(Signal::TERM)?;
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        self.kill();
        Err(LabError::new(
            format!("`{}` did not end", self.line),
            format!(
                "{grace:?} after SIGTERM it still ran, and was killed; it said:\n{}",
                self.log()
            ),
            "see what it waits for",
        ))
    }

    /// Kills it with its process group and waits for its end.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if self.own_group {
            // It has not been waited for: the id of its group cannot be another's yet.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    /// What it has printed so far, if the command was told to [`LabCommand::capture`].
    pub fn log(&self) -> String {
        self.log.as_ref().map_or_else(String::new, |log| log.lock().lines.join("\n"))
    }

    /// Waits until it has printed a line that contains `text`, and returns that line.
    ///
    /// # Errors
    ///
    /// When it ends first or `limit` passes, with what it printed; or when the command
    /// was not told to [`LabCommand::capture`].
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> LabResult<String> {
        let what = format!("`{}` did not say \"{text}\"", self.line);
        let Some(log) = &self.log else {
            return Err(LabError::new(what, "its output is not kept", "call `capture()` before"));
        };
        let told = |log: &LogText| log.lines.iter().find(|line| line.contains(text)).cloned();
        if let Some(line) = log.wait_for(limit, told) {
            return Ok(line);
        }
        let why = match self.wait_timeout(Duration::from_millis(100)) {
            Ok(Some(status)) => format!("it has ended with {status}"),
            Ok(None) => format!("within {limit:?}"),
            Err(_) => "it has ended".to_owned(),
        };
        Err(LabError::new(what, format!("{why}; it said:\n{}", self.log()), "see what it says"))
    }

    fn wait_with_output(mut self) -> LabResult<Output> {
        let mut child = self.child.take().ok_or_else(|| self.ended())?;
        let stderr = child.stderr.take();
        let errors = thread::spawn(move || {
            let mut octets = Vec::new();
            stderr.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut octets)).map(|_| octets)
        });
        let output = child.wait_with_output().and_then(|mut output| {
            output.stderr = errors.join().unwrap_or_else(|_| Ok(Vec::new()))?;
            Ok(output)
        });
        output.map_err(|error| self.failed("cannot be waited for", &error))
    }

    fn ended(&self) -> LabError {
        self.failed("has ended already", &io::Error::from(io::ErrorKind::NotFound))
    }

    fn failed(&self, how: &str, error: &io::Error) -> LabError {
        LabError::new(format!("`{}` {how}", self.line), error, "see what it said before")
    }
}

impl Drop for LabProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a child has ended within `limit`. It is not reaped.
fn wait_for_end(child: &Child, limit: Duration) -> io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = left.try_into().map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a process printed.
#[derive(Debug, Default)]
struct Log {
    text: Mutex<LogText>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct LogText {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, LogText> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, pipe: PipeReader, show: bool) {
        let mut pipe = BufReader::new(pipe);
        let mut octets = Vec::new();
        while pipe.read_until(b'\n', &mut octets).is_ok_and(|len| len > 0) {
            let line = String::from_utf8_lossy(&octets).trim_end().to_owned();
            if show {
                println!("  | {line}");
            }
            self.lock().lines.push(line);
            self.news.notify_all();
            octets.clear();
        }
        self.lock().ended = true;
        self.news.notify_all();
    }

    /// What `look` finds; `None` if that is nothing within `limit`, or when nothing more can come.
    fn wait_for<T>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&LogText) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut log = self.lock();
        loop {
            if let Some(found) = look(&log) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if log.ended || left.is_zero() {
                return None;
            }
            log = self.news.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
