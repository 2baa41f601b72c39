//! A large file on its way to one client, piece by piece.
//!
//! A piece is taken in this order: room for it in the memory of downloads, its octets, the client's
//! queue. Who finds no room sees its queue through first, and then waits for its turn with
//! nothing in hands ([`Download::wait_for_room`]).

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::Content;
use super::plan::{Pace, Plan};
use crate::cache::{Answer, Buffers, Charge, Chunk, Entry, FileId, Span};
use crate::cold::{self, Asked, LoadError, Loaded, Room};
use crate::limits::{CHUNK, LEAST_PIECE, SMALL_RANGE};
use crate::site::Site;

/// What one client gets of a file that comes in parts.
pub(crate) struct Download {
    content: Rc<Content>,
    site: Arc<Site>,
    entry: Arc<Entry>,
    id: FileId,
    /// It is sent in several parts.
    several: bool,
    /// What is still to be sent.
    left: Range<u64>,
    /// What is there of it, or asked for.
    ahead: VecDeque<Piece>,
    /// Its end.
    reach: u64,
    pace: Pace,
    /// Octets that the client's queue was given.
    given: u64,
    /// Its last piece for which room was made came from the cache.
    cached: bool,
}

/// Octets that follow one another from where the piece before ended.
struct Piece {
    end: u64,
    state: State,
}

enum State {
    Here(Bytes),
    /// There is room for it.
    Charged(Span, Charge),
    Asked(Span, Asked),
}

impl Download {
    /// Of the file of `entry`, of which one part or `several` are sent.
    pub(crate) fn new(
        content: Rc<Content>,
        site: Arc<Site>,
        entry: Arc<Entry>,
        several: bool,
    ) -> Option<Self> {
        let Answer::File(file) = &entry.answer else { return None };
        let id = file.id;
        let pace = Pace::new(content.now.get());
        content.cache.buffers().begin_download();
        let (left, ahead) = (0..0, VecDeque::new());
        Some(Self {
            content,
            site,
            entry,
            id,
            several,
            left,
            ahead,
            reach: 0,
            pace,
            given: 0,
            cached: false,
        })
    }

