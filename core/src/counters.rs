//! What the driver has done and lost.

use std::cell::Cell;

/// Declares a struct of counters of one thread, each with what it counts.
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])* $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: std::cell::Cell<u64>,)*
        }

        impl $name {
            /// The name of every counter and what it counts, in the order of declaration.
            pub const HELP: &[(&str, &str)] = &[$((stringify!($field), concat!($($doc),*)),)*];

            /// Every counter with its name, in the order of declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field.get()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Counters of one worker's driver. They belong to the worker's thread; the machine
    /// that it drives reads them when it is asked how things are.
    Counters {
        /// Frames taken from the receive ring.
        rx_frames,
        /// Frames longer than a ring slot, fetched whole from the socket's queue.
        rx_oversize,
        /// Frames longer than a slot that the kernel could not keep whole: dropped.
        rx_truncated,
        /// Frames the kernel dropped because the ring or the queue was full (`PACKET_STATISTICS`).
        rx_kernel_drops,
        /// Frames handed to the kernel.
        tx_frames,
        /// Turns that left frames with the machine for want of room in the socket's send buffer.
        tx_full,
        /// Frames dropped: the kernel had no memory or the device no room (ENOBUFS, EAGAIN).
        tx_no_buffers,
        /// Frames dropped: longer than the device takes (EMSGSIZE).
        tx_too_long,
        /// Frames dropped: the kernel does not take the checksum or segmentation that they ask
        /// for (EINVAL).
        tx_bad_offload,
        /// Frames dropped: the interface is down (ENETDOWN, ENXIO, ENODEV).
        tx_link_down,
        /// Frames dropped for another reason.
        tx_errors,
        /// Turns of the loop.
        turns,
        /// Turns that ended in a wait.
        waits,
    }
}

/// Adds to a counter.
pub fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}
