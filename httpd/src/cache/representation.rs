//! A file in the forms in which it is sent: as it is, and encoded.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use httparse::Header;

use super::{Answer, Entry, FileId, Millis};
use crate::date::unix_seconds;
use crate::document::digest;
use crate::encoding::{self, Coding};
use crate::limits::CHUNK;
use crate::respond::{Entity, FileHead};
use crate::site::Site;

/// A file as it was found.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where, relative to www-root (with `index.html`).
    pub path: Box<[u8]>,
    /// Which content it had.
    pub id: FileId,
    /// The content; `None`: it comes in chunks.
    pub body: Option<Bytes>,
}

/// What there is of a file beside its plain form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Encodings {
    /// Encoded files on disk beside it.
    pub(crate) siblings: Vec<(Coding, FileId)>,
    /// Those of them that are sent.
    pub(crate) read: Vec<(Coding, Source)>,
    /// What it was compressed to.
    pub(crate) compressed: Vec<(Coding, Bytes)>,
    /// Whether that is all.
    pub(crate) progress: Progress,
}

/// How far the compression of a file has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing is left to be done.
    #[default]
    Done,
    /// Once it is done, an entry with all of it takes the place of this one.
    UnderWay,
    /// It was too much for now: the file is loaded again when it is next compared.
    PutOff,
}

/// A file, ready to send: one representation of it.
#[derive(Debug)]
pub struct File {
    /// Which content this is.
    pub id: FileId,
    /// Where it was found, relative to www-root (with `index.html`).
    pub path: Box<[u8]>,
    /// Modification time as Last-Modified shows it, seconds since 1970.
    pub modified: u64,
    /// Entity tag with its quotes.
    pub etag: Box<str>,
    /// What its heads are made of.
    pub head: FileHead,
    /// The content; `None`: it comes in chunks.
    pub body: Option<Bytes>,
    /// Other representations; `None`: this is all there is.
    pub variants: Option<Box<Variants>>,
}

/// Encoded representations of a file beside the plain one.
#[derive(Debug)]
pub struct Variants {
    /// Files on disk that are such: they belong to the identity of the file.
    siblings: Box<[(Coding, FileId)]>,
    /// The shortest one first; each is an entry that has no others.
    encoded: Box<[(Coding, Arc<Entry>)]>,
    progress: Progress,
}

impl Variants {
    /// The one in which a request with these fields is answered; `None`: the file as it is.
    pub(crate) fn choose(&self, fields: &[Header<'_>]) -> Option<&Arc<Entry>> {
        encoding::pick(fields, &self.encoded)
    }

    fn weight(&self) -> usize {
        let encoded: usize = self.encoded.iter().map(|(_, entry)| entry.weight()).sum();
        size_of::<Self>() + size_of_val(&*self.siblings) + size_of_val(&*self.encoded) + encoded
    }
}

impl File {
    /// Prepares what is sent for a file of `site`, at the time `now`.
    pub(crate) fn new(site: &Site, plain: Source, encodings: Encodings, now: SystemTime) -> Self {
        let Encodings { siblings, read, compressed, progress } = encodings;
        let varies = !read.is_empty() || !compressed.is_empty() || progress != Progress::Done;
        let content_type = site.content_type(&plain.path);
        let forms = Forms { content_type, fields: site.fields(&plain.path), varies, now };
        // Two siblings may be of one time and length, the files that they stand for too.
        let read = read.into_iter().map(|(coding, source)| {
            (coding, forms.form(source, Some(coding), &format!("-{coding}")))
        });
        // Another version of ours may compress the file to other octets.
        let compressed = compressed.into_iter().map(|(coding, body)| {
            let mark = format!("-{coding}-{:x}", digest(&body));
            let source = Source { body: Some(body), ..plain.clone() };
            (coding, forms.form(source, Some(coding), &mark))
        });
        let mut encoded: Vec<_> = read.chain(compressed).collect();
        // Between those that a client likes alike the shortest is the best.
        encoded.sort_by_key(|(coding, file)| (file.octets(), *coding));
        let encoded = encoded
            .into_iter()
            .map(|(coding, file)| {
                (coding, Arc::new(Entry::new(Answer::File(file), Millis::default(), None)))
            })
            .collect();
        let variants = Variants { siblings: siblings.into(), encoded, progress };
        let alone = variants.siblings.is_empty() && !varies;
        Self { variants: (!alone).then(|| Box::new(variants)), ..forms.form(plain, None, "") }
    }

    /// Octets of the representation.
    pub fn octets(&self) -> u64 {
        self.body.as_ref().map_or(self.id.len, |body| body.len() as u64)
    }

