//! What the venue would send for records: keys, their order and the form of values are its own.
//!
//! Times have the venue's unit, so what is finer is cut off. What a message has and a record has
//! not, such as the best prices inside a 24-hour ticker, is written as the venue writes "nothing".

use super::encode_bars::interval_name;
use super::Binance;
use crate::decimal;
use crate::error::{Error, Result};
use crate::feeds::FeedId;
use crate::instrument::Instruments;
use crate::record::{
    unpadded, Bar, Channel, Definition, Header, Kind, Level, Mark, Marker, MarkerCode, Quote,
    RecordRef, Records, Side, Trade, NONE, PRICE_PLACES, SIZE_PLACES, TURNOVER_PLACES,
};

/// Decimals of prices and sizes on spot, whatever the instrument.
const SPOT_DECIMALS: u32 = 8;
/// Depths that partial books come in.
const PARTIAL_DEPTHS: [u32; 3] = [5, 10, 20];
/// One venue event: its first record tells what it is.
struct Event<'a> {
    first: RecordRef<'a>,
    rest: &'a Records,
}

impl Binance {
    /// Writes times in microseconds from now on, as spot does when asked to, or in milliseconds.
    pub const fn set_microseconds(&mut self, on: bool) {
        self.microseconds = on;
    }

    /// The name of the stream that carries `event`, such as `btcusdt@depth@100ms`, at the speed
    /// that the venue gives by default where it has several.
    ///
    /// # Errors
    /// `Error::Invalid`: the venue has no message for such records.
    pub fn stream_name(&self, event: &Records, instruments: &Instruments) -> Result<String> {
        let event = Event::of(event)?;
        let symbol = unpadded(&definition(event.first.header(), instruments)?.symbol);
        let symbol = symbol.to_ascii_lowercase();
        Ok(match event.message()? {
            Message::Trade(trade) if trade.channel == Channel::AggTrade as u8 => {
                format!("{symbol}@aggTrade")
            }
            Message::Trade(_) => format!("{symbol}@trade"),
            Message::Quote(_) => format!("{symbol}@bookTicker"),
            Message::Change { .. } => format!("{symbol}@depth@100ms"),
            Message::Partial(marker) => {
                let wanted = marker.count.div_ceil(2);
                let depth = PARTIAL_DEPTHS.into_iter().find(|&depth| wanted <= depth);
                format!("{symbol}@depth{}@100ms", depth.unwrap_or(20))
            }
            Message::Kline(bar) => format!("{symbol}@kline_{}", interval_name(bar.interval_ms)?),
            Message::Ticker(_) => format!("{symbol}@ticker"),
            Message::Mark(_) => format!("{symbol}@markPrice"),
        })
    }

    /// Appends the frame for `event` in the envelope of the stream `stream`.
    ///
    /// # Errors
    /// `Error::Invalid`: the venue has no message for such records; `out` is as it was.
    pub fn encode_combined(
        &self,
        stream: &str,
        event: &Records,
        instruments: &Instruments,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let length = out.len();
        out.extend_from_slice(b"{\"stream\":");
        write_text(stream, out);
        out.extend_from_slice(b",\"data\":");
        let done = self.encode_payload(event, instruments, out);
        match done {
            Ok(()) => out.push(b'}'),
            Err(_) => out.truncate(length),
        }
        done
    }

