//! What `tagwire serve` was told, checked and in types.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tagwire_netstack::congestion::Algorithm;
use tagwire_netstack::{IpCidr, Ipv4Cidr, Ipv6Cidr, VlanStack};
use tracing_subscriber::filter::Targets;

use crate::access_log::AccessLogConfig;
use crate::driver::DriverChoice;
use crate::limits::Limits;
use crate::sandbox::SandboxMode;
use crate::site::SiteSettings;
use crate::vlan::VlanConfig;

/// The smallest MTU that is worth serving on: what every IPv4 host accepts (RFC 791 3.1).
pub const MIN_MTU: u16 = 576;
/// The same where IPv6 is spoken (RFC 8200 5).
pub const MIN_MTU_IPV6: u16 = 1280;
/// The largest, of jumbo frames.
pub const MAX_MTU: u16 = 9000;
/// The smallest memory budget: what a few dozen connections may queue.
pub const MIN_MEMORY_BUDGET: usize = 16 << 20;
/// Worker threads at the most: more than any card has queues that we know.
pub const MAX_WORKERS: usize = 64;

/// A checked configuration of the appliance.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the layer-2 interface, `macvlan0` say.
    pub interface: String,
    /// Its VLANs, at least one.
    pub vlans: Vec<VlanConfig>,
    /// TCP port to listen on.
    pub port: u16,
    /// What is served, at least one; the first answers where no other does.
    pub sites: Vec<SiteSettings>,
    /// What peers may take.
    pub limits: Limits,
    /// What the content cache may hold, in octets.
    pub cache_size: u64,
    /// What downloads may hold of large files beside it, in octets.
    pub download_memory: usize,
    /// Load what is served before serving it.
    pub preload: bool,
    /// Have inotify tell what changes on disk.
    pub watch: bool,
    /// Worker threads, 1 to [`MAX_WORKERS`].
    pub workers: usize,
    /// What carries the packets.
    pub driver: DriverChoice,
    /// How long a worker spins before it sleeps; zero: it sleeps at once.
    pub busy_poll: Duration,
    /// TCP's congestion control.
    pub congestion: Algorithm,
    /// Agree on ECN with peers that ask for it.
    pub ecn: bool,
    /// Take data with a SYN from clients that have a cookie.
    pub fast_open: bool,
    /// What all connections may hold in memory, in octets.
    pub memory_budget: usize,
    /// Floor of TCP's retransmission timeout.
    pub rto_min: Duration,
    /// Where the control socket is made.
    pub control: Option<PathBuf>,
    /// Where requests are logged.
    pub access_log: AccessLogConfig,
    /// How much the process takes from itself once it has started.
    pub sandbox: SandboxMode,
    /// Directories beneath which a reload may find what it serves, beside those that are served.
    pub sandbox_read: Vec<PathBuf>,
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Where the admin endpoint is.
    pub admin: Option<SocketAddr>,
    /// How long the end waits for what is being sent.
    pub drain: Duration,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: Targets,
    /// The command line that all of this was read from, with the files that it names; SIGHUP reads
    /// it again.
    pub arguments: Vec<OsString>,
}

/// Shape of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("{other:?} is no log format; use text or json")),
        }
    }
}

/// Reads an own address with the length of its network's prefix.
///
/// # Errors
/// It is none, or none that a host may have; the text says why and what to write.
pub fn parse_address(text: &str) -> Result<IpCidr, String> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Err(match text.parse() {
            Ok(IpAddr::V4(_)) => format!("{text} has no prefix length; write it as {text}/24"),
            Ok(IpAddr::V6(_)) => format!("{text} has no prefix length; write it as {text}/64"),
            Err(_) => no_address(text),
        });
    };
    let address: IpAddr = address.parse().map_err(|_| no_address(text))?;
    let (bits, usual) = if address.is_ipv4() { (32, 24) } else { (128, 64) };
    let prefix =
        prefix.parse().ok().filter(|prefix| (1..=bits).contains(prefix)).ok_or_else(|| {
            format!("/{prefix} is no prefix length; use 1 to {bits}, /{usual} say")
        })?;
    let (cidr, unfit) = match address {
        IpAddr::V4(address) => {
            let cidr = Ipv4Cidr { address, prefix };
            (cidr.into(), unfit_ipv4(cidr))
        }
        IpAddr::V6(address) => {
            let cidr = Ipv6Cidr { address, prefix };
            (cidr.into(), unfit_ipv6(cidr))
        }
    };
    match unfit {
        None => Ok(cidr),
        Some(why) => {
            Err(format!("{text} is {why}; give the appliance an address of its own in it"))
        }
    }
}

