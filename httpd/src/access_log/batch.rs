//! What a worker notes, and how it gets to the thread that writes it.

use std::cell::{Cell, RefCell};
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tagwire_core::clock::{self, Nanos};
use tagwire_netstack::VlanStack;

use super::thread::Shared;

/// Octets of a text in a line; what is longer is cut. No head that is accepted by default has a
/// longer target.
const MAX_TEXT: usize = 8 * 1024;

/// A request that was answered, or refused.
#[derive(Debug, Clone, Copy)]
pub struct Note<'a> {
    /// The VLAN that it came in.
    pub vlan: VlanStack,
    /// Who asked: the other end of the connection, whatever fields say of others.
    pub peer: SocketAddr,
    /// The request line, or as much of it as came.
    pub line: &'a [u8],
    /// The fields of these names, as sent.
    pub referer: Option<&'a [u8]>,
    /// See [`referer`](Self::referer).
    pub user_agent: Option<&'a [u8]>,
    /// See [`referer`](Self::referer).
    pub x_forwarded_for: Option<&'a [u8]>,
    /// The host that was asked.
    pub host: Option<&'a [u8]>,
    /// The site that answered: its first name, else its directory.
    pub site: Option<&'a [u8]>,
    /// The answer's status.
    pub status: u16,
    /// Octets of its body.
    pub octets: u64,
    /// Whether the answer was in the cache; `None`: it needed none.
    pub hit: Option<bool>,
    /// Which request of its connection it is, from 1.
    pub request: u32,
}

/// The fixed part of a line. Its texts follow those of the line before it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) time: SystemTime,
    pub(super) duration: Duration,
    pub(super) vlan: VlanStack,
    pub(super) peer: SocketAddr,
    pub(super) status: u16,
    pub(super) octets: u64,
    pub(super) hit: Option<bool>,
    pub(super) request: u32,
    /// The lengths of [`Texts`] in their order; `None`: there is none.
    texts: [Option<u16>; 6],
}

/// Lines, and what they say.
#[derive(Debug, Default)]
pub(super) struct Batch {
    lines: Vec<Line>,
    texts: Vec<u8>,
}

/// The texts of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts<'a> {
    pub(super) line: &'a [u8],
    pub(super) referer: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
    pub(super) x_forwarded_for: Option<&'a [u8]>,
    pub(super) host: Option<&'a [u8]>,
    pub(super) site: Option<&'a [u8]>,
}

impl Batch {
    /// Octets from which on nothing more is taken: some twenty thousand lines, a fifth of a second at
    /// the highest rate.
    const ROOM: usize = 4 << 20;

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.lines.len() as u64
    }

    fn octets(&self) -> usize {
        self.lines.len() * size_of::<Line>() + self.texts.len()
    }

    pub(super) fn push(&mut self, note: &Note<'_>, time: SystemTime, duration: Duration) {
        let Note { referer, user_agent, x_forwarded_for, host, site, .. } = *note;
        let texts = [Some(note.line), referer, user_agent, x_forwarded_for, host, site];
        let texts = texts.map(|text| {
            let text = text?;
            let text = &text[..text.len().min(MAX_TEXT)];
            self.texts.extend_from_slice(text);
            // MAX_TEXT fits.
            Some(text.len() as u16)
        });
        let Note { vlan, peer, status, octets, hit, request, .. } = *note;
        let line = Line { time, duration, vlan, peer, status, octets, hit, request, texts };
        self.lines.push(line);
    }

    fn is_full(&self) -> bool {
        self.octets() >= Self::ROOM
    }

    /// Takes over what `other` has, and leaves it empty; returns how many lines found no room.
    fn take_over(&mut self, other: &mut Self) -> u64 {
        let lost = if self.is_full() { other.len() } else { 0 };
        if self.is_empty() {
            mem::swap(self, other);
        } else if lost == 0 {
            self.lines.append(&mut other.lines);
            self.texts.append(&mut other.texts);
        }
        other.clear();
        lost
    }

    /// Leaves it empty, with the memory of an ordinary moment.
    pub(super) fn clear(&mut self) {
        const KEPT: usize = 256 * 1024;
        self.lines.clear();
        self.lines.shrink_to(KEPT / size_of::<Line>());
        self.texts.clear();
        self.texts.shrink_to(KEPT);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Line, Texts<'_>)> {
        let mut rest = &self.texts[..];
        self.lines.iter().map(move |line| {
            let [first, referer, user_agent, x_forwarded_for, host, site] = line.texts.map(|len| {
                let (text, more) = rest.split_at(usize::from(len?));
                rest = more;
                Some(text)
            });
            let first = first.unwrap_or_default();
            (line, Texts { line: first, referer, user_agent, x_forwarded_for, host, site })
        })
    }
}

