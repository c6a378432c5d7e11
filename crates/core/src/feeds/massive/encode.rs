//! What the venue would send for records: an array of one event.
//!
//! Times have the venue's unit, so what is finer is cut off. What a message has and a record has
//! not, such as the exchange of a trade, is left out.

use super::decode::{MINUTE_MS, SECOND_MS};
use crate::decimal;
use crate::error::{Error, Result};
use crate::feeds::event_writer::EventWriter;
use crate::feeds::events::{EQUITY, INDEX, OPTION};
use crate::instrument::Instruments;
use crate::record::{
    unpadded, Bar, Definition, Header, Imbalance, Kind, Level, Mark, Marker, Quote, RecordRef,
    Records, Side, Status, Trade, NONE, PRICE_PLACES, SIZE_PLACES,
};

const NS_PER_MS: i64 = 1_000_000;

/// An event of this venue being written.
struct Writer<'a>(EventWriter<'a>);

impl<'a> std::ops::Deref for Writer<'a> {
    type Target = EventWriter<'a>;

    fn deref(&self) -> &EventWriter<'a> {
        &self.0
    }
}

impl std::ops::DerefMut for Writer<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Writer<'_> {
    fn sizes(&mut self, (whole, exact): (&str, &str), value: i64) {
        self.size(whole, value - value % 10i64.pow(SIZE_PLACES));
        let mut digits = Vec::new();
        decimal::format(i128::from(value), SIZE_PLACES, 1, &mut digits);
        self.text(exact, &String::from_utf8_lossy(&digits));
    }

    fn conditions(&mut self, ids: [u8; 2]) {
        if ids == [0; 2] {
            return;
        }
        self.key("c");
        self.out.push(b'[');
        for (at, id) in ids.into_iter().filter(|&id| id != 0).enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            decimal::format(i128::from(id), 0, 0, self.out);
        }
        self.out.push(b']');
    }

    fn trade(&mut self, trade: &Trade, market: Market) {
        self.price("p", trade.price);
        if market == Market::Crypto {
            self.size("s", trade.size);
            let side = (trade.side == Side::Bid as u8, trade.side == Side::Ask as u8);
            self.conditions([if side.0 { 2 } else { u8::from(side.1) }, 0]);
        } else {
            self.sizes(("s", "ds"), trade.size);
            self.conditions(trade.conditions);
            self.number("q", trade.header.sequence, 0);
        }
        if trade.trade_id != 0 {
            self.text("i", &trade.trade_id.to_string());
        }
        self.number("t", trade.header.ts_event / NS_PER_MS, 0);
    }

    fn quote(&mut self, quote: &Quote) {
        self.price("bp", quote.bid_price);
        self.size("bs", quote.bid_size);
        self.price("ap", quote.ask_price);
        self.size("as", quote.ask_size);
        self.number("t", quote.header.ts_event / NS_PER_MS, 0);
        if quote.header.sequence != 0 {
            self.number("q", quote.header.sequence, 0);
        }
    }

    /// Prices of a bar, and the average of what was traded where that is known.
    fn window(&mut self, bar: &Bar) {
        for (key, price) in [("o", bar.open), ("h", bar.high), ("l", bar.low), ("c", bar.close)] {
            self.price(key, price);
        }
        let turnover = i128::from(bar.turnover);
        if bar.volume > 0 && turnover > 0 {
            self.number("vw", turnover / i128::from(bar.volume), PRICE_PLACES);
        }
    }

    fn bar(&mut self, bar: &Bar) {
        self.window(bar);
        self.sizes(("v", "dv"), bar.volume);
        let start = bar.header.ts_event / NS_PER_MS;
        self.number("s", start, 0);
        self.number("e", start + i64::from(bar.interval_ms), 0);
    }

    fn levels(&mut self, key: &str, levels: &Records, side: Side) {
        self.key(key);
        self.out.push(b'[');
        let of_side = |record: RecordRef<'_>| record.get::<Level>();
        let found = levels.iter().filter_map(of_side).filter(|level| level.side == side as u8);
        for (at, level) in found.enumerate() {
            self.out.extend_from_slice(if at > 0 { b",[" } else { b"[" });
            decimal::format(i128::from(level.price), PRICE_PLACES, 0, self.out);
            self.out.push(b',');
            decimal::format(i128::from(level.size), SIZE_PLACES, 0, self.out);
            self.out.push(b']');
        }
        self.out.push(b']');
    }
}

