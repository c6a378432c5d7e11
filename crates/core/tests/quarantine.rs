//! One bad message must not poison what follows; and a venue that does begin anew is believed.

use tapeworks_core::book::SyncState;
use tapeworks_core::error::DecodeReason;
use tapeworks_core::processors::normalize::Normalizer;
use tapeworks_core::processors::sync_tracker::SyncTracker;
use tapeworks_core::processors::{Batch, Processor};
use tapeworks_core::record::blob::BlobHeader;
use tapeworks_core::record::{
    BlobKind, Blobs, Channel, GapCause, GapState, Header, Level, Marker, MarkerCode, Plain,
    Records, Trade, FLAG_OUT_OF_ORDER,
};
use tapeworks_core::FeedId;

const MS: i64 = 1_000_000;
const START: i64 = 1_700_000_000_000 * MS;
const RECORDER: u16 = u16::MAX;
const YEAR_2200_MS: i64 = 7_258_118_400_000;

/// A normaliser, the offset of its next blob, and all that came out.
struct Rig {
    normalizer: Normalizer,
    offset: u64,
    output: Records,
}

impl Rig {
    fn new() -> Self {
        let normalizer = Normalizer::new(FeedId::BinanceSpot, 500);
        Self { normalizer, offset: 0, output: Records::new() }
    }

    fn blob(&mut self, kind: BlobKind, line: u16, ms: i64, context: &str, body: &[u8]) {
        let header = BlobHeader {
            kind: kind as u8,
            feed: FeedId::BinanceSpot as u8,
            connection: line,
            ts_recv: START + ms * MS,
            ..BlobHeader::default()
        };
        let mut blobs = Blobs::new();
        blobs.push(header, context.as_bytes(), body).unwrap();
        let batch = Batch { first_offset: self.offset, count: 1, bytes: blobs.as_bytes() };
        self.normalizer.process(batch, &mut self.output).unwrap();
        self.offset += 1;
    }

    fn text(&mut self, line: u16, ms: i64, body: &str) {
        self.blob(BlobKind::Text, line, ms, "", body.as_bytes());
    }

    fn session(&mut self, code: MarkerCode, line: u16, ms: i64) {
        let ts = START + ms * MS;
        let marker = Marker {
            header: Header { ts_event: ts, ts_recv: ts, ..Header::of::<Marker>() },
            code: code as u8,
            cause: 0,
            state: 0,
            channel: Channel::Session as u8,
            count: 0,
            first: u64::from(line),
            last: if line == RECORDER { u64::from(RECORDER) } else { 0 },
            ts_start: i64::MAX,
        };
        self.blob(BlobKind::Records, line, ms, "", marker.as_bytes());
    }

    fn connected(lines: u16) -> Self {
        let mut rig = Self::new();
        rig.session(MarkerCode::Connected, RECORDER, 0);
        (0..lines).for_each(|line| rig.session(MarkerCode::Connected, line, 0));
        rig
    }

    fn trades(&self) -> Vec<u64> {
        let trades = self.output.iter().filter_map(|record| record.as_trade());
        trades.map(|trade| trade.header.sequence).collect()
    }

    fn quotes(&self) -> Vec<u64> {
        let quotes = self.output.iter().filter_map(|record| record.as_quote());
        quotes.map(|quote| quote.header.sequence).collect()
    }

    fn markers(&self, code: MarkerCode) -> Vec<Marker> {
        let markers = self.output.iter().filter_map(|record| record.as_marker());
        markers.filter(|marker| marker.code == code as u8).collect()
    }

    fn gaps(&self) -> Vec<Marker> {
        self.markers(MarkerCode::Gap)
    }

    /// Reason and sequence of each dead letter.
    fn letters(&self) -> Vec<(u8, u64)> {
        let letters = self.markers(MarkerCode::DeadLetter).into_iter();
        letters.map(|letter| (letter.cause, letter.header.sequence)).collect()
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.normalizer.counters();
        counters.iter().find(|counter| counter.0 == name).unwrap().1
    }
}

/// Trade `id`, which happened at `ms` after the start.
fn trade_at(id: u64, ms: i64, price: &str) -> String {
    let ms = START / MS + ms;
    format!(
        "{{\"stream\":\"btcusdt@trade\",\"data\":{{\"e\":\"trade\",\"E\":{ms},\"s\":\"BTCUSDT\",\
         \"t\":{id},\"p\":\"{price}\",\"q\":\"2.0\",\"T\":{ms},\"m\":true,\"M\":true}}}}"
    )
}

fn trade(id: u64, ms: i64) -> String {
    trade_at(id, ms, "1.0")
}

fn quote(update: u64) -> String {
    quote_of(update, "1.0")
}

fn quote_of(update: u64, bid: &str) -> String {
    format!(
        "{{\"stream\":\"btcusdt@bookTicker\",\"data\":{{\"u\":{update},\"s\":\"BTCUSDT\",\
         \"b\":\"{bid}\",\"B\":\"1.0\",\"a\":\"2.0\",\"A\":\"2.0\"}}}}"
    )
}

fn depth(first: u64, last: u64, ms: i64) -> String {
    let ms = START / MS + ms;
    format!(
        "{{\"stream\":\"btcusdt@depth\",\"data\":{{\"e\":\"depthUpdate\",\"E\":{ms},\
         \"s\":\"BTCUSDT\",\"U\":{first},\"u\":{last},\"b\":[[\"1.0\",\"2.0\"]],\"a\":[]}}}}"
    )
}

