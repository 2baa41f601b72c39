//! Where lines go: a file that can be opened anew, or standard output.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, Timespec, accessat, stat};
use rustix::io::Errno;

/// What a pipe that has room takes without blocking, and without the lines of others in between
/// (pipe(7): PIPE_BUF).
const PIPE_PIECE: usize = 4096;
/// Between two looks whether something else is to be done than to wait for the reader of a pipe.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long what says that it has room, and has none, is left alone.
const RETRY: Duration = Duration::from_millis(10);

pub(super) struct Output {
    file: File,
    /// `None`: standard output.
    path: Option<PathBuf>,
    /// Writing waits for a disk only. All else is asked for room first: it belongs to somebody
    /// else, too, who would not like to see it made non-blocking.
    regular: bool,
    /// The last line is not whole.
    torn: bool,
}

/// What to do when nobody takes what is written.
pub(super) enum Stuck {
    /// Go on.
    Wait,
    /// Go on in the file that has the name now.
    Reopen,
    /// Let the rest go.
    GiveUp,
}

/// What has become of lines.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) lines: u64,
    /// Lines that could not be written, and why.
    pub(super) failed: u64,
    pub(super) error: Option<io::Error>,
}

impl Output {
    pub(super) fn stdout() -> io::Result<Self> {
        Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?), None)
    }

    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Self::new(open(path)?, Some(path.to_owned()))
    }

    fn new(file: File, path: Option<PathBuf>) -> io::Result<Self> {
        let regular = is_regular(&file)?;
        Ok(Self { file, path, regular, torn: false })
    }

    /// Goes on in the file that has the name now; in the one that is open, where that cannot be.
    /// Says whether it is another one.
    pub(super) fn reopen(&mut self) -> bool {
        let Some(path) = &self.path else { return false };
        match open(path).and_then(|file| Self::new(file, Some(path.clone()))) {
            Ok(output) => {
                tracing::info!(path = %path.display(), "the access log was opened anew");
                *self = output;
                true
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    path = %path.display(),
                    "the access log cannot be opened anew: the file that is open is written on"
                );
                false
            }
        }
    }

    /// Writes whole lines. Asks now and then what to do while there is a reader that takes nothing.
    pub(super) fn write(&mut self, text: &[u8], mut stuck: impl FnMut() -> Stuck) -> Written {
        let mut done = 0;
        let mut error = None;
        while done < text.len() {
            // The rest of a torn line is lost; the next one is not to follow what there is of it.
            let rest = if self.torn { b"\n" } else { &text[done..] };
            match self.write_some(rest) {
                Ok(0) => error = Some(ErrorKind::WriteZero.into()),
                Ok(_) if self.torn => self.torn = false,
                Ok(octets) => done += octets,
                Err(failure) if failure.kind() == ErrorKind::Interrupted => {}
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => match stuck() {
                    Stuck::Wait => {}
                    Stuck::Reopen => {
                        if self.reopen() {
                            done = whole_lines(&text[..done]).len();
                        }
                    }
                    Stuck::GiveUp => error = Some(failure),
                },
                Err(failure) => error = Some(failure),
            }
            if error.is_some() {
                break;
            }
        }
        let (done, rest) = text.split_at(done);
        self.torn |= done.last().is_some_and(|last| *last != b'\n');
        let lines = |text: &[u8]| memchr::memchr_iter(b'\n', text).count() as u64;
        Written { lines: lines(done), failed: lines(rest), error }
    }

    /// `WouldBlock`: there is no room, and there was none for a while.
    fn write_some(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.regular {
            return self.file.write(text);
        }
        let mut room = [PollFd::new(&self.file, PollFlags::OUT)];
        let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.as_nanos() as _ };
        if poll(&mut room, Some(&patience))? == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let piece = &text[..text.len().min(PIPE_PIECE)];
        let whole = whole_lines(piece);
        let result = self.file.write(if whole.is_empty() { piece } else { whole });
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            thread::sleep(RETRY);
        }
        result
    }
}

/// `text` up to the end of its last whole line.
fn whole_lines(text: &[u8]) -> &[u8] {
    &text[..memchr::memrchr(b'\n', text).map_or(0, |at| at + 1)]
}

fn is_regular(file: &File) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) == FileType::RegularFile)
}

