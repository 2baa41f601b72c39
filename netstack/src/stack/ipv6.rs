//! IPv6 in the stack: packets in, and what neighbour discovery has to say.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::{Stack, is_udp_sound};
use crate::config::{Acd, Config, IpCidr, Ipv6Cidr, MacAddr};
use crate::entropy::Keys;
use crate::frame::{Checksum, FrameMeta, Transmit};
use crate::ip::reassembly::{self, Key};
use crate::ip::v6;
use crate::ip::v6::icmp::Fault;
use crate::ip::v6::ingress::Admitted;
use crate::ip::v6::{Ipv6, Out, Received, Settings, Told};
use crate::limit::TokenBucket;
use crate::link::acd::{AddressEvent, AddressState};
use crate::link::neighbor::Heard;
use crate::time::Instant;
use crate::wire::ethernet::{self, Frame};
use crate::wire::ipv6::{self, Header, MIN_MTU, NEXT_ICMPV6, NEXT_TCP, NEXT_UDP, Packet};
use crate::wire::ipv6_ext::{self, Chain, Refusal, Upper};
use crate::wire::mld::ROUTER_ALERT;
use crate::wire::ndp::{TYPE_ADVERTISEMENT, TYPE_SOLICITATION};
use crate::wire::{WireError, icmpv6, tcp as wire_tcp};

/// What stations that are not in the neighbour table may cost, as with ARP.
#[derive(Debug)]
pub(super) struct Limits {
    questions: TokenBucket,
    answers: TokenBucket,
}

/// Messages of strangers at once and each second: as ARP's.
const BURST: u32 = 256;
const INTERVAL: Duration = Duration::from_millis(1);
/// What our messages of neighbour discovery are sent with, so that no router forwards them.
const DISCOVERY_HOP_LIMIT: u8 = 255;
/// RFC 3810 5.
const LISTENER_HOP_LIMIT: u8 = 1;

impl Default for Limits {
    fn default() -> Self {
        let bucket = TokenBucket::new(BURST, INTERVAL);
        Self { questions: bucket, answers: bucket }
    }
}

/// IPv6 as configured; `None`: it is off.
pub(super) fn from_config(config: &Config, keys: Keys, mtu: usize, now: Instant) -> Option<Ipv6> {
    let addresses: Vec<Ipv6Cidr> = config
        .addresses
        .iter()
        .filter_map(|cidr| match cidr {
            IpCidr::V4(_) => None,
            IpCidr::V6(cidr) => Some(*cidr),
        })
        .collect();
    if addresses.is_empty() && !config.slaac || mtu < MIN_MTU {
        return None;
    }
    let [a, b] = config.vlan.outer().unwrap_or(0).to_be_bytes();
    let [c, d] = config.vlan.inner().unwrap_or(0).to_be_bytes();
    let settings = Settings {
        mac: config.mac,
        mtu,
        addresses,
        gateway: config.gateway6,
        slaac: config.slaac,
        strict: config.acd == Acd::Strict,
        keys,
        stable_secret: config.stable_secret,
        network: [a, b, c, d],
    };
    Some(Ipv6::new(settings, now))
}

/// RFC 9293 3.7.1: MTU less the headers without options.
pub(super) fn mss(mtu: usize) -> u16 {
    mtu.saturating_sub(ipv6::HEADER_LEN + wire_tcp::HEADER_LEN) as u16
}

