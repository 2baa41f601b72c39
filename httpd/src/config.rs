//! What `tagwire serve` was told, checked and in types.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tagwire_netstack::Ipv4Cidr;

/// A checked configuration of the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the layer-2 interface, `macvlan0` say.
    pub interface: String,
    /// VLAN ID, 1 to 4094; `None`: frames are untagged.
    pub vlan: Option<u16>,
    /// The own address and its network.
    pub address: Ipv4Prefix,
    /// The default gateway, inside of that network.
    pub gateway: Option<Ipv4Addr>,
    /// TCP port to listen on.
    pub port: u16,
    /// The directory whose files are served.
    pub www_root: PathBuf,
    /// What the content cache may hold, in octets.
    pub cache_size: u64,
    /// Worker threads.
    pub workers: usize,
    /// How long a worker spins before it sleeps; zero: it sleeps at once.
    pub busy_poll: Duration,
    /// Where the control socket is made.
    pub control: Option<PathBuf>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What is logged: a level, or directives as `tracing_subscriber::EnvFilter` takes them.
    pub log_level: String,
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

/// A host's address together with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Prefix {
    /// The host's address.
    pub address: Ipv4Addr,
    /// Bits of the network, 1 to 32.
    pub prefix: u8,
}

impl Ipv4Prefix {
    /// The same for the stack, whose rules of subnets these are.
    pub fn cidr(&self) -> Ipv4Cidr {
        Ipv4Cidr { address: self.address, prefix: self.prefix }
    }

    /// Whether `other` is in the same network.
    pub fn contains(&self, other: Ipv4Addr) -> bool {
        self.cidr().contains(other)
    }

    /// The directed broadcast address; networks of 31 and 32 bits have none (RFC 3021).
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        self.cidr().broadcast()
    }
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv4Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((address, prefix)) = text.split_once('/') else {
            return Err(match text.parse::<Ipv4Addr>() {
                Ok(_) => format!("{text} has no prefix length; write it as {text}/24"),
                Err(_) => no_address(text),
            });
        };
        let address: Ipv4Addr = address.parse().map_err(|_| no_address(text))?;
        let prefix = prefix
            .parse()
            .ok()
            .filter(|bits| (1..=32).contains(bits))
            .ok_or_else(|| format!("/{prefix} is no prefix length; use 1 to 32, /24 say"))?;
        let parsed = Self { address, prefix };
        let host_bits = address.to_bits() & !parsed.cidr().mask();
        let unfit = if address.is_multicast() {
            "a multicast address"
        } else if address.is_loopback() || address.is_unspecified() || address.is_broadcast() {
            "not an address of a host"
        } else if prefix < 31 && host_bits == 0 {
            "the address of the network itself"
        } else if parsed.broadcast() == Some(address) {
            "the broadcast address of its network"
        } else {
            return Ok(parsed);
        };
        Err(format!("{text} is {unfit}; give the appliance an address of its own in it"))
    }
}

fn no_address(text: &str) -> String {
    format!("{text:?} is no IPv4 address; write it as 192.168.123.150/24")
}

/// Reads a VLAN ID; 0 means untagged.
///
/// # Errors
/// It is no number, or above 4094 (802.1Q reserves 4095).
pub fn parse_vlan(text: &str) -> Result<u16, String> {
    let vlan = text.parse().ok().filter(|vlan| *vlan <= 4094);
    vlan.ok_or_else(|| format!("{text:?} is no VLAN ID; use 1 to 4094, or 0 for untagged frames"))
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
        let parsed: Ipv4Prefix = "192.168.123.150/24".parse().unwrap();
        assert_eq!(parsed.to_string(), "192.168.123.150/24");
        assert!(parsed.contains([192, 168, 123, 1].into()));
        assert!(!parsed.contains([192, 168, 124, 1].into()));
        assert_eq!(parsed.broadcast(), Some([192, 168, 123, 255].into()));
        for fine in ["10.0.0.0/31", "10.0.0.1/31", "10.0.0.0/32", "10.0.1.0/8"] {
            assert!(fine.parse::<Ipv4Prefix>().is_ok(), "{fine}");
        }
        for (text, part) in [
            (
                "192.168.123.150",
                "192.168.123.150 has no prefix length; write it as 192.168.123.150/24",
            ),
            ("192.168.123.300/24", "no IPv4 address"),
            ("", "no IPv4 address"),
            ("10.0.0.1/33", "no prefix length"),
            ("10.0.0.1/0", "no prefix length"),
            ("10.0.0.1/", "no prefix length"),
            ("192.168.123.0/24", "the network itself"),
            ("192.168.123.255/24", "broadcast"),
            ("224.0.0.1/24", "multicast"),
            ("127.0.0.1/8", "not an address of a host"),
            ("0.0.0.0/8", "not an address of a host"),
            ("255.255.255.255/32", "not an address of a host"),
        ] {
            let error = text.parse::<Ipv4Prefix>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_and_vlans() {
        for (text, size) in
            [("0", 0), ("17", 17), ("4k", 4096), ("512m", 512 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(size));
        }
        for text in ["", "m", "-1", "+1", "1.5g", "12x", "99999999999g", "1é"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_vlan("0"), Ok(0));
        assert_eq!(parse_vlan("4094"), Ok(4094));
        for text in ["4095", "-1", "", "x"] {
            assert!(parse_vlan(text).unwrap_err().contains("1 to 4094"), "{text}");
        }
    }
}
