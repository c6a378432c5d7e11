use super::*;
use crate::feeds::itch::ITCH;
use crate::instrument::Instruments;
use crate::record::blob::BlobHeader;
use crate::record::{Blob, BlobKind, Records, FLAG_MAYBE_BAD};
use crate::Feed;

fn symbols(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("SIM{at}")).collect()
}

fn decode(bytes: &[u8]) -> (Box<dyn Feed>, Records) {
    let (mut feed, mut out) = (ITCH.build(), Records::new());
    let blob = Blob {
        header: BlobHeader { kind: BlobKind::Binary as u8, ..BlobHeader::default() },
        context: b"file?name=x&midnight=1692676800000000000&sequence=1",
        body: bytes,
    };
    let rejected = feed.receive(&blob, &mut Instruments::new(), &mut out).unwrap();
    assert_eq!(rejected.count, 0, "{rejected:?}");
    (feed, out)
}

#[test]
fn a_day_has_every_kind_of_message_and_all_decode() {
    // Of exactly so many messages; no event is of an order that is not open.
    let mut market = ItchMarket::new(&symbols(3), 7, 200_000).unwrap();
    let mut bytes = Vec::new();
    while !market.is_over() {
        market.take(1_000, None, &mut bytes);
    }
    assert_eq!(market.sent(), 200_000);
    let kinds: String = market.counts().map(|(kind, _)| kind).collect();
    let mut expected: Vec<char> = "SRHYLVKJhAFECXDUPQBINO".chars().collect();
    expected.sort_unstable();
    assert_eq!(kinds, expected.into_iter().collect::<String>());
    let (_, out) = decode(&bytes);
    let orders: Vec<_> = out.iter().filter_map(|record| record.as_order()).collect();
    assert!(orders.iter().all(|order| order.header.flags & FLAG_MAYBE_BAD == 0));
    assert!(orders.len() > 190_000);
    let times: Vec<_> = orders.iter().map(|order| order.header.ts_event).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
}

#[test]
fn a_seed_gives_the_same_bytes_and_another_gives_others() {
    let day = |seed, step| {
        let mut market = ItchMarket::new(&symbols(2), seed, 5_000).unwrap();
        let mut bytes = Vec::new();
        while !market.is_over() {
            market.take(step, None, &mut bytes);
        }
        bytes
    };
    assert_eq!(day(1, 1), day(1, 777));
    assert_ne!(day(1, 1), day(2, 1));
}

#[test]
fn a_day_without_an_end_ends_when_it_is_told_to() {
    let mut market = ItchMarket::new(&symbols(2), 1, 0).unwrap();
    let mut bytes = Vec::new();
    market.take(10_000, Some(40_000_000_000_000), &mut bytes);
    assert!(!market.is_over());
    market.finish();
    market.take(u64::MAX, Some(41_000_000_000_000), &mut bytes);
    assert!(market.is_over());
    assert_eq!(bytes[bytes.len() - 1], b'C');
    for (symbols, messages) in [(vec![], 0), (symbols(2), 10), (vec!["TOO LONG".into()], 0)] {
        assert!(ItchMarket::new(&symbols, 1, messages).is_err());
    }
}

#[test]
fn packets_hold_all_messages_in_turn() {
    let mut market = ItchMarket::new(&symbols(2), 1, 1_000).unwrap();
    let mut bytes = Vec::new();
    market.take(u64::MAX, None, &mut bytes);
    let packets = mold_packets(&bytes, b"SIMULATED1", 1, 1_472);
    let mut next = 1;
    let mut whole = Vec::new();
    for packet in &packets {
        assert!(packet.first == next && packet.bytes.len() <= 1_472);
        next += u64::from(packet.count);
        whole.extend_from_slice(&packet.bytes[20..]);
    }
    assert_eq!((next, whole), (1_001, bytes));
}
