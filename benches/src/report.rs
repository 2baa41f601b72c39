//! Medians, targets, the table and the JSON.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::lone::{Firsts, Idle, Rest, Starts};
use crate::mixes::P99_MOST;
use crate::rounds::{CaseResult, Round, Series};

/// What an idle connection may take, everything counted.
const IDLE_OCTETS: f64 = 1536.0;

/// The middle of the values; of an even count, the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (length, half) if length % 2 == 0 => (values[half - 1] + values[half]) / 2.0,
        (_, half) => values[half],
    }
}

/// All that was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// The cases that were measured in rounds.
    pub cases: Vec<CaseResult>,
    /// Memory under idle connections.
    pub idle: Vec<Idle>,
    /// The appliance at rest.
    pub rest: Option<Rest>,
    /// From exec to the first octet.
    pub starts: Option<Starts>,
    /// First pings and curls.
    pub firsts: Option<Firsts>,
}

/// How a figure is compared with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// At most the limit.
    #[serde(rename = "<=")]
    AtMost,
    /// Less than the limit.
    #[serde(rename = "<")]
    Below,
    /// At least the limit.
    #[serde(rename = ">=")]
    AtLeast,
}

impl Bound {
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::AtMost => "<=",
            Self::Below => "<",
            Self::AtLeast => ">=",
        }
    }
}

/// What a figure must reach.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// What is measured.
    pub what: String,
    /// The figure.
    pub figure: f64,
    /// How it is compared.
    pub bound: Bound,
    /// With what.
    pub limit: f64,
    /// The unit of both, or `x nginx` and the like.
    pub unit: String,
    /// Whether it holds.
    pub holds: bool,
}

impl Target {
    pub(crate) fn new(what: &str, figure: f64, bound: Bound, limit: f64, unit: &str) -> Self {
        let holds = match bound {
            Bound::AtMost => figure <= limit,
            Bound::Below => figure < limit,
            Bound::AtLeast => figure >= limit,
        };
        Self { what: what.to_owned(), figure, bound, limit, unit: unit.to_owned(), holds }
    }
}

