//! Several VLANs on one interface, with clients in each: networks that know nothing of each other.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tagwire_lab::{CLIENT_ADDRESS, CLIENT_ADDRESS_V6, Lab, Namespace, Signal};

use crate::bed::{ADDRESS, ADDRESS_V6, Bed, INDEX, content, ping, said, wait_until};
use crate::client::Client;
use crate::raw::{ACK, BROADCAST, Heard, Mac, Packet, RST, SYN, Station, frame};

/// Who is where: a VLAN's clients, and the appliance's addresses there.
struct Network<'a> {
    clients: &'a Namespace,
    /// The clients' own, and the appliance's, of either family.
    addresses: [(IpAddr, IpAddr); 2],
}

impl Network<'_> {
    fn curl(&self, url: &str) -> Vec<u8> {
        let curl = self.clients.command("curl").args(["-gsS", "-m", "10", url]).output().unwrap();
        assert!(curl.status.success(), "{url}: {}", said(&curl));
        curl.stdout
    }
}

#[test]
fn three_vlans_have_clients_of_their_own_where_the_same_addresses_mean_others() {
    let Some(mut bed) = Bed::down(Lab::builder().ipv6().pods(3)) else { return };
    let file = content(41, 2 << 20);
    bed.put("file.bin", &file);
    let path = bed.configure_all(
        "[[vlan]]\nid = 123\naddress = [\"192.168.123.150/24\", \"fd00:123::150/64\"]\n\
         [[vlan]]\nid = \"100.200\"\naddress = [\"192.168.123.150/24\", \"fd00:123::150/64\"]\n\
         [[vlan]]\nid = \"none\"\naddress = [\"10.9.0.150/24\", \"fd00:9::150/64\"]\n",
    );
    let (v4, v6) = (CLIENT_ADDRESS, CLIENT_ADDRESS_V6);
    let (bare4, bare6) = (Ipv4Addr::new(10, 9, 0, 1), Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1));
    bed.lab().pod(1).kernel_stack_in(Some(200), Some(100), v4, v6).unwrap();
    bed.lab().pod(2).kernel_stack_in(None, None, bare4, bare6).unwrap();
    let same: [(IpAddr, IpAddr); 2] = [(v4.into(), ADDRESS.into()), (v6.into(), ADDRESS_V6.into())];
    let bare: [(IpAddr, IpAddr); 2] = [
        (bare4.into(), Ipv4Addr::new(10, 9, 0, 150).into()),
        (bare6.into(), Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 0x150).into()),
    ];
    // Ports that no kernel gives to curl.
    for (workers, port) in [("1", 21_000), ("2", 22_000)] {
        let command = bed.command(&["serve", "--config", &path, "--workers", workers]);
        bed.start_with(command);
        let networks = [
            Network { clients: bed.lab().client(), addresses: same },
            Network { clients: bed.lab().pod(1).namespace(), addresses: same },
            Network { clients: bed.lab().pod(2).namespace(), addresses: bare },
        ];
        for network in &networks {
            for (_, server) in network.addresses {
                let url = |path: &str| format!("http://{}{path}", SocketAddr::new(server, 80));
                assert_eq!(network.curl(&url("/")), INDEX);
                assert!(network.curl(&url("/file.bin")) == file, "{server}: not the file");
                ping(network.clients, &server.to_string(), 2, &[]);
            }
        }
        // Connections with the same ends in two networks, and all of them at once.
        let mut clients: Vec<Client> = networks
            .iter()
            .flat_map(|network| network.addresses.map(|ends| (network.clients, ends)))
            .flat_map(|(place, (own, server))| {
                (0..8).map(move |i| {
                    let own = SocketAddr::new(own, port + i);
                    Client::connect_from(place, own, SocketAddr::new(server, 80))
                })
            })
            .collect();
        for _ in 0..2 {
            clients.iter_mut().for_each(|client| client.ask("GET", "/file.bin"));
            for client in &mut clients {
                assert!(client.answer().body == file, "not the file");
            }
        }
        let status = bed.status();
        let vlans = status["vlans"].as_array().unwrap();
        let tags: Vec<_> = vlans.iter().map(|vlan| vlan["vlan"].as_str()).collect();
        assert_eq!(tags, [Some("123"), Some("100.200"), None]);
        for vlan in vlans {
            assert_eq!(vlan["connections"], 16, "{vlan}");
            assert_eq!(vlan["stack"]["tcp_accepted"], 16 + 4, "{vlan}");
            assert_eq!((&vlan["stack"]["drop_vlan"], &vlan["ready"]), (&0.into(), &true.into()));
        }
        // The tags are at the expense of the packet.
        assert_eq!((&vlans[0]["mtu"], &vlans[1]["mtu"]), (&1500.into(), &1492.into()));
        assert_eq!((&status["connections"], &status["ready"]), (&48.into(), &true.into()));
        assert_eq!(status["stack"]["tcp_reset_out"], 0, "a segment at the wrong place");
        assert_eq!(status["addresses"].as_array().unwrap().len(), 6);
        let control = bed.control();
        let table = bed.command(&["status", "--control"]).arg(control).stdout_string().unwrap();
        assert!(table.contains("VLAN 100.200") && table.contains("VLAN none"), "{table}");
        drop(clients);
        // Where a FIN has been overtaken by what its client says to ours, it would come again, and to
        // the next appliance, which knows nothing of the connection: that would be a reset.
        wait_until("all are closed", Duration::from_secs(20), || bed.status()["connections"] == 0);
        bed.stop();
    }
    bed.finish();
}

