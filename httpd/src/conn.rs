//! A connection: one future that reads a head, answers it, next.
//!
//! 1. Wait for a whole head, within [`Limits::head_timeout`] of its first octet ([`next_answer`]).
//! 2. Parse it, contain its target, look it up ([`plan`]): plain functions, no await. A head
//!    that cannot be framed is answered and ends the connection.
//! 3. What the cache has not is loaded by the cold side; the head waits in the input and is read
//!    again then, so that nothing parsed is kept across an await.
//! 4. Choose the representation, evaluate conditions and ranges, and write the head ([`reply_to`]).
//! 5. Who holds a body back is told to send it, and it is thrown away first ([`Wait::Body`]).
//! 6. Of a large file, have the first octets before the head says that they come: a file that was
//!    replaced in this moment is answered as it is now ([`Wait::First`]).
//! 7. Queue head and body; what is large piece by piece, as the queue drains ([`answer`], [`stream`]).
//! 8. Throw a request's body away, and go on while both sides keep the connection.
//! 9. At the end, see the last answer through to the peer, as long as it takes as
//!    much of it as it must ([`serve`]).
//!
//! A connection that rests holds no buffer, and its future has room for a rest and no more: what is
//! rare or long is boxed while it lasts.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tagwire_core::clock::Nanos;
use tagwire_core::counters::add;

use crate::access_log::{Log, Unfinished};
use crate::builtin::BuiltIn;
use crate::cache::{Answer, Entry};
use crate::cold::LoadError;
use crate::content::{Content, Download, Lookup};
use crate::limits::{FIRST_ATTEMPTS, Limits, PIPELINE_QUEUE};
use crate::request::{self, Head, Method};
use crate::respond::{self, Common, Persistence, Status};
use crate::shares::{Client, Share};
use crate::site::Site;
use crate::target::{self, Target, TargetError};
use crate::transport::{Transport, TransportError};

mod builtin;
mod discard;
mod fuzz;
mod large;
mod noting;
mod reply;

use discard::{linger, throw_away};
pub use fuzz::fuzz_connection;
use large::{make_room, stream};
use noting::Noted;
use reply::{reply_to, slice};

/// A connection and what it is served with.
struct Session<T> {
    transport: T,
    /// What was received and not used yet.
    input: BytesMut,
    content: Rc<Content>,
    /// Requests that were answered.
    served: u32,
    /// The connection is one too many: what its first request is answered with.
    turned_away: Option<Status>,
}

/// Serves the requests of one connection until it ends.
pub fn serve<T: Transport>(transport: T, content: Rc<Content>) -> impl Future<Output = ()> {
    run(transport, content, None)
}

/// Answers the first request of a connection with `status`, and ends it.
pub fn turn_away<T: Transport>(
    transport: T,
    content: Rc<Content>,
    status: Status,
) -> impl Future<Output = ()> {
    run(transport, content, Some(status))
}

/// A block and no `async fn`, which would keep each of its arguments twice: as it was given, and
/// as the body's own.
fn run<T: Transport>(
    transport: T,
    content: Rc<Content>,
    turned_away: Option<Status>,
) -> impl Future<Output = ()> {
    let input = BytesMut::new();
    let mut session = Session { transport, input, content, served: 0, turned_away };
    async move {
        let end = requests(&mut session).await;
        if end != End::Abort {
            session.transport.close();
        }
        if end == End::Linger {
            Box::pin(linger(&mut session.transport, &mut session.input)).await;
        }
        session.input = BytesMut::new();
        // TCP on its own would wait for a peer that answers its probes and takes nothing for as
        // long as the peer likes; and what comes once nobody reads any more resets the
        // connection, which must not happen before the last answer has arrived.
        if end == End::Abort || Box::pin(drain(&mut session, 0)).await.is_err() {
            session.transport.abort();
        }
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing is under way.
    Close,
    /// We end it while the peer may still be sending.
    Linger,
    /// The peer must not take what it has got for whole.
    Abort,
}

/// How far the head at the start of the input has got.
enum Step {
    /// It is not whole.
    More,
    /// It is answered, but for what needs waiting.
    Sent(Sent),
    /// Something is to be waited for first.
    Wait(Wait),
    /// The connection ends.
    End(End),
}

/// What is waited for before an answer.
enum Wait {
    /// The cold side.
    Load(Box<Miss>),
    /// The body that the client has been told to send.
    Body(Box<Reply>),
    /// So many octets of input: a head with its body.
    Input(usize),
    /// The first octets of a large file that is this page.
    First(Box<Download>, Arc<Entry>, Page),
}

/// What a wait has brought.
enum Found {
    /// There was none.
    Nothing,
    /// What is that page, of a large file perhaps with the first octets.
    Entry(Arc<Entry>, Page, Option<Box<Download>>),
    /// What is known of the path is not true any more.
    Change,
}

/// What the cache has not.
struct Miss {
    site: Arc<Site>,
    path: Box<[u8]>,
    page: Page,
}

/// What a file is to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    /// What it asks for.
    Own,
    /// What the site sends for paths that lead to nothing.
    Fallback,
    /// What the site sends along with this status.
    Error(Status),
}

