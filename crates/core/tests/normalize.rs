//! What the normaliser passes on, holds back, drops and declares.

use std::collections::BTreeSet;

use tapeworks_core::processors::normalize::Normalizer;
use tapeworks_core::processors::{Batch, Processor};
use tapeworks_core::record::blob::BlobHeader;
use tapeworks_core::record::{
    BlobKind, Blobs, Channel, GapCause, GapState, Header, Marker, MarkerCode, Plain, RecordRef,
    Records, Subscription, FLAG_HISTORICAL, FLAG_OUT_OF_ORDER, SESSION_ENDS,
};
use tapeworks_core::{FeedId, Kind};

const MS: i64 = 1_000_000;
const START: i64 = 1_700_000_000_000 * MS;

/// A normaliser, and the offset of its next blob.
struct Rig {
    normalizer: Normalizer,
    offset: u64,
    feed: u8,
}

impl Rig {
    fn new(feed: FeedId) -> Self {
        Self { normalizer: Normalizer::new(feed, 500), offset: 0, feed: feed as u8 }
    }

    fn blob(&mut self, kind: BlobKind, line: u16, ms: i64, context: &str, body: &[u8]) -> Records {
        let header = BlobHeader {
            kind: kind as u8,
            feed: self.feed,
            connection: line,
            ts_recv: START + ms * MS,
            ..BlobHeader::default()
        };
        let mut blobs = Blobs::new();
        blobs.push(header, context.as_bytes(), body).unwrap();
        let mut out = Records::new();
        let batch = Batch { first_offset: self.offset, count: 1, bytes: blobs.as_bytes() };
        self.normalizer.process(batch, &mut out).unwrap();
        self.offset += 1;
        out
    }

    fn text(&mut self, line: u16, ms: i64, body: &str) -> Records {
        self.blob(BlobKind::Text, line, ms, "", body.as_bytes())
    }

    fn session(&mut self, code: MarkerCode, line: u16, group: u16, ms: i64) -> Records {
        self.session_in_state(code, line, group, ms, 0)
    }

    fn session_in_state(
        &mut self,
        code: MarkerCode,
        line: u16,
        group: u16,
        ms: i64,
        state: u8,
    ) -> Records {
        let ts = START + ms * MS;
        let marker = Marker {
            header: Header { ts_event: ts, ts_recv: ts, ..Header::of::<Marker>() },
            code: code as u8,
            cause: 0,
            state,
            channel: Channel::Session as u8,
            count: 0,
            first: u64::from(line),
            last: u64::from(group),
            ts_start: i64::MAX,
        };
        self.blob(BlobKind::Records, line, ms, "", marker.as_bytes())
    }

    /// Line `line` opens, and carries trades and quotes.
    fn subscribed(&mut self, line: u16) {
        self.session(MarkerCode::Connected, line, 0, 0);
        for (name, channel) in [("trade", Channel::Trade), ("bookTicker", Channel::Quote)] {
            let mut note = Subscription {
                header: Header::of::<Subscription>(),
                symbol: [0; 48],
                stream: [0; 104],
                connection: line,
                line,
                channel: channel as u8,
                state: 1,
                reserved: [0; 2],
            };
            let stream = format!("btcusdt@{name}");
            note.symbol[..7].copy_from_slice(b"BTCUSDT");
            note.stream[..stream.len()].copy_from_slice(stream.as_bytes());
            self.blob(BlobKind::Records, line, 0, "", note.as_bytes());
        }
    }

    fn trade(&mut self, line: u16, ms: i64, id: u64) -> Records {
        self.text(line, ms, &trade(id))
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.normalizer.counters();
        counters.iter().find(|counter| counter.0 == name).unwrap().1
    }
}

/// Trade `id` happened `id` ms after the start.
fn trade(id: u64) -> String {
    trade_at(id, id as i64)
}

fn trade_at(id: u64, ms: i64) -> String {
    let ms = START / MS + ms;
    format!(
        "{{\"stream\":\"btcusdt@trade\",\"data\":{{\"e\":\"trade\",\"E\":{ms},\"s\":\"BTCUSDT\",\
         \"t\":{id},\"p\":\"1.0\",\"q\":\"2.0\",\"T\":{ms},\"m\":true,\"M\":true}}}}"
    )
}

fn quote(update: u64) -> String {
    format!(
        "{{\"stream\":\"btcusdt@bookTicker\",\"data\":{{\"u\":{update},\"s\":\"BTCUSDT\",\
         \"b\":\"1.0\",\"B\":\"1.0\",\"a\":\"2.0\",\"A\":\"2.0\"}}}}"
    )
}

