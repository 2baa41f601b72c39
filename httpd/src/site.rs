//! A site: what is served under a name, from where, and with which extras.
//!
//! Settings are plain values that the command line or the configuration file ([`crate::file`])
//! gives; what is opened or compiled of them is a [`Site`], which the workers and the cold side
//! share. A reload makes new sites and leaves the old ones to the answers that are under way.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use tagwire_netstack::VlanStack;

use crate::cold::Root;
use crate::compress;
use crate::cors::{Cors, CorsSettings};
use crate::encoding::Coding;
use crate::file;
use crate::listing::ListingFormat;
use crate::mime;
use crate::transport::Local;

/// What may be said about a site: a `[[site]]` of the configuration file, whose mistakes
/// [`crate::file`] finds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SiteSettings {
    /// Names that it answers to, in lower case without port; `*.example.org` means every name
    /// below. None: it answers to all that no other site answers to.
    #[serde(default, deserialize_with = "file::hosts")]
    pub hosts: Vec<String>,
    /// Own addresses that it answers on; none: all.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// VLANs that it answers in; none: all.
    #[serde(default, deserialize_with = "file::vlans")]
    pub vlans: Vec<VlanStack>,
    /// The directory whose files are served; nothing outside of it is ever opened.
    pub www_root: PathBuf,
    /// Names of the file that stands for its directory, the one that is preferred first.
    #[serde(default = "usual_index", deserialize_with = "file::index")]
    pub index: Vec<String>,
    /// The file that is sent, with 200, for paths that lead to nothing (a single-page
    /// application's), relative to www-root.
    #[serde(default, deserialize_with = "file::fallback")]
    pub fallback: Option<String>,
    /// Files in place of the small pages for errors, by status, relative to www-root.
    #[serde(default, deserialize_with = "file::error_pages")]
    pub error_pages: BTreeMap<u16, String>,
    /// Serve names that begin with a dot; `.well-known` is served always (RFC 8615).
    #[serde(default)]
    pub dotfiles: bool,
    /// Media types by extension, in lower case without the dot, before the built-in ones.
    #[serde(default, deserialize_with = "file::types")]
    pub types: BTreeMap<String, String>,
    /// Fields by path; all that match are sent, of those with one name the last.
    #[serde(default)]
    pub headers: Vec<HeaderRule>,
    /// Send `X-Content-Type-Options: nosniff`.
    #[serde(default = "yes")]
    pub safe_headers: bool,
    /// How directories without an index file are listed; `None`: as `--listing` says, if at all.
    #[serde(default)]
    pub listing: Option<ListingFormat>,
    /// Answer with built-in pages, whatever www-root has under their names; `None`: as
    /// `--builtin-json` says, if at all. See [`crate::builtin`].
    #[serde(default)]
    pub builtin_json: Option<bool>,
    /// Let pages of other origins read the answers.
    #[serde(default)]
    pub cors: Option<CorsSettings>,
    /// What text is compressed with when it is loaded; `None`: what `--compress` says, if anything.
    #[serde(default, deserialize_with = "file::compress")]
    pub compress: Option<Box<[Coding]>>,
    /// Files of less octets are not; `None`: what `--compress-min-size` says.
    #[serde(default, deserialize_with = "file::size")]
    pub compress_min_size: Option<u64>,
}

fn usual_index() -> Vec<String> {
    vec!["index.html".to_owned()]
}

fn yes() -> bool {
    true
}

impl SiteSettings {
    /// A site on `www_root` that answers to everything, with nothing switched on.
    pub fn new(www_root: PathBuf) -> Self {
        Self {
            hosts: Vec::new(),
            addresses: Vec::new(),
            vlans: Vec::new(),
            www_root,
            index: usual_index(),
            fallback: None,
            error_pages: BTreeMap::new(),
            dotfiles: false,
            types: BTreeMap::new(),
            headers: Vec::new(),
            safe_headers: yes(),
            listing: None,
            builtin_json: None,
            cors: None,
            compress: None,
            compress_min_size: None,
        }
    }

    pub(crate) fn listing(&self) -> ListingFormat {
        self.listing.unwrap_or_default()
    }
}

/// Fields for the paths that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// `/assets/**` say: `*` stands for any part of a segment, `**` for any segments.
    #[serde(deserialize_with = "file::pattern")]
    pub path: String,
    /// Names and values.
    #[serde(deserialize_with = "file::fields")]
    pub set: Vec<(String, String)>,
}

/// Tells the sites of all configurations apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SiteId(u32);

