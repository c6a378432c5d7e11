use super::*;
use crate::record::{unpadded, Cross, Imbalance, Kind, Order, Side, Trade, FLAG_MAYBE_BAD};

/// Midnight of 2023-08-22 in New York.
const MIDNIGHT: i64 = 1_692_676_800_000_000_000;
const DOLLAR: i64 = 1_000_000_000;
const SHARE: i64 = 100_000_000;
const DAY: &str = include_str!("captures/day.hex");

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a digit") as u8;
    text.trim().as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn day() -> Vec<Vec<u8>> {
    DAY.lines().filter(|line| !line.starts_with('#')).map(unhex).collect()
}

fn blocks<'a>(messages: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let block = |m: &Vec<u8>| [&(m.len() as u16).to_be_bytes()[..], m].concat();
    messages.into_iter().flat_map(block).collect()
}

struct Bench {
    itch: Itch,
    instruments: Instruments,
    out: Records,
}

impl Bench {
    fn new() -> Self {
        Self { itch: Itch::new(FeedId::Itch), instruments: Instruments::new(), out: Records::new() }
    }

    fn blob(&mut self, context: &str, body: &[u8]) -> Result<Rejected> {
        let header = crate::record::blob::BlobHeader {
            kind: BlobKind::Binary as u8,
            ts_recv: MIDNIGHT + 86_400_000_000_000,
            ..Default::default()
        };
        let blob = Blob { header, context: context.as_bytes(), body };
        self.itch.receive(&blob, &mut self.instruments, &mut self.out)
    }

    fn file(&mut self, sequence: u64, body: &[u8]) -> Result<Rejected> {
        self.blob(&format!("file?name=x&midnight={MIDNIGHT}&sequence={sequence}"), body)
    }

    fn packet(&mut self, sequence: u64, messages: &[Vec<u8>]) -> Result<Rejected> {
        let body = packet(b"000012345A", sequence, messages);
        self.blob(&format!("moldudp64?midnight={MIDNIGHT}"), &body)
    }

    fn orders(&self) -> Vec<Order> {
        self.out.iter().filter_map(|record| record.as_order()).collect()
    }

    fn trades(&self) -> Vec<Trade> {
        self.out.iter().filter_map(|record| record.as_trade()).collect()
    }

    fn gaps(&self) -> Vec<(u64, u64)> {
        let markers = self.out.iter().filter_map(|record| record.as_marker());
        markers.map(|gap| (gap.first, gap.last)).collect()
    }
}

fn packet(session: &[u8; 10], sequence: u64, messages: &[Vec<u8>]) -> Vec<u8> {
    let count = messages.len() as u16;
    [&session[..], &sequence.to_be_bytes(), &count.to_be_bytes(), &blocks(messages)].concat()
}

