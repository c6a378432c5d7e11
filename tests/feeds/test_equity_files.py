"""Files of ITCH and LOBSTER as the raw tape takes them: what is read, and what is refused."""

import gzip
import os
import struct
import zipfile
from datetime import date
from pathlib import Path

import pytest

from tapeworks._core import Decoder, dtype_descr
from tapeworks.errors import ConfigError, FeedError
from tapeworks.feeds.captures import Captured, CaptureOptions
from tapeworks.feeds.itch.captures import ItchCaptures
from tapeworks.feeds.lobster.captures import LobsterCaptures
from tapeworks.new_york import day_at, midnight_of

FEEDS = Path(__file__).resolve().parents[2] / "crates" / "core" / "src" / "feeds"
MESSAGES = [
    bytes.fromhex(line)
    for line in (FEEDS / "itch" / "captures" / "day.hex").read_text().splitlines()
    if not line.startswith("#")
]
DAY = b"".join(struct.pack(">H", len(message)) + message for message in MESSAGES)
NAME = "08222023.NASDAQ_ITCH50"
ROWS = (FEEDS / "lobster" / "captures" / "rows.csv").read_bytes()
LOBSTER_NAME = "AMZN_2012-06-21_34200000_57600000_message_5.csv"
RECORD_BYTES = 128
MIDNIGHT = 1_692_676_800_000_000_000


def itch(path: Path, **options) -> list[Captured]:
    return list(ItchCaptures(CaptureOptions("itch", **options)).read(path))


def lobster(path: Path, **options) -> list[Captured]:
    return list(LobsterCaptures(CaptureOptions("lobster", **options)).read(path))


def orders(feed: str, frames: list[Captured]) -> int:
    """Returns the number of order events in frames, all of which must decode."""
    decoder = Decoder(feed)
    sizes = [
        len(decoder.receive(one.kind, one.context, one.body, one.ts_recv).numpy("order"))
        for one in frames
    ]
    return sum(sizes) // RECORD_BYTES


def pcap(
    datagrams: list[bytes], order: str = "<", magic: int = 0xA1B23C4D, vlan: bool = True
) -> bytes:
    """Returns a pcap file of UDP datagrams, one a microsecond from 09:30 on."""
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, 1)]
    unit = 1 if magic == 0xA1B23C4D else 1000
    for number, payload in enumerate(datagrams):
        udp = struct.pack(">HHHH", 1, 26477, 8 + len(payload), 0) + payload
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, 1, 2) + udp
        tag = b"\x81\x00\x00\x8d" if vlan else b""
        frame = b"\1" * 12 + tag + b"\x08\x00" + ip
        frame += bytes(max(0, 60 - len(frame)))
        ts = MIDNIGHT + 34_200 * 10**9 + number * 1000
        head = (ts // 10**9, ts % 10**9 // unit, len(frame), len(frame))
        parts += [struct.pack(f"{order}IIII", *head), frame]
    arp = b"\1" * 12 + b"\x08\x06" + bytes(46)
    return b"".join([*parts, struct.pack(f"{order}IIII", 1_692_711_000, 0, 60, 60), arp])


def mold(sequence: int, messages: list[bytes]) -> bytes:
    blocks = [struct.pack(">H", len(message)) + message for message in messages]
    return b"000012345A" + struct.pack(">QH", sequence, len(messages)) + b"".join(blocks)


def test_packets_without_numbers_are_told_as_such(tmp_path: Path):
    # Some captures number all packets by 0, where a session begins with 1: nothing tells a loss.
    path = tmp_path / "x.pcap"
    heartbeats = [mold(0, []), mold(0, [])[:18] + b"\xff\xff"]
    for sequence, told in ((0, "3 packets have messages without a number"), (1, "")):
        packets = [mold(sequence and 1 + at, [MESSAGES[at]]) for at in range(3)]
        path.write_bytes(pcap([*heartbeats, *packets, b"a stray"]))
        reader = ItchCaptures(CaptureOptions("itch"))
        assert len(list(reader.read(path))) == 6
        assert [told in note for note in reader.notes] == ([True] if told else [])


def test_a_day_is_the_same_plain_and_gzipped(tmp_path: Path):
    # Runs of whole messages, which put together are the file; their times are those of events.
    (tmp_path / NAME).write_bytes(DAY)
    (tmp_path / f"{NAME}.gz").write_bytes(gzip.compress(DAY))
    plain, packed = itch(tmp_path / NAME), itch(tmp_path / f"{NAME}.gz")
    assert [one.body for one in plain] == [one.body for one in packed]
    assert b"".join(one.body for one in plain) == DAY
    assert [one.ts_recv for one in plain] == sorted(one.ts_recv for one in plain)
    assert plain[0].context == b"file?name=%s&midnight=%d&sequence=1" % (NAME.encode(), MIDNIGHT)
    assert orders("itch", plain) == 11
    # The name of the older files, and one that says nothing.
    (tmp_path / "S082223-v50.txt").write_bytes(DAY)
    assert itch(tmp_path / "S082223-v50.txt")[0].ts_recv == plain[0].ts_recv
    (tmp_path / "day.bin").write_bytes(DAY)
    with pytest.raises(ConfigError, match="--date"):
        itch(tmp_path / "day.bin")
    assert itch(tmp_path / "day.bin", day=date(2023, 8, 22))[0].ts_recv == plain[0].ts_recv


def test_a_file_cut_anywhere_gives_all_whole_messages_and_the_rest_as_it_is(tmp_path: Path):
    # Every length from the first whole message on: no byte is lost.
    path = tmp_path / NAME
    for length in range(14, len(DAY)):
        path.write_bytes(DAY[:length])
        assert b"".join(one.body for one in itch(path)) == DAY[:length]
    (tmp_path / "x.gz").write_bytes(gzip.compress(DAY)[:-20])
    with pytest.raises(FeedError, match="not whole gzip"):
        itch(tmp_path / "x.gz", day=date(2023, 8, 22))


def test_what_is_no_file_of_messages_is_refused_with_its_reason(tmp_path: Path):
    # Prefixes of zero, dumps of SoupBinTCP, JSON, and an end with bytes behind it.
    path = tmp_path / NAME
    soup = b"".join(struct.pack(">H", len(m) + 1) + b"S" + m for m in MESSAGES)
    zeros = b"".join(b"\0\0" + message for message in MESSAGES)
    for body, reason in [
        (zeros, "length 0"),
        (soup, "SoupBinTCP"),
        (b'{"e":"trade"}\n' * 9, "ITCH 5.0"),
        (DAY + b"\0\0" + DAY, "behind it"),
        (b"\x0a\x0d\x0d\x0a" + bytes(60), "pcapng"),
    ]:
        path.write_bytes(body)
        with pytest.raises(FeedError, match=reason):
            itch(path)
    # The end of a session may be written as a length of zero.
    path.write_bytes(DAY + b"\0\0")
    assert b"".join(one.body for one in itch(path)) == DAY
    with pytest.raises(ConfigError, match="no --symbol, --stream"):
        itch(path, symbol="TEST", stream="x")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B23C4D, 0xA1B2C3D4])