/// Which of the venue's markets an instrument is of, as far as messages differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Market {
    Securities,
    Crypto,
}

/// Appends the frame for `event`, the records of one venue event.
///
/// # Errors
/// `Error::Invalid`: the venue has no message for such records.
pub fn frame(event: &Records, instruments: &Instruments, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'[');
    object(event, instruments, out)?;
    out.push(b']');
    Ok(())
}

/// Appends the row of an answer for `event`, a trade, a quote or a bar. Times of trades and quotes
/// are in ns.
///
/// # Errors
/// `Error::Invalid`: no answer has rows of such records.
pub fn row(event: &Records, instruments: &Instruments, out: &mut Vec<u8>) -> Result<()> {
    let first = event.iter().next().ok_or(Error::invalid("expected a row, got none"))?;
    let definition = definition(&first.header(), instruments)?;
    if let Some(trade) = first.get::<Trade>() {
        out.extend_from_slice(b"{\"conditions\":[]");
        let mut writer = Writer(EventWriter { out });
        // Rows of options have neither ids nor numbers.
        let is_option = definition.asset_class == OPTION;
        if !is_option {
            writer.text("id", &trade.trade_id.to_string());
        }
        writer.price("price", trade.price);
        if market_of(definition) == Market::Crypto {
            writer.size("size", trade.size);
        } else {
            writer.sizes(("size", "decimal_size"), trade.size);
            if !is_option {
                writer.number("sequence_number", trade.header.sequence, 0);
            }
            writer.number("sip_timestamp", trade.header.ts_event, 0);
        }
        writer.number("participant_timestamp", trade.header.ts_event, 0);
    } else if let Some(quote) = first.get::<Quote>() {
        out.extend_from_slice(b"{\"conditions\":[]");
        let mut writer = Writer(EventWriter { out });
        for (key, price) in [("bid_price", quote.bid_price), ("ask_price", quote.ask_price)] {
            writer.price(key, price);
        }
        for (key, size) in [("bid_size", quote.bid_size), ("ask_size", quote.ask_size)] {
            writer.size(key, size);
        }
        if market_of(definition) == Market::Securities {
            writer.number("sequence_number", quote.header.sequence, 0);
            writer.number("sip_timestamp", quote.header.ts_event, 0);
        }
        writer.number("participant_timestamp", quote.header.ts_event, 0);
    } else if let Some(bar) = first.get::<Bar>() {
        out.extend_from_slice(b"{\"n\":");
        decimal::format(i128::from(bar.count), 0, 0, out);
        let mut writer = Writer(EventWriter { out });
        writer.window(&bar);
        writer.size("v", bar.volume);
        writer.number("t", bar.header.ts_event / NS_PER_MS, 0);
    } else {
        return Err(none("rows of that kind"));
    }
    out.push(b'}');
    Ok(())
}

/// Appends the object of a frame for `event`.
///
/// # Errors
/// As [`frame`].
pub fn object(event: &Records, instruments: &Instruments, out: &mut Vec<u8>) -> Result<()> {
    let is_event = |record: &RecordRef<'_>| record.kind() != Kind::Definition as u8;
    let first = event.iter().find(is_event).ok_or(Error::invalid("expected an event, got none"))?;
    let definition = definition(&first.header(), instruments)?;
    let symbol = unpadded(&definition.symbol);
    let market = market_of(definition);
    let crypto = market == Market::Crypto;
    out.extend_from_slice(b"{\"ev\":\"");
    match Kind::try_from(first.kind()) {
        Ok(Kind::Trade) => {
            let name = if crypto { "XT" } else { "T" };
            named(out, name, symbol, crypto).trade(&read(first)?, market);
        }
        Ok(Kind::Quote) => {
            let name = if crypto { "XQ" } else { "Q" };
            named(out, name, symbol, crypto).quote(&read(first)?);
        }
        Ok(Kind::Bar) => {
            let bar: Bar = read(first)?;
            let name = match (bar.interval_ms, crypto) {
                (SECOND_MS, false) => "A",
                (MINUTE_MS, false) => "AM",
                (SECOND_MS, true) => "XAS",
                (MINUTE_MS, true) => "XA",
                _ => return Err(none("bars of that interval")),
            };
            named(out, name, symbol, crypto).bar(&bar);
        }
        Ok(Kind::Marker) => {
            let marker: Marker = read(first)?;
            let mut writer = named(out, "XL2", symbol, true);
            writer.number("t", marker.header.ts_event / NS_PER_MS, 0);
            writer.levels("b", event, Side::Bid);
            writer.levels("a", event, Side::Ask);
        }
        Ok(Kind::Status) => bands(out, symbol, &read(first)?),
        Ok(Kind::Mark) => value(out, symbol, &read(first)?),
        Ok(Kind::Imbalance) => imbalance(out, symbol, &read(first)?),
        _ => return Err(none("records of that kind")),
    }
    out.push(b'}');
    Ok(())
}

