//! Depth messages: changes, partial books and snapshots, level by level.

use super::decode::{fail, Task};
use super::fields::{slot, Fields};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::scan::{Scanner, Span};
use crate::record::{
    Channel, Level, Marker, MarkerCode, Plain, Records, Side, FLAG_LAST, FLAG_SNAPSHOT, NONE,
    SNAPSHOT_CUT,
};

impl Task<'_> {
    pub(super) fn depth(&mut self, fields: &Fields, stream: &[u8]) -> Result<()> {
        let kind = depth_kind(stream);
        let symbol = fields.need(b's')?;
        let chained = self.chained;
        let mut values = self.values();
        let first = values.id(fields.need(b'U')?, "sequence")?;
        let last = values.id(fields.need(b'u')?, "sequence")?;
        let previous =
            if chained { values.id(fields.need(slot::PU)?, "previous")? } else { first.max(1) - 1 };
        let time = if fields.has(b'T') { b'T' } else { b'E' };
        let ts = values.time(fields.need(time)?, "ts_event")?;
        let byte = fields.need(b'u')?.start as usize;
        let Some(span) = last.checked_sub(first) else {
            return fail(DecodeReason::BadNumber, byte);
        };
        let span = u32::try_from(span).map_err(|_| Error::DoesNotFit { field: "span", byte })?;
        let sides = [fields.need(b'b')?, fields.need(b'a')?];
        let instrument = self.instrument(symbol, ts)?;
        let event = Event { instrument, ts, last, previous, span };
        match kind {
            DepthKind::Change => self.change(&event, sides),
            DepthKind::Partial => self.snapshot(&event, sides, Channel::PartialDepth, None),
            DepthKind::Other => self.ignored(&event, sides),
        }
    }

    fn change(&mut self, event: &Event, sides: [Span; 2]) -> Result<()> {
        if self.levels(event, sides, Channel::Depth, 0)? != [0; 2] {
            set_last(self.out);
            return Ok(());
        }
        self.empty(event);
        Ok(())
    }

    /// The record of a change without levels.
    #[cold]
    pub(super) fn empty(&mut self, event: &Event) {
        let mut header = self.head::<Marker>(event.instrument, event.ts, event.last);
        header.flags |= FLAG_LAST;
        self.out.push(&Marker {
            header,
            code: MarkerCode::EmptyUpdate as u8,
            cause: 0,
            state: 0,
            channel: Channel::Depth as u8,
            count: 0,
            first: event.last - u64::from(event.span),
            last: event.last,
            ts_start: event.previous as i64,
        });
    }

    /// Levels of a stream that is not the public book: checked, and not written.
    fn ignored(&mut self, event: &Event, sides: [Span; 2]) -> Result<()> {
        let mark = self.out.mark();
        self.levels(event, sides, Channel::None, 0)?;
        self.out.truncate(mark);
        Ok(())
    }

    /// The whole top of a book: begin, levels, end. With a `limit`, a side is cut that has as many.
    pub(super) fn snapshot(
        &mut self,
        event: &Event,
        sides: [Span; 2],
        channel: Channel,
        limit: Option<u32>,
    ) -> Result<()> {
        let mut header = self.head::<Marker>(event.instrument, event.ts, event.last);
        header.flags |= FLAG_SNAPSHOT;
        let mut marker = Marker {
            header,
            code: MarkerCode::SnapshotBegin as u8,
            cause: 0,
            state: 0,
            channel: channel as u8,
            count: 0,
            first: event.last,
            last: event.last,
            ts_start: NONE,
        };
        let begin = self.out.mark();
        self.out.push(&marker);
        let counts = self.levels(event, sides, channel, FLAG_SNAPSHOT)?;
        marker.count = counts[0] + counts[1];
        for (count, cut) in counts.into_iter().zip(SNAPSHOT_CUT) {
            if limit.is_some_and(|limit| count >= limit) {
                marker.state |= cut;
            }
        }
        write_marker(self.out, begin.0, &marker);
        marker.code = MarkerCode::SnapshotEnd as u8;
        marker.header.flags |= FLAG_LAST;
        self.out.push(&marker);
        Ok(())
    }

    fn levels(
        &mut self,
        event: &Event,
        sides: [Span; 2],
        channel: Channel,
        flags: u8,
    ) -> Result<[u32; 2]> {
        let mut header = self.head::<Level>(event.instrument, event.ts, event.last);
        header.flags |= flags;
        let mut level = Level {
            header,
            price: 0,
            size: 0,
            previous: event.previous,
            span: event.span,
            side: 0,
            channel: channel as u8,
            reserved: [0; 2],
        };
        let mut counts = [0; 2];
        let each = sides.into_iter().zip([Side::Bid, Side::Ask]).zip(&mut counts);
        for ((span, side), count) in each {
            let before = self.out.len();
            level.side = side as u8;
            let mut scanner = Scanner::inside(self.bytes, span);
            scanner.at_value(b'[')?;
            scanner.array(|scanner| {
                (level.price, level.size) = self.values().level(scanner)?;
                self.out.push(&level);
                Ok(())
            })?;
            *count = (self.out.len() - before) as u32;
        }
        Ok(counts)
    }

    pub(super) fn partial(&mut self, fields: &Fields, stream: &[u8]) -> Result<()> {
        let sequence = self.values().id(fields.need(slot::LAST_UPDATE_ID)?, "sequence")?;
        let sides = [fields.need(slot::BIDS)?, fields.need(slot::ASKS)?];
        let Some(end) = stream.iter().position(|&byte| byte == b'@') else {
            return fail(DecodeReason::UnknownStream, fields.start());
        };
        // Streams are named in lower case, symbols are in upper case.
        self.scratch.clear();
        self.scratch.extend(stream[..end].iter().map(u8::to_ascii_uppercase));
        let ts = self.header.ts_recv;
        let instrument = self.symbols.define(self.scratch, self.instruments, ts, fields.start())?;
        let event = Event { instrument, ts, last: sequence, previous: 0, span: 0 };
        self.snapshot(&event, sides, Channel::PartialDepth, None)
    }
}