/// What is left to do for a request.
struct Sent {
    /// What is more than a moment's work.
    rest: Option<Box<Rest>>,
    /// The request's body, which is thrown away.
    discard: request::Body,
    /// Another request may follow.
    keeps: bool,
}

/// The rest of an answer. In a box, as it would make every connection's future larger.
struct Rest {
    /// What follows the head part by part.
    parts: Option<Box<Parts>>,
    /// Octets of the body that are queued already.
    octets: u64,
    /// What the access log is to be told in the end.
    unfinished: Option<Box<Unfinished>>,
}

/// What to do about the input.
enum Plan {
    /// The head is not whole.
    More,
    /// Answer that and end.
    Refuse(Status),
    /// Ask the cold side, then plan again.
    Load(Box<Miss>),
    /// Plan again once the input has so many octets; whether the client is to be told to send them.
    Read(usize, bool),
    /// Have the first octets of a large file that is this page, then plan again.
    First(Box<Download>, Arc<Entry>, Page),
    /// Answer.
    Reply(Reply),
}

/// An answer, ready to send.
struct Reply {
    head: Bytes,
    body: Body,
    /// Octets of the request's head, and the body behind it, which is thrown away.
    head_len: usize,
    discard: request::Body,
    /// The body comes only when it is called for.
    expects: bool,
    keeps: bool,
    /// The cache was asked for it.
    looked_up: bool,
    noted: Noted,
}

enum Body {
    /// In the head's buffer, or none.
    Sent,
    Whole(Bytes),
    Parts(Box<Parts>),
}

/// Parts of a file, one behind the other, each with what is sent before it.
struct Parts {
    site: Arc<Site>,
    entry: Arc<Entry>,
    /// What comes from the disk, with the first octets at hand.
    download: Option<Box<Download>>,
    list: Vec<(Bytes, Range<u64>)>,
    /// What is sent behind the last one.
    end: Bytes,
}

async fn requests<T: Transport>(session: &mut Session<T>) -> End {
    loop {
        match next_answer(session).await {
            Ok(Sent { rest: None, discard: request::Body::Length(0), keeps: true }) => {}
            Ok(sent) => {
                if let Err(end) = Box::pin(finish(session, sent)).await {
                    return end;
                }
            }
            Err(end) => return end,
        }
        // A client that asks and never reads is not asked for more before it has read.
        if session.transport.queued() > PIPELINE_QUEUE
            && let Err(end) = Box::pin(catch_up(session)).await
        {
            return end;
        }
    }
}

/// Waits until the client has taken most of its answers.
async fn catch_up<T: Transport>(session: &mut Session<T>) -> Result<(), End> {
    let kept = keep_input(session);
    drain(session, PIPELINE_QUEUE / 4).await?;
    kept.map(drop).ok_or(End::Linger)
}

/// Keeps what has come behind the request that is being answered, for as long as the result lives.
/// `None`: there is no room for it beside that of the others, and it is forgotten.
fn keep_input<T: Transport>(session: &mut Session<T>) -> Option<Share> {
    shrink(&mut session.input);
    let client = Client::of(&session.transport);
    let kept = session.content.keep_pipelined(client, session.input.len());
    if kept.is_none() {
        add(&session.content.tally.pipelines_full, 1);
        session.input = BytesMut::new();
    }
    kept
}

/// Lets go of the part of the buffer that was used.
fn shrink(input: &mut BytesMut) {
    if !input.is_empty() {
        *input = BytesMut::from(&input[..]);
    }
}

