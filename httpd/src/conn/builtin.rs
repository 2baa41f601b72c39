//! The answers of pages that are built in, see [`crate::builtin`].

use tagwire_core::counters::add;

use super::discard::read_more;
use super::{Body, End, Plan, Reply, Session};
use crate::builtin::{BuiltIn, MAX_NAME, name_in};
use crate::content::Content;
use crate::limits::BODY_TIMEOUT;
use crate::request::{self, Head, Method};
use crate::respond::{self, Common, Status};
use crate::shares::Client;
use crate::transport::Transport;

/// Decides about a request for a page; `input` begins with its head.
pub(super) fn plan(
    page: BuiltIn,
    input: &[u8],
    head: &Head<'_, '_>,
    query: Option<&[u8]>,
    common: Common<'_>,
    content: &Content,
) -> Plan {
    let refusal = |status| {
        add(&content.tally.body_refused, 1);
        let answer = respond::refusal(status, common, true);
        Plan::Reply(Reply::new(head, common, answer, Body::Sent))
    };
    let mut end = head.len;
    let name = match (head.method, head.body) {
        (Method::Post, request::Body::Length(octets @ ..=MAX_NAME)) => {
            end += octets as usize;
            let Some(body) = input.get(head.len..end) else {
                return Plan::Read(end, head.expects && input.len() == head.len);
            };
            String::from_utf8_lossy(body.trim_ascii())
        }
        (Method::Post, request::Body::Length(_)) => return refusal(Status::ContentTooLarge),
        (Method::Post, request::Body::Chunked) => return refusal(Status::LengthRequired),
        _ => name_in(query),
    };
    let (status, text) = page.content(content.interfaces(), &name);
    let answer = respond::json(status, &text, common, head.method != Method::Head);
    let reply = Reply::new(head, common, answer, Body::Sent);
    Plan::Reply(match head.method {
        // It has been read.
        Method::Post => {
            let discard = request::Body::Length(0);
            Reply { head_len: end, discard, expects: false, ..reply }
        }
        _ => reply,
    })
}

/// Whether the page has the body of this request read before it answers.
pub(super) fn reads(page: BuiltIn, head: &Head<'_, '_>) -> bool {
    let short = matches!(head.body, request::Body::Length(..=MAX_NAME));
    page.takes_post() && head.method == Method::Post && short
}

/// Reads until the input has so many octets: a head and a short body.
pub(super) async fn gather<T: Transport>(
    session: &mut Session<T>,
    octets: usize,
) -> Result<(), End> {
    session.transport.set_deadline(Some(BODY_TIMEOUT));
    while session.input.len() < octets {
        let client = Client::of(&session.transport);
        let Some(_kept) = session.content.keep_unfinished(client, session.input.len()) else {
            return Err(super::refuse(session, Status::Unavailable));
        };
        read_more(session).await?;
    }
    Ok(())
}
