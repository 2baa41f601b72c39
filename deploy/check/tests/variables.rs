//! `make deploy`: what is missing or malformed is one clear line, and then nothing is applied.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tagwire::cli::{self, Command as CliCommand};
use tagwire_deploy::manifests::VARIABLES;
use tagwire_deploy::{root, skipped_without};
use tempfile::TempDir;

const GOOD: [(&str, &str); 3] =
    [("MACVLAN_MASTER", "eno8403np1"), ("VLAN_ID", "123"), ("IP_ADDRESS", "192.168.123.150/24")];

/// Stand-ins for the clients of a cluster: they write down what they are told, and render by the real one.
struct Clients {
    folder: TempDir,
}

impl Clients {
    fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let real = Command::new("sh").args(["-c", "command -v kubectl"]).output().unwrap();
        let real = String::from_utf8(real.stdout).unwrap();
        for name in names {
            let script = format!(
                "#!/bin/sh\n[ \"$1\" != kustomize ] || exec {} \"$@\"\necho {name} \"$@\" >> {}\n\
                 [ \"$1\" != apply ] || cat \"$3\" > {}\n",
                real.trim(),
                log.display(),
                folder.path().join("applied").display()
            );
            let path = folder.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    /// make, on a PATH with these clients in front; with no variables but those given, as words of its line.
    fn make(&self, target: &str, variables: &[(&str, &str)]) -> Output {
        let words = variables.iter().map(|(name, value)| format!("{name}={value}"));
        self.command(target).args(words).output().unwrap()
    }

    fn command(&self, target: &str) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut make = Command::new("make");
        make.current_dir(root()).arg("--no-print-directory").arg(target);
        make.env("PATH", format!("{}:{path}", self.folder.path().display()));
        for name in VARIABLES.iter().chain(&["MAKEFLAGS", "MAKELEVEL", "MFLAGS"]) {
            make.env_remove(name);
        }
        make
    }

    fn said(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join(file)).ok()
    }
}

fn with<'a>(changed: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = GOOD.iter().filter(|(name, _)| changed.iter().all(|(other, _)| other != name));
    kept.copied().chain(changed.iter().copied()).collect()
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // make says which of its lines failed, too.
    text.lines().filter(|line| !line.starts_with("make")).map(str::to_owned).collect()
}

