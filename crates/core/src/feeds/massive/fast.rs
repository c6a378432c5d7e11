//! Trades, quotes and bars of stocks in the form that the venue sends, in one pass.
//!
//! The type comes first, the other keys in any order; no white space, no escape, no exponent. At
//! anything else the answer is `None`, with nothing written, and the frame goes the way of any
//! JSON. Both give the same records: the tests and the fuzzer compare them.

use super::conditions::effect_of;
use super::decode::{may_be_in_lots, Task, MINUTE_MS, OTHER_CONDITION, SECOND_MS};
use crate::feeds::conditions::Kept;
use crate::feeds::cursor::{Cursor, Key};
use crate::feeds::events::{bar_of, offer_of, Deal, Offer};
use crate::record::{Bar, Side};

// What an event has told so far: one bit a key that it needs.
const SYM: u8 = 1;
const TIME: u8 = 2;
const PRICE: u8 = 4;
const SIZE: u8 = 8;
const OPEN: u8 = 4;
const HIGH: u8 = 8;
const LOW: u8 = 16;
const CLOSE: u8 = 32;

mod keys {
    use crate::feeds::cursor::{key, Key};

    pub const TYPE: Key = key(b"ev");
    pub const SYMBOL: Key = key(b"sym");
    pub const TIME: Key = key(b"t");
    pub const START: Key = key(b"s");
    pub const PRICE: Key = key(b"p");
    pub const SIZE: Key = key(b"s");
    pub const EXACT_SIZE: Key = key(b"ds");
    pub const ID: Key = key(b"i");
    pub const SEQUENCE: Key = key(b"q");
    pub const CONDITIONS: Key = key(b"c");
    pub const BID: Key = key(b"bp");
    pub const BID_SIZE: Key = key(b"bs");
    pub const ASK: Key = key(b"ap");
    pub const ASK_SIZE: Key = key(b"as");
    pub const OPEN: Key = key(b"o");
    pub const HIGH: Key = key(b"h");
    pub const LOW: Key = key(b"l");
    pub const CLOSE: Key = key(b"c");
    pub const VOLUME: Key = key(b"v");
    pub const EXACT_VOLUME: Key = key(b"dv");
}