/// What is left to do for a request that was answered, if anything is.
async fn finish<T: Transport>(session: &mut Session<T>, sent: Sent) -> Result<(), End> {
    let Sent { rest, discard, mut keeps } = sent;
    if let Some(rest) = rest {
        let kept = keep_input(session);
        let Rest { parts, mut octets, unfinished } = *rest;
        let outcome = see_through(session, parts, &mut octets, unfinished.is_some()).await;
        if let (Some(unfinished), Some(log)) = (unfinished, session.content.log()) {
            // What is queued has not arrived, and is the end of this answer.
            log.finish(*unfinished, octets.saturating_sub(session.transport.queued() as u64));
        }
        outcome?;
        keeps &= kept.is_some();
    }
    if !keeps {
        return Err(End::Linger);
    }
    if !discard.is_none() {
        throw_away(session, discard).await?;
    }
    Ok(())
}

/// Sends the rest of an answer, and waits until it has arrived where somebody wants to know.
async fn see_through<T: Transport>(
    session: &mut Session<T>,
    parts: Option<Box<Parts>>,
    octets: &mut u64,
    to_the_end: bool,
) -> Result<(), End> {
    if let Some(parts) = parts {
        stream(session, *parts, octets).await?;
    }
    if to_the_end { drain(session, 0).await } else { Ok(()) }
}

/// Reads until the input has a whole head, or one that cannot become any, and answers it.
async fn next_answer<T: Transport>(session: &mut Session<T>) -> Result<Sent, End> {
    let mut rests = None;
    let mut seen = 0;
    loop {
        skip_empty_lines(&mut session.input);
        // Without another end of line there is no news, but that of a line without end: a
        // head that trickles in is not parsed again for every octet.
        let news = session.input.get(seen..).unwrap_or_default().contains(&b'\n');
        if news
            || session.input.len() > session.content.limits().max_head
            || !request::may_begin(&session.input)
        {
            match answer(session, Found::Nothing, None) {
                Step::More => {}
                Step::Sent(sent) => return Ok(sent),
                Step::End(end) => return Err(end),
                Step::Wait(wait) => return Box::pin(wait_and_answer(session, wait)).await,
            }
        }
        seen = session.input.len();
        // Set when the wait becomes another one, not by every octet. A CR may become an empty line:
        // who sends these one octet at a time has begun nothing.
        let idle = matches!(session.input[..], [] | [b'\r']);
        if rests != Some(idle) {
            if rests.is_none() {
                shrink(&mut session.input);
            }
            rests = Some(idle);
            let limits = session.content.limits();
            let patient = idle && session.turned_away.is_none();
            let allowed = if patient { limits.idle_timeout } else { limits.head_timeout };
            session.transport.set_deadline(Some(allowed));
        }
        // A connection that rests has nothing to keep; a box has room for what others have.
        let mut kept = None;
        if seen > 0 {
            let client = Client::of(&session.transport);
            let Some(share) = session.content.keep_unfinished(client, seen) else {
                return Err(refuse(session, Status::Unavailable));
            };
            kept = Some(Box::new(share));
        }
        let read = session.transport.read(&mut session.input).await;
        drop(kept);
        match read {
            // Half a request is none, and nobody waits for its answer.
            Ok(0) | Err(TransportError::Draining) => return Err(End::Close),
            Ok(_) => {}
            Err(TransportError::TimedOut) if rests == Some(true) => {
                add(&session.content.tally.idle_timeout, 1);
                return Err(End::Close);
            }
            Err(TransportError::TimedOut) => {
                return Err(refuse(session, Status::RequestTimeout));
            }
            Err(TransportError::Closed) => return Err(End::Abort),
        }
    }
}