#[test]
fn every_message_of_a_day_gives_what_it_says() {
    // All 23 types, each once or more: the events of orders, in the words of the record.
    let mut bench = Bench::new();
    assert_eq!(bench.file(1, &blocks(&day())).unwrap(), Rejected::NONE);
    let told: Vec<_> = bench
        .orders()
        .iter()
        .map(|o| {
            let price = if o.price == NONE { -1 } else { o.price * 100 / DOLLAR };
            let size = if o.size == NONE { -1 } else { o.size / SHARE };
            (o.action, o.side, o.order_id, price, size)
        })
        .collect();
    let [add, cancel, execute, replace, delete, at_price, hidden, cross, void] =
        [1, 3, 4, 5, 6, 7, 8, 9, 10];
    let expected = [
        (add, 1, 1001, 1000, 500),
        (add, 2, 1005, 1005, 300),
        (execute, 1, 1001, 1000, 200),
        (cancel, 1, 1001, 1000, 100),
        (replace, 1, 1009, 999, 400),
        (at_price, 2, 1005, 1004, 100),
        (delete, 1, 1009, 999, 400),
        (hidden, 0, 0, 1004, 50),
        (cross, 0, 0, 1010, 12_345),
        (void, 0, 0, -1, -1),
        (add, 2, u64::MAX, 20_000_000, 1_000_000),
    ];
    assert_eq!(told, expected);
    let orders = bench.orders();
    assert_eq!(unpadded(&orders[1].participant), "ABCD");
    assert_eq!((orders[4].previous_id, orders[4].order_price), (1001, 10 * DOLLAR));
    let left: Vec<_> = orders[..7].iter().map(|order| order.remaining / SHARE).collect();
    assert_eq!(left, [500, 300, 300, 200, 400, 200, 0]);
    assert_eq!(orders[5].order_price, 1005 * DOLLAR / 100);
    assert!(orders.iter().all(|order| order.header.flags & FLAG_MAYBE_BAD == 0));

    // Volume is that of the page it comes from: 12,695 before the print is declared void.
    let trades = bench.trades();
    assert_eq!(trades.iter().map(|trade| trade.size / SHARE).sum::<i64>(), 12_695);
    let told: Vec<_> = trades
        .iter()
        .map(|t| (t.trade_id, t.side, t.conditions, t.price * 1000 / DOLLAR))
        .collect();
    assert_eq!(
        told,
        [
            (50_001, Side::Ask as u8, [0, 0], 10_000),
            (50_002, Side::Bid as u8, [4, 0], 10_040),
            (50_003, 0, [1, 0], 10_045),
            (50_010, 0, [2, 2], 10_100),
        ]
    );
    let void = bench.out.iter().find_map(|record| record.as_correction()).unwrap();
    assert_eq!((void.trade_id, void.action), (50_003, 1));
    let states: Vec<_> = bench.out.iter().filter_map(|record| record.as_status()).collect();
    let told: Vec<_> = states.iter().map(|s| (s.status, unpadded(&s.reason))).collect();
    assert_eq!(told, [(2, "LUDP"), (2, "COLLAR"), (2, "OP-Q")]);
    assert_eq!((states[1].price_low, states[1].price_high), (95 * DOLLAR / 10, 105 * DOLLAR / 10));
    let test = bench.instruments.get(1).unwrap();
    assert_eq!((unpadded(&test.symbol), unpadded(&test.currency)), ("TEST", "USD"));
    assert_eq!(bench.itch.open_orders(), 2);
    assert_eq!(orders[0].header.ts_event, MIDNIGHT + 34_201_000_000_000);
    assert!(orders.iter().all(|order| order.header.ts_recv >= order.header.ts_event));
}

#[test]
fn what_is_encoded_is_received_back() {
    // Records of a day to messages and back: the same records, but for numbers of messages.
    let mut bench = Bench::new();
    bench.file(1, &blocks(&day())).unwrap();
    let mut first = Bench::new();
    let start = blocks(&day()[..2]);
    first.file(1, &start).unwrap();
    let mut wire = Vec::new();
    let kinds = [Kind::Order as u8, Kind::Imbalance as u8];
    for record in bench.out.iter().filter(|r| kinds.contains(&r.kind())) {
        let mut event = Records::new();
        event.push_ref(record);
        bench.itch.encode(&event, &bench.instruments, false, &mut wire).unwrap();
    }
    // The locate of what was encoded is the instrument's id.
    first.itch.stocks[1].instrument = 1;
    let mut again = first;
    again.file(3, &wire).unwrap();
    let plain = |mut order: Order| {
        order.header.sequence = 0;
        order.header.ts_recv = 0;
        order
    };
    let told = |bench: &Bench| bench.orders().into_iter().map(plain).collect::<Vec<_>>();
    let of_test = |orders: Vec<Order>| {
        orders.into_iter().filter(|order| order.header.instrument == 1).collect::<Vec<_>>()
    };
    assert_eq!(of_test(told(&again)), of_test(told(&bench)));
    let auction = |bench: &Bench| {
        let told = bench.out.iter().find_map(|record| record.as_imbalance()).unwrap();
        Imbalance { header: Default::default(), ..told }
    };
    assert_eq!(auction(&again), auction(&bench));
}

#[test]
fn imbalances_tell_what_an_auction_would_do() {
    let mut bench = Bench::new();
    bench.file(1, &blocks(&day())).unwrap();
    let auctions: Vec<_> = bench.out.iter().filter_map(|record| record.as_imbalance()).collect();
    let [auction] = auctions[..] else { panic!("{auctions:?}") };
    assert_eq!((auction.paired_size, auction.imbalance_size), (10_000 * SHARE, 2_500 * SHARE));
    assert_eq!((auction.side, auction.cross, auction.state), (1, Cross::Closing as u8, 0));
    let prices = [auction.far_price, auction.near_price, auction.reference_price];
    assert_eq!(prices.map(|price| price * 10_000 / DOLLAR), [101_500, 101_200, 101_000]);
    assert_eq!(unpadded(&auction.code), "CBL");
}

