use std::fs;

use httparse::Header;
use tempfile::TempDir;

use super::*;
use crate::cold::runtime::Runtime;
use crate::limits::{COMPARISON_PATIENCE, COMPRESSION_QUEUE};
use crate::listing::ListingFormat;
use crate::site::SiteSettings;

/// A site whose texts are compressed.
fn site(root: &TempDir) -> Arc<Site> {
    let settings = SiteSettings {
        compress: Some([Coding::Gzip].into()),
        compress_min_size: Some(100),
        listing: Some(ListingFormat::Html),
        ..SiteSettings::new(root.path().to_owned())
    };
    Arc::new(Site::open(settings).unwrap())
}

fn text() -> String {
    "one line like the other\n".repeat(100)
}

/// A www-root with a text in it, and what loads it.
fn bench() -> (TempDir, Rc<Loader>, Arc<Site>) {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("a.txt"), text()).unwrap();
    let cache = Arc::new(Cache::new(1 << 26));
    let watch = Watch::new(false, Arc::clone(&cache));
    let site = site(&root);
    (root, Loader::new(cache, watch, DriverKind::default(), COMPARISON_PATIENCE), site)
}

/// How far its compression is, whether it says that it varies, and whether it is sent encoded.
fn state(entry: &Entry) -> (Progress, bool, bool) {
    let Answer::File(file) = &entry.answer else { panic!("a file") };
    let fields = [Header { name: "Accept-Encoding", value: b"gzip" }];
    let variants = file.variants.as_ref();
    let encoded = variants.is_some_and(|variants| variants.choose(&fields).is_some());
    (file.progress(), file.head.varies(), encoded)
}

const COMPRESSED: (Progress, bool, bool) = (Progress::Done, true, true);

/// Waits for what replaces `unfinished`.
async fn replaced(loader: &Loader, site: &Site, unfinished: &Arc<Entry>) -> Arc<Entry> {
    loop {
        match loader.cache.entry(site.id, b"a.txt") {
            Some(entry) if !Arc::ptr_eq(&entry, unfinished) => return entry,
            _ => sleep(Duration::from_millis(1)).await,
        }
    }
}

#[test]
fn a_compression_that_takes_long_is_not_waited_for() {
    let (_root, loader, site) = bench();
    Runtime::start(DriverKind::default()).unwrap().block_on(async {
        let held = loader.compressors.hold().await;
        let entry = loader.entry(&site, b"a.txt", None, COMPRESSION_PATIENCE).await;
        assert_eq!(state(&entry), (Progress::UnderWay, true, false));
        let again = loader.entry(&site, b"a.txt", Some(&entry), COMPRESSION_PATIENCE).await;
        assert!(Arc::ptr_eq(&entry, &again), "one compression is enough");
        drop(held);
        let finished = replaced(&loader, &site, &entry).await;
        assert_eq!(state(&finished), COMPRESSED);
        assert_eq!(finished.freshness.checked(), again.freshness.checked());
    });
    assert_eq!(loader.cache.stats().compressions, 1);
}

#[test]
fn a_listing_whose_compression_takes_long_is_sent_as_it_is() {
    let (_root, loader, site) = bench();
    let is_encoded = |entry: &Entry| {
        let Answer::Listing(listing) = &entry.answer else { panic!("a listing") };
        let fields = [Header { name: "Accept-Encoding", value: b"gzip" }];
        listing.document(None, &fields).body != listing.document(None, &[]).body
    };
    Runtime::start(DriverKind::default()).unwrap().block_on(async {
        let held = loader.compressors.hold().await;
        let entry = loader.entry(&site, b"", None, COMPRESSION_PATIENCE).await;
        assert!(!is_encoded(&entry));
        drop(held);
        let next = loader.entry(&site, b"", None, COMPRESSION_PATIENCE).await;
        assert!(is_encoded(&next));
        // One that says the same is not compressed again.
        let Answer::Listing(known) = &next.answer else { panic!("a listing") };
        let (again, _) = loader.listing(&site, b"", *known.directory(), Some(&next)).await.unwrap();
        assert!(is_encoded(&Entry::new(Answer::Listing(again), Millis::default(), None)));
    });
    assert_eq!(loader.cache.stats().compressions, 1);
}

#[test]
fn a_file_that_changes_meanwhile_is_not_replaced() {
    let (root, loader, site) = bench();
    Runtime::start(DriverKind::default()).unwrap().block_on(async {
        let held = loader.compressors.hold().await;
        let first = loader.entry(&site, b"a.txt", None, COMPRESSION_PATIENCE).await;
        fs::write(root.path().join("a.txt"), "new").unwrap();
        let second = loader.entry(&site, b"a.txt", Some(&first), COMPRESSION_PATIENCE).await;
        drop(held);
        while loader.cache.stats().compressions == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let there = loader.cache.entry(site.id, b"a.txt").unwrap();
        assert!(Arc::ptr_eq(&there, &second));
        assert_eq!(state(&there), (Progress::Done, false, false));
    });
}

#[test]
fn what_is_too_much_for_now_is_compressed_another_time() {
    let (_root, loader, site) = bench();
    Runtime::start(DriverKind::default()).unwrap().block_on(async {
        let held = loader.compressors.hold().await;
        let start = || loader.compressors.start(b"", vec![Coding::Gzip], Bytes::from(text()));
        let others: Vec<_> = (0..COMPRESSION_QUEUE).map(|_| start().unwrap()).collect();
        assert!(start().is_none());
        let entry = loader.entry(&site, b"a.txt", None, COMPRESSION_PATIENCE).await;
        assert_eq!(state(&entry), (Progress::PutOff, true, false));
        assert_eq!(loader.cache.stats().compressions_put_off, 1);
        drop(held);
        for other in others {
            assert_eq!(other.await.unwrap().len(), 1);
        }
        let later = loader.entry(&site, b"a.txt", Some(&entry), COMPRESSION_PATIENCE).await;
        assert_eq!(state(&later), COMPRESSED);
    });
}
