//! The harness: each case on both, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::case::Case;
use crate::compare::{Differs, compare};
use crate::differences::{DIFFERENCES, Difference, What};
use crate::exchange;
use crate::harness::{self, Options};
use crate::subjects::Subjects;

/// How many cases run at a time.
const THREADS: usize = 8;

pub(crate) fn main(all: Vec<Case>) -> ExitCode {
    let options = Options::read();
    check_names(&all);
    let whole = options.takes_all();
    let cases: Vec<Case> = all.into_iter().filter(|case| options.takes(&case.name)).collect();
    if options.list {
        cases.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", cases.len());
    if cases.is_empty() {
        return harness::skipped(0);
    }
    let started = Instant::now();
    let Some(subjects) = harness::up("differential", Subjects::up) else {
        return harness::skipped(cases.len());
    };
    let found = run(&cases, &subjects);
    subjects.finish();
    let failed = report(&cases, &found, whole);
    harness::verdict(cases.len(), failed, started)
}

fn check_names(cases: &[Case]) {
    harness::check_names(cases.iter().map(|case| case.name.as_str()));
    for line in DIFFERENCES {
        for pattern in line.cases {
            let there = cases.iter().any(|case| fits(pattern, &case.name));
            assert!(there, "no case {pattern:?}, which is said to differ");
        }
    }
}

type Found = BTreeMap<usize, Result<BTreeSet<Differs>, ()>>;

/// Runs every case on both, several at a time.
fn run(cases: &[Case], subjects: &Subjects) -> Found {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Found::new()));
    let work = || loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(case) = cases.get(at) else { return };
        let both = panic::catch_unwind(AssertUnwindSafe(|| {
            let ask = |it: &crate::subjects::Subject| exchange::run(case, it.address, &it.etag);
            let (tagwire, nginx) = (ask(&subjects.tagwire), ask(&subjects.nginx));
            compare(&tagwire, &nginx)
        }));
        let both = both.map_err(|_| println!("{}: no whole exchange, see above", case.name));
        found.lock().unwrap_or_else(PoisonError::into_inner).insert(at, both);
    };
    let all = || {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(work);
            }
        });
    };
    subjects.bed.lab().client().run(all).unwrap();
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Prints what differs; returns how many cases failed, and how many lines of the table.
fn report(cases: &[Case], found: &Found, whole: bool) -> usize {
    let mut lines: Vec<Line> = DIFFERENCES.iter().map(Line::new).collect();
    let (mut same, mut argued, mut failed) = (0, 0, 0);
    for (at, case) in cases.iter().enumerate() {
        let Ok(differs) = &found[&at] else {
            failed += 1;
            continue;
        };
        let unknown: Vec<&Differs> = differs
            .iter()
            .filter(|one| !lines.iter_mut().any(|line| line.argues(&case.name, one)))
            .collect();
        for Differs { aspect, tagwire, nginx } in &unknown {
            println!("DIFFERS {}\n  {aspect}: tagwire {tagwire:?}, nginx {nginx:?}", case.name);
        }
        match (unknown.is_empty(), differs.is_empty()) {
            (false, _) => failed += 1,
            (true, true) => same += 1,
            (true, false) => argued += 1,
        }
    }
    println!("\n{same} cases alike, {argued} differ for a reason, {failed} without one");
    for line in &lines {
        line.tell();
        if whole && !line.tell_gone() {
            failed += 1;
        }
    }
    failed.min(cases.len())
}

/// A line of the table, and which of it was seen.
struct Line {
    said: &'static Difference,
    cases: BTreeSet<&'static str>,
    what: BTreeSet<What>,
}

impl Line {
    fn new(said: &'static Difference) -> Self {
        Self { said, cases: BTreeSet::new(), what: BTreeSet::new() }
    }

    /// Whether the line argues a difference, which it takes note of then.
    fn argues(&mut self, name: &str, one: &Differs) -> bool {
        let is = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        let what = self.said.what.iter().find(|(aspect, tagwire, nginx)| {
            *aspect == one.aspect && is(tagwire, &one.tagwire) && is(nginx, &one.nginx)
        });
        let case = self.said.cases.iter().find(|pattern| fits(pattern, name));
        let (Some(what), Some(case)) = (what, case) else { return false };
        self.cases.insert(case);
        self.what.insert(*what);
        true
    }

    fn tell(&self) {
        if !self.cases.is_empty() {
            let cases: Vec<_> = self.cases.iter().copied().collect();
            println!("\n{}\n  {}", cases.join(" | "), self.said.why);
            for (aspect, tagwire, nginx) in &self.what {
                println!("  {aspect}: tagwire {tagwire:?}, nginx {nginx:?}");
            }
        }
    }

    /// False if something of the line was not seen.
    fn tell_gone(&self) -> bool {
        let cases = self.said.cases.iter().filter(|it| !self.cases.contains(*it));
        let what = self.said.what.iter().filter(|it| !self.what.contains(*it));
        let gone: Vec<String> =
            cases.map(|it| format!("{it:?}")).chain(what.map(|it| format!("{it:?}"))).collect();
        if !gone.is_empty() {
            println!("\nNO LONGER SO: {}\n  {}", gone.join(", "), self.said.why);
        }
        gone.is_empty()
    }
}

/// Whether a name is what a pattern of the table means: itself, or what it begins with before `*`.
fn fits(pattern: &str, name: &str) -> bool {
    pattern == name || pattern.strip_suffix('*').is_some_and(|start| name.starts_with(start))
}
