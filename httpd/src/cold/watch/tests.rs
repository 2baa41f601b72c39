use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tagwire_core::driver::DriverKind;
use tempfile::TempDir;

use super::*;
use crate::cache::Age;
use crate::cold::resolve::Sight;
use crate::cold::runtime::{Runtime, spawn};
use crate::site::SiteSettings;

/// A www-root on a file system that tells events, which that of the machine's temporary files may
/// not be.
fn root() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap()
}

struct Bench {
    watch: Arc<Watch>,
    site: Site,
}

impl Bench {
    fn new(root: &Path, limit: usize) -> Self {
        let watch = Watch::with_limit(true, Arc::new(Cache::new(0)), limit);
        Self { watch, site: Site::open(SiteSettings::new(root.to_owned())).unwrap() }
    }

    /// Looks at a path as a load does, and how that is seen to age.
    fn look(&self, path: &str) -> Seen {
        let checked = self.watch.now();
        let sight = Sight::at_once(&self.watch, &self.site, path.as_bytes())
            .unwrap_or_else(|| Sight::at_last(&self.watch, &self.site, path.as_bytes()));
        Seen { freshness: crate::cache::Freshness::new(checked, sight.trail.clone()), sight }
    }

    /// Runs `test` beside the task that takes events.
    fn run(&self, test: impl AsyncFnOnce()) {
        Runtime::start(DriverKind::default()).unwrap().block_on(async {
            spawn(Arc::clone(&self.watch).run());
            test().await;
        });
    }
}

struct Seen {
    sight: Sight,
    freshness: crate::cache::Freshness,
}

impl Seen {
    /// Whether nothing that concerns it has changed, so that it may rest for long.
    fn is_fresh(&self) -> bool {
        let later = self.freshness.checked().0 + REWATCH_AFTER.as_millis() as u64 / 2;
        self.freshness.age(Millis(later)) == Age::Fresh
    }

