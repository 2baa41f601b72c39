//! What a connection needs from the transport below it, and nothing more.
//!
//! The appliance implements it over its own TCP; tests implement it in memory. It is generic, not
//! an object: a connection is one future of a known, small size.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tagwire_netstack::VlanStack;

/// One side of an established byte stream, owned by one task of the worker's executor.
///
/// Dropping it without [`close`](Self::close) is [`abort`](Self::abort). Dropping it after
/// `close` lets the stack finish what is queued on its own.
#[allow(async_fn_in_trait, reason = "generic use on a single-threaded executor: no Send bound")]
pub trait Transport {
    /// Where the peer has connected to.
    fn local(&self) -> Local;

    /// The peer's address and port.
    fn peer(&self) -> SocketAddr;

    /// Waits for data and appends at least one octet to `into`; the count is returned. `Ok(0)`:
    /// the peer has closed its side, and what it asked for may still be answered. Works after
    /// [`close`](Self::close) too.
    ///
    /// `into` has no capacity while a connection rests; reserve when there is data, not before.
    async fn read(&mut self, into: &mut BytesMut) -> Result<usize, TransportError>;

    /// Queues `data` behind what is queued already, without a copy.
    fn send(&mut self, data: Bytes) -> Result<(), TransportError>;

    /// Octets in the queue that are not sent, or sent and not acknowledged; of a connection that is
    /// over, those that never were.
    fn queued(&self) -> usize;

    /// Waits until [`queued`](Self::queued) is at most `low_water` octets.
    async fn drained(&mut self, low_water: usize) -> Result<(), TransportError>;

    /// Orderly end of our side: a FIN after what is queued.
    fn close(&mut self);

    /// Ends the connection at once with a RST, so that the peer knows its response is not whole.
    fn abort(&mut self);

    /// Lets `read` and `drained` fail with [`TransportError::TimedOut`] once `after` has passed
    /// from now; `None`: never. Replaces the deadline before it.
    fn set_deadline(&mut self, after: Option<Duration>);

    /// Whether clients are to go elsewhere: the response in progress is finished and says
    /// `Connection: close`. Once the process shuts down, a `read` that waits with nothing to deliver also
    /// fails with [`TransportError::Draining`].
    fn sends_away(&self) -> bool;
}

/// Where a peer has connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// The VLAN that it came in.
    pub vlan: VlanStack,
    /// The own address, which another VLAN may have as well.
    pub address: IpAddr,
}

/// Why a transport did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportError {
    /// The connection is over: reset by the peer, given up by TCP, or closed by us before.
    Closed,
    /// The deadline has passed; the connection itself is whole.
    TimedOut,
    /// The process shuts down and nothing was there to read; the connection itself is whole.
    Draining,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "connection closed",
            Self::TimedOut => "timed out",
            Self::Draining => "shutting down",
        })
    }
}

impl std::error::Error for TransportError {}

#[cfg(test)]
pub(crate) mod memory;
