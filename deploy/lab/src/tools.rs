//! What the lab needs of the machine: root and a few programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use crate::error::{LabError, LabResult};

/// The programs that every lab runs.
pub(crate) const REQUIRED: &[&str] = &["ip", "ethtool", "nsenter", "setpriv", "taskset"];

/// Where a Debian package has each program.
const PACKAGES: &[(&str, &str)] = &[
    ("chromium-headless-shell", "chromium-headless-shell"),
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("h2load", "nghttp2-client"),
    ("ip", "iproute2"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("setpriv", "util-linux"),
    ("sha256sum", "coreutils"),
    ("taskset", "util-linux"),
    ("tcpdump", "tcpdump"),
    ("wget", "wget"),
    ("wrk", "wrk"),
];

/// Says what is missing of `tools`, with the command that installs it.
///
/// # Errors
///
/// When any of them is not on the PATH nor in the system's `sbin`.
pub fn require_tools(tools: &[&str]) -> LabResult<()> {
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| find(tool).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing
        .iter()
        .map(|tool| PACKAGES.iter().find(|(name, _)| name == tool).map_or(*tool, |(_, p)| *p))
        .collect();
    packages.sort_unstable();
    packages.dedup();
    Err(LabError::new(
        "the lab lacks tools",
        format!("not installed: {}", missing.join(", ")),
        format!("apt-get install -y {}", packages.join(" ")),
    ))
}

/// Whether a lab can be brought up here: by root, with the right to make network
/// namespaces, and with the tools. The error says what is missing; a test that gets one
/// prints it and is skipped.
///
/// # Errors
///
/// A sentence for people.
pub fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces are made, which takes root".to_owned());
    }
    require_tools(REQUIRED).map_err(|error| error.to_string())?;
    // On a thread of its own, which leaves the trial namespace with its end.
    let trial = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
    match trial {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            Err(format!("a network namespace is refused ({error}), which takes CAP_SYS_ADMIN"))
        }
        Err(_) => Err("the trial of a network namespace has panicked".to_owned()),
    }
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(tool))
        .find(|candidate| candidate.is_file())
}

/// Runs a tool to its end and returns what it printed.
pub(crate) fn run_tool(tool: &str, args: &[&str]) -> LabResult<String> {
    run_tool_with_input(tool, args, "")
}

/// Runs a tool to its end with `input` on its standard input.
pub(crate) fn run_tool_with_input(tool: &str, args: &[&str], input: &str) -> LabResult<String> {
    let line = format!("{tool} {}", args.join(" "));
    let failed = |why: String| {
        LabError::new(
            format!("`{line}` has failed"),
            if input.is_empty() { why } else { format!("{why}\n  its input was:\n{input}") },
            "see what the tool says; `tagwire-lab clean` removes what dead labs left behind",
        )
    };
    let program = find(tool).unwrap_or_else(|| Path::new(tool).to_path_buf());
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ends without reading all says why itself.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tools_come_with_the_command_that_installs_them() {
        assert_eq!(require_tools(&["sh"]), Ok(()));
        let error = require_tools(&["sh", "no-such-tool", "no-such-tool"]).unwrap_err();
        assert_eq!(error.fix(), "apt-get install -y no-such-tool");
    }
}
