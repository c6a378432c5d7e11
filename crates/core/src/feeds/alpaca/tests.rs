//! The contract of a feed, and the facts of this one, over the captures.

use super::*;
use crate::feeds::testing::{self, captures, check_cuts, events, nth};
use crate::record::blob::BlobHeader;
use crate::record::{
    unpadded, Bar, CorporateAction, Correction, Imbalance, Kind, Level, Marker, Quote, Side,
    Status, Trade, FLAG_HISTORICAL, FLAG_LAST, NONE,
};

/// Lines of kind, context and body, with tabs between: the examples of the pages, and what the
/// pages say of all else.
const CAPTURES: &str = include_str!("captures/frames.tsv");

type Bench = testing::Bench<Alpaca>;

fn bench() -> Bench {
    Bench::of(Alpaca::new(FeedId::Alpaca))
}

#[test]
fn every_capture_decodes() {
    // Nothing is rejected, and the kinds are those that the pages promise.
    let mut bench = bench();
    let mut counts = [0; Kind::NAMES.len()];
    for (kind, context, body) in captures(CAPTURES) {
        let (rejected, records) = bench.receive(kind, context, body.as_bytes()).unwrap();
        assert_eq!(rejected, Rejected::NONE, "{body}");
        records.iter().for_each(|record| counts[record.kind() as usize] += 1);
    }
    let count = |kind: Kind| counts[kind as usize];
    assert_eq!(count(Kind::Trade), 6);
    assert_eq!(count(Kind::Quote), 8);
    assert_eq!(count(Kind::Bar), 5);
    assert_eq!(count(Kind::Status), 3);
    assert_eq!(count(Kind::Correction), 3);
    assert_eq!(count(Kind::Imbalance), 1);
    // Two whole books are updates and snapshots, of 4 + 4 levels and of 4 + 2; the changes have 3.
    assert_eq!((count(Kind::Level), count(Kind::Marker)), (17, 4));
}

#[test]
fn what_is_encoded_is_received_back() {
    // Each event of each live capture, but for books, whose updates are numbered by what came
    // before: its records, the frame that they make, and its records.
    let mut bench = bench();
    let mut tried = 0;
    for (kind, context, body) in captures(CAPTURES).filter(|(kind, ..)| *kind == BlobKind::Text) {
        let (_, records) = bench.receive(kind, context, body.as_bytes()).unwrap();
        for event in events(&records) {
            let mut frame = Vec::new();
            bench.feed.encode(&event, &bench.instruments, true, &mut frame).unwrap();
            let text = String::from_utf8_lossy(&frame);
            let is_book = matches!(
                Kind::try_from(event.iter().next().unwrap().kind()),
                Ok(Kind::Level | Kind::Marker)
            );
            if is_book {
                assert!(text.starts_with("[{\"T\":\"o\",\"S\":\"BTC/USD\",\"b\":["), "{text}");
                continue;
            }
            let again = bench.text(&text);
            assert!(again.as_bytes() == event.as_bytes(), "{body}\n{text}");
            tried += 1;
        }
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn trade_has_exact_values_and_an_id_of_all_bits() {
    let mut bench = bench();
    let records = bench.text(
        r#"[{"T":"t","S":"BRK.A","i":18446744073709551615,"x":"D","p":741971.5,"s":1e2,
        "c":["@","I"],"z":"A","t":"2026-02-02T02:40:04.123456789Z"},
        {"T":"t","S":"BTC/USD","i":9223372036854775807,"p":33021.9,"s":0.01616617,"tks":"S",
        "t":"2026-02-02T02:40:04Z"}]"#,
    );
    let trade: Trade = nth(&records, 0);
    assert_eq!((trade.price, trade.size), (741_971_500_000_000, 100 * 10i64.pow(8)));
    assert_eq!((trade.trade_id, trade.header.sequence, trade.side), (u64::MAX, 0, 0));
    assert_eq!(trade.header.ts_event, 1_770_000_004_123_456_789);
    assert_eq!(trade.conditions, *b"I@");
    let trade: Trade = nth(&records, 1);
    assert_eq!((trade.trade_id, trade.side), (i64::MAX as u64, Side::Ask as u8));
    let classes: Vec<u8> = bench.instruments.iter().map(|known| known.asset_class).collect();
    assert_eq!(classes, [4, 1]);
}