fn snapshot(rig: &mut Rig, sequence: u64, ms: i64) {
    let body = format!(
        "{{\"lastUpdateId\":{sequence},\"bids\":[[\"1.0\",\"2.0\"]],\"asks\":[[\"3.0\",\"2.0\"]]}}"
    );
    let context = "/api/v3/depth?symbol=BTCUSDT&limit=5000";
    rig.blob(BlobKind::Rest, RECORDER, ms, context, body.as_bytes());
}

const SEQUENCE: u8 = DecodeReason::ImplausibleSequence as u8;
const TIME: u8 = DecodeReason::ImplausibleTime as u8;
const CONTRADICTION: u8 = DecodeReason::Contradiction as u8;

#[test]
fn quote_with_an_absurd_id_silences_nobody() {
    // Twenty quotes, one with the id 2^62, twenty more: all but that one are passed on. What it
    // told is lost, which no number shows.
    let mut rig = Rig::connected(1);
    (1..=20).for_each(|id| rig.text(0, id, &quote(id as u64 * 3)));
    rig.text(0, 21, &quote(1 << 62));
    (22..=41).for_each(|id| rig.text(0, id, &quote(id as u64 * 3)));
    let honest: Vec<_> = (1..=41).filter(|&id| id != 21).map(|id| id * 3).collect();
    assert_eq!(rig.quotes(), honest);
    assert_eq!(rig.letters(), [(SEQUENCE, 1 << 62)]);
    let of_quotes = |gap: &Marker| (gap.cause, gap.channel, gap.state, gap.count);
    let told = |state: GapState| (GapCause::Decode as u8, Channel::Quote as u8, state as u8, 1);
    let gaps: Vec<_> = rig.gaps().iter().map(of_quotes).collect();
    assert_eq!(gaps, [told(GapState::Open), told(GapState::Closed)]);
    assert_eq!((rig.count("quarantined"), rig.count("quarantined.quote")), (1, 1));
    // The letter names the raw frame: three connects, twenty quotes, then it.
    assert_eq!(rig.markers(MarkerCode::DeadLetter)[0].first, 22);
}

#[test]
fn trade_with_an_absurd_id_or_time_leaves_the_ledger_exact() {
    // An id near 2^63, in the year 2262; then the right id, in the year 2200: the trade of that id
    // is what the ledger misses.
    let mut rig = Rig::connected(1);
    (1..=10).for_each(|id| rig.text(0, id, &trade(id as u64, id)));
    rig.text(0, 10, &trade((1 << 63) - 10, 9_223_372_036_854 - START / MS));
    rig.text(0, 11, &trade(11, 11));
    rig.text(0, 12, &trade(12, YEAR_2200_MS - START / MS));
    (13..=30).for_each(|id| rig.text(0, id, &trade(id as u64, id)));
    let honest: Vec<_> = (1..=30).filter(|&id| id != 12).collect();
    assert_eq!(rig.trades(), honest);
    assert_eq!(rig.letters(), [(TIME, (1 << 63) - 10), (TIME, 12)]);
    let gaps = rig.gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].first, gaps[0].last, gaps[0].count), (12, 12, 1));
}

#[test]
fn first_message_of_all_may_be_the_bad_one() {
    // Nothing is known when it comes. Those that follow show it: all of them are passed on.
    let mut rig = Rig::connected(1);
    rig.text(0, 1, &quote(1 << 62));
    rig.text(0, 1, &trade(1 << 62, 1));
    rig.text(0, 1, &depth(1 << 62, 1 << 62, 1));
    for id in 100..120_i64 {
        rig.text(0, id, &quote(id as u64));
        rig.text(0, id, &trade(id as u64, id));
        rig.text(0, id, &depth(id as u64, id as u64, id));
    }
    let honest: Vec<_> = (100..120).collect();
    assert_eq!(rig.quotes()[1..], honest);
    assert_eq!(rig.trades()[1..], honest);
    let causes: Vec<_> = rig.gaps().iter().map(|gap| (gap.cause, gap.channel)).collect();
    let reset = GapCause::Reset as u8;
    let channels = [Channel::Quote, Channel::Trade, Channel::Depth];
    assert_eq!(causes, channels.map(|channel| (reset, channel as u8)));
}

#[test]
fn venue_that_counts_anew_is_believed_at_the_third_message() {
    // Trades step back to 1, on both lines. Copies of one message do not count as three.
    let mut rig = Rig::connected(2);
    (500..510).for_each(|id| rig.text(0, id, &trade(id as u64 + 1_000_000, id)));
    for line in [0, 1] {
        rig.text(line, 605, &trade(1, 600));
        rig.text(line, 606, &trade(2, 601));
    }
    assert_eq!(rig.trades().len(), 10);
    rig.text(1, 607, &trade(3, 602));
    rig.text(0, 607, &trade(3, 602));
    (4..50).for_each(|id| rig.text(0, 605 + id, &trade(id as u64, 600 + id)));
    assert_eq!(rig.trades()[10..], (1..50).collect::<Vec<_>>());
    let gaps = rig.gaps();
    assert_eq!((gaps.len(), gaps[0].cause), (1, GapCause::Reset as u8));
    assert_eq!(gaps[0].state, GapState::Closed as u8);
    assert_eq!(gaps[0].ts_start, START + 509 * MS);
    assert!(rig.letters().is_empty());
}

