//! `deploy/seccomp/tagwire.json`: the runtime's default profile, and the three calls of io_uring.
//!
//! The default (of containers-common, which podman and CRI-O share) has rules for containers with this or that
//! capability and processor. containerd reads no such conditions and would take all of the rules, so that ours
//! are resolved: for a container with `CAP_NET_RAW` only, on x86-64 and on ARM.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// What the default lacks.
pub const IO_URING: [&str; 3] = ["io_uring_enter", "io_uring_register", "io_uring_setup"];

const ARCHES: [&str; 5] = ["amd64", "x86", "x32", "arm64", "arm"];
const CAPABILITIES: [&str; 1] = ["CAP_NET_RAW"];

/// The profile that follows from a default.
///
/// # Panics
///
/// When that is no profile of containers-common.
pub fn derive(default: &Value) -> Value {
    let rules = default["syscalls"].as_array().expect("it has rules");
    let mut derived: Vec<Value> = rules.iter().filter(|rule| applies(rule)).map(plain).collect();
    derived.push(json!({ "names": IO_URING, "action": "SCMP_ACT_ALLOW" }));
    json!({
        "defaultAction": default["defaultAction"],
        "defaultErrnoRet": default["defaultErrnoRet"],
        "architectures": [
            "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"
        ],
        "syscalls": derived,
    })
}

/// Whether a rule's conditions hold for us.
fn applies(rule: &Value) -> bool {
    let names = |part: &str, field: &str| -> Vec<String> {
        let listed = rule[part][field].as_array().into_iter().flatten();
        listed.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let ours = |name: &String| CAPABILITIES.contains(&&**name);
    let here = |name: &String| ARCHES.contains(&&**name);
    let (caps, arches) = (names("includes", "caps"), names("includes", "arches"));
    caps.iter().all(ours)
        && (arches.is_empty() || arches.iter().any(here))
        && !names("excludes", "caps").iter().any(ours)
        && !names("excludes", "arches").iter().any(here)
}

/// A rule as the runtime specification has it.
fn plain(rule: &Value) -> Value {
    let mut plain = json!({ "names": rule["names"], "action": rule["action"] });
    if let Some(args) = rule["args"].as_array().filter(|args| !args.is_empty()) {
        plain["args"] = json!(args);
    }
    if rule["errnoRet"].is_number() {
        plain["errnoRet"] = rule["errnoRet"].clone();
    }
    plain
}

/// The same as an object of the Security Profiles Operator, as far as all its versions understand it: the
/// older have no numbers of errors (`errnoRet`), and say EPERM.
pub fn as_object(profile: &Value) -> Value {
    let mut rules = profile["syscalls"].clone();
    for rule in rules.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        rule.remove("errnoRet");
    }
    json!({
        "apiVersion": "security-profiles-operator.x-k8s.io/v1beta1",
        "kind": "SeccompProfile",
        "metadata": { "name": "tagwire" },
        "spec": {
            "defaultAction": profile["defaultAction"],
            "architectures": profile["architectures"],
            "syscalls": rules,
        },
    })
}

/// Names that are allowed by some rule, with the arguments that it asks for.
pub fn allowed(profile: &Value) -> BTreeSet<String> {
    let rules = profile["syscalls"].as_array().into_iter().flatten();
    let allowing = rules.filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let each = allowing.flat_map(|rule| {
        let names = rule["names"].as_array().into_iter().flatten();
        let args = rule["args"].to_string();
        names.map(move |name| format!("{} {args}", name.as_str().unwrap_or_default()))
    });
    each.collect()
}
