//! Every overlay with every component, rendered by a real kustomize: valid by strict schemas, and saying what it must.
#![forbid(unsafe_code)]

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tagwire::cli::{self, CliError, Command};
use tagwire_deploy::manifests::{kustomize, of_kind, parse, render};
use tagwire_deploy::schema::Schemas;
use tagwire_deploy::{root, skipped_without};

const OVERLAYS: [&str; 3] = ["kubernetes", "openshift", "podman"];
const CONTENTS: [&str; 4] = ["", "www-configmap", "www-pvc", "www-image"];
const ONE: [(&str, &str); 3] =
    [("MACVLAN_MASTER", "eno8403np1"), ("VLAN_ID", "123"), ("IP_ADDRESS", "192.168.123.150/24")];
const SEVERAL: [(&str, &str); 4] = [
    ("MACVLAN_MASTER", "eno8403np1"),
    ("VLAN_ID", "123"),
    ("IP_ADDRESSES", "192.168.123.150-192.168.123.152/24,fd00:123::150-fd00:123::152/64"),
    ("REPLICAS", "3"),
];

/// Everything that can be rendered: overlay, component, one replica or several.
fn all() -> &'static [(String, Vec<Value>)] {
    static ALL: OnceLock<Vec<(String, Vec<Value>)>> = OnceLock::new();
    ALL.get_or_init(render_all)
}

fn render_all() -> Vec<(String, Vec<Value>)> {
    let mut all = Vec::new();
    for overlay in OVERLAYS {
        for content in CONTENTS {
            for usual in [&ONE[..], &SEVERAL[..]] {
                let no_image_volumes = content == "www-image";
                if overlay == "podman" && (usual == &SEVERAL[..] || no_image_volumes) {
                    continue;
                }
                let mut variables = usual.to_vec();
                variables.extend([
                    ("OVERLAY", overlay),
                    ("COMPONENTS", content),
                    ("NAMESPACE", "web"),
                ]);
                variables.extend(
                    (content == "www-image").then_some(("WWW_IMAGE", "r.example:5000/a/www:1")),
                );
                let name = format!("{overlay} {content} {}", usual[2].0);
                let objects = render(&variables).unwrap_or_else(|said| panic!("{name}: {said}"));
                all.push((name, objects));
            }
        }
    }
    all
}

fn workload(objects: &[Value]) -> &Value {
    let found = of_kind(objects, "Deployment").or_else(|| of_kind(objects, "StatefulSet"));
    found.expect("a workload")
}

fn container(objects: &[Value]) -> &Value {
    &workload(objects)["spec"]["template"]["spec"]["containers"][0]
}

/// The value of a variable of the container.
fn variable<'a>(objects: &'a [Value], name: &str) -> Option<&'a str> {
    let mut variables = container(objects)["env"].as_array()?.iter();
    variables.find(|variable| variable["name"] == name)?["value"].as_str()
}

#[test]
fn they_are_valid() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    let schemas = Schemas::load();
    for (name, objects) in all() {
        for object in objects {
            assert_eq!(schemas.mistakes(object), [""; 0], "{name}");
        }
    }
    // As they stand, for who uses kustomize without make.
    for overlay in OVERLAYS {
        let folder = root().join("deploy/kustomize/overlays").join(overlay);
        for object in kustomize(&folder).unwrap() {
            assert_eq!(schemas.mistakes(&object), [""; 0], "{overlay}");
        }
    }
    for file in ["seccompprofile.json", "tuned.yaml"] {
        let text = fs::read_to_string(root().join("deploy/seccomp").join(file)).unwrap();
        for object in parse(&text).unwrap() {
            assert_eq!(schemas.mistakes(&object), [""; 0], "{file}");
        }
    }
}

#[test]
fn a_misspelt_field_is_a_mistake() {
    let schemas = Schemas::load();
    let namespace =
        |extra: Value| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": extra });
    assert_eq!(schemas.mistakes(&namespace(json!({ "name": "a" }))), [""; 0]);
    for wrong in [json!({ "nam": "a" }), json!({ "name": 5 }), json!({ "labels": { "a": 5 } })] {
        assert_eq!(schemas.mistakes(&namespace(wrong.clone())).len(), 1, "{wrong}");
    }
    // An SCC is in no namespace, which kustomize does not know.
    let scc =
        fs::read_to_string(root().join("deploy/kustomize/overlays/openshift/scc.yaml")).unwrap();
    let mut scc = parse(&scc).unwrap().remove(0);
    assert_eq!(schemas.mistakes(&scc), [""; 0]);
    scc["metadata"]["namespace"] = json!("web");
    assert_eq!(schemas.mistakes(&scc).len(), 1);
}