    /// Appends the raw frame for `event`.
    ///
    /// # Errors
    /// `Error::Invalid`: the venue has no message for such records; `out` is as it was.
    pub fn encode_payload(
        &self,
        event: &Records,
        instruments: &Instruments,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let event = Event::of(event)?;
        let message = event.message()?;
        let definition = definition(event.first.header(), instruments)?;
        let mut json = self.json(definition, out);
        match message {
            Message::Trade(trade) if trade.channel == Channel::AggTrade as u8 => {
                json.aggregate(&trade);
            }
            Message::Trade(trade) => json.trade(&trade),
            Message::Quote(quote) => json.quote(&quote),
            Message::Change { header, previous, span } => {
                json.depth_head(&header, previous, span);
                json.sides(["b", "a"], event.rest);
            }
            Message::Partial(marker) if json.spot => {
                json.open("lastUpdateId");
                json.id(marker.first);
                json.sides(["bids", "asks"], event.rest);
            }
            Message::Partial(marker) => {
                let level = event.rest.iter().find_map(|record| record.as_level());
                let (previous, span) = level.map_or((0, 0), |level| (level.previous, level.span));
                json.depth_head(&marker.header, previous, u64::from(span));
                json.sides(["b", "a"], event.rest);
            }
            Message::Kline(bar) => json.kline(&bar, interval_name(bar.interval_ms)?),
            Message::Ticker(bar) => json.ticker(&bar),
            Message::Mark(mark) => json.mark(&mark),
        }
        json.close();
        Ok(())
    }

    /// A writer of messages about the instrument of `definition`.
    pub(super) fn json<'a>(&self, definition: &'a Definition, out: &'a mut Vec<u8>) -> Json<'a> {
        let spot = self.feed == FeedId::BinanceSpot;
        let universe = if self.feed == FeedId::BinanceCoinm { "2" } else { "1" };
        let decimals = |step, places| if spot { SPOT_DECIMALS } else { places_of(step, places) };
        Json {
            spot,
            universe,
            time_unit: if self.microseconds { 1_000 } else { 1_000_000 },
            symbol: unpadded(&definition.symbol),
            price_decimals: decimals(definition.tick_size, PRICE_PLACES),
            size_decimals: decimals(definition.lot_size, SIZE_PLACES),
            out,
        }
    }
}

/// The definition of the instrument that a record names.
///
/// # Errors
/// `Error::Invalid`: it has none.
pub(super) fn definition(header: Header, instruments: &Instruments) -> Result<&Definition> {
    instruments.get(header.instrument).ok_or_else(|| {
        Error::invalid(format!("instrument {} of a record is not defined", header.instrument))
    })
}

/// Digits after the point of `step`, which has `places` of them in fixed point.
fn places_of(step: i64, places: u32) -> u32 {
    if step <= 0 || step == NONE {
        return 0;
    }
    (0..places).find(|&wanted| step % 10i64.pow(places - wanted) == 0).unwrap_or(places)
}

/// What the venue says in one message.
enum Message {
    Trade(Trade),
    Quote(Quote),
    Change { header: Header, previous: u64, span: u64 },
    Partial(Marker),
    Kline(Bar),
    Ticker(Bar),
    Mark(Mark),
}

impl<'a> Event<'a> {
    fn of(records: &'a Records) -> Result<Self> {
        // The definitions of new instruments may stand before an event; the venue sends none.
        let first = records
            .iter()
            .find(|record| record.kind() != Kind::Definition as u8)
            .ok_or_else(|| Error::invalid("expected the records of one venue event, got none"))?;
        Ok(Self { first, rest: records })
    }

    fn message(&self) -> Result<Message> {
        let message = match self.first.known_kind() {
            Some(Kind::Trade) => self.first.as_trade().map(Message::Trade),
            Some(Kind::Quote) => self.first.as_quote().map(Message::Quote),
            Some(Kind::Level) => self.first.as_level().and_then(|level| change(&level)),
            Some(Kind::Marker) => self.first.as_marker().and_then(marked),
            Some(Kind::Bar) => self.first.as_bar().map(|bar| match bar.channel {
                channel if channel == Channel::Ticker as u8 => Message::Ticker(bar),
                _ => Message::Kline(bar),
            }),
            Some(Kind::Mark) => self.first.as_mark().map(Message::Mark),
            _ => None,
        };
        message.ok_or_else(|| {
            let kind = self.first.kind();
            Error::invalid(format!("the venue has no message for a record of kind {kind}"))
        })
    }
}