#[test]
fn mistakes_are_one_line_and_nothing_is_applied() {
    let clients = Clients::new(&["oc", "kubectl", "podman"]);
    let many: Vec<_> = (1..18).map(|host| format!("10.0.0.{host}/24")).collect();
    let many = many.join(",");
    let wrong: &[(&[(&str, &str)], &str)] = &[
        (&[("MACVLAN_MASTER", "")], "MACVLAN_MASTER is missing"),
        (&[("VLAN_ID", "")], "VLAN_ID is missing"),
        (&[("IP_ADDRESS", "")], "IP_ADDRESS is missing"),
        (&[("MACVLAN_MASTER", "eth0/1")], "no interface name"),
        (&[("MACVLAN_MASTER", "eth 0")], "no interface name"),
        (&[("MACVLAN_MASTER", "a234567890123456")], "no interface name"),
        (&[("MACVLAN_MASTER", "..")], "no interface name"),
        (&[("MACVLAN_MASTER", "a\",\"mode\":\"vepa")], "no interface name"),
        (&[("MACVLAN_MASTER", "a\nb")], "no interface name"),
        (&[("VLAN_ID", "4095")], "no VLAN ID"),
        (&[("VLAN_ID", "-1")], "no VLAN ID"),
        (&[("VLAN_ID", "012")], "no VLAN ID"),
        (&[("VLAN_ID", "1 2")], "no VLAN ID"),
        (&[("VLAN_ID", "99999999999999999999")], "no VLAN ID"),
        (&[("IP_ADDRESS", "192.168.123.150")], "no prefix length"),
        (&[("IP_ADDRESS", "192.168.123.150/33")], "no prefix length of 1 to 32"),
        (&[("IP_ADDRESS", "192.168.123.150/0")], "no prefix length of 1 to 32"),
        (&[("IP_ADDRESS", "192.168.123.256/24")], "no address"),
        (&[("IP_ADDRESS", "192.168.123/24")], "no address"),
        (&[("IP_ADDRESS", "fd00::1/129")], "no prefix length of 1 to 128"),
        (&[("IP_ADDRESS", "fd00::1::2/64")], "no address"),
        (&[("IP_ADDRESS", "fd00:1:2:3:4:5:6/64")], "no address"),
        (&[("IP_ADDRESS", "fd00:1:2:3:4:5:6:7:8/64")], "no address"),
        (&[("IP_ADDRESS", "10.0.0.1/8,")], "empty place"),
        (&[("IP_ADDRESS", "10.0.0.1/8\"")], "no prefix length"),
        (&[("IP_ADDRESS", "$(shell touch pwned)/8")], "white space"),
        (&[("IP_ADDRESS", "$(touch${IFS}pwned)/8")], "no address"),
        (&[("IP_ADDRESS", "10.0.0.1/8\n- name: X")], "white space"),
        (&[("IP_ADDRESS", "10.0.0.1-10.0.0.2/8")], "no address"),
        (&[("IP_ADDRESSES", "10.0.0.1/8")], "both given"),
        (&[("REPLICAS", "3")], "without IP_ADDRESSES"),
        (&[("IP_ADDRESS", ""), ("IP_ADDRESSES", "10.0.0.1-10.0.0.x/8")], "no address"),
        (
            &[("IP_ADDRESS", ""), ("IP_ADDRESSES", "10.0.0.1/8"), ("REPLICAS", "0")],
            "number of replicas",
        ),
        (
            &[("IP_ADDRESS", ""), ("IP_ADDRESSES", "10.0.0.1/8"), ("OVERLAY", "podman")],
            "runs one replica",
        ),
        (&[("IP_ADDRESS", "192.168.123.0/24")], "the network itself"),
        (&[("IP_ADDRESS", "127.0.0.1/8")], "no host on a network"),
        (&[("IP_ADDRESS", "224.0.0.1/24")], "no host on a network"),
        (&[("IP_ADDRESS", "ff02::1/64")], "no host on a network"),
        (&[("IP_ADDRESS", "::1/64")], "no host on a network"),
        (&[("IP_ADDRESS", "10.0.0.1/8,10.0.0.1/8")], "there twice"),
        (&[("IP_ADDRESS", "10.0.0.1/8,10.0.0.1/16")], "there twice"),
        (&[("IP_ADDRESS", "fd00::a/64,FD00:0::000A/64")], "there twice"),
        (
            &[("IP_ADDRESS", ""), ("IP_ADDRESSES", "10.0.0.1-10.0.0.5/24,10.0.0.3/24")],
            "there twice, or some of it",
        ),
        (&[("IP_ADDRESS", "fd00::/64")], "anycast"),
        (&[("IP_ADDRESS", "fe80::1/64")], "link-local"),
        (&[("IP_ADDRESS", "::ffff:a00:1/96")], "no host on a network"),
        (&[("IP_ADDRESS", ""), ("IP_ADDRESSES", "fd00::1-fd00:0:0:1::9/64")], "beyond its network"),
        (&[("IP_ADDRESS", &many)], "17 addresses; give 16"),
        (
            &[("OVERLAY", "podman"), ("COMPONENTS", "www-image"), ("WWW_IMAGE", "a")],
            "mounts no image",
        ),
        (&[("IP_ADDRESS", "192.168.123.255/24")], "broadcast address"),
        (
            &[("IP_ADDRESS", ""), ("IP_ADDRESSES", "10.0.0.1-10.0.0.2/24"), ("REPLICAS", "3")],
            "has 2 of a family for 3 replicas",
        ),
        (
            &[
                ("IP_ADDRESS", ""),
                ("IP_ADDRESSES", "10.0.0.1-10.0.0.9/24,fd00::a-fd00::b/64"),
                ("REPLICAS", "3"),
            ],
            "has 2 of a family for 3 replicas",
        ),
        (&[("IP_ADDRESS", ""), ("IP_ADDRESSES", "10.0.0.9-10.0.0.1/24")], "ends before it begins"),
        (&[("IP_ADDRESS", ""), ("IP_ADDRESSES", "fd00::9-fd00::1/64")], "ends before it begins"),
        (&[("IP_ADDRESS", ""), ("IP_ADDRESSES", "10.0.0.9-10.0.1.1/24")], "beyond its network"),
        (&[("IP_ADDRESS", ""), ("IP_ADDRESSES", "10.0.0.9-fd00::1/24")], "both families"),
        (&[("GATEWAY", "10.0.1.1")], "in the network of none"),
        (&[("GATEWAY", "192.168.123.1/24")], "without prefix"),
        (&[("GATEWAY", "192.168.123.150")], "no router's address"),
        (&[("GATEWAY", "192.168.123.0")], "no router's address"),
        (&[("GATEWAY", "192.168.123.255")], "no router's address"),
        (&[("GATEWAY", "192.168.123.1,192.168.123.2")], "a second one of a family"),
        (&[("GATEWAY", "fe80::1,fe80::2")], "a second one of a family"),
        (&[("IP_ADDRESS", "fd00::A/64"), ("GATEWAY", "fd00:0:0:0:0:0:0:a")], "no router's address"),
        (&[("IP_ADDRESS", "fd00::1/64"), ("GATEWAY", "fd01::1")], "in the network of none"),
        (&[("GATEWAY", "ff02::2")], "no router's address"),
        (
            &[
                ("IP_ADDRESS", ""),
                ("IP_ADDRESSES", "10.0.0.1-10.0.0.9/24"),
                ("GATEWAY", "10.0.0.9"),
            ],
            "one of ours; list addresses without it",
        ),
        (
            &[
                ("IP_ADDRESS", ""),
                ("IP_ADDRESSES", "10.0.0.1/24,10.0.1.1/24"),
                ("GATEWAY", "10.0.0.254"),
            ],
            "the network of each",
        ),
        (&[("GATEWAY", "'; id'")], "white space"),
        (&[("CONTAINER_IMAGE", "Tagwire:1")], "is no image"),
        (&[("CONTAINER_IMAGE", "a:b:c")], "is no image"),
        (&[("CONTAINER_IMAGE", "a\"b")], "is no image"),
        (&[("NAMESPACE", "Web")], "is no namespace"),
        (&[("NAMESPACE", "web\n")], "is no namespace"),
        (&[("OVERLAY", "../base")], "none of ours"),
        (&[("COMPONENTS", "www-nfs")], "none of ours"),
        (&[("COMPONENTS", "../x")], "none of ours"),
        (&[("COMPONENTS", "www-pvc www-configmap")], "several sources"),
        (&[("COMPONENTS", "www-image")], "WWW_IMAGE is missing"),
        (&[("WWW_IMAGE", "a")], "without COMPONENTS=www-image"),
        (&[("SECCOMP_PROFILE", "../../etc/x")], "no path below"),
    ];
    for (changed, part) in wrong {
        // By make's line, and by the environment.
        let by_line = clients.make("deploy", &with(changed));
        let by_environment = clients.command("deploy").envs(with(changed)).output().unwrap();
        for output in [by_line, by_environment] {
            let lines = lines(&output);
            assert!(!output.status.success(), "{changed:?}");
            assert!(matches!(&lines[..], [line] if line.contains(part)), "{changed:?}: {lines:?}");
        }
    }
    assert_eq!(clients.said("log"), None, "nothing was asked of a cluster");
    assert!(!Path::new(&root().join("pwned")).exists());
}