/// Waits for what is missing, and answers then.
async fn wait_and_answer<T: Transport>(
    session: &mut Session<T>,
    mut wait: Wait,
) -> Result<Sent, End> {
    let started = session.content.log().map(Log::turn);
    let mut attempts = 0;
    loop {
        let found = match wait {
            Wait::Load(miss) => {
                let entry = session.content.load(&miss.site, &miss.path).await;
                Found::Entry(entry, miss.page, None)
            }
            Wait::Input(octets) => {
                builtin::gather(session, octets).await?;
                Found::Nothing
            }
            Wait::Body(mut reply) => {
                // So that what follows is a request for sure.
                if let Err(end) = throw_away(session, reply.discard).await {
                    reply.noted.none_sent(&session.content);
                    return Err(end);
                }
                reply.discard = request::Body::Length(0);
                return send(session, *reply);
            }
            Wait::First(download, entry, page) => {
                first(session, download, entry, page, &mut attempts).await?
            }
        };
        match answer(session, found, started) {
            Step::Sent(sent) => return Ok(sent),
            Step::End(end) => return Err(end),
            // Each page leads to a later kind only, see `find`; a body is read once.
            Step::Wait(next) => wait = next,
            // The same head was whole before.
            Step::More => return Err(End::Abort),
        }
    }
}

/// Has the first octets of a large file, which may take as long as others take theirs.
async fn first<T: Transport>(
    session: &mut Session<T>,
    mut download: Box<Download>,
    entry: Arc<Entry>,
    page: Page,
    attempts: &mut usize,
) -> Result<Found, End> {
    shrink(&mut session.input);
    let client = Client::of(&session.transport);
    let Some(_kept) = session.content.keep_pipelined(client, session.input.len()) else {
        add(&session.content.tally.pipelines_full, 1);
        return Err(end_with(session, Status::Unavailable));
    };
    let refused = |content: &Content, status| Found::Entry(content.refusal(status), page, None);
    make_room(session, &mut download).await?;
    Ok(match download.prime().await {
        Ok(()) => Found::Entry(entry, page, Some(download)),
        Err(LoadError::Changed) if *attempts < FIRST_ATTEMPTS => {
            *attempts += 1;
            Found::Change
        }
        Err(LoadError::Unreadable) => refused(&session.content, Status::Internal),
        Err(LoadError::Changed | LoadError::Overloaded) => {
            refused(&session.content, Status::Unavailable)
        }
    })
}

/// Plans and carries out what needs no waiting, so that neither plan nor answer is kept in the
/// connection's future. A head that has waited for something was there at `started`.
fn answer<T: Transport>(session: &mut Session<T>, found: Found, started: Option<Nanos>) -> Step {
    let limits = session.content.limits();
    let reply = match plan(session, &limits, found, started) {
        Plan::More => return Step::More,
        Plan::Load(miss) => return Step::Wait(Wait::Load(miss)),
        Plan::First(download, entry, page) => {
            return Step::Wait(Wait::First(download, entry, page));
        }
        Plan::Read(octets, tell) => {
            return match tell.then(|| session.transport.send(respond::CONTINUE)) {
                Some(Err(_)) => Step::End(End::Abort),
                _ => Step::Wait(Wait::Input(octets)),
            };
        }
        Plan::Refuse(Status::VersionNotSupported) if request::lower_version(&mut session.input) => {
            return answer(session, Found::Nothing, None);
        }
        Plan::Refuse(status) => return Step::End(refuse(session, status)),
        Plan::Reply(reply) => reply,
    };
    let Session { input, content, served, .. } = session;
    if limits.is_last(*served) {
        add(&content.tally.last_request, 1);
    }
    *served = served.saturating_add(1);
    consume(input, reply.head_len);
    // Who has begun to send the body does not wait (RFC 9110 10.1.1).
    if reply.expects && input.is_empty() && !reply.discard.is_none() {
        return match session.transport.send(respond::CONTINUE) {
            Ok(()) => Step::Wait(Wait::Body(Box::new(reply))),
            Err(_) => {
                reply.noted.none_sent(&session.content);
                Step::End(End::Abort)
            }
        };
    }
    send(session, reply).map_or_else(Step::End, Step::Sent)
}

fn send<T: Transport>(session: &mut Session<T>, reply: Reply) -> Result<Sent, End> {
    let Reply { head, body, discard, keeps, noted, .. } = reply;
    let transport = &mut session.transport;
    let waits = matches!(noted, Noted::Later(_));
    let octets = if waits { noting::queued_octets(&head, &body) } else { 0 };
    let mut parts = None;
    session.content.tally.answered(&head);
    let mut queued = transport.send(head);
    match body {
        Body::Sent => {}
        Body::Whole(body) => queued = queued.and_then(|()| transport.send(body)),
        Body::Parts(more) => parts = Some(more),
    }
    if queued.is_err() {
        noted.none_sent(&session.content);
        return Err(End::Abort);
    }
    let more = parts.is_some() || waits;
    let rest = more.then(|| Box::new(Rest { parts, octets, unfinished: noted.later() }));
    Ok(Sent { rest, discard, keeps })
}

