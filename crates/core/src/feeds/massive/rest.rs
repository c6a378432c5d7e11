//! Answers of the REST interface, told apart by the path of their request.
//!
//! Trades, quotes, bars, splits, dividends and tickers become records, flagged as historical;
//! `news.rs` reads news. Of all else there is no record.

use std::borrow::Cow;

use super::crypto::taker_of;
use super::decode::{class_of, may_be_in_lots, Task, MINUTE_MS, SECOND_MS};
use super::keys::{slot, Fields};
use super::news;
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::events::{Deal, EQUITY};
use crate::feeds::fields::Slot;
use crate::feeds::scan::Scanner;
use crate::record::{Bar, Correction, Side, FLAG_HISTORICAL, NONE};

// Values of `correction`, as in the TAQ files of the NYSE. 1 is a trade with what was corrected.
/// A trade that was declared erroneous later.
const LATER_ERRONEOUS: u64 = 7;
/// One that was cancelled later.
const LATER_CANCELLED: u64 = 8;
/// From here on: what cancelled or corrected another row, and no trade itself.
const CANCEL_RECORD: u64 = 10;
const CORRECTION_RECORD: u64 = 12;
/// `action` of a correction that declares a trade void.
const CANCEL: u8 = 1;

/// What the answer to a request holds.
enum Answer<'a> {
    Trades(&'a str),
    Quotes(&'a str),
    Bars(&'a str, u32),
    Actions,
    Tickers,
}

impl Task<'_> {
    /// Decodes the answer to the request `context`, such as `/v3/trades/AAPL?limit=10`.
    ///
    /// # Errors
    /// `Error::Decode` and `Error::DoesNotFit`: `VenueError` of an error, `UnknownStream` of a
    /// request of which there are no records, bars that are adjusted for splits among them.
    pub fn rest(&mut self, context: &[u8]) -> Result<()> {
        Scanner::check(self.bytes)?;
        let fields = self.fields(&mut Scanner::new(self.bytes, 0))?;
        if fields.find(self.bytes, slot::ERROR).is_some() || self.is_error(&fields)? {
            return Err(Error::decode(DecodeReason::VenueError, fields.start()));
        }
        if news::is_asked(context) {
            return Ok(());
        }
        let answer = std::str::from_utf8(context).ok().and_then(answer_to);
        let answer = answer.ok_or(Error::decode(DecodeReason::UnknownStream, 0))?;
        self.header.flags |= FLAG_HISTORICAL;
        // No rows are no list.
        let Some(results) = fields.find(self.bytes, slot::RESULTS) else { return Ok(()) };
        if matches!(answer, Answer::Tickers) {
            return self.symbol_changes(results);
        }
        let mut scanner = Scanner::inside(self.bytes, results);
        scanner.at_value(b'[')?;
        match answer {
            Answer::Trades(ticker) => {
                self.elements(&mut scanner, |task, row| task.rest_trade(row, ticker))
            }
            Answer::Quotes(ticker) => {
                self.elements(&mut scanner, |task, row| task.rest_quote(row, ticker))
            }
            Answer::Bars(ticker, _) if self.is_adjusted(&fields, ticker)? => {
                Err(Error::decode(DecodeReason::UnknownStream, fields.start()))
            }
            Answer::Bars(ticker, interval_ms) => {
                self.elements(&mut scanner, |task, row| task.rest_bar(row, ticker, interval_ms))
            }
            Answer::Actions | Answer::Tickers => self.actions(&mut scanner),
        }
    }

    fn is_error(&mut self, fields: &Fields) -> Result<bool> {
        let Some(span) = fields.find(self.bytes, slot::STATUS) else { return Ok(false) };
        Ok(matches!(self.values().text(span)?, b"ERROR" | b"NOT_AUTHORIZED" | b"NOT_FOUND"))
    }

    /// Whether bars of a stock are as if its later splits had happened before. Such values change
    /// with every split, and are not those of other bars of the same time.
    fn is_adjusted(&mut self, fields: &Fields, ticker: &str) -> Result<bool> {
        let is_stock = class_of(&percent_decoded(ticker), EQUITY) == EQUITY;
        let told = fields.find(self.bytes, slot::ADJUSTED).filter(|_| is_stock);
        told.map_or(Ok(false), |span| self.values().flag(span))
    }

    fn rest_trade(&mut self, row: &Fields, ticker: &str) -> Result<()> {
        let correction = self.values().id_or_zero(row, slot::CORRECTION, "correction")?;
        if matches!(correction, CANCEL_RECORD..=CORRECTION_RECORD) {
            return Ok(());
        }
        let mut conditions = self.conditions(row, slot::CONDITIONS)?;
        let mut side = Side::None;
        if ticker.starts_with("X:") || ticker.starts_with("X%3A") {
            (side, conditions) = (taker_of(conditions), [0; 2]);
        }
        let ts = self.sip_time(row)?;
        let mut values = self.values();
        let size = row.find(values.bytes, slot::DECIMAL_SIZE);
        let size = size.map_or_else(|| row.need(slot::SIZE), Ok)?;
        let deal = Deal {
            price: values.price(row.need(slot::PRICE)?, "price")?,
            size: values.size(size, "size")?,
            ts,
            sequence: values.id_or_zero(row, slot::SEQUENCE, "sequence")?,
            id: values.name_or_zero(row, slot::ID)?,
            side,
            conditions,
        };
        let instrument = self.of_ticker(ticker, row, ts)?;
        self.push_deal(instrument, &deal);
        if matches!(correction, LATER_ERRONEOUS | LATER_CANCELLED) {
            let header = self.head::<Correction>(instrument, ts, deal.sequence);
            let (price, size, trade_id) = (NONE, NONE, deal.id);
            let (action, reserved) = (CANCEL, [0; 7]);
            self.out.push(&Correction { header, price, size, trade_id, action, reserved });
        }
        Ok(())
    }

    fn rest_quote(&mut self, row: &Fields, ticker: &str) -> Result<()> {
        let ts = self.sip_time(row)?;
        let mut values = self.values();
        let sequence = values.id_or_zero(row, slot::SEQUENCE, "sequence")?;
        let bid = values.offer(row, (slot::BID_PRICE, slot::BID_SIZE))?;
        let ask = values.offer(row, (slot::ASK_PRICE, slot::ASK_SIZE))?;
        let instrument = self.of_ticker(ticker, row, ts)?;
        self.push_quote((instrument, ts, sequence), bid, ask, may_be_in_lots(ticker.as_bytes()))
    }

    fn rest_bar(&mut self, row: &Fields, ticker: &str, interval_ms: u32) -> Result<()> {
        let mut values = self.values();
        let ts = values.instant(row.need(b't')?, "ts_event")?;
        let mut bar = values.window(row, interval_ms)?;
        let volume = row.find(values.bytes, b'v');
        bar.volume = volume.map_or(Ok(0), |span| values.size(span, "volume"))?;
        bar.count = values.id_or_zero(row, b'n', "count")?;
        let instrument = self.of_ticker(ticker, row, ts)?;
        bar.header = self.head::<Bar>(instrument, ts, 0);
        self.out.push(&bar);
        Ok(())
    }

    fn of_ticker(&mut self, ticker: &str, row: &Fields, ts: i64) -> Result<u32> {
        let ticker = &percent_decoded(ticker);
        self.instrument(ticker, row.start(), ts, class_of(ticker, EQUITY))
    }

    /// When the SIP published it, or else when the exchange made it.
    fn sip_time(&mut self, row: &Fields) -> Result<i64> {
        let slots: [Slot; 2] = [slot::SIP, slot::PARTICIPANT];
        let found = slots.into_iter().find_map(|slot| row.find(self.bytes, slot));
        let span = found.map_or_else(|| row.need(slot::SIP), Ok)?;
        self.values().instant(span, "ts_event")
    }
}

/// A part of a path as it was before it was escaped: a ticker may hold what stands for more there.
fn percent_decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let (mut rest, mut found) = (text.as_bytes(), Vec::with_capacity(text.len()));
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                found.push(byte);
                rest = &after[2..];
            }
            _ => {
                found.push(first);
                rest = after;
            }
        }
    }
    Cow::Owned(found)
}

