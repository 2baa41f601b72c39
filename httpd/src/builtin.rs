//! Pages that are made and not read: the JSON that VPP's static server has built in, under the same
//! names and in the same form, figures as texts included.
//!
//! In two things it differs: a figure that stands at zero is not left out, so that the form is always
//! the same; and for an interface that is not there the answer is 404, and is JSON.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde_json::{Map, Value, json};

use crate::interfaces::{Interface, Interfaces};
use crate::respond::Status;

/// Octets of a body that names an interface, at the most.
pub(crate) const MAX_NAME: u32 = 256;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    /// Who answers.
    Version,
    /// The names of the interfaces.
    List,
    /// Their figures.
    Stats,
}

impl BuiltIn {
    /// The page at `path`, which is relative to www-root.
    pub(crate) fn at(path: &[u8]) -> Option<Self> {
        match path {
            b"version.json" => Some(Self::Version),
            b"interface_list.json" => Some(Self::List),
            b"interface_stats.json" => Some(Self::Stats),
            _ => None,
        }
    }

    /// Whether an interface may be named by a POST.
    pub(crate) fn takes_post(self) -> bool {
        self == Self::Stats
    }

    /// Status and content; where an interface is named, its figures alone.
    pub(crate) fn content(self, interfaces: &Interfaces, named: &str) -> (&'static str, String) {
        let mut status = "200 OK";
        let value = match self {
            Self::Version => {
                let version = concat!("tagwire ", env!("CARGO_PKG_VERSION"));
                let build_date = env!("TAGWIRE_BUILD_DATE");
                json!({ "vpp_details": { "version": version, "build_date": build_date } })
            }
            Self::List => {
                let names: Vec<_> =
                    interfaces.all().into_iter().map(|interface| interface.name).collect();
                json!({ "interface_list": names })
            }
            Self::Stats => {
                let asked = |it: &Interface| named.is_empty() || it.name == named;
                let all = interfaces.all().into_iter();
                let mut stats: Vec<Value> = all.filter(asked).map(figures).collect();
                if stats.is_empty() {
                    status = Status::NotFound.text();
                    stats.push(json!({ "name": named, "error": "UnknownInterface" }));
                }
                json!({ "interface_stats": stats })
            }
        };
        (status, format!("{value}\n"))
    }
}

/// All figures of an interface.
fn figures(interface: Interface) -> Value {
    let figures = interface.figures.into_iter();
    let figures = figures.map(|(name, count)| (name.to_owned(), count.to_string().into()));
    let name = ("name".to_owned(), interface.name.into());
    Value::Object(std::iter::once(name).chain(figures).collect::<Map<_, _>>())
}

/// The interface that a query names by `name=`, if it does.
pub(crate) fn name_in(query: Option<&[u8]>) -> Cow<'_, str> {
    let mut pairs = query.unwrap_or_default().split(|&octet| octet == b'&');
    let value = pairs.find_map(|pair| pair.strip_prefix(b"name=")).unwrap_or_default();
    percent_decode(value).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_forms_are_those_of_vpp() {
        let vlans = ["123".parse().unwrap()];
        let interfaces = Arc::new(Interfaces::new("eth0", &vlans, 1));
        let traffic = [1, 20, 3, 40, 5, 6, 7];
        interfaces.meters().for_each(|meter| meter.publish([traffic].into_iter(), [8, 9, 10]));
        let ask = |page: BuiltIn, named: &str| {
            let (status, text) = page.content(&interfaces, named);
            (status, serde_json::from_str::<Value>(&text).unwrap())
        };
        let (status, version) = ask(BuiltIn::Version, "");
        assert_eq!(status, "200 OK");
        let details = &version["vpp_details"];
        assert_eq!(details["version"], concat!("tagwire ", env!("CARGO_PKG_VERSION")));
        let date = details["build_date"].as_str().unwrap();
        let shape: String =
            date.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00");
        assert!(date > "2026" && date < "2200", "{date}");

        let (_, list) = ask(BuiltIn::List, "");
        assert_eq!(list, json!({ "interface_list": ["eth0", "eth0.123"] }));

        let of_vlan = json!({
            "name": "eth0.123", "rx_packets": "1", "rx_bytes": "20", "tx_packets": "3",
            "tx_bytes": "40", "drops": "5", "ip4": "6", "ip6": "7",
        });
        let (_, both) = ask(BuiltIn::Stats, "");
        assert_eq!(both["interface_stats"].as_array().map(Vec::len), Some(2));
        assert_eq!(both["interface_stats"][1], of_vlan);
        let own = &both["interface_stats"][0];
        assert_eq!((&own["name"], &own["rx_bytes"]), (&"eth0".into(), &"20".into()));
        let losses = ["rx-miss", "rx-error", "tx-error"].map(|name| own[name].as_str().unwrap());
        assert_eq!(losses, ["8", "9", "10"]);
        assert_eq!(
            ask(BuiltIn::Stats, "eth0.123"),
            ("200 OK", json!({ "interface_stats": [of_vlan] }))
        );
        let unknown = json!({ "name": "eth\"1", "error": "UnknownInterface" });
        let expected = ("404 Not Found", json!({ "interface_stats": [unknown] }));
        assert_eq!(ask(BuiltIn::Stats, "eth\"1"), expected);
    }

    #[test]
    fn names_in_queries() {
        for (query, name) in [
            (None, ""),
            (Some(""), ""),
            (Some("name="), ""),
            (Some("name=eth0.123"), "eth0.123"),
            (Some("a=b&name=eth%30&name=eth1"), "eth0"),
            (Some("rename=eth0"), ""),
            (Some("name=%ff%zz"), "\u{fffd}%zz"),
        ] {
            assert_eq!(name_in(query.map(str::as_bytes)), name, "{query:?}");
        }
    }
}