fn change(level: &Level) -> Option<Message> {
    let (header, previous, span) = (level.header, level.previous, u64::from(level.span));
    let change = Message::Change { header, previous, span };
    (level.channel == Channel::Depth as u8).then_some(change)
}

fn marked(marker: Marker) -> Option<Message> {
    if marker.code == MarkerCode::EmptyUpdate as u8 {
        let span = marker.last.saturating_sub(marker.first);
        let (header, previous) = (marker.header, marker.ts_start as u64);
        return Some(Message::Change { header, previous, span });
    }
    let is_partial = marker.code == MarkerCode::SnapshotBegin as u8
        && marker.channel == Channel::PartialDepth as u8;
    is_partial.then_some(Message::Partial(marker))
}

/// Appends `text` as a JSON string.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            ..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Writes the members of one JSON object.
pub(super) struct Json<'a> {
    pub(super) spot: bool,
    /// The number of the universe of futures: USD-M or COIN-M.
    universe: &'static str,
    pub(super) time_unit: i64,
    pub(super) symbol: &'a str,
    price_decimals: u32,
    size_decimals: u32,
    pub(super) out: &'a mut Vec<u8>,
}

impl<'a> Json<'a> {
    /// Begins an object with `key`.
    pub(super) fn open(&mut self, key: &str) {
        self.out.push(b'{');
        self.name(key);
    }

    /// Goes on with `key`.
    pub(super) fn key(&mut self, key: &str) {
        self.out.push(b',');
        self.name(key);
    }

    fn name(&mut self, key: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub(super) fn close(&mut self) {
        self.out.push(b'}');
    }

    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        write_text(text, self.out);
    }

    pub(super) fn id(&mut self, value: u64) {
        decimal::format(i128::from(value), 0, 0, self.out);
    }

    pub(super) fn time(&mut self, ts: i64) {
        decimal::format(i128::from(ts / self.time_unit), 0, 0, self.out);
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    pub(super) fn quoted(&mut self, value: i128, places: u32, decimals: u32) {
        self.out.push(b'"');
        decimal::format(value, places, decimals, self.out);
        self.out.push(b'"');
    }

    pub(super) fn price(&mut self, price: i64) {
        let price = if price == NONE { 0 } else { price };
        self.quoted(i128::from(price), PRICE_PLACES, self.price_decimals);
    }

    pub(super) fn size(&mut self, size: i64) {
        let size = if size == NONE { 0 } else { size };
        self.quoted(i128::from(size), SIZE_PLACES, self.size_decimals);
    }

    pub(super) fn turnover(&mut self, turnover: i128) {
        let decimals =
            if self.spot { SPOT_DECIMALS } else { self.price_decimals + self.size_decimals };
        self.quoted(turnover, TURNOVER_PLACES, decimals);
    }

    /// Decimals of prices and of sizes.
    pub(super) fn precisions(&self) -> (u64, u64) {
        (u64::from(self.price_decimals), u64::from(self.size_decimals))
    }

    /// The event type, and when the server made the event: not before it happened.
    pub(super) fn event(&mut self, name: &str, header: &Header) {
        self.open("e");
        self.text(name);
        self.key("E");
        let made = if header.ts_recv == NONE { header.ts_event } else { header.ts_recv };
        self.time(made.max(header.ts_event));
    }

    pub(super) fn symbol(&mut self) {
        self.key("s");
        self.text(self.symbol);
    }

    /// The members that futures messages end with: pair and universe.
    fn universe(&mut self) {
        self.key("ps");
        self.text(self.pair());
        self.universe_number();
    }

    pub(super) fn universe_number(&mut self) {
        self.key("st");
        self.raw(self.universe);
    }

    /// What a future is of: its symbol without the day of delivery.
    pub(super) fn pair(&self) -> &'a str {
        self.symbol.split('_').next().unwrap_or_default()
    }