/// What is odd and fine is not refused.
#[test]
fn all_that_the_appliance_takes_is_rendered() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    let clients = Clients::new(&["kubectl"]);
    let fine: &[&[(&str, &str)]] = &[
        &[("IP_ADDRESS", "10.0.0.0/31"), ("GATEWAY", "10.0.0.1")],
        &[("IP_ADDRESS", "10.0.0.1/32"), ("GATEWAY", "")],
        &[("IP_ADDRESS", "FD00:123::A/64"), ("GATEWAY", "FE80::1")],
        &[("IP_ADDRESS", "fd00::1/63"), ("GATEWAY", "fd00:0:0:1::")],
        &[("IP_ADDRESS", "10.0.0.1/8,fd00::1/64"), ("GATEWAY", "fd00::2,10.255.255.254")],
        &[("IP_ADDRESS", "10.0.0.1/8,10.0.0.2/24"), ("GATEWAY", "10.9.0.1")],
        &[("IP_ADDRESS", "1:2:3:4:5:6::2/126,fd00::/127"), ("GATEWAY", "1:2:3:4:5:6:0:1")],
        &[
            ("IP_ADDRESS", ""),
            ("IP_ADDRESSES", "10.0.0.1-10.0.0.2/23,10.0.1.1/23,fd00::ff-fd00:0:0::101/64"),
            ("REPLICAS", "3"),
            ("GATEWAY", "10.0.1.254,fe80::1"),
        ],
    ];
    for variables in fine {
        let variables = with(variables);
        let output = clients.make("kustomize", &variables);
        let lines = lines(&output);
        assert!(output.status.success(), "{variables:?}: {lines:?}");
        let value = |name: &str| {
            let found = variables.iter().find(|(of, _)| *of == name);
            found.map_or("", |(_, value)| value)
        };
        for replica in 0..value("REPLICAS").parse().unwrap_or(1) {
            let pod = format!("tagwire-{replica}");
            let line =
                ["tagwire", "serve", "--interface", "a0", "--www-root", "/", "--replica", &pod];
            let line = line.into_iter().chain(
                [
                    ("--address", "IP_ADDRESS"),
                    ("--addresses", "IP_ADDRESSES"),
                    ("--gateway", "GATEWAY"),
                ]
                .into_iter()
                .flat_map(|(option, name)| [option, value(name)]),
            );
            let taken = cli::parse(line);
            assert!(matches!(taken, Ok(CliCommand::Serve(_))), "{variables:?}: {pod}: {taken:?}");
        }
    }
}

