use super::*;
use crate::feeds::FeedId;
use crate::record::blob::BlobHeader;
use crate::record::{Blob, BlobKind, Marker};
use crate::Feed;

const MIDNIGHT: i64 = 1_692_676_800_000_000_000;
const MS: i64 = 1_000_000;

/// A decoder of lines whose packets wait up to 100 ms.
struct Bench {
    itch: Itch,
    instruments: Instruments,
    out: Records,
}

impl Bench {
    fn new() -> Self {
        Self { itch: Itch::new(FeedId::Itch), instruments: Instruments::new(), out: Records::new() }
    }

    fn raw(&mut self, ms: i64, body: &[u8]) -> Result<Rejected> {
        let ts_recv = MIDNIGHT + 36_000_000 * MS + ms * MS;
        self.on_day(MIDNIGHT, ts_recv, body)
    }

    fn on_day(&mut self, midnight: i64, ts_recv: i64, body: &[u8]) -> Result<Rejected> {
        let header = BlobHeader { kind: BlobKind::Binary as u8, ts_recv, ..BlobHeader::default() };
        let context = format!("moldudp64?hold_ms=100&midnight={midnight}");
        let blob = Blob { header, context: context.as_bytes(), body };
        self.itch.receive(&blob, &mut self.instruments, &mut self.out)
    }

    /// A packet of the adds `first` to `last`, received at `ms`.
    fn packet(&mut self, ms: i64, first: u64, last: u64) {
        assert_eq!(self.raw(ms, &packet(b"SESSION001", first, last)).unwrap(), Rejected::NONE);
    }

    fn numbers(&self) -> Vec<u64> {
        let orders = self.out.iter().filter_map(|record| record.as_order());
        orders.map(|order| order.header.sequence).collect()
    }

    fn gaps(&self) -> Vec<(u64, u64)> {
        let markers = self.out.iter().filter_map(|record| record.as_marker());
        markers.map(|gap: Marker| (gap.first, gap.last)).collect()
    }

    fn restored(&self) -> Self {
        let mut state = Vec::new();
        self.itch.snapshot(&mut state);
        let mut again = Self::new();
        again.itch.restore(&state).unwrap();
        again.instruments = self.instruments.clone();
        again
    }
}

/// A heartbeat, or the end of a session.
fn idle(session: &[u8; 10], next: u64, count: u16) -> Vec<u8> {
    [&session[..], &next.to_be_bytes(), &count.to_be_bytes()].concat()
}

fn packet(session: &[u8; 10], first: u64, last: u64) -> Vec<u8> {
    let count = (last + 1 - first) as u16;
    let mut bytes = [&session[..], &first.to_be_bytes(), &count.to_be_bytes()].concat();
    for number in first..=last {
        bytes.extend_from_slice(&36_u16.to_be_bytes());
        bytes.extend_from_slice(b"A\0\x01\0\0");
        bytes.extend_from_slice(&(36_000_000_000_000 + number).to_be_bytes()[2..]);
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(b"B\0\0\0\x64TEST    \0\x01\x86\xa0");
    }
    bytes
}

#[test]
fn a_hole_that_another_packet_fills_is_no_gap() {
    // Two lines, each without a packet of the other; one packet far too early; a restart at each.
    let mut bench = Bench::new();
    let came =
        [(0, 1, 3), (1, 7, 9), (2, 7, 9), (3, 13, 13), (4, 4, 6), (150, 9, 12), (151, 14, 14)];
    let mut shown = Vec::new();
    for (ms, first, last) in came {
        bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
        bench.packet(ms, first, last);
        shown.push(bench.numbers().len());
    }
    assert_eq!(bench.numbers(), (1..=14).collect::<Vec<_>>());
    assert_eq!(bench.gaps(), []);
    // What waited is passed on as it follows, with the time of its own receipt.
    assert_eq!(shown, [3, 3, 3, 3, 9, 13, 14]);
    let ts: Vec<_> =
        bench.out.iter().filter_map(|r| r.as_order()).map(|o| o.header.ts_recv).collect();
    assert_eq!((ts[6] - ts[0], ts[3] - ts[0]), (MS, 4 * MS));
}

