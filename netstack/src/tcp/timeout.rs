//! What a connection does when one of its timers is due.

use std::time::Duration;

use super::connection::{CloseReason, Connection, Context, Outcome, State};
use super::sent::{Fate, Sent};
use super::timer::Timer;
use crate::config::TcpConfig;

/// RFC 5482 3.1: U_LIMIT. No peer makes us hold what it does not acknowledge for longer.
const MAX_USER_TIMEOUT: Duration = Duration::from_secs(300);

impl Connection {
    /// RFC 5482 3.1: min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT)), where our own timeout is
    /// both what we would advertise and the lower limit: a peer can only ask for more.
    fn user_timeout(&self, config: &TcpConfig) -> Duration {
        match self.peer_timeout {
            Some(seconds) => Duration::from_secs(u64::from(seconds))
                .min(MAX_USER_TIMEOUT)
                .max(config.user_timeout),
            None => config.user_timeout,
        }
    }

    pub(crate) fn on_timers(&mut self, cx: &mut Context<'_>) -> Outcome {
        if self.timers.take_due(Timer::DelayedAck, cx.now) {
            self.ack_now = true;
        }
        if self.timers.take_due(Timer::Linger, cx.now) {
            return Outcome::Close(CloseReason::TimedOut);
        }
        // Its turn to send comes with this step.
        self.timers.take_due(Timer::Pacing, cx.now);
        if self.timers.take_due(Timer::Reorder, cx.now) {
            self.on_reorder_timeout(cx);
        }
        if self.timers.take_due(Timer::Probe, cx.now) {
            self.on_probe_timeout(cx);
        }
        if self.timers.take_due(Timer::Retransmit, cx.now) {
            let outcome = self.on_retransmission_timeout(cx);
            if outcome != Outcome::Continue {
                return outcome;
            }
        }
        if self.timers.take_due(Timer::Persist, cx.now) {
            if cx.now.since(self.last_heard) > self.user_timeout(cx.config) {
                return Outcome::Abort(CloseReason::TimedOut);
            }
            if self.snd_wnd > 0 {
                // RFC 9293 3.8.6.2.1 (4): the override timeout. The window is smaller than is
                // worth a segment, and stays so.
                self.sws_override = true;
            } else {
                // RFC 9293 3.8.6.1: probe, at growing intervals. The next output arms it again
                // while the window stays closed.
                self.persist_backoff = self.persist_backoff.saturating_add(1);
                self.probe = true;
                cx.stats.tcp_window_probe += 1;
            }
        }
        if self.timers.take_due(Timer::Keepalive, cx.now) {
            return self.on_keepalive(cx);
        }
        Outcome::Continue
    }

    /// RFC 6298 (5.4) to (5.6).
    fn on_retransmission_timeout(&mut self, cx: &mut Context<'_>) -> Outcome {
        if !self.has_outstanding() {
            return Outcome::Continue;
        }
        // A peer that answers but keeps its window closed is alive.
        let alive_at = if self.snd_wnd == 0 { self.last_heard } else { self.last_progress };
        if cx.now.since(alive_at.max(self.last_progress)) > self.user_timeout(cx.config) {
            return Outcome::Abort(CloseReason::TimedOut);
        }
        cx.stats.tcp_rto += 1;
        let prior_in_flight = self.in_flight();
        if self.sent.is_reneged() {
            // RFC 2018 8.
            cx.stats.tcp_reneged += 1;
            self.sent.forget_sacks();
        }
        // All that is out is lost, but for what left so late that it cannot be known (as Linux);
        // the first in any case.
        let (rack, first, now) = (&self.recovery.rack, self.snd_una + self.mss, cx.now);
        let judge = |record: &Sent| {
            let lost = record.end.at_or_before(first) || rack.may_be_lost(record.departure.at, now);
            if lost { Fate::Lost } else { Fate::Wait }
        };
        let mut lost = 0;
        self.sent.detect(judge, |piece| lost += u64::from(piece.octets));
        self.delivery.lost += lost;
        let known = self.recovery.enter_timeout(self.snd_una, self.snd_nxt);
        self.congestion.on_timeout(cx.now, prior_in_flight, known);
        self.ecn.on_reduction(self.snd_nxt);
        self.rtt.back_off();
        self.suspect_black_hole(cx);
        self.timers.stop(Timer::Reorder);
        self.timers.stop(Timer::Probe);
        self.timers.set(Timer::Retransmit, cx.now + self.rtt.rto(cx.config));
        Outcome::Continue
    }

    /// RFC 9293 3.8.4.
    fn on_keepalive(&mut self, cx: &mut Context<'_>) -> Outcome {
        let config = cx.config;
        let silent_since = self.last_heard + config.keepalive_idle;
        if silent_since > cx.now || self.has_outstanding() || self.send.len() > 0 {
            // Data on its way asks the same question, by its own timers.
            let next = silent_since.max(cx.now + config.keepalive_interval);
            self.timers.set(Timer::Keepalive, next);
        } else if self.keepalives_unanswered == config.keepalive_probes {
            return Outcome::Abort(CloseReason::TimedOut);
        } else {
            self.keepalives_unanswered += 1;
            self.probe = true;
            cx.stats.tcp_keepalive += 1;
            self.timers.set(Timer::Keepalive, cx.now + config.keepalive_interval);
        }
        debug_assert!(self.state != State::Closed);
        Outcome::Continue
    }
}
