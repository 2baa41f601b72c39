//! The thread that writes.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::batch::{Batch, Log};
use super::complaints::Complaints;
use super::format::Formatter;
use super::output::{Output, Stuck, Written};
use super::{AccessLogConfig, AccessLogError, Format, Target};
use crate::sandbox::{Role, Sandbox};

/// How long lines come together before they are written, once one was.
const GATHER: Duration = Duration::from_millis(10);

/// How long the last lines may take at the end.
const STOP_TIME: Duration = Duration::from_secs(2);

/// How long, of that, a reader is waited for that takes nothing.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What workers and the thread share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Each worker's.
    pub(super) mailboxes: Box<[Mutex<Batch>]>,
    /// The thread sleeps until it is woken.
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
    reopen: AtomicBool,
    stop: AtomicBool,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    early: AtomicU64,
}

impl Shared {
    /// With a mailbox for each worker.
    pub(super) fn new(workers: usize) -> Self {
        Self { mailboxes: (0..workers).map(|_| Mutex::default()).collect(), ..Self::default() }
    }

    /// There is something for the thread. Costs a system call only if it sleeps. Orderings are SeqCst
    /// here and in [`Writer::sleep`]: either sees what the other has set before.
    pub(super) fn wake(&self) {
        // Looked at first: while it is awake, workers only read what they share.
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// So many lines found no room.
    pub(super) fn count_dropped(&self, lines: u64) {
        if lines > 0 {
            self.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// A line was noted before its answer had ended.
    pub(super) fn count_early(&self) {
        self.early.fetch_add(1, Ordering::Relaxed);
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn mailboxes(&self) -> impl Iterator<Item = MutexGuard<'_, Batch>> {
        self.mailboxes.iter().map(|one| one.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the thread has something to do.
    fn is_called(&self) -> bool {
        self.reopen.load(Ordering::SeqCst)
            || self.stops()
            || self.mailboxes().any(|mailbox| !mailbox.is_empty())
    }

    pub(super) fn status(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "written": count(&self.written),
            "dropped": count(&self.dropped),
            "failed": count(&self.failed),
            "early": count(&self.early),
        })
    }
}

/// The access log, running. Dropping it ends it, when all that was handed over is written.
pub struct AccessLog {
    shared: Arc<Shared>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Has the access log open its file anew.
#[derive(Clone)]
pub struct Reopener(Arc<Shared>);

impl Reopener {
    /// The lines that follow go to the file that has the name by then, or to a new one.
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::SeqCst);
        self.0.wake();
    }
}

/// The access log, open.
pub struct Opened {
    output: Output,
    config: AccessLogConfig,
}

impl Opened {
    /// Starts its thread, for so many workers.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(self, workers: usize, sandbox: Sandbox) -> Result<AccessLog, AccessLogError> {
        let Self { output, config } = self;
        let shared = Arc::new(Shared::new(workers));
        let (running, ended) = channel::<()>();
        let writer = Writer {
            shared: Arc::clone(&shared),
            output,
            text: Vec::new(),
            complaints: Complaints::default(),
            last_wait: None,
        };
        let format = config.format;
        let thread = thread::Builder::new()
            .name("tagwire-log".to_owned())
            .spawn(move || {
                if let Err(error) = sandbox.narrow(Role::Log) {
                    // It goes on with what all threads have together.
                    tracing::warn!(%error, "the thread of the access log is not restricted further");
                }
                writer.run(format);
                drop(running);
            })
            .map_err(|error| config.failed(error))?;
        // Nobody has had the time to set it.
        let _ = shared.thread.set(thread.thread().clone());
        Ok(AccessLog { shared, ended, thread: Some(thread) })
    }
}

impl AccessLogConfig {
    fn failed(&self, error: io::Error) -> AccessLogError {
        let name = match &self.target {
            Target::File(path) => path.clone(),
            _ => "-".into(),
        };
        AccessLogError(name, error)
    }
}

impl AccessLog {
    /// Opens the file. `None`: it is off.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(config: &AccessLogConfig) -> Result<Option<Opened>, AccessLogError> {
        let output = match &config.target {
            Target::Off => return Ok(None),
            Target::Stdout => Output::stdout(),
            Target::File(path) => Output::file(path),
        };
        let output = output.map_err(|error| config.failed(error))?;
        Ok(Some(Opened { output, config: config.clone() }))
    }

    /// A worker's end, by the worker's number.
    pub(crate) fn log(&self, worker: usize) -> Log {
        Log::new(worker, Arc::clone(&self.shared))
    }

    /// A way to have the file opened anew.
    pub fn reopener(&self) -> Reopener {
        Reopener(Arc::clone(&self.shared))
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        if self.ended.recv_timeout(STOP_TIME) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the access log's disk takes nothing: its last lines are lost");
        } else if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the access log ended with a panic");
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    output: Output,
    text: Vec<u8>,
    complaints: Complaints,
    /// Since when a reader is waited for for the last time.
    last_wait: Option<Instant>,
}