#[test]
fn venue_that_counts_anew_within_its_last_ids_is_believed() {
    // Ids step back by a few, again and again: what comes under them is new, and said so once.
    for back in [3, 9, 40, 63] {
        let mut rig = Rig::connected(1);
        let ids: Vec<_> = (0..5_u64).flat_map(|at| 1_001 - at * back..=1_100 - at * back).collect();
        for (ms, id) in (1..).zip(&ids) {
            rig.text(0, ms, &trade_at(*id, ms, &format!("{ms}.0")));
            rig.text(0, ms, &quote_of(*id, &format!("{ms}.0")));
        }
        assert_eq!((rig.trades(), rig.quotes()), (ids.clone(), ids), "{back}");
        let causes: Vec<_> = rig.gaps().iter().map(|gap| gap.cause).collect();
        assert_eq!(causes, [GapCause::Reset as u8; 8], "{back}");
        assert!(rig.letters().is_empty());
    }
}

#[test]
fn venue_that_jumps_ahead_for_good_is_believed() {
    // Quotes, trades and a book go on at 2^40: all is passed on, and the ledger says where.
    let mut rig = Rig::connected(1);
    let far = 1_u64 << 40;
    for id in 1..=20_i64 {
        let base = if id > 10 { far } else { 0 };
        rig.text(0, id, &quote(base + id as u64));
        rig.text(0, id, &trade(base + id as u64, id));
        rig.text(0, id, &depth(base + id as u64, base + id as u64, id));
    }
    let honest: Vec<_> = (1..=20).map(|id| if id > 10 { far + id } else { id }).collect();
    assert_eq!((rig.quotes(), rig.trades()), (honest.clone(), honest));
    assert!(rig.gaps().iter().all(|gap| gap.cause == GapCause::Reset as u8));
    assert_eq!(rig.gaps().len(), 3);
    assert!(rig.letters().is_empty());
}

#[test]
fn steps_that_are_large_throughout_are_no_jumps() {
    // A venue that numbers its quotes by the nanosecond: nothing is held for long, or declared.
    let mut rig = Rig::connected(1);
    let ids: Vec<_> = (0..50_u64).map(|at| START as u64 + at * 1_000_000_000).collect();
    (0..50).for_each(|at| rig.text(0, at * 1000, &quote(ids[at as usize])));
    assert_eq!(rig.quotes(), ids);
    assert!(rig.gaps().is_empty() && rig.letters().is_empty());
}

#[test]
fn line_that_is_behind_passes_nothing_stale_on() {
    // Line 1 stalls for 75 s and then brings what line 0 brought: those are no news, however late.
    let mut rig = Rig::connected(2);
    (1..=200).for_each(|id| rig.text(0, 1000 + id, &quote(id as u64)));
    (1..=200).for_each(|id| rig.text(1, 75_000, &quote(id as u64)));
    assert_eq!(rig.quotes().len(), 200);
    assert!(rig.gaps().is_empty() && rig.letters().is_empty());
    assert_eq!((rig.count("stale.quote"), rig.count("duplicates.quote")), (136, 64));
    rig.text(1, 75_001, &quote(201));
    assert_eq!(rig.quotes().last(), Some(&201));
}

#[test]
fn quotes_of_a_new_line_below_the_old_ones_are_taken_after_ten_seconds() {
    // The venue restarts with its connections, and begins at 1: no line knows the old ids.
    let mut rig = Rig::connected(1);
    (1..=10).for_each(|id| rig.text(0, id, &quote(id as u64 + 1_000_000)));
    rig.session(MarkerCode::Disconnected, 0, 20);
    rig.session(MarkerCode::Connected, 0, 30);
    (1..=300).for_each(|id| rig.text(0, 30 + id * 100, &quote(id as u64)));
    // It covers what was dropped.
    assert_eq!(spans(&rig, GapCause::Reset), [(10, 30 + 101 * 100)]);
    assert_eq!(rig.quotes()[10..], (101..=300).collect::<Vec<_>>());
    assert_eq!(rig.count("stale.quote"), 100);
}

#[test]
fn host_whose_clock_is_off_loses_nothing() {
    // The clock of this host is a year behind the venue, or ahead of it.
    for year in [-31_536_000_000_i64, 31_536_000_000] {
        let mut rig = Rig::connected(1);
        for id in 1..=20_i64 {
            rig.text(0, id, &trade(id as u64, year + id));
            rig.text(0, id, &depth(id as u64, id as u64, year + id));
        }
        assert_eq!(rig.trades(), (1..=20).collect::<Vec<_>>());
        assert!(rig.gaps().is_empty() && rig.letters().is_empty());
    }
}

#[test]
fn time_that_the_venue_told_passes_the_first_event_of_a_host_whose_clock_is_off() {
    // The clock of this host is five years ahead; one book sends one update, and nothing more. A
    // snapshot is asked for by it, so it must not wait for others that agree with it.
    let past = -5 * 31_536_000_000_i64;
    for (told, stored) in [(past, 1), (0, 0)] {
        let mut rig = Rig::connected(1);
        let server = START / MS + told;
        let body = format!("{{\"serverTime\":{server},\"symbols\":[]}}");
        rig.blob(BlobKind::Rest, RECORDER, 0, "/api/v3/exchangeInfo", body.as_bytes());
        rig.text(0, 1, &depth(1, 1, past + 1));
        let levels = rig.output.iter().filter(|record| record.as_level().is_some());
        assert_eq!(levels.count(), stored);
    }
}

