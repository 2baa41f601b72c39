//! What the attacks have cost, as a table and as targets.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::arena::{Load, Server};
use super::flood::Sent;
use crate::load::WrkResult;
use crate::report::{Bound, Target, median};

/// One measurement of a client without and with a flood.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Before it.
    pub before: WrkResult,
    /// Under it.
    pub under: WrkResult,
    /// After it, where that is asked.
    pub after: Option<WrkResult>,
    /// The flood.
    pub flood: Sent,
}

impl Round {
    /// Requests in a second after the flood, if they were measured.
    fn after(&self) -> Option<f64> {
        self.after.as_ref().map(WrkResult::requests_per_second)
    }
}

/// The rounds of a case, of one server and one kind of load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The case's name.
    pub case: String,
    /// Who serves.
    pub server: Server,
    /// How the client connects.
    pub load: Load,
    /// In the order of time.
    pub rounds: Vec<Round>,
}

impl Series {
    fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(figure).collect())
    }

    /// What the flood leaves of the client's requests/s.
    pub fn share(&self) -> f64 {
        self.median(|round| round.under.requests_per_second() / round.before.requests_per_second())
    }

    /// What is there again after it.
    pub fn recovery(&self) -> Option<f64> {
        self.rounds.iter().all(|round| round.after.is_some()).then(|| {
            self.median(|round| round.after().unwrap_or(0.0) / round.before.requests_per_second())
        })
    }

    /// Connections and requests that failed under it and after it.
    pub fn failed(&self) -> u64 {
        let after = |round: &Round| round.after.map_or(0, |after| after.errors);
        self.rounds.iter().map(|round| round.under.errors + after(round)).sum()
    }
}

/// Injection into the client's connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blind {
    /// What was injected.
    pub flood: Sent,
    /// Downloads that began under it.
    pub downloads: usize,
    /// Of which so many were reset or corrupted, ...
    pub failed: usize,
    /// ... and how.
    pub failures: Vec<String>,
    /// A connection that was idle all along has answered afterwards.
    pub idle_lives: bool,
}

/// Slow clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    /// Connections that were asked for.
    pub connections: usize,
    /// That were opened.
    pub opened: usize,
    /// That the server has closed by the end.
    pub closed: usize,
    /// Octets resident before.
    pub resident_before: u64,
    /// The most that were resident with them.
    pub resident_most: u64,
    /// What they may be.
    pub budget: u64,
    /// The client beside them.
    pub before: WrkResult,
    /// With all of them there.
    pub under: WrkResult,
    /// When they have gone.
    pub after: WrkResult,
}

/// All that was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Floods.
    pub series: Vec<Series>,
    /// Requests for the client's own link-layer address that the appliance has sent in each flood of neighbours.
    pub asked_again: Vec<(String, usize)>,
    /// Injection.
    pub blind: Option<Blind>,
    /// Slow clients.
    pub slow: Option<Slow>,
}

/// A flood of 50,000 SYNs a second leaves at least this.
const SHARE: f64 = 0.8;
/// At the highest rate at least so many times what nginx has left.
const TIMES: f64 = 1.5;
/// What is there again after a flood, at least: a machine's figures swing by some per cent.
const RECOVERED: f64 = 0.9;

