//! Ticks: the uniform view of an instrument, one per trade and per change of the best prices.
//!
//! A tick carries the best bid and offer and the last price that were known at that moment; its
//! `volume` is the size of the trade that made it, 0 when a quote made it. By its conditions, a
//! trade may set no last price, such as an odd lot, or not count for volume. With `interval_ms` one
//! instrument gives at most one tick in an interval of event time: what comes sooner is folded into
//! the next, whose volume is then the sum: absent, and the tick flagged, if that does not fit.
//!
//! Trades from the venue's history make no tick, nor does a quote from there once something newer
//! of its instrument came: what fills a gap later is not the newest.

use super::state::{StateReader, StateWriter};
use super::{Batch, Processor, Settings};
use crate::error::{Error, Result};
use crate::feeds::{updates_of, BarSpan};
use crate::record::{
    records, Channel, Header, Plain, Quote, Record, Records, Tick, Trade, FLAG_HISTORICAL,
    FLAG_LAST, FLAG_MAYBE_BAD, FLAG_OUT_OF_ORDER, NONE,
};

const NAME: &str = "ticks";
const VERSION: u32 = 2;
/// Without the time of the newest event.
const VERSION_1: u32 = 1;

/// What is known of one instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    bid: i64,
    ask: i64,
    price: i64,
    /// Size of trades that are folded into the next tick.
    volume: i64,
    /// Event time of the last tick.
    ts: i64,
    /// That of the newest trade or quote that counts.
    newest: i64,
}

impl Default for Last {
    fn default() -> Self {
        Self { bid: NONE, ask: NONE, price: NONE, volume: 0, ts: i64::MIN, newest: i64::MIN }
    }
}

/// The processor `ticks`.
#[derive(Debug)]
pub struct Ticks {
    interval_ns: i64,
    channel: u8,
    instruments: Vec<Last>,
}

/// Builds the processor. Settings: `interval_ms`, 0 for every tick; `channel`, `trade` or
/// `agg_trade`: which trades count.
pub(super) fn build(settings: &mut Settings) -> Result<Box<dyn Processor>> {
    let interval_ms = settings.number("interval_ms", 0, 0)?;
    let channel = trade_channel(settings)?;
    let interval_ns = interval_ms.saturating_mul(1_000_000);
    Ok(Box::new(Ticks { interval_ns, channel: channel as u8, instruments: Vec::new() }))
}

/// The setting `channel`: which of the two streams of trades is taken.
pub(super) fn trade_channel(settings: &mut Settings) -> Result<Channel> {
    match settings.text("channel", Some("trade"))?.as_str() {
        "trade" => Ok(Channel::Trade),
        "agg_trade" => Ok(Channel::AggTrade),
        other => Err(Error::invalid(format!(
            "the setting channel: expected trade or agg_trade, got {other:?}"
        ))),
    }
}

/// The sum of a volume and a size; absent from the first sum on that does not fit.
#[inline]
pub(super) const fn total(volume: i64, size: i64) -> i64 {
    match volume.checked_add(size) {
        Some(sum) if volume != NONE => sum,
        _ => NONE,
    }
}

impl Ticks {
    fn last(&mut self, instrument: u32) -> &mut Last {
        let at = instrument as usize;
        if at >= self.instruments.len() {
            self.instruments.resize(at + 1, Last::default());
        }
        &mut self.instruments[at]
    }

    fn trade(&mut self, trade: &Trade, out: &mut Records) {
        // A late or historical trade says nothing about the last price.
        if trade.channel != self.channel
            || trade.header.flags & (FLAG_HISTORICAL | FLAG_OUT_OF_ORDER) != 0
        {
            return;
        }
        let updates = updates_of(trade.header.feed, trade.conditions, BarSpan::Intraday);
        if !updates.open_close && !updates.volume {
            return;
        }
        let last = self.last(trade.header.instrument);
        last.newest = last.newest.max(trade.header.ts_event);
        if updates.open_close {
            last.price = trade.price;
        }
        if updates.volume {
            last.volume = total(last.volume, trade.size);
        }
        self.tick(&trade.header, out);
    }

    fn quote(&mut self, quote: &Quote, out: &mut Records) {
        if quote.header.flags & FLAG_OUT_OF_ORDER != 0 {
            return;
        }
        let is_historical = quote.header.flags & FLAG_HISTORICAL != 0;
        let last = self.last(quote.header.instrument);
        if is_historical && quote.header.ts_event < last.newest {
            return;
        }
        last.newest = last.newest.max(quote.header.ts_event);
        if (last.bid, last.ask) == (quote.bid_price, quote.ask_price) {
            return;
        }
        (last.bid, last.ask) = (quote.bid_price, quote.ask_price);
        self.tick(&quote.header, out);
    }

    fn tick(&mut self, header: &Header, out: &mut Records) {
        let interval_ns = self.interval_ns;
        let last = self.last(header.instrument);
        // A venue's clock may be set back: that too starts an interval.
        if interval_ns > 0
            && last.ts != i64::MIN
            && header.ts_event.abs_diff(last.ts) < interval_ns as u64
        {
            return;
        }
        last.ts = header.ts_event;
        let volume = std::mem::take(&mut last.volume);
        let flags = if volume == NONE { FLAG_LAST | FLAG_MAYBE_BAD } else { FLAG_LAST };
        out.push(&Tick {
            header: Header { flags, ..retyped(header) },
            bid: last.bid,
            ask: last.ask,
            last: last.price,
            volume,
        });
    }
}

/// The header of a tick that the record of `header` made.
fn retyped(header: &Header) -> Header {
    let own = Header::of::<Tick>();
    Header { length: own.length, kind: own.kind, ..*header }
}

impl Processor for Ticks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, batch: Batch<'_>, out: &mut Records) -> Result<()> {
        const TRADE: u8 = Trade::KIND as u8;
        const QUOTE: u8 = Quote::KIND as u8;
        for record in records::iterate(batch.bytes) {
            match record.kind() {
                TRADE => {
                    if let Some(trade) = Trade::read_from(record.bytes()) {
                        self.trade(&trade, out);
                    }
                }
                QUOTE => {
                    if let Some(quote) = Quote::read_from(record.bytes()) {
                        self.quote(&quote, out);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let mut state = StateWriter::new(out, NAME, VERSION);
        state.length(self.instruments.len());
        for last in &self.instruments {
            for value in [last.bid, last.ask, last.price, last.volume, last.ts, last.newest] {
                state.i64(value);
            }
        }
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut state, version) = StateReader::of_any(bytes, NAME, &[VERSION, VERSION_1])?;
        let mut instruments = Vec::new();
        for _ in 0..state.length(40)? {
            let mut last = Last {
                bid: state.i64()?,
                ask: state.i64()?,
                price: state.i64()?,
                volume: state.i64()?,
                ts: state.i64()?,
                newest: i64::MIN,
            };
            last.newest = if version == VERSION { state.i64()? } else { last.ts };
            instruments.push(last);
        }
        state.finish()?;
        self.instruments = instruments;
        Ok(())
    }
}