fn answer_to(request: &str) -> Option<Answer<'_>> {
    let path = request.split_once('?').map_or(request, |(path, _)| path);
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next()?, parts.next()?, parts.next()?) {
        ("v3", "trades", ticker) => Some(Answer::Trades(ticker)),
        ("v3", "quotes", ticker) => Some(Answer::Quotes(ticker)),
        ("v3" | "v2", "reference", "splits") | ("v3", "reference", "dividends") => {
            Some(Answer::Actions)
        }
        ("vX" | "v1", "reference", "tickers") => {
            parts.next()?;
            (parts.next() == Some("events")).then_some(Answer::Tickers)
        }
        ("v2", "aggs", "ticker") => {
            let ticker = parts.next()?;
            if parts.next()? != "range" {
                return None;
            }
            let count: u32 = parts.next()?.parse().ok()?;
            Some(Answer::Bars(ticker, count.checked_mul(span_ms(parts.next()?)?)?))
        }
        _ => None,
    }
}

/// The length in ms of a span of bars. Those of months and longer differ, and have none.
fn span_ms(name: &str) -> Option<u32> {
    Some(match name {
        "second" => SECOND_MS,
        "minute" => MINUTE_MS,
        "hour" => 60 * MINUTE_MS,
        "day" => 24 * 60 * MINUTE_MS,
        "week" => 7 * 24 * 60 * MINUTE_MS,
        _ => return None,
    })
}
