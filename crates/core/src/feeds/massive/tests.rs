//! The contract of a feed, and the facts of this one, over the captures.

use super::*;
use crate::feeds::testing::{self, blob, captures, check_cuts, events, nth};
use crate::record::{
    Bar, CorporateAction, Cross, Imbalance, Kind, Level, Mark, Marker, Quote, Side, Status, Trade,
    FLAG_HISTORICAL, FLAG_LAST, NONE,
};

/// Lines of kind, context and body, with tabs between: frames of the session of the official
/// client's tests, the examples of the pages, and what the pages say of all else.
const CAPTURES: &str = include_str!("captures/frames.tsv");

type Bench = testing::Bench<Massive>;

fn bench() -> Bench {
    Bench::of(Massive::new(FeedId::Massive))
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
    assert_eq!(count(Kind::Trade), 11);
    assert_eq!(count(Kind::Quote), 7);
    assert_eq!(count(Kind::Bar), 11);
    assert_eq!(count(Kind::Status), 2);
    assert_eq!(count(Kind::Mark), 3);
    assert_eq!(count(Kind::Imbalance), 2);
    assert_eq!((count(Kind::Level), count(Kind::Marker)), (4, 2));
}

#[test]
fn what_is_encoded_is_received_back() {
    // Each event of each live capture: its records, the frame that they make, and its records. A
    // frame says times in ms, and shares whenever it is of; all else is the same.
    let mut bench = bench();
    let mut tried = 0;
    for (kind, context, body) in captures(CAPTURES).filter(|(kind, ..)| *kind == BlobKind::Text) {
        let (_, records) = bench.receive(kind, context, body.as_bytes()).unwrap();
        for event in events(&records) {
            let first = event.iter().next().unwrap();
            let instruments = &bench.instruments;
            let symbol = instruments.get(first.header().instrument).unwrap().symbol;
            let text = crate::record::unpadded(&symbol).to_owned();
            // The size of a forex quote, which there is not, and round lots of old stocks.
            let is_old = first.header().ts_event < 1_762_146_000_000_000_000;
            if text.contains('/') || (first.kind() == Kind::Quote as u8 && is_old) {
                continue;
            }
            let mut frame = Vec::new();
            bench.feed.encode(&event, &bench.instruments, true, &mut frame).unwrap();
            let again = bench.text(std::str::from_utf8(&frame).unwrap());
            let text = String::from_utf8_lossy(&frame);
            let mut expected = event.clone();
            if first.kind() == Kind::Mark as u8 {
                let mut mark: Mark = nth(&event, 0);
                mark.header.ts_event -= mark.header.ts_event % 1_000_000;
                expected.clear();
                expected.push(&mark);
            }
            assert!(again.as_bytes() == expected.as_bytes(), "{body}\n{text}");
            tried += 1;
        }
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn trade_has_exact_values_and_the_conditions_that_hold_back_most() {
    let mut bench = bench();
    let body = r#"[{"ev":"T","sym":"BRK.A","x":4,"i":"52983525029461","p":741971.5,"s":0,
        "ds":"0.25","c":[14,41,12,37],"t":1769999999123.0,"q":17}]"#;
    let trade: Trade = nth(&bench.text(body), 0);
    assert_eq!((trade.price, trade.size), (741_971_500_000_000, 25_000_000));
    assert_eq!((trade.trade_id, trade.header.sequence), (52_983_525_029_461, 17));
    assert_eq!(trade.header.ts_event, 1_769_999_999_123_000_000);
    assert_eq!((trade.conditions, trade.side, trade.count), ([12, 37], 0, 1));
    // An id that is no number, no conditions, and a condition beyond a byte.
    let body = r#"[{"ev":"T","sym":"BRK.A","i":"a-1","p":1e3,"s":12.0,"t":1769999999123},
        {"ev":"T","sym":"BRK.A","p":1,"s":1,"c":[300],"t":1769999999123}]"#;
    let records = bench.text(body);
    let trade: Trade = nth(&records, 0);
    assert_eq!((trade.trade_id, trade.price, trade.size), (0, 10i64.pow(12), 12 * 10i64.pow(8)));
    assert_eq!(nth::<Trade>(&records, 1).conditions, [255, 0]);
}

