//! Events of single orders: which instruments they concern, and what breaks their stream.

use super::measured::{concerned, missing::missing};
use super::{Metrics, UNITS_MAX};
use crate::book::{Step, SyncedBook};
use crate::record::{Header, Marker, Order, Records, NONE};

impl Metrics {
    pub(super) fn order(&mut self, order: &Order, out: &mut Records) {
        if self.orders.begins_with(&order.header) {
            self.orders.begin();
            self.begin_orders(&order.header, out);
        }
        if order.header.ts_event == NONE || self.measured(&order.header).is_none() {
            return;
        }
        let is_large = |value: i64| value != NONE && value.unsigned_abs() >= UNITS_MAX;
        if is_large(order.price) || is_large(order.size) {
            self.oversized += 1;
            return;
        }
        let change = self.orders.take(order);
        let known = self.watermark.ts();
        let mut values = std::mem::take(&mut self.values);
        if let Some(measured) = self.measured(&order.header) {
            measured.order(&order.header, &change, known, &mut values, out);
            let due = measured.due();
            self.note_due(due);
        }
        self.values = values;
    }

    /// Told by the router of instruments that the venue numbers its orders anew.
    pub(super) fn begin_orders_as_told(&mut self, header: &Header, out: &mut Records) {
        self.orders.begin_as_told();
        self.begin_orders(header, out);
    }

    /// The books of all instruments begin anew.
    fn begin_orders(&mut self, header: &Header, out: &mut Records) {
        self.complete_until(0, header.ts_event, out);
        self.instruments.iter_mut().flatten().for_each(|measured| measured.forget_orders());
        self.reset(&Header { instrument: 0, ..*header }, false, out);
    }

    /// Takes in whether trades came that were not recorded.
    pub(super) fn note_missing(&mut self, marker: &Marker) {
        if let Some((from, to)) = missing(marker, self.plan.channel) {
            concerned(&mut self.instruments, marker.header.instrument)
                .for_each(|measured| measured.miss(from, to));
        }
    }

    /// Told that all streams end, and books by `step`: nothing that comes continues what was.
    pub(super) fn end_streams(
        &mut self,
        header: &Header,
        step: impl Fn(&mut SyncedBook) -> Step,
        out: &mut Records,
    ) {
        self.lose_orders(0);
        for measured in self.instruments.iter_mut().flatten() {
            measured.end_book(&step);
        }
        self.reset(&Header { instrument: 0, ..*header }, false, out);
    }

    /// Told that the orders of an instrument, or of all where it is 0, are not known any more.
    pub(super) fn lose_orders(&mut self, instrument: u32) {
        self.orders.lose(instrument);
        for (at, slot) in self.instruments.iter_mut().enumerate() {
            if instrument == 0 || at == instrument as usize {
                slot.iter_mut().for_each(|measured| measured.lose_orders());
            }
        }
    }
}
