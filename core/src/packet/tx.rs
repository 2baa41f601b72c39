//! Frames on their way out: slots, and the virtio header before each.

use std::mem::zeroed;

use bytes::Bytes;

/// Octets of a slot for headers and small payloads, at the least.
const SLOT: usize = 2048;
/// Octets of a frame beside its packet: Ethernet's header with two tags.
const LINK_HEADERS: usize = 22;
/// `struct virtio_net_hdr` (virtio 1.2, 5.1.6): what PACKET_VNET_HDR expects before a frame.
pub(crate) const VNET_HEADER: usize = 10;
/// Octets of a page, above which the kernel does not keep a frame in one piece.
const PAGE: usize = 4096;
/// `struct sk_buff` and `struct skb_shared_info`, generously.
const SKB: usize = 2048;
const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = 1;
const VIRTIO_NET_HDR_GSO_TCPV4: u8 = 1;
const VIRTIO_NET_HDR_GSO_TCPV6: u8 = 4;

/// A frame that a machine wrote: `len` octets in the slot, then its payload slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxFrame {
    /// Octets written to the slot.
    pub len: usize,
    /// A checksum for the kernel or the card to complete.
    pub checksum: Option<TxChecksum>,
    /// The frame is to be cut.
    pub gso: Option<Gso>,
}

/// Where a checksum is completed: over all from `start`, into the field at `start + offset`,
/// which holds the pseudo-header's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxChecksum {
    /// First octet summed, counted from the frame's start.
    pub start: u16,
    /// The field, counted from `start`.
    pub offset: u16,
}

/// Segmentation of one frame into many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// What is inside.
    pub kind: GsoKind,
    /// Payload octets for each segment.
    pub size: u16,
    /// Octets of all headers.
    pub header_len: u16,
}

/// What kind of frame is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
}

/// The octets before a frame; the legacy layout is in native byte order.
fn vnet_header(frame: &TxFrame) -> [u8; VNET_HEADER] {
    let mut header = [0; VNET_HEADER];
    if let Some(TxChecksum { start, offset }) = frame.checksum {
        header[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..10].copy_from_slice(&offset.to_ne_bytes());
    }
    if let Some(Gso { kind, size, header_len }) = frame.gso {
        header[1] = match kind {
            GsoKind::TcpV4 => VIRTIO_NET_HDR_GSO_TCPV4,
            GsoKind::TcpV6 => VIRTIO_NET_HDR_GSO_TCPV6,
        };
        header[2..4].copy_from_slice(&header_len.to_ne_bytes());
        header[4..6].copy_from_slice(&size.to_ne_bytes());
    }
    header
}

/// One frame to be sent. Not moved while the kernel may read it: `message` and `vectors` point
/// into it.
pub(crate) struct TxSlot {
    octets: Box<[u8]>,
    len: usize,
    pub(crate) payload: Vec<Bytes>,
    vectors: Vec<libc::iovec>,
    message: libc::msghdr,
}

impl TxSlot {
    /// A slot for frames of an interface of this MTU: what cannot be sliced, an echo reply say,
    /// must fit.
    pub(crate) fn new(mtu: u16) -> Self {
        let room = SLOT.max(usize::from(mtu) + LINK_HEADERS);
        // SAFETY: msghdr is plain data and pointers for which zeros (null) are valid.
        let message = unsafe { zeroed() };
        Self {
            octets: vec![0; VNET_HEADER + room].into(),
            len: 0,
            payload: Vec::new(),
            vectors: Vec::new(),
            message,
        }
    }

    /// Where a machine writes the frame, and its payload.
    pub(crate) fn parts(&mut self) -> (&mut [u8], &mut Vec<Bytes>) {
        (&mut self.octets[VNET_HEADER..], &mut self.payload)
    }

    /// Completes the slot for `frame`.
    pub(crate) fn seal(&mut self, frame: &TxFrame) {
        self.octets[..VNET_HEADER].copy_from_slice(&vnet_header(frame));
        self.len = (VNET_HEADER + frame.len).min(self.octets.len());
    }

    /// What the kernel charges the socket's buffer for the frame, at the most: it rounds small
    /// frames up to the next power of two and large ones to pages, and adds its own headers.
    pub(crate) fn charge(&self) -> usize {
        let body: usize = self.payload.iter().map(Bytes::len).sum();
        let len = self.len + body;
        if len < PAGE { 2 * len + SKB } else { len + PAGE + 2 * SKB }
    }

    /// The whole frame, if it lies in the slot.
    pub(crate) fn contiguous(&self) -> Option<&[u8]> {
        self.payload.is_empty().then(|| &self.octets[..self.len])
    }

    /// The frame as a message of slot and payload slices. Valid until the slot is changed.
    pub(crate) fn gathered(&mut self) -> *const libc::msghdr {
        self.vectors.clear();
        let own = std::iter::once(&self.octets[..self.len]);
        let slices = own.chain(self.payload.iter().map(|slice| &slice[..]));
        self.vectors.extend(slices.map(|slice| libc::iovec {
            iov_base: slice.as_ptr().cast_mut().cast(),
            iov_len: slice.len(),
        }));
        self.message.msg_iov = self.vectors.as_mut_ptr();
        self.message.msg_iovlen = self.vectors.len();
        &raw const self.message
    }

    /// Lets go of the payload: the kernel has copied it.
    pub(crate) fn recycle(&mut self) {
        self.payload.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vnet_header_is_as_virtio_lays_it_out() {
        let plain = TxFrame { len: 60, checksum: None, gso: None };
        assert_eq!(vnet_header(&plain), [0; 10]);
        let frame = TxFrame {
            len: 70,
            checksum: Some(TxChecksum { start: 38, offset: 16 }),
            gso: Some(Gso { kind: GsoKind::TcpV4, size: 1448, header_len: 70 }),
        };
        let mut expected = vec![1, 1];
        for field in [70u16, 1448, 38, 16] {
            expected.extend(field.to_ne_bytes());
        }
        assert_eq!(vnet_header(&frame), *expected);
    }

    #[test]
    fn a_slot_is_one_piece_or_a_gathering() {
        let mut slot = TxSlot::new(1500);
        slot.parts().0[..3].copy_from_slice(b"abc");
        slot.seal(&TxFrame { len: 3, checksum: None, gso: None });
        assert_eq!(&slot.contiguous().unwrap()[VNET_HEADER..], b"abc");
        slot.payload.push(Bytes::from_static(b"defg"));
        assert!(slot.contiguous().is_none());
        slot.gathered();
        let lengths: Vec<usize> = slot.vectors.iter().map(|vector| vector.iov_len).collect();
        assert_eq!(lengths, [VNET_HEADER + 3, 4]);
        slot.recycle();
        assert!(slot.contiguous().is_some());
    }
}
