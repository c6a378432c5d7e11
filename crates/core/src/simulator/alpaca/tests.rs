use super::*;
use crate::book::L2Book;
use crate::feeds::Descriptor;
use crate::record::blob::BlobHeader;
use crate::record::{Blob, BlobKind, Level, Quote};

const START: i64 = 1_770_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

fn market(seed: u64) -> AlpacaMarket {
    let symbols = ["AAPL", "AAPL240308C00172500", "BTC/USD"].map(str::to_owned);
    let config = MarketConfig { seed, start: START, rate: 200.0, levels: 50, history: 1000 };
    AlpacaMarket::new(&symbols, &config).unwrap()
}

fn listen(market: &mut AlpacaMarket, names: &[&str]) {
    for name in names {
        let stream = market.stream(name).unwrap();
        market.want(stream, true);
    }
}

/// The records of an array of `payload`, as the feed decodes them.
fn receive(kind: BlobKind, payload: &[u8]) -> Records {
    let (mut feed, mut instruments) = (Descriptor::from(ALPACA.id).build(), Instruments::new());
    let mut out = Records::new();
    receive_by(&mut *feed, &mut instruments, (kind, payload), &mut out);
    out
}

fn receive_by(
    feed: &mut dyn crate::feeds::Feed,
    instruments: &mut Instruments,
    (kind, payload): (BlobKind, &[u8]),
    out: &mut Records,
) {
    let body = match kind {
        BlobKind::Binary => [&[0x91], payload].concat(),
        _ => [b"[", payload, b"]"].concat(),
    };
    let feed_number = ALPACA.id as u8;
    let header =
        BlobHeader { kind: kind as u8, feed: feed_number, ts_recv: START, ..BlobHeader::default() };
    feed.receive(&Blob { header, context: b"", body: &body }, instruments, out).unwrap();
}

#[test]
fn both_encodings_say_the_same_and_follow_from_the_seed() {
    // Ten seconds of every channel, each event decoded in both encodings.
    let run = |seed: u64, steps: i64| {
        let mut market = market(seed);
        let names = [
            "trades.AAPL",
            "quotes.AAPL",
            "lulds.AAPL",
            "trades.AAPL240308C00172500",
            "quotes.AAPL240308C00172500",
            "trades.BTC/USD",
            "orderbooks.BTC/USD",
        ];
        listen(&mut market, &names);
        let (mut text, mut packed) = (Vec::new(), Vec::new());
        for step in 1..=steps {
            let to = START + step * 10 * SECOND / steps;
            let frames = market.advance(to, true).unwrap();
            for at in 0..frames.len() {
                text.push(frames.get(at, false).unwrap().payload.to_vec());
                packed.push(frames.get(at, true).unwrap().payload.to_vec());
            }
        }
        (text, packed)
    };
    let (text, packed) = run(1, 1);
    assert!(text.len() > 500, "{}", text.len());
    assert_eq!((&text, &packed), (&run(1, 77).0, &run(1, 77).1));
    assert_ne!(text, run(2, 1).0);
    for (text, packed) in text.iter().zip(&packed) {
        let (one, two) = (receive(BlobKind::Text, text), receive(BlobKind::Binary, packed));
        assert!(one.as_bytes() == two.as_bytes(), "{}", String::from_utf8_lossy(text));
        assert!(!one.is_empty());
    }
}

#[test]
fn book_that_is_told_whole_and_then_by_changes_equals_the_market() {
    let mut market = market(3);
    listen(&mut market, &["orderbooks.BTC/USD"]);
    market.advance(START + 5 * SECOND + 12_345, false).unwrap();
    let mut feed = Descriptor::from(ALPACA.id).build();
    let (mut instruments, mut out) = (Instruments::new(), Records::new());
    let whole = market.book("BTC/USD", false).unwrap();
    receive_by(&mut *feed, &mut instruments, (BlobKind::Text, &whole), &mut out);
    let frames = market.advance(START + 20 * SECOND, false).unwrap();
    for at in 0..frames.len() {
        let payload = frames.get(at, false).unwrap().payload;
        receive_by(&mut *feed, &mut instruments, (BlobKind::Text, payload), &mut out);
    }
    let mut book = L2Book::new();
    for level in out.iter().filter_map(|record| record.get::<Level>()) {
        book.set(Side::try_from(level.side).unwrap(), level.price, level.size);
    }
    assert_eq!(book.checksum(), market.facts("BTC/USD").unwrap().checksum);
}

#[test]
fn stocks_have_no_taker_and_bars_of_their_minutes() {
    let mut market = market(5);
    listen(&mut market, &["trades.AAPL", "trades.BTC/USD", "bars.AAPL", "dailyBars.AAPL"]);
    let frames = market.advance(START + 130 * SECOND, false).unwrap();
    let (mut takers, mut bars) = (0, 0);
    for at in 0..frames.len() {
        let frame = frames.get(at, false).unwrap();
        let text = std::str::from_utf8(frame.payload).unwrap();
        let is_stock = frames.name(frame.stream).ends_with("AAPL");
        assert!(!is_stock || !text.contains("tks"), "{text}");
        takers += usize::from(text.contains("tks"));
        if text.starts_with("{\"T\":\"b\"") {
            assert!(text.contains(",\"vw\":23"), "{text}");
            bars += 1;
        }
        receive(BlobKind::Text, frame.payload);
    }
    assert!(takers > 0);
    assert_eq!(bars, 2);
}

#[test]
fn past_is_given_in_pages() {
    let mut market = market(7);
    market.advance(START + 200 * SECOND, false).unwrap();
    let all =
        Rows { interval_ms: None, quotes: false, start: 0, end: i64::MAX, after: 0, limit: 10_000 };
    let (whole, last, has_more) = market.rows("AAPL", all).unwrap();
    assert!(!has_more && whole.len() > 2);
    let (mut pages, mut after) = (Vec::new(), 0);
    loop {
        let (page, place, has_more) = market.rows("AAPL", Rows { after, limit: 7, ..all }).unwrap();
        pages.extend_from_slice(&page[1..page.len() - 1]);
        after = place;
        if !has_more {
            break;
        }
        pages.push(b',');
    }
    assert_eq!((&pages[..], after), (&whole[1..whole.len() - 1], last));
    let minutes = Rows { interval_ms: Some(60_000), ..all };
    assert_eq!(market.rows("AAPL", minutes).unwrap().0.split(|&byte| byte == b'{').count(), 1 + 3);
    assert!(market.rows("X", all).is_err());
    assert!(market.rows("AAPL", Rows { interval_ms: Some(61_000), ..all }).is_err());
    let quote = market.quote("BTC/USD").unwrap();
    let records = receive(BlobKind::Text, &quote);
    let found = records.iter().find_map(|record| record.get::<Quote>()).unwrap();
    assert!(found.bid_price < found.ask_price);
}

#[test]
fn what_is_not_listed_is_silent_or_refused() {
    let mut market = market(1);
    for name in ["trades.X", "orderbooks.AAPL", "statuses.AAPL", "lulds.BTC/USD", "trades", ""] {
        assert_eq!(market.stream(name), None, "{name}");
    }
    assert_eq!(market.stream("trades.AAPL"), market.stream("trades.AAPL"));
    let config = MarketConfig { seed: 1, start: START, rate: 1.0, levels: 50, history: 10 };
    for symbol in ["", "/USD", "BTC/", "BTC-PERP"] {
        assert!(AlpacaMarket::new(&[symbol.to_owned()], &config).is_err(), "{symbol}");
    }
}
