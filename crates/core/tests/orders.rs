//! Books of single orders against plain lists of orders, event by event.

use std::collections::BTreeMap;

use tapeworks_core::book::{Applied, L2Book, OpenOrder, OrderBooks, QueuePlace};
use tapeworks_core::record::{Header, Order, OrderAction, Side, NONE};

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn event(
    action: OrderAction,
    instrument: u32,
    id: u64,
    side: Side,
    price: i64,
    size: i64,
) -> Order {
    Order {
        header: Header { instrument, ts_event: id as i64, ..Header::of::<Order>() },
        price,
        size,
        order_id: id,
        previous_id: 0,
        match_id: 0,
        order_price: NONE,
        remaining: NONE,
        participant: [0; 8],
        action: action as u8,
        side: side as u8,
        cross: 0,
        printed: 0,
        reserved: [0; 28],
    }
}

/// Orders of one instrument in the order of their priority, side by side.
#[derive(Default)]
struct Plain(Vec<OpenOrder>);

impl Plain {
    fn take(&mut self, id: u64, size: i64) {
        let at = self.0.iter().position(|order| order.id == id).unwrap();
        self.0[at].size -= size;
        if self.0[at].size <= 0 {
            self.0.remove(at);
        }
    }

    fn side(&self, side: Side) -> Vec<OpenOrder> {
        let mut all: Vec<_> = self.0.iter().copied().filter(|one| one.side == side).collect();
        all.sort_by_key(|one| if side == Side::Bid { -one.price } else { one.price });
        all
    }
}

/// Compares the book of `instrument` with a plain list: orders, levels, the place of the last.
fn compare(books: &OrderBooks, instrument: u32, plain: &Plain, told: &str) {
    let mut levels = L2Book::new();
    for side in [Side::Bid, Side::Ask] {
        let expected = plain.side(side);
        let found: Vec<_> = books.orders(instrument, side).collect();
        assert_eq!(found, expected, "{told}");
        let mut sizes = BTreeMap::new();
        expected.iter().for_each(|one| *sizes.entry(one.price).or_insert(0) += one.size);
        sizes.iter().for_each(|(&price, &size)| levels.set(side, price, size));
        let Some(last) = expected.last() else { continue };
        let ahead: Vec<_> = expected.iter().filter(|one| one.price == last.price).collect();
        let place = QueuePlace {
            orders_ahead: ahead.len() as u32 - 1,
            size_ahead: ahead.iter().map(|one| one.size).sum::<i64>() - last.size,
        };
        assert_eq!((books.place(last.id), books.get(last.id)), (Some(place), Some(*last)));
        assert_eq!(books.count_at(instrument, side, last.price) as usize, ahead.len());
    }
    if let Some(found) = books.by_price(instrument) {
        assert_eq!(found, levels, "{told}");
    }
}

/// One step of a test: what it would add, and which of the actions it is.
struct Drawn {
    instrument: u32,
    id: u64,
    side: Side,
    price: i64,
    size: i64,
    kind: u64,
}

/// Does one step to the books and to the plain list of an instrument; `some` is one of its orders.
fn step_both(
    books: &mut OrderBooks,
    plain: &mut Plain,
    some: Option<OpenOrder>,
    drawn: &Drawn,
) -> Applied {
    let Drawn { instrument, id, side, price, size, kind } = *drawn;
    match (some, kind) {
        (Some(old), 0) => {
            plain.take(old.id, size);
            let action = if size % 2 == 0 { OrderAction::Cancel } else { OrderAction::Execute };
            let applied = books.apply(&event(action, instrument, old.id, old.side, 0, size));
            let expected = if size > old.size { Applied::Excess } else { Applied::Changed };
            assert_eq!(applied, expected);
            Applied::Changed
        }
        (Some(old), 1 | 2) => {
            plain.take(old.id, old.size);
            books.apply(&event(OrderAction::Delete, instrument, old.id, old.side, 0, 0))
        }
        (Some(old), 3) => {
            plain.take(old.id, old.size);
            plain.0.push(OpenOrder { id, price, size, ts_event: id as i64, side: old.side });
            let mut replace = event(OrderAction::Replace, instrument, id, Side::None, price, size);
            replace.previous_id = old.id;
            books.apply(&replace)
        }
        (Some(old), 4) => {
            let place = plain.0.iter().position(|one| one.id == old.id).unwrap();
            let same = size % 2 == 0;
            let price = if same { old.price } else { price };
            if price == old.price && size <= old.size {
                plain.0[place].size = size;
            } else {
                plain.0.remove(place);
                let ts_event = old.id as i64;
                plain.0.push(OpenOrder { price, size, ts_event, ..old });
            }
            books.apply(&event(OrderAction::Modify, instrument, old.id, Side::None, price, size))
        }
        _ => {
            plain.0.push(OpenOrder { id, price, size, ts_event: id as i64, side });
            books.apply(&event(OrderAction::Add, instrument, id, side, price, size))
        }
    }
}

