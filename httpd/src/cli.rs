//! The command line (clap): options, environment variables, and one clear line for a mistake.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand};

use tagwire_netstack::congestion::Algorithm;
use tagwire_netstack::{Acd, IpCidr, VlanStack};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::access_log::{AccessLogConfig, Format, Target};
use crate::config::{
    Config, LogFormat, MAX_MTU, MAX_WORKERS, MIN_MEMORY_BUDGET, MIN_MTU, parse_address, parse_size,
    parse_vlan,
};
use crate::driver::DriverChoice;
use crate::limits::{LEAST_DOWNLOAD_MEMORY, Limits};
use crate::sandbox::SandboxMode;
use crate::site::SiteSettings;
use crate::vlan::{VlanConfig, ids};

mod merge;
mod replica;
mod usual;

use merge::Settings;
use replica::ReplicaArgs;
use usual::UsualArgs;

/// What the connections of one worker in one VLAN need at the least: a few dozen queue as much.
const LEAST_MEMORY: usize = 256 << 10;

/// What the process is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Be the appliance.
    Serve(Box<Config>),
    /// Say what would keep the appliance from working.
    Doctor {
        /// What it would be started with.
        config: Box<Config>,
        /// Print an object instead of lines.
        json: bool,
    },
    /// A configuration file is fine.
    Check {
        /// The file.
        file: PathBuf,
        /// Options, VLANs and sites in it.
        found: (usize, usize, usize),
    },
    /// Ask a running one how it is.
    Status {
        /// Its control socket.
        control: PathBuf,
        /// Print the answer as it comes.
        json: bool,
    },
    /// Have a running one read its sites and limits again.
    Reload {
        /// Its control socket.
        control: PathBuf,
    },
    /// Have a running one send its clients elsewhere while it goes on serving.
    LameDuck {
        /// Its control socket.
        control: PathBuf,
        /// It is to be a lame duck from now on; else it is one no more.
        on: bool,
        /// How long to wait before this is done.
        wait: Duration,
    },
}

/// Why there is no command.
#[derive(Debug)]
pub enum CliError {
    /// Bad usage: one line for stderr, exit code 2.
    Usage(String),
    /// Help or version was asked for: text for stdout, exit code 0.
    Asked(String),
}

/// An HTTP appliance behind a VLAN tag, on a TCP/IP stack of its own.
#[derive(Debug, Parser)]
#[command(name = "tagwire", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve www-root on a VLAN of an interface
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Look for what would keep `tagwire serve` with the same options from working, and say what to do
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Box<DoctorArgs>),
    /// Say whether a configuration file is fine, and the line of a mistake
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Show what a running appliance says of itself
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Have a running appliance read sites and limits of its configuration file again, as SIGHUP does
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload(ReloadArgs),
    /// Have a running appliance send its clients elsewhere before it is stopped: /readyz fails and each answer
    /// says `Connection: close`, while new connections are still served
    #[command(after_help = LAME_DUCK_EXAMPLES)]
    LameDuck(LameDuckArgs),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  tagwire serve --interface macvlan0 --vlan 123 --address 192.168.123.150/24 --www-root /www
  tagwire serve --interface eth1 --address 10.0.0.5/16 --gateway 10.0.0.1 --www-root . --port 8080
  tagwire serve --interface eth1 --vlan 100.200 --address 192.0.2.5/24 --address 2001:db8::5/64 \\
      --gateway 192.0.2.1 --gateway fe80::1 --www-root /www --workers auto
  tagwire serve --interface eth1 --slaac --www-root /www
  tagwire serve --config /etc/tagwire.toml --port 8080
  HOST_INTERFACE=macvlan0 VLAN_ID=123 IP_ADDRESS=192.168.123.150/24 WWW_ROOT=/www tagwire serve";

const DOCTOR_EXAMPLES: &str = "\
Exit status: 0 if nothing failed, 1 if something did, 2 for bad usage.

Examples:
  tagwire doctor --interface macvlan0 --vlan 123 --address 192.168.123.150/24 --www-root /www
  tagwire doctor --config /etc/tagwire.toml --json | jq '.checks[] | select(.verdict != \"fine\")'";

