use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tagwire_core::driver::DriverKind;
use tempfile::TempDir;

use super::*;
use crate::cache::FileId;
use crate::cold::runtime::Runtime;
use crate::cold::watch::Watch;
use crate::limits::COMPARISON_PATIENCE;
use crate::site::SiteSettings;

/// What there is after a preload.
struct Preloaded {
    stats: PreloadStats,
    cache: Arc<Cache>,
    sites: Arc<Sites>,
}

impl Preloaded {
    fn of(root: &Path, cache_size: u64) -> Self {
        let settings = SiteSettings {
            compress: Some([Coding::Gzip].into()),
            compress_min_size: Some(100),
            ..SiteSettings::new(root.to_owned())
        };
        let sites = Arc::new(Sites::open(&[settings], None).unwrap());
        let cache = Arc::new(Cache::new(cache_size));
        let watch = Watch::new(false, Arc::clone(&cache));
        let (preload, done) = (Arc::new(Preload::default()), Arc::new(AtomicBool::new(false)));
        assert!(preload.stats().is_none(), "nobody has asked for it");
        let driver = DriverKind::default();
        Runtime::start(driver).unwrap().block_on(async {
            let loader = Loader::new(Arc::clone(&cache), watch, driver, COMPARISON_PATIENCE);
            let (told, at_end) = (Arc::clone(&done), Arc::clone(&preload));
            let done = Done::new(move || {
                assert!(at_end.stats().unwrap().done);
                told.store(true, Ordering::Relaxed);
            });
            run(loader, Arc::clone(&preload), Arc::clone(&sites), done).await;
        });
        assert!(done.load(Ordering::Relaxed), "who waits is told");
        Self { stats: preload.stats().unwrap(), cache, sites }
    }

    fn counts(&self) -> [u64; 4] {
        let PreloadStats { found, loaded, failed, left_out, .. } = self.stats;
        [found, loaded, failed, left_out]
    }

    fn entry(&self, path: &str) -> Option<Arc<Entry>> {
        let site = self.sites.iter().next().unwrap();
        self.cache.entry(site.id, path.as_bytes())
    }

    fn id(&self, path: &str) -> FileId {
        match &self.entry(path).expect(path).answer {
            Answer::File(file) => file.id,
            other => panic!("{path} is no file: {other:?}"),
        }
    }
}

#[test]
fn what_would_be_served_is_loaded_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("www");
    fs::create_dir_all(root.join("sub/empty")).unwrap();
    fs::create_dir(root.join(".git")).unwrap();
    let text = "one line like the other\n".repeat(100);
    for (name, content) in [
        ("index.html", "page"),
        ("a.txt", &text),
        ("b.js", "plain"),
        ("b.js.gz", "packed"),
        ("alone.gz", "a file like any other"),
        ("sub/index.html", "page"),
        (".hidden", "x"),
        (".git/config", "x"),
        ("../outside", "x"),
    ] {
        fs::write(root.join(name), content).unwrap();
    }
    let large: Vec<u8> = (0..2 * CHUNK + 5).map(|at| at as u8).collect();
    fs::write(root.join("sub/large.bin"), &large).unwrap();
    symlink("a.txt", root.join("link.txt")).unwrap();
    symlink(".", root.join("sub/circle")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("../outside", root.join("leads-out")).unwrap();
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();

    let preloaded = Preloaded::of(&root, 1 << 26);
    let served = ["", "a.txt", "b.js", "alone.gz", "link.txt", "sub/", "sub/large.bin"];
    let count = served.len() as u64;
    assert_eq!(preloaded.counts(), [count, count, 0, 0]);
    for path in served {
        preloaded.id(path);
    }
    for path in
        [".hidden", ".git/config", "fifo", "b.js.gz", "sub/circle/", "dangling", "leads-out"]
    {
        assert!(preloaded.entry(path).is_none(), "{path}");
    }
    let entry = preloaded.entry("a.txt").unwrap();
    let Answer::File(file) = &entry.answer else { panic!("a file") };
    assert!(file.variants.is_some(), "it is compressed already");
    let id = preloaded.id("sub/large.bin");
    let read: Vec<u8> = (0..3)
        .flat_map(|index| preloaded.cache.chunk(id, index).unwrap().octets().to_vec())
        .collect();
    assert!(read == large);
    let octets = [4, text.len(), 5, 21, text.len(), 4, large.len()];
    assert_eq!(preloaded.stats.octets, octets.iter().sum::<usize>() as u64);
    assert_eq!(preloaded.cache.download_stats().held, 0);
    assert_eq!(preloaded.stats.missing(), None);
}

