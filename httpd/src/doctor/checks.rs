//! The checks, each a function of the facts.

mod interface;
mod paths;
mod process;

use super::facts::Facts;
use super::{Finding, Verdict};
use crate::config::Config;
use interface::View;

/// All of them, roughly in the order in which the start would come upon them.
pub(super) fn all(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        process::capability(facts),
        process::confinement(facts),
        process::kernel(facts),
        process::io_uring(config, facts),
        process::sandbox(config, facts),
        process::memory(config, facts),
    ];
    match &facts.interface {
        Err(error) => findings.push(Finding::said("interface", Verdict::Failed, error)),
        Ok(found) => {
            let view = View::new(config, facts, found);
            findings.extend([
                interface::interface(&view),
                interface::link(&view),
                interface::mtu(&view),
                interface::offloads(&view),
            ]);
            let more = [
                interface::vlan_filter(&view),
                interface::vlan_device(&view),
                interface::addresses(&view),
                interface::address_in_use(facts),
                interface::master(&view),
            ];
            findings.extend(more.into_iter().flatten());
        }
    }
    findings.extend(paths::www_roots(facts));
    let more = [
        paths::control(config, facts),
        paths::admin(config, facts),
        paths::access_log(config, facts),
    ];
    findings.extend(more.into_iter().flatten());
    findings
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tagwire_core::nic::{Interface, LinkState};
    use tagwire_netstack::{MacAddr, VlanStack};

    use super::super::facts::Files;
    use super::super::network::{Below, Link};
    use super::super::rivals::Rival;
    use super::*;
    use crate::cli::{Command, parse};
    use crate::memory_limit::Limit;
    use crate::privileges::Source;
    use crate::sandbox::Layers;

    use Verdict::{Failed, Fine, Unknown, Warning};

    fn config(more: &[&str]) -> Config {
        let line = ["tagwire", "doctor", "--interface", "macvlan0", "--address"];
        let rest = ["192.168.123.150/24", "--www-root", "/www"];
        match parse([&line[..], &rest, more].concat()) {
            Ok(Command::Doctor { config, .. }) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn address(text: &str) -> (IpAddr, u8) {
        (text.parse().unwrap(), 24)
    }

    fn link(index: u32, name: &str, kind: &str, below: Below) -> Link {
        let (name, kind) = (name.to_owned(), Some(kind.to_owned()));
        Link { index, name, kind, below, up: true, ..Link::default() }
    }

    /// A macvlan and what it stands on, in one namespace, and VLANs that do no harm.
    fn fine() -> Facts {
        let mut macvlan = link(2, "macvlan0", "macvlan", Below::Here(3));
        macvlan.addresses = vec![address("fe80::1")];
        let mut master = Link { index: 3, name: "eth0".to_owned(), up: true, ..Link::default() };
        master.addresses = vec![address("192.168.123.9")];
        let mut other = link(4, "macvlan0.7", "vlan", Below::Here(2));
        other.tag = Some((0x8100, 7));
        let mut outer = link(5, "eth0.123", "vlan", Below::Here(3));
        outer.tag = Some((0x88a8, 123));
        Facts {
            capability: Ok(Source::File),
            no_new_privs: false,
            filtered: true,
            kernel: "6.18.5".to_owned(),
            uring: Some(Ok(())),
            uring_disabled: Some("0".to_owned()),
            layers: Layers { landlock: Ok(7), seccomp: Ok(()) },
            memory: Limit::Octets(2 << 30),
            interface: Ok(Interface {
                name: "macvlan0".to_owned(),
                index: 2,
                mac: [2, 0, 0, 0, 0, 1],
                mtu: 1500,
                link: LinkState::Up,
            }),
            links: Ok(vec![macvlan, master, other, outer]),
            features: Ok(vec!["rx-gro".to_owned(), "tx-checksum-ip-generic".to_owned()]),
            rivals: Some(Ok(Vec::new())),
            roots: vec![("/www".into(), Ok(Files { count: 3, octets: 9000, ..Files::default() }))],
            running: None,
            control: Ok(()),
            admin: Ok(()),
            access_log: Ok(()),
        }
    }

    const TAGGED: &[&str] = &["--vlan", "123"];
    const ALL: &[&str] = &[
        "--vlan",
        "123",
        "--control",
        "/run/control",
        "--admin",
        "0.0.0.0:9090",
        "--access-log",
        "/log",
    ];

    #[test]
    fn all_is_fine_where_nothing_is_wrong() {
        for line in [ALL, &[]] {
            for finding in all(&config(line), &fine()) {
                assert_eq!((finding.verdict, &finding.remedy), (Fine, &None), "{finding:?}");
            }
        }
        let said = |check| {
            let found = all(&config(ALL), &fine()).into_iter().find(|it| it.check == check);
            found.unwrap().found
        };
        assert_eq!(said("capability"), "CAP_NET_RAW, from the program's file");
        assert!(said("confinement").starts_with("a seccomp filter"));
        assert_eq!(said("sandbox"), "Landlock with ABI 7, seccomp");
        assert!(said("offloads").contains("merged by rx-gro"));
        assert_eq!(said("www-root"), "/www: 3 files, 9 KiB");
    }

    #[test]
    fn what_the_sandbox_may_do_without_is_only_named() {
        let said = |line: &[&str], layers| {
            let facts = Facts { layers, ..fine() };
            let finding = process::sandbox(&config(line), &facts);
            assert_eq!((finding.verdict, finding.remedy), (Fine, None));
            finding.found
        };
        let old = Layers { landlock: Ok(4), seccomp: Ok(()) };
        assert!(said(&[], old).contains("ABI 4, without abstract sockets and signals, seccomp"));
        let none = Layers { landlock: Err("ENOSYS".into()), seccomp: Err("ENOSYS".into()) };
        assert!(said(&["--sandbox", "off"], none).contains("switched off"));
    }

    /// Of the check so named, with the facts spoilt so, comes that, and both texts have these parts.
    #[track_caller]
    fn assert_found(
        line: &[&str],
        (check, verdict): (&str, Verdict),
        spoil: impl FnOnce(&mut Facts),
        (found, remedy): (&str, &str),
    ) {
        let mut facts = fine();
        spoil(&mut facts);
        let findings = all(&config(line), &facts);
        let finding = findings.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.found.contains(found), "{finding:?}");
        let said = finding.remedy.as_deref().unwrap();
        assert!(said.contains(remedy) && !said.contains('\n'), "{finding:?}");
    }

    fn link_of<'a>(facts: &'a mut Facts, name: &str) -> &'a mut Link {
        facts.links.as_mut().unwrap().iter_mut().find(|link| link.name == name).unwrap()
    }

    #[test]
    fn what_the_process_lacks_is_named_with_what_to_do() {
        let lacks = |it: &mut Facts| it.capability = Err("CAP_NET_RAW is missing; setcap".into());
        assert_found(TAGGED, ("capability", Failed), lacks, ("missing", "setcap"));
        let release = |release: &'static str| move |it: &mut Facts| it.kernel = release.into();
        assert_found(TAGGED, ("kernel", Failed), release("5.10.0-9"), ("RESOLVE_CACHED", "5.12"));
        assert_found(TAGGED, ("kernel", Warning), release("5.14.0-503.el9"), ("5.14", "6.1"));
        let refused = |it: &mut Facts| it.uring = Some(Err("refused; allow it".into()));
        assert_found(TAGGED, ("io_uring", Warning), refused, ("poll driver", "allow it"));
        let uring = ["--driver", "io_uring"];
        assert_found(&uring, ("io_uring", Failed), refused, ("refused", "allow it"));
        let none = |it: &mut Facts| it.layers.landlock = Err("ENOSYS".into());
        assert_found(TAGGED, ("sandbox", Warning), none, ("no Landlock (ENOSYS)", "lsm="));
        let unfiltered = |it: &mut Facts| it.layers.seccomp = Err("ENOSYS".into());
        assert_found(TAGGED, ("sandbox", Warning), unfiltered, ("no seccomp (ENOSYS)", "FILTER"));
        let strict = ["--sandbox", "strict"];
        let old = |it: &mut Facts| it.layers.landlock = Ok(4);
        assert_found(&strict, ("sandbox", Failed), old, ("this kernel has 4", "later kernel"));
        assert_found(&strict, ("sandbox", Failed), unfiltered, ("seccomp", "FILTER"));
        let limit = |octets| move |it: &mut Facts| it.memory = Limit::Octets(octets);
        assert_found(TAGGED, ("memory", Failed), limit(32 << 20), ("32 MiB", "limits.memory"));
        assert_found(TAGGED, ("memory", Warning), limit(256 << 20), ("256 MiB", "--cache-size"));
        let unseen = |it: &mut Facts| it.memory = Limit::Unseen;
        assert_found(TAGGED, ("memory", Unknown), unseen, ("/sys/fs/cgroup", "MiB"));
    }

    #[test]
    fn an_interface_that_will_not_do_is_named() {
        let none = |it: &mut Facts| it.interface = Err("no eth7; name another".into());
        assert_found(TAGGED, ("interface", Failed), none, ("eth7", "another"));
        let ipvlan = |it: &mut Facts| link_of(it, "macvlan0").kind = Some("ipvlan".into());
        assert_found(TAGGED, ("interface", Failed), ipvlan, ("ipvlan", "macvlan"));
        let vlan = |it: &mut Facts| link_of(it, "macvlan0").tag = Some((0x8100, 123));
        assert_found(TAGGED, ("interface", Warning), vlan, ("without that tag", "--vlan 0"));
        let blind = |it: &mut Facts| it.links = Err("EPERM".into());
        assert_found(TAGGED, ("interface", Unknown), blind, ("EPERM", "AF_NETLINK"));
        let down = |it: &mut Facts| it.interface.as_mut().unwrap().link = LinkState::Down;
        assert_found(
            TAGGED,
            ("link", Failed),
            down,
            ("macvlan0 is down", "ip link set macvlan0 up"),
        );
        let both = |it: &mut Facts| {
            down(it);
            link_of(it, "eth0").up = false;
        };
        assert_found(TAGGED, ("link", Failed), both, ("macvlan0", "'ip link set eth0 up'"));
        let small = |it: &mut Facts| it.interface.as_mut().unwrap().mtu = 500;
        assert_found(TAGGED, ("mtu", Failed), small, ("500", "mtu 1500"));
        let filter = |name: &'static str| {
            move |it: &mut Facts| it.features.as_mut().unwrap().push(name.to_owned())
        };
        let off = "'ethtool -K eth0 rx-vlan-filter off'";
        let sign = "VLAN 123 with the card: the sign is that it works only while tcpdump runs";
        assert_found(TAGGED, ("vlan-filter", Warning), filter("rx-vlan-filter"), (sign, off));
        let stacked = ["--vlan", "100.200"];
        let found = ("rx-vlan-stag-filter is on", "rx-vlan-stag-filter off");
        assert_found(&stacked, ("vlan-filter", Warning), filter("rx-vlan-stag-filter"), found);
        let hidden = |it: &mut Facts| it.features = Err("EPERM".into());
        assert_found(TAGGED, ("vlan-filter", Unknown), hidden, ("EPERM", "ethtool -k macvlan0"));
        assert_found(TAGGED, ("offloads", Unknown), hidden, ("EPERM", "ethtool -k macvlan0"));
    }

    #[test]
    fn another_station_with_our_address_is_named() {
        let address = "192.168.123.150".parse().unwrap();
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let rival = Rival { address, vlan: VlanStack::tagged(123).unwrap(), mac };
        let taken = |it: &mut Facts| it.rivals = Some(Ok(vec![rival]));
        let found = "02:00:00:00:00:09 has 192.168.123.150 in VLAN 123";
        assert_found(TAGGED, ("address-in-use", Failed), taken, (found, "--address"));
        let mute = |it: &mut Facts| it.rivals = Some(Err("no ring; give memory".into()));
        assert_found(TAGGED, ("address-in-use", Unknown), mute, ("no ring", "give memory"));
    }

    #[test]
    fn what_the_kernel_has_of_ours_is_named() {
        let has = |name: &'static str| {
            move |it: &mut Facts| link_of(it, name).addresses.push(address("192.168.123.150"))
        };
        let del = "ip address del 192.168.123.150/24 dev macvlan0";
        assert_found(&[], ("addresses", Failed), has("macvlan0"), ("resets", del));
        // What is outside of our VLAN answers nobody in it.
        assert_found(TAGGED, ("addresses", Warning), has("macvlan0"), ("outside", del));
        let device = |it: &mut Facts| link_of(it, "macvlan0.7").tag = Some((0x8100, 123));
        assert_found(TAGGED, ("vlan-device", Warning), device, ("123", "link del macvlan0.7"));
        let both = |it: &mut Facts| {
            device(it);
            has("macvlan0.7")(it);
        };
        assert_found(TAGGED, ("addresses", Failed), both, ("resets", "24 dev macvlan0.7"));
        assert_found(&[], ("master", Failed), has("eth0"), ("on eth0", "--address"));
        let steals = |it: &mut Facts| link_of(it, "eth0.123").tag = Some((0x8100, 123));
        assert_found(TAGGED, ("master", Failed), steals, ("never comes", "ip link del eth0.123"));
        let away = |it: &mut Facts| link_of(it, "macvlan0").below = Below::Elsewhere;
        assert_found(TAGGED, ("master", Unknown), away, ("another namespace", "VLAN 123"));
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let root = |found| move |it: &mut Facts| it.roots = vec![("/www".into(), found)];
        let missing = root(Err("www-root /www cannot be read: ENOENT; mount it".into()));
        assert_found(TAGGED, ("www-root", Failed), missing, ("ENOENT", "mount it"));
        let empty = root(Ok(Files::default()));
        assert_found(TAGGED, ("www-root", Warning), empty, ("no files", "put something"));
        let some = |count| {
            let unreadable = Some((count, "/www/secret".into()));
            root(Ok(Files { count: 2, unreadable, ..Files::default() }))
        };
        assert_found(TAGGED, ("www-root", Warning), some(1), ("/www/secret cannot", "readable"));
        assert_found(TAGGED, ("www-root", Warning), some(2), ("2 of 2 files", "readable"));
        let control = |it: &mut Facts| it.control = Err("no; another --control".into());
        assert_found(ALL, ("control", Failed), control, ("no", "another"));
        let admin = |it: &mut Facts| it.admin = Err("taken; another --admin".into());
        assert_found(ALL, ("admin", Failed), admin, ("taken", "another"));
        let log = |it: &mut Facts| it.access_log = Err("no; another --access-log".into());
        assert_found(ALL, ("access-log", Failed), log, ("no", "another"));
        // An appliance that runs has both, and nothing is wrong with that.
        let running = |it: &mut Facts| it.running = Some(7);
        assert_found(ALL, ("control", Warning), running, ("process 7", "--control"));
        let facts = Facts { running: Some(7), admin: Err("taken".into()), ..fine() };
        let findings = all(&config(ALL), &facts);
        let found = findings.iter().find(|finding| finding.check == "admin").unwrap();
        assert_eq!(found.verdict, Fine, "{found:?}");
    }
}