/// A request whose answer is still on its way.
#[derive(Debug)]
pub(crate) struct Unfinished {
    batch: Batch,
    started: Nanos,
}

/// A worker's end of the access log.
pub(crate) struct Log {
    batch: RefCell<Batch>,
    /// When the turn began.
    turn: Cell<Nanos>,
    /// The time of day in this turn, once somebody has asked.
    wall: Cell<Option<SystemTime>>,
    /// Octets of what is kept until its answer has ended.
    kept: Cell<usize>,
    /// Which mailbox is this worker's.
    worker: usize,
    shared: Arc<Shared>,
}

impl Log {
    pub(super) fn new(worker: usize, shared: Arc<Shared>) -> Self {
        Self {
            batch: RefCell::default(),
            turn: Cell::default(),
            wall: Cell::default(),
            kept: Cell::default(),
            worker,
            shared,
        }
    }

    /// A turn begins.
    pub(crate) fn begin_turn(&self, now: Nanos) {
        self.turn.set(now);
        self.wall.set(None);
    }

    /// When this turn began: the time from which an answer is counted whose request came in it.
    pub(crate) fn turn(&self) -> Nanos {
        self.turn.get()
    }

    /// Notes a request that came at `started`; false if there was no room for it.
    pub(crate) fn note(&self, note: &Note<'_>, started: Nanos) -> bool {
        let mut batch = self.batch.borrow_mut();
        if batch.is_full() {
            self.shared.count_dropped(1);
            return false;
        }
        batch.push(note, self.wall(), clock::now().since(started));
        true
    }

    /// Nothing of the answer that was noted last went to its client, which has gone.
    pub(crate) fn last_was_not_sent(&self) {
        if let Some(line) = self.batch.borrow_mut().lines.last_mut() {
            line.octets = 0;
        }
    }

    /// Keeps a note until its answer has come to its end. Clients that take their time may have us
    /// keep as much as a batch holds: what is more is noted as it stands.
    pub(crate) fn keep(&self, note: &Note<'_>, started: Nanos) -> Option<Box<Unfinished>> {
        if self.kept.get() >= Batch::ROOM {
            self.shared.count_early();
            self.note(note, started);
            return None;
        }
        // Alone for good.
        let mut batch = Batch { lines: Vec::with_capacity(1), texts: Vec::new() };
        batch.push(note, SystemTime::UNIX_EPOCH, Duration::ZERO);
        self.kept.set(self.kept.get() + batch.octets());
        Some(Box::new(Unfinished { batch, started }))
    }

    /// Notes a request whose answer has ended after `octets` of its body.
    pub(crate) fn finish(&self, unfinished: Unfinished, octets: u64) {
        let Unfinished { mut batch, started } = unfinished;
        self.kept.set(self.kept.get() - batch.octets());
        for line in &mut batch.lines {
            line.time = self.wall();
            line.duration = clock::now().since(started);
            line.octets = octets;
        }
        let mut all = self.batch.borrow_mut();
        if all.is_full() {
            self.shared.count_dropped(batch.len());
            return;
        }
        all.lines.append(&mut batch.lines);
        all.texts.append(&mut batch.texts);
    }

    fn wall(&self) -> SystemTime {
        let now = self.wall.get().unwrap_or_else(SystemTime::now);
        self.wall.set(Some(now));
        now
    }

    /// How it is going.
    pub(crate) fn status(&self) -> Value {
        self.shared.status()
    }

    /// Hands over what was noted in this turn; false if that has to be tried again.
    pub(crate) fn hand_over(&self) -> bool {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            return true;
        }
        let mut mailbox = match self.shared.mailboxes[self.worker].try_lock() {
            Ok(mailbox) => mailbox,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let lost = mailbox.take_over(&mut batch);
        drop(mailbox);
        self.shared.count_dropped(lost);
        self.shared.wake();
        true
    }
}

impl Drop for Log {
    /// The worker has ended, and nobody waits for it any more: it may wait for its mailbox.
    fn drop(&mut self) {
        let mailbox = self.shared.mailboxes[self.worker].lock();
        let lost = mailbox.unwrap_or_else(PoisonError::into_inner).take_over(self.batch.get_mut());
        self.shared.count_dropped(lost);
        self.shared.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Log {
        Log::new(0, Arc::new(Shared::new(1)))
    }

    fn note(line: &[u8]) -> Note<'_> {
        Note {
            vlan: VlanStack::UNTAGGED,
            peer: "192.0.2.7:40000".parse().unwrap(),
            line,
            referer: None,
            user_agent: Some(b"x"),
            x_forwarded_for: None,
            host: None,
            site: Some(b""),
            status: 200,
            octets: 1,
            hit: None,
            request: 1,
        }
    }