impl Task<'_> {
    /// Decodes the frame if all of it is of an expected form.
    pub fn fast(&mut self) -> Option<()> {
        let mark = self.out.mark();
        let done = self.fast_events();
        if done.is_none() {
            self.out.truncate(mark);
        }
        done
    }

    #[inline(always)]
    fn fast_events(&mut self) -> Option<()> {
        let mut at = Cursor::new(self.bytes);
        at.expect(b"[")?;
        loop {
            at.expect(b"{\"ev\":\"")?;
            match at.text()? {
                b"T" => self.fast_trade(&mut at)?,
                b"Q" => self.fast_quote(&mut at)?,
                b"A" => self.fast_bar(&mut at, SECOND_MS)?,
                b"AM" => self.fast_bar(&mut at, MINUTE_MS)?,
                _ => return None,
            }
            if !at.skip(b",") {
                break;
            }
        }
        at.expect(b"]")?;
        at.is_at_end().then_some(())
    }

    /// The known instrument of the text at the cursor, and whether its quotes may be in lots.
    #[inline(always)]
    fn fast_symbol(&self, at: &mut Cursor<'_>) -> Option<(u32, bool)> {
        at.expect(b"\"")?;
        let symbol = at.text()?;
        Some((self.symbols.get(symbol, self.instruments)?, may_be_in_lots(symbol)))
    }

    #[inline(always)]
    fn fast_trade(&mut self, at: &mut Cursor<'_>) -> Option<()> {
        let mut deal = Deal {
            price: 0,
            size: 0,
            ts: 0,
            sequence: 0,
            id: 0,
            side: Side::None,
            conditions: [0; 2],
        };
        let (mut instrument, mut told, mut exact) = (0, 0, None);
        while let Some(key) = at.next_key()? {
            match key {
                keys::SYMBOL => {
                    instrument = self.fast_symbol(at)?.0;
                    told |= SYM;
                }
                keys::PRICE => {
                    deal.price = at.bare_price()?;
                    told |= PRICE;
                }
                keys::SIZE => {
                    deal.size = at.bare_size()?;
                    told |= SIZE;
                }
                keys::TIME => {
                    deal.ts = at.time()?;
                    told |= TIME;
                }
                keys::CONDITIONS => deal.conditions = conditions(at)?,
                keys::ID => deal.id = trade_id(at)?,
                keys::SEQUENCE => deal.sequence = at.integer()?,
                keys::EXACT_SIZE => {
                    exact = Some(quoted_size(at)?);
                    told |= SIZE;
                }
                _ => skip_value(key, at)?,
            }
        }
        if told != SYM | PRICE | SIZE | TIME {
            return None;
        }
        deal.size = exact.unwrap_or(deal.size);
        self.push_deal(instrument, &deal);
        Some(())
    }

    #[inline(always)]
    fn fast_quote(&mut self, at: &mut Cursor<'_>) -> Option<()> {
        let ((mut instrument, mut in_lots), mut told) = ((0, false), 0);
        let (mut ts, mut sequence) = (0, 0);
        let [mut bid, mut ask]: [Offer; 2] = [(0, 0); 2];
        while let Some(key) = at.next_key()? {
            match key {
                keys::SYMBOL => {
                    (instrument, in_lots) = self.fast_symbol(at)?;
                    told |= SYM;
                }
                keys::BID => bid.0 = at.bare_price()?,
                keys::BID_SIZE => bid.1 = at.bare_size()?,
                keys::ASK => ask.0 = at.bare_price()?,
                keys::ASK_SIZE => ask.1 = at.bare_size()?,
                keys::TIME => {
                    ts = at.time()?;
                    told |= TIME;
                }
                keys::SEQUENCE => sequence = at.integer()?,
                _ => skip_value(key, at)?,
            }
        }
        if told != SYM | TIME {
            return None;
        }
        self.push_quote((instrument, ts, sequence), offer_of(bid), offer_of(ask), in_lots).ok()
    }

    #[inline(always)]
    fn fast_bar(&mut self, at: &mut Cursor<'_>, interval_ms: u32) -> Option<()> {
        let (mut bar, mut told) = (bar_of(interval_ms), 0);
        let (mut instrument, mut ts, mut exact) = (0, 0, None);
        while let Some(key) = at.next_key()? {
            let (price, bit) = match key {
                keys::SYMBOL => {
                    instrument = self.fast_symbol(at)?.0;
                    told |= SYM;
                    continue;
                }
                keys::START => {
                    ts = at.time()?;
                    told |= TIME;
                    continue;
                }
                keys::VOLUME => {
                    bar.volume = at.bare_size()?;
                    continue;
                }
                keys::OPEN => (&mut bar.open, OPEN),
                keys::HIGH => (&mut bar.high, HIGH),
                keys::LOW => (&mut bar.low, LOW),
                keys::CLOSE => (&mut bar.close, CLOSE),
                keys::EXACT_VOLUME => {
                    exact = Some(quoted_size(at)?);
                    continue;
                }
                _ => {
                    skip_value(key, at)?;
                    continue;
                }
            };
            *price = at.bare_price()?;
            told |= bit;
        }
        if told != SYM | TIME | OPEN | HIGH | LOW | CLOSE {
            return None;
        }
        bar.header = self.head::<Bar>(instrument, ts, 0);
        bar.volume = exact.unwrap_or(bar.volume);
        self.out.push(&bar);
        Some(())
    }
}

/// A size as a text, with the parts of a share that the number beside it has not.
#[inline(always)]
fn quoted_size(at: &mut Cursor<'_>) -> Option<i64> {
    at.expect(b"\"")?;
    let size = at.size()?;
    at.expect(b"\"")?;
    Some(size)
}

/// Moves over the value of a key that no record is made of.
#[inline(always)]
fn skip_value(key: Key, at: &mut Cursor<'_>) -> Option<()> {
    // The last of two types counts.
    if key == keys::TYPE {
        return None;
    }
    at.skip_value()
}

/// The conditions of a trade: a list of numbers, or one.
#[inline(always)]
fn conditions(at: &mut Cursor<'_>) -> Option<[u8; 2]> {
    let mut kept = Kept::default();
    let is_list = at.skip(b"[");
    if is_list && at.skip(b"]") {
        return Some([0; 2]);
    }
    loop {
        let id = u8::try_from(at.integer()?).unwrap_or(OTHER_CONDITION);
        kept.add(id, effect_of(id));
        if !is_list {
            return Some(kept.ids());
        }
        if !at.skip(b",") {
            return at.expect(b"]").map(|()| kept.ids());
        }
    }
}

/// The id of a trade: a number, most often as a text; 0 for any other text.
#[inline(always)]
fn trade_id(at: &mut Cursor<'_>) -> Option<u64> {
    let mut number = *at;
    let is_text = number.skip(b"\"");
    let id = number.integer();
    if id.is_some() && (!is_text || number.skip(b"\"")) {
        *at = number;
        return id;
    }
    at.expect(b"\"")?;
    let text = std::str::from_utf8(at.text()?).ok()?;
    Some(text.parse().unwrap_or(0))
}
