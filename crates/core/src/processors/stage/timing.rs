//! How long records take from their receipt to the output of a stage.
//!
//! A stage is no processor: it may read the clock, and nothing that it writes follows from that.

use crate::clock;
use crate::latency::{Quantiles, Timed};
use crate::record::{blob, records, Kind, FLAG_HISTORICAL, FLAG_NO_EVENT_TIME, NONE};
use crate::tape::{Batch, TapeKind};

/// Runs of one receive time that are remembered of a batch; of more the last ones count together.
const RUNS_MAX: usize = 65_536;

/// Times of one stage: since it was opened, and since they were taken last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageTimes {
    /// From the receipt to the output.
    pub output: (Quantiles, Quantiles),
    /// From the venue's time to the receipt, where that was asked for.
    pub receipt: Option<(Quantiles, Quantiles)>,
}

/// What is measured of a stage.
#[derive(Debug)]
pub(super) struct Timing {
    /// What was received before is no live record.
    since: i64,
    /// Receive time and number of records of the batch that is being processed.
    runs: Vec<(i64, u64)>,
    output: Timed,
    receipt: Option<Timed>,
}

impl Timing {
    pub(super) fn new(has_receipt: bool) -> Self {
        Self {
            since: clock::now_ns(),
            runs: Vec::new(),
            output: Timed::default(),
            receipt: has_receipt.then(Timed::default),
        }
    }

    /// Notes the receive times of a batch.
    pub(super) fn begin(&mut self, batch: &Batch<'_>, kind: TapeKind) {
        self.runs.clear();
        if kind == TapeKind::Blobs {
            blob::iterate(batch.bytes).for_each(|blob| self.add(blob.header.ts_recv));
            return;
        }
        for record in records::iterate(batch.bytes) {
            let header = record.header();
            self.add(header.ts_recv);
            if let Some(receipt) = self.receipt.as_mut() {
                let is_timed = header.flags & (FLAG_HISTORICAL | FLAG_NO_EVENT_TIME) == 0
                    && header.ts_event != NONE
                    && header.ts_recv != NONE
                    && header.ts_recv >= self.since;
                if is_timed && is_of_market(record.kind()) {
                    receipt.record(header.ts_recv - header.ts_event, 1);
                }
            }
        }
    }

    fn add(&mut self, ts_recv: i64) {
        if ts_recv < self.since || ts_recv == NONE {
            return;
        }
        let is_full = self.runs.len() >= RUNS_MAX;
        match self.runs.last_mut() {
            Some((ts, times)) if *ts == ts_recv || is_full => *times += 1,
            _ => self.runs.push((ts_recv, 1)),
        }
    }

    /// Says that the output of the batch is published.
    pub(super) fn end(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let now = clock::now_ns();
        for (ts, times) in self.runs.drain(..) {
            self.output.record(now.saturating_sub(ts), times);
        }
    }

    pub(super) fn take(&mut self) -> StageTimes {
        StageTimes { output: self.output.take(), receipt: self.receipt.as_mut().map(Timed::take) }
    }
}

const fn is_of_market(kind: u8) -> bool {
    kind == Kind::Trade as u8
        || kind == Kind::Quote as u8
        || kind == Kind::Level as u8
        || kind == Kind::Order as u8
}
