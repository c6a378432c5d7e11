//! Trades, quotes and bars in the form that the venue sends, in one pass, in either encoding.
//!
//! The type comes first, the other keys in any order. At anything else the answer is `None`, with
//! nothing written, and the frame goes the way of any JSON. Both give the same records: the tests
//! and the fuzzer compare them.

use super::conditions::{condition, condition_of_option, effect_of};
use super::decode::{Task, DAY_MS, MINUTE_MS};
use super::keys::class_of;
use crate::feeds::conditions::Kept;
use crate::feeds::cursor::Key;
use crate::feeds::events::{bar_of, offer_of, Deal, Offer, EQUITY};
use crate::record::{Bar, Side};

/// Conditions of one trade that are looked at.
const CONDITIONS_MAX: usize = 8;

// What an event has told so far: one bit a key that it needs.
const SYMBOL: u8 = 1;
const TIME: u8 = 2;
const PRICE: u8 = 4;
const SIZE: u8 = 8;
const OPEN: u8 = 16;
const HIGH: u8 = 32;
const LOW: u8 = 64;
const CLOSE: u8 = 128;

mod keys {
    use crate::feeds::cursor::{key, Key};

    pub const TYPE: Key = key(b"T");
    pub const SYMBOL: Key = key(b"S");
    pub const TIME: Key = key(b"t");
    pub const PRICE: Key = key(b"p");
    pub const SIZE: Key = key(b"s");
    pub const ID: Key = key(b"i");
    pub const CONDITIONS: Key = key(b"c");
    pub const TAPE: Key = key(b"z");
    pub const TAKER: Key = key(b"tks");
    pub const BID: Key = key(b"bp");
    pub const BID_SIZE: Key = key(b"bs");
    pub const ASK: Key = key(b"ap");
    pub const ASK_SIZE: Key = key(b"as");
    pub const OPEN: Key = key(b"o");
    pub const HIGH: Key = key(b"h");
    pub const LOW: Key = key(b"l");
    pub const CLOSE: Key = key(b"c");
    pub const VOLUME: Key = key(b"v");
    pub const COUNT: Key = key(b"n");
}

/// A frame being read in one encoding. `None` is anything but the expected form.
pub trait Form<'a> {
    /// Enters the list of events, of which there is one at least.
    fn begin(&mut self) -> Option<()>;
    /// Enters an event, up to the text of its type.
    fn event_type(&mut self) -> Option<&'a [u8]>;
    /// The next key of the event, up to its value. `None` within it is the end of the event.
    fn next_key(&mut self) -> Option<Option<Key>>;
    /// Whether another event follows. None does, and nothing else, at the end of the frame.
    fn has_next(&mut self) -> Option<bool>;
    /// A text.
    fn text(&mut self) -> Option<&'a [u8]>;
    /// A number that is not negative, in units of 1e-9.
    fn price(&mut self) -> Option<i64>;
    /// A number that is not negative, in units of 1e-8.
    fn size(&mut self) -> Option<i64>;
    /// An integer that is not negative.
    fn integer(&mut self) -> Option<u64>;
    /// A time, in ns.
    fn time(&mut self) -> Option<i64>;
    /// The texts of a list, of one letter each, or one such text.
    fn letters(&mut self, out: &mut Letters) -> Option<()>;
    /// Moves over a value of any kind that the venue sends.
    fn skip(&mut self) -> Option<()>;
}

/// The conditions of a trade, before it is known what was traded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Letters {
    letters: [u8; CONDITIONS_MAX],
    count: usize,
}

impl Letters {
    /// Takes in a text, which must be one letter.
    #[inline(always)]
    pub fn push(&mut self, text: &[u8]) -> Option<()> {
        let [letter @ ..=127] = text else { return None };
        *self.letters.get_mut(self.count)? = *letter;
        self.count += 1;
        Some(())
    }

    /// What a record keeps of them.
    #[inline(always)]
    fn kept(&self, class: u8, tape: &[u8]) -> [u8; 2] {
        let mut kept = Kept::default();
        for letter in &self.letters[..self.count] {
            let text = std::slice::from_ref(letter);
            if class == EQUITY {
                let id = condition(text, tape);
                kept.add(id, effect_of(id));
            } else {
                kept.add(condition_of_option(text), None);
            }
        }
        kept.ids()
    }
}

