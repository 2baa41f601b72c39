//! Explicit congestion notification (RFC 3168 6.1): a queue marks instead of dropping, the
//! receiver echoes it, and the sender answers as it would answer a loss.
//!
//! ```text
//!  data, ECT(0) ──> queue: CE ──> receiver
//!  sender       <── ACK, ECE ...  each one until
//!  data, CWR    ────────────────> it hears that
//! ```

use super::connection::{Connection, Context};
use super::seq::SeqNum;
use crate::wire::ecn::Ecn;
use crate::wire::tcp::{Flags, Segment};

/// One connection's side of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EcnState {
    /// Both sides agreed on it.
    pub(super) enabled: bool,
    /// A mark was received, and the peer has not said yet that it knows (6.1.3).
    echo: bool,
    /// The window was reduced: the next new data says so (6.1.2).
    pub(super) tell_reduced: bool,
    /// What was out at the last reduction. Marks are answered again when something beyond
    /// it is acknowledged: once for each window of data (6.1.2).
    reduced_at: Option<SeqNum>,
}

/// 6.1.1: a SYN offers ECN by both flags. As Linux, not where the packet itself claims to be of
/// such a transport already: an ECN-setup SYN must not, so something rewrites the field on the way.
pub(super) fn is_offered(segment: &Segment<'_>) -> bool {
    segment.flags.has(Flags::ECE.with(Flags::CWR)) && segment.ecn == Ecn::NotEct
}

impl EcnState {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, ..Self::default() }
    }

    /// The flags of a segment that goes out; `new_data`: it has octets that were not sent before.
    pub(super) fn flags(&mut self, new_data: bool) -> Flags {
        let mut flags = Flags::default();
        if self.echo {
            flags = flags.with(Flags::ECE);
        }
        if new_data && std::mem::take(&mut self.tell_reduced) {
            flags = flags.with(Flags::CWR);
        }
        flags
    }

    /// The window was reduced, whatever for, with data up to `next` out.
    pub(super) fn on_reduction(&mut self, next: SeqNum) {
        if self.enabled {
            self.tell_reduced = true;
            self.reduced_at = Some(next);
        }
    }

    /// All before `una` is acknowledged. What lies behind that is forgotten at once: half of the
    /// numbers later it would lie ahead, and marks be ignored for as long.
    fn on_acknowledged(&mut self, una: SeqNum) {
        if self.reduced_at.is_some_and(|at| una.after(at)) {
            self.reduced_at = None;
        }
    }
}

impl Connection {
    /// A segment with data that was found acceptable: its mark, and whether the peer knows of the
    /// last one.
    pub(super) fn take_mark(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) {
        if !self.ecn.enabled || segment.payload.is_empty() {
            return;
        }
        if segment.flags.has(Flags::CWR) {
            self.ecn.echo = false;
        }
        if segment.ecn == Ecn::Ce {
            cx.stats.tcp_ce_in += 1;
            // The sooner it knows the better, as Linux.
            self.ack_now |= !self.ecn.echo;
            self.ecn.echo = true;
        }
    }

    /// An acknowledgement says that marks have arrived, with `prior_in_flight` octets out before
    /// it.
    pub(super) fn take_echo(
        &mut self,
        cx: &mut Context<'_>,
        segment: &Segment<'_>,
        prior_in_flight: u32,
    ) {
        if !self.ecn.enabled {
            return;
        }
        self.ecn.on_acknowledged(self.snd_una);
        let answered = self.ecn.reduced_at.is_some();
        if !segment.flags.has(Flags::ECE) || answered || !self.recovery.is_open() {
            return;
        }
        cx.stats.tcp_ecn_reduced += 1;
        self.recovery.settle();
        self.congestion.on_ecn(cx.now, prior_in_flight);
        self.ecn.on_reduction(self.snd_nxt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_count_again_for_good_once_the_reduction_is_behind() {
        let mut ecn = EcnState::new(true);
        ecn.on_reduction(SeqNum(1000));
        ecn.on_acknowledged(SeqNum(1000));
        assert!(ecn.reduced_at.is_some());
        for una in [1001, 1 << 30, 1 << 31, 3 << 30] {
            ecn.on_acknowledged(SeqNum(una));
            assert!(ecn.reduced_at.is_none(), "{una}");
        }
    }
}
