//! Feeds whose venues number nothing that could prove a loss: what their events are known by.

use tapeworks_core::processors::normalize::Normalizer;
use tapeworks_core::processors::{Batch, Processor};
use tapeworks_core::record::blob::BlobHeader;
use tapeworks_core::record::{BlobKind, Blobs, Records, FLAG_HISTORICAL};
use tapeworks_core::FeedId;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1000 * MS;
const DAY: i64 = 86_400 * SECOND;
/// 2026-09-21, 14:13:20 UTC.
const START: i64 = 1_790_000_000 * SECOND;
/// The number under which answers to requests come.
const REQUESTS: u16 = u16::MAX;

/// A normaliser, and the offset of its next blob.
struct Rig {
    normalizer: Normalizer,
    offset: u64,
    feed: FeedId,
    out: Records,
}

impl Rig {
    fn new(feed: FeedId) -> Self {
        Self { normalizer: Normalizer::new(feed, 500), offset: 0, feed, out: Records::new() }
    }

    fn blob(&mut self, kind: BlobKind, line: u16, ts_recv: i64, context: &str, body: &[u8]) {
        let header = BlobHeader {
            kind: kind as u8,
            feed: self.feed as u8,
            connection: line,
            ts_recv,
            ..BlobHeader::default()
        };
        let mut blobs = Blobs::new();
        blobs.push(header, context.as_bytes(), body).unwrap();
        let batch = Batch { first_offset: self.offset, count: 1, bytes: blobs.as_bytes() };
        self.normalizer.process(batch, &mut self.out).unwrap();
        self.offset += 1;
    }

    fn live(&mut self, ts: i64, body: &str) {
        self.blob(BlobKind::Text, 0, ts + 5 * MS, "", body.as_bytes());
    }

    fn answer(&mut self, ts: i64, path: &str, body: &str) {
        self.blob(BlobKind::Rest, REQUESTS, ts, path, body.as_bytes());
    }

    /// Time and id of each trade, in order, and whether the history told it.
    fn trades(&self) -> Vec<(i64, u64, bool)> {
        let trades = self.out.iter().filter_map(|record| record.as_trade());
        trades
            .map(|trade| {
                let is_historical = trade.header.flags & FLAG_HISTORICAL != 0;
                (trade.header.ts_event - START, trade.trade_id, is_historical)
            })
            .collect()
    }

    /// Time of each quote, in order, and whether the history told it.
    fn quotes(&self) -> Vec<(i64, bool)> {
        let quotes = self.out.iter().filter_map(|record| record.as_quote());
        quotes
            .map(|quote| (quote.header.ts_event - START, quote.header.flags & FLAG_HISTORICAL != 0))
            .collect()
    }
}