const CHECK_EXAMPLES: &str = "\
Examples:
  tagwire check /etc/tagwire.toml
  tagwire check tagwire.toml && tagwire serve --config tagwire.toml";

const STATUS_EXAMPLES: &str = "\
Examples:
  tagwire status --control /run/tagwire/control
  tagwire status --control /run/tagwire/control --json | jq .cache";

const RELOAD_EXAMPLES: &str = "\
Examples:
  tagwire reload --control /run/tagwire/control
  tagwire check /etc/tagwire.toml && tagwire reload --control /run/tagwire/control";

const LAME_DUCK_EXAMPLES: &str = "\
Examples:
  tagwire lame-duck --control /run/tagwire/control --for 5s; systemctl stop tagwire
  tagwire lame-duck --control /run/tagwire/control --off";

#[derive(Debug, Args)]
struct ServeArgs {
    /// Configuration file (TOML): these options in [serve] and [limits], VLANs and sites; what is
    /// given here goes first
    #[arg(long, env = "CONFIG", value_name = "FILE", value_parser = path)]
    config: Option<PathBuf>,
    /// Layer-2 interface whose frames are taken
    #[arg(long, env = "HOST_INTERFACE", value_parser = interface)]
    interface: String,
    #[command(flatten)]
    vlan: VlanArgs,
    #[command(flatten)]
    replica: ReplicaArgs,
    /// Directory whose files are served; with a configuration file, its first site's
    #[arg(long, env = "WWW_ROOT", value_parser = optional_path)]
    www_root: Option<Maybe<PathBuf>>,
    /// TCP port
    #[arg(long, env = "PORT", value_parser = port, default_value = "80")]
    port: u16,
    /// What the content cache may hold: octets, or with k, m, g
    #[arg(long, env = "CACHE_SIZE", value_parser = |text: &str| parse_size(text.trim()), default_value = "512m")]
    cache_size: u64,
    /// What answers from files of more than 1 MiB may hold beside the cache, 4m or more; the less is
    /// left of it, the less each takes
    #[arg(long, env = "DOWNLOAD_MEMORY", value_name = "SIZE", value_parser = download_memory, default_value = "64m")]
    download_memory: usize,
    /// Load all that is served into the cache, as far as it has room, before anything is served
    #[arg(long, env = "PRELOAD", value_parser = switch)]
    preload: bool,
    #[command(flatten)]
    usual: UsualArgs,
    /// Changes on disk: auto to be told of them by inotify where it works; off to compare only
    #[arg(long, env = "WATCH", value_parser = watch, default_value = "auto", action = ArgAction::Set)]
    watch: bool,
    /// Worker threads, 1 to 64; auto for as many as there are CPUs for this process
    #[arg(long, env = "WORKERS", value_name = "N", value_parser = workers, default_value = "1")]
    workers: usize,
    /// What carries packets and reads files: auto, io_uring or poll; auto: io_uring where it is allowed
    #[arg(long, env = "DRIVER", value_parser = trimmed::<DriverChoice>, default_value = "auto")]
    driver: DriverChoice,
    /// Microseconds to spin before sleeping: less latency for a busy core
    #[arg(long, env = "BUSY_POLL", value_name = "US", value_parser = busy_poll, default_value = "0")]
    busy_poll: Duration,
    /// TCP's congestion control: cubic, or bbr for paths that lose by themselves
    #[arg(long, env = "CONGESTION", value_parser = congestion, default_value = "cubic")]
    congestion: Algorithm,
    /// Explicit congestion notification with peers that ask for it: on or off
    #[arg(long, env = "ECN", value_parser = switch, default_value = "on", action = ArgAction::Set)]
    ecn: bool,
    /// TCP Fast Open: a client that has been here may send its request with the SYN
    #[arg(long, env = "FAST_OPEN", value_parser = switch)]
    fast_open: bool,
    /// What all connections may hold in memory, 16m or more; beyond it the slowest give way
    #[arg(long, env = "MEMORY_BUDGET", value_name = "SIZE", value_parser = memory_budget, default_value = "256m")]
    memory_budget: usize,
    /// Floor of TCP's retransmission timeout in milliseconds
    #[arg(long, env = "RTO_MIN", value_name = "MS", value_parser = rto_min, default_value = "200")]
    rto_min: Duration,
    /// Unix socket to make for `tagwire status`, `reload` and `lame-duck`
    #[arg(long, env = "CONTROL", value_name = "PATH", value_parser = optional_path)]
    control: Option<Maybe<PathBuf>>,
    /// Log of requests: a file, which SIGUSR1 opens anew, - for standard output, or off
    #[arg(long, env = "ACCESS_LOG", value_name = "PATH", value_parser = trimmed::<Target>, default_value = "off")]
    access_log: Target,
    /// Shape of its lines: combined, as nginx and Apache have it, or json
    #[arg(long, env = "ACCESS_LOG_FORMAT", value_parser = trimmed::<Format>, default_value = "combined")]
    access_log_format: Format,
    /// What the process takes from itself once it has started (Landlock, seccomp): strict for all or
    /// no start, best-effort for what the kernel has, or off
    #[arg(long, env = "SANDBOX", value_parser = trimmed::<SandboxMode>, default_value = "best-effort")]
    sandbox: SandboxMode,
    /// Directory beneath which a reload may find other www-roots than at the start; several times, or
    /// with commas
    #[arg(long, env = "SANDBOX_READ", value_name = "DIRECTORY", value_parser = optional_path, value_delimiter = ',')]
    sandbox_read: Vec<Maybe<PathBuf>>,
    /// Address and port of /livez, /readyz and /metrics over the kernel's TCP, 0.0.0.0:9090 say
    #[arg(long, env = "ADMIN", value_name = "ADDRESS:PORT", value_parser = optional_socket)]
    admin: Option<Maybe<SocketAddr>>,
    /// Seconds, 0 to 3600, in which answers that are under way at SIGTERM may be finished
    #[arg(long, env = "DRAIN", value_name = "S", value_parser = seconds, default_value = "10s")]
    drain: Duration,
    /// Shape of the log on stderr: text or json
    #[arg(long, env = "LOG_FORMAT", value_parser = trimmed::<LogFormat>, default_value = "text")]
    log_format: LogFormat,
    /// off, error, warn, info or debug, or levels by module as in warn,tagwire_netstack=debug
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL", value_parser = log_filter, default_value = "info")]
    log_level: Targets,
    #[command(flatten)]
    limits: Limits,
}