/// RFC 9112 2.2: empty lines before a request line are ignored.
fn skip_empty_lines(input: &mut BytesMut) {
    while let [b'\r', b'\n', ..] | [b'\n', ..] = input[..] {
        let line = if input[0] == b'\r' { 2 } else { 1 };
        consume(input, line);
    }
}

/// Drops what has been used, and the buffer with the last of it.
fn consume(input: &mut BytesMut, octets: usize) {
    input.advance(octets);
    if input.is_empty() {
        *input = BytesMut::new();
    }
}

/// Decides about the head at the start of `input`. `found` is what waiting for it has brought.
fn plan<T: Transport>(
    session: &Session<T>,
    limits: &Limits,
    found: Found,
    started: Option<Nanos>,
) -> Plan {
    let Session { transport, input, content, .. } = session;
    let mut slots = request::slots();
    let head = match request::parse(input, &mut slots, limits) {
        Ok(Some(head)) => head,
        Ok(None) => return Plan::More,
        Err(status) => return Plan::Refuse(status),
    };
    // RFC 9112 3.2.4: the server as a whole is asked.
    let all = head.method == Method::Options && head.target == b"*";
    let target = if all { Ok(Target::default()) } else { target::resolve(head.target) };
    let sites = content.sites();
    // RFC 9112 3.2.2: the host in the target goes before the field.
    let host = target.as_ref().ok().and_then(|target| target.host).or(head.host);
    let site = sites.pick(|| transport.local(), host);
    let hit = match &found {
        Found::Nothing => true,
        Found::Entry(.., Some(download)) => download.was_cached(),
        Found::Entry(.., None) | Found::Change => false,
    };
    let mut plan = decide(session, limits, &head, target, site, found);
    if let (Plan::Reply(reply), Some(log)) = (&mut plan, content.log()) {
        let hit = reply.looked_up.then_some(hit);
        let started = started.unwrap_or_else(|| log.turn());
        reply.noted = noting::answered(session, log, &head, site, reply, hit, started);
    }
    plan
}

/// Decides about a whole head.
fn decide<T: Transport>(
    session: &Session<T>,
    limits: &Limits,
    head: &Head<'_, '_>,
    target: Result<Target<'_>, TargetError>,
    site: &Arc<Site>,
    mut found: Found,
) -> Plan {
    let Session { transport, input, content, served, turned_away } = session;
    let page = match &target {
        Ok(target) if site.settings.builtin_json == Some(true) => BuiltIn::at(&target.path),
        _ => None,
    };
    // A client that waits for 100 sends its body or not after any other answer (RFC 9110 10.1.1):
    // what follows that cannot be told apart, so the connection ends.
    let called_for = matches!(head.method, Method::Get | Method::Head)
        || page.is_some_and(|page| builtin::reads(page, head));
    let ambiguous = head.expects && !head.body.is_none() && !called_for;
    let last = limits.is_last(*served) || turned_away.is_some();
    let keeps = head.keep_alive && !transport.sends_away() && !ambiguous && !last;
    let persistence = match (keeps, head.old) {
        (false, _) => Persistence::Close,
        (true, false) => Persistence::Keep,
        (true, true) => Persistence::KeepOld,
    };
    let cors = site.cors.as_ref();
    let date = content.date_line();
    let lines = cors.map_or(&[][..], |cors| cors.answer(head.fields));
    let common = Common { date: &date, persistence, site: lines };
    let takes_post = page.is_some_and(BuiltIn::takes_post);
    let refused = turned_away.or(match head.method {
        Method::Get | Method::Head | Method::Options => None,
        Method::Post if takes_post => None,
        Method::Post | Method::NotAllowed => Some(Status::MethodNotAllowed),
        Method::Unknown => Some(Status::NotImplemented),
    });
    let refusal = |status, common: Common<'_>| {
        let answer = match status {
            Status::MethodNotAllowed if takes_post => respond::not_allowed_but_post(common),
            status => respond::refusal(status, common, head.method != Method::Head),
        };
        Plan::Reply(Reply::new(head, common, answer, Body::Sent))
    };
    if let Some(status) = refused {
        return refusal(status, common);
    }
    let Ok(target) = target else {
        // The head is whole and framed, so that an answer to HEAD goes without its body
        // (RFC 9110 9.3.2); who sends such targets is not worth keeping.
        return refusal(Status::BadRequest, Common { persistence: Persistence::Close, ..common });
    };
    if head.method == Method::Options {
        let preflight = cors.and_then(|cors| cors.preflight(head.fields));
        let common = Common { site: preflight.unwrap_or(lines), ..common };
        let options = respond::options(takes_post, common);
        return Plan::Reply(Reply::new(head, common, options, Body::Sent));
    }
    if let Some(page) = page {
        return builtin::plan(page, input, head, target.query, common, content);
    }
    let download = match &mut found {
        Found::Entry(.., download) => download.take(),
        Found::Nothing | Found::Change => None,
    };
    match find(content, site, &target.path, found) {
        Ok(found) => {
            let page = found.1;
            let mut reply = reply_to(head, &target, site, found, common, content);
            if let Body::Parts(parts) = &mut reply.body {
                parts.download = download;
                if let Some(first) = parts.first_download(content) {
                    return Plan::First(Box::new(first), Arc::clone(&parts.entry), page);
                }
            }
            Plan::Reply(Reply { looked_up: true, ..reply })
        }
        Err(miss) => Plan::Load(miss),
    }
}

