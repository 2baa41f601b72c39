//! Where the worker's packets, its TCP stack and its tasks meet.
//!
//! Everything here belongs to one worker thread. A [`Reactor`] owns the [`Stack`] of one VLAN and, for
//! each connection, whom to wake; a [`Stream`] is one connection as its task sees it; the
//! [`worker`] drives both from the packet loop, for all of its VLANs.
//!
//! ```text
//!   core's loop: frame() -> Stack -> events -> wake the connection's task -> executor
//!                transmit() <- Stack <- Stream::send, close, ... <----------- task
//! ```
//!
//! Several workers on one interface share nothing here; [`post`] is what they tell each other,
//! and [`gather`] puts together what they say of themselves.

pub mod admission;
pub(crate) mod convert;
pub mod gather;
pub mod link;
pub mod post;
pub mod reactor;
pub mod stream;
pub mod syn_flood;
mod vlans;
pub mod worker;

pub use reactor::Reactor;
pub use stream::Stream;
