//! Single orders of several instruments over some days, from a seed: the venue numbers them anew
//! each day, one instrument has few of them, and gaps of one instrument and of all break them.

use tapeworks_core::record::{
    padded, Channel, Definition, GapState, Header, Marker, MarkerCode, Order, OrderAction, Record,
    Records, FLAG_LAST, NONE,
};

use crate::market::Chance;

pub const SYMBOLS: [&str; 4] = ["AAAA", "BBBB", "CCCC", "DDDD"];
const HOUR: i64 = 3_600_000_000_000;

pub struct OrderDays {
    chance: Chance,
    ts: i64,
    sequence: u64,
    order: u64,
    /// Ids of orders that may be open, with their instruments.
    open: Vec<(u64, u32)>,
    pub records: Records,
}

impl OrderDays {
    pub fn of(seed: u64) -> Records {
        let ts = 1_700_000_000_000_000_000;
        let (chance, records) = (Chance(seed), Records::new());
        let mut days = Self { chance, ts, sequence: 0, order: 0, open: Vec::new(), records };
        for (at, symbol) in SYMBOLS.iter().enumerate() {
            days.define(1 + at as u32, symbol);
        }
        for day in 0..4 {
            // A day may begin high, or right behind the one before: with whichever instrument.
            days.sequence = days.chance.below(3) * 40;
            let events = 120 + days.chance.below(200);
            for _ in 0..events {
                days.event();
            }
            if day % 2 == 0 {
                days.marker(MarkerCode::EndOfSession, 0, Channel::None);
                days.open.clear();
            }
            days.ts += (6 * HOUR) * days.chance.below(2) as i64;
        }
        days.records
    }

    fn header<R: Record>(&mut self, instrument: u32) -> Header {
        self.ts += self.chance.below(60_000_000) as i64;
        let ts_recv = self.ts + self.chance.below(5_000_000) as i64;
        Header {
            instrument,
            feed: 8,
            flags: FLAG_LAST,
            ts_event: self.ts,
            ts_recv,
            ..Header::of::<R>()
        }
    }

    fn define(&mut self, instrument: u32, symbol: &str) {
        let definition = Definition {
            header: self.header::<Definition>(instrument),
            tick_size: 10_000_000,
            lot_size: 100_000_000,
            valid_from: 0,
            valid_to: NONE,
            symbol: padded(symbol).unwrap(),
            canonical: padded(symbol).unwrap(),
            currency: padded("USD").unwrap(),
            asset_class: 4,
            status: 1,
            reserved: [0; 6],
            contract_size: 0,
        };
        self.records.push(&definition);
    }

    fn marker(&mut self, code: MarkerCode, instrument: u32, channel: Channel) {
        let header = self.header::<Marker>(instrument);
        let state = if code == MarkerCode::Gap { GapState::Closed as u8 } else { 0 };
        let ts_start = header.ts_event - 1_000;
        let (code, channel) = (code as u8, channel as u8);
        self.records.push(&Marker {
            header,
            code,
            cause: 1,
            state,
            channel,
            count: 0,
            first: 0,
            last: 0,
            ts_start,
        });
    }

    fn event(&mut self) {
        match self.chance.below(90) {
            0 => self.marker(MarkerCode::Gap, 0, Channel::Order),
            1 => self.marker(MarkerCode::Gap, 2, Channel::Order),
            2 => self.marker(MarkerCode::Heartbeat, 0, Channel::None),
            _ => self.order(),
        }
    }

    fn order(&mut self) {
        // The last one has few.
        let instrument = 1 + self.chance.below(31).min(30) as u32 / 10;
        let side = 1 + self.chance.below(2) as u8;
        let step = 1 + self.chance.below(12) as i64;
        let price = (10_000 + if side == 1 { -step } else { step }) * 10_000_000;
        let mut order = Order {
            header: self.header::<Order>(instrument),
            price,
            size: (1 + self.chance.below(9) as i64) * 100_000_000,
            order_id: 0,
            previous_id: 0,
            match_id: 0,
            order_price: NONE,
            remaining: NONE,
            participant: [0; 8],
            action: OrderAction::Add as u8,
            side,
            cross: 0,
            printed: 0,
            reserved: [0; 28],
        };
        self.sequence += 1 + self.chance.below(3);
        order.header.sequence = self.sequence;
        if self.chance.below(40) == 0 {
            // It is not taken in, and has its number all the same; or it has none.
            match self.chance.below(3) {
                0 => order.header.ts_event = NONE,
                1 => order.size = 1 << 62,
                _ => order.header.sequence = 0,
            }
        }
        if self.open.len() > 12 || self.open.len() > 4 && self.chance.below(2) == 0 {
            let at = self.chance.below(self.open.len() as u64) as usize;
            let (id, owner) = self.open.swap_remove(at);
            (order.order_id, order.header.instrument) = (id, owner);
            let actions = [OrderAction::Delete, OrderAction::Execute, OrderAction::Cancel];
            order.action = actions[self.chance.below(3) as usize] as u8;
        } else {
            self.order += 1;
            order.order_id = self.order;
            self.open.push((self.order, instrument));
        }
        self.records.push(&order);
    }
}
