//! Which pages of other origins a browser lets read a site's answers: the CORS protocol of the
//! Fetch standard (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! A browser sends `Origin`, and gives the answer to the page if `Access-Control-Allow-Origin`
//! names that origin, or every one. What it would not send by itself, other fields say, it asks
//! for first: the preflight, an OPTIONS with `Access-Control-Request-Method`. All lines are made
//! when a site is opened; a request finds those for its origin.

use std::fmt::Write;

use httparse::Header;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::file::{each, is_token};

/// What may be said about pages of other origins: `[site.cors]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub struct CorsSettings {
    origins: Origins,
    methods: Vec<String>,
    allow_headers: Vec<String>,
    expose_headers: Vec<String>,
    max_age: Option<u32>,
    credentials: bool,
}

impl CorsSettings {
    /// Any page may read, and no more than that.
    pub fn for_every_origin() -> Self {
        Self {
            origins: Origins::Every,
            methods: served(),
            allow_headers: Vec::new(),
            expose_headers: Vec::new(),
            max_age: None,
            credentials: false,
        }
    }
}

/// [`CorsSettings`] before what concerns more than one key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    /// Origins as browsers write them, or `*` for every one.
    #[serde(deserialize_with = "origins")]
    origins: Origins,
    /// Methods that pages may use.
    #[serde(default = "served", deserialize_with = "methods")]
    methods: Vec<String>,
    /// Fields that pages may send, besides those that they may anyway.
    #[serde(default, deserialize_with = "names")]
    allow_headers: Vec<String>,
    /// Fields that pages may read, likewise.
    #[serde(default, deserialize_with = "names")]
    expose_headers: Vec<String>,
    /// Seconds for which a browser may keep the answer to a preflight; 5 if nothing is said.
    max_age: Option<u32>,
    /// Let pages use what the browser knows its user by: cookies, certificates.
    #[serde(default)]
    credentials: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origins {
    Every,
    These(Vec<String>),
}

const SERVED: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

fn served() -> Vec<String> {
    SERVED.map(str::to_owned).into()
}

impl TryFrom<Table> for CorsSettings {
    type Error = &'static str;

    fn try_from(table: Table) -> Result<Self, &'static str> {
        let Table { origins, methods, allow_headers, expose_headers, max_age, credentials } = table;
        // Browsers refuse the first, and take the star of the others for a name.
        let stars = [&allow_headers, &expose_headers];
        if credentials && origins == Origins::Every {
            return Err(
                "credentials for every origin would hand each user's data to any page, and \
                        browsers refuse it; name the origins",
            );
        }
        if credentials && stars.iter().any(|names| names.iter().any(|name| name == "*")) {
            return Err("with credentials \"*\" is no list of fields to a browser; name them");
        }
        Ok(Self { origins, methods, allow_headers, expose_headers, max_age, credentials })
    }
}

fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Origins, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a list of origins, or \"*\" for every one")]
    enum Said {
        One(String),
        Many(Vec<String>),
    }
    let said = match Said::deserialize(deserializer)? {
        Said::One(text) => vec![text],
        Said::Many(texts) => texts,
    };
    match &said[..] {
        [] => Err(D::Error::custom("no origin is named; leave [site.cors] out, or name some")),
        [every] if every == "*" => Ok(Origins::Every),
        texts => {
            let checked = texts.iter().map(|text| origin(text).map_err(D::Error::custom));
            Ok(Origins::These(checked.collect::<Result<_, _>>()?))
        }
    }
}

/// An origin as browsers write it: scheme and host in lower case, the port if it is not the
/// scheme's own (RFC 6454 6.2).
fn origin(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let (scheme, host) = lower.split_once("://").unwrap_or_default();
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._:[]".contains(&octet);
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "/",
    };
    if scheme.is_empty() || host.is_empty() || !host.bytes().all(plain) {
        Err(format!("{text:?} is no origin; write it as https://app.example, without a path"))
    } else if host.ends_with(usual) {
        Err(format!("{text:?} has its scheme's own port, which no browser sends; leave it out"))
    } else {
        Ok(lower)
    }
}

fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    each(deserializer, |text| match SERVED.iter().find(|known| **known == text) {
        Some(known) => Ok((*known).to_owned()),
        None => Err(format!("{text:?} is not served; name some of {}", SERVED.join(", "))),
    })
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    each(deserializer, |text| match is_token(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no name of a field")),
    })
}

/// The lines of a site's answers, ready to send.
#[derive(Debug)]
pub(crate) struct Cors {
    /// Whoever asks gets the first of the grants, also who names no origin.
    every: bool,
    grants: Vec<Grant>,
}

/// What goes to one origin.
#[derive(Debug)]
struct Grant {
    origin: Box<str>,
    /// In each answer.
    answer: Box<str>,
    /// In the answer to a preflight.
    preflight: Box<str>,
}

/// The answers differ by origin, which caches must know also where there is none.
const VARY: &str = "Vary: Origin\r\n";

impl Cors {
    pub(crate) fn new(settings: &CorsSettings) -> Self {
        let every = settings.origins == Origins::Every;
        let grants = match &settings.origins {
            Origins::Every => vec![Grant::new(settings, "*", "")],
            Origins::These(origins) => {
                origins.iter().map(|origin| Grant::new(settings, origin, VARY)).collect()
            }
        };
        Self { every, grants }
    }

    /// The lines of an answer to a request with these fields.
    pub(crate) fn answer(&self, fields: &[Header<'_>]) -> &[u8] {
        self.grant(fields).map_or(VARY, |grant| &grant.answer).as_bytes()
    }

    /// The lines of the answer to an OPTIONS with these fields, if it is a preflight.
    pub(crate) fn preflight(&self, fields: &[Header<'_>]) -> Option<&[u8]> {
        value(fields, "origin").and(value(fields, "access-control-request-method"))?;
        Some(self.grant(fields).map_or(VARY, |grant| &grant.preflight).as_bytes())
    }

    fn grant(&self, fields: &[Header<'_>]) -> Option<&Grant> {
        if self.every {
            return self.grants.first();
        }
        let origin = value(fields, "origin")?;
        self.grants.iter().find(|grant| grant.origin.as_bytes() == origin)
    }
}

impl Grant {
    fn new(settings: &CorsSettings, origin: &str, vary: &str) -> Self {
        let mut both = format!("Access-Control-Allow-Origin: {origin}\r\n{vary}");
        if settings.credentials {
            both.push_str("Access-Control-Allow-Credentials: true\r\n");
        }
        let list = |name: &str, items: &[String]| match items {
            [] => String::new(),
            items => format!("Access-Control-{name}: {}\r\n", items.join(", ")),
        };
        let answer = both.clone() + &list("Expose-Headers", &settings.expose_headers);
        let mut preflight = both
            + &list("Allow-Methods", &settings.methods)
            + &list("Allow-Headers", &settings.allow_headers);
        if let Some(seconds) = settings.max_age {
            // Writing to a String does not fail.
            let _ = write!(preflight, "Access-Control-Max-Age: {seconds}\r\n");
        }
        Self { origin: origin.into(), answer: answer.into(), preflight: preflight.into() }
    }
}

fn value<'b>(fields: &[Header<'b>], name: &str) -> Option<&'b [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<CorsSettings, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    fn cors(text: &str) -> Cors {
        Cors::new(&settings(text).unwrap())
    }

    fn answer(cors: &Cors, fields: &[(&str, &str)], preflight: bool) -> Option<String> {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        let lines = if preflight { cors.preflight(&fields) } else { Some(cors.answer(&fields)) };
        lines.map(|lines| String::from_utf8(lines.to_vec()).unwrap())
    }

    #[test]
    fn every_origin_gets_the_same_lines() {
        let cors = cors("origins = \"*\"\nexpose-headers = [\"ETag\", \"Content-Range\"]\n");
        let lines = "Access-Control-Allow-Origin: *\r\n\
                     Access-Control-Expose-Headers: ETag, Content-Range\r\n";
        for fields in [&[][..], &[("Origin", "https://any.example")]] {
            assert_eq!(answer(&cors, fields, false).unwrap(), lines);
        }
        let asks = [("Origin", "null"), ("Access-Control-Request-Method", "GET")];
        assert_eq!(
            answer(&cors, &asks, true).unwrap(),
            "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n"
        );
    }

    #[test]
    fn an_origin_of_the_list_gets_its_own() {
        let cors = cors(
            "origins = [\"https://A.example\", \"http://b.example:8080\"]\nmethods = [\"GET\"]\n\
             allow-headers = [\"X-Token\"]\nmax-age = 600\ncredentials = true\n",
        );
        let both = |origin: &str| {
            format!(
                "Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n\
                 Access-Control-Allow-Credentials: true\r\n"
            )
        };
        for origin in ["https://a.example", "http://b.example:8080"] {
            assert_eq!(answer(&cors, &[("origin", origin)], false).unwrap(), both(origin));
            let asks = [("Access-Control-Request-Method", "GET"), ("Origin", origin)];
            assert_eq!(
                answer(&cors, &asks, true).unwrap(),
                both(origin)
                    + "Access-Control-Allow-Methods: GET\r\nAccess-Control-Allow-Headers: X-Token\r\n\
                       Access-Control-Max-Age: 600\r\n"
            );
        }
        for origin in
            ["https://c.example", "https://a.example.evil", "http://b.example", "null", ""]
        {
            assert_eq!(answer(&cors, &[("Origin", origin)], false).unwrap(), VARY, "{origin}");
            let asks = [("Access-Control-Request-Method", "GET"), ("Origin", origin)];
            assert_eq!(answer(&cors, &asks, true).unwrap(), VARY, "{origin}");
        }
        assert_eq!(answer(&cors, &[], false).unwrap(), VARY);
    }

    #[test]
    fn what_is_no_preflight() {
        let cors = cors("origins = \"*\"\n");
        for fields in
            [&[][..], &[("Origin", "https://a")], &[("Access-Control-Request-Method", "GET")]]
        {
            assert_eq!(answer(&cors, fields, true), None);
        }
    }

    #[test]
    fn mistakes() {
        for (text, part) in [
            ("", "missing field `origins`"),
            ("origins = 1", "a list of origins"),
            ("origins = []", "no origin is named"),
            ("origins = [\"app.example\"]", "is no origin; write it as https://app.example"),
            ("origins = [\"https://app.example/\"]", "without a path"),
            ("origins = [\"https://\"]", "is no origin"),
            ("origins = [\"null\"]", "is no origin"),
            ("origins = [\"*\", \"https://a\"]", "is no origin"),
            ("origins = [\"https://*.example\"]", "is no origin"),
            ("origins = [\"https://a:443\"]", "leave it out"),
            ("origins = [\"http://a:80\"]", "leave it out"),
            ("origins = \"*\"\nmethods = [\"POST\"]", "not served"),
            ("origins = \"*\"\nallow-headers = [\"A B\"]", "no name of a field"),
            ("origins = \"*\"\nexpose-headers = [\"A:\"]", "no name of a field"),
            ("origins = \"*\"\nmax-age = -1", "invalid value"),
            ("origins = \"*\"\ncredentials = true", "name the origins"),
            ("origins = [\"https://a\"]\ncredentials = true\nallow-headers = [\"*\"]", "name them"),
            ("origins = \"*\"\norigin = \"*\"", "unknown field"),
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(settings("origins = [\"https://a:80\", \"http://[fd00::1]:8080\"]").is_ok());
        assert!(settings("origins = \"https://a\"").is_ok(), "one needs no list");
    }
}
