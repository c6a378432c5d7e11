//! What a venue sends, from a seed: for tests over the table of processors.

use tapeworks_core::record::blob::BlobHeader;
use tapeworks_core::record::{BlobKind, Blobs, Header, Marker, MarkerCode, Plain};

/// A seeded source of chance (xorshift).
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn session(code: MarkerCode, number: u64, ts: i64) -> (BlobHeader, Vec<u8>) {
    let marker = Marker {
        header: Header { ts_event: ts, ts_recv: ts, ..Header::of::<Marker>() },
        code: code as u8,
        cause: 0,
        state: 0,
        channel: 11,
        count: 0,
        first: number,
        last: 0,
        ts_start: i64::MAX,
    };
    let header = BlobHeader { kind: BlobKind::Records as u8, feed: 1, ts_recv: ts, ..head() };
    (header, marker.as_bytes().to_vec())
}

pub fn head() -> BlobHeader {
    BlobHeader { feed: 1, kind: BlobKind::Text as u8, ..BlobHeader::default() }
}

/// What a venue sends for two symbols on several streams, on two lines with losses, repeats,
/// outages and frames that cannot be read.
pub fn raw(seed: u64, steps: u64) -> Blobs {
    let mut chance = Chance(seed);
    let mut blobs = Blobs::new();
    let mut ts = 1_700_000_000_000_000_000_i64;
    let mut ids = [[100_u64; 3]; 2];
    let mut live = [false; 2];
    for _ in 0..steps {
        ts += chance.below(40_000_000) as i64;
        let line = chance.below(2) as usize;
        if chance.below(40) == 0 {
            let code = if live[line] { MarkerCode::Disconnected } else { MarkerCode::Connected };
            live[line] = !live[line];
            let (header, body) = session(code, line as u64, ts);
            blobs.push(header, b"", &body).unwrap();
        }
        let which = chance.below(2) as usize;
        let symbol = ["BTCUSDT", "ETHUSDT"][which];
        let stream = chance.below(5) as usize;
        let text = if stream < 3 {
            let id = &mut ids[which][stream];
            *id += 1;
            frame(symbol, stream, *id, ts / 1_000_000, &mut chance)
        } else if stream == 3 {
            kline(symbol, ts / 1_000_000, &mut chance)
        } else if chance.below(10) == 0 {
            "{\"stream\":\"x\",\"data\":{".to_owned()
        } else {
            "{\"result\":null,\"id\":1}".to_owned()
        };
        let lost = [chance.below(12) == 0, chance.below(12) == 0];
        for (number, lost) in lost.into_iter().enumerate() {
            if live[number] && !lost {
                let header = BlobHeader { connection: number as u16, ts_recv: ts, ..head() };
                blobs.push(header, b"", text.as_bytes()).unwrap();
                ts += chance.below(3_000_000) as i64;
            }
        }
    }
    blobs
}

fn frame(symbol: &str, stream: usize, id: u64, ms: i64, chance: &mut Chance) -> String {
    let lower = symbol.to_lowercase();
    let (price, size) = (60_000 + chance.below(100), 1 + chance.below(50));
    match stream {
        0 => format!(
            "{{\"stream\":\"{lower}@trade\",\"data\":{{\"e\":\"trade\",\"E\":{ms},\
             \"s\":\"{symbol}\",\"t\":{id},\"p\":\"{price}.10\",\"q\":\"0.{size}\",\"T\":{ms},\
             \"m\":{},\"M\":true}}}}",
            size % 2 == 0
        ),
        1 => format!(
            "{{\"stream\":\"{lower}@depth@100ms\",\"data\":{{\"e\":\"depthUpdate\",\"E\":{ms},\
             \"s\":\"{symbol}\",\"U\":{},\"u\":{},\"b\":[[\"{price}.00\",\"{size}.5\"]],\
             \"a\":[[\"{price}.50\",\"1.0\"],[\"{price}.60\",\"0\"]]}}}}",
            id * 10 - 9,
            id * 10
        ),
        _ => format!(
            "{{\"stream\":\"{lower}@bookTicker\",\"data\":{{\"u\":{id},\"s\":\"{symbol}\",\
             \"b\":\"{price}.0\",\"B\":\"1.{size}\",\"a\":\"{price}.1\",\"A\":\"2.0\"}}}}"
        ),
    }
}

fn kline(symbol: &str, ms: i64, chance: &mut Chance) -> String {
    let open = ms - ms % 60_000;
    let count = 1 + chance.below(90);
    format!(
        "{{\"stream\":\"{}@kline_1m\",\"data\":{{\"e\":\"kline\",\"E\":{ms},\"s\":\"{symbol}\",\
         \"k\":{{\"t\":{open},\"T\":{},\"s\":\"{symbol}\",\"i\":\"1m\",\"f\":1,\"L\":{count},\
         \"o\":\"1\",\"c\":\"2\",\"h\":\"3\",\"l\":\"1\",\"v\":\"{count}\",\"n\":{count},\
         \"x\":false,\"q\":\"9\",\"V\":\"1\",\"Q\":\"2\",\"B\":\"0\"}}}}}}",
        symbol.to_lowercase(),
        open + 59_999
    )
}