/// The answer to `path`: its own; where that is a refusal, the site's fallback, else the site's
/// page for it.
fn find(
    content: &Content,
    site: &Arc<Site>,
    path: &[u8],
    found: Found,
) -> Result<(Arc<Entry>, Page), Box<Miss>> {
    let miss =
        |path: &[u8], page| Box::new(Miss { site: Arc::clone(site), path: path.into(), page });
    let get = |path: &[u8], page| match content.lookup(site, path) {
        Lookup::Hit(entry) => Ok((entry, page)),
        Lookup::Miss => Err(miss(path, page)),
    };
    let mut found = match found {
        Found::Nothing => get(path, Page::Own)?,
        Found::Entry(entry, page, _) => (entry, page),
        Found::Change => return Err(miss(path, Page::Own)),
    };
    while let (Answer::Refused(status), page) = (&found.0.answer, found.1) {
        let (status, settings) = (*status, &site.settings);
        found = match (page, &settings.fallback) {
            (Page::Own, Some(fallback)) if status == Status::NotFound => {
                get(fallback.as_bytes(), Page::Fallback)?
            }
            (Page::Own | Page::Fallback, _) => match settings.error_pages.get(&status.code()) {
                Some(path) => get(path.as_bytes(), Page::Error(status))?,
                None => break,
            },
            (Page::Error(_), _) => break,
        };
    }
    Ok(found)
}

/// Answers what could not be framed; what follows it cannot be understood either.
fn refuse<T: Transport>(session: &mut Session<T>, status: Status) -> End {
    session.content.tally.refused(status);
    end_with(session, status)
}

/// Answers with `status`, and forgets what else has come.
fn end_with<T: Transport>(session: &mut Session<T>, status: Status) -> End {
    let date = session.content.date_line();
    // Whose request it was is not known either.
    let common = Common { date: &date, persistence: Persistence::Close, site: b"" };
    let answer = respond::refusal(status, common, true);
    let noted = noting::refused(session, &answer);
    session.content.tally.answered(&answer);
    match session.transport.send(answer) {
        Ok(()) => End::Linger,
        Err(_) => {
            noted.none_sent(&session.content);
            End::Abort
        }
    }
}

/// Waits until the queue is short, as long as the peer takes as much of it as it must.
async fn drain<T: Transport>(session: &mut Session<T>, low_water: usize) -> Result<(), End> {
    let Session { transport, content, .. } = session;
    loop {
        let before = transport.queued();
        if before <= low_water {
            return Ok(());
        }
        transport.set_deadline(Some(content.limits().send_timeout));
        match transport.drained(low_water).await {
            Ok(()) => return Ok(()),
            Err(TransportError::TimedOut) => {
                let taken = before.saturating_sub(transport.queued());
                if taken < content.limits().least_progress() {
                    add(&content.tally.slow_reader, 1);
                    return Err(End::Abort);
                }
            }
            Err(_) => return Err(End::Abort),
        }
    }
}

#[cfg(test)]
mod tests;
