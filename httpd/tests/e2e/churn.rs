//! Many connections, ended in every way: no state stays, and no memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;

use crate::bed::{Bed, INDEX, alone, wait_until};
use crate::client::request;

/// Connections of each kind in a round.
const COUNT: usize = 10_000;
/// Clients at the same time.
const CLIENTS: usize = 8;
/// How far memory may swing between two equal rounds, in KiB: what an allocator keeps.
const SWING: u64 = 2 * 1024;

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    ClientFirst,
    ServerFirst,
    Reset,
}

fn connection(server: SocketAddr, ending: Ending) {
    let mut socket = TcpStream::connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = match ending {
        Ending::ServerFirst => "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        _ => request("GET", "/"),
    };
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    match ending {
        Ending::ServerFirst => {
            socket.read_to_end(&mut answer).unwrap();
        }
        _ => {
            let mut buffer = [0; 2048];
            while !answer.ends_with(INDEX) {
                let octets = socket.read(&mut buffer).unwrap();
                assert_ne!(octets, 0, "{ending:?}: {}", answer.escape_ascii());
                answer.extend_from_slice(&buffer[..octets]);
            }
        }
    }
    assert!(answer.ends_with(INDEX), "{ending:?}: {}", answer.escape_ascii());
    if let Ending::Reset = ending {
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    }
}

fn round(bed: &Bed) {
    for ending in [Ending::ClientFirst, Ending::ServerFirst, Ending::Reset] {
        let server = bed.server();
        let all = || {
            std::thread::scope(|scope| {
                for _ in 0..CLIENTS {
                    scope.spawn(|| (0..COUNT / CLIENTS).for_each(|_| connection(server, ending)));
                }
            });
        };
        bed.lab().client().run(all).unwrap();
    }
}

/// The states that are there, but for TIME-WAIT.
fn is_settled(bed: &Bed) -> bool {
    let status = bed.status();
    status["connections"] == 0 && status["half_open"] == 0
}

#[test]
fn ten_thousand_connections_of_each_kind_leave_nothing_behind() {
    let Some(bed) = Bed::up() else { return };
    // Where the client closes first, its ports rest for a minute.
    bed.client_sysctl("ipv4/ip_local_port_range", "2000 65000");

    let turn = alone();
    round(&bed);
    wait_until("only TIME-WAIT is left", Duration::from_secs(5), || is_settled(&bed));
    let first = bed.memory("VmRSS");
    let status = bed.status();
    assert_eq!(status["stack"]["tcp_accepted"], 3 * COUNT, "{status}");
    assert!(status["time_wait"].as_u64() > Some(0), "the server closes first: {status}");
    drop(turn);

    wait_until("TIME-WAIT passes", Duration::from_secs(80), || bed.status()["time_wait"] == 0);
    assert!(is_settled(&bed), "{}", bed.status());

    let turn = alone();
    round(&bed);
    wait_until("only TIME-WAIT is left", Duration::from_secs(5), || is_settled(&bed));
    let second = bed.memory("VmRSS");
    drop(turn);
    assert!(second < first + SWING, "from {first} KiB to {second} KiB");
    bed.finish();
}