    /// Whether sizes are contracts that are paid in the asset that is traded.
    pub(super) fn is_inverse(&self) -> bool {
        self.universe == "2"
    }

    fn trade(&mut self, trade: &Trade) {
        self.event("trade", &trade.header);
        if !self.spot {
            self.key("T");
            self.time(trade.header.ts_event);
        }
        self.symbol();
        self.key("t");
        self.id(trade.trade_id);
        self.price_and_size(trade);
        if self.spot {
            self.key("T");
            self.time(trade.header.ts_event);
        } else {
            self.key("X");
            self.text("MARKET");
        }
        self.maker(trade);
    }

    pub(super) fn price_and_size(&mut self, trade: &Trade) {
        self.key("p");
        self.price(trade.price);
        self.key("q");
        self.size(trade.size);
    }

    fn maker(&mut self, trade: &Trade) {
        self.key("m");
        self.flag(trade.side == Side::Ask as u8);
        if self.spot {
            self.key("M");
            self.flag(true);
        }
    }

    fn aggregate(&mut self, trade: &Trade) {
        self.event("aggTrade", &trade.header);
        // Futures have the id before the symbol.
        if self.spot {
            self.symbol();
        }
        self.key("a");
        self.id(trade.header.sequence);
        if !self.spot {
            self.symbol();
        }
        self.price_and_size(trade);
        if !self.spot {
            self.key("nq");
            self.size(trade.size);
        }
        self.aggregate_rest(trade);
        if !self.spot {
            self.key("st");
            self.raw("1");
        }
    }

    /// What follows price and size, the same in the stream and in REST answers.
    pub(super) fn aggregate_rest(&mut self, trade: &Trade) {
        self.key("f");
        self.id(trade.trade_id);
        self.key("l");
        self.id(trade.trade_id + u64::from(trade.count) - 1);
        self.key("T");
        self.time(trade.header.ts_event);
        self.maker(trade);
    }

    fn quote(&mut self, quote: &Quote) {
        if self.spot {
            self.open("u");
        } else {
            self.open("e");
            self.text("bookTicker");
            self.key("u");
        }
        self.id(quote.header.sequence);
        self.symbol();
        self.key("b");
        self.price(quote.bid_price);
        self.key("B");
        self.size(quote.bid_size);
        self.key("a");
        self.price(quote.ask_price);
        self.key("A");
        self.size(quote.ask_size);
        if !self.spot {
            self.key("T");
            self.time(quote.header.ts_event);
            self.key("E");
            let made = if quote.header.ts_recv == NONE { 0 } else { quote.header.ts_recv };
            self.time(made.max(quote.header.ts_event));
            self.universe();
        }
    }

    fn depth_head(&mut self, header: &Header, previous: u64, span: u64) {
        if self.spot {
            // The only time of the message is when the venue made it.
            self.event("depthUpdate", &Header { ts_recv: NONE, ..*header });
        } else {
            self.event("depthUpdate", header);
            self.key("T");
            self.time(header.ts_event);
        }
        self.symbol();
        if !self.spot {
            self.universe();
        }
        self.key("U");
        self.id(header.sequence.saturating_sub(span));
        self.key("u");
        self.id(header.sequence);
        if !self.spot {
            self.key("pu");
            self.id(previous);
        }
    }

    pub(super) fn sides(&mut self, names: [&str; 2], records: &Records) {
        for (name, side) in names.into_iter().zip([Side::Bid, Side::Ask]) {
            self.key(name);
            self.out.push(b'[');
            let mut first = true;
            for level in records.iter().filter_map(|record| record.as_level()) {
                if level.side != side as u8 {
                    continue;
                }
                self.raw(if first { "[" } else { ",[" });
                first = false;
                self.price(level.price);
                self.out.push(b',');
                self.size(level.size);
                self.out.push(b']');
            }
            self.out.push(b']');
        }
    }
}
