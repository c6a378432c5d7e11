//! The life of an alert: it is opened, updated as it gets worse, and closed, each by a record.

use super::rule::Rule;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{padded_or_cut, Alert, AlertState, Header, Records, NONE};

/// Time between two updates of an alert that gets no worse, in ns.
const UPDATE_NS: i64 = 1_000_000_000;
/// What is so much worse than what was said last is said at once.
const WORSE: f64 = 2.0;

/// Where a detector is on the tape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Offset of the record that is looked at.
    pub(super) offset: u64,
    /// Its time by the venue's clock, in ns.
    pub(super) ts: i64,
    /// How far the receive times of the tape are, in ns.
    pub(super) ts_recv: i64,
}

/// What speaks for an alert.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    pub(super) ts_start: i64,
    /// The last moment of it.
    pub(super) ts_end: i64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) value: f64,
    pub(super) threshold: f64,
    pub(super) price: i64,
    pub(super) size: i64,
    pub(super) count: u64,
    pub(super) side: u8,
    pub(super) subject: String,
    pub(super) detail: String,
}

impl Evidence {
    /// That of one record.
    pub(super) const fn at(moment: &Moment) -> Self {
        Self {
            ts_start: moment.ts,
            ts_end: moment.ts,
            first: moment.offset,
            last: moment.offset,
            value: f64::NAN,
            threshold: f64::NAN,
            price: NONE,
            size: NONE,
            count: 1,
            side: 0,
            subject: String::new(),
            detail: String::new(),
        }
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        [self.ts_start, self.ts_end, self.price, self.size]
            .iter()
            .for_each(|&value| state.i64(value));
        let numbers = [self.first, self.last, self.count];
        numbers.iter().for_each(|&value| state.u64(value));
        [self.value, self.threshold].iter().for_each(|value| state.u64(value.to_bits()));
        state.u8(self.side);
        state.bytes(self.subject.as_bytes());
        state.bytes(self.detail.as_bytes());
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let (ts_start, ts_end, price, size) =
            (state.i64()?, state.i64()?, state.i64()?, state.i64()?);
        let (first, last, count) = (state.u64()?, state.u64()?, state.u64()?);
        let (value, threshold) = (f64::from_bits(state.u64()?), f64::from_bits(state.u64()?));
        let side = state.u8()?;
        let mut text = || Ok(String::from_utf8_lossy(state.bytes()?).into_owned());
        let (subject, detail) = (text()?, text()?);
        Ok(Self {
            ts_start,
            ts_end,
            first,
            last,
            value,
            threshold,
            price,
            size,
            count,
            side,
            subject,
            detail,
        })
    }

    fn write_to(&self, alert: &mut Alert) {
        let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        alert.ts_start = self.ts_start;
        (alert.first_offset, alert.last_offset) = (self.first, self.last);
        (alert.value, alert.threshold) = (bits(self.value), bits(self.threshold));
        (alert.price, alert.size) = (self.price, self.size);
        (alert.count, alert.side) = (self.count, self.side);
        alert.subject = padded_or_cut(&self.subject);
        alert.detail = padded_or_cut(&self.detail);
    }
}

/// The alert of one rule and one instrument, if one is open.
#[derive(Debug, Clone, Default)]
pub(super) struct Alarm {
    open: Option<Box<Alert>>,
    /// When it was last written, by receive time.
    said: i64,
    is_acknowledged: bool,
}

impl Alarm {
    pub(super) fn id(&self) -> Option<u64> {
        self.open.as_ref().map(|alert| alert.id)
    }

    /// The alert that is open, as it was told last.
    pub(super) fn open_alert(&mut self) -> Option<&mut Alert> {
        self.open.as_deref_mut()
    }

