//! `make image`: what is in the image, and that the same sources make the same one.
#![forbid(unsafe_code)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Store, succeed};
use serde_json::{Value, json};
use tagwire_deploy::root;

/// What it may weigh, unpacked.
const MOST: u64 = 8_000_000;

const PROGRAMS: [&str; 2] = ["buildah", "cargo-auditable"];

fn octets(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => octets(&entry.path()),
            _ => entry.metadata().unwrap().len(),
        })
        .sum()
}

#[test]
fn one_static_binary_a_page_and_nothing_else() {
    let Some(store) = Store::open(&PROGRAMS) else { return };
    let rootfs = store.make_image();
    // As it is in the image, not as it was put there: a COPY could lose the capability.
    let container =
        succeed(store.command("buildah").args(["from", "--pull-never", "localhost/tagwire"]));
    let mount = succeed(store.command("buildah").args(["mount", &container]));
    let mount = Path::new(&mount);
    let listed = succeed(Command::new("find").arg(mount).args([
        "-mindepth",
        "1",
        "-printf",
        "%P %U:%G %m\n",
    ]));
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "run 10000:10000 755",
            "run/tagwire 10000:10000 755",
            "tagwire 0:0 755",
            "www 0:0 755",
            "www/index.html 0:0 644",
        ]
    );
    let binary = mount.join("tagwire");
    assert_eq!(
        succeed(Command::new("getcap").arg(&binary)).split_whitespace().last(),
        Some("cap_net_raw=p"),
        "permitted only"
    );
    assert!(octets(mount) < MOST, "{} octets", octets(mount));
    // Without an interpreter and without libraries: it runs where there are none.
    let headers =
        succeed(Command::new("readelf").args(["--program-headers", "--dynamic"]).arg(&binary));
    assert!(!headers.contains("INTERP") && !headers.contains("NEEDED"), "{headers}");
    let version = succeed(Command::new(&binary).arg("--version"));
    assert_eq!(version, format!("tagwire {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        fs::read(mount.join("www/index.html")).unwrap(),
        fs::read(root().join("deploy/www/index.html")).unwrap()
    );

    // The list of crates, for those who ask an image what is in it.
    let crates = auditable_info::audit_info_from_file(&binary, Default::default()).unwrap();
    for name in ["tagwire", "tagwire-core", "tagwire-netstack", "io-uring", "zstd-sys"] {
        assert!(crates.packages.iter().any(|known| known.name == name), "{name} in the SBOM");
    }
    let paths = [root().display().to_string(), std::env::var("HOME").unwrap() + "/.cargo"];
    let content = fs::read(rootfs.join("root/tagwire")).unwrap();
    for path in paths {
        let found = content.windows(path.len()).any(|window| window == path.as_bytes());
        assert!(!found, "{path} is in the binary");
    }
    succeed(store.command("buildah").args(["rm", &container]));
}

#[test]
fn its_configuration() {
    let Some(store) = Store::open(&PROGRAMS) else { return };
    store.make_image();
    let inspected =
        succeed(store.command("buildah").args(["inspect", "--type", "image", "localhost/tagwire"]));
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let config = &inspected["OCIv1"]["config"];
    assert_eq!(config["User"], "10000:10000", "as the manifests' runAsUser");
    assert_eq!(config["Entrypoint"], json!(["/tagwire"]));
    assert_eq!(config["Cmd"], json!(["serve"]));
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert!(config["Env"].as_array().unwrap().contains(&json!("WWW_ROOT=/www")));
    let labels = &config["Labels"];
    let revision = labels["org.opencontainers.image.revision"].as_str().unwrap();
    let commit = succeed(Command::new("git").current_dir(root()).args(["rev-parse", "HEAD"]));
    // Of sources that differ from it the label says so.
    assert_eq!(revision.trim_end_matches("-modified"), commit);
    for (label, value) in
        [("title", "Tagwire"), ("licenses", "Apache-2.0"), ("version", env!("CARGO_PKG_VERSION"))]
    {
        assert_eq!(labels[format!("org.opencontainers.image.{label}")], value, "{label}");
    }
    assert!(labels["org.opencontainers.image.description"].is_string());
}

/// In CI the second binary is built anew, elsewhere; otherwise only the images are, as that takes minutes.
#[test]
fn two_builds_have_one_digest() {
    let Some(store) = Store::open(&PROGRAMS) else { return };
    let rootfs = store.make_image();
    let first = store.assemble(&rootfs);
    assert!(first.starts_with("sha256:"), "{first}");

    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("rootfs");
    if std::env::var_os("CI").is_some() {
        let sources = elsewhere.path().join("sources");
        fs::create_dir(&sources).unwrap();
        let files = "git ls-files -z | xargs -0 cp --parents -t \"$0\"";
        succeed(Command::new("sh").current_dir(root()).args(["-c", files]).arg(&sources));
        succeed(
            Command::new(sources.join("deploy/rootfs")).arg(&copy).env_remove("CARGO_TARGET_DIR"),
        );
    } else {
        // Other times, and an order of its own in the folder.
        fs::create_dir_all(copy.join("root/www")).unwrap();
        fs::create_dir_all(copy.join("run/tagwire")).unwrap();
        let page = "root/www/index.html";
        fs::copy(rootfs.join(page), copy.join(page)).unwrap();
        fs::copy(rootfs.join("root/tagwire"), copy.join("root/tagwire")).unwrap();
        succeed(Command::new("setcap").arg("cap_net_raw+p").arg(copy.join("root/tagwire")));
    }
    let binary = |folder: &Path| fs::read(folder.join("root/tagwire")).unwrap();
    assert!(binary(&rootfs) == binary(&copy), "the binaries differ");
    assert_eq!(store.assemble(&copy), first);
}
