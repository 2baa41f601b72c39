//! From a requested path to a file or a directory: index files, redirects, hidden names.

use std::time::Instant;

use super::files::{Found, Stop, Walk};
use super::siblings::siblings;
use crate::cache::{Answer, Entry, FileId, Progress};
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

/// Looks at `path`, through an index file where it is a directory.
pub(super) fn resolve(site: &Site, path: &[u8], walk: Walk) -> Result<Resolved, Stop> {
    if site.hides(path) {
        return Err(Stop::Refused(Status::NotFound));
    }
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
            match site.settings.listing {
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
pub(super) fn is_same(entry: &Entry, found: &Result<Resolved, Status>) -> bool {
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