#[test]
fn one_capability_and_no_root() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    for (name, objects) in all() {
        let pod = &workload(objects)["spec"]["template"]["spec"];
        assert_eq!(
            pod["securityContext"],
            json!({
                "runAsNonRoot": true, "runAsUser": 10000, "runAsGroup": 10000, "fsGroup": 10000,
                "seccompProfile": { "type": "RuntimeDefault" },
            }),
            "{name}"
        );
        assert_eq!(
            container(objects)["securityContext"],
            json!({
                "allowPrivilegeEscalation": true,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"], "add": ["NET_RAW"] },
            }),
            "{name}"
        );
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[host], Value::Null, "{name}");
        }
        let content = container(objects)["volumeMounts"].as_array().unwrap();
        let www = content.iter().find(|mount| mount["name"] == "www");
        assert_eq!(www.is_some(), name.contains("www"), "{name}");
        assert!(
            www.is_none_or(|www| www["readOnly"] == true && www["mountPath"] == "/www"),
            "{name}"
        );
        let volumes = pod["volumes"].as_array().unwrap();
        for mount in content {
            assert!(
                volumes.iter().any(|volume| volume["name"] == mount["name"]),
                "{name}: {mount}"
            );
        }
    }
}

#[test]
fn the_network_is_a_macvlan_whose_address_is_nobodys_but_ours() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    for (name, objects) in all() {
        let network = of_kind(objects, "NetworkAttachmentDefinition");
        let annotations = &workload(objects)["spec"]["template"]["metadata"]["annotations"];
        let attached = &annotations["k8s.v1.cni.cncf.io/networks"];
        if name.starts_with("podman") {
            assert!(network.is_none() && attached.is_null(), "{name}");
            assert_eq!(variable(objects, "HOST_INTERFACE"), Some("eth0"));
            continue;
        }
        let network = network.unwrap();
        let config: Value =
            serde_json::from_str(network["spec"]["config"].as_str().unwrap()).unwrap();
        assert_eq!(
            config,
            json!({
                "cniVersion": "0.3.1", "name": "tagwire", "type": "macvlan",
                "master": "eno8403np1", "mode": "bridge",
            }),
            "{name}"
        );
        let interface = variable(objects, "HOST_INTERFACE").unwrap();
        let called = network["metadata"]["name"].as_str().unwrap();
        assert_eq!(*attached, json!(format!("{called}@{interface}")), "{name}");
    }
}

/// A variable that Tagwire does not know would be heeded by nobody.
#[test]
fn the_environment_is_what_tagwire_reads() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    let Err(CliError::Asked(help)) = cli::parse(["tagwire", "serve", "--help"]) else {
        panic!("help was asked for")
    };
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, objects) in all() {
        for variable in container(objects)["env"].as_array().unwrap() {
            let called = variable["name"].as_str().unwrap();
            assert!(help.contains(&format!("[env: {called}=")), "{name}: {called}");
        }
        assert_eq!(variable(objects, "VLAN_ID"), Some("123"));
        if name.ends_with("IP_ADDRESSES") {
            let all = "192.168.123.150-192.168.123.152/24,fd00:123::150-fd00:123::152/64";
            assert_eq!(variable(objects, "IP_ADDRESS"), Some(""), "{name}");
            assert_eq!(variable(objects, "IP_ADDRESSES"), Some(all), "{name}");
        } else {
            assert_eq!(variable(objects, "IP_ADDRESS"), Some("192.168.123.150/24"), "{name}");
        }
    }
}

/// Probes, scrapes and the admin endpoint are at one port.
#[test]
fn it_is_probed_where_it_answers() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    for (name, objects) in all() {
        let container = container(objects);
        assert_eq!(variable(objects, "ADMIN"), Some("0.0.0.0:9090"), "{name}");
        let podman = name.starts_with("podman");
        let ports = json!([{ "name": "admin", "containerPort": 9090 }]);
        assert_eq!(container["ports"], if podman { Value::Null } else { ports }, "{name}");
        let template = &workload(objects)["spec"]["template"];
        let annotations = &template["metadata"]["annotations"];
        assert_eq!(annotations["prometheus.io/port"], "9090", "{name}");
        for (probe, path) in
            [("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
        {
            let expected = json!({ "path": path, "port": "admin" });
            let asked = if podman { &Value::Null } else { &expected };
            assert_eq!(container[probe]["httpGet"], *asked, "{name}: {probe}");
        }
    }
}

/// Before SIGTERM it sends its clients elsewhere, and both together end before the kubelet kills it.
#[test]
fn a_pod_sends_its_clients_elsewhere_before_it_is_told_to_end() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    let usual = "tagwire serve --interface a0 --address 10.0.0.1/8 --www-root /";
    let usual = cli::parse(usual.split_whitespace());
    let Ok(Command::Serve(usual)) = usual else { panic!("{usual:?}") };
    for (name, objects) in all() {
        let grace = &workload(objects)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
        let grace = Duration::from_secs(grace.as_u64().unwrap());
        let lifecycle = &container(objects)["lifecycle"];
        if name.starts_with("podman") {
            assert!(lifecycle.is_null() && grace > usual.drain, "{name}: podman knows no preStop");
            continue;
        }
        let command: Vec<String> =
            serde_json::from_value(lifecycle["preStop"]["exec"]["command"].clone()).unwrap();
        let control = variable(objects, "CONTROL").unwrap();
        let asked = cli::parse(command.iter().map(String::as_str).chain(["--control", control]));
        let Ok(Command::LameDuck { on: true, wait, .. }) = asked else { panic!("{asked:?}") };
        assert!(wait >= Duration::from_secs(2), "{name}: nobody would notice it in time");
        // What the command itself may take, and the end after the drain.
        let rest = Duration::from_secs(3);
        assert!(grace >= wait + usual.drain + rest, "{name}: {grace:?}");
    }
}

