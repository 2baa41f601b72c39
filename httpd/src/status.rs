//! `tagwire status`: what a running appliance says of itself, for people and for programs.

use std::path::Path;

use serde_json::{Map, Value};

use crate::control::{self, ControlError};

/// The answer of the appliance behind `control`: a table, or the JSON as it came.
///
/// # Errors
/// [`ControlError`]; nothing was printed then.
pub fn ask(control: &Path, json: bool) -> Result<String, ControlError> {
    let (answer, status) = control::ask(control, "status")?;
    Ok(if json { answer } else { table(&status) })
}

/// The status for people: grouped, in human units, without counters that stand at zero. Each line
/// says by itself what it is about, for `grep`; what has no place of its own comes at the end, so
/// that nothing is kept back.
fn table(status: &Value) -> String {
    let mut report = Report::new(status);
    report.appliance();
    report.connections();
    report.vlans();
    report.workers();
    report.cache();
    report.counters("preload");
    report.counters("downloads");
    report.counters("link");
    report.counters("watch");
    report.counters("http");
    report.counters("access_log");
    report.counters("stack");
    report.counters("driver");
    report.rest();
    report.text()
}

/// A table under way: what is shown is taken out of `left`.
struct Report {
    left: Map<String, Value>,
    groups: Vec<Vec<(String, String)>>,
}

impl Report {
    fn new(status: &Value) -> Self {
        let left = match status {
            Value::Object(members) => members.clone(),
            other => Map::from_iter([("status".to_owned(), other.clone())]),
        };
        Self { left, groups: Vec::new() }
    }

    /// What stands at `path`, which is a member or a member of a member.
    fn take(&mut self, path: &str) -> Option<Value> {
        match path.split_once('.') {
            Some((outer, inner)) => self.left.get_mut(outer)?.as_object_mut()?.remove(inner),
            None => self.left.remove(path),
        }
    }

    fn word(&mut self, path: &str) -> Option<String> {
        self.take(path).filter(|value| !value.is_null()).map(|value| plain(&value))
    }

    /// The items of a list in one line.
    fn list(&mut self, path: &str) -> Option<String> {
        let items = self.take(path)?;
        let items: Vec<_> = items.as_array()?.iter().map(plain).collect();
        Some(if items.is_empty() { "none".to_owned() } else { items.join(", ") })
    }

    fn number(&mut self, path: &str) -> Option<u64> {
        self.take(path)?.as_u64()
    }

    fn text(self) -> String {
        let rows = || self.groups.iter().flatten();
        let width = rows().map(|(name, _)| name.len()).max().unwrap_or(0);
        let groups = self.groups.iter().filter(|group| !group.is_empty()).map(|group| {
            let line = |(name, value): &(String, String)| format!("{name:width$}  {value}\n");
            group.iter().map(line).collect::<String>()
        });
        groups.collect::<Vec<_>>().join("\n")
    }

