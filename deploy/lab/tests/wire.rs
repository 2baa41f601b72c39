//! The wire between client and node: what it passes, and that it repeats itself.
#![forbid(unsafe_code)]

mod common;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::skipped;
use tagwire_lab::{CLIENT_ADDRESS, Direction, Impairments, Lab, WireConfig, WireCounts};

const FRAMES: u32 = 1000;
const LEN: usize = 1000;
/// Frames in a row that every buffer on the way holds.
const BURST: u32 = 50;

/// Sends numbered datagrams from the client to a pod, over a wire, and returns those
/// that arrive, as they do, and what the wire says it did.
fn send_over(wire: WireConfig) -> (Vec<u32>, WireCounts) {
    let lab = Lab::builder().wire(wire).build().unwrap();
    let pod = lab.pod(0);
    pod.kernel_stack().unwrap();
    // The wire is to carry the datagrams and nothing else, in that order.
    let interface = lab.client_interface();
    let mac = pod.mac().map(|octet| format!("{octet:02x}")).join(":");
    let neighbour = ["neigh", "add", &pod.address().to_string(), "lladdr", &mac, "dev", interface];
    assert!(lab.client().command("ip").args(neighbour).status().unwrap().success());

    let server = pod.namespace().run(|| UdpSocket::bind((pod.address(), 9))).unwrap().unwrap();
    let client = lab.client().run(|| UdpSocket::bind((CLIENT_ADDRESS, 0))).unwrap().unwrap();
    client.connect((pod.address(), 9)).unwrap();
    // It holds them all: what does not arrive was not lost by a reader that came late.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&server, 16 << 20).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    for number in 0..FRAMES {
        let mut datagram = [0; LEN];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        client.send(&datagram).unwrap();
        if number % BURST == BURST - 1 {
            wait_for_wire(&lab, u64::from(number) + 1);
        }
    }
    let arrived = receive_all(&server);
    let counts = lab.wire().unwrap().counts(Direction::Up);
    assert_eq!(counts.received, u64::from(FRAMES));
    assert_eq!(counts.failed, 0);
    (arrived, counts)
}

