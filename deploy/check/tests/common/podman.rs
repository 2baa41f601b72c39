//! A pod of the image, run by podman.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use tagwire_deploy::root;
use tagwire_lab::{Lab, LabCommand};

use crate::common::Store;

pub(crate) const URL: &str = "http://192.168.123.150/";

/// A pod by `make deploy OVERLAY=podman`, in a lab.
pub(crate) struct PodmanPod {
    store: Store,
    pub(crate) lab: Lab,
}

impl PodmanPod {
    pub(crate) fn up(more: &[(&str, &str)]) -> Option<Self> {
        let programs = ["buildah", "cargo-auditable", "podman", "runc", "kubectl"];
        let store = Store::open(&programs)?;
        store.make_image();
        let pod = Self { store, lab: Lab::up().unwrap() };
        pod.remove();
        let variables = [
            ("OVERLAY", "podman"),
            ("MACVLAN_MASTER", "nic0"),
            ("VLAN_ID", "123"),
            ("IP_ADDRESS", "192.168.123.150/24"),
        ];
        let mut deploy = pod.on_node(root().join("deploy/manifests")).arg("apply");
        for (name, value) in variables.iter().chain(more) {
            deploy = deploy.env(name, value);
        }
        deploy.stdout_string().unwrap();
        Some(pod)
    }

    /// A command in the node's namespace, with our store.
    pub(crate) fn on_node(&self, program: impl AsRef<std::ffi::OsStr>) -> LabCommand {
        let command = self.lab.node().command(program);
        self.store
            .environment()
            .into_iter()
            .fold(command, |command, (name, value)| command.env(name, value))
    }

    pub(crate) fn podman(&self, args: &[&str]) -> String {
        self.on_node("podman").args(args).stdout_string().unwrap().trim().to_owned()
    }

    /// The appliance's container, whatever this version of podman makes of the names.
    pub(crate) fn container(&self) -> String {
        self.podman(&["ps", "--all", "--filter", "name=-tagwire$", "--format", "{{.Names}}"])
    }

    pub(crate) fn log(&self) -> String {
        let output = self.on_node("podman").args(["logs", &self.container()]).output().unwrap();
        said(&output)
    }

    pub(crate) fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.log().contains("\"ready\"") {
            let container = self.container();
            let state = self.podman(&["inspect", "--format", "{{.State.Status}}", &container]);
            assert!(state != "exited" && Instant::now() < deadline, "{state}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn client(&self, line: &[&str]) -> Output {
        self.lab.client().command(line[0]).args(&line[1..]).output().unwrap()
    }

    pub(crate) fn curl(&self, url: &str) -> Vec<u8> {
        let output = self.client(&["curl", "-sS", "-m", "10", url]);
        assert!(output.status.success(), "{}\n{}", said(&output), self.log());
        output.stdout
    }

    /// The appliance's process, as this side sees it.
    pub(crate) fn pid(&self) -> String {
        self.podman(&["inspect", "--format", "{{.State.Pid}}", &self.container()])
    }

    /// A field of /proc/PID/status of the appliance.
    pub(crate) fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
    }

    /// Removes all pods of the store, and their volumes.
    fn remove(&self) {
        let _ =
            self.on_node("podman").args(["pod", "rm", "--all", "--force", "--time", "0"]).output();
        let _ = self.on_node("podman").args(["volume", "prune", "--force"]).output();
        let _ = self.on_node("podman").args(["network", "prune", "--force"]).output();
    }
}

impl Drop for PodmanPod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.on_node("podman").args(["ps", "--all"]).output();
            eprintln!(
                "{}\n{}",
                output.map_or_else(|error| error.to_string(), |it| said(&it)),
                self.log()
            );
        }
        self.remove();
    }
}

pub(crate) fn said(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}
