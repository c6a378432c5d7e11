//! What sets the best prices of an instrument, and its trades: quotes, trades and single orders.

use super::alarm::Moment;
use super::detector::{Event, OrderEvent, Print, Top};
use super::{Alerts, SOURCE};
use crate::feeds::{updates_of, BarSpan};
use crate::record::{
    Kind, Order, OrderAction, Quote, Records, Side, Trade, FLAG_HISTORICAL, FLAG_OUT_OF_ORDER, NONE,
};

impl Alerts {
    pub(super) fn trade(&mut self, trade: &Trade, at: Moment, out: &mut Records) {
        self.message(&trade.header, Kind::Trade, at, out);
        let late = trade.header.flags & (FLAG_HISTORICAL | FLAG_OUT_OF_ORDER) != 0;
        if late || trade.price == NONE || trade.size == NONE {
            return;
        }
        let updates = updates_of(trade.header.feed, trade.conditions, BarSpan::Intraday);
        let sets_price = updates.open_close;
        if sets_price {
            self.end_halt_before(trade.header.instrument, at, out);
        }
        if trade.channel != self.channel {
            return;
        }
        let Some(watched) = self.watched(trade.header.instrument, trade.header.feed) else {
            return;
        };
        watched.has_trades = true;
        let top = watched.top;
        let print = Print { price: trade.price, size: trade.size, side: trade.side, sets_price };
        self.tell(trade.header.instrument, &Event::Print(print, top), at, out);
    }

    pub(super) fn quote(&mut self, quote: &Quote, at: Moment, out: &mut Records) {
        self.message(&quote.header, Kind::Quote, at, out);
        let (instrument, ts) = (quote.header.instrument, quote.header.ts_event);
        if quote.header.flags & FLAG_OUT_OF_ORDER != 0 {
            return;
        }
        if quote.header.flags & FLAG_HISTORICAL != 0 {
            let watched = self.watched(instrument, quote.header.feed);
            match watched.filter(|watched| ts >= watched.newest && ts != NONE) {
                Some(watched) => watched.newest = ts,
                None => return,
            }
        }
        self.change_top(instrument, Top::of(quote), at, out);
    }

    fn change_top(&mut self, instrument: u32, top: Top, at: Moment, out: &mut Records) {
        let Some(watched) = self.watched(instrument, 0) else { return };
        if watched.top != top {
            watched.top = top;
            self.tell(instrument, &Event::Top(top), at, out);
        }
    }

    pub(super) fn order(&mut self, order: &Order, at: Moment, out: &mut Records) {
        self.message(&order.header, Kind::Order, at, out);
        let instrument = order.header.instrument;
        if Self::is_traded(order) {
            self.end_halt_before(instrument, at, out);
        }
        let Some(orders) = self.orders.as_mut() else { return };
        if orders.begins_with(&order.header) {
            orders.begin();
            self.break_stream(SOURCE, at, out);
        }
        let Some(orders) = self.orders.as_mut() else { return };
        let was_whole = orders.is_whole(instrument);
        let happened = orders.apply(order);
        let after = orders.top(instrument);
        let Some(watched) = self.watched(instrument, order.header.feed) else { return };
        let (before, has_trades) = (watched.top, watched.has_trades);
        for event in happened.into_iter().flatten() {
            self.tell(instrument, &Event::Order(event, before), at, out);
        }
        let hidden = order.action == OrderAction::ExecuteHidden as u8;
        let filled = matches!(happened[0], Some(OrderEvent::Filled { .. }));
        if (filled || hidden) && !has_trades && order.price != NONE {
            // The order that rested was on the other side of the one that took.
            let side = match Side::try_from(order.side) {
                Ok(Side::Bid) => Side::Ask as u8,
                Ok(Side::Ask) => Side::Bid as u8,
                _ => Side::None as u8,
            };
            let print = Print { price: order.price, size: order.size, side, sets_price: true };
            self.tell(instrument, &Event::Print(print, before), at, out);
        }
        match after {
            Some(top) => self.change_top(instrument, top, at, out),
            // Its stream broke here, and no gap told of it.
            None if was_whole => self.break_stream(instrument, at, out),
            None => {}
        }
    }

    /// Whether an event of an order says that its instrument is traded.
    fn is_traded(order: &Order) -> bool {
        let is_late = order.header.flags & (FLAG_HISTORICAL | FLAG_OUT_OF_ORDER) != 0;
        let action = OrderAction::try_from(order.action);
        let executed = matches!(
            action,
            Ok(OrderAction::Execute | OrderAction::ExecuteAtPrice | OrderAction::ExecuteHidden)
        );
        executed && !is_late
    }
}
