//! A control group whose memory is limited, as a pod's is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tagwire_lab::{APPLIANCE_ID, Lab, LabCommand};

use crate::bed::{Bed, said};

/// A control group, of version 1 or 2, that is gone with it.
struct ControlGroup(PathBuf);

impl ControlGroup {
    /// One with that limit; `None` where there can be none.
    fn limited(mebibytes: u64) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (id, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("tagwire-e2e-{id}-{number}");
        let mounts = [("memory", "memory.limit_in_bytes"), ("", "memory.max")];
        for (mount, file) in mounts {
            let group = Path::new("/sys/fs/cgroup").join(mount).join(&name);
            if fs::create_dir(&group).is_err() {
                continue;
            }
            let group = Self(group);
            // Where version 2 does not count memory for its root's children there is no such file.
            if fs::write(group.0.join(file), (mebibytes << 20).to_string()).is_ok() {
                return Some(group);
            }
        }
        eprint!("\nLEFT OUT (needs a control group of its own for memory)\n");
        None
    }

    /// The program in the group, as the appliance's user with its capability.
    fn command(&self, bed: &Bed) -> LabCommand {
        let id = APPLIANCE_ID.to_string();
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.0.display());
        let command = bed.lab().pod(0).command("sh").args(["-c", &join, "sh"]);
        let command = command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        let raw = "-all,+net_raw";
        let command =
            command.args(["--inh-caps", raw, "--ambient-caps", raw, "--pdeathsig", "KILL"]);
        command.arg(bed.program())
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // One that is not empty yet stays: it is nobody's.
        let _ = fs::remove_dir(&self.0);
    }
}

fn with_options(bed: &Bed, command: LabCommand, verb: &str) -> LabCommand {
    let command = command.args([verb, "--interface", "macvlan0", "--vlan", "123"]);
    let command = command.args(["--address", "192.168.123.150/24", "--www-root"]).arg(bed.www());
    command.arg("--control").arg(bed.control())
}

#[test]
fn a_limit_of_32_mib_is_one_line_and_exit_code_1() {
    let Some(bed) = Bed::down(Lab::builder()) else { return };
    let Some(group) = ControlGroup::limited(32) else { return };
    let output = with_options(&bed, group.command(&bed), "serve").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in ["tagwire: error: the memory limit is 32 MiB", "resources.limits.memory"] {
        assert!(error.contains(part), "{error}");
    }
    let output = with_options(&bed, group.command(&bed), "doctor").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(text.contains("FAIL  memory") && text.contains("resources.limits.memory"), "{text}");
    bed.finish();
}

#[test]
fn a_limit_below_what_all_may_take_is_warned_about() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let Some(group) = ControlGroup::limited(64) else { return };
    bed.start_with(with_options(&bed, group.command(&bed), "serve"));
    bed.assert_serves();
    let log = bed.appliance().log();
    let told = |line: &&str| line.contains("WARN") && line.contains("the memory limit is 64 MiB");
    assert_eq!(log.lines().filter(told).count(), 1, "{log}");
    bed.finish();
}
