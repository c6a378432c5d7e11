//! Rows of the past: what the REST interface of a venue gives of trades, quotes and bars.

use super::market::Market;
use crate::error::{Error, Result};
use crate::record::{Bar, Quote, Record, Records, Trade};

/// Which rows of the past.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Bars of this length in ms; none: trades, or quotes.
    pub interval_ms: Option<u32>,
    /// Quotes instead of trades.
    pub quotes: bool,
    /// Not before this time, in ns.
    pub start: i64,
    /// Not after this time, in ns.
    pub end: i64,
    /// Only those behind this one: the id of a trade, the sequence of a quote, the begin of a bar
    /// in ns; 0 for all.
    pub after: u64,
    /// At most so many, the oldest.
    pub limit: usize,
}

/// Rows, oldest first.
#[derive(Debug)]
pub(super) struct Past {
    /// One record each.
    pub(super) rows: Vec<Records>,
    /// The place of the last one, as in [`Rows::after`].
    pub(super) last: u64,
    /// Whether there are more.
    pub(super) has_more: bool,
}

impl Market {
    /// Rows of the past of `symbol`. Bars are those that are over and have trades.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not listed, or there are no bars of that length.
    pub(super) fn past(&mut self, symbol: &str, wanted: Rows) -> Result<Past> {
        let now = self.now();
        let at = self.find(symbol);
        let at = at.ok_or_else(|| Error::invalid(format!("{symbol:?} is not listed")))?;
        let history = &mut self.stalls[at].history;
        let within = |ts: i64| wanted.start <= ts && ts <= wanted.end;
        let mut found: Vec<(u64, Records)> = Vec::new();
        if let Some(interval_ms) = wanted.interval_ms {
            if !history.has_bars(interval_ms) {
                return Err(Error::invalid(format!("no bars of {interval_ms} ms are simulated")));
            }
            history.roll(interval_ms, now);
            let is_row = |bar: &&Bar| {
                let ts = bar.header.ts_event;
                bar.closed != 0 && bar.count > 0 && within(ts) && ts as u64 > wanted.after
            };
            for bar in history.bars(interval_ms).filter(is_row).take(wanted.limit + 1) {
                found.push((bar.header.ts_event as u64, one(bar)));
            }
        } else if wanted.quotes {
            let is_row = |quote: &&Quote| {
                within(quote.header.ts_event) && quote.header.sequence > wanted.after
            };
            for quote in history.quotes.iter().filter(is_row).take(wanted.limit + 1) {
                found.push((quote.header.sequence, one(quote)));
            }
        } else {
            let is_row =
                |trade: &&Trade| within(trade.header.ts_event) && trade.trade_id > wanted.after;
            for trade in history.trades.iter().filter(is_row).take(wanted.limit + 1) {
                found.push((trade.trade_id, one(trade)));
            }
        }
        let has_more = found.len() > wanted.limit;
        found.truncate(wanted.limit);
        let last = found.last().map_or(wanted.after, |(place, _)| *place);
        Ok(Past { rows: found.into_iter().map(|(_, records)| records).collect(), last, has_more })
    }
}

/// A batch of one record.
pub(super) fn one<R: Record>(record: &R) -> Records {
    let mut records = Records::new();
    records.push(record);
    records
}
