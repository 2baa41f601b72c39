//! Strict schemas: what a field is not called is refused, as an API server only warns of.

use jsonschema::Validator;
use serde_json::{Value, json};

const KUBERNETES: &str = include_str!("../schemas/kubernetes.json");
const OTHERS: &str = include_str!("../schemas/others.json");

/// Kinds of Kubernetes's own, by version and where they are defined.
const KINDS: &[(&str, &str, &str)] = &[
    ("v1", "ConfigMap", "io.k8s.api.core.v1"),
    ("v1", "Namespace", "io.k8s.api.core.v1"),
    ("v1", "PersistentVolumeClaim", "io.k8s.api.core.v1"),
    ("v1", "Service", "io.k8s.api.core.v1"),
    ("v1", "ServiceAccount", "io.k8s.api.core.v1"),
    ("apps/v1", "Deployment", "io.k8s.api.apps.v1"),
    ("apps/v1", "StatefulSet", "io.k8s.api.apps.v1"),
    ("policy/v1", "PodDisruptionBudget", "io.k8s.api.policy.v1"),
    ("rbac.authorization.k8s.io/v1", "Role", "io.k8s.api.rbac.v1"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "io.k8s.api.rbac.v1"),
];

/// Schemas of kinds, by version and kind.
pub struct Schemas {
    validators: Vec<(String, String, Validator)>,
}

impl Schemas {
    /// Those that are committed.
    ///
    /// # Panics
    ///
    /// When one of them is no schema.
    pub fn load() -> Self {
        let kubernetes: Value = serde_json::from_str(KUBERNETES).expect("kubernetes.json is JSON");
        let others: Value = serde_json::from_str(OTHERS).expect("others.json is JSON");
        let own = KINDS.iter().map(|(version, kind, package)| {
            let mut schema = kubernetes.clone();
            schema["$ref"] = json!(format!("#/definitions/{package}.{kind}"));
            ((*version).to_owned(), (*kind).to_owned(), schema)
        });
        let others = others.as_object().expect("kinds by name").iter().map(|(name, schema)| {
            let (version, kind) = name.rsplit_once('/').expect("version and kind");
            (version.to_owned(), kind.to_owned(), schema.clone())
        });
        let validators = own.chain(others).map(|(version, kind, schema)| {
            let validator = jsonschema::validator_for(&schema);
            let validator = validator.unwrap_or_else(|error| panic!("{version} {kind}: {error}"));
            (version, kind, validator)
        });
        Self { validators: validators.collect() }
    }

    /// What is wrong with an object: nothing, when it is fine.
    pub fn mistakes(&self, object: &Value) -> Vec<String> {
        let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
        let known = self.validators.iter().find(|(known_version, known_kind, _)| {
            version == Some(known_version) && kind == Some(known_kind)
        });
        let Some((_, _, validator)) = known else {
            return vec![format!("no schema for {version:?} {kind:?}")];
        };
        validator
            .iter_errors(object)
            .map(|error| format!("{kind:?} {}: {error}", error.instance_path()))
            .collect()
    }
}
