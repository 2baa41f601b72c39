//! The configuration file: TOML, in four parts.
//!
//! - `[serve]`: the options of `tagwire serve` by their long names. What is given on the command
//!   line or in the environment goes before it.
//! - `[limits]`: those under "Limits", which may stand here by themselves.
//! - `[[vlan]]`: a VLAN, by the options that describe one, and `id` in place of `vlan`. Where there
//!   are such, these options are nowhere else.
//! - `[[site]]`: what is served, see [`SiteSettings`]; the first one answers where no other does.
//!
//! Every mistake is an error that names its line: a key that is unknown as well as a value that
//! makes no sense.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use tagwire_netstack::VlanStack;
use toml::Spanned;

use crate::compress::parse_codings;
use crate::config::{parse_size, parse_vlan};
use crate::encoding::Coding;
use crate::limits::MAX_SITES;
use crate::site::SiteSettings;

/// What a configuration file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Options of `tagwire serve`, in the order of their names.
    pub serve: Vec<Given>,
    /// Those that stand as limits.
    pub limits: Vec<Given>,
    /// VLANs; none, where options say which the only one is.
    pub vlans: Vec<Table>,
    /// What is served; may be empty, where `--www-root` says it.
    pub sites: Vec<SiteSettings>,
    /// Their lines.
    pub site_lines: Vec<usize>,
}

/// What is said about one of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// In the order of their names.
    pub options: Vec<Given>,
    /// Line of the file.
    pub line: usize,
}

/// An option with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Long name.
    pub name: String,
    /// As they would be written on the command line.
    pub values: Vec<String>,
    /// Line of the file.
    pub line: usize,
}

/// A mistake, in one line: where it is, what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// Line of the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for FileError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    serve: Options,
    #[serde(default)]
    vlan: Vec<Spanned<Options>>,
    #[serde(default)]
    limits: Options,
    #[serde(default)]
    site: Vec<Spanned<SiteSettings>>,
}

type Options = BTreeMap<Spanned<String>, Values>;

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a text in quotes, a whole number, true or false, or a list of these"
)]
enum Values {
    One(Scalar),
    Many(Vec<Scalar>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text in quotes, a whole number, true or false")]
enum Scalar {
    Text(String),
    Number(i64),
    Switch(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Switch(switch) => switch.fmt(f),
        }
    }
}

/// Reads a configuration file.
///
/// # Errors
/// [`FileError`] for the first mistake.
pub fn parse(text: &str) -> Result<File, FileError> {
    let at = |span: Option<Range<usize>>| {
        let end = span.map_or(text.len(), |span| span.start.min(text.len()));
        1 + text.as_bytes()[..end].iter().filter(|&&octet| octet == b'\n').count()
    };
    let document: Document = toml::from_str(text).map_err(|error| FileError {
        line: at(error.span()),
        message: error.message().trim().replace('\n', " "),
    })?;
    let given = |(name, values): (Spanned<String>, Values)| Given {
        line: at(Some(name.span())),
        name: name.into_inner(),
        values: match values {
            Values::One(value) => vec![value.to_string()],
            Values::Many(values) => values.iter().map(Scalar::to_string).collect(),
        },
    };
    let vlans = document.vlan.into_iter().map(|table| Table {
        line: at(Some(table.span())),
        options: table.into_inner().into_iter().map(given).collect(),
    });
    let vlans = vlans.collect();
    let serve: Vec<_> = document.serve.into_iter().map(given).collect();
    let limits: Vec<_> = document.limits.into_iter().map(given).collect();
    if let Some(twice) = limits.iter().find(|limit| serve.iter().any(|it| it.name == limit.name)) {
        let message = format!("{} stands in [serve] already; leave one of them out", twice.name);
        return Err(FileError { line: twice.line, message });
    }
    let (mut sites, mut site_lines): (Vec<SiteSettings>, Vec<usize>) = Default::default();
    for table in document.site {
        let line = at(Some(table.span()));
        let site = table.into_inner();
        // The second of two that want the same could never be asked.
        let rival = sites.iter().find_map(|other| other.rivals(&site));
        if let Some(what) = rival {
            return Err(FileError { line, message: format!("{what} has a site already") });
        }
        if let Some(message) = site.contradicts_itself() {
            return Err(FileError { line, message });
        }
        sites.push(site);
        site_lines.push(line);
        if sites.len() > MAX_SITES {
            return Err(FileError { line, message: format!("more than {MAX_SITES} sites") });
        }
    }
    Ok(File { serve, limits, vlans, sites, site_lines })
}

/// Each of a list, through `check`.
pub(crate) fn each<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    check: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| check(text).map_err(D::Error::custom)).collect()
}

/// Each pair of a table, through `check`.
fn each_pair<'de, D: Deserializer<'de>, T, C: FromIterator<T>>(
    deserializer: D,
    check: impl Fn((String, String)) -> Result<T, String>,
) -> Result<C, D::Error> {
    let pairs = BTreeMap::<String, String>::deserialize(deserializer)?;
    pairs.into_iter().map(check).collect::<Result<_, _>>().map_err(D::Error::custom)
}