/// Whether [`open`] may succeed, without doing it.
pub(super) fn check(path: &Path) -> io::Result<()> {
    let may = |path: &Path, access| Ok(accessat(CWD, path, access, AtFlags::EACCESS)?);
    match stat(path) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Err(Errno::ISDIR.into())
        }
        Ok(_) => may(path, Access::WRITE_OK),
        // It is made then.
        Err(Errno::NOENT) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            may(parent.unwrap_or(Path::new(".")), Access::WRITE_OK | Access::EXEC_OK)
        }
        Err(error) => Err(error.into()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // NONBLOCK: a FIFO that nobody reads is an error, and nothing to wait for.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn wait() -> Stuck {
        Stuck::Wait
    }

    fn write(output: &mut Output, text: &[u8]) -> (u64, u64) {
        let Written { lines, failed, error } = output.write(text, wait);
        assert_eq!(failed > 0, error.is_some());
        (lines, failed)
    }

    /// The writing end of a pipe of two pages.
    fn pipe() -> (File, Output, usize) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let room = rustix::pipe::fcntl_setpipe_size(&writer, 8192).unwrap();
        (reader.into(), Output::new(writer.into(), None).unwrap(), room)
    }

    #[test]
    fn a_file_that_was_renamed_is_left_to_its_new_name() {
        let dir = TempDir::new().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        fs::write(&path, "before\n").unwrap();
        let mut output = Output::file(&path).unwrap();
        assert_eq!(write(&mut output, b"one\ntwo\n"), (2, 0));
        fs::rename(&path, &old).unwrap();
        assert_eq!(write(&mut output, b"three\n"), (1, 0));
        assert!(output.reopen());
        assert_eq!(write(&mut output, b"four\n"), (1, 0));
        assert_eq!(fs::read_to_string(&old).unwrap(), "before\none\ntwo\nthree\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        // Where there is no way to a new one, the old one is written on.
        let kept = dir.path().join("log.2");
        fs::rename(&path, &kept).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(!output.reopen());
        assert_eq!(write(&mut output, b"five\n"), (1, 0));
        assert_eq!(fs::read_to_string(&kept).unwrap(), "four\nfive\n");
    }

    #[test]
    fn a_line_that_was_cut_short_is_not_continued_by_the_next() {
        let (mut reader, mut output, room) = pipe();
        let text = [&vec![b'x'; room + 3][..], b"\nhello\n"].concat();
        let written = output.write(&text, || Stuck::GiveUp);
        assert_eq!((written.lines, written.failed), (0, 2), "a pipe full of x, and no more");
        assert_eq!(written.error.unwrap().kind(), ErrorKind::WouldBlock);
        assert_eq!(output.write(b"lost\n", || Stuck::GiveUp).failed, 1);
        let mut taken = vec![0; room];
        io::Read::read_exact(&mut reader, &mut taken).unwrap();
        assert_eq!(taken, vec![b'x'; room]);
        assert_eq!(write(&mut output, b"next\n"), (1, 0));
        drop(output);
        let mut rest = String::new();
        io::Read::read_to_string(&mut reader, &mut rest).unwrap();
        assert_eq!(rest, "\nnext\n");
    }

    #[test]
    fn lines_that_share_a_pipe_with_others_stay_whole() {
        let (mut reader, mut output, room) = pipe();
        let line = [&vec![b'x'; room / 3][..], b"\n"].concat();
        let written = output.write(&line.repeat(3), || Stuck::GiveUp);
        assert_eq!((written.lines, written.failed), (2, 1));
        assert!(!output.torn);
        let mut taken = vec![0; room];
        let octets = io::Read::read(&mut reader, &mut taken).unwrap();
        assert_eq!(taken[..octets], line.repeat(2));
    }

    #[test]
    fn a_pipe_that_nobody_reads_can_be_left_for_a_file_without_losing_a_line() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("log");
        fifo(&path);
        // Both ends in one, so that it is open without anybody who reads.
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut output = Output::file(&path).unwrap();
        let room = rustix::pipe::fcntl_setpipe_size(&reader, 8192).unwrap();
        fs::remove_file(&path).unwrap();
        let long = [&vec![b'x'; room + 3][..], b"\n"].concat();
        let text = [&long[..], b"more\n"].concat();
        let written = output.write(&text, || Stuck::Reopen);
        assert_eq!((written.lines, written.failed), (2, 0));
        assert_eq!(
            fs::read(&path).unwrap(),
            text,
            "the line that was under way is there as a whole"
        );
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let mut output = Output::file(Path::new("/dev/full")).unwrap();
        for _ in 0..3 {
            assert_eq!(write(&mut output, b"one\ntwo\n"), (0, 2));
        }
    }

    #[test]
    fn a_pipe_whose_reader_has_gone_costs_lines_and_nothing_else() {
        let (reader, mut output, _) = pipe();
        drop(reader);
        let written = output.write(b"one\ntwo\n", wait);
        assert_eq!((written.lines, written.failed), (0, 2));
        assert_eq!(written.error.unwrap().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_check_says_what_opening_would_and_leaves_no_trace() {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("log"), "").unwrap();
        for name in ["log", "new", "", "none/new", "log/new"] {
            let checked = check(&path(name)).map_err(|error| error.kind());
            assert!(!path("new").exists(), "nothing was made");
            assert_eq!(
                checked,
                open(&path(name)).map(drop).map_err(|error| error.kind()),
                "{name}"
            );
            let _ = fs::remove_file(path("new"));
        }
        let here = ["new", "./new"].map(|name| check(Path::new(name)).is_ok());
        assert_eq!(here[0], here[1], "a name alone is of the working directory");
    }

    #[test]
    fn a_pipe_without_a_reader_is_refused_at_once() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("fifo");
        fifo(&path);
        assert!(Output::file(&path).is_err());
    }

    fn fifo(path: &Path) {
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0).unwrap();
    }
}
