//! Feeds whose venues number nothing that could prove a loss: what their events are known by.

use tapeworks_core::book::SyncedBook;
use tapeworks_core::feeds::alpaca::pack;
use tapeworks_core::feeds::Descriptor;
use tapeworks_core::processors::normalize::Normalizer;
use tapeworks_core::processors::{Batch, Processor};
use tapeworks_core::record::blob::{BlobHeader, CUT_MARK};
use tapeworks_core::record::{
    BlobKind, Blobs, Channel, GapCause, GapState, Header, Marker, MarkerCode, Plain, Records,
    SyncState, FLAG_HISTORICAL,
};
use tapeworks_core::FeedId;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1000 * MS;
const DAY: i64 = 86_400 * SECOND;
/// 2026-09-21, 14:13:20 UTC.
const START: i64 = 1_790_000_000 * SECOND;
/// The number under which answers to requests come.
const REQUESTS: u16 = u16::MAX;
/// The number under which the recorder itself counts as a connection.
const RECORDER: u16 = u16::MAX;

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

    /// The recorder notes something.
    fn note(&mut self, code: MarkerCode, (cause, state): (u8, u8), line: u16, ts: i64) {
        let marker = Marker {
            header: Header { ts_event: ts, ts_recv: ts, ..Header::of::<Marker>() },
            code: code as u8,
            cause,
            state,
            channel: Channel::Session as u8,
            count: 3,
            first: u64::from(line),
            last: if line == RECORDER { u64::from(line) } else { 0 },
            ts_start: ts,
        };
        self.blob(BlobKind::Records, line, ts, "", marker.as_bytes());
    }

    /// The book of the one instrument there is, by what came so far.
    fn book(&self) -> SyncedBook {
        let mut book = SyncedBook::new(Descriptor::from(self.feed).continuity);
        book.observe(1, &self.out);
        book
    }

    /// The ids of stories, in order, and the reason and count of each dead letter.
    fn told(&self) -> (Vec<u64>, Vec<(u8, u32)>) {
        let of = |code: MarkerCode| {
            let markers = self.out.iter().filter_map(|record| record.as_marker());
            markers.filter(move |marker| marker.code == code as u8)
        };
        let stories = of(MarkerCode::News).map(|marker| marker.header.sequence).collect();
        let letters = of(MarkerCode::DeadLetter).map(|it| (it.cause, it.count)).collect();
        (stories, letters)
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

#[test]
fn an_event_that_told_a_time_it_cannot_have_is_a_gap() {
    // One of ten trades, and one of ten quotes, is told an hour ahead. The next disproves it, or
    // the session ends: the ledger has what was lost, from the one before to the one behind.
    for (feed, at) in
        [FeedId::Massive, FeedId::Alpaca].into_iter().flat_map(|it| [(it, 5), (it, 9)])
    {
        let mut rig = Rig::new(feed);
        rig.note(MarkerCode::Connected, (0, 0), RECORDER, START);
        rig.note(MarkerCode::Connected, (0, 0), 0, START);
        for second in 0..10_u32 {
            let ts = START + i64::from(second) * SECOND;
            let (told, hour) = if second == at { (ts + 3_600 * SECOND, 15) } else { (ts, 14) };
            let number = u64::from(second) + 1;
            let bodies = if feed == FeedId::Massive {
                let of = [massive_trade(told, number, "1"), massive_quote(told, number)];
                of.map(|[live, _]| live)
            } else {
                let second = second + 20;
                let trade = alpaca_trade(number, second, r#""T":"t","S":"AAPL","#);
                let (rows, tail) = (alpaca_quotes(&[second]), r#"{"T":"q","S":"AAPL","#);
                let row = rows.split_once('[').unwrap().1.replacen('{', tail, 1);
                [format!("[{trade}]"), format!("[{}", &row[..row.len() - 1])]
                    .map(|body| body.replace("T14:", &format!("T{hour}:")))
            };
            bodies.iter().for_each(|body| rig.live(ts, body));
        }
        rig.note(MarkerCode::EndOfSession, (0, 0), RECORDER, START + 11 * SECOND);
        assert_eq!((rig.trades().len(), rig.quotes().len()), (9, 9), "{feed:?}");
        let is_gap = |marker: &Marker| marker.code == MarkerCode::Gap as u8;
        for channel in [Channel::Trade as u8, Channel::Quote as u8] {
            let markers = rig.out.iter().filter_map(|record| record.as_marker());
            let gaps: Vec<_> = markers.filter(|it| is_gap(it) && it.channel == channel).collect();
            assert!(gaps.iter().all(|gap| gap.cause == GapCause::Decode as u8 && gap.count == 1));
            let states: Vec<_> = gaps.iter().map(|gap| gap.state).collect();
            let (open, closed) = (GapState::Open as u8, GapState::Closed as u8);
            assert_eq!(states, if at == 9 { vec![open] } else { vec![open, closed] }, "{feed:?}");
            let start = START + (i64::from(at) - 1) * SECOND;
            assert!(gaps[0].ts_start <= start + SECOND / 2, "{feed:?} {gaps:?}");
            if at == 5 {
                let end = gaps[1].header.ts_event;
                assert!(gaps[1].ts_start <= start + SECOND / 2 && end >= start + 2 * SECOND);
            }
        }
    }
}

/// A change of a book, or the whole of it, as an element of a frame.
fn book_event(second: u32, bids: &[(u32, u32)], is_whole: bool) -> String {
    let bids: Vec<_> = bids.iter().map(|(p, s)| format!(r#"{{"p":{p},"s":{s}}}"#)).collect();
    let (bids, time) = (bids.join(","), format!(r#""t":"2026-09-21T14:13:{second:02}Z""#));
    format!(r#"{{"T":"o","S":"BTC/USD",{time},"b":[{bids}],"a":[],"r":{is_whole}}}"#)
}

/// A rig whose book is whole.
fn rig_with_book() -> Rig {
    let mut rig = Rig::new(FeedId::Alpaca);
    rig.note(MarkerCode::Connected, (0, 0), RECORDER, START);
    rig.note(MarkerCode::Connected, (0, 0), 0, START);
    rig.live(START, &format!("[{}]", book_event(20, &[(100, 1), (99, 2)], true)));
    rig.live(START + SECOND, &format!("[{}]", book_event(21, &[(100, 3)], false)));
    assert_eq!(rig.book().sync().state(), SyncState::Continuous);
    rig
}

#[test]
fn what_is_not_known_breaks_a_book_until_it_comes_whole() {
    // Between two changes something comes that may have been a change as well, or that cannot.
    let change = book_event(22, &[(99, 5)], false);
    let with = |from: &str, to: &str| format!("[{}]", change.replacen(from, to, 1));
    let time = r#""t":"2026-09-21T14:13:22Z","#;
    let frame = |body: String| (BlobKind::Text, body.into_bytes(), "");
    let mut cut = Vec::new();
    pack(format!("[{change}]").as_bytes(), &mut cut).unwrap();
    cut.truncate(cut.len() - 9);
    let mark = std::str::from_utf8(CUT_MARK).unwrap();
    let unknown = [
        frame(format!("[{}", &change[..40])),
        frame(format!("[{change}")),
        frame("oops".into()),
        frame(with(r#""T":"o","#, "")),
        frame(with(r#""T":"o""#, r#""T":7"#)),
        frame(with(r#""S":"BTC/USD","#, "")),
        frame(with(time, "")),
        frame(with(r#""p":99"#, r#""p":"x""#)),
        frame("[7]".into()),
        (BlobKind::Binary, cut, ""),
        (BlobKind::Text, b"[{}".to_vec(), mark),
    ];
    let trade = r#"[{"T":"t","S":"BTC/USD","p":"x","s":1,"t":"2026-09-21T14:13:22Z"}]"#;
    let harmless = [
        frame(r#"[{"T":"zz","S":"BTC/USD"}]"#.into()),
        frame(trade.into()),
        frame(r#"[{"T":"success","msg":"authenticated"}]"#.into()),
        (BlobKind::Rest, b"{".to_vec(), "/v2/stocks/A/trades"),
        (BlobKind::Rest, b"{".to_vec(), mark),
    ];
    let cases = unknown.into_iter().map(|it| (it, true));
    for ((kind, body, context), is_lost) in cases.chain(harmless.into_iter().map(|it| (it, false)))
    {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let mut rig = rig_with_book();
        rig.blob(kind, 0, START + 2 * SECOND, context, &body);
        rig.live(START + 3 * SECOND, &format!("[{}]", book_event(23, &[(98, 7)], false)));
        let broken = if is_lost { SyncState::Broken } else { SyncState::Continuous };
        assert_eq!(rig.book().sync().state(), broken, "{shown}");
        let whole = book_event(24, &[(100, 3), (99, 5)], true);
        rig.live(START + 4 * SECOND, &format!("[{whole}]"));
        rig.live(START + 5 * SECOND, &format!("[{}]", book_event(25, &[(97, 1)], false)));
        let book = rig.book();
        let bids = book.book().map(|book| {
            let levels = book.levels(tapeworks_core::record::Side::Bid);
            levels.map(|level| level.price / 1_000_000_000).collect::<Vec<_>>()
        });
        assert_eq!(bids, Some(vec![100, 99, 97]), "{shown}");
    }
}

#[test]
fn what_did_not_come_breaks_a_book_until_it_comes_whole() {
    // Frames that were shed, a cut, a recorder that was killed; what is told of other gaps, such as
    // that one was filled, says nothing of books.
    let shed = (GapCause::Overload as u8, GapState::Closed as u8);
    let filled = (GapCause::Disconnect as u8, GapState::Repaired as u8);
    for (code, gap, line, is_lost) in [
        (MarkerCode::Gap, shed, 0, true),
        (MarkerCode::Disconnected, (0, 0), 0, true),
        (MarkerCode::Connected, (0, 0), RECORDER, true),
        (MarkerCode::Connected, (0, 0), 0, true),
        (MarkerCode::Connected, (0, 0), 1, false),
        (MarkerCode::Gap, filled, 0, false),
        (MarkerCode::Heartbeat, (0, 0), 0, false),
    ] {
        let mut rig = rig_with_book();
        rig.note(code, gap, line, START + 2 * SECOND);
        // A restart in between forgets nothing of it.
        let mut state = Vec::new();
        rig.normalizer.snapshot(&mut state);
        rig.normalizer = Normalizer::new(FeedId::Alpaca, 500);
        rig.normalizer.restore(&state).unwrap();
        rig.live(START + 3 * SECOND, &format!("[{}]", book_event(23, &[(98, 7)], false)));
        let broken = if is_lost { SyncState::Broken } else { SyncState::Continuous };
        assert_eq!(rig.book().sync().state(), broken, "{code:?} {gap:?}");
    }
}

#[test]
fn stories_are_told_wherever_they_stand_in_a_frame() {
    // Blanks, keys in another order, in front of a trade, behind one, behind the venue's own
    // messages; in both encodings.
    let story = |id: u64| {
        let keys = r#""headline":"A","created_at":"2026-09-21T14:13:20Z","symbols":[]"#;
        (format!(r#"{{"T":"n","id":{id},{keys}}}"#), format!(r#"{{"id":{id},{keys},"T": "n"}}"#))
    };
    let trade = alpaca_trade(1, 20, r#""T":"t","S":"AAPL","#);
    let own = r#"{"T":"subscription","trades":[],"quotes":[],"news":["*"]}"#;
    let frames = [
        format!("[{}]", story(1).0.replace(':', ": ")),
        format!("[{}]", story(2).1),
        format!("[{own},{}]", story(3).0),
        format!("[{},{trade}]", story(4).0),
        format!("[{trade},{},{}]", story(5).1, story(6).0),
    ];
    let frames =
        frames.map(|frame| frame.replace("2026-09-21T14: 13: 20Z", "2026-09-21T14:13:20Z"));
    for kind in [BlobKind::Text, BlobKind::Binary] {
        let mut rig = Rig::new(FeedId::Alpaca);
        for frame in &frames {
            let mut body = frame.clone().into_bytes();
            if kind == BlobKind::Binary {
                body.clear();
                pack(frame.as_bytes(), &mut body).unwrap();
            }
            rig.blob(kind, 0, START + 5 * MS, "", &body);
        }
        assert_eq!(rig.told(), (vec![1, 2, 3, 4, 5, 6], vec![]), "{kind:?}");
        assert_eq!(rig.trades().len(), 2);
    }
    // Of a frame of which several cannot be read, one dead letter counts all.
    let mut rig = Rig::new(FeedId::Alpaca);
    rig.live(START, &format!(r#"[7,{{"T":"t"}},{{"T":"n","id":1}},{}]"#, story(2).0));
    let (stories, letters) = rig.told();
    assert_eq!((stories, letters.len(), letters[0].1), (vec![2], 1, 3));
}

#[test]
fn a_state_that_knows_live_events_by_less_is_not_used() {
    // The version stands behind the name and its length. Where nothing came live there is no more
    // to know: the state of a feed whose trades have numbers is gone on from.
    const VERSION: std::ops::Range<usize> = 17..21;
    let mut alpaca = Rig::new(FeedId::Alpaca);
    alpaca.live(START, &format!("[{}]", alpaca_trade(1, 20, r#""T":"t","S":"AAPL","#)));
    for (rig, is_used) in [(alpaca, false), (Rig::new(FeedId::BinanceSpot), true)] {
        let mut state = Vec::new();
        rig.normalizer.snapshot(&mut state);
        let mut other = Normalizer::new(rig.feed, 500);
        other.restore(&state).unwrap();
        state[VERSION].copy_from_slice(&7u32.to_le_bytes());
        assert_eq!(other.restore(&state).is_ok(), is_used, "{:?}", rig.feed);
    }
}
