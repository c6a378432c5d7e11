//! What is said of streams: gaps, the ends of sessions, subscriptions, and whether is traded.

use super::alarm::Moment;
use super::detector::{Event, Top};
use super::rule::Rule;
use super::{Alerts, SOURCE};
use crate::record::{
    unpadded, GapState, Marker, MarkerCode, Records, Status, Subscription, SubscriptionState,
};

/// The state of an instrument that is traded.
const TRADING: u8 = 1;

impl Alerts {
    pub(super) fn marker(&mut self, marker: &Marker, at: Moment, out: &mut Records) {
        match MarkerCode::try_from(marker.code) {
            Ok(MarkerCode::EndOfSession) => {
                self.tell_all(&Event::End, at, out);
                self.break_stream(SOURCE, at, out);
            }
            Ok(MarkerCode::Gap) => {
                let instrument = marker.header.instrument;
                self.watched(instrument, marker.header.feed);
                self.tell(instrument, &Event::Gap(marker), at, out);
                if instrument != SOURCE {
                    // Those of the instrument itself have been told.
                    let is_of_source = |rule: &Rule| rule.is_of_source;
                    self.tell_those(is_of_source, SOURCE, &Event::Gap(marker), at, out);
                }
                if marker.state != GapState::Repaired as u8 {
                    self.break_stream(instrument, at, out);
                }
            }
            _ => {}
        }
    }

    /// What comes of an instrument, or of all, does not continue what was.
    pub(super) fn break_stream(&mut self, instrument: u32, at: Moment, out: &mut Records) {
        if let Some(orders) = self.orders.as_mut() {
            orders.forget(instrument);
        }
        if instrument != SOURCE {
            self.tell(instrument, &Event::Break, at, out);
        } else {
            self.tell_all(&Event::Break, at, out);
        }
        let is_meant = |number: usize| instrument == SOURCE || number == instrument as usize;
        for (_, slot) in self.watched.iter_mut().enumerate().filter(|(number, _)| is_meant(*number))
        {
            slot.iter_mut().for_each(|watched| watched.top = Top::EMPTY);
        }
    }

    pub(super) fn status(&mut self, status: &Status, at: Moment, out: &mut Records) {
        if status.status == 0 {
            return;
        }
        let trades = status.status == TRADING;
        self.tell(status.header.instrument, &Event::Trading(trades), at, out);
        if !trades && status.header.instrument != SOURCE {
            self.tell(status.header.instrument, &Event::Break, at, out);
        }
    }

    pub(super) fn subscribe(&mut self, one: &Subscription, at: Moment, out: &mut Records) {
        if one.state != SubscriptionState::Subscribed as u8 {
            return;
        }
        let symbol = unpadded(&one.symbol);
        for instrument in 0..self.watched.len() {
            // The stream of no symbol tells of several; the source waits for any.
            let is_meant = self.watched[instrument].as_ref().is_some_and(|watched| {
                instrument == SOURCE as usize || symbol.is_empty() || watched.symbol == symbol
            });
            if is_meant {
                self.tell(instrument as u32, &Event::Awaited, at, out);
            }
        }
    }
}