#[test]
fn contradiction_of_one_id_is_reported() {
    // Two lines bring trade 5 at two prices, and trade 6 at one.
    let mut rig = Rig::connected(2);
    rig.text(0, 5, &trade_at(5, 5, "100.0"));
    rig.text(1, 5, &trade_at(5, 5, "999.0"));
    rig.text(0, 6, &trade(6, 6));
    rig.text(1, 6, &trade(6, 6));
    assert_eq!(rig.trades(), [5, 6]);
    assert_eq!(rig.letters(), [(CONTRADICTION, 5)]);
    assert_eq!((rig.count("conflicts.trade"), rig.count("duplicates.trade")), (1, 1));
}

#[test]
fn book_survives_absurd_updates_and_snapshots() {
    // A verified book; an update with the id 2^62 in the year 2262; a snapshot far ahead after a
    // break: the book is verified again by the next snapshot that can be.
    let mut rig = Rig::connected(1);
    rig.text(0, 1, &depth(100, 101, 1));
    snapshot(&mut rig, 101, 2);
    rig.text(0, 3, &depth(102, 103, 3));
    rig.text(0, 4, &depth(1 << 62, 1 << 62, 9_223_372_036_854 - START / MS));
    rig.text(0, 5, &depth(104, 105, 5));
    let state = |rig: &Rig| {
        let mut tracker = SyncTracker::new();
        tracker.observe(rig.output.as_bytes());
        tracker.state(1)
    };
    assert_eq!(state(&rig), SyncState::Continuous);
    rig.text(0, 6, &depth(110, 111, 6));
    assert_eq!(state(&rig), SyncState::Broken);
    snapshot(&mut rig, 1 << 61, 7);
    assert_eq!(state(&rig), SyncState::Broken);
    snapshot(&mut rig, 111, 8);
    rig.text(0, 9, &depth(112, 113, 9));
    assert_eq!(state(&rig), SyncState::Continuous);
    assert_eq!(rig.letters(), [(TIME, 1 << 62), (SEQUENCE, 1 << 61)]);
}

#[test]
fn book_of_a_venue_that_counts_anew_is_verified_again() {
    // Update ids go back to 1: buffered ones of the old count must not be waited for.
    let mut rig = Rig::connected(1);
    rig.text(0, 1, &depth(1_000, 1_001, 1));
    snapshot(&mut rig, 1_001, 2);
    rig.text(0, 3, &depth(1_002, 1_003, 3));
    (1..=5).for_each(|id| rig.text(0, 10 + id, &depth(id as u64, id as u64, 10 + id)));
    snapshot(&mut rig, 5, 20);
    rig.text(0, 21, &depth(6, 6, 21));
    let mut tracker = SyncTracker::new();
    tracker.observe(rig.output.as_bytes());
    assert_eq!(tracker.state(1), SyncState::Continuous);
}

#[test]
fn snapshot_that_updates_never_reach_is_given_up() {
    // It is ahead by less than what would be absurd. After 512 updates behind it, another is asked.
    let mut rig = Rig::connected(1);
    rig.text(0, 1, &depth(100, 100, 1));
    snapshot(&mut rig, 50_000, 2);
    (101..=700).for_each(|id| rig.text(0, id, &depth(id as u64, id as u64, id)));
    let mut tracker = SyncTracker::new();
    tracker.observe(rig.output.as_bytes());
    assert_eq!(tracker.needs().collect::<Vec<_>>(), [1]);
}

#[test]
fn wait_for_another_line_follows_no_step_of_the_clock() {
    // 2 is missing when the receive times fall by an hour: the wait ends after half a second.
    let mut rig = Rig::connected(2);
    rig.text(0, 1000, &trade(1, 1000));
    rig.text(0, 1001, &trade(3, 1001));
    (4..1000).for_each(|id| rig.text(0, 1001 + id - 3_600_000, &trade(id as u64, 1001 + id)));
    assert_eq!(rig.trades().len(), 998);
    assert_eq!(rig.gaps().len(), 1);
}

#[test]
fn end_of_a_connection_that_is_not_on_the_tape_ends_that_one_alone() {
    // Line 1 opens twice. Line 0 is as it was, and fills what line 1 lost.
    let mut rig = Rig::connected(2);
    rig.session(MarkerCode::Connected, 1, 10);
    rig.text(1, 1000, &trade(1, 1000));
    rig.text(1, 1001, &trade(3, 1001));
    rig.text(0, 1002, &trade(2, 1001));
    assert_eq!(rig.trades(), [1, 2, 3]);
    assert!(rig.gaps().is_empty());
}

#[test]
fn session_markers_tell_the_time_of_the_venue() {
    // The host's clock is 5 s behind the venue: the end is not before the last event.
    let mut rig = Rig::connected(1);
    rig.text(0, 1000, &trade(1, 6_000));
    rig.session(MarkerCode::Disconnected, 0, 1_010);
    let end = rig.markers(MarkerCode::Disconnected)[0];
    assert_eq!(end.header.ts_event, START + 6_010 * MS);
    assert_eq!(end.header.ts_recv, START + 1_010 * MS);
}

