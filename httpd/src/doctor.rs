//! `tagwire doctor`: what would keep `tagwire serve` with the same options from working, and what to
//! do about it, before anything runs.
//!
//! [`facts`] are gathered first; each of the [`checks`] is a plain function of them.

mod checks;
mod facts;
mod network;
mod rivals;

use std::fmt::{Display, Write};
use std::io::IsTerminal;

use serde_json::{Value, json};

use crate::config::Config;
use facts::Facts;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// It may work; what to look at is said.
    Warning,
    /// It will not.
    Failed,
    /// It cannot be seen from here.
    Unknown,
}

impl Verdict {
    /// Its name in JSON, for people, and the SGR colour (ECMA-48 8.3.117) of that.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Fine => ("fine", "ok  ", "32"),
            Self::Warning => ("warning", "warn", "33"),
            Self::Failed => ("failed", "FAIL", "31"),
            Self::Unknown => ("unknown", "?   ", "36"),
        }
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// A name that scripts may rely on.
    check: &'static str,
    verdict: Verdict,
    /// What is so.
    found: String,
    /// What to do, where there is something.
    remedy: Option<String>,
}

impl Finding {
    fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fine, found: found.into(), remedy: None }
    }

    fn new(
        check: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check, verdict, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// From the line that the start would end with: "what is wrong; what to do".
    fn said(check: &'static str, verdict: Verdict, line: &impl Display) -> Self {
        let line = line.to_string();
        match line.split_once("; ") {
            Some((found, remedy)) => Self::new(check, verdict, found, remedy),
            None => Self { check, verdict, found: line, remedy: None },
        }
    }
}

/// Looks at everything; what is to be printed, and whether all of it would work.
pub fn examine(config: &Config, json: bool) -> (String, bool) {
    let findings = checks::all(config, &Facts::gather(config));
    let fine = findings.iter().all(|finding| finding.verdict != Verdict::Failed);
    // https://no-color.org
    let coloured = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    (if json { object(&findings, fine) } else { lines(&findings, coloured) }, fine)
}

fn object(findings: &[Finding], fine: bool) -> String {
    let one = |Finding { check, verdict, found, remedy }: &Finding| {
        let (verdict, ..) = verdict.names();
        json!({ "check": check, "verdict": verdict, "found": found, "remedy": remedy })
    };
    let checks: Vec<Value> = findings.iter().map(one).collect();
    format!("{}\n", json!({ "fine": fine, "checks": checks }))
}

/// A line for each check, its remedy below, and a count at the end.
fn lines(findings: &[Finding], coloured: bool) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { check, verdict, found, remedy } in findings {
        let (_, word, colour) = verdict.names();
        let word = if coloured { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{word}  {check:width$}  {found}");
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "{:indent$}-> {remedy}", "", indent = width + 8);
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (failed, warned) = (count(Verdict::Failed), count(Verdict::Warning));
    let unknown = count(Verdict::Unknown);
    let all = findings.len();
    let _ = writeln!(text, "{all} checks: {failed} failed, {warned} warned, {unknown} unknown");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_people_and_an_object_for_programs() {
        let findings = [
            Finding::fine("link", "up"),
            Finding::said("memory", Verdict::Warning, &"little; give more"),
            Finding::said("capability", Verdict::Failed, &"missing"),
            Finding::new("master", Verdict::Unknown, "out of sight", "look there"),
        ];
        let plain = "ok    link        up\n\
                     warn  memory      little\n                  -> give more\n\
                     FAIL  capability  missing\n\
                     ?     master      out of sight\n                  -> look there\n\
                     4 checks: 1 failed, 1 warned, 1 unknown\n";
        assert_eq!(lines(&findings, false), plain);
        assert!(lines(&findings, true).starts_with("\x1b[32mok  \x1b[0m  link"));
        let object: Value = serde_json::from_str(&object(&findings, false)).unwrap();
        assert_eq!(object["fine"], false);
        let checks = &object["checks"];
        assert_eq!(
            (&checks[1]["found"], &checks[1]["remedy"]),
            (&"little".into(), &"give more".into())
        );
        assert_eq!((&checks[2]["verdict"], &checks[2]["remedy"]), (&"failed".into(), &Value::Null));
        assert_eq!(checks[3]["verdict"], "unknown");
    }
}
