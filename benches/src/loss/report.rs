//! The table of goodputs, and which targets hold.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::arena::Run;
use super::cell::{Cell, Congestion, Kind, Target};
use crate::report::median;

/// What came of a cell with one congestion control.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CellResult {
    /// The line.
    pub cell: Cell,
    /// Of both contenders.
    pub congestion: Congestion,
    /// Tagwire's runs, one for each seed.
    pub tagwire: Vec<Run>,
    /// nginx's on the kernel's TCP, with the same seeds.
    pub kernel: Vec<Run>,
}

impl CellResult {
    /// Our median over the kernel's.
    pub fn ratio(&self) -> f64 {
        goodput(&self.tagwire) / goodput(&self.kernel)
    }

    /// What is asked of it.
    pub fn target(&self) -> Target {
        self.cell.target(self.congestion)
    }

    /// Whether the target holds.
    pub fn holds(&self) -> bool {
        self.target().holds(self.ratio())
    }

    fn row(&self) -> String {
        let disturbed = self.tagwire.iter().chain(&self.kernel).filter(|run| run.disturbed).count();
        let cut = |runs: &[Run]| {
            !matches!(self.cell.kind, Kind::Fair) && runs.iter().any(|run| !run.complete)
        };
        format!(
            "  {:<16}{:>9.3}{}{:>9.3}{}{:>9.3}   {:<11}{}{}",
            self.cell.to_string(),
            goodput(&self.tagwire) / 1e6,
            if cut(&self.tagwire) { "*" } else { " " },
            goodput(&self.kernel) / 1e6,
            if cut(&self.kernel) { "*" } else { " " },
            self.ratio(),
            self.target().to_string(),
            if self.holds() { "holds" } else { "MISSES" },
            if disturbed == 0 { String::new() } else { format!("  {disturbed} disturbed") },
        )
    }
}

/// The median of runs' octets in a second.
fn goodput(runs: &[Run]) -> f64 {
    median(runs.iter().map(Run::goodput).collect())
}

/// The table.
pub fn table(results: &[CellResult]) -> String {
    let mut text = String::new();
    for congestion in Congestion::ALL {
        let cells: Vec<&CellResult> =
            results.iter().filter(|result| result.congestion == congestion).collect();
        if cells.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "\n{:<18}{:>9} {:>9} {:>9}   target",
            congestion.name(),
            "tagwire",
            "kernel",
            "ratio"
        );
        for cell in &cells {
            let _ = writeln!(text, "{}", cell.row());
        }
        let held = cells.iter().filter(|cell| cell.holds()).count();
        let _ = writeln!(text, "  {held} of {} hold", cells.len());
    }
    text + "\nMB/s, medians of the seeds. *: cut by the time limit, octets until then.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(megabytes: &[u64]) -> Vec<Run> {
        let run = |(seed, octets): (u64, &u64)| Run {
            seed,
            octets: octets * 1_000_000,
            micros: 1_000_000,
            complete: true,
            disturbed: false,
        };
        (0..).zip(megabytes).map(run).collect()
    }

    #[test]
    fn the_ratio_is_of_medians_and_the_table_says_what_holds() {
        let result = |cell: &str, tagwire: &[u64], kernel: &[u64]| CellResult {
            cell: cell.parse().unwrap(),
            congestion: Congestion::Cubic,
            tagwire: runs(tagwire),
            kernel: runs(kernel),
        };
        let mut results =
            vec![result("1%@20ms", &[9, 1, 2], &[1, 2, 9]), result("fair@20ms", &[3], &[2])];
        assert_eq!(results[0].ratio(), 1.0);
        assert!(results[0].holds() && !results[1].holds());
        results[0].kernel[0].complete = false;
        results[0].kernel[1].disturbed = true;
        let table = table(&results);
        assert!(table.contains("2.000*") && table.contains("1 disturbed"), "{table}");
        assert!(table.contains("1 of 2 hold") && !table.contains("bbr"), "{table}");
    }
}
