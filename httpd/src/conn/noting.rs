//! What the access log is told of the requests of a connection.

use httparse::Header;
use tagwire_core::clock::Nanos;

use super::{Body, Reply, Session};
use crate::access_log::{Log, NOTED_WHEN_QUEUED, Note, Unfinished};
use crate::content::Content;
use crate::request::Head;
use crate::site::Site;
use crate::transport::Transport;

/// What the access log has of an answer.
#[derive(Default)]
pub(super) enum Noted {
    /// Nothing, or all that there is to say.
    #[default]
    Done,
    /// The last line, which says that all of it goes.
    Sent,
    /// A line that waits for its end.
    Later(Box<Unfinished>),
}

impl Noted {
    /// The client has gone before any of it was queued.
    pub(super) fn none_sent(self, content: &Content) {
        match (self, content.log()) {
            (Self::Sent, Some(log)) => log.last_was_not_sent(),
            (Self::Later(unfinished), Some(log)) => log.finish(*unfinished, 0),
            _ => {}
        }
    }

    /// What is to be told in the end.
    pub(super) fn later(self) -> Option<Box<Unfinished>> {
        if let Self::Later(unfinished) = self { Some(unfinished) } else { None }
    }
}

/// Notes the answer to `head`, which came at `started`; later, if it takes its time.
pub(super) fn answered<T: Transport>(
    session: &Session<T>,
    log: &Log,
    head: &Head<'_, '_>,
    site: &Site,
    reply: &Reply,
    hit: Option<bool>,
    started: Nanos,
) -> Noted {
    let field = |name: &str| {
        let named = |field: &&Header<'_>| field.name.eq_ignore_ascii_case(name);
        head.fields.iter().find(named).map(|field| field.value)
    };
    let name = match site.settings.hosts.first() {
        Some(host) => host.as_bytes(),
        None => site.settings.www_root.as_os_str().as_encoded_bytes(),
    };
    let note = Note {
        referer: field("referer"),
        user_agent: field("user-agent"),
        x_forwarded_for: field("x-forwarded-for"),
        host: head.host,
        site: Some(name),
        hit,
        ..note(session, &reply.head, queued_octets(&reply.head, &reply.body))
    };
    // Whether it is ever sent, or how much of it, shows later.
    let waits = match &reply.body {
        Body::Sent => reply.expects,
        Body::Whole(body) => reply.expects || body.len() > NOTED_WHEN_QUEUED,
        Body::Parts(_) => true,
    };
    if waits {
        log.keep(&note, started).map_or(Noted::Done, Noted::Later)
    } else if log.note(&note, started) {
        Noted::Sent
    } else {
        Noted::Done
    }
}

/// Notes what is no request, answered with `answer`.
pub(super) fn refused<T: Transport>(session: &Session<T>, answer: &[u8]) -> Noted {
    let Some(log) = session.content.log() else { return Noted::Done };
    let noted = log.note(&note(session, answer, body_of(answer)), log.turn());
    if noted { Noted::Sent } else { Noted::Done }
}

fn note<'a, T: Transport>(session: &'a Session<T>, answer: &[u8], octets: u64) -> Note<'a> {
    let input = &session.input[..];
    let end = input.iter().position(|octet| matches!(octet, b'\r' | b'\n')).unwrap_or(input.len());
    Note {
        vlan: session.transport.local().vlan,
        peer: session.transport.peer(),
        line: &input[..end],
        referer: None,
        user_agent: None,
        x_forwarded_for: None,
        host: None,
        site: None,
        status: status_of(answer),
        octets,
        hit: None,
        request: session.served.saturating_add(1),
    }
}

/// Octets of an answer's body that are queued with its head, or right behind.
pub(super) fn queued_octets(head: &[u8], body: &Body) -> u64 {
    match body {
        Body::Sent => body_of(head),
        Body::Whole(body) => body.len() as u64,
        Body::Parts(_) => 0,
    }
}

/// The code in a status line: `HTTP/1.1 200`.
fn status_of(answer: &[u8]) -> u16 {
    let digits = answer.get(9..12).unwrap_or_default();
    digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit.wrapping_sub(b'0')))
}

/// Octets behind the head of an answer.
fn body_of(answer: &[u8]) -> u64 {
    let end = memchr::memmem::find(answer, b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    (answer.len() - end) as u64
}
