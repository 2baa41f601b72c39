//! Figures over HTTP, as VPP has them.

use std::time::Duration;

use serde_json::Value;
use tagwire_lab::{CLIENT_ADDRESS, CLIENT_ADDRESS_V6, Lab, Namespace, Signal};

use crate::bed::{Bed, INDEX, content, said, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn curl(place: &Namespace, path: &str, more: &[&str]) -> Vec<u8> {
    let url = format!("http://192.168.123.150{path}");
    let curl = place.command("curl").args(["-gsS", "-m", "10"]).args(more).arg(url);
    let curl = curl.output().unwrap();
    assert!(curl.status.success(), "{path}: {}", said(&curl));
    curl.stdout
}

fn json(place: &Namespace, path: &str, more: &[&str]) -> Value {
    serde_json::from_slice(&curl(place, path, more)).unwrap()
}

fn figure(stats: &Value, name: &str) -> u64 {
    stats[name].as_str().unwrap_or_else(|| panic!("no {name} in {stats}")).parse().unwrap()
}

#[test]
fn interfaces_tell_what_came_and_went_by_them() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    let file = content(51, 3 << 20);
    bed.put("file.bin", &file);
    bed.put("version.json", b"a file");
    let vlans = "[[vlan]]\nid = 123\naddress = \"192.168.123.150/24\"\n\
                 [[vlan]]\nid = 200\naddress = \"192.168.123.150/24\"\n";
    let text = |on: bool| format!("workers = 2\nbuiltin-json = {on}\n{vlans}");
    let path = bed.configure_all(&text(true));
    bed.lab().pod(1).kernel_stack_in(Some(200), None, CLIENT_ADDRESS, CLIENT_ADDRESS_V6).unwrap();
    let clients = [bed.lab().client().clone(), bed.lab().pod(1).namespace().clone()];
    let [first, second] = &clients;
    let command = bed.command(&["serve", "--config", &path]);
    bed.start_with(command);

    let version = json(first, "/version.json", &[]);
    assert!(version["vpp_details"]["version"].as_str().unwrap().starts_with("tagwire "));
    let list = json(second, "/interface_list.json", &[]);
    assert_eq!(
        list["interface_list"],
        serde_json::json!(["macvlan0", "macvlan0.123", "macvlan0.200"])
    );
    for (client, times) in [(first, 3), (second, 1)] {
        (0..times).for_each(|_| assert!(curl(client, "/file.bin", &[]) == file));
    }
    let all = |client: &Namespace| -> [Value; 3] {
        let stats = json(client, "/interface_stats.json", &[]);
        std::array::from_fn(|at| stats["interface_stats"][at].clone())
    };
    let octets = file.len() as u64;
    // A hundredth of a second is told in one piece.
    wait_until("what was sent is told", SOON, || {
        let [_, vlan, other] = all(first);
        figure(&vlan, "tx_bytes") > 3 * octets && figure(&other, "tx_bytes") > octets
    });
    let [own, vlan, other] = all(first);
    assert_eq!((&vlan["name"], &other["name"]), (&"macvlan0.123".into(), &"macvlan0.200".into()));
    assert!(figure(&other, "tx_bytes") < 2 * octets, "{other}");
    for name in ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "ip4"] {
        let (one, two) = (figure(&vlan, name), figure(&other, name));
        assert!(one > 0 && two > 0 && figure(&own, name) == one + two, "{name}: {own}");
    }
    assert_eq!((figure(&own, "rx-miss"), figure(&own, "tx-error")), (0, 0));

    // As VPP is asked, and by a query.
    let of_vlan = ["-d", "macvlan0.200"];
    for (path, more) in
        [("/interface_stats.json", &of_vlan[..]), ("/interface_stats.json?name=macvlan0.200", &[])]
    {
        let stats = json(second, path, more);
        assert_eq!(stats["interface_stats"].as_array().map(Vec::len), Some(1), "{stats}");
        assert_eq!(stats["interface_stats"][0]["name"], "macvlan0.200");
    }
    // At rest everything is told, and no turn is made for it.
    let at_rest = || bed.status()["vlans"][1]["stack"]["octets_out"].as_u64().unwrap();
    let sent = at_rest();
    wait_until("all is told", SOON, || figure(&all(first)[2], "tx_bytes") == sent);
    assert_eq!(at_rest(), sent, "nobody has asked in that VLAN");

    // A reload hides them.
    bed.configure_all(&text(false));
    bed.appliance().signal(Signal::HUP).unwrap();
    wait_until("the file is served", SOON, || curl(first, "/version.json", &[]) == b"a file");
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(curl(first, "/interface_stats.json", &status), b"404");
    assert_eq!(curl(first, "/", &[]), INDEX);
    bed.finish();
}
