//! The market as Binance tells of it: frames of its streams, answers of its REST interface.

use std::sync::Arc;

use super::frames::{Frames, Names, VenueFrame, Wrapping};
use super::market::{Facts, Market, MarketConfig};
use crate::error::{Error, Result};
use crate::feeds::binance::{interval_ms, Binance};
use crate::feeds::{Descriptor, FeedId};
use crate::record::{Bar, Records, Trade};

mod listing;
mod streams;

/// The envelope of combined streams.
const WRAPPING: Wrapping =
    Wrapping { before: b"{\"stream\":\"", between: b"\",\"data\":", after: b"}" };

/// Which of the trades that the venue remembers.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// From this id on.
    pub from_id: Option<u64>,
    /// Not before this time, in ns.
    pub start: Option<i64>,
    /// Not after this time, in ns.
    pub end: Option<i64>,
    /// At most so many: the oldest where a start is given, else the newest.
    pub limit: usize,
}

/// Which bars.
#[derive(Debug, Clone, Copy)]
pub struct Klines<'a> {
    /// Their length, as the venue calls it.
    pub interval: &'a str,
    /// Opened not before this time, in ns.
    pub start: Option<i64>,
    /// Opened not after this time, in ns.
    pub end: Option<i64>,
    /// At most so many: the oldest where a start is given, else the newest.
    pub limit: usize,
}

/// A [`Market`] that speaks as Binance does.
#[derive(Debug)]
pub struct BinanceMarket {
    product: FeedId,
    market: Market,
    names: Names,
    millis: Binance,
    micros: Binance,
}

