//! `sla`: so much of a window was lost that an agreed share of completeness is missed.
//!
//! A gap of sequences is lost until all of them came, in whatever runs they are told: as history
//! has them, or as a line that lags does. An outage whose cost is known in sequences lost what
//! their own gap says, and no more.

use std::collections::VecDeque;

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event};
use super::gaps::{GapKey, COUNT_UNKNOWN};
use super::rule::Rule;
use super::table::{positive, share, Entry};
use crate::error::Result;
use crate::processors::arbitration::ranges::Ranges;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{GapCause, GapState, Marker, NONE};

/// Ranges that are remembered; beyond it the two oldest are taken together.
const RANGES_MAX: usize = 4_096;
const NS_PER_HOUR: f64 = 3.6e12;
/// An open alert is looked at again so often, in ns.
const LOOK_NS: i64 = 10_000_000_000;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        share("target", 0.999, "share of the time that must be complete"),
        positive("window_h", 24.0, "hours that are looked at"),
    ],
    is_of_source: true,
    may_be_of_source: true,
    ..Entry::new(
        "sla",
        "gaps take more of the last `window_h` hours than `target` allows",
        "value: share that is complete; threshold: `target`; count: gaps in the window; detail: \
         seconds lost",
        |rule| Box::new(Sla::new(rule)),
    )
};

/// What one gap lost, and the offset that said it.
#[derive(Debug)]
struct Lost {
    key: GapKey,
    /// The last missing sequence, where the first one is known.
    last: u64,
    /// Sequences of it that came.
    filled: Ranges,
    start: i64,
    end: i64,
    offset: u64,
}

impl Lost {
    /// Takes in that `repair` was filled, and says whether nothing of this gap is missing any more.
    fn is_filled(&mut self, key: &GapKey, repair: &Marker) -> bool {
        if self.last < self.key.first || !self.key.shares_sequences(key) {
            return self.key == *key;
        }
        let (first, last) = (repair.first.max(self.key.first), repair.last.min(self.last));
        if first <= last {
            self.filled.insert(first, last);
        }
        self.filled.covers(self.key.first, self.last)
    }
}

#[derive(Debug)]
struct Sla {
    target: f64,
    window: i64,
    /// Gaps that are over, by start.
    lost: VecDeque<Lost>,
    /// Gaps that go on, and since when.
    open: Vec<(GapKey, i64, u64)>,
    due: i64,
}

impl Sla {
    fn new(rule: &Rule) -> Self {
        let window = (rule.number("window_h") * NS_PER_HOUR) as i64;
        Self {
            target: rule.number("target"),
            window,
            lost: VecDeque::new(),
            open: Vec::new(),
            due: i64::MAX,
        }
    }

    fn add(&mut self, key: GapKey, last: u64, [start, end]: [i64; 2], offset: u64) {
        let place = self.lost.partition_point(|lost| lost.start < start);
        let filled = Ranges::default();
        self.lost.insert(place, Lost { key, last, filled, start, end, offset });
        if self.lost.len() > RANGES_MAX {
            if let (Some(one), Some(two)) = (self.lost.pop_front(), self.lost.front_mut()) {
                // Taken for one: their own length is kept, not what lies between.
                two.start -= (one.end.min(two.start) - one.start).max(0);
                // What fills one of them does not fill both.
                two.key = GapKey::of_several();
                two.offset = one.offset;
            }
        }
    }

    /// What of the time from `begin` to `end` was lost, taken once where gaps overlap.
    fn sum(&self, begin: i64, end: i64) -> i64 {
        let (mut sum, mut reached) = (0, begin);
        for lost in &self.lost {
            let from = lost.start.max(reached);
            reached = reached.max(lost.end.min(end));
            sum += (reached - from).max(0);
        }
        sum
    }

