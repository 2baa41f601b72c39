//! What a request for what is in the cache is answered with: the representation, by its conditions and
//! ranges, in a head and a body. Nothing here waits or sends.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use httparse::Header;

use super::noting::Noted;
use super::{Body, Page, Parts, Reply};
use crate::cache::{Answer, Entry, File};
use crate::conditional::{self, Verdict};
use crate::content::Content;
use crate::document::Document;
use crate::limits::MERGED_RESPONSE;
use crate::range::{self, Selection};
use crate::request::{Head, Method};
use crate::respond::{self, Common, Status};
use crate::site::Site;
use crate::target::Target;

/// The answer to a GET or HEAD for `entry`.
pub(super) fn reply_to(
    head: &Head<'_, '_>,
    target: &Target<'_>,
    site: &Arc<Site>,
    (entry, page): (Arc<Entry>, Page),
    common: Common<'_>,
    content: &Content,
) -> Reply {
    let with_body = head.method == Method::Get;
    let entry = represent(entry, head.fields);
    let (answer, body) = match (&entry.answer, page) {
        (Answer::File(file), Page::Error(status)) => {
            let answer = file.head.error(status, common);
            (answer, if with_body { whole_body(file, site, &entry) } else { Body::Sent })
        }
        // The page itself is missing.
        (_, Page::Error(status)) => (respond::refusal(status, common, with_body), Body::Sent),
        (Answer::File(file), _) => match verdict(head, &file.etag, Some(file.modified)) {
            Verdict::NotModified => (file.head.not_modified(common), Body::Sent),
            Verdict::Failed => (file.head.precondition_failed(common, with_body), Body::Sent),
            Verdict::Proceed if with_body => file_reply(head, file, site, &entry, common, content),
            // RFC 9110 14.2: Range says nothing about HEAD.
            Verdict::Proceed => (respond::assemble([file.head.whole()], common, b""), Body::Sent),
        },
        (Answer::Listing(listing), _) => {
            document_reply(head, listing.document(target.query, head.fields), common)
        }
        (Answer::Redirect(location), _) => {
            (respond::redirect(location, target.query, common, with_body), Body::Sent)
        }
        (Answer::Refused(status), _) => (respond::refusal(*status, common, with_body), Body::Sent),
    };
    Reply::new(head, common, answer, body)
}

/// The representation that a request with these fields asks for, see [`encoding`](crate::encoding).
/// They are not looked at where there is one only.
fn represent(entry: Arc<Entry>, fields: &[Header<'_>]) -> Arc<Entry> {
    match &entry.answer {
        Answer::File(File { variants: Some(variants), .. }) => {
            variants.choose(fields).cloned().unwrap_or(entry)
        }
        _ => entry,
    }
}

/// What the conditions of a request come to for what has this tag and, if any, this date.
fn verdict(head: &Head<'_, '_>, etag: &str, modified: Option<u64>) -> Verdict {
    if head.conditional {
        conditional::evaluate(head.fields, etag.as_bytes(), modified)
    } else {
        Verdict::Proceed
    }
}

/// The answer with a document; Range is ignored, as RFC 9110 14.2 lets us.
fn document_reply(head: &Head<'_, '_>, document: &Document, common: Common<'_>) -> (Bytes, Body) {
    let with_body = head.method == Method::Get;
    match verdict(head, &document.etag, None) {
        Verdict::NotModified => (document.not_modified(common), Body::Sent),
        Verdict::Failed => {
            (respond::refusal(Status::PreconditionFailed, common, with_body), Body::Sent)
        }
        Verdict::Proceed if with_body => {
            merged(document.body.clone(), |body| document.ok(common, body))
        }
        Verdict::Proceed => (document.ok(common, b""), Body::Sent),
    }
}

fn file_reply(
    head: &Head<'_, '_>,
    file: &File,
    site: &Arc<Site>,
    entry: &Arc<Entry>,
    common: Common<'_>,
    content: &Content,
) -> (Bytes, Body) {
    let selection = if head.ranged {
        let modified = (!file.head.varies()).then_some(file.modified);
        range::select(head.fields, file.octets(), file.etag.as_bytes(), modified)
    } else {
        Selection::Whole
    };
    match (selection, &file.body) {
        (Selection::Whole, Some(body)) => {
            merged(body.clone(), |body| respond::assemble([file.head.whole()], common, body))
        }
        (Selection::Whole, None) => {
            (respond::assemble([file.head.whole()], common, b""), whole_body(file, site, entry))
        }
        (Selection::Part(part), Some(body)) => {
            merged(slice(body, &part), |body| file.head.part(&part, common, body))
        }
        (Selection::Part(part), None) => {
            (file.head.part(&part, common, b""), one_part(site, entry, part))
        }
        (Selection::Parts(parts), _) => {
            let (answer, leads, end) = file.head.parts(&parts, &content.boundary(), common);
            (answer, in_parts(site, entry, leads.into_iter().zip(parts).collect(), end))
        }
        (Selection::Unsatisfiable, _) => (file.head.unsatisfiable(common), Body::Sent),
    }
}

/// All of a file, behind a head of its own.
fn whole_body(file: &File, site: &Arc<Site>, entry: &Arc<Entry>) -> Body {
    match &file.body {
        Some(body) => Body::Whole(body.clone()),
        None => one_part(site, entry, 0..file.octets()),
    }
}

fn one_part(site: &Arc<Site>, entry: &Arc<Entry>, part: Range<u64>) -> Body {
    in_parts(site, entry, vec![(Bytes::new(), part)], Bytes::new())
}

fn in_parts(
    site: &Arc<Site>,
    entry: &Arc<Entry>,
    list: Vec<(Bytes, Range<u64>)>,
    end: Bytes,
) -> Body {
    let (site, entry) = (Arc::clone(site), Arc::clone(entry));
    Body::Parts(Box::new(Parts { site, entry, download: None, list, end }))
}

/// A small body goes into the head's buffer, see [`MERGED_RESPONSE`].
fn merged(body: Bytes, head: impl Fn(&[u8]) -> Bytes) -> (Bytes, Body) {
    if body.len() <= MERGED_RESPONSE {
        (head(&body), Body::Sent)
    } else {
        (head(b""), Body::Whole(body))
    }
}

/// A part of what is in memory; `part` lies within it.
pub(super) fn slice(body: &Bytes, part: &Range<u64>) -> Bytes {
    body.slice(part.start as usize..part.end as usize)
}

impl Reply {
    pub(super) fn new(request: &Head<'_, '_>, common: Common<'_>, head: Bytes, body: Body) -> Self {
        let keeps = common.persistence.keeps();
        Self {
            head,
            body,
            head_len: request.len,
            discard: request.body,
            // A body that is not kept for is not called for either.
            expects: request.expects && keeps,
            keeps,
            looked_up: false,
            noted: Noted::Done,
        }
    }
}
