//! The layouts as tables: one definition for NumPy and for Arrow.
//!
//! Offsets and widths come from the structs of `record.rs`; this file adds what a field means. A
//! compile-time check holds that the fields of a kind cover it to the last byte.

use std::mem::offset_of;

use super::{
    AlertState, Channel, Cross, GapCause, GapState, Header, Kind, Level, Marker, MarkerCode,
    OrderAction, QuoteState, Severity, SubscriptionState, SyncState,
};
use crate::error::{DecodeReason, Error, Result};

/// What the bytes of a field mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// An unsigned integer of the field's width.
    Number,
    /// An unsigned 32-bit count whose largest value means "not known".
    Count,
    /// Nanoseconds since the epoch, or absent.
    Time,
    /// Units of 1e-9, or absent.
    Price,
    /// Units of 1e-8, or absent.
    Size,
    /// A signed 128-bit integer, units of 1e-17.
    Turnover,
    /// A float of 64 bits; what is not a number is absent.
    Float,
    /// Zero-padded text.
    Text,
    /// One byte that stands for a name; an empty name is absent.
    Name(&'static [&'static str]),
    /// Nothing that a column should show.
    Hidden,
}

/// One field of a record.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name, the same in the struct, in NumPy and in Arrow.
    pub name: &'static str,
    /// Its first byte in the record.
    pub offset: usize,
    /// Its width in bytes.
    pub width: usize,
    /// What it means.
    pub meaning: Meaning,
}

/// Which records of a kind belong to a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// All.
    All,
    /// Markers of one code.
    Code(MarkerCode),
    /// Levels that make up a book: changes and whole books, but no tops.
    Book,
    /// Markers that make up a book: its states, ends of whole books, updates without levels.
    BookMarker,
    /// Markers that say when a recorder and its connections began and ended.
    Session,
}

/// The fields of one kind of record.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The name by which it is asked for.
    pub name: &'static str,
    /// The kind of its records.
    pub kind: Kind,
    /// Which records of that kind.
    pub only: Only,
    /// Bytes of one record.
    pub width: usize,
    /// Body fields, in order; the header's are [`HEADER`].
    pub body: &'static [Field],
    /// Whether its records name their symbol themselves: one of the fields is `symbol`.
    pub names_symbol: bool,
}

const TAKER: Meaning = Meaning::Name(&["", "buy", "sell"]);
const SIDE: Meaning = Meaning::Name(&["", "bid", "ask"]);
const CHANNEL: Meaning = Meaning::Name(Channel::NAMES);
const CODE: Meaning = Meaning::Name(MarkerCode::NAMES);
const CAUSE: Meaning = Meaning::Name(GapCause::NAMES);
const REASON: Meaning = Meaning::Name(DecodeReason::NAMES);
// The state of a book of which nothing is known is absent.
const BOOK: Meaning = Meaning::Name(&{
    let mut names = [""; SyncState::NAMES.len()];
    let mut at = 1;
    while at < names.len() {
        names[at] = SyncState::NAMES[at];
        at += 1;
    }
    names
});
const STATE: Meaning = Meaning::Name(GapState::NAMES);
const SUBSCRIPTION: Meaning = Meaning::Name(SubscriptionState::NAMES);
const ACTION: Meaning = Meaning::Name(OrderAction::NAMES);
const CROSS: Meaning = Meaning::Name(Cross::NAMES);
const QUOTE_STATE: Meaning = Meaning::Name(QuoteState::NAMES);
const ALERT: Meaning = Meaning::Name(AlertState::NAMES);
const SEVERITY: Meaning = Meaning::Name(Severity::NAMES);
const CORRECTION: Meaning = Meaning::Name(&["", "cancel", "correct"]);
const CORPORATE: Meaning = Meaning::Name(&["", "split", "dividend", "symbol_change"]);
const IMBALANCE: Meaning = Meaning::Name(&super::Imbalance::STATES);
const TRADING: Meaning =
    Meaning::Name(&["", "trading", "halted", "auction", "closed", "cancel_only"]);
const ASSET: Meaning =
    Meaning::Name(&["", "spot", "perpetual", "future", "equity", "option", "index"]);

const fn width_of<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! fields {
    ($type:ident { $($field:ident $meaning:expr),+ $(,)? }) => {{
        const FIELDS: &[Field] = &[$(Field {
            name: stringify!($field),
            offset: offset_of!(super::$type, $field),
            width: width_of::<super::$type, _>(|record| &record.$field),
            meaning: $meaning,
        }),+];
        FIELDS
    }};
}