/// A trade of Massive, as its stream tells it and as its history does.
fn massive_trade(ts: i64, number: u64, id: &str) -> [String; 2] {
    let (ms, rest) = (ts / MS, r#""p":10,"s":100,"c":[],"#);
    [
        format!(r#"[{{"ev":"T","sym":"AAPL","x":4,"i":"{id}",{rest}"t":{ms},"q":{number}}}]"#),
        format!(r#"{{"id":"{id}","exchange":4,"price":10,"size":100,{}"#, told_at(ts, number)),
    ]
}

/// A quote of the same.
fn massive_quote(ts: i64, number: u64) -> [String; 2] {
    let (ms, sizes) = (ts / MS, r#""bid_size":1,"ask_size":1,"#);
    let sides = r#""bp":9,"bs":1,"ap":11,"as":1,"#;
    [
        format!(r#"[{{"ev":"Q","sym":"AAPL",{sides}"t":{ms},"q":{number}}}]"#),
        format!(r#"{{"bid_price":9,"ask_price":11,{sizes}{}"#, told_at(ts, number)),
    ]
}

/// The end of a row of its history.
fn told_at(ts: i64, number: u64) -> String {
    format!(r#""sip_timestamp":{ts},"sequence_number":{number}}}"#)
}

#[test]
fn numbers_that_begin_anew_each_day_hide_nothing_of_the_next_day() {
    // Numbers 1 to 3 of a day, and of the next one 1 and 3 live; the history tells all three of
    // that day, which say what those of the day before said. Ids begin anew as well, or do not.
    for next_id in [0, 100] {
        let mut rig = Rig::new(FeedId::Massive);
        let (mut rows, mut offers) = (Vec::new(), Vec::new());
        let next = START + DAY;
        for (day, number) in [(START, 1), (START, 2), (START, 3), (next, 1), (next, 2), (next, 3)] {
            let ts = day + number as i64 * SECOND + 7;
            let id = number + if day == next { next_id } else { 0 };
            let [live, row] = massive_trade(ts, number, &id.to_string());
            let [live_quote, offer] = massive_quote(ts, number);
            if (day, number) != (next, 2) {
                rig.live(ts, &live);
                rig.live(ts, &live_quote);
            }
            if day == next {
                rows.push(row);
                offers.push(offer);
            }
        }
        rig.out.clear();
        let now = next + 9 * SECOND;
        for (path, rows) in [("/v3/trades/AAPL?x", rows), ("/v3/quotes/AAPL?x", offers)] {
            rig.answer(now, path, &format!(r#"{{"results":[{}]}}"#, rows.join(",")));
        }
        let ts = DAY + 2 * SECOND + 7;
        assert_eq!(rig.trades(), [(ts, 2 + next_id, true)]);
        assert_eq!(rig.quotes(), [(ts, true)]);
    }
}

#[test]
fn a_day_of_numbers_ends_where_no_market_is_open() {
    // A session of one day in New York lies in two days of UTC: what came live at 19:59:59.9 is
    // the same in the history, and at 04:00 numbers begin anew. In summer and in winter.
    let evening = 23 * 3600 + 59 * 60 + 59;
    for (day, evening) in [(20_717, evening), (20_800, evening + 3600)] {
        let [last, morning] = [evening, evening + 8 * 3600 + 1].map(|s| day * DAY + s * SECOND);
        let mut rig = Rig::new(FeedId::Massive);
        let [live, row] = massive_trade(last, 2, "2");
        rig.live(last, &live);
        rig.answer(last + 60 * SECOND, "/v3/trades/AAPL", &format!(r#"{{"results":[{row}]}}"#));
        let [_, row] = massive_trade(morning, 2, "2");
        rig.answer(morning + 60 * SECOND, "/v3/trades/AAPL", &format!(r#"{{"results":[{row}]}}"#));
        let told: Vec<_> = rig.trades().iter().map(|&(ts, ..)| ts + START).collect();
        assert_eq!(told, [last, morning]);
    }
}

/// A trade of Alpaca, at that second behind 14:13, whose object begins with `head`.
fn alpaca_trade(id: u64, second: u32, head: &str) -> String {
    let time = format!(r#""t":"2026-09-21T14:13:{second:02}.000000123Z""#);
    format!(r#"{{{head}"i":{id},"x":"V","p":10,"s":100,"c":["@"],"z":"C",{time}}}"#)
}

/// An answer of Alpaca with quotes of these seconds.
fn alpaca_quotes(seconds: &[u32]) -> String {
    let quote = |second: &u32| {
        let time = format!(r#""t":"2026-09-21T14:13:{second:02}Z""#);
        let sides = format!(r#""bx":"V","bp":{second},"bs":1,"ax":"V","ap":90,"as":1"#);
        format!(r#"{{{time},{sides},"c":["R"],"z":"C"}}"#)
    };
    let rows: Vec<_> = seconds.iter().map(quote).collect();
    format!(r#"{{"symbol":"AAPL","quotes":[{}]}}"#, rows.join(","))
}

#[test]
fn trades_of_one_instant_are_told_apart_by_their_ids() {
    // Three fills of one order; the last came live again behind a gap.
    let mut rig = Rig::new(FeedId::Alpaca);
    for (id, second) in [(1, 21), (7, 29), (8, 30)] {
        let body = format!("[{}]", alpaca_trade(id, second, r#""T":"t","S":"AAPL","#));
        rig.live(START + i64::from(second - 20) * SECOND, &body);
    }
    let rows = [(1, 21), (5, 29), (6, 29), (7, 29)].map(|(id, at)| alpaca_trade(id, at, ""));
    let body = format!(r#"{{"symbol":"AAPL","trades":[{}]}}"#, rows.join(","));
    rig.answer(START + 12 * SECOND, "/v2/stocks/AAPL/trades?x", &body);
    let told: Vec<_> = rig.trades().iter().map(|&(_, id, history)| (id, history)).collect();
    assert_eq!(told, [(1, false), (7, false), (8, false), (5, true), (6, true)]);
}

#[test]
fn a_first_page_without_rows_begins_an_answer_as_any_does() {
    // The second answer tells the quotes of seconds 21 and 22 again, on its second page.
    let mut rig = Rig::new(FeedId::Alpaca);
    let (a, b) = ("/v2/stocks/AAPL/quotes?a", "/v2/stocks/AAPL/quotes?b");
    rig.answer(START + 40 * SECOND, a, &alpaca_quotes(&[20, 21, 22]));
    rig.answer(START + 41 * SECOND, b, &alpaca_quotes(&[]));
    let page = format!("{b}&page_token=x");
    rig.answer(START + 42 * SECOND, &page, &alpaca_quotes(&[21, 22, 23]));
    let told: Vec<_> = rig.quotes().iter().map(|&(ts, _)| ts / SECOND).collect();
    assert_eq!(told, [0, 1, 2, 3]);
}