impl Results {
    /// The targets of what was measured.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for case in &self.cases {
            // Each: what, a figure of a round, whose over whose, bound, limit, unit.
            let mut ratio = |what: &str,
                             figure: fn(&Round) -> f64,
                             (ours, theirs): (Contender, Contender),
                             bound: Bound,
                             limit: f64| {
                if let (Some(ours), Some(their)) = (case.of(ours), case.of(theirs)) {
                    let figure = ours.median(figure) / their.median(figure);
                    let unit = format!("x {}", theirs.name());
                    let what = format!("{}: {what}", case.title);
                    targets.push(Target::new(&what, figure, bound, limit, &unit));
                }
            };
            let limit = (Contender::Tagwire, Contender::Reflector);
            let nginx = (Contender::Tagwire, Contender::Nginx);
            let polling = (Contender::TagwireBusyPoll, Contender::Nginx);
            let drivers = (Contender::TagwirePoll, Contender::Tagwire);
            let logging = (Contender::TagwireLog, Contender::Tagwire);
            match case.name.as_str() {
                "small" => {
                    ratio("CPU/request", Round::cpu_per_request, limit, Bound::AtMost, 1.3);
                    ratio("CPU/request", Round::cpu_per_request, nginx, Bound::AtMost, 0.45);
                    let what = "CPU/request, --driver poll";
                    ratio(what, Round::cpu_per_request, drivers, Bound::AtMost, 1.35);
                    let what = "CPU/request, --access-log";
                    ratio(what, Round::cpu_per_request, logging, Bound::AtMost, 1.05);
                }
                "latency" => {
                    ratio("p50", Round::p50, limit, Bound::AtMost, 1.15);
                    ratio("p50", Round::p50, nginx, Bound::Below, 1.0);
                    ratio("p50, --busy-poll", Round::p50, polling, Bound::AtMost, 0.6);
                }
                "medium" => {
                    ratio("requests/s", Round::requests_per_second, nginx, Bound::AtLeast, 1.5);
                }
                "large" => ratio("CPU/MB", Round::cpu_per_megabyte, nginx, Bound::AtMost, 0.6),
                "half" => {
                    ratio("p99", Round::p99, nginx, Bound::AtMost, P99_MOST);
                    let what = "p99 without the machine's pauses";
                    ratio(what, Round::steady_p99, nginx, Bound::AtMost, P99_MOST);
                }
                _ => {
                    if let Some(least) = case.least {
                        let what = "requests/CPU s";
                        ratio(what, Round::requests_per_cpu_second, nginx, Bound::AtLeast, least);
                    }
                }
            }
        }
        for idle in &self.idle {
            let Idle { congestion, connections, .. } = idle;
            let what = format!("{connections} idle connections, {congestion}: each");
            let octets = idle.per_connection();
            targets.push(Target::new(&what, octets, Bound::AtMost, IDLE_OCTETS, "octets"));
        }
        if let Some(rest) = self.rest {
            let mib = rest.resident as f64 / f64::from(1 << 20);
            targets.push(Target::new("at rest: CPU", rest.cpu_percent(), Bound::Below, 0.1, "%"));
            targets.push(Target::new("at rest: memory", mib, Bound::Below, 24.0, "MiB"));
        }
        if let Some(starts) = &self.starts {
            let what = "from exec to the first octet";
            targets.push(Target::new(what, starts.median_ms(), Bound::Below, 50.0, "ms"));
        }
        if let Some(Firsts { of, pings, curls }) = self.firsts {
            let all = of as f64;
            let unit = format!("of {of}");
            targets.push(Target::new("first ping", pings as f64, Bound::AtLeast, all, &unit));
            targets.push(Target::new("first curl", curls as f64, Bound::AtLeast, all, &unit));
        }
        targets
    }

    /// The medians of each case, and which targets hold.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let (mixes, others): (Vec<_>, Vec<_>) =
            self.cases.iter().partition(|case| case.least.is_some());
        for case in others {
            let _ = writeln!(
                text,
                "\n{:<28}{:>12}{:>12}{:>14}{:>12}{:>12}{:>10}",
                case.title, "p50", "p99", "CPU/request", "CPU/MB", "requests/s", "GB/s"
            );
            for series in &case.series {
                text.push_str(&row(series));
            }
        }
        if !mixes.is_empty() {
            let _ =
                writeln!(text, "\n{:<48}{:>24}{:>24}{:>8}", "mixes", "tagwire", "nginx", "ratio");
        }
        for case in mixes {
            text.push_str(&mix_row(case));
        }
        let _ = writeln!(text, "\n{:<64}{:>10}  target", "targets", "");
        for target in self.targets() {
            let Target { what, figure, bound, limit, unit, holds } = target;
            let verdict = if holds { "holds" } else { "MISSES" };
            let sign = bound.sign();
            let _ = writeln!(text, "  {what:<62}{figure:>10.3}  {sign} {limit} {unit}: {verdict}");
        }
        text
    }
}

/// What a mix costs either of the two, and how much they answer.
fn mix_row(case: &CaseResult) -> String {
    let of = |contender| case.of(contender);
    let figures = |contender| {
        of(contender).map_or("-".to_owned(), |series| {
            let cost = series.median(Round::cpu_per_request);
            format!("{cost:.2} us{:>11.0}/s", series.median(Round::requests_per_second))
        })
    };
    let cost =
        |contender| of(contender).map(|series| series.median(Round::requests_per_cpu_second));
    let ratio =
        cost(Contender::Tagwire).zip(cost(Contender::Nginx)).map(|(our, their)| our / their);
    let disturbed = case.series.iter().any(Series::is_disturbed);
    format!(
        "  {:<46}{:>24}{:>24}{:>8.2}{}\n",
        case.title,
        figures(Contender::Tagwire),
        figures(Contender::Nginx),
        ratio.unwrap_or(f64::NAN),
        if disturbed { "  disturbed" } else { "" },
    )
}

