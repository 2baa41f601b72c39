//! From a requested path to a file: index files, redirects, hidden names.

use super::files::{Found, Stop, Walk};
use super::siblings::siblings;
use crate::cache::{Answer, Entry, FileId, Progress};
use crate::encoding::Coding;
use crate::respond::Status;
use crate::site::Site;

/// Where a path leads.
pub(super) enum Resolved {
    /// To a file, at this path, with encoded siblings.
    File(Box<[u8]>, FileId, Vec<(Coding, FileId)>),
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
        Found::Directory if path.is_empty() || path.ends_with(b"/") => {
            for name in &site.settings.index {
                let index = [path, name.as_bytes()].concat();
                match site.root.find(&index, walk) {
                    Ok(Found::File(id)) => return file(index.into(), id),
                    Ok(Found::Directory) | Err(Stop::Refused(Status::NotFound)) => {}
                    Err(stop) => return Err(stop),
                }
            }
            // As nginx: there is a directory, and it is not listed.
            Err(Stop::Refused(Status::Forbidden))
        }
        Found::Directory => Ok(Resolved::Redirect),
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
        (Answer::Redirect(_), Ok(Resolved::Redirect)) => true,
        (Answer::Refused(status), Err(now)) => {
            // An error of the disk's may be over: it is tried again.
            status == now && matches!(now, Status::NotFound | Status::Forbidden)
        }
        _ => false,
    }
}
