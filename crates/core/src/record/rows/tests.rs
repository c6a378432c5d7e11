use super::super::{padded, Records, Trade};
use super::*;

fn definition(id: u32, symbol: &str) -> Definition {
    // SAFETY: every bit pattern is valid for a plain type.
    let mut definition = Definition::read_from(&[0; 192]).unwrap();
    definition.header = Header { instrument: id, ..Header::of::<Definition>() };
    definition.symbol = padded(symbol).unwrap();
    definition
}

fn trade(instrument: u32, ts_event: i64, id: u64) -> Trade {
    let mut trade = Trade::read_from(&[0; 64]).unwrap();
    trade.header = Header { instrument, ts_event, sequence: id, ..Header::of::<Trade>() };
    trade
}

#[test]
fn rows_are_ordered_by_day_symbol_and_time_and_ties_keep_the_tape() {
    // Two days, two symbols whose ids run against their names, and a tie in time.
    let mut batch = Records::new();
    batch.push(&definition(1, "ETH"));
    batch.push(&definition(2, "BTC"));
    for (id, (instrument, ts)) in
        [(1, DAY), (2, 5), (1, 7), (2, 5), (1, 3), (2, DAY - 1)].iter().enumerate()
    {
        batch.push(&trade(*instrument, *ts, id as u64));
    }
    let mut symbols = Symbols::default();
    assert_eq!(symbols.load(batch.as_bytes()), 2);
    let mut rows = Rows::new(Layout::named("trade").unwrap());
    assert_eq!(rows.extend(batch.as_bytes(), 100, 0), 6);
    let days = rows.sort(&symbols).unwrap();
    let mut offsets = Vec::new();
    rows.take_offsets(0, rows.len(), &mut offsets);
    assert_eq!(offsets, [103, 105, 107, 106, 104, 102]);
    let expected = [Day { day: 0, start: 0, end: 5 }, Day { day: 1, start: 5, end: 6 }];
    assert_eq!(days, expected);
}

/// The bytes and the offsets of all rows, in the order of their file.
fn ordered(rows: &Rows) -> (Vec<u8>, Vec<u64>) {
    let (mut bytes, mut offsets, mut space) = (Vec::new(), Vec::new(), Vec::new());
    for at in (0..rows.len()).step_by(7) {
        let end = rows.len().min(at + 7);
        bytes.extend_from_slice(rows.ordered(at, end, &mut space));
        rows.take_offsets(at, end, &mut offsets);
    }
    (bytes, offsets)
}

#[test]
fn rows_by_instrument_are_ordered_as_those_that_are_kept_as_they_come() {
    // Batches of several lengths and records of two sizes; two ids of one symbol, ties among
    // them, an id without a symbol, times that run back, several days, a batch of nothing:
    // whatever came, the file is the same, and holds each row that was wanted, by key.
    for (case, (step, back, ids)) in
        [(40, 0, 3), (1, 0, 5), (1, 3, 5), (DAY / 50, 0, 5), (DAY / 9, DAY / 5, 5), (0, 0, 5)]
            .into_iter()
            .enumerate()
    {
        let mut symbols = Symbols::default();
        let mut batch = Records::new();
        for (id, symbol) in [(1, "ETH"), (2, "BTC"), (3, "SOL"), (4, "ETH"), (5, "BTC")] {
            batch.push(&definition(id, symbol));
        }
        symbols.load(batch.as_bytes());
        let layout = Layout::named("trade").unwrap();
        let (mut plain, mut grouped) = (Rows::new(layout), Rows::grouped(layout));
        let (mut offset, mut seed, mut expected) = (100, 7_u64, Vec::new());
        for length in [50, 0, 1, 300, 3] {
            let (mut batch, first) = (Records::new(), offset);
            for _ in 0..length {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (id, late) = ((seed >> 33) as u32 % (ids + 1), seed >> 40 & 7 == 0);
                let ts = DAY / 3 + (offset as i64 - 100) / 2 * step - i64::from(late) * back;
                if seed >> 45 & 7 == 0 {
                    batch.push(&definition(1, "ETH"));
                } else {
                    batch.push(&trade(id, ts, offset));
                    if offset >= 120 {
                        let rank = if id == 0 { 0 } else { symbols.rank_of(id) + 1 };
                        expected.push((ts.div_euclid(DAY), rank, ts, offset));
                    }
                }
                offset += 1;
            }
            let taken = plain.extend(batch.as_bytes(), first, 120);
            assert_eq!(grouped.extend(batch.as_bytes(), first, 120), taken);
            // To be put in order in between changes nothing.
            assert_eq!(grouped.sort(&symbols).unwrap(), plain.sort(&symbols).unwrap());
        }
        expected.sort_unstable();
        let days = grouped.sort(&symbols).unwrap();
        assert_eq!(days, plain.sort(&symbols).unwrap(), "case {case}");
        assert_eq!(days, days_of(expected.iter().map(|row| row.0)), "case {case}");
        let (bytes, offsets) = ordered(&grouped);
        let wanted: Vec<_> = expected.iter().map(|row| row.3).collect();
        assert_eq!(offsets, wanted, "case {case}");
        assert_eq!(ordered(&plain), (bytes.clone(), offsets), "case {case}");
        let of_row = |bytes: &[u8]| Header::read_from(bytes).unwrap().sequence;
        assert_eq!(bytes.chunks(64).map(of_row).collect::<Vec<_>>(), wanted, "case {case}");
    }
}

#[test]
fn rows_of_another_width_are_taken_by_instrument_too() {
    let mut batch = Records::new();
    for (id, symbol) in [(2, "ETH"), (1, "BTC"), (2, "ETH"), (1, "BTC")] {
        batch.push(&definition(id, symbol));
        batch.push(&trade(id, 1, 1));
    }
    let mut rows = Rows::grouped(Layout::named("definition").unwrap());
    assert_eq!(rows.extend(batch.as_bytes(), 0, 0), 4);
    let mut symbols = Symbols::default();
    symbols.load(batch.as_bytes());
    rows.sort(&symbols).unwrap();
    let (bytes, offsets) = ordered(&rows);
    assert_eq!(offsets, [2, 6, 0, 4]);
    let id = |row: &[u8]| Header::read_from(row).unwrap().instrument;
    assert_eq!(bytes.chunks(192).map(id).collect::<Vec<_>>(), [1, 1, 2, 2]);
}

#[test]
fn instruments_of_large_ids_are_rows_like_all_others() {
    // Ids that no tape gives: they share a run, which must not be taken for one instrument's.
    let mut rows = Rows::grouped(Layout::named("trade").unwrap());
    let mut batch = Records::new();
    for (instrument, ts) in [(u32::MAX, 1), (u32::MAX - 1, 2), (1, 3)] {
        batch.push(&trade(instrument, ts, 0));
    }
    assert_eq!(rows.extend(batch.as_bytes(), 0, 0), 3);
    let message = rows.sort(&Symbols::default()).unwrap_err().to_string();
    assert!(message.contains("has no definition"), "{message}");
    let (bytes, mut offsets) = ordered(&rows);
    offsets.sort_unstable();
    assert_eq!((bytes.len(), offsets.as_slice()), (192, &[0, 1, 2][..]));
}

#[test]
fn row_without_definition_is_refused() {
    let mut rows = Rows::grouped(Layout::named("trade").unwrap());
    rows.extend(trade(3, 1, 1).as_bytes(), 0, 0);
    let message = rows.sort(&Symbols::default()).unwrap_err().to_string();
    assert!(message.contains("instrument 3"), "{message}");
}
