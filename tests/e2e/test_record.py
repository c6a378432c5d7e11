"""`tape record` and `tape up`: what was asked for, what was achieved, and the exit code of it."""

import socket
import struct
from collections.abc import Iterator

import pytest
from tests.arrivals import records_all, wait
from tests.campaigns.clock_steps import SHIM, set_clock
from tests.disk import library

HOUR_S = 3_600


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def record(tape, ws_url, rest_url, *words, seconds=8, symbols=("BTCUSDT",), code):
    """Records for some seconds; returns all that was said."""
    shown = tape.start(
        *("record", "binance", *symbols, "--seconds", seconds),
        *("--set", f"ws_url={ws_url}", "--set", f"rest_url={rest_url}", *words),
    )
    out, errors = shown.communicate(timeout=100)
    assert shown.returncode == code, out + errors
    assert "Traceback" not in out + errors
    return " ".join((out + errors).split())


def test_wrong_symbol_stops_the_recording_at_once(tape, start):
    # No early restart would help: the venue's answer, and the exit code of a recording of nothing.
    simulator = start("--symbols", "BTCUSDT")
    urls = simulator.ws_url, simulator.rest_url
    told = record(tape, *urls, seconds=60, symbols=("NOSUCHUSDT",), code=3)
    assert "Invalid symbol" in told
    assert "check the symbols" in told


def test_all_that_was_asked_for_is_told(tape, start):
    # A healthy venue: every stream spoke, every book is verified, exit code 0. That the host's
    # clock, which was ahead, is put back meanwhile changes nothing of it.
    simulator = start("--symbols", "BTCUSDT", "--rate", 200)
    urls = ("--set", f"ws_url={simulator.ws_url}", "--set", f"rest_url={simulator.rest_url}")
    clock = tape.folder / "clock"
    clock.write_bytes(struct.pack("<q", HOUR_S))
    shim = {"LD_PRELOAD": str(library(tape.folder, SHIM)), "CLOCK_OFFSET": str(clock)}
    process = tape.start("record", "binance", "BTCUSDT", *urls, environment=shim)
    wait(lambda: records_all(tape.folder / "data"), process)
    set_clock(clock, 0)
    told, errors = tape.interrupt(process)
    assert process.returncode == 0, errors
    assert "Traceback" not in told + errors
    assert "binance-spot: this run: 3 of 3 streams received data" in told
    assert "1 of 1 books verified" in told


@pytest.mark.slow
def test_venue_that_was_never_reached_is_a_failure(tape, nowhere):
    # Nobody listens there. The recording runs to its end, says so, and is no success.
    told = record(tape, f"ws://{nowhere}", f"http://{nowhere}", code=3)
    assert "0 of 3 streams received data" in told
    assert "never subscribed: btcusdt@trade" in told
    assert "nothing of what was asked for was recorded: cannot connect" in told


@pytest.mark.slow
def test_book_that_was_never_verified_is_a_failure(tape, start, nowhere):
    # Streams come and requests fail: updates are recorded whose book nobody can know.
    simulator = start("--symbols", "BTCUSDT", "--rate", 200)
    told = record(tape, simulator.ws_url, f"http://{nowhere}", code=3)
    assert "3 of 3 streams received data" in told
    assert "book never verified: BTCUSDT" in told
    assert "only a part of what was asked for was recorded" in told


@pytest.mark.slow
def test_requests_that_are_off_are_told_and_no_failure(tape, start):
    # Whoever turns requests off wants updates without snapshots.
    simulator = start("--symbols", "BTCUSDT", "--rate", 200)
    told = record(tape, simulator.ws_url, "off", code=0)
    assert "book never verified: requests off: BTCUSDT" in told


@pytest.mark.slow
def test_refused_feed_does_not_end_its_neighbour(tape, start):
    # Two feeds, of which one names a symbol that its venue refuses: the other is recorded to the
    # end, both are told of, and the exit code says that not all was recorded.
    simulator = start("--symbols", "BTCUSDT", "--rate", 200)
    feeds = "".join(
        f'[feeds.{name}]\nkind = "binance"\nsymbols = ["{symbol}"]\n'
        f'ws_url = "{simulator.ws_url}"\nrest_url = "{simulator.rest_url}"\n'
        for name, symbol in (("good", "BTCUSDT"), ("bad", "NOSUCHUSDT"))
    )
    (tape.folder / "tapeworks.toml").write_text(feeds)
    process = tape.start("up")
    data = tape.folder / "data"
    log = data / "log" / "recorder-bad.log"
    wait(lambda: log.is_file() and "Invalid symbol" in log.read_text(), process)
    wait(lambda: records_all(data, source="good"), process)
    out, errors = tape.interrupt(process)
    told = " ".join((out + errors).split())
    assert process.returncode == 3, told
    assert "good: this run: 3 of 3 streams received data" in told
    assert "bad: nothing of what was asked for was recorded" in told
    assert "Invalid symbol" in told


def test_end_before_the_recorder_is_loaded_is_told_as_any_other(tape, nowhere):
    # It is asked to stop while Python still imports: it says what it achieved all the same.
    told = record(tape, f"ws://{nowhere}", f"http://{nowhere}", seconds=0.1, code=3)
    assert "0 of 3 streams received data" in told
    assert "nothing of what was asked for was recorded" in told
