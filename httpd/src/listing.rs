//! Listings of directories: HTML for people, JSON for programs, which is that of nginx's autoindex
//! module.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Instant;

use bytes::Bytes;
use httparse::Header;
use percent_encoding::percent_encode;
use serde::{Deserialize, Serialize};

use crate::accept;
use crate::cache::FileId;
use crate::date::{LAST_SECOND, imf_fixdate};
use crate::document::Document;
use crate::encoding::{self, Coding};
use crate::limits::LISTING_LIFETIME;
use crate::site::Site;
use crate::target::PATH;

/// In what form a site lists its directories that have no index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListingFormat {
    /// In none: 403.
    #[default]
    Off,
    /// A page for people.
    Html,
    /// For programs.
    Json,
    /// What `?format=` says, else what Accept prefers, else HTML.
    Auto,
}

impl FromStr for ListingFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "html" => Ok(Self::Html),
            "json" => Ok(Self::Json),
            "auto" => Ok(Self::Auto),
            other => Err(format!("{other:?} is no form of a listing; use off, html, json or auto")),
        }
    }
}

/// What a directory has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Octets without control characters, as no path may have any.
    pub(crate) name: Box<[u8]>,
    pub(crate) kind: Kind,
    /// Seconds since 1970.
    pub(crate) modified: i64,
}

/// Directories come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    /// A file of so many octets.
    File(u64),
}

/// A directory's listing, ready to send.
#[derive(Debug)]
pub struct Listing {
    /// The directory as it was before its names were read.
    directory: FileId,
    made: Instant,
    forms: Forms,
}

#[derive(Debug)]
enum Forms {
    One(Form),
    Both { html: Form, json: Form },
}

/// One of its forms.
#[derive(Debug)]
pub(crate) struct Form {
    plain: Document,
    /// The shortest one first.
    encoded: Vec<(Coding, Document)>,
}

impl Form {
    fn new(document: Document) -> Self {
        Self { plain: document, encoded: Vec::new() }
    }

    /// The content as it is.
    pub(crate) fn body(&self) -> &Bytes {
        &self.plain.body
    }

    /// Has it sent in these codings, too.
    pub(crate) fn encode(&mut self, encoded: Vec<(Coding, Bytes)>) {
        let plain = &self.plain;
        let encoded =
            encoded.into_iter().map(|(coding, body)| (coding, plain.encoded(coding, body)));
        self.encoded = encoded.collect();
        self.encoded.sort_by_key(|(coding, document)| (document.body.len(), *coding));
    }

    /// Whether it is sent in any coding.
    pub(crate) fn is_encoded(&self) -> bool {
        !self.encoded.is_empty()
    }

    /// Takes the octets of another where they are the same, the encoded ones too.
    fn share(&mut self, other: &Self) {
        if self.plain.share(&other.plain) {
            let encoded = other.encoded.iter();
            self.encode(encoded.map(|(coding, it)| (*coding, it.body.clone())).collect());
        }
    }

    fn weight(&self) -> usize {
        let encoded = self.encoded.iter().map(|(_, document)| document.weight());
        self.plain.weight() + encoded.sum::<usize>()
    }
}

impl Listing {
    /// The listing of `items` in the directory at `path`, relative to www-root; `more` were left
    /// out.
    pub(crate) fn new(
        site: &Site,
        path: &[u8],
        directory: FileId,
        mut items: Vec<Item>,
        more: bool,
    ) -> Self {
        items.sort_unstable_by(|one, other| one.place().cmp(&other.place()));
        let mut fields = site.fields(path);
        if more {
            // JSON has no place for it that programs would not trip over.
            fields += &format!("Listing-Truncated: {}\r\n", items.len());
        }
        let format = site.settings.listing();
        let form = |content_type, text: String| {
            let encodes = !site.text_codings(text.len() as u64).is_empty();
            let vary = match (format == ListingFormat::Auto, encodes) {
                (true, true) => "Vary: Accept, Accept-Encoding\r\n",
                (true, false) => "Vary: Accept\r\n",
                (false, true) => "Vary: Accept-Encoding\r\n",
                (false, false) => "",
            };
            Form::new(Document::new(content_type, text, &format!("{fields}{vary}")))
        };
        let html = || form("text/html; charset=utf-8", html(path, &items, more));
        let json = || form("application/json", json(&items));
        let forms = match format {
            ListingFormat::Json => Forms::One(json()),
            ListingFormat::Auto => Forms::Both { html: html(), json: json() },
            ListingFormat::Html | ListingFormat::Off => Forms::One(html()),
        };
        Self { directory, made: Instant::now(), forms }
    }