#[test]
fn a_hole_that_nothing_fills_in_time_is_one_gap() {
    let mut bench = Bench::new();
    bench.packet(0, 1, 3);
    bench.packet(10, 6, 7);
    bench.packet(109, 8, 8);
    assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3], vec![]));
    // A part comes, and time begins anew for the rest.
    bench.packet(109, 4, 4);
    bench.packet(208, 10, 10);
    assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3, 4], vec![]));
    bench.packet(210, 11, 11);
    assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3, 4, 6, 7, 8], vec![(5, 5)]));
    // The end of the recording ends all waits; late copies change nothing.
    let settled = bench.itch.settle(0, true, &mut bench.instruments, &mut bench.out);
    assert_eq!(settled.unwrap(), Rejected::NONE);
    bench.packet(400, 5, 9);
    assert_eq!((bench.numbers().len(), bench.gaps()), (9, vec![(5, 5), (9, 9)]));
    // A heartbeat tells of what is missing at the end.
    let heartbeat = [&b"SESSION001"[..], &20_u64.to_be_bytes(), &[0, 0]].concat();
    bench.raw(500, &heartbeat).unwrap();
    bench.raw(601, &heartbeat).unwrap();
    assert_eq!(bench.gaps()[2..], [(12, 19)]);
}

#[test]
fn what_was_sent_before_the_first_packet_is_a_gap() {
    let mut bench = Bench::new();
    bench.packet(0, 101, 103);
    bench.packet(101, 104, 104);
    assert_eq!((bench.gaps(), bench.numbers().len()), (vec![(1, 100)], 4));
    let gap = bench.out.iter().find_map(|record| record.as_marker()).unwrap();
    assert_eq!((gap.count, gap.ts_start), (100, MIDNIGHT));
}

/// The adds of `packet` as of another time of the day.
fn retimed(mut packet: Vec<u8>, ns: u64) -> Vec<u8> {
    for message in packet[super::super::PACKET_HEADER..].chunks_mut(38) {
        message[7..13].copy_from_slice(&ns.to_be_bytes()[2..]);
    }
    packet
}

#[test]
fn a_message_of_a_time_ahead_moves_no_gap() {
    // At ten one tells 15:00; messages 6 to 9 are lost ten minutes later, and the last ones then.
    let mut bench = Bench::new();
    bench.packet(0, 1, 1);
    let lie = retimed(packet(b"SESSION001", 2, 2), 54_000_000_000_000);
    bench.raw(1, &lie).unwrap();
    (3..=5).for_each(|number| bench.packet(2, number, number));
    let ms = 600_000;
    let later = |number: u64| {
        retimed(packet(b"SESSION001", number, number), 36_000_000_000_000 + 600_000_000_000)
    };
    for number in 10..=13 {
        bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
        bench.raw(ms, &later(number)).unwrap();
    }
    for wait in [101, 202, 303] {
        bench.raw(ms + wait, &idle(b"SESSION001", 20, 0)).unwrap();
    }
    let markers: Vec<_> = bench.out.iter().filter_map(|record| record.as_marker()).collect();
    let ten = MIDNIGHT + 36_000_000 * MS;
    let told: Vec<_> = markers.iter().map(|gap| (gap.ts_start, gap.header.ts_event)).collect();
    assert_eq!(bench.gaps(), [(6, 9), (14, 19)]);
    assert_eq!(told, [(ten + 5, ten + ms * MS), (ten + ms * MS, ten + (ms + 101) * MS)]);
}

#[test]
fn a_time_ahead_hides_no_session_of_the_same_name() {
    // One tells 15:00, the session ends, and the name is used again from 1 on an hour later.
    let mut bench = Bench::new();
    bench.packet(0, 1, 1);
    bench.raw(1, &retimed(packet(b"SESSION001", 2, 2), 54_000_000_000_000)).unwrap();
    (3..=6).for_each(|number| bench.packet(2, number, number));
    bench.raw(3, &idle(b"SESSION001", 7, 0xffff)).unwrap();
    for number in 1..=4 {
        let again = retimed(packet(b"SESSION001", number, number), 39_600_000_000_000 + number);
        bench.raw(3_600_000 + number as i64, &again).unwrap();
    }
    let numbers: Vec<_> = (1..=6).chain(1..=4).collect();
    assert_eq!((bench.numbers(), bench.gaps()), (numbers, vec![]));
}

