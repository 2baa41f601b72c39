//! A connection: one future that reads a head, answers it, next.
//!
//! 1. Wait for a whole head, within [`HEAD_TIMEOUT`] of its first octet ([`next_answer`]).
//! 2. Parse it, contain its target, look it up ([`plan`]): plain functions, no await. A head
//!    that cannot be framed is answered and ends the connection.
//! 3. What the cache has not is loaded by the cold side; the head waits in the input and is read
//!    again then, so that nothing parsed is kept across an await.
//! 4. Evaluate the conditions and write the head ([`reply_to`]).
//! 5. Queue head and body; a large file chunk by chunk, as the queue drains ([`answer`], [`stream`]).
//! 6. Throw a request's body away, and go on while both sides keep the connection.
//! 7. At the end, see the last answer through to the peer, within [`SEND_TIMEOUT`] ([`serve`]).
//!
//! A connection that rests holds no buffer, and its future has room for a rest and no more: what is
//! rare or long is boxed while it lasts.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::cache::{Answer, Entry, File};
use crate::conditional;
use crate::limits::{
    BODY_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, LINGER_OCTETS, LINGER_TIMEOUT, MAX_HEAD,
    MERGED_RESPONSE, PIPELINE_QUEUE, SEND_TIMEOUT,
};
use crate::request::{self, Head, Method};
use crate::respond::{self, Common, Persistence, Status};
use crate::site::{Lookup, Site};
use crate::target::{self, Target};
use crate::transport::{Transport, TransportError};

/// A connection and what it is served with.
struct Session<T> {
    transport: T,
    /// What was received and not used yet.
    input: BytesMut,
    site: Rc<Site>,
}