    fn look(&mut self, scope: &mut Scope<'_>) {
        let now = scope.at.ts_recv;
        let begin = now.saturating_sub(self.window);
        self.lost.retain(|lost| lost.end > begin);
        // From the first one on that goes on, all is lost.
        let open = self.open.iter().map(|&(_, start, offset)| (start, offset)).min();
        let lasting = open.map_or(now, |(start, _)| start.clamp(begin, now));
        let sum = self.sum(begin, lasting) + (now - lasting);
        let complete = 1.0 - sum as f64 / self.window as f64;
        let wait = if open.is_some() { now.saturating_add(LOOK_NS) } else { i64::MAX };
        let first = self.lost.front().map(|lost| lost.offset).or(open.map(|open| open.1));
        let (Some(first), true) = (first, complete < self.target) else {
            self.due = wait;
            scope.end(scope.at.ts, None);
            return;
        };
        scope.raise(&Evidence {
            first,
            value: complete,
            threshold: self.target,
            count: (self.lost.len() + self.open.len()) as u64,
            detail: format!("lost_s={:.3}", sum as f64 / 1e9),
            ..Evidence::at(&scope.at)
        });
        self.due = now.saturating_add(LOOK_NS);
    }
}

impl Detector for Sla {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Gap(gap) if gap.state == GapState::Open as u8 => {
                let start = if gap.ts_start == NONE { scope.at.ts_recv } else { gap.ts_start };
                let key = GapKey::of(gap);
                if self.open.len() < RANGES_MAX && self.open.iter().all(|one| one.0 != key) {
                    self.open.push((key, start, scope.at.offset));
                }
                self.look(scope);
            }
            Event::End => {
                // What comes of a gap that nobody watches is not known: it was lost up to here.
                let now = scope.at.ts_recv;
                for (key, start, offset) in std::mem::take(&mut self.open) {
                    self.add(key, u64::MAX, [start.min(now), now], offset);
                }
                self.look(scope);
            }
            Event::Gap(gap) if gap.state == GapState::Repaired as u8 => {
                // What was filled is not lost any more.
                let key = GapKey::of(gap);
                self.open.retain(|one| one.0 != key);
                self.lost.retain_mut(|lost| !lost.is_filled(&key, gap));
                self.look(scope);
            }
            Event::Gap(gap) if gap.state == GapState::Closed as u8 => {
                self.open.retain(|one| one.0 != GapKey::of(gap));
                let (start, end) = (gap.ts_start, gap.header.ts_event);
                let is_told_by_sequences =
                    gap.cause == GapCause::Disconnect as u8 && gap.count != COUNT_UNKNOWN;
                if start != NONE && end != NONE && start < end && !is_told_by_sequences {
                    self.add(GapKey::of(gap), gap.last, [start, end], scope.at.offset);
                }
                self.look(scope);
            }
            Event::Time if scope.at.ts_recv >= self.due => self.look(scope),
            _ => {}
        }
    }

    fn due(&self) -> i64 {
        self.due
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.lost.len());
        for lost in &self.lost {
            lost.key.write(state);
            state.u64(lost.last);
            lost.filled.write(state);
            state.i64(lost.start);
            state.i64(lost.end);
            state.u64(lost.offset);
        }
        state.length(self.open.len());
        for &(key, start, offset) in &self.open {
            key.write(state);
            state.i64(start);
            state.u64(offset);
        }
        state.i64(self.due);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.lost.clear();
        for _ in 0..state.length(GapKey::BYTES + 32)? {
            let (key, last, filled) = (GapKey::read(state)?, state.u64()?, Ranges::read(state)?);
            let (start, end, offset) = (state.i64()?, state.i64()?, state.u64()?);
            self.lost.push_back(Lost { key, last, filled, start, end, offset });
        }
        self.open.clear();
        for _ in 0..state.length(GapKey::BYTES + 16)? {
            self.open.push((GapKey::read(state)?, state.i64()?, state.u64()?));
        }
        self.due = state.i64()?;
        Ok(())
    }
}
