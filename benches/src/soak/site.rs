//! The files, and who changes them while they are served.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tagwire_lab::SplitMix64;

use super::content::Edition;
use super::tally::Tally;

/// Small files: how many, and the most octets but for the first thousand.
const SMALL: u32 = 600;
const SMALL_MOST: u64 = 120_000;
/// Files of many chunks, by their least octets.
const LARGE: [u64; 4] = [1 << 20, 3 << 20, 9 << 20, 24 << 20];
/// How long a served copy may be older than the file: the appliance promises one second, and
/// the machine may be busy.
const STALE: Duration = Duration::from_secs(6);
/// How often a small file is replaced, and one of the large ones.
const CHANGE_EVERY: Duration = Duration::from_millis(10);
const LARGE_EVERY: u32 = 100;

/// The files' versions, as the writer makes them.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    files: Vec<Mutex<History>>,
}

#[derive(Debug)]
struct History {
    /// The latest that may be seen.
    newest: u32,
    /// Since when each has been in place, for as long as it may still be served.
    since: VecDeque<(u32, Instant)>,
}

impl Site {
    /// Makes them all below the folder `soak` of `www`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn make(www: &Path) -> io::Result<Self> {
        let folder = www.join("soak");
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let count = SMALL + LARGE.len() as u32;
        let history = || History { newest: 0, since: VecDeque::new() };
        let files = (0..count).map(|_| Mutex::new(history())).collect();
        let site = Self { folder, files };
        for file in 0..count {
            site.replace(file)?;
        }
        Ok(site)
    }

    /// A small file, or a large one.
    pub fn pick(random: &mut SplitMix64, large: bool) -> u32 {
        if large {
            SMALL + (random.next() % LARGE.len() as u64) as u32
        } else {
            (random.next() % u64::from(SMALL)) as u32
        }
    }

    /// The target of a file.
    pub fn target(file: u32) -> String {
        format!("/soak/{file}.bin")
    }

    /// All targets of small files.
    pub fn small_targets() -> impl Iterator<Item = String> {
        (0..SMALL).map(Self::target)
    }

    /// The length of a version, another one than its neighbours have.
    pub fn len(edition: Edition) -> u64 {
        let Edition { file, version } = edition;
        match file.checked_sub(SMALL) {
            Some(large) => LARGE[large as usize] + u64::from(version % 100_000) * 3 + 1,
            // At least a few blocks, so that any part that is asked for has a whole one.
            None => 1000 + (u64::from(file) * 7919 + u64::from(version) * 13) % SMALL_MOST,
        }
    }

    /// A length that a file always has.
    pub fn least_len(file: u32) -> u64 {
        file.checked_sub(SMALL).map_or(1000, |large| LARGE[large as usize])
    }

    /// Whether what was asked for at `asked` may be this version.
    ///
    /// # Errors
    /// When it is older or newer than it may be.
    pub fn check(&self, edition: Edition, asked: Instant) -> Result<(), String> {
        let Edition { file, version } = edition;
        let history = self.history(file);
        // The last one that was in place long enough before is the oldest that may be seen.
        let settled = history.since.iter().rev().find(|(_, at)| *at + STALE <= asked);
        let oldest = settled.map_or(1, |(version, _)| *version);
        if (oldest..=history.newest).contains(&version) {
            return Ok(());
        }
        let newest = history.newest;
        Err(format!("version {version} of file {file}, which may be {oldest} to {newest}"))
    }

    /// Replaces files until the time comes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn change(&self, until: Instant, tally: &Tally) -> io::Result<()> {
        let mut random = SplitMix64::new(1);
        for turn in 1.. {
            if Instant::now() >= until {
                break;
            }
            self.replace(Self::pick(&mut random, turn % LARGE_EVERY == 0))?;
            tally.changed();
            thread::sleep(CHANGE_EVERY);
        }
        Ok(())
    }

    /// Puts the next version in place, as deployments do: by renaming.
    fn replace(&self, file: u32) -> io::Result<()> {
        let version = {
            let mut history = self.history(file);
            history.newest += 1;
            history.newest
        };
        let edition = Edition { file, version };
        let new = self.folder.join(format!(".{file}.new"));
        fs::write(&new, edition.content(Self::len(edition)))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, self.folder.join(format!("{file}.bin")))?;
        let (mut history, now) = (self.history(file), Instant::now());
        history.since.push_back((version, now));
        // Of those that nobody may see any more, the last one says so.
        while history.since.get(1).is_some_and(|(_, at)| *at + 10 * STALE < now) {
            history.since.pop_front();
        }
        Ok(())
    }

    fn history(&self, file: u32) -> MutexGuard<'_, History> {
        self.files[file as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
