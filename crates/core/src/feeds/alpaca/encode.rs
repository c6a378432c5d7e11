//! What the venue would send for records: an array of one event, as JSON.
//!
//! What a message has and a record has not, such as the exchange of a trade, is left out.

use super::conditions::letter_of;
use super::decode::{CANCEL, DAY_MS, HALTED, MINUTE_MS, QUOTING, TRADING};
use super::keys::class_of;
use crate::decimal;
use crate::error::{Error, Result};
use crate::feeds::event_writer::EventWriter;
use crate::feeds::events::{EQUITY, ROUND_LOT, SHARES_SINCE};
use crate::feeds::rfc3339;
use crate::instrument::Instruments;
use crate::record::{
    unpadded, Bar, Correction, Imbalance, Kind, Level, Marker, MarkerCode, Quote, Record,
    RecordRef, Records, Side, Status, Trade, NONE, PRICE_PLACES, SIZE_PLACES,
};

/// Appends the frame for `event`, the records of one venue event.
///
/// # Errors
/// `Error::Invalid`: the venue has no message for such records.
pub fn frame(event: &Records, instruments: &Instruments, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    out.push(b'[');
    object(event, instruments, out).inspect_err(|_| out.truncate(start))?;
    out.push(b']');
    Ok(())
}

/// Appends the object of a frame for `event`, or the row of an answer, which says the same.
///
/// # Errors
/// As [`frame`].
pub fn object(event: &Records, instruments: &Instruments, out: &mut Vec<u8>) -> Result<()> {
    let is_event = |record: &RecordRef<'_>| record.kind() != Kind::Definition as u8;
    let first = event.iter().find(is_event).ok_or(Error::invalid("expected an event, got none"))?;
    let header = first.header();
    let id = header.instrument;
    let unknown = || Error::invalid(format!("expected the definition of instrument {id}"));
    let symbol = unpadded(&instruments.get(id).ok_or_else(unknown)?.symbol);
    let start = out.len();
    let mut writer = EventWriter { out };
    writer.out.extend_from_slice(b"{\"T\":\"");
    let done = match Kind::try_from(first.kind()) {
        Ok(Kind::Trade) => read(first).map(|trade| writer.trade(symbol, &trade)),
        Ok(Kind::Quote) => read(first).map(|quote| writer.quote(symbol, &quote)),
        Ok(Kind::Bar) => read(first).and_then(|bar| writer.bar(symbol, &bar)),
        Ok(Kind::Correction) => read(first).map(|correction| writer.amend(symbol, &correction)),
        Ok(Kind::Status) => read(first).map(|status| writer.status(symbol, &status)),
        Ok(Kind::Imbalance) => read(first).map(|told| writer.imbalance(symbol, &told)),
        Ok(Kind::Level) => {
            writer.book(symbol, event, false);
            Ok(())
        }
        Ok(Kind::Marker) => read(first).and_then(|marker: Marker| {
            if marker.code != MarkerCode::SnapshotBegin as u8 {
                return Err(none("markers of that kind"));
            }
            writer.book(symbol, event, true);
            Ok(())
        }),
        _ => Err(none("records of that kind")),
    };
    if done.is_err() {
        out.truncate(start);
        return done;
    }
    writer.key("t");
    out.push(b'"');
    rfc3339::format(header.ts_event, out);
    out.extend_from_slice(b"\"}");
    Ok(())
}