impl Writer {
    fn run(mut self, format: Format) {
        let mut formatter = Formatter::new(format);
        let mut batches: Vec<Batch> =
            self.shared.mailboxes.iter().map(|_| Batch::default()).collect();
        loop {
            // Before the mailboxes are looked at: all that was handed over before it is there.
            let stop = self.shared.stops();
            for (batch, mut mailbox) in batches.iter_mut().zip(self.shared.mailboxes()) {
                mem::swap(batch, &mut mailbox);
            }
            // What was noted before the file was renamed may go to either.
            if self.shared.reopen.swap(false, Ordering::SeqCst) {
                self.output.reopen();
            }
            let some = batches.iter().any(|batch| !batch.is_empty());
            for batch in &mut batches {
                self.write(batch, &mut formatter);
                batch.clear();
            }
            self.complaints.dropped(self.shared.dropped.load(Ordering::Relaxed));
            if stop {
                self.complaints.last();
                return;
            }
            if some {
                // Whoever has something for us now leaves us asleep.
                thread::sleep(GATHER);
            } else {
                self.sleep();
            }
        }
    }

    fn write(&mut self, batch: &Batch, formatter: &mut Formatter) {
        /// What one call writes, about.
        const PIECE: usize = 256 * 1024;
        for (line, texts) in batch.iter() {
            formatter.line(line, &texts, &mut self.text);
            if self.text.len() >= PIECE {
                self.flush();
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let Self { shared, output, text, complaints, last_wait } = self;
        let Written { lines, failed, error } = output.write(text, || {
            complaints.dropped(shared.dropped.load(Ordering::Relaxed));
            if shared.stops() && last_wait.get_or_insert_with(Instant::now).elapsed() >= LAST_WAIT {
                Stuck::GiveUp
            } else if shared.reopen.swap(false, Ordering::SeqCst) {
                Stuck::Reopen
            } else {
                Stuck::Wait
            }
        });
        shared.written.fetch_add(lines, Ordering::Relaxed);
        shared.failed.fetch_add(failed, Ordering::Relaxed);
        match error {
            Some(error) => complaints.failed(failed, &error),
            None => complaints.fine(),
        }
        text.clear();
    }

    /// Sleeps until somebody calls.
    fn sleep(&self) {
        self.shared.asleep.store(true, Ordering::SeqCst);
        // What was handed over before that was not told to us.
        while !self.shared.is_called() && self.shared.asleep.load(Ordering::SeqCst) {
            thread::park();
        }
        self.shared.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tagwire_core::clock::Nanos;
    use tagwire_core::driver::DriverKind;
    use tagwire_netstack::VlanStack;
    use tempfile::TempDir;

    use super::super::Note;
    use super::*;

    fn start(path: &Path, workers: usize) -> AccessLog {
        let target = Target::File(path.to_owned());
        let opened = AccessLog::open(&AccessLogConfig { target, format: Format::Combined });
        opened.unwrap().unwrap().start(workers, Sandbox::none(DriverKind::Poll)).unwrap()
    }

    fn note(log: &Log, line: &str) {
        let note = Note {
            vlan: VlanStack::UNTAGGED,
            peer: "192.0.2.7:40000".parse().unwrap(),
            line: line.as_bytes(),
            referer: None,
            user_agent: None,
            x_forwarded_for: None,
            host: None,
            site: None,
            status: 200,
            octets: 0,
            hit: None,
            request: 1,
        };
        log.note(&note, Nanos(0));
        while !log.hand_over() {
            thread::yield_now();
        }
    }

    #[test]
    fn all_that_workers_hand_over_is_written_whatever_becomes_of_the_file() {
        const LINES: usize = 2000;
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("log");
        let access_log = start(&path, 2);
        let logs = [access_log.log(0), access_log.log(1)];
        let reopener = access_log.reopener();
        thread::scope(|scope| {
            for (worker, log) in logs.into_iter().enumerate() {
                scope.spawn(move || {
                    for line in 0..LINES {
                        note(&log, &format!("GET /{worker}/{line} HTTP/1.1"));
                    }
                });
            }
            for turn in 0..20 {
                fs::rename(&path, dir.path().join(format!("log.{turn}"))).unwrap();
                reopener.reopen();
                while !path.exists() {
                    thread::yield_now();
                }
            }
        });
        drop(access_log);
        let files = fs::read_dir(dir.path()).unwrap();
        let all: String =
            files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        assert_eq!(all.lines().count(), 2 * LINES);
        for worker in 0..2 {
            for line in 0..LINES {
                assert!(all.contains(&format!("\"GET /{worker}/{line} HTTP/1.1\" 200 0")));
            }
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_costs_lines_and_no_answer() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("fifo");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        // Both ends in one, so that it is open without anybody who reads.
        let reader = fs::File::options().read(true).write(true).open(&path).unwrap();
        let access_log = start(&path, 1);
        let log = access_log.log(0);
        let line = "x".repeat(4000);
        while log.status()["dropped"] == 0 {
            note(&log, &line);
        }
        // Neither is the end waited for for long.
        drop(access_log);
        drop(reader);
    }

    #[test]
    fn what_cannot_be_opened_is_one_clear_line() {
        let target = Target::File("/none/there".into());
        let config = AccessLogConfig { target, format: Format::Json };
        let error = AccessLog::open(&config).err().unwrap().to_string();
        assert!(error.contains("/none/there cannot be written: "), "{error}");
        assert!(error.contains("--access-log") && !error.contains('\n'), "{error}");
        let fifo = AccessLogError("/run/fifo".into(), rustix::io::Errno::NXIO.into());
        assert!(fifo.to_string().starts_with("nobody reads the access log /run/fifo; "), "{fifo}");
        let off = AccessLogConfig { target: Target::Off, ..config };
        assert!(AccessLog::open(&off).unwrap().is_none());
    }
}
