//! Answers of the REST interface for records, as the venue writes them.

use super::encode::{definition, write_text, Json};
use super::Binance;
use crate::decimal;
use crate::error::{Error, Result};
use crate::feeds::FeedId;
use crate::instrument::Instruments;
use crate::record::{
    unpadded, Bar, Definition, Header, Marker, MarkerCode, Quote, Record, Records, Side, Trade,
    NONE, SIZE_PLACES,
};

impl Binance {
    /// Appends the answer to a depth request for `event`: a begin marker, levels, an end marker.
    ///
    /// # Errors
    /// `Error::Invalid`: the records are no snapshot of a defined instrument.
    pub fn encode_rest_depth(
        &self,
        event: &Records,
        instruments: &Instruments,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let marker = event
            .iter()
            .find_map(|record| record.as_marker())
            .filter(|marker: &Marker| marker.code == MarkerCode::SnapshotBegin as u8)
            .ok_or_else(|| Error::invalid("expected the begin of a snapshot"))?;
        let mut json = self.json(definition(marker.header, instruments)?, out);
        json.open("lastUpdateId");
        json.id(marker.first);
        if json.is_inverse() {
            json.key("symbol");
            json.text(json.symbol);
            json.key("pair");
            json.text(json.pair());
        }
        if !json.spot {
            for key in ["E", "T"] {
                json.key(key);
                json.time(marker.header.ts_event);
            }
        }
        json.sides(["bids", "asks"], event);
        json.close();
        Ok(())
    }

    /// Appends the answer to a request for trades, single ones.
    ///
    /// # Errors
    /// `Error::Invalid`: an instrument is not defined.
    pub fn encode_rest_trades(
        &self,
        trades: &Records,
        instruments: &Instruments,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.rows(trades, instruments, out, |json, trade: &Trade| {
            json.open("id");
            json.id(trade.trade_id);
            json.key("price");
            json.price(trade.price);
            json.key("qty");
            json.size(trade.size);
            // What a contract is paid in is no number that can be exact: none is written.
            if !json.is_inverse() {
                json.key("quoteQty");
                json.turnover(i128::from(trade.price) * i128::from(trade.size));
            }
            json.key("time");
            json.time(trade.header.ts_event);
            json.key("isBuyerMaker");
            json.flag(trade.side == Side::Ask as u8);
            if json.spot {
                json.key("isBestMatch");
                json.flag(true);
            }
            json.close();
            Ok(())
        })
    }

    /// Appends the answer to a request for aggregate trades.
    ///
    /// # Errors
    /// `Error::Invalid`: an instrument is not defined.
    pub fn encode_rest_aggregates(
        &self,
        trades: &Records,
        instruments: &Instruments,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.rows(trades, instruments, out, |json, trade: &Trade| {
            json.open("a");
            json.id(trade.header.sequence);
            json.price_and_size(trade);
            json.aggregate_rest(trade);
            json.close();
            Ok(())
        })
    }

    /// Appends the answer to a request for klines.
    ///
    /// # Errors
    /// `Error::Invalid`: an instrument is not defined.
    pub fn encode_rest_klines(
        &self,
        bars: &Records,
        instruments: &Instruments,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.rows(bars, instruments, out, |json, bar: &Bar| {
            json.raw("[");
            json.time(bar.header.ts_event);
            for price in [bar.open, bar.high, bar.low, bar.close] {
                json.raw(",");
                json.price(price);
            }
            json.raw(",");
            json.size(bar.volume);
            json.raw(",");
            json.time(json.end(bar));
            json.raw(",");
            json.turnover(bar.turnover.into());
            json.raw(",");
            json.id(bar.count);
            json.raw(",");
            json.size(bar.buy_volume);
            json.raw(",");
            json.turnover(bar.buy_turnover.into());
            json.raw(",\"0\"]");
            Ok(())
        })
    }

    /// Appends the answer to a request for the best bids and offers of several instruments.
    ///
    /// # Errors
    /// `Error::Invalid`: an instrument is not defined.
    pub fn encode_rest_quotes(
        &self,
        quotes: &Records,
        instruments: &Instruments,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.rows(quotes, instruments, out, |json, quote: &Quote| {
            json.open("symbol");
            json.text(json.symbol);
            json.key("bidPrice");
            json.price(quote.bid_price);
            json.key("bidQty");
            json.size(quote.bid_size);
            json.key("askPrice");
            json.price(quote.ask_price);
            json.key("askQty");
            json.size(quote.ask_size);
            if !json.spot {
                json.key("time");
                json.time(quote.header.ts_event);
                json.key("lastUpdateId");
                json.id(quote.header.sequence);
            }
            json.close();
            Ok(())
        })
    }

