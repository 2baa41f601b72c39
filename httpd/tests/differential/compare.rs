//! Two exchanges side by side.

use std::collections::BTreeSet;

use crate::case::Shape;
use crate::exchange::{Answer, Exchange, replaced};

/// One thing in which they differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Differs {
    /// `status`, `connection`, `body`, or a field's name.
    pub(crate) aspect: &'static str,
    pub(crate) tagwire: String,
    pub(crate) nginx: String,
}

/// The fields that are compared as they are.
const FIELDS: [&str; 9] = [
    "Accept-Ranges",
    "Allow",
    "Connection",
    "Content-Encoding",
    "Content-Range",
    "Content-Type",
    "Last-Modified",
    "Location",
    "Transfer-Encoding",
];
/// Those of a list, whose members are compared.
const LISTS: [&str; 1] = ["Vary"];

/// What differs between the two. Where they do not even agree about the statuses, nothing of the
/// answers can be compared.
pub(crate) fn compare(tagwire: &Exchange, nginx: &Exchange) -> BTreeSet<Differs> {
    let mut found = BTreeSet::new();
    let mut differ = |aspect, ours: String, theirs: String| {
        if ours != theirs {
            found.insert(Differs { aspect, tagwire: ours, nginx: theirs });
        }
    };
    differ("status", statuses(tagwire), statuses(nginx));
    // nginx may end a connection by a RST for what it has not read, as it happens.
    let reset = Exchange { reset: false, ..nginx.clone() };
    differ("connection", fate(tagwire), fate(&reset));
    if statuses(tagwire) == statuses(nginx) {
        for (ours, theirs) in tagwire.answers.iter().zip(&nginx.answers) {
            let (ours, theirs) = (plain(ours), plain(theirs));
            for name in FIELDS {
                let value = |answer: &Answer| answer.field(name).unwrap_or("-".to_owned());
                differ(name, value(&ours), value(&theirs));
            }
            for name in LISTS {
                differ(name, members(&ours, name), members(&theirs, name));
            }
            differ("Date", presence(&ours, "Date"), presence(&theirs, "Date"));
            differ("ETag", kind_of_tag(&ours), kind_of_tag(&theirs));
            differ("Content-Length", length(&ours), length(&theirs));
            differ("body", body(&ours), body(&theirs));
        }
    }
    found
}

fn statuses(exchange: &Exchange) -> String {
    let mut words: Vec<_> = exchange.answers.iter().map(|it| it.status.to_string()).collect();
    if !exchange.garbage.is_empty() {
        words.push("garbage".to_owned());
    }
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn fate(exchange: &Exchange) -> String {
    match exchange {
        Exchange { stays: true, .. } => "stays",
        Exchange { reset: true, .. } => "reset",
        _ => "ends",
    }
    .to_owned()
}

/// The answer with a boundary that all have.
fn plain(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    let boundary = answer.fields.iter().find_map(|(name, value)| {
        let multipart = name.eq_ignore_ascii_case("content-type");
        value.split_once("boundary=").filter(|_| multipart).map(|(_, it)| it.to_owned())
    });
    if let Some(boundary) = boundary {
        answer.body = replaced(&answer.body, boundary.as_bytes(), b"BOUNDARY");
        for (name, value) in &mut answer.fields {
            *value = value.replace(&boundary, "BOUNDARY");
            // What was read is as long as was said: now it is as long as it is.
            if name.eq_ignore_ascii_case("content-length") {
                *value = answer.body.len().to_string();
            }
        }
    }
    answer
}

fn presence(answer: &Answer, name: &str) -> String {
    answer.field(name).map_or("-", |_| "some").to_owned()
}

fn members(answer: &Answer, name: &str) -> String {
    let value = answer.field(name).unwrap_or("-".to_owned()).to_ascii_lowercase();
    value
        .split(',')
        .map(str::trim)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
        .join(", ")
}

/// What a tag is made of is each server's own business.
fn kind_of_tag(answer: &Answer) -> String {
    match answer.field("ETag") {
        None => "-",
        Some(tag) if tag.starts_with("W/\"") && tag.ends_with('"') => "weak",
        Some(tag) if tag.starts_with('"') && tag.ends_with('"') => "strong",
        Some(_) => "broken",
    }
    .to_owned()
}

/// Whether the answer's page is the server's own.
fn is_own_page(answer: &Answer) -> bool {
    answer.status >= 300
}

fn length(answer: &Answer) -> String {
    match answer.field("Content-Length") {
        Some(_) if is_own_page(answer) => "some".to_owned(),
        Some(len) => len,
        None => "-".to_owned(),
    }
}

fn body(answer: &Answer) -> String {
    match &*answer.body {
        [] => "-".to_owned(),
        _ if is_own_page(answer) && answer.shape == Shape::Framed => "some".to_owned(),
        octets if octets.len() > 200 => {
            format!("{} octets, {:x}", octets.len(), adler(octets))
        }
        octets => octets.escape_ascii().to_string(),
    }
}

/// Tells two bodies apart, for a message (RFC 1950 8.2).
fn adler(octets: &[u8]) -> u32 {
    let sum = |(a, b): (u32, u32), &octet: &u8| {
        let a = (a + u32::from(octet)) % 65521;
        (a, (b + a) % 65521)
    };
    let (a, b) = octets.iter().fold((1, 0), sum);
    b << 16 | a
}
