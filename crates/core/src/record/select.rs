//! Choosing records of a stream, and merging streams by the time of their receipt.

use super::columns::Layout;
use super::{Header, Kind, Plain, Records, NONE};

/// Which records are wanted.
#[derive(Debug, Clone)]
pub struct Selection {
    /// One bit per kind.
    pub kinds: u64,
    /// Wanted instruments, ascending; none means all. Records of no instrument pass.
    pub instruments: Option<Vec<u32>>,
    /// First wanted `ts_recv`.
    pub start: i64,
    /// First unwanted `ts_recv`.
    pub end: i64,
    /// The layout that records must be of; none means any of the kinds.
    pub layout: Option<&'static Layout>,
}

impl Selection {
    /// The bit of `kind` in [`Selection::kinds`].
    pub const fn bit(kind: Kind) -> u64 {
        1 << kind as u8
    }

    #[inline]
    fn wants(&self, header: &Header) -> bool {
        if header.kind >= 64 || self.kinds >> header.kind & 1 == 0 {
            return false;
        }
        if header.ts_recv < self.start || header.ts_recv >= self.end {
            return false;
        }
        match &self.instruments {
            Some(ids) if header.instrument != 0 => ids.binary_search(&header.instrument).is_ok(),
            _ => true,
        }
    }

    /// Appends the wanted records of `bytes`, whole records, to `out`.
    pub fn select(&self, bytes: &[u8], out: &mut Records) {
        // Neighbours are copied in one go: when all is wanted this is a plain copy.
        let (mut run, mut count) = (0, 0);
        let mut at = 0;
        for record in super::records::iterate(bytes) {
            let length = record.bytes().len();
            let fits = self.layout.is_none_or(|layout| layout.matches(record.bytes()));
            if fits && self.wants(&record.header()) {
                count += 1;
            } else {
                out.extend_counted(&bytes[run..at], count);
                (run, count) = (at + length, 0);
            }
            at += length;
        }
        out.extend_counted(&bytes[run..at], count);
    }
}

/// One stream of a [`Merge`]: what was read and not yet given out.
#[derive(Debug, Default)]
struct Stream {
    pending: Records,
    /// First byte of `pending` that was not yet given out.
    at: usize,
    /// Latest `ts_recv` that was given out or looked at: time never runs back within a stream.
    time: i64,
    ended: bool,
}

impl Stream {
    fn rest(&self) -> &[u8] {
        &self.pending.as_bytes()[self.at..]
    }

    /// The time of the next record: its own, or that of one before it if that is later.
    fn next_time(&self) -> Option<i64> {
        let header = Header::read_from(self.rest())?;
        let own = if header.ts_recv == NONE { self.time } else { header.ts_recv };
        Some(own.max(self.time))
    }
}

/// Merges streams by `ts_recv`. Records of one stream keep their order; ties go to the stream that
/// was named first. Memory is what was pushed and not yet taken.
#[derive(Debug, Default)]
pub struct Merge {
    streams: Vec<Stream>,
}

impl Merge {
    /// A merge of `count` streams.
    pub fn new(count: usize) -> Self {
        let stream = || Stream { time: i64::MIN, ..Stream::default() };
        Self { streams: std::iter::repeat_with(stream).take(count).collect() }
    }

    /// Adds the next records of `stream`.
    pub fn push(&mut self, stream: usize, records: &Records) {
        let stream = &mut self.streams[stream];
        if stream.at == stream.pending.as_bytes().len() {
            stream.pending.clear();
            stream.at = 0;
        }
        stream.pending.extend_counted(records.as_bytes(), records.len());
    }

    /// Says that nothing more will be pushed to `stream`.
    pub fn end(&mut self, stream: usize) {
        self.streams[stream].ended = true;
    }

    /// The stream that must be pushed to or ended before more can be taken.
    pub fn wanting(&self) -> Option<usize> {
        self.streams.iter().position(|stream| !stream.ended && stream.rest().is_empty())
    }

    /// Appends records in order to `out` until a stream that has not ended runs dry or `max`
    /// records were taken. Says how many it took.
    pub fn take(&mut self, max: usize, out: &mut Records) -> usize {
        let mut taken = 0;
        while taken < max && self.wanting().is_none() {
            let times = self.streams.iter().map(Stream::next_time).enumerate();
            let times = times.filter_map(|(index, time)| Some((time?, index)));
            let Some((_, winner)) = times.clone().min() else { break };
            // Up to where the winner stays ahead: ties go to the lower index.
            let rival = times.filter(|&(_, index)| index != winner).min();
            taken += self.take_run(winner, rival, max - taken, out);
        }
        taken
    }

    fn take_run(
        &mut self,
        winner: usize,
        rival: Option<(i64, usize)>,
        max: usize,
        out: &mut Records,
    ) -> usize {
        let stream = &mut self.streams[winner];
        let start = stream.at;
        let mut count = 0;
        while count < max {
            let Some(time) = stream.next_time() else { break };
            if rival.is_some_and(|rival| (time, winner) > rival) {
                break;
            }
            stream.time = time;
            stream.at += stream.rest()[0] as usize * 8;
            count += 1;
        }
        let bytes = &stream.pending.as_bytes()[start..stream.at];
        out.extend_counted(bytes, count);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Quote, Trade};
    use super::*;

    fn trade(instrument: u32, ts_recv: i64) -> Trade {
        let mut trade = Trade::read_from(&[0; 64]).unwrap();
        trade.header = Header { instrument, ts_recv, ..Header::of::<Trade>() };
        trade
    }

    fn times(records: &Records) -> Vec<(u32, i64)> {
        records.iter().map(|r| (r.header().instrument, r.header().ts_recv)).collect()
    }

    #[test]
    fn selection_keeps_kind_instrument_and_time() {
        // One record fails each condition; two pass, one of them without an instrument.
        let mut batch = Records::new();
        for (instrument, ts) in [(1, 5), (2, 5), (1, 4), (1, 10), (0, 6)] {
            batch.push(&trade(instrument, ts));
        }
        let mut quote = Quote::read_from(&[0; 64]).unwrap();
        quote.header = Header { instrument: 1, ts_recv: 5, ..Header::of::<Quote>() };
        batch.push(&quote);
        let kinds = Selection::bit(Kind::Trade);
        let selection =
            Selection { kinds, instruments: Some(vec![1]), start: 5, end: 10, layout: None };
        let mut out = Records::new();
        selection.select(batch.as_bytes(), &mut out);
        assert_eq!(times(&out), [(1, 5), (0, 6)]);
    }

    #[test]
    fn merge_is_by_time_then_stream_and_waits_for_a_dry_stream() {
        let mut merge = Merge::new(2);
        let batch = |instrument, ts: &[i64]| {
            let mut records = Records::new();
            ts.iter().for_each(|&ts| records.push(&trade(instrument, ts)));
            records
        };
        assert_eq!(merge.wanting(), Some(0));
        // The 2 after the 4 is late on its own stream: it must not overtake it.
        merge.push(0, &batch(1, &[1, 4, 2]));
        merge.push(1, &batch(2, &[1, 3]));
        let mut out = Records::new();
        assert_eq!(merge.take(100, &mut out), 3);
        assert_eq!(merge.wanting(), Some(1));
        merge.end(1);
        merge.end(0);
        assert_eq!(merge.take(100, &mut out), 2);
        assert_eq!(times(&out), [(1, 1), (2, 1), (2, 3), (1, 4), (1, 2)]);
        assert_eq!(merge.take(100, &mut out), 0);
    }
}