#[test]
fn the_client_that_is_there_applies_what_kustomize_prints() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    // oc goes before kubectl, and brings its overlay.
    for (names, overlay) in [(&["oc", "kubectl"][..], "openshift"), (&["kubectl"], "kubernetes")] {
        if names.len() == 1 && Command::new("oc").arg("--help").output().is_ok() {
            continue;
        }
        let clients = Clients::new(names);
        let output = clients.make("deploy", &GOOD);
        assert!(output.status.success(), "{:?}", lines(&output));
        let log = clients.said("log").unwrap();
        assert!(log.starts_with(&format!("{} apply -f ", names[0])), "{log}");
        let printed = clients.make("kustomize", &with(&[("OVERLAY", overlay)]));
        let applied = clients.said("applied").unwrap();
        assert_eq!(applied, String::from_utf8(printed.stdout).unwrap());
    }
}

#[test]
fn undeploy_takes_what_is_ours_and_leaves_what_others_may_use() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    let clients = Clients::new(&["oc", "kubectl"]);
    let output = clients.make("undeploy", &[("NAMESPACE", "web")]);
    assert!(output.status.success(), "{:?}", lines(&output));
    let log = clients.said("log").unwrap();
    let words: Vec<&str> = log.split_whitespace().collect();
    assert_eq!(words[..4], ["oc", "delete", "--namespace", "web"]);
    assert!(words.windows(2).any(|pair| pair == ["-l", "app.kubernetes.io/name=tagwire"]), "{log}");
    let kinds: Vec<&str> = words.last().unwrap().split(',').collect();
    for kind in ["deployments", "statefulsets", "network-attachment-definitions.k8s.cni.cncf.io"] {
        assert!(kinds.contains(&kind), "{log}");
    }
    for kind in ["namespaces", "persistentvolumeclaims", "securitycontextconstraints"] {
        assert!(!kinds.contains(&kind), "{log}");
    }
}
