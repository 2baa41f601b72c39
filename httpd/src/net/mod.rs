//! Where the worker's packets, its TCP stack and its tasks meet.
//!
//! Everything here belongs to one worker thread. A [`Reactor`] owns the [`Stack`] and, for
//! each connection, whom to wake; a [`Stream`] is one connection as its task sees it; the
//! [`worker`] drives both from the packet loop.
//!
//! ```text
//!   core's loop: frame() -> Stack -> events -> wake the connection's task -> executor
//!                transmit() <- Stack <- Stream::send, close, ... <----------- task
//! ```

pub mod reactor;
pub mod stream;
pub mod worker;

pub use reactor::Reactor;
pub use stream::Stream;
