//! Damaged rows of LOBSTER by the million: no panic, nothing written on an error, and the same
//! records however the rows are cut into blobs.

use tapeworks_core::book::OrderBooks;
use tapeworks_core::feeds::lobster::Lobster;
use tapeworks_core::feeds::Rejected;
use tapeworks_core::record::blob::BlobKind;
use tapeworks_core::{Feed, Instruments, Records};

#[path = "setup/fuzz.rs"]
mod fuzz;
use fuzz::{blob, campaign, check_whole, mutate, Random};

const ROWS: &str = include_str!("../src/feeds/lobster/captures/rows.csv");
/// What mutations put in: columns that mean something, and bytes that break them.
const PIECES: [&[u8]; 16] = [
    b",",
    b"\n",
    b"\r\n",
    b".",
    b"-",
    b"-1",
    b"1",
    b"7",
    b"e5",
    b"99999999999999999999",
    b"9223372036854775807",
    b"86400",
    b"0000000000000000000000000000000000000000",
    b"\0",
    b"\xff",
    b" ",
];

/// When a row was received, which is when it happened: the greatest time of its blob so far.
fn receive(context: &str, body: &[u8], out: &mut Records) -> Result<Rejected, String> {
    let before = out.mark();
    let blob = blob(BlobKind::Text, context.as_bytes(), body);
    let result = Lobster.receive(&blob, &mut Instruments::new(), out);
    if result.is_err() {
        assert_eq!(out.mark(), before, "an error left something in the batch");
    }
    result.map_err(|error| error.to_string())
}

fn context(row: u64) -> String {
    format!("lobster?name=x&symbol=AMZN&midnight=1340251200000000000&row={row}")
}

/// Sets the times of receipt to 0: those of a blob never fall, and each blob begins anew.
fn without_receipt(out: &Records) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in out {
        let (mut own, mut header) = (Records::new(), record.header());
        own.push_ref(record);
        header.ts_recv = 0;
        let length = size_of_val(&header);
        own.as_bytes_mut(0)[..length].copy_from_slice(header_bytes(&header));
        bytes.extend_from_slice(own.as_bytes());
    }
    bytes
}

fn header_bytes(header: &tapeworks_core::record::Header) -> &[u8] {
    tapeworks_core::record::Plain::as_bytes(header)
}

/// Rows of the captures in any order, and one of their numbers changed now and then.
fn draw(random: &mut Random, rows: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..random.below(12) {
        let row = rows[random.below(rows.len())];
        let changed = random.below(24);
        for (at, column) in row.split(',').enumerate() {
            if at > 0 {
                body.push(b',');
            }
            match changed == at {
                true => body.extend_from_slice(PIECES[random.below(PIECES.len())]),
                false => body.extend_from_slice(column.as_bytes()),
            }
        }
        body.extend_from_slice(if random.once_in(9) { b"\r\n" } else { b"\n" });
    }
    body
}

#[test]
fn damaged_rows_never_panic_and_cuts_change_nothing() {
    let rows: Vec<_> = ROWS.lines().collect();
    campaign("lobster", 200_000, |random| {
        let mut body = draw(random, &rows);
        if random.once_in(2) {
            mutate(random, &mut body, ROWS.as_bytes(), &PIECES);
        }
        let (mut whole, mut cut) = (Records::new(), Records::new());
        if random.once_in(50) {
            let mut wrong = context(1).into_bytes();
            mutate(random, &mut wrong, ROWS.as_bytes(), &PIECES);
            let _ = receive(&String::from_utf8_lossy(&wrong), &body, &mut whole);
            check_whole(&whole);
            return false;
        }
        let found = receive(&context(1), &body, &mut whole).expect("a blob of rows");
        let places: Vec<_> = (0..body.len()).filter(|&at| body[at] == b'\n').collect();
        let after = random.below(places.len() + 1);
        let (first, rest) = body.split_at(if after == 0 { 0 } else { places[after - 1] + 1 });
        let one = receive(&context(1), first, &mut cut).expect("as of the whole");
        let two = receive(&context(1 + after as u64), rest, &mut cut).expect("as of the whole");
        assert_eq!(one.count + two.count, found.count);
        let text = String::from_utf8_lossy(&body);
        assert!(without_receipt(&whole) == without_receipt(&cut), "cut after {after}: {text}");
        check_whole(&whole);
        let mut books = OrderBooks::new();
        for order in whole.iter().filter_map(|record| record.as_order()) {
            books.apply(&order);
        }
        found.count == 0
    });
}
