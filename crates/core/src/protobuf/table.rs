//! Which field of a record has which number in `proto/tapeworks/v1/market_data.proto`.
//!
//! Numbers are for good: one that was released is never given to another field. A test compares
//! this table with the schema, name by name.

use std::sync::OnceLock;

use crate::record::columns::{Layout, Meaning};
use crate::record::{Kind, MarkerCode};

/// Numbers of the fields of `MarketData` that are the same for every kind.
pub mod number {
    /// Symbol of the instrument.
    pub const SYMBOL: u32 = 1;
    /// Event time.
    pub const TIMESTAMP: u32 = 2;
    /// Best bid.
    pub const BID: u32 = 3;
    /// Best ask.
    pub const ASK: u32 = 4;
    /// Price of the last trade.
    pub const LAST_PRICE: u32 = 5;
    /// Size of the trade.
    pub const VOLUME: u32 = 6;
    /// Venue.
    pub const EXCHANGE: u32 = 7;
    /// Source in the settings.
    pub const SOURCE: u32 = 8;
    /// Receive time less event time.
    pub const LATENCY: u32 = 9;
    /// The venue's sequence.
    pub const SEQUENCE: u32 = 10;
    /// Receive time.
    pub const RECEIVED: u32 = 11;
    /// Kind of record.
    pub const KIND: u32 = 12;
    /// Flags of the record.
    pub const FLAGS: u32 = 13;
    /// Instrument id within the source.
    pub const INSTRUMENT: u32 = 14;
    /// Number of the feed.
    pub const FEED: u32 = 15;
    /// Offset on the tape.
    pub const TAPE_OFFSET: u32 = 16;
}

/// One message of the `event` oneof: the body of one layout.
#[derive(Debug, Clone, Copy)]
pub struct EventMessage {
    /// The layout of its records, and the name of its field in `MarketData`.
    pub layout: &'static str,
    /// Its number in `MarketData`; 0 if the fields of `MarketData` itself hold all of it.
    pub number: u32,
    /// Fields of `MarketData` that hold a field of the layout, too.
    pub uniform: &'static [(u32, &'static str)],
    /// Fields of the message: number and name in the layout. A turnover has this number for its
    /// low half and the next one for its high half.
    pub fields: &'static [(u32, &'static str)],
}

macro_rules! event {
    ($layout:literal = $number:literal
     { $($field:ident $at:literal),* $(,)? }
     $(uniform { $($known:ident $to:ident),+ $(,)? })?) => {
        EventMessage {
            layout: $layout,
            number: $number,
            uniform: &[$($((number::$to, stringify!($known))),+)?],
            fields: &[$(($at, stringify!($field))),*],
        }
    };
}

/// All messages of the `event` oneof, and the tick, which needs none.
pub const EVENTS: &[EventMessage] = &[
    event!("tick" = 0 {}
        uniform { bid BID, ask ASK, last LAST_PRICE, volume VOLUME }),
    event!("trade" = 20 {
        price 1, size 2, trade_id 3, count 4, side 5, channel 6, conditions 7,
    } uniform { price LAST_PRICE, size VOLUME }),
    event!("quote" = 21 { bid_price 1, bid_size 2, ask_price 3, ask_size 4 }
        uniform { bid_price BID, ask_price ASK }),
    event!("level" = 22 { price 1, size 2, previous 3, span 4, side 5, channel 6 }),
    event!("order" = 23 {
        price 1, size 2, order_id 3, previous_id 4, match_id 5, order_price 6, remaining 7,
        participant 8, action 9, side 10, cross 11, printed 12,
    }),
    event!("bar" = 24 {
        open 1, high 2, low 3, close 4, volume 5, buy_volume 6, turnover 7, buy_turnover 9,
        count 11, interval_ms 12, closed 13, channel 14,
    }),
    event!("status" = 25 { price_low 1, price_high 2, reason 3, status 4 }),
    event!("correction" = 26 { price 1, size 2, trade_id 3, action 4 }),
    event!("corporate_action" = 27 {
        split_from 1, split_to 2, cash_amount 3, ts_declared 4, ts_record 5, ts_pay 6,
        currency 7, subtype 8, action 9, former 10,
    }),
    event!("imbalance" = 35 {
        paired_size 1, imbalance_size 2, reference_price 3, near_price 4, far_price 5, code 6,
        auction_time 7, side 8, cross 9, state 10,
    }),
    event!("marker" = 28 {
        code 1, cause 2, state 3, channel 4, count 5, first 6, last 7, ts_start 8,
    }),
    event!("gap" = 29 { cause 1, state 2, channel 3, count 4, first 5, last 6, ts_start 7 }),
    event!("definition" = 30 {
        tick_size 1, lot_size 2, valid_from 3, valid_to 4, symbol 5, canonical 6, currency 7,
        asset_class 8, status 9, contract_size 10,
    }),
    event!("mark" = 31 { mark_price 1, index_price 2, funding_rate 3, ts_funding 4 }),
    event!("subscription" = 32 { symbol 1, stream 2, connection 3, line 4, channel 5, state 6 }),
    event!("metric" = 33 { value 1, count 2, window 3, metric 4, state 5 }),
    event!("alert" = 34 {
        id 1, ts_start 2, ts_end 3, first_offset 4, last_offset 5, value 6, threshold 7, price 8,
        size 9, count 10, rule 11, detector 12, subject 13, detail 14, state 15, severity 16,
        side 17,
    }),
];