#[test]
fn imbalances_without_prices_or_with_absurd_sizes() {
    // No price can be told, there are too few orders, a pause; and sizes that are no sizes.
    let message = day().into_iter().find(|message| message[0] == b'I').unwrap();
    let mut bench = Bench::new();
    bench.file(1, &blocks(&day()[..2])).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = message.clone();
        change(&mut message);
        message
    };
    let told = [
        changed(&|m| m[36..48].fill(0)),
        changed(&|m| m[27] = b'O'),
        changed(&|m| (m[27], m[49]) = (b'P', b' ')),
        changed(&|m| m[27] = b'S'),
    ];
    assert_eq!(bench.file(3, &blocks(&told)).unwrap(), Rejected::NONE);
    let told: Vec<_> = bench.out.iter().filter_map(|record| record.as_imbalance()).collect();
    let prices = [told[0].far_price, told[0].near_price, told[0].reference_price];
    assert_eq!(prices, [NONE; 3]);
    let said: Vec<_> = told.iter().map(|told| (told.side, told.state)).collect();
    assert_eq!(said, [(1, 0), (0, 1), (0, 2), (2, 0)]);
    assert_eq!(unpadded(&told[2].code), "CP");
    for at in [11, 19] {
        let bad = changed(&|m| m[at] = 0x80);
        assert_eq!(bench.file(0, &blocks([&bad])).unwrap().count, 1);
    }
}

#[test]
fn copies_are_dropped_and_what_is_missing_is_a_gap() {
    // Packets of one message: in turn, again, one lost, then all that were behind it.
    let day = day();
    let orders: Vec<Vec<u8>> =
        day.iter().filter(|m| b"SRAFEXUCD".contains(&m[0]) && m[1] == 0).cloned().collect();
    let mut whole = Bench::new();
    for (at, message) in orders.iter().enumerate() {
        let sequence = at as u64 + 1;
        whole.packet(sequence, std::slice::from_ref(message)).unwrap();
        // A copy by another line, and one of a larger packet.
        whole.packet(sequence, std::slice::from_ref(message)).unwrap();
        whole.packet(1, &orders[..=at]).unwrap();
    }
    let mut once = Bench::new();
    once.packet(1, &orders).unwrap();
    let ids = |bench: &Bench| {
        bench.orders().iter().map(|order| (order.header.sequence, *order)).collect::<Vec<_>>()
    };
    assert_eq!(ids(&whole), ids(&once));
    assert_eq!(whole.gaps(), []);

    let mut cut = Bench::new();
    cut.packet(1, &orders[..2]).unwrap();
    cut.packet(4, &orders[3..]).unwrap();
    assert_eq!(cut.gaps(), [(3, 3)]);
    assert!(cut.orders().iter().all(|order| order.header.flags & FLAG_MAYBE_BAD != 0));
    // A heartbeat tells of what is missing at the end.
    cut.packet(orders.len() as u64 + 10, &[]).unwrap();
    let end = orders.len() as u64;
    assert_eq!(cut.gaps(), [(3, 3), (end + 1, end + 9)]);

    // What is later than all that came is no copy; numbers out of reach move nothing.
    let mut late = orders[3].clone();
    late[5..11].copy_from_slice(&34_300_000_000_000_u64.to_be_bytes()[2..]);
    assert!(cut.packet(2, std::slice::from_ref(&late)).is_err());
    assert!(cut.packet(u64::MAX - 1, std::slice::from_ref(&late)).is_err());
    assert!(cut.packet(1 << 40, std::slice::from_ref(&late)).is_err());
    cut.packet(end + 10, std::slice::from_ref(&late)).unwrap();
    assert_eq!(cut.gaps().len(), 2);
}

#[test]
fn an_order_without_shares_is_none_and_takes_the_place_of_one_of_its_id() {
    // By the message that adds, and by the one that replaces: flagged where one was open.
    let order = |id: u64, shares: u32| {
        let (id, shares) = (id.to_be_bytes(), shares.to_be_bytes());
        let price = 100_000_u32.to_be_bytes();
        let parts: [(usize, &[u8]); 5] =
            [(11, &id), (19, b"B"), (20, &shares), (24, b"TEST    "), (32, &price)];
        message(b'A', &parts)
    };
    let replace = |old: u64, new: u64, shares: u32| {
        let (old, new, shares) = (old.to_be_bytes(), new.to_be_bytes(), shares.to_be_bytes());
        message(b'U', &[(11, &old), (19, &new), (27, &shares)])
    };
    let messages = [
        day()[0].clone(),
        order(1, 100),
        order(2, 100),
        order(3, 100),
        order(9, 0),
        order(1, 0),
        replace(2, 3, 0),
    ];
    let mut bench = Bench::new();
    bench.file(1, &blocks(&messages)).unwrap();
    let doubtful: Vec<_> =
        bench.orders().iter().map(|one| one.header.flags & FLAG_MAYBE_BAD != 0).collect();
    assert_eq!(doubtful, [false, false, false, false, true, true]);
    assert_eq!(bench.itch.open_orders(), 0);
}

