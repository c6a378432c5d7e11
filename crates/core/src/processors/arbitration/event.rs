//! One venue event among decoded records: its stream, its place in the sequence, its extent.

use crate::record::{
    Bar, Channel, Header, Kind, Level, Mark, Marker, MarkerCode, Plain, Quote, Trade,
    FLAG_HISTORICAL, FLAG_LAST,
};
use crate::sequencing::{Rule, Rules};

/// One venue event.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// How it follows the one before it.
    pub rule: Rule,
    /// A [`Channel`].
    pub channel: u8,
    /// Whether it came from the venue's history.
    pub historical: bool,
    /// Instrument id.
    pub instrument: u32,
    /// The sequence that must come before it, if the rule is `Contiguous`.
    pub previous: u64,
    /// Its sequence.
    pub sequence: u64,
    /// Its time by the venue, in ns.
    pub ts_event: i64,
    /// When it was received, in ns.
    pub ts_recv: i64,
    /// Its length in bytes.
    pub length: usize,
    /// Its number of records.
    pub count: u32,
    /// A hash of what it says, its times left out; 0 where that is not to be compared.
    pub content: u32,
    /// Whether its time is the market's, and so close to that of its receipt.
    pub is_live: bool,
    /// Whether the venue gave it a number or an id.
    pub is_numbered: bool,
    /// Whether its number tells which it is: the history of trades without ids may have none.
    pub is_known_by_number: bool,
}

/// Kinds that the venue says once of an instrument.
const STATEMENTS: [u8; 4] = [
    Kind::Status as u8,
    Kind::Correction as u8,
    Kind::CorporateAction as u8,
    Kind::Imbalance as u8,
];

