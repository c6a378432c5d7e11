use super::*;
use crate::record::blob::BlobHeader;
use crate::record::unpadded;

/// Midnight of 2012-06-21 in New York.
const MIDNIGHT: i64 = 1_340_251_200_000_000_000;
const ROWS: &str = include_str!("captures/rows.csv");

fn receive(midnight: i64, rows: &str) -> (Result<Rejected>, Records, Instruments) {
    let (mut out, mut instruments) = (Records::new(), Instruments::new());
    let context = format!("lobster?name=x&symbol=AMZN&midnight={midnight}&row=1");
    let header = BlobHeader { kind: BlobKind::Text as u8, ts_recv: 1, ..BlobHeader::default() };
    let blob = Blob { header, context: context.as_bytes(), body: rows.as_bytes() };
    let found = Lobster.receive(&blob, &mut instruments, &mut out);
    (found, out, instruments)
}

fn orders(out: &Records) -> Vec<Order> {
    out.iter().filter_map(|record| record.as_order()).collect()
}

#[test]
fn every_type_of_row_gives_what_it_says() {
    let (found, out, instruments) = receive(MIDNIGHT, ROWS);
    assert_eq!(found.unwrap(), Rejected::NONE);
    let told: Vec<_> = orders(&out)
        .iter()
        .map(|o| {
            assert_eq!(o.header.flags, FLAG_LAST | FLAG_MAYBE_BAD);
            (o.header.sequence, o.action, o.side, o.order_id, o.size / 100_000_000, o.cross)
        })
        .collect();
    let expected = [
        (1, 8, 2, 0, 1, 0),
        (2, 1, 1, 11_885_113, 21, 0),
        (3, 1, 2, 3_911_376, 20, 0),
        (4, 6, 2, 3_911_376, 20, 0),
        (5, 3, 1, 11_885_113, 1, 0),
        (6, 4, 1, 11_885_113, 20, 0),
        (7, 9, 0, 0, 1200, 1),
    ];
    assert_eq!(told, expected);
    let first = orders(&out)[0];
    assert_eq!(first.header.ts_event, MIDNIGHT + 34_200_017_459_617);
    assert_eq!(first.price, 223_820_000_000);
    let trades: Vec<_> = out.iter().filter_map(|record| record.as_trade()).collect();
    let told: Vec<_> = trades.iter().map(|t| (t.header.sequence, t.side, t.conditions)).collect();
    assert_eq!(told, [(1, Side::Bid as u8, [1, 0]), (6, Side::Ask as u8, [0, 0])]);
    let states: Vec<_> = out.iter().filter_map(|record| record.as_status()).collect();
    assert_eq!(states.iter().map(|state| state.status).collect::<Vec<_>>(), [2, 3, 1]);
    assert_eq!(unpadded(&instruments.get(1).unwrap().symbol), "AMZN");

    // Digits behind those of ns are there now and then.
    let (found, out, _) = receive(MIDNIGHT, "43002.632812672004,3,134172772,100,2238700,-1");
    assert_eq!(found.unwrap(), Rejected::NONE);
    assert_eq!(orders(&out)[0].header.ts_event, MIDNIGHT + 43_002_632_812_672);

    // Later the venue tells no side of what was never shown.
    let (_, out, _) = receive(SIDES_END, ROWS);
    assert_eq!(orders(&out)[0].side, Side::None as u8);
}

#[test]
fn a_wrong_row_takes_no_other_with_it() {
    let good = "34200.5,1,7,100,2239500,1";
    for (wrong, reason, byte) in [
        ("34200.5,1,7,100,2239500", DecodeReason::MissingField, 23),
        ("34200.5,1,7,100,2239500,1,x,y", DecodeReason::TrailingBytes, 0),
        ("x,1,7,100,2239500,1", DecodeReason::BadNumber, 0),
        ("86400,1,7,100,2239500,1", DecodeReason::BadNumber, 0),
        ("34200.012345678x,1,7,100,2239500,1", DecodeReason::BadNumber, 0),
        ("34200.5,8,7,100,2239500,1", DecodeReason::UnknownEvent, 8),
        ("34200.5,1,-7,100,2239500,1", DecodeReason::BadNumber, 10),
        ("34200.5,1,7,-1,2239500,1", DecodeReason::BadNumber, 12),
        ("34200.5,1,7,100,99999999999999999,1", DecodeReason::DoesNotFit, 16),
        ("34200.5,1,7,100,2239500,0", DecodeReason::WrongType, 24),
        ("34200.5,7,0,0,5,-1", DecodeReason::WrongType, 14),
    ] {
        let (found, out, _) = receive(MIDNIGHT, &format!("{good}\r\n{wrong}\n\n{good}"));
        assert_eq!(found.unwrap(), Rejected::one(reason, good.len() + 2 + byte), "{wrong}");
        let rows: Vec<_> = orders(&out).iter().map(|order| order.header.sequence).collect();
        assert_eq!(rows, [1, 4], "{wrong}");
    }
}

#[test]
fn what_is_encoded_is_received_back() {
    let rows: String = ROWS.lines().take(6).flat_map(|row| [row, "\n"]).collect();
    // Of a day that begins with that of UTC.
    let (_, out, instruments) = receive(1_340_236_800_000_000_000, &rows);
    let mut wire = Vec::new();
    Lobster.encode(&out, &instruments, false, &mut wire).unwrap();
    let again = std::str::from_utf8(&wire).unwrap();
    assert_eq!(receive(1_340_236_800_000_000_000, again).1.as_bytes(), out.as_bytes());
}