    /// The directory as it was before its names were read.
    pub(crate) fn directory(&self) -> &FileId {
        &self.directory
    }

    /// Whether it is `now` still what the directory, as it is, would be listed as. Files change
    /// without their directory, so that none is good for long.
    pub(crate) fn is_current(&self, directory: &FileId, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.made);
        self.directory == *directory && age < LISTING_LIFETIME
    }

    /// The form that a request with this query and these fields asks for.
    pub fn document(&self, query: Option<&[u8]>, fields: &[Header<'_>]) -> &Document {
        let form = match &self.forms {
            Forms::One(form) => form,
            Forms::Both { html, json } => {
                let named = query.and_then(named_format);
                let wants_json = named.unwrap_or_else(|| accept::prefers_json(fields));
                if wants_json { json } else { html }
            }
        };
        encoding::pick(fields, &form.encoded).unwrap_or(&form.plain)
    }

    /// All of its forms.
    pub(crate) fn forms(&mut self) -> Vec<&mut Form> {
        match &mut self.forms {
            Forms::One(form) => vec![form],
            Forms::Both { html, json } => vec![html, json],
        }
    }

    /// Takes the octets of the one `before` where they are the same: a client that is slow to read
    /// holds those for as long as it takes, and there is a new listing every few seconds.
    pub(crate) fn share(&mut self, before: &Self) {
        match (&mut self.forms, &before.forms) {
            (Forms::One(form), Forms::One(other)) => form.share(other),
            (Forms::Both { html, json }, Forms::Both { html: other, json: others }) => {
                html.share(other);
                json.share(others);
            }
            // Of a site that was configured otherwise.
            (Forms::One(_), Forms::Both { .. }) | (Forms::Both { .. }, Forms::One(_)) => {}
        }
    }

    /// Octets that it holds.
    pub fn weight(&self) -> usize {
        match &self.forms {
            Forms::One(form) => form.weight(),
            Forms::Both { html, json } => html.weight() + json.weight(),
        }
    }
}

impl Item {
    fn place(&self) -> (bool, &[u8]) {
        (self.kind != Kind::Directory, &self.name)
    }

    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// The name as a relative reference: what it has of `:`, `?`, `#` or `%` is encoded.
    fn reference(&self) -> String {
        let slash = if self.kind == Kind::Directory { "/" } else { "" };
        format!("{}{slash}", percent_encode(&self.name, PATH))
    }

    fn date(&self) -> String {
        imf_fixdate(u64::try_from(self.modified).unwrap_or(0).min(LAST_SECOND))
    }
}

/// Whether `format=json` or `format=html` is in a query; the first one counts.
fn named_format(query: &[u8]) -> Option<bool> {
    query.split(|&octet| octet == b'&').find_map(|pair| match pair {
        b"format=json" => Some(true),
        b"format=html" => Some(false),
        _ => None,
    })
}