const SECOND: i64 = 1_000;

/// Times of the gaps of a cause, from and to, in ms after the start.
fn spans(rig: &Rig, cause: GapCause) -> Vec<(i64, i64)> {
    let gaps = rig.gaps().into_iter().filter(|gap| gap.cause == cause as u8);
    let ms = |ts: i64| (ts - START) / MS;
    gaps.map(|gap| (ms(gap.ts_start), ms(gap.header.ts_event))).collect()
}

#[test]
fn times_that_step_ahead_one_by_one_are_no_ladder() {
    // Forty-five trades, each a minute ahead of the last, then right ones again: those that no
    // clock can be off by are dead letters, and the ledger has them.
    let mut rig = Rig::connected(1);
    (1..=100).for_each(|id| rig.text(0, id * SECOND, &trade(id as u64, id * SECOND)));
    for step in 1..=45 {
        rig.text(0, 101 * SECOND + step, &trade(100 + step as u64, (101 + step * 59) * SECOND));
    }
    (102..400).for_each(|id| rig.text(0, id * SECOND, &trade(id as u64 + 44, id * SECOND)));
    let trades = rig.output.iter().filter_map(|record| record.as_trade());
    let furthest = trades.map(|trade| trade.header.ts_event - trade.header.ts_recv).max();
    assert!(furthest < Some(1200 * SECOND * MS));
    assert_eq!(rig.trades().iter().filter(|&&id| id >= 146).count(), 298);
    let missing: u32 = rig.gaps().iter().map(|gap| gap.count).sum();
    assert_eq!(rig.trades().len() + missing as usize, 443);
    assert_eq!(rig.letters().len(), missing as usize);
}

#[test]
fn year_that_three_trades_agree_on_is_no_clock() {
    // Three trades of the year 2200, in order, twice over: the clock of the session stays.
    let mut rig = Rig::connected(1);
    (1..=10).for_each(|id| rig.text(0, id * SECOND, &trade(id as u64, id * SECOND)));
    let far = YEAR_2200_MS - START / MS;
    (11..=16).for_each(|id| rig.text(0, 11 * SECOND, &trade(id as u64, far + id)));
    (17..=40).for_each(|id| rig.text(0, id * SECOND, &trade(id as u64, id * SECOND)));
    let honest: Vec<_> = (1..=40).filter(|id| !(11..=16).contains(id)).collect();
    assert_eq!(rig.trades(), honest);
    assert_eq!(rig.letters(), (11..=16).map(|id| (TIME, id)).collect::<Vec<_>>());
    assert_eq!(rig.gaps().len(), 1);
}

#[test]
fn lies_that_begin_a_session_set_no_clock() {
    // Events are ten seconds old. Two changes of a book that begin the second session are half a
    // minute ahead; a trade between them is in time, and its id absurd: it agrees with neither.
    let old = 10 * SECOND;
    let mut rig = Rig::connected(1);
    let honest = |rig: &mut Rig, id: i64| {
        rig.text(0, id * SECOND, &trade(id as u64, id * SECOND - old));
        rig.text(0, id * SECOND, &depth(id as u64, id as u64, id * SECOND - old));
    };
    (1..=10).for_each(|id| honest(&mut rig, id));
    rig.session(MarkerCode::EndOfSession, 0, 10 * SECOND + 1);
    rig.session(MarkerCode::Connected, 0, 10 * SECOND + 2);
    rig.text(0, 10 * SECOND + 3, &depth(11, 11, 40 * SECOND));
    rig.text(0, 10 * SECOND + 4, &trade(1 << 50, SECOND));
    rig.text(0, 10 * SECOND + 5, &depth(12, 12, 40 * SECOND));
    (11..=20).for_each(|id| honest(&mut rig, id));
    assert_eq!(rig.trades(), (1..=20).collect::<Vec<_>>());
    let levels = rig.output.iter().filter(|record| record.as_level().is_some());
    assert_eq!((levels.count(), rig.letters().len()), (20, 3));
}

#[test]
fn venue_whose_clock_is_set_is_recorded() {
    // By five minutes: all is stored, and flagged for the half minute until that is the time. By a
    // year, for good: all waits for that half minute, in which nothing else comes, and is stored.
    for (ahead, flagged_until) in [(300 * SECOND, 37), (31_536_000 * SECOND, 10)] {
        let mut rig = Rig::connected(1);
        (1..=10).for_each(|id| rig.text(0, id * SECOND, &trade(id as u64, id * SECOND)));
        (11..=200).for_each(|id| rig.text(0, id * SECOND, &trade(id as u64, id * SECOND + ahead)));
        assert_eq!(rig.trades(), (1..=200).collect::<Vec<_>>());
        let trades = rig.output.iter().filter_map(|record| record.as_trade());
        let flagged = trades.filter(|trade| trade.header.flags & FLAG_OUT_OF_ORDER != 0);
        let flagged: Vec<_> = flagged.map(|trade| trade.header.sequence).collect();
        assert_eq!(flagged, (11..=flagged_until).collect::<Vec<_>>());
        assert!(rig.gaps().is_empty() && rig.letters().is_empty(), "{:?}", rig.letters());
    }
}

