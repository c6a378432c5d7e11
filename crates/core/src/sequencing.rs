//! How the events of a stream follow each other, and the updates of a book.
//!
//! The only things in which feeds differ behind their decoders; a feed's descriptor names them.

use crate::record::Channel;

/// How the events of a stream follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Each event names the one before it, or has the number after it: a jump is a loss.
    Contiguous,
    /// Sequences only rise, with holes: a repeat is seen, a loss is not.
    Rising,
    /// Events replace each other by window: bars of the venue.
    Window,
    /// A whole book on request: compared with the changes of the same book.
    Snapshot,
    /// No rule: passed on.
    Free,
}

/// The rule of each channel of a feed, for events that have a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules([Rule; Channel::NAMES.len()]);

impl Rules {
    /// What most venues do: trades and changes of a book are counted without a hole; quotes,
    /// partial books and marks only rise; bars replace each other.
    pub const USUAL: Self = {
        let mut rules = Self([Rule::Free; Channel::NAMES.len()]);
        rules = rules.with(Channel::Trade, Rule::Contiguous);
        rules = rules.with(Channel::AggTrade, Rule::Contiguous);
        rules = rules.with(Channel::Depth, Rule::Contiguous);
        rules = rules.with(Channel::Quote, Rule::Rising);
        rules = rules.with(Channel::PartialDepth, Rule::Rising);
        rules = rules.with(Channel::Mark, Rule::Rising);
        rules = rules.with(Channel::Kline, Rule::Window);
        rules = rules.with(Channel::Ticker, Rule::Window);
        rules.with(Channel::Snapshot, Rule::Snapshot)
    };

    /// The same rules with that of `channel` replaced.
    #[must_use]
    pub const fn with(mut self, channel: Channel, rule: Rule) -> Self {
        self.0[channel as usize] = rule;
        self
    }

    /// The rule of the channel with that number.
    #[inline]
    pub const fn of(&self, channel: u8) -> Rule {
        if (channel as usize) < self.0.len() {
            self.0[channel as usize]
        } else {
            Rule::Free
        }
    }
}

/// When one update of a book continues another, or a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Continuity {
    /// Ids of an instrument have no holes: the next update starts at most one after the last.
    Adjacent,
    /// Ids are shared between instruments: each update names the last id of the one before it.
    Chained,
}