    fn dropped(log: &Log) -> u64 {
        log.status()["dropped"].as_u64().unwrap()
    }

    #[test]
    fn each_line_keeps_its_texts() {
        let log = log();
        let long = vec![b'a'; MAX_TEXT + 1];
        for line in [&b"one"[..], b"", &long, b"four"] {
            log.note(&note(line), Nanos(0));
            assert!(log.hand_over());
        }
        let later = log.keep(&note(b"five"), Nanos(0)).unwrap();
        log.finish(*later, 55);
        assert!(log.hand_over() && log.hand_over(), "nothing is no reason to wait");
        let mailbox = log.shared.mailboxes[0].lock().unwrap();
        let lines: Vec<_> = mailbox.iter().map(|(line, texts)| (texts, line.octets)).collect();
        let texts = |(texts, _): &(Texts<'_>, u64)| texts.line.to_vec();
        let expected = [&b"one"[..], b"", &long[..MAX_TEXT], b"four", b"five"];
        assert_eq!(lines.iter().map(texts).collect::<Vec<_>>(), expected);
        for (texts, _) in &lines {
            assert_eq!((texts.referer, texts.user_agent), (None, Some(&b"x"[..])));
            assert_eq!((texts.host, texts.site), (None, Some(&b""[..])));
        }
        assert_eq!(lines[4].1, 55);
    }

    #[test]
    fn what_nobody_takes_has_a_bound_and_is_counted() {
        let log = log();
        let line = vec![b'a'; 1000];
        let mut noted = 0;
        // Within one turn, and turn by turn.
        for turn in [10_000, 100, 100, 5000, 1] {
            for _ in 0..turn {
                log.note(&note(&line), Nanos(0));
                noted += 1;
            }
            assert!(log.hand_over());
            let mailbox = log.shared.mailboxes[0].lock().unwrap();
            assert!(mailbox.octets() < Batch::ROOM + 2 * 1000);
            assert_eq!(mailbox.len() + dropped(&log), noted);
        }
        assert!(dropped(&log) > 10_000);
        // There is room as soon as somebody takes it.
        mem::take(&mut *log.shared.mailboxes[0].lock().unwrap());
        let before = dropped(&log);
        log.note(&note(b"more"), Nanos(0));
        assert!(log.hand_over());
        assert_eq!(dropped(&log), before);
    }

    #[test]
    fn what_waits_for_its_end_has_a_bound_and_is_noted_early_then() {
        let log = log();
        let line = vec![b'a'; 8000];
        let keep = || log.keep(&note(&line), Nanos(0));
        let kept: Vec<_> = std::iter::from_fn(keep).collect();
        assert!((500..530).contains(&kept.len()), "{}", kept.len());
        assert_eq!((&log.status()["early"], log.batch.borrow().len()), (&1.into(), 1));
        for unfinished in kept {
            log.finish(*unfinished, 1);
        }
        assert_eq!(log.kept.get(), 0);
        assert!(log.keep(&note(&line), Nanos(0)).is_some(), "there is room again");
    }

    #[test]
    fn what_ends_while_its_mailbox_is_in_use_has_the_same_bound() {
        let log = log();
        let line = vec![b'a'; 8000];
        let taken = log.shared.mailboxes[0].lock().unwrap();
        for _ in 0..1000 {
            let unfinished = log.keep(&note(&line), Nanos(0)).unwrap();
            log.finish(*unfinished, 1);
            assert!(!log.hand_over());
        }
        let kept = log.batch.borrow().len();
        assert!(log.batch.borrow().octets() < Batch::ROOM + 2 * 8000);
        assert_eq!(kept + dropped(&log), 1000);
        drop(taken);
        assert!(log.hand_over());
    }

    #[test]
    fn what_was_not_sent_is_no_octets() {
        let log = log();
        for line in [&b"one"[..], b"two"] {
            assert!(log.note(&note(line), Nanos(0)));
        }
        log.last_was_not_sent();
        let batch = log.batch.borrow();
        assert_eq!(batch.iter().map(|(line, _)| line.octets).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn a_worker_that_ends_hands_over_what_it_has() {
        let log = log();
        let shared = Arc::clone(&log.shared);
        log.note(&note(b"last"), Nanos(0));
        drop(log);
        assert_eq!(shared.mailboxes[0].lock().unwrap().len(), 1);
    }

    #[test]
    fn a_mailbox_in_use_is_not_waited_for() {
        let log = log();
        log.note(&note(b"one"), Nanos(0));
        let taken = log.shared.mailboxes[0].lock().unwrap();
        assert!(!log.hand_over());
        drop(taken);
        assert!(log.hand_over());
        assert_eq!(log.shared.mailboxes[0].lock().unwrap().len(), 1);
    }
}
