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
    /// Events have no number. Two that say the same, their own time among it, are one where they
    /// came on two lines: each line brings an event once for every time that the venue said it.
    Alike,
    /// No rule: passed on.
    Free,
}

/// The rule of each channel of a feed, for events that have a sequence, and that of trades and
/// quotes that have none, and of states of trading and corrections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    by_channel: [Rule; Channel::NAMES.len()],
    unnumbered: Rule,
}

impl Rules {
    /// What most venues do: trades and changes of a book are counted without a hole; quotes,
    /// partial books and marks only rise; bars replace each other.
    pub const USUAL: Self = {
        let by_channel = [Rule::Free; Channel::NAMES.len()];
        let mut rules = Self { by_channel, unnumbered: Rule::Free };
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
        self.by_channel[channel as usize] = rule;
        self
    }

    /// The same rules with that of trades and quotes without a sequence replaced.
    #[must_use]
    pub const fn with_unnumbered(mut self, rule: Rule) -> Self {
        self.unnumbered = rule;
        self
    }

    /// The rule of an event of that channel and sequence, which is 0 if it has none.
    #[inline]
    pub const fn of_event(&self, channel: u8, sequence: u64) -> Rule {
        if sequence == 0 {
            self.unnumbered
        } else {
            self.of(channel)
        }
    }

    /// The rule of the channel with that number.
    #[inline]
    pub const fn of(&self, channel: u8) -> Rule {
        if (channel as usize) < self.by_channel.len() {
            self.by_channel[channel as usize]
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
