//! What a builder holds while a frame is decoded, and how records go behind the others.
//!
//! No code of Python runs here: it may be called under the builder's lock.

use tapeworks_core::record::{
    self, Channel, Header, Level, Marker, MarkerCode, Plain, Record, Side, FLAG_LAST,
    FLAG_SNAPSHOT, NONE,
};
use tapeworks_core::{Error, Instruments, Result};

use super::fields::{level_of, Sides};

/// The frame that is decoded, and where its records go.
#[derive(Default)]
pub struct State {
    /// Whether a frame is decoded now: else nothing may be written.
    pub open: bool,
    pub number: u8,
    pub flags: u8,
    pub ts_recv: i64,
    pub instruments: Instruments,
    pub out: record::Records,
}

impl State {
    fn instrument(&mut self, symbol: &str, ts: i64) -> Result<u32> {
        if symbol.is_empty() {
            return Err(Error::invalid("symbol: expected a name, got an empty text"));
        }
        self.instruments.define(self.number, symbol, ts)
    }

    /// The header of a record of an instrument, which is defined if it is new.
    pub fn head<R: Record>(
        &mut self,
        symbol: &str,
        ts_event: Option<i64>,
        sequence: u64,
    ) -> Result<Header> {
        let ts = ts_event.unwrap_or(self.ts_recv);
        Ok(Header {
            flags: self.flags | FLAG_LAST,
            feed: self.number,
            instrument: self.instrument(symbol, ts)?,
            ts_event: ts,
            ts_recv: self.ts_recv,
            sequence,
            ..Header::of::<R>()
        })
    }

    /// Appends the levels of both sides.
    pub fn levels(&mut self, level: &mut Level, sides: &Sides) -> u32 {
        for (levels, side) in sides.iter().zip([Side::Bid, Side::Ask]) {
            level.side = side as u8;
            for &(price, size) in levels {
                (level.price, level.size) = (price, size);
                self.out.push(level);
            }
        }
        (sides[0].len() + sides[1].len()) as u32
    }

    /// Marks the level that was appended last as the end of its event.
    pub fn flag_last(&mut self) {
        let bytes = self.out.as_bytes().len();
        self.out.as_bytes_mut(bytes - size_of::<Level>())[2] |= FLAG_LAST;
    }

    /// Appends a book between its two markers.
    pub fn whole_book(&mut self, mut header: Header, channel: Channel, sides: &Sides) {
        header.flags = (header.flags & !FLAG_LAST) | FLAG_SNAPSHOT;
        let mut marker = Marker {
            header,
            code: MarkerCode::SnapshotBegin as u8,
            cause: 0,
            state: 0,
            channel: channel as u8,
            count: 0,
            first: header.sequence,
            last: header.sequence,
            ts_start: NONE,
        };
        let begin = self.out.mark();
        self.out.push(&marker);
        let mut level = level_of(header, 0, 0, channel);
        marker.count = self.levels(&mut level, sides);
        self.out.as_bytes_mut(begin.0)[..size_of::<Marker>()].copy_from_slice(marker.as_bytes());
        marker.code = MarkerCode::SnapshotEnd as u8;
        marker.header.flags |= FLAG_LAST;
        self.out.push(&marker);
    }
}