impl EventWriter<'_> {
    /// Writes the type of the event, which has begun, and its symbol.
    fn begin(&mut self, name: &str, symbol: &str) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'"');
        self.text("S", symbol);
    }

    fn trade(&mut self, symbol: &str, trade: &Trade) {
        self.begin("t", symbol);
        if trade.trade_id != 0 {
            self.number("i", trade.trade_id, 0);
        }
        self.price("p", trade.price);
        self.size("s", trade.size);
        match trade.side {
            side if side == Side::Bid as u8 => self.text("tks", "B"),
            side if side == Side::Ask as u8 => self.text("tks", "S"),
            _ => {}
        }
        if trade.conditions != [0; 2] {
            self.conditions(trade.conditions);
        }
    }

    fn conditions(&mut self, ids: [u8; 2]) {
        self.key("c");
        self.out.push(b'[');
        for (at, id) in ids.into_iter().filter(|&id| id != 0).enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.out.push(b'"');
            match letter_of(id) {
                // It stands for any that is no single letter.
                u8::MAX => self.out.extend_from_slice(b"??"),
                letter @ (b'"' | b'\\') => self.out.extend_from_slice(&[b'\\', letter]),
                letter => self.out.push(letter),
            }
            self.out.push(b'"');
        }
        self.out.push(b']');
        if ids.contains(&b'b') {
            self.text("z", "C");
        }
    }

    fn quote(&mut self, symbol: &str, quote: &Quote) {
        self.begin("q", symbol);
        let is_old = class_of(symbol.as_bytes()) == EQUITY && quote.header.ts_event < SHARES_SINCE;
        let lots = |size: i64| if is_old && size != NONE { size / ROUND_LOT } else { size };
        self.price("bp", quote.bid_price);
        self.size("bs", lots(quote.bid_size));
        self.price("ap", quote.ask_price);
        self.size("as", lots(quote.ask_size));
    }

    fn bar(&mut self, symbol: &str, bar: &Bar) -> Result<()> {
        match (bar.interval_ms, bar.closed) {
            (MINUTE_MS, 1) => self.begin("b", symbol),
            (DAY_MS, 0) => self.begin("d", symbol),
            _ => return Err(none("bars of that interval")),
        }
        for (key, price) in [("o", bar.open), ("h", bar.high), ("l", bar.low), ("c", bar.close)] {
            self.price(key, price);
        }
        self.size("v", bar.volume);
        self.number("n", bar.count, 0);
        // The average price of what was traded, where that is known.
        let turnover = i128::from(bar.turnover);
        if bar.volume > 0 && turnover > 0 {
            self.number("vw", turnover / i128::from(bar.volume), PRICE_PLACES);
        }
        Ok(())
    }

    fn amend(&mut self, symbol: &str, correction: &Correction) {
        if correction.action == CANCEL {
            self.begin("x", symbol);
            self.number("i", correction.trade_id, 0);
            return self.text("a", "C");
        }
        self.begin("c", symbol);
        self.number("oi", correction.trade_id, 0);
        if correction.header.sequence != 0 {
            self.number("ci", correction.header.sequence, 0);
        }
        self.price("cp", correction.price);
        self.size("cs", correction.size);
    }

    fn status(&mut self, symbol: &str, status: &Status) {
        let reason = unpadded(&status.reason);
        if status.price_low != NONE || status.price_high != NONE {
            self.begin("l", symbol);
            self.price("u", status.price_high);
            self.price("d", status.price_low);
            return self.text("i", reason);
        }
        self.begin("s", symbol);
        let code = match status.status {
            HALTED => "H",
            TRADING => "T",
            QUOTING => "Q",
            _ => "",
        };
        self.text("sc", code);
        self.text("rc", reason);
    }

    fn imbalance(&mut self, symbol: &str, told: &Imbalance) {
        self.begin("i", symbol);
        if told.reference_price != NONE {
            self.price("p", told.reference_price);
        }
    }

    fn book(&mut self, symbol: &str, event: &Records, is_whole: bool) {
        self.begin("o", symbol);
        for (key, side) in [("b", Side::Bid), ("a", Side::Ask)] {
            self.key(key);
            self.out.push(b'[');
            let of_side = |record: RecordRef<'_>| record.get::<Level>();
            let levels = event.iter().filter_map(of_side).filter(|at| at.side == side as u8);
            for (at, level) in levels.enumerate() {
                self.out.extend_from_slice(if at > 0 { b",{\"p\":" } else { b"{\"p\":" });
                decimal::format(i128::from(level.price), PRICE_PLACES, 0, self.out);
                self.out.extend_from_slice(b",\"s\":");
                decimal::format(i128::from(level.size), SIZE_PLACES, 0, self.out);
                self.out.push(b'}');
            }
            self.out.push(b']');
        }
        if is_whole {
            self.key("r");
            self.out.extend_from_slice(b"true");
        }
    }
}

fn read<R: Record>(record: RecordRef<'_>) -> Result<R> {
    record.get::<R>().ok_or(Error::invalid("expected a whole record"))
}

fn none(what: &str) -> Error {
    Error::invalid(format!("the venue has no message for {what}"))
}
