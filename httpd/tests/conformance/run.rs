//! The harness: which cases, on how many threads, and what came of it.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::case::{Case, Families};
use crate::differences::{DIFFERENCES, Difference};
use crate::harness::{self, Options};
use crate::host::{Family, Host};
use crate::hub::Hub;
use crate::subjects::{Name, Subject, Subjects};

/// How many cases run at a time. They wait more than they work.
const THREADS: usize = 24;

/// What a case came to on one subject: why it failed, if it did.
type Outcome = Result<(), String>;

pub(crate) fn main(all: Vec<Case>) -> ExitCode {
    let options = Options::read();
    check_table(&all);
    let cases: Vec<Case> = all.into_iter().filter(|case| options.takes(case.name)).collect();
    if options.list {
        for case in &cases {
            println!("{}: test ({})", case.name, case.clause());
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", cases.len());
    let started = Instant::now();
    if cases.is_empty() {
        return harness::skipped(0);
    }
    let Some(subjects) = harness::up("conformance", Subjects::up) else {
        return harness::skipped(cases.len());
    };
    let outcomes = run(&cases, &subjects);
    let failed = report(&cases, &outcomes);
    subjects.finish();
    harness::verdict(cases.len(), failed, started)
}

/// The table names cases that are there, each once for a subject.
fn check_table(all: &[Case]) {
    for (at, line) in DIFFERENCES.iter().enumerate() {
        assert!(all.iter().any(|case| case.name == line.case), "no case {}", line.case);
        let twice = DIFFERENCES[..at].iter().any(|it| it.case == line.case && it.who == line.who);
        assert!(!twice, "{} is in the table twice", line.case);
    }
    harness::check_names(all.iter().map(|case| case.name));
}

fn argued(case: &str, who: Name) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|line| line.case == case && line.who == who)
}

type Outcomes = BTreeMap<(usize, usize), Outcome>;

/// Runs every case on every subject, several at a time.
fn run(cases: &[Case], subjects: &Subjects) -> Outcomes {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let said = said(info.payload());
        MESSAGE.set(format!("{said} ({place})"));
    }));
    let hub = Arc::new(Hub::open(subjects.bed.lab()));
    let (next, numbers) = (AtomicUsize::new(0), Numbers::new());
    let outcomes = Mutex::new(Outcomes::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let (case, subject) = (at / 2, at % 2);
                    if case >= cases.len() {
                        return;
                    }
                    let attempt = || {
                        let number = numbers.free().pop_front().expect("fewer threads");
                        let outcome = on(&cases[case], subjects.all[subject], &hub, number);
                        numbers.free().push_back(number);
                        outcome
                    };
                    let mut outcome = attempt();
                    let (name, who) = (cases[case].name, subjects.all[subject].name);
                    if let Err(why) = &outcome
                        && argued(name, who).is_none()
                    {
                        // Some clauses are about time, and the machine may have been busy.
                        println!("again: {name} on {who:?}: {why}");
                        outcome = attempt();
                    }
                    let mut all = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    all.insert((case, subject), outcome);
                }
            });
        }
    });
    drop(panic::take_hook());
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Host numbers that are free, those that were longest so first. They are the last octet of an
/// address: beside the client, the pods and the broadcast address.
struct Numbers(Mutex<VecDeque<u8>>);

impl Numbers {
    fn new() -> Self {
        Self(Mutex::new((2..=140).chain(160..=250).collect()))
    }

    fn free(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn on(case: &Case, subject: Subject, hub: &Arc<Hub>, number: u8) -> Outcome {
    let families: &[Family] = match case.families {
        Families::V4 => &[Family::V4],
        Families::V6 => &[Family::V6],
        Families::Both => &[Family::V4, Family::V6],
    };
    for &family in families {
        let started = Instant::now();
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut host = Host::new(Arc::clone(hub), subject, number, family);
            (case.run)(&mut host);
        }));
        if std::env::var_os("CONFORMANCE_TIMES").is_some() {
            println!("{:6.3}s {:?} {}", started.elapsed().as_secs_f64(), subject.name, case.name);
        }
        outcome.map_err(|_| format!("{family:?}: {}", MESSAGE.take()))?;
    }
    Ok(())
}

/// Prints the matrix and what does not fit it; returns how many cases failed.
fn report(cases: &[Case], outcomes: &Outcomes) -> usize {
    println!("\n{:<84} {:<28} {:<9} {:<9}", "case", "clause", "tagwire", "linux");
    let mut complaints = BTreeMap::new();
    for (at, case) in cases.iter().enumerate() {
        let mut cells = Vec::new();
        for (index, who) in [Name::Tagwire, Name::Linux].into_iter().enumerate() {
            let (cell, complaint) = match (&outcomes[&(at, index)], argued(case.name, who)) {
                (Ok(()), None) => ("pass", None),
                (Err(_), Some(_)) => ("differs", None),
                (Ok(()), Some(_)) => ("pass", Some("passes, but is argued to differ".to_owned())),
                (Err(why), None) => ("FAIL", Some(why.clone())),
            };
            cells.push(cell);
            if let Some(complaint) = complaint {
                complaints.entry(at).or_insert_with(Vec::new).push((who, complaint));
            }
        }
        println!("{:<84} {:<28} {:<9} {:<9}", case.name, case.clause(), cells[0], cells[1]);
    }
    let shown = DIFFERENCES.iter().filter(|line| cases.iter().any(|case| case.name == line.case));
    for line in shown {
        println!("\n{:?} differs in {}:\n  {}", line.who, line.case, line.why);
    }
    for (at, whys) in &complaints {
        for (who, why) in whys {
            println!("\nFAILED {} on {who:?}:\n  {why}", cases[*at].name);
        }
    }
    complaints.len()
}
