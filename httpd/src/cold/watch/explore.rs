//! The way of a path, gone along name by name.
//!
//! What is served is opened by one `openat2` (see [`super::super::files`]); this is beside it, to
//! learn which directories that goes through. It watches each directory before it looks up a name
//! in it, so that no change falls between.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat, readlinkat};

use super::{Unwatchable, Watch, directory_of};
use crate::cache::Directory;
use crate::cold::siblings::sibling_path;
use crate::encoding::Coding;
use crate::site::Site;

/// Symlinks of one path, as the kernel follows them (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What was met on the way.
pub(super) struct Met {
    pub(super) met: Vec<Arc<Directory>>,
    /// There were symlinks.
    pub(super) links: bool,
    /// It is the way to all that its last directory has.
    pub(super) whole: bool,
}

/// Goes to `path` of `site` as a request for it does: once to its directory, and from there to each
/// name that decides about the answer.
pub(super) fn explore(watch: &Watch, site: &Site, path: &[u8]) -> Result<Met, Unwatchable> {
    let mut walk = Walk { watch, met: Vec::new(), linked: false };
    let (directory, name) = path.split_at(directory_of(path).len());
    let root = Rc::new(site.root.reopen().map_err(|_| Unwatchable)?);
    walk.enter(&root)?;
    let mut way = vec![root];
    let mut links = 0;
    let mut whole = walk.follow(&mut way, segments(directory).collect(), &mut links)?;
    if whole {
        let index = site.settings.index.iter().map(String::as_bytes);
        let names = if name.is_empty() { index.collect() } else { vec![name] };
        for name in names {
            whole &= walk.last(&way, name.into(), links)?;
            for coding in Coding::ALL {
                whole &= walk.last(&way, sibling_path(name, coding).into(), links)?;
            }
        }
    }
    Ok(Met { met: walk.met, links: walk.linked, whole: whole && !walk.linked })
}

struct Walk<'a> {
    watch: &'a Watch,
    met: Vec<Arc<Directory>>,
    /// There were symlinks.
    linked: bool,
}

/// Open directories from the root on.
type Way = Vec<Rc<OwnedFd>>;

impl Walk<'_> {
    /// Goes on by a name that no other follows. `links` were followed before.
    fn last(&mut self, way: &Way, name: Box<[u8]>, mut links: usize) -> Result<bool, Unwatchable> {
        self.follow(&mut way.clone(), vec![name], &mut links)
    }

    /// Goes on by these names, the last one first. Whether all directories of the way are there.
    fn follow(
        &mut self,
        way: &mut Way,
        mut names: Vec<Box<[u8]>>,
        links: &mut usize,
    ) -> Result<bool, Unwatchable> {
        while let Some(name) = names.pop() {
            match &*name {
                b"" | b"." => continue,
                // A symlink's. Above the root nothing is served.
                b".." if way.len() == 1 => return Ok(false),
                b".." => {
                    way.pop();
                    continue;
                }
                _ => {}
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let here = way.last().ok_or(Unwatchable)?;
            let Ok(found) = openat(here, &*name, flags, Mode::empty()) else {
                return Ok(names.is_empty());
            };
            let stat = fstat(&found).map_err(|_| Unwatchable)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if !names.is_empty() => {
                    self.enter(&found)?;
                    way.push(Rc::new(found));
                }
                FileType::Symlink => {
                    (self.linked, *links) = (true, *links + 1);
                    let target = readlinkat(&found, c"", Vec::new()).map_err(|_| Unwatchable)?;
                    let target = target.to_bytes();
                    // What is not followed is not served either.
                    if *links > MAX_LINKS || target.starts_with(b"/") {
                        return Ok(false);
                    }
                    names.extend(segments(target));
                }
                _ => return Ok(names.is_empty()),
            }
        }
        Ok(true)
    }

    fn enter(&mut self, directory: &OwnedFd) -> Result<(), Unwatchable> {
        let watched = self.watch.watch(directory.as_fd())?;
        if !self.met.iter().any(|known| Arc::ptr_eq(known, &watched)) {
            self.met.push(watched);
        }
        Ok(())
    }
}

/// The names of a path, the last one first.
fn segments(path: &[u8]) -> impl Iterator<Item = Box<[u8]>> {
    path.rsplit(|&octet| octet == b'/').map(Box::from)
}
