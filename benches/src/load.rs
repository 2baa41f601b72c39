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

/// Asks for one of [`PARTS`] of a file after the other, in such an order.
const PARTS_SCRIPT: &str = r"
local at = 0
init = function(arguments) at = tonumber(arguments[1]) end
request = function()
  at = at + 1
  local from = at * STEP % PARTS * OCTETS
  return string.format(
    'GET /HUGE HTTP/1.1\r\nHost: bench\r\nRange: bytes=%.0f-%.0f\r\n\r\n', from, from + OCTETS - 1)
end
";

/// How many files [`Ask::Many`] asks for.
pub const MANY: u64 = 200_000;
/// Parts of [`HUGE`] that [`Ask::Parts`] asks for.
pub const PARTS: u64 = 20_480;
/// Octets of each of them.
const PART: u64 = 512 << 10;
/// Name of a file that is all holes.
pub const HUGE: &str = "huge";
/// Its octets: 10 GiB.
pub const HUGE_OCTETS: u64 = PARTS * PART;
/// It has no divisor in common with [`MANY`] or [`PARTS`]: each of them has its turn.
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
    /// One of [`PARTS`] of a file after the other.
    Parts,
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
    /// The same without the machine's pauses, where they were watched.
    #[serde(default)]
    pub steady: Option<Steady>,
}

/// What is left without the answers that a pause of the machine touches ([`crate::pauses`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// The 99th percentile in microseconds.
    pub p99: f64,
    /// The part of all answers that is left out, 0 to 1.
    pub touched: f64,
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
    parts_script: PathBuf,
    /// How many of many, or of many parts, were asked for.
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
        let parts_script = lab.scratch().join("wrk-parts.lua");
        let parts = PARTS_SCRIPT
            .replace("STEP", &STEP.to_string())
            .replace("PARTS", &PARTS.to_string())
            .replace("OCTETS", &PART.to_string())
            .replace("HUGE", HUGE);
        fs::write(&parts_script, format!("{parts}{SCRIPT}"))?;
        Ok(Self { lab, script, many_script, parts_script, asked: Cell::new(0) })
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
            Ask::Parts => (url("/"), &self.parts_script, &[][..], &["--", &*asked][..]),
        };
        let result = self.run_script(script, &url, connections, time, before, behind)?;
        if matches!(ask, Ask::Many | Ask::Parts) {
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
        for count in [MANY, PARTS] {
            let mut asked = vec![false; count as usize];
            (1..=count).for_each(|at| asked[(at * STEP % count) as usize] = true);
            assert!(asked.iter().all(|&asked| asked));
        }
        assert_eq!(many_path(MANY - 1), "many/199/999");
    }
}
