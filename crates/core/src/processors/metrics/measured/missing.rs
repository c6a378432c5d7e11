//! Times in which trades came and were not recorded: what sums whole days up must know of them.

use super::Measured;
use crate::record::{Channel, GapState, Marker, MarkerCode, NONE};

/// What markers of the recorder itself name as their connection.
const RECORDER: u64 = u16::MAX as u64;

/// Between which times no trades of `channel` were recorded, by what `marker` says; from
/// `i64::MIN` where the beginning, to `i64::MAX` where the end is not known.
pub(in super::super) fn missing(marker: &Marker, channel: u8) -> Option<(i64, i64)> {
    let Marker { header, code, first, ts_start, state, .. } = *marker;
    let from = if ts_start == NONE { i64::MIN } else { ts_start };
    let to = if header.ts_event == NONE { header.ts_recv } else { header.ts_event };
    match MarkerCode::try_from(code) {
        Ok(MarkerCode::Gap) if state != GapState::Repaired as u8 => {
            let of_all = [Channel::None, Channel::Session, Channel::Order];
            let is_meant = marker.channel == channel
                || of_all.iter().any(|&channel| marker.channel == channel as u8);
            is_meant.then_some((from, to))
        }
        Ok(MarkerCode::EndOfSession) => Some((to, i64::MAX)),
        // It says until when the recorder before it had received.
        Ok(MarkerCode::Connected) if first == RECORDER => Some((from, to)),
        _ => None,
    }
}

impl Measured {
    /// Told that no trades between two times were recorded.
    pub(in super::super) fn miss(&mut self, from: i64, to: i64) {
        self.families.iter_mut().for_each(|family| family.miss(from, to));
    }
}
