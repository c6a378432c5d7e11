"""UDP datagrams of pcap files.

The classic format, in either byte order, with times in us or ns; Ethernet with any number of VLAN
tags, Linux "cooked" captures and raw IP; IPv4 and IPv6. What is no UDP is passed over.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from gzip import GzipFile
from typing import IO

# Byte order, and ns in a unit of the fraction of a second.
MAGICS = {
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
}
NEXT_GENERATION = b"\x0a\x0d\x0d\x0a"
PACKET_BYTES_MAX = 1 << 20
UDP = 17
VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
IPV4, IPV6 = 0x0800, 0x86DD


@dataclass(frozen=True)
class Datagram:
    """What one UDP datagram carried."""

    ts: int
    """When it was captured, in ns."""
    payload: bytes
    is_cut: bool
    """The capture kept less of it than was sent."""


class PacketError(Exception):
    """A pcap file is not what it should be; says what and where."""


def is_pcap(start: bytes) -> bool:
    """Whether a file that starts with these four bytes is one of packets."""
    return start in MAGICS or start == NEXT_GENERATION


def datagrams(file: IO[bytes] | GzipFile) -> Iterator[Datagram]:
    """Yields the UDP datagrams of a pcap file.

    Raises:
        PacketError: it is of another format, or ends within a packet; all before it was given.
    """
    head = file.read(24)
    if head[:4] == NEXT_GENERATION:
        raise PacketError("it is pcapng: `editcap -F nsecpcap IN OUT` makes pcap of it")
    if head[:4] not in MAGICS or len(head) < 24:
        raise PacketError("expected a pcap file, got other bytes")
    order, unit = MAGICS[head[:4]]
    link = struct.unpack(f"{order}I", head[20:24])[0] & 0xFFFF
    if link not in LINKS:
        raise PacketError(
            f"expected Ethernet, Linux cooked or raw IP packets, got link type {link}"
        )
    record = struct.Struct(f"{order}IIII")
    at = 24
    while head := file.read(16):
        if len(head) < 16:
            raise PacketError(f"it ends within a packet, at byte {at}")
        seconds, fraction, kept, length = record.unpack(head)
        if kept > PACKET_BYTES_MAX:
            raise PacketError(f"expected a packet at byte {at}, got a length of {kept}")
        packet = file.read(kept)
        if len(packet) < kept:
            raise PacketError(f"it ends within a packet, at byte {at}")
        at += 16 + kept
        payload = LINKS[link](packet)
        if payload is not None:
            yield Datagram(seconds * 1_000_000_000 + fraction * unit, payload, kept < length)


def _ethernet(packet: bytes) -> bytes | None:
    at = 12
    while int.from_bytes(packet[at : at + 2], "big") in VLAN_TAGS:
        at += 4
    kind = int.from_bytes(packet[at : at + 2], "big")
    return _ip(packet[at + 2 :]) if kind in (IPV4, IPV6) else None


def _cooked(packet: bytes) -> bytes | None:
    kind = int.from_bytes(packet[14:16], "big")
    return _ip(packet[16:]) if kind in (IPV4, IPV6) else None


def _ip(packet: bytes) -> bytes | None:
    if len(packet) < 20:
        return None
    if packet[0] >> 4 == 4:
        # The later parts of a datagram have no header of their own.
        is_first = int.from_bytes(packet[6:8], "big") & 0x1FFF == 0
        start = (packet[0] & 15) * 4
        return _udp(packet[start:]) if packet[9] == UDP and is_first else None
    return _udp(packet[40:]) if packet[0] >> 4 == 6 and packet[6] == UDP else None


def _udp(datagram: bytes) -> bytes | None:
    if len(datagram) < 8:
        return None
    # Frames are filled up to a least length: what is behind the datagram is not of it.
    return datagram[8 : max(8, int.from_bytes(datagram[4:6], "big"))]


LINKS: dict[int, Callable[[bytes], bytes | None]] = {
    1: _ethernet, 12: _ip, 14: _ip, 101: _ip, 113: _cooked,
}  # fmt: skip
