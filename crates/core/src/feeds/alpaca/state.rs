//! What is kept of the books from one frame to the next, as bytes.

use std::collections::BTreeSet;

use super::keys::{Books, ToldBook};

/// Appends the books: of each its instrument, the number of its last update, the number of its
/// bids and of its asks, and their prices. Nothing, where there is none.
pub fn write(books: &Books, out: &mut Vec<u8>) {
    for (instrument, book) in books {
        out.extend_from_slice(&instrument.to_le_bytes());
        out.extend_from_slice(&book.number.to_le_bytes());
        out.extend_from_slice(&(book.bids.len() as u32).to_le_bytes());
        out.extend_from_slice(&(book.asks.len() as u32).to_le_bytes());
        for price in book.bids.iter().chain(&book.asks) {
            out.extend_from_slice(&price.to_le_bytes());
        }
    }
}

/// The books of a state; none if it is not whole.
pub fn read(state: &[u8]) -> Option<Books> {
    let (mut books, mut rest) = (Books::new(), state);
    while !rest.is_empty() {
        let instrument = u32::from_le_bytes(next(&mut rest)?);
        let number = u64::from_le_bytes(next(&mut rest)?);
        let counts = [next(&mut rest)?, next(&mut rest)?].map(u32::from_le_bytes);
        let mut prices = |count: u32| -> Option<BTreeSet<i64>> {
            (0..count).map(|_| next(&mut rest).map(i64::from_le_bytes)).collect()
        };
        let (bids, asks) = (prices(counts[0])?, prices(counts[1])?);
        books.insert(instrument, ToldBook { number, bids, asks });
    }
    Some(books)
}

fn next<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (found, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*found)
}
