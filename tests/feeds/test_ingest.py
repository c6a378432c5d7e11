"""The recorder's inner end: order on the tapes, the bound on memory, the count of what is shed."""

import json
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import tapeworks as tw
from tapeworks._core import Ingest, TapeReader, definitions_of
from tapeworks.source_symbols import KeptDefinitions, SourceSymbols
from tapeworks.topics import NORMALIZED

RECORDS, CONNECTED = 4, 4


def trade(number: int) -> bytes:
    data = {
        "e": "trade", "E": 1, "s": "BTCUSDT", "t": number, "p": "1.5", "q": "2", "T": 1, "m": True
    }  # fmt: skip
    return json.dumps({"stream": "btcusdt@trade", "data": data}, separators=(",", ":")).encode()


def raw_bodies(data: Path) -> list[bytes]:
    reader = TapeReader(data / "tape" / "x" / "market-data.raw")
    bodies = []
    while (blobs := reader.read_blobs(1000)) is not None:
        bodies += [bytes(blob.body) for blob in blobs if blob.kind != RECORDS]
    return bodies


def test_nothing_is_visible_before_the_flush_and_all_is_after(tmp_path):
    # Frames of one read of a socket become visible together, raw before derived.
    ingest = Ingest(tmp_path, "x", "binance-spot")
    for number in range(1, 4):
        assert not ingest.receive(0, 1, time.time_ns(), memoryview(trade(number)))
    assert raw_bodies(tmp_path) == []
    # The start of the recorder, three trades, and the definition before the first of them.
    assert ingest.flush() == 5
    assert raw_bodies(tmp_path) == [trade(1), trade(2), trade(3)]
    assert ingest.stats()["frames"] == 3
    assert 0 < ingest.latency(0.5) <= ingest.latency(1.0)


def test_definitions_are_kept_beside_the_tapes_and_told_again_by_a_later_session(tmp_path):
    # What has not changed is not given. A session that meets nothing new still knows all: a file
    # that is gone, and what retention took of the tape, are made good by the next start.
    kept = KeptDefinitions(tmp_path, "x")
    ingest = Ingest(tmp_path, "x", "binance-spot")
    kept.follow(ingest)
    assert not kept.path.exists()
    ingest.receive(0, 1, time.time_ns(), trade(1))
    ingest.flush()
    ingest.sync()
    kept.follow(ingest)
    assert (kept.count, definitions_of(ingest, 1)) == (1, None)
    # Whoever starts later reads the tape from here on.
    assert kept.covered() == TapeReader(tmp_path / "tape" / "x" / NORMALIZED).end > 0
    ingest.close()
    kept.path.unlink()
    again = Ingest(tmp_path, "x", "binance-spot")
    KeptDefinitions(tmp_path, "x").follow(again)
    again.close()
    shutil.rmtree(tmp_path / "tape")
    assert SourceSymbols(tmp_path, "x").names() == {1: "BTCUSDT"}


@pytest.mark.parametrize("source", ["../out", "a/b", "/tmp", "..", "", "-x", "A", "x" * 65, "a\nb"])
def test_name_that_leads_out_of_the_data_folder_is_refused(tmp_path, source):
    # Whoever calls the core: nothing is written before the name is found fit.
    with pytest.raises(ValueError, match="expected the name of a source"):
        Ingest(tmp_path / "data", source, "binance-spot")
    assert not list(tmp_path.iterdir())


def test_frames_that_are_not_data_are_shown_and_kept(tmp_path):
    # Replies and shutdowns go to the tape like all else, and back to the session.
    ingest = Ingest(tmp_path, "x", "binance-spot")
    frames = [
        b'{"result":null,"id":1}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
        b'{"data":{},"stream":"a@trade"}',
    ]
    assert all(ingest.receive(0, 1, 1, frame) for frame in frames)
    assert not ingest.receive(0, 3, 1, b"{}", b"/api/v3/ping")
    ingest.flush()
    assert raw_bodies(tmp_path) == [*frames, b"{}"]


def test_what_is_marked_as_cut_is_a_dead_letter_whatever_it_holds(tmp_path):
    # A message whose last fragment never came may read like a whole one. Its bytes are kept, and
    # make no record; the trades behind it do.
    ingest = Ingest(tmp_path, "x", "binance-spot")
    ingest.receive(0, 1, time.time_ns(), trade(1), b"#cut")
    ingest.receive(0, 3, time.time_ns(), b'{"symbols":[]}', b"/api/v3/exchangeInfo#cut")
    for number in (2, 3, 4):
        ingest.receive(0, 1, time.time_ns(), trade(number))
    # The start of the recorder, two dead letters, the gap of the first, a definition and trades.
    assert ingest.flush() == 8
    assert ingest.stats()["dead_letters"] == 2
    assert raw_bodies(tmp_path)[:2] == [trade(1), b'{"symbols":[]}']


def test_activity_counts_named_streams(tmp_path):
    # The watchdog asks when a stream last spoke; only what was subscribed is kept.
    ingest = Ingest(tmp_path, "x", "binance-spot")
    ingest.watch(3, "btcusdt@trade", "BTCUSDT", "trade")
    ingest.receive(3, 1, 100, trade(1))
    ingest.receive(3, 1, 200, trade(2))
    ingest.receive(3, 1, 300, b'{"stream":"other@trade","data":{}}')
    assert ingest.activity(3) == [("btcusdt@trade", 2, 100, 200)]
    ingest.disconnected(3, 400)
    assert ingest.activity(3) == []


