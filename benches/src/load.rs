//! The client: wrk in the lab's client namespace, on CPU 0.

use std::cell::Cell;
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

/// Asks for one of [`MANY`] files after the other, as [`many_path`] names them, in an order in which
/// neighbours are far apart; the first argument says where it begins.
const MANY_SCRIPT: &str = r"
local at = 0
init = function(arguments) at = tonumber(arguments[1]) end
request = function()
  at = at + 1
  local file = at * STEP % MANY
  return string.format(
    'GET /many/%d/%d HTTP/1.1\r\nHost: bench\r\n\r\n', math.floor(file / 1000), file % 1000)
end
";

/// How many files [`Ask::Many`] asks for.
pub const MANY: u64 = 200_000;
/// It has no divisor in common with [`MANY`]: each file has its turn.
const STEP: u64 = 7919;

/// The path of one of many.
pub fn many_path(file: u64) -> String {
    format!("many/{}/{}", file / 1000, file % 1000)
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// One file, by its path.
    File(&'static str),
    /// The same, by a client that decodes gzip.
    Gzip(&'static str),
    /// One of [`MANY`] after the other.
    Many,
}

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

impl WrkResult {
    /// Requests in a second.
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / self.micros.max(1) as f64
    }
}

/// Sets the ports that the client's kernel gives to its connections, `1024 65535` say.
///
/// # Errors
/// When the client's kernel does not take them.
pub fn port_range(lab: &Lab, range: &str) -> Result<(), BenchError> {
    let script = format!("echo {range} > /proc/sys/net/ipv4/ip_local_port_range");
    lab.client().command("sh").args(["-c", &script]).stdout_string()?;
    Ok(())
}

/// wrk, ready to run in a lab.
#[derive(Debug)]
pub struct Wrk<'a> {
    lab: &'a Lab,
    script: PathBuf,
    many_script: PathBuf,
    /// How many of many were asked for.
    asked: Cell<u64>,
}

impl<'a> Wrk<'a> {
    /// Writes the scripts into the lab's folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(lab: &'a Lab) -> io::Result<Self> {
        let (script, many_script) =
            (lab.scratch().join("wrk.lua"), lab.scratch().join("wrk-many.lua"));
        fs::write(&script, SCRIPT)?;
        let many =
            MANY_SCRIPT.replace("STEP", &STEP.to_string()).replace("MANY", &MANY.to_string());
        fs::write(&many_script, format!("{many}{SCRIPT}"))?;
        Ok(Self { lab, script, many_script, asked: Cell::new(0) })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it fails, or nothing was answered.
    pub fn run(
        &self,
        address: Ipv4Addr,
        ask: Ask,
        connections: u32,
        time: Duration,
    ) -> Result<WrkResult, BenchError> {
        let url = |path: &str| format!("http://{address}{path}");
        let asked = self.asked.get().to_string();
        let (url, script, before, behind) = match ask {
            Ask::File(path) => (url(path), &self.script, &[][..], &[][..]),
            Ask::Gzip(path) => {
                (url(path), &self.script, &["-H", "Accept-Encoding: gzip"][..], &[][..])
            }
            Ask::Many => (url("/"), &self.many_script, &[][..], &["--", &*asked][..]),
        };
        let result = self.run_script(script, &url, connections, time, before, behind)?;
        if ask == Ask::Many {
            self.asked.set(self.asked.get() + result.requests);
        }
        if result.bytes == 0 || result.errors > 0 {
            return Err(format!("not all of {ask:?} of {address} was answered: {result:?}").into());
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
        self.run_script(&self.script, url, connections, time, options, &[])
    }

    fn run_script(
        &self,
        script: &PathBuf,
        url: &str,
        connections: u32,
        time: Duration,
        before: &[&str],
        behind: &[&str],
    ) -> Result<WrkResult, BenchError> {
        let output = self
            .lab
            .client()
            .command("wrk")
            .args(["-t1", &format!("-c{connections}")])
            .arg(format!("-d{}s", time.as_secs().max(1)))
            .args(["--timeout", "60s", "-s"])
            .arg(script)
            .args(before)
            .arg(url)
            .args(behind)
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

    #[test]
    fn each_of_many_has_its_turn() {
        let mut asked = vec![false; MANY as usize];
        (1..=MANY).for_each(|at| asked[(at * STEP % MANY) as usize] = true);
        assert!(asked.iter().all(|&asked| asked));
        assert_eq!(many_path(MANY - 1), "many/199/999");
    }
}
