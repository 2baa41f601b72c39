//! What the appliance opens: www-roots, control socket, admin endpoint, access log.

use std::path::Path;

use super::super::facts::{Facts, Files};
use super::super::{Finding, Verdict};
use crate::access_log::Target;
use crate::config::Config;

use Verdict::{Failed, Warning};

/// Each www-root once, however many sites have it.
pub(super) fn www_roots(facts: &Facts) -> Vec<Finding> {
    let mut seen: Vec<&Path> = Vec::new();
    let mut findings = Vec::new();
    for (path, found) in &facts.roots {
        if !seen.contains(&path.as_path()) {
            seen.push(path);
            findings.push(www_root(path, found));
        }
    }
    findings
}

fn www_root(path: &Path, found: &Result<Files, String>) -> Finding {
    let Files { count, octets, unreadable, more } = match found {
        Ok(files) => files,
        Err(error) => return Finding::said("www-root", Failed, error),
    };
    let root = path.display();
    let more = if *more { " or more" } else { "" };
    match unreadable {
        Some((1, file)) => Finding::new(
            "www-root",
            Warning,
            format!("{} cannot be read, of {count} files{more}", file.display()),
            "make it readable to this user, unless it is not to be served",
        ),
        Some((unreadable, file)) => Finding::new(
            "www-root",
            Warning,
            format!("{unreadable} of {count} files{more} cannot be read, {} say", file.display()),
            "make them readable to this user, unless they are not to be served",
        ),
        None if *count == 0 => Finding::new(
            "www-root",
            Warning,
            format!("{root} has no files that can be seen"),
            "put something there, or mount it: it is looked at again with each request",
        ),
        None => {
            let files = if *count == 1 { "file" } else { "files" };
            let octets = octets.div_ceil(1024);
            Finding::fine("www-root", format!("{root}: {count} {files}{more}, {octets} KiB{more}"))
        }
    }
}

pub(super) fn control(config: &Config, facts: &Facts) -> Option<Finding> {
    let path = config.control.as_ref()?.display();
    Some(match (&facts.control, facts.running) {
        (_, Some(process)) => Finding::new(
            "control",
            Warning,
            format!("an appliance, process {process}, answers at {path} already"),
            "nothing, if it is the one that is meant; another one needs another --control",
        ),
        (Ok(()), None) => Finding::fine("control", format!("{path} can be made")),
        (Err(error), None) => Finding::said("control", Failed, error),
    })
}

pub(super) fn admin(config: &Config, facts: &Facts) -> Option<Finding> {
    let address = config.admin?;
    Some(match (&facts.admin, facts.running) {
        (Ok(()), _) => Finding::fine("admin", format!("{address} is free")),
        (Err(_), Some(process)) => Finding::fine(
            "admin",
            format!("{address} is taken, as it must be while process {process} runs"),
        ),
        (Err(error), None) => Finding::said("admin", Failed, error),
    })
}

pub(super) fn access_log(config: &Config, facts: &Facts) -> Option<Finding> {
    let Target::File(path) = &config.access_log.target else { return None };
    Some(match &facts.access_log {
        Ok(()) => Finding::fine("access-log", format!("{} can be written", path.display())),
        Err(error) => Finding::said("access-log", Failed, error),
    })
}
