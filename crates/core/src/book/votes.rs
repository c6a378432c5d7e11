//! Which of a row of updates happened by a moment, where single ones tell a wrong time.
//!
//! The order of updates is proven by their sequences; their times are the venue's word. Of two that
//! contradict each other, the one is wrong whose time is further than usual from its receipt. What
//! is usual follows the updates by little each, so that some that are wrong move it by little.

use super::history::Moment;

/// So many updates behind a cut, all later and in order, settle it.
const AGREEING: usize = 128;
/// So many do in any case.
const UPDATES_MOST: usize = 600;
/// So does one that was received so much later, in ns, than the first of them and than usual for
/// the moment: all that happened by then has come, however far ahead of it some times are.
const LATER_NS: i64 = 61_000_000_000;
/// One update moves what is usual by this at most, in ns.
const STEP_NS: i64 = 100_000_000;

/// Where an update belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ballot {
    /// Before the cut, with all that came before it.
    Before,
    /// Behind it, unless what follows shows otherwise.
    After,
    /// Behind it, and no more are needed.
    Closed,
}

/// Times of one update: by the venue, and of its receipt.
pub(super) type Times = (i64, i64);

/// Where the row is cut, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// Updates behind the cut.
    count: usize,
    /// Whether each of them happened after the moment, and after the one before it.
    is_clear: bool,
    /// Receive time of the first of them, and the time of the last.
    ts_first: i64,
    ts_newest: i64,
    /// How far from what is usual the times of those behind the cut are: the least of all.
    off: u64,
    /// How far receipt usually is behind the event. None before the first.
    usual: Option<i64>,
}

impl Votes {
    /// Whether there are updates behind the cut.
    pub(super) const fn is_open(&self) -> bool {
        self.count > 0
    }

    /// Takes in the next update; `last` are the times of the last before the cut.
    pub(super) fn cast(&mut self, moment: Moment, times: Times, last: Times) -> Ballot {
        let is_seen = moment.has_seen(times.0, times.1);
        let Moment::Event(moment_ts) = moment else {
            // Receive times rise.
            return if is_seen { Ballot::Before } else { Ballot::Closed };
        };
        let lag = |times: Times| times.1.saturating_sub(times.0);
        let usual = *self.usual.get_or_insert_with(|| lag(last));
        let off = |times| lag(times).abs_diff(usual);
        let is_before = match self.count {
            0 => times.0 >= last.0 || off(times) <= off(last),
            _ => off(times) < self.off,
        };
        if is_seen && is_before {
            let step = lag(times).saturating_sub(usual).clamp(-STEP_NS, STEP_NS);
            *self = Self { usual: Some(usual.saturating_add(step)), ..Self::default() };
            return Ballot::Before;
        }
        if self.count == 0 {
            *self = Self { is_clear: true, ts_first: times.1, off: u64::MAX, ..*self };
            self.ts_newest = times.0;
        }
        self.count += 1;
        self.is_clear &= !is_seen && times.0 >= self.ts_newest;
        self.ts_newest = times.0;
        self.off = self.off.min(off(times));
        let is_settled = self.is_clear && self.count >= AGREEING;
        let due = self.ts_first.max(moment_ts.saturating_add(usual));
        let is_late = times.1.saturating_sub(due) > LATER_NS;
        if is_settled || is_late || self.count >= UPDATES_MOST {
            return Ballot::Closed;
        }
        Ballot::After
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// The number of updates before the cut at `moment`, each received a tenth after its true time.
    fn before(moment: i64, times: &[(i64, i64)]) -> usize {
        let (mut votes, mut before, mut last) = (Votes::default(), 0, (0, SECOND / 10));
        for (at, &(true_ts, told)) in times.iter().enumerate() {
            let times = (told, true_ts + SECOND / 10);
            match votes.cast(Moment::Event(moment), times, last) {
                Ballot::Before => (before, last) = (at + 1, times),
                Ballot::After => {}
                Ballot::Closed => break,
            }
        }
        before
    }

    #[test]
    fn updates_with_wrong_times_move_no_other() {
        // One a second for ten minutes. One in ten says a time 59 s ahead, or one in ten an hour
        // behind: every moment is cut where it is without them, but for the wrong one itself.
        for off in [59 * SECOND, -3_600 * SECOND] {
            let times: Vec<_> = (1..=600_i64)
                .map(|at| (at * SECOND, at * SECOND + if at % 10 == 5 { off } else { 0 }))
                .collect();
            for at in 1..600_i64 {
                let found = before(at * SECOND, &times) as i64;
                assert!(found == at || found == at - 1 && at % 10 == 5, "{at}: {found} {off}");
            }
        }
        // Twenty in a row are 59 s ahead, then the right ones go on.
        let late = |at: i64| if (100..120).contains(&at) { 59 * SECOND } else { 0 };
        let times: Vec<_> = (1..=600_i64).map(|at| (at * SECOND, at * SECOND + late(at))).collect();
        (120..600_i64).for_each(|at| assert_eq!(before(at * SECOND, &times), at as usize));
    }

    #[test]
    fn a_run_of_wrong_times_of_a_quiet_instrument_moves_no_other() {
        // One every ten seconds. Ten in a row, received within 90 s, are 19 minutes ahead, which an
        // arbiter lets through where they agree; the right ones go on.
        let times: Vec<_> = (1..=200_i64)
            .map(|at| (at * 10 * SECOND, if (50..60).contains(&at) { 1_140 * SECOND } else { 0 }))
            .map(|(ts, off)| (ts, ts + off))
            .collect();
        for at in 60..=200_i64 {
            assert_eq!(before(at * 10 * SECOND, &times), at as usize, "{at}");
        }
        // A moment long before them asks for no more than it did: a minute settles it.
        let (mut votes, mut looked) = (Votes::default(), 0);
        for &(true_ts, told) in &times[10..] {
            looked += 1;
            let (times, last) = ((told, true_ts + SECOND / 10), (100 * SECOND, 100 * SECOND));
            if votes.cast(Moment::Event(100 * SECOND), times, last) == Ballot::Closed {
                break;
            }
        }
        assert_eq!(looked, 8);
    }
}
