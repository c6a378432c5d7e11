//! Bars when single times are wrong, and where a recording begins and ends.

use tapeworks_core::processors::{find, Batch, Setting, Settings};
use tapeworks_core::record::{
    Bar, Channel, GapCause, GapState, Header, Marker, MarkerCode, Plain, Records, Trade,
    FLAG_HISTORICAL, FLAG_MAYBE_BAD, FLAG_OUT_OF_ORDER, NONE,
};

const MS: i64 = 1_000_000;
const DAY_MS: i64 = 86_400_000;
const START: i64 = 1_700_000_000_000 * MS;

fn trade(id: u64, event_ms: i64, recv_ms: i64) -> Trade {
    let mut trade = Trade::read_from(&[0; 64]).unwrap();
    trade.header = Header {
        instrument: 1,
        ts_event: START + event_ms * MS,
        ts_recv: START + recv_ms * MS,
        sequence: id,
        ..Header::of::<Trade>()
    };
    (trade.price, trade.size, trade.trade_id, trade.count) = (8_000, 1, id, 1);
    trade.channel = Channel::Trade as u8;
    trade
}

fn bars(trades: &[Trade]) -> Vec<Bar> {
    let mut input = Records::new();
    trades.iter().for_each(|trade| input.push(trade));
    bars_of(&input)
}

fn bars_of(input: &Records) -> Vec<Bar> {
    let settings = Settings::new().with("intervals_ms", Setting::Number(1000));
    let mut bars = find("bars").unwrap().build(&settings).unwrap();
    let mut out = Records::new();
    let batch = Batch { first_offset: 0, count: input.len(), bytes: input.as_bytes() };
    bars.process(batch, &mut out).unwrap();
    out.iter().filter_map(|record| record.as_bar()).collect()
}

#[test]
fn times_tell_first_and_last_of_trades_without_a_sequence() {
    // Told newest first, all in one second, as an answer may; of one time, those behind count last.
    let told: Vec<_> = [(30, 5), (20, 4), (20, 3), (10, 2), (10, 1), (2_000, 9)]
        .map(|(ms, price)| Trade { price, ..trade(0, ms, 50) })
        .to_vec();
    let bar = bars(&told)[0];
    assert_eq!((bar.open, bar.close, bar.count), (2, 5, 5));
}

#[test]
fn trade_of_a_far_future_cuts_no_bars() {
    // A trade in ten, and one of them half an hour, or a century, ahead of its receipt: each
    // second has one bar of ten trades.
    for ahead in [1_800_000, 36_500 * DAY_MS] {
        let mut trades: Vec<_> = (1..=400).map(|id| trade(id as u64, id * 100, id * 100)).collect();
        trades.insert(205, trade(206, 20_550 + ahead, 20_550));
        let bars = bars(&trades);
        assert_eq!(bars.len(), 40);
        assert!(bars.iter().skip(1).all(|bar| bar.count == 10));
        assert!(bars.iter().all(|bar| bar.header.flags & FLAG_OUT_OF_ORDER == 0));
    }
}

#[test]
fn trades_ahead_of_all_others_make_none_too_late() {
    // A trade in ten; twelve of them say times up to a minute ahead, or ahead by days: all others
    // are in the bars of their seconds.
    for ahead in [5_000, DAY_MS] {
        let mut trades: Vec<_> = (1..=900).map(|id| trade(id as u64, id * 100, id * 100)).collect();
        for at in 1..=12 {
            let id = 200 + at * 2;
            trades[id as usize - 1] = trade(id as u64, id * 100 + at * ahead, id * 100);
        }
        let mut newest = std::collections::BTreeMap::new();
        for bar in bars(&trades) {
            newest.insert(bar.header.ts_event, bar.count);
        }
        let counted: u64 = newest.values().sum();
        // The last windows are open still.
        assert!(counted >= 900 - 12 - 10, "{counted}");
    }
}