/// What the levels of one depth event share.
pub struct Event {
    /// Instrument id.
    pub instrument: u32,
    /// When it happened, in ns.
    pub ts: i64,
    /// Last update id.
    pub last: u64,
    /// Last update id before the event, 0 for a snapshot that does not say it.
    pub previous: u64,
    /// Update ids covered, less one.
    pub span: u32,
}

/// What a depth stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepthKind {
    /// Changes of the public book.
    Change,
    /// The whole top of the public book.
    Partial,
    /// Another book, such as the one with hidden retail orders.
    Other,
}

/// Tells the depth streams apart by their name: `@depth`, `@depth@100ms`, `@depth20@100ms`,
/// `@rpiDepth@500ms`.
pub fn depth_kind(stream: &[u8]) -> DepthKind {
    let Some(at) = stream.iter().position(|&byte| byte == b'@') else {
        return DepthKind::Change;
    };
    match &stream[at..] {
        [b'@', b'd', b'e', b'p', b't', b'h', b'0'..=b'9', ..] => DepthKind::Partial,
        name if name.starts_with(b"@rpiDepth") => DepthKind::Other,
        _ => DepthKind::Change,
    }
}

/// Sets the flag of the last record of `out`, which is a [`Level`].
pub(super) fn set_last(out: &mut Records) {
    let bytes = out.as_bytes().len();
    let flags = &mut out.as_bytes_mut(bytes - size_of::<Level>())[2];
    *flags |= FLAG_LAST;
}

/// Replaces the marker that stands at `byte` of `out`.
fn write_marker(out: &mut Records, byte: usize, marker: &Marker) {
    out.as_bytes_mut(byte)[..size_of::<Marker>()].copy_from_slice(marker.as_bytes());
}
