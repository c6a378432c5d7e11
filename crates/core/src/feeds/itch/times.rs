//! When the messages of a session happened, as far as several packets agree on it.
//!
//! Messages have the order of their numbers, so their times do not fall. One packet may tell a time
//! ahead all the same (a bad clock, a flipped bit): it is believed once one behind it is as late.

use super::sessions::CLOCK_NS;
use super::taken;

/// Times that are remembered.
const KEPT: usize = 3;

/// The times of the last packets of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// Of the last message of each packet, the newest first; 0 where none came.
    recent: [i64; KEPT],
    /// How far each was ahead of its receipt.
    leads: [i64; KEPT],
    /// The latest time that a packet told and one behind it reached; 0 before.
    believed: i64,
}

impl Times {
    /// Goes on behind a message of that time.
    pub(super) const fn behind(ts: i64) -> Self {
        Self { recent: [ts, 0, 0], leads: [0; KEPT], believed: 0 }
    }

    /// Takes in the time of the last message of a packet.
    pub(super) fn add(&mut self, ts: i64, ts_recv: i64) {
        if self.recent[0] != 0 {
            self.believed = self.believed.max(self.recent[0].min(ts));
        }
        self.recent = [ts, self.recent[0], self.recent[1]];
        self.leads = [ts.saturating_sub(ts_recv), self.leads[0], self.leads[1]];
    }

    /// The latest time of the session; one that nothing behind it reached counts for some packets.
    pub(super) fn last(&self) -> i64 {
        self.recent.into_iter().fold(self.believed, i64::max)
    }

    /// How far the venue's clock is ahead of that of receipt, at least and at most: where three
    /// packets came, as most say. None before the first.
    fn lead(&self) -> Option<(i64, i64)> {
        let mut leads = self.leads;
        let count = self.recent.iter().filter(|ts| **ts != 0).count();
        let known = &mut leads[..count];
        known.sort_unstable();
        let low = known.get(count.saturating_sub(1) / 2)?;
        Some(((*low).max(0), known[count / 2].max(0)))
    }

    /// From when to when that happened which is missing before a packet received at `ts_recv`,
    /// whose first message tells `first`. No start where nothing before it is known.
    pub(super) fn gap(&self, first: Option<i64>, ts_recv: i64) -> (Option<i64>, i64) {
        let Some((low, high)) = self.lead() else {
            return (None, first.unwrap_or(ts_recv));
        };
        let now = ts_recv.saturating_add(high);
        let end = first.map_or(now, |ts| ts.min(now.saturating_add(CLOCK_NS)));
        // What was received by then happened by then.
        let start = self.recent[0].saturating_sub((self.leads[0] - low).max(0));
        if start <= end {
            return (Some(start), end);
        }
        // One of the two lies: the last message before, or the first behind.
        match self.believed {
            0 => (None, end),
            start if start <= end => (Some(start), end),
            start => (Some(start.min(now)), now),
        }
    }

    /// Writes it as part of a state.
    pub(super) fn store(&self, out: &mut Vec<u8>) {
        for ts in self.recent.iter().chain(&self.leads).chain([&self.believed]) {
            out.extend_from_slice(&ts.to_le_bytes());
        }
    }

    /// Reads what `store` wrote.
    pub(super) fn load(rest: &mut &[u8]) -> Option<Self> {
        let mut found = Self::default();
        for ts in found.recent.iter_mut().chain(&mut found.leads).chain([&mut found.believed]) {
            *ts = i64::from_le_bytes(taken(rest)?);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3_600 * SECOND;

    /// Packets received at ten o'clock and each second from then on, by a host that is `late`, with
    /// the time that each tells.
    fn told(late: i64, times: &[i64]) -> Times {
        let mut known = Times::default();
        for (at, &ts) in times.iter().enumerate() {
            known.add(ts, 10 * HOUR + at as i64 * SECOND - late);
        }
        known
    }

    #[test]
    fn a_gap_covers_what_was_lost_whichever_packet_lies() {
        // Lost is what happened from 10:00:02 to 10:00:05; at most one packet lies.
        let at = |second: i64| 10 * HOUR + second * SECOND;
        let truth = [at(0), at(1), at(2)];
        for late in [0, 120 * SECOND, -120 * SECOND] {
            for lie in [0, 9 * HOUR, at(3), 15 * HOUR, 23 * HOUR] {
                for place in 0..=4 {
                    let mut times = truth;
                    let mut first = Some(at(5));
                    match place {
                        3 => first = Some(lie),
                        4 => first = None,
                        _ => times[place] = lie.max(1),
                    }
                    let (start, end) = told(late, &times).gap(first, at(5) - late);
                    let start = start.expect("some packet came before");
                    // A host that is early does not bound a lie within its error.
                    let slack = if late < 0 && lie == at(3) && place == 2 { SECOND } else { 0 };
                    assert!(start <= at(2) + slack, "{late} {lie} {place}: {start}");
                    // Nor is the end known where what comes behind tells a time of the gap.
                    let least = if place == 3 && lie == at(3) { lie } else { at(5) };
                    assert!(end >= least, "{late} {lie} {place}: {end}");
                    assert!(end <= at(5) + 4 * CLOCK_NS, "{late} {lie} {place}: {end}");
                }
            }
        }
        // Told rightly, it is exact.
        assert_eq!(told(0, &truth).gap(Some(at(5)), at(5)), (Some(at(2)), at(5)));
    }

    #[test]
    fn a_time_ahead_is_forgotten_where_nothing_reaches_it() {
        let at = |second: i64| 10 * HOUR + second * SECOND;
        let mut known = told(0, &[at(0), at(1), 15 * HOUR]);
        for second in 3..6 {
            assert_eq!(known.last(), 15 * HOUR);
            known.add(at(second), at(second));
        }
        assert_eq!(known.last(), at(5));
        known.add(1, at(6));
        assert_eq!(known.last(), at(5));
    }
}