fn depth(first: u64, last: u64, previous: Option<u64>) -> String {
    let previous = previous.map_or(String::new(), |previous| format!("\"pu\":{previous},\"T\":1,"));
    format!(
        "{{\"stream\":\"btcusdt@depth\",\"data\":{{\"e\":\"depthUpdate\",\"E\":1700000000000,\
         {previous}\"s\":\"BTCUSDT\",\"U\":{first},\"u\":{last},\
         \"b\":[[\"1.0\",\"2.0\"],[\"0.9\",\"0\"]],\"a\":[]}}}}"
    )
}

fn trades(records: &Records) -> Vec<u64> {
    records.iter().filter_map(|record| record.as_trade()).map(|t| t.header.sequence).collect()
}

fn gaps(records: &Records) -> Vec<Marker> {
    let is_gap = |marker: &Marker| marker.code == MarkerCode::Gap as u8;
    records.iter().filter_map(|record| record.as_marker()).filter(is_gap).collect()
}

fn kinds(records: &Records) -> Vec<Kind> {
    records.iter().map(|record: RecordRef<'_>| record.known_kind().unwrap()).collect()
}

#[test]
fn definition_comes_before_the_first_record_that_uses_it() {
    // One trade of a symbol that was never seen, then another.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    assert_eq!(kinds(&rig.trade(1, 0, 5)), [Kind::Definition, Kind::Trade]);
    assert_eq!(kinds(&rig.trade(1, 1, 6)), [Kind::Trade]);
}

#[test]
fn single_line_declares_a_gap_at_once() {
    // 5, then 9: 6 to 8 are missing between the times of the two.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.trade(1, 0, 5);
    let out = rig.trade(1, 20, 9);
    assert_eq!(kinds(&out), [Kind::Marker, Kind::Trade]);
    let gap = gaps(&out)[0];
    assert_eq!((gap.first, gap.last, gap.count), (6, 8, 3));
    assert_eq!((gap.cause, gap.state), (GapCause::Sequence as u8, GapState::Closed as u8));
    assert_eq!((gap.channel, gap.header.instrument), (Channel::Trade as u8, 1));
    // The first tells 5 ms ahead of its receipt: what is lost is looked for from the receipt on.
    assert_eq!(gap.ts_start, START);
    assert_eq!((gap.header.ts_event, gap.header.ts_recv), (START + 9 * MS, START + 20 * MS));
}

#[test]
fn second_line_fills_what_the_first_lost() {
    // Line 1 loses 6 and 7; line 2 is behind and brings them. Nothing is declared, order is kept.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.session(MarkerCode::Connected, 2, 0, 0);
    assert_eq!(trades(&rig.trade(1, 0, 5)), [5]);
    assert!(rig.trade(1, 1, 8).is_empty());
    assert!(rig.trade(1, 2, 9).is_empty());
    assert!(rig.trade(2, 3, 5).is_empty());
    assert_eq!(trades(&rig.trade(2, 4, 6)), [6]);
    let out = rig.trade(2, 5, 7);
    assert_eq!(trades(&out), [7, 8, 9]);
    assert!(gaps(&out).is_empty());
    assert!(rig.trade(2, 6, 8).is_empty());
    assert_eq!((rig.count("duplicates"), rig.count("gaps"), rig.count("held")), (2, 0, 2));
}

#[test]
fn wait_ends_after_its_time() {
    // Line 2 says nothing: at 500 ms after the jump, by a heartbeat, the gap is declared.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.session(MarkerCode::Connected, 2, 0, 0);
    rig.trade(1, 0, 5);
    assert!(rig.trade(1, 10, 8).is_empty());
    assert_eq!(kinds(&rig.session(MarkerCode::Heartbeat, 1, 0, 509)), [Kind::Marker]);
    let out = rig.session(MarkerCode::Heartbeat, 1, 0, 510);
    assert_eq!(trades(&out), [8]);
    let gap = gaps(&out)[0];
    assert_eq!((gap.first, gap.last, gap.header.ts_recv), (6, 7, START + 510 * MS));
}

#[test]
fn loss_on_all_lines_is_declared_without_waiting() {
    // Both lines have come past the hole: since each keeps its order, nothing can fill it.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.session(MarkerCode::Connected, 2, 0, 0);
    rig.trade(1, 0, 5);
    assert!(rig.trade(1, 1, 7).is_empty());
    let out = rig.trade(2, 2, 8);
    assert_eq!((trades(&out), gaps(&out).len()), (vec![7, 8], 1));
}

#[test]
fn lines_of_another_group_do_not_stand_in() {
    // Line 2 carries other streams: there is nothing to wait for.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.session(MarkerCode::Connected, 2, 1, 0);
    rig.trade(1, 0, 5);
    assert_eq!(gaps(&rig.trade(1, 1, 7)).len(), 1);
}

#[test]
fn late_trade_is_passed_on_and_repairs_its_gap() {
    // 5, 8, then 6 in live and 7 from the venue's history. The live sequence is not touched.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.trade(1, 0, 5);
    rig.trade(1, 1, 8);
    let out = rig.trade(1, 2, 6);
    assert_eq!(kinds(&out), [Kind::Trade, Kind::Marker]);
    let late = out.iter().next().unwrap().as_trade().unwrap();
    assert_ne!(late.header.flags & FLAG_OUT_OF_ORDER, 0);
    let repaired = gaps(&out)[0];
    assert_eq!((repaired.first, repaired.last, repaired.state), (6, 6, GapState::Repaired as u8));
    let body = "[{\"id\":6,\"price\":\"1.0\",\"qty\":\"2.0\",\"quoteQty\":\"2.0\",\"time\":\
                1700000000006,\"isBuyerMaker\":true,\"isBestMatch\":true},{\"id\":7,\"price\":\
                \"1.0\",\"qty\":\"2.0\",\"quoteQty\":\"2.0\",\"time\":1700000000007,\
                \"isBuyerMaker\":true,\"isBestMatch\":true},{\"id\":8,\"price\":\"1.0\",\"qty\":\
                \"2.0\",\"quoteQty\":\"2.0\",\"time\":1700000000008,\"isBuyerMaker\":true,\
                \"isBestMatch\":true}]";
    let context = "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=6";
    let out = rig.blob(BlobKind::Rest, 1, 3, context, body.as_bytes());
    assert_eq!(trades(&out), [7]);
    let flags = out.iter().next().unwrap().header().flags;
    assert_eq!(flags & FLAG_HISTORICAL, FLAG_HISTORICAL);
    assert_eq!((gaps(&out)[0].first, gaps(&out)[0].last), (7, 7));
    assert_eq!(trades(&rig.trade(1, 4, 9)), [9]);
}

/// An answer of the history with the trades of these ids.
fn history(ids: impl Iterator<Item = u64>) -> String {
    let row = |id: u64| {
        let ms = START / MS + id as i64;
        format!(
            "{{\"id\":{id},\"price\":\"1.0\",\"qty\":\"2.0\",\"quoteQty\":\"2.0\",\"time\":{ms},\
             \"isBuyerMaker\":true,\"isBestMatch\":true}}"
        )
    };
    format!("[{}]", ids.map(row).collect::<Vec<_>>().join(","))
}

impl Rig {
    fn told(&mut self, ms: i64, ids: impl Iterator<Item = u64>) -> Records {
        let context = "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=1";
        self.blob(BlobKind::Rest, 1, ms, context, history(ids).as_bytes())
    }

    /// Whether the session's word is passed on that this gap was filled. A state taken before says
    /// the same.
    fn is_repaired(&mut self, ms: i64, gap: &Marker) -> bool {
        let mut state = Vec::new();
        self.normalizer.snapshot(&mut state);
        self.normalizer = Normalizer::new(FeedId::BinanceSpot, 500);
        self.normalizer.restore(&state).unwrap();
        let header = Header { ts_recv: START + ms * MS, ..gap.header };
        let marker = Marker { header, state: GapState::Repaired as u8, ..*gap };
        let is_true = self.normalizer.is_true(&marker);
        let out = self.blob(BlobKind::Records, 1, ms, "", marker.as_bytes());
        assert_eq!(gaps(&out), if is_true { vec![marker] } else { vec![] });
        is_true
    }
}

#[test]
fn a_gap_is_repaired_where_all_that_it_lacks_was_passed_on() {
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.trade(1, 0, 5);
    let gap = gaps(&rig.trade(1, 9, 9))[0];
    assert!(!rig.is_repaired(10, &gap));
    assert_eq!(trades(&rig.told(11, 5..8)), [6, 7]);
    assert!(!rig.is_repaired(12, &gap));
    assert_eq!(trades(&rig.told(13, 8..10)), [8]);
    assert!(rig.is_repaired(14, &gap));
    // What lies ahead of the stream, or before all of it, is not on the tape.
    let elsewhere = |first, last| Marker { first, last, ..gap };
    assert!(![(9, 12), (20, 30), (1, 4)]
        .iter()
        .any(|ids| { rig.is_repaired(15, &elsewhere(ids.0, ids.1)) }));
    assert_eq!(trades(&rig.told(16, 1..5)), [1, 2, 3, 4]);
    assert!(rig.is_repaired(17, &elsewhere(1, 4)));
    // A gap of times alone, as of quotes, is for the session to judge.
    assert!(rig.is_repaired(18, &elsewhere(0, 0)));
    assert!(rig.is_repaired(18, &Marker { channel: Channel::Quote as u8, ..gap }));
}

#[test]
fn a_gap_that_is_not_known_any_more_is_not_repaired() {
    // More holes than are remembered, each of one trade: the history brings all but the lowest.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    let last = 2 * 4_096 + 3;
    let found: Vec<_> =
        (1..=last).step_by(2).flat_map(|id| gaps(&rig.trade(1, id as i64, id))).collect();
    assert_eq!(found.len(), 4_097);
    let told = trades(&rig.told(last as i64 + 1, 1..=last));
    assert_eq!(told, (4..last).step_by(2).collect::<Vec<_>>());
    let now = last as i64 + 2;
    let repaired = [0, 1, 4_096].map(|at| rig.is_repaired(now, &found[at]));
    assert_eq!(repaired, [false, true, true]);
}

#[test]
fn a_gap_of_before_the_venue_counted_anew_is_not_repaired() {
    // The history has the old ids still, which none can tell from new ones; a later gap is one.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    let mut old = Vec::new();
    for (ms, id) in [(1, 501), (2, 502), (3, 506), (4, 507)] {
        old.extend(gaps(&rig.text(1, ms, &trade_at(id, ms))));
    }
    for (ms, id) in [(10_001, 1), (10_002, 2), (10_003, 3), (10_004, 4), (10_005, 9)] {
        rig.text(1, ms, &trade_at(id, ms));
    }
    let new = gaps(&rig.text(1, 10_006, &trade_at(600, 10_006)));
    assert_eq!((old.len(), new.len()), (1, 1));
    rig.told(10_007, 5..9);
    rig.told(10_008, 503..506);
    assert!(!rig.is_repaired(10_009, &old[0]));
    rig.told(10_010, 10..600);
    assert!(rig.is_repaired(10_011, &new[0]));
}

#[test]
fn recorder_that_stopped_has_no_open_gap_until_it_records_again() {
    // What comes after a stop in good order was not to be recorded. Once recording goes on, the
    // time in between is told, as of any outage.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.text(1, 1, &quote(10));
    let out = rig.session_in_state(MarkerCode::Disconnected, 1, 0, 100, SESSION_ENDS);
    assert!(gaps(&out).is_empty());
    assert!(gaps(&rig.session(MarkerCode::EndOfSession, 1, 0, 101)).is_empty());
    rig.session(MarkerCode::Connected, 1, 0, 200);
    let told = gaps(&rig.text(1, 300, &quote(20)));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].state, told[0].ts_start), (GapState::Closed as u8, START + MS));
}

