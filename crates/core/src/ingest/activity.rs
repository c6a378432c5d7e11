//! When each stream of each connection last spoke.
//!
//! Only streams that were named before are counted, so that a venue cannot make this grow.

use std::collections::HashMap;

use crate::instrument::FastHash;
use crate::record::Channel;

/// Events of one instrument and channel that came on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The connection.
    pub connection: u16,
    /// A [`Channel`].
    pub channel: u8,
    /// Instrument id.
    pub instrument: u32,
    /// How many.
    pub count: u64,
    /// Receive time of the first, in ns.
    pub ts_first: i64,
    /// Receive time of the last, in ns.
    pub ts_last: i64,
}

/// What is known of one stream on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name by the feed, which the venue's frames carry or its events tell.
    pub name: String,
    /// The venue symbol that it is about; empty for one of all symbols.
    pub symbol: String,
    /// The channel that it fills.
    pub channel: Channel,
    /// Frames so far, or events where those tell of the stream.
    pub frames: u64,
    /// Receive time of the first frame, in ns; 0 before it.
    pub ts_first: i64,
    /// Receive time of the last frame, in ns; 0 before the first.
    pub ts_last: i64,
}

impl Stream {
    fn hear(&mut self, count: u64, ts_first: i64, ts_last: i64) {
        if self.frames == 0 {
            self.ts_first = ts_first;
        }
        self.frames += count;
        self.ts_last = ts_last;
    }
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<Box<[u8]>, usize, FastHash>,
    /// The streams that events of an instrument and channel are of, as far as they were asked for.
    by_event: HashMap<(u32, u8), Box<[usize]>, FastHash>,
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
        table.by_event.clear();
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
        stream.hear(1, ts_recv, ts_recv);
        (stream.frames == 1).then_some(stream)
    }

    /// Counts events of `symbol`, the symbol of an instrument, for the streams of that symbol and
    /// channel, or else for those of all symbols. Gives the places of these streams.
    pub fn heard_events(&mut self, heard: &Heard, symbol: &str) -> &[usize] {
        let Some(table) = self.tables.get_mut(usize::from(heard.connection)) else { return &[] };
        let Table { by_event, streams, .. } = table;
        let places = by_event.entry((heard.instrument, heard.channel)).or_insert_with(|| {
            let of = |symbol: &str| -> Box<[usize]> {
                let fits = |stream: &Stream| {
                    stream.channel as u8 == heard.channel && stream.symbol == symbol
                };
                (0..streams.len()).filter(|&at| fits(&streams[at])).collect()
            };
            let named = of(symbol);
            if named.is_empty() {
                of("")
            } else {
                named
            }
        });
        for &place in places.iter() {
            streams[place].hear(heard.count, heard.ts_first, heard.ts_last);
        }
        places
    }

    /// The streams of `connection`, in the order in which they were named.
    pub fn streams(&self, connection: u16) -> &[Stream] {
        self.tables.get(usize::from(connection)).map_or(&[], |table| &table.streams)
    }

    /// The instruments whose events the stream `name` brought on `connection`, where events tell.
    pub fn instruments(&self, connection: u16, name: &str) -> Vec<u32> {
        let Some(table) = self.tables.get(usize::from(connection)) else { return Vec::new() };
        let Some(&place) = table.by_name.get(name.as_bytes()) else { return Vec::new() };
        let of_it = table.by_event.iter().filter(|(_, places)| places.contains(&place));
        let mut instruments: Vec<_> = of_it.map(|(&(instrument, _), _)| instrument).collect();
        instruments.sort_unstable();
        instruments
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

    #[test]
    fn events_are_of_the_stream_of_their_symbol_or_of_that_of_all() {
        // One stream of A, and one of all symbols, of another channel than a third: what no stream
        // was asked for counts nowhere, and a stream that is named later is found.
        let mut activity = Activity::default();
        activity.watch(0, "T.A", "A", Channel::Trade);
        activity.watch(0, "T.*", "", Channel::Trade);
        activity.watch(0, "Q.A", "A", Channel::Quote);
        let events = |instrument, channel: Channel, ts| Heard {
            connection: 0,
            channel: channel as u8,
            instrument,
            count: 3,
            ts_first: ts,
            ts_last: ts + 1,
        };
        assert_eq!(activity.heard_events(&events(0, Channel::Trade, 10), "A"), [0]);
        assert_eq!(activity.heard_events(&events(1, Channel::Trade, 20), "B"), [1]);
        assert!(activity.heard_events(&events(1, Channel::Quote, 30), "B").is_empty());
        assert_eq!(
            (activity.instruments(0, "T.*"), activity.instruments(0, "T.A")),
            (vec![1], vec![0])
        );
        activity.watch(0, "Q.B", "B", Channel::Quote);
        assert_eq!(activity.heard_events(&events(1, Channel::Quote, 40), "B"), [3]);
        let seen: Vec<_> =
            activity.streams(0).iter().map(|s| (s.frames, s.ts_first, s.ts_last)).collect();
        assert_eq!(seen, [(3, 10, 11), (3, 20, 21), (0, 0, 0), (3, 40, 41)]);
    }
}