/// A site, ready to serve.
#[derive(Debug)]
pub struct Site {
    /// What the cache keeps its answers under.
    pub id: SiteId,
    /// What was said about it.
    pub settings: SiteSettings,
    /// The patterns of [`SiteSettings::headers`], in their order.
    patterns: Vec<GlobMatcher>,
    /// The lines of [`SiteSettings::cors`].
    pub(crate) cors: Option<Cors>,
    /// www-root, open.
    pub(crate) root: Root,
}

impl Site {
    /// Opens www-root and compiles the patterns.
    ///
    /// # Errors
    /// [`SiteError`] says what to do.
    pub fn open(settings: SiteSettings) -> Result<Self, SiteError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = Root::open(&settings.www_root)
            .map_err(|error| SiteError::WwwRoot(settings.www_root.clone(), error))?;
        let patterns = settings.headers.iter().map(|rule| glob(&rule.path));
        let patterns = patterns.collect::<Result<_, _>>().map_err(SiteError::Pattern)?;
        let cors = settings.cors.as_ref().map(Cors::new);
        let id = SiteId(NEXT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { id, settings, patterns, cors, root })
    }

    /// The media type of the file at `path`, relative to www-root.
    pub(crate) fn content_type(&self, path: &[u8]) -> String {
        let own = mime::extension(path).to_ascii_lowercase();
        self.settings.types.get(&own).cloned().unwrap_or_else(|| mime::content_type(path))
    }

    /// What the file at `path`, relative to www-root and of so many octets, is compressed with.
    pub(crate) fn codings(&self, path: &[u8], len: u64) -> &[Coding] {
        let codings = self.text_codings(len);
        if codings.is_empty() || !compress::is_compressible(&self.content_type(path)) {
            &[]
        } else {
            codings
        }
    }

    /// What text of so many octets is compressed with.
    pub(crate) fn text_codings(&self, len: u64) -> &[Coding] {
        let small = len < self.settings.compress_min_size.unwrap_or(0);
        if small { &[] } else { self.settings.compress.as_deref().unwrap_or_default() }
    }

    /// The lines of the fields that answers with the file at `path`, relative to www-root, have
    /// because this site says so.
    pub(crate) fn fields(&self, path: &[u8]) -> String {
        let path = format!("/{}", String::from_utf8_lossy(path));
        let mut fields: Vec<(&str, &str)> = Vec::new();
        if self.settings.safe_headers {
            fields.push(("X-Content-Type-Options", "nosniff"));
        }
        for (rule, pattern) in self.settings.headers.iter().zip(&self.patterns) {
            if pattern.is_match(&path) {
                for (name, value) in &rule.set {
                    fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                    fields.push((name, value));
                }
            }
        }
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
    }

    /// Whether `path`, relative to www-root, has a name that is not shown to anybody.
    pub(crate) fn hides(&self, path: &[u8]) -> bool {
        let hidden = |(at, segment): (usize, &[u8])| {
            // Where dots lead is not a matter of names, but of the way beneath www-root.
            let named = segment.first() == Some(&b'.') && !matches!(segment, b"." | b"..");
            named && !(at == 0 && segment == b".well-known")
        };
        !self.settings.dotfiles && path.split(|&octet| octet == b'/').enumerate().any(hidden)
    }
}

/// A site cannot be made; the text says what to do.
#[derive(Debug)]
pub enum SiteError {
    /// www-root cannot be opened.
    WwwRoot(PathBuf, io::Error),
    /// What is no pattern for paths, and why.
    Pattern(String),
    /// There is no site.
    Nothing,
}