const fn market_of(definition: &Definition) -> Market {
    match definition.asset_class {
        EQUITY | OPTION | INDEX => Market::Securities,
        _ => Market::Crypto,
    }
}

fn bands(out: &mut Vec<u8>, symbol: &str, status: &Status) {
    let mut writer = begin(out, "LULD");
    writer.text("T", symbol);
    writer.price("h", status.price_high);
    writer.price("l", status.price_low);
    let reason = unpadded(&status.reason);
    if !reason.is_empty() {
        writer.key("i");
        writer.out.extend_from_slice(format!("[{reason}]").as_bytes());
    }
    // In ns, unlike all others.
    writer.number("t", status.header.ts_event, 0);
    writer.number("q", status.header.sequence, 0);
}

fn imbalance(out: &mut Vec<u8>, symbol: &str, imbalance: &Imbalance) {
    let mut writer = begin(out, "NOI");
    writer.text("T", symbol);
    // In ns, unlike most others.
    writer.number("t", imbalance.header.ts_event, 0);
    writer.number("at", imbalance.auction_time, 0);
    writer.text("a", unpadded(&imbalance.code));
    writer.number("i", imbalance.header.sequence, 0);
    if imbalance.imbalance_size != NONE {
        let sign = if imbalance.side == Side::Ask as u8 { -1 } else { 1 };
        writer.number("o", sign * imbalance.imbalance_size, SIZE_PLACES);
    }
    if imbalance.paired_size != NONE {
        writer.number("p", imbalance.paired_size, SIZE_PLACES);
    }
    if imbalance.near_price != NONE {
        writer.price("b", imbalance.near_price);
    }
}

fn value(out: &mut Vec<u8>, symbol: &str, mark: &Mark) {
    let is_index = mark.mark_price == NONE;
    let mut writer = begin(out, if is_index { "V" } else { "FMV" });
    writer.text(if is_index { "T" } else { "sym" }, symbol);
    let (key, value) = if is_index { ("val", mark.index_price) } else { ("fmv", mark.mark_price) };
    writer.price(key, value);
    writer.number("t", mark.header.ts_event / NS_PER_MS, 0);
}

fn begin<'a>(out: &'a mut Vec<u8>, name: &str) -> Writer<'a> {
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
    Writer(EventWriter { out })
}

/// Writes the symbol; that of a pair on one exchange is told as two.
fn named<'a>(out: &'a mut Vec<u8>, name: &str, symbol: &str, crypto: bool) -> Writer<'a> {
    let mut writer = begin(out, name);
    let (pair, exchange) = symbol.split_once('@').unwrap_or((symbol, ""));
    writer.text(if crypto { "pair" } else { "sym" }, pair);
    if let Ok(exchange) = exchange.parse::<u64>() {
        writer.number("x", exchange, 0);
    }
    writer
}

fn read<R: crate::record::Record>(record: RecordRef<'_>) -> Result<R> {
    record.get::<R>().ok_or(Error::invalid("expected a whole record"))
}

fn none(what: &str) -> Error {
    Error::invalid(format!("the venue has no message for {what}"))
}

fn definition<'a>(header: &Header, instruments: &'a Instruments) -> Result<&'a Definition> {
    let id = header.instrument;
    let unknown = || Error::invalid(format!("expected the definition of instrument {id}"));
    instruments.get(id).ok_or_else(unknown)
}
