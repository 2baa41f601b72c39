//! The servers that are measured, each in a pod of its own on the same `nic0`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tagwire_lab::{Lab, LabCommand, LabProcess, POD_INTERFACE, Pod};

use crate::BenchError;
use crate::load::MANY;

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
    /// Tagwire as it serves where io_uring is forbidden.
    TagwirePoll,
    /// Tagwire with `--access-log`, to a file.
    TagwireLog,
    /// nginx on the kernel's TCP.
    Nginx,
    /// The reflector: the limit.
    Reflector,
    /// The same with `--busy-poll`: the limit of who never sleeps.
    ReflectorBusyPoll,
}

impl Contender {
    /// All of them; the index is that of the pod.
    pub const ALL: [Self; 7] = [
        Self::Tagwire,
        Self::TagwireBusyPoll,
        Self::TagwirePoll,
        Self::TagwireLog,
        Self::Nginx,
        Self::Reflector,
        Self::ReflectorBusyPoll,
    ];
    /// A pod beyond theirs, for processes that are started and ended.
    pub const SPARE_POD: usize = Self::ALL.len();

    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tagwire => "tagwire",
            Self::TagwireBusyPoll => "tagwire --busy-poll",
            Self::TagwirePoll => "tagwire --driver poll",
            Self::TagwireLog => "tagwire --access-log",
            Self::Nginx => "nginx",
            Self::Reflector => "reflector",
            Self::ReflectorBusyPoll => "reflector --busy-poll",
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
    reflector: Option<PathBuf>,
    www: PathBuf,
    /// Where whoever serves may write.
    logs: PathBuf,
    nginx_config: PathBuf,
    cpu: Option<usize>,
}

/// What `make bench` asks for: names and octets.
pub const FILES: [(&str, usize); 3] = [("1k", 1 << 10), ("100k", 100 << 10), ("100m", 100 << 20)];

