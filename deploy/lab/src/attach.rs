//! Commands in a lab that another process keeps up.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::error::{LabError, LabResult};
use crate::janitor::{Record, live_records};
use crate::namespace::netns_path;

/// Becomes a command in a namespace of a lab that is up. `place` is `cli`, `node` or
/// `pod0`, `pod1`...; `lab` may be left out if there is only one.
///
/// # Errors
///
/// When the lab, the place or the command is not there. There is no other return.
pub fn exec(lab: Option<&str>, place: &str, command: &[OsString]) -> LabResult<Infallible> {
    let records = live_records();
    let record = choose(&records, lab)?;
    if !record.roles.iter().any(|role| role == place) {
        return Err(LabError::new(
            format!("no {place} in the lab {}", record.name),
            format!("it has: {}", record.roles.join(", ")),
            "name one of those",
        ));
    }
    let mut net = OsString::from("--net=");
    net.push(netns_path(&record.namespace(place)));
    let error = Command::new("nsenter").args([&net, OsStr::new("--")]).args(command).exec();
    Err(LabError::new("cannot run nsenter", error, "apt-get install -y util-linux"))
}

fn choose<'a>(records: &'a [Record], lab: Option<&str>) -> LabResult<&'a Record> {
    let names = || records.iter().map(|record| record.name.as_str()).collect::<Vec<_>>().join(", ");
    match (records, lab) {
        ([], _) => Err(LabError::new(
            "no lab to enter",
            "none is up",
            "bring one up in another terminal: `tagwire-lab up`",
        )),
        (_, Some(lab)) => records.iter().find(|record| record.name == lab).ok_or_else(|| {
            LabError::new(
                format!("no lab {lab}"),
                format!("up are: {}", names()),
                "name one of those",
            )
        }),
        ([one], None) => Ok(one),
        (_, None) => Err(LabError::new(
            "several labs are up",
            names(),
            "choose one of those with --lab, or TAGWIRE_LAB in the environment",
        )),
    }
}
