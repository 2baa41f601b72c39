//! One network namespace of a lab: commands and closures that run inside it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::panic;
use std::path::PathBuf;
use std::thread;

use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::error::{LabError, LabResult};
use crate::process::{Identity, LabCommand, Spawner};
use crate::tools::{run_tool, run_tool_with_input};

/// Where `ip netns` keeps the namespaces that have names.
const NETNS_FOLDER: &str = "/run/netns";

/// The path of a namespace by its name.
pub(crate) fn netns_path(name: &str) -> PathBuf {
    PathBuf::from(NETNS_FOLDER).join(name)
}

/// A network namespace of a lab. A clone is another handle on the same one.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    spawner: Spawner,
}

impl Namespace {
    pub(crate) fn create(name: String, spawner: Spawner) -> LabResult<Self> {
        run_tool("ip", &["netns", "add", &name])?;
        Ok(Self { name, spawner })
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it: what `nsenter --net=` takes.
    pub fn path(&self) -> PathBuf {
        netns_path(&self.name)
    }

    /// A command that runs inside, as the user who runs the lab.
    pub fn command(&self, program: impl AsRef<OsStr>) -> LabCommand {
        self.command_as(Identity::Caller, program)
    }

    /// A command that runs inside as the appliance runs in its pod: uid and gid 10000,
    /// `no_new_privs`, and of all capabilities only CAP_NET_RAW.
    pub fn command_as_appliance(&self, program: impl AsRef<OsStr>) -> LabCommand {
        self.command_as(Identity::Appliance, program)
    }

    /// A command that runs inside as uid and gid 10000 without any capability: the
    /// appliance in a pod whose manifest forgot CAP_NET_RAW.
    pub fn command_without_capabilities(&self, program: impl AsRef<OsStr>) -> LabCommand {
        self.command_as(Identity::NoCapability, program)
    }

    fn command_as(&self, identity: Identity, program: impl AsRef<OsStr>) -> LabCommand {
        LabCommand::new(self.path(), identity, program.as_ref(), self.spawner.clone())
    }

    /// Runs a closure on a thread inside the namespace and returns what it returns.
    /// A socket that it opens stays in the namespace, wherever it is used later.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered (the lab is down).
    ///
    /// # Panics
    ///
    /// With the closure.
    pub fn run<T: Send>(&self, closure: impl FnOnce() -> T + Send) -> LabResult<T> {
        let path = self.path();
        let enter = || -> Result<(), String> {
            let file = File::open(&path).map_err(|error| error.to_string())?;
            setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())
        };
        // A thread of its own: what has entered a namespace is not fit for other work.
        let result = thread::scope(|scope| scope.spawn(|| enter().map(|()| closure())).join());
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(why)) => Err(LabError::new(
                format!("cannot enter the namespace {}", self.name),
                why,
                "keep the `Lab` alive for as long as its namespaces are used",
            )),
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    /// The index of an interface in this namespace.
    ///
    /// # Errors
    ///
    /// When there is no such interface.
    pub fn interface_index(&self, interface: &str) -> LabResult<u32> {
        let index = self.run(|| {
            let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            netdevice::name_to_index(&socket, interface)
        })?;
        index.map_err(|error| {
            LabError::new(
                format!("no interface {interface} in the namespace {}", self.name),
                error,
                format!("look with `ip -n {} link`", self.name),
            )
        })
    }

    /// Runs `ip` commands inside, one per line, up to the first that fails.
    pub(crate) fn ip(&self, commands: &str) -> LabResult<()> {
        run_tool_with_input("ip", &["-n", &self.name, "-batch", "-"], commands).map(drop)
    }

    /// Writes a file below /proc/sys/net of the namespace.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> LabResult<()> {
        let path = PathBuf::from("/proc/sys/net").join(key);
        self.run(|| fs::write(&path, value))?.map_err(|error| {
            LabError::new(
                format!("cannot set {} in the namespace {}", path.display(), self.name),
                error,
                "run where /proc/sys is writable (a container needs --privileged)",
            )
        })
    }

    /// Steers the receive work of an interface to the CPUs of `mask`.
    pub(crate) fn steer(&self, interface: &str, mask: u64) -> LabResult<()> {
        // /sys shows the interfaces of the namespace that mounted it, so a mount of our
        // own is needed; `ip netns exec` makes one.
        let file = format!("/sys/class/net/{interface}/queues/rx-0/rps_cpus");
        let script = format!("echo {mask:x} > {file}");
        run_tool("ip", &["netns", "exec", &self.name, "sh", "-c", &script]).map(drop)
    }
}
