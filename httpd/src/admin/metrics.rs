//! The status as metrics in OpenMetrics 1.0, by prometheus-client.
//!
//! Names and units by its conventions: what counts up ends in `_total`, octets are `_bytes`, and
//! what is told apart is so by labels: VLAN, worker, reason. What each counter counts is what the
//! doc of its declaration says. A figure that this does not know is not kept back: it comes
//! as `unknown`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Map, Value};
use tagwire_core::counters::Counters;
use tagwire_netstack::Stats;

use crate::net::link::LinkChanges;
use crate::tally::Tally;

/// The media type of what [`text`] gives.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a metric's figures are labelled with.
type Labels = Vec<(&'static str, String)>;

/// One metric.
#[derive(Debug)]
struct Family {
    name: String,
    help: String,
    unit: Option<Unit>,
    kind: MetricType,
    figures: Vec<(Labels, Figure)>,
}

#[derive(Debug, Clone, Copy)]
enum Figure {
    Whole(u64),
    Fraction(f64),
}

impl Figure {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(yes) => Some(Self::Whole((*yes).into())),
            Value::Number(number) => {
                number.as_u64().map(Self::Whole).or(number.as_f64().map(Self::Fraction))
            }
            _ => None,
        }
    }

    fn encode(self, mut encoder: MetricEncoder<'_>, kind: MetricType) -> fmt::Result {
        match (kind, self) {
            (MetricType::Counter, Self::Whole(count)) => {
                encoder.encode_counter::<NoLabelSet, _, u64>(&count, None)
            }
            (MetricType::Counter, Self::Fraction(count)) => {
                encoder.encode_counter::<NoLabelSet, _, u64>(&count, None)
            }
            (_, Self::Whole(level)) => encoder.encode_gauge(&level),
            (_, Self::Fraction(level)) => encoder.encode_gauge(&level),
        }
    }
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let unit = self.unit.as_ref();
        let mut family = encoder.encode_descriptor(&self.name, &self.help, unit, self.kind)?;
        for (labels, figure) in &self.figures {
            if labels.is_empty() {
                return figure.encode(family, self.kind);
            }
            figure.encode(family.encode_family(labels)?, self.kind)?;
        }
        Ok(())
    }
}

