//! SIGTERM: what is being sent is finished, the rest closed, and the exit code is 0.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tagwire_lab::{Lab, Signal};

use crate::bed::{Bed, INDEX, content};
use crate::client::Client;

/// At once, on a busy machine.
const SOON: Duration = Duration::from_secs(1);

#[test]
pub(crate) fn idle_connections_do_not_hold_it_up() {
    let Some(mut bed) = Bed::up() else { return };
    for signal in [Signal::TERM, Signal::INT] {
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&bed)).collect();
        // Some have been served, some have said nothing yet, one half a head.
        for client in &mut clients[..10] {
            assert_eq!(client.get("/").body, INDEX);
        }
        clients[10].send(b"GET / HTTP/1.1\r\nHo");
        let asked = Instant::now();
        bed.appliance().signal(signal).unwrap();
        for client in &mut clients {
            client.assert_end();
        }
        drop(clients);
        bed.ends_well();
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
        bed.start(&[]);
    }
    bed.finish();
}

#[test]
pub(crate) fn a_download_is_finished_first() {
    // 100 Mbit/s: the file needs 1.7 s.
    let wire = "down.rate=100mbit".parse().unwrap();
    let Some(mut bed) = Bed::down(Lab::builder().wire(wire)) else { return };
    let file = content(15, 20 << 20);
    bed.put("file.bin", &file);
    bed.start(&[]);
    let mut idle = Client::connect(&bed);
    assert_eq!(idle.get("/").body, INDEX);
    let mut client = Client::connect(&bed);
    client.ask("GET", "/file.bin");
    assert_eq!(client.head().status, 200);

    let asked = Instant::now();
    bed.appliance().signal(Signal::TERM).unwrap();
    idle.assert_end();
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    // No new ones: they are refused, not left without an answer.
    let server = bed.server();
    let refused = bed.lab().client().run(|| TcpStream::connect(server)).unwrap();
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));

    assert!(client.body(file.len()) == file, "the file came damaged");
    client.assert_end();
    bed.ends_well();
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    bed.finish();
}

#[test]
fn a_client_that_takes_nothing_is_reset_in_the_end() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let file = content(16, 20 << 20);
    bed.put("file.bin", &file);
    bed.start(&["--drain", "5s"]);
    let mut stuck = Client::connect_small(&bed, 8192);
    stuck.ask("GET", "/file.bin");
    assert_eq!(stuck.head().status, 200);
    let asked = Instant::now();
    bed.stop();
    let took = asked.elapsed();
    assert!((4500..6500).contains(&took.as_millis()), "{took:?}");
    let (taken, end) = stuck.read_to_error();
    assert!(taken < file.len());
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    bed.finish();
}

#[test]
fn a_link_that_is_down_does_not_hold_it_up_longer() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.put("file.bin", &content(17, 20 << 20));
    bed.start(&["--drain", "5s"]);
    let mut client = Client::connect_small(&bed, 8192);
    client.ask("GET", "/file.bin");
    assert_eq!(client.head().status, 200);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "down"]);
    let asked = Instant::now();
    // The reset cannot be sent: it ends all the same.
    bed.stop();
    assert!(asked.elapsed() < Duration::from_millis(6500), "{:?}", asked.elapsed());
    bed.finish();
}
