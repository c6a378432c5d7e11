//! Replays of single orders that go on from a checkpoint, against those from the first event on.

use tapeworks_core::book::OrderReplay;
use tapeworks_core::record::{
    Header, Order, OrderAction, Records, Side, Status, FLAG_MAYBE_BAD, NONE,
};

const SECOND: i64 = 1_000_000_000;
const KEY: [u8; 32] = [7; 32];

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_nanos() as u64 | 1
}

/// A day of one instrument: orders at few prices, events that do not fit, wrong times, runs of late
/// ones, receipts out of order, statuses, and numbers that begin anew.
fn day(random: &mut Random, count: usize) -> Vec<Records> {
    let (mut open, mut events) = (Vec::new(), Vec::new());
    let (mut clock, mut number, mut late) = (1_000 * SECOND, 0, 0);
    for id in 1..=count as u64 {
        clock += random.below(SECOND as u64) as i64;
        number = if random.below(700) == 0 { 1 } else { number + 1 + random.below(2) };
        if random.below(200) == 0 {
            late = random.below(90) as i64 * SECOND;
        }
        let mut ts_event = clock;
        if random.below(25) == 0 {
            ts_event += (random.below(4_000) as i64 - 1_000) * SECOND;
        }
        let ts_recv = clock + late + random.below(3 * SECOND as u64) as i64;
        let flags = if random.below(50) == 0 { FLAG_MAYBE_BAD } else { 0 };
        let header =
            |header: Header| Header { ts_event, ts_recv, sequence: number, flags, ..header };
        let mut batch = Records::new();
        if random.below(40) == 0 {
            batch.push(&Status {
                header: header(Header::of::<Status>()),
                price_low: NONE,
                price_high: NONE,
                reason: [0; 8],
                status: 1,
                reserved: [0; 7],
            });
            events.push(batch);
            continue;
        }
        let known = open.get(random.below(1 + open.len() as u64) as usize).copied();
        let (action, order_id) = match (random.below(10), known) {
            (0, Some(known)) => (OrderAction::Execute, known),
            (1, Some(known)) => (OrderAction::Cancel, known),
            (2, Some(known)) => (OrderAction::Modify, known),
            (3, Some(known)) => (OrderAction::Delete, known),
            (4, Some(_)) => (OrderAction::Replace, id),
            (5, _) => (OrderAction::Delete, id),
            _ => (OrderAction::Add, id),
        };
        if matches!(action, OrderAction::Add | OrderAction::Replace) {
            open.push(order_id);
        }
        batch.push(&Order {
            header: header(Header::of::<Order>()),
            price: 100 + random.below(8) as i64,
            size: 1 + random.below(20) as i64,
            order_id,
            previous_id: known.unwrap_or(0),
            match_id: 0,
            order_price: NONE,
            remaining: NONE,
            participant: [0; 8],
            action: action as u8,
            side: 1 + random.below(2) as u8,
            cross: 0,
            printed: 0,
            reserved: [0; 28],
        });
        events.push(batch);
    }
    events
}

/// All that a replay answers.
fn answers(replay: &OrderReplay) -> String {
    let sides = [Side::Bid, Side::Ask].map(|side| replay.orders(side).collect::<Vec<_>>());
    let places: Vec<_> = sides.iter().flatten().map(|one| replay.place(one.id)).collect();
    let told = (replay.last(), replay.events(), replay.suspect(), replay.doubts(), replay.lag());
    let limits = (replay.complete_from(), replay.received(), replay.len());
    format!("{told:?} {limits:?} {sides:?} {places:?} {:x}", replay.levels().checksum())
}

/// Takes in events up to the one that ends it; says whether more may follow.
fn run(replay: &mut OrderReplay, events: &[Records], until: Option<i64>, before: i64) -> bool {
    events.iter().all(|batch| replay.apply(batch.iter(), until, Some(before)))
}