@pytest.mark.parametrize("vlan", [True, False])
def test_packets_of_a_pcap_are_given_with_their_times(
    tmp_path: Path, order: str, magic: int, vlan: bool
):
    # Both byte orders, both units, with and without a tag; a frame of ARP is passed over.
    sent = [mold(number, [message]) for number, message in enumerate(MESSAGES, 1)]
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(sent, order, magic, vlan))
    found = itch(path)
    assert [one.body for one in found] == sent
    assert found[1].ts_recv - found[0].ts_recv == 1000
    assert found[0].context == b"moldudp64?reorder_ms=1000&midnight=%d" % MIDNIGHT
    assert orders("itch", found) == 11
    path.write_bytes(path.read_bytes()[:-70])
    with pytest.raises(FeedError, match="ends within a packet"):
        itch(path)


def test_messages_of_lobster_come_from_archives_and_files(tmp_path: Path):
    # The archive as it is distributed, the message file, and the same gzipped.
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(LOBSTER_NAME.replace("message", "orderbook"), "1,2,3,4\n")
        file.writestr(LOBSTER_NAME, ROWS)
    (tmp_path / LOBSTER_NAME).write_bytes(ROWS)
    (tmp_path / f"{LOBSTER_NAME}.gz").write_bytes(gzip.compress(ROWS))
    found = lobster(archive)
    assert b"".join(one.body for one in found) == ROWS
    for path in (tmp_path / LOBSTER_NAME, tmp_path / f"{LOBSTER_NAME}.gz"):
        same = [(one.ts_recv, one.context, one.body) for one in lobster(path)]
        assert same == [(one.ts_recv, one.context, one.body) for one in found]
    assert orders("lobster", found) == 7
    assert found[0].ts_recv == midnight_of(date(2012, 6, 21)) + 34_200_700_000_000

    (tmp_path / "rows.csv").write_bytes(ROWS)
    with pytest.raises(ConfigError, match="--symbol AMZN and --date"):
        lobster(tmp_path / "rows.csv")
    given = lobster(tmp_path / "rows.csv", symbol="AMZN", day=date(2012, 6, 21))
    assert given[0].ts_recv == found[0].ts_recv
    book = tmp_path / LOBSTER_NAME.replace("message", "orderbook")
    book.write_bytes(b"2239500,100,2231800,100\n")
    with pytest.raises(FeedError, match="order book file"):
        lobster(book)
    book.rename(tmp_path / "b.csv")
    with pytest.raises(FeedError, match="order book file"):
        lobster(tmp_path / "b.csv", symbol="AMZN", day=date(2012, 6, 21))
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(FeedError):
        lobster(archive, symbol="AMZN", day=date(2012, 6, 21))


def test_midnight_follows_the_clocks_of_new_york():
    # Both sides of both changes of the year 2023, and back.
    for day, hours in [("2023-03-12", 5), ("2023-03-13", 4), ("2023-11-05", 4), ("2023-11-06", 5)]:
        there = date.fromisoformat(day)
        midnight = midnight_of(there)
        assert midnight % 86_400_000_000_000 == hours * 3_600_000_000_000
        assert (day_at(midnight), day_at(midnight - 1) < there) == (there, True)
    assert dict(dtype_descr("order"))["order_id"] == "<u8"