/// Mixes one field into a content hash.
#[inline]
const fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The part of a content hash that is kept.
#[inline]
const fn folded(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Event {
    #[inline]
    fn of(header: &Header, rule: Rule, channel: u8, previous: u64) -> Self {
        Self {
            rule,
            channel,
            content: 0,
            is_live: false,
            is_numbered: header.sequence != 0,
            is_known_by_number: header.sequence != 0,
            historical: header.flags & FLAG_HISTORICAL != 0,
            instrument: header.instrument,
            previous,
            sequence: header.sequence,
            ts_event: header.ts_event,
            ts_recv: header.ts_recv,
            length: header.byte_length(),
            count: 1,
        }
    }

    /// Whether it is a trade: one that is missing can be filled in later.
    #[inline]
    pub const fn is_trade(&self) -> bool {
        self.channel == Channel::Trade as u8 || self.channel == Channel::AggTrade as u8
    }

    /// Reads the event at the front of `bytes`, which must be whole records of a feed with `rules`.
    /// `None` at the end.
    #[inline]
    pub fn read(bytes: &[u8], rules: &Rules) -> Option<Self> {
        const TRADE: u8 = Kind::Trade as u8;
        const LEVEL: u8 = Kind::Level as u8;
        const QUOTE: u8 = Kind::Quote as u8;
        const BAR: u8 = Kind::Bar as u8;
        const MARK: u8 = Kind::Mark as u8;
        const MARKER: u8 = Kind::Marker as u8;
        match *bytes.get(1)? {
            TRADE => {
                let trade = Trade::read_from(bytes)?;
                let sequence = trade.header.sequence;
                let rule = rules.of_event(trade.channel, sequence);
                let mut event =
                    Self::of(&trade.header, rule, trade.channel, sequence.wrapping_sub(1));
                event.is_numbered |= trade.trade_id != 0;
                event.is_known_by_number &= trade.trade_id != 0;
                let said = mix(mix(trade.price as u64, trade.size as u64), u64::from(trade.count));
                let said = mix(said, u64::from(trade.side));
                // Where numbers tell events apart, the id is the number or goes with it.
                Some(event.live(if rule == Rule::Alike { mix(said, trade.trade_id) } else { said }))
            }
            LEVEL => {
                let level = Level::read_from(bytes)?;
                let is_change = level.channel == Channel::Depth as u8;
                let rule = if is_change { rules.of(level.channel) } else { Rule::Free };
                let event = Self::of(&level.header, rule, level.channel, level.previous);
                let event = event.whole(bytes);
                if !is_change {
                    return Some(event);
                }
                // The first level and the extent tell two updates apart well enough for their cost.
                let said = mix(mix(level.price as u64, level.size as u64), level.previous);
                Some(event.live(mix(said, u64::from(event.count))))
            }
            QUOTE => {
                let quote = Quote::read_from(bytes)?;
                let rule = rules.of_event(Channel::Quote as u8, quote.header.sequence);
                let event = Self::of(&quote.header, rule, Channel::Quote as u8, 0);
                let bid = mix(quote.bid_price as u64, quote.bid_size as u64);
                let ask = mix(quote.ask_price as u64, quote.ask_size as u64);
                Some(event.live(mix(bid, ask)))
            }
            BAR => {
                let bar = Bar::read_from(bytes)?;
                let rule = if bar.header.flags & FLAG_HISTORICAL != 0 {
                    Rule::Free
                } else {
                    rules.of(bar.channel)
                };
                let event = Self::of(&bar.header, rule, bar.channel, 0);
                Some(Self { is_live: rule == Rule::Window, ..event })
            }
            MARK => {
                let mark = Mark::read_from(bytes)?;
                let mut event =
                    Self::of(&mark.header, rules.of(Channel::Mark as u8), Channel::Mark as u8, 0);
                event.sequence = mark.header.ts_event as u64;
                event.is_live = true;
                Some(event)
            }
            MARKER => Self::of_marker(bytes, rules),
            kind if STATEMENTS.contains(&kind) => Self::of_statement(bytes, rules),
            _ => {
                let header = Header::read_from(bytes)?;
                Some(Self::of(&header, Rule::Free, Channel::None as u8, 0))
            }
        }
    }

    /// What the venue says once of an instrument. Its time may be long ago: it says since when.
    fn of_statement(bytes: &[u8], rules: &Rules) -> Option<Self> {
        let (header, channel) = (Header::read_from(bytes)?, Channel::None as u8);
        let event = Self::of(&header, rules.of_event(channel, 0), channel, 0);
        Some(Self { is_numbered: true, ..event })
    }

    fn of_marker(bytes: &[u8], rules: &Rules) -> Option<Self> {
        let marker = Marker::read_from(bytes)?;
        let (header, channel) = (&marker.header, marker.channel);
        if marker.code == MarkerCode::EmptyUpdate as u8 {
            // An update without levels carries the sequence before it in `ts_start`.
            let event = Self::of(header, rules.of(channel), channel, marker.ts_start as u64);
            // It tells of its sequence alone: a feed makes one of a whole book as well.
            return Some(event.live(0));
        }
        if marker.code == MarkerCode::SnapshotBegin as u8 {
            let is_partial = channel == Channel::PartialDepth as u8;
            let mut event = Self::of(header, rules.of(channel), channel, 0).whole(bytes);
            event.sequence = marker.first;
            event.is_live = is_partial;
            return Some(event);
        }
        Some(Self::of(header, Rule::Free, channel, 0))
    }

    /// The same event as one of the market that says what `content` is a hash of.
    #[inline]
    fn live(mut self, content: u64) -> Self {
        self.content = folded(content);
        self.is_live = !self.historical;
        self
    }

    /// Whether two events of one id are compared by what they say.
    #[inline]
    pub const fn is_compared(&self) -> bool {
        self.channel >= Channel::Trade as u8 && self.channel <= Channel::Depth as u8
    }

    /// Whether the venue gave it a time of its own. Quotes and partial books may have none; what
    /// has one may say that of its receipt, as in a capture without receive times.
    #[inline]
    pub const fn is_timed(&self) -> bool {
        self.ts_event != self.ts_recv
            || self.is_trade()
            || self.channel == Channel::Depth as u8
            || self.channel == Channel::Mark as u8
    }

    /// The same event with its extent: up to the record that is flagged as the last.
    #[inline]
    fn whole(mut self, bytes: &[u8]) -> Self {
        let (mut at, mut count) = (0, 0);
        while let Some(&[length, _, flags, _]) = bytes.get(at..at + 4) {
            at += length as usize * 8;
            count += 1;
            if flags & FLAG_LAST != 0 {
                break;
            }
        }
        self.length = at.min(bytes.len());
        self.count = count;
        self
    }
}
