//! Encoded siblings of a file: `a.js.br`, `a.js.zst` and `a.js.gz` beside `a.js`, made by whoever
//! deploys it. Asked for by its own name a sibling is a file like others.
//!
//! That it decodes to its file is the deployer's word, as with nginx's `gzip_static`; but what
//! cannot be right is not sent, see [`unfit`].

use super::files::{Found, Stop, Walk};
use crate::cache::FileId;
use crate::encoding::Coding;
use crate::site::Site;

/// The siblings that there are of the file at `path`.
pub(super) fn siblings(
    site: &Site,
    path: &[u8],
    walk: Walk,
) -> Result<Vec<(Coding, FileId)>, Stop> {
    let mut found = Vec::new();
    // They have none themselves.
    if Coding::ALL.iter().any(|coding| path.ends_with(coding.suffix().as_bytes())) {
        return Ok(found);
    }
    for coding in Coding::ALL {
        match site.root.find(&sibling_path(path, coding), walk) {
            Ok(Found::File(id)) => found.push((coding, id)),
            Ok(Found::Directory(_)) | Err(Stop::Refused(_)) => {}
            Err(Stop::NotPlain) => return Err(Stop::NotPlain),
        }
    }
    Ok(found)
}

/// Where the sibling of the file at `path` is.
pub(super) fn sibling_path(path: &[u8], coding: Coding) -> Vec<u8> {
    [path, coding.suffix().as_bytes()].concat()
}

/// Why a sibling is not sent in place of its file.
pub(super) fn unfit(sibling: &FileId, file: &FileId) -> Option<&'static str> {
    // The file was changed and the sibling forgotten. Whole seconds, since tools and archives that
    // hand the file's time on to the sibling often keep no more of it.
    if sibling.modified < file.modified {
        Some("it is older than the file that it stands for")
    } else if sibling.len == 0 {
        Some("it is empty; what should have made it has failed")
    } else if sibling.len >= file.len {
        Some("it is not shorter than the file that it stands for")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_right_is_not_sent() {
        let id = |len, modified, modified_ns| FileId {
            device: 1,
            inode: 1,
            len,
            modified,
            modified_ns,
            changed: 0,
            changed_ns: 0,
            links: 1,
        };
        let file = id(100, 1000, 500);
        for (sibling, fits) in [
            (id(50, 1000, 500), true),
            (id(50, 1001, 0), true),
            (id(99, 1000, 0), true),
            (id(1, 2000, 0), true),
            (id(50, 999, 999_999_999), false),
            (id(0, 1000, 500), false),
            (id(100, 1000, 500), false),
        ] {
            assert_eq!(unfit(&sibling, &file).is_none(), fits, "{sibling:?}");
        }
    }
}