#[test]
fn quotes_are_of_shares_and_an_empty_side_has_no_price() {
    // The same quote the day before the sizes became shares, and on that day.
    let mut bench = bench();
    let quote = |bench: &mut Bench, symbol: &str, time: &str| -> Quote {
        let body =
            format!(r#"[{{"T":"q","S":"{symbol}","bp":0,"bs":0,"ap":10.25,"as":3,"t":"{time}"}}]"#);
        nth(&bench.text(&body), 0)
    };
    let before = quote(&mut bench, "AAPL", "2025-11-03T04:59:59.999999999Z");
    let after = quote(&mut bench, "AAPL", "2025-11-03T05:00:00Z");
    assert_eq!((before.ask_size, after.ask_size), (300 * 10i64.pow(8), 3 * 10i64.pow(8)));
    assert_eq!((after.bid_price, after.bid_size), (NONE, 0));
    // Contracts and coins always were what they are.
    for symbol in ["SPY241220P00720000", "BTC/USD"] {
        let found = quote(&mut bench, symbol, "2022-02-10T15:15:28Z");
        assert_eq!(found.ask_size, 3 * 10i64.pow(8));
    }
}

#[test]
fn bars_tell_whether_they_may_change() {
    let mut bench = bench();
    for (name, interval_ms, closed) in [("b", 60_000, 1), ("u", 60_000, 1), ("d", 86_400_000, 0)] {
        let body = format!(
            r#"[{{"T":"{name}","S":"SPY","o":1,"h":2,"l":1,"c":2,"v":7,"n":3,
            "t":"2026-02-02T02:38:00Z"}}]"#
        );
        let bar: Bar = nth(&bench.text(&body), 0);
        assert_eq!((bar.interval_ms, bar.closed, bar.count), (interval_ms, closed, 3));
    }
}

#[test]
fn halts_bands_and_corrections_say_what_they_are_of() {
    let mut bench = bench();
    let records = bench.text(
        r#"[{"T":"s","S":"AAPL","sc":"H","rc":"T12","t":"2026-02-02T02:38:00Z","z":"C"},
        {"T":"s","S":"F","sc":"E","rc":"","t":"2026-02-02T02:38:00Z","z":"A"},
        {"T":"l","S":"F","u":3.24,"d":2.65,"i":"B","t":"2026-02-02T02:38:00Z","z":"A"},
        {"T":"x","S":"F","i":465,"x":"D","p":1,"s":1,"a":"E","z":"A","t":"2026-02-02T02:38:00Z"},
        {"T":"c","S":"F","x":"M","oi":7,"op":1,"os":2,"oc":[" "],"ci":8,"cp":1.5,"cs":3,"cc":[],
        "z":"A","t":"2026-02-02T02:38:00Z"},
        {"T":"i","S":"INAQ","p":9.12,"z":"C","t":"2026-02-02T02:39:29.242138635Z"}]"#,
    );
    let auction: Imbalance = nth(&records, 5);
    assert_eq!((auction.reference_price, auction.paired_size), (9_120_000_000, NONE));
    let status: Status = nth(&records, 0);
    assert_eq!((status.status, unpadded(&status.reason)), (2, "T12"));
    let status: Status = nth(&records, 1);
    assert_eq!((status.status, unpadded(&status.reason)), (0, "E"));
    let status: Status = nth(&records, 2);
    assert_eq!((status.price_low, status.price_high), (2_650_000_000, 3_240_000_000));
    let cancel: Correction = nth(&records, 3);
    assert_eq!((cancel.action, cancel.trade_id, cancel.price), (1, 465, NONE));
    let correction: Correction = nth(&records, 4);
    assert_eq!((correction.action, correction.trade_id, correction.header.sequence), (2, 7, 8));
    assert_eq!((correction.price, correction.size), (1_500_000_000, 3 * 10i64.pow(8)));
}