fn html(path: &[u8], items: &[Item], more: bool) -> String {
    let title = format!("Index of /{}", escaped(&String::from_utf8_lossy(path)));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\n\
         <style>th,td{{padding-right:2em;text-align:left}}td+td+td{{text-align:right}}</style></head>\n\
         <body><h1>{title}</h1>\n<table>\n<tr><th>Name</th><th>Modified</th><th>Size</th></tr>\n"
    );
    if !path.is_empty() {
        text += "<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n";
    }
    for item in items {
        let (slash, size) = match item.kind {
            Kind::Directory => ("/", String::new()),
            Kind::File(octets) => ("", octets.to_string()),
        };
        text += &format!(
            "<tr><td><a href=\"{}\">{}{slash}</a></td><td>{}</td><td>{size}</td></tr>\n",
            item.reference(),
            escaped(&item.text()),
            item.date()
        );
    }
    text += "</table>\n";
    if more {
        text += &format!("<p>There is more: a listing ends behind {} names.</p>\n", items.len());
    }
    text + "</body></html>\n"
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn json(items: &[Item]) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        name: Cow<'a, str>,
        #[serde(rename = "type")]
        kind: &'static str,
        mtime: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Where the name is no UTF-8, and so cannot be told in JSON (RFC 8259 8.1).
        #[serde(skip_serializing_if = "Option::is_none")]
        href: Option<String>,
    }
    let lines = items.iter().map(|item| {
        let (kind, size) = match item.kind {
            Kind::Directory => ("directory", None),
            Kind::File(octets) => ("file", Some(octets)),
        };
        let name = item.text();
        let href = matches!(name, Cow::Owned(_)).then(|| item.reference());
        let line = Line { name, kind, mtime: item.date(), size, href };
        // Texts and numbers always become JSON.
        serde_json::to_string(&line).unwrap_or_default()
    });
    format!("[\n{}\n]\n", lines.collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::SiteSettings;
    use proptest::prelude::*;

    fn item(name: &[u8], kind: Kind) -> Item {
        Item { name: name.into(), kind, modified: 784_111_777 }
    }

    fn listing(format: ListingFormat, path: &[u8], items: Vec<Item>, more: bool) -> Listing {
        let settings = SiteSettings { listing: Some(format), ..SiteSettings::new("/".into()) };
        let directory = FileId {
            device: 0,
            inode: 0,
            len: 0,
            modified: 0,
            modified_ns: 0,
            changed: 0,
            changed_ns: 0,
            links: 1,
        };
        Listing::new(&Site::open(settings).unwrap(), path, directory, items, more)
    }

    fn text(listing: &Listing, query: Option<&str>, accept: Option<&str>) -> String {
        let fields: Vec<_> =
            accept.iter().map(|value| Header { name: "Accept", value: value.as_bytes() }).collect();
        let body = &listing.document(query.map(str::as_bytes), &fields).body;
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn json_is_that_of_nginx() {
        let items = vec![
            item(b"b \"c&<>.txt", Kind::File(1)),
            item(b"a.txt", Kind::File(3)),
            item(b"\xff.bin", Kind::File(0)),
            item(b"z", Kind::Directory),
        ];
        let text = text(&listing(ListingFormat::Json, b"", items, false), None, None);
        let mtime = "Sun, 06 Nov 1994 08:49:37 GMT";
        let expected = serde_json::json!([
            { "name": "z", "type": "directory", "mtime": mtime },
            { "name": "a.txt", "type": "file", "mtime": mtime, "size": 3 },
            { "name": "b \"c&<>.txt", "type": "file", "mtime": mtime, "size": 1 },
            { "name": "\u{fffd}.bin", "type": "file", "mtime": mtime, "size": 0, "href": "%FF.bin" },
        ]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
        let empty = listing(ListingFormat::Json, b"", Vec::new(), false);
        assert_eq!(&*empty.document(None, &[]).body, b"[\n\n]\n");
    }

    #[test]
    fn html_escapes_and_encodes() {
        let items = vec![
            item(b"<b>&'\".txt", Kind::File(7)),
            item(b"a:b?c#d%e", Kind::Directory),
            item(b"\xff", Kind::File(0)),
        ];
        let text = text(&listing(ListingFormat::Html, b"x<y/", items, false), None, None);
        for part in [
            "<title>Index of /x&lt;y/</title>",
            "<tr><td><a href=\"../\">../</a></td>",
            "<a href=\"a%3Ab%3Fc%23d%25e/\">a:b?c#d%e/</a></td><td>Sun, 06 Nov 1994 08:49:37 GMT</td>\
             <td></td>",
            "<a href=\"%3Cb%3E%26%27%22.txt\">&lt;b&gt;&amp;&#39;&quot;.txt</a></td>",
            "<td>7</td>",
            "<a href=\"%FF\">\u{fffd}</a>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let root = listing(ListingFormat::Html, b"", Vec::new(), false);
        let root = root.document(None, &[]);
        assert!(!String::from_utf8_lossy(&root.body).contains("../"), "nothing is above the root");
    }

    #[test]
    fn the_form_is_chosen() {
        let auto = listing(ListingFormat::Auto, b"", vec![item(b"a", Kind::File(0))], false);
        for (query, accept, json) in [
            (None, None, false),
            (None, Some("*/*"), false),
            (None, Some("text/html,application/xhtml+xml,*/*;q=0.8"), false),
            (None, Some("application/json"), true),
            (Some("format=json"), Some("text/html"), true),
            (Some("a=b&format=json&format=html"), None, true),
            (Some("format=html"), Some("application/json"), false),
            (Some("format=xml"), Some("application/json"), true),
            (Some("format=jsonx"), None, false),
        ] {
            assert_eq!(text(&auto, query, accept).starts_with('['), json, "{query:?} {accept:?}");
        }
        // Nothing is chosen where there is one only.
        let html = listing(ListingFormat::Html, b"", Vec::new(), false);
        assert!(text(&html, Some("format=json"), Some("application/json")).starts_with('<'));
    }

    #[test]
    fn what_was_left_out_is_said() {
        let cut = listing(ListingFormat::Html, b"", vec![item(b"a", Kind::File(0))], true);
        assert!(text(&cut, None, None).contains("a listing ends behind 1 names"));
    }

    #[test]
    fn it_is_current_while_its_directory_is_the_same() {
        let listing = listing(ListingFormat::Html, b"", Vec::new(), false);
        let directory = *listing.directory();
        assert!(listing.is_current(&directory, listing.made));
        assert!(!listing.is_current(&FileId { changed_ns: 1, ..directory }, listing.made));
        assert!(!listing.is_current(&directory, listing.made + LISTING_LIFETIME));
    }

    #[test]
    fn what_stays_the_same_is_held_once() {
        let make =
            |format, name: &[u8]| listing(format, b"", vec![item(name, Kind::File(0))], false);
        for format in [ListingFormat::Html, ListingFormat::Json, ListingFormat::Auto] {
            let before = make(format, b"a");
            for (name, same) in [(b"a", true), (b"b", false)] {
                let mut again = make(format, name);
                again.share(&before);
                for query in [None, Some(&b"format=json"[..])] {
                    let [one, other] = [&before, &again].map(|it| &it.document(query, &[]).body);
                    assert_eq!(one.as_ptr() == other.as_ptr(), same, "{format:?}");
                    assert_eq!(one == other, same);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_names_lead_back_to_themselves(
            names in prop::collection::vec(prop::collection::vec(0x20u8..=0xff, 1..20), 0..6),
        ) {
            let names: Vec<Vec<u8>> = names
                .into_iter()
                .map(|name| name.into_iter().filter(|octet| !b"/\x7f".contains(octet)).collect())
                .filter(|name: &Vec<u8>| !matches!(&name[..], b"" | b"." | b".."))
                .collect();
            let items = names.iter().map(|name| item(name, Kind::File(1))).collect();
            let html = text(&listing(ListingFormat::Html, b"", items, false), None, None);
            let mut found: Vec<Vec<u8>> = Vec::new();
            for line in html.lines().filter(|line| line.contains("<a ")) {
                let (_, rest) = line.split_once("href=\"").unwrap();
                let (reference, rest) = rest.split_once("\">").unwrap();
                let target = format!("/{reference}");
                found.push(crate::target::resolve(target.as_bytes()).unwrap().path.to_vec());
                let (shown, _) = rest.split_once("</a>").unwrap();
                prop_assert!(!shown.contains(['<', '>', '"', '\'']));
            }
            let mut expected = names;
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
