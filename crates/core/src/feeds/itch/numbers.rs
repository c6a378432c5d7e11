//! What the numbers of messages say: which come again, and which are missing.

use super::{Itch, JUMP_MAX};
use crate::error::{DecodeReason, Error, Result};
use crate::record::{
    Channel, GapCause, GapState, Header, Marker, MarkerCode, Records, FLAG_LAST, NONE,
};

impl Itch {
    /// Compares the number of the first of `count` messages with the one expected. Returns how
    /// many of them are known already.
    pub(super) fn arbitrate(
        &mut self,
        sequence: u64,
        count: u64,
        header: &Header,
        ts_first: Option<i64>,
        out: &mut Records,
    ) -> Result<u64> {
        let session = &mut self.session;
        let wrong = Err(Error::decode(DecodeReason::ImplausibleSequence, 10));
        let Some(after) = sequence.checked_add(count).filter(|_| sequence != 0) else {
            // Captures without numbers: nothing can be said of what is missing.
            return if sequence == 0 { Ok(0) } else { wrong };
        };
        if session.next == 0 {
            session.next = sequence;
        }
        if sequence > session.next {
            if sequence - session.next > JUMP_MAX {
                return wrong;
            }
            let missing = sequence - session.next;
            let (ts_start, ts_end) = session.times.gap(ts_first, header.ts_recv);
            let ts_start = match ts_start {
                // All of the day so far, where it is known when that began.
                None if session.from_start => session.midnight.min(ts_end),
                known => known.unwrap_or(NONE),
            };
            let count = u32::try_from(missing).unwrap_or(u32::MAX);
            let range = (session.next, sequence - 1);
            out.push(&gap(header, (ts_start, ts_end), sequence, range, count));
            session.is_whole = false;
            session.next = sequence;
        }
        if after <= session.next
            && count > 0
            && ts_first.is_some_and(|ts| ts > session.times.last())
        {
            // Later than all that came, under numbers that are used: no copy of anything.
            return wrong;
        }
        let known = (session.next - sequence).min(count);
        session.next = session.next.max(after);
        if count > 0 {
            session.seen = session.seen.max(after);
        }
        Ok(known)
    }
}

/// What is missing before a blob that begins with message `sequence`, from `ts_start` to `ts_end`.
fn gap(
    header: &Header,
    (ts_start, ts_end): (i64, i64),
    sequence: u64,
    (first, last): (u64, u64),
    count: u32,
) -> Marker {
    Marker {
        header: Header {
            flags: header.flags | FLAG_LAST,
            ts_event: ts_end,
            sequence,
            feed: header.feed,
            ts_recv: header.ts_recv,
            ..Header::of::<Marker>()
        },
        code: MarkerCode::Gap as u8,
        cause: GapCause::Sequence as u8,
        state: GapState::Closed as u8,
        channel: Channel::Order as u8,
        count,
        first,
        last,
        ts_start,
    }
}
