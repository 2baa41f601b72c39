//! What the tests of the image share: containers in a store of our own, and the image in it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tagwire_deploy::{root, skip, skipped_without};

/// A place for images and containers beside the machine's. There is one, and who has it has it alone: what an
/// earlier run that was killed has left there goes with the next.
pub(crate) struct Store {
    folder: PathBuf,
    _alone: File,
}

impl Store {
    /// `None` where images cannot be made; the test has then said so.
    pub(crate) fn open(programs: &[&str]) -> Option<Self> {
        if let Err(why) = tagwire_lab::available() {
            skip(&format!("needs root: {why}"));
            return None;
        }
        if skipped_without(programs) {
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("containers");
        fs::create_dir_all(&folder).unwrap();
        let alone = File::create(folder.join("lock")).unwrap();
        alone.lock().unwrap();
        let store = Self { folder, _alone: alone };
        let path = |name: &str| store.folder.join(name).display().to_string();
        // cgroupfs and the limits: for machines without systemd, and without CAP_SYS_RESOURCE.
        fs::write(
            path("containers.conf"),
            format!(
                "[containers]\n\
                 default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                 log_driver = \"k8s-file\"\n\
                 [engine]\n\
                 runtime = \"runc\"\n\
                 cgroup_manager = \"cgroupfs\"\n\
                 events_logger = \"file\"\n\
                 [network]\n\
                 network_backend = \"netavark\"\n\
                 network_config_dir = {:?}\n",
                path("networks")
            ),
        )
        .unwrap();
        // vfs works on every file system.
        fs::write(
            path("storage.conf"),
            format!(
                "[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n",
                path("graph"),
                path("run")
            ),
        )
        .unwrap();
        Some(store)
    }

    /// The environment by which podman and buildah use it.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("CONTAINERS_CONF", self.folder.join("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf")),
        ]
    }

    /// A command that uses it.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }

    /// The image, made as `make image` makes it; the folder that `deploy/rootfs` made for it, now or, where
    /// `TAGWIRE_ROOTFS` names it, before.
    pub(crate) fn make_image(&self) -> PathBuf {
        let rootfs = std::env::var_os("TAGWIRE_ROOTFS").map(PathBuf::from).unwrap_or_else(|| {
            let rootfs = root().join("target/image/rootfs");
            succeed(Command::new(root().join("deploy/rootfs")).arg(&rootfs));
            rootfs
        });
        self.assemble(&rootfs);
        rootfs
    }

    /// The image of such a folder; its digest.
    pub(crate) fn assemble(&self, rootfs: &Path) -> String {
        succeed(self.command(root().join("deploy/image")).arg(rootfs));
        fs::read_to_string(root().join("target/image/digest")).unwrap()
    }
}

/// Runs a command, which must succeed; what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}\n{said}");
    String::from_utf8_lossy(&stdout).trim().to_owned()
}
