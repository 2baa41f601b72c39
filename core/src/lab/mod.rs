//! What only the lab asks of the kernel.
//!
//! The lab (`deploy/lab`) builds the topology that Tagwire lives in out of network
//! namespaces. Some of its parts need system calls that no safe crate offers, and since
//! this crate is where the workspace keeps its `unsafe`, they are here:
//!
//! - [`bpf`]: a VLAN tag for an interface of a kernel that has no VLAN devices;
//! - [`frame_sender`]: a socket that sends many frames with one system call, for floods;
//! - [`seccomp`]: a filter that refuses io_uring, as container runtimes do;
//! - [`wire_socket`]: a plain packet socket for a wire in user space, which sees each
//!   frame as it was on the wire, tag included.
//!
//! Nothing of this is part of the appliance: the feature `lab` is off in its build.

pub mod bpf;
pub mod frame_sender;
pub mod seccomp;
pub mod wire_socket;

pub use bpf::VlanShim;
pub use frame_sender::{FrameSender, MAX_BATCH};
pub use wire_socket::WireSocket;
