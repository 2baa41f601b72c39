//! What the packet loop and the stack call differently: they do not know each other.

use tagwire_core::clock::Nanos;
use tagwire_core::packet::{Gso, GsoKind, RxChecksum, RxFrame, TxChecksum, TxFrame, VlanTag};
use tagwire_netstack::{Checksum, FrameMeta, Instant, IpFamily, Transmit};

pub(crate) fn instant(now: Nanos) -> Instant {
    Instant::from_nanos(now.0)
}

/// What the kernel has said beside a frame.
pub(crate) fn frame_meta(frame: &RxFrame<'_>) -> FrameMeta {
    FrameMeta {
        vlan: frame.meta.vlan.map(|VlanTag { tpid, tci }| tagwire_netstack::VlanTag { tpid, tci }),
        checksum: match frame.meta.checksum {
            RxChecksum::Unverified => Checksum::Unverified,
            RxChecksum::Valid => Checksum::Valid,
            RxChecksum::Partial => Checksum::Partial,
        },
        received: Some(instant(frame.meta.received)),
    }
}

/// What the kernel is to do with a frame.
pub(crate) fn tx_frame(transmit: Transmit) -> TxFrame {
    TxFrame {
        len: transmit.len,
        checksum: transmit
            .checksum
            .map(|request| TxChecksum { start: request.start, offset: request.offset }),
        gso: transmit.segmentation.map(|request| Gso {
            kind: match request.family {
                IpFamily::V4 => GsoKind::TcpV4,
                IpFamily::V6 => GsoKind::TcpV6,
            },
            size: request.size,
            header_len: request.header_len,
        }),
    }
}