fn book(time: u8, levels: &str) -> String {
    format!(r#"{{"T":"o","S":"A/B","t":"2026-02-02T02:38:0{time}Z",{levels}}}"#)
}

#[test]
fn a_whole_book_removes_what_it_does_not_name() {
    let mut bench = bench();
    let whole = book(1, r#""b":[{"p":9,"s":1},{"p":8,"s":2}],"a":[{"p":10,"s":3}],"r":true"#);
    let first = bench.text(&format!("[{whole}]"));
    assert_eq!(events(&first).iter().map(Records::len).collect::<Vec<_>>(), [3, 5]);
    let begin: Marker = nth(&first, 3);
    assert_eq!((begin.first, begin.count), (1, 3));
    let change = book(2, r#""b":[{"p":8,"s":0}],"a":[]"#);
    let second: Level = nth(&bench.text(&format!("[{change}]")), 0);
    assert_eq!((second.header.sequence, second.previous, second.size), (2, 1, 0));
    // 9 and 10 are gone, 7 is new: the update says so, and the snapshot has what there is.
    let again = bench.text(&format!("[{}]", book(3, r#""b":[{"p":7,"s":1}],"a":[],"r":true"#)));
    let update: Vec<(u8, i64, i64)> = events(&again)[0]
        .iter()
        .map(|record| record.get::<Level>().unwrap())
        .map(|level| (level.side, level.price / 1_000_000_000, level.size))
        .collect();
    assert_eq!(update, [(1, 9, 0), (2, 10, 0), (1, 7, 10i64.pow(8))]);
    assert_eq!(events(&again)[1].len(), 3);
}

#[test]
fn an_update_that_cannot_be_read_leaves_its_number_out() {
    let mut bench = bench();
    bench.text(&format!("[{}]", book(1, r#""b":[{"p":9,"s":1}],"a":[],"r":true"#)));
    let bad = format!("[{}]", book(2, r#""b":[{"p":9}],"a":[]"#));
    let (rejected, out) = bench.receive(BlobKind::Text, "", bad.as_bytes()).unwrap();
    assert_eq!((rejected.count, out.len()), (1, 0));
    let next: Level = nth(&bench.text(&format!("[{}]", book(3, r#""b":[{"p":9,"s":2}]"#))), 0);
    assert_eq!((next.header.sequence, next.previous), (3, 2));
}

#[test]
fn a_decoder_goes_on_from_its_state() {
    // The same frames, by one decoder and by two of which the second has the state of the first.
    let whole = book(1, r#""b":[{"p":9,"s":1},{"p":8,"s":2}],"a":[{"p":10,"s":3}],"r":true"#);
    let again = format!("[{}]", book(2, r#""b":[{"p":7,"s":1}],"a":[],"r":true"#));
    let mut bench = bench();
    bench.text(&format!("[{whole}]"));
    let mut state = Vec::new();
    bench.feed.snapshot(&mut state);
    let mut second = Bench { feed: Alpaca::new(FeedId::Alpaca), ..bench };
    second.feed.restore(&state).unwrap();
    let found = second.text(&again);
    let mut straight = self::bench();
    straight.text(&format!("[{whole}]"));
    assert!(found.as_bytes() == straight.text(&again).as_bytes());
    for end in 1..state.len() {
        assert!(second.feed.restore(&state[..end]).is_err(), "{end}");
    }
}

#[test]
fn one_bad_event_takes_no_other_with_it() {
    // Each kind of fault between two good trades: the reason, at the byte of the event or value.
    let good = r#"{"T":"t","S":"A","p":1,"s":1,"t":"2026-02-02T02:38:00Z","i":1}"#;
    for (bad, reason) in [
        (r#"{"T":"zz","S":"A"}"#, DecodeReason::UnknownEvent),
        ("null", DecodeReason::WrongType),
        (r#"{"S":"A","p":1}"#, DecodeReason::MissingField),
        (r#"{"T":"t","S":"A","s":1,"t":"2026-02-02T02:38:00Z"}"#, DecodeReason::MissingField),
        (r#"{"T":"t","S":"A","p":"x","s":1,"t":"2026-02-02T02:38:00Z"}"#, DecodeReason::BadNumber),
        (r#"{"T":"t","S":"A","p":1,"s":-1,"t":"2026-02-02T02:38:00Z"}"#, DecodeReason::BadNumber),
        (
            r#"{"T":"t","S":"A","p":1,"s":1e-9,"t":"2026-02-02T02:38:00Z"}"#,
            DecodeReason::DoesNotFit,
        ),
        (r#"{"T":"t","S":"A","p":1,"s":1,"t":"yesterday"}"#, DecodeReason::BadNumber),
        (r#"{"T":"t","S":"A","p":1,"s":1,"t":1770000000000000000}"#, DecodeReason::WrongType),
        (r#"{"T":"t","S":7,"p":1,"s":1,"t":"2026-02-02T02:38:00Z"}"#, DecodeReason::WrongType),
        (r#"{"T":"t","S":"","p":1,"s":1,"t":"2026-02-02T02:38:00Z"}"#, DecodeReason::WrongType),
        (
            r#"{"T":"t","S":"A","i":-1,"p":1,"s":1,"t":"2026-02-02T02:38:00Z"}"#,
            DecodeReason::BadNumber,
        ),
        (
            r#"{"T":"t","S":"A","i":18446744073709551616,"p":1,"s":1,"t":"2026-02-02T02:38:00Z"}"#,
            DecodeReason::DoesNotFit,
        ),
    ] {
        let body = format!("[{good},{bad},{good}]");
        let (rejected, out) = bench().receive(BlobKind::Text, "", body.as_bytes()).unwrap();
        assert_eq!((rejected.count, out.len()), (1, 2), "{bad}");
        assert_eq!(rejected.first.unwrap().0, reason, "{bad}");
    }
    let long =
        format!(r#"[{{"T":"t","S":"{}","p":1,"s":1,"t":"2026-02-02T02:38:00Z"}}]"#, "A".repeat(49));
    let (rejected, _) = bench().receive(BlobKind::Text, "", long.as_bytes()).unwrap();
    assert_eq!(rejected.first.unwrap().0, DecodeReason::TooLong);
}

#[test]
fn frame_that_is_not_whole_leaves_nothing() {
    check_cuts(CAPTURES, bench);
}

#[test]
fn msgpack_says_the_same_as_text() {
    // A trade with a timestamp of eight bytes and a double, as the venue packs it.
    let mut body = b"\x91\x87\xa1T\xa1t\xa1S\xa4AAPL\xa1i\xce\x00\x01\x7a\x99\xa1p\xcb".to_vec();
    body.extend_from_slice(&126.55f64.to_be_bytes());
    body.extend_from_slice(b"\xa1s\x01\xa1c\x92\xa1@\xa1I\xa1t\xd7\xff");
    let (seconds, ns) = (1_769_999_999u64, 123_456_789u64);
    body.extend_from_slice(&(ns << 34 | seconds).to_be_bytes());
    let mut bench = bench();
    let (rejected, found) = bench.receive(BlobKind::Binary, "", &body).unwrap();
    assert_eq!(rejected, Rejected::NONE);
    let text = bench.text(
        r#"[{"T":"t","S":"AAPL","i":96921,"p":126.55,"s":1,"c":["@","I"],
        "t":"2026-02-02T02:39:59.123456789Z"}]"#,
    );
    assert!(found.as_bytes() == text.as_bytes());
    for end in 0..body.len() {
        assert!(bench.receive(BlobKind::Binary, "", &body[..end]).is_err(), "{end}");
    }
}

const TIME: &str = r#""t":"2026-02-02T02:38:00Z""#;

/// Frames of which each tries one thing that the two paths could read differently.
fn forms() -> Vec<String> {
    let time = TIME;
    let trade = |rest: &str| format!(r#"[{{"T":"t","S":"AAPL","p":1.5,"s":1,{time}{rest}}}]"#);
    let at = |t: &str| format!(r#"[{{"T":"t","S":"AAPL","p":1,"s":1,"t":"{t}"}}]"#);
    vec![
        trade(r#","i":18446744073709551615,"c":["@","I"],"z":"C""#),
        trade(r#","i":18446744073709551616"#),
        trade(r#","i":007"#),
        trade(r#","c":["B"],"z":"C""#),
        trade(r#","c":["B"],"z":"A""#),
        trade(r#","c":["XY"]"#),
        trade(r#","c":"I""#),
        trade(r#","c":[]"#),
        trade(r#","c":["1","2","3","4","5","6","7","8","9"]"#),
        trade(r#","z":7"#),
        trade(r#","tks":"B""#),
        trade(r#","tks":"?""#),
        trade(r#","T":"q""#),
        trade(r#","p":2"#),
        trade(r#","p":null"#),
        trade(r#","new":[1,"x"],"other":{}"#),
        trade(r#","p":0.123456789"#),
        trade(r#","p":12345678"#),
        trade(r#","s":-1"#),
        trade(","),
        trade("} "),
        at("2026-02-02T02:38:00.123456789Z"),
        at("2026-02-02T02:38:59.1Z"),
        at("2026-02-02T02:38:60Z"),
        at("2026-02-02T02:38:00.Z"),
        at("2026-02-02T02:38:00.1234567891Z"),
        at("2026-02-02T02:38:00.1234567890Z"),
        at("2026-02-02T02:38:00.12345678Z"),
        at("2026-02-02T02:38:00-05:00"),
        at("2026-02-30T02:38:00Z"),
        at("1969-12-31T23:59:59Z"),
        at("2262-04-11T23:47:16.854775807Z"),
        at("2262-04-11T23:47:16.854775808Z"),
        at(""),
        format!(r#"[{{"T":"q","S":"AAPL","bp":0,"ap":2.25,"as":92233720368,{time}}}]"#),
        format!(r#"[{{"T":"q","S":"AAPL","bp":"1",{time}}}]"#),
        format!(r#"[{{"T":"q","S":"BTC/USD","bp":61800.12,"bs":0.25,"c":["R"],{time}}}]"#),
        format!(r#"[{{"T":"t","S":"SPY241220P00720000","p":1,"s":1,"c":"I",{time}}}]"#),
        format!(r#"[{{"T":"u","S":"AAPL","o":1,"h":2,"l":1,"c":1,"v":7,"vw":1.5,{time}}}]"#),
        format!(r#"[{{"T":"d","S":"AAPL","o":1,"h":2,"l":1,"c":1,"v":7,"n":3,{time}}}]"#),
        format!(r#"[{{"T":"b","S":"AAPL","o":1,"h":2,"l":1,"c":1,{time}}}]"#),
        format!(r#"[{{"T":"b","S":"AAPL","o":1,"h":2,"l":1,"c":1,"v":1,"n":9e18,{time}}}]"#),
    ]
}

#[test]
fn straight_path_gives_what_any_json_gives() {
    // Each live capture, and forms that only one of the two can read, both ways and in both
    // encodings: the same records or the same error. The venue's own form of what is frequent is
    // read straight.
    let (mut bench, mut straight) = (bench(), [0; 2]);
    for symbol in ["AAPL", "BTC/USD", "SPY241220P00720000"] {
        bench.text(&format!(r#"[{{"T":"t","S":"{symbol}","p":1,"s":1,{TIME}}}]"#));
    }
    let live = captures(CAPTURES).filter(|(kind, ..)| *kind == BlobKind::Text);
    // Updates of books are numbered by what came before, so that none is told twice the same.
    let live = live.map(|(.., body)| body.to_owned()).filter(|body| !body.contains("\"T\":\"o\""));
    for body in live.chain(forms()) {
        let mut packed = Vec::new();
        let is_packed = pack(body.as_bytes(), &mut packed).is_ok();
        for (at, kind, bytes) in
            [(0, BlobKind::Text, body.as_bytes()), (1, BlobKind::Binary, &packed)]
        {
            if at == 1 && !is_packed {
                continue;
            }
            bench.check_paths(kind, bytes, Alpaca::set_straight);
            let (mut out, blob) = (Records::new(), testing::blob(kind, "", bytes));
            let encoding = [Encoding::Json, Encoding::Msgpack][at];
            let done = bench.feed.straight(&blob, encoding, &mut bench.instruments, &mut out);
            straight[at] += usize::from(done.is_some());
        }
    }
    // Of the captures and of the forms, as text and packed.
    assert_eq!(straight, [26, 30]);
}

#[test]
fn answers_are_history_and_errors_are_told() {
    let mut bench = bench();
    let row = r#"{"trades":{"A":[{"t":"2022-10-21T20:19:03.7Z","p":129.88,"s":5,"i":7,
        "u":"incorrect"}]},"next_page_token":null}"#;
    let records = bench.rest("/v2/stocks/trades?symbols=A", row).unwrap();
    let trade: Trade = nth(&records, 0);
    assert_eq!(trade.header.flags, FLAG_HISTORICAL | FLAG_LAST);
    assert_eq!(nth::<Correction>(&records, 1).trade_id, 7);
    // Of a time before the gap that is filled: what became of trades that came live.
    let (at, behind) = (1_666_383_543_700_000_000_i64, 1_666_383_543_700_000_001_i64);
    for (before, update, counts) in [
        (at, "incorrect", [1, 1]),
        (behind, "incorrect", [0, 1]),
        (behind, "canceled", [0, 1]),
        (behind, "corrected", [1, 0]),
        (at, "corrected", [1, 0]),
    ] {
        let path = format!("/v2/stocks/trades?symbols=A#live-before={before}");
        let records = bench.rest(&path, &row.replace("incorrect", update)).unwrap();
        let of = |kind: Kind| records.iter().filter(|one| one.header().kind == kind as u8).count();
        assert_eq!([Kind::Trade, Kind::Correction].map(of), counts, "{update}");
        let stands = row.replace("\"u\":\"incorrect\"", "\"z\":\"A\"");
        let records = bench.rest(&path, &stands).unwrap();
        assert_eq!(records.len(), usize::from(before == at));
    }
    let bars = r#"{"bars":[{"o":1,"h":2,"l":1,"c":2,"v":9,"t":"2022-10-21T20:15:00Z"}]}"#;
    let bar: Bar = nth(&bench.rest("/v2/stocks/A/bars?timeframe=15Min", bars).unwrap(), 0);
    assert_eq!((bar.interval_ms, bar.count), (900_000, 0));
    for body in [r#"{"trades":{}}"#, r#"{"trades":null}"#, r#"{"trades":{"A":null}}"#, "{}"] {
        assert_eq!(bench.rest("/v2/stocks/trades?symbols=A", body).unwrap().len(), 0, "{body}");
    }
    for (path, body, reason) in [
        ("/v2/stocks/A/trades", r#"{"code":42210000,"message":"no"}"#, DecodeReason::VenueError),
        ("/v1beta1/newsletters", r#"{"news":[]}"#, DecodeReason::UnknownStream),
        ("/v2/stocks/bars?timeframe=1Month", r#"{"bars":{}}"#, DecodeReason::UnknownStream),
        ("/v2/stocks/bars?adjustment=all", r#"{"bars":{}}"#, DecodeReason::UnknownStream),
        ("/v2/stocks/A/bars?limit=1&adjustment=split", bars, DecodeReason::UnknownStream),
        ("/v2/stocks/A/trades?currency=EUR", r#"{"trades":[]}"#, DecodeReason::UnknownStream),
        ("/v2/stocks/A/trades", "[]", DecodeReason::WrongType),
        ("/v2/stocks/trades", r#"{"trades":7}"#, DecodeReason::WrongType),
    ] {
        let found = bench.rest(path, body).unwrap_err().of_frame();
        assert_eq!(found.map(|(reason, _)| reason), Some(reason), "{body}");
    }
}

#[test]
fn what_is_of_the_session_is_shown_to_it() {
    for (body, is_data) in [
        (&br#"[{"T":"success","msg":"connected"}]"#[..], false),
        (br#"[{"T":"error","code":406,"msg":"connection limit exceeded"}]"#, false),
        (br#"[{"msg":"connection limit exceeded","code":406,"T":"error"}]"#, false),
        (br#"[{"T":"subscription","trades":[]}]"#, false),
        (br#"[{"T":"n","id":1}]"#, false),
        (b"\x91\x82\xa1T\xa7success\xa3msg\xa9connected", false),
        (br#"[{"T":"t","S":"A"}]"#, true),
        (b"\x91\x81\xa1T\xa1t", true),
        (b"[]", true),
        (br#"{"T":"t"}"#, false),
        (b"", false),
    ] {
        assert_eq!(glance(body) == Glance::Events, is_data, "{body:?}");
    }
}

#[test]
fn stories_are_read_of_frames_in_both_encodings_and_of_answers() {
    // The same story as a frame, packed, and as an answer; a frame of trades and an answer to
    // another request have none.
    let story = r#"{"T":"n","id":24918784,"headline":"A","symbols":["CRSR"],
        "created_at":"2022-01-05T22:00:37Z","updated_at":"2022-01-05T22:00:38Z"}"#
        .replace("\n        ", "");
    let frame = format!("[{story}]");
    let mut packed = Vec::new();
    pack(frame.as_bytes(), &mut packed).unwrap();
    let answer = format!("{{\"news\":[{story}],\"next_page_token\":null}}");
    let read = |kind: BlobKind, context: &[u8], body: &[u8]| {
        let header = BlobHeader { kind: kind as u8, ..BlobHeader::default() };
        let mut found = Vec::new();
        let rejected = news::read(&Blob { header, context, body }, &mut found);
        (found, rejected)
    };
    let asked = b"/v1beta1/news?symbols=CRSR";
    let told = [
        read(BlobKind::Text, b"", frame.as_bytes()),
        read(BlobKind::Binary, b"", &packed),
        read(BlobKind::Rest, asked, answer.as_bytes()),
    ];
    for (found, rejected) in &told {
        assert_eq!(*rejected.as_ref().unwrap(), Rejected::NONE);
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((one.id, one.ts_updated - one.ts_created), (24_918_784, 1_000_000_000));
        assert!(one.text.starts_with(br#"{"id":"24918784","headline":"A","symbols":["CRSR"]"#));
    }
    let trade = br#"[{"T":"t","S":"A","p":1,"s":1,"t":"2022-01-05T22:00:37Z"}]"#;
    assert!(read(BlobKind::Text, b"", trade).0.is_empty());
    assert!(read(BlobKind::Rest, b"/v2/stocks/trades", answer.as_bytes()).0.is_empty());
    assert!(read(BlobKind::Rest, asked, b"{\"news\":null}").0.is_empty());
    assert!(read(BlobKind::Rest, asked, b"{\"news\":7}").1.is_err());
    // Every truncation of each: an error, or nothing.
    for end in 0..frame.len() {
        let (found, _) = read(BlobKind::Text, b"", &frame.as_bytes()[..end]);
        assert!(found.is_empty(), "{end}");
    }
    for end in 0..packed.len() {
        assert!(read(BlobKind::Binary, b"", &packed[..end]).0.is_empty(), "{end}");
    }
}

#[test]
fn changes_of_symbols_are_read_of_corporate_actions() {
    // Of two good ones and one without its day, the good ones; of other actions there is nothing.
    let mut bench = bench();
    let body = r#"{"corporate_actions":{"forward_splits":[{"symbol":"FBL"}],"name_changes":[
        {"new_symbol":"ZEO","old_symbol":"ESAC","process_date":"2024-03-14"},
        {"new_symbol":"X","old_symbol":"Y"},
        {"new_symbol":"IRRXW","old_symbol":"IRRX.WS","process_date":"2024-03-12"}]}}"#;
    let (rejected, records) = bench
        .receive(BlobKind::Rest, "/v1/corporate-actions?types=name_change", body.as_bytes())
        .unwrap();
    assert_eq!(rejected.count, 1);
    let [first, second] = [0, 1].map(|at| nth::<CorporateAction>(&records, at));
    assert_eq!((unpadded(&first.former), unpadded(&second.former)), ("ESAC", "IRRX.WS"));
    assert_eq!((first.action, first.header.ts_event), (3, 1_710_374_400_000_000_000));
    assert_eq!(first.header.flags, FLAG_HISTORICAL | FLAG_LAST);
    assert_ne!(first.header.sequence, second.header.sequence);
    for empty in [r#"{"corporate_actions":{}}"#, r#"{"corporate_actions":null}"#, "{}"] {
        assert_eq!(bench.rest("/v1/corporate-actions", empty).unwrap().len(), 0);
    }
    assert!(bench.rest("/v1/corporate-actions", r#"{"corporate_actions":7}"#).is_err());
}