#[test]
fn receipt_of_a_far_future_stamps_no_bars() {
    // One trade was received 30 days ahead of all others, by the clock of that moment.
    let mut trades: Vec<_> = (1..=1000).map(|id| trade(id as u64, id * 100, id * 100)).collect();
    trades[50].header.ts_recv += 30 * DAY_MS * MS;
    let bars = bars(&trades);
    assert_eq!(bars.len(), 100);
    let last = trades.last().unwrap().header.ts_recv;
    assert!(bars.iter().all(|bar| bar.header.ts_recv <= last && bar.count <= 10));
}

#[test]
fn instrument_that_trades_seldom_has_its_bars_on_a_host_that_is_behind() {
    // Two trades a minute apart and more, all an hour ahead of their receipt: the second of a
    // window closes what the first left open.
    let hour = 3_600_000;
    let trades: Vec<_> = (0..20_u64)
        .flat_map(|at| {
            let ms = at as i64 * 90_000;
            [trade(at * 2 + 1, ms + hour, ms), trade(at * 2 + 2, ms + hour + 1, ms + 1)]
        })
        .collect();
    assert_eq!(bars(&trades).len(), 19);
}

fn session(code: MarkerCode, recv_ms: i64, before_ms: Option<i64>) -> Marker {
    let mut marker = Marker::read_from(&[0; 64]).unwrap();
    let ts_recv = START + recv_ms * MS;
    marker.header = Header { ts_event: ts_recv, ts_recv, ..Header::of::<Marker>() };
    (marker.code, marker.channel) = (code as u8, Channel::Session as u8);
    (marker.first, marker.last) = (u64::from(u16::MAX), u64::from(u16::MAX));
    marker.ts_start = before_ms.map_or(NONE, |ms| START + ms * MS);
    marker
}

#[test]
fn bars_within_which_a_recording_begins_or_ends_are_never_closed() {
    // Ten trades a second; the recording begins within second 1, ends within 5, begins again
    // within 7. All other bars are whole; the last one before the end is there at once.
    let mut input = Records::new();
    input.push(&session(MarkerCode::Connected, 1_450, None));
    (15..54).for_each(|id| input.push(&trade(id as u64, id * 100, id * 100)));
    input.push(&session(MarkerCode::EndOfSession, 5_350, None));
    let before = bars_of(&input);
    let found: Vec<_> = before.iter().map(|bar| (bar.count, bar.closed)).collect();
    assert_eq!(found, [(5, 0), (10, 1), (10, 1), (10, 1), (4, 0)]);
    input.push(&session(MarkerCode::Connected, 7_450, Some(5_350)));
    (75..120).for_each(|id| input.push(&trade(id as u64, id * 100, id * 100)));
    let found: Vec<_> =
        bars_of(&input)[5..].iter().map(|bar| (bar.count, bar.closed, bar.header.flags)).collect();
    assert_eq!(found[0].0, 5);
    assert_eq!((found[0].1, found[0].2 & FLAG_MAYBE_BAD), (0, FLAG_MAYBE_BAD));
    assert!(found[1..]
        .iter()
        .all(|&(count, closed, flags)| { (count, closed, flags & FLAG_MAYBE_BAD) == (10, 1, 0) }));
    assert_eq!(found.len(), 4);
}

#[test]
fn a_bar_that_two_recordings_share_stays_partial() {
    // The recorder is started again within one second: the bar is written at the end, and again
    // with the trades that follow; it is not closed.
    let mut input = Records::new();
    (11..34).for_each(|id| input.push(&trade(id as u64, id * 100, id * 100)));
    input.push(&session(MarkerCode::EndOfSession, 3_350, None));
    input.push(&session(MarkerCode::Connected, 3_550, Some(3_350)));
    (36..60).for_each(|id| input.push(&trade(id as u64, id * 100, id * 100)));
    let all = bars_of(&input);
    let shared: Vec<_> =
        all.iter().filter(|bar| bar.header.ts_event == START + 3_000 * MS).collect();
    assert!(shared.len() > 1);
    assert!(shared.iter().all(|bar| bar.closed == 0));
    assert_eq!(shared.last().unwrap().count, 8);
}

