//! What the operator is told of lines that are lost: never often, whatever happens.

use std::fmt::Display;
use std::mem;
use std::time::{Duration, Instant};

/// What is said is this far apart.
const INTERVAL: Duration = Duration::from_secs(60);

/// Says now and then how many lines are lost and why, and that none are any more.
#[derive(Default)]
pub(super) struct Complaints {
    /// When something was said last.
    said: Option<Instant>,
    /// Lost lines that nothing was said of.
    unsaid: u64,
    /// Lost lines so far that had found no room.
    dropped: u64,
    trouble: bool,
}

impl Complaints {
    /// So many lines have found no room, from the start.
    pub(super) fn dropped(&mut self, so_far: u64) {
        let lost = so_far - mem::replace(&mut self.dropped, so_far);
        if lost > 0 {
            self.failed(lost, &"they come faster than they are taken");
        }
    }

    /// So many lines could not be written.
    pub(super) fn failed(&mut self, lost: u64, why: &dyn Display) {
        self.trouble = true;
        self.unsaid += lost;
        if self.may_speak() {
            let lost = mem::take(&mut self.unsaid);
            tracing::error!(
                lost,
                %why,
                "the access log loses lines: see to its disk or its reader; requests are answered \
                 all the same"
            );
        }
    }

    /// Lines were written.
    pub(super) fn fine(&mut self) {
        if self.trouble && self.may_speak() {
            self.trouble = false;
            let lost = mem::take(&mut self.unsaid);
            tracing::info!(lost, "the access log can be written again");
        }
    }

    /// Nothing will be said any more.
    pub(super) fn last(&mut self) {
        if self.unsaid > 0 {
            tracing::error!(lost = self.unsaid, "the access log has lost lines");
        }
    }

    fn may_speak(&mut self) -> bool {
        let now = Instant::now();
        let may = self.said.is_none_or(|said| now.duration_since(said) >= INTERVAL);
        if may {
            self.said = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_at_most_is_said_in_a_while() {
        let mut complaints = Complaints::default();
        complaints.fine();
        assert!(complaints.said.is_none(), "there is nothing to say");
        complaints.failed(2, &"full");
        let said = complaints.said;
        assert!(said.is_some() && complaints.unsaid == 0);
        complaints.failed(3, &"full");
        complaints.dropped(10);
        complaints.dropped(10);
        complaints.dropped(11);
        complaints.fine();
        assert_eq!((complaints.said, complaints.unsaid), (said, 14));
        assert!(complaints.trouble, "that it is over is said later");
        complaints.said = Instant::now().checked_sub(INTERVAL);
        complaints.fine();
        assert!(!complaints.trouble && complaints.unsaid == 0);
    }
}
