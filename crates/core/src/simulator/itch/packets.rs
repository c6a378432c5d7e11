//! Messages in packets of MoldUDP64.

/// Bytes of the header of a packet.
const HEADER: usize = 20;

/// A packet, and which messages it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoldPacket {
    /// Number of its first message.
    pub first: u64,
    /// Its messages.
    pub count: u16,
    /// All of it, with its header.
    pub bytes: Vec<u8>,
}

/// Puts `blocks`, whole messages each behind its length, into packets of at most `bytes_max`
/// bytes; one that holds a single message may be longer. The first message has the number `first`.
pub fn mold_packets(
    blocks: &[u8],
    session: &[u8; 10],
    mut first: u64,
    bytes_max: usize,
) -> Vec<MoldPacket> {
    let mut packets = Vec::with_capacity(blocks.len() / bytes_max.max(HEADER + 1) + 1);
    let mut at = 0;
    while at < blocks.len() {
        let (start, mut count) = (at, 0_u16);
        while let Some((length, _)) = blocks[at..].split_first_chunk::<2>() {
            let end = at + 2 + usize::from(u16::from_be_bytes(*length));
            let is_over = end > blocks.len() || count == u16::MAX - 1;
            if is_over || (count > 0 && HEADER + end - start > bytes_max) {
                break;
            }
            (at, count) = (end, count + 1);
        }
        if count == 0 {
            break;
        }
        let mut bytes = Vec::with_capacity(HEADER + at - start);
        bytes.extend_from_slice(session);
        bytes.extend_from_slice(&first.to_be_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&blocks[start..at]);
        packets.push(MoldPacket { first, count, bytes });
        first += u64::from(count);
    }
    packets
}
