//! The servers that are measured, each in a pod of its own on the same `nic0`.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tagwire_lab::{Lab, LabProcess, POD_INTERFACE, Pod};

use crate::BenchError;

/// The CPU of all servers.
pub const SERVER_CPU: usize = 1;
/// How long a server may take until it serves.
const START: Duration = Duration::from_secs(10);
/// How long the busy-polling Tagwire looks for frames before it sleeps, in microseconds: longer
/// than a client takes to ask again.
const BUSY_POLL_US: &str = "1000";
/// The body of the reflector's responses.
const REFLECTED: &str = "1024";

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// Tagwire as it is started without options.
    Tagwire,
    /// Tagwire with `--busy-poll`.
    TagwireBusyPoll,
    /// nginx on the kernel's TCP.
    Nginx,
    /// The reflector: the limit.
    Reflector,
}

impl Contender {
    /// All of them; the index is that of the pod.
    pub const ALL: [Self; 4] = [Self::Tagwire, Self::TagwireBusyPoll, Self::Nginx, Self::Reflector];
    /// A pod beyond theirs, for processes that are started and ended.
    pub const SPARE_POD: usize = Self::ALL.len();

    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tagwire => "tagwire",
            Self::TagwireBusyPoll => "tagwire --busy-poll",
            Self::Nginx => "nginx",
            Self::Reflector => "reflector",
        }
    }

    fn pod(self, lab: &Lab) -> &Pod {
        lab.pod(self as usize)
    }

    /// Where it answers.
    pub fn address(self, lab: &Lab) -> Ipv4Addr {
        self.pod(lab).address()
    }
}

/// The programs, and what they serve.
#[derive(Debug)]
pub struct Programs {
    tagwire: PathBuf,
    reflector: PathBuf,
    www: PathBuf,
    nginx_config: PathBuf,
}

impl Programs {
    /// Makes the files in the lab's folder and puts the programs where all users may run
    /// them.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn prepare(lab: &Lab, tagwire: &Path, reflector: &Path) -> Result<Self, BenchError> {
        let www = lab.scratch().join("www");
        fs::create_dir(&www)?;
        fs::set_permissions(&www, fs::Permissions::from_mode(0o755))?;
        for (name, octets) in [("1k", 1 << 10), ("100k", 100 << 10), ("100m", 100 << 20)] {
            let path = www.join(name);
            fs::write(&path, vec![b'x'; octets])?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        let nginx_config = lab.scratch().join("nginx.conf");
        fs::write(&nginx_config, nginx_conf(lab.scratch(), &www))?;
        Ok(Self {
            tagwire: lab.publish(tagwire)?,
            reflector: lab.publish(reflector)?,
            www,
            nginx_config,
        })
    }

    /// Starts a contender in its pod, on the servers' CPU, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&self, lab: &Lab, contender: Contender) -> Result<LabProcess, BenchError> {
        let pod = contender.pod(lab);
        let mut process = match contender {
            Contender::Tagwire => self.spawn_tagwire(lab, pod, &[])?,
            Contender::TagwireBusyPoll => {
                self.spawn_tagwire(lab, pod, &["--busy-poll", BUSY_POLL_US])?
            }
            Contender::Nginx => {
                pod.kernel_stack()?;
                pod.command("nginx")
                    .arg("-c")
                    .arg(&self.nginx_config)
                    .cpus(SERVER_CPU.to_string())
                    .capture()
                    .spawn()?
            }
            Contender::Reflector => pod
                .command_as_appliance(&self.reflector)
                .args(["--interface", POD_INTERFACE, "--vlan", &vlan(lab)])
                .args(["--address", &pod.address().to_string(), "--body", REFLECTED])
                .cpus(SERVER_CPU.to_string())
                .capture()
                .spawn()?,
        };
        if contender == Contender::Nginx {
            wait_until_it_listens(lab, contender, &process)?;
        } else {
            process.wait_for_line("ready", START)?;
        }
        Ok(process)
    }

    /// Starts the appliance in a pod, as it runs in a cluster: uid 10000 with CAP_NET_RAW.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_tagwire(
        &self,
        lab: &Lab,
        pod: &Pod,
        options: &[&str],
    ) -> Result<LabProcess, BenchError> {
        let process = pod
            .command_as_appliance(&self.tagwire)
            .args(["serve", "--interface", POD_INTERFACE, "--vlan", &vlan(lab)])
            .args(["--address", &format!("{}/24", pod.address()), "--www-root"])
            .arg(&self.www)
            .args(options)
            .cpus(SERVER_CPU.to_string())
            .capture()
            .spawn()?;
        Ok(process)
    }

    /// Starts the appliance and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_tagwire(&self, lab: &Lab, pod: &Pod) -> Result<LabProcess, BenchError> {
        let mut process = self.spawn_tagwire(lab, pod, &[])?;
        process.wait_for_line("ready", START)?;
        Ok(process)
    }
}

fn vlan(lab: &Lab) -> String {
    lab.vlan().unwrap_or(0).to_string()
}

/// nginx says nothing when it is ready.
fn wait_until_it_listens(
    lab: &Lab,
    contender: Contender,
    process: &LabProcess,
) -> Result<(), BenchError> {
    let curl = |limit: &str| {
        lab.client()
            .command("curl")
            .args(["-s", "-o", "/dev/null", "--retry-connrefused", "--retry", "50"])
            .args(["--retry-delay", "0", "--max-time", limit])
            .arg(format!("http://{}/1k", contender.address(lab)))
            .status()
    };
    if curl("5")?.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{} does not serve: {}", contender.name(), process.log())).into())
}

/// Debian's nginx at its best for static files on one core: one worker, no logs, sendfile, open
/// files kept, connections kept for as long as they ask.
fn nginx_conf(scratch: &Path, www: &Path) -> String {
    let (scratch, www) = (scratch.display(), www.display());
    format!(
        "daemon off;
worker_processes 1;
user www-data;
pid {scratch}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 16384; multi_accept on; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=300s;
    open_file_cache_valid 300s;
    open_file_cache_min_uses 1;
    server {{ listen 80 default_server; root {www}; }}
}}
"
    )
}