impl Task<'_> {
    /// Decodes the frame if all of it is of an expected form.
    #[inline(always)]
    pub fn fast<'a>(&mut self, mut form: impl Form<'a>) -> Option<()> {
        let mark = self.out.mark();
        let done = self.fast_events(&mut form);
        if done.is_none() {
            self.out.truncate(mark);
        }
        done
    }

    #[inline(always)]
    fn fast_events<'a>(&mut self, form: &mut impl Form<'a>) -> Option<()> {
        form.begin()?;
        loop {
            match form.event_type()? {
                b"t" => self.fast_trade(form)?,
                b"q" => self.fast_quote(form)?,
                b"b" | b"u" => self.fast_bar(form, MINUTE_MS, 1)?,
                b"d" => self.fast_bar(form, DAY_MS, 0)?,
                _ => return None,
            }
            if !form.has_next()? {
                return Some(());
            }
        }
    }

    /// The known instrument of the text in `form`, and its class.
    #[inline(always)]
    fn fast_symbol<'a>(&self, form: &mut impl Form<'a>) -> Option<(u32, u8)> {
        let symbol = form.text()?;
        Some((self.symbols.get(symbol, self.instruments)?, class_of(symbol)))
    }

    #[inline(always)]
    fn fast_trade<'a>(&mut self, form: &mut impl Form<'a>) -> Option<()> {
        let mut deal = Deal {
            price: 0,
            size: 0,
            ts: 0,
            sequence: 0,
            id: 0,
            side: Side::None,
            conditions: [0; 2],
        };
        let ((mut instrument, mut class), mut told) = ((0, 0), 0);
        let (mut letters, mut tape) = (Letters::default(), &b""[..]);
        while let Some(key) = form.next_key()? {
            match key {
                keys::SYMBOL => {
                    (instrument, class) = self.fast_symbol(form)?;
                    told |= SYMBOL;
                }
                keys::PRICE => {
                    deal.price = form.price()?;
                    told |= PRICE;
                }
                keys::SIZE => {
                    deal.size = form.size()?;
                    told |= SIZE;
                }
                keys::TIME => {
                    deal.ts = form.time()?;
                    told |= TIME;
                }
                keys::ID => deal.id = form.integer()?,
                keys::CONDITIONS => {
                    letters = Letters::default();
                    form.letters(&mut letters)?;
                }
                keys::TAPE => tape = form.text()?,
                keys::TAKER => {
                    deal.side = match form.text()? {
                        b"B" => Side::Bid,
                        b"S" => Side::Ask,
                        _ => Side::None,
                    };
                }
                // The last of two types counts.
                keys::TYPE => return None,
                _ => form.skip()?,
            }
        }
        if told != SYMBOL | PRICE | SIZE | TIME {
            return None;
        }
        deal.conditions = letters.kept(class, tape);
        self.push_deal(instrument, &deal);
        Some(())
    }

    #[inline(always)]
    fn fast_quote<'a>(&mut self, form: &mut impl Form<'a>) -> Option<()> {
        let ((mut instrument, mut class), mut told, mut ts) = ((0, 0), 0, 0);
        let [mut bid, mut ask]: [Offer; 2] = [(0, 0); 2];
        while let Some(key) = form.next_key()? {
            match key {
                keys::SYMBOL => {
                    (instrument, class) = self.fast_symbol(form)?;
                    told |= SYMBOL;
                }
                keys::BID => bid.0 = form.price()?,
                keys::BID_SIZE => bid.1 = form.size()?,
                keys::ASK => ask.0 = form.price()?,
                keys::ASK_SIZE => ask.1 = form.size()?,
                keys::TIME => {
                    ts = form.time()?;
                    told |= TIME;
                }
                keys::TYPE => return None,
                _ => form.skip()?,
            }
        }
        if told != SYMBOL | TIME {
            return None;
        }
        self.push_quote((instrument, ts, 0), offer_of(bid), offer_of(ask), class == EQUITY).ok()
    }

    #[inline(always)]
    fn fast_bar<'a>(
        &mut self,
        form: &mut impl Form<'a>,
        interval_ms: u32,
        closed: u8,
    ) -> Option<()> {
        let (mut bar, mut told) = (bar_of(interval_ms), 0);
        let (mut instrument, mut ts) = (0, 0);
        while let Some(key) = form.next_key()? {
            let (price, bit) = match key {
                keys::SYMBOL => {
                    instrument = self.fast_symbol(form)?.0;
                    told |= SYMBOL;
                    continue;
                }
                keys::TIME => {
                    ts = form.time()?;
                    told |= TIME;
                    continue;
                }
                keys::VOLUME => {
                    bar.volume = form.size()?;
                    told |= SIZE;
                    continue;
                }
                keys::COUNT => {
                    // A count is of 63 bits.
                    bar.count = form.integer().filter(|&count| count < i64::MAX as u64)?;
                    continue;
                }
                keys::OPEN => (&mut bar.open, OPEN),
                keys::HIGH => (&mut bar.high, HIGH),
                keys::LOW => (&mut bar.low, LOW),
                keys::CLOSE => (&mut bar.close, CLOSE),
                keys::TYPE => return None,
                _ => {
                    form.skip()?;
                    continue;
                }
            };
            *price = form.price()?;
            told |= bit;
        }
        if told != SYMBOL | TIME | SIZE | OPEN | HIGH | LOW | CLOSE {
            return None;
        }
        bar.closed = closed;
        bar.header = self.head::<Bar>(instrument, ts, 0);
        self.out.push(&bar);
        Some(())
    }
}
