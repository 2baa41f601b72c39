//! The one capability: where it comes from, what is said where it does not, and that it is gone once
//! the appliance serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tagwire_lab::{APPLIANCE_ID, Lab, LabCommand};

use crate::bed::{Bed, said, wait_until};

/// The fields of /proc/PID/task/TID/status that are about capabilities, of each thread.
pub(crate) fn threads(bed: &Bed) -> Vec<(String, Vec<(String, String)>)> {
    let pid = bed.status()["pid"].as_u64().unwrap();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let texts = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let fields = |text: &str| -> Vec<(String, String)> {
        let fields = text.lines().filter_map(|line| line.split_once(":\t"));
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    texts.map(|text| fields(&text)).map(|fields| (fields[0].1.clone(), fields)).collect()
}

/// No thread has a capability, or may ever get one; the bounding set is as it says.
fn assert_without_privileges(bed: &Bed, bounding: &str) {
    let threads = threads(bed);
    assert!(threads.len() > 3, "{threads:?}");
    for (thread, fields) in threads {
        let none = "0000000000000000";
        for (name, expected) in [
            ("CapInh", none),
            ("CapPrm", none),
            ("CapEff", none),
            ("CapBnd", bounding),
            ("CapAmb", none),
            ("NoNewPrivs", "1"),
        ] {
            let value = fields.iter().find(|(field, _)| field == name).map(|(_, value)| &**value);
            assert_eq!(value, Some(expected), "{thread}: {name}");
        }
    }
}

#[test]
fn every_thread_is_without_and_nothing_needs_one() {
    let Some(mut bed) = Bed::down(Lab::builder().ipv6()) else { return };
    let other = bed.lab().scratch().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("index.html"), "the other one").unwrap();
    let site = |root: &Path| format!("[[site]]\nwww-root = \"{}\"\n", root.display());
    let text = format!(
        "workers = 2\nvlan = 123\nsandbox-read = \"{}\"\naddress = [\"192.168.123.150/24\", \"fd00:123::150/64\"]\n\
         [limits]\nidle-timeout = 30\n{}",
        other.display(),
        site(&bed.www())
    );
    let path = bed.configure_all(&text);
    bed.start_with(bed.command(&["serve", "--config", &path]));
    bed.assert_serves();
    // Without CAP_SETPCAP the bounding set stays what it was: CAP_NET_RAW, which nobody can get.
    assert_without_privileges(&bed, "0000000000002000");

    // The link goes and comes, and with it the groups that IPv6 has joined.
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "down"]);
    wait_until("the link is down", Duration::from_secs(5), || bed.status()["link_up"] == false);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "up"]);
    wait_until("the link is up", Duration::from_secs(5), || bed.status()["link_up"] == true);
    bed.assert_serves();
    bed.client_ok(&["ip", "neigh", "flush", "all"]);
    bed.client_ok(&["ping", "-6", "-c1", "-W5", "fd00:123::150"]);

    // A reload with one site more.
    let more = format!(
        "{text}[[site]]\nhosts = [\"other.example\"]\nwww-root = \"{}\"\n",
        other.display()
    );
    bed.configure_all(&more);
    let reload = bed.command(&["reload", "--control"]).arg(bed.control()).output().unwrap();
    assert!(reload.status.success(), "{}", said(&reload));
    let url = bed.url("/");
    let answer = bed.client_ok(&["curl", "-sS", "-m5", "-H", "Host: other.example", &url]);
    assert_eq!(answer, "the other one");
    assert_without_privileges(&bed, "0000000000002000");
    bed.finish();
}

#[test]
fn root_without_capabilities_goes_by_the_modes_of_files() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let www = bed.www();
    let private = bed.lab().scratch().join("private");
    fs::create_dir(&private).unwrap();
    fs::write(private.join("index.html"), "").unwrap();
    let modes = [(private.clone(), 0o700)];
    for (path, mode) in modes {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(APPLIANCE_ID), None).unwrap();
    }
    let run = bed.lab().scratch().join("root");
    fs::create_dir(&run).unwrap();
    let serve = |root: &Path| {
        let command = bed.lab().pod(0).command("timeout").args(["-s", "KILL", "20"]);
        let command = command.arg(bed.program()).args(["serve", "--interface", "macvlan0"]);
        let command = command.args(["--vlan", "123", "--address", "192.168.123.150/24"]);
        command.arg("--www-root").arg(root)
    };
    let output = serve(&private).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(error.contains("user 0 may read: it gives up"), "{error}");

    let command =
        bed.lab().pod(0).command(bed.program()).args(["serve", "--interface", "macvlan0"]);
    let command = command.args(["--vlan", "123", "--address", "192.168.123.150/24"]);
    let control = bed.control();
    let command = command.arg("--www-root").arg(www).arg("--control").arg(&control);
    std::os::unix::fs::chown(control.parent().unwrap(), Some(0), None).unwrap();
    bed.start_with(command);
    bed.assert_serves();
    let status = bed.lab().pod(0).command(bed.program()).args(["status", "--json", "--control"]);
    let status: serde_json::Value =
        serde_json::from_str(&status.arg(&control).stdout_string().unwrap()).unwrap();
    let pid = status["pid"].as_u64().unwrap();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let sets = text.lines().filter_map(|line| line.strip_prefix("Cap"));
        for set in sets {
            assert!(set.ends_with(":\t0000000000000000"), "{text}");
        }
    }
    bed.finish();
}