    /// Appends the answer to a request for `exchangeInfo` at `ts` ns with all instruments.
    /// `rate_limits` is the JSON array of the venue's limits.
    ///
    /// # Errors
    /// `Error::Invalid`: a canonical symbol has no quote currency.
    pub fn encode_rest_exchange_info(
        &self,
        instruments: &Instruments,
        ts: i64,
        rate_limits: &str,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let unit = if self.microseconds { 1_000 } else { 1_000_000 };
        let time = ts / unit;
        out.extend_from_slice(
            format!(
                "{{\"timezone\":\"UTC\",\"serverTime\":{time},\"rateLimits\":{rate_limits},\
                 \"exchangeFilters\":[],\"symbols\":["
            )
            .as_bytes(),
        );
        let valid = |definition: &&Definition| {
            definition.header.feed == self.feed as u8 && definition.valid_to == NONE
        };
        for (number, definition) in instruments.iter().filter(valid).enumerate() {
            if number > 0 {
                out.push(b',');
            }
            self.symbol_info(definition, out)?;
        }
        out.extend_from_slice(b"]}");
        Ok(())
    }

    fn symbol_info(&self, definition: &Definition, out: &mut Vec<u8>) -> Result<()> {
        let canonical = unpadded(&definition.canonical);
        let (base, _) = canonical.split_once('-').ok_or_else(|| {
            Error::invalid(format!("expected a canonical symbol like BTC-USDT, got {canonical:?}"))
        })?;
        let quote = unpadded(&definition.currency);
        let mut json = self.json(definition, out);
        json.open("symbol");
        json.text(json.symbol);
        if !json.spot {
            json.key("pair");
            json.text(json.pair());
            json.key("contractType");
            json.text(if definition.asset_class == 2 { "PERPETUAL" } else { "CURRENT_QUARTER" });
        }
        json.key(if json.is_inverse() { "contractStatus" } else { "status" });
        json.text(status_name(definition.status));
        json.key("baseAsset");
        json.text(base);
        json.key("baseAssetPrecision");
        json.raw("8");
        json.key("quoteAsset");
        json.text(quote);
        json.key("quotePrecision");
        json.raw("8");
        json.traits(if json.is_inverse() { base } else { quote }, definition);
        json.key("filters");
        json.raw("[{\"filterType\":\"PRICE_FILTER\",\"minPrice\":");
        json.price(definition.tick_size);
        json.raw(",\"maxPrice\":\"1000000.00000000\",\"tickSize\":");
        json.price(definition.tick_size);
        json.raw("},{\"filterType\":\"LOT_SIZE\",\"minQty\":");
        json.size(definition.lot_size);
        json.raw(",\"maxQty\":\"9000000.00000000\",\"stepSize\":");
        json.size(definition.lot_size);
        json.raw("}]");
        json.close();
        Ok(())
    }

    /// Appends the array of what `row` writes for each record of type `R`.
    fn rows<R: Record>(
        &self,
        records: &Records,
        instruments: &Instruments,
        out: &mut Vec<u8>,
        row: impl Fn(&mut Json<'_>, &R) -> Result<()>,
    ) -> Result<()> {
        out.push(b'[');
        let mut first = true;
        for record in records.iter().filter_map(|record| record.get::<R>()) {
            if !first {
                out.push(b',');
            }
            first = false;
            let header: Header = *record.header();
            row(&mut self.json(definition(header, instruments)?, out), &record)?;
        }
        out.push(b']');
        Ok(())
    }

    /// Which product it is.
    pub const fn product(&self) -> FeedId {
        self.feed
    }
}

impl Json<'_> {
    /// What an instrument allows: on spot the order types, on futures the precisions.
    /// Futures are paid in `margin`.
    fn traits(&mut self, margin: &str, definition: &Definition) {
        if self.spot {
            self.raw(concat!(
                ",\"quoteAssetPrecision\":8,\"baseCommissionPrecision\":8,",
                "\"quoteCommissionPrecision\":8,",
                "\"orderTypes\":[\"LIMIT\",\"LIMIT_MAKER\",\"MARKET\"],",
                "\"icebergAllowed\":true,\"ocoAllowed\":true,",
                "\"quoteOrderQtyMarketAllowed\":true,\"isSpotTradingAllowed\":true,",
                "\"isMarginTradingAllowed\":false,\"permissions\":[\"SPOT\"]"
            ));
            return;
        }
        self.key("marginAsset");
        write_text(margin, self.out);
        if self.is_inverse() {
            self.key("contractSize");
            decimal::format(definition.contract_size.into(), SIZE_PLACES, 0, self.out);
        }
        let (price, size) = self.precisions();
        self.key("pricePrecision");
        self.id(price);
        self.key("quantityPrecision");
        self.id(size);
        self.key("onboardDate");
        self.time(definition.valid_from);
        self.raw(",\"underlyingType\":\"COIN\"");
    }
}

/// The venue's word for [`Definition::status`].
const fn status_name(status: u8) -> &'static str {
    match status {
        2 => "HALT",
        3 => "AUCTION_MATCH",
        4 => "END_OF_DAY",
        5 => "CANCEL_ONLY",
        _ => "TRADING",
    }
}