#[test]
fn what_no_line_carries_any_more_is_an_open_gap() {
    // Of every stream, whatever its continuity: none of them may ever speak again. Closed by the
    // first event after; ids that go on without a hole show that nothing is missing.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.text(1, 1, &quote(10));
    rig.trade(1, 2, 5);
    rig.text(1, 3, &depth(100, 110, None));
    let open = gaps(&rig.session(MarkerCode::Disconnected, 1, 0, 100));
    // The trade tells 5 ms, and was received at 2.
    let expected = [(Channel::Trade, 2), (Channel::Quote, 1), (Channel::Depth, 0)];
    assert_eq!(open.len(), 3);
    for (gap, (channel, ms)) in open.iter().zip(expected) {
        assert_eq!((gap.channel, gap.cause), (channel as u8, GapCause::Disconnect as u8));
        assert_eq!((gap.state, gap.count), (GapState::Open as u8, u32::MAX));
        assert_eq!(gap.ts_start, START + ms * MS);
    }
    rig.session(MarkerCode::Connected, 2, 0, 200);
    // A repeat is nothing new: it does not say that the stream goes on.
    assert!(rig.trade(2, 240, 5).is_empty());
    let trade = gaps(&rig.trade(2, 250, 6));
    assert_eq!(trade.len(), 1);
    assert_eq!((trade[0].state, trade[0].count), (GapState::Closed as u8, 0));
    assert_eq!(trade[0].ts_start, open[0].ts_start);
    let out = rig.text(2, 300, &quote(20));
    assert_eq!(kinds(&out), [Kind::Marker, Kind::Quote]);
    let closed = gaps(&out)[0];
    assert_eq!((closed.state, closed.ts_start), (GapState::Closed as u8, START + MS));
    assert_eq!((closed.header.ts_event, closed.count), (START + 300 * MS, u32::MAX));
    assert!(gaps(&rig.text(2, 301, &quote(21))).is_empty());
    // Five ids are missing: the sequence tells them, and so does the end of the outage.
    let told = gaps(&rig.text(2, 302, &depth(116, 120, None)));
    let told: Vec<_> = told.iter().map(|gap| (gap.cause, gap.state, gap.count)).collect();
    let closed = GapState::Closed as u8;
    let expected = [(GapCause::Sequence as u8, closed, 5), (GapCause::Disconnect as u8, closed, 5)];
    assert_eq!(told, expected);
}

