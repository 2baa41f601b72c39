//! Devices, FIFOs and sockets in www-root: none is ever opened, whatever it stands in for, and none
//! keeps anybody waiting.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open};
use rustix::io::Errno;
use tagwire_lab::Lab;

use crate::bed::Bed;
use crate::client::{Answer, Client};

/// A kind of file that is no regular one, and its device.
const KINDS: [(&str, FileType, (u32, u32)); 5] = [
    ("null", FileType::CharacterDevice, (1, 3)),
    ("zero", FileType::CharacterDevice, (1, 5)),
    ("loop", FileType::BlockDevice, (7, 0)),
    ("fifo", FileType::Fifo, (0, 0)),
    ("socket", FileType::Socket, (0, 0)),
];

/// Makes one that everybody may open.
fn make(path: &Path, kind: FileType, (major, minor): (u32, u32)) {
    if kind == FileType::Socket {
        // Nobody accepts: it stays when its listener goes.
        UnixListener::bind(path).unwrap();
    } else {
        mknodat(CWD, path, kind, Mode::empty(), makedev(major, minor)).unwrap();
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
}

/// Who opens what in some directories.
struct Opened(OwnedFd);

impl Opened {
    fn watch(directories: &[&Path]) -> Self {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        for directory in directories {
            inotify::add_watch(&watch, *directory, WatchFlags::OPEN).unwrap();
        }
        Self(watch)
    }

    /// The names that were opened since the last time.
    fn names(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        loop {
            match reader.next() {
                // Without a name it is a directory.
                Ok(event) => {
                    names.extend(event.file_name().map(|name| name.to_str().unwrap().to_owned()))
                }
                Err(Errno::AGAIN) => return names,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn ask(bed: &Bed, host: &str, path: &str) -> Answer {
    let mut client = Client::connect(bed);
    let fields = format!("Host: {host}\r\nAccept-Encoding: gzip");
    client.send(format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes());
    client.answer()
}

#[test]
fn what_is_no_regular_file_is_never_opened() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let www = bed.www();
    let mut text = "listing = \"json\"\n[[site]]\n".to_owned();
    text += &format!("www-root = \"{}\"\n", www.display());
    for (name, kind, device) in KINDS {
        let place = www.join(name);
        fs::create_dir_all(place.join("folder")).unwrap();
        for at in ["special", "text.txt.gz", "folder/index.html"] {
            make(&place.join(at), kind, device);
        }
        symlink("special", place.join("link")).unwrap();
        bed.put(&format!("{name}/text.txt"), b"the text");
        text += &format!(
            "[[site]]\nhosts = [\"{name}\"]\nwww-root = \"{}\"\n\
             error-pages = {{ 404 = \"{name}/link\", 403 = \"{name}/special\" }}\n",
            www.display()
        );
    }
    let config = bed.configure(&format!("[serve]\n{text}"));
    bed.start(&["--config", &config]);
    for (name, kind, _) in KINDS {
        let place = www.join(name);
        let opened = Opened::watch(&[&place, &place.join("folder")]);
        for (host, path, status) in [
            ("x", "special", 403),
            ("x", "link", 403),
            ("x", "folder/", 403),
            ("x", "folder/index.html", 403),
            ("x", "text.txt.gz", 403),
            ("x", "special/", 404),
            // As the site's page for an error.
            (name, "none", 404),
            (name, "special", 403),
        ] {
            let answer = ask(&bed, host, &format!("/{name}/{path}"));
            assert_eq!(answer.status, status, "{host} {name}/{path}: {}", answer.head);
            let page = format!("<h1>{status} ");
            let body = String::from_utf8(answer.body).unwrap();
            assert!(body.contains(&page), "{host} {name}/{path}: {body}");
            // What only the cold side can answer, which waits for nothing.
            let fresh = format!("fresh/{name}-{host}-{}", path.replace('/', "-"));
            bed.put(&fresh, fresh.as_bytes());
            assert_eq!(ask(&bed, "x", &format!("/{fresh}")).body, fresh.as_bytes());
        }
        let listed: serde_json::Value =
            serde_json::from_slice(&ask(&bed, "x", &format!("/{name}/")).body).unwrap();
        let names: Vec<_> = listed.as_array().unwrap().iter().map(|item| &item["name"]).collect();
        assert_eq!(names, ["folder", "text.txt"], "{name}");
        assert_eq!(opened.names(), Vec::<String>::new(), "{name}");

        // In place of its encoded sibling the file is sent as it is; that this one is opened shows
        // that the others were not.
        let plain = ask(&bed, "x", &format!("/{name}/text.txt"));
        assert_eq!((plain.status, plain.field("Content-Encoding")), (200, None));
        assert_eq!(plain.body, b"the text");
        assert_eq!(opened.names(), ["text.txt"], "{name}");
        if kind == FileType::Fifo {
            open(place.join("special"), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
            assert_eq!(opened.names(), ["special"]);
        }
    }
    bed.assert_serves();
    bed.finish();
}
