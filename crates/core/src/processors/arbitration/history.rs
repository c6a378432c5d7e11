//! Trades that the venue's history gave, beside those that came live: each is passed on once.

use super::event::Event;
use super::streams::{Streams, Verdict, HISTORY, MISSING, SEEN};

impl Streams {
    /// A trade from before all that was seen live: new unless it came before.
    pub(super) fn judge_early(&mut self, place: usize, sequence: u64) -> Verdict {
        let history = &mut self.trouble(place).history;
        if history.contains(sequence) {
            return Verdict::Duplicate;
        }
        history.insert(sequence, sequence);
        Verdict::Early
    }

    pub(super) fn judge_history(&mut self, place: usize, event: &Event) -> Verdict {
        let stream = *self.at(place);
        if !event.is_trade() {
            return Verdict::Pass;
        }
        if stream.state & SEEN == 0 {
            self.at(place).state |= HISTORY;
        } else if event.sequence >= stream.first {
            if stream.state & MISSING != 0 && self.trouble(place).missing.contains(event.sequence) {
                return self.fill(place, event.sequence);
            }
            // Either passed on already, or still to come live.
            return Verdict::Duplicate;
        }
        match self.judge_early(place, event.sequence) {
            Verdict::Early => Verdict::Pass,
            other => other,
        }
    }

    /// Whether the live event `sequence` was passed on as history before.
    pub(super) fn is_known_history(&mut self, place: usize, sequence: u64) -> bool {
        let history = &self.trouble(place).history;
        let (known, highest) = (history.contains(sequence), history.highest());
        if highest.is_none_or(|highest| highest <= sequence) {
            self.at(place).state &= !HISTORY;
        }
        known
    }
}