#[test]
fn all_of_an_update_that_is_out_of_order_is_flagged() {
    // One of two levels says a time 50 s ahead, and those behind it go on from it.
    let mut rig = Rig::connected(1);
    for id in 1..=20 {
        let ms = id * SECOND + if id == 10 { 50 * SECOND } else { 0 };
        let two = depth(id as u64, id as u64, ms).replace("]],", "],[\"0.9\",\"3.0\"]],");
        rig.text(0, id * SECOND, &two);
        rig.text(0, id * SECOND, &trade(id as u64, id * SECOND));
    }
    let levels: Vec<_> = rig.output.iter().filter_map(|record| record.as_level()).collect();
    assert_eq!(levels.len(), 40);
    let is_flagged = |level: &Level| level.header.flags & FLAG_OUT_OF_ORDER != 0;
    let ahead = levels.iter().filter(|level| level.header.sequence == 10);
    assert!(ahead.clone().count() == 2 && ahead.clone().all(is_flagged));
    assert!(levels.chunks(2).all(|update| is_flagged(&update[0]) == is_flagged(&update[1])));
    assert!(!is_flagged(&levels[0]) && !is_flagged(&levels[39]));
}

#[test]
fn trades_behind_one_of_a_wrong_time_are_in_order() {
    let mut rig = Rig::connected(1);
    for id in 1..=20 {
        let ahead = if id == 10 { 50 * SECOND } else { 0 };
        rig.text(0, id * SECOND, &trade(id as u64, id * SECOND + ahead));
    }
    assert_eq!(rig.trades(), (1..=20).collect::<Vec<_>>());
    let trades = rig.output.iter().filter_map(|record| record.as_trade());
    let flagged = trades.filter(|trade| trade.header.flags & FLAG_OUT_OF_ORDER != 0);
    assert_eq!(flagged.map(|trade| trade.header.sequence).collect::<Vec<_>>(), [10]);
}

#[test]
fn update_that_lies_freezes_no_book() {
    // One update of fifty says an id far ahead, in order, in time or up to a minute ahead: the book
    // is given up, or that one is; what is true is stored, and no time is missing from the ledger.
    for ahead in [0, 900, 4_000, 59_000] {
        let mut rig = Rig::connected(1);
        let (mut update, mut top) = (1_000_u64, 1_000_u64);
        for at in 1..2_000_i64 {
            if at % 50 == 0 {
                let first = top.max(update) + 1;
                top = first + 50_000;
                rig.text(0, at * SECOND, &depth(first, top, at * SECOND + ahead));
            }
            update += 1;
            rig.text(0, at * SECOND + 1, &depth(update, update, at * SECOND));
        }
        let levels = rig.output.iter().filter_map(|record| record.as_level());
        let stored = levels.filter(|level| level.header.sequence <= update).count();
        let dropped = 1_999 - stored;
        assert!(dropped <= 40 * 7, "{ahead}: {dropped}");
        let spans = spans(&rig, GapCause::Reset);
        let (resets, letters) = if ahead > 5_000 { (0, 39) } else { (39, 0) };
        assert_eq!((spans.len(), rig.letters().len()), (resets, letters), "{ahead}: {spans:?}");
        assert!(spans.iter().all(|span| span.0 <= span.1 && span.1 - span.0 < 12_000), "{spans:?}");
    }
}

#[test]
fn updates_that_lie_often_silence_no_stream() {
    // Each lie says an id far ahead and nine tenths of a second, before its time is over the next
    // comes, at ten updates a second and at a hundred: what is dropped ends in a gap that covers
    // it, and none of them is longer than a venue that counts anew takes to be believed.
    for (step, each) in [(100, 10), (10, 100)] {
        let mut rig = Rig::connected(1);
        let (mut update, mut top) = (1_000_u64, 1_000_u64);
        let count = 120_000 / step;
        for at in 1..count {
            if at % each == 0 {
                let first = top.max(update) + 1;
                top = first + 50_000;
                rig.text(0, at * step, &depth(first, top, at * step + 900));
            }
            update += 1;
            rig.text(0, at * step, &depth(update, update, at * step));
        }
        let levels = rig.output.iter().filter_map(|record| record.as_level());
        let stored = levels.filter(|level| level.header.sequence <= update).count();
        let spans = spans(&rig, GapCause::Reset);
        let dropped = count - 1 - stored as i64;
        let covered: i64 = spans.iter().map(|span| (span.1 - span.0) / step).sum();
        assert!(dropped > 0 && covered + each >= dropped, "{step}: {dropped}, {spans:?}");
        assert!(spans.len() >= 9 && stored > 0, "{step}: {stored}, {spans:?}");
    }
}

#[test]
fn venue_that_plays_back_faster_than_time_loses_nothing() {
    // Ten minutes of trades, updates and quotes come within a second.
    let mut rig = Rig::connected(1);
    let at = |id: i64| id * SECOND;
    for id in 1..=600_i64 {
        rig.text(0, id, &trade(id as u64, at(id)));
        rig.text(0, id, &depth(id as u64, id as u64, at(id)));
        rig.text(0, id, &quote(id as u64));
    }
    rig.session(MarkerCode::EndOfSession, RECORDER, 1_000);
    assert_eq!(rig.trades(), (1..=600).collect::<Vec<_>>());
    assert_eq!(rig.quotes(), (1..=600).collect::<Vec<_>>());
    let levels = rig.output.iter().filter_map(|record| record.as_level());
    let updates: Vec<_> = levels.map(|level| level.header.sequence).collect();
    assert_eq!(updates, (1..=600).collect::<Vec<_>>());
    assert!(rig.gaps().is_empty() && rig.letters().is_empty(), "{:?}", rig.letters());
}