#[test]
fn a_line_that_is_down_concerns_its_own_streams() {
    // Two lines of different streams: one of them goes down, and never comes back.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.session(MarkerCode::Connected, 2, 1, 0);
    rig.trade(1, 1, 5);
    rig.text(2, 2, &quote(10));
    let open = gaps(&rig.session(MarkerCode::Disconnected, 1, 0, 100));
    let open: Vec<_> = open.iter().map(|gap| (gap.channel, gap.state)).collect();
    assert_eq!(open, [(Channel::Trade as u8, GapState::Open as u8)]);
    assert!(gaps(&rig.text(2, 101, &quote(11))).is_empty());
    assert!(gaps(&rig.session(MarkerCode::EndOfSession, 0, 0, 200)).is_empty());
}

#[test]
fn twins_of_which_one_is_down_lose_nothing() {
    // Both carry the same streams: only when the second is down too, something is.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 4, 0);
    rig.session(MarkerCode::Connected, 2, 4, 0);
    rig.trade(1, 1, 5);
    assert!(gaps(&rig.session(MarkerCode::Disconnected, 1, 4, 100)).is_empty());
    rig.trade(2, 101, 6);
    assert_eq!(gaps(&rig.session(MarkerCode::Disconnected, 2, 4, 200)).len(), 1);
}