impl Stack {
    /// Lends IPv6 the outbox and the counters.
    fn with_ipv6<T>(&mut self, step: impl FnOnce(&mut Ipv6, &mut Out<'_>) -> T) -> Option<T> {
        let mut out =
            Out { passive: self.passive, outbox: &mut self.outbox, stats: &mut self.stats };
        self.ipv6.as_mut().map(|ipv6| step(ipv6, &mut out))
    }

    // ---- in ------------------------------------------------------------------------------

    pub(super) fn on_ipv6(&mut self, now: Instant, frame: &Frame<'_>, meta: &FrameMeta) {
        let Some(ipv6) = &self.ipv6 else {
            self.stats.drop_ethertype += 1;
            return;
        };
        let Some(admitted) = ipv6.admit(&mut self.stats, frame.payload) else { return };
        let alone = !frame.destination.is_group();
        // As for IPv4 (RFC 1122 3.3.6): a sender that knows our address knows our MAC.
        if admitted.unicast && !alone {
            self.stats.drop_address += 1;
            return;
        }
        let packet = &admitted.packet;
        match ipv6_ext::walk(packet) {
            Ok(Chain::Upper(upper)) => self.on_upper(now, frame, meta, &admitted, &upper),
            Ok(Chain::Fragment(part)) => self.on_fragment(now, frame, meta, &admitted, &part),
            Ok(Chain::Nothing) => self.stats.drop_protocol += 1,
            Err(Refusal::Malformed) => self.stats.drop_malformed += 1,
            Err(Refusal::TooLong | Refusal::Discard) => self.stats.drop_extension += 1,
            Err(Refusal::Problem(problem)) => {
                self.stats.drop_extension += 1;
                let fault = Fault::from(problem);
                self.with_ipv6(|ipv6, out| ipv6.complain(now, packet, alone, fault, out));
            }
        }
    }

    /// RFC 8200 4.5. What is put together is taken, or dropped without an error: nobody has
    /// the packet that one would quote.
    fn on_fragment(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        meta: &FrameMeta,
        admitted: &Admitted<'_>,
        part: &ipv6_ext::Fragment<'_>,
    ) {
        if !admitted.unicast || admitted.contends {
            self.stats.drop_fragment += 1;
            return;
        }
        let Header { source, destination, .. } = admitted.packet.header;
        let id = part.identification;
        // RFC 8200 4.5: addresses and identification name it; the first fragment's protocol
        // counts.
        let key = Key { source: source.into(), destination: destination.into(), id, protocol: 0 };
        let fragment = reassembly::Fragment {
            offset: part.offset,
            more: part.more,
            payload: part.payload,
            next: part.next_header,
            quote: &[],
            most: usize::from(u16::MAX),
            traffic_class: admitted.packet.traffic_class,
        };
        let whole = self.reassembly.insert(now, key, &fragment, &mut self.stats);
        let Some(whole) = whole else { return };
        let meta = FrameMeta { checksum: Checksum::Unverified, ..*meta };
        match ipv6_ext::walk_reassembled(whole.next, &whole.payload) {
            // RFC 6980 5: neighbour discovery does not come in fragments; nor does MLD.
            Ok(Chain::Upper(upper))
                if upper.protocol == NEXT_ICMPV6
                    && upper.payload.first().is_some_and(|kind| (130..=143).contains(kind)) =>
            {
                self.stats.nd_ignored += 1;
            }
            Ok(Chain::Upper(upper)) if [NEXT_TCP, NEXT_ICMPV6].contains(&upper.protocol) => {
                let traffic_class = whole.traffic_class;
                let packet = Packet { traffic_class, ..admitted.packet };
                let admitted = Admitted { packet, ..*admitted };
                self.on_upper(now, frame, &meta, &admitted, &upper);
            }
            Ok(_) => self.stats.drop_protocol += 1,
            Err(Refusal::Malformed) => self.stats.drop_malformed += 1,
            Err(_) => self.stats.drop_extension += 1,
        }
    }

    fn on_upper(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        meta: &FrameMeta,
        admitted: &Admitted<'_>,
        upper: &Upper<'_>,
    ) {
        let &Admitted { packet, unicast, contends } = admitted;
        let Header { source, destination, .. } = packet.header;
        match upper.protocol {
            NEXT_ICMPV6 => self.on_icmpv6(now, frame, admitted, upper),
            _ if contends => self.stats.drop_martian += 1,
            NEXT_TCP if unicast => {
                let ends = (source.into(), destination.into());
                let (station, traffic_class) = (frame.source, packet.traffic_class);
                // The fixed header names TCP itself: neither fragments nor extension headers.
                if packet.header.next_header == NEXT_TCP {
                    self.on_segment(now, station, meta, ends, traffic_class, upper.payload);
                } else {
                    self.on_detoured(now, station, meta, ends, traffic_class, upper.payload);
                }
            }
            _ => {
                let ends = (source.into(), destination.into());
                let udp = upper.protocol == NEXT_UDP;
                if udp && !is_udp_sound(&mut self.stats, meta, ends, upper.payload) {
                    return;
                }
                self.stats.drop_protocol += 1;
                let alone = unicast && !frame.destination.is_group();
                let fault = Fault::unserved(upper);
                self.with_ipv6(|ipv6, out| ipv6.complain(now, &packet, alone, fault, out));
            }
        }
    }

    fn on_icmpv6(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        admitted: &Admitted<'_>,
        upper: &Upper<'_>,
    ) {
        let &Admitted { packet, unicast, contends } = admitted;
        let Header { source, destination, hop_limit, .. } = packet.header;
        let message = match icmpv6::parse(source, destination, upper.payload) {
            Ok(message) => message,
            Err(WireError::Checksum) => {
                self.stats.drop_checksum += 1;
                return;
            }
            Err(WireError::Malformed) => {
                self.stats.drop_malformed += 1;
                return;
            }
        };
        // Who has no address yet, or says that ours is its own, may speak of that only.
        if contends && !matches!(message.kind, TYPE_SOLICITATION | TYPE_ADVERTISEMENT) {
            self.stats.drop_martian += 1;
        } else if Ipv6::is_link_message(message.kind) && upper.fragment_header {
            // RFC 6980 5: also in a packet of one fragment.
            self.stats.nd_ignored += 1;
        } else if Ipv6::is_link_message(message.kind) {
            let router_alert = upper.router_alert;
            let station = frame.source;
            let received =
                Received { source, destination, hop_limit, router_alert, station, message };
            self.on_link_message(now, &received);
        } else {
            let about = self.with_ipv6(|ipv6, out| {
                ipv6.on_message(source, destination, unicast, &message, out)
            });
            if let Some(error) = about.flatten() {
                self.on_segment_error(now, &error);
            }
        }
    }

    fn on_link_message(&mut self, now: Instant, received: &Received<'_>) {
        let source = IpAddr::V6(received.source);
        // What came through a router is not used at all (RFC 4861 7.1.1), and takes nothing from
        // those that ask on the link.
        let near = received.hop_limit == DISCOVERY_HOP_LIMIT;
        let asks = received.message.kind == TYPE_SOLICITATION && !received.source.is_unspecified();
        if near && asks {
            let granted = match self.neighbors.may_answer(now, source) {
                Some(due) => due,
                None => self.nd_limits.questions.take(now),
            };
            if !granted {
                self.stats.nd_limited += 1;
                return;
            }
        }
        let told = self.with_ipv6(|ipv6, out| ipv6.on_link_message(now, received, out));
        self.apply_mtu_v6();
        self.addresses_changed_v6(now);
        let Some(told) = told.flatten() else { return };
        let (address, mac, heard) = match told {
            Told::Question { address, mac } => (IpAddr::V6(address), mac, Heard::Question),
            Told::Advertised { address, mac, solicited, override_cached } => {
                let address = IpAddr::V6(address);
                let known = self.neighbors.mac(address);
                // RFC 4861 7.2.5: an answer without an address confirms the one that is known;
                // one that must not override makes it doubtful, and changes nothing else.
                let Some(mac) = mac.or(known) else { return };
                if known.is_some_and(|known| known != mac) && !override_cached {
                    self.neighbors.doubt(address);
                    return;
                }
                let stranger = !self.neighbors.contains(address);
                if stranger && !self.nd_limits.answers.take(now) {
                    self.stats.nd_limited += 1;
                    return;
                }
                (address, mac, if solicited { Heard::Answer } else { Heard::Announcement })
            }
        };
        let released = self.neighbors.learn(now, address, mac, heard, &mut self.stats);
        self.release_waiting(released);
    }

    pub(super) fn mtu_v6(&self) -> usize {
        self.ipv6.as_ref().map_or(MIN_MTU, Ipv6::mtu)
    }

    /// Connections that begin from now on fit what a router has said of the link.
    fn apply_mtu_v6(&mut self) {
        let mss = mss(self.mtu_v6());
        self.tcp.set_mss_v6(mss);
    }

    // ---- out -----------------------------------------------------------------------------

    /// Asks for an IPv6 neighbour.
    pub(super) fn solicit(&mut self, to: MacAddr, target: Ipv6Addr) {
        self.with_ipv6(|ipv6, out| ipv6.solicit(out, to, target));
    }

    /// The neighbour to hand a packet for `destination` to.
    pub(super) fn next_hop_v6(&self, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        let silent = |hop| self.neighbors.is_silent(IpAddr::V6(hop));
        self.ipv6.as_ref()?.next_hop(destination, silent)
    }

    /// Writes the Ethernet and IPv6 headers; returns where the payload begins.
    pub(super) fn write_ipv6(
        &self,
        buffer: &mut [u8],
        to: MacAddr,
        header: &Header,
        payload_len: usize,
    ) -> usize {
        let ethertype = ethernet::ETHERTYPE_IPV6;
        let start = ethernet::emit(buffer, to, self.mac, self.tags, ethertype);
        start + ipv6::emit(&mut buffer[start..], header, payload_len)
    }

    /// A header for a packet of ours to a host that may be far away.
    pub(super) fn header_v6(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        next_header: u8,
        flow_label: u32,
    ) -> Header {
        let hop_limit = self.ipv6.as_ref().map_or(ipv6::HOP_LIMIT, Ipv6::hop_limit);
        Header { source, destination, next_header, hop_limit, flow_label }
    }

    /// Writes a message of neighbour or multicast listener discovery.
    pub(super) fn write_discovery(
        &self,
        buffer: &mut [u8],
        to: MacAddr,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        message: &[u8],
        router_alert: bool,
    ) -> Transmit {
        let extension: &[u8] = if router_alert { &ROUTER_ALERT } else { &[] };
        let header = Header {
            source,
            destination,
            // Hop-by-hop options have number 0.
            next_header: if router_alert { 0 } else { NEXT_ICMPV6 },
            hop_limit: if router_alert { LISTENER_HOP_LIMIT } else { DISCOVERY_HOP_LIMIT },
            flow_label: 0,
        };
        let length = extension.len() + message.len();
        let start = self.write_ipv6(buffer, to, &header, length);
        let (first, rest) = buffer[start..start + length].split_at_mut(extension.len());
        first.copy_from_slice(extension);
        rest.copy_from_slice(message);
        Transmit { len: start + length, checksum: None, segmentation: None }
    }

    // ---- time and state ------------------------------------------------------------------

    pub(super) fn next_timeout_v6(&self) -> Option<Instant> {
        // While the link is down nothing is probed; it begins anew when it is back.
        self.ipv6.as_ref().filter(|_| self.link_up)?.next_timeout()
    }

    pub(super) fn handle_timeout_v6(&mut self, now: Instant) {
        if self.link_up {
            self.with_ipv6(|ipv6, out| ipv6.handle_timeout(now, out));
            self.addresses_changed_v6(now);
        }
    }

    /// The link is back.
    pub(super) fn restart_v6(&mut self, now: Instant) {
        self.with_ipv6(|ipv6, _| ipv6.restart(now));
        self.addresses_changed_v6(now);
    }

    /// Tells what has become of addresses.
    pub(super) fn addresses_changed_v6(&mut self, now: Instant) {
        let Some(ipv6) = &mut self.ipv6 else { return };
        for (address, state) in ipv6.addresses.take_changes() {
            self.note_event(now, AddressEvent { address: address.into(), state: plain(state) });
        }
    }

    /// Our IPv6 addresses as [`address_states`](Self::address_states) says them: one that is
    /// probed alongside is in use.
    pub(super) fn address_states_v6(&self) -> impl Iterator<Item = (IpAddr, AddressState)> {
        let states = self.ipv6.iter().flat_map(|ipv6| ipv6.addresses.iter());
        states.map(|(address, state)| (address.into(), plain(state)))
    }

    /// The Ethernet groups whose frames the stack needs: the all-nodes group and the
    /// solicited-node groups of its IPv6 addresses (RFC 2464 7); none without IPv6. They change
    /// with the addresses; a driver that filters groups subscribes to these
    /// (`PACKET_ADD_MEMBERSHIP`).
    pub fn multicast_macs(&self) -> Vec<MacAddr> {
        self.ipv6.iter().flat_map(|ipv6| ipv6.multicast_macs()).collect()
    }
}

fn plain(state: v6::AddressState) -> AddressState {
    match state {
        v6::AddressState::Tentative => AddressState::Tentative,
        v6::AddressState::Optimistic | v6::AddressState::Preferred => AddressState::Assigned,
        v6::AddressState::Duplicate { by } => AddressState::Conflicted { by },
    }
}
