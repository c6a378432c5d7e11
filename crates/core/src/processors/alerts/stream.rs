//! What is said of streams: gaps, the ends of sessions, subscriptions, and whether is traded.

use std::ops::Range;

use super::alarm::Moment;
use super::detector::{Event, Top};
use super::rule::Rule;
use super::{Alerts, SOURCE};
use crate::record::{
    unpadded, Channel, GapState, Marker, MarkerCode, Records, Status, Subscription,
    SubscriptionState,
};

/// What markers of the recorder itself name as their connection.
const RECORDER: u64 = u16::MAX as u64;
/// How long after a recorder that started again said what it records, in ns, the rest is given up.
const GIVE_UP_NS: i64 = 60_000_000_000;
/// The state of an instrument that is traded.
const TRADING: u8 = 1;

impl Alerts {
    pub(super) fn marker(&mut self, marker: &Marker, at: Moment, out: &mut Records) {
        match MarkerCode::try_from(marker.code) {
            Ok(MarkerCode::EndOfSession) => {
                self.end_halts(SOURCE, at, out);
                self.tell_all(&Event::End, at, out);
                self.break_all(SOURCE, at, out);
                self.doubt_recorded();
            }
            Ok(MarkerCode::Connected) if marker.first == RECORDER => self.doubt_recorded(),
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
                    self.break_by(marker, at, out);
                }
            }
            _ => {}
        }
    }

    /// What a gap takes with it, by the channel in which something was lost.
    fn break_by(&mut self, gap: &Marker, at: Moment, out: &mut Records) {
        let instrument = gap.header.instrument;
        let channel = Channel::try_from(gap.channel).unwrap_or(Channel::None);
        let has_orders = matches!(channel, Channel::None | Channel::Session | Channel::Order);
        if has_orders {
            self.break_all(instrument, at, out);
        } else {
            self.break_stream(instrument, at, out);
        }
        // The word of a halt has no channel of its own; it does not come among those of books.
        if has_orders || matches!(channel, Channel::Trade | Channel::AggTrade | Channel::Quote) {
            self.end_halts(instrument, at, out);
        }
    }

    /// The stream of an instrument, or of all, broke, that of its orders as well.
    pub(super) fn break_all(&mut self, instrument: u32, at: Moment, out: &mut Records) {
        if let Some(orders) = self.orders.as_mut() {
            orders.lose(instrument);
        }
        self.break_stream(instrument, at, out);
    }

    /// What comes of an instrument, or of all, does not continue what was.
    pub(super) fn break_stream(&mut self, instrument: u32, at: Moment, out: &mut Records) {
        if instrument != SOURCE {
            self.tell(instrument, &Event::Break, at, out);
        } else {
            self.tell_all(&Event::Break, at, out);
        }
        for number in self.meant(instrument) {
            if let Some(watched) = &mut self.watched[number] {
                watched.top = Top::EMPTY;
            }
        }
    }

    /// The numbers of an instrument, or of all where it is 0.
    fn meant(&self, instrument: u32) -> Range<usize> {
        let all = self.watched.len();
        let at = instrument as usize;
        if instrument == SOURCE {
            0..all
        } else {
            at.min(all)..(at + 1).min(all)
        }
    }

    /// The word of the end of a halt may be lost, of an instrument or of all: from here on nothing
    /// is known of it, and it keeps no rule silent.
    pub(super) fn end_halts(&mut self, instrument: u32, at: Moment, out: &mut Records) {
        for number in self.meant(instrument) {
            self.end_halt(number as u32, at, out);
        }
    }

    fn end_halt(&mut self, number: u32, at: Moment, out: &mut Records) {
        let Some(Some(watched)) = self.watched.get_mut(number as usize) else { return };
        if watched.halted.take().is_some() {
            self.tell(number, &Event::Trading(true), at, out);
        }
    }

    /// It was traded: what was halted before is not any more. What was traded before the halt may
    /// come behind the word of it.
    pub(super) fn end_halt_before(&mut self, instrument: u32, at: Moment, out: &mut Records) {
        for number in [instrument, SOURCE] {
            let found = self.watched.get(number as usize).and_then(Option::as_deref);
            if found.and_then(|watched| watched.halted).is_some_and(|since| since < at.ts) {
                self.end_halt(number, at, out);
            }
        }
    }

    pub(super) fn status(&mut self, status: &Status, at: Moment, out: &mut Records) {
        if status.status == 0 {
            return;
        }
        let (instrument, is_on) = (status.header.instrument, status.status == TRADING);
        let Some(watched) = self.watched(instrument, status.header.feed) else { return };
        let halted = if is_on { None } else { Some(watched.halted.unwrap_or(at.ts)) };
        let was_on = std::mem::replace(&mut watched.halted, halted).is_none();
        self.tell(instrument, &Event::Trading(is_on), at, out);
        if was_on && !is_on && instrument != SOURCE {
            self.break_stream(instrument, at, out);
        }
    }

    /// The recorder stopped: what it records when it starts again, it says then.
    fn doubt_recorded(&mut self) {
        self.watched.iter_mut().flatten().for_each(|watched| watched.is_recorded = false);
        (self.has_restarted, self.give_up) = (true, i64::MAX);
    }

    /// Gives up what is not recorded any more, once it is time.
    pub(super) fn give_up_dropped(&mut self, at: Moment, out: &mut Records) {
        if at.ts_recv < self.give_up {
            self.deadline = self.deadline.min(self.give_up);
            return;
        }
        self.give_up = i64::MAX;
        for number in 1..self.watched.len() {
            if self.watched[number].as_ref().is_some_and(|watched| !watched.is_recorded) {
                for told in [number as u32, SOURCE] {
                    self.tell(told, &Event::Dropped(number as u32), at, out);
                }
            }
        }
    }

    pub(super) fn subscribe(&mut self, one: &Subscription, at: Moment, out: &mut Records) {
        if one.state != SubscriptionState::Subscribed as u8 {
            return;
        }
        if std::mem::take(&mut self.has_restarted) {
            self.give_up = at.ts_recv.saturating_add(GIVE_UP_NS);
            self.deadline = self.deadline.min(self.give_up);
        }
        let symbol = unpadded(&one.symbol);
        for instrument in 0..self.watched.len() {
            // The stream of no symbol tells of several; the source waits for any.
            let is_meant = self.watched[instrument].as_mut().is_some_and(|watched| {
                let is_of_it = symbol.is_empty() || watched.symbol == symbol;
                watched.is_recorded |= is_of_it;
                instrument == SOURCE as usize || is_of_it
            });
            if is_meant {
                self.tell(instrument as u32, &Event::Awaited, at, out);
            }
        }
    }
}