def test_second_recorder_of_a_source_is_refused(tmp_path):
    # Two writers would tear the tape apart.
    first = Ingest(tmp_path, "x", "binance-spot")
    code = "import sys, tapeworks._core as c; c.Ingest(sys.argv[1], 'x', 'binance-spot')"
    second = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    assert second.returncode != 0
    assert b"TapeLockedError" in second.stderr
    first.close()


def run(program: str, folder: Path) -> Any:
    """Runs `program` on `folder` in a process of its own; returns the JSON that it printed."""
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


FULL_DISK = """
import json, resource, signal, sys, time
from tapeworks._core import Ingest

def rss_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024

body = b'{"stream":"btcusdt@x","data":{"pad":"' + b"y" * 1000 + b'"}}'
ingest = Ingest(sys.argv[1], "x", "binance-spot",
                pending_bytes_max=4 << 20, durability_ms=-1)
sent, last = 0, [0, 0]
def send(count):
    global sent
    for _ in range(count):
        connection = sent % 2
        ingest.receive(connection, 1, 1_000_000 + sent, body)
        last[connection] = 1_000_000 + sent
        sent += 1
        if sent % 50 == 0:
            ingest.flush()

send(1000)
room = 8 << 20
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
send(20_000)
before = rss_kib()
assert ingest.stats()["failure"], ingest.stats()
send(100_000)
after = rss_kib()
full = ingest.stats()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ingest.flush()
shed = ingest.stats()["shed"]
send(1000)
ingest.flush()
end = ingest.stats()
ingest.close()
print(json.dumps({"sent": sent, "shed": shed, "grown_kib": after - before,
                  "pending": full["pending_bytes"], "end": end}))
"""


def test_full_disk_sheds_the_newest_and_the_ledger_says_how_many(tmp_path):
    # A limit on file size stands in for a full disk: the same error of the same call. Far more
    # arrives than the buffer holds; memory must not grow, every frame must be on the tape or in
    # the count, and the count must be on the tape. When there is room again, it goes on.
    result = run(FULL_DISK, tmp_path)
    assert result["shed"] > 100_000
    assert result["end"]["shed"] == result["shed"]
    assert result["end"]["failure"] is None
    assert result["pending"] <= 4 << 20
    assert result["grown_kib"] < 2048
    reader = TapeReader(tmp_path / "tape" / "x" / "market-data.raw")
    kept, ledger, starts = 0, 0, []
    while (blobs := reader.read_blobs(1000)) is not None:
        for blob in blobs:
            if blob.kind == 1:
                kept += 1
            else:
                marker = bytes(blob.body)
                if marker[32] == CONNECTED:
                    continue
                # A gap (3) by overload (4): its count lies at byte 36 of the record.
                assert (marker[32], marker[33]) == (3, 4)
                ledger += int.from_bytes(marker[36:40], "little")
                starts.append(int.from_bytes(marker[56:64], "little"))
    assert ledger == result["shed"]
    assert kept + ledger == result["sent"]
    # Two connections, frame by frame in turn: their first losses are neighbours.
    assert len(starts) == 2
    assert abs(starts[0] - starts[1]) == 1


NO_ROOM_FOR_NOTES = """
import json, resource, sys
from tapeworks._core import Ingest

body = b'{"stream":"btcusdt@x","data":{"pad":"' + b"y" * 1000 + b'"}}'
ingest = Ingest(sys.argv[1], "x", "binance-spot", pending_bytes_max=1 << 20, durability_ms=-1)
ts = ingest.now()
ingest.begin_subscriptions(ts)
ingest.watch(0, "btcusdt@trade", "BTCUSDT", "trade")
ingest.watch(0, "ethusdt@trade", "ETHUSDT", "trade")
ingest.connected(0, 3, ts)
ingest.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
for number in range(4_000):
    ingest.receive(0, 1, ts, body)
    ingest.flush()
assert ingest.stats()["failure"], ingest.stats()
# Markers of connections fill what is left beyond the bound of frames.
for number in range(20_000):
    ingest.connected(1, 4, ts)
ingest.subscribed(0, ["ethusdt@trade"], ts)
pending = ingest.stats()["pending_bytes"]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ingest.flush()
ingest.heartbeat(ts)
ingest.flush()
ingest.close()
print(json.dumps(pending))
"""


def test_what_a_full_disk_keeps_from_being_noted_is_noted_later(tmp_path):
    # The answer of the venue comes when no more records are taken; the next heartbeat that finds
    # room notes it, each stream once.
    assert run(NO_ROOM_FOR_NOTES, tmp_path) > 2 << 20
    rows = tw.open(tmp_path).sql("select stream, line, state from subscriptions").to_pylist()
    assert rows == [
        {"stream": "btcusdt@trade", "line": 3, "state": "subscribed"},
        {"stream": "ethusdt@trade", "line": 3, "state": "refused"},
    ]
    marks = tw.open(tmp_path).sql("select connection, line from sessions where code = 'subscribed'")
    assert [tuple(row.values()) for row in marks.to_pylist()] == [(0xFFFF, 0xFFFF), (0, 3)]
