//! The contract of a feed, and the facts of this one, over the captures.

use super::*;
use crate::record::blob::BlobHeader;
use crate::record::{
    Bar, Channel, Definition, Level, Mark, Marker, MarkerCode, Quote, Side, Trade, FLAG_HISTORICAL,
    FLAG_LAST, FLAG_SNAPSHOT, NONE,
};

/// When all frames arrived: a whole second after the latest of them.
const TS_RECV: i64 = 1_770_000_005_000_000_000;

/// Lines of kind, context and body, with tabs between.
const CAPTURES: [(FeedId, &str); 3] = [
    (FeedId::BinanceSpot, include_str!("captures/spot.tsv")),
    (FeedId::BinanceUsdm, include_str!("captures/usdm.tsv")),
    (FeedId::BinanceCoinm, include_str!("captures/coinm.tsv")),
];

struct Capture {
    feed: FeedId,
    kind: BlobKind,
    context: &'static str,
    body: &'static str,
}

fn captures() -> Vec<Capture> {
    let mut all = Vec::new();
    for (feed, lines) in CAPTURES {
        for line in lines.lines() {
            let mut parts = line.splitn(3, '\t');
            let kind = match parts.next().unwrap() {
                "text" => BlobKind::Text,
                "rest" => BlobKind::Rest,
                other => panic!("capture of kind {other}"),
            };
            let (context, body) = (parts.next().unwrap(), parts.next().unwrap());
            all.push(Capture { feed, kind, context, body });
        }
    }
    all
}

/// A decoder with its registry.
struct Bench {
    binance: Binance,
    instruments: Instruments,
}

impl Bench {
    fn new(feed: FeedId) -> Self {
        Self { binance: Binance::new(feed), instruments: Instruments::new() }
    }

    fn decode(
        &mut self,
        kind: BlobKind,
        context: &[u8],
        body: &[u8],
    ) -> Result<(Rejected, Records)> {
        let mut out = Records::new();
        let header = BlobHeader { kind: kind as u8, ts_recv: TS_RECV, ..BlobHeader::default() };
        let blob = Blob { header, context, body };
        let rejected = self.binance.receive(&blob, &mut self.instruments, &mut out)?;
        Ok((rejected, out))
    }

    fn receive(&mut self, kind: BlobKind, context: &[u8], body: &[u8]) -> Result<Records> {
        self.decode(kind, context, body).map(|(_, records)| records)
    }

    fn text(&mut self, body: &str) -> Result<Records> {
        self.receive(BlobKind::Text, b"", body.as_bytes())
    }
}

fn only<R: crate::record::Record>(records: &Records) -> R {
    assert_eq!(records.len(), 1);
    records.iter().next().unwrap().get::<R>().unwrap()
}

#[test]
fn every_capture_is_received_and_what_is_encoded_is_received_back() {
    // Streams whose messages have no record give none; all others come back equal, raw and
    // combined. REST answers come back through their own encoders, in the next test.
    for capture in captures() {
        let mut bench = Bench::new(capture.feed);
        let records = bench
            .receive(capture.kind, capture.context.as_bytes(), capture.body.as_bytes())
            .unwrap_or_else(|error| panic!("{error}: {}", capture.body));
        if capture.kind == BlobKind::Rest || records.is_empty() {
            continue;
        }
        bench.binance.set_microseconds(capture.body.contains("\"T\":1770000000125000"));
        for event in events(&records) {
            let stream = bench.binance.stream_name(&event, &bench.instruments).unwrap();
            for combined in [false, true] {
                let mut frame = Vec::new();
                bench.binance.encode(&event, &bench.instruments, combined, &mut frame).unwrap();
                let context = if combined { "" } else { &stream };
                let back = bench.receive(BlobKind::Text, context.as_bytes(), &frame).unwrap();
                let frame = String::from_utf8(frame).unwrap();
                assert_eq!(back.as_bytes(), event.as_bytes(), "{}\n{frame}", capture.body);
            }
        }
    }
}

/// Splits records into venue events.
fn events(records: &Records) -> Vec<Records> {
    let mut all = vec![Records::new()];
    for record in records {
        all.last_mut().unwrap().push_ref(record);
        if record.header().flags & FLAG_LAST != 0 {
            all.push(Records::new());
        }
    }
    all.retain(|event| !event.is_empty());
    all
}

