//! Tops of books on a tape as rows: the best levels of each side, side by side.

use super::arrow::Column;
use super::rows::{days_of, Day, Symbols, DAY};
use super::{Channel, Header, Level, Marker, MarkerCode, Side, NONE, PRICE_PLACES, SIZE_PLACES};
use crate::error::{Error, Result};

/// Levels a side that a row holds.
pub const SNAPSHOT_LEVELS: usize = 20;

/// One row: header of the snapshot's end, offset, and levels from the best on.
#[derive(Debug, Clone)]
struct Row {
    header: Header,
    offset: u64,
    sides: [Vec<(i64, i64)>; 2],
}

/// A snapshot whose end was not seen yet.
#[derive(Debug, Clone)]
struct Open {
    offset: u64,
    instrument: u32,
    sides: [Vec<(i64, i64)>; 2],
}

/// Gathers tops, levels between two markers on [`Channel::PartialDepth`], out of a stream.
#[derive(Debug, Default, Clone)]
pub struct Snapshots {
    rows: Vec<Row>,
    open: Option<Open>,
}

impl Snapshots {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes that the rows take, nearly.
    pub fn byte_length(&self) -> usize {
        self.rows.len() * (size_of::<Row>() + SNAPSHOT_LEVELS * 2 * size_of::<(i64, i64)>())
    }

    /// Where reading must begin again to complete the snapshot that is not over.
    pub fn resume(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.offset)
    }

    /// Removes all rows; a snapshot that is not over goes on.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// Takes the snapshots out of `bytes`, whole records of which the first stands at
    /// `first_offset`. Rows that end before `from` are left out. Says how many it took.
    pub fn extend(&mut self, bytes: &[u8], first_offset: u64, from: u64) -> usize {
        let before = self.rows.len();
        for (record, offset) in super::records::iterate(bytes).zip(first_offset..) {
            if let Some(level) = record.as_level() {
                self.add(&level);
            } else if let Some(marker) = record.as_marker() {
                self.mark(&marker, offset, from);
            }
        }
        self.rows.len() - before
    }

    fn add(&mut self, level: &Level) {
        let Some(open) = self.open.as_mut().filter(|o| o.instrument == level.header.instrument)
        else {
            return;
        };
        if level.size > 0 {
            let side = usize::from(level.side == Side::Ask as u8);
            open.sides[side].push((level.price, level.size));
        }
    }

    fn mark(&mut self, marker: &Marker, offset: u64, from: u64) {
        if marker.channel != Channel::PartialDepth as u8 {
            return;
        }
        let instrument = marker.header.instrument;
        if marker.code == MarkerCode::SnapshotBegin as u8 {
            self.open = Some(Open { offset, instrument, sides: [Vec::new(), Vec::new()] });
        } else if marker.code == MarkerCode::SnapshotEnd as u8 {
            let Some(mut open) = self.open.take().filter(|o| o.instrument == instrument) else {
                return;
            };
            if offset < from {
                return;
            }
            open.sides[0].sort_unstable_by_key(|&(price, _)| std::cmp::Reverse(price));
            open.sides[1].sort_unstable_by_key(|&(price, _)| price);
            for side in &mut open.sides {
                side.truncate(SNAPSHOT_LEVELS);
                side.shrink_to_fit();
            }
            self.rows.push(Row { header: marker.header, offset, sides: open.sides });
        }
    }

    /// Puts the rows in the order of files, as `Rows::sort` does.
    ///
    /// # Errors
    /// `Error::Invalid`: an instrument has no definition yet; nothing was moved.
    pub fn sort(&mut self, symbols: &Symbols) -> Result<Vec<Day>> {
        for row in &self.rows {
            if symbols.rank_of(row.header.instrument) == u32::MAX {
                return Err(Error::invalid(format!(
                    "instrument {} has no definition on the tape so far",
                    row.header.instrument
                )));
            }
        }
        let day = |row: &Row| time(row).div_euclid(DAY);
        self.rows.sort_by_key(|r| (day(r), symbols.rank_of(r.header.instrument), time(r)));
        Ok(days_of(self.rows.iter().map(day)))
    }

    /// Columns of rows `start` to `end`.
    pub fn columns(&self, start: usize, end: usize, symbols: &Symbols) -> Vec<Column> {
        let rows = &self.rows[start..end];
        let ranks = rows.iter().map(|row| symbols.rank_of(row.header.instrument)).collect();
        let words =
            |name, value: fn(&Row) -> u64| Column::words(name, rows.iter().map(value).collect());
        let times = |name, time: fn(&Row) -> i64| {
            Column::times(name, rows.iter().map(|row| time(row) as u64).collect())
        };
        let mut out = vec![Column::symbols("symbol", ranks, symbols.names())];
        out.extend(times("ts_event", |row| row.header.ts_event));
        out.extend(times("ts_recv", |row| row.header.ts_recv));
        let names = [("bid_price", "bid_size"), ("ask_price", "ask_size")];
        for (side, (price, size)) in names.into_iter().enumerate() {
            let mut ends = vec![0_u32];
            let (mut prices, mut sizes) = (Vec::new(), Vec::new());
            for row in rows {
                prices.extend(row.sides[side].iter().map(|level| level.0));
                sizes.extend(row.sides[side].iter().map(|level| level.1));
                ends.push(prices.len() as u32);
            }
            let prices = Column::decimals("element", PRICE_PLACES, &prices);
            let sizes = Column::decimals("element", SIZE_PLACES, &sizes);
            out.push(Column::list(price, ends.clone(), prices));
            out.push(Column::list(size, ends, sizes));
        }
        out.push(words("sequence", |row| row.header.sequence));
        out.push(words("tape_offset", |row| row.offset));
        out
    }
}

