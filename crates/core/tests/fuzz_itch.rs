//! Damaged sessions of ITCH by the million: no panic, nothing written on an error, the same records
//! however a run of messages is cut into blobs, and over a restart between them; books of the
//! orders whose levels are what their orders say.

use tapeworks_core::book::{L2Book, OrderBooks};
use tapeworks_core::feeds::itch::Itch;
use tapeworks_core::feeds::Rejected;
use tapeworks_core::record::blob::BlobKind;
use tapeworks_core::record::Side;
use tapeworks_core::{Feed, FeedId, Instruments, Records};

#[path = "setup/fuzz.rs"]
mod fuzz;
use fuzz::{blob, campaign, check_whole, mutate, Random};

const DAY: &str = include_str!("../src/feeds/itch/captures/day.hex");
const MIDNIGHT: i64 = 1_692_676_800_000_000_000;
const PACKET_HEADER: usize = 20;
/// What mutations put in: lengths, ids and types that mean something, and bytes that break it.
const PIECES: [&[u8]; 8] = [
    b"\0",
    b"\xff\xff",
    b"\0\x24A",
    b"\0\x13D",
    b"\0\0",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\0\0\0\x03\xe9",
    b"\0\x0cS",
];

fn day() -> Vec<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a digit") as u8;
    let lines = DAY.lines().filter(|text| !text.starts_with('#'));
    let message = |text: &str| -> Vec<u8> {
        text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    };
    lines.map(message).collect()
}

/// A decoder with its registry and its batch.
struct Decoder {
    itch: Itch,
    instruments: Instruments,
    out: Records,
}

impl Decoder {
    fn new() -> Self {
        Self { itch: Itch::new(FeedId::Itch), instruments: Instruments::new(), out: Records::new() }
    }

    fn receive(&mut self, context: &str, body: &[u8]) -> Result<Rejected, String> {
        let before = self.out.mark();
        let blob = blob(BlobKind::Binary, context.as_bytes(), body);
        let result = self.itch.receive(&blob, &mut self.instruments, &mut self.out);
        if result.is_err() {
            assert_eq!(self.out.mark(), before, "an error left something in the batch");
        }
        result.map_err(|error| error.to_string())
    }

    /// Goes on as after a restart: from what was saved.
    fn restart(&mut self) {
        let mut state = Vec::new();
        self.itch.snapshot(&mut state);
        self.itch = Itch::new(FeedId::Itch);
        self.itch.restore(&state).expect("its own state");
    }
}

/// Some messages of the day in their order, some of them again, with another id, price or length.
fn draw(random: &mut Random, day: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for message in day {
        for _ in 0..random.below(3) {
            let mut message = message.clone();
            match random.below(8) {
                // One of few ids, so that messages meet.
                0 | 1 if message.len() > 18 => {
                    message[11..19].fill(0);
                    message[18] = random.below(4) as u8;
                }
                2 => {
                    let at = random.below(message.len());
                    message[at] = random.next() as u8;
                }
                3 => message.truncate(random.below(message.len() + 1)),
                4 if message.len() > 26 => {
                    // Few shares: what is taken may be more than there is.
                    message[20..24].fill(0);
                    message[23] = random.below(4) as u8;
                }
                _ => {}
            }
            messages.push(message);
        }
    }
    messages
}

fn blocks(messages: &[Vec<u8>]) -> Vec<u8> {
    let block = |m: &Vec<u8>| [&(m.len() as u16).to_be_bytes()[..], m].concat();
    messages.iter().flat_map(block).collect()
}

/// Where the whole blocks of `bytes` begin, and where the last one ends.
fn starts(bytes: &[u8]) -> Vec<usize> {
    let (mut places, mut at) = (vec![0], 0);
    while let Some(&[high, low]) = bytes.get(at..at + 2) {
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if at > bytes.len() {
            break;
        }
        places.push(at);
    }
    places
}

fn file(sequence: u64) -> String {
    format!("file?name=x&midnight={MIDNIGHT}&sequence={sequence}")
}

