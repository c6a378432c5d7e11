use super::*;
use crate::feeds::Descriptor;
use crate::record::blob::BlobHeader;
use crate::record::{Blob, BlobKind, Trade};

const START: i64 = 1_770_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;
const OPTION: &str = "O:SPY251219C00650000";
const ALL: [&str; 12] = [
    "T.AAPL",
    "Q.AAPL",
    "A.AAPL",
    "LULD.AAPL",
    "FMV.AAPL",
    "T.O:SPY251219C00650000",
    "Q.O:SPY251219C00650000",
    "V.I:SPX",
    "XT.BTC-USD",
    "XQ.BTC-USD",
    "XAS.BTC-USD",
    "XL2.BTC-USD",
];

fn market(seed: u64) -> MassiveMarket {
    let symbols = ["AAPL", OPTION, "I:SPX", "BTC-USD"].map(str::to_owned);
    let config = MarketConfig { seed, start: START, rate: 200.0, levels: 50, history: 10_000 };
    MassiveMarket::new(&symbols, &config).unwrap()
}

fn run(seed: u64, steps: i64) -> Vec<(String, Vec<u8>)> {
    let mut market = market(seed);
    for name in ALL {
        let stream = market.stream(name).unwrap();
        market.want(stream, true);
    }
    let mut found = Vec::new();
    for step in 1..=steps {
        let frames = market.advance(START + step * 10 * SECOND / steps).unwrap();
        for at in 0..frames.len() {
            let frame = frames.get(at, false).unwrap();
            found.push((frames.name(frame.stream).to_owned(), frame.payload.to_vec()));
        }
    }
    found
}

/// The records of `body`, as the feed decodes them.
fn receive(kind: BlobKind, context: &str, body: &[u8]) -> (Records, Instruments) {
    let (mut feed, mut instruments) = (Descriptor::from(MASSIVE.id).build(), Instruments::new());
    let (mut out, feed_number) = (Records::new(), MASSIVE.number());
    let header =
        BlobHeader { kind: kind as u8, feed: feed_number, ts_recv: START, ..BlobHeader::default() };
    let blob = Blob { header, context: context.as_bytes(), body };
    let rejected = feed.receive(&blob, &mut instruments, &mut out).unwrap();
    assert_eq!(rejected.count, 0, "{}", String::from_utf8_lossy(body));
    (out, instruments)
}

#[test]
fn every_event_is_one_of_the_feed_and_follows_from_the_seed() {
    // Ten seconds of every channel, in one step and in many, each event decoded alone.
    let all = run(1, 1);
    assert_eq!(all, run(1, 77));
    assert_ne!(all, run(2, 1));
    for name in ALL {
        let of = all.iter().filter(|(stream, _)| stream == name);
        let mut count = 0;
        for (_, payload) in of {
            let (out, _) = receive(BlobKind::Text, "", &[b"[", &payload[..], b"]"].concat());
            assert!(!out.is_empty(), "{name}");
            count += 1;
        }
        assert!(count >= 5, "{count} of {name}");
    }
}

#[test]
fn quotes_of_a_pair_are_told_apart_by_their_milliseconds() {
    let all = run(3, 1);
    let quotes: Vec<_> = all.iter().filter(|(stream, _)| stream == "XQ.BTC-USD").collect();
    let mut times: Vec<_> = quotes
        .iter()
        .map(|(_, payload)| {
            let (out, _) = receive(BlobKind::Text, "", &[b"[", &payload[..], b"]"].concat());
            out.iter().find_map(|record| record.get::<Quote>()).unwrap().header.ts_event
        })
        .collect();
    times.dedup();
    assert_eq!(times.len(), quotes.len());
}