#[test]
fn last_events_of_a_short_playback_are_stored() {
    // Eight seconds of a quiet venue come within one: those at the end are ahead, and few. Where
    // events behind them are in time, they are dead letters.
    for is_last in [true, false] {
        let mut rig = Rig::connected(1);
        for id in 1..=8_i64 {
            rig.text(0, id * 10, &trade(id as u64, id * SECOND));
            rig.text(0, id * 10, &depth(id as u64, id as u64, id * SECOND));
        }
        if !is_last {
            (7..=12).for_each(|id| rig.text(0, 90, &depth(id, id, 90)));
        }
        rig.session(MarkerCode::EndOfSession, RECORDER, 1_000);
        assert_eq!((rig.trades().len() == 8, rig.letters().is_empty()), (is_last, is_last));
    }
}

#[test]
fn what_is_in_time_by_now_is_stored_at_the_end() {
    // Played back on two lines, one of which is ahead of the other: by the end of the session the
    // trade of the first is in time.
    let mut rig = Rig::connected(2);
    rig.text(0, 1, &trade(1, 0));
    rig.text(0, 2, &trade(2, 8 * SECOND));
    for id in 1..=300_i64 {
        rig.text(1, 3 + id, &depth(id as u64, id as u64, 30 * id));
    }
    rig.session(MarkerCode::EndOfSession, RECORDER, 1_000);
    assert_eq!((rig.trades(), rig.letters()), (vec![1, 2], vec![]));
    // It was received before the session ended, and so it stands before the end.
    let last = rig.output.iter().last().unwrap().as_marker().unwrap();
    assert_eq!(last.code, MarkerCode::EndOfSession as u8);
}

#[test]
fn line_that_is_behind_is_no_venue_that_counts_anew() {
    // Twenty quotes a second on two lines, of which one is twenty seconds behind; the other is cut
    // after a minute. What the late one brings until it is where the other was came before.
    let mut rig = Rig::connected(2);
    let lag = 400;
    for at in 1..=2_400_i64 {
        if at <= 1_200 {
            rig.text(0, at * 50, &quote(at as u64 * 7));
        }
        if at == 1_200 {
            rig.session(MarkerCode::Disconnected, 0, at * 50);
        }
        if at > lag {
            rig.text(1, at * 50, &quote((at - lag) as u64 * 7));
        }
    }
    assert_eq!(rig.quotes(), (1..=2_000).map(|id| id * 7).collect::<Vec<_>>());
    assert_eq!(spans(&rig, GapCause::Reset), []);
    assert_eq!(rig.count("stale.quote") + rig.count("duplicates"), 1_200);
}

#[test]
fn what_is_set_aside_is_bounded_in_bytes() {
    // Updates of 32,000 levels, 2 MiB each, of the year 2200: what is too much of them becomes dead
    // letters at once, the rest in the end.
    let mut rig = Rig::connected(1);
    rig.text(0, 1, &depth(1, 1, 1));
    let level = "[\"1.0\",\"2.0\"],";
    let many = format!("\"b\":[{}", level.repeat(32_000));
    for id in 2..=40 {
        let body = depth(id, id, YEAR_2200_MS).replace("\"b\":[", &many);
        rig.text(0, id as i64, &body);
    }
    let mut state = Vec::new();
    rig.normalizer.snapshot(&mut state);
    assert!(state.len() < 40 << 20, "{}", state.len());
    assert!(rig.letters().len() > 20, "{}", rig.letters().len());
    rig.session(MarkerCode::EndOfSession, RECORDER, 1_000);
    assert_eq!(rig.letters(), (2..=40).map(|id| (TIME, id)).collect::<Vec<_>>());
}

#[test]
fn gap_of_the_recorder_is_as_long_as_the_clocks_leave_open() {
    // Trades come three seconds late, by the way or by the clocks: nobody knows. What the recorder
    // shed from the tenth to the eleventh second happened then, or up to three seconds before.
    let mut rig = Rig::connected(1);
    rig.text(0, 3_000, &trade(1, 0));
    (2..=100).for_each(|id| rig.text(0, 3_000 + id, &trade(id as u64, id)));
    let marker = Marker {
        header: Header { ts_event: START + 11 * SECOND * MS, ..Header::of::<Marker>() },
        code: MarkerCode::Gap as u8,
        cause: GapCause::Overload as u8,
        state: GapState::Closed as u8,
        channel: Channel::Session as u8,
        count: 5,
        first: 0,
        last: 0,
        ts_start: START + 10 * SECOND * MS,
    };
    rig.blob(BlobKind::Records, RECORDER, 11_000, "", marker.as_bytes());
    assert_eq!(spans(&rig, GapCause::Overload), [(7 * SECOND, 11 * SECOND)]);
}