/// Serves the requests of one connection until it ends.
///
/// A block and no `async fn`, which would keep each of its arguments twice: as it was given, and
/// as the body's own.
pub fn serve<T: Transport>(transport: T, site: Rc<Site>) -> impl Future<Output = ()> {
    let mut session = Session { transport, input: BytesMut::new(), site };
    async move {
        let end = requests(&mut session).await;
        let Session { transport, input, .. } = &mut session;
        if end != End::Abort {
            transport.close();
        }
        if end == End::Linger {
            Box::pin(linger(transport, input)).await;
        }
        // TCP on its own would wait for a peer that answers its probes and takes nothing for as
        // long as the peer likes; and what comes once nobody reads any more resets the
        // connection, which must not happen before the last answer has arrived.
        if end == End::Abort || Box::pin(drain(transport, 0)).await.is_err() {
            transport.abort();
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
    /// The cold side must be asked for this path first.
    Load(Box<[u8]>),
    /// It is answered, but for what needs waiting.
    Sent(Sent),
    /// The connection ends.
    End(End),
}

/// What is left to do for a request.
struct Sent {
    /// A large file whose chunks follow its head.
    chunks: Option<Arc<Entry>>,
    /// Octets of the request's body that are thrown away.
    discard: u64,
    /// Another request may follow.
    keeps: bool,
}

/// What to do about the input.
enum Plan {
    /// The head is not whole.
    More,
    /// Answer that and end.
    Refuse(Status),
    /// Ask the cold side for this path, then plan again.
    Load(Box<[u8]>),
    /// Answer.
    Reply(Reply),
}

/// An answer, ready to send.
struct Reply {
    head: Bytes,
    body: Body,
    /// Octets of the request's head, and of the body behind it that is thrown away.
    head_len: usize,
    discard: u64,
    keeps: bool,
}

enum Body {
    /// In the head's buffer, or none.
    Sent,
    Whole(Bytes),
    Chunks(Arc<Entry>),
}

async fn requests<T: Transport>(session: &mut Session<T>) -> End {
    loop {
        match next_answer(session).await {
            Ok(Sent { chunks: None, discard: 0, keeps: true }) => {}
            Ok(sent) => {
                if let Err(end) = Box::pin(finish(session, sent)).await {
                    return end;
                }
            }
            Err(end) => return end,
        }
        // A client that asks and never reads is not asked for more before it has read.
        if session.transport.queued() > PIPELINE_QUEUE
            && let Err(end) = Box::pin(drain(&mut session.transport, PIPELINE_QUEUE / 4)).await
        {
            return end;
        }
    }
}

/// What is left to do for a request that was answered, if anything is.
async fn finish<T: Transport>(session: &mut Session<T>, sent: Sent) -> Result<(), End> {
    let Session { transport, input, site } = session;
    if let Some(file) = &sent.chunks {
        stream(transport, site, file).await?;
    }
    if !sent.keeps {
        return Err(End::Linger);
    }
    if sent.discard > 0 {
        throw_away(transport, input, sent.discard).await?;
    }
    Ok(())
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
        if news || session.input.len() > MAX_HEAD {
            match answer(session, None) {
                Step::More => {}
                Step::Sent(sent) => return Ok(sent),
                Step::End(end) => return Err(end),
                Step::Load(path) => return Box::pin(load_and_answer(session, path)).await,
            }
        }
        seen = session.input.len();
        // Set when the wait becomes another one, not by every octet.
        let idle = session.input.is_empty();
        if rests != Some(idle) {
            rests = Some(idle);
            let allowed = if idle { IDLE_TIMEOUT } else { HEAD_TIMEOUT };
            session.transport.set_deadline(Some(allowed));
        }
        match session.transport.read(&mut session.input).await {
            // Half a request is none, and nobody waits for its answer.
            Ok(0) | Err(TransportError::Draining) => return Err(End::Close),
            Ok(_) => {}
            Err(TransportError::TimedOut) if session.input.is_empty() => {
                return Err(End::Close);
            }
            Err(TransportError::TimedOut) => {
                let Session { transport, site, .. } = session;
                return Err(refuse(transport, site, Status::RequestTimeout));
            }
            Err(TransportError::Closed) => return Err(End::Abort),
        }
    }
}

/// Has the cold side bring what the head asks for, and answers it then.
async fn load_and_answer<T: Transport>(
    session: &mut Session<T>,
    path: Box<[u8]>,
) -> Result<Sent, End> {
    let entry = session.site.load(&path).await;
    match answer(session, Some(entry)) {
        Step::Sent(sent) => Ok(sent),
        Step::End(end) => Err(end),
        // The same head was whole before, and its entry is known now.
        Step::More | Step::Load(_) => Err(End::Abort),
    }
}

/// Plans and carries out what needs no waiting, so that neither plan nor answer is kept in the
/// connection's future.
fn answer<T: Transport>(session: &mut Session<T>, known: Option<Arc<Entry>>) -> Step {
    let Session { transport, input, site } = session;
    let reply = match plan(input, site, transport.is_draining(), known) {
        Plan::More => return Step::More,
        Plan::Load(path) => return Step::Load(path),
        Plan::Refuse(status) => return Step::End(refuse(transport, site, status)),
        Plan::Reply(reply) => reply,
    };
    consume(input, reply.head_len);
    let mut sent = Sent { chunks: None, discard: reply.discard, keeps: reply.keeps };
    let mut queued = transport.send(reply.head);
    match reply.body {
        Body::Sent => {}
        Body::Whole(body) => queued = queued.and_then(|()| transport.send(body)),
        Body::Chunks(entry) => sent.chunks = Some(entry),
    }
    queued.map_or(Step::End(End::Abort), |()| Step::Sent(sent))
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

/// Decides about the head at the start of `input`. `known` is what a load for it has brought.
fn plan(input: &[u8], site: &Site, draining: bool, known: Option<Arc<Entry>>) -> Plan {
    let mut slots = request::slots();
    let head = match request::parse(input, &mut slots) {
        Ok(Some(head)) => head,
        Ok(None) => return Plan::More,
        Err(status) => return Plan::Refuse(status),
    };
    let persistence = match (head.keep_alive && !draining, head.old) {
        (false, _) => Persistence::Close,
        (true, false) => Persistence::Keep,
        (true, true) => Persistence::KeepOld,
    };
    let date = site.date_line();
    let common = Common { date: &date, persistence };
    let refused = match head.method {
        Method::Get | Method::Head => None,
        Method::NotAllowed => Some(Status::MethodNotAllowed),
        Method::Unknown => Some(Status::NotImplemented),
    };
    if let Some(status) = refused {
        let answer = respond::refusal(status, common, true);
        return Plan::Reply(Reply::new(&head, common, answer, Body::Sent));
    }
    let Ok(target) = target::resolve(head.target) else {
        // The head is whole and framed, so that an answer to HEAD goes without its body
        // (RFC 9110 9.3.2); who sends such targets is not worth keeping.
        let common = Common { persistence: Persistence::Close, ..common };
        let answer = respond::refusal(Status::BadRequest, common, head.method != Method::Head);
        return Plan::Reply(Reply::new(&head, common, answer, Body::Sent));
    };
    let entry = match known {
        Some(entry) => entry,
        None => match site.lookup(&target.path) {
            Lookup::Hit(entry) => entry,
            Lookup::Miss => return Plan::Load(target.path.as_ref().into()),
        },
    };
    Plan::Reply(reply_to(&head, &target, entry, common))
}

/// The answer to a GET or HEAD for `entry`.
fn reply_to(
    head: &Head<'_, '_>,
    target: &Target<'_>,
    entry: Arc<Entry>,
    common: Common<'_>,
) -> Reply {
    let with_body = head.method == Method::Get;
    let (answer, body) = match &entry.answer {
        Answer::File(file) => {
            let current = head.conditional
                && conditional::not_modified(head.fields, file.etag.as_bytes(), file.modified);
            if current {
                (respond::assemble(&file.not_modified_head, common, b""), Body::Sent)
            } else if !with_body {
                (respond::assemble(&file.head, common, b""), Body::Sent)
            } else {
                file_reply(file, &entry, common)
            }
        }
        Answer::Redirect(location) => {
            (respond::redirect(location, target.query, common, with_body), Body::Sent)
        }
        Answer::Refused(status) => (respond::refusal(*status, common, with_body), Body::Sent),
    };
    Reply::new(head, common, answer, body)
}

fn file_reply(file: &File, entry: &Arc<Entry>, common: Common<'_>) -> (Bytes, Body) {
    match &file.body {
        Some(body) if file.head.len() + body.len() <= MERGED_RESPONSE => {
            (respond::assemble(&file.head, common, body), Body::Sent)
        }
        Some(body) => (respond::assemble(&file.head, common, b""), Body::Whole(body.clone())),
        None => (respond::assemble(&file.head, common, b""), Body::Chunks(Arc::clone(entry))),
    }
}

impl Reply {
    fn new(request: &Head<'_, '_>, common: Common<'_>, head: Bytes, body: Body) -> Self {
        let keeps = common.persistence.keeps();
        Self { head, body, head_len: request.len, discard: request.body, keeps }
    }
}

/// Answers what could not be framed; what follows it cannot be understood either.
fn refuse<T: Transport>(transport: &mut T, site: &Site, status: Status) -> End {
    let date = site.date_line();
    let common = Common { date: &date, persistence: Persistence::Close };
    match transport.send(respond::refusal(status, common, true)) {
        Ok(()) => End::Linger,
        Err(_) => End::Abort,
    }
}

/// Sends a large file, a bounded part of it at a time.
async fn stream<T: Transport>(
    transport: &mut T,
    site: &Site,
    entry: &Arc<Entry>,
) -> Result<(), End> {
    let Answer::File(file) = &entry.answer else { return Err(End::Abort) };
    let streaming = site.streaming();
    for index in 0..file.chunks() {
        // A file that changes under way ends in a connection cut short, never in a mixture.
        let chunk = site.chunk(entry, index).await.map_err(|_| End::Abort)?;
        transport.send(chunk).map_err(|_| End::Abort)?;
        drain(transport, streaming.low_water()).await?;
    }
    Ok(())
}

/// Waits until the queue is short, as long as the peer takes anything at all.
async fn drain<T: Transport>(transport: &mut T, low_water: usize) -> Result<(), End> {
    loop {
        let before = transport.queued();
        if before <= low_water {
            return Ok(());
        }
        transport.set_deadline(Some(SEND_TIMEOUT));
        match transport.drained(low_water).await {
            Ok(()) => return Ok(()),
            Err(TransportError::TimedOut) if transport.queued() < before => {}
            Err(_) => return Err(End::Abort),
        }
    }
}

/// Reads the body of a request past.
async fn throw_away<T: Transport>(
    transport: &mut T,
    input: &mut BytesMut,
    mut octets: u64,
) -> Result<(), End> {
    transport.set_deadline(Some(BODY_TIMEOUT));
    loop {
        let here = usize::try_from(octets).unwrap_or(usize::MAX).min(input.len());
        consume(input, here);
        octets -= here as u64;
        if octets == 0 {
            return Ok(());
        }
        match transport.read(input).await {
            Ok(0) => return Err(End::Close),
            Ok(_) => {}
            Err(TransportError::TimedOut | TransportError::Draining) => return Err(End::Linger),
            Err(TransportError::Closed) => return Err(End::Abort),
        }
    }
}

/// Takes what the peer still sends, so that no reset destroys the answer (RFC 9112 9.6).
async fn linger<T: Transport>(transport: &mut T, input: &mut BytesMut) {
    transport.set_deadline(Some(LINGER_TIMEOUT));
    let mut taken = 0;
    while taken < LINGER_OCTETS {
        input.clear();
        match transport.read(input).await {
            Ok(0) | Err(_) => return,
            Ok(octets) => taken += octets,
        }
    }
}

#[cfg(test)]
mod tests;
