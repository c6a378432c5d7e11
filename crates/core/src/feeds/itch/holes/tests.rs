use super::*;

const MS: i64 = 1_000_000;

fn packet(session: u8, sequence: u64, count: u16) -> Vec<u8> {
    let mut bytes = vec![session; 10];
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&count.to_be_bytes());
    for number in 0..if count == u16::MAX { 0 } else { u64::from(count) } {
        bytes.extend_from_slice(b"\0\x0cS\0\0\0\0");
        bytes.extend_from_slice(&(sequence + number).to_be_bytes()[2..]);
        bytes.push(b'Q');
    }
    bytes
}

impl Holes {
    fn came(&mut self, packet: &[u8], ts: i64) {
        self.observe(b"moldudp64?hold_ms=1&midnight=0", packet, ts);
    }
}

#[test]
fn what_is_missing_is_asked_for_until_it_comes_or_is_given_up() {
    let mut holes = Holes::new(100);
    holes.came(&packet(1, 3, 2), 1_000);
    holes.came(&packet(1, 10, 5), 1_001);
    assert_eq!(holes.due(1_001, 0, 50, 500, 9), [(1, 2), (5, 5)]);
    assert_eq!(holes.due(1_020, 0, 50, 500, 9), []);
    assert_eq!(holes.due(1_060, 0, 50, 500, 1), [(1, 2)]);
    // The middle of a hole, then a packet over all of it.
    holes.came(&packet(1, 6, 1), 1_100);
    assert_eq!(holes.missing(), (2 + 1 + 3, 0));
    assert_eq!(holes.due(1_110, 0, 500, 500, 9), [(7, 3)]);
    holes.came(&packet(1, 4, 9), 1_200);
    assert_eq!(holes.missing(), (2, 0));
    assert_eq!(holes.due(1_500, 0, 50, 500, 9), []);
    assert_eq!((holes.missing(), holes.next()), ((0, 2), 15));
    // A heartbeat tells of what is missing at the end; another session is not believed.
    holes.came(&packet(1, 20, 0), 1_600);
    holes.came(&packet(2, 1, 1), 1_601);
    assert_eq!(holes.missing(), (5, 2));
    holes.came(&packet(1, 20, u16::MAX), 1_602);
    assert!(!holes.is_over());
    holes.came(&packet(1, 15, 5), 1_603);
    assert!(holes.is_over());
    // Nor is one packet of it after the end; several are, and the first of them counts.
    holes.came(&packet(2, 1_000, 1), 1_700);
    assert_eq!((holes.is_over(), holes.next()), (true, 20));
    holes.came(&packet(2, 1_003, 1), 1_701);
    holes.came(&packet(2, 1_004, 0), 1_702);
    assert_eq!((holes.missing(), holes.next()), ((2, 0), 1_004));
}

#[test]
fn a_packet_far_ahead_ends_no_search_for_what_is_lost_later() {
    let mut holes = Holes::new(100);
    for number in 1..=500 {
        holes.came(&packet(1, number, 1), 1_000);
    }
    holes.came(&packet(1, 1_000_000, 0), 1_001);
    holes.came(&packet(1, 2_000_000, 1), 1_001);
    for number in 501..=600 {
        holes.came(&packet(1, number, 1), 1_002);
    }
    for ts in 1_003..1_007 {
        holes.came(&packet(1, 601, 0), ts);
    }
    for ts in 2_000..2_003 {
        holes.due(ts, 0, 50, 500, 9);
    }
    assert_eq!((holes.missing(), holes.next()), ((0, 0), 601));
    holes.came(&packet(1, 602, 1), 2_003);
    assert_eq!(holes.due(2_003, 0, 50, 500, 9), [(601, 1)]);
}

#[test]
fn what_is_no_packet_is_passed_over() {
    let mut holes = Holes::new(0);
    let whole = packet(1, 1, 3);
    for length in 0..whole.len() {
        holes.came(&whole[..length], 1);
    }
    holes.came(&[&whole[..], b"x"].concat(), 1);
    holes.came(&packet(1, 0, 1), 1);
    holes.came(&packet(1, u64::MAX, 1), 1);
    holes.observe(b"", &whole, 1);
    assert_eq!(holes.next(), 0);
    // The first packet strayed here: it keeps the session out for two packets.
    holes.came(b"\x7fELFjunk__\0\0\0\x10\x10\x10\x10\x10\0\0", 1);
    holes.came(&packet(1, 5, 3), 11 * MS);
    assert_eq!((holes.missing(), holes.next()), ((0, 0), 8));
}