pub(crate) fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    each(deserializer, |text| {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let fit = |octet: u8| octet.is_ascii_alphanumeric() || b"-._[]:".contains(&octet);
        let port = !name.contains('[') && name.contains(':');
        if name.is_empty() || port || !name.bytes().all(fit) {
            return Err(format!(
                "{text:?} is no host; write a name, *.name or an address, no port"
            ));
        }
        Ok(text.trim_end_matches('.').to_ascii_lowercase())
    })
}

pub(crate) fn vlans<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<VlanStack>, D::Error> {
    let vlans = Vec::<Scalar>::deserialize(deserializer)?;
    vlans.iter().map(|vlan| parse_vlan(&vlan.to_string()).map_err(D::Error::custom)).collect()
}

/// A file's name within a directory.
pub(crate) fn index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    each(deserializer, |text| {
        if text.contains('/') {
            return Err(format!("{text:?} is no name of a file; leave out the directory"));
        }
        beneath(text)
    })
}

pub(crate) fn fallback<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    beneath(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

pub(crate) fn error_pages<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<u16, String>, D::Error> {
    each_pair(deserializer, |(status, path)| {
        let code = status.parse().ok().filter(|code| (400..600).contains(code));
        let code =
            code.ok_or_else(|| format!("{status:?} is no status of an error, 400 to 599"))?;
        Ok((code, beneath(&path)?))
    })
}

/// A path within www-root.
fn beneath(text: &str) -> Result<String, String> {
    let path = text.strip_prefix('/').unwrap_or(text);
    let normal = !path.split('/').any(|segment| matches!(segment, "" | "." | ".."));
    if normal && !path.bytes().any(|octet| octet < 0x20 || octet == 0x7f) {
        Ok(path.to_owned())
    } else {
        Err(format!("{text:?} is no file beneath www-root; write it as errors/404.html"))
    }
}

pub(crate) fn compress<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<[Coding]>>, D::Error> {
    parse_codings(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

pub(crate) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let size = Scalar::deserialize(deserializer)?.to_string();
    parse_size(&size).map(Some).map_err(D::Error::custom)
}

pub(crate) fn types<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    each_pair(deserializer, |(extension, media)| {
        let essence = media.split(';').next().unwrap_or_default().trim_end();
        let fit =
            essence.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub));
        if !fit || !is_field_value(&media) {
            return Err(format!("{media:?} is no media type; write it as text/plain"));
        }
        let extension = extension.strip_prefix('.').unwrap_or(&extension).to_ascii_lowercase();
        Ok((extension, media))
    })
}

pub(crate) fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if !text.starts_with('/') {
        return Err(D::Error::custom(format!("{text:?} must begin with /")));
    }
    crate::site::glob(&text).map_err(D::Error::custom)?;
    Ok(text)
}

pub(crate) fn fields<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, String)>, D::Error> {
    /// What frames a message, or is ours to know.
    const OWN: [&str; 12] = [
        "accept-ranges",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    each_pair(deserializer, |(name, value)| {
        if !is_token(&name) {
            Err(format!("{name:?} is no name of a field"))
        } else if OWN.iter().any(|own| own.eq_ignore_ascii_case(&name)) {
            Err(format!("{name} is set by the server itself; leave it out"))
        } else if is_field_value(&value) {
            Ok((name, value.trim().to_owned()))
        } else {
            Err(format!("the value of {name} has octets that no field may have"))
        }
    })
}

/// RFC 9110 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let fit = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
    !text.is_empty() && text.bytes().all(fit)
}

/// RFC 9110 5.5, visible ASCII only.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b'\t' | b' '..=b'~'))
}

