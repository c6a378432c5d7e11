//! What breaks the stream of an instrument, or of all: gaps, ends, halts.
//!
//! What was known until then is sampled first, at its own times; then all is forgotten, and a
//! sample of nulls at the time of the break says so.

use super::measured::concerned;
use super::Metrics;
use crate::record::{Channel, GapState, Header, Marker, MarkerCode, Records, Status};

const fn is_of(gap: &Marker, channel: Channel) -> bool {
    gap.channel == channel as u8
}

const fn is_of_all(gap: &Marker) -> bool {
    is_of(gap, Channel::None) || is_of(gap, Channel::Session)
}

/// Whether a gap breaks what is made of quotes, and of trades of `channel`.
const fn breaks(gap: &Marker, channel: u8) -> bool {
    let of_prices = is_of(gap, Channel::Order) || is_of(gap, Channel::Quote);
    is_of_all(gap) || of_prices || gap.channel == channel
}

/// The instrument, or 0 for all, whose stream a marker breaks, and when it broke: a gap where it
/// begins.
pub(super) fn broken_at(marker: &Marker, channel: u8) -> Option<(u32, i64)> {
    match MarkerCode::try_from(marker.code) {
        Ok(MarkerCode::EndOfSession) => Some((0, marker.header.ts_event)),
        Ok(MarkerCode::Gap) if marker.state != GapState::Repaired as u8 => {
            breaks(marker, channel).then_some((marker.header.instrument, marker.ts_start))
        }
        _ => None,
    }
}

impl Metrics {
    /// Writes the samples of an instrument, or of all where it is 0, before the stream broke.
    pub(super) fn complete_until(&mut self, instrument: u32, broken: i64, out: &mut Records) {
        let known = self.watermark.ts();
        for measured in concerned(&mut self.instruments, instrument) {
            measured.complete_until(broken, known, &mut self.values, out);
        }
    }

    /// Empties all windows of an instrument, or of all where `marker` names none: the stream broke.
    pub(super) fn reset(&mut self, marker: &Header, keeps_best: bool, out: &mut Records) {
        let known = self.watermark.ts();
        let mut values = std::mem::take(&mut self.values);
        for measured in concerned(&mut self.instruments, marker.instrument) {
            measured.doubt_status();
            measured.reset(keeps_best, known, &mut values, out);
        }
        self.values = values;
    }

    /// Halted or resumed: what comes does not continue what was. Bands alone change nothing.
    pub(super) fn status(&mut self, status: &Status, out: &mut Records) {
        if status.status == 0 || status.header.instrument == 0 {
            return;
        }
        let known = self.watermark.ts();
        let mut values = std::mem::take(&mut self.values);
        if let Some(measured) = self.measured(&status.header) {
            if measured.set_status(status.status) {
                measured.complete_until(status.header.ts_event, known, &mut values, out);
                measured.reset(false, known, &mut values, out);
            }
        }
        self.values = values;
    }

    pub(super) fn gap(&mut self, gap: &Marker, out: &mut Records) {
        let of_trades = gap.channel == self.plan.channel;
        if is_of_all(gap) || is_of(gap, Channel::Order) {
            self.lose_orders(gap.header.instrument);
        }
        if is_of_all(gap) || of_trades || is_of(gap, Channel::Order) {
            let known = self.watermark.ts();
            concerned(&mut self.instruments, gap.header.instrument)
                .for_each(|measured| measured.cut_windows(gap, known, out));
        }
        if breaks(gap, self.plan.channel) {
            self.reset(&gap.header, of_trades, out);
        }
    }
}