#[test]
fn history_does_not_end_an_outage() {
    // What is fetched while no line is up says nothing of the line.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.trade(1, 1, 5);
    rig.session(MarkerCode::Disconnected, 1, 0, 100);
    let body = "[{\"id\":4,\"price\":\"1.0\",\"qty\":\"2.0\",\"quoteQty\":\"2.0\",\"time\":\
                1700000000004,\"isBuyerMaker\":true,\"isBestMatch\":true}]";
    let context = "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=4";
    let out = rig.blob(BlobKind::Rest, 1, 110, context, body.as_bytes());
    assert_eq!((trades(&out), gaps(&out)), (vec![4], vec![]));
    rig.session(MarkerCode::Connected, 2, 0, 200);
    assert_eq!(gaps(&rig.trade(2, 250, 6)).len(), 1);
}

#[test]
fn rotation_with_overlap_is_no_outage() {
    // A second line opens before the first ends.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.session(MarkerCode::Connected, 1, 0, 0);
    rig.text(1, 1, &quote(10));
    rig.session(MarkerCode::Connected, 2, 0, 50);
    assert!(gaps(&rig.session(MarkerCode::Disconnected, 1, 0, 100)).is_empty());
    assert!(gaps(&rig.text(2, 101, &quote(11))).is_empty());
    // A recorder that was killed counts its lines anew: line 2 opens although it was open.
    assert_eq!(gaps(&rig.session(MarkerCode::Connected, 2, 0, 900)).len(), 1);
}

#[test]
fn depth_follows_the_rule_of_its_product() {
    // Spot: U is one more than the last u. Futures: pu is the last u, ids in between may jump.
    let mut spot = Rig::new(FeedId::BinanceSpot);
    spot.text(1, 0, &depth(100, 110, None));
    assert!(gaps(&spot.text(1, 1, &depth(111, 120, None))).is_empty());
    let gap = gaps(&spot.text(1, 2, &depth(126, 130, None)))[0];
    assert_eq!((gap.first, gap.last, gap.count), (121, 125, 5));
    assert!(spot.text(1, 3, &depth(121, 125, None)).is_empty());
    assert_eq!((spot.count("late.depth"), spot.count("duplicates")), (1, 0));
    let mut futures = Rig::new(FeedId::BinanceUsdm);
    futures.text(1, 0, &depth(100, 110, Some(90)));
    assert!(gaps(&futures.text(1, 1, &depth(150, 160, Some(110)))).is_empty());
    let gap = gaps(&futures.text(1, 2, &depth(190, 200, Some(180))))[0];
    assert_eq!((gap.first, gap.last, gap.count), (161, 180, u32::MAX));
}