#[test]
fn quotes_are_of_shares_and_an_empty_side_has_no_price() {
    // The same quote the day before the sizes became shares, and on that day.
    let mut bench = bench();
    let quote = |bench: &mut Bench, symbol: &str, ms: i64| -> Quote {
        let body = format!(
            r#"[{{"ev":"Q","sym":"{symbol}","bp":0,"bs":0,"ap":10.25,"as":3,"t":{ms},"q":1}}]"#
        );
        nth(&bench.text(&body), 0)
    };
    let before = quote(&mut bench, "AAPL", 1_762_145_999_999);
    let after = quote(&mut bench, "AAPL", 1_762_146_000_000);
    assert_eq!((before.ask_size, after.ask_size), (300 * 10i64.pow(8), 3 * 10i64.pow(8)));
    assert_eq!((after.bid_price, after.bid_size), (NONE, 0));
    // Contracts always were what they are.
    for contract in ["O:SPY241220P00720000", "ESZ5"] {
        let told = quote(&mut bench, contract, 1_644_506_128_351);
        assert_eq!(told.ask_size, 3 * 10i64.pow(8), "{contract}");
    }
}

#[test]
fn times_are_read_by_their_digits() {
    let mut bench = bench();
    for (written, ns) in [
        ("1601316752683", 1_601_316_752_683_000_000),
        ("1601316752683746", 1_601_316_752_683_746_000),
        ("1601316752683746123", 1_601_316_752_683_746_123),
    ] {
        let body = format!(
            r#"[{{"ev":"LULD","T":"MSFT","h":218.96,"l":198.11,"i":[21],"t":{written},"q":2}}]"#
        );
        let status: Status = nth(&bench.text(&body), 0);
        assert_eq!(status.header.ts_event, ns);
        assert_eq!((status.price_low, status.price_high), (198_110_000_000, 218_960_000_000));
        assert_eq!(crate::record::unpadded(&status.reason), "21");
    }
}