#[test]
fn books_of_orders_are_those_of_plain_lists() {
    // Three instruments, all actions, ids in turn and at random; after every step one book is
    // compared whole: its orders in their order, its levels, the place of one of its orders.
    for seed in 1..=8 {
        let mut random = Random(seed * 7919);
        let mut books = OrderBooks::new();
        let mut plain = [Plain::default(), Plain::default(), Plain::default()];
        for step in 1..=3_000_u64 {
            let at = random.below(3) as usize;
            let instrument = at as u32 + 1;
            let count = plain[at].0.len() as u64;
            let id = if step % 3 == 0 { step << 40 } else { step };
            let side = if random.below(2) == 0 { Side::Bid } else { Side::Ask };
            let price = 100_000 * (1_000 + random.below(40) as i64) - i64::from(side as u8);
            let size = 1 + random.below(9) as i64;
            let some = (count > 0).then(|| plain[at].0[random.below(count) as usize]);
            let drawn = Drawn { instrument, id, side, price, size, kind: random.below(8) };
            let applied = step_both(&mut books, &mut plain[at], some, &drawn);
            assert_eq!(applied, Applied::Changed, "seed {seed}, step {step}");
            compare(&books, instrument, &plain[at], &format!("seed {seed}, step {step}"));
            assert_eq!(books.len(), plain.iter().map(|one| one.0.len()).sum::<usize>());
        }
        assert_eq!(books.instruments().collect::<Vec<_>>(), [1, 2, 3]);
    }
}

#[test]
fn sizes_beyond_all_bounds_are_refused_and_told() {
    // Two orders at a price whose sizes together are no number: the second is not taken in, by
    // whatever action it comes, and what goes leaves a level that holds the rest.
    let mut books = OrderBooks::new();
    let huge = i64::MAX - 1;
    let of = |action, id, price, size| event(action, 1, id, Side::Bid, price, size);
    assert_eq!(books.apply(&of(OrderAction::Add, 1, 100, huge)), Applied::Changed);
    assert_eq!(books.apply(&of(OrderAction::Add, 2, 100, 1)), Applied::Changed);
    assert_eq!(books.apply(&of(OrderAction::Add, 3, 100, 2)), Applied::DoesNotFit);
    assert_eq!(books.apply(&of(OrderAction::Add, 4, 99, 2)), Applied::Changed);
    assert_eq!(books.apply(&of(OrderAction::Modify, 4, 100, 2)), Applied::DoesNotFit);
    assert_eq!((books.len(), books.doubts().unfit), (2, 2));
    assert_eq!(books.place(2), Some(QueuePlace { orders_ahead: 1, size_ahead: huge }));
    assert_eq!(books.apply(&of(OrderAction::Delete, 1, 100, 0)), Applied::Changed);
    assert_eq!(books.by_price(1).unwrap().size_at(Side::Bid, 100), 1);

    // What does not tell its size, or its price, changes nothing.
    for (price, size) in [(100, NONE), (NONE, 1)] {
        assert_eq!(books.apply(&of(OrderAction::Modify, 2, price, size)), Applied::Unknown);
        assert_eq!(books.apply(&of(OrderAction::Add, 9, price, size)), Applied::Unknown);
    }
    assert_eq!((books.len(), books.get(2).unwrap().size), (1, 1));
}