    pub(super) const fn set_acknowledged(&mut self, is_acknowledged: bool) {
        self.is_acknowledged = is_acknowledged;
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.flag(self.open.is_some());
        if let Some(alert) = &self.open {
            state.plain(&**alert);
            state.i64(self.said);
            state.flag(self.is_acknowledged);
        }
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        if !state.flag()? {
            return Ok(Self::default());
        }
        Ok(Self {
            open: Some(Box::new(state.plain()?)),
            said: state.i64()?,
            is_acknowledged: state.flag()?,
        })
    }
}

/// What a detector sees beside its event, and by which it says what it found.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) at: Moment,
    pub(super) rule: &'a Rule,
    /// Smallest step of the price, units of 1e-9; 0: not known.
    pub(super) tick: i64,
    pub(super) feed: u8,
    pub(super) instrument: u32,
    pub(super) alarm: &'a mut Alarm,
    pub(super) ids: &'a mut u64,
    pub(super) out: &'a mut Records,
}

impl Scope<'_> {
    /// Whether an alert is open.
    pub(super) const fn is_open(&self) -> bool {
        self.alarm.open.is_some()
    }

    /// Says that the condition holds: opens an alert, or updates the open one where it is worse by
    /// much or was not updated for a second.
    pub(super) fn raise(&mut self, evidence: &Evidence) {
        match self.alarm.open.take() {
            None => self.open(evidence),
            Some(mut alert) => {
                let (before, worse) = (f64::from_bits(alert.value), evidence.value.abs());
                let is_worse = worse > before.abs() * WORSE;
                let started = alert.ts_start;
                let since = self.at.ts_recv.saturating_sub(self.alarm.said);
                if is_worse || since >= UPDATE_NS {
                    evidence.write_to(&mut alert);
                    alert.ts_start = started;
                    self.say(&mut alert, AlertState::Updated, evidence.ts_end);
                }
                self.alarm.open = Some(alert);
            }
        }
    }

    /// Says that the condition ended at `ts`, with all that speaks for it, if it is still known.
    pub(super) fn end(&mut self, ts: i64, evidence: Option<&Evidence>) {
        let Some(mut alert) = self.alarm.open.take() else { return };
        if let Some(evidence) = evidence {
            let started = alert.ts_start;
            evidence.write_to(&mut alert);
            alert.ts_start = started;
        }
        // An event of another instrument of the source may be of a time before it.
        alert.ts_end = ts.max(alert.ts_start);
        self.say(&mut alert, AlertState::Closed, ts);
        self.alarm.is_acknowledged = false;
    }

    /// Says what is over as soon as it is known: opens an alert and closes it.
    pub(super) fn tell(&mut self, evidence: &Evidence) {
        self.end(self.at.ts, None);
        self.open(evidence);
        self.end(evidence.ts_end, Some(evidence));
    }

    /// Says that somebody has seen the open alert, in `words`.
    pub(super) fn acknowledge(&mut self, words: &[u8; 104]) {
        if self.alarm.is_acknowledged {
            return;
        }
        let Some(alert) = self.alarm.open.as_deref() else { return };
        let mut alert = *alert;
        alert.detail = *words;
        self.say(&mut alert, AlertState::Acknowledged, self.at.ts);
        self.alarm.is_acknowledged = true;
    }

    fn open(&mut self, evidence: &Evidence) {
        *self.ids += 1;
        let mut alert = Alert { id: *self.ids, ..Alert::EMPTY };
        alert.rule = padded_or_cut(&self.rule.name);
        alert.detector = padded_or_cut(self.rule.entry.name);
        alert.severity = self.rule.severity as u8;
        evidence.write_to(&mut alert);
        self.say(&mut alert, AlertState::Opened, evidence.ts_end);
        self.alarm.open = Some(Box::new(alert));
    }

    fn say(&mut self, alert: &mut Alert, state: AlertState, ts: i64) {
        alert.state = state as u8;
        alert.header = Header {
            feed: self.feed,
            instrument: self.instrument,
            ts_event: ts,
            ts_recv: self.at.ts_recv,
            sequence: self.at.offset,
            ..Header::of::<Alert>()
        };
        self.alarm.said = self.at.ts_recv;
        self.out.push(alert);
    }
}
