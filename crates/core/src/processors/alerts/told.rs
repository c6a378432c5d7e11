//! Alerts that stand on a tape already: what the host or somebody noted on the input, and what the
//! output holds where the state was made anew.
//!
//! A state is made anew under other settings, or where none could be saved. What these rules would
//! have open is then compared with what was told to be open: an alert that is not known any more
//! is closed, with the reason; one that was never told is opened; one that is both goes on under
//! the number that it has, with who has seen it, and is updated where its severity is another. So
//! every alert on the tape has an end, and no number means two.

use std::collections::BTreeMap;

use super::alarm::{Alarm, Moment, Scope};
use super::detector::Event;
use super::watched::Slot;
use super::{Alerts, SOURCE};
use crate::record::{
    padded_or_cut, records, unpadded, Alert, AlertState, Header, Plain, Record, Records,
};
use crate::tape::Batch;

/// Alerts of rules of the user's own are numbered from here on.
const OWN_IDS: u64 = 1_000_000_000;

/// What the output holds.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Each alert that is open, by number.
    open: BTreeMap<u64, Open>,
    /// The largest number that was given.
    ids: u64,
}

/// An alert that is open.
#[derive(Debug)]
struct Open {
    /// Its last record.
    alert: Alert,
    is_acknowledged: bool,
}

impl Told {
    /// Takes in records of the output.
    pub(super) fn take(&mut self, written: Batch<'_>) {
        let is_alert = |kind: u8| kind == Alert::KIND as u8;
        let alerts = records::iterate(written.bytes).filter(|record| is_alert(record.kind()));
        for alert in alerts.filter_map(|record| Alert::read_from(record.bytes())) {
            if alert.id < OWN_IDS {
                self.ids = self.ids.max(alert.id);
            }
            if alert.state == AlertState::Closed as u8 {
                self.open.remove(&alert.id);
            } else {
                let is_seen = alert.state == AlertState::Acknowledged as u8;
                let before = self.open.get(&alert.id).is_some_and(|open| open.is_acknowledged);
                self.open.insert(alert.id, Open { alert, is_acknowledged: is_seen || before });
            }
        }
    }

    /// Gives the alert that a rule has open of an instrument, which is then known.
    fn known(&mut self, rule: &str, instrument: u32) -> Option<Open> {
        let is_meant =
            |alert: &Alert| alert.header.instrument == instrument && unpadded(&alert.rule) == rule;
        let id = self.open.iter().find(|(_, open)| is_meant(&open.alert)).map(|(&id, _)| id)?;
        self.open.remove(&id)
    }
}

impl Alarm {
    /// Goes on with the alert that was told to be open, or tells of the one that was not.
    fn follow(&mut self, told: Option<&Open>, ids: &mut u64, known: i64, out: &mut Records) {
        // Who has seen it stands in the output. Notes of numbers that others had meant others.
        self.set_acknowledged(told.is_some_and(|told| told.is_acknowledged));
        let Some(alert) = self.open_alert() else { return };
        let state = match told {
            Some(told) => {
                (alert.id, alert.ts_start) = (told.alert.id, told.alert.ts_start);
                (alert.severity != told.alert.severity).then_some(AlertState::Updated)
            }
            None => {
                *ids += 1;
                alert.id = *ids;
                Some(AlertState::Opened)
            }
        };
        if let Some(state) = state {
            alert.state = state as u8;
            alert.header.ts_recv = known.max(alert.header.ts_recv);
            out.push(alert);
        }
    }
}

impl Alerts {
    /// Makes what is open, and what was told to be, the same.
    pub(super) fn follow_told(&mut self, out: &mut Records) {
        let mut told = std::mem::take(&mut self.told);
        let known = self.watermark.ts();
        self.ids = self.ids.max(told.ids);
        for (instrument, watched) in self.watched.iter_mut().enumerate() {
            for slot in watched.iter_mut().flat_map(|watched| &mut watched.slots) {
                if slot.alarm.id().is_some() {
                    let rule = &self.rules[slot.rule].name;
                    let before = told.known(rule, instrument as u32);
                    slot.alarm.follow(before.as_ref(), &mut self.ids, known, out);
                }
            }
        }
        for Open { mut alert, .. } in told.open.into_values() {
            let name = unpadded(&alert.rule);
            let is_gone = !self.rules.iter().any(|rule| rule.name == name);
            let reason = if is_gone { "reason=rule-removed" } else { "reason=settings-changed" };
            let ts = known.max(alert.header.ts_recv);
            alert.detail = padded_or_cut(reason);
            alert.state = AlertState::Closed as u8;
            alert.ts_end = ts.max(alert.ts_start);
            alert.header = Header { ts_event: ts, ts_recv: ts, ..alert.header };
            out.push(&alert);
        }
    }

    /// Takes in what the host or somebody noted.
    pub(super) fn note(&mut self, note: &Alert, at: Moment, out: &mut Records) {
        if note.state != AlertState::Acknowledged as u8 {
            self.tell(SOURCE, &Event::Note(note), at, out);
            return;
        }
        for (instrument, watched) in self.watched.iter_mut().enumerate() {
            let Some(watched) = watched else { continue };
            let (tick, feed) = (watched.tick, watched.feed);
            let is_meant = |slot: &&mut Slot| slot.alarm.id() == Some(note.id);
            if let Some(slot) = watched.slots.iter_mut().find(is_meant) {
                let mut scope = Scope {
                    at,
                    rule: &self.rules[slot.rule],
                    tick,
                    feed,
                    instrument: instrument as u32,
                    alarm: &mut slot.alarm,
                    ids: &mut self.ids,
                    out,
                };
                scope.acknowledge(&note.detail);
            }
        }
    }
}