#[test]
fn one_replica_is_recreated_and_several_roll() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    for (name, objects) in all() {
        let (spec, kind) = (&workload(objects)["spec"], &workload(objects)["kind"]);
        if name.ends_with("IP_ADDRESS") {
            assert_eq!((kind, &spec["replicas"]), (&json!("Deployment"), &json!(1)), "{name}");
            assert_eq!(spec["strategy"], json!({ "type": "Recreate" }), "{name}");
            continue;
        }
        assert_eq!((kind, &spec["replicas"]), (&json!("StatefulSet"), &json!(3)), "{name}");
        assert_eq!(spec["updateStrategy"], json!({ "type": "RollingUpdate" }), "{name}");
        assert!(spec["strategy"].is_null());
        let service = of_kind(objects, "Service").unwrap();
        assert_eq!(spec["serviceName"], service["metadata"]["name"]);
        let budget = &of_kind(objects, "PodDisruptionBudget").unwrap()["spec"];
        assert_eq!(budget["maxUnavailable"], 1);
        assert_eq!(budget["selector"], spec["selector"], "{name}");
        assert!(!spec["template"]["spec"]["affinity"]["podAntiAffinity"].is_null(), "{name}");
    }
}

#[test]
fn everything_is_in_the_namespace_that_was_asked_for() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    for (name, objects) in all() {
        for object in objects {
            let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
            assert_eq!(metadata["labels"]["app.kubernetes.io/name"], "tagwire", "{name} {kind}");
            match kind {
                _ if name.starts_with("podman") => assert!(metadata["namespace"].is_null()),
                "Namespace" => {
                    assert_eq!(metadata["name"], "web", "{name}");
                    let label = "pod-security.kubernetes.io/enforce";
                    assert_eq!(
                        metadata["labels"][label], "privileged",
                        "NET_RAW is not in baseline"
                    );
                }
                "SecurityContextConstraints" => assert!(metadata["namespace"].is_null()),
                _ => assert_eq!(metadata["namespace"], "web", "{name} {kind}"),
            }
        }
        if !name.starts_with("openshift") {
            assert!(of_kind(objects, "RoleBinding").is_none(), "{name}");
            continue;
        }
        let binding = of_kind(objects, "RoleBinding").unwrap();
        let account = of_kind(objects, "ServiceAccount").unwrap();
        assert_eq!(
            binding["subjects"],
            json!([{ "kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "web" }])
        );
        let scc = of_kind(objects, "SecurityContextConstraints").unwrap();
        let role = of_kind(objects, "Role").unwrap();
        assert_eq!(role["rules"][0]["resourceNames"], json!([scc["metadata"]["name"]]));
        assert_eq!(scc["allowedCapabilities"], json!(["NET_RAW"]));
    }
}

#[test]
fn a_seccomp_profile_of_the_node() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    let mut variables = ONE.to_vec();
    variables.extend([("OVERLAY", "openshift"), ("SECCOMP_PROFILE", "operator/web/tagwire.json")]);
    let objects = render(&variables).unwrap();
    let pod = &workload(&objects)["spec"]["template"]["spec"];
    assert_eq!(
        pod["securityContext"]["seccompProfile"],
        json!({ "type": "Localhost", "localhostProfile": "operator/web/tagwire.json" })
    );
    let scc = of_kind(&objects, "SecurityContextConstraints").unwrap();
    assert_eq!(
        scc["seccompProfiles"],
        json!(["runtime/default", "localhost/operator/web/tagwire.json"])
    );
    let schemas = Schemas::load();
    for object in &objects {
        assert_eq!(schemas.mistakes(object), [""; 0]);
    }
}

#[test]
fn images_by_tag_and_by_digest() {
    if skipped_without(&["kubectl"]) {
        return;
    }
    let digest = format!("r.example:5000/a/tagwire:1@sha256:{}", "0a".repeat(32));
    for image in ["tagwire", "r.example/tagwire:1.2", &digest] {
        let mut variables = ONE.to_vec();
        variables.push(("CONTAINER_IMAGE", image));
        assert_eq!(container(&render(&variables).unwrap())["image"], image);
    }
    let usual = render(&ONE).unwrap();
    assert_eq!(
        container(&usual)["image"],
        format!("localhost/tagwire:{}", env!("CARGO_PKG_VERSION")),
        "what make image makes"
    );
}