#[test]
fn dead_letter_names_its_frame() {
    // The third frame is cut short; the stream goes on behind it.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.trade(1, 0, 5);
    rig.text(1, 1, "{\"result\":null,\"id\":1}");
    let out = rig.text(1, 2, &trade(6)[..60]);
    let marker = out.iter().next().unwrap().as_marker().unwrap();
    assert_eq!((marker.code, marker.first), (MarkerCode::DeadLetter as u8, 2));
    assert_ne!(marker.cause, 0);
    assert_eq!(gaps(&rig.trade(1, 3, 7)).len(), 1);
    assert_eq!((rig.count("dead_letters"), rig.count("control")), (1, 1));
}

#[test]
fn every_trade_is_passed_on_or_declared_lost() {
    // 300 seeds: two lines drop trades at random and lag by up to 800 ms. Each trade that any line
    // brought is passed on once; what is declared and not repaired is what none brought; what is
    // not flagged as late is in order.
    for seed in 1..=300_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |limit: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % limit
        };
        let mut deliveries = Vec::new();
        let mut brought = BTreeSet::new();
        for line in 1..=2_u16 {
            let mut at = below(30) as i64;
            for id in 1..=200_u64 {
                at = (at + below(15) as i64).max(id as i64 * 7);
                at += if below(60) == 0 { below(800) as i64 } else { 0 };
                if id == 1 || id == 200 || below(8) > 0 {
                    deliveries.push((at, line, id));
                    brought.insert(id);
                }
            }
        }
        deliveries.sort_unstable();
        let mut rig = Rig::new(FeedId::BinanceSpot);
        rig.session(MarkerCode::Connected, 1, 0, 0);
        rig.session(MarkerCode::Connected, 2, 0, 0);
        let mut output = Records::new();
        for (at, line, id) in deliveries {
            output.extend_from_bytes(rig.trade(line, at, id).as_bytes()).unwrap();
        }
        let end = rig.session(MarkerCode::EndOfSession, 1, 0, 10_000);
        output.extend_from_bytes(end.as_bytes()).unwrap();
        check(&output, &brought, seed);
    }
}

fn check(output: &Records, brought: &BTreeSet<u64>, seed: u64) {
    let mut passed = BTreeSet::new();
    let mut lost = BTreeSet::new();
    let mut last = 0;
    for record in output {
        if let Some(trade) = record.as_trade() {
            let id = trade.header.sequence;
            assert!(passed.insert(id), "seed {seed}: trade {id} twice");
            if trade.header.flags & FLAG_OUT_OF_ORDER == 0 {
                assert!(id > last, "seed {seed}: {id} after {last}");
                last = id;
            }
        }
        for gap in
            record.as_marker().into_iter().filter(|marker| marker.code == MarkerCode::Gap as u8)
        {
            for id in gap.first..=gap.last {
                if gap.state == GapState::Repaired as u8 {
                    assert!(lost.remove(&id), "seed {seed}: {id} was repaired and not lost");
                } else {
                    assert!(lost.insert(id), "seed {seed}: {id} was lost twice");
                }
            }
        }
    }
    assert_eq!(&passed, brought, "seed {seed}");
    let first = *brought.first().unwrap();
    let wanted: BTreeSet<u64> = (first..=200).filter(|id| !brought.contains(id)).collect();
    assert_eq!(lost, wanted, "seed {seed}");
}

/// A frame without its end.
fn cut(frame: &str) -> &str {
    &frame[..frame.len() - 30]
}

/// Cause, channel, state and count of each gap.
fn entries(records: &Records) -> Vec<(u8, u8, u8, u32)> {
    gaps(records).iter().map(|gap| (gap.cause, gap.channel, gap.state, gap.count)).collect()
}

const DECODE: u8 = GapCause::Decode as u8;
const SEQUENCE: u8 = GapCause::Sequence as u8;
const OPEN: u8 = GapState::Open as u8;
const CLOSED: u8 = GapState::Closed as u8;