use Meaning::{Count, Float, Hidden, Number, Price, Size, Text, Time, Turnover};

/// The fields that every record starts with.
pub const HEADER: &[Field] = fields!(Header {
    length Hidden, kind Hidden, flags Number, feed Number, instrument Number,
    ts_event Time, ts_recv Time, sequence Number,
});

/// Whether one of `fields` is called `symbol`.
const fn has_symbol(fields: &[Field]) -> bool {
    let mut index = 0;
    while index < fields.len() {
        if matches!(fields[index].name.as_bytes(), b"symbol") {
            return true;
        }
        index += 1;
    }
    false
}

const fn layout(name: &'static str, kind: Kind, only: Only, body: &'static [Field]) -> Layout {
    Layout { name, kind, only, width: kind.record_size(), body, names_symbol: has_symbol(body) }
}

macro_rules! layout {
    ($name:literal, $type:ident { $($field:ident $meaning:expr),+ $(,)? }) => {
        layout($name, Kind::$type, Only::All, fields!($type { $($field $meaning),+ }))
    };
}

const MARKER: &[Field] = fields!(Marker {
    code CODE, cause Number, state Number, channel CHANNEL, count Count, first Number,
    last Number, ts_start Time,
});
const GAP: &[Field] = fields!(Marker {
    code Hidden, cause CAUSE, state STATE, channel CHANNEL, count Count, first Number,
    last Number, ts_start Time,
});

const DEAD: &[Field] = fields!(Marker {
    code CODE, cause REASON, state Number, channel CHANNEL, count Count, first Number,
    last Number, ts_start Time,
});
const BOOK_MARKER: &[Field] = fields!(Marker {
    code CODE, cause Number, state BOOK, channel CHANNEL, count Count, first Number,
    last Number, ts_start Time,
});

const fn marker(name: &'static str, only: Only, body: &'static [Field]) -> Layout {
    layout(name, Kind::Marker, only, body)
}

const LEVEL: Layout = layout!("level", Level {
    price Price, size Size, previous Number, span Number, side SIDE, channel CHANNEL,
    reserved Hidden,
});

/// All layouts. `book` and `book_marker` are what makes up a book; `gap`, `dead` and `news` are the
/// markers of that code. Those of markers name causes, reasons and states.
pub const LAYOUTS: &[Layout] = &[
    layout!("trade", Trade {
        price Price, size Size, trade_id Number, count Number, side TAKER, channel CHANNEL,
        conditions Number,
    }),
    layout!("quote", Quote { bid_price Price, bid_size Size, ask_price Price, ask_size Size }),
    LEVEL,
    Layout { name: "book", only: Only::Book, ..LEVEL },
    layout!("order", Order {
        price Price, size Size, order_id Number, previous_id Number, match_id Number,
        order_price Price, remaining Size, participant Text, action ACTION, side SIDE,
        cross CROSS, printed Number, reserved Hidden,
    }),
    layout!("bar", Bar {
        open Price, high Price, low Price, close Price, volume Size, buy_volume Size,
        turnover Turnover, buy_turnover Turnover, count Number, interval_ms Number,
        closed Number, channel CHANNEL, reserved Hidden,
    }),
    layout!("status", Status {
        price_low Price, price_high Price, reason Text, status TRADING, reserved Hidden,
    }),
    layout!("correction", Correction {
        price Price, size Size, trade_id Number, action CORRECTION, reserved Hidden,
    }),
    layout!("corporate_action", CorporateAction {
        split_from Price, split_to Price, cash_amount Price, ts_declared Time, ts_record Time,
        ts_pay Time, currency Text, subtype Text, action CORPORATE, former Text,
        reserved Hidden,
    }),
    layout!("imbalance", Imbalance {
        paired_size Size, imbalance_size Size, reference_price Price, near_price Price,
        far_price Price, code Text, auction_time Number, side SIDE, cross CROSS,
        state IMBALANCE, reserved Hidden,
    }),
    marker("marker", Only::All, MARKER),
    marker("gap", Only::Code(MarkerCode::Gap), GAP),
    marker("dead", Only::Code(MarkerCode::DeadLetter), DEAD),
    marker("news", Only::Code(MarkerCode::News), MARKER),
    marker("book_marker", Only::BookMarker, BOOK_MARKER),
    marker("session", Only::Session, MARKER),
    layout!("definition", Definition {
        tick_size Price, lot_size Size, valid_from Time, valid_to Time, symbol Text,
        canonical Text, currency Text, asset_class ASSET, status TRADING, reserved Hidden,
        contract_size Size,
    }),
    layout!("mark", Mark {
        mark_price Price, index_price Price, funding_rate Price, ts_funding Time,
    }),
    layout!("metric", Metric {
        value Float, count Number, window Number, metric Text, state QUOTE_STATE, reserved Hidden,
    }),
    layout!("alert", Alert {
        id Number, ts_start Time, ts_end Time, first_offset Number, last_offset Number,
        value Float, threshold Float, price Price, size Size, count Number, rule Text,
        detector Text, subject Text, detail Text, state ALERT, severity SEVERITY, side SIDE,
        reserved Hidden,
    }),
    layout!("tick", Tick { bid Price, ask Price, last Price, volume Size }),
    layout!("subscription", Subscription {
        symbol Text, stream Text, connection Number, line Number, channel CHANNEL,
        state SUBSCRIPTION, reserved Hidden,
    }),
];

