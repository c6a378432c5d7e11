"""What derived tapes hold and what the job wrote, as messages by topic and key.

A message of an instrument has its place among those of the instrument and topic as its offset: so a
message that is lost, doubled or out of its place is one whose bytes differ.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.published import topic_messages

from tapeworks._core import ProtobufEncoder, Records, Symbols, TapeReader, decode_messages
from tapeworks.topics import BARS, BOOK, GAPS, METRICS, NORMALIZED, TICKS

TOPICS = (BOOK, BARS, TICKS, METRICS, GAPS)
Messages = dict[tuple[str, bytes], list[bytes]]
"""Topic and key -> messages in their order."""


def records_of(tape: Path) -> Iterator[bytes]:
    """Yields the bytes of each record of a tape."""
    reader = TapeReader(tape)
    while (batch := reader.read(65_536)) is not None:
        yield from split(memoryview(batch).tobytes())


def split(data: bytes) -> Iterator[bytes]:
    """Yields the bytes of each record."""
    at = 0
    while at < len(data):
        end = at + data[at] * 8
        yield data[at:end]
        at = end


def of_tapes(folder: Path, source: str) -> Messages:
    """Returns what the derived tapes of a source hold; `folder` holds its tapes by topic."""
    symbols = Symbols()
    reader = TapeReader(folder / NORMALIZED)
    while (batch := reader.read(65_536)) is not None:
        symbols.load(batch)
    encoder = ProtobufEncoder(source)
    encoder.load(symbols)
    found: Messages = {}
    for topic in TOPICS:
        if not (folder / topic).is_dir():
            continue
        own: dict[int, list[bytes]] = defaultdict(list)
        for record in records_of(folder / topic):
            own[struct.unpack_from("<I", record, 4)[0]].append(record)
        for records in own.values():
            for key, message, _ in encoder.encode(Records.from_bytes(b"".join(records))).items():
                found.setdefault((topic, key), []).append(message)
    return found


def of_topics(port: int, prefix: str) -> Messages:
    """Returns what is committed in the topics of the job."""
    found: Messages = {}
    for topic in TOPICS:
        for key, message in topic_messages(port, prefix + topic):
            found.setdefault((topic, key), []).append(message)
    return found


def of_files(folder: Path) -> Messages:
    """Returns what the job wrote to files that are final, in no order of files."""
    parts: dict[tuple[str, bytes], list[tuple[int, list[bytes]]]] = defaultdict(list)
    for topic in TOPICS:
        for path in sorted((folder / topic).glob("part-*")):
            own: dict[bytes, list[bytes]] = defaultdict(list)
            for key, message in entries(path.read_bytes()):
                own[key].append(message)
            for key, messages in own.items():
                parts[topic, key].append((offset_of(messages[0]), messages))
    return {place: [one for _, some in sorted(own) for one in some] for place, own in parts.items()}


def entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields key and body of each entry of a file."""
    at = 0
    while at < len(data):
        pair = []
        for _ in range(2):
            (length,) = struct.unpack_from("<I", data, at)
            pair.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        yield pair[0], pair[1]


def offset_of(message: bytes) -> int:
    """Returns the offset that a message says."""
    _, [(_, offset)], _ = decode_messages([message])
    return offset


def differences(expected: Messages, found: Messages) -> tuple[Counter[str], list[str]]:
    """Returns how many messages are lost, doubled and otherwise wrong, and where."""
    counts, told = Counter[str](), []
    for place in sorted({*expected, *found}):
        wanted, got = expected.get(place, []), found.get(place, [])
        if wanted == got:
            continue
        lost, doubled = missing(wanted, got), missing(got, wanted)
        counts["lost"] += lost
        counts["doubled"] += doubled
        counts["disordered"] += not lost and not doubled
        at = next((n for n, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b), -1)
        topic, key = place
        told.append(
            f"{topic} of {key.decode()}: expected {len(wanted)} messages, got {len(got)}; the "
            f"first that differs is number {at}"
        )
    return counts, told


def missing(some: Iterable[bytes], others: Iterable[bytes]) -> int:
    """Returns how many of `some` are not among `others`, counted."""
    return sum((Counter(some) - Counter(others)).values())


def total(messages: Mapping[tuple[str, bytes], list[bytes]]) -> int:
    """Returns the number of all messages."""
    return sum(map(len, messages.values()))
