//! Which windows were dropped: a trade that comes for one of them would make a bar of a piece.

use std::collections::VecDeque;

use super::series::Window;

/// How many dropped windows are known by their start, where older ones are kept.
const GONE_MOST: usize = 256;

/// The windows of one interval that were dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// All that end by then; none if no time is so low.
    pub(super) until: Option<i64>,
    /// Starts of later ones, oldest drop first.
    pub(super) later: VecDeque<i64>,
}

impl Gone {
    pub(super) fn has(&self, start: i64, end: i64) -> bool {
        self.until.is_some_and(|until| end <= until) || self.later.contains(&start)
    }

    pub(super) fn add(&mut self, window: &Window, is_oldest: bool) {
        if is_oldest {
            let end = window.end();
            self.until = Some(self.until.map_or(end, |until| until.max(end)));
            self.later.retain(|&start| start >= end);
            return;
        }
        if self.later.len() >= GONE_MOST {
            self.later.pop_front();
        }
        self.later.push_back(window.bar.header.ts_event);
    }
}