fn time(row: &Row) -> i64 {
    match (row.header.ts_event, row.header.ts_recv) {
        (NONE, NONE) => 0,
        (NONE, recv) => recv,
        (event, _) => event,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Plain, Records};
    use super::*;

    fn snapshot(levels: i64) -> Records {
        let mut out = Records::new();
        let mut marker = Marker::read_from(&[0; 64]).unwrap();
        marker.header = Header { instrument: 1, ts_event: 5, ..Header::of::<Marker>() };
        marker.code = MarkerCode::SnapshotBegin as u8;
        marker.channel = Channel::PartialDepth as u8;
        out.push(&marker);
        for index in 1..=levels {
            for side in [Side::Bid, Side::Ask] {
                let mut level = Level::read_from(&[0; 64]).unwrap();
                level.header = Header { instrument: 1, ..Header::of::<Level>() };
                (level.price, level.size, level.side) = (index, index * 10, side as u8);
                out.push(&level);
            }
        }
        marker.code = MarkerCode::SnapshotEnd as u8;
        out.push(&marker);
        out
    }

    #[test]
    fn best_levels_come_first_and_a_cut_snapshot_is_resumed() {
        // Feed 30 levels a side in two halves: nothing comes before the end, and the offset to
        // read again from is that of the begin.
        let batch = snapshot(30);
        let (first, second) = batch.as_bytes().split_at(64 * 31);
        let mut snapshots = Snapshots::default();
        assert_eq!(snapshots.extend(first, 100, 0), 0);
        assert_eq!(snapshots.resume(), Some(100));
        assert_eq!(snapshots.extend(second, 131, 0), 1);
        assert_eq!(snapshots.resume(), None);
        let row = &snapshots.rows[0];
        assert_eq!(row.sides[0].len(), SNAPSHOT_LEVELS);
        assert_eq!((row.sides[0][0], row.sides[1][0]), ((30, 300), (1, 10)));
    }

    #[test]
    fn rows_before_the_wanted_offset_are_left_out() {
        // The end marker of a two-level snapshot stands at offset 5.
        let batch = snapshot(2);
        assert_eq!(Snapshots::default().extend(batch.as_bytes(), 0, 6), 0);
        assert_eq!(Snapshots::default().extend(batch.as_bytes(), 0, 5), 1);
    }
}
