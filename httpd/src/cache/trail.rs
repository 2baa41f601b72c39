//! Directories that are watched: those that decide where a path leads, and when something in them
//! changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Millis;

/// A watched directory.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// When anything in it changed last.
    anything: AtomicU64,
    /// When a directory in it did: came, went, or got another mode. What files in it do is nothing
    /// to paths that only lead through it.
    directories: AtomicU64,
}

impl Directory {
    /// Something in it has changed, which was told at `at`.
    pub(crate) fn change(&self, at: Millis, is_directory: bool) {
        self.anything.fetch_max(at.0, Ordering::Relaxed);
        if is_directory {
            self.directories.fetch_max(at.0, Ordering::Relaxed);
        }
    }

    /// Nothing will be told of it any more.
    pub(crate) fn lose(&self) {
        self.change(Millis(u64::MAX), true);
    }
}

/// The directories on the way of a path. Nothing of what it leads to has changed as long as
/// nothing in them has.
#[derive(Debug)]
pub(crate) struct Trail {
    /// Those that it only leads through, by their plain names.
    through: Box<[Arc<Directory>]>,
    /// The last one; where there are symlinks, all of them.
    within: Box<[Arc<Directory>]>,
}

impl Trail {
    /// Of the directories in the order in which they were met; `links`: through symlinks too.
    pub(crate) fn new(mut met: Vec<Arc<Directory>>, links: bool) -> Self {
        let within = if links { std::mem::take(&mut met) } else { met.split_off(met.len() - 1) };
        Self { through: met.into(), within: within.into() }
    }

    /// When something changed last.
    pub(crate) fn changed(&self) -> Millis {
        let through = self.through.iter().map(|one| one.directories.load(Ordering::Relaxed));
        let within = self.within.iter().map(|one| one.anything.load(Ordering::Relaxed));
        Millis(through.chain(within).max().unwrap_or(0))
    }

    /// When the directory that it leads to became another one, or may have.
    pub(crate) fn moved(&self) -> Millis {
        let all = self.through.iter().chain(&self.within);
        Millis(all.map(|one| one.directories.load(Ordering::Relaxed)).max().unwrap_or(0))
    }

    /// Whether both are along the same directories.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same = |ours: &[Arc<Directory>], theirs: &[Arc<Directory>]| {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
        };
        std::ptr::eq(self, other)
            || same(&self.through, &other.through) && same(&self.within, &other.within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_a_path() {
        let [above, last] = [(); 2].map(|()| Arc::new(Directory::default()));
        let trail = |links| Trail::new(vec![Arc::clone(&above), Arc::clone(&last)], links);
        let (plain, linked) = (trail(false), trail(true));
        assert!(plain.is_same(&trail(false)) && !plain.is_same(&linked));
        assert_eq!(plain.changed(), Millis(0));
        above.change(Millis(5), false);
        assert_eq!((plain.changed(), linked.changed()), (Millis(0), Millis(5)));
        last.change(Millis(6), false);
        assert_eq!((plain.changed(), plain.moved()), (Millis(6), Millis(0)));
        above.change(Millis(7), true);
        assert_eq!((plain.changed(), plain.moved()), (Millis(7), Millis(7)));
        last.lose();
        assert_eq!(plain.changed(), Millis(u64::MAX));
        let alone = Trail::new(vec![above], false);
        assert_eq!(alone.changed(), Millis(7));
    }
}
