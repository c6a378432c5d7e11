//! The reader of WebSocket frames against damaged streams: it never panics, holds no more than it
//! may, and however the stream is cut into reads, what it passes on is the same.
//!
//! `TAPEWORKS_FUZZ_EXECUTIONS` says how many streams are read, `TAPEWORKS_FUZZ_SEED` from which
//! seed they are made. A failure prints the number that repeats it alone.

use tapeworks_core::websocket::{
    WebSocketEvent, WebSocketFault, WebSocketLimits, WebSocketReader, BINARY, CLOSE, PING, PONG,
    TEXT,
};

const LIMITS: WebSocketLimits = WebSocketLimits { message_bytes_max: 80_000, fragments_max: 6 };

/// Numbers that look random and come from a seed: xorshift64*.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn number_of(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn push_frame(stream: &mut Vec<u8>, opcode: u8, fin: bool, payload: &[u8]) {
    stream.push(opcode | if fin { 0x80 } else { 0 });
    match payload.len() {
        length @ 0..=125 => stream.push(length as u8),
        length @ 126..=65_535 => {
            stream.push(126);
            stream.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            stream.push(127);
            stream.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    stream.extend_from_slice(payload);
}

fn payload(random: &mut Random) -> Vec<u8> {
    let length = match random.below(40) {
        0 => 60_000 + random.below(12_000),
        1..=10 => 100 + random.below(400),
        _ => random.below(40),
    };
    let seed = random.next();
    (0..length).map(|at| (seed >> (at % 57)) as u8).collect()
}

/// A stream as a server sends it, with messages in fragments and control frames between them.
fn stream(random: &mut Random) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.below(20) {
        let opcode = if random.below(2) == 0 { TEXT } else { BINARY };
        match random.below(12) {
            0 => push_frame(&mut stream, PING, true, &payload(random)[..0]),
            1 => push_frame(&mut stream, PONG, true, b"pong"),
            2 => {
                push_frame(&mut stream, opcode, false, &payload(random));
                for _ in 0..random.below(4) {
                    if random.below(3) == 0 {
                        push_frame(&mut stream, PING, true, b"between");
                    }
                    push_frame(&mut stream, 0, false, &payload(random));
                }
                push_frame(&mut stream, 0, true, &payload(random));
            }
            3 if random.below(8) == 0 => push_frame(&mut stream, CLOSE, true, b"\x03\xe9gone"),
            _ => push_frame(&mut stream, opcode, true, &payload(random)),
        }
    }
    stream
}

fn damage(random: &mut Random, stream: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(stream.len());
        match random.below(4) {
            _ if stream.is_empty() => {}
            0 => stream[at] ^= 1 << random.below(8),
            1 => stream[at] = random.next() as u8,
            2 => drop(stream.drain(at..(at + random.below(8)).min(stream.len()))),
            _ => stream.insert(at, random.next() as u8),
        }
    }
}

/// What is passed on of `stream`, given in reads that end where `next` says, and the fault.
fn read(stream: &[u8], mut next: impl FnMut() -> usize) -> (Vec<String>, Option<WebSocketFault>) {
    let mut reader = WebSocketReader::new(LIMITS);
    let (mut seen, mut fault, mut at) = (Vec::new(), None, 0);
    while at < stream.len() {
        let to = (at + next().max(1)).min(stream.len());
        let done: Result<(), WebSocketFault> = reader.read(&stream[at..to], |event| {
            match event {
                WebSocketEvent::Text(body) | WebSocketEvent::Binary(body) => {
                    assert!(body.len() <= LIMITS.message_bytes_max);
                }
                WebSocketEvent::Ping(body) | WebSocketEvent::Pong(body) => {
                    assert!(body.len() <= 125);
                }
                WebSocketEvent::Close { .. } => {}
            }
            seen.push(format!("{event:?}"));
            Ok(())
        });
        if let Err(found) = done {
            assert!(fault.is_none(), "nothing is read after a fault");
            fault = Some(found);
        }
        let held = reader.unfinished().map_or(0, |(_, bytes)| bytes.len());
        assert!(held <= LIMITS.message_bytes_max);
        at = to;
    }
    (seen, fault)
}

#[test]
fn any_stream_in_any_reads_gives_the_same_messages() {
    let executions = number_of("TAPEWORKS_FUZZ_EXECUTIONS", 3_000);
    let first = number_of("TAPEWORKS_FUZZ_SEED", 1);
    for number in first..first + executions {
        let caught = std::panic::catch_unwind(|| {
            let mut random = Random::new(number);
            let mut bytes = stream(&mut random);
            damage(&mut random, &mut bytes);
            let whole = read(&bytes, || usize::MAX / 2);
            let longest = 1 + random.below(5_000);
            assert_eq!(read(&bytes, || random.below(longest)), whole);
        });
        assert!(caught.is_ok(), "repeat it with TAPEWORKS_FUZZ_SEED={number}");
    }
}
