//! Answers of the REST interface, told apart by the path of their request.

use super::decode::{interval_ms, month_ms, Task};
use super::depth::Event;
use super::fields::{slot, Fields};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::scan::{Scanner, Span};
use crate::record::{
    padded, Bar, Channel, Definition, Turnover, FLAG_HISTORICAL, FLAG_LAST, FLAG_SNAPSHOT, NONE,
};

/// Requests whose answers have no record.
const SILENT: &[&str] = &[
    "ping",
    "time",
    "avgPrice",
    "uiKlines",
    "continuousKlines",
    "indexPriceKlines",
    "markPriceKlines",
    "premiumIndexKlines",
    "premiumIndex",
    "fundingRate",
    "fundingInfo",
    "openInterest",
    "assetIndex",
    "indexInfo",
    "historicalBlockTrades",
    "ticker",
    "ticker/price",
    "ticker/24hr",
    "ticker/tradingDay",
];

/// The least number of levels a side that may be asked for.
const DEPTH_LIMIT_LEAST: u32 = 5;
/// Elements of a REST kline, an array: the twelfth has no meaning.
const KLINE_ELEMENTS: usize = 11;

impl Task<'_> {
    /// Decodes the answer to the request `context`, such as `/api/v3/depth?symbol=BTCUSDT`.
    ///
    /// # Errors
    /// `Error::Decode` and `Error::DoesNotFit`.
    pub fn rest(&mut self, context: &[u8]) -> Result<()> {
        Scanner::check(self.bytes)?;
        let request = std::str::from_utf8(context)
            .map_err(|_| Error::decode(DecodeReason::UnknownStream, 0))?;
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        // The path is /api/v3/NAME, /fapi/v1/NAME and so on.
        let name = path.trim_start_matches('/').splitn(3, '/').nth(2).unwrap_or(path);
        let mut scanner = Scanner::new(self.bytes, 0);
        if scanner.peek_value()? == b'{' {
            let fields = self.fields(&mut scanner)?;
            return self.rest_object(name, query, &fields);
        }
        match name {
            "trades" | "historicalTrades" => self.rest_trades(query),
            "aggTrades" => self.rest_aggregates(query),
            "klines" => self.rest_klines(query),
            "ticker/bookTicker" => self.each(|task, fields| task.rest_quote(fields)),
            _ => silent(name),
        }
    }

    fn rest_object(&mut self, name: &str, query: &str, fields: &Fields) -> Result<()> {
        if fields.has(slot::CODE) && fields.has(slot::MSG) {
            return Err(Error::decode(DecodeReason::VenueError, fields.start()));
        }
        // One that is of no use makes none of the rest so.
        self.venue_time =
            self.values().time_or_none(fields, slot::SERVER_TIME, "ts_event").ok().flatten();
        match name {
            "depth" => self.rest_depth(query, fields),
            "exchangeInfo" => self.exchange_info(query, fields),
            "ticker/bookTicker" => self.rest_quote(fields),
            _ => silent(name),
        }
    }

    /// Calls `row` with each object of the array that the body is.
    fn each(&mut self, row: impl FnMut(&mut Self, &Fields) -> Result<()>) -> Result<()> {
        let mut scanner = Scanner::new(self.bytes, 0);
        scanner.at_value(b'[')?;
        self.elements(&mut scanner, row)
    }

    /// The instrument of the request.
    fn requested(&mut self, query: &str, ts: i64) -> Result<u32> {
        self.scratch.clear();
        if !parameter(query, "symbol", self.scratch) {
            return Err(Error::decode(DecodeReason::UnknownStream, 0));
        }
        self.symbols.define(self.scratch, self.instruments, ts.min(self.header.ts_recv), 0)
    }

    fn rest_depth(&mut self, query: &str, fields: &Fields) -> Result<()> {
        let mut values = self.values();
        let last = values.id(fields.need(slot::LAST_UPDATE_ID)?, "sequence")?;
        let sides = [fields.need(slot::BIDS)?, fields.need(slot::ASKS)?];
        let time = if fields.has(b'T') { b'T' } else { b'E' };
        let ts = values.time_or_none(fields, time, "ts_event")?.unwrap_or(self.header.ts_recv);
        let instrument = self.requested(query, ts)?;
        let event = Event { instrument, ts, last, previous: 0, span: 0 };
        self.scratch.clear();
        let limit = if parameter(query, "limit", self.scratch) {
            std::str::from_utf8(self.scratch).ok().and_then(|text| text.parse().ok())
        } else {
            None
        };
        // A capture does not tell what was asked for: a side of such a length may be cut.
        let limit = limit.unwrap_or(DEPTH_LIMIT_LEAST);
        self.snapshot(&event, sides, Channel::Snapshot, Some(limit))
    }

    fn rest_trades(&mut self, query: &str) -> Result<()> {
        self.header.flags |= FLAG_HISTORICAL;
        self.each(|task, fields| {
            let mut values = task.values();
            let id = values.id(fields.need(slot::ID)?, "trade_id")?;
            let price = values.price(fields.need(slot::PRICE)?, "price")?;
            let size = values.size(fields.need(slot::QTY)?, "size")?;
            let ts = values.time(fields.need(slot::TIME)?, "ts_event")?;
            let sold = values.flag(fields.need(slot::IS_BUYER_MAKER)?)?;
            let instrument = task.requested(query, ts)?;
            let header = task.head::<crate::record::Trade>(instrument, ts, id);
            task.push_trade(header, price, size, (id, 1), sold, Channel::Trade);
            Ok(())
        })
    }

    fn rest_aggregates(&mut self, query: &str) -> Result<()> {
        self.header.flags |= FLAG_HISTORICAL;
        self.each(|task, fields| {
            let aggregate = task.aggregate_values(fields)?;
            let instrument = task.requested(query, aggregate.ts)?;
            task.push_aggregate(instrument, &aggregate);
            Ok(())
        })
    }

    fn rest_klines(&mut self, query: &str) -> Result<()> {
        let mut interval = Vec::new();
        parameter(query, "interval", &mut interval);
        let length = interval_ms(&interval).ok_or(Error::decode(DecodeReason::UnknownStream, 0))?;
        self.header.flags |= FLAG_HISTORICAL | FLAG_LAST;
        let mut scanner = Scanner::new(self.bytes, 0);
        scanner.at_value(b'[')?;
        scanner.array(|scanner| {
            if self.rejected.passes_over(scanner, b'[')? {
                return Ok(());
            }
            let start = scanner.at_value(b'[')?;
            let (mut spans, mut count) = ([Span::default(); KLINE_ELEMENTS], 0);
            scanner.array(|scanner| {
                let value = scanner.value()?;
                if let Some(span) = spans.get_mut(count) {
                    *span = value;
                }
                count += 1;
                Ok(())
            })?;
            self.element(|task| {
                if count < KLINE_ELEMENTS {
                    return Err(Error::decode(DecodeReason::MissingField, start));
                }
                task.rest_kline(query, &spans, length)
            })
        })
    }

    fn rest_kline(
        &mut self,
        query: &str,
        spans: &[Span; KLINE_ELEMENTS],
        length: Option<u32>,
    ) -> Result<()> {
        let header = self.header;
        let mut values = self.values();
        let ts = values.time(spans[0], "ts_event")?;
        let end = values.time(spans[6], "ts_end")?;
        let wrong = Error::decode(DecodeReason::BadNumber, spans[6].start as usize);
        let mut bar = Bar {
            header,
            open: values.price(spans[1], "open")?,
            high: values.price(spans[2], "high")?,
            low: values.price(spans[3], "low")?,
            close: values.price(spans[4], "close")?,
            volume: values.size(spans[5], "volume")?,
            buy_volume: values.size(spans[9], "buy_volume")?,
            turnover: Turnover::from(values.turnover(spans[7], "turnover")?),
            buy_turnover: Turnover::from(values.turnover(spans[10], "buy_turnover")?),
            count: values.id(spans[8], "count")?,
            interval_ms: length.or_else(|| month_ms(ts, end)).ok_or(wrong)?,
            closed: u8::from(end < header.ts_recv),
            channel: Channel::Kline as u8,
            reserved: [0; 2],
        };
        let instrument = self.requested(query, ts)?;
        bar.header = self.head::<Bar>(instrument, ts, 0);
        self.out.push(&bar);
        Ok(())
    }

    fn rest_quote(&mut self, fields: &Fields) -> Result<()> {
        let symbol = fields.need(slot::SYMBOL)?;
        let mut values = self.values();
        let bid = (
            values.price(fields.need(slot::BID_PRICE)?, "bid_price")?,
            values.size(fields.need(slot::BID_QTY)?, "bid_size")?,
        );
        let ask = (
            values.price(fields.need(slot::ASK_PRICE)?, "ask_price")?,
            values.size(fields.need(slot::ASK_QTY)?, "ask_size")?,
        );
        let ts = values.time_or_none(fields, slot::TIME, "ts_event")?;
        let sequence = match fields.need(slot::LAST_UPDATE_ID) {
            Ok(span) => values.id(span, "sequence")?,
            Err(_) => 0,
        };
        self.push_quote(symbol, sequence, ts, bid, ask, FLAG_LAST | FLAG_SNAPSHOT)
    }

    /// Defines the instruments of the list that the request named; all where it named none. No
    /// records: the registry tells what changed.
    fn exchange_info(&mut self, query: &str, fields: &Fields) -> Result<()> {
        let span = fields.need(slot::SYMBOLS)?;
        let mut asked = Vec::new();
        if !parameter(query, "symbols", &mut asked) && parameter(query, "symbol", &mut asked) {
            asked = [b"\"", asked.as_slice(), b"\""].concat();
        }
        // All are scanned before any is defined, so that a cut answer leaves the registry alone.
        for define in [false, true] {
            let mut scanner = Scanner::inside(self.bytes, span);
            scanner.at_value(b'[')?;
            self.elements(&mut scanner, |task, fields| match define {
                true => task.define(&asked, fields),
                false => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Defines one element of exchangeInfo, if it is one of `asked`.
    fn define(&mut self, asked: &[u8], fields: &Fields) -> Result<()> {
        let symbol = fields.need(slot::SYMBOL)?;
        if !asked.is_empty() {
            let quoted = [b"\"", self.values().text(symbol)?, b"\""].concat();
            if !asked.windows(quoted.len()).any(|part| part == quoted) {
                return Ok(());
            }
        }
        let definition = self.definition(fields)?;
        let ts = self.header.ts_recv;
        let instrument = self.instrument(symbol, ts)?;
        let header = self.head::<Definition>(instrument, ts, 0);
        self.instruments.update(&Definition { header, ..definition });
        Ok(())
    }

    fn definition(&mut self, fields: &Fields) -> Result<Definition> {
        let too_long = Error::decode(DecodeReason::TooLong, fields.start());
        let symbol = self.string(fields, slot::SYMBOL)?;
        let base = self.string(fields, slot::BASE_ASSET)?;
        let quote = self.string(fields, slot::QUOTE_ASSET)?;
        let contract = if fields.has(slot::CONTRACT_TYPE) {
            Some(self.string(fields, slot::CONTRACT_TYPE)?)
        } else {
            None
        };
        let status = if fields.has(slot::STATUS) { slot::STATUS } else { slot::CONTRACT_STATUS };
        let status = status_number(&self.string(fields, status)?);
        let delivery = symbol.split_once('_').map(|(_, date)| date);
        let (asset_class, suffix) = match (contract.as_deref(), delivery) {
            (None, _) => (1, String::new()),
            (Some(kind), _) if kind.contains("PERPETUAL") => (2, "-PERP".to_owned()),
            (Some(_), date) => (3, format!("-{}", date.unwrap_or("FUTURE"))),
        };
        let (tick_size, lot_size) = self.steps(fields)?;
        let contract_size = match fields.find(self.bytes, slot::CONTRACT_SIZE) {
            Some(span) => self.values().size(span, "contract_size")?,
            None => 0,
        };
        let canonical = padded(&format!("{base}-{quote}{suffix}"));
        let (Some(symbol), Some(canonical), Some(currency)) =
            (padded(&symbol), canonical, padded(&quote))
        else {
            return Err(too_long);
        };
        Ok(Definition {
            header: self.header,
            tick_size,
            lot_size,
            valid_from: 0,
            valid_to: NONE,
            symbol,
            canonical,
            currency,
            asset_class,
            status,
            reserved: [0; 6],
            contract_size,
        })
    }

    /// Tick and lot size, from the filters.
    fn steps(&mut self, fields: &Fields) -> Result<(i64, i64)> {
        let mut steps = (NONE, NONE);
        let mut scanner = Scanner::inside(self.bytes, fields.need(slot::FILTERS)?);
        scanner.at_value(b'[')?;
        scanner.array(|scanner| {
            let filter = self.fields(scanner)?;
            let kind = filter.need(slot::FILTER_TYPE)?;
            let mut values = self.values();
            // A step of zero means that the filter is off.
            let off_is_none = |step| if step == 0 { NONE } else { step };
            match values.text(kind)? {
                b"PRICE_FILTER" => {
                    let step = values.price(filter.need(slot::TICK_SIZE)?, "tick_size")?;
                    steps.0 = off_is_none(step);
                }
                b"LOT_SIZE" => {
                    let step = values.size(filter.need(slot::STEP_SIZE)?, "lot_size")?;
                    steps.1 = off_is_none(step);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(steps)
    }

    fn string(&mut self, fields: &Fields, slot: u8) -> Result<String> {
        let span = fields.need(slot)?;
        let text = self.values().text(span)?.to_vec();
        String::from_utf8(text)
            .map_err(|_| Error::decode(DecodeReason::NotUtf8, span.start as usize))
    }
}

fn silent(name: &str) -> Result<()> {
    if SILENT.contains(&name) {
        return Ok(());
    }
    Err(Error::decode(DecodeReason::UnknownStream, 0))
}

/// The number of a venue's status in [`Definition::status`].
fn status_number(status: &str) -> u8 {
    match status {
        "TRADING" => 1,
        "HALT" | "BREAK" => 2,
        "PRE_TRADING" | "AUCTION_MATCH" => 3,
        "POST_TRADING" | "END_OF_DAY" | "PENDING_TRADING" | "PRE_DELIVERING" | "DELIVERING"
        | "DELIVERED" | "PRE_SETTLE" | "SETTLING" | "CLOSE" => 4,
        "CANCEL_ONLY" => 5,
        _ => 0,
    }
}

/// Appends the value of `name` in `query`, percent signs decoded, to `out`. False if it is not
/// there.
fn parameter(query: &str, name: &str, out: &mut Vec<u8>) -> bool {
    let Some(value) = query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|pair| pair.1))
    else {
        return false;
    };
    let mut rest = value.as_bytes();
    while let [byte, after @ ..] = rest {
        let decoded = match rest {
            [b'%', high, low, ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| (high << 4 | low) as u8)
            }
            _ => None,
        };
        out.push(decoded.unwrap_or(*byte));
        rest = if decoded.is_some() { &rest[3..] } else { after };
    }
    true
}
