//! What test targets with a harness of their own have in common: libtest's arguments, and its way
//! of saying what came of it.

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

/// Those of libtest that mean something here; the others are all the same.
pub(crate) struct Options {
    pub(crate) list: bool,
    exact: bool,
    wanted: Vec<String>,
    skipped: Vec<String>,
}

impl Options {
    pub(crate) fn read() -> Self {
        let (mut wanted, mut skipped) = (Vec::new(), Vec::new());
        let (mut list, mut exact) = (false, false);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--list" => list = true,
                "--exact" => exact = true,
                "--skip" => skipped.extend(words.next()),
                "--test-threads" | "--format" | "--color" | "-Z" => drop(words.next()),
                _ if word.starts_with('-') => {}
                _ => wanted.push(word),
            }
        }
        Self { list, exact, wanted, skipped }
    }

    /// Whether a case of this name is to be run.
    pub(crate) fn takes(&self, name: &str) -> bool {
        let fits = |part: &String| {
            if self.exact { name == part } else { name.contains(part.as_str()) }
        };
        (self.wanted.is_empty() || self.wanted.iter().any(fits)) && !self.skipped.iter().any(fits)
    }

    /// Whether all are run.
    pub(crate) fn takes_all(&self) -> bool {
        self.wanted.is_empty() && self.skipped.is_empty()
    }
}

/// Makes the subjects of a suite; `None` where there can be no lab, and what is printed then names
/// the thread.
pub(crate) fn up<T: Send>(suite: &str, up: impl FnOnce() -> Option<T> + Send) -> Option<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(suite.to_owned()).spawn_scoped(scope, up);
        thread.unwrap().join().expect("the subjects are up")
    })
}

/// What is printed last.
pub(crate) fn verdict(cases: usize, failed: usize, started: Instant) -> ExitCode {
    let (result, passed) = (if failed == 0 { "ok" } else { "FAILED" }, cases - failed);
    let took = started.elapsed().as_secs_f64();
    println!("\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; in {took:.1}s");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same where there could be no lab.
pub(crate) fn skipped(cases: usize) -> ExitCode {
    println!("\ntest result: ok. 0 passed; 0 failed; {cases} ignored");
    ExitCode::SUCCESS
}

/// No two cases have one name.
pub(crate) fn check_names<'a>(names: impl Iterator<Item = &'a str>) {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    if let Some(two) = names.windows(2).find(|two| two[0] == two[1]) {
        panic!("two cases of the name {}", two[0]);
    }
}
