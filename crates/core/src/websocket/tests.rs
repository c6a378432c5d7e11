use super::*;

const LIMITS: WebSocketLimits = WebSocketLimits { message_bytes_max: 70_000, fragments_max: 8 };

/// One frame as a server sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length @ 126..=65_535 => {
            bytes.push(126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// What was passed on, in words, and the close code of the fault.
fn read_all(reader: &mut WebSocketReader, reads: &[&[u8]]) -> (Vec<String>, Option<u16>) {
    let mut seen = Vec::new();
    for read in reads {
        let done: Result<(), WebSocketFault> = reader.read(read, |event| {
            seen.push(match event {
                WebSocketEvent::Text(bytes) | WebSocketEvent::Binary(bytes) if bytes.len() > 99 => {
                    format!("{} bytes", bytes.len())
                }
                other => format!("{other:?}"),
            });
            Ok(())
        });
        if let Err(fault) = done {
            return (seen, Some(fault.code));
        }
    }
    (seen, None)
}

fn events(bytes: &[u8]) -> (Vec<String>, Option<u16>) {
    read_all(&mut WebSocketReader::new(LIMITS), &[bytes])
}

#[test]
fn any_two_cuts_give_the_same_messages() {
    // All forms of length, fragments with a ping between them, a close: cut at every two places.
    let stream = [
        frame(0x81, b"a"),
        frame(0x82, &[7; 126]),
        frame(0x01, b"one "),
        frame(0x89, b"?"),
        frame(0x00, b"two "),
        frame(0x80, b""),
        frame(0x8A, b"!"),
        frame(0x81, b""),
        frame(0x88, b"\x03\xe8bye"),
        frame(0x81, b"never read"),
    ]
    .concat();
    let whole = events(&stream);
    let wanted = [
        "Text([97])",
        "126 bytes",
        "Ping([63])",
        "Text([111, 110, 101, 32, 116, 119, 111, 32])",
        "Pong([33])",
        "Text([])",
        "Close { code: 1000, reason: \"bye\" }",
    ];
    assert_eq!((whole.0.as_slice(), whole.1), (wanted.map(str::to_owned).as_slice(), None));
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let reads = [&stream[..first], &stream[first..second], &stream[second..]];
            let found = read_all(&mut WebSocketReader::new(LIMITS), &reads);
            assert_eq!(found, whole, "cut at {first} and {second}");
        }
    }
}

#[test]
fn what_breaks_the_protocol_fails_the_connection() {
    // Each after a good message, which must still be passed on, and before one that must not.
    let long = frame(0x82, &vec![0; 70_001]);
    let cases: [(&[u8], u16); 17] = [
        (&frame(0xC1, b"x"), PROTOCOL_ERROR),
        (&frame(0x91, b"x"), PROTOCOL_ERROR),
        (&frame(0x83, b"x"), PROTOCOL_ERROR),
        (&frame(0x8B, b"x"), PROTOCOL_ERROR),
        (&[0x81, 0x81, 1, 2, 3, 4, 5], PROTOCOL_ERROR),
        (&[0x81, 126, 0, 125], PROTOCOL_ERROR),
        (&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255], PROTOCOL_ERROR),
        (&[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], MESSAGE_TOO_BIG),
        (&frame(0x09, b"ping in fragments"), PROTOCOL_ERROR),
        (&frame(0x89, &[0; 126]), PROTOCOL_ERROR),
        (&frame(0x80, b"rest of nothing"), PROTOCOL_ERROR),
        (&[frame(0x01, b"a"), frame(0x81, b"b")].concat(), PROTOCOL_ERROR),
        (&frame(0x88, b"\x03"), PROTOCOL_ERROR),
        (&frame(0x88, b"\x03\xed"), PROTOCOL_ERROR),
        (&frame(0x88, b"\x03\xe8\xff"), INVALID_TEXT),
        (&long[..10], MESSAGE_TOO_BIG),
        (&[frame(0x01, b""), frame(0x00, b"").repeat(8)].concat(), POLICY_VIOLATION),
    ];
    for (bytes, code) in cases {
        let stream = [&frame(0x81, b"good"), bytes, &frame(0x81, b"late")].concat();
        let found = events(&stream);
        assert_eq!(found.1, Some(code), "{bytes:02x?}");
        assert_eq!(found.0, ["Text([103, 111, 111, 100])"], "{bytes:02x?}");
    }
}

#[test]
fn nothing_is_read_after_a_fault() {
    let mut reader = WebSocketReader::new(LIMITS);
    assert_eq!(read_all(&mut reader, &[&[0x83, 0]]).1, Some(PROTOCOL_ERROR));
    assert_eq!(read_all(&mut reader, &[&frame(0x81, b"late")]), (vec![], None));
}

#[test]
fn fragments_count_together_against_the_longest_message() {
    // Seven fragments of 10,000 bytes are a message; an eighth byte too many is not.
    let part = frame(0x02, &[1; 10_000]);
    let more = frame(0x00, &[1; 10_000]).repeat(5);
    let (last, over) = (frame(0x80, &[1; 10_000]), frame(0x80, &[1; 10_001]));
    assert_eq!(events(&[&part[..], &more, &last].concat()), (vec!["70000 bytes".into()], None));
    assert_eq!(events(&[&part[..], &more, &over].concat()), (vec![], Some(MESSAGE_TOO_BIG)));
}

#[test]
fn a_promised_length_takes_no_memory() {
    // A header that promises much and sends little; then a long message, whose room goes back.
    let mut reader =
        WebSocketReader::new(WebSocketLimits { message_bytes_max: 64 << 20, ..LIMITS });
    let stream = frame(0x82, &vec![1; 4 << 20]);
    assert_eq!(read_all(&mut reader, &[&stream[..11]]), (vec![], None));
    assert!(reader.partial.capacity() < 1024);
    assert_eq!(read_all(&mut reader, &[&stream[11..]]).0, ["4194304 bytes"]);
    assert!(reader.partial.capacity() <= KEPT_BYTES_MAX);
}

#[test]
fn what_has_not_ended_can_be_kept() {
    // Two fragments and half of the next; then one more that breaks the protocol.
    let mut reader = WebSocketReader::new(LIMITS);
    assert_eq!(reader.unfinished(), None);
    let (start, next) = (frame(0x01, b"123"), frame(0x00, b"456"));
    read_all(&mut reader, &[&start, &next, &next[..3]]);
    assert_eq!(reader.unfinished(), Some((TEXT, &b"123456"[..])));
    read_all(&mut reader, &[&next[3..], &frame(0x82, b"new")]);
    assert_eq!(reader.unfinished(), Some((TEXT, &b"123456456"[..])));
}