#[test]
fn another_session_is_believed_after_the_end_of_the_first_or_its_silence() {
    let mut bench = Bench::new();
    (1..=3).for_each(|number| bench.packet(0, number, number));
    assert!(bench.raw(1, &packet(b"SESSION002", 1, 1)).is_err());
    bench.packet(1, 4, 4);
    assert!(bench.raw(9_999, &packet(b"SESSION002", 1, 1)).is_err());
    // Three packets are believed, heartbeats among them, of either line; all of them count.
    bench.raw(10_001, &packet(b"SESSION002", 1, 2)).unwrap();
    bench.raw(10_001, &packet(b"SESSION002", 1, 2)).unwrap();
    bench.raw(10_002, &packet(b"SESSION002", 3, 3)).unwrap();
    assert_eq!(bench.numbers(), [1, 2, 3, 4]);
    bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
    bench.raw(10_003, &idle(b"SESSION002", 4, 0)).unwrap();
    bench.raw(10_004, &idle(b"SESSION002", 4, 0xffff)).unwrap();
    for number in 1..=3 {
        bench.raw(10_004 + number, &packet(b"SESSION003", number as u64, number as u64)).unwrap();
    }
    assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3, 4, 1, 2, 3, 1, 2, 3], vec![]));
    // What comes again of a session that is over is known, also of one before the last.
    bench.raw(10_010, &idle(b"SESSION002", 4, 0xffff)).unwrap();
    bench.raw(10_011, &idle(b"SESSION003", 4, 0xffff)).unwrap();
    for number in [1, 2, 3] {
        let again = packet(b"SESSION002", number, number);
        assert_eq!(bench.raw(10_012, &again).unwrap(), Rejected::NONE);
    }
    assert_eq!((bench.numbers().len(), bench.gaps()), (10, vec![]));
}

#[test]
fn a_session_that_began_unseen_is_known_by_its_heartbeats() {
    // All of it was sent while nothing was read: it is as missing as that of the first session.
    for pause in [1, 11_000] {
        let mut bench = Bench::new();
        (1..=4).for_each(|number| bench.packet(0, number, number));
        if pause == 1 {
            bench.raw(0, &idle(b"SESSION001", 5, 0xffff)).unwrap();
        }
        bench.raw(pause, &idle(b"OTHER00001", 9, 0)).unwrap();
        for second in 1..=3 {
            bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
            let told = bench.raw(pause + 1_000 * second, &idle(b"SESSION002", 8, 0)).unwrap();
            assert_eq!(told.count, u32::from(second == 1));
        }
        bench.raw(pause + 4_000, &idle(b"SESSION002", 8, 0)).unwrap();
        assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3, 4], vec![(1, 7)]));
        // What comes again of the first is known, and the second goes on.
        bench.raw(pause + 4_001, &packet(b"SESSION001", 4, 4)).unwrap();
        bench.raw(pause + 4_002, &packet(b"SESSION002", 8, 8)).unwrap();
        assert_eq!((bench.numbers().last(), bench.gaps().len()), (Some(&8), 1));
    }
    // While a session goes on, heartbeats of another say nothing.
    let mut bench = Bench::new();
    for number in 1..=4 {
        bench.packet(1_000 * number, number as u64, number as u64);
        assert!(bench.raw(1_000 * number, &idle(b"SESSION002", 8, 0)).is_err() || number == 1);
    }
    assert_eq!(bench.gaps(), []);
}

#[test]
fn a_packet_that_strays_here_begins_no_session() {
    // After the end of the session, and after its silence; then it goes on, or ends again.
    for pause in [1, 11_000] {
        let mut bench = Bench::new();
        (1..=4).for_each(|number| bench.packet(0, number, number));
        if pause == 1 {
            bench.raw(0, &idle(b"SESSION001", 5, 0xffff)).unwrap();
        }
        let stray = bench.raw(pause, &packet(b"OTHER00001", 1, 1)).unwrap();
        assert_eq!(stray, Rejected::NONE);
        assert!(bench.raw(pause, &idle(b"OTHER00002", 1, 0)).is_err());
        bench.raw(pause + 9_000, &idle(b"SESSION001", 5, 0)).unwrap();
        bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
        let told = bench.raw(pause + 9_001, &packet(b"SESSION001", 5, 5)).unwrap();
        assert_eq!(told, Rejected::one(DecodeReason::ImplausibleSequence, 0));
        assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3, 4, 5], vec![]));
    }
}