#[test]
fn imbalances_tell_what_an_auction_would_do() {
    let mut bench = bench();
    let told = |bench: &mut Bench, rest: &str| {
        let head = r#"[{"ev":"NOI","T":"NTEST.Q","t":1601318039223013600,"i":44,"x":10"#;
        nth::<Imbalance>(&bench.text(&format!("{head}{rest}}}]")), 0)
    };
    let one = told(&mut bench, r#","at":930,"a":"M","o":480,"p":440,"b":25.03"#);
    assert_eq!(one.header.ts_event, 1_601_318_039_223_013_600);
    assert_eq!((one.header.sequence, one.auction_time, one.cross), (44, 930, Cross::Opening as u8));
    let sizes = (one.imbalance_size, one.paired_size, one.near_price);
    assert_eq!(sizes, (480 * 10i64.pow(8), 440 * 10i64.pow(8), 25_030_000_000));
    assert_eq!((one.side, one.reference_price, one.far_price), (0, NONE, NONE));
    assert_eq!(crate::record::unpadded(&one.code), "M");
    // What is not told is absent, a time that there is not is none, and less than 0 is to sell.
    let none = told(&mut bench, r#","at":2400,"a":"R""#);
    assert_eq!((none.imbalance_size, none.paired_size, none.near_price), (NONE, NONE, NONE));
    assert_eq!((none.auction_time, none.cross), (0, Cross::Closing as u8));
    let sale = told(&mut bench, r#","o":-480"#);
    assert_eq!((sale.imbalance_size, sale.side), (480 * 10i64.pow(8), Side::Ask as u8));
}

#[test]
fn crypto_tells_who_took_and_which_exchange() {
    let mut bench = bench();
    let records = bench.text(
        r#"[{"ev":"XT","pair":"BTC-USD","p":33021.9,"t":1610462007425,"s":0.01616617,"c":[2],
        "i":14272084,"x":3},{"ev":"XL2","pair":"BTC-USD","t":1610462411115,"x":1,
        "b":[[33712.71,0.5],[33712.7,0.1]],"a":[[33718.23,3.5]]}]"#,
    );
    let trade: Trade = nth(&records, 0);
    assert_eq!((trade.side, trade.trade_id), (Side::Bid as u8, 14_272_084));
    let begin: Marker = nth(&records, 1);
    assert_eq!((begin.count, begin.header.flags & FLAG_LAST), (3, 0));
    assert_eq!(nth::<Level>(&records, 4).side, Side::Ask as u8);
    let symbol = |id| crate::record::unpadded(&bench.instruments.get(id).unwrap().symbol);
    assert_eq!(symbol(trade.header.instrument), "BTC-USD");
    assert_eq!(symbol(begin.header.instrument), "BTC-USD@1");
}

#[test]
fn one_bad_event_takes_no_other_with_it() {
    // Each kind of fault between two good trades: the reason, at the byte of the event or value.
    let good = r#"{"ev":"T","sym":"A","p":1,"s":1,"t":1769999999123,"q":1}"#;
    for (bad, reason) in [
        (r#"{"ev":"ZZ","sym":"A"}"#, DecodeReason::UnknownEvent),
        ("null", DecodeReason::WrongType),
        (r#"{"sym":"A","p":1}"#, DecodeReason::MissingField),
        (r#"{"ev":"T","sym":"A","s":1,"t":1769999999123}"#, DecodeReason::MissingField),
        (r#"{"ev":"T","sym":"A","p":"x","s":1,"t":1}"#, DecodeReason::BadNumber),
        (r#"{"ev":"T","sym":"A","p":1,"s":-1,"t":1}"#, DecodeReason::BadNumber),
        (r#"{"ev":"T","sym":"A","p":0.0000000001,"s":1,"t":1}"#, DecodeReason::DoesNotFit),
        (r#"{"ev":"T","sym":7,"p":1,"s":1,"t":1}"#, DecodeReason::WrongType),
        (r#"{"ev":"T","sym":"","p":1,"s":1,"t":1}"#, DecodeReason::WrongType),
        (r#"{"ev":"XL2","pair":"A-B","t":1,"x":1,"b":[[1]],"a":[]}"#, DecodeReason::MissingField),
    ] {
        let body = format!("[{good},{bad},{good}]");
        let (rejected, out) = bench().receive(BlobKind::Text, "", body.as_bytes()).unwrap();
        assert_eq!((rejected.count, out.len()), (1, 2), "{bad}");
        assert_eq!(rejected.first.unwrap().0, reason, "{bad}");
    }
    let long = format!(r#"[{{"ev":"T","sym":"{}","p":1,"s":1,"t":1}}]"#, "A".repeat(49));
    let (rejected, _) = bench().receive(BlobKind::Text, "", long.as_bytes()).unwrap();
    assert_eq!(rejected.first.unwrap().0, DecodeReason::TooLong);
}

#[test]
fn frame_that_is_not_whole_leaves_nothing() {
    check_cuts(CAPTURES, bench);
}

#[test]
fn answers_are_history_and_errors_are_told() {
    let mut bench = bench();
    let row = r#"{"results":[{"id":"1","price":2.5,"size":3,"sip_timestamp":1651181822461979400,
        "sequence_number":9}],"status":"OK"}"#;
    let trade: Trade = nth(&bench.rest("/v3/trades/X:BTC-USD?limit=1", row).unwrap(), 0);
    assert_eq!(trade.header.ts_event, 1_651_181_822_461_979_400);
    assert_eq!(trade.header.flags, FLAG_HISTORICAL | FLAG_LAST);
    let bars = r#"{"results":[{"o":1,"h":2,"l":1,"c":2,"v":1.35e8,"t":1112331600000,"n":7}]}"#;
    let path = "/v2/aggs/ticker/AAPL/range/5/minute/2005-04-01/2005-04-04";
    let bar: Bar = nth(&bench.rest(path, bars).unwrap(), 0);
    assert_eq!((bar.interval_ms, bar.count, bar.volume), (300_000, 7, 135_000_000 * 10i64.pow(8)));
    // Adjusted bars of a stock are no records; other markets have no splits.
    let adjusted = bars.replace("{\"results\"", "{\"adjusted\":true,\"results\"");
    let of_crypto = path.replace("AAPL", "X%3ABTCUSD");
    assert_eq!(bench.rest(&of_crypto, &adjusted).unwrap().len(), 1);
    let told = adjusted.replace("true", "false");
    assert_eq!(bench.rest(path, &told).unwrap().len(), 1);
    let none = r#"{"status":"OK","error":null}"#;
    assert_eq!(bench.rest("/v3/trades/AAPL", none).unwrap().len(), 0);
    // The conditions of crypto say who took, here as on the stream.
    let row = row.replace("\"id\":\"1\"", "\"id\":\"1\",\"conditions\":[2]");
    for (path, told) in [
        ("/v3/trades/X:BTC-USD", (Side::Bid as u8, [0, 0])),
        ("/v3/trades/X%3ABTC-USD", (Side::Bid as u8, [0, 0])),
        ("/v3/trades/AAPL", (Side::None as u8, [2, 0])),
    ] {
        let trade: Trade = nth(&bench.rest(path, &row).unwrap(), 0);
        assert_eq!((trade.side, trade.conditions), told, "{path}");
    }
    for (path, body, reason) in [
        ("/v3/trades/AAPL", r#"{"status":"ERROR","error":"no"}"#, DecodeReason::VenueError),
        ("/v3/trades/AAPL", r#"{"status":"NOT_AUTHORIZED"}"#, DecodeReason::VenueError),
        ("/v3/reference/tickers", r#"{"status":"OK","results":[]}"#, DecodeReason::UnknownStream),
        (
            "/v2/aggs/ticker/AAPL/range/1/month/a/b",
            r#"{"status":"OK","results":[]}"#,
            DecodeReason::UnknownStream,
        ),
        (path, &adjusted, DecodeReason::UnknownStream),
        ("/v3/trades/AAPL", "[]", DecodeReason::WrongType),
    ] {
        let found = bench.rest(path, body).unwrap_err().of_frame();
        assert_eq!(found.map(|(reason, _)| reason), Some(reason), "{body}");
    }
}

#[test]
fn straight_path_gives_what_any_json_gives() {
    // Each live capture, and forms that only one of the two can read, both ways: the same records
    // or the same error. The venue's own form of what is frequent is read straight.
    let forms = [
        r#"[{"ev":"T","sym":"AAPL","p":1.5,"s":1,"t":1651684192462,"c":7,"i":14,"q":1,"new":[]}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":0.0000001,"t":1651684192462123,"i":"007","c":[300]}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1,"ev":"Q","bp":1}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":01,"s":1,"t":1}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1.,"s":1,"t":1}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1e2,"s":1,"t":1}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":123456789.5,"s":1,"t":1,"p":2}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1.123456789,"s":1,"t":1}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1.0,"x":00}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1,"x":00}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1,"x":-1.5}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"ds":"0.25","s":1,"t":1}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"t":1,"ds":"100.0"}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1,"ds":""}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1,"ds":0.25}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1,"ds":"0.2x"}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1,"ds":"1","ds":null}]"#,
        r#"[{"ev":"Q","sym":"AAPL","bp":0,"ap":2.25,"as":92233720368,"t":1651684192462}]"#,
        r#"[{"ev":"A","sym":"AAPL","o":1,"h":2,"l":1,"c":1.5,"s":1651684192000}]"#,
        r#"[{"ev":"A","sym":"AAPL","o":1,"h":2,"l":1,"c":1,"dv":"7.5","v":7,"s":1651684192000}]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1},]"#,
        r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1}] "#,
    ];
    let (mut bench, mut straight) = (bench(), 0);
    bench.text(r#"[{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1}]"#);
    let live =
        captures(CAPTURES).filter(|(kind, ..)| *kind == BlobKind::Text).map(|(.., body)| body);
    for body in live.chain(forms) {
        bench.check_paths(BlobKind::Text, body.as_bytes(), Massive::set_straight);
        let (mut out, blob) = (Records::new(), blob(BlobKind::Text, "", body.as_bytes()));
        let mut task = bench.feed.task(&blob, &mut bench.instruments, &mut out);
        straight += usize::from(task.fast().is_some());
    }
    // Eleven of the captures and six of the forms.
    assert_eq!(straight, 17);
}

#[test]
fn statuses_are_of_the_session() {
    for (body, is_data) in [
        (r#"[{"ev":"status","status":"connected"}]"#, false),
        (r#"[{"status":"success","ev":"status"}]"#, false),
        (r#"[{"ev":"T","sym":"A"}]"#, true),
        (r#"[{"ev":"T","sym":"A"},{"ev":"status","status":"force_disconnect"}]"#, false),
        (
            r#"[{"message":"Too many connections.","ev":"status","status":"max_connections"}]"#,
            false,
        ),
        (r#"[]"#, true),
        (r#"{"ev":"T"}"#, false),
        ("", false),
    ] {
        assert_eq!(glance(body.as_bytes()) == Glance::Events, is_data, "{body}");
    }
}

#[test]
fn tickers_of_a_stock_are_changes_of_its_symbol() {
    // The newest comes first, as the venue tells them; an event of another kind is passed over.
    let mut bench = bench();
    let path = "/vX/reference/tickers/META/events?types=ticker_change";
    let body = r#"{"status":"OK","results":{"name":"Meta","events":[
        {"type":"ticker_change","date":"2022-06-09","ticker_change":{"ticker":"META"}},
        {"type":"other","date":"2020-01-01"},
        {"type":"ticker_change","date":"2012-05-18","ticker_change":{"ticker":"FB"}}]}}"#;
    let records = bench.rest(path, body).unwrap();
    assert_eq!(records.len(), 1);
    let change: CorporateAction = nth(&records, 0);
    assert_eq!(crate::record::unpadded(&change.former), "FB");
    assert_eq!((change.action, change.header.ts_event), (3, 1_654_732_800_000_000_000));
    for (body, count) in [
        (r#"{"results":{"events":[]}}"#, 0),
        (r#"{"results":{"name":"x"}}"#, 0),
        (r#"{"status":"OK"}"#, 0),
    ] {
        assert_eq!(bench.rest(path, body).unwrap().len(), count, "{body}");
    }
    for wrong in [
        r#"{"results":[]}"#,
        r#"{"results":{"events":[{"ticker_change":{"ticker":"A"}}]}}"#,
        r#"{"results":{"events":[{"date":"2022-06-09","ticker_change":{}}]}}"#,
        r#"{"results":{"events":[7]}}"#,
    ] {
        assert!(bench.rest(path, wrong).is_err(), "{wrong}");
    }
}