#[test]
fn past_is_as_the_streams_told_it() {
    // Trades of a stock by both ways: the same ids, prices and sizes, times to the ns in rows.
    let mut market = market(7);
    let stream = market.stream("T.AAPL").unwrap();
    market.want(stream, true);
    let frames = market.advance(START + 100 * SECOND).unwrap();
    let mut body = Vec::new();
    frames.arrays(&[1], 60_000, false, &mut body);
    let told = body.iter().position(|&byte| byte == b'[').unwrap();
    let (live, _) = receive(BlobKind::Text, "", &body[told..]);
    let all =
        Rows { interval_ms: None, quotes: false, start: 0, end: i64::MAX, after: 0, limit: 10_000 };
    let (rows, last, has_more) = market.rows("AAPL", all).unwrap();
    assert!(!has_more);
    let answer = [b"{\"results\":", &rows[..], b"}"].concat();
    let (past, _) = receive(BlobKind::Rest, "/v3/trades/AAPL", &answer);
    let trades = |records: &Records| -> Vec<_> {
        let trades = records.iter().filter_map(|record| record.get::<Trade>());
        trades.map(|of| (of.trade_id, of.price, of.size, of.header.sequence)).collect()
    };
    assert!(trades(&live).len() > 50);
    assert!(trades(&live) == trades(&past));
    assert_eq!(trades(&past).last().unwrap().0, last);
    // So it is with quotes, those of an option too.
    for symbol in ["AAPL", OPTION] {
        let mut market = self::market(9);
        let stream = market.stream(&format!("Q.{symbol}")).unwrap();
        market.want(stream, true);
        let frames = market.advance(START + 20 * SECOND).unwrap();
        let mut body = Vec::new();
        frames.arrays(&[1], 60_000, false, &mut body);
        let told = body.iter().position(|&byte| byte == b'[').unwrap();
        let (live, _) = receive(BlobKind::Text, "", &body[told..]);
        let (rows, ..) = market.rows(symbol, Rows { quotes: true, ..all }).unwrap();
        let answer = [b"{\"results\":", &rows[..], b"}"].concat();
        let (past, _) = receive(BlobKind::Rest, &format!("/v3/quotes/{symbol}"), &answer);
        let quotes = |records: &Records| -> Vec<_> {
            let quotes = records.iter().filter_map(|record| record.get::<Quote>());
            quotes.map(|of| (of.header.sequence, of.bid_price, of.bid_size, of.ask_size)).collect()
        };
        assert!(quotes(&live).len() > 50);
        assert!(quotes(&live) == quotes(&past));
    }
    let minutes = Rows { interval_ms: Some(MINUTE_MS), ..all };
    let (rows, ..) = market.rows("AAPL", minutes).unwrap();
    let answer = [b"{\"results\":", &rows[..], b"}"].concat();
    let path = "/v2/aggs/ticker/AAPL/range/1/minute/2026-02-01/2026-02-03";
    let (bars, _) = receive(BlobKind::Rest, path, &answer);
    assert_eq!(bars.iter().filter_map(|record| record.get::<Bar>()).count(), 1);
    assert!(market.rows("X", all).is_err());
    assert!(market.rows("AAPL", Rows { interval_ms: Some(61_000), ..all }).is_err());
    assert!(market.quote("BTC-USD").unwrap().starts_with(b"{\"ev\":\"XQ\",\"pair\":\"BTC-USD\""));
}

#[test]
fn what_is_not_listed_is_silent_or_refused() {
    let mut market = market(1);
    for name in ["T.X", "XL2.AAPL", "T.BTC-USD", "LULD.BTC-USD", "T.I:SPX", "V.AAPL", "T", ""] {
        assert_eq!(market.stream(name), None, "{name}");
    }
    assert_eq!(market.stream("T.AAPL"), market.stream("T.AAPL"));
    let config = MarketConfig { seed: 1, start: START, rate: 1.0, levels: 50, history: 10 };
    for symbol in ["", "-USD", "BTC-", "O:SPY251219X00650000", "O:19C00650000", "I:"] {
        assert!(MassiveMarket::new(&[symbol.to_owned()], &config).is_err(), "{symbol}");
    }
}