/// The appliance is 192.168.123.150 in VLAN 123, as ever, and 192.168.200.150 in VLAN 200; the station
/// is in both.
fn two_networks(workers: &str) -> Option<(Bed, Station)> {
    let mut bed = Bed::down(Lab::builder().pods(2))?;
    let path = bed.configure_all(
        "[[vlan]]\nid = 123\naddress = \"192.168.123.150/24\"\n\
         [[vlan]]\nid = 200\naddress = \"192.168.200.150/24\"\n",
    );
    let command = bed.command(&["serve", "--config", &path, "--workers", workers]);
    bed.start_with(command);
    let station = Station::open(&bed);
    Some((bed, station))
}

const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 150);
/// The station's address in the other network.
const OTHER_STATION: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 151);

/// What the station hears in both networks until every worker has answered it, but what the
/// appliance says to all.
fn heard(station: &mut Station) -> Vec<Heard> {
    let to_all = |heard: &Heard| match heard {
        Heard::Announcement => true,
        Heard::Other(frame) => frame[..6] == BROADCAST,
        _ => false,
    };
    station.heard_before_echoes().into_iter().filter(|heard| !to_all(heard)).collect()
}

/// The same but for the SYN-ACK to the SYN of number 1000, which comes again until it is answered.
fn heard_beside_half_open(station: &mut Station) -> Vec<Heard> {
    let mut heard = heard(station);
    heard.retain(|heard| *heard != Heard::Segment(SYN | ACK, 1001));
    heard
}

fn tagged(station: &Station, to: Mac, vlan: u16, packet: &Packet) -> Vec<u8> {
    frame(to, station.mac, &[vlan], packet)
}

#[test]
fn a_frame_of_one_vlan_reaches_nothing_of_another() {
    for workers in ["1", "2"] {
        let Some((bed, mut station)) = two_networks(workers) else { return };
        let (own, server) = (station.address, station.server);
        // Each where it belongs, so that silence means something.
        station.send(&station.ethernet(&station.segment(SYN, 1000)));
        // It may have to learn first, from another worker, where the station is.
        let deadline = Instant::now() + Duration::from_secs(5);
        while station.hear(deadline).expect("no SYN-ACK") != Heard::Segment(SYN | ACK, 1001) {}
        let asked = station.arp(1, OTHER_STATION, OTHER);
        station.send(&tagged(&station, BROADCAST, 200, &asked));
        let [Heard::Other(reply)] = &heard_beside_half_open(&mut station)[..] else {
            panic!("no ARP reply")
        };
        assert_eq!((&reply[12..18], &reply[20..22]), (&[0x81, 0, 0, 200, 8, 6][..], &[8, 0][..]));

        // Addresses of one in the other, and in one that is nobody's.
        for (vlan, from, to) in [
            (200, own, ADDRESS),
            (123, OTHER_STATION, OTHER),
            (300, own, ADDRESS),
            (0, own, ADDRESS),
        ] {
            station.send(&tagged(&station, BROADCAST, vlan, &station.arp(1, from, to)));
            station.send(&tagged(&station, server, vlan, &station.arp(1, from, to)));
            let syn = station.segment_to(80, from, to, SYN, 2000);
            station.send(&tagged(&station, server, vlan, &syn));
            let stray = station.segment_to(80, from, to, ACK, 2000);
            station.send(&tagged(&station, server, vlan, &stray));
            let heard = heard_beside_half_open(&mut station);
            assert!(heard.is_empty(), "VLAN {vlan}, {from} to {to}: {heard:x?}");
        }
        // The ends of what is half-open in the first: a RST in the second ends it not.
        for flags in [RST, ACK] {
            let packet = station.segment_to(80, own, ADDRESS, flags, 1001);
            station.send(&tagged(&station, server, 200, &packet));
        }
        assert_eq!(heard_beside_half_open(&mut station), []);
        let status = bed.status();
        let count = |vlan: usize, path: &str| status["vlans"][vlan].pointer(path).unwrap().as_u64();
        assert_eq!([count(0, "/half_open"), count(1, "/half_open")], [Some(1), Some(0)]);
        assert_eq!(count(0, "/stack/tcp_reset_in"), Some(0));
        assert_eq!(count(1, "/stack/tcp_in"), Some(0));
        assert_eq!(count(1, "/stack/drop_address"), Some(4));
        bed.finish();
    }
}