#[test]
fn few_that_lie_are_no_venue_that_plays_back() {
    // Bursts of forty that are five seconds and more ahead, each with true ones behind it, and a
    // session that begins with a lie: nothing far ahead is stored as if it were in time.
    for first in [0, 59 * SECOND] {
        let mut rig = Rig::connected(1);
        rig.text(0, 1, &trade(1, 1 + first));
        let mut id = 1;
        for burst in 0..20_i64 {
            for _ in 0..40 {
                id += 1;
                let ms = burst * 10 * SECOND + id as i64;
                rig.text(0, ms, &trade(id, ms + 4_990 + 20 * SECOND * (id as i64 % 40)));
            }
            for _ in 0..40 {
                id += 1;
                let ms = burst * 10 * SECOND + id as i64;
                rig.text(0, ms, &trade(id, ms));
            }
        }
        let ahead = |trade: Trade| trade.header.ts_event - trade.header.ts_recv;
        let trades = rig.output.iter().filter_map(|record| record.as_trade());
        let unflagged = trades.filter(|trade| trade.header.flags & FLAG_OUT_OF_ORDER == 0);
        let most = unflagged.map(ahead).max().unwrap() / MS;
        assert!(most <= 66 * SECOND, "{most} ms");
        assert!(rig.trades().ends_with(&[id - 1, id]));
    }
}

#[test]
fn capture_that_is_told_again_resets_nothing() {
    // The same quotes come again on a new line, received when they first were.
    let mut rig = Rig::connected(1);
    (1..=600).for_each(|id| rig.text(0, id * SECOND, &quote(id as u64 * 7)));
    rig.session(MarkerCode::EndOfSession, RECORDER, 600 * SECOND);
    rig.session(MarkerCode::Connected, RECORDER, SECOND);
    rig.session(MarkerCode::Connected, 0, SECOND);
    (1..=600).for_each(|id| rig.text(0, id * SECOND, &quote(id as u64 * 7)));
    assert_eq!(rig.quotes(), (1..=600).map(|id| id * 7).collect::<Vec<_>>());
    assert_eq!(spans(&rig, GapCause::Reset), []);
    assert!(rig.gaps().iter().all(|gap| gap.ts_start <= gap.header.ts_event));
}

/// Frames with their lines and receive times.
type Frames = Vec<(u16, i64, String)>;

/// A random market with bad messages among the good ones: frames, and the honest trades and quotes.
fn poisoned(seed: u64) -> (Frames, [Vec<u64>; 2]) {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let (mut frames, mut honest) = (Vec::new(), [Vec::new(), Vec::new()]);
    let (mut trade_id, mut quote_id, mut update) = (1_000_u64, 5_000_u64, 9_000_u64);
    for ms in 1..=300_i64 {
        if ms > 5 && below(10) == 0 {
            let id = [1 << 62, (1 << 63) - 1, trade_id + (1 << 33), u64::from(u32::MAX)];
            let id = id[below(4) as usize];
            let late = [0, YEAR_2200_MS - START / MS, 3_600_000, -90_000_000_000];
            let frame = match below(4) {
                0 => quote(id),
                1 => trade(id, ms),
                2 => trade(trade_id + 1, late[1 + below(3) as usize]),
                _ => depth(id, id, late[below(4) as usize]),
            };
            frames.push((0, ms, frame));
            continue;
        }
        trade_id += 1;
        quote_id += 1 + below(40);
        update += 1;
        honest[0].push(trade_id);
        honest[1].push(quote_id);
        frames.push((0, ms, trade(trade_id, ms)));
        frames.push((0, ms, quote(quote_id)));
        frames.push((0, ms, depth(update, update, ms)));
    }
    (frames, honest)
}

#[test]
fn honest_records_among_bad_ones_are_all_stored() {
    // 200 seeds. What is bad is a dead letter, each once; no number is missing.
    for seed in 1..=200 {
        let (frames, honest) = poisoned(seed);
        let bad = frames.len() - 3 * honest[0].len();
        let mut rig = Rig::connected(1);
        frames.iter().for_each(|(line, ms, body)| rig.text(*line, *ms, body));
        rig.session(MarkerCode::EndOfSession, RECORDER, 1_000);
        assert_eq!(rig.trades(), honest[0], "seed {seed}");
        assert_eq!(rig.quotes(), honest[1], "seed {seed}");
        assert_eq!(rig.letters().len() + rig.count("duplicates") as usize, bad, "seed {seed}");
        // No note says of which stream a frame is that cannot be decoded.
        let channels = [Channel::None as u8, Channel::Quote as u8];
        let decode =
            |gap: &Marker| gap.cause == GapCause::Decode as u8 && channels.contains(&gap.channel);
        assert!(rig.gaps().iter().all(decode), "seed {seed}");
    }
}

#[test]
fn what_is_set_aside_outlives_a_restart() {
    // The normaliser is stopped and begun anew from its state after every blob: the same bytes.
    for seed in 1..=20 {
        let (frames, _) = poisoned(seed);
        let (mut straight, mut broken) = (Rig::connected(1), Rig::connected(1));
        for (line, ms, body) in &frames {
            straight.text(*line, *ms, body);
            broken.text(*line, *ms, body);
            let mut state = Vec::new();
            broken.normalizer.snapshot(&mut state);
            broken.normalizer = Normalizer::new(FeedId::BinanceSpot, 500);
            broken.normalizer.restore(&state).unwrap();
        }
        assert!(straight.output.as_bytes() == broken.output.as_bytes(), "seed {seed}");
    }
}
