//! The records of a whole book, or of its top, between two markers.

use crate::record::{Channel, Header, Level, Marker, MarkerCode, Side, FLAG_SNAPSHOT, NONE};

/// What the records of a checkpoint or of a top share.
pub(super) struct UpdateFrame {
    pub(super) instrument: u32,
    pub(super) feed: u8,
    pub(super) channel: Channel,
    pub(super) sequence: u64,
    pub(super) ts_event: i64,
    pub(super) ts_recv: i64,
}

impl UpdateFrame {
    const fn header(&self, header: Header) -> Header {
        Header {
            instrument: self.instrument,
            feed: self.feed,
            flags: FLAG_SNAPSHOT,
            ts_event: self.ts_event,
            ts_recv: self.ts_recv,
            sequence: self.sequence,
            ..header
        }
    }

    /// A marker at one of its ends.
    pub(super) const fn marker(&self, code: MarkerCode, count: u32) -> Marker {
        Marker {
            header: self.header(Header::of::<Marker>()),
            code: code as u8,
            cause: 0,
            state: 0,
            channel: self.channel as u8,
            count,
            first: self.sequence,
            last: self.sequence,
            ts_start: NONE,
        }
    }

    /// One of its levels.
    pub(super) const fn level(&self, side: Side, price: i64, size: i64) -> Level {
        Level {
            header: self.header(Header::of::<Level>()),
            price,
            size,
            previous: 0,
            span: 0,
            side: side as u8,
            channel: self.channel as u8,
            reserved: [0; 2],
        }
    }
}
