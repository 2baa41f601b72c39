//! What a directory has that is served.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, statat};

use super::files::{Found, Stop, Walk, refusal};
use crate::limits::{MAX_LISTED, MAX_LISTED_OCTETS};
use crate::listing::{Item, Kind, Listing};
use crate::site::Site;

/// Lists the directory at `path`, relative to www-root; takes as long as the disk does.
pub(super) fn list(site: &Site, path: &[u8]) -> Result<Listing, Stop> {
    let (directory, id) = site.root.open_directory(path)?;
    let refused = |error| Stop::Refused(refusal(path, error));
    let mut names = Dir::new(directory).map_err(refused)?;
    let (mut items, mut octets, mut more) = (Vec::new(), 0, false);
    while let Some(entry) = names.read() {
        let entry = entry.map_err(refused)?;
        let at = names.fd().map_err(refused)?;
        let Some(item) = look(site, path, at, &entry) else { continue };
        if items.len() == MAX_LISTED || octets + item.name.len() > MAX_LISTED_OCTETS {
            more = true;
            break;
        }
        octets += item.name.len();
        items.push(item);
    }
    Ok(Listing::new(site, path, id, items, more))
}

/// Whether `name`, at `place` beneath www-root, is one that no request gets.
pub(super) fn is_unfit(site: &Site, place: &[u8], name: &[u8]) -> bool {
    // No path has control characters, see `target`.
    let never = matches!(name, b"." | b"..") || name.iter().any(u8::is_ascii_control);
    never || site.hides(place)
}

/// What a name in the directory at `path` stands for, if a request for it would be served.
fn look(site: &Site, path: &[u8], at: BorrowedFd<'_>, entry: &DirEntry) -> Option<Item> {
    let name = entry.file_name().to_bytes();
    let place = [path, name].concat();
    if is_unfit(site, &place, name) {
        return None;
    }
    let item = |kind, modified| Some(Item { name: name.into(), kind, modified });
    let followed = || match site.root.find(&place, Walk::Any) {
        Ok(Found::File(id)) => item(Kind::File(id.len), id.modified),
        Ok(Found::Directory(id)) => item(Kind::Directory, id.modified),
        // It leads out of www-root, to nothing, or to what is never opened.
        Err(_) => None,
    };
    // Where the directory itself says what it is, the rest is not looked at.
    match entry.file_type() {
        FileType::RegularFile | FileType::Directory | FileType::Unknown => {}
        FileType::Symlink => return followed(),
        _ => return None,
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statat(at, entry.file_name(), flags).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            item(Kind::File(u64::try_from(stat.st_size).unwrap_or(0)), stat.st_mtime)
        }
        FileType::Directory => item(Kind::Directory, stat.st_mtime),
        FileType::Symlink => followed(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mknodat};
    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;
    use crate::listing::ListingFormat;
    use crate::respond::Status;
    use crate::site::SiteSettings;

    fn site(root: &std::path::Path) -> Site {
        let listing = Some(ListingFormat::Json);
        Site::open(SiteSettings { listing, ..SiteSettings::new(root.to_owned()) }).unwrap()
    }

    fn items(listing: &Listing) -> Vec<Value> {
        let Value::Array(items) =
            serde_json::from_slice(&listing.document(None, &[]).body).unwrap()
        else {
            panic!("an array")
        };
        items
    }

    #[test]
    fn what_would_be_served_is_listed() {
        let dir = TempDir::new().unwrap();
        let www = dir.path().join("www");
        fs::create_dir_all(www.join("sub/inner")).unwrap();
        fs::create_dir(www.join(".well-known")).unwrap();
        fs::create_dir(www.join("sub/.well-known")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        for name in ["b", "a", ".env", "tab\there", "del\x7f"] {
            fs::write(www.join(name), "hello").unwrap();
            fs::write(www.join("sub").join(name), "").unwrap();
        }
        fs::write(www.join(OsStr::from_bytes(b"\xff")), "").unwrap();
        symlink("../secret", www.join("out")).unwrap();
        symlink("/etc", www.join("absolute")).unwrap();
        symlink("none", www.join("broken")).unwrap();
        symlink("a", www.join("link")).unwrap();
        symlink("sub/inner", www.join("folder")).unwrap();
        symlink("sub/.env", www.join("shown")).unwrap();
        symlink("pipe", www.join("to-pipe")).unwrap();
        mknodat(CWD, www.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(www.join("socket")).unwrap();
        let site = site(&www);
        let names = |path: &[u8]| -> Vec<(String, Option<u64>)> {
            let text =
                |item: &Value| (item["name"].as_str().unwrap().to_owned(), item["size"].as_u64());
            items(&list(&site, path).unwrap()).iter().map(text).collect()
        };
        let expected = [
            (".well-known", None),
            ("folder", None),
            ("sub", None),
            ("a", Some(5)),
            ("b", Some(5)),
            ("link", Some(5)),
            ("shown", Some(0)),
            ("\u{fffd}", Some(0)),
        ];
        assert_eq!(names(b""), expected.map(|(name, size)| (name.to_owned(), size)));
        let inner = [("inner", None), ("a", Some(0)), ("b", Some(0))];
        assert_eq!(names(b"sub/"), inner.map(|(name, size)| (name.to_owned(), size)));
        assert_eq!(names(b"folder/"), []);
        for (path, status) in [
            (&b"none/"[..], Status::NotFound),
            (b"a/", Status::NotFound),
            (b"absolute/", Status::Forbidden),
            (b"../", Status::Forbidden),
        ] {
            assert_eq!(list(&site, path).unwrap_err(), Stop::Refused(status), "{path:?}");
        }
    }

    #[test]
    fn a_listing_is_bounded() {
        let dir = TempDir::new().unwrap();
        let site = site(dir.path());
        for name in 0..MAX_LISTED {
            fs::File::create(dir.path().join(name.to_string())).unwrap();
        }
        let cut = |listing: &Listing| {
            let common = crate::respond::Common {
                date: b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
                persistence: crate::respond::Persistence::Keep,
                site: b"",
            };
            let head = listing.document(None, &[]).ok(common, b"");
            String::from_utf8(head.to_vec()).unwrap().contains("\r\nListing-Truncated: ")
        };
        let listing = list(&site, b"").unwrap();
        assert_eq!((items(&listing).len(), cut(&listing)), (MAX_LISTED, false));
        fs::File::create(dir.path().join("more")).unwrap();
        let listing = list(&site, b"").unwrap();
        assert_eq!((items(&listing).len(), cut(&listing)), (MAX_LISTED, true));

        let dir = TempDir::new().unwrap();
        let site = self::site(dir.path());
        for name in 0..=MAX_LISTED_OCTETS / 250 {
            fs::File::create(dir.path().join(format!("{name:0>250}"))).unwrap();
        }
        let listing = list(&site, b"").unwrap();
        assert_eq!((items(&listing).len(), cut(&listing)), (MAX_LISTED_OCTETS / 250, true));
    }
}
