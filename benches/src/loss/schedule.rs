//! All cells, several at once, the long ones first.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::arena::{Arena, FILE, Run, Server};
use super::cell::{Cell, Congestion, Kind};
use super::report::CellResult;
use crate::BenchError;

/// How often a run that was disturbed is repeated before it counts all the same.
const REPEATS: usize = 2;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The appliance.
    pub tagwire: PathBuf,
    /// Whether it has the option `--congestion`.
    pub has_option: bool,
    /// The lines.
    pub cells: Vec<Cell>,
    /// What both contenders use, one after the other.
    pub congestions: Vec<Congestion>,
    /// The wire's seeds: a run of each contender for each.
    pub seeds: Vec<u64>,
    /// How long one download may take.
    pub limit: Duration,
    /// How long a line is shared.
    pub share: Duration,
    /// Labs at once.
    pub labs: usize,
}

type Job = (Cell, Congestion);

impl Plan {
    /// About how long a job takes.
    fn guess(&self, (cell, congestion): Job) -> Duration {
        let runs = self.seeds.len() as u32;
        match cell.kind {
            Kind::Fair => self.share * runs,
            _ => cell.guess(congestion, FILE.1 as u64, self.limit) * runs * 2,
        }
    }

    /// Measures everything.
    ///
    /// # Errors
    /// When a lab cannot be had or a server fails; what runs beside is finished first.
    pub fn run(&self) -> Result<Vec<CellResult>, BenchError> {
        let jobs =
            self.congestions.iter().flat_map(|&it| self.cells.iter().map(move |&cell| (cell, it)));
        let mut jobs: Vec<Job> = jobs.collect();
        jobs.sort_by_key(|&job| std::cmp::Reverse(self.guess(job)));
        let queue = Mutex::new(Queue::new(self, jobs.into()));
        let outcome: Result<Vec<()>, BenchError> = thread::scope(|scope| {
            let labs: Vec<_> = (0..self.labs).map(|_| scope.spawn(|| self.work(&queue))).collect();
            labs.into_iter()
                .map(|lab| lab.join().map_err(|_| "a lab's thread has panicked")?)
                .collect()
        });
        outcome?;
        let mut results = queue.into_inner().unwrap_or_else(PoisonError::into_inner).done;
        results.sort_by_key(|result| {
            let at = self.cells.iter().position(|cell| *cell == result.cell);
            (result.congestion != Congestion::Cubic, at)
        });
        Ok(results)
    }

    fn work(&self, queue: &Mutex<Queue>) -> Result<(), BenchError> {
        let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        let options = |congestion: Congestion| match self.has_option {
            true => vec!["--congestion", congestion.name()],
            false => Vec::new(),
        };
        let mut arena = None;
        loop {
            let Some(job) = lock().waiting.pop_front() else { return Ok(()) };
            let outcome = match &arena {
                Some(arena) => self.measure(arena, job),
                // No lab for which there is nothing to do.
                None => Arena::open(&self.tagwire, &self.congestions, options)
                    .and_then(|opened| self.measure(arena.insert(opened), job)),
            };
            match outcome {
                Ok(result) => lock().finish(self, result),
                Err(error) => {
                    lock().waiting.clear();
                    return Err(format!("{} with {}: {error}", job.0, job.1.name()).into());
                }
            }
        }
    }

    fn measure(&self, arena: &Arena, (cell, congestion): Job) -> Result<CellResult, BenchError> {
        let mut result = CellResult { cell, congestion, tagwire: Vec::new(), kernel: Vec::new() };
        for &seed in &self.seeds {
            if cell.kind == Kind::Fair {
                let [ours, theirs] = undisturbed(
                    || arena.share(congestion, cell, seed, self.share),
                    |runs: &[Run; 2]| runs[0].disturbed,
                )?;
                result.tagwire.push(ours);
                result.kernel.push(theirs);
                continue;
            }
            for (server, runs) in
                [(Server::Tagwire, &mut result.tagwire), (Server::Kernel, &mut result.kernel)]
            {
                let download = || arena.download(server, congestion, cell, seed, self.limit);
                runs.push(undisturbed(download, |run: &Run| run.disturbed)?);
            }
        }
        Ok(result)
    }
}

/// Repeats what was disturbed, for a time.
fn undisturbed<T>(
    mut run: impl FnMut() -> Result<T, BenchError>,
    disturbed: impl Fn(&T) -> bool,
) -> Result<T, BenchError> {
    let mut outcome = run()?;
    for _ in 0..REPEATS {
        if !disturbed(&outcome) {
            break;
        }
        outcome = run()?;
    }
    Ok(outcome)
}

/// What is to be done, and what has been.
struct Queue {
    waiting: VecDeque<Job>,
    done: Vec<CellResult>,
    jobs: usize,
    start: Instant,
    /// The guess for all, and for what is done.
    guessed: Duration,
    guessed_done: Duration,
}

impl Queue {
    fn new(plan: &Plan, waiting: VecDeque<Job>) -> Self {
        let guessed: Duration = waiting.iter().map(|&job| plan.guess(job)).sum();
        let whole = guessed / plan.labs.max(1) as u32;
        eprintln!("{} cells, about {}", waiting.len(), minutes(whole));
        Self {
            jobs: waiting.len(),
            waiting,
            done: Vec::new(),
            start: Instant::now(),
            guessed,
            guessed_done: Duration::ZERO,
        }
    }

    fn finish(&mut self, plan: &Plan, result: CellResult) {
        self.guessed_done += plan.guess((result.cell, result.congestion));
        let part = self.guessed_done.as_secs_f64() / self.guessed.as_secs_f64();
        let left = self.start.elapsed().mul_f64((1.0 / part - 1.0).max(0.0));
        eprintln!(
            "{:>3}/{} {:<6}{:<14} ratio {:>6.3}{}, about {} left",
            self.done.len() + 1,
            self.jobs,
            result.congestion.name(),
            result.cell.to_string(),
            result.ratio(),
            if result.holds() { "" } else { " (misses)" },
            minutes(left),
        );
        self.done.push(result);
    }
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_disturbed_is_repeated_but_not_for_ever() {
        let count = |quiet_at: usize| {
            let mut runs = 0;
            let run = || {
                runs += 1;
                Ok(runs)
            };
            undisturbed(run, |run| *run < quiet_at).unwrap()
        };
        assert_eq!((count(1), count(2), count(9)), (1, 2, 1 + REPEATS));
    }

    #[test]
    fn the_default_fits_the_time_that_people_have() {
        let plan = Plan {
            tagwire: PathBuf::new(),
            has_option: true,
            cells: Cell::all(),
            congestions: Congestion::ALL.to_vec(),
            seeds: (1..=5).collect(),
            limit: Duration::from_secs(20),
            share: Duration::from_secs(20),
            labs: 4,
        };
        let jobs =
            plan.congestions.iter().flat_map(|&it| plan.cells.iter().map(move |&cell| (cell, it)));
        let total: Duration = jobs.map(|job| plan.guess(job)).sum();
        assert!(total / 4 < Duration::from_secs(25 * 60), "{:?}", total / 4);
    }
}