#[test]
fn a_replay_from_a_checkpoint_answers_as_one_from_the_start() {
    let mut random = Random(seed());
    let (mut used, mut refused, mut unsaved) = (0, 0, 0);
    for _ in 0..30 {
        let seed = random.0;
        let events = day(&mut random, 1_500);
        let end = 1_000 + events.len() as u64 / 2;
        for _ in 0..20 {
            let until = (1_000 + random.below(end)) as i64 * SECOND;
            let until = (random.below(4) != 0).then_some(until);
            let before = (1_000 + random.below(2 * end)) as i64 * SECOND;
            let at = random.below(events.len() as u64) as usize;
            let told = format!("seed {seed}, until {until:?}, before {before}, at {at}");
            let mut whole = OrderReplay::default();
            let goes_on = run(&mut whole, &events, until, before);
            // It may be made by whoever asks for a later instant, or for none.
            let later = until.map(|until| until + random.below(2_000) as i64 * SECOND);
            let mut maker = OrderReplay::default();
            let maker_until = if random.below(2) == 0 { later } else { None };
            let maker_before = if random.below(2) == 0 { before } else { i64::MAX };
            if !run(&mut maker, &events[..at], maker_until, maker_before) {
                continue;
            }
            let Some(saved) = maker.save(&KEY, at as u64) else {
                unsaved += 1;
                continue;
            };
            // What is saved is the same, whoever made it.
            let mut plain = OrderReplay::default();
            assert!(run(&mut plain, &events[..at], None, i64::MAX));
            assert_eq!(plain.save(&KEY, at as u64).as_ref(), Some(&saved), "{told}");
            let Some(mut replay) = OrderReplay::restore(&saved, &KEY, at as u64, until, before)
            else {
                // A replay would not have been here with all of it.
                let mut to_here = OrderReplay::default();
                let passes = run(&mut to_here, &events[..at], until, before);
                assert!(!passes || to_here.save(&KEY, at as u64).is_none(), "{told}");
                refused += 1;
                continue;
            };
            assert_eq!(run(&mut replay, &events[at..], until, before), goes_on, "{told}");
            assert_eq!(answers(&replay), answers(&whole), "{told}");
            used += 1;
        }
    }
    println!("{used} used, {refused} refused, {unsaved} not saved");
    assert!(used > 50 && refused > 50 && unsaved > 10, "{used}, {refused}, {unsaved}");
}

#[test]
fn a_replay_that_may_have_held_too_many_events_uses_no_checkpoint() {
    // By turns of a later and of an earlier time, after one of a later time: the replay of a time
    // between holds them, and ends; a checkpoint behind them is no part of it.
    let order = |id: u64, ts_event: i64| Order {
        header: Header { ts_event, ts_recv: 900, sequence: id, ..Header::of::<Order>() },
        price: 100,
        size: 1,
        order_id: id,
        previous_id: 0,
        match_id: 0,
        order_price: NONE,
        remaining: NONE,
        participant: [0; 8],
        action: OrderAction::Add as u8,
        side: Side::Bid as u8,
        cross: 0,
        printed: 0,
        reserved: [0; 28],
    };
    let mut batch = Records::new();
    batch.push(&order(1, 500));
    (0..70_000).for_each(|at| batch.push(&order(2 + at, if at % 2 == 0 { 500 } else { 100 })));
    (0..2).for_each(|at| batch.push(&order(90_000 + at, 100)));
    let mut replay = OrderReplay::default();
    assert!(!replay.apply(batch.iter(), Some(300), None));
    let mut maker = OrderReplay::default();
    assert!(maker.apply(batch.iter(), None, None));
    let saved = maker.save(&KEY, 9).unwrap();
    let restored = |until| OrderReplay::restore(&saved, &KEY, 9, Some(until), 1_000);
    assert!(restored(300).is_none());
    assert_eq!(restored(500).unwrap().events(), maker.events());
}

#[test]
fn a_checkpoint_that_is_not_whole_or_another_one_is_refused() {
    let mut random = Random(seed());
    let mut replay = OrderReplay::default();
    assert!(run(&mut replay, &day(&mut random, 60), None, i64::MAX));
    let saved = replay.save(&KEY, 60).unwrap();
    let restore = |bytes: &[u8], key: &[u8; 32], offset| {
        OrderReplay::restore(bytes, key, offset, None, i64::MAX)
    };
    assert_eq!(answers(&restore(&saved, &KEY, 60).unwrap()), answers(&replay));
    assert!(restore(&saved, &[8; 32], 60).is_none() && restore(&saved, &KEY, 61).is_none());
    for at in 0..saved.len() {
        assert!(restore(&saved[..at], &KEY, 60).is_none(), "cut at {at}");
        let mut flipped = saved.clone();
        flipped[at] ^= 1 << random.below(8);
        assert!(restore(&flipped, &KEY, 60).is_none(), "byte {at}");
    }
    let longer = [saved.as_slice(), &[0; 32]].concat();
    assert!(restore(&longer, &KEY, 60).is_none());
}