#[test]
fn what_cannot_be_is_counted_and_leaves_a_sound_book() {
    // Orders that are not there, are there already, or have no side.
    let mut books = OrderBooks::new();
    let add = |id, size| event(OrderAction::Add, 1, id, Side::Bid, 100, size);
    assert_eq!(books.apply(&add(1, 5)), Applied::Changed);
    assert_eq!(books.apply(&add(1, 7)), Applied::Repeated);
    for action in [OrderAction::Cancel, OrderAction::Execute, OrderAction::Delete] {
        assert_eq!(books.apply(&event(action, 1, 9, Side::Bid, 100, 1)), Applied::Unknown);
    }
    assert_eq!(books.apply(&event(OrderAction::Modify, 1, 9, Side::Bid, 1, 1)), Applied::Unknown);
    let nobody = event(OrderAction::Add, 1, 2, Side::None, 100, 1);
    assert_eq!(books.apply(&nobody), Applied::Unknown);
    let replace = event(OrderAction::Replace, 1, 3, Side::Ask, 200, 4);
    assert_eq!(books.apply(&replace), Applied::Unknown);
    assert_eq!(
        books.apply(&event(OrderAction::Cross, 1, 0, Side::None, 1, 1)),
        Applied::Unconcerned
    );
    assert_eq!(books.len(), 2);
    assert_eq!(books.by_price(1).unwrap().size_at(Side::Bid, 100), 7);
    assert_eq!(books.apply(&event(OrderAction::Execute, 1, 1, Side::Bid, 100, 8)), Applied::Excess);
    assert!(books.levels(1, Side::Bid).next().is_none());
    let doubts = books.doubts();
    assert_eq!((doubts.unknown, doubts.excess, doubts.repeated), (6, 1, 1));
    assert_eq!((books.get(1), books.place(1)), (None, None));
    assert!(books.by_price(2).is_none() && books.orders(2, Side::Bid).next().is_none());
}

#[test]
fn batch_does_what_its_events_do_one_by_one() {
    // Events of all actions on few ids, so that many name orders that are gone, there already or
    // added within the same batch, in batches of every length around the look-ahead; once in a
    // while an instrument of which there is no book yet.
    let actions = [1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 9];
    for seed in 1..=40 {
        let mut random = Random(seed * 104_729);
        let (mut single, mut batch) = (OrderBooks::new(), OrderBooks::new());
        for length in 0..40 {
            let events: Vec<_> = (0..length)
                .map(|_| {
                    let action = actions[random.below(actions.len() as u64) as usize];
                    let action = OrderAction::try_from(action).unwrap();
                    let side = if random.below(2) == 0 { Side::Bid } else { Side::Ask };
                    let instrument = 1 + (random.below(10) * random.below(10)) as u32;
                    let price = 100_000 * random.below(200) as i64;
                    let size = random.below(5) as i64;
                    let mut one = event(action, instrument, random.below(30), side, price, size);
                    one.previous_id = random.below(30);
                    one.order_price = if random.below(2) == 0 { price } else { NONE };
                    one
                })
                .collect();
            let expected: Vec<_> = events.iter().map(|event| single.apply(event)).collect();
            let (mut found, mut seen) = (Vec::new(), Vec::new());
            batch.apply_all(events.iter(), |event, applied| {
                seen.push(*event);
                found.push(applied);
            });
            assert_eq!((found, seen), (expected, events), "seed {seed}, length {length}");
            assert_eq!(batch.doubts(), single.doubts());
            for instrument in 0..90 {
                let all = |books: &OrderBooks| -> Vec<_> {
                    let sides = [Side::Bid, Side::Ask].into_iter();
                    sides
                        .flat_map(|side| books.orders(instrument, side).collect::<Vec<_>>())
                        .collect()
                };
                assert_eq!(all(&batch), all(&single), "seed {seed}, length {length}");
                assert_eq!(batch.by_price(instrument), single.by_price(instrument));
            }
        }
    }
}
