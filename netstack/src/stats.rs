//! Counters. Every frame that is not used has one that says why.

macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])* $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: u64,)*
        }

        impl $name {
            /// The name of every counter and what it counts, in the order of declaration.
            pub const HELP: &[(&str, &str)] = &[$((stringify!($field), concat!($($doc),*)),)*];

            /// Every counter with its name, in the order of declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }

            /// Everything that was dropped, for whatever reason.
            pub fn drops(&self) -> u64 {
                let drops = self.iter().filter(|(name, _)| name.starts_with("drop_"));
                drops.map(|(_, count)| count).sum()
            }
        }
    };
}

counters! {
    /// What the stack has seen and done since it was made.
    Stats {
        /// Frames handed to [`Stack::handle_frame`](crate::Stack::handle_frame).
        frames_in,
        /// Their octets, without a tag that came beside the frame.
        octets_in,
        /// Of them, those with an IPv4 packet.
        ipv4_in,
        /// Of them, those with an IPv6 packet.
        ipv6_in,
        /// Frames given out by [`Stack::poll_transmit`](crate::Stack::poll_transmit).
        frames_out,
        /// Their octets.
        octets_out,
        /// Dropped: too short for the headers that they announce, or the wrong lengths in them.
        drop_malformed,
        /// Dropped: another VLAN, or tagged where untagged is expected and the reverse.
        drop_vlan,
        /// Dropped: to another station's unicast address.
        drop_mac,
        /// Dropped: an EtherType that is neither ARP nor IPv4.
        drop_ethertype,
        /// Dropped: an IPv4, ICMP or TCP checksum that is wrong.
        drop_checksum,
        /// Dropped: IPv4 to an address that is not ours.
        drop_address,
        /// Dropped: IPv4 to an address of ours that is probed for, or that another station has.
        drop_unusable_in,
        /// Dropped: an outgoing packet from such an address, of either family.
        drop_unusable_out,
        /// Dropped: an IPv4 source that no host may use (RFC 1122 3.2.1.3).
        drop_martian,
        /// Dropped: a fragment that is too small, too large or too many, or to a broadcast.
        drop_fragment,
        /// Dropped: a fragment that overlaps others, or of a datagram in which some did
        /// (RFC 5722).
        drop_fragment_overlap,
        /// Dropped: an IPv4 packet with a source route (RFC 7126).
        drop_options,
        /// Fragments kept until their datagram is whole.
        ip_fragment_in,
        /// Datagrams put together from fragments.
        ip_reassembled,
        /// Incomplete datagrams given up to make room.
        reassembly_evicted,
        /// Incomplete datagrams given up after their time.
        reassembly_timeout,
        /// Dropped: IPv6 extension headers or options beyond the bounds, or that ask for it.
        drop_extension,
        /// TCP segments out of fragments or from behind extension headers, left to who knows
        /// which stack they belong to.
        stray_out,
        /// Such segments taken, from another stack or from this one.
        stray_in,
        /// Dropped: such segments while too many wait.
        drop_stray,
        /// Dropped: an IP protocol or ICMP type that is not served.
        drop_protocol,
        /// Dropped: an outgoing packet for which there is no route.
        drop_no_route,
        /// Dropped: an outgoing packet whose next hop did not answer ARP, or whose queue was full.
        drop_unresolved,
        /// Dropped: an answer (ICMP, RST, ACK) while too many wait to be sent.
        drop_output_full,
        /// ARP requests and replies used.
        arp_in,
        /// ARP requests, replies and announcements sent.
        arp_out,
        /// ARP packets not for us, or not sane.
        arp_ignored,
        /// ARP packets for us beyond what is answered to one station, or to all strangers.
        arp_limited,
        /// Neighbours forgotten to make room.
        neighbor_evicted,
        /// Another station claims our address (RFC 5227).
        arp_conflict,
        /// Announcements in defence of an address.
        arp_defended,
        /// Addresses given up to another station.
        arp_yielded,
        /// Neighbour discovery messages used (RFC 4861).
        nd_in,
        /// Neighbour discovery messages sent.
        nd_out,
        /// Neighbour discovery messages not for us, or not sane.
        nd_ignored,
        /// Neighbor solicitations and advertisements of strangers beyond what is used each second.
        nd_limited,
        /// Another station claims one of our IPv6 addresses (RFC 4862 5.4).
        nd_conflict,
        /// Our own probes for a duplicate address that came back (RFC 7527).
        nd_loop,
        /// Multicast listener queries used (RFC 3810).
        mld_in,
        /// Multicast listener reports sent.
        mld_out,
        /// Multicast listener queries that are not sane.
        mld_ignored,
        /// ICMP echo requests answered.
        icmp_echo,
        /// ICMP errors sent about packets that we got.
        icmp_error_out,
        /// ICMP errors that were due, beyond what is sent each second.
        icmp_limited,
        /// ICMP errors about packets of ours, told to the transport.
        icmp_error_in,
        /// ICMP errors that quote no packet that we can have sent.
        icmp_ignored,
        /// TCP segments received.
        tcp_in,
        /// TCP segments sent; one that is cut by the link counts once.
        tcp_out,
        /// SYNs taken into the half-open table.
        tcp_syn,
        /// SYNs that came again while their handshake is half-open; each gets the same SYN-ACK.
        tcp_syn_again,
        /// Of those, not answered, as more came in a second than serve anybody.
        tcp_syn_again_limited,
        /// SYNs to ports that nobody listens on.
        tcp_syn_refused,
        /// SYNs, and handshakes' last ACKs, dropped as the connection table is full.
        tcp_syn_dropped,
        /// SYNs answered by a cookie (RFC 4987 3.6), as the half-open table was full or held another
        /// SYN of the same ends.
        tcp_cookie_sent,
        /// SYNs turned away as more cookies would have to be sent in a second than serve anybody.
        tcp_cookie_limited,
        /// Connections established by a cookie that came back.
        tcp_cookie_accepted,
        /// Segments that came while cookies were out, belonged to nothing and held none.
        tcp_cookie_rejected,
        /// Connections established.
        tcp_accepted,
        /// Of those, opened by the data in a SYN with a cookie (RFC 7413).
        tcp_fast_open,
        /// Connections ended by the peer's RST.
        tcp_reset_in,
        /// RSTs that reset nothing: with a number that is not exact (RFC 5961 3.2), in TIME-WAIT
        /// (RFC 1337), or of what is not there.
        tcp_reset_ignored,
        /// RSTs sent.
        tcp_reset_out,
        /// RSTs not sent, as too many segments came that belong to nothing.
        tcp_reset_limited,
        /// Segments without SYN, ACK and RST, or with SYN and FIN, to a port that listens: dropped.
        tcp_no_syn,
        /// Segments dropped in silence: without ACK where there is a connection or a half-open one,
        /// with a number that fits no handshake, or the last ACK of what is in TIME-WAIT.
        tcp_ignored,
        /// Connections given up: data, keepalive or SYN-ACK unanswered for too long.
        tcp_timed_out,
        /// Segments sent again, of all causes.
        tcp_retransmit,
        /// Retransmission timeouts.
        tcp_rto,
        /// Entries into fast recovery.
        tcp_fast_retransmit,
        /// Segments, or runs of them, found lost by RACK or duplicate acknowledgements.
        tcp_lost,
        /// Tail loss probes sent (RFC 8985 7).
        tcp_tail_probe,
        /// Tail loss probes that repaired a loss.
        tcp_probe_repaired,
        /// Losses and timeouts that turned out to be none, and were taken back.
        tcp_spurious,
        /// Reports of segments that arrived twice (RFC 2883).
        tcp_dsack_in,
        /// Data received with a mark of congestion (RFC 3168), on connections that agreed on it.
        tcp_ce_in,
        /// Reductions of the window that the peer's echo of such marks asked for.
        tcp_ecn_reduced,
        /// Receivers that threw away what they had selectively acknowledged (RFC 2018 8).
        tcp_reneged,
        /// Duplicate acknowledgements received.
        tcp_dup_ack,
        /// Zero-window probes sent.
        tcp_window_probe,
        /// Keepalive probes sent.
        tcp_keepalive,
        /// Received segments kept out of order.
        tcp_out_of_order,
        /// Received segments with text that had come before; told to the sender by D-SACK
        /// (RFC 2883) where it understands that.
        tcp_duplicate,
        /// Received data dropped: outside the window, or the reassembly queue was full.
        tcp_data_dropped,
        /// Segments dropped by PAWS (RFC 7323 5).
        tcp_paws,
        /// Challenge ACKs sent (RFC 5961).
        tcp_challenge_ack,
        /// Unacceptable segments without data not answered, as the one before was just now.
        tcp_challenge_limited,
        /// ICMP errors about a segment that no connection has in flight, and sizes that are no
        /// smaller than what is sent.
        tcp_icmp_ignored,
        /// ICMP errors about a segment in flight that change nothing (RFC 5461).
        tcp_icmp_soft,
        /// "Packet too big" believed: the connection sends smaller segments (RFC 1191, RFC 8201).
        tcp_path_mtu_lowered,
        /// Full segments vanished again and again, and smaller ones are tried (RFC 4821).
        tcp_black_hole,
        /// Out-of-order data dropped, as all connections together held too much of it.
        tcp_reassembly_full,
        /// Half-open connections given up as memory was short.
        tcp_memory_half_open,
        /// TIME-WAIT records given up as memory was short.
        tcp_memory_time_wait,
        /// Idle connections reset as memory was short.
        tcp_memory_idle,
        /// Connections without progress reset as memory was short.
        tcp_memory_slow,
        /// TIME-WAIT records dropped early to make room.
        tcp_time_wait_overflow,
    }
}