impl Programs {
    /// Makes the files, of these names and octets, in the lab's folder and puts the programs
    /// where all users may run them.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn prepare(
        lab: &Lab,
        tagwire: &Path,
        reflector: Option<&Path>,
        files: &[(&str, usize)],
    ) -> Result<Self, BenchError> {
        let www = lab.scratch().join("www");
        fs::create_dir(&www)?;
        fs::set_permissions(&www, fs::Permissions::from_mode(0o755))?;
        for &(name, octets) in files {
            let path = www.join(name);
            fs::write(&path, vec![b'x'; octets])?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        let logs = lab.scratch().join("logs");
        fs::create_dir(&logs)?;
        fs::set_permissions(&logs, fs::Permissions::from_mode(0o777))?;
        let nginx_config = lab.scratch().join("nginx.conf");
        fs::write(&nginx_config, nginx_conf(lab.scratch(), &www))?;
        Ok(Self {
            tagwire: lab.publish(tagwire)?,
            reflector: reflector.map(|reflector| lab.publish(reflector)).transpose()?,
            www,
            logs,
            nginx_config,
            cpu: None,
        })
    }

    /// The folder whose files are served.
    pub fn www(&self) -> &Path {
        &self.www
    }

    /// What the appliance behind a control socket says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self, pod: &Pod, control: &Path) -> Result<Value, BenchError> {
        let command = pod.command_as_appliance(&self.tagwire);
        let command = command.args(["status", "--json", "--control"]).arg(control);
        Ok(serde_json::from_str(&command.stdout_string()?)?)
    }

    /// Keeps what is started from now on to a CPU.
    #[must_use]
    pub fn pinned(mut self, cpu: usize) -> Self {
        self.cpu = Some(cpu);
        self
    }

    fn place(&self, command: LabCommand) -> LabCommand {
        match self.cpu {
            Some(cpu) => command.cpus(cpu.to_string()),
            None => command,
        }
    }

    /// Starts a contender in its pod and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&self, lab: &Lab, contender: Contender) -> Result<LabProcess, BenchError> {
        let pod = contender.pod(lab);
        match contender {
            Contender::Tagwire => self.start_tagwire(lab, pod, &[]),
            Contender::TagwireBusyPoll => {
                self.start_tagwire(lab, pod, &["--busy-poll", BUSY_POLL_US])
            }
            Contender::TagwirePoll => self.start_tagwire(lab, pod, &["--driver", "poll"]),
            Contender::TagwireLog => {
                let log = self.logs.join("access.log");
                let log = log.to_str().ok_or("the lab's folder has a name that is no text")?;
                self.start_tagwire(lab, pod, &["--access-log", log])
            }
            Contender::Nginx => self.start_nginx(lab, pod),
            Contender::Reflector => self.start_reflector(lab, pod, &[]),
            Contender::ReflectorBusyPoll => {
                self.start_reflector(lab, pod, &["--busy-poll", BUSY_POLL_US])
            }
        }
    }

    fn start_reflector(
        &self,
        lab: &Lab,
        pod: &Pod,
        options: &[&str],
    ) -> Result<LabProcess, BenchError> {
        let program = self.reflector.as_ref().ok_or("there is no reflector here")?;
        let command = pod
            .command_as_appliance(program)
            .args(["--interface", POD_INTERFACE, "--vlan", &vlan(lab)])
            .args(["--address", &pod.address().to_string(), "--body", REFLECTED])
            .args(options);
        let mut process = self.place(command).capture().spawn()?;
        process.wait_for_line("ready", START)?;
        Ok(process)
    }

    /// Starts a contender again that has ended.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn start_again(&self, lab: &Lab, contender: Contender) -> Result<LabProcess, BenchError> {
        match contender {
            // Its pod has the kernel's stack still.
            Contender::Nginx => self.spawn_nginx(lab, contender.pod(lab)),
            _ => self.start(lab, contender),
        }
    }

    /// Starts nginx in a pod, on the kernel's stack, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_nginx(&self, lab: &Lab, pod: &Pod) -> Result<LabProcess, BenchError> {
        pod.kernel_stack()?;
        self.spawn_nginx(lab, pod)
    }

    fn spawn_nginx(&self, lab: &Lab, pod: &Pod) -> Result<LabProcess, BenchError> {
        let command = pod.command("nginx").arg("-c").arg(&self.nginx_config);
        let process = self.place(command).capture().spawn()?;
        wait_until_it_listens(lab, pod, &process)?;
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
        let address = format!("{}/24", pod.address());
        self.spawn_tagwire_at(lab, pod, &[&address], options)
    }

    fn spawn_tagwire_at(
        &self,
        lab: &Lab,
        pod: &Pod,
        addresses: &[&str],
        options: &[&str],
    ) -> Result<LabProcess, BenchError> {
        let command = pod
            .command_as_appliance(&self.tagwire)
            .args(["serve", "--interface", POD_INTERFACE, "--vlan", &vlan(lab)])
            .args(addresses.iter().flat_map(|address| ["--address", address]))
            .arg("--www-root")
            .arg(&self.www)
            .args(options);
        Ok(self.place(command).capture().spawn()?)
    }

    /// Starts the appliance with these addresses and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_tagwire_at(
        &self,
        lab: &Lab,
        pod: &Pod,
        addresses: &[&str],
        options: &[&str],
    ) -> Result<LabProcess, BenchError> {
        let mut process = self.spawn_tagwire_at(lab, pod, addresses, options)?;
        process.wait_for_line("ready", START)?;
        Ok(process)
    }

    /// Starts the appliance and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_tagwire(
        &self,
        lab: &Lab,
        pod: &Pod,
        options: &[&str],
    ) -> Result<LabProcess, BenchError> {
        let mut process = self.spawn_tagwire(lab, pod, options)?;
        process.wait_for_line("ready", START)?;
        Ok(process)
    }
}

fn vlan(lab: &Lab) -> String {
    lab.vlan().unwrap_or(0).to_string()
}

/// nginx says nothing when it is ready: then it refuses no connection.
fn wait_until_it_listens(lab: &Lab, pod: &Pod, process: &LabProcess) -> Result<(), BenchError> {
    let server = SocketAddr::from((pod.address(), 80));
    let deadline = Instant::now() + START;
    let listens = lab.client().run(|| {
        while Instant::now() < deadline {
            if TcpStream::connect_timeout(&server, START).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    })?;
    if listens { Ok(()) } else { Err(format!("nginx does not serve: {}", process.log()).into()) }
}

/// Debian's nginx at its best for static files on one core: one worker, no logs, sendfile, open
/// files kept, connections kept for as long as they ask.
fn nginx_conf(scratch: &Path, www: &Path) -> String {
    let (scratch, www) = (scratch.display(), www.display());
    // It keeps files open to keep them at all. Where not all of many may be open, the next one is
    // never among those that are.
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let (many, files) = if most >= MANY + 20_000 {
        (format!("max={MANY} inactive=300s"), format!("worker_rlimit_nofile {};", MANY + 20_000))
    } else {
        ("off".to_owned(), String::new())
    };
    format!(
        "daemon off;
worker_processes 1;
{files}
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
    server {{
        listen 80 default_server;
        root {www};
        location /many/ {{ open_file_cache {many}; }}
        location /packed/ {{ gzip_static on; gzip_vary on; }}
    }}
}}
"
    )
}