impl BinanceMarket {
    /// A market of `symbols` that opens as `config` says.
    ///
    /// # Errors
    /// `Error::Invalid`: no symbols, one twice, or one that ends in no known currency.
    pub fn new(product: FeedId, symbols: &[String], config: &MarketConfig) -> Result<Self> {
        let mut micros = Binance::new(product);
        micros.set_microseconds(true);
        let listed = symbols.iter().map(|symbol| listing::listing_of(symbol, product));
        let listings = listed.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            product,
            market: Market::new(Descriptor::from(product), listings, config)?,
            names: Arc::default(),
            millis: Binance::new(product),
            micros,
        })
    }

    /// The market itself.
    pub const fn market(&self) -> &Market {
        &self.market
    }

    /// The number of the stream called `name`, opened if it was not. `None`: the venue accepts
    /// the name and never sends anything.
    pub fn stream(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.names.iter().position(|known| **known == *name) {
            return Some(known as u32);
        }
        let (symbol, rest) = name.split_once('@')?;
        if symbol != symbol.to_lowercase() {
            return None;
        }
        let kind = streams::kind_of(rest, self.product)?;
        let number = self.market.open(&symbol.to_uppercase(), kind)?;
        Arc::make_mut(&mut self.names).push(name.into());
        Some(number)
    }

    /// Says whether the frames of a stream are to be made.
    pub fn want(&mut self, stream: u32, wanted: bool) {
        self.market.want(stream, wanted);
    }

    /// Lets everything happen up to and including `to` ns and returns the frames that tell of it,
    /// with `micros` also in microseconds.
    ///
    /// # Errors
    /// None in practice: the market makes only what the venue has messages for.
    pub fn advance(&mut self, to: i64, micros: bool) -> Result<Frames> {
        let mut frames = Frames::new(Arc::clone(&self.names), WRAPPING);
        let Self { market, millis, micros: fine, .. } = self;
        market.advance(to, &mut |instruments, event| {
            let frame = VenueFrame {
                stream: event.stream,
                ts: event.ts,
                first: event.first,
                last: event.last,
                payload: &[],
            };
            frames.push(frame, micros, |in_micros, out| {
                let encoder: &Binance = if in_micros { fine } else { millis };
                encoder.encode_payload(event.records, instruments, out)
            })
        })?;
        Ok(frames)
    }

    /// Skips `count` trade ids of an instrument.
    pub fn skip_trades(&mut self, symbol: &str, count: u64) {
        self.market.skip_trades(symbol, count);
    }

    /// How the instrument called `symbol` stands.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not listed.
    pub fn facts(&self, symbol: &str) -> Result<Facts> {
        self.market.facts(symbol).ok_or_else(|| not_listed(symbol))
    }

    /// The answer to a request for the book.
    ///
    /// # Errors
    /// `Error::Invalid`: the instrument is not listed.
    pub fn depth(&self, symbol: &str, limit: usize, micros: bool) -> Result<Vec<u8>> {
        let mut records = Records::new();
        self.market.snapshot(symbol, limit, &mut records).ok_or_else(|| not_listed(symbol))?;
        let mut out = Vec::new();
        self.encoder(micros).encode_rest_depth(&records, self.market.instruments(), &mut out)?;
        Ok(out)
    }

    /// The answer to a request for single trades.
    ///
    /// # Errors
    /// `Error::Invalid`: the instrument is not listed.
    pub fn trades(&self, symbol: &str, page: Page, micros: bool) -> Result<Vec<u8>> {
        let records = page.of(&self.stall(symbol)?.history.trades);
        let mut out = Vec::new();
        self.encoder(micros).encode_rest_trades(&records, self.market.instruments(), &mut out)?;
        Ok(out)
    }

    /// The answer to a request for aggregate trades.
    ///
    /// # Errors
    /// `Error::Invalid`: the instrument is not listed.
    pub fn aggregates(&self, symbol: &str, page: Page, micros: bool) -> Result<Vec<u8>> {
        let records = page.of(&self.stall(symbol)?.history.aggregates);
        let (mut out, listed) = (Vec::new(), self.market.instruments());
        self.encoder(micros).encode_rest_aggregates(&records, listed, &mut out)?;
        Ok(out)
    }

    /// The answer to a request for bars. Those that are over by now are closed first.
    ///
    /// # Errors
    /// `Error::Invalid`: the instrument is not listed, or there are no bars of that length.
    pub fn klines(&mut self, symbol: &str, wanted: Klines<'_>, micros: bool) -> Result<Vec<u8>> {
        let interval_ms =
            interval_ms(wanted.interval.as_bytes()).flatten().ok_or_else(|| no_bars(&wanted))?;
        let now = self.market.now();
        let at = self.market.find(symbol).ok_or_else(|| not_listed(symbol))?;
        let history = &mut self.market.stalls[at].history;
        if !history.has_bars(interval_ms) {
            return Err(no_bars(&wanted));
        }
        history.roll(interval_ms, now);
        let within = |bar: &&Bar| {
            wanted.start.is_none_or(|start| bar.header.ts_event >= start)
                && wanted.end.is_none_or(|end| bar.header.ts_event <= end)
        };
        let found: Vec<_> = history.bars(interval_ms).filter(within).collect();
        let records = cut(&found, wanted.start.is_some(), wanted.limit);
        let mut out = Vec::new();
        self.encoder(micros).encode_rest_klines(&records, self.market.instruments(), &mut out)?;
        Ok(out)
    }

    /// The answer to a request for the best bid and offer of each symbol.
    ///
    /// # Errors
    /// `Error::Invalid`: one is not listed.
    pub fn quotes(&self, symbols: &[String], micros: bool) -> Result<Vec<u8>> {
        let mut records = Records::new();
        for symbol in symbols {
            self.market.quote(symbol, &mut records).ok_or_else(|| not_listed(symbol))?;
        }
        let mut out = Vec::new();
        self.encoder(micros).encode_rest_quotes(&records, self.market.instruments(), &mut out)?;
        Ok(out)
    }

    /// The answer to a request for `exchangeInfo`; `rate_limits` is its array of limits.
    ///
    /// # Errors
    /// None in practice: every listed instrument has a definition.
    pub fn exchange_info(&self, rate_limits: &str, micros: bool) -> Result<Vec<u8>> {
        let (mut out, listed) = (Vec::new(), self.market.instruments());
        let encoder = self.encoder(micros);
        encoder.encode_rest_exchange_info(listed, self.market.now(), rate_limits, &mut out)?;
        Ok(out)
    }

    /// The product that is simulated.
    pub const fn product(&self) -> FeedId {
        self.product
    }

    const fn encoder(&self, micros: bool) -> &Binance {
        if micros {
            &self.micros
        } else {
            &self.millis
        }
    }

    fn stall(&self, symbol: &str) -> Result<&super::stall::Stall> {
        let at = self.market.find(symbol).ok_or_else(|| not_listed(symbol))?;
        Ok(&self.market.stalls[at])
    }
}

/// Frames that were recorded, of streams that are called `names`: empty at first.
pub fn recorded_frames(names: Names) -> Frames {
    Frames::new(names, WRAPPING)
}

impl Page {
    fn of<'a>(self, trades: impl IntoIterator<Item = &'a Trade>) -> Records {
        let within = |trade: &&Trade| {
            self.from_id.is_none_or(|from| trade.header.sequence >= from)
                && self.start.is_none_or(|start| trade.header.ts_event >= start)
                && self.end.is_none_or(|end| trade.header.ts_event <= end)
        };
        let found: Vec<_> = trades.into_iter().filter(within).collect();
        cut(&found, self.from_id.is_some() || self.start.is_some(), self.limit)
    }
}

fn cut<R: crate::record::Record>(found: &[&R], oldest: bool, limit: usize) -> Records {
    let count = found.len().min(limit);
    let kept = if oldest { &found[..count] } else { &found[found.len() - count..] };
    let mut records = Records::new();
    kept.iter().for_each(|record| records.push(*record));
    records
}

fn no_bars(wanted: &Klines<'_>) -> Error {
    Error::invalid(format!("{:?} is not an interval that is simulated", wanted.interval))
}

fn not_listed(symbol: &str) -> Error {
    Error::invalid(format!("{symbol:?} is not listed"))
}

#[cfg(test)]
mod tests;