def zipped(path: Path, *names: str) -> Path:
    """Writes an archive of message files, each with the same rows."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, ROWS)
    return path


def test_stocks_of_one_archive_come_in_the_order_of_time(tmp_path: Path):
    # Each begins at 09:30: one behind the other, receive times would fall.
    path = zipped(tmp_path / "two.zip", LOBSTER_NAME, LOBSTER_NAME.replace("AMZN", "MSFT"))
    frames = lobster(path)
    times = [frame.ts_recv for frame in frames]
    assert times == sorted(times)
    assert orders("lobster", frames) == 2 * 7


def test_what_a_name_tells_is_not_overridden_in_silence(tmp_path: Path):
    day = date(2020, 2, 28)
    (tmp_path / LOBSTER_NAME).write_bytes(ROWS)
    with pytest.raises(ConfigError, match="is of AMZN by its name, and of XYZ by --symbol"):
        lobster(tmp_path / LOBSTER_NAME, symbol="XYZ")
    with pytest.raises(ConfigError, match="2012-06-21 by its name, and of 2020-02-28 by --date"):
        lobster(tmp_path / LOBSTER_NAME, day=day)
    same = lobster(tmp_path / LOBSTER_NAME, symbol="AMZN", day=date(2012, 6, 21))
    assert orders("lobster", same) == 7
    (tmp_path / NAME).write_bytes(DAY)
    with pytest.raises(ConfigError, match="2023-08-22 by its name, and of 2020-02-28 by --date"):
        itch(tmp_path / NAME, day=day)
    # A packet has its day from its capture: another one may be meant, and is told.
    (tmp_path / "a.pcap").write_bytes(pcap([mold(1, MESSAGES[:1])]))
    reader = ItchCaptures(CaptureOptions("itch", day=day))
    assert len(list(reader.read(tmp_path / "a.pcap"))) == 1
    assert "was captured on 2023-08-22, and is taken as of 2020-02-28" in reader.notes[0]


def test_an_archive_that_cannot_be_unpacked_is_an_error_of_its_own(tmp_path: Path):
    # Flags of an archive that say that it has a password, or is packed in a way that is not known.
    packed = zipped(tmp_path / "a.zip", LOBSTER_NAME).read_bytes()
    entry = packed.index(b"PK\1\2")
    locked, other = bytearray(packed), bytearray(packed)
    locked[6] |= 1
    locked[entry + 8] |= 1
    other[8] = other[entry + 10] = 97
    for name, changed, said in (("l.zip", locked, "password"), ("o.zip", other, "not supported")):
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(FeedError, match=f"cannot be unpacked: .*{said}"):
            lobster(tmp_path / name)


def test_a_name_that_is_no_text_is_read(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"A\xff_2012-06-21_34200000_57600000_message_5.csv")
    path.write_bytes(ROWS)
    assert orders("lobster", lobster(path)) == 7


def test_a_file_that_ends_early_is_told(tmp_path: Path):
    # The end of messages of the venue is what ends a day; a window of LOBSTER says its own.
    end = MESSAGES[0][:11] + b"C"
    for name, day, cuts in (
        (NAME, DAY, 1),
        (f"1{NAME}", DAY + struct.pack(">H", len(end)) + end, 0),
        (f"2{NAME}", DAY + b"\0\0", 0),
    ):
        (tmp_path / name).write_bytes(day)
        reader = ItchCaptures(CaptureOptions("itch", day=date(2023, 8, 22)))
        list(reader.read(tmp_path / name))
        assert (len(reader.cuts), reader.notes) == (cuts, []), name
    (tmp_path / LOBSTER_NAME).write_bytes(b"57599.5,1,1,1,1,1\n")
    (tmp_path / f"x{LOBSTER_NAME}").write_bytes(b"57539.5,1,1,1,1,1\n")
    reader = LobsterCaptures(CaptureOptions("lobster"))
    list(reader.read(tmp_path / LOBSTER_NAME))
    assert not reader.notes
    list(reader.read(tmp_path / f"x{LOBSTER_NAME}"))
    assert "ends at 2012-06-21 15:58:59 in New York, before its window" in reader.notes[0]
    # A line that is cut is the venue's in no file; a last one without a break is, in many.
    for rows, cuts in (
        (b"37080.5,1,1,1,1,1\n37080.7,1,1,1", 1),
        (b"37080.5,1,1,1,1,1\n37080.7,1,1,1,1,1", 1),
        (b"57599.5,1,1,1,1,1\n57599.7,1,1,1,1", 1),
        (b"57599.5,1,1,1,1,1\n57599.7,1,1,1,1,1", 0),
    ):
        (tmp_path / LOBSTER_NAME).write_bytes(rows)
        reader = LobsterCaptures(CaptureOptions("lobster"))
        list(reader.read(tmp_path / LOBSTER_NAME))
        assert (len(reader.cuts), reader.notes) == (cuts, [])