/// A VLAN: the only one, or, without the environment, a `[[vlan]]` of the configuration file.
#[derive(Debug, Args)]
struct VlanArgs {
    /// VLAN ID of all frames, 1 to 4094; 0 for untagged; 100.200 for 802.1ad tag 100 around 200
    #[arg(long, env = "VLAN_ID", value_name = "ID", value_parser = parse_vlan, default_value = "0")]
    vlan: VlanStack,
    /// Priority (PCP) of what is sent, 0 to 7
    #[arg(long, env = "VLAN_PCP", value_parser = pcp, default_value = "0")]
    pcp: u8,
    /// Own address with its prefix length, IPv4 or IPv6; several times, or with commas
    #[arg(long, env = "IP_ADDRESS", value_parser = address, value_delimiter = ',')]
    address: Vec<Maybe<IpCidr>>,
    /// Default gateway, one for each family; without one only the own networks are reached
    #[arg(long, env = "GATEWAY", value_parser = gateway, value_delimiter = ',')]
    gateway: Vec<Maybe<IpAddr>>,
    /// Take IPv6 addresses and routers from router advertisements too
    #[arg(long, env = "SLAAC", value_parser = switch)]
    slaac: bool,
    /// Whether an address is used at once and probed for alongside (optimistic), or after (strict)
    #[arg(long, env = "ACD", value_parser = acd, default_value = "optimistic")]
    acd: Acd,
    /// Largest IP packet in octets, up to 9000; without it the interface's
    #[arg(long, env = "MTU", value_parser = mtu)]
    mtu: Option<Maybe<u16>>,
}