impl fmt::Display for SiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, error) = match self {
            Self::WwwRoot(path, error) => (path.display(), error),
            Self::Pattern(text) => return f.write_str(text),
            Self::Nothing => return f.write_str("there is no site; name one with a www-root"),
        };
        write!(f, "www-root {path} cannot be read: {error}; ")?;
        match error.kind() {
            io::ErrorKind::NotFound => f.write_str("create or mount it, or name another one"),
            io::ErrorKind::Unsupported => f.write_str("openat2(2) needs Linux 5.6"),
            _ => {
                let user = rustix::process::geteuid().as_raw();
                write!(f, "make it a directory that user {user} may read")?;
                // Who is root does not expect it.
                if user == 0 {
                    f.write_str(": it gives up what root may beyond that")
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl std::error::Error for SiteError {}

/// All sites of a configuration, at least one.
#[derive(Debug)]
pub struct Sites {
    first: Arc<Site>,
    others: Vec<Arc<Site>>,
}

impl Sites {
    /// Opens the sites. Those of `before` whose settings are the same, and whose www-root is still
    /// the directory it was, stay as they are, and so what the cache has of them.
    ///
    /// # Errors
    /// There is none, or one cannot be opened.
    pub fn open(all: &[SiteSettings], before: Option<&Self>) -> Result<Self, SiteError> {
        let (first, others) = all.split_first().ok_or(SiteError::Nothing)?;
        let open = |settings: &SiteSettings| {
            let site = Site::open(settings.clone())?;
            let same = |known: &&Arc<Site>| {
                known.settings == site.settings && known.root.is_same(&site.root)
            };
            let known = before.and_then(|before| before.iter().find(same));
            Ok(known.cloned().unwrap_or_else(|| Arc::new(site)))
        };
        Ok(Self { first: open(first)?, others: others.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// All of them in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Site>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Whether any has pages that are built in.
    pub(crate) fn have_builtin(&self) -> bool {
        self.iter().any(|site| site.settings.builtin_json == Some(true))
    }

    /// The site that answers at `local` to `host`, which is as the request has it: a whole name goes
    /// before a pattern, a longer pattern before a shorter one, both before a site without names; on
    /// one address a site that names it before one that does not, and so in one VLAN. If no name
    /// fits, the same holds among those at the address; if none is at the address, the first site
    /// answers that is not kept to other VLANs ([`check_vlans`] sees to it that there is one).
    pub fn pick(&self, local: impl FnOnce() -> Local, host: Option<&[u8]>) -> &Arc<Site> {
        if self.others.is_empty() {
            return &self.first;
        }
        let (local, name) = (local(), host.map(host_name).unwrap_or_default());
        let mut best: Option<(&Arc<Site>, _)> = None;
        for site in self.iter() {
            let settings = &site.settings;
            let in_vlan = settings.vlans.contains(&local.vlan);
            if !in_vlan && !settings.vlans.is_empty() {
                continue;
            }
            let at_address = settings.addresses.contains(&local.address);
            let answers = at_address || settings.addresses.is_empty();
            // What does not answer at the address comes after all that does.
            let rank = answers.then(|| (settings.match_len(name), at_address, in_vlan));
            if best.is_none_or(|(_, known)| rank > known) {
                best = Some((site, rank));
            }
        }
        best.map_or(&self.first, |(site, _)| site)
    }
}

/// Checks that the sites are kept to VLANs that are `served`, and that each of those has one.
///
/// # Errors
/// The site that is to blame by its place, if it is one, and what to do.
pub fn check_vlans(
    sites: &[SiteSettings],
    served: &[VlanStack],
) -> Result<(), (Option<usize>, String)> {
    for (at, site) in sites.iter().enumerate() {
        if let Some(vlan) = site.vlans.iter().find(|vlan| !served.contains(vlan)) {
            let served: Vec<_> = served.iter().map(VlanStack::to_string).collect();
            let served = served.join(", ");
            return Err((
                Some(at),
                format!("VLAN {vlan} is not served; name one that is: {served}"),
            ));
        }
    }
    let has_site = |vlan: &VlanStack| {
        sites.iter().any(|site| site.vlans.is_empty() || site.vlans.contains(vlan))
    };
    match served.iter().find(|vlan| !has_site(vlan)) {
        Some(vlan) => Err((
            None,
            format!(
                "all sites are kept to other VLANs than {vlan}; add it to one, or a site for it"
            ),
        )),
        None => Ok(()),
    }
}

impl SiteSettings {
    /// What both of them would answer to alike.
    pub(crate) fn rivals(&self, other: &Self) -> Option<String> {
        /// Whether what both are kept to has something in common, and neither goes before.
        fn meet<T: PartialEq>(one: &[T], other: &[T]) -> bool {
            one.is_empty() && other.is_empty() || one.iter().any(|it| other.contains(it))
        }
        if !meet(&self.addresses, &other.addresses) || !meet(&self.vlans, &other.vlans) {
            return None;
        }
        match (self.hosts.is_empty(), other.hosts.is_empty()) {
            (true, true) => Some("every name".to_owned()),
            _ => self.hosts.iter().find(|host| other.hosts.contains(host)).cloned(),
        }
    }

    /// What is said twice, and not alike.
    pub(crate) fn contradicts_itself(&self) -> Option<String> {
        self.cors.as_ref()?;
        let of_cors = |name: &str| name.to_ascii_lowercase().starts_with("access-control-");
        let mut set = self.headers.iter().flat_map(|rule| &rule.set);
        let (name, _) = set.find(|(name, _)| of_cors(name))?;
        Some(format!("{name} is set by [site.cors] and by [[site.headers]]; leave one out"))
    }

    /// How well `name` fits: 0 not at all, 1 as any name does, more the more of it is named.
    fn match_len(&self, name: &[u8]) -> usize {
        if self.hosts.is_empty() {
            return 1;
        }
        let fit = |host: &String| match host.as_bytes() {
            [b'*', suffix @ ..] => match name.len().checked_sub(suffix.len()) {
                Some(at @ 1..) if name[at..].eq_ignore_ascii_case(suffix) => 1 + suffix.len(),
                _ => 0,
            },
            host if host.eq_ignore_ascii_case(name) => usize::MAX,
            _ => 0,
        };
        self.hosts.iter().map(fit).max().unwrap_or(0)
    }
}

/// Compiles a pattern for paths.
///
/// # Errors
/// It is none; the text says why.
pub(crate) fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| format!("{pattern:?} is no pattern: {}", error.kind()))
}

/// The name in a Host field: without port and final dot, in the letters that it was sent in.
fn host_name(host: &[u8]) -> &[u8] {
    // An IPv6 address in its brackets has colons of its own.
    let end = match host.iter().position(|&octet| octet == b']') {
        Some(bracket) => bracket + 1,
        None => host.iter().position(|&octet| octet == b':').unwrap_or(host.len()),
    };
    host[..end].strip_suffix(b".").unwrap_or(&host[..end])
}

#[cfg(test)]
impl Site {
    pub(crate) fn for_tests() -> Self {
        Self::open(SiteSettings::new("/".into())).expect("there is a root")
    }
}

#[cfg(test)]
impl SiteId {
    pub(crate) const fn for_tests() -> Self {
        Self(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_sites() {
        let root = tempfile::TempDir::new().unwrap();
        let site = |hosts: &[&str], addresses: &[&str]| SiteSettings {
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..SiteSettings::new(root.path().to_owned())
        };
        let all = [
            site(&["main"], &[]),
            site(&["a.example"], &[]),
            site(&["*.example"], &[]),
            site(&["*.b.example", "[fd00::1]"], &[]),
            site(&["a.example"], &["10.0.0.2"]),
            site(&[], &["10.0.0.3"]),
        ];
        let sites = Sites::open(&all, None).unwrap();
        for (local, host, expected) in [
            ("10.0.0.1", "main", 0),
            ("10.0.0.1", "a.example", 1),
            ("10.0.0.1", "A.EXAMPLE:80", 1),
            ("10.0.0.1", "a.example.", 1),
            ("10.0.0.1", "x.example", 2),
            ("10.0.0.1", "b.example", 2),
            ("10.0.0.1", "x.b.example", 3),
            ("10.0.0.1", "[fd00::1]:8080", 3),
            ("10.0.0.1", ".example", 0),
            ("10.0.0.1", "unknown", 0),
            ("10.0.0.1", "", 0),
            ("10.0.0.2", "a.example", 4),
            ("10.0.0.3", "unknown", 5),
            ("10.0.0.3", "a.example", 1),
        ] {
            let at = || Local { vlan: VlanStack::UNTAGGED, address: local.parse().unwrap() };
            let picked = sites.pick(at, Some(host.as_bytes()));
            let place = sites.iter().position(|site| Arc::ptr_eq(site, picked));
            assert_eq!(place, Some(expected), "{host} on {local}");
        }
    }

    #[test]
    fn vlans_lead_to_sites_and_never_to_those_of_others() {
        let root = tempfile::TempDir::new().unwrap();
        let vlan = |text: &&str| text.parse::<VlanStack>().unwrap();
        let site = |hosts: &[&str], addresses: &[&str], vlans: &[&str]| SiteSettings {
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            vlans: vlans.iter().map(vlan).collect(),
            ..SiteSettings::new(root.path().to_owned())
        };
        let all = [
            site(&["a"], &[], &["5"]),
            site(&[], &["10.0.0.2"], &["5", "100.200"]),
            site(&["a"], &[], &["0", "7"]),
            site(&["a"], &["10.0.0.2"], &[]),
            site(&["b"], &[], &[]),
            site(&["b"], &[], &["7"]),
        ];
        let sites = Sites::open(&all, None).unwrap();
        for (at, address, host, expected) in [
            ("5", "10.0.0.1", "a", 0),
            ("5", "10.0.0.1", "x", 0),
            ("5", "10.0.0.2", "x", 1),
            ("5", "10.0.0.2", "a", 3),
            ("100.200", "10.0.0.2", "x", 1),
            ("100.200", "10.0.0.1", "x", 4),
            ("100.200", "10.0.0.1", "a", 4),
            ("0", "10.0.0.1", "a", 2),
            ("0", "10.0.0.2", "a", 3),
            ("7", "10.0.0.1", "x", 2),
            ("5", "10.0.0.1", "b", 4),
            ("7", "10.0.0.1", "b", 5),
            ("100", "10.0.0.1", "a", 4),
        ] {
            let local = || Local { vlan: vlan(&at), address: address.parse().unwrap() };
            let picked = sites.pick(local, Some(host.as_bytes()));
            let place = sites.iter().position(|site| Arc::ptr_eq(site, picked));
            assert_eq!(place, Some(expected), "{host} on {address} in {at}");
        }
        // Where no site is at the address, one of the VLAN's answers.
        let kept = [site(&["a"], &[], &["5"]), site(&["a"], &["10.0.0.2"], &["7"])];
        let sites = Sites::open(&kept, None).unwrap();
        let local = || Local { vlan: vlan(&"7"), address: [10, 0, 0, 1].into() };
        assert!(Arc::ptr_eq(sites.pick(local, Some(b"a")), &sites.others[0]));

        let check =
            |served: &[&str]| check_vlans(&kept, &served.iter().map(vlan).collect::<Vec<_>>());
        assert_eq!(check(&["5", "7"]), Ok(()));
        let (at, said) = check(&["5", "8"]).unwrap_err();
        assert!(at == Some(1) && said.contains("name one that is: 5, 8"), "{said}");
        let (at, said) = check(&["5", "8", "7"]).unwrap_err();
        assert!(at.is_none() && said.contains("other VLANs than 8"), "{said}");
        // Two that could not be told apart.
        let both = [site(&["a"], &[], &["5", "6"]), site(&["a"], &[], &["6", "7"])];
        assert_eq!(both[0].rivals(&both[1]).as_deref(), Some("a"));
        assert_eq!(kept[0].rivals(&kept[1]), None);
        assert_eq!(all[0].rivals(&all[2]), None);
    }

    #[test]
    fn a_reload_keeps_what_is_the_same() {
        let root = tempfile::TempDir::new().unwrap();
        let www = root.path().join("www");
        std::fs::create_dir(&www).unwrap();
        let plain = SiteSettings::new(www.clone());
        let other = SiteSettings { dotfiles: true, ..plain.clone() };
        let before = Sites::open(&[plain.clone(), other.clone()], None).unwrap();
        let after = Sites::open(&[other, plain.clone()], Some(&before)).unwrap();
        assert!(Arc::ptr_eq(&before.first, &after.others[0]));
        assert!(Arc::ptr_eq(&after.first, &before.others[0]));
        // Another directory under the old name.
        std::fs::rename(&www, root.path().join("old")).unwrap();
        std::fs::create_dir(&www).unwrap();
        let moved = Sites::open(&[plain], Some(&before)).unwrap();
        assert!(before.iter().all(|site| site.id != moved.first.id));
    }

    #[test]
    fn fields_by_path() {
        let rule = |path: &str, name: &str, value: &str| HeaderRule {
            path: path.to_owned(),
            set: vec![(name.to_owned(), value.to_owned())],
        };
        let headers = vec![
            rule("/**", "Cache-Control", "no-cache"),
            rule("/assets/**", "cache-control", "max-age=9"),
            rule("/*.html", "X-Frame-Options", "DENY"),
        ];
        let site = Site::open(SiteSettings { headers, ..SiteSettings::new("/".into()) }).unwrap();
        let nosniff = "X-Content-Type-Options: nosniff\r\n";
        for (path, expected) in [
            ("a", "Cache-Control: no-cache\r\n"),
            ("assets/a/b", "cache-control: max-age=9\r\n"),
            ("a.html", "Cache-Control: no-cache\r\nX-Frame-Options: DENY\r\n"),
            ("a/b.html", "Cache-Control: no-cache\r\n"),
        ] {
            assert_eq!(site.fields(path.as_bytes()), format!("{nosniff}{expected}"), "{path}");
        }
    }

    #[test]
    fn types_and_hidden_names() {
        let types = [("x".to_owned(), "application/x".to_owned())].into();
        let mut site = Site::open(SiteSettings { types, ..SiteSettings::new("/".into()) }).unwrap();
        assert_eq!(site.content_type(b"a/b.X"), "application/x");
        assert_eq!(site.content_type(b"a/b.css"), "text/css; charset=utf-8");
        for (path, hidden) in [
            (".env", true),
            ("a/.git/config", true),
            (".well-known/acme", false),
            ("a/.well-known/x", true),
            (".well-known/.x", true),
            ("a.b/c", false),
            ("", false),
        ] {
            assert_eq!(site.hides(path.as_bytes()), hidden, "{path}");
        }
        site.settings.dotfiles = true;
        assert!(!site.hides(b".env"));
    }
}