#[test]
fn a_name_that_comes_again_later_is_of_another_session() {
    // The adds of a number happen later in the second run; what came first comes again between.
    let mut bench = Bench::new();
    bench.packet(0, 1, 5);
    let mut second = Vec::new();
    for number in 1..=7 {
        let mut later = packet(b"SESSION001", number, number);
        later[20 + 2 + 7] += 1;
        second.push(later);
    }
    assert!(bench.raw(1, &second[0]).unwrap() != Rejected::NONE);
    // Its first packet begins with a message of an earlier time.
    let mut first = packet(b"SESSION001", 1, 2);
    first[20 + 38 + 2 + 7] += 1;
    second.splice(..2, [first]);
    bench.raw(2, &idle(b"SESSION001", 6, 0xffff)).unwrap();
    for later in &second[..3] {
        assert_eq!(bench.raw(3, later).unwrap(), Rejected::NONE);
        assert_eq!(bench.raw(4, &packet(b"SESSION001", 1, 1)).unwrap(), Rejected::NONE);
    }
    for later in &second[3..] {
        bench.raw(5, later).unwrap();
    }
    let numbers: Vec<_> = (1..=5).chain(1..=7).collect();
    assert_eq!((bench.numbers(), bench.gaps()), (numbers, vec![]));
}

#[test]
fn messages_that_are_wrong_are_told_where_they_came() {
    // Of a packet that waits: once, with the packet that holds them.
    let mut bench = Bench::new();
    bench.packet(0, 1, 1);
    let mut wrong = packet(b"SESSION001", 3, 4);
    wrong[22] = b'!';
    let expected = Rejected::one(DecodeReason::UnknownEvent, 22);
    assert_eq!(bench.raw(1, &wrong).unwrap(), expected);
    assert_eq!(bench.raw(2, &packet(b"SESSION001", 2, 2)).unwrap(), Rejected::NONE);
    assert_eq!(bench.numbers(), [1, 2, 4]);
    assert!(bench.raw(3, &packet(b"SESSION001", 0, 0)).is_err());
    assert!(bench.raw(3, &packet(b"SESSION001", 1 << 40, 1 << 40)).is_err());
}

#[test]
fn a_packet_far_ahead_that_others_contradict_silences_nothing() {
    // The session goes on where it was, with pauses, on both lines; then the recording ends.
    let mut bench = Bench::new();
    bench.packet(0, 1, 3);
    bench.packet(1, 5_000_000, 5_000_000);
    for ms in 2..50 {
        bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
        bench.packet(60 * ms, ms as u64 + 2, ms as u64 + 2);
    }
    let heartbeat = [&b"SESSION001"[..], &52_u64.to_be_bytes(), &[0, 0]].concat();
    for ms in 1..9 {
        bench.raw(3_000 + 90 * ms, &heartbeat).unwrap();
    }
    assert_eq!((bench.numbers(), bench.gaps()), ((1..=51).collect(), vec![]));
    let settled = bench.itch.settle(0, true, &mut bench.instruments, &mut bench.out);
    assert_eq!(settled.unwrap(), Rejected::one(DecodeReason::ImplausibleSequence, 10));
    assert_eq!((bench.numbers().len(), bench.gaps()), (51, vec![]));
}

