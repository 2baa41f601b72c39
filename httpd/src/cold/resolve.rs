//! From a requested path to a file or a directory: index files, redirects, hidden names.

use std::sync::Arc;
use std::time::Instant;

use super::files::{Found, Stop, Walk, told};
use super::siblings::siblings;
use super::watch::Watch;
use crate::cache::{Answer, Entry, FileId, Progress, Trail};
use crate::encoding::Coding;
use crate::listing::ListingFormat;
use crate::respond::Status;
use crate::site::Site;

/// Where a path leads.
pub(super) enum Resolved {
    /// To a file, at this path, with encoded siblings.
    File(Box<[u8]>, FileId, Vec<(Coding, FileId)>),
    /// To this directory, which is listed.
    Directory(FileId),
    /// To a directory that was named without its slash.
    Redirect,
}

/// What a path leads to, and by which way.
pub(super) struct Sight {
    pub(super) found: Result<Resolved, Status>,
    /// None: the way is not watched.
    pub(super) trail: Option<Arc<Trail>>,
}

impl Sight {
    const HIDDEN: Self = Self { found: Err(Status::NotFound), trail: None };

    /// Looks at `path`, if it need not wait for that.
    pub(super) fn at_once(watch: &Watch, site: &Site, path: &[u8]) -> Option<Self> {
        if site.hides(path) {
            return Some(Self::HIDDEN);
        }
        let trail = watch.recall(site, path)?;
        let found = told(resolve(site, path, Walk::Plain))?;
        Some(Self::new(found, trail))
    }

    /// Looks at `path`, for as long as that takes.
    pub(super) fn at_last(watch: &Watch, site: &Site, path: &[u8]) -> Self {
        if site.hides(path) {
            return Self::HIDDEN;
        }
        // What is not in the kernel's memory, names above all that are nowhere, may still lie where
        // the way is known: then nothing is watched anew.
        if let Some(trail) = watch.recall(site, path)
            && let Some(found) = told(resolve(site, path, Walk::Straight))
        {
            return Self::new(found, trail);
        }
        // Before the look, so that no change falls between.
        let trail = watch.explore(site, path);
        let found = told(resolve(site, path, Walk::Any)).unwrap_or(Err(Status::Internal));
        Self::new(found, trail)
    }

    fn new(found: Result<Resolved, Status>, trail: Option<Arc<Trail>>) -> Self {
        // A listing shows what its directory's times do not tell: it goes by its age.
        let trail = trail.filter(|_| !matches!(found, Ok(Resolved::Directory(_))));
        Self { found, trail }
    }

    /// Whether `entry` says the same.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        let same_way = match (entry.freshness.trail(), &self.trail) {
            (Some(known), Some(trail)) => known.is_same(trail),
            (None, None) => true,
            _ => false,
        };
        same_way && is_same(entry, &self.found)
    }
}

/// Looks at `path`, through an index file where it is a directory.
fn resolve(site: &Site, path: &[u8], walk: Walk) -> Result<Resolved, Stop> {
    let file = |at: Box<[u8]>, id| {
        let siblings = siblings(site, &at, walk)?;
        Ok(Resolved::File(at, id, siblings))
    };
    match site.root.find(path, walk)? {
        Found::File(id) => file(path.into(), id),
        Found::Directory(id) if path.is_empty() || path.ends_with(b"/") => {
            for name in &site.settings.index {
                let index = [path, name.as_bytes()].concat();
                match site.root.find(&index, walk) {
                    Ok(Found::File(id)) => return file(index.into(), id),
                    Ok(Found::Directory(_)) | Err(Stop::Refused(Status::NotFound)) => {}
                    Err(stop) => return Err(stop),
                }
            }
            match site.settings.listing() {
                // As nginx: there is a directory, and it is not listed.
                ListingFormat::Off => Err(Stop::Refused(Status::Forbidden)),
                ListingFormat::Html | ListingFormat::Json | ListingFormat::Auto => {
                    Ok(Resolved::Directory(id))
                }
            }
        }
        Found::Directory(_) => Ok(Resolved::Redirect),
    }
}

/// Whether `entry` says what was found.
fn is_same(entry: &Entry, found: &Result<Resolved, Status>) -> bool {
    match (&entry.answer, found) {
        (Answer::File(file), Ok(Resolved::File(at, id, siblings))) => {
            file.id == *id
                && *file.path == **at
                && file.siblings() == siblings
                && file.progress() != Progress::PutOff
        }
        (Answer::Listing(listing), Ok(Resolved::Directory(id))) => {
            listing.is_current(id, Instant::now())
        }
        (Answer::Redirect(_), Ok(Resolved::Redirect)) => true,
        (Answer::Refused(status), Err(now)) => {
            // An error of the disk's may be over: it is tried again.
            status == now && matches!(now, Status::NotFound | Status::Forbidden)
        }
        _ => false,
    }
}