impl VlanArgs {
    fn check(self) -> Result<VlanConfig, String> {
        let config = VlanConfig {
            id: self.vlan,
            pcp: self.pcp,
            mtu: self.mtu.and_then(|mtu| mtu.0),
            addresses: self.address.into_iter().filter_map(|one| one.0).collect(),
            gateways: self.gateway.into_iter().filter_map(|one| one.0).collect(),
            slaac: self.slaac,
            acd: self.acd,
        };
        config.check().map(|()| config)
    }
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Configuration file
    #[arg(value_parser = path)]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Control socket of the appliance
    #[arg(long, env = "CONTROL", value_name = "PATH", value_parser = path)]
    control: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ReloadArgs {
    /// Control socket of the appliance
    #[arg(long, env = "CONTROL", value_name = "PATH", value_parser = path)]
    control: PathBuf,
}

#[derive(Debug, Args)]
struct LameDuckArgs {
    /// Control socket of the appliance
    #[arg(long, env = "CONTROL", value_name = "PATH", value_parser = path)]
    control: PathBuf,
    /// Return after so many seconds, 0 to 3600: time for balancers to notice, before SIGTERM
    #[arg(long = "for", value_name = "S", value_parser = seconds, default_value = "0s", conflicts_with = "off")]
    wait: Duration,
    /// Take it back: ready again, and connections are kept
    #[arg(long)]
    off: bool,
}

/// An option whose empty value means that it is not given: manifests set variables to "".
#[derive(Debug, Clone)]
struct Maybe<T>(Option<T>);

/// Reads the command line, `arguments` beginning with the program's name, and the environment.
///
/// # Errors
/// [`CliError`] when there is nothing to run.
pub fn parse<I>(arguments: I) -> Result<Command, CliError>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let given: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let (arguments, settings) = merge::merge(given.clone())?;
    match Cli::try_parse_from(arguments).map_err(|error| explain(&error))?.command {
        Verb::Serve(serve) => {
            let config = serve.check(settings, given).map_err(CliError::Usage)?;
            Ok(Command::Serve(Box::new(config)))
        }
        Verb::Doctor(doctor) => {
            let DoctorArgs { json, serve } = *doctor;
            let config = Box::new(serve.check(settings, given).map_err(CliError::Usage)?);
            Ok(Command::Doctor { config, json })
        }
        Verb::Check(CheckArgs { file }) => {
            let settings = merge::read(&file).map_err(CliError::Usage)?;
            if let Some(served) = settings.served() {
                settings.check_sites(&served).map_err(CliError::Usage)?;
            }
            settings.check_log().map_err(CliError::Usage)?;
            let Settings { options, vlans, sites, .. } = settings;
            Ok(Command::Check { file, found: (options.len(), vlans.len(), sites.len()) })
        }
        Verb::Status(StatusArgs { control, json }) => Ok(Command::Status { control, json }),
        Verb::Reload(ReloadArgs { control }) => Ok(Command::Reload { control }),
        Verb::LameDuck(LameDuckArgs { control, wait, off }) => {
            Ok(Command::LameDuck { control, on: !off, wait })
        }
    }
}

impl ServeArgs {
    /// What concerns more than one option, and what a file says beside them;
    /// `arguments` are what all of it was read from.
    fn check(self, mut settings: Settings, arguments: Vec<OsString>) -> Result<Config, String> {
        if settings.vlans.is_empty() {
            let mut vlan = self.vlan;
            vlan.address.extend(self.replica.own()?.into_iter().map(|one| Maybe(Some(one))));
            settings.vlans.push(vlan.check()?);
        } else if self.replica.are_given() {
            return Err("--addresses is for one VLAN, and there are [[vlan]] tables; give each its                         address there"
                .to_owned());
        }
        settings.check_sites(&ids(&settings.vlans))?;
        let Settings { vlans, mut sites, .. } = settings;
        let stacks = self.workers * vlans.len();
        if self.memory_budget / stacks < LEAST_MEMORY {
            return Err(format!(
                "the memory budget is too little for {} workers in {} VLANs; give {}m or more",
                self.workers,
                vlans.len(),
                (LEAST_MEMORY * stacks).div_ceil(1 << 20)
            ));
        }
        // What the command line says goes before the file.
        match (self.www_root.and_then(|path| path.0), sites.first_mut()) {
            (Some(path), Some(first)) => first.www_root = path,
            (Some(path), None) => sites.push(SiteSettings::new(path)),
            (None, _) => {}
        }
        for site in &mut sites {
            self.usual.complete(site);
        }
        if sites.is_empty() {
            return Err(
                "--www-root <DIRECTORY> is missing; give the directory whose files are to \
                        be served, or a file with a [[site]] by --config"
                    .to_owned(),
            );
        }
        Ok(Config {
            interface: self.interface,
            vlans,
            port: self.port,
            sites,
            limits: self.limits,
            cache_size: self.cache_size,
            download_memory: self.download_memory,
            preload: self.preload,
            watch: self.watch,
            workers: self.workers,
            driver: self.driver,
            busy_poll: self.busy_poll,
            congestion: self.congestion,
            ecn: self.ecn,
            fast_open: self.fast_open,
            memory_budget: self.memory_budget,
            rto_min: self.rto_min,
            control: self.control.and_then(|control| control.0),
            access_log: AccessLogConfig { target: self.access_log, format: self.access_log_format },
            sandbox: self.sandbox,
            sandbox_read: self.sandbox_read.into_iter().filter_map(|path| path.0).collect(),
            file: self.config,
            admin: self.admin.and_then(|admin| admin.0),
            drain: self.drain,
            log_format: self.log_format,
            log_filter: self.log_level,
            arguments,
        })
    }
}

