//! When each stream of each connection last spoke.
//!
//! Only streams that were named before are counted, so that a venue cannot make this grow.

use std::collections::HashMap;

use crate::instrument::FastHash;
use crate::record::Channel;

/// What is known of one stream on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The name that the venue's envelope carries.
    pub name: String,
    /// The venue symbol that it is about.
    pub symbol: String,
    /// The channel that it fills.
    pub channel: Channel,
    /// Frames so far.
    pub frames: u64,
    /// Receive time of the first frame, in ns; 0 before it.
    pub ts_first: i64,
    /// Receive time of the last frame, in ns; 0 before the first.
    pub ts_last: i64,
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<Box<[u8]>, usize, FastHash>,
    streams: Vec<Stream>,
}

/// The streams of all connections.
#[derive(Debug, Default)]
pub struct Activity {
    tables: Vec<Table>,
}

impl Activity {
    /// Starts to count the stream `name` on `connection`.
    pub fn watch(&mut self, connection: u16, name: &str, symbol: &str, channel: Channel) {
        let at = usize::from(connection);
        if self.tables.len() <= at {
            self.tables.resize_with(at + 1, Table::default);
        }
        let table = &mut self.tables[at];
        table.by_name.entry(Box::from(name.as_bytes())).or_insert_with(|| {
            table.streams.push(Stream {
                name: name.to_owned(),
                symbol: symbol.to_owned(),
                channel,
                frames: 0,
                ts_first: 0,
                ts_last: 0,
            });
            table.streams.len() - 1
        });
    }

    /// Moves all times by `ns`, as the receive times were.
    pub fn shift(&mut self, ns: i64) {
        for stream in self.tables.iter_mut().flat_map(|table| table.streams.iter_mut()) {
            if stream.frames > 0 {
                stream.ts_first = stream.ts_first.saturating_add(ns);
                stream.ts_last = stream.ts_last.saturating_add(ns);
            }
        }
    }

    /// Forgets all streams of `connection`.
    pub fn forget(&mut self, connection: u16) {
        if let Some(table) = self.tables.get_mut(usize::from(connection)) {
            *table = Table::default();
        }
    }

    /// Counts a frame of the stream `name`; nothing happens if it is not watched. Gives the stream
    /// if this was its first.
    #[inline]
    pub fn heard(&mut self, connection: u16, name: &[u8], ts_recv: i64) -> Option<&Stream> {
        let table = self.tables.get_mut(usize::from(connection))?;
        let &index = table.by_name.get(name)?;
        let stream = &mut table.streams[index];
        stream.frames += 1;
        stream.ts_last = ts_recv;
        if stream.frames > 1 {
            return None;
        }
        stream.ts_first = ts_recv;
        Some(stream)
    }

    /// The streams of `connection`, in the order in which they were named.
    pub fn streams(&self, connection: u16) -> &[Stream] {
        self.tables.get(usize::from(connection)).map_or(&[], |table| &table.streams)
    }

    /// The stream `name` of `connection`.
    pub fn stream(&self, connection: u16, name: &str) -> Option<&Stream> {
        let table = self.tables.get(usize::from(connection))?;
        table.by_name.get(name.as_bytes()).map(|&index| &table.streams[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_streams_are_counted() {
        // A stream that nobody asked for leaves no trace; connections are told apart.
        let mut activity = Activity::default();
        activity.watch(2, "a@trade", "A", Channel::Trade);
        activity.watch(2, "a@trade", "A", Channel::Trade);
        for ts in [10, 20] {
            activity.heard(2, b"a@trade", ts);
            activity.heard(2, b"b@trade", ts);
            activity.heard(9, b"a@trade", ts);
        }
        let stream = activity.stream(2, "a@trade").unwrap();
        assert_eq!((stream.frames, stream.ts_first, stream.ts_last), (2, 10, 20));
        assert_eq!(activity.streams(2).len(), 1);
        assert!(activity.streams(9).is_empty());
        activity.forget(2);
        assert!(activity.streams(2).is_empty());
    }
}