    fn appliance(&mut self) {
        let mut rows = Vec::new();
        let mut row = |name: &str, value: Option<String>| {
            rows.extend(value.map(|value| (name.to_owned(), value)));
        };
        row("error", self.word("error"));
        row("version", self.word("version"));
        let draining = self.take("draining").and_then(|value| value.as_bool());
        let lame_duck = self.take("lame_duck").and_then(|value| value.as_bool());
        let ready = self.take("ready").and_then(|value| value.as_bool());
        let state = draining.map(|draining| match (draining, lame_duck, ready) {
            (true, ..) => "shutting down",
            (false, Some(true), _) => "LAME DUCK: clients are sent elsewhere",
            (false, _, Some(false)) => "NOT READY",
            _ => "serving",
        });
        row("state", state.map(str::to_owned));
        row("missing", self.list("missing"));
        let several =
            self.left.get("vlans").and_then(Value::as_array).is_some_and(|it| it.len() > 1);
        for state in self.take("address_states").iter().filter_map(Value::as_array).flatten() {
            let field = |name: &str| state.get(name).map(plain).unwrap_or_default();
            let place = if several { format!(" in VLAN {}", tag(state)) } else { String::new() };
            match &*field("state") {
                "conflicted" => {
                    let said = format!("{}{place} is also at {}", field("address"), field("by"));
                    row("ADDRESS CONFLICT", Some(said));
                }
                "tentative" => row("being probed", Some(field("address") + &place)),
                _ => {}
            }
        }
        let uptime = self.take("uptime_seconds").and_then(|value| value.as_f64());
        row("uptime", uptime.map(|seconds| duration(seconds as u64)));
        row("process", self.word("pid"));
        let up = self.take("link_up").and_then(|value| value.as_bool());
        row("NO LINK", self.word("link.trouble"));
        // What is left of it is counters; the state is said by the two before.
        let changes = self.take("link.changes");
        self.left.remove("link");
        self.left.extend(changes.map(|changes| ("link".to_owned(), changes)));
        let interface = [
            self.word("interface"),
            self.word("mac"),
            self.word("mtu").map(|mtu| format!("MTU {mtu}")),
            up.map(|up| if up { "link up" } else { "LINK DOWN" }.to_owned()),
        ];
        row("interface", joined(interface));
        let untagged = self.left.get("vlan").is_some_and(Value::is_null);
        let priority = self.number("pcp").filter(|pcp| *pcp != 0);
        let vlan = self.word("vlan").or(untagged.then(|| "none".to_owned()));
        row("VLAN", joined([vlan, priority.map(|pcp| format!("priority {pcp}"))]));
        let port = self.word("port");
        let addresses = self.list("addresses");
        row("address", joined([addresses, port.map(|port| format!("port {port}"))]));
        row("gateway", self.list("gateways"));
        row("congestion", self.word("congestion"));
        let fast_open = self.take("fast_open").and_then(|value| value.as_bool());
        row("Fast Open", fast_open.filter(|on| *on).map(|_| "on".to_owned()));
        self.left.remove("vlan");
        row("neighbours", self.number("neighbors").map(grouped));
        row("www-root", self.word("www_root"));
        let (driver, reason) = (self.word("io"), self.word("io_reason"));
        let why = |driver: String| match reason {
            Some(reason) => format!("{driver}: {reason}"),
            None => driver,
        };
        row("packets by", driver.map(why));
        let sandbox = self.take("sandbox");
        let layer = |name: &str| sandbox.as_ref()?.get(name).map(plain);
        let layers = [
            layer("mode"),
            layer("landlock").map(|state| format!("Landlock {state}")),
            layer("seccomp").map(|state| format!("seccomp {state}")),
        ];
        row("sandbox", joined(layers));
        self.groups.push(rows);
    }

    fn connections(&mut self) {
        let mut rows = Vec::new();
        for (name, path) in [
            ("connections", "connections"),
            ("half open", "half_open"),
            ("in TIME-WAIT", "time_wait"),
        ] {
            rows.extend(self.number(path).map(|count| (name.to_owned(), grouped(count))));
        }
        if let (Some(used), Some(budget)) = (self.number("memory"), self.number("memory_budget")) {
            let held = format!("{} of {}", size(used), size(budget));
            rows.push(("their memory".to_owned(), held));
        }
        self.groups.push(rows);
    }

    /// Each VLAN, if there is more than one; what each counts by itself is for programs.
    fn vlans(&mut self) {
        let Some(Value::Array(vlans)) = self.left.remove("vlans") else { return };
        let mut rows = Vec::new();
        for vlan in vlans.iter().filter(|_| vlans.len() > 1) {
            let list = |name: &str| -> Option<String> {
                let items: Vec<_> = vlan.get(name)?.as_array()?.iter().map(plain).collect();
                (!items.is_empty()).then(|| items.join(", "))
            };
            let figure = |path: &str| vlan.pointer(path)?.as_u64();
            let identity = [
                list("addresses"),
                list("gateways").map(|all| format!("gateway {all}")),
                figure("/mtu").map(|mtu| format!("MTU {mtu}")),
                figure("/pcp").filter(|pcp| *pcp != 0).map(|pcp| format!("priority {pcp}")),
            ];
            let figures = [
                figure("/connections").map(|count| format!("{} connections", grouped(count))),
                figure("/neighbors").map(|count| format!("{} neighbours", grouped(count))),
                figure("/stack/frames_in").map(|count| format!("{} frames in", grouped(count))),
            ];
            for text in [joined(identity), joined(figures)].into_iter().flatten() {
                rows.push((format!("VLAN {}", tag(vlan)), text));
            }
        }
        self.groups.push(rows);
    }

