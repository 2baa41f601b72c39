//! Two stacks as each other's peer.
//!
//! A stack only listens. But its part of a handshake is a function of its secret, the ends
//! and the time, so a like stack that is thrown away tells what it will say, and each can be
//! told beforehand what the other would have said in its SYN and ACK. Both then believe to
//! be the server of one connection with matching numbers and options.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use tagwire_netstack::{FrameMeta, Instant, MacAddr};

use crate::host::{Host, HostConfig};
use crate::monitor::Monitor;
use crate::segment::{ACK, Ends, SYN, Segment};

/// Where a host is.
type Neighbor = (Ipv4Addr, MacAddr);

const SERVICE: u16 = 80;

/// Opens connections between port 80 of `left` and `ports` of `right`. The SYNs are sent at
/// `now`, their answers reach both after `rtt`.
pub(crate) fn connect(
    left: &mut Host,
    right: &mut Host,
    ports: Range<u16>,
    now: Instant,
    rtt: Duration,
    monitor: &mut Monitor,
) {
    let mut acks = Vec::new();
    for port in ports {
        right.stack.listen(port);
        let ends = ends(left.config.ip, right.config.ip, port);
        let from_left = foretell(&left.config, right.config.neighbor(), ends, now);
        let from_right = foretell(&right.config, left.config.neighbor(), ends.reversed(), now);
        for (theirs, ours) in [(&from_right, &from_left), (&from_left, &from_right)] {
            monitor.arrived(theirs);
            monitor.left(ours, 0);
        }
        let to_left = begin(left, right.config.neighbor(), &from_left, &from_right, now, rtt);
        let to_right = begin(right, left.config.neighbor(), &from_right, &from_left, now, rtt);
        acks.push((to_left, to_right));
    }
    let after = now + rtt;
    for (to_left, to_right) in acks {
        for ack in [&to_left, &to_right] {
            monitor.arrived(&Segment::read(ack).expect("a sound segment"));
        }
        left.stack.handle_frame(after, &to_left, &FrameMeta::default());
        right.stack.handle_frame(after, &to_right, &FrameMeta::default());
    }
}

fn ends(left: Ipv4Addr, right: Ipv4Addr, port: u16) -> Ends {
    Ends { source: left, source_port: SERVICE, destination: right, destination_port: port }
}

/// The next time at which the sequence numbers of `left` begin just below their wrap.
pub(crate) fn before_wrap(left: &HostConfig, right: Neighbor, port: u16, now: Instant) -> Instant {
    let iss = foretell(left, right, ends(left.ip, right.0, port), now).seq;
    // RFC 6528 3: one every four microseconds.
    now + Duration::from_micros(4) * (u32::MAX - 3000).wrapping_sub(iss)
}

/// The SYN-ACK that a host with this configuration sends at `now`.
fn foretell(config: &HostConfig, peer: Neighbor, ends: Ends, now: Instant) -> Segment {
    let mut host = Host::new(config.clone(), now);
    host.meet(now, peer.0, peer.1);
    host.stack.listen(ends.source_port);
    let mut syn = Segment::new(ends.reversed(), SYN, 1, 0);
    (syn.window, syn.mss, syn.scale) = (1000, Some(1460), Some(0));
    (syn.sack_permitted, syn.timestamp) = (true, Some((1, 0)));
    syn_ack(&mut host, peer, &syn, now)
}

/// Lets a SYN arrive; what the host answers.
fn syn_ack(host: &mut Host, peer: Neighbor, syn: &Segment, now: Instant) -> Segment {
    let frame = syn.write(peer.1, host.config.mac, &[]);
    host.stack.handle_frame(now, &frame, &FrameMeta::default());
    let answers = host.run(now);
    let answer = answers.iter().find_map(|frame| Segment::read(frame));
    let answer = answer.expect("a listener answers a SYN");
    assert!(answer.has(SYN | ACK), "{answer}");
    answer
}

/// Lets `host` get the SYN that a peer would have sent that says `theirs`. The frame with the
/// ACK that is due `rtt` later.
fn begin(
    host: &mut Host,
    peer: Neighbor,
    ours: &Segment,
    theirs: &Segment,
    now: Instant,
    rtt: Duration,
) -> Vec<u8> {
    let syn = Segment { flags: SYN, ack: 0, ..theirs.clone() };
    let answer = syn_ack(host, peer, &syn, now);
    assert_eq!(answer.seq, ours.seq, "another sequence number than was foretold");
    let mut ack =
        Segment::new(theirs.ends, ACK, theirs.seq.wrapping_add(1), ours.seq.wrapping_add(1));
    ack.window = theirs.window >> theirs.scale.unwrap_or(0);
    let elapsed = (now + rtt).as_millis() - now.as_millis();
    let clock = |value: u32| value.wrapping_add(elapsed as u32);
    ack.timestamp =
        theirs.timestamp.zip(answer.timestamp).map(|((value, _), (echo, _))| (clock(value), echo));
    ack.write(peer.1, host.config.mac, &[])
}