/// Any octets: no panic, and the line that a mistake names exists.
pub fn fuzz_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = parse(text) {
        assert!((1..=text.lines().count() + 1).contains(&error.line), "{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[serve]
interface = "macvlan0"
vlan = 123
address = ["192.168.123.150/24", "fd00::150/64"]
slaac = true

[[site]]
www-root = "/www"
index = ["index.html", "index.htm"]
fallback = "/app/index.html"
error-pages = { 404 = "errors/404.html" }
types = { ".WASM" = "application/wasm" }

[[site.headers]]
path = "/assets/**"
set = { Cache-Control = "public, max-age=31536000, immutable" }

[[site]]
hosts = ["Example.org", "*.example.org"]
www-root = "/other"
dotfiles = true
compress = "br, gzip"
compress-min-size = 4096

[site.cors]
origins = ["https://app.example"]
credentials = true
"#;

    #[test]
    fn all_parts() {
        let file = parse(GOOD).unwrap();
        let serve: Vec<_> = file
            .serve
            .iter()
            .map(|given| (given.line, &*given.name, given.values.join(" ")))
            .collect();
        assert_eq!(
            serve,
            [
                (5, "address", "192.168.123.150/24 fd00::150/64".to_owned()),
                (3, "interface", "macvlan0".to_owned()),
                (6, "slaac", "true".to_owned()),
                (4, "vlan", "123".to_owned()),
            ]
        );
        let [first, second] = &file.sites[..] else { panic!("two sites") };
        assert_eq!(first.fallback.as_deref(), Some("app/index.html"));
        assert_eq!(first.error_pages[&404], "errors/404.html");
        assert_eq!(first.types["wasm"], "application/wasm");
        assert_eq!(first.headers[0].set[0].0, "Cache-Control");
        assert_eq!(second.hosts, ["example.org", "*.example.org"]);
        assert!(second.dotfiles && !first.dotfiles);
        assert_eq!(second.compress.as_deref(), Some(&[Coding::Brotli, Coding::Gzip][..]));
        assert_eq!((second.compress_min_size, first.compress_min_size), (Some(4096), None));
        assert_eq!(parse(""), Ok(File::default()));
    }

    #[test]
    fn vlans() {
        let text = "\n[[vlan]]\nid = \"100.200\"\npcp = 5\n[[vlan]]\nid = 7\n";
        let vlans = parse(text).unwrap().vlans;
        let given = |name: &str, value: &str, line| Given {
            name: name.to_owned(),
            values: vec![value.to_owned()],
            line,
        };
        let tables = [
            Table { options: vec![given("id", "100.200", 3), given("pcp", "5", 4)], line: 2 },
            Table { options: vec![given("id", "7", 6)], line: 5 },
        ];
        assert_eq!(vlans, tables);
        let kept = "[[site]]\nvlans = [5, \"100.200\", \"none\"]\nwww-root = \"/\"";
        let texts: Vec<_> =
            parse(kept).unwrap().sites[0].vlans.iter().map(|it| it.to_string()).collect();
        assert_eq!(texts, ["5", "100.200", "0"]);
        for (wrong, part) in [("4095", "is no VLAN ID"), ("1.5", "a whole number")] {
            let error = parse(&kept.replace("5,", &format!("{wrong},"))).unwrap_err();
            assert!(error.line == 2 && error.message.contains(part), "{error}");
        }
        let error = parse("[[vlan]]\n\nid = 100.200").unwrap_err();
        assert!(error.line == 3 && error.message.contains("a text in quotes"), "{error}");
    }

    #[test]
    fn a_mistake_names_its_line() {
        for (line, with, part) in [
            (4, "vlan = \"123", "invalid basic string"),
            (4, "vlan = 1.5", "a whole number"),
            (9, "www_root = \"/www\"", "unknown field `www_root`"),
            (10, "index = [\"a/b\"]", "leave out the directory"),
            (11, "fallback = \"../x\"", "beneath www-root"),
            (12, "error-pages = { 200 = \"x\" }", "no status of an error"),
            (13, "types = { x = \"text\" }", "no media type"),
            (16, "path = \"assets\"", "begin with /"),
            (16, "path = \"/a[\"", "pattern"),
            (17, "set = { Date = \"now\" }", "by the server itself"),
            (17, "set = { \"A B\" = \"x\" }", "no name of a field"),
            (17, "set = { A = \"x\\ny\" }", "no field may have"),
            (20, "hosts = [\"a:80\"]", "no host"),
            (22, "dotfiles = 1", "invalid type"),
            (23, "compress = \"brotli\"", "is no coding"),
            (24, "compress-min-size = \"1.5k\"", "is no size"),
            (24, "compress-min-size = []", "a whole number"),
            (27, "origins = [\"app.example\"]", "is no origin"),
            (27, "origin = \"*\"", "unknown field `origin`"),
        ] {
            let mut lines: Vec<_> = GOOD.lines().collect();
            lines[line - 1] = with;
            let error = parse(&lines.join("\n")).unwrap_err();
            assert_eq!(error.line, line, "{with}: {error}");
            assert!(error.message.contains(part), "{with}: {error}");
            assert!(!error.message.contains('\n'), "{error}");
        }
        let without = parse(&GOOD.replace("www-root = \"/www\"", "")).unwrap_err();
        assert_eq!((without.line, &*without.message), (8, "missing field `www-root`"));
        let error = parse(&GOOD.replace("[\"https://app.example\"]", "\"*\"")).unwrap_err();
        assert!(error.line == 26 && error.message.contains("name the origins"), "{error}");
        let set = "[[site.headers]]\npath = \"/**\"\nset = { access-control-max-age = \"9\" }\n";
        let error = parse(&format!("{GOOD}{set}")).unwrap_err();
        assert!(error.line == 19 && error.message.contains("by [site.cors] and by"), "{error}");
        let twice = format!("{GOOD}\n[[site]]\nhosts = [\"example.ORG\"]\nwww-root = \"/x\"\n");
        let error = parse(&twice).unwrap_err();
        assert!(error.line == 30 && error.message == "example.org has a site already", "{error}");
    }
}