/// A state of an outage of the trades that began at 4.9 s.
fn outage(state: GapState, event_ms: i64, count: u32) -> Marker {
    Marker {
        cause: GapCause::Disconnect as u8,
        state: state as u8,
        channel: Channel::Trade as u8,
        count,
        first: 0,
        last: 0,
        header: Header {
            instrument: 1,
            ts_event: START + event_ms * MS,
            ..session(MarkerCode::Gap, event_ms, None).header
        },
        ..session(MarkerCode::Gap, event_ms, Some(4_900))
    }
}

#[test]
fn an_outage_that_lost_no_trade_leaves_no_bar_in_doubt() {
    // Open, the bars that it touches may lack trades. Closed by an id that goes on without a hole,
    // they do not; by one whose hole cannot be told, they still may.
    for (count, doubtful) in [(0, false), (u32::MAX, true)] {
        let mut input = Records::new();
        (11..50).for_each(|id| input.push(&trade(id as u64, id * 100, id * 100)));
        input.push(&outage(GapState::Open, 5_500, u32::MAX));
        input.push(&outage(GapState::Closed, 6_000, count));
        (50..90).for_each(|id| input.push(&trade(id as u64, id * 100 + 1_000, id * 100 + 1_000)));
        let all = bars_of(&input);
        let touched = all.iter().rfind(|bar| bar.header.ts_event == START + 4_000 * MS).unwrap();
        assert_eq!(touched.header.flags & FLAG_MAYBE_BAD != 0, doubtful);
        assert_eq!(touched.count, 10);
    }
}

#[test]
fn history_that_fills_a_gap_drops_no_bar_that_goes_on() {
    // Ten trades a second; those of minutes come as history amid a second, on several answers.
    for minutes in [1, 4, 60] {
        let (cut, back) = (20_000, 20_000 + minutes * 60_000);
        let live = |id: i64| trade(0, id * 100, id * 100);
        let mut trades: Vec<_> =
            (0..cut / 100).chain(back / 100..back / 100 + 5).map(live).collect();
        for id in cut / 100..back / 100 {
            let mut told = trade(0, id * 100, back + 450);
            told.header.flags |= FLAG_HISTORICAL;
            trades.push(told);
        }
        trades.extend((back / 100 + 5..back / 100 + 80).map(live));
        let mut newest = std::collections::BTreeMap::new();
        for bar in bars(&trades) {
            newest.insert(bar.header.ts_event, bar.count);
        }
        // The last one goes on.
        assert_eq!(newest.len() as i64, (back + 7_000) / 1_000);
        assert!(newest.values().all(|&count| count == 10), "{minutes}: {newest:?}");
    }
}

#[test]
fn a_gap_without_numbers_that_was_filled_leaves_the_bars_that_are_kept_whole() {
    let mut input = Records::new();
    (0..30).for_each(|id| input.push(&trade(0, id * 100, id * 100)));
    let from = |state| Marker { ts_start: START + 2_900 * MS, ..outage(state, 4_500, u32::MAX) };
    input.push(&from(GapState::Closed));
    (45..60).for_each(|id| input.push(&trade(0, id * 100, id * 100)));
    for id in 30..45 {
        let mut told = trade(0, id * 100, 6_000);
        told.header.flags |= FLAG_HISTORICAL;
        input.push(&told);
    }
    let flags = |input: &Records| {
        let mut newest = std::collections::BTreeMap::new();
        for bar in bars_of(input) {
            let is_bad = bar.header.flags & FLAG_MAYBE_BAD != 0;
            newest.insert((bar.header.ts_event - START) / MS / 1_000, (bar.count, is_bad));
        }
        newest
    };
    let touched: Vec<_> = flags(&input).into_iter().filter(|(_, (_, is_bad))| *is_bad).collect();
    assert!(touched.iter().any(|&(second, _)| second == 3), "{touched:?}");
    input.push(&from(GapState::Repaired));
    let repaired = flags(&input);
    for second in 1..=4 {
        assert_eq!(repaired[&second], (10, false), "{repaired:?}");
    }
}