#[test]
fn a_conflict_in_one_vlan_is_none_in_another_with_the_same_address() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    let path = bed.configure_all(
        "workers = 2\n[[vlan]]\nid = 123\naddress = \"192.168.123.150/24\"\n\
         [[vlan]]\nid = 200\naddress = \"192.168.123.150/24\"\n",
    );
    let command = bed.command(&["serve", "--config", &path]);
    bed.start_with(command);
    let station = Station::open(&bed);
    let claim = tagged(&station, BROADCAST, 200, &station.arp(1, ADDRESS, ADDRESS));
    let deadline = Instant::now() + Duration::from_secs(10);
    while bed.status()["ready"] == true {
        assert!(Instant::now() < deadline, "it holds on to the address");
        station.send(&claim);
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = bed.status();
    let states: Vec<_> = status["address_states"].as_array().unwrap().iter().collect();
    let state = |i: usize| (&states[i]["vlan"], &states[i]["state"]);
    assert_eq!(state(0), (&"123".into(), &"assigned".into()));
    assert_eq!(state(1), (&"200".into(), &"conflicted".into()));
    let ready = [0, 1].map(|vlan: usize| status["vlans"][vlan]["ready"].as_bool());
    assert_eq!(ready, [Some(true), Some(false)]);
    for _ in 0..4 {
        bed.assert_serves();
    }
    wait_until("the log says where", Duration::from_secs(5), || {
        let log = bed.appliance().log();
        log.lines().any(|line| line.contains("ADDRESS CONFLICT") && line.contains("vlan=200"))
    });
    bed.finish();
}

#[test]
fn sites_keep_to_their_vlans_also_after_a_reload() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    let (www, other) = (bed.www(), bed.lab().scratch().join("other"));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("index.html"), "the other").unwrap();
    let sites = |first: &str, second: &str| {
        format!(
            "workers = 2\n[[vlan]]\nid = 123\naddress = \"192.168.123.150/24\"\n\
             [[vlan]]\nid = 200\naddress = \"192.168.123.150/24\"\n\
             [[site]]\nvlans = [{first}]\nwww-root = \"{}\"\n\
             [[site]]\nhosts = [\"other\"]\nvlans = [{second}]\nwww-root = \"{}\"\n",
            www.display(),
            other.display()
        )
    };
    let path = bed.configure_all(&sites("123", "200"));
    bed.lab().pod(1).kernel_stack_in(Some(200), None, CLIENT_ADDRESS, CLIENT_ADDRESS_V6).unwrap();
    let clients = [bed.lab().client().clone(), bed.lab().pod(1).namespace().clone()];
    let page = |vlan: usize, host: &str| {
        let host = format!("Host: {host}");
        let line = ["-gsS", "-m", "10", "-H", &host, "http://192.168.123.150/"];
        clients[vlan].command("curl").args(line).stdout_string().unwrap()
    };
    let own = std::str::from_utf8(INDEX).unwrap();
    let command = bed.command(&["serve", "--config", &path]);
    bed.start_with(command);
    // Whatever name is asked for.
    for host in ["other", "192.168.123.150"] {
        assert_eq!([page(0, host), page(1, host)], [own, "the other"], "{host}");
    }

    // One that nobody serves, and one that would have no site, change nothing.
    let log_of = |bed: &mut Bed, part: &str| {
        bed.appliance().signal(Signal::HUP).unwrap();
        bed.appliance().wait_for_line(part, Duration::from_secs(10)).unwrap();
    };
    bed.configure_all(&sites("123", "200, 7"));
    log_of(&mut bed, "line 14: VLAN 7 is not served");
    bed.configure_all(&sites("123", "123"));
    log_of(&mut bed, "other VLANs than 200");
    assert_eq!([page(0, "other"), page(1, "x")], [own, "the other"]);

    // Each with a connection that lives on.
    let server = SocketAddr::new(ADDRESS.into(), 80);
    let mut kept = clients.clone().map(|place| place.run(|| Client::connect_here(server)).unwrap());
    kept.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    bed.configure_all(&sites("123, 200", "123"));
    bed.appliance().signal(Signal::HUP).unwrap();
    wait_until("the new sites are served", Duration::from_secs(10), || {
        kept.each_mut().map(|client| client.get("/").body) == [INDEX, INDEX]
    });
    assert_eq!([page(0, "other"), page(1, "other")], ["the other", own]);
    bed.finish();
}
