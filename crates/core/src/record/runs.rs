//! Rows of one instrument that lie one behind the other, and the order of files made of them.
//!
//! Rows of one instrument nearly always come in the order of their time. Gathered by instrument as
//! they come from the tape, they are in order when such runs are put one behind the other.

use std::ops::Range;

use super::columns::Layout;
use super::records::iterate;
use super::{Header, Plain, NONE};

/// Instruments from this id on share one run, of which nothing is known: ids are small numbers.
const IDS_MAX: u32 = 1 << 20;

/// Rows of one instrument, in the order of the tape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) instrument: u32,
    pub(super) start: u32,
    pub(super) end: u32,
    /// Time of the first row.
    pub(super) first: i64,
    /// Time of the last row.
    pub(super) last: i64,
    /// Whether all rows are of the instrument, and no time is before the one above it.
    pub(super) is_ordered: bool,
}

/// A record that was chosen, and the run that takes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picked {
    /// Its first byte.
    pub(super) at: usize,
    /// Its number among all records of the batch.
    pub(super) index: u32,
    run: u32,
}

/// The records of one batch that become rows, by instrument.
#[derive(Debug, Default, Clone)]
pub(super) struct Picks {
    pub(super) picked: Vec<Picked>,
    pub(super) runs: Vec<Run>,
    /// Place in `runs` by instrument id; `u32::MAX` for none.
    slots: Vec<u32>,
}

impl Picks {
    /// Chooses the records of `layout` among `bytes`, which are whole records of which the first
    /// stands at `first_offset`, but none before `from`. The runs lie behind row `start`.
    pub(super) fn pick(
        &mut self,
        layout: &Layout,
        bytes: &[u8],
        (first_offset, from): (u64, u64),
        start: usize,
    ) {
        for run in self.runs.drain(..) {
            self.slots[run.instrument.min(IDS_MAX) as usize] = u32::MAX;
        }
        self.picked.clear();
        let skipped = from.saturating_sub(first_offset);
        let mut at = 0;
        for (index, record) in (0..).zip(iterate(bytes)) {
            let record = record.bytes();
            if u64::from(index) >= skipped && layout.matches(record) {
                let run = self.run_of(Header::read_from(record).unwrap_or_default().instrument);
                self.runs[run as usize].end += 1;
                self.picked.push(Picked { at, index, run });
            }
            at += record.len();
        }
        let mut next = start as u32;
        for run in &mut self.runs {
            let rows = run.end;
            (run.start, run.end) = (next, next);
            next += rows;
        }
    }

    #[inline]
    fn run_of(&mut self, instrument: u32) -> u32 {
        let slot = instrument.min(IDS_MAX) as usize;
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, u32::MAX);
        }
        if self.slots[slot] == u32::MAX {
            self.slots[slot] = self.runs.len() as u32;
            self.runs.push(Run {
                instrument,
                start: 0,
                end: 0,
                first: i64::MAX,
                last: i64::MIN,
                is_ordered: instrument < IDS_MAX,
            });
        }
        self.slots[slot]
    }

    /// Gives each record that was chosen, with the row that it becomes.
    #[inline]
    pub(super) fn place(&mut self, bytes: &[u8], mut put: impl FnMut(&Picked, usize)) {
        for picked in &self.picked {
            let run = &mut self.runs[picked.run as usize];
            let time = time_of(&bytes[picked.at..]);
            put(picked, run.end as usize);
            run.first = if run.start == run.end { time } else { run.first };
            run.end += 1;
            run.is_ordered &= run.last <= time;
            run.last = time;
        }
    }
}

/// The time that decides the day and order of a record: of the event, or else of the receipt.
#[inline]
pub(super) fn time_of(record: &[u8]) -> i64 {
    let header = Header::read_from(record).unwrap_or_default();
    if header.ts_event != NONE {
        header.ts_event
    } else if header.ts_recv != NONE {
        header.ts_recv
    } else {
        0
    }
}

/// In which order rows stand in their file.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// As they are stored.
    Stored,
    /// Runs one behind the other: where each begins in the file, and which rows it has.
    Runs(Vec<(usize, Range<usize>)>),
    /// Row by row.
    Rows(Vec<u32>),
}

impl Order {
    /// Runs one behind the other, each with the number of its group, of which the least is first;
    /// none if rows of a group would not be in the order of their time.
    pub(super) fn of_runs(mut runs: Vec<(usize, Run)>) -> Option<Self> {
        runs.sort_by_key(|&(group, _)| group);
        let are_ordered = runs.windows(2).all(|pair| {
            let [(group, run), (other, next)] = pair else { return true };
            // Which of two instruments came first at one instant is not known here.
            let follows = run.last < next.first
                || (run.last == next.first && run.instrument == next.instrument);
            group != other || follows
        });
        are_ordered.then(|| {
            let mut end = 0;
            let placed = runs.into_iter().map(|(_, run)| {
                let (at, rows) = (end, run.start as usize..run.end as usize);
                end += rows.len();
                (at, rows)
            });
            Self::Runs(placed.collect())
        })
    }

    /// Gives the stored rows that are `start` to `end` of the file, in pieces that lie one behind
    /// the other.
    #[inline]
    pub(super) fn pieces(&self, start: usize, end: usize, mut give: impl FnMut(Range<usize>)) {
        match self {
            Self::Stored => give(start..end),
            Self::Runs(runs) => {
                let first = runs.partition_point(|(at, rows)| at + rows.len() <= start);
                for (at, rows) in &runs[first..] {
                    if *at >= end {
                        break;
                    }
                    let (from, to) = (start.max(*at), end.min(at + rows.len()));
                    give(rows.start + from - at..rows.start + to - at);
                }
            }
            Self::Rows(order) => {
                for &row in &order[start..end] {
                    give(row as usize..row as usize + 1);
                }
            }
        }
    }
}