/// Reads again what `config` was read from: its configuration file may have changed.
///
/// # Errors
/// One line that names the file and the line of a mistake.
pub fn read_again(config: &Config) -> Result<Config, String> {
    match parse(config.arguments.clone()) {
        Ok(Command::Serve(config)) => Ok(*config),
        Err(CliError::Usage(line)) => Err(line),
        // They were a line that serves.
        _ => Ok(config.clone()),
    }
}

/// clap's explanation in one line, with where to read on.
fn explain(error: &clap::Error) -> CliError {
    let text = error.to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return CliError::Asked(text);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        || error.kind() == ErrorKind::MissingSubcommand
    {
        return CliError::Usage("no command; use tagwire serve, or see tagwire --help".to_owned());
    }
    CliError::Usage(format!("{}; see tagwire --help and tagwire serve --help", one_line(error)))
}

/// What is wrong, in one line.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    // The first paragraph says it; usage and hints follow.
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = paragraph.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

fn trimmed<T: FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.trim().parse()
}

fn interface(text: &str) -> Result<String, String> {
    let name = text.trim();
    // The kernel's own rules (dev_valid_name): IFNAMSIZ with its NUL is 16.
    let valid = !name.is_empty()
        && name.len() < 16
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if valid {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is no interface name; `ip link` lists them"))
    }
}

