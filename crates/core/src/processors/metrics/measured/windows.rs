//! Windows of trades by event time, as records.

use super::super::event_windows::{Coming, Row};
use super::Measured;
use crate::feeds::Updates;
use crate::record::{
    Header, Marker, Metric, Records, Trade, FLAG_LAST, FLAG_NO_EVENT_TIME, FLAG_OUT_OF_ORDER, NONE,
};

/// Name of the count of trades that came too late for their windows.
const LATE_TRADES: [u8; 40] = {
    let mut name = [0; 40];
    let text = b"late_trades";
    let mut at = 0;
    while at < text.len() {
        name[at] = text[at];
        at += 1;
    }
    name
};

impl Measured {
    /// Trades that came too late for their windows.
    pub(in super::super) fn late_trades(&self) -> u64 {
        self.windows.late()
    }

    /// Makes final the windows that end by the venue's time of an event.
    #[inline]
    pub(super) fn advance_windows(&mut self, header: &Header, known: i64, out: &mut Records) {
        if self.windows.is_empty() || header.flags & FLAG_NO_EVENT_TIME != 0 {
            return;
        }
        self.note_windows_lead(header, known);
        let mut rows = Vec::new();
        self.windows.advance(header.ts_event, Coming::of(header.flags), &mut rows);
        self.write_windows(&rows, known, out);
    }

    #[inline]
    fn note_windows_lead(&mut self, header: &Header, known: i64) {
        if Coming::of(header.flags) == Coming::Live {
            self.windows_lead.note(header.ts_event, known);
        }
    }

    /// Takes in a trade for windows alone: also one that came late.
    #[inline]
    pub(in super::super) fn window_trade(
        &mut self,
        trade: &Trade,
        updates: Updates,
        known: i64,
        out: &mut Records,
    ) {
        if !self.windows.is_empty() {
            self.add_to_windows(trade, updates, known, out);
        }
    }

    fn add_to_windows(&mut self, trade: &Trade, updates: Updates, known: i64, out: &mut Records) {
        self.note_windows_lead(&trade.header, known);
        let print = self.print_of(trade, updates, trade.header.ts_event);
        let (mut rows, late) = (Vec::new(), self.windows.late());
        self.windows.print(&print, Coming::of(trade.header.flags), &mut rows);
        self.write_windows(&rows, known, out);
        if self.windows.late() > late {
            let count = self.windows.late();
            let mut row = self.row(trade.header.ts_event, known);
            row.value = Metric::bits(Some(count as f64));
            (row.count, row.metric) = (count, LATE_TRADES);
            row.header.flags = FLAG_LAST;
            out.push(&row);
        }
    }

    /// Takes back what was told of windows that a gap in trades reaches into.
    pub(in super::super) fn cut_windows(&mut self, gap: &Marker, known: i64, out: &mut Records) {
        let time = |ts: i64| Some(ts).filter(|&ts| ts != NONE);
        let mut rows = Vec::new();
        self.windows.cut(time(gap.ts_start), time(gap.header.ts_event), &mut rows);
        self.write_windows(&rows, known, out);
    }

    pub(super) fn write_windows(&self, rows: &[Row], known: i64, out: &mut Records) {
        for made in rows {
            let mut row = self.row(made.ts, known);
            (row.count, row.window) = (made.trades, made.length as u64);
            let names = &self.plan.window_names[made.shape];
            for (at, name) in names.iter().enumerate() {
                let value = made.values.map(|values| values[at]).filter(|value| value.is_finite());
                (row.value, row.metric) = (Metric::bits(value), *name);
                let correction = if made.is_correction { FLAG_OUT_OF_ORDER } else { 0 };
                row.header.flags = correction | if at + 1 == names.len() { FLAG_LAST } else { 0 };
                out.push(&row);
            }
        }
    }
}