fn receive_all(server: &UdpSocket) -> Vec<u32> {
    let mut arrived = Vec::new();
    let mut datagram = [0; LEN];
    loop {
        match server.recv(&mut datagram) {
            Ok(len) => {
                assert_eq!(len, LEN);
                arrived.push(u32::from_be_bytes(datagram[..4].try_into().unwrap()));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return arrived,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until the wire has taken so many frames.
fn wait_for_wire(lab: &Lab, frames: u64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while lab.wire().unwrap().counts(Direction::Up).received < frames {
        assert!(Instant::now() < deadline, "the wire has not seen {frames} frames");
        std::thread::yield_now();
    }
}

fn wire(impairments: Impairments) -> WireConfig {
    WireConfig::symmetric(7, impairments)
}

#[test]
fn a_clean_wire_passes_every_frame_in_order() {
    if skipped() {
        return;
    }
    let (arrived, counts) = send_over(WireConfig::default());
    assert_eq!(arrived, (0..FRAMES).collect::<Vec<u32>>());
    assert_eq!(counts.forwarded, u64::from(FRAMES));
}

#[test]
fn the_same_seed_loses_the_same_frames() {
    if skipped() {
        return;
    }
    let plan = wire(Impairments { loss: 0.1, ..Impairments::default() });
    let (first, counts) = send_over(plan.clone());
    let (second, _) = send_over(plan.clone());
    assert_eq!(first, second);
    assert_eq!(first.len() as u64, u64::from(FRAMES) - counts.lost);
    assert!((50..150).contains(&counts.lost), "{counts:?}");
    let (other, _) = send_over(WireConfig { seed: 8, ..plan });
    assert_ne!(first, other);
}

#[test]
fn what_is_damaged_is_noticed_by_the_checksum() {
    if skipped() {
        return;
    }
    let (arrived, counts) = send_over(wire(Impairments { corrupt: 0.1, ..Impairments::default() }));
    assert!(counts.corrupted > 50 && counts.forwarded == u64::from(FRAMES), "{counts:?}");
    assert_eq!(arrived.len() as u64, u64::from(FRAMES) - counts.corrupted);
}

#[test]
fn frames_are_repeated_and_overtaken_as_asked() {
    if skipped() {
        return;
    }
    let (arrived, counts) = send_over(wire(Impairments {
        duplicate: 0.1,
        reorder: 0.1,
        reorder_by: Duration::from_millis(5),
        ..Impairments::default()
    }));
    assert!(counts.duplicated > 50 && counts.reordered > 50, "{counts:?}");
    assert_eq!(arrived.len() as u64, u64::from(FRAMES) + counts.duplicated);
    assert!(!arrived.is_sorted());
}

#[test]
fn delay_and_rate_take_their_time() {
    if skipped() {
        return;
    }
    // 1 Mbit/s upward is 8 ms for 1000 octets.
    let wire: WireConfig = "delay=20ms,up.rate=1mbit".parse().unwrap();
    let lab = Lab::builder().wire(wire).build().unwrap();
    lab.pod(0).kernel_stack().unwrap();
    let address = lab.pod(0).address().to_string();
    let ping = |size: &str| {
        let ping = lab.client().command("ping").args(["-c1", "-W5", "-s", size, &address]);
        let said = ping.stdout_string().unwrap();
        let time = said.split("time=").nth(1).unwrap().split_whitespace().next().unwrap();
        time.parse::<f64>().unwrap()
    };
    ping("56"); // resolves the address
    let (small, large) = (ping("56"), ping("1400"));
    assert!(small > 40.0, "there and back in {small} ms");
    assert!(large - 40.0 > 11.0, "11 ms of bits, there and back in {large} ms");
}

#[test]
fn a_wire_takes_another_plan_and_begins_anew() {
    if skipped() {
        return;
    }
    let lab = Lab::builder().wire(WireConfig::default()).build().unwrap();
    lab.pod(0).kernel_stack().unwrap();
    let (wire, address) = (lab.wire().unwrap(), lab.pod(0).address().to_string());
    let answered = |count: &str| {
        let ping = lab.client().command("ping").args(["-c", count, "-i0.02", "-W1", "-q"]);
        let said = ping.arg(&address).output().unwrap().stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        said.split(" received").next().unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(answered("3"), "3");
    wire.replan("up.loss=1".parse().unwrap()).unwrap();
    assert_eq!(answered("3"), "0");
    let plan: WireConfig = "seed=5,loss=0.3".parse().unwrap();
    let lost = || {
        wire.replan(plan.clone()).unwrap();
        let before = wire.counts(Direction::Up);
        answered("50");
        let after = wire.counts(Direction::Up);
        (after.received - before.received, after.lost - before.lost)
    };
    // What the kernels ask of each other by ARP at times is more frames, not other ones.
    let ((some, first), (more, second)) = (lost(), lost());
    assert!(some >= 50 && more >= 50 && first > 5 && first.abs_diff(second) <= 2);
}

#[test]
fn the_thread_is_in_time_for_a_full_line() {
    if skipped() {
        return;
    }
    let plan: WireConfig = "rate=100mbit,delay=5ms".parse().unwrap();
    let lab = Lab::builder().wire(plan).build().unwrap();
    let pod = lab.pod(0);
    pod.kernel_stack().unwrap();
    let server = pod.namespace().run(|| UdpSocket::bind((pod.address(), 9))).unwrap().unwrap();
    let client = lab.client().run(|| UdpSocket::bind((CLIENT_ADDRESS, 0))).unwrap().unwrap();
    client.connect((pod.address(), 9)).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&server, 16 << 20).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    client.send(&[0; 1000]).unwrap();
    server.recv(&mut [0; 1000]).unwrap(); // the address is resolved
    let frames = 500_u32;
    // Before the first one: the line works while this is still sending.
    let started = Instant::now();
    for _ in 0..frames {
        client.send(&[0; 1458]).unwrap();
    }
    for _ in 0..frames {
        server.recv(&mut [0; 1500]).unwrap();
    }
    // 1504 octets with their headers: 120.3 us each. The machine may be busy, so that only
    // what is too fast is wrong.
    let ideal = Duration::from_nanos(120_320) * frames;
    assert!(started.elapsed() > ideal - Duration::from_millis(5), "{:?}", started.elapsed());
    assert_eq!(lab.wire().unwrap().counts(Direction::Up).overflow, 0);
}

#[test]
fn large_segments_of_the_kernel_pass_as_frames() {
    if skipped() {
        return;
    }
    let lab = Lab::builder().wire(WireConfig::default()).build().unwrap();
    let pod = lab.pod(0);
    pod.kernel_stack().unwrap();
    let server = pod.namespace().run(|| std::net::TcpListener::bind((pod.address(), 80)));
    let server = server.unwrap().unwrap();
    let content: Vec<u8> = (0..8 << 20).map(|i: u32| (i / 7) as u8).collect();
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut connection, _) = server.accept().unwrap();
            std::io::Write::write_all(&mut connection, &content).unwrap();
        });
        let connect = || std::net::TcpStream::connect((pod.address(), 80));
        let mut connection = lab.client().run(connect).unwrap().unwrap();
        let mut received = Vec::new();
        std::io::Read::read_to_end(&mut connection, &mut received).unwrap();
        received
    });
    assert!(received == content);
    let counts = lab.wire().unwrap().counts(Direction::Down);
    assert!(counts.received > (8 << 20) / 1500, "{counts:?}");
    assert_eq!(counts.failed, 0, "{counts:?}");
}

#[test]
fn a_wire_that_was_unplugged_works_again() {
    if skipped() {
        return;
    }
    let lab = Lab::builder().wire(WireConfig::default()).build().unwrap();
    lab.pod(0).kernel_stack().unwrap();
    let ping = || {
        let address = lab.pod(0).address().to_string();
        let ping = lab.client().command("ping").args(["-c1", "-W1", &address]);
        ping.output().unwrap().status.success()
    };
    let plug = |state: &str| {
        let namespace = format!("{}-wire", lab.name());
        let args = ["-n", &namespace, "link", "set", "w0", state];
        assert!(std::process::Command::new("ip").args(args).status().unwrap().success());
    };
    assert!(ping());
    plug("down");
    assert!(!ping());
    plug("up");
    // The client's kernel may take a second to notice that it has a carrier again.
    assert!((0..5).any(|_| ping()));
}
