//! `gap`: an entry of the gap ledger.

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event};
use super::table::{number, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Channel, GapCause, GapState, Marker, NONE};

pub(super) const COUNT_UNKNOWN: u32 = u32::MAX;
/// Gaps that are told apart; of more that go on at once the alert ends with the last of these.
const OPEN_MAX: usize = 4_096;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[number(
        "least_ms",
        0.0,
        "a gap that is shorter, and whose length is known, is passed over",
    )],
    may_be_of_source: true,
    is_of_both: true,
    unit: "s",
    ..Entry::new(
        "gap",
        "something was lost: an entry of the gap ledger",
        "value: seconds lost; subject: channel; detail: cause and sequences; count: messages, 0 \
         for not known",
        |rule| Box::new(Gaps { least: rule.ns("least_ms"), open: Vec::new() }),
    )
};

#[derive(Debug)]
struct Gaps {
    least: i64,
    /// Those that go on: the alert is open for as long as any of them is.
    open: Vec<GapKey>,
}

/// What tells one gap from another: an entry of the ledger is told again when its state changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GapKey {
    instrument: u32,
    channel: u8,
    cause: u8,
    /// The first missing sequence; 0 where they are not known.
    pub(super) first: u64,
    ts_start: i64,
}

impl GapKey {
    /// Bytes in a state.
    pub(super) const BYTES: usize = 22;

    pub(super) const fn of(gap: &Marker) -> Self {
        Self {
            instrument: gap.header.instrument,
            channel: gap.channel,
            cause: gap.cause,
            first: gap.first,
            ts_start: gap.ts_start,
        }
    }

    /// That of gaps which are taken for one: of none that is told.
    pub(super) const fn of_several() -> Self {
        Self { instrument: u32::MAX, channel: 0, cause: 0, first: 0, ts_start: NONE }
    }

    /// Whether both are of sequences of the same stream, whatever times and sequences they name. Of
    /// gaps of other causes `first` is no sequence: a connection, or an offset of a tape.
    pub(super) fn shares_sequences(&self, other: &Self) -> bool {
        let stream = |key: &Self| (key.instrument, key.channel, key.cause);
        self.first != 0 && other.first != 0 && stream(self) == stream(other)
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.u32(self.instrument);
        state.u8(self.channel);
        state.u8(self.cause);
        state.u64(self.first);
        state.i64(self.ts_start);
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        Ok(Self {
            instrument: state.u32()?,
            channel: state.u8()?,
            cause: state.u8()?,
            first: state.u64()?,
            ts_start: state.i64()?,
        })
    }
}

fn evidence_of(gap: &Marker, scope: &Scope<'_>) -> Evidence {
    let named = |name: Option<&'static str>| name.unwrap_or("unknown");
    let cause = named(GapCause::try_from(gap.cause).ok().map(GapCause::name));
    let channel = Channel::try_from(gap.channel).ok().map(Channel::name);
    let start = if gap.ts_start == NONE { gap.header.ts_event } else { gap.ts_start };
    let end = if gap.header.ts_event == NONE { scope.at.ts } else { gap.header.ts_event };
    let lost = end.saturating_sub(start).max(0);
    Evidence {
        ts_start: if start == NONE { end } else { start },
        ts_end: end,
        value: if start == NONE { f64::NAN } else { lost as f64 / 1e9 },
        count: if gap.count == COUNT_UNKNOWN { 0 } else { u64::from(gap.count) },
        subject: channel.filter(|name| !name.is_empty()).unwrap_or("all").to_owned(),
        detail: format!("cause={cause} first={} last={}", gap.first, gap.last),
        ..Evidence::at(&scope.at)
    }
}

impl Gaps {
    /// Nobody will tell how the gaps of that instrument end.
    fn drop_those_of(&mut self, instrument: u32, scope: &mut Scope<'_>) {
        let before = self.open.len();
        self.open.retain(|one| one.instrument != instrument);
        if self.open.is_empty() && before > 0 {
            scope.end(scope.at.ts, None);
        }
    }
}

impl Detector for Gaps {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        let gap = match event {
            Event::Gap(gap) => gap,
            Event::Dropped(instrument) => return self.drop_those_of(*instrument, scope),
            _ => return,
        };
        let (evidence, key) = (evidence_of(gap, scope), GapKey::of(gap));
        if gap.state == GapState::Open as u8 {
            if self.open.len() < OPEN_MAX && !self.open.contains(&key) {
                self.open.push(key);
            }
            scope.raise(&evidence);
            return;
        }
        let before = self.open.len();
        self.open.retain(|&one| one != key);
        let was_open = self.open.len() < before;
        let is_closed = gap.state == GapState::Closed as u8;
        let lost = evidence.ts_end.saturating_sub(evidence.ts_start);
        if scope.is_open() && (is_closed || was_open) {
            if self.open.is_empty() {
                scope.end(evidence.ts_end, Some(&evidence));
            } else {
                // Another one goes on.
                scope.raise(&evidence);
            }
        } else if is_closed && (evidence.value.is_nan() || lost >= self.least) {
            scope.tell(&evidence);
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.open.len());
        self.open.iter().for_each(|key| key.write(state));
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.open.clear();
        for _ in 0..state.length(GapKey::BYTES)? {
            self.open.push(GapKey::read(state)?);
        }
        Ok(())
    }
}
