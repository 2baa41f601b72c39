//! The command line (clap): options, environment variables, and one clear line for a mistake.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Ipv4Prefix, LogFormat, parse_size, parse_vlan};

/// What the process is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Be the appliance.
    Serve(Config),
    /// Ask a running one how it is.
    Status {
        /// Its control socket.
        control: PathBuf,
        /// Print the answer as it comes.
        json: bool,
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
    Serve(ServeArgs),
    /// Show what a running appliance says of itself
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  tagwire serve --interface macvlan0 --vlan 123 --address 192.168.123.150/24 --www-root /www
  tagwire serve --interface eth1 --address 10.0.0.5/16 --gateway 10.0.0.1 --www-root . --port 8080
  HOST_INTERFACE=macvlan0 VLAN_ID=123 IP_ADDRESS=192.168.123.150/24 WWW_ROOT=/www tagwire serve";

const STATUS_EXAMPLES: &str = "\
Examples:
  tagwire status --control /run/tagwire/control
  tagwire status --control /run/tagwire/control --json | jq .cache";

#[derive(Debug, Args)]
struct ServeArgs {
    /// Layer-2 interface whose frames are taken
    #[arg(long, env = "HOST_INTERFACE", value_parser = interface)]
    interface: String,
    /// VLAN ID of all frames, 1 to 4094; 0 for untagged
    #[arg(long, env = "VLAN_ID", value_parser = |text: &str| parse_vlan(text.trim()), default_value = "0")]
    vlan: u16,
    /// Own IPv4 address with its prefix length
    #[arg(long, env = "IP_ADDRESS", value_parser = trimmed::<Ipv4Prefix>)]
    address: Ipv4Prefix,
    /// Directory whose files are served
    #[arg(long, env = "WWW_ROOT", value_parser = path)]
    www_root: PathBuf,
    /// Default gateway; without one only the own network is reached
    #[arg(long, env = "GATEWAY", value_parser = gateway)]
    gateway: Option<Maybe<Ipv4Addr>>,
    /// TCP port
    #[arg(long, env = "PORT", value_parser = port, default_value = "80")]
    port: u16,
    /// What the content cache may hold: octets, or with k, m, g
    #[arg(long, env = "CACHE_SIZE", value_parser = |text: &str| parse_size(text.trim()), default_value = "512m")]
    cache_size: u64,
    /// Worker threads; one for now
    #[arg(long, env = "WORKERS", value_parser = workers, default_value = "1")]
    workers: usize,
    /// Microseconds to spin before sleeping: less latency for a busy core
    #[arg(long, env = "BUSY_POLL", value_name = "US", value_parser = busy_poll, default_value = "0")]
    busy_poll: Duration,
    /// Unix socket to make for `tagwire status`
    #[arg(long, env = "CONTROL", value_name = "PATH", value_parser = optional_path)]
    control: Option<Maybe<PathBuf>>,
    /// Shape of the log on stderr: text or json
    #[arg(long, env = "LOG_FORMAT", value_parser = trimmed::<LogFormat>, default_value = "text")]
    log_format: LogFormat,
    /// error, warn, info, debug or trace
    #[arg(long, env = "LOG_LEVEL", value_parser = log_level, default_value = "info")]
    log_level: String,
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
    match Cli::try_parse_from(arguments).map_err(|error| explain(&error))?.command {
        Verb::Serve(serve) => serve.check().map(Command::Serve).map_err(CliError::Usage),
        Verb::Status(StatusArgs { control, json }) => Ok(Command::Status { control, json }),
    }
}

impl ServeArgs {
    /// What concerns more than one option.
    fn check(self) -> Result<Config, String> {
        let gateway = self.gateway.and_then(|gateway| gateway.0);
        if let Some(gateway) = gateway {
            let network = self.address;
            if !network.contains(gateway) {
                return Err(format!(
                    "gateway {gateway} is not in the network of {network}; name a router inside \
                     of it"
                ));
            }
            if gateway == network.address || network.broadcast() == Some(gateway) {
                return Err(format!("gateway {gateway} is not a router's address in {network}"));
            }
        }
        Ok(Config {
            interface: self.interface,
            vlan: (self.vlan != 0).then_some(self.vlan),
            address: self.address,
            gateway,
            port: self.port,
            www_root: self.www_root,
            cache_size: self.cache_size,
            workers: self.workers,
            busy_poll: self.busy_poll,
            control: self.control.and_then(|control| control.0),
            log_format: self.log_format,
            log_level: self.log_level,
        })
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
    // The first paragraph says what is wrong; usage and hints follow it.
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = paragraph.split_whitespace().collect();
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    CliError::Usage(format!("{line}; see tagwire --help and tagwire serve --help"))
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

fn path(text: &str) -> Result<PathBuf, String> {
    match text.trim() {
        "" => Err("the path is empty".to_owned()),
        path => Ok(path.into()),
    }
}

fn optional_path(text: &str) -> Result<Maybe<PathBuf>, String> {
    Ok(Maybe(Some(text.trim()).filter(|path| !path.is_empty()).map(PathBuf::from)))
}

fn gateway(text: &str) -> Result<Maybe<Ipv4Addr>, String> {
    match text.trim() {
        "" => Ok(Maybe(None)),
        text => text.parse().map(|address| Maybe(Some(address))).map_err(|_| {
            format!(
                "{text:?} is no IPv4 address; write a gateway without prefix, 192.168.123.1 say"
            )
        }),
    }
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.trim().parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("{:?} is no port; use 1 to 65535", text.trim()))
}

fn workers(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(1) => Ok(1),
        _ => Err(format!("{:?} workers are not supported; use 1", text.trim())),
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

fn log_level(text: &str) -> Result<String, String> {
    let level = text.trim();
    match tracing_subscriber::EnvFilter::try_new(level) {
        Ok(_) if !level.is_empty() => Ok(level.to_owned()),
        _ => Err(format!("{level:?} is no log level; use error, warn, info, debug or trace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 10] = [
        "tagwire",
        "serve",
        "--interface",
        "macvlan0",
        "--vlan",
        "123",
        "--address",
        "192.168.123.150/24",
        "--www-root",
        "/www",
    ];

    fn with(more: &[&str]) -> Result<Command, CliError> {
        parse(GOOD.iter().chain(more))
    }

    fn usage(more: &[&str]) -> String {
        match with(more) {
            Err(CliError::Usage(line)) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_line_of_the_readme() {
        let Ok(Command::Serve(config)) = with(&[]) else { panic!("it is good") };
        assert_eq!(
            config,
            Config {
                interface: "macvlan0".to_owned(),
                vlan: Some(123),
                address: "192.168.123.150/24".parse().unwrap(),
                gateway: None,
                port: 80,
                www_root: "/www".into(),
                cache_size: 512 << 20,
                workers: 1,
                busy_poll: Duration::ZERO,
                control: None,
                log_format: LogFormat::Text,
                log_level: "info".to_owned(),
            }
        );
    }

    #[test]
    fn values_from_the_environment_may_end_in_a_newline() {
        // clap hands a variable to the same parsers, so arguments stand in for it here.
        let more = [
            "--gateway",
            "192.168.123.1\n",
            "--port",
            " 8080\n",
            "--cache-size",
            "1g\n",
            "--workers",
            "1\n",
            "--busy-poll",
            "50\n",
            "--control",
            "/run/c\n",
            "--log-format",
            "json\n",
            "--log-level",
            "debug\n",
        ];
        let Ok(Command::Serve(config)) = with(&more) else { panic!("they are good") };
        assert_eq!(config.gateway, Some([192, 168, 123, 1].into()));
        assert_eq!((config.port, config.cache_size), (8080, 1 << 30));
        assert_eq!(config.busy_poll, Duration::from_micros(50));
        assert_eq!(config.control, Some("/run/c".into()));
        assert_eq!((config.log_format, config.log_level), (LogFormat::Json, "debug".to_owned()));
        let good = [
            "tagwire",
            "serve",
            "--interface",
            "m0\n",
            "--vlan",
            "0\n",
            "--address",
            "10.0.0.1/8\n",
            "--www-root",
            "/www\n",
            "--gateway",
            "",
            "--control",
            "\n",
        ];
        let Ok(Command::Serve(config)) = parse(good) else { panic!("they are good") };
        assert_eq!((&*config.interface, config.vlan), ("m0", None));
        assert_eq!(config.www_root, PathBuf::from("/www"));
        assert_eq!((config.gateway, config.control), (None, None));
    }

    #[test]
    fn mistakes_are_one_clear_line() {
        for (more, part) in [
            (&["--gateway", "10.0.0.1"][..], "gateway 10.0.0.1 is not in the network of"),
            (&["--gateway", "192.168.123.150"], "is not a router's address"),
            (&["--gateway", "192.168.123.1/24"], "without prefix"),
            (&["--port", "0"], "is no port"),
            (&["--cache-size", "lots"], "is no size"),
            (&["--workers", "2"], "not supported; use 1"),
            (&["--log-format", "xml"], "use text or json"),
            (&["--busy-poll", "1h"], "microseconds"),
            (&["--wrokers", "1"], "--wrokers"),
        ] {
            let line = usage(more);
            assert!(line.contains(part) && !line.contains('\n'), "{more:?}: {line}");
        }
        let without = |at: usize| {
            let mut line = GOOD.to_vec();
            line.drain(at..at + 2);
            match parse(line) {
                Err(CliError::Usage(line)) => line,
                other => panic!("{other:?}"),
            }
        };
        assert!(without(6).contains("--address <ADDRESS>"), "{}", without(6));
        let mut line = GOOD.to_vec();
        line[7] = "192.168.123.150";
        let Err(CliError::Usage(line)) = parse(line) else { panic!("no prefix") };
        assert!(line.contains("has no prefix length; write it as 192.168.123.150/24"), "{line}");
        assert!(matches!(parse(["tagwire"]), Err(CliError::Usage(line)) if !line.contains('\n')));
    }

    #[test]
    fn help_has_examples() {
        let Err(CliError::Asked(help)) = parse(["tagwire", "serve", "--help"]) else {
            panic!("help was asked for")
        };
        assert!(help.contains("Examples:") && help.contains("HOST_INTERFACE"));
    }

    #[test]
    fn status_takes_its_socket() {
        let command = parse(["tagwire", "status", "--control", "/run/c", "--json"]);
        assert_eq!(command.unwrap(), Command::Status { control: "/run/c".into(), json: true });
    }
}
