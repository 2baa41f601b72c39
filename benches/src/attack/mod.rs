//! What an attacker on the segment costs a client: Tagwire beside nginx on the kernel's TCP.
//!
//! # How it is measured
//!
//! As in `make bench`, CPU 1 is the server's and CPU 0 the client's; the generator ([`flood`]) shares
//! CPU 0 with the client, wrk, at the same priority, so that the scheduler gives each its half when
//! both want all. So the client asks for less while the generator runs, whoever serves; the cases
//! `generator` and `syn-to-nobody`, floods that no server hears, show how much less. Targets that are
//! the cost for a client include it; the comparison with nginx is of two shares under the same flood.
//!
//! The frames ([`frames`]) are forged with their VLAN tag and checksums before a flood begins and
//! sent by sendmmsg past the queueing discipline. A flood of SYNs comes from off-link sources, to
//! which the attacker's station is the gateway, or from addresses of the subnet that are not there,
//! which a server may have to ask for by ARP. The answers go to a station that nobody is, so that they cost
//! the client next to nothing. nginx has SYN cookies as Linux sets them by default.
//!
//! | case | what | figure |
//! |---|---|---|
//! | `syn-to-nobody` | 50,000 SYNs/s to a station that is not there | the generator's own part of the next |
//! | `syn`, `syn-on-link` | 50,000 SYNs/s | requests/s under it over those without, old and new connections |
//! | `syn-max` | as many as the generator makes on every contender | the same, over nginx's |
//! | `blind` | segments that pretend to be of the client's connections | downloads that were reset or corrupted |
//! | `slow` | connections that send an octet a minute or read one a second | memory, requests/s |
//! | `fragments`, `fragments-v6`, `arp`, `nd` | 50,000/s; ARP and ND of a million addresses | requests/s before, under, after; neighbours asked for again |

pub mod arena;
pub mod cases;
pub mod flood;
pub mod frames;
pub mod report;
pub mod slow;