#[test]
fn frames_that_cannot_be_decoded_are_a_gap_up_to_the_next_event() {
    // Quotes have no ids without holes: nobody knows what the two frames said.
    let channel = Channel::Quote as u8;
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.subscribed(1);
    rig.text(1, 10, &quote(5));
    let open = rig.text(1, 20, cut(&quote(6)));
    assert_eq!(entries(&open), [(DECODE, channel, OPEN, 1)]);
    assert!(entries(&rig.text(1, 30, cut(&quote(7)))).is_empty());
    let closed = rig.text(1, 40, &quote(8));
    assert_eq!(entries(&closed), [(DECODE, channel, CLOSED, 2)]);
    let (open, closed) = (gaps(&open)[0], gaps(&closed)[0]);
    assert_eq!((open.ts_start, closed.ts_start), (START + 10 * MS, START + 10 * MS));
    assert_eq!(closed.header.ts_event, START + 40 * MS);
    assert_eq!((open.header.instrument, closed.header.instrument), (1, 1));
    assert!(entries(&rig.text(1, 50, &quote(9))).is_empty());
}

#[test]
fn ids_without_holes_tell_what_could_not_be_decoded() {
    // What broke was sent once more, or is missing between two ids: either way they show it.
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.subscribed(1);
    rig.trade(1, 5, 5);
    assert!(entries(&rig.text(1, 6, cut(&trade(6)))).is_empty());
    assert!(entries(&rig.trade(1, 6, 6)).is_empty());
    assert!(entries(&rig.text(1, 7, cut(&trade(7)))).is_empty());
    assert_eq!(entries(&rig.trade(1, 8, 8)), [(SEQUENCE, Channel::Trade as u8, CLOSED, 1)]);
}

#[test]
fn stream_of_which_nothing_can_be_decoded_any_more_is_losing() {
    // The venue changes its trades: no id comes that could tell. Told after ten seconds, or when
    // the session ends; the next event shows what was missing.
    let channel = Channel::Trade as u8;
    for known in [true, false] {
        let mut rig = Rig::new(FeedId::BinanceSpot);
        rig.subscribed(1);
        if known {
            rig.trade(1, 5, 5);
        } else {
            rig.text(1, 5, &quote(1));
        }
        assert!(entries(&rig.text(1, 6, cut(&trade(6)))).is_empty());
        (1..6).for_each(|s| drop(rig.text(1, s * 1_000, &quote(1 + s as u64))));
        let told = rig.text(1, 12_000, &quote(50));
        assert_eq!(entries(&told), [(DECODE, channel, OPEN, 1)]);
        let told = entries(&rig.trade(1, 13_000, 8));
        let state = if known { GapState::Repaired as u8 } else { CLOSED };
        assert!(told.contains(&(DECODE, channel, state, 1)), "{told:?}");
        assert_eq!(told.contains(&(SEQUENCE, channel, CLOSED, 2)), known, "{told:?}");
        assert!(entries(&rig.text(1, 13_001, cut(&trade(9)))).is_empty());
        let ended = rig.session(MarkerCode::EndOfSession, u16::MAX, 0, 13_002);
        assert_eq!(entries(&ended), [(DECODE, channel, OPEN, 1)]);
    }
}

#[test]
fn frame_that_another_line_brings_whole_is_not_lost() {
    let channel = Channel::Quote as u8;
    let mut rig = Rig::new(FeedId::BinanceSpot);
    [1, 2].into_iter().for_each(|line| rig.subscribed(line));
    [1, 2].into_iter().for_each(|line| drop(rig.text(line, 10, &quote(5))));
    assert!(entries(&rig.text(1, 20, cut(&quote(6)))).is_empty());
    assert!(entries(&rig.text(2, 21, &quote(6))).is_empty());
    // Where all bring the same, it is, whatever came in between.
    assert!(entries(&rig.text(1, 30, cut(&quote(7)))).is_empty());
    assert!(entries(&rig.text(1, 31, &quote(8))).is_empty());
    assert_eq!(entries(&rig.text(2, 32, cut(&quote(7)))), [(DECODE, channel, OPEN, 1)]);
    assert_eq!(entries(&rig.text(2, 33, &quote(9))), [(DECODE, channel, CLOSED, 1)]);
    // However many fail on one line: the other brings them.
    for id in 10..610_u64 {
        let ms = 10 * id as i64;
        assert!(entries(&rig.text(1, ms, cut(&quote(id)))).is_empty());
        assert!(entries(&rig.text(2, ms, &quote(id))).is_empty());
    }
}

