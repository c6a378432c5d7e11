"""Frames that cannot be decoded: kept, counted and shown with the bytes that the venue sent."""

import json
import shutil
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit
from typing import Any

import pytest

import tapeworks as tw
from tapeworks.simulators import start_simulator

STARTED_NS = 1_723_161_255_000_000_000
# The simulator cuts so many bytes off the end of a malformed frame.
CUT_BYTES = 7


def sent_broken(full: Path) -> list[bytes]:
    """The broken frames as they went out, by the simulator's own account."""
    lines = [json.loads(line) for line in full.read_text().splitlines()]
    broken = [line for line in lines if line["fault"] == "malformed"]
    return [
        f'{{"stream":"{line["stream"]}","data":{line["payload"]}}}'.encode()[:-CUT_BYTES]
        for line in broken
    ]


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_broken_frames_are_shown_byte_for_byte(tape: Any):
    # Three broken frames of a simulated exchange: through Python, the command and SQL; and again
    # when all tapes are gone, so that the lake alone has them.
    full = tape.folder / "full.jsonl"
    plan = tape.folder / "faults.json"
    plan.write_text(
        json.dumps([{"kind": "malformed", "at_s": 1.0, "stream": "ethusdt@trade", "count": 3}])
    )
    arguments = ["--symbols", "BTCUSDT", "ETHUSDT", "--duration", "3", "--wait", "--seed", "8"]
    arguments += ["--settle", "1", "--rate", "200", "--full", str(full), "--faults", str(plan)]
    with start_simulator("binance", *arguments) as simulator:
        urls = ("--set", f"ws_url={simulator.ws_url}", "--set", f"rest_url={simulator.rest_url}")
        # The simulator writes its account in milliseconds.
        urls += ("--set", "time_unit=millisecond")
        recording = tape.start("record", "binance", "BTCUSDT", "ETHUSDT", *urls)
        simulator.wait_done(60)
        _, errors = tape.interrupt(recording)
        assert recording.returncode == 0, errors
    expected = sent_broken(full)
    assert len(expected) == 3
    for _ in range(2):
        rows = tw.open(tape.folder / "data").dead_letters().to_pylist()
        assert [row["frame"] for row in rows] == expected
        assert {(row["reason"], row["connection"]) for row in rows} == {("truncated", 0)}
        assert [row["byte"] for row in rows] == [len(frame) for frame in expected]
        at = rows[1]["raw_offset"]
        tape.run("dead-letters", "--raw", at, "--output", "frame.bin")
        assert (tape.folder / "frame.bin").read_bytes() == expected[1]
        shown = tape.run("dead-letters")
        assert "3 frames: 3 truncated" in shown
        assert expected[2][-20:].decode() in shown
        sql = f"select decode(frame) as text from dead_letters where raw_offset = {at}"
        assert tape.answer("query", sql, "--format", "json") == [{"text": expected[1].decode()}]
        shutil.rmtree(tape.folder / "data" / "tape", ignore_errors=True)


@pytest.mark.slow
def test_imported_lines_that_are_no_messages_are_kept_as_well(tape: Any):
    # One whole trade between two frames that cannot be decoded.
    bad = ['{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT"}}', '{"stream":"x@y"']
    good = (
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255000,"s":"BTCUSDT","t":1,'
        '"p":"61837.63","q":"0.001","T":1723161255000,"m":true,"M":true}}'
    )
    frames = [bad[0], good, bad[1]]
    lines = [f"{STARTED_NS + number} {frame}\n" for number, frame in enumerate(frames)]
    (tape.folder / "capture.txt").write_text("".join(lines))
    tape.run("import", "binance-spot", "capture.txt", code=3)
    found = tape.answer("dead-letters", "--format", "json")
    assert [row["frame"] for row in found] == bad
    assert [row["reason"] for row in found] == ["missing_field", "truncated"]
    assert len(tw.open(tape.folder / "data").dead_letters("2031-01-01")) == 0
    assert "is not held" in tape.refuse("dead-letters", "--raw", "99", code=1)
    # The file is there as a whole or not at all: on a disk that is full stays what was there.
    (tape.folder / "frame").write_text("precious")
    at = ("dead-letters", "--raw", found[0]["raw_offset"], "--output")
    full = tape.start(*at, "frame", preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (8, 8)))
    assert "the file that was there is as it was" in full.communicate(timeout=60)[1]
    assert (full.returncode, (tape.folder / "frame").read_text()) == (1, "precious")
    assert "make it first" in tape.refuse(*at, "none/frame", code=2)
    assert tape.run(*at, "/dev/stdout") == bad[0]
    tape.run(*at, "frame")
    assert (tape.folder / "frame").read_text() == bad[0]


def test_recording_without_dead_letters_says_so(tape: Any):
    # An empty answer must read as good news.
    trade = (
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255000,"s":"BTCUSDT","t":1,'
        '"p":"61837.63","q":"0.001","T":1723161255000,"m":true,"M":true}}'
    )
    (tape.folder / "capture.txt").write_text(f"{STARTED_NS} {trade}\n")
    tape.run("import", "binance-spot", "capture.txt")
    assert "every frame was decoded" in tape.run("dead-letters")
