//! The two, each in its pod, over the same files.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tagwire_lab::{Lab, LabProcess};

use crate::bed::{Bed, content};
use crate::case::{Case, with};
use crate::exchange::{self, LAST_BODY};
use crate::nginx;

/// When all files were modified: Sun, 06 Nov 1994 08:49:37 GMT, as in RFC 9110.
const MODIFIED: Duration = Duration::from_secs(784_111_777);

/// Octets of `/big`: more than a chunk of the cache.
pub(crate) const BIG: usize = 2_500_000;

/// nginx as Tagwire is without options: relative redirects, texts of UTF-8, encoded siblings.
const HTTP: &str = "include /etc/nginx/mime.types;
    default_type application/octet-stream;
    charset utf-8;
    charset_types text/css text/plain text/xml text/vnd.wap.wml text/mathml text/x-component
        text/vnd.sun.j2me.app-descriptor text/markdown application/javascript image/svg+xml;
    absolute_redirect off;
    gzip_static on;
    gzip_vary on;";

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) address: Ipv4Addr,
    /// What it has given to `/letters`.
    pub(crate) etag: String,
}

pub(crate) struct Subjects {
    pub(crate) tagwire: Subject,
    pub(crate) nginx: Subject,
    pub(crate) bed: Bed,
    process: LabProcess,
}

impl Subjects {
    /// Both, up and serving; `None` where there can be no lab.
    pub(crate) fn up() -> Option<Self> {
        let mut bed = Bed::down(Lab::builder().pods(2))?;
        tagwire_lab::require_tools(&["nginx"]).unwrap();
        fill(&bed);
        // nginx compresses nothing without being told, nor does it keep what it has compressed.
        bed.start(&["--compress", "off"]);
        let process = nginx::start(&bed, 1, HTTP);
        let subject = |pod: usize| {
            let address = bed.lab().pod(pod).address();
            let case = Case::new("", with(""));
            let learned = bed.lab().client().run(|| exchange::run(&case, address, "")).unwrap();
            let etag = learned.answers[0].field("ETag").expect("it gives entity tags");
            Subject { address, etag }
        };
        let (tagwire, nginx) = (subject(0), subject(1));
        Some(Self { tagwire, nginx, bed, process })
    }

    /// Ends both; the appliance must end well.
    pub(crate) fn finish(mut self) {
        self.process.kill();
        self.bed.assert_serves();
        self.bed.finish();
    }
}

fn fill(bed: &Bed) {
    let www = bed.www();
    for name in NAMES {
        bed.put(name, format!("this is {name}\n").as_bytes());
    }
    let odd = www.join(std::ffi::OsStr::from_bytes(b"\xff.txt"));
    fs::write(odd, "octet 255\n").unwrap();
    bed.put("letters", b"abcdefghijklmnopqrstuvwxyz");
    bed.put("last", LAST_BODY);
    bed.put("empty", b"");
    bed.put("empty.txt", b"");
    bed.put("big", &content(7, BIG));
    for name in ["packed.txt", "packed/index.html"] {
        bed.put(name, "a text ".repeat(300).as_bytes());
        bed.put(&format!("{name}.gz"), format!("what stands for {name} in gzip").as_bytes());
    }
    bed.put("alone.txt.gz", b"a sibling of nothing");
    fs::create_dir(www.join("bare/empty")).unwrap();
    for extension in EXTENSIONS {
        bed.put(&format!("types/it.{extension}"), b"content");
    }
    nginx::open_to_all(&www);
    date(&www);
    fs::set_permissions(www.join("private.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("sub/page.html", www.join("link.html")).unwrap();
    symlink("/etc/hostname", www.join("outside.txt")).unwrap();
    symlink("loop", www.join("loop")).unwrap();
    symlink("nowhere", www.join("dangling")).unwrap();
    symlink("sub", www.join("linked")).unwrap();
    mknodat(CWD, www.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

/// Gives all files the same age.
fn date(folder: &Path) {
    let modified: SystemTime = UNIX_EPOCH + MODIFIED;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            date(&entry.path());
        } else {
            File::options()
                .append(true)
                .open(entry.path())
                .unwrap()
                .set_modified(modified)
                .unwrap();
        }
    }
}

/// Files whose names are what matters.
const NAMES: &[&str] = &[
    "plain.txt",
    "UPPER.TXT",
    "private.txt",
    "sub/index.html",
    "sub/page.html",
    "sub dir/index.html",
    "bare/file.txt",
    "a/b/c/deep.txt",
    "a b.txt",
    "a+b.txt",
    "a%b.txt",
    "a%20b.txt",
    "%2e%2e/file.txt",
    "a?b.txt",
    "a#b.txt",
    "a;b.txt",
    "a&b=c.txt",
    "a:b.txt",
    "a\\b.txt",
    "a'b\".txt",
    "a<b>.txt",
    "a|b.txt",
    "a~b~",
    "a*b.txt",
    "a@b.txt",
    "a,b.txt",
    "a!$(b).txt",
    "[a]{b}^`.txt",
    "\u{fc}n\u{ef}.txt",
    "\u{65e5}\u{672c}.txt",
    ".hidden",
    ".folder/file.txt",
    ".well-known/file.txt",
    "..dots",
    ".../file.txt",
    "dot.",
    "no-extension",
    "two.txt.html",
];

/// What types are asked for.
pub(crate) const EXTENSIONS: &[&str] = &[
    "html",
    "htm",
    "shtml",
    "xhtml",
    "css",
    "js",
    "mjs",
    "json",
    "map",
    "xml",
    "txt",
    "md",
    "csv",
    "svg",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "webp",
    "avif",
    "ico",
    "bmp",
    "tiff",
    "woff",
    "woff2",
    "ttf",
    "otf",
    "eot",
    "wasm",
    "pdf",
    "zip",
    "gz",
    "tar",
    "tgz",
    "7z",
    "mp4",
    "webm",
    "mov",
    "mp3",
    "ogg",
    "wav",
    "flac",
    "m3u8",
    "ts",
    "webmanifest",
    "bin",
    "exe",
    "iso",
    "deb",
    "rss",
    "atom",
    "yaml",
    "toml",
    "doc",
    "docx",
    "xls",
    "xlsx",
    "HTML",
    "unheard-of",
];