#[test]
fn frame_that_no_line_can_bring_any_more_is_lost() {
    // It failed on one line, and the other ended before it came there; or the session did.
    let channel = Channel::Quote as u8;
    for (code, line) in [(MarkerCode::Disconnected, 2), (MarkerCode::EndOfSession, u16::MAX)] {
        let mut rig = Rig::new(FeedId::BinanceSpot);
        [1, 2].into_iter().for_each(|line| rig.subscribed(line));
        [1, 2].into_iter().for_each(|line| drop(rig.text(line, 10, &quote(5))));
        assert!(entries(&rig.text(1, 20, cut(&quote(6)))).is_empty());
        let ended = entries(&rig.session(code, line, 0, 30));
        assert!(ended.contains(&(DECODE, channel, OPEN, 1)), "{ended:?}");
    }
}

#[test]
fn frame_of_an_unknown_stream_may_be_of_any() {
    let mut rig = Rig::new(FeedId::BinanceSpot);
    rig.trade(1, 5, 5);
    let out = rig.text(1, 6, "{\"stream\":\"ethusdt@tra");
    assert_eq!(entries(&out), [(DECODE, Channel::None as u8, CLOSED, 1)]);
    // It is no older than the event before it, nor younger than its receipt.
    let gap = gaps(&out)[0];
    assert_eq!((gap.header.instrument, gap.ts_start), (0, START + 5 * MS));
    assert_eq!(gap.header.ts_event, START + 6 * MS);
    assert!(entries(&rig.trade(1, 7, 6)).is_empty());
}

#[test]
fn what_could_not_be_decoded_outlives_a_restart() {
    // Begun anew from its state after every frame: the same bytes.
    let frames = [quote(5), cut(&quote(6)).into(), quote(7), cut(&trade(1)).into(), quote(8)];
    let both = |is_broken: bool| {
        let mut rig = Rig::new(FeedId::BinanceSpot);
        [1, 2].into_iter().for_each(|line| rig.subscribed(line));
        let mut all = Vec::new();
        for (at, line) in (0..frames.len()).flat_map(|at| [(at, 1), (at, 2)]) {
            all.extend_from_slice(rig.text(line, 3_000 * at as i64, &frames[at]).as_bytes());
            if is_broken {
                let mut state = Vec::new();
                rig.normalizer.snapshot(&mut state);
                rig.normalizer = Normalizer::new(FeedId::BinanceSpot, 500);
                rig.normalizer.restore(&state).unwrap();
            }
        }
        all
    };
    assert!(!both(false).is_empty() && both(false) == both(true));
}

#[test]
fn first_frame_of_a_stream_that_cannot_be_decoded_is_a_gap() {
    // No id before it shows what is missing; the note of the subscription names its symbol.
    for (frame, next, channel) in
        [(trade(6), trade(7), Channel::Trade as u8), (quote(6), quote(7), Channel::Quote as u8)]
    {
        let mut rig = Rig::new(FeedId::BinanceSpot);
        rig.subscribed(1);
        let first = rig.text(1, 6, cut(&frame));
        let told = rig.text(1, 7, &next);
        assert_eq!(entries(&told), [(DECODE, channel, CLOSED, 1)]);
        assert_eq!(gaps(&told)[0].header.instrument, 1);
        assert_eq!(kinds(&first)[1], Kind::Definition);
    }
}

#[test]
fn line_that_stalls_brings_nothing_whole() {
    // What failed on the other is lost when it ends, however late; not if it went on meanwhile.
    let channel = Channel::Quote as u8;
    for goes_on in [false, true] {
        let mut rig = Rig::new(FeedId::BinanceSpot);
        [1, 2].into_iter().for_each(|line| rig.subscribed(line));
        [1, 2].into_iter().for_each(|line| drop(rig.text(line, 10, &quote(5))));
        rig.text(1, 20, cut(&quote(6)));
        (1..40).for_each(|s| drop(rig.text(1, s * 1_000, &quote(6 + s as u64))));
        if goes_on {
            rig.text(2, 39_000, &quote(45));
        }
        let ended = entries(&rig.session(MarkerCode::Disconnected, 2, 0, 40_000));
        assert_eq!(ended.contains(&(DECODE, channel, OPEN, 1)), !goes_on, "{ended:?}");
    }
}

#[test]
fn line_that_had_said_nothing_yet_brings_nothing_whole() {
    // It was connected, and subscribed only after the frame that failed on the other.
    let channel = Channel::Quote as u8;
    let mut rig = Rig::new(FeedId::BinanceSpot);
    [1, 2].into_iter().for_each(|line| rig.subscribed(line));
    rig.text(1, 10, &quote(5));
    assert_eq!(entries(&rig.text(1, 20, cut(&quote(6)))), [(DECODE, channel, OPEN, 1)]);
    assert_eq!(entries(&rig.text(2, 30, &quote(7))), [(DECODE, channel, CLOSED, 1)]);
}