fn optional_socket(text: &str) -> Result<Maybe<SocketAddr>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Maybe(None));
    }
    let socket = text.parse().ok().filter(|socket: &SocketAddr| socket.port() != 0);
    socket.map(|socket| Maybe(Some(socket))).ok_or_else(|| {
        format!("{text:?} is no address with a port; write it as 0.0.0.0:9090 or [::]:9090")
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
    let seconds = seconds.filter(|seconds| (0..=3600).contains(seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is no time; use seconds from 0 to 3600, as 10s"))
}

fn path(text: &str) -> Result<PathBuf, String> {
    match text.trim() {
        "" => Err("the path is empty".to_owned()),
        path => Ok(path.into()),
    }
}

fn optional_path(text: &str) -> Result<Maybe<PathBuf>, String> {
    Ok(Maybe(Some(text.trim()).filter(|path| !path.is_empty()).map(PathBuf::from)))
}

fn pcp(text: &str) -> Result<u8, String> {
    let pcp = text.trim().parse().ok().filter(|pcp| *pcp <= 7);
    pcp.ok_or_else(|| format!("{:?} is no priority; use 0 to 7", text.trim()))
}

fn address(text: &str) -> Result<Maybe<IpCidr>, String> {
    match text.trim() {
        "" => Ok(Maybe(None)),
        text => parse_address(text).map(|address| Maybe(Some(address))),
    }
}

fn gateway(text: &str) -> Result<Maybe<IpAddr>, String> {
    match text.trim() {
        "" => Ok(Maybe(None)),
        text => text.parse().map(|address| Maybe(Some(address))).map_err(|_| {
            format!("{text:?} is no IP address; write a gateway without prefix, 192.168.123.1 say")
        }),
    }
}

/// A switch by its environment variable; without a value it is on.
fn switch(text: &str) -> Result<bool, String> {
    match text.trim() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        text => Err(format!("{text:?} is neither on nor off; use true or false")),
    }
}

fn mtu(text: &str) -> Result<Maybe<u16>, String> {
    match text.trim() {
        "" => Ok(Maybe(None)),
        text => {
            let mtu = text.parse().ok().filter(|mtu| (MIN_MTU..=MAX_MTU).contains(mtu));
            mtu.map(|mtu| Maybe(Some(mtu)))
                .ok_or_else(|| format!("{text:?} is no MTU; use {MIN_MTU} to {MAX_MTU}"))
        }
    }
}

fn congestion(text: &str) -> Result<Algorithm, String> {
    let text = text.trim();
    text.parse().map_err(|_| format!("{text:?} is no congestion control; use cubic or bbr"))
}

fn acd(text: &str) -> Result<Acd, String> {
    match text.trim() {
        "optimistic" => Ok(Acd::Optimistic),
        "strict" => Ok(Acd::Strict),
        text => Err(format!("{text:?} is no way to detect conflicts; use optimistic or strict")),
    }
}

fn memory_budget(text: &str) -> Result<usize, String> {
    let size = usize::try_from(parse_size(text.trim())?).unwrap_or(usize::MAX);
    if size < MIN_MEMORY_BUDGET {
        return Err(format!("{:?} is too little for connections; give 16m or more", text.trim()));
    }
    Ok(size)
}

fn download_memory(text: &str) -> Result<usize, String> {
    let size = usize::try_from(parse_size(text.trim())?).unwrap_or(usize::MAX);
    if size < LEAST_DOWNLOAD_MEMORY {
        return Err(format!("{:?} is too little for downloads; give 4m or more", text.trim()));
    }
    Ok(size)
}

fn rto_min(text: &str) -> Result<Duration, String> {
    /// RFC 6298 2.4 asks for a second; more would only be slow.
    const MAX: u64 = 1000;
    let millis = text.trim().parse().ok().filter(|millis| (1..=MAX).contains(millis));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{:?} is no time; use milliseconds, 1 to {MAX}", text.trim()))
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.trim().parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("{:?} is no port; use 1 to 65535", text.trim()))
}

/// What the affinity and the quotas of the control groups, of both versions, leave; as it was when
/// first asked for: later the sandbox does not let quotas be read.
fn available_workers() -> usize {
    static AVAILABLE: OnceLock<usize> = OnceLock::new();
    let available = || thread::available_parallelism().map_or(1, NonZero::get).min(MAX_WORKERS);
    *AVAILABLE.get_or_init(available)
}

fn workers(text: &str) -> Result<usize, String> {
    match text.trim() {
        "auto" => Ok(available_workers()),
        text => {
            let workers = text.parse().ok().filter(|workers| (1..=MAX_WORKERS).contains(workers));
            workers.ok_or_else(|| {
                format!("{text:?} is no number of workers; use 1 to {MAX_WORKERS}, or auto")
            })
        }
    }
}

fn watch(text: &str) -> Result<bool, String> {
    match text.trim() {
        "auto" => Ok(true),
        "off" => Ok(false),
        text => Err(format!("{text:?} is no way to notice changes; use auto or off")),
    }
}

fn busy_poll(text: &str) -> Result<Duration, String> {
    /// A second: more than that is a mistaken unit.
    const MAX: u64 = 1_000_000;
    let micros = text.trim().parse().ok().filter(|micros| *micros <= MAX);
    micros
        .map(Duration::from_micros)
        .ok_or_else(|| format!("{:?} is no time; use microseconds, up to {MAX}", text.trim()))
}

fn log_filter(text: &str) -> Result<Targets, String> {
    let text = text.trim();
    // To Targets a name alone is a module of which everything is logged, and a mistaken level one that is
    // not there: nothing would be logged. Nothing at all means errors to it.
    let is_one = |part: &str| {
        part.contains('=') || (!part.is_empty() && part.parse::<LevelFilter>().is_ok())
    };
    match text.parse() {
        Ok(filter) if text.split(',').all(is_one) => Ok(filter),
        _ => Err(format!("{text:?} is no log level; use off, error, warn, info or debug")),
    }
}

#[cfg(test)]
mod tests;