impl Results {
    /// The targets of what was measured.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for one in self.series.iter().filter(|one| one.server != Server::Kernel) {
            let what = |figure: &str| format!("{}, {}: {figure}", one.case, one.load.name());
            match one.case.as_str() {
                // What the generator costs the client by itself, whoever serves.
                "generator" | "syn-to-nobody" => continue,
                "syn-max" => {
                    let same = |other: &&Series| {
                        other.server == Server::Kernel
                            && other.case == one.case
                            && other.load == one.load
                    };
                    if let Some(kernel) = self.series.iter().find(same) {
                        let times = one.share() / kernel.share();
                        let figure = what("share over nginx's");
                        targets.push(Target::new(&figure, times, Bound::AtLeast, TIMES, "x"));
                    }
                }
                _ => {
                    let share = one.share();
                    targets.push(Target::new(&what("share"), share, Bound::AtLeast, SHARE, "x"));
                }
            }
            if let Some(recovery) = one.recovery() {
                let figure = what("afterwards");
                targets.push(Target::new(&figure, recovery, Bound::AtLeast, RECOVERED, "x"));
            }
            let (figure, failed) = (what("failed"), one.failed() as f64);
            targets.push(Target::new(&figure, failed, Bound::AtMost, 0.0, ""));
        }
        for (case, times) in &self.asked_again {
            let what = format!("{case}: live client asked for again");
            targets.push(Target::new(&what, *times as f64, Bound::AtMost, 1.0, "times"));
        }
        if let Some(blind) = &self.blind {
            let what = format!("blind, {} segments: downloads harmed", blind.flood.frames);
            targets.push(Target::new(&what, blind.failed as f64, Bound::AtMost, 0.0, ""));
            let lives = f64::from(u8::from(blind.idle_lives));
            targets.push(Target::new(
                "blind: idle connection lives",
                lives,
                Bound::AtLeast,
                1.0,
                "",
            ));
        }
        if let Some(slow) = &self.slow {
            let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
            let growth = mib(slow.resident_most.saturating_sub(slow.resident_before));
            let what = format!("slow, {} connections: memory", slow.opened);
            targets.push(Target::new(&what, growth, Bound::AtMost, mib(slow.budget), "MiB"));
            let share = slow.under.requests_per_second() / slow.before.requests_per_second();
            targets.push(Target::new("slow: share", share, Bound::AtLeast, SHARE, "x"));
            let after = slow.after.requests_per_second() / slow.before.requests_per_second();
            targets.push(Target::new("slow: afterwards", after, Bound::AtLeast, RECOVERED, "x"));
            let failed = (slow.under.errors + slow.after.errors) as f64;
            targets.push(Target::new("slow: failed", failed, Bound::AtMost, 0.0, ""));
        }
        targets
    }

    /// The figures, and which targets hold.
    pub fn table(&self) -> String {
        let mut text = format!(
            "\n{:<14}{:<17}{:<10}{:>11}{:>10}{:>10}{:>8}{:>10}{:>9}{:>8}\n",
            "flood",
            "load",
            "server",
            "frames/s",
            "before/s",
            "under/s",
            "share",
            "after/s",
            "p99 ms",
            "failed"
        );
        for one in &self.series {
            let after = one.recovery().map(|_| one.median(|round| round.after().unwrap_or(0.0)));
            let _ = writeln!(
                text,
                "{:<14}{:<17}{:<10}{:>11.0}{:>10.0}{:>10.0}{:>8.3}{:>10}{:>9.1}{:>8}",
                one.case,
                one.load.name(),
                if one.server == Server::Kernel { "nginx" } else { "tagwire" },
                one.median(|round| round.flood.rate()),
                one.median(|round| round.before.requests_per_second()),
                one.median(|round| round.under.requests_per_second()),
                one.share(),
                after.map_or_else(String::new, |after| format!("{after:.0}")),
                one.median(|round| round.under.p99 / 1000.0),
                one.failed(),
            );
        }
        if let Some(blind) = &self.blind {
            let Blind { flood, downloads, failed, failures, .. } = blind;
            let _ = writeln!(
                text,
                "\nblind: {} segments at {:.0}/s, {downloads} downloads, {failed} harmed",
                flood.frames,
                flood.rate()
            );
            for failure in failures {
                let _ = writeln!(text, "  {failure}");
            }
        }
        if let Some(slow) = &self.slow {
            let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
            let _ = writeln!(
                text,
                "\nslow: {} of {} connections opened, {} closed by the server; resident {:.1} MiB before, {:.1} at most; \
                 {:.0} requests/s before, {:.0} beside them, {:.0} after",
                slow.opened,
                slow.connections,
                slow.closed,
                mib(slow.resident_before),
                mib(slow.resident_most),
                slow.before.requests_per_second(),
                slow.under.requests_per_second(),
                slow.after.requests_per_second(),
            );
        }
        let _ = writeln!(text, "\n{:<52}{:>10}  target", "targets", "");
        for Target { what, figure, bound, limit, unit, holds } in self.targets() {
            let verdict = if holds { "holds" } else { "MISSES" };
            let sign = bound.sign();
            let _ = writeln!(text, "  {what:<50}{figure:>10.3}  {sign} {limit} {unit}: {verdict}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrk(requests: u64, errors: u64) -> WrkResult {
        WrkResult {
            requests,
            bytes: 1,
            micros: 1_000_000,
            p50: 1.0,
            p99: 1.0,
            errors,
            steady: None,
        }
    }

    fn series(case: &str, server: Server, under: u64, errors: u64) -> Series {
        let flood = Sent { frames: 50_000, micros: 1_000_000 };
        let round = Round { before: wrk(1000, 0), under: wrk(under, errors), after: None, flood };
        Series { case: case.to_owned(), server, load: Load::KeepAlive, rounds: vec![round] }
    }

    #[test]
    fn a_flood_is_judged_by_the_share_that_it_leaves() {
        let results = Results {
            series: vec![
                series("generator", Server::Tagwire, 900, 0),
                series("syn", Server::Tagwire, 850, 0),
                series("syn", Server::Kernel, 100, 9),
                series("syn-max", Server::Tagwire, 400, 1),
                series("syn-max", Server::Kernel, 200, 0),
            ],
            asked_again: vec![("arp".to_owned(), 2)],
            ..Results::default()
        };
        let judged: Vec<(f64, bool)> =
            results.targets().iter().map(|target| (target.figure, target.holds)).collect();
        let expected = [(0.85, true), (0.0, true), (2.0, true), (1.0, false), (2.0, false)];
        assert_eq!(judged, expected);
        let table = results.table();
        assert!(table.contains("nginx") && table.contains("MISSES"), "{table}");
    }

    #[test]
    fn what_comes_after_is_judged_where_it_was_measured() {
        let mut one = series("arp", Server::Spare, 900, 0);
        assert_eq!(one.recovery(), None);
        one.rounds[0].after = Some(wrk(500, 3));
        assert_eq!((one.recovery(), one.failed()), (Some(0.5), 3));
    }
}