    /// Goes on with this part of the file, unless it has begun with it.
    pub(crate) fn begin(&mut self, part: Range<u64>) {
        if self.left != part {
            self.ahead.clear();
            self.reach = part.start;
            self.left = part;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// Whether it is of this file.
    pub(crate) fn is_of(&self, entry: &Arc<Entry>) -> bool {
        Arc::ptr_eq(&self.entry, entry)
    }

    /// Whether the cache had what comes next.
    pub(crate) fn was_cached(&self) -> bool {
        self.cached
    }

    /// Whether somebody waits for the memory that it holds.
    pub(crate) fn shall_give_way(&self) -> bool {
        self.buffers().are_short()
    }

    /// How far the client's queue, in which `queued` octets are, runs down before the next piece follows.
    pub(crate) fn low_water(&mut self, queued: usize) -> usize {
        let taken = self.given.saturating_sub(queued as u64);
        self.pace.step(self.content.now.get(), taken);
        let Plan { piece, queue, .. } = self.plan();
        if piece == CHUNK { queue } else { queue.min(piece) }
    }

    /// Sees to it that there is room for the next piece; false if there is none.
    pub(crate) fn reserve(&mut self) -> bool {
        if !self.ahead.is_empty() {
            return true;
        }
        self.reach = self.left.start;
        let plan = self.plan();
        let cached = self.cached(plan.piece);
        self.cached = cached.is_some();
        let Some(piece) = cached.or_else(|| self.charged(&plan)) else { return false };
        self.push(piece);
        true
    }

    /// Waits for room for a piece. The caller holds none: its queue is empty.
    pub(crate) async fn wait_for_room(&mut self) {
        let span = self.span(LEAST_PIECE);
        let waits = self.buffers().wait_for_room(span.len as usize, &self.content.wake);
        let charge = waits.await;
        self.push(Piece { end: end(span), state: State::Charged(span, charge) });
    }

    /// Waits for the first piece, for which there is room.
    ///
    /// # Errors
    /// Nothing can be sent.
    pub(crate) async fn prime(&mut self) -> Result<(), LoadError> {
        let first = self.next().await?;
        // As if it had not been taken.
        let end = self.left.start;
        self.left.start -= first.len() as u64;
        self.given -= first.len() as u64;
        self.ahead.push_front(Piece { end, state: State::Here(first) });
        Ok(())
    }

    /// The next piece, for which there is room.
    ///
    /// # Errors
    /// The file is not what it was, or cannot be read: what has been sent cannot be completed.
    pub(crate) async fn next(&mut self) -> Result<Bytes, LoadError> {
        let Some(piece) = self.ahead.pop_front() else { return Err(LoadError::Overloaded) };
        let at = self.left.start;
        let octets = match piece.state {
            State::Here(octets) => {
                self.read_ahead();
                octets
            }
            State::Charged(span, charge) => {
                let place = self.buffers().wait_for_place(&self.content.wake).await;
                let asked = self.ask(span, Room { charge, place });
                self.arrived(at..piece.end, span, asked).await?
            }
            State::Asked(span, asked) => self.arrived(at..piece.end, span, asked).await?,
        };
        self.left.start += octets.len() as u64;
        self.given += octets.len() as u64;
        Ok(octets)
    }

    async fn arrived(
        &mut self,
        wanted: Range<u64>,
        span: Span,
        asked: Asked,
    ) -> Result<Bytes, LoadError> {
        self.content.misses.set(self.content.misses.get() + 1);
        self.read_ahead();
        let Loaded::Part(octets) = cold::answer(asked).await? else {
            return Err(LoadError::Changed);
        };
        // A span is at most a chunk.
        let [from, to] = [wanted.start, wanted.end].map(|at| (at - span.start) as usize);
        let octets = octets.slice(from..to);
        // A chunk that is held for a client that takes little of it at a time, or wants no more, is
        // memory that others have use for; its cache has the rest.
        let piece = self.pace.piece();
        let is_fit = span.len as usize <= piece || !self.ahead.is_empty();
        if is_fit || !self.content.cache.keeps_chunks() {
            return Ok(octets);
        }
        let kept = octets.len().min(piece);
        let Some(charge) = self.buffers().take(kept) else { return Ok(octets) };
        self.reach = wanted.start + kept as u64;
        Ok(Chunk::new(octets[..kept].to_vec()).hold(charge))
    }

    fn buffers(&self) -> &Buffers {
        self.content.cache.buffers()
    }

    fn plan(&self) -> Plan {
        let plan = Plan::new(self.buffers().free());
        Plan { piece: plan.piece.min(self.pace.piece()), ..plan }
    }

    fn push(&mut self, piece: Piece) {
        self.reach = piece.end;
        self.ahead.push_back(piece);
    }

    /// From where it has reached, up to where a piece of this size ends in the file: so that others
    /// at the same place read the same.
    fn span(&self, piece: usize) -> Span {
        let piece = piece as u64;
        let end = (self.reach / piece + 1).saturating_mul(piece).min(self.left.end);
        // A piece is at most a chunk.
        Span { start: self.reach, len: (end - self.reach) as u32 }
    }

    /// The piece that comes next, of at most so many octets, if the cache has it and there is room.
    fn cached(&self, piece: usize) -> Option<Piece> {
        let index = u32::try_from(self.reach / CHUNK as u64).ok()?;
        let chunk = self.content.cache.chunk(self.id, index)?;
        let from = (self.reach % CHUNK as u64) as usize;
        let rest = usize::try_from(self.left.end - self.reach).unwrap_or(usize::MAX);
        let to = chunk.octets().len().min(from.saturating_add(rest));
        let held = |octets: Bytes| octets.slice(from..to);
        let whole =
            || (piece == CHUNK).then(|| self.buffers().take(chunk.octets().len())).flatten();
        let copy = |len: usize| {
            let octets = chunk.octets().get(from..to.min(from + len))?;
            Some(Chunk::new(octets.to_vec()).hold(self.buffers().take(octets.len())?))
        };
        // Who may be slow would keep it from being given back.
        let brisk = self.pace.piece() == CHUNK;
        let octets = if brisk { chunk.share().map(held) } else { None };
        let octets = octets.or_else(|| whole().map(|charge| held(chunk.hold(charge))));
        let octets = octets.or_else(|| copy(piece)).or_else(|| copy(LEAST_PIECE))?;
        self.content.hits.set(self.content.hits.get() + 1);
        Some(Piece { end: self.reach + octets.len() as u64, state: State::Here(octets) })
    }

    /// The piece that comes next, to be read, if there is room.
    fn charged(&self, plan: &Plan) -> Option<Piece> {
        let of = |span: Span, end: u64| {
            let charge = self.buffers().take(span.len as usize)?;
            Some(Piece { end, state: State::Charged(span, charge) })
        };
        let part = |piece| {
            let span = self.span(piece);
            of(span, end(span))
        };
        let roomy = Plan::new(self.buffers().free()).piece == CHUNK;
        // What the cache keeps is read by the chunk, however little of it is wanted now; but no list of
        // ranges has much more read than it asks for.
        let chunk = || {
            let index = u32::try_from(self.reach / CHUNK as u64).ok()?;
            let span = Span::chunk(self.id.len, index);
            let last = end(span).min(self.left.end);
            let small = self.several && last - self.reach <= SMALL_RANGE;
            if small { None } else { of(span, last) }
        };
        let chunk = if roomy && self.content.cache.keeps_chunks() { chunk() } else { None };
        chunk.or_else(|| part(plan.piece)).or_else(|| part(LEAST_PIECE))
    }

    /// Has chunks that follow read, as many as there is room for.
    fn read_ahead(&mut self) {
        let plan = self.plan();
        while plan.piece == CHUNK && self.ahead.len() < plan.ahead && self.reach < self.left.end {
            let piece = match self.cached(CHUNK).or_else(|| self.charged(&plan)) {
                Some(Piece { end, state: State::Charged(span, charge) }) => {
                    let Some(place) = self.buffers().place() else { return };
                    let state = State::Asked(span, self.ask(span, Room { charge, place }));
                    Piece { end, state }
                }
                Some(piece) => piece,
                None => return,
            };
            self.push(piece);
        }
    }

    fn ask(&self, span: Span, room: Room) -> Asked {
        self.content.cold.read(&self.site, &self.entry, span, room, &self.content.wake)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.buffers().end_download();
    }
}

/// Behind its last octet.
fn end(span: Span) -> u64 {
    span.start + u64::from(span.len)
}
