//! The kernel boundary of Tagwire: everything that is `unsafe`, and nothing that knows a protocol.
//!
//! # The way of a frame
//!
//! ```text
//!  network card, veth, macvlan
//!        |  packet::filter   own address or group, own VLAN: else it is not copied up
//!        v
//!  packet::ring  TPACKET_V2, 2 KiB slots ------> worker --frame()--> Machine (stack, server)
//!                                                  |                    |
//!  packet::tx    vnet header, offloads <------- driver <--transmit()----+
//!        |                                         |
//!        v       uring: SEND / SENDMSG             sleeps here, in one io_uring_enter;
//!  network card, veth, macvlan                     poll: sendmmsg, then ppoll
//! ```
//!
//! One worker is one thread with one receiving and one sending socket and one io_uring, or where
//! that is refused ([`refusal::probe`] says by whom) none.
//! [`worker::Worker::open`] does all that can be refused; [`worker::Worker::run`] is the loop;
//! [`waker::Waker`] reaches it from other threads.

pub mod clock;
pub mod counters;
pub mod driver;
pub mod error;
pub mod inspect;
#[cfg(feature = "lab")]
pub mod lab;
mod link;
pub mod namespace;
pub mod netlink;
pub mod nic;
mod outbox;
pub mod packet;
mod poll;
pub mod refusal;
pub mod restrictions;
mod sys;
mod uring;
pub mod waker;
pub mod worker;
