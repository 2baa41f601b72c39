//! Where the two differ, and why that is right. A difference that is not here fails the suite,
//! and so does a line here that is no longer true.

use crate::subjects::Name;

/// A case that one subject does not pass.
pub(crate) struct Difference {
    pub(crate) case: &'static str,
    pub(crate) who: Name,
    pub(crate) why: &'static str,
}

pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "rfc9293_3_10_7_4_established_urgent_pointer_is_no_harm",
        who: Name::Linux,
        why: "BSD sockets take the octet at the urgent pointer out of the stream, so that nginx \
              sees a request that lacks a letter. RFC 6093 6 wants it left in line, as Tagwire \
              does: no HTTP client means anything by it, and a request must not depend on it.",
    },
    Difference {
        case: "rfc9293_3_10_7_4_fin_wait_2_rst_outside_window_is_dropped",
        who: Name::Linux,
        why: "An orphan in FIN-WAIT-2 is a time-wait record, which checks the window before the \
              RST bit and answers by an ACK. RFC 9293 3.10.7.4, first: no answer to a RST.",
    },
    Difference {
        case: "rfc9293_3_6_1_should_3_fin_wait_1_text_after_close_is_answered_by_rst",
        who: Name::Tagwire,
        why: LINGER,
    },
    Difference {
        case: "rfc9293_3_6_1_should_3_fin_wait_2_text_after_close_is_answered_by_rst",
        who: Name::Tagwire,
        why: LINGER,
    },
    Difference {
        case: "rfc1122_3_2_1_3_must_source_of_all_hosts_of_the_network_is_dropped",
        who: Name::Linux,
        why: "Without rp_filter it does not look its own networks up for a source address, and \
              answers to 192.168.123.255. RFC 1122 3.2.1.3: such a source is to be dropped; an \
              answer would go to all.",
    },
    Difference {
        case: "rfc8200_3_other_destination_is_dropped",
        who: Name::Linux,
        why: "It routes what is not for it, finds no way, and says so (ICMPv6 1/0) though it is no \
              router. To a host such a packet came by mistake: to be silent tells nobody where \
              it is.",
    },
    Difference {
        case: "rfc5227_2_4_b_conflict_is_defended",
        who: Name::Linux,
        why: "The kernel detects no conflicts of IPv4 addresses: whoever claims one has it. Tagwire \
              is the only one that can know on its VLAN.",
    },
];

const LINGER: &str = "nginx has closed both directions, Tagwire only its own: RFC 9112 9.6 has a \
     server read on for a while, since a RST for a pipelined request would throw away what the \
     client has not read of the last response. It ends after five seconds, or 256 KiB.";
