//! The client: wrk in the lab's client namespace, on CPU 0.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tagwire_lab::Lab;

use crate::BenchError;

/// Prints exact figures where wrk itself rounds to three digits. It only defines `done`: the
/// requests themselves are made without Lua.
const SCRIPT: &str = r#"
done = function(summary, latency)
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests":%d,"bytes":%d,"micros":%d,"p50":%.0f,"p99":%.0f,"errors":%d}',
    summary.requests, summary.bytes, summary.duration, latency:percentile(50),
    latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"#;

/// What wrk counted in one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WrkResult {
    /// Requests answered.
    pub requests: u64,
    /// Octets received, headers included.
    pub bytes: u64,
    /// How long it ran.
    pub micros: u64,
    /// Median latency in microseconds.
    pub p50: f64,
    /// The 99th percentile in microseconds.
    pub p99: f64,
    /// Connections and requests that failed.
    pub errors: u64,
}

/// wrk, ready to run in a lab.
#[derive(Debug)]
pub struct Wrk<'a> {
    lab: &'a Lab,
    script: PathBuf,
}

impl<'a> Wrk<'a> {
    /// Writes the script into the lab's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(lab: &'a Lab) -> io::Result<Self> {
        let script = lab.scratch().join("wrk.lua");
        fs::write(&script, SCRIPT)?;
        Ok(Self { lab, script })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it fails, or nothing was answered.
    pub fn run(
        &self,
        address: Ipv4Addr,
        path: &str,
        connections: u32,
        time: Duration,
    ) -> Result<WrkResult, BenchError> {
        let url = format!("http://{address}{path}");
        let result = self.run_as_it_comes(&url, connections, time, &[])?;
        if result.bytes == 0 || result.errors > 0 {
            return Err(format!("not all of {url} was answered: {result:?}").into());
        }
        Ok(result)
    }

    /// Runs it to its end, with more options, whatever comes of it.
    ///
    /// # Errors
    /// When wrk itself fails.
    pub fn run_as_it_comes(
        &self,
        url: &str,
        connections: u32,
        time: Duration,
        options: &[&str],
    ) -> Result<WrkResult, BenchError> {
        let output = self
            .lab
            .client()
            .command("wrk")
            .args(["-t1", &format!("-c{connections}")])
            .arg(format!("-d{}s", time.as_secs().max(1)))
            .args(["--timeout", "60s", "-s"])
            .arg(&self.script)
            .args(options)
            .arg(url)
            .cpus("0")
            .stdout_string()?;
        parse(&output).ok_or_else(|| format!("wrk said of {url}:\n{output}").into())
    }
}

fn parse(output: &str) -> Option<WrkResult> {
    let json = output.lines().find_map(|line| line.strip_prefix("RESULT "))?;
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_line_is_found_among_wrks_own() {
        let output = "Running 1s test\n  1 threads\nRESULT {\"requests\":7,\"bytes\":8,\
                      \"micros\":9,\"p50\":10,\"p99\":11,\"errors\":0}\n";
        let result = parse(output).unwrap();
        assert_eq!((result.requests, result.bytes, result.p50), (7, 8, 10.0));
        assert_eq!(parse("wrk: command not found"), None);
    }
}
