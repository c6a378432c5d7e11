"""Every recording of order events decodes to its last byte, or its rejection has a reason."""

import gzip
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tapeworks import _core
from tapeworks._core import Decoder
from tapeworks.errors import FeedError
from tapeworks.feeds.captures import Captured, CaptureOptions, CaptureReader
from tapeworks.feeds.itch.captures import ItchCaptures
from tapeworks.feeds.lobster.captures import LobsterCaptures

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ITCH, PCAP = DATA / "itch", DATA / "itch" / "nasdaq_20230822_pcap"
LOBSTER = DATA / "lobster" / "LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"
ORDER = np.dtype(_core.dtype_descr("order"))
ACTIONS = {number: name for name, number in _core.numbers("order_action").items()}

pytestmark = pytest.mark.usefixtures("real_data")

# Messages of each capture: what the manifest says that it holds.
PACKETS = {
    "full_AddOrderNoMpidAttributionMessage": "A", "full_MarketParticipantPositionMessage": "L",
    "full_Multiple.Packets": "DAF", "full_NetOrderImbalanceIndicatorMessage": "I",
    "full_OrderDeleteMessage": "D", "full_OrderExecutedMessage": "E",
    "full_OrderReplaceMessage": "U", "full_StockTradingActionMessage": "H",
}  # fmt: skip
RECORDED = {
    "A": "add", "F": "add", "D": "delete", "U": "replace", "E": "execute", "X": "cancel",
    "C": "execute_at_price", "P": "execute_hidden", "Q": "cross", "B": "break",
}  # fmt: skip


def decoded(feed: str, reader: CaptureReader, path: Path) -> tuple[np.ndarray, list[Captured]]:
    """Returns the order events of a file, all of whose frames must decode."""
    decoder, rows, frames = Decoder(feed), [], list(reader.read(path))
    ends = []
    if frames[-1].context.startswith(b"moldudp64"):
        # What waits for packets before it is passed on when time goes on: a heartbeat, later.
        last = frames[-1]
        body = last.body[:18] + b"\0\0"
        ends = [replace(last, body=body, ts_recv=last.ts_recv + 11_000_000_000)]
    for one in frames + ends:
        records = decoder.receive(one.kind, one.context, one.body, one.ts_recv)
        rows.append(np.frombuffer(records.numpy("order"), ORDER))
    return np.concatenate(rows), frames


def itch(path: Path, day: date | None = None) -> tuple[np.ndarray, list[Captured]]:
    return decoded("itch", ItchCaptures(CaptureOptions("itch", day=day)), path)


def messages(frames: list[Captured]) -> str:
    """Returns the types of all messages, found by their lengths alone."""
    found = []
    for frame in frames:
        at = 20 if frame.context.startswith(b"moldudp64") else 0
        while at < len(frame.body):
            length = int.from_bytes(frame.body[at : at + 2], "big")
            found.append(chr(frame.body[at + 2]))
            at += 2 + length
        assert at == len(frame.body)
    return "".join(found)


def actions(rows: np.ndarray) -> dict[str, int]:
    return dict(Counter(ACTIONS[number] for number in rows["action"].tolist()))


@pytest.mark.parametrize("path", sorted(PCAP.glob("*.pcap")), ids=lambda path: path.stem)
def test_every_packet_decodes_to_its_last_byte(path: Path):
    # The types of its messages, the event of each, and how close their times are to the capture.
    rows, frames = itch(path)
    types = messages(frames)
    if path.stem in PACKETS:
        # Where the publisher changed no byte, every packet is of the type that the name says.
        assert set(types) == set(PACKETS[path.stem])
    expected = Counter(RECORDED[one] for one in types if one in RECORDED)
    assert actions(rows) == dict(expected)
    late = rows["ts_recv"] - rows["ts_event"]
    assert ((late > 0) & (late < 1_000_000)).all()


def test_the_start_of_a_day_decodes_to_its_last_byte():
    # A directory of 993 stocks, in the order of their locates.
    path = ITCH / "nasdaq_first1000.itch"
    rows, frames = itch(path, date(2019, 12, 30))
    assert Counter(messages(frames)) == {"S": 1, "R": 993, "H": 3, "Y": 3}
    assert b"".join(frame.body for frame in frames) == path.read_bytes()
    assert rows.size == 0
    decoder = Decoder("itch")
    for one in frames:
        decoder.receive(one.kind, one.context, one.body, one.ts_recv)
    symbols = decoder.symbols()
    assert len(symbols) == 993
    assert {"A", "AAPL", "BPFH"} <= symbols.keys()


def test_a_file_of_another_framing_is_refused_with_the_reason():
    # Its lengths are all zero, which is the end of a session elsewhere.
    with pytest.raises(FeedError, match="it starts with a message of length 0"):
        itch(ITCH / "ritch_ex20101224.TEST_ITCH_50.gz")
    # With its lengths put in, all is well.
    sizes = dict(zip("SRHAFEXDUP", (12, 39, 25, 36, 40, 31, 23, 19, 35, 44), strict=True))
    body = gzip.decompress((ITCH / "ritch_ex20101224.TEST_ITCH_50.gz").read_bytes())
    at, blocks = 0, []
    while at < len(body):
        size = sizes[chr(body[at + 2])]
        blocks.append(size.to_bytes(2, "big") + body[at + 2 : at + 2 + size])
        at += 2 + size
    decoder = Decoder("itch")
    context = b"file?name=x&midnight=1293166800000000000&sequence=1"
    records = decoder.receive(2, context, b"".join(blocks), 2**62)
    rows = np.frombuffer(records.numpy("order"), ORDER)
    assert actions(rows) == {
        "add": 5_000, "execute": 198, "cancel": 45, "delete": 1_745, "replace": 12,
        "execute_hidden": 5_000,
    }  # fmt: skip
    bids = (rows["action"] == 1) & (rows["side"] == 1)
    assert bids.sum() == 2_432
    # Its maker lets some events name orders that never were, and those are flagged.
    assert (rows["flags"] & 32 != 0).sum() == 117


@pytest.mark.slow
def test_all_rows_of_lobster_decode():
    # Counts of the types, as the manifest has them; each row has one event.
    rows, frames = decoded("lobster", LobsterCaptures(CaptureOptions("lobster")), LOBSTER)
    with zipfile.ZipFile(LOBSTER) as archive:
        (name,) = (name for name in archive.namelist() if "message" in name)
        assert b"".join(frame.body for frame in frames) == archive.read(name)
    assert actions(rows) == {
        "add": 77_381, "cancel": 450, "delete": 66_685, "execute": 8_974, "execute_hidden": 2_445,
    }  # fmt: skip
    assert rows["sequence"].tolist() == list(range(1, 155_936))
    assert (rows["flags"] & 32 == 32).all()