    /// How the work is spread, if there is more than one; what each counts by itself is for
    /// programs.
    fn workers(&mut self) {
        let Some(Value::Array(workers)) = self.left.remove("workers") else { return };
        let figure = |worker: &Value, path: &str| grouped(worker.pointer(path)?.as_u64()?).into();
        let rows = workers.iter().enumerate().filter(|_| workers.len() > 1).map(|(at, worker)| {
            let connections: Option<String> = figure(worker, "/connections");
            let frames = figure(worker, "/stack/frames_in");
            let texts = [
                connections.map(|count| format!("{count} connections")),
                frames.map(|count| format!("{count} frames in")),
            ];
            (format!("worker {at}"), joined(texts).unwrap_or_default())
        });
        self.groups.push(rows.collect());
    }

    fn cache(&mut self) {
        let mut rows = Vec::new();
        if let (Some(used), Some(capacity)) =
            (self.number("cache.bytes"), self.number("cache.capacity"))
        {
            let entries = self.number("cache.entries").unwrap_or(0);
            let held = format!("{} of {}, {}", size(used), size(capacity), grouped(entries));
            rows.push(("cache".to_owned(), format!("{held} entries")));
            let beside = self.number("cache.alive").and_then(|alive| alive.checked_sub(used));
            if let Some(beside) = beside.filter(|beside| *beside > 0) {
                rows.push(("held by clients".to_owned(), format!("{} beside it", size(beside))));
            }
        }
        if let (Some(hits), Some(misses)) = (self.number("cache.hits"), self.number("cache.misses"))
        {
            let lookups = hits.saturating_add(misses);
            let rate = match lookups {
                0 => "none yet".to_owned(),
                _ => {
                    let percent = hits as f64 * 100.0 / lookups as f64;
                    format!("{}, {percent:.1} % hits", grouped(lookups))
                }
            };
            rows.push(("cache lookups".to_owned(), rate));
        }
        let (loads, octets) = (self.number("cache.loads"), self.number("cache.octets_read"));
        let octets = octets.map(|octets| format!("{} read", size(octets)));
        let loads = joined([loads.map(grouped), octets]);
        rows.extend(loads.map(|loads| ("cache loads".to_owned(), loads)));
        if let (Some(loaded), Some(found)) =
            (self.number("preload.loaded"), self.number("preload.found"))
        {
            let _ = self.take("preload.done");
            let full = self.take("preload.full") == Some(Value::Bool(true));
            let more = if full { " or more" } else { "" };
            let octets = self.number("preload.octets").map_or(String::new(), size);
            let said = format!("{} of {}{more} files, {octets}", grouped(loaded), grouped(found));
            rows.push(("preloaded".to_owned(), said));
        }
        if let (Some(held), Some(budget)) =
            (self.number("downloads.held"), self.number("downloads.budget"))
        {
            let streams = self.number("downloads.streams").unwrap_or(0);
            let said = format!("{}, hold {} of {}", grouped(streams), size(held), size(budget));
            rows.push(("downloads".to_owned(), said));
        }
        if let (Some(directories), Some(events)) =
            (self.number("watch.directories"), self.number("watch.events"))
        {
            let said = format!("{} directories, {} events", grouped(directories), grouped(events));
            rows.push(("watched".to_owned(), said));
        }
        self.groups.push(rows);
    }

    /// The counters of `group` that have counted anything.
    fn counters(&mut self, group: &str) {
        let Some(Value::Object(counters)) = self.left.remove(group) else { return };
        let rows = counters
            .iter()
            .filter(|(_, value)| value.as_u64() != Some(0))
            .map(|(name, value)| {
                (format!("{group}.{name}"), value.as_u64().map_or(plain(value), grouped))
            })
            .collect();
        self.groups.push(rows);
    }

