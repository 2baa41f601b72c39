//! One of several replicas, each with an address of its own: a StatefulSet gives all of them the
//! same list, and each its number.

use std::net::IpAddr;

use clap::Args;
use tagwire_netstack::IpCidr;

use super::Maybe;
use crate::config::parse_address;

#[derive(Debug, Args)]
pub(super) struct ReplicaArgs {
    /// Addresses of all replicas, of which this one takes the one with its number, in each family:
    /// several with commas, or 192.168.123.150-192.168.123.159/24
    #[arg(long, env = "IP_ADDRESSES", value_name = "ADDRESSES", value_parser = range, value_delimiter = ',')]
    addresses: Vec<Maybe<Range>>,
    /// Number of this replica, from 0, or a name that ends in it: tagwire-0
    #[arg(
        long,
        env = "POD_NAME",
        value_name = "NUMBER",
        default_value = "",
        hide_default_value = true
    )]
    replica: String,
}

/// Addresses one after the other, with the length of their network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: IpCidr,
    /// How many there are.
    count: u128,
}

impl Range {
    /// One of its addresses, counted from 0.
    fn nth(&self, at: u128) -> Option<IpAddr> {
        (at < self.count).then(|| match self.first.address() {
            IpAddr::V4(first) => {
                // It is below the last one, which is 32 bits long.
                let offset = u32::try_from(at).unwrap_or_default();
                IpAddr::V4(first.to_bits().wrapping_add(offset).into())
            }
            IpAddr::V6(first) => IpAddr::V6(first.to_bits().wrapping_add(at).into()),
        })
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ends = |range: &Self| {
            let first = bits(range.first.address());
            (first, first + (range.count - 1))
        };
        let ((first, last), (other_first, other_last)) = (ends(self), ends(other));
        self.is_ipv4() == other.is_ipv4() && first <= other_last && other_first <= last
    }

    fn is_ipv4(&self) -> bool {
        self.first.address().is_ipv4()
    }
}

impl ReplicaArgs {
    /// Whether there are addresses for several replicas.
    pub(super) fn are_given(&self) -> bool {
        self.addresses.iter().any(|one| one.0.is_some())
    }

    /// The addresses of this replica: one of each family that is listed.
    ///
    /// # Errors
    /// It is not known which replica this is, or there is no address for it.
    pub(super) fn own(&self) -> Result<Vec<IpCidr>, String> {
        let ranges: Vec<Range> = self.addresses.iter().filter_map(|one| one.0).collect();
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        for (at, range) in ranges.iter().enumerate() {
            if ranges[..at].iter().any(|other| other.overlaps(range)) {
                let first = range.first;
                return Err(format!(
                    "--addresses has some of those from {first} twice; give each once"
                ));
            }
        }
        let number = number(&self.replica)?;
        let mut own = Vec::new();
        for ipv4 in [true, false] {
            let family = || ranges.iter().filter(|range| range.is_ipv4() == ipv4);
            let mut left = u128::from(number);
            for range in family() {
                if let Some(address) = range.nth(left) {
                    own.push(parse_address(&format!("{address}/{}", range.first.prefix()))?);
                    break;
                }
                left -= range.count;
            }
            let listed: u128 = family().fold(0, |sum, range| sum.saturating_add(range.count));
            if listed > 0 && listed <= u128::from(number) {
                let kind = if ipv4 { "IPv4" } else { "IPv6" };
                return Err(format!(
                    "--addresses has {listed} of {kind}, none for replica {number}, counted from 0; \
                     list more, or run fewer replicas"
                ));
            }
        }
        Ok(own)
    }
}

/// Which replica a number or a pod's name means.
fn number(replica: &str) -> Result<u32, String> {
    let replica = replica.trim();
    if replica.is_empty() {
        return Err(
            "--addresses is given, but not which of the replicas this is; say --replica 0, or \
                    have the variable POD_NAME from metadata.name of a StatefulSet's pod"
                .to_owned(),
        );
    }
    let digits = replica.rsplit_once('-').map_or(replica, |(_, end)| end);
    let number = digits.parse().ok().filter(|_| digits.bytes().all(|octet| octet.is_ascii_digit()));
    number.ok_or_else(|| {
        format!(
            "{replica:?} does not say which of the replicas this is; give a number, or a name that \
             ends in one as tagwire-0 does, which a StatefulSet gives its pods"
        )
    })
}