/// The program with `cap_net_raw+p` on its file.
pub(crate) fn capable(bed: &Bed) -> PathBuf {
    let program = bed.program().with_file_name("tagwire-capable");
    fs::copy(bed.program(), &program).unwrap();
    let set = std::process::Command::new("setcap").arg("cap_net_raw+p").arg(&program).status();
    assert!(set.unwrap().success());
    program
}

/// `tagwire serve` as the appliance's user, with the capabilities that `setpriv` leaves it.
fn serve(bed: &Bed, privileges: &[&str], program: &Path) -> LabCommand {
    let id = APPLIANCE_ID.to_string();
    let command = bed.lab().pod(0).command("timeout").args(["-s", "KILL", "20", "setpriv"]);
    command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(privileges)
        .arg(program)
        .args(["serve", "--interface", "macvlan0", "--vlan", "123"])
        .args(["--address", "192.168.123.150/24", "--www-root"])
        .arg(bed.www())
}

/// It must end with exit status 1 and one line that has `field`.
fn assert_lacks(command: LabCommand, field: &str) {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{field}: {}", said(&output));
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("tagwire: error: ") && error.contains(field), "{error}");
}

const ALONE: [&str; 2] = ["--inh-caps", "-all"];

#[test]
fn the_capability_of_the_file_is_raised() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let program = capable(&bed);
    let id = APPLIANCE_ID.to_string();
    let command = bed.lab().pod(0).command("setpriv");
    let command = command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(ALONE)
        .arg(&program)
        .args(["serve", "--interface", "macvlan0", "--vlan", "123"])
        .args(["--address", "192.168.123.150/24", "--www-root"])
        .arg(bed.www())
        .arg("--control")
        .arg(bed.control());
    bed.start_with(command);
    bed.assert_serves();
    for (thread, fields) in threads(&bed) {
        for set in ["CapPrm", "CapEff"] {
            let (_, value) = fields.iter().find(|(name, _)| name == set).unwrap();
            assert_eq!(value, "0000000000000000", "{thread}: {set}");
        }
    }
    bed.finish();
}

#[test]
fn without_any_capability_setcap_is_named() {
    let Some(bed) = Bed::down(Lab::builder()) else { return };
    let program = bed.program().display();
    assert_lacks(serve(&bed, &ALONE, bed.program()), &format!("'setcap cap_net_raw+p {program}'"));
    bed.finish();
}

#[test]
fn no_new_privs_is_named() {
    let Some(bed) = Bed::down(Lab::builder()) else { return };
    let program = capable(&bed);
    // By two steps: what the first setpriv itself may, it would keep for the program.
    let privileges = [&ALONE[..], &["setpriv", "--no-new-privs"]].concat();
    assert_lacks(serve(&bed, &privileges, &program), "allowPrivilegeEscalation: true");
    bed.finish();
}

#[test]
fn the_bounding_set_is_named() {
    let Some(bed) = Bed::down(Lab::builder()) else { return };
    let program = capable(&bed);
    let privileges = [&ALONE[..], &["--bounding-set", "-all"]].concat();
    assert_lacks(serve(&bed, &privileges, &program), "capabilities.add: [NET_RAW]");
    bed.finish();
}

#[test]
fn a_foreign_network_namespace_is_named() {
    let Some(bed) = Bed::down(Lab::builder()) else { return };
    let command = bed.lab().pod(0).command("timeout").args(["-s", "KILL", "20"]);
    let command = command.args(["unshare", "--user", "--map-root-user"]).arg(bed.program());
    let command = command.args(["serve", "--interface", "macvlan0", "--vlan", "123"]);
    let command = command.args(["--address", "192.168.123.150/24", "--www-root"]).arg(bed.www());
    assert_lacks(command, "hostNetwork: false");
    bed.finish();
}

#[test]
fn a_file_system_without_suid_is_named() {
    let Some(bed) = Bed::down(Lab::builder()) else { return };
    let folder = bed.lab().scratch().join("nosuid");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("tagwire");
    // In a mount namespace of its own, which ends with it.
    let script = "mount -t tmpfs -o nosuid,mode=755 nosuid \"$1\" && cp \"$2\" \"$1/tagwire\" && \
                  setcap cap_net_raw+p \"$1/tagwire\" && shift 2 && exec \"$@\"";
    let id = APPLIANCE_ID.to_string();
    let command = bed.lab().pod(0).command("timeout").args(["-s", "KILL", "20"]);
    let command = command
        .args(["unshare", "--mount", "sh", "-c", script, "sh"])
        .arg(&folder)
        .arg(bed.program())
        .args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(ALONE)
        .arg(&program)
        .args(["serve", "--interface", "macvlan0", "--vlan", "123"])
        .args(["--address", "192.168.123.150/24", "--www-root"])
        .arg(bed.www());
    assert_lacks(command, "mounted nosuid");
    bed.finish();
}