/// The metrics of one look at the status.
#[derive(Debug, Default)]
struct Metrics(Vec<Family>);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// What the appliance says of itself, `status`, as text.
pub fn text(status: &Value) -> String {
    let mut registry = Registry::with_prefix("tagwire");
    registry.register_collector(Box::new(Metrics::of(status)));
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

/// Where a figure of the status goes.
struct Place {
    name: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    help: &'static str,
}

const fn level(name: &'static str, help: &'static str) -> Place {
    Place { name, unit: None, kind: MetricType::Gauge, help }
}

const fn octets(name: &'static str, help: &'static str) -> Place {
    Place { name, unit: Some(Unit::Bytes), kind: MetricType::Gauge, help }
}

const fn count(name: &'static str, help: &'static str) -> Place {
    Place { name, unit: None, kind: MetricType::Counter, help }
}

/// Figures of the whole appliance, by their places in the status.
const OF_ALL: [(&str, Place); 33] = [
    ("/ready", level("ready", "Whether all that serving takes is there")),
    ("/link_up", level("link_up", "Whether the interface's link is up")),
    ("/link/mtu", octets("link_mtu", "The interface's MTU")),
    ("/draining", level("draining", "Whether the end has begun")),
    ("/lame_duck", level("lame_duck", "Whether clients are sent elsewhere before the end")),
    (
        "/uptime_seconds",
        Place {
            name: "uptime",
            unit: Some(Unit::Seconds),
            kind: MetricType::Gauge,
            help: "Time since the start",
        },
    ),
    (
        "/sandbox/landlock_abi",
        level("sandbox_landlock_abi", "The version of Landlock that restricts it; 0: none"),
    ),
    ("/memory_budget", octets("connection_memory_budget", "What all connections may hold")),
    ("/cache/bytes", octets("cache_size", "What the content cache holds")),
    ("/cache/alive", octets("cache_alive", "Octets of files that live, whoever holds them")),
    ("/cache/capacity", octets("cache_capacity", "What the content cache may hold")),
    ("/cache/entries", level("cache_entries", "Entries of the content cache")),
    ("/cache/hits", count("cache_hits", "Look-ups that the content cache answered")),
    ("/cache/misses", count("cache_misses", "Look-ups that took the cold side")),
    ("/cache/loads", count("cache_loads", "Loads that the cold side has begun")),
    (
        "/cache/octets_read",
        Place {
            name: "cache_read",
            unit: Some(Unit::Bytes),
            kind: MetricType::Counter,
            help: "Octets that the cold side has read of files",
        },
    ),
    ("/downloads/budget", octets("download_memory_budget", "What downloads may hold")),
    ("/downloads/held", octets("download_memory", "What downloads hold")),
    ("/downloads/streams", level("downloads", "Answers from large files that are being sent")),
    ("/downloads/waiting", level("downloads_waiting", "Those of them that wait for memory")),
    ("/downloads/waited", count("downloads_waited", "How often one had to wait for memory")),
    (
        "/cache/evictions",
        count("cache_evictions", "What the content cache has let go for want of room"),
    ),
    ("/preload/done", level("preload_done", "Whether what is served has been preloaded")),
    (
        "/preload/seconds",
        Place {
            name: "preload",
            unit: Some(Unit::Seconds),
            kind: MetricType::Gauge,
            help: "How long preloading takes or has taken",
        },
    ),
    ("/preload/found", level("preload_found_files", "Files that preloading has found")),
    ("/preload/loaded", level("preload_loaded_files", "Those of them that it has loaded")),
    ("/preload/failed", level("preload_failed_files", "Those of them that cannot be had")),
    ("/preload/left_out", level("preload_left_out_files", "Those that the cache has no room for")),
    ("/preload/full", level("preload_full", "Whether it ended early, with files not looked for")),
    ("/watch/directories", level("watch_directories", "Directories that inotify watches")),
    ("/watch/events", count("watch_events", "Changes on disk that inotify has told")),
    ("/watch/overflows", count("watch_overflows", "How often inotify has lost some")),
    ("/watch/unwatched", count("watch_unwatched", "Ways on disk that could not be watched")),
];

/// Figures of each VLAN.
const OF_VLAN: [(&str, Place); 6] = [
    ("connections", level("connections", "Connections")),
    ("half_open", level("half_open_connections", "Handshakes under way")),
    ("time_wait", level("time_wait_connections", "Connections in TIME-WAIT")),
    ("memory", octets("connection_memory", "What connections hold")),
    ("neighbors", level("neighbors", "Neighbours in the ARP and neighbour cache")),
    ("ready", level("vlan_ready", "Whether all addresses of the VLAN can be used")),
];

/// Figures of the driver that are no counters of [`Counters`].
const OF_DRIVER: [(&str, Place); 4] = [
    (
        "notes_lost",
        count("driver_notes_lost", "What this worker had to tell others, and could not"),
    ),
    (
        "syn_filter_on",
        level("driver_syn_filter_on", "Whether the kernel lets up a share of the SYNs only"),
    ),
    ("syn_filter_floods", count("driver_syn_filter_floods", "Floods of SYNs")),
    (
        "syn_filter_dropped_estimate",
        count("driver_syn_filter_dropped_estimate", "SYNs that it has kept back, about"),
    ),
];

/// What names of the driver's counters begin with that count frames lost.
const DRIVER_LOSSES: [(&str, &str); 7] = [
    ("rx_truncated", "receive"),
    ("rx_kernel_drops", "receive"),
    ("tx_no_buffers", "send"),
    ("tx_too_long", "send"),
    ("tx_bad_offload", "send"),
    ("tx_link_down", "send"),
    ("tx_errors", "send"),
];

/// Groups of the status that are shown by the tables above or by rules below.
const KNOWN_GROUPS: [&str; 12] = [
    "cache",
    "downloads",
    "preload",
    "watch",
    "http",
    "stack",
    "driver",
    "vlans",
    "workers",
    "address_states",
    "link",
    "sandbox",
];

impl Metrics {
    fn of(status: &Value) -> Self {
        let mut metrics = Self::default();
        metrics.info(status);
        for (pointer, place) in OF_ALL {
            let figure = status.pointer(pointer).and_then(Figure::of);
            metrics.place(&place, Vec::new(), figure);
        }
        for (kind, _) in LinkChanges::HELP {
            let place = count("link_changes", "What has become of the interface, by kind");
            let labels = vec![("kind", (*kind).to_owned())];
            metrics.place(&place, labels, Figure::of(&status["link"]["changes"][*kind]));
        }
        for vlan in status["vlans"].as_array().into_iter().flatten() {
            metrics.vlan(vlan);
        }
        for address in status["address_states"].as_array().into_iter().flatten() {
            metrics.address(address);
        }
        let alone = std::slice::from_ref(status);
        let workers = status["workers"].as_array().map_or(alone, Vec::as_slice);
        for (number, worker) in workers.iter().enumerate() {
            metrics.driver(number, &worker["driver"]);
        }
        metrics.http(&status["http"]);
        metrics.rest(status);
        metrics
    }

    /// Adds a figure to its metric, which is made with the first of them.
    fn add(&mut self, place: &Place, name: String, labels: Labels, figure: Figure) {
        let Place { unit, kind, help, .. } = place;
        match self.0.iter_mut().find(|family| family.name == name) {
            Some(family) => family.figures.push((labels, figure)),
            None => self.0.push(Family {
                name,
                help: help_text(help),
                unit: unit.clone(),
                kind: *kind,
                figures: vec![(labels, figure)],
            }),
        }
    }

    fn place(&mut self, place: &Place, labels: Labels, figure: Option<Figure>) {
        if let Some(figure) = figure {
            self.add(place, place.name.to_owned(), labels, figure);
        }
    }

    fn info(&mut self, status: &Value) {
        let names = ["version", "interface", "mac", "io"];
        let word = |name| Some((name, status[name].as_str()?.to_owned()));
        let labels: Labels = names.into_iter().filter_map(word).collect();
        let place = level("build_info", "What runs, and on what");
        self.place(&place, labels, Some(Figure::Whole(1)));
    }

    fn vlan(&mut self, vlan: &Value) {
        let tag = || ("vlan", vlan["vlan"].as_str().unwrap_or("none").to_owned());
        for (name, place) in OF_VLAN {
            self.place(&place, vec![tag()], Figure::of(&vlan[name]));
        }
        for (name, help) in Stats::HELP {
            let Some(figure) = Figure::of(&vlan["stack"][*name]) else { continue };
            if let Some(reason) = name.strip_prefix("drop_") {
                let place = count("dropped_packets", "Packets dropped, by reason");
                self.place(&place, vec![tag(), ("reason", reason.to_owned())], Some(figure));
                continue;
            }
            let (name, unit) = match *name {
                "frames_in" => ("received_frames".to_owned(), None),
                "frames_out" => ("sent_frames".to_owned(), None),
                "octets_in" => ("received".to_owned(), Some(Unit::Bytes)),
                "octets_out" => ("sent".to_owned(), Some(Unit::Bytes)),
                name => (format!("stack_{name}"), None),
            };
            let place = Place { name: "", unit, kind: MetricType::Counter, help };
            self.add(&place, name, vec![tag()], figure);
        }
    }

    fn address(&mut self, state: &Value) {
        let word = |name: &str| state[name].as_str().unwrap_or("none").to_owned();
        for (name, at, help) in [
            ("address_assigned", "assigned", "Whether the address can be used"),
            ("address_conflict", "conflicted", "Whether another station has the address"),
        ] {
            let labels = vec![("address", word("address")), ("vlan", word("vlan"))];
            let figure = Figure::Whole((state["state"] == at).into());
            self.place(&level(name, help), labels, Some(figure));
        }
    }

    fn driver(&mut self, number: usize, driver: &Value) {
        let worker = || ("worker", number.to_string());
        for (name, help) in Counters::HELP {
            let Some(figure) = Figure::of(&driver[*name]) else { continue };
            match DRIVER_LOSSES.iter().find(|(loss, _)| loss == name) {
                Some((loss, direction)) => {
                    let reason = loss.split_once('_').map_or(*loss, |(_, reason)| reason);
                    let place = count("driver_lost_frames", "Frames that driver or kernel lost");
                    let direction = ("direction", (*direction).to_owned());
                    let labels = vec![worker(), direction, ("reason", reason.to_owned())];
                    self.place(&place, labels, Some(figure));
                }
                None => {
                    let place = count("", help);
                    self.add(&place, format!("driver_{name}"), vec![worker()], figure);
                }
            }
        }
        for (name, place) in OF_DRIVER {
            self.place(&place, vec![worker()], Figure::of(&driver[name]));
        }
    }

    /// What was answered, refused, cut off and ended.
    fn http(&mut self, http: &Value) {
        for (name, help) in Tally::HELP {
            let Some(figure) = Figure::of(&http[*name]) else { continue };
            if let Some(class) = name.strip_prefix("answers_") {
                let place = count("http_answers", "Answers given to be sent, by class of status");
                self.place(&place, vec![("class", class.to_owned())], Some(figure));
                continue;
            }
            self.add(&count("", help), format!("http_{name}"), Vec::new(), figure);
        }
    }

    /// Groups of figures that no rule names.
    fn rest(&mut self, status: &Value) {
        let none = Map::new();
        for (group, members) in status.as_object().unwrap_or(&none) {
            if KNOWN_GROUPS.contains(&group.as_str()) {
                continue;
            }
            for (name, value) in members.as_object().unwrap_or(&none) {
                let Some(figure) = Figure::of(value) else { continue };
                let place =
                    Place { name: "", unit: None, kind: MetricType::Unknown, help: "See status" };
                self.add(&place, format!("{group}_{name}"), Vec::new(), figure);
            }
        }
    }
}

/// What a doc comment says, without its links, on one line.
fn help_text(doc: &str) -> String {
    let mut text = String::new();
    let mut rest = doc;
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else { break };
        text.push_str(before);
        text.push_str(name);
        let target = after.strip_prefix('(').and_then(|target| target.split_once(')'));
        rest = target.map_or(after, |(_, behind)| behind);
    }
    text.push_str(rest);
    text.trim().trim_end_matches('.').replace('\\', "\\\\").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        let stack = |frames: u64| json!({ "frames_in": frames, "octets_in": 90, "drop_vlan": 3, "tcp_in": 5 });
        let driver = json!({ "rx_frames": 9, "rx_kernel_drops": 2, "syn_filter_on": 1 });
        json!({
            "version": "0.1.0", "interface": "macvlan0", "mac": "02:00:00:00:00:01", "io": "io_uring",
            "link": { "state": "up", "mtu": 1500, "changes": { "mac": 2, "gone": 0 } },
            "ready": true, "link_up": true, "draining": false, "lame_duck": false, "uptime_seconds": 1.5,
            "memory_budget": 1024, "cache": { "bytes": 17, "capacity": 99, "hits": 4, "misses": 1, "octets_read": 21 },
            "downloads": { "budget": 64, "held": 16, "streams": 3, "waiting": 1, "waited": 5 },
            "preload": { "done": true, "seconds": 2.5, "found": 9, "loaded": 8, "octets": 70, "failed": 1 },
            "http": { "answers_2xx": 8, "answers_5xx": 0, "slow_reader": 1, "bad_request": 0 },
            "address_states": [{ "address": "10.0.0.5", "vlan": "7", "state": "assigned" }],
            "vlans": [
                { "vlan": "7", "connections": 2, "memory": 64, "ready": true, "stack": stack(10) },
                { "vlan": null, "connections": 0, "memory": 0, "ready": true, "stack": stack(20) },
            ],
            "workers": [{ "driver": driver }, { "driver": driver }],
            "new": { "thing": 5, "word": "no" },
        })
    }

    #[test]
    fn names_units_and_labels_are_the_conventions_own() {
        let text = text(&sample());
        for line in [
            "# TYPE tagwire_ready gauge",
            "tagwire_ready 1",
            "tagwire_uptime_seconds 1.5",
            "tagwire_link_mtu_bytes 1500",
            "tagwire_link_changes_total{kind=\"mac\"} 2",
            "tagwire_link_changes_total{kind=\"gone\"} 0",
            "# UNIT tagwire_uptime_seconds seconds",
            "tagwire_connection_memory_budget_bytes 1024",
            "tagwire_cache_hits_total 4",
            "tagwire_cache_read_bytes_total 21",
            "tagwire_download_memory_bytes 16",
            "tagwire_downloads 3",
            "tagwire_preload_seconds 2.5",
            "tagwire_preload_loaded_files 8",
            "tagwire_downloads_waited_total 5",
            "# TYPE tagwire_cache_hits counter",
            "tagwire_connections{vlan=\"7\"} 2",
            "tagwire_connections{vlan=\"none\"} 0",
            "tagwire_received_frames_total{vlan=\"7\"} 10",
            "tagwire_received_bytes_total{vlan=\"none\"} 90",
            "tagwire_dropped_packets_total{vlan=\"7\",reason=\"vlan\"} 3",
            "tagwire_stack_tcp_in_total{vlan=\"7\"} 5",
            "# HELP tagwire_stack_tcp_in TCP segments received",
            "tagwire_driver_rx_frames_total{worker=\"1\"} 9",
            "tagwire_driver_lost_frames_total{worker=\"0\",direction=\"receive\",reason=\"kernel_drops\"} 2",
            "tagwire_http_answers_total{class=\"2xx\"} 8",
            "tagwire_http_answers_total{class=\"5xx\"} 0",
            "tagwire_http_slow_reader_total 1",
            "tagwire_address_assigned{address=\"10.0.0.5\",vlan=\"7\"} 1",
            "# TYPE tagwire_new_thing unknown",
            "tagwire_new_thing 5",
        ] {
            assert!(text.lines().any(|has| has == line), "no {line} in\n{text}");
        }
        assert!(text.contains("tagwire_build_info{version=\"0.1.0\",interface=\"macvlan0\""));
        assert!(text.ends_with("# EOF\n"));
    }

    /// OpenMetrics 1.0: one TYPE for each family, whose samples stand together.
    #[test]
    fn each_metric_stands_once_and_together() {
        let text = text(&sample());
        let mut families = Vec::new();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let name = family.split(' ').next().unwrap();
                assert!(!families.contains(&name), "{name} twice");
                families.push(name);
            } else if !line.starts_with('#') {
                assert!(line.starts_with(families.last().unwrap()), "{line}");
            }
        }
    }

    #[test]
    fn nothing_in_it_may_be_missing() {
        assert!(text(&json!({ "error": "the worker does not answer" })).ends_with("# EOF\n"));
        assert!(text(&Value::Null).ends_with("# EOF\n"));
    }

    #[test]
    fn docs_become_help() {
        for (doc, help) in [
            (" Dropped: another VLAN.", "Dropped: another VLAN"),
            (
                " Heads above [`max_head`](crate::limits::Limits::max_head): 431.",
                "Heads above max_head: 431",
            ),
            (" RSTs (RFC 5961 3.2), in\n", "RSTs (RFC 5961 3.2), in"),
            (" a [`b", "a [`b"),
        ] {
            assert_eq!(help_text(doc), help);
        }
    }
}
