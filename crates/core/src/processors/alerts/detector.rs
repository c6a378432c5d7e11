//! What a detector is: the events that it sees, and the alerts that it raises.

use std::fmt::Debug;

use super::alarm::{Evidence, Moment, Scope};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Alert, Header, Kind, Marker, Metric, Quote, QuoteState, NONE};

/// Best prices and their sizes; a side that is empty has the price [`NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Top {
    pub(super) bid_price: i64,
    pub(super) bid_size: i64,
    pub(super) ask_price: i64,
    pub(super) ask_size: i64,
}

impl Top {
    pub(super) const EMPTY: Self =
        Self { bid_price: NONE, bid_size: 0, ask_price: NONE, ask_size: 0 };

    pub(super) const fn of(quote: &Quote) -> Self {
        Self {
            bid_price: quote.bid_price,
            bid_size: quote.bid_size,
            ask_price: quote.ask_price,
            ask_size: quote.ask_size,
        }
    }

    pub(super) const fn state(&self) -> QuoteState {
        if self.bid_price == NONE {
            QuoteState::EmptyBid
        } else if self.ask_price == NONE {
            QuoteState::EmptyAsk
        } else if self.bid_price < self.ask_price {
            QuoteState::Ok
        } else if self.bid_price == self.ask_price {
            QuoteState::Locked
        } else {
            QuoteState::Crossed
        }
    }

    /// Twice the mid, where both sides have a price.
    pub(super) fn mid2(&self) -> Option<i128> {
        let has_both = self.bid_price != NONE && self.ask_price != NONE;
        has_both.then(|| i128::from(self.bid_price) + i128::from(self.ask_price))
    }

    /// The spread in basis points of the mid.
    pub(super) fn spread_bps(&self) -> Option<f64> {
        let mid2 = self.mid2().filter(|&mid2| mid2 > 0)?;
        let spread = i128::from(self.ask_price) - i128::from(self.bid_price);
        Some(spread as f64 * 20_000.0 / mid2 as f64)
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        for value in [self.bid_price, self.bid_size, self.ask_price, self.ask_size] {
            state.i64(value);
        }
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        Ok(Self {
            bid_price: state.i64()?,
            bid_size: state.i64()?,
            ask_price: state.i64()?,
            ask_size: state.i64()?,
        })
    }
}

/// A trade as surveillance sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Print {
    pub(super) price: i64,
    pub(super) size: i64,
    /// Who took: a `Side`.
    pub(super) side: u8,
    /// Whether it sets the last price, by its conditions: only such a trade moves a price.
    pub(super) sets_price: bool,
}

/// An order at rest, as it was before the event that concerns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resting {
    /// A `Side`.
    pub(super) side: u8,
    pub(super) price: i64,
    pub(super) size: i64,
    /// When it took its place, in ns.
    pub(super) ts: i64,
}

/// What happened to a single order.
#[derive(Debug, Clone, Copy)]
pub(super) enum OrderEvent {
    /// A new order.
    Added { id: u64, order: Resting },
    /// So much of it was cancelled.
    Cancelled { id: u64, order: Resting, size: i64 },
    /// So much of it was executed.
    Filled { id: u64, order: Resting, size: i64 },
}

/// What a detector is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event<'a> {
    /// Any record of the market, before what it says.
    Message(&'a Header, Kind),
    /// The best prices as they are from now on.
    Top(Top),
    /// A trade, and the best prices before it.
    Print(Print, Top),
    /// What happened to an order, and the best prices before it.
    Order(OrderEvent, Top),
    /// A value of a metric.
    Metric(&'a Metric),
    /// An entry of the gap ledger.
    Gap(&'a Marker),
    /// What the recorder or somebody noted.
    Note(&'a Alert),
    /// Whether the instrument is traded: as the venue says, or as it shows by a trade. What broke
    /// the stream may have lost the end of a halt: from there on it is taken to be traded.
    Trading(bool),
    /// The receive time that was asked for has come.
    Time,
    /// The stream is broken: what comes does not continue what was.
    Break,
    /// The recorder subscribed what tells of the instrument: it is waited for from now on.
    Awaited,
    /// The instrument of that number is not recorded any more: the recorder started again, and said
    /// what it records.
    Dropped(u32),
    /// The recorder stopped: nothing is waited for. A break comes right behind it.
    End,
}

/// Looks for one thing in the stream of one instrument, or of a source.
pub(super) trait Detector: Debug + Send {
    /// Takes in what happened.
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>);

    /// The receive time at which it wants to be told that time passed; `i64::MAX` for never.
    fn due(&self) -> i64 {
        i64::MAX
    }

    /// Appends the whole state.
    fn write(&self, state: &mut StateWriter<'_>);

    /// Takes in what [`Detector::write`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not whole.
    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()>;
}

/// A condition that must hold for some time before it is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Hold {
    /// Since when, by receive time, and the evidence then; none: it does not hold.
    since: Option<(i64, i64, u64)>,
    for_ns: i64,
    /// Receive time at which it will have held for long enough.
    due: i64,
}

impl Hold {
    pub(super) const fn new(for_ns: i64) -> Self {
        Self { since: None, for_ns, due: i64::MAX }
    }

    /// The condition holds, as `evidence` says, or not.
    pub(super) fn set(&mut self, evidence: Option<Evidence>, scope: &mut Scope<'_>) {
        let at = scope.at;
        let Some(mut evidence) = evidence else {
            self.since = None;
            self.due = i64::MAX;
            scope.end(at.ts, None);
            return;
        };
        let (known, start, first) = *self.since.get_or_insert((at.ts_recv, at.ts, at.offset));
        (evidence.ts_start, evidence.first) = (start, first);
        let is_due = at.ts_recv.saturating_sub(known) >= self.for_ns
            || at.ts.saturating_sub(start) >= self.for_ns;
        self.due = if is_due { i64::MAX } else { known.saturating_add(self.for_ns) };
        if is_due {
            scope.raise(&evidence);
        }
    }

    pub(super) const fn due(&self) -> i64 {
        self.due
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.flag(self.since.is_some());
        if let Some((known, start, first)) = self.since {
            state.i64(known);
            state.i64(start);
            state.u64(first);
        }
        state.i64(self.due);
    }

    pub(super) fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.since = None;
        if state.flag()? {
            self.since = Some((state.i64()?, state.i64()?, state.u64()?));
        }
        self.due = state.i64()?;
        Ok(())
    }
}

/// The evidence of the best prices `top`.
pub(super) fn of_top(top: &Top, moment: &Moment) -> Evidence {
    Evidence {
        price: top.bid_price,
        size: top.bid_size.min(top.ask_size),
        detail: format!("bid={} ask={}", told(top.bid_price), told(top.ask_price)),
        ..Evidence::at(moment)
    }
}

/// A price as text.
pub(super) fn told(price: i64) -> String {
    if price == NONE {
        return "none".to_owned();
    }
    let (scale, places) = (crate::record::PRICE_SCALE, crate::record::PRICE_PLACES as usize);
    let sign = if price < 0 { "-" } else { "" };
    let (whole, rest) = (price.unsigned_abs() / scale as u64, price.unsigned_abs() % scale as u64);
    let rest = format!("{rest:0places$}");
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{rest}")
    }
}