const fn covers(fields: &[Field], start: usize, end: usize) -> bool {
    let (mut at, mut index) = (start, 0);
    while index < fields.len() {
        if fields[index].offset != at {
            return false;
        }
        at += fields[index].width;
        index += 1;
    }
    at == end
}

const _: () = {
    assert!(covers(HEADER, 0, size_of::<Header>()));
    let mut index = 0;
    while index < LAYOUTS.len() {
        assert!(covers(LAYOUTS[index].body, size_of::<Header>(), LAYOUTS[index].width));
        index += 1;
    }
};

const fn is_session(code: u8) -> bool {
    code == MarkerCode::Connected as u8
        || code == MarkerCode::Disconnected as u8
        || code == MarkerCode::EndOfSession as u8
        || code == MarkerCode::Subscribed as u8
        || code == MarkerCode::Delay as u8
}

const fn is_book_marker(code: u8) -> bool {
    code == MarkerCode::EmptyUpdate as u8
        || code == MarkerCode::BookState as u8
        || code == MarkerCode::CheckpointBegin as u8
        || code == MarkerCode::CheckpointEnd as u8
}

impl Layout {
    /// The layout called `name`.
    ///
    /// # Errors
    /// `Error::Invalid`: no such layout; the message lists all.
    pub fn named(name: &str) -> Result<&'static Self> {
        LAYOUTS.iter().find(|layout| layout.name == name).ok_or_else(|| {
            let names: Vec<_> = LAYOUTS.iter().map(|layout| layout.name).collect();
            Error::invalid(format!("expected a kind of {}, got {name:?}", names.join(", ")))
        })
    }

    /// Header and body fields, in the order of their bytes.
    pub fn fields(&self) -> impl Iterator<Item = &'static Field> {
        HEADER.iter().chain(self.body)
    }

    /// Whether the record that `bytes` starts with is of this layout.
    #[inline]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes[1] == self.kind as u8
            && bytes[0] as usize * 8 == self.width
            && match self.only {
                Only::All => true,
                Only::Code(code) => bytes[offset_of!(Marker, code)] == code as u8,
                Only::Book => bytes[offset_of!(Level, channel)] != Channel::PartialDepth as u8,
                Only::BookMarker => is_book_marker(bytes[offset_of!(Marker, code)]),
                Only::Session => is_session(bytes[offset_of!(Marker, code)]),
            }
    }

    /// The layout as NumPy describes a structured type: names and formats.
    pub fn descr(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for field in self.fields() {
            let name = field.name.to_owned();
            match (field.meaning, field.width) {
                (Meaning::Turnover, _) => {
                    out.push((format!("{name}_low"), "<u8".to_owned()));
                    out.push((format!("{name}_high"), "<i8".to_owned()));
                }
                (Meaning::Time | Meaning::Price | Meaning::Size, _) => {
                    out.push((name, "<i8".to_owned()));
                }
                (Meaning::Float, _) => out.push((name, "<f8".to_owned())),
                (Meaning::Text, width) => out.push((name, format!("|S{width}"))),
                (_, 1) => out.push((name, "|u1".to_owned())),
                (_, width @ (2 | 4 | 8)) => out.push((name, format!("<u{width}"))),
                (_, width) => out.push((name, format!("|V{width}"))),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_layout() {
        // One that had none could be stored, and never be shown.
        for &kind in Kind::ALL {
            assert!(LAYOUTS.iter().any(|layout| layout.kind == kind), "{kind:?}");
        }
    }
}
