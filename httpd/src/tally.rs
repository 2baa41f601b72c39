//! What a worker has answered, by class of status, and what it has refused, cut off and ended, each reason by
//! itself: `http` in `status`.

use tagwire_core::counters;
use tagwire_core::counters::add;

use crate::respond::Status;

counters! {
    /// Counters of one worker; they belong to its thread.
    Tally {
        /// Answers of the class 2xx that were given to be sent.
        answers_2xx,
        /// Answers of the class 3xx.
        answers_3xx,
        /// Answers of the class 4xx.
        answers_4xx,
        /// Answers of the class 5xx.
        answers_5xx,
        /// Heads that are no HTTP/1 request, or leave open where the next one begins: 400, 501, 505.
        bad_request,
        /// Heads above [`max_head`](crate::limits::Limits::max_head): 431.
        head_too_large,
        /// Heads above [`max_fields`](crate::limits::Limits::max_fields): 431.
        too_many_fields,
        /// Targets above [`max_target`](crate::limits::Limits::max_target): 414.
        target_too_long,
        /// Bodies above what is read past: 413, or the end in the middle of a chunked one.
        body_refused,
        /// Heads that took longer than [`head_timeout`](crate::limits::Limits::head_timeout): 408.
        head_timeout,
        /// Unfinished heads that had no room beside all the others: 503.
        heads_full,
        /// Requests sent ahead that had no room beside those of others: their connections end.
        pipelines_full,
        /// Bodies that did not end in time.
        body_timeout,
        /// Connections ended as they rested for
        /// [`idle_timeout`](crate::limits::Limits::idle_timeout).
        idle_timeout,
        /// Connections reset as their peers took less than
        /// [`min_rate`](crate::limits::Limits::min_rate) asks for.
        slow_reader,
        /// Connections reset in the middle of a large file, as others waited for memory and their peers
        /// took next to nothing of what held it.
        gave_way,
        /// Connections ended with their [`max_requests`](crate::limits::Limits::max_requests)th answer.
        last_request,
        /// Connections above [`max_connections`](crate::limits::Limits::max_connections): 503.
        over_max_connections,
        /// Connections above [`max_per_address`](crate::limits::Limits::max_per_address): 429.
        over_max_per_address,
        /// Connections above either that were reset without a word, as too many were being told.
        reset_unanswered,
    }
}

/// Where an answer says its class: `HTTP/1.1 200 OK`.
const CLASS: usize = "HTTP/1.1 ".len();

impl Tally {
    /// Counts an answer by its head, which has just been written or copied.
    pub fn answered(&self, head: &[u8]) {
        let counter = match head.get(CLASS) {
            Some(b'2') => &self.answers_2xx,
            Some(b'3') => &self.answers_3xx,
            Some(b'4') => &self.answers_4xx,
            _ => &self.answers_5xx,
        };
        add(counter, 1);
    }

    /// Counts a head that was refused with `status`.
    pub fn refused(&self, status: Status) {
        let counter = match status {
            Status::HeadTooLarge => &self.head_too_large,
            Status::TooManyFields => &self.too_many_fields,
            Status::TargetTooLong => &self.target_too_long,
            Status::ContentTooLarge => &self.body_refused,
            Status::RequestTimeout => &self.head_timeout,
            Status::Unavailable => &self.heads_full,
            _ => &self.bad_request,
        };
        add(counter, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_their_class() {
        let tally = Tally::default();
        for status in
            ["200 OK", "206 Partial Content", "304 Not Modified", "404 Not Found", "503 No"]
        {
            tally.answered(format!("HTTP/1.1 {status}\r\n").as_bytes());
        }
        let counted: Vec<u64> = tally.iter().take(4).map(|(_, count)| count).collect();
        assert_eq!(counted, [2, 1, 1, 1]);
    }
}
