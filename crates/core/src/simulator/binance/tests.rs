use super::*;
use crate::book::L2Book;
use crate::feeds::Descriptor;
use crate::instrument::Instruments;
use crate::record::blob::BlobHeader;
use crate::record::{Blob, BlobKind, Side};

const START: i64 = 1_760_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

fn market(product: FeedId, seed: u64) -> BinanceMarket {
    let symbols = vec!["BTCUSDT".to_owned(), "ETHUSDT".to_owned()];
    let config = MarketConfig { seed, start: START, rate: 500.0, levels: 200, history: 1000 };
    BinanceMarket::new(product, &symbols, &config).unwrap()
}

fn listen(market: &mut BinanceMarket, names: &[&str]) {
    for name in names {
        let stream = market.stream(name).unwrap();
        market.want(stream, true);
    }
}

fn bytes_of(market: &mut BinanceMarket, steps: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    for &step in steps {
        market.advance(START + step, true).unwrap().wire(&[1; 64], true, false, &mut out);
    }
    out
}

fn blob<'a>(product: FeedId, kind: BlobKind, context: &'a str, body: &'a [u8]) -> Blob<'a> {
    let feed = product as u8;
    let header = BlobHeader { kind: kind as u8, feed, ts_recv: START, ..BlobHeader::default() };
    Blob { header, context: context.as_bytes(), body }
}

const ALL: [&str; 7] = [
    "btcusdt@trade",
    "btcusdt@aggTrade",
    "btcusdt@bookTicker",
    "btcusdt@depth@100ms",
    "ethusdt@depth",
    "ethusdt@kline_1m",
    "btcusdt@depth20@100ms",
];

#[test]
fn same_seed_gives_the_same_bytes_at_any_step() {
    // Ten seconds in one step, in uneven steps, and with another seed.
    let run = |seed, steps: &[i64]| {
        let mut market = market(FeedId::BinanceSpot, seed);
        listen(&mut market, &ALL);
        bytes_of(&mut market, steps)
    };
    let whole = run(1, &[10 * SECOND]);
    let steps: Vec<_> = (1..=1000).map(|step| step * SECOND / 100).collect();
    assert_eq!(whole, run(1, &steps));
    assert_eq!(whole, run(1, &[1, 1, 77_777, SECOND, 10 * SECOND]));
    assert_ne!(whole, run(2, &[10 * SECOND]));
    assert!(whole.len() > 100_000);
}

#[test]
fn events_do_not_depend_on_who_listens() {
    // Trades of a run with one listener and of a run with all streams.
    let run = |names: &[&str]| {
        let mut market = market(FeedId::BinanceUsdm, 4);
        listen(&mut market, names);
        let frames = market.advance(START + 5 * SECOND, false).unwrap();
        let wanted = market.stream("btcusdt@trade").unwrap();
        (0..frames.len())
            .filter_map(|at| frames.get(at, false))
            .filter(|frame| frame.stream == wanted)
            .map(|frame| frame.payload.to_vec())
            .collect::<Vec<_>>()
    };
    let alone = run(&["btcusdt@trade"]);
    assert!(alone.len() > 100);
    assert_eq!(alone, run(&ALL));
}

/// Follows a depth stream by the venue's rules from a snapshot taken amid it; gives the number of
/// quotes that were compared with the book at the same update id.
fn follow(product: FeedId, stream: &str) -> usize {
    let mut market = market(product, 9);
    listen(&mut market, &[stream, "btcusdt@bookTicker"]);
    let mut feed = Descriptor::from(product).build();
    let mut instruments = Instruments::new();
    let (mut book, mut id, mut same) = (L2Book::new(), None::<u64>, 0);
    let mut quote = None;
    for step in 1..400 {
        let frames = market.advance(START + step * SECOND / 70, false).unwrap();
        for frame in (0..frames.len()).map(|at| frames.get(at, false).unwrap()) {
            let mut records = Records::new();
            let name = frames.name(frame.stream);
            let blob = blob(product, BlobKind::Text, name, frame.payload);
            feed.receive(&blob, &mut instruments, &mut records).unwrap();
            if let Some(found) = records.iter().find_map(|record| record.as_quote()) {
                quote = Some(found);
                continue;
            }
            let levels: Vec<_> = records.iter().filter_map(|record| record.as_level()).collect();
            let (last, previous) = (levels[0].header.sequence, levels[0].previous);
            match id {
                Some(known) if last <= known => continue,
                Some(known) => assert!(previous <= known, "{previous} after {known}"),
                None => continue,
            }
            for level in &levels {
                book.set(Side::try_from(level.side).unwrap(), level.price, level.size);
            }
            id = Some(last);
            if let Some(quote) = quote.filter(|quote| quote.header.sequence == last) {
                let bid = book.best(Side::Bid).unwrap();
                let ask = book.best(Side::Ask).unwrap();
                assert_eq!((quote.bid_price, quote.bid_size), (bid.price, bid.size));
                assert_eq!((quote.ask_price, quote.ask_size), (ask.price, ask.size));
                same += 1;
            }
        }
        if step == 30 {
            let body = market.depth("BTCUSDT", 5000, false).unwrap();
            let mut records = Records::new();
            let path = match product {
                FeedId::BinanceUsdm => "/fapi/v1/depth?symbol=BTCUSDT&limit=1000",
                _ => "/api/v3/depth?symbol=BTCUSDT&limit=5000",
            };
            let blob = blob(product, BlobKind::Rest, path, &body);
            feed.receive(&blob, &mut instruments, &mut records).unwrap();
            id = records.iter().find_map(|record| record.as_marker()).map(|marker| marker.first);
            for level in records.iter().filter_map(|record| record.as_level()) {
                book.set(Side::try_from(level.side).unwrap(), level.price, level.size);
            }
        }
    }
    // Let the last window end, so that the book holds everything.
    assert!(id.is_some());
    same
}

#[test]
fn book_followed_from_a_snapshot_equals_the_quotes() {
    assert!(follow(FeedId::BinanceSpot, "btcusdt@depth@100ms") > 5);
    assert!(follow(FeedId::BinanceUsdm, "btcusdt@depth@100ms") > 5);
}

#[test]
fn skipped_trades_are_a_gap_in_the_ids() {
    let mut market = market(FeedId::BinanceSpot, 1);
    let before = market.facts("BTCUSDT").unwrap();
    market.skip_trades("BTCUSDT", 7);
    let after = market.facts("BTCUSDT").unwrap();
    assert_eq!(after.trade_id - before.trade_id, 7);
    assert_eq!(after.checksum, before.checksum);
}

#[test]
fn wrong_symbols_and_streams_are_refused() {
    let mut market = market(FeedId::BinanceSpot, 1);
    for name in ["BTCUSDT@trade", "xyzusdt@trade", "btcusdt@nothing", "btcusdt", ""] {
        assert_eq!(market.stream(name), None, "{name}");
    }
    assert_eq!(market.depth("XYZUSDT", 5, false).unwrap_err().kind(), "invalid");
    let known = market.stream("btcusdt@trade");
    assert_eq!(market.stream("btcusdt@trade"), known);
}