/// How the bytes of one field are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Unsigned integers of a width in bytes, as varints; zero is not written.
    Byte,
    Half,
    Int,
    Word,
    /// As `Int`; what is not written is `u32::MAX`.
    Count,
    /// A zigzag varint; what is not written is `NONE`.
    Decimal,
    /// Eight bytes; what is not written is `NONE`.
    Time,
    /// Eight bytes; zero is not written.
    Fixed,
    /// Text of up to so many bytes.
    Text(usize),
}

/// One field on its way between a record and a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub number: u32,
    pub offset: usize,
    pub form: Form,
}

/// One event message, resolved against its layout.
#[derive(Debug)]
pub(super) struct Plan {
    pub number: u32,
    pub layout: &'static Layout,
    pub uniform: Vec<Step>,
    pub fields: Vec<Step>,
    /// Bytes that its body and its uniform fields take at most.
    pub bytes_max: usize,
}

/// All plans, as [`EVENTS`].
#[derive(Debug)]
pub(super) struct Plans {
    all: Vec<Plan>,
    by_kind: [usize; 256],
    gap: usize,
}

const UNKNOWN: usize = usize::MAX;

impl Plans {
    /// The plans of this build; resolved once.
    pub fn get() -> &'static Self {
        static PLANS: OnceLock<Plans> = OnceLock::new();
        PLANS.get_or_init(Self::resolve)
    }

    fn resolve() -> Self {
        let all: Vec<_> = EVENTS.iter().map(Plan::resolve).collect();
        let (mut by_kind, mut gap) = ([UNKNOWN; 256], UNKNOWN);
        for (index, plan) in all.iter().enumerate() {
            if plan.layout.name == "gap" {
                gap = index;
            } else {
                by_kind[plan.layout.kind as usize] = index;
            }
        }
        Self { all, by_kind, gap }
    }

    /// The plan of a whole record; none of a kind that has no message.
    #[inline]
    pub fn of_record(&self, bytes: &[u8]) -> Option<&Plan> {
        let is_gap = bytes[1] == Kind::Marker as u8 && bytes[CODE] == MarkerCode::Gap as u8;
        self.all.get(if is_gap { self.gap } else { self.by_kind[bytes[1] as usize] })
    }

    /// The plan of the event with this number in `MarketData`.
    pub fn of_number(&self, number: u32) -> Option<&Plan> {
        self.all.iter().find(|plan| plan.number == number)
    }

    /// The plan of a record without an event message.
    pub fn of_kind(&self, kind: u8) -> Option<&Plan> {
        self.all.get(self.by_kind[kind as usize]).filter(|plan| plan.number == 0)
    }
}

/// Where the code of a marker stands.
pub(super) const CODE: usize = std::mem::offset_of!(crate::record::Marker, code);

impl Plan {
    fn resolve(message: &EventMessage) -> Self {
        let layout = Layout::named(message.layout).expect("the table names layouts that exist");
        let uniform = steps(layout, message.uniform);
        let fields = steps(layout, message.fields);
        let bytes_max = uniform.iter().chain(&fields).map(Step::bytes_max).sum();
        Self { number: message.number, layout, uniform, fields, bytes_max }
    }
}

fn steps(layout: &Layout, fields: &[(u32, &'static str)]) -> Vec<Step> {
    let mut steps = Vec::new();
    for &(number, name) in fields {
        let field = layout.body.iter().find(|field| field.name == name);
        let field = field.expect("the table names fields that the layout has");
        let form = match (field.meaning, field.width) {
            (Meaning::Count, _) => Form::Count,
            (Meaning::Price | Meaning::Size, _) => Form::Decimal,
            (Meaning::Time, _) => Form::Time,
            (Meaning::Text, width) => Form::Text(width),
            (Meaning::Float, _) => Form::Fixed,
            (Meaning::Turnover, _) => {
                steps.push(Step { number, offset: field.offset, form: Form::Fixed });
                steps.push(Step {
                    number: number + 1,
                    offset: field.offset + 8,
                    form: Form::Fixed,
                });
                continue;
            }
            (_, 1) => Form::Byte,
            (_, 2) => Form::Half,
            (_, 4) => Form::Int,
            (_, _) => Form::Word,
        };
        steps.push(Step { number, offset: field.offset, form });
    }
    steps
}

impl Step {
    /// Tag and value at their longest.
    const fn bytes_max(&self) -> usize {
        match self.form {
            Form::Text(width) => 2 + 2 + width,
            _ => 2 + 10,
        }
    }
}