/// Reads a VLAN: the VID of its tag, two for tags in each other, or none.
///
/// # Errors
/// It is none; the text says what to write.
pub fn parse_vlan(text: &str) -> Result<VlanStack, String> {
    match text.trim() {
        "none" => Ok(VlanStack::UNTAGGED),
        text => text.parse().map_err(|_| {
            format!(
                "{text:?} is no VLAN ID; use 1 to 4094, 0 or \"none\" for untagged frames, or \
                 \"100.200\" for two tags"
            )
        }),
    }
}

fn unfit_ipv4(cidr: Ipv4Cidr) -> Option<&'static str> {
    let address = cidr.address;
    if address.is_multicast() {
        Some("a multicast address")
    } else if address.is_loopback() || address.is_unspecified() || address.is_broadcast() {
        Some("not an address of a host")
    } else if cidr.network() == Some(address) {
        Some("the address of the network itself")
    } else if cidr.broadcast() == Some(address) {
        Some("the broadcast address of its network")
    } else {
        None
    }
}

fn unfit_ipv6(cidr: Ipv6Cidr) -> Option<&'static str> {
    let address = cidr.address;
    if address.is_multicast() {
        Some("a multicast address")
    } else if address.is_loopback() || address.is_unspecified() {
        Some("not an address of a host")
    } else if address.to_ipv4_mapped().is_some() {
        Some("an IPv4 address in disguise")
    } else if address.is_unicast_link_local() {
        Some("a link-local address, which the appliance makes itself")
    } else if cidr.prefix < 127 && address.to_bits() & !cidr.mask() == 0 {
        // RFC 4291 2.6.1; RFC 6164 has no such address on links of two.
        Some("the anycast address of its network's routers")
    } else {
        None
    }
}

fn no_address(text: &str) -> String {
    format!("{text:?} is no IP address; write it as 192.168.123.150/24 or fd00:123::150/64")
}

/// Reads a size in octets, with `k`, `m` or `g` for powers of 1024.
///
/// # Errors
/// It is no such number, or does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'k') => (&text[..text.len() - 1], 10),
        Some(b'm') => (&text[..text.len() - 1], 20),
        Some(b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let digits = !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit());
    digits
        .then(|| number.parse::<u64>().ok()?.checked_mul(1 << shift))
        .flatten()
        .ok_or_else(|| format!("{text:?} is no size; use octets, or k, m, g: 512m say"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (fine, network, neighbour) in [
            ("192.168.123.150/24", "192.168.123.150/24", "192.168.123.1"),
            ("10.0.0.0/31", "10.0.0.0/31", "10.0.0.1"),
            ("10.0.0.1/31", "10.0.0.1/31", "10.0.0.0"),
            ("10.0.0.0/32", "10.0.0.0/32", "10.0.0.0"),
            ("10.0.1.0/8", "10.0.1.0/8", "10.255.0.1"),
            ("fd00:123::150/64", "fd00:123::150/64", "fd00:123::1"),
            ("2001:DB8:0::/127", "2001:db8::/127", "2001:db8::1"),
            ("2001:db8::1/128", "2001:db8::1/128", "2001:db8::1"),
        ] {
            let parsed = parse_address(fine).unwrap();
            assert_eq!(parsed.to_string(), network);
            assert!(parsed.contains(neighbour.parse().unwrap()), "{fine}");
        }
        for (text, part) in [
            (
                "192.168.123.150",
                "192.168.123.150 has no prefix length; write it as 192.168.123.150/24",
            ),
            ("fd00::1", "fd00::1 has no prefix length; write it as fd00::1/64"),
            ("192.168.123.300/24", "no IP address"),
            ("fd00:::1/64", "no IP address"),
            ("", "no IP address"),
            ("10.0.0.1/33", "no prefix length; use 1 to 32"),
            ("10.0.0.1/0", "no prefix length"),
            ("10.0.0.1/", "no prefix length"),
            ("fd00::1/129", "no prefix length; use 1 to 128"),
            ("192.168.123.0/24", "the network itself"),
            ("192.168.123.255/24", "broadcast"),
            ("224.0.0.1/24", "multicast"),
            ("127.0.0.1/8", "not an address of a host"),
            ("0.0.0.0/8", "not an address of a host"),
            ("255.255.255.255/32", "not an address of a host"),
            ("ff02::1/64", "multicast"),
            ("::1/64", "not an address of a host"),
            ("::/64", "not an address of a host"),
            ("::ffff:10.0.0.1/96", "in disguise"),
            ("fe80::1/64", "makes itself"),
            ("fd00:123::/64", "anycast"),
        ] {
            let error = parse_address(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn sizes() {
        for (text, size) in
            [("0", 0), ("17", 17), ("4k", 4096), ("512m", 512 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(size));
        }
        for text in ["", "m", "-1", "+1", "1.5g", "12x", "99999999999g", "1é"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