fn range(text: &str) -> Result<Maybe<Range>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Maybe(None));
    }
    let whole = text.split_once('/').and_then(|(addresses, prefix)| {
        let (first, last) = addresses.split_once('-')?;
        Some((format!("{}/{prefix}", first.trim()), format!("{}/{prefix}", last.trim())))
    });
    let Some((first, last)) = whole else {
        return parse_address(text).map(|first| Maybe(Some(Range { first, count: 1 })));
    };
    let (first, last) = (parse_address(&first)?, parse_address(&last)?);
    let (from, to) = (bits(first.address()), bits(last.address()));
    if !first.contains(last.address()) {
        return Err(format!("{text:?} leaves the network of {first}; end it inside"));
    }
    if to < from {
        return Err(format!("{text:?} ends before it begins; write the lower address first"));
    }
    // As many as there are in IPv6 would overflow in the sum only.
    Ok(Maybe(Some(Range { first, count: to - from + 1 })))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CliError, Command, parse};

    fn own(more: &[&str]) -> Result<Vec<String>, String> {
        let line = ["tagwire", "serve", "--interface", "m0", "--www-root", "/www"];
        match parse(line.iter().chain(more)) {
            Ok(Command::Serve(config)) => {
                Ok(config.vlans[0].addresses.iter().map(ToString::to_string).collect())
            }
            Err(CliError::Usage(line)) => Err(line),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_replica_takes_the_one_with_its_number() {
        let list = "10.0.0.5/24,10.0.0.9-10.0.0.11/24,10.1.0.3/16";
        for (replica, address) in [
            ("0", "10.0.0.5/24"),
            ("tagwire-1", "10.0.0.9/24"),
            ("my-app-3\n", "10.0.0.11/24"),
            ("4", "10.1.0.3/16"),
        ] {
            assert_eq!(own(&["--addresses", list, "--replica", replica]).unwrap(), [address]);
        }
        // The other ones of a family are only for those that come later.
        let both = "10.0.0.254-10.0.1.2/23,fd00::1:fffe-fd00::2:1/64";
        let of = |replica| own(&["--addresses", both, "--replica", replica]).unwrap();
        assert_eq!(of("0"), ["10.0.0.254/23", "fd00::1:fffe/64"]);
        assert_eq!(of("3"), ["10.0.1.1/23", "fd00::2:1/64"]);
        // Beside addresses that this one has anyway, and with everything behind /0.
        let more = ["--address", "10.9.0.1/24", "--addresses", "fd00::1/64", "--replica", "0"];
        assert_eq!(own(&more).unwrap(), ["10.9.0.1/24", "fd00::1/64"]);
        let most = "fd00::1-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/8";
        assert_eq!(
            own(&["--addresses", most, "--replica", "4294967295"]).unwrap(),
            ["fd00::1:0:0/8"]
        );
        // Manifests set what they do not use to nothing.
        let nothing = ["--address", "10.0.0.5/24", "--addresses", "", "--replica", "pod-x"];
        assert_eq!(own(&nothing).unwrap(), ["10.0.0.5/24"]);
    }

    #[test]
    fn mistakes_are_one_clear_line() {
        for (addresses, replica, part) in [
            ("10.0.0.5/24", "", "say --replica 0"),
            ("10.0.0.5/24", "tagwire-7d9f", "ends in one as tagwire-0"),
            ("10.0.0.5/24", "-", "ends in one"),
            ("10.0.0.5/24", "+0", "ends in one"),
            ("10.0.0.5/24", "4294967296", "ends in one"),
            ("10.0.0.5-10.0.0.7/24", "3", "has 3 of IPv4, none for replica 3"),
            ("10.0.0.5-10.0.0.7/24,fd00::1/64", "1", "has 1 of IPv6, none for replica 1"),
            ("10.0.0.7-10.0.0.5/24", "0", "lower address first"),
            ("10.0.0.5-10.0.1.5/24", "0", "leaves the network of 10.0.0.5/24"),
            ("10.0.0.5-fd00::5/24", "0", "leaves the network"),
            ("10.0.0.5-10.0.0.255/24", "0", "broadcast"),
            ("10.0.0.5-10.0.0.7", "0", "no IP address"),
            ("10.0.0.5-10.0.0.7/24,10.0.0.7/24", "0", "twice"),
            ("10.0.0.5-10.0.0.7/24", "0", ""),
        ] {
            let line = own(&["--addresses", addresses, "--replica", replica]);
            match line {
                Err(line) => {
                    assert!(
                        !part.is_empty() && line.contains(part),
                        "{addresses} {replica}: {line}"
                    );
                    assert!(!line.contains('\n'), "{line}");
                }
                Ok(own) => assert!(part.is_empty(), "{addresses} {replica}: {own:?}"),
            }
        }
    }

    #[test]
    fn vlans_of_a_file_say_their_addresses_themselves() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[serve]\ninterface = \"m0\"\n[[vlan]]\nid = 5\naddress = \"10.0.0.5/24\"\n\
                    [[site]]\nwww-root = \"/a\"\n";
        std::fs::write(&file, text).unwrap();
        let config = file.path().to_str().unwrap();
        let line = own(&["--config", config, "--addresses", "10.0.0.5/24"]).unwrap_err();
        assert!(line.contains("--addresses") && line.contains("[[vlan]]"), "{line}");
    }
}
