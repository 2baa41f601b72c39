//! How much the path delivers, and how fast (draft-ietf-ccwg-bbr, "Delivery Rate Samples").
//!
//! Each departure notes what had been delivered by then. When its acknowledgement comes, the
//! difference over the time in between is a sample of the rate. The time is the longer of two,
//! that in which the octets left and that in which they were acknowledged, so that neither
//! acknowledgements that come in a bunch nor data that left in one overstate it.

use std::time::Duration;

use super::congestion::RateSample;
use super::sent::{Departure, Piece};
use super::seq::SeqNum;
use crate::time::Instant;

/// The connection's counts.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Octets delivered so far, cumulatively or selectively acknowledged.
    pub(crate) delivered: u64,
    /// Octets found lost so far.
    pub(crate) lost: u64,
    delivered_at: Instant,
    first_at: Instant,
    /// When anything last left.
    pub(crate) last_departure: Instant,
    /// What leaves until so much is delivered leaves from an empty queue; 0: does not.
    app_limited_until: u64,
}

impl Delivery {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            lost: 0,
            delivered_at: now,
            first_at: now,
            last_departure: now,
            app_limited_until: 0,
        }
    }

    /// `octets` leave, with `in_flight` before them.
    pub(crate) fn depart(&mut self, now: Instant, in_flight: u32, octets: u32) -> Departure {
        if in_flight == 0 {
            self.first_at = now;
            self.delivered_at = now;
        }
        self.last_departure = now;
        Departure {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_at: self.first_at,
            lost: self.lost,
            in_flight: in_flight + octets,
            app_limited: self.app_limited_until > 0,
        }
    }

    /// The queue is empty though the windows have room.
    pub(crate) fn limit_by_application(&mut self, in_flight: u32) {
        self.app_limited_until = (self.delivered + u64::from(in_flight)).max(1);
    }

    /// Counts what an acknowledgement received at `now` brought, and takes the sample of its
    /// newest piece.
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        min_rtt: Option<Duration>,
    ) -> Option<RateSample> {
        self.delivered += u64::from(arrived.octets);
        if self.app_limited_until > 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let newest = arrived.newest?.departure;
        self.delivered_at = now;
        self.first_at = newest.at;
        let sent_in = newest.at.since(newest.first_at);
        let acknowledged_in = now.since(newest.delivered_at);
        let interval = sent_in.max(acknowledged_in);
        // Less than a round trip: the newest piece was sent again, and it was the first copy
        // that arrived.
        if interval.is_zero() || min_rtt.is_some_and(|least| interval < least) {
            return None;
        }
        Some(RateSample {
            delivered: self.delivered - newest.delivered,
            interval,
            prior_delivered: newest.delivered,
            tx_in_flight: newest.in_flight,
            lost: self.lost - newest.lost,
            app_limited: newest.app_limited,
        })
    }
}

/// What one acknowledgement showed to have arrived.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) octets: u32,
    /// The piece that left last.
    pub(crate) newest: Option<Piece>,
    /// Of the pieces sent once: when the first and the last of them left.
    pub(crate) first_original: Option<Instant>,
    pub(crate) last_original: Option<Instant>,
    /// The end of the last of those.
    pub(crate) original_end: Option<SeqNum>,
    /// Something is here that had been taken for lost, and was not sent again.
    pub(crate) recanted: bool,
}

impl Arrived {
    /// It is not known when any of it arrived.
    pub(crate) fn forget_round_trips(&mut self) {
        self.first_original = None;
        self.last_original = None;
    }

    pub(crate) fn note(&mut self, piece: Piece) {
        self.octets += piece.octets;
        if self.newest.is_none_or(|newest| left_after(&piece, &newest)) {
            self.newest = Some(piece);
        }
        if !piece.retransmitted {
            self.recanted |= piece.lost;
            let at = piece.departure.at;
            self.first_original = Some(self.first_original.map_or(at, |first| first.min(at)));
            self.last_original = Some(self.last_original.map_or(at, |last| last.max(at)));
            self.original_end =
                Some(self.original_end.map_or(piece.end, |end| end.latest(piece.end)));
        }
    }
}

fn left_after(a: &Piece, b: &Piece) -> bool {
    a.departure.at > b.departure.at || a.departure.at == b.departure.at && a.end.after(b.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn acknowledge(
        delivery: &mut Delivery,
        now: u64,
        departures: &[(u32, Departure)],
    ) -> Option<RateSample> {
        let mut arrived = Arrived::default();
        for (index, (octets, departure)) in departures.iter().enumerate() {
            arrived.note(Piece {
                octets: *octets,
                end: SeqNum(index as u32),
                retransmitted: false,
                lost: false,
                departure: *departure,
            });
        }
        delivery.on_ack(at(now), &arrived, None)
    }

    #[test]
    fn the_rate_is_what_arrived_in_a_round_trip() {
        let mut delivery = Delivery::new(at(0));
        let a = delivery.depart(at(0), 0, 1000);
        let b = delivery.depart(at(1), 1000, 1000);
        let sample = acknowledge(&mut delivery, 10, &[(1000, a)]).unwrap();
        assert_eq!((sample.delivered, sample.interval), (1000, Duration::from_millis(10)));
        let sample = acknowledge(&mut delivery, 11, &[(1000, b)]).unwrap();
        assert_eq!((sample.delivered, sample.interval), (2000, Duration::from_millis(11)));
        assert_eq!((sample.tx_in_flight, sample.app_limited), (2000, false));
    }

    #[test]
    fn acknowledgements_in_a_bunch_do_not_overstate_it() {
        let mut delivery = Delivery::new(at(0));
        let sent: Vec<_> = (0..10).map(|k| (100, delivery.depart(at(k), 100, 100))).collect();
        let sample = acknowledge(&mut delivery, 9, &sent).unwrap();
        assert_eq!((sample.delivered, sample.interval), (1000, Duration::from_millis(9)));
    }

    #[test]
    fn an_empty_queue_marks_what_leaves_until_all_before_it_is_delivered() {
        let mut delivery = Delivery::new(at(0));
        let a = delivery.depart(at(0), 0, 100);
        delivery.limit_by_application(100);
        let b = delivery.depart(at(5), 100, 100);
        assert!(!a.app_limited && b.app_limited);
        acknowledge(&mut delivery, 10, &[(100, a)]);
        assert!(acknowledge(&mut delivery, 15, &[(100, b)]).unwrap().app_limited);
        assert!(!delivery.depart(at(16), 0, 100).app_limited);
    }
}