fn row(series: &Series) -> String {
    format!(
        "  {:<26}{:>9.1} us{:>9.1} us{:>11.2} us{:>9.1} us{:>12.0}{:>10.3}{}\n",
        series.contender.name(),
        series.median(Round::p50),
        series.median(Round::p99),
        series.median(Round::cpu_per_request),
        series.median(Round::cpu_per_megabyte),
        series.median(Round::requests_per_second),
        series.median(Round::bytes_per_second) / 1e9,
        if series.is_disturbed() { "  disturbed" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Steady, WrkResult};

    fn case(name: &str, costs: &[(Contender, u64, f64)]) -> CaseResult {
        let series = costs.iter().map(|&(contender, server_cpu_us, p50)| {
            let client = WrkResult {
                requests: 100,
                bytes: 100_000_000,
                micros: 1_000_000,
                p50,
                p99: p50,
                errors: 0,
                steady: Some(Steady { p99: p50, touched: 0.0 }),
            };
            Series {
                contender,
                rounds: vec![Round { client, server_cpu_us, sampled_cpu_us: 0, disturbed: false }],
            }
        });
        let series = series.collect();
        CaseResult { name: name.into(), title: name.into(), least: None, repeated: 0, series }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn targets_are_ratios_of_medians() {
        let results = Results {
            cases: vec![
                case(
                    "small",
                    &[
                        (Contender::Tagwire, 1000, 0.0),
                        (Contender::Nginx, 2500, 0.0),
                        (Contender::Reflector, 700, 0.0),
                    ],
                ),
                case("latency", &[(Contender::Tagwire, 0, 75.0), (Contender::Nginx, 0, 90.0)]),
            ],
            rest: Some(Rest { cpu_ns: 9_000_000, span_ns: 10_000_000_000, resident: 24 << 20 }),
            firsts: Some(Firsts { of: 10, pings: 10, curls: 9 }),
            ..Results::default()
        };
        let holds: Vec<(f64, bool)> = results
            .targets()
            .iter()
            .map(|target| ((target.figure * 1000.0).round() / 1000.0, target.holds))
            .collect();
        assert_eq!(
            holds,
            [
                (1.429, false),
                (0.4, true),
                (0.833, true),
                (0.09, true),
                (24.0, false),
                (10.0, true),
                (9.0, false),
            ]
        );
        let table = results.table();
        assert!(table.contains("MISSES") && table.contains("tagwire"));
    }

    #[test]
    fn a_mix_is_judged_by_requests_for_each_second_of_cpu() {
        let costs = [(Contender::Tagwire, 1000, 40.0), (Contender::Nginx, 2100, 50.0)];
        let mut mix = case("sizes", &costs);
        mix.least = Some(2.2);
        let results = Results { cases: vec![mix, case("half", &costs)], ..Results::default() };
        let targets = results.targets();
        let figures: Vec<_> = targets.iter().map(|target| (target.figure, target.holds)).collect();
        assert_eq!(figures, [(2.1, false), (0.8, true), (0.8, true)]);
        let table = results.table();
        assert!(table.contains("10.00 us") && table.contains("21.00 us") && table.contains("2.10"));
    }

    #[test]
    fn disturbed_rounds_count_only_where_others_are_few() {
        let mut series = case("small", &[(Contender::Nginx, 100, 0.0)]).series.remove(0);
        let quiet = series.rounds[0];
        let disturbed = Round { server_cpu_us: 900, disturbed: true, ..quiet };
        series.rounds = vec![disturbed, quiet, disturbed, quiet, disturbed];
        assert!((series.median(Round::cpu_per_request) - 9.0).abs() < 1e-9);
        assert!(series.is_disturbed() && row(&series).contains("disturbed"));
        series.rounds.push(quiet);
        assert!((series.median(Round::cpu_per_request) - 1.0).abs() < 1e-9);
        assert!(!series.is_disturbed());
    }

    #[test]
    fn a_figure_that_is_not_one_does_not_hold() {
        for bound in [Bound::AtMost, Bound::Below, Bound::AtLeast] {
            assert!(!Target::new("", f64::NAN, bound, 1.0, "").holds);
        }
    }
}
