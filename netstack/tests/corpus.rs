//! Every file of the fuzz corpora, without a fuzzer.

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;
use tagwire_netstack::fuzz;

#[test]
fn ethernet_arp() {
    replay("ethernet_arp", fuzz::fuzz_ethernet_arp);
}

#[test]
fn ipv4_icmp() {
    replay("ipv4_icmp", fuzz::fuzz_ipv4_icmp);
}

#[test]
fn tcp() {
    replay("tcp", fuzz::fuzz_tcp);
}

#[test]
fn stack() {
    replay("stack", fuzz::fuzz_stack);
}

#[test]
fn ipv6() {
    replay("ipv6", fuzz::fuzz_ipv6);
}

#[test]
fn ipv6_stack() {
    replay("ipv6_stack", fuzz::fuzz_ipv6_stack);
}