#[test]
fn rest_answers_come_back_through_their_encoders() {
    for capture in captures().iter().filter(|capture| capture.kind == BlobKind::Rest) {
        let mut bench = Bench::new(capture.feed);
        let context = capture.context.as_bytes();
        let records = bench.receive(BlobKind::Rest, context, capture.body.as_bytes()).unwrap();
        let (binance, known) = (&bench.binance, &bench.instruments);
        let mut body = Vec::new();
        let path = capture.context.split('?').next().unwrap();
        match path.rsplit('/').next().unwrap() {
            "depth" => binance.encode_rest_depth(&records, known, &mut body).unwrap(),
            "trades" | "historicalTrades" => {
                binance.encode_rest_trades(&records, known, &mut body).unwrap();
            }
            "aggTrades" => binance.encode_rest_aggregates(&records, known, &mut body).unwrap(),
            "klines" => binance.encode_rest_klines(&records, known, &mut body).unwrap(),
            "bookTicker" => binance.encode_rest_quotes(&records, known, &mut body).unwrap(),
            "exchangeInfo" => {
                binance.encode_rest_exchange_info(known, TS_RECV, "[]", &mut body).unwrap();
                let mut other = Bench::new(capture.feed);
                other.receive(BlobKind::Rest, context, &body).unwrap();
                assert!(other.instruments.iter().eq(known.iter()));
                continue;
            }
            _ => continue,
        }
        let back = bench.receive(BlobKind::Rest, context, &body).unwrap();
        assert_eq!(back.as_bytes(), records.as_bytes(), "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn every_truncation_is_an_error_that_leaves_the_batch_alone() {
    for capture in captures() {
        let mut bench = Bench::new(capture.feed);
        let mut out = Records::from_bytes(&[8; 0]).unwrap();
        let header =
            BlobHeader { kind: capture.kind as u8, ts_recv: TS_RECV, ..BlobHeader::default() };
        for end in 0..capture.body.len() {
            let body = &capture.body.as_bytes()[..end];
            let blob = Blob { header, context: capture.context.as_bytes(), body };
            let result = bench.binance.receive(&blob, &mut bench.instruments, &mut out);
            assert!(result.is_err(), "{}", String::from_utf8_lossy(body));
            assert!(out.is_empty() && out.as_bytes().is_empty());
        }
    }
}

#[test]
fn trade_is_read_field_by_field() {
    let mut bench = Bench::new(FeedId::BinanceSpot);
    let trade: Trade = only(&bench.text(captures()[0].body).unwrap());
    assert_eq!(trade.header.ts_event, 1_770_000_000_123_000_000);
    assert_eq!(trade.header.ts_recv, TS_RECV);
    assert_eq!(
        (trade.header.sequence, trade.trade_id, trade.count),
        (5_100_000_001, 5_100_000_001, 1)
    );
    assert_eq!((trade.price, trade.size), (67_000_010_000_000, 125_000));
    assert_eq!((trade.side, trade.channel), (Side::Ask as u8, Channel::Trade as u8));
    assert_eq!((trade.header.flags, trade.header.feed), (FLAG_LAST, 1));
}

#[test]
fn side_of_a_snapshot_with_as_many_levels_as_were_asked_for_is_cut() {
    // Six bids and two asks. A capture does not tell how many were asked for: five is the least.
    let bids: Vec<_> = (1..=6).rev().map(|price| format!("[\"{price}\",\"1\"]")).collect();
    let body = format!(
        "{{\"lastUpdateId\":1,\"bids\":[{}],\"asks\":[[\"7\",\"1\"],[\"8\",\"1\"]]}}",
        bids.join(",")
    );
    for (limit, cut) in [("&limit=5000", 0), ("&limit=7", 0), ("&limit=6", 1), ("", 1)] {
        let context = format!("/api/v3/depth?symbol=BTCUSDT{limit}");
        let mut bench = Bench::new(FeedId::BinanceSpot);
        let answer = bench.receive(BlobKind::Rest, context.as_bytes(), body.as_bytes()).unwrap();
        let marks: Vec<_> = answer.iter().filter_map(|record| record.as_marker()).collect();
        let told: Vec<_> = marks.iter().map(|mark| (mark.state, mark.count)).collect();
        assert_eq!(told, [(cut, 8); 2], "{limit}");
    }
}

#[test]
fn times_are_milli_or_microseconds_by_their_size() {
    let mut bench = Bench::new(FeedId::BinanceSpot);
    let trade: Trade = only(&bench.text(captures()[1].body).unwrap());
    assert_eq!(trade.header.ts_event, 1_770_000_000_125_000_000);
}

#[test]
fn aggregate_covers_its_fills() {
    let mut bench = Bench::new(FeedId::BinanceSpot);
    let trade: Trade = only(&bench.text(captures()[3].body).unwrap());
    assert_eq!((trade.header.sequence, trade.trade_id, trade.count), (710_000_001, 910_000_005, 3));
    assert_eq!(trade.channel, Channel::AggTrade as u8);
}

#[test]
fn quote_without_a_time_has_the_receive_time_and_an_empty_side_none() {
    let mut bench = Bench::new(FeedId::BinanceSpot);
    let quote: Quote = only(&bench.text(captures()[6].body).unwrap());
    assert_eq!((quote.header.ts_event, quote.header.sequence), (TS_RECV, 90_000_000_002));
    assert_eq!((quote.bid_price, quote.bid_size), (NONE, 0));
    assert_eq!((quote.ask_price, quote.ask_size), (2_500_000_000, 1_000_000_000));
}

#[test]
fn depth_is_one_level_a_record_and_the_last_one_says_so() {
    let mut bench = Bench::new(FeedId::BinanceSpot);
    let records = bench.text(captures()[7].body).unwrap();
    let levels: Vec<Level> = records.iter().map(|record| record.as_level().unwrap()).collect();
    assert_eq!(levels.len(), 3);
    for level in &levels {
        assert_eq!(
            (level.header.sequence, level.span, level.previous),
            (90_000_000_009, 6, 90_000_000_002)
        );
    }
    assert_eq!(levels.iter().map(|level| level.side).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!(
        levels.iter().map(|level| level.header.flags).collect::<Vec<_>>(),
        [0, 0, FLAG_LAST]
    );
}

#[test]
fn depth_without_levels_still_says_what_it_covers() {
    let mut bench = Bench::new(FeedId::BinanceUsdm);
    let empty = captures().into_iter().find(|capture| capture.body.contains("@depth@0ms")).unwrap();
    let marker: Marker = only(&bench.text(empty.body).unwrap());
    assert_eq!(marker.code, MarkerCode::EmptyUpdate as u8);
    assert_eq!((marker.first, marker.last), (8_800_000_000_095, 8_800_000_000_099));
    assert_eq!(marker.ts_start, 8_800_000_000_090);
}

#[test]
fn snapshot_stands_between_two_markers() {
    let mut bench = Bench::new(FeedId::BinanceUsdm);
    let capture = captures().into_iter().find(|capture| capture.context.contains("fapi/v1/depth"));
    let capture = capture.unwrap();
    let context = capture.context.as_bytes();
    let records = bench.receive(BlobKind::Rest, context, capture.body.as_bytes()).unwrap();
    let all: Vec<_> = records.iter().collect();
    assert_eq!(all.len(), 4);
    let (begin, end) = (all[0].as_marker().unwrap(), all[3].as_marker().unwrap());
    assert_eq!((begin.code, begin.count, begin.first), (1, 2, 8_800_000_000_050));
    assert_eq!((end.code, end.header.flags), (2, FLAG_SNAPSHOT | FLAG_LAST));
    assert_eq!(all[1].header().flags, FLAG_SNAPSHOT);
    assert_eq!(all[1].header().ts_event, 1_770_000_000_349_000_000);
}

#[test]
fn month_is_as_long_as_it_is() {
    let mut bench = Bench::new(FeedId::BinanceSpot);
    let bar: Bar = only(&bench.text(captures()[13].body).unwrap());
    assert_eq!((bar.interval_ms, bar.count, bar.header.sequence), (31 * 86_400_000, 0, 0));
}

#[test]
fn mark_price_without_funding_has_none() {
    let mut bench = Bench::new(FeedId::BinanceUsdm);
    let records = bench
        .text(
            captures()
                .iter()
                .find(|c| c.body.contains("@arr\",\"data\":[{\"e\":\"mark"))
                .unwrap()
                .body,
        )
        .unwrap();
    let marks: Vec<Mark> = records.iter().map(|record| record.as_mark().unwrap()).collect();
    assert_eq!((marks[0].funding_rate, marks[0].mark_price), (-100_000, 67_000_123_456_780));
    assert_eq!((marks[1].funding_rate, marks[1].ts_funding), (NONE, NONE));
}

/// Canonical symbol, asset class, tick, lot, status and contract size of what a feed lists.
fn listed_by(feed: FeedId) -> Vec<(String, u8, i64, i64, u8, i64)> {
    let mut bench = Bench::new(feed);
    let is_listing = |c: &Capture| c.feed == feed && c.context.contains("exchangeInfo");
    let capture = captures().into_iter().find(is_listing).unwrap();
    let context = capture.context.as_bytes();
    bench.receive(BlobKind::Rest, context, capture.body.as_bytes()).unwrap();
    let row = |known: &Definition| {
        let canonical = crate::record::unpadded(&known.canonical).to_owned();
        let steps = (known.tick_size, known.lot_size);
        (canonical, known.asset_class, steps.0, steps.1, known.status, known.contract_size)
    };
    bench.instruments.iter().map(row).collect()
}

#[test]
fn exchange_information_defines_instruments() {
    let known = listed_by(FeedId::BinanceUsdm);
    assert_eq!(known[0], ("BTC-USDT-PERP".to_owned(), 2, 100_000_000, 100_000, 1, 0));
    assert_eq!(known[1], ("ETH-USDT-260626".to_owned(), 3, 10_000_000, 100_000, 1, 0));
}

#[test]
fn contracts_of_coin_m_tell_what_they_are_worth() {
    const ONE: i64 = 100_000_000;
    let known = listed_by(FeedId::BinanceCoinm);
    assert_eq!(known[0], ("BTC-USD-PERP".to_owned(), 2, 100_000_000, ONE, 1, 100 * ONE));
    assert_eq!(known[1], ("ETH-USD-260327".to_owned(), 3, 10_000_000, ONE, 4, 10 * ONE));
}

fn listed(symbols: &[&str]) -> Vec<u8> {
    let rest = r#""status":"TRADING","baseAsset":"A","quoteAsset":"B","filters":[]"#;
    let one = |symbol: &&str| format!(r#"{{"symbol":"{symbol}",{rest}}}"#);
    let all: Vec<String> = symbols.iter().map(one).collect();
    format!(r#"{{"symbols":[{}]}}"#, all.join(",")).into_bytes()
}

fn known_symbols(bench: &Bench) -> Vec<String> {
    bench
        .instruments
        .iter()
        .map(|known| crate::record::unpadded(&known.symbol).to_owned())
        .collect()
}

#[test]
fn one_bad_definition_does_not_take_the_others_with_it() {
    // A symbol of 49 bytes stands before, between and behind good ones: all good ones are defined,
    // and the answer is a dead letter that says why.
    let long = "Y".repeat(49);
    for at in 0..=2 {
        let mut bench = Bench::new(FeedId::BinanceSpot);
        let mut symbols = vec!["BTCUSDT", "ETHUSDT"];
        symbols.insert(at, &long);
        let body = listed(&symbols);
        let (rejected, _) = bench.decode(BlobKind::Rest, b"/api/v3/exchangeInfo", &body).unwrap();
        assert_eq!(rejected.count, 1);
        assert!(matches!(rejected.first, Some((DecodeReason::TooLong, _))), "{rejected:?}");
        assert_eq!(known_symbols(&bench), ["BTCUSDT", "ETHUSDT"]);
    }
}

#[test]
fn only_what_was_asked_for_is_defined() {
    // The request names two symbols. Whatever else the venue answers defines nothing, readable or
    // not; nor does a symbol that is a part of one that was asked for.
    let mut bench = Bench::new(FeedId::BinanceSpot);
    let long = "Y".repeat(49);
    let body = listed(&["EVIL", "ETHUSDT", &long, "BTC", "BTCUSDT"]);
    let context = b"/api/v3/exchangeInfo?symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D";
    bench.receive(BlobKind::Rest, context, &body).unwrap();
    assert_eq!(known_symbols(&bench), ["ETHUSDT", "BTCUSDT"]);
}

#[test]
fn history_is_flagged_as_such() {
    let mut bench = Bench::new(FeedId::BinanceSpot);
    for capture in captures().iter().filter(|c| c.context.contains("rades?")) {
        let context = capture.context.as_bytes();
        let records = bench.receive(BlobKind::Rest, context, capture.body.as_bytes()).unwrap();
        for record in &records {
            assert_eq!(record.header().flags, FLAG_HISTORICAL | FLAG_LAST);
        }
    }
}

#[test]
fn each_fault_has_its_reason() {
    use DecodeReason::*;
    let trade =
        r#"{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1.0","q":"2","T":1770000000000,"m":true}"#;
    let broken = |from: &str, to: &str| {
        assert!(trade.contains(from));
        trade.replacen(from, to, 1)
    };
    let long = "X".repeat(49);
    for (body, wanted) in [
        (broken("\"p\":\"1.0\",", ""), MissingField),
        (broken("\"1.0\"", "null"), WrongType),
        (broken("\"1.0\"", "[1]"), WrongType),
        (broken("\"1.0\"", "\"1.0x\""), BadNumber),
        (broken("\"2\"", "\"-2\""), BadNumber),
        (broken("\"t\":1", "\"t\":-1"), BadNumber),
        (broken("true", "1"), WrongType),
        (broken("\"BTCUSDT\"", "5"), WrongType),
        (broken("\"BTCUSDT\"", "\"\""), WrongType),
        (broken("\"BTCUSDT\"", "\"A\\u0000\""), WrongType),
        (broken("\"BTCUSDT\"", "\"\\ud800\""), NotUtf8),
        (broken("BTCUSDT", &long), TooLong),
        (broken("\"trade\"", "\"tread\""), UnknownEvent),
        (broken("\"trade\"", "7"), WrongType),
        (trade.replace('}', ""), Truncated),
        (format!("{trade}{trade}"), TrailingBytes),
        (broken("\"E\":1", "\"E\":01"), NotJson),
        (r#"{"lastUpdateId":1,"bids":[],"asks":[]}"#.to_owned(), UnknownStream),
        (r#"{"error":{"code":2,"msg":"Invalid request"},"id":null}"#.to_owned(), VenueError),
        (r#"{"code":2,"msg":"Invalid request"}"#.to_owned(), VenueError),
        (r#"{"b":"1","B":"1","a":"1","A":"1"}"#.to_owned(), MissingField),
        ("{}".to_owned(), UnknownEvent),
        ("7".to_owned(), WrongType),
    ] {
        let found = Bench::new(FeedId::BinanceSpot).text(&body);
        assert!(
            matches!(found, Err(Error::Decode { reason, .. }) if reason == wanted),
            "{body}: {found:?}, expected {wanted:?}"
        );
    }
    let large = broken("\"1.0\"", "\"0.0000000001\"");
    let found = Bench::new(FeedId::BinanceSpot).text(&large);
    assert!(matches!(found, Err(Error::DoesNotFit { field: "price", .. })));
    let cut = Bench::new(FeedId::BinanceSpot).receive(BlobKind::Text, b"", b"{\"e\":\"\xff\"}");
    assert!(matches!(cut, Err(Error::Decode { reason: NotUtf8, byte: 6 })));
}

#[test]
fn straight_reading_equals_reading_any_json() {
    // Each capture twice, so that its symbols are known; as it is, and with every number and text
    // in it varied in length, and every byte dropped or doubled.
    for capture in captures() {
        let mut straight = Bench::new(capture.feed);
        let mut narrow = Bench::new(capture.feed);
        narrow.binance.wide = false;
        let mut slow = Bench::new(capture.feed);
        slow.binance.set_straight(false);
        let mut check = |body: &[u8]| {
            let [found, narrow, wanted] = [&mut straight, &mut narrow, &mut slow].map(|bench| {
                bench
                    .receive(capture.kind, capture.context.as_bytes(), body)
                    .map(|records| records.as_bytes().to_vec())
                    .map_err(|error| error.to_string())
            });
            assert_eq!(found, wanted, "{}", String::from_utf8_lossy(body));
            assert_eq!(narrow, wanted, "{}", String::from_utf8_lossy(body));
        };
        let body = capture.body.as_bytes();
        check(body);
        check(body);
        for at in 0..body.len() {
            check(&[&body[..at], &body[at + 1..]].concat());
            for insert in
                [&b"0"[..], b"9", b"00000000", b"123456789", b".", b" ", b"\\", b"\"", b"-"]
            {
                check(&[&body[..at], insert, &body[at..]].concat());
            }
        }
    }
}

#[test]
fn frames_of_expected_form_are_read_straight() {
    // The captures that the straight path was written for: none may fall back unseen.
    let mut count = 0;
    for capture in captures() {
        let mut bench = Bench::new(capture.feed);
        let (context, body) = (capture.context.as_bytes(), capture.body.as_bytes());
        bench.receive(capture.kind, context, body).unwrap();
        let event = ["\"trade\"", "\"aggTrade\"", "bookTicker", "\"depthUpdate\""];
        let is_expected = event.iter().any(|event| capture.body.contains(event))
            && !["depth5", "rpiDepth", "\"b\":88000000001"]
                .iter()
                .any(|no| capture.body.contains(no));
        if capture.kind != BlobKind::Text || !is_expected {
            continue;
        }
        let mut out = Records::new();
        let header = BlobHeader { ts_recv: TS_RECV, ..BlobHeader::default() };
        let blob = Blob { header, context, body };
        let (mut task, _) = bench.binance.task(&blob, &mut bench.instruments, &mut out);
        assert!(task.fast(context).is_some(), "{}", capture.body);
        count += 1;
    }
    assert_eq!(count, 25);
}

#[test]
fn one_bad_element_of_a_list_takes_no_other_with_it() {
    // Marks of all symbols in one frame, bars and quotes in one answer; each element is broken in
    // turn. What is left is what the list without it gives, and what is told is where it was.
    let marks = br#"{"stream":"!markPrice@arr","data":[ELEMENTS]}"#;
    let mark = |symbol: &str, price: &str| {
        format!(r#"{{"e":"markPriceUpdate","E":1700000000000,"s":"{symbol}","p":"{price}","#)
            + r#""i":"2","r":"","T":0}"#
    };
    let bar = |open: &str| {
        format!(r#"[1700000000000,"{open}","2","1","1","5",1700000059999,"5",3,"2","2","0"]"#)
    };
    let quote = |symbol: &str, price: &str| {
        format!(r#"{{"symbol":"{symbol}","bidPrice":"{price}","bidQty":"1","askPrice":"3","#)
            + r#""askQty":"1"}"#
    };
    let symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"];
    type Lists = [[String; 3]; 2];
    let lists: [(BlobKind, &[u8], &[u8], Lists); 3] = [
        (
            BlobKind::Text,
            b"",
            marks,
            ["1.5", "x"].map(|price| symbols.map(|symbol| mark(symbol, price))),
        ),
        (
            BlobKind::Rest,
            b"/api/v3/klines?symbol=BTCUSDT&interval=1m",
            b"[ELEMENTS]",
            ["1.5", "x"].map(|open| symbols.map(|_| bar(open))),
        ),
        (
            BlobKind::Rest,
            b"/api/v3/ticker/bookTicker",
            b"[ELEMENTS]",
            ["1.5", "x"].map(|price| symbols.map(|symbol| quote(symbol, price))),
        ),
    ];
    for (kind, context, frame, [good, bad]) in lists {
        let frame = std::str::from_utf8(frame).unwrap();
        let decode = |elements: &[String]| {
            let body = frame.replace("ELEMENTS", &elements.join(","));
            let mut bench = Bench::new(FeedId::BinanceUsdm);
            let (rejected, records) = bench.decode(kind, context, body.as_bytes()).unwrap();
            (rejected, records.len(), body)
        };
        assert_eq!(decode(&good).0, Rejected::NONE);
        assert_eq!(decode(&good).1, 3);
        for at in 0..3 {
            let mut mixed = good.clone();
            mixed[at].clone_from(&bad[at]);
            let (rejected, count, body) = decode(&mixed);
            assert_eq!((rejected.count, count), (1, 2), "{body}");
            let (reason, byte) = rejected.first.unwrap();
            assert_eq!(reason, DecodeReason::BadNumber);
            assert!(body[byte..].trim_start_matches('"').starts_with('x'), "{}", &body[byte..]);
            // Nor does one that is not of the type of an element.
            mixed[at] = "null".to_owned();
            let (rejected, count, body) = decode(&mixed);
            assert_eq!((rejected.count, count), (1, 2), "{body}");
            assert_eq!(rejected.first, Some((DecodeReason::WrongType, body.find("null").unwrap())));
        }
        assert_eq!(decode(&bad).0.count, 3);
    }
}