#[test]
fn a_packet_far_ahead_of_a_quiet_session_waits_until_others_speak() {
    // Heartbeats come more seldom than packets wait; a stray one, then a real loss of as many.
    for settled in [150, 1_050] {
        let mut bench = Bench::new();
        bench.packet(0, 1, 3);
        bench.packet(1, 1_000_000, 1_000_000);
        let mut rejected = 0;
        for beat in 1..=8 {
            bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
            let found = bench.raw(settled * beat, &idle(b"SESSION001", 4, 0)).unwrap();
            let ts = MIDNIGHT + 36_000_000 * MS + (settled * beat + 120) * MS;
            let more = bench.itch.settle(ts, false, &mut bench.instruments, &mut bench.out);
            rejected += found.count + more.unwrap().count;
        }
        assert_eq!(rejected, 1);
        bench.packet(9 * settled, 4, 4);
        assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3, 4], vec![]));

        // Now the line is where it says it is: a packet, and the heartbeats behind it.
        let ms = 10 * settled;
        bench.packet(ms, 1_000_000, 1_000_000);
        for beat in 1..=3 {
            bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
            bench.raw(ms + settled * beat, &idle(b"SESSION001", 1_000_001, 0)).unwrap();
        }
        assert_eq!((bench.numbers().len(), bench.gaps()), (5, vec![(5, 999_999)]));
    }
    // Nothing else comes at all: it is passed on after a while, or when the recording ends.
    for (ms, is_over, expected) in [(9_000, false, 3), (10_100, false, 4), (9_000, true, 4)] {
        let mut bench = Bench::new();
        bench.packet(0, 1, 3);
        bench.packet(1, 1_000_000, 1_000_000);
        let ts = MIDNIGHT + 36_000_000 * MS + ms * MS;
        bench.itch.settle(ts, is_over, &mut bench.instruments, &mut bench.out).unwrap();
        assert_eq!(bench.numbers().len(), expected);
    }
}

#[test]
fn a_few_packets_of_another_session_before_the_first_keep_none_out() {
    // A heartbeat is outnumbered at once, a packet by three in a row.
    let heartbeat = [&b"SESSION002"[..], &77_u64.to_be_bytes(), &[0, 0]].concat();
    let mut bench = Bench::new();
    bench.raw(0, &heartbeat).unwrap();
    bench.packet(1, 1, 3);
    assert!(bench.raw(2, &heartbeat).is_err());
    assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3], vec![]));
    let mut bench = Bench::new();
    bench.raw(0, &packet(b"SESSION002", 1, 1)).unwrap();
    bench.packet(1, 1, 1);
    bench.packet(2, 2, 2);
    bench.packet(3, 3, 3);
    assert!(bench.raw(105, &packet(b"SESSION002", 2, 2)).is_err());
    assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 1, 2, 3], vec![]));
}

#[test]
fn a_session_is_of_the_day_of_its_first_messages() {
    const DAY: i64 = 86_400_000 * MS;
    let ts = |bench: &Bench| bench.out.iter().filter_map(|r| r.as_order()).last().unwrap();
    let mut bench = Bench::new();
    // Heartbeats before midnight; the next day its messages, and after the next its end again.
    bench.on_day(MIDNIGHT - DAY, MIDNIGHT - MS, &idle(b"SESSION001", 1, 0)).unwrap();
    for number in 1..=4 {
        bench.packet(number, number as u64, number as u64);
    }
    assert_eq!(ts(&bench).header.ts_event, MIDNIGHT + 36_000_000 * MS + 4);
    bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
    let next = MIDNIGHT + DAY;
    for after in 1..9 {
        bench.on_day(next, next + after * MS, &idle(b"SESSION001", 5, 0xffff)).unwrap();
        // One that comes again is no message of the new day: it would not have happened yet.
        bench.on_day(next, next + after * MS, &packet(b"SESSION001", 4, 4)).unwrap();
    }
    assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3, 4], vec![]));
    // The same name the next morning.
    for number in 1..=4 {
        let ts_recv = next + (36_000_001 + number) * MS;
        bench.on_day(next, ts_recv, &packet(b"SESSION001", number as u64, number as u64)).unwrap();
    }
    assert_eq!((bench.numbers(), bench.gaps()), (vec![1, 2, 3, 4, 1, 2, 3, 4], vec![]));
    assert_eq!(ts(&bench).header.ts_event, next + 36_000_000 * MS + 4);
}