/// A piece of a file at once, and in two pieces with a restart between them.
fn run_file(random: &mut Random, body: &[u8]) -> (Decoder, bool) {
    let (mut whole, mut cut) = (Decoder::new(), Decoder::new());
    let sequence = [0, 1, 1, 7, u64::MAX - 3][random.below(5)];
    let found = whole.receive(&file(sequence), body);
    let places = starts(body);
    let after = random.below(places.len());
    let (first, rest) = body.split_at(places[after]);
    // Where the numbers run over, neither way says anything of it.
    if let (Ok(found), Some(next)) = (&found, sequence.checked_add(after as u64)) {
        let one = cut.receive(&file(sequence), first).expect("as of the whole");
        cut.restart();
        let next = if sequence == 0 { 0 } else { next };
        let two = cut.receive(&file(next), rest).expect("as of the whole");
        assert_eq!(one.count + two.count, found.count);
        assert!(cut.out.as_bytes() == whole.out.as_bytes(), "cut after {after} messages");
        assert_eq!(cut.itch.open_orders(), whole.itch.open_orders());
    }
    (whole, found.is_ok())
}

/// A packet at once, again, and in two packets with a restart between them.
fn run_packet(random: &mut Random, messages: &[Vec<u8>], damage: bool) -> (Decoder, bool) {
    let packet = |sequence: u64, messages: &[Vec<u8>]| {
        let count = messages.len() as u16;
        [&b"000012345A"[..], &sequence.to_be_bytes(), &count.to_be_bytes(), &blocks(messages)]
            .concat()
    };
    let context = format!("moldudp64?midnight={MIDNIGHT}");
    let mut whole = Decoder::new();
    let mut bytes = packet(1, messages);
    if damage {
        // Of the header too.
        let other = bytes.clone();
        mutate(random, &mut bytes, &other[..PACKET_HEADER], &PIECES);
        let found = whole.receive(&context, &bytes);
        return (whole, found.is_ok());
    }
    let found = whole.receive(&context, &bytes).expect("a sound packet");
    let after = random.below(messages.len() + 1);
    let mut cut = Decoder::new();
    let one = cut.receive(&context, &packet(1, &messages[..after])).expect("sound");
    cut.restart();
    let two = cut.receive(&context, &packet(after as u64 + 1, &messages[after..])).expect("sound");
    assert_eq!(one.count + two.count, found.count);
    assert!(cut.out.as_bytes() == whole.out.as_bytes(), "cut after {after} messages");
    // A copy gives nothing, whatever it holds.
    let _ = cut.receive(&context, &bytes);
    assert!(cut.out.as_bytes() == whole.out.as_bytes(), "a copy gave records");
    (whole, true)
}

/// The books that the records make: by price they are what their orders say.
fn check_books(out: &Records) {
    let mut books = OrderBooks::new();
    for order in out.iter().filter_map(|record| record.as_order()) {
        books.apply(&order);
    }
    let mut count = 0;
    for instrument in books.instruments() {
        let mut levels = L2Book::new();
        for side in [Side::Bid, Side::Ask] {
            for order in books.orders(instrument, side) {
                let size = levels.size_at(side, order.price);
                levels.set(side, order.price, size.saturating_add(order.size));
                assert_eq!(books.get(order.id), Some(order));
                count += 1;
            }
        }
        assert_eq!(books.by_price(instrument), Some(levels));
    }
    assert_eq!(books.len(), count);
}

#[test]
fn damaged_sessions_never_panic_and_cuts_change_nothing() {
    let day = day();
    campaign("itch", 10_000, |random| {
        let messages = draw(random, &day);
        let (decoder, taken) = if random.once_in(3) {
            let damage = random.once_in(2);
            run_packet(random, &messages, damage)
        } else {
            let mut body = blocks(&messages);
            let other = body.clone();
            if random.once_in(2) {
                mutate(random, &mut body, &other, &PIECES);
            }
            run_file(random, &body)
        };
        check_whole(&decoder.out);
        check_books(&decoder.out);
        if random.once_in(16) {
            // A state that is damaged is refused, or is one.
            let mut state = Vec::new();
            decoder.itch.snapshot(&mut state);
            let other = state.clone();
            mutate(random, &mut state, &other, &PIECES);
            let _ = Itch::new(FeedId::Itch).restore(&state);
        }
        taken
    });
}