    async fn changes(&self, what: &str) {
        let started = Instant::now();
        while self.is_fresh() {
            assert!(started.elapsed() < Duration::from_secs(10), "{what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A tree as a ConfigMap is mounted, with a plain part.
fn make_tree(at: &Path) {
    for directory in ["..v1", "..v2", "..v1/deep", "..v2/deep", "plain/below", "moved"] {
        fs::create_dir_all(at.join(directory)).unwrap();
    }
    for (name, content) in [
        ("..v1/index.html", "1"),
        ("..v2/index.html", "2"),
        ("..v1/deep/file", "1"),
        ("..v2/deep/file", "2"),
        ("plain/file", "1"),
        ("plain/below/file", "1"),
        ("moved/file", "1"),
        ("other", "1"),
    ] {
        fs::write(at.join(name), content).unwrap();
    }
    for (target, name) in [
        ("../plain/packed", "moved/file.br"),
        ("..v1", "..data"),
        ("..data/index.html", "index.html"),
        ("..data/deep", "deep"),
        (".", "self"),
    ] {
        symlink(target, at.join(name)).unwrap();
    }
}

/// What the kubelet does: another symlink, renamed over the one that is there.
fn swap(at: &Path, target: &str) {
    symlink(target, at.join("..data_tmp")).unwrap();
    fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
}

#[test]
fn what_makes_a_path_lead_elsewhere() {
    type Change = fn(&Path);
    let behind_many_links = format!("{}moved/file", "self/".repeat(25));
    let changes: [(&str, &str, Change); 21] = [
        ("an encoded sibling behind many symlinks made", &behind_many_links, |at| {
            fs::write(at.join("plain/packed"), "1").unwrap();
        }),
        ("written in place", "plain/file", |at| fs::write(at.join("plain/file"), "22").unwrap()),
        ("replaced", "plain/file", |at| {
            fs::write(at.join("plain/.new"), "2").unwrap();
            fs::rename(at.join("plain/.new"), at.join("plain/file")).unwrap();
        }),
        ("removed", "plain/file", |at| fs::remove_file(at.join("plain/file")).unwrap()),
        ("not to be read any more", "plain/file", |at| {
            fs::set_permissions(at.join("plain/file"), fs::Permissions::from_mode(0o000)).unwrap();
        }),
        ("a symlink now", "plain/file", |at| {
            symlink("../other", at.join("plain/link")).unwrap();
            fs::rename(at.join("plain/link"), at.join("plain/file")).unwrap();
        }),
        ("made", "plain/none", |at| fs::write(at.join("plain/none"), "1").unwrap()),
        ("made with its directory", "none/none", |at| fs::create_dir(at.join("none")).unwrap()),
        ("a directory made", "plain/none/", |at| fs::create_dir(at.join("plain/none")).unwrap()),
        ("an index file made", "plain/", |at| {
            fs::write(at.join("plain/index.html"), "1").unwrap();
        }),
        ("an encoded sibling made", "plain/file", |at| {
            fs::write(at.join("plain/file.gz"), "").unwrap();
        }),
        ("a sibling behind a symlink written", "moved/file", |at| {
            fs::write(at.join("plain/packed"), "").unwrap();
        }),
        ("its directory renamed", "plain/below/file", |at| {
            fs::rename(at.join("plain/below"), at.join("plain/beyond")).unwrap();
        }),
        ("the one above renamed", "plain/below/file", |at| {
            fs::rename(at.join("plain"), at.join("fancy")).unwrap();
        }),
        ("the one above shut", "plain/below/file", |at| {
            fs::set_permissions(at.join("plain"), fs::Permissions::from_mode(0o000)).unwrap();
        }),
        ("all gone", "plain/below/file", |at| fs::remove_dir_all(at.join("plain")).unwrap()),
        ("a directory where a file was", "other", |at| {
            fs::remove_file(at.join("other")).unwrap();
            fs::create_dir(at.join("other")).unwrap();
        }),
        ("swapped, seen through its index", "", |at| swap(at, "..v2")),
        ("swapped, seen through a directory", "deep/file", |at| swap(at, "..v2")),
        ("written behind symlinks", "deep/file", |at| {
            fs::write(at.join("..v1/deep/file"), "changed").unwrap();
        }),
        ("the way behind symlinks renamed", "deep/file", |at| {
            fs::rename(at.join("..v1/deep"), at.join("..v1/deeper")).unwrap();
        }),
    ];
    for (what, path, change) in changes {
        let root = root();
        make_tree(root.path());
        let bench = Bench::new(root.path(), 100);
        bench.run(async || {
            let seen = bench.look(path);
            assert!(seen.sight.trail.is_some() && seen.is_fresh(), "{what}");
            assert!(bench.look(path).is_fresh(), "{what}: looking changes nothing");
            change(root.path());
            seen.changes(what).await;
            // What is found next is watched as well.
            assert!(bench.look(path).sight.trail.is_some(), "{what}");
        });
    }
}

#[test]
fn after_a_swap_the_new_way_is_watched() {
    let root = root();
    make_tree(root.path());
    let bench = Bench::new(root.path(), 100);
    bench.run(async || {
        let first = bench.look("deep/file");
        swap(root.path(), "..v2");
        first.changes("swapped").await;
        let second = bench.look("deep/file");
        let (old, new) = (first.sight.trail.unwrap(), second.sight.trail.as_ref().unwrap());
        assert!(!old.is_same(new));
        fs::write(root.path().join("..v2/deep/file"), "changed").unwrap();
        second.changes("written behind the new symlink").await;
        // As it deletes the old version afterwards.
        fs::remove_dir_all(root.path().join("..v1")).unwrap();
        bench.look("deep/file").changes("the old version deleted").await;
        let third = bench.look("deep/file");
        fs::write(root.path().join("..v2/deep/file"), "again").unwrap();
        third.changes("and still watched").await;
    });
}

#[test]
fn what_happens_elsewhere_does_not_matter() {
    let root = root();
    make_tree(root.path());
    let bench = Bench::new(root.path(), 100);
    bench.run(async || {
        let seen = bench.look("plain/below/file");
        let witness = bench.look("plain/file");
        // Files above a path, and all beside it.
        for name in ["other", "plain/other", "moved/file"] {
            fs::write(root.path().join(name), "changed").unwrap();
        }
        witness.changes("the events have come").await;
        assert!(seen.is_fresh());
    });
}

#[test]
fn the_same_way_is_one() {
    let root = root();
    make_tree(root.path());
    let bench = Bench::new(root.path(), 100);
    let ways = ["plain/file", "plain/none", "plain/"].map(|path| bench.look(path).sight.trail);
    for way in &ways {
        assert!(way.as_ref().unwrap().is_same(ways[0].as_ref().unwrap()));
    }
    assert!(bench.watch.recall(&bench.site, b"plain/x").is_some(), "nothing to explore");
    assert_eq!(bench.watch.stats().directories, 2);
}

#[test]
fn a_way_that_is_known_is_not_gone_along_again_for_a_name_that_is_nowhere() {
    let root = root();
    make_tree(root.path());
    let bench = Bench::new(root.path(), 100);
    let known = bench.look("other").sight.trail.unwrap();
    let at_last = |path: &str| Sight::at_last(&bench.watch, &bench.site, path.as_bytes());
    let none = at_last("none");
    assert!(matches!(none.found, Err(crate::respond::Status::NotFound)));
    assert!(Arc::ptr_eq(&none.trail.unwrap(), &known));
    // But by a symlink it may lead elsewhere.
    let linked = at_last("index.html");
    assert!(linked.found.is_ok() && !linked.trail.unwrap().is_same(&known));
}

#[test]
fn lost_events_change_everything() {
    let root = root();
    make_tree(root.path());
    let bench = Bench::new(root.path(), 100);
    let all = ["", "other", "plain/file", "deep/file"].map(|path| bench.look(path));
    bench.watch.take(-1, ReadFlags::QUEUE_OVERFLOW, false);
    assert!(all.iter().all(|seen| !seen.is_fresh()));
    assert_eq!(bench.watch.stats().overflows, 1);
}

#[test]
fn the_kernel_really_tells_that_it_lost_events() {
    let root = root();
    let bench = Bench::new(root.path(), 100);
    let seen = bench.look("none");
    let bound = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    for n in 0..=bound.trim().parse::<u32>().unwrap() / 2 {
        // Two events each, which are not alike.
        fs::File::create(root.path().join(n.to_string())).unwrap();
    }
    bench.run(async || {
        let started = Instant::now();
        while bench.watch.stats().overflows == 0 {
            assert!(started.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!seen.is_fresh());
    });
}

#[test]
fn beyond_the_limit_nothing_is_watched_until_something_is_let_go() {
    let root = root();
    for name in ["a/file", "b/file", "c/file"] {
        fs::create_dir_all(root.path().join(name).parent().unwrap()).unwrap();
        fs::write(root.path().join(name), "").unwrap();
    }
    let bench = Bench::new(root.path(), 3);
    let [a, b] = ["a/file", "b/file"].map(|path| bench.look(path));
    assert!(a.sight.trail.is_some() && b.sight.trail.is_some());
    let c = bench.look("c/file");
    assert!(c.sight.trail.is_none() && c.sight.found.is_ok());
    let stats = bench.watch.stats();
    assert_eq!((stats.directories, stats.unwatched), (3, 1));
    // It is not tried again all the time.
    assert!(bench.watch.recall(&bench.site, b"c/file").is_some_and(|trail| trail.is_none()));
    drop(a);
    bench.watch.retain(|_| true);
    assert_eq!(bench.watch.stats().directories, 2);
    assert!(bench.look("c/file").sight.trail.is_some());
    assert!(bench.look("b/file").is_fresh(), "who was there is still there");
    // A site that is no more needs none.
    drop(b);
    bench.watch.retain(|_| false);
    assert_eq!(bench.watch.stats().directories, 0);
}

#[test]
fn where_nothing_is_watched_a_peer_chooses_nothing_that_is_kept_for_long() {
    let root = root();
    let bench = Bench::new(root.path(), 0);
    let remembered = |path: String| {
        assert!(bench.look(&path).sight.trail.is_none());
        bench.watch.recall(&bench.site, path.as_bytes()).is_some()
    };
    assert!(remembered("none/file".to_owned()));
    assert!(!remembered(format!("{}/file", "n".repeat(MAX_REFUSAL_PATH))));
}

#[test]
fn what_does_not_tell_is_not_trusted() {
    let root = root();
    make_tree(root.path());
    let mut bench = Bench::new(root.path(), 100);
    bench.site.root.make_foreign();
    assert!(bench.look("plain/file").sight.trail.is_none());
    let off = Watch::new(false, Arc::new(Cache::new(0)));
    let off = Bench { watch: off, ..Bench::new(root.path(), 100) };
    assert!(off.look("plain/file").sight.trail.is_none());
    assert_eq!(bench.watch.stats().directories + off.watch.stats().directories, 0);
}
