//! Times in which trades of an instrument may be missing.

use super::series::Window;
use crate::record::{Marker, NONE};

/// A time in which trades may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Its start, in ns.
    pub start: i64,
    /// Its end, in ns.
    pub end: i64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) missing: u64,
}

impl Lost {
    /// The time that `gap` tells of, with `start` where it does not say.
    pub fn new(gap: &Marker, start: i64) -> Self {
        let end = if gap.header.ts_event == NONE { start } else { gap.header.ts_event };
        let begin = if gap.ts_start == NONE { start } else { gap.ts_start };
        Self {
            start: begin.min(end),
            end: end.max(begin),
            first: gap.first,
            last: gap.last,
            missing: u64::from(gap.count),
        }
    }

    /// A time in which no recorder ran: its trades never come.
    pub const fn not_recorded(start: i64, end: i64) -> Self {
        Self { start, end, first: u64::MAX, last: 0, missing: u64::MAX }
    }

    pub(super) const fn is_not_recorded(&self) -> bool {
        self.first > self.last && self.missing == u64::MAX
    }

    /// Whether it is known by its time alone.
    pub(super) const fn is_outage(&self) -> bool {
        self.first == 0 && self.last == 0
    }

    pub(super) fn touches(&self, window: &Window) -> bool {
        self.start < window.end() && self.end >= window.bar.header.ts_event
    }
}