#[test]
fn a_packet_of_an_unknown_type_takes_nothing_with_it() {
    let good = day().into_iter().find(|message| message[0] == b'A').unwrap();
    let data = [&((good.len() + 1) as u16).to_be_bytes()[..], b"S", &good].concat();
    for unknown in [&b"\0\x03?ab"[..], b"\0\0"] {
        let mut bench = Bench::new();
        let context = format!("moldudp64?hold_ms=5&midnight={MIDNIGHT}&soupbintcp=000012345A:1");
        let body = [&data[..], unknown, &data, b"\0\x01H"].concat();
        let found = bench.blob(&context, &body).unwrap();
        let place = Rejected::one(DecodeReason::UnknownEvent, data.len());
        assert_eq!(found, place, "{unknown:?}");
        assert_eq!(bench.orders().len(), 2, "{unknown:?}");
        assert!(bench.gaps().is_empty());
    }
}

#[test]
fn what_is_wrong_is_rejected_with_its_place_and_takes_nothing_with_it() {
    let good = day().into_iter().find(|message| message[0] == b'A').unwrap();
    let altered = |at: usize, with: &[u8]| {
        let mut message = good.clone();
        message[at..at + with.len()].copy_from_slice(with);
        message
    };
    let cases: [(Vec<u8>, DecodeReason, usize); 7] = [
        (vec![b'!'; 36], DecodeReason::UnknownEvent, 0),
        (good[..35].to_vec(), DecodeReason::Truncated, 0),
        ([&good[..], b" "].concat(), DecodeReason::TrailingBytes, 0),
        (altered(5, &[0xff; 6]), DecodeReason::BadNumber, 5),
        (altered(19, b"X"), DecodeReason::WrongType, 19),
        (altered(24, b"        "), DecodeReason::WrongType, 24),
        (altered(24, b"A\xffB     "), DecodeReason::WrongType, 24),
    ];
    for (wrong, reason, byte) in cases {
        let mut bench = Bench::new();
        let body = blocks([&wrong, &good, &good]);
        let found = bench.file(5, &body).unwrap();
        assert_eq!(found, Rejected::one(reason, 2 + byte), "{wrong:?}");
        assert_eq!(bench.orders().len(), 2, "{wrong:?}");
    }
    // A packet that is not whole is not believed at all, and its numbers are missing.
    let mut bench = Bench::new();
    bench.packet(1, std::slice::from_ref(&good)).unwrap();
    let whole = packet(b"000012345A", 2, &[good.clone(), good.clone()]);
    let context = format!("moldudp64?midnight={MIDNIGHT}");
    for cut in 0..whole.len() {
        assert!(bench.blob(&context, &whole[..cut]).is_err(), "cut at {cut}");
    }
    assert!(bench.blob(&context, &[&whole[..], b"\0"].concat()).is_err());
    bench.packet(4, std::slice::from_ref(&good)).unwrap();
    assert_eq!(bench.gaps(), [(2, 3)]);
    // Another session, while this one was not ended; and after its end.
    let other = packet(b"000012345B", 1, std::slice::from_ref(&good));
    assert!(bench.blob(&context, &other).is_err());
    bench.blob(&context, b"000012345A\0\0\0\0\0\0\0\x05\xff\xff").unwrap();
    bench.blob(&context, &other).unwrap();
    // Text, and contexts that tell no day.
    for context in ["", "file?name=x&midnight=1", "moldudp64?", "moldudp64?midnight=x", "x"] {
        assert!(bench.blob(context, &whole).is_err(), "{context}");
    }
}

/// A message of `kind` as the one of the day, with what stands elsewhere in it.
fn message(kind: u8, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut message = day().into_iter().find(|message| message[0] == kind).unwrap();
    for (at, part) in parts {
        message[*at..at + part.len()].copy_from_slice(part);
    }
    message
}

#[test]
fn a_symbol_that_is_not_that_of_its_locate_is_a_dead_letter() {
    let mut bench = Bench::new();
    let first = message(b'A', &[(11, &1_u64.to_be_bytes())]);
    let other = message(b'A', &[(11, &2_u64.to_be_bytes()), (24, b"OTHER   ")]);
    let found = bench.file(1, &blocks([&first, &other, &first])).unwrap();
    let place = 2 + first.len() + 2 + 24;
    assert_eq!(found, Rejected::one(DecodeReason::Contradiction, place));
    assert_eq!(bench.instruments.iter().count(), 1);
    // Also right after a restart, where no symbol was compared yet.
    let mut state = Vec::new();
    bench.itch.snapshot(&mut state);
    bench.itch.restore(&state).unwrap();
    let zeros = message(b'A', &[(11, &3_u64.to_be_bytes()), (24, &[0; 8])]);
    let found = bench.file(4, &blocks([&zeros])).unwrap();
    assert_eq!(found, Rejected::one(DecodeReason::Contradiction, 2 + 24));
}