#[test]
fn what_has_no_room_pushes_out_nothing() {
    const FILES: u64 = 24;
    let root = TempDir::new().unwrap();
    for number in 0..FILES {
        fs::write(root.path().join(format!("{number}")), vec![7; CHUNK]).unwrap();
    }
    fs::write(root.path().join("large"), vec![7; 2 * CHUNK]).unwrap();
    let preloaded = Preloaded::of(root.path(), 16 << 20);
    let [found, loaded, failed, left_out] = preloaded.counts();
    assert_eq!((found, failed, loaded + left_out), (FILES + 1, 0, FILES + 1));
    assert!((12..15).contains(&loaded), "{loaded}");
    assert_eq!(preloaded.cache.stats().evictions, 0);
    assert!(!preloaded.stats.full, "there is room for small ones still");
    let there = (0..FILES).filter(|number| preloaded.entry(&number.to_string()).is_some());
    assert_eq!(there.count() as u64, loaded);
}

#[test]
fn a_cache_of_nothing_is_no_reason_not_to_start() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("a"), "x").unwrap();
    assert_eq!(Preloaded::of(root.path(), 0).counts(), [1, 0, 0, 1]);
}

#[test]
fn a_full_cache_ends_the_search() {
    let root = TempDir::new().unwrap();
    for directory in 0..20 {
        let directory = root.path().join(directory.to_string());
        fs::create_dir(&directory).unwrap();
        for number in 0..100 {
            fs::write(directory.join(number.to_string()), "x").unwrap();
        }
    }
    let some = Preloaded::of(root.path(), 1 << 20).stats;
    assert!(some.full && (500..1500).contains(&some.loaded), "{some:?}");
    // Those that the search was ahead.
    let before = FOUND as u64 + 2;
    assert!((1..=before).contains(&some.left_out), "{some:?}");
    assert_eq!(some.found, some.loaded + some.left_out);
    let all = Preloaded::of(root.path(), 64 << 20).stats;
    assert_eq!((all.full, all.found, all.loaded, all.left_out), (false, 2000, 2000, 0));
}

#[test]
fn what_was_pushed_out_is_no_longer_counted_as_loaded() {
    let preload = Preload::default();
    preload.begun.set(Instant::now()).unwrap();
    add(&preload.loaded, 5);
    preload.lose(2);
    preload.lose(9);
    let PreloadStats { loaded, left_out, .. } = preload.stats().unwrap();
    assert_eq!((loaded, left_out), (0, 5));
}

#[test]
fn there_is_no_room_any_more_once_something_was_pushed_out() {
    let cache = Arc::new(Cache::new(1 << 20));
    let space = Space::new(&cache);
    assert!(space.has(1000) && !space.has(1 << 20));
    space.coming.set(900_000);
    assert!(!space.has(100_000), "others are on their way");
    space.coming.set(0);
    let id = FileId {
        device: 1,
        inode: 1,
        len: 9 << 20,
        modified: 0,
        modified_ns: 0,
        changed: 0,
        changed_ns: 0,
        links: 1,
    };
    for index in 0..20 {
        cache.put_chunk(id, index, crate::cache::Chunk::new(vec![0; 100_000]));
    }
    assert!(space.pushed_out() >= 9, "{}", space.pushed_out());
    assert!(!space.has(0));
}
