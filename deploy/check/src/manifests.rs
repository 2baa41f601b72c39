//! The manifests as `make kustomize` prints them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::root;

/// The variables that `deploy/manifests` reads.
pub const VARIABLES: &[&str] = &[
    "MACVLAN_MASTER",
    "VLAN_ID",
    "IP_ADDRESS",
    "IP_ADDRESSES",
    "REPLICAS",
    "GATEWAY",
    "CONTAINER_IMAGE",
    "NAMESPACE",
    "OVERLAY",
    "COMPONENTS",
    "WWW_IMAGE",
    "SECCOMP_PROFILE",
];

/// `deploy/manifests VERB` with these variables and no others.
pub fn command(verb: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(root().join("deploy/manifests"));
    command.arg(verb);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

/// What it renders, one value for each object.
///
/// # Errors
///
/// What it said in place of that.
pub fn render(variables: &[(&str, &str)]) -> Result<Vec<Value>, String> {
    let output = command("render", variables).output().map_err(|error| error.to_string())?;
    objects(&output)
}

/// A kustomization as it stands, without `deploy/manifests`.
///
/// # Errors
///
/// What kustomize said in place of that.
pub fn kustomize(folder: &Path) -> Result<Vec<Value>, String> {
    let output = Command::new("kubectl").arg("kustomize").arg(folder).output();
    objects(&output.map_err(|error| error.to_string())?)
}

fn objects(output: &Output) -> Result<Vec<Value>, String> {
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The objects of a YAML stream.
///
/// # Errors
///
/// Where it is none.
pub fn parse(yaml: &str) -> Result<Vec<Value>, String> {
    serde_saphyr::from_multiple(yaml).map_err(|error| error.to_string())
}

/// The object of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind)
}