    fn rest(&mut self) {
        let mut rows = Vec::new();
        flatten(&Value::Object(std::mem::take(&mut self.left)), String::new(), &mut rows);
        self.groups.push(rows);
    }
}

/// The tag of what is said of a VLAN.
fn tag(of: &Value) -> String {
    of.get("vlan").and_then(Value::as_str).unwrap_or("none").to_owned()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> Option<String> {
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn size(octets: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| octets >= *unit) {
        Some((unit, name)) if octets.is_multiple_of(*unit) => format!("{} {name}", octets / unit),
        Some((unit, name)) => format!("{:.1} {name}", octets as f64 / *unit as f64),
        None => format!("{octets} B"),
    }
}

/// Thousands apart: 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One row per figure, the names of nested ones joined by dots.
fn flatten(value: &Value, name: String, rows: &mut Vec<(String, String)>) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| flatten(value, inner(key), rows));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, item)| flatten(item, inner(&at.to_string()), rows));
        }
        other => rows.push((name, plain(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_state_is_the_one_that_says_most() {
        let state = |draining: bool, lame_duck: bool, ready: bool| {
            let status = json!({ "draining": draining, "lame_duck": lame_duck, "ready": ready });
            table(&status).lines().next().map(str::to_owned).unwrap_or_default()
        };
        for (given, said) in [
            (state(false, false, true), "serving"),
            (state(false, false, false), "NOT READY"),
            (state(false, true, false), "LAME DUCK: clients are sent elsewhere"),
            (state(true, true, false), "shutting down"),
        ] {
            assert_eq!(given, format!("state  {said}"));
        }
    }

    #[test]
    fn a_table_for_people() {
        let mut status = json!({
            "version": "0.1.0", "pid": 7, "uptime_seconds": 11_530.2, "draining": false,
            "interface": "macvlan0", "mac": "02:00:00:00:00:01", "mtu": 1500, "link_up": true,
            "vlan": "123", "pcp": 5, "addresses": ["192.168.123.150/24", "fd00:123::150/64"],
            "port": 80, "gateways": [],
            "www_root": "/www", "io": "poll", "io_reason": "no such call", "neighbors": 2, "congestion": "cubic",
            "sandbox": {
                "mode": "best-effort", "capabilities": "none", "landlock": "on, without signals",
                "landlock_abi": 4, "seccomp": "missing"
            },
            "ready": false, "address_states": [
                { "address": "fd00:123::150", "state": "assigned" },
                { "address": "192.168.123.150", "state": "conflicted", "by": "02:00:00:00:00:09" },
            ],
            "connections": 12, "half_open": 0, "time_wait": 1020,
            "memory": 36_864, "memory_budget": 268_435_456, "fast_open": true,
            "cache": {
                "capacity": 536_870_912, "bytes": 14_448_651, "alive": 15_497_227, "entries": 28, "hits": 997,
                "misses": 3, "loads": 31, "octets_read": 2048, "novel": 1
            },
            "downloads": {
                "budget": 67_108_864, "held": 1_572_864, "streams": 2, "waiting": 0, "waited": 5
            },
            "http": { "slow_reader": 3, "head_timeout": 0 },
            "watch": { "directories": 3, "events": 1200, "overflows": 1, "unwatched": 0 },
            "access_log": { "written": 5, "dropped": 0 },
            "stack": { "tcp_accepted": 1_234_567, "frames_in": 365, "drop_vlan": 0 },
            "driver": { "rx_frames": 365, "rx_kernel_drops": 0 },
            "workers": [
                { "connections": 5, "stack": { "frames_in": 165 } },
                { "connections": 7, "stack": { "frames_in": 200 } },
            ],
            "ips": ["a", "b"],
        });
        status["preload"] = json!({
            "done": true, "seconds": 1.5, "found": 30, "loaded": 28, "octets": 3072,
            "failed": 2, "left_out": 0, "full": true
        });
        status["link"] = json!({
            "state": "up", "trouble": null, "mtu": 1500, "changes": { "up": 0, "mac": 2 },
        });
        let expected = "\
version             0.1.0
state               NOT READY
ADDRESS CONFLICT    192.168.123.150 is also at 02:00:00:00:00:09
uptime              3 h 12 min
process             7
interface           macvlan0, 02:00:00:00:00:01, MTU 1500, link up
VLAN                123, priority 5
address             192.168.123.150/24, fd00:123::150/64, port 80
gateway             none
congestion          cubic
Fast Open           on
neighbours          2
www-root            /www
packets by          poll: no such call
sandbox             best-effort, Landlock on, without signals, seccomp missing

connections         12
half open           0
in TIME-WAIT        1,020
their memory        36 KiB of 256 MiB

worker 0            5 connections, 165 frames in
worker 1            7 connections, 200 frames in

cache               13.8 MiB of 512 MiB, 28 entries
held by clients     1 MiB beside it
cache lookups       1,000, 99.7 % hits
cache loads         31, 2 KiB read
preloaded           28 of 30 or more files, 3 KiB
downloads           2, hold 1.5 MiB of 64 MiB
watched             3 directories, 1,200 events

preload.failed      2
preload.seconds     1.5

downloads.waited    5

link.mac            2

watch.overflows     1

http.slow_reader    3

access_log.written  5

stack.frames_in     365
stack.tcp_accepted  1,234,567

driver.rx_frames    365

cache.novel         1
ips.0               a
ips.1               b
";
        assert_eq!(table(&status), expected);
        status["preload"]["full"] = json!(false);
        assert!(table(&status).contains("\npreloaded           28 of 30 files, 3 KiB\n"));
    }

    #[test]
    fn a_table_of_several_vlans() {
        let status = json!({
            "addresses": ["10.0.0.5/24", "10.0.0.5/24"], "port": 80,
            "address_states": [
                { "address": "10.0.0.5", "vlan": "123", "state": "tentative" },
                { "address": "10.0.0.5", "vlan": null, "state": "conflicted", "by": "02::09" },
            ],
            "connections": 3,
            "vlans": [
                {
                    "vlan": "123", "mtu": 1500, "pcp": 5, "gateways": ["10.0.0.1"],
                    "addresses": ["10.0.0.5/24"], "connections": 2, "neighbors": 1,
                    "stack": { "frames_in": 1234 },
                },
                {
                    "vlan": null, "mtu": 1500, "pcp": 0, "gateways": [], "connections": 1,
                    "addresses": ["10.0.0.5/24"], "neighbors": 0, "stack": { "frames_in": 7 },
                },
            ],
        });
        let expected = "\
being probed      10.0.0.5 in VLAN 123
ADDRESS CONFLICT  10.0.0.5 in VLAN none is also at 02::09
address           10.0.0.5/24, 10.0.0.5/24, port 80

connections       3

VLAN 123          10.0.0.5/24, gateway 10.0.0.1, MTU 1500, priority 5
VLAN 123          2 connections, 1 neighbours, 1,234 frames in
VLAN none         10.0.0.5/24, MTU 1500
VLAN none         1 connections, 0 neighbours, 7 frames in
";
        assert_eq!(table(&status), expected);
        let one = json!({ "vlan": "123", "vlans": [{ "vlan": "123", "connections": 2 }] });
        assert_eq!(table(&one), "VLAN  123\n");
    }

    #[test]
    fn a_table_of_anything() {
        assert_eq!(table(&json!({ "error": "no" })), "error  no\n");
        assert_eq!(table(&json!([1])), "status.0  1\n");
        assert_eq!(table(&json!({})), "");
    }

    #[test]
    fn human_units() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7265, "2 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(duration(seconds), text);
        }
        for (octets, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1 GiB")]
        {
            assert_eq!(size(octets), text);
        }
        assert_eq!(
            (grouped(0), grouped(999), grouped(1000)),
            ("0".into(), "999".into(), "1,000".into())
        );
    }
}