#[test]
fn a_line_that_is_stuck_keeps_no_hole_open() {
    // It gives heartbeats of an old number, then of that of the hole; a lone packet is not alone
    // against them either.
    for (stuck, last) in [(2, 9), (4, 9), (2, 5)] {
        let mut bench = Bench::new();
        bench.packet(0, 1, 3);
        (5..=last).for_each(|number| bench.packet(1, number, number));
        for ms in 1..=15 {
            bench.raw(10 * ms, &idle(b"SESSION001", stuck, 0)).unwrap();
        }
        assert_eq!(bench.gaps(), [(4, 4)], "{stuck} {last}");
        assert_eq!(bench.numbers().last(), Some(&last));
    }
}

/// The same adds as packets of SoupBinTCP, with what carries no message before and between them.
fn soup(first: u64, last: u64) -> Vec<u8> {
    let mut bytes = b"\0\x1fASESSION001                   1\0\x01H".to_vec();
    let mut rest = &packet(b"SESSION001", first, last)[super::super::PACKET_HEADER..];
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (message, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        bytes.extend_from_slice(&(message.len() as u16 + 1).to_be_bytes());
        bytes.push(b'S');
        bytes.extend_from_slice(message);
        bytes.extend_from_slice(b"\0\x06+words");
        rest = after;
    }
    bytes
}

impl Bench {
    fn stream(&mut self, ms: i64, place: &str, body: &[u8]) -> Result<Rejected> {
        let ts_recv = MIDNIGHT + 36_000_000 * MS + ms * MS;
        let header = BlobHeader { kind: BlobKind::Binary as u8, ts_recv, ..BlobHeader::default() };
        let context = format!("moldudp64?hold_ms=100&midnight={MIDNIGHT}&soupbintcp={place}");
        let blob = Blob { header, context: context.as_bytes(), body };
        self.itch.receive(&blob, &mut self.instruments, &mut self.out)
    }
}

#[test]
fn a_stream_and_packets_are_lines_of_one_session() {
    // Packets with holes; the stream fills them, and repeats; a restart at each; then its end.
    let mut bench = Bench::new();
    bench.packet(0, 1, 2);
    bench.packet(1, 5, 6);
    bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
    assert_eq!(bench.stream(2, "SESSION001:1", &soup(1, 3)).unwrap(), Rejected::NONE);
    bench = Bench { out: std::mem::take(&mut bench.out), ..bench.restored() };
    assert_eq!(bench.numbers(), [1, 2, 3]);
    bench.stream(3, "SESSION001:4", &soup(4, 7)).unwrap();
    bench.packet(4, 7, 9);
    assert_eq!(bench.numbers(), (1..=9).collect::<Vec<_>>());
    bench.stream(5, "SESSION001:10", b"\0\x01Z").unwrap();
    bench.stream(6, "OTHER:1", &soup(1, 1)).unwrap();
    bench.stream(7, "OTHER:2", b"\0\x01H").unwrap();
    bench.stream(8, "OTHER:2", b"\0\x01H").unwrap();
    assert_eq!((bench.gaps(), bench.numbers().last()), (vec![], Some(&1)));
}

#[test]
fn what_is_no_stream_is_refused_and_changes_nothing() {
    let mut bench = Bench::new();
    bench.packet(0, 1, 2);
    bench.packet(1, 5, 6);
    let whole = soup(3, 4);
    let broken = [(&b"\0"[..], 0), (b"\0\x02H", 0), (b"\0\x01H\0\x02x", 3)];
    for (body, at) in broken {
        let error = bench.stream(2, "SESSION001:3", body).unwrap_err();
        assert_eq!(error.of_frame().map(|(_, byte)| byte), Some(at), "{body:?}");
    }
    for place in ["SESSION001", "SESSION001:", "SESSION001:x", "A_LONGER_ONE:3", "SESSION001:-1"] {
        assert!(bench.stream(2, place, &whole).is_err(), "{place}");
    }
    for length in 1..whole.len() {
        // A stream that is cut anywhere gives an error, or what is before the cut.
        let mut copy = Bench { out: Records::new(), ..bench.restored() };
        let _ = copy.stream(2, "SESSION001:3", &whole[..length]);
        assert!(copy.numbers().iter().all(|number| (3..=6).contains(number)));
    }
    bench.stream(3, "SESSION001:3", &whole).unwrap();
    assert_eq!((bench.numbers(), bench.gaps()), ((1..=6).collect(), vec![]));
}
