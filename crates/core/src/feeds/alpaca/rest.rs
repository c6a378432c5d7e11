//! Answers of the REST interface, told apart by the path of their request.
//!
//! Trades, quotes, bars and changes of symbols become records, flagged as historical; `news.rs`
//! reads news. Of all else there is no record.

use super::corporate;
use super::decode::{Task, CANCEL, DAY_MS, MINUTE_MS};
use super::keys::{class_of, slot, Fields};
use super::news;
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::events::Deal;
use crate::feeds::own_symbol::OwnSymbol;
use crate::feeds::scan::{Scanner, Span};
use crate::record::{FLAG_HISTORICAL, NONE};

/// What the rows of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Trades,
    Quotes,
    /// Of so many ms.
    Bars(u32),
}

/// Whose rows they are, and where its symbol stands.
type Subject<'a> = (&'a OwnSymbol, usize);

impl Task<'_> {
    /// Decodes the answer to the request `context`, such as `/v2/stocks/AAPL/trades?limit=10`.
    ///
    /// # Errors
    /// `Error::Decode` and `Error::DoesNotFit`: `VenueError` of an error, `UnknownStream` of a
    /// request of which there are no records.
    pub fn rest(&mut self, context: &[u8]) -> Result<()> {
        Scanner::check(self.bytes)?;
        let fields: Fields = self.fields(&mut Scanner::new(self.bytes, 0))?;
        if fields.has(slot::MESSAGE) {
            return Err(Error::decode(DecodeReason::VenueError, fields.start()));
        }
        if corporate::is_asked(context) {
            self.header.flags |= FLAG_HISTORICAL;
            return self.corporate();
        }
        if news::is_asked(context) {
            return Ok(());
        }
        let asked = std::str::from_utf8(context).ok().and_then(|request| {
            let (request, fragment) = request.split_once('#').unwrap_or((request, ""));
            Some((rows_of(request)?, told_before(fragment)))
        });
        let ((rows, in_path), before) =
            asked.ok_or(Error::decode(DecodeReason::UnknownStream, 0))?;
        self.header.flags |= FLAG_HISTORICAL;
        let slots = match rows {
            Rows::Trades => [slot::TRADES, slot::TRADE],
            Rows::Quotes => [slot::QUOTES, slot::QUOTE],
            Rows::Bars(_) => [slot::BARS, slot::BAR],
        };
        let found = slots.into_iter().find_map(|slot| fields.find(self.bytes, slot));
        // No rows are no list.
        let Some(span) = found else { return Ok(()) };
        let is_one = fields.has(slots[1]);
        let symbol = match fields.find(self.bytes, slot::SYMBOL) {
            Some(told) => self.symbol(told)?,
            None => OwnSymbol::of(in_path.as_bytes()),
        };
        if is_one || span.of(self.bytes)[0] == b'[' {
            return self.rows_at(span, (rows, before), (&symbol, span.start as usize));
        }
        let scanner = &mut Scanner::inside(self.bytes, span);
        scanner.at_value(b'{')?;
        scanner.object(|scanner, key| {
            let symbol = self.symbol(key)?;
            let value = scanner.value()?;
            self.rows_at(value, (rows, before), (&symbol, key.start as usize))
        })
    }

    /// Decodes the rows at `span`: a list of them, the latest alone, or none.
    fn rows_at(&mut self, span: Span, rows: (Rows, i64), subject: Subject<'_>) -> Result<()> {
        let scanner = &mut Scanner::inside(self.bytes, span);
        match span.of(self.bytes)[0] {
            b'[' => self.elements(scanner, |task, row| task.row(row, rows, subject)),
            b'{' => self.element(scanner, |task, row| task.row(row, rows, subject)),
            _ if span.of(self.bytes) == b"null" => Ok(()),
            _ => Err(Error::decode(DecodeReason::WrongType, span.start as usize)),
        }
    }

    fn row(
        &mut self,
        row: &Fields,
        (rows, before): (Rows, i64),
        (symbol, byte): Subject<'_>,
    ) -> Result<()> {
        let ts = self.time(row)?;
        let class = class_of(symbol.as_bytes());
        match rows {
            Rows::Trades => {
                let update = row.find(self.bytes, b'u');
                if ts < before && update.is_none() {
                    return Ok(());
                }
                let deal = self.deal(row)?;
                let deal = Deal { conditions: self.conditions(row, class)?, ..deal };
                let is_void = match update {
                    Some(span) => {
                        matches!(self.values().text(span)?, b"canceled" | b"incorrect")
                    }
                    None => false,
                };
                let instrument = self.instrument(symbol.as_bytes(), byte, ts, class)?;
                if ts >= before || !is_void {
                    self.push_deal(instrument, &deal);
                }
                if is_void {
                    self.amend(instrument, ts, (deal.id, 0), CANCEL, (NONE, NONE));
                }
                Ok(())
            }
            Rows::Quotes => {
                let instrument = self.instrument(symbol.as_bytes(), byte, ts, class)?;
                self.offers(row, (instrument, class), ts)
            }
            Rows::Bars(interval_ms) => {
                let instrument = self.instrument(symbol.as_bytes(), byte, ts, class)?;
                self.push_bar(row, (instrument, ts), interval_ms, 1)
            }
        }
    }
}

/// Before which time trades are told only for what became of them, as the fragment of a request
/// that fills a gap says: `live-before=` and a time in ns. Those trades came live.
fn told_before(fragment: &str) -> i64 {
    let told = fragment.strip_prefix("live-before=").and_then(|text| text.parse().ok());
    told.unwrap_or(i64::MIN)
}

/// What the rows of the answer to a request are, and the symbol that its path may hold.
fn rows_of(request: &str) -> Option<(Rows, &str)> {
    let (path, query) = request.split_once('?').unwrap_or((request, ""));
    let asked =
        |key| query.split('&').filter_map(|part| part.split_once('=')).rfind(|it| it.0 == key);
    // In another currency, or other shares, they are not what was traded.
    let is_raw = asked("currency").is_none_or(|(_, value)| value == "USD")
        && asked("adjustment").is_none_or(|(_, value)| value == "raw");
    if !is_raw {
        return None;
    }
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let is_latest = parts.last() == Some(&"latest");
    if is_latest {
        parts.pop();
    }
    // `latest/trades` is said as well.
    let name = parts.pop()?;
    let is_latest = is_latest || parts.last() == Some(&"latest");
    let symbol = match parts[..] {
        ["v2", "stocks", symbol] if symbol != "latest" => symbol,
        ["v2", "stocks", ..]
        | ["v1beta3", "crypto", ..]
        | ["v1beta1", "options" | "crypto-perps", ..] => "",
        _ => return None,
    };
    match name {
        "trades" => Some((Rows::Trades, symbol)),
        "quotes" => Some((Rows::Quotes, symbol)),
        "bars" if is_latest => Some((Rows::Bars(MINUTE_MS), symbol)),
        "bars" => {
            let frame = asked("timeframe").map_or("1Min", |(_, value)| value);
            Some((Rows::Bars(interval_of(frame)?), symbol))
        }
        _ => None,
    }
}

/// The length in ms of a time frame. Those of months differ, and have none.
fn interval_of(frame: &str) -> Option<u32> {
    let digits = frame.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = frame.split_at(digits);
    let unit_ms = match unit {
        "Min" | "T" => MINUTE_MS,
        "Hour" | "H" => 60 * MINUTE_MS,
        "Day" | "D" => DAY_MS,
        "Week" | "W" => 7 * DAY_MS,
        _ => return None,
    };
    count.parse::<u32>().ok()?.checked_mul(unit_ms)
}