    /// Number of chunks of a file without body.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.id.len.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX)
    }

    /// The encoded files beside it that there were when it was loaded.
    pub(crate) fn siblings(&self) -> &[(Coding, FileId)] {
        self.variants.as_ref().map_or(&[], |variants| &variants.siblings)
    }

    /// How far its compression has come.
    pub(crate) fn progress(&self) -> Progress {
        self.variants.as_ref().map_or(Progress::Done, |variants| variants.progress)
    }

    /// Octets that it holds.
    pub(super) fn weight(&self) -> usize {
        self.path.len()
            + self.etag.len()
            + self.head.weight()
            + self.body.as_ref().map_or(0, Bytes::len)
            + self.variants.as_ref().map_or(0, |variants| variants.weight())
    }
}

/// What the representations of a file have in common.
struct Forms {
    /// By the file's own path, which says what it is about.
    content_type: String,
    /// Whole lines of its site.
    fields: String,
    varies: bool,
    now: SystemTime,
}

impl Forms {
    /// One of them; `mark` is what its entity tag has behind what tells the file's state.
    fn form(&self, source: Source, coding: Option<Coding>, mark: &str) -> File {
        let Source { path, id, body } = source;
        // Files from before 1970 are rare enough to look like 1970. RFC 9110 8.8.2.1: a time in
        // the future is not sent.
        let modified = u64::try_from(id.modified).unwrap_or(0).min(unix_seconds(self.now));
        // No inode: replicas of the same content on several nodes share their validators.
        let etag = format!("\"{:x}.{:x}-{:x}{mark}\"", id.modified, id.modified_ns, id.len);
        let entity = Entity {
            content_type: &self.content_type,
            coding,
            len: body.as_ref().map_or(id.len, |body| body.len() as u64),
            modified,
            etag: &etag,
            varies: self.varies,
        };
        let head = FileHead::new(&entity, &self.fields);
        File { id, path, modified, etag: etag.into(), head, body, variants: None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::cache::tests::{id, source};

    fn file(plain: Source, encodings: Encodings) -> File {
        File::new(&Site::for_tests(), plain, encodings, UNIX_EPOCH + Duration::from_secs(1000))
    }

    #[test]
    fn no_file_is_from_the_future() {
        let from =
            |modified| file(source(b"a", FileId { modified, ..id(1, 1) }), Encodings::default());
        assert_eq!((from(999).modified, from(1001).modified, from(-5).modified), (999, 1000, 0));
        assert_ne!(from(1001).etag, from(1002).etag);
        assert_ne!(from(-5).etag, from(-6).etag);
    }

    #[test]
    fn encoded_ones_count_and_the_shortest_is_first() {
        let sibling = id(2, 300);
        let encodings = Encodings {
            siblings: vec![(Coding::Gzip, sibling)],
            read: vec![(Coding::Gzip, source(b"a.gz", sibling))],
            compressed: vec![(Coding::Brotli, Bytes::from(vec![0; 400]))],
            ..Encodings::default()
        };
        let plain = file(source(b"a", id(1, 1000)), Encodings::default());
        let all = file(source(b"a", id(1, 1000)), encodings);
        assert!(all.weight() > plain.weight() + 700, "{} {}", all.weight(), plain.weight());
        let variants = all.variants.as_ref().unwrap();
        let order: Vec<_> = variants.encoded.iter().map(|(coding, _)| *coding).collect();
        assert_eq!(order, [Coding::Gzip, Coding::Brotli]);
    }

    #[test]
    fn what_is_compressed_otherwise_has_another_tag() {
        let tag = |body: &'static [u8]| {
            let compressed = vec![(Coding::Gzip, Bytes::from_static(body))];
            let encodings = Encodings { compressed, ..Encodings::default() };
            let file = file(source(b"a", id(1, 1000)), encodings);
            let (_, entry) = &file.variants.as_ref().unwrap().encoded[0];
            let Answer::File(encoded) = &entry.answer else { panic!("a file") };
            assert_ne!(encoded.etag, file.etag);
            encoded.etag.clone()
        };
        assert_eq!(tag(b"one"), tag(b"one"));
        assert_ne!(tag(b"one"), tag(b"two"));
    }

    #[test]
    fn what_is_to_come_is_told() {
        for (progress, varies) in
            [(Progress::Done, false), (Progress::UnderWay, true), (Progress::PutOff, true)]
        {
            let encodings = Encodings { progress, ..Encodings::default() };
            let file = file(source(b"a", id(1, 1000)), encodings);
            assert_eq!((file.head.varies(), file.progress()), (varies, progress));
        }
    }
}