#[test]
fn the_highest_prices_that_a_message_can_hold_are_kept() {
    let dear = message(b'A', &[(32, &u32::MAX.to_be_bytes())]);
    let mut bench = Bench::new();
    assert_eq!(bench.file(1, &blocks([&dear])).unwrap(), Rejected::NONE);
    assert_eq!(bench.orders()[0].price, 429_496_729_500_000);
}

#[test]
fn what_follows_from_an_order_of_unknown_beginning_is_doubtful() {
    // Replaced, then executed and deleted: its side is never known, its price is from then on.
    let (unknown, known) = (77_u64.to_be_bytes(), 78_u64.to_be_bytes());
    let ten = 100_000_u32.to_be_bytes();
    let replaced = message(b'U', &[(11, &unknown), (19, &known), (31, &ten)]);
    let executed = message(b'E', &[(11, &known), (19, &1_u32.to_be_bytes())]);
    let deleted = message(b'D', &[(11, &known)]);
    // More is executed than is there.
    let id = 79_u64.to_be_bytes();
    let added = message(b'A', &[(11, &id), (20, &5_u32.to_be_bytes())]);
    let excess = message(b'E', &[(11, &id), (19, &50_u32.to_be_bytes())]);
    let mut bench = Bench::new();
    let start = message(b'S', &[]);
    let all = [&start, &added, &replaced, &executed, &deleted, &excess];
    assert_eq!(bench.file(1, &blocks(all)).unwrap(), Rejected::NONE);
    let doubts = bench.orders().into_iter().map(|order| order.header.flags & FLAG_MAYBE_BAD != 0);
    assert_eq!(doubts.collect::<Vec<_>>(), [false, true, true, true, true]);
    let prices = bench.orders().iter().map(|order| order.price).collect::<Vec<_>>();
    assert_eq!(prices[1..4], [10 * DOLLAR; 3]);
    assert!(bench.trades().iter().all(|trade| trade.header.flags & FLAG_MAYBE_BAD != 0));
    assert_eq!(bench.trades().len(), 2);
}

#[test]
fn a_restored_decoder_goes_on_as_if_nothing_had_been() {
    // At each message of the day: what a restored one writes of the rest.
    let day = day();
    for cut in 0..day.len() {
        let mut bench = Bench::new();
        bench.file(1, &blocks(&day[..cut])).unwrap();
        let mut state = Vec::new();
        bench.itch.snapshot(&mut state);
        let mut restored = Bench::new();
        restored.instruments = bench.instruments.clone();
        restored.itch.restore(&state).unwrap();
        bench.out.clear();
        let rest = blocks(&day[cut..]);
        for each in [&mut bench, &mut restored] {
            each.file(cut as u64 + 1, &rest).unwrap();
        }
        assert_eq!(bench.out.as_bytes(), restored.out.as_bytes(), "cut before message {cut}");
        let mut again = Vec::new();
        restored.itch.snapshot(&mut again);
        let mut straight = Vec::new();
        bench.itch.snapshot(&mut straight);
        assert_eq!(again, straight);
        assert!(cut == 0 || restored.itch.restore(&state[..state.len() - 1]).is_err());
    }
}

#[test]
fn the_start_of_a_run_is_found_by_lengths_alone() {
    // A file is cut into runs whose messages are those of the file, at every size of a run.
    let body = blocks(&day());
    for most in [1, 2, 7, 1000] {
        let (mut at, mut count) = (0, 0);
        while at < body.len() {
            let run = Run::scan(&body, at, most, u64::MAX);
            assert!(run.count > 0 && run.count <= most && run.end > at);
            (at, count) = (run.end, count + run.count as usize);
        }
        assert_eq!((at, count), (body.len(), day().len()));
    }
    let short = Run::scan(&body, 0, 1000, 1);
    assert_eq!(short.count, 1);
    assert!(Run::scan(&[0, 0, 1], 0, 9, 1).is_ended);
    assert_eq!(
        Run::scan(&body[..body.len() - 1], 0, 1000, u64::MAX).count as usize,
        day().len() - 1
    );
}
