"""One suite over the feeds: those of the core, live and from files, and a class in Python."""

import random
from pathlib import Path

import numpy as np
import pytest
from tests.conformance.feed_members import KINDS, MEMBERS, Frame, Member

from tapeworks import _core
from tapeworks._core import Decoder, Ingest, Records, Stage, TapeReader
from tapeworks.errors import DecodeError
from tapeworks.feeds.base import Control, ControlKind
from tapeworks.registry import MEMBERS as TABLE

LAST, MARKER, LEVEL = 1, _core.kind_of("marker"), _core.kind_of("level")
SEQUENCE = 24
"""Where the number of its message stands in a record."""
RAW, NORMALIZED = "market-data.raw", "market-data.normalized"


def some(members: list[Member]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("member", members, ids=lambda member: member.name)


every, live = some(MEMBERS), some([member for member in MEMBERS if member.feed])


def headers(batch: Records) -> list[np.void]:
    """Returns the headers of all records of `batch`."""
    view, at, found = bytes(batch), 0, []
    dtype = np.dtype(_core.dtype_descr("trade")[:8])
    while at < len(view):
        found.append(np.frombuffer(view, dtype, 1, at)[0])
        at += view[at] * 8
    return found


def recorded(member: Member, data: Path, frames: list[Frame], batch: int, cuts: set[int]) -> Path:
    """Records `frames`, `batch` at a time; at each of `cuts` the recorder starts anew."""

    def opened() -> Ingest:
        name = "foreign" if member.decoder else member.of_core
        return Ingest(data, "x", name, decoder=member.decoder, durability_ms=-1)

    ingest = opened()
    ingest.connected(0, 0, member.ts)
    for number, (kind, context, body) in enumerate(frames):
        if number in cuts:
            # Closing saves the state, which the next recorder goes on from.
            ingest.flush()
            ingest.close()
            ingest = opened()
            ingest.connected(0, 0, member.ts + number)
        ingest.receive(0, kind, member.ts + number, body, context)
        if number % batch == 0:
            ingest.flush()
    ingest.flush()
    ingest.close()
    return data / "tape" / "x"


def test_every_feed_of_the_table_is_under_this_suite():
    # To be in a table is to be under that contract's suite.
    feeds = [member.feed() for member in MEMBERS if member.feed]
    asked = [feed.config.kind for feed in feeds]  # type: ignore[attr-defined]
    assert set(TABLE["feed"]) < set(asked)
    of_files = {member.of_core for member in MEMBERS if not member.feed}
    assert set(TABLE["capture"]) <= of_files | set(asked)
    assert set(_core.numbers("feed")) <= {member.of_core for member in MEMBERS} | {"binance-coinm"}


@every
def test_records_carry_their_frame(member: Member):
    # Time of receipt, number of the feed, a known instrument; a venue event ends with its flag.
    decoder = Decoder(member.of_core, member.decoder)
    numbers, records = set(), 0
    for at, (kind, context, body) in enumerate(member.frames()):
        try:
            batch = decoder.receive(kind, context, body, member.ts + at)
        except DecodeError:
            continue
        found = headers(batch)
        records += len(found)
        if member.feed:
            assert all(header["ts_recv"] == member.ts + at for header in found)
        else:
            # A file has no times of receipt: what happened stands for them, and none falls.
            times = [int(header["ts_recv"]) for header in found]
            assert times == sorted(times)
            assert all(header["ts_recv"] >= header["ts_event"] for header in found)
        assert not found or found[-1]["flags"] & LAST
        known = set(decoder.symbols().values())
        assert {int(header["instrument"]) for header in found} <= known | {0}
        numbers |= {int(header["feed"]) for header in found}
    assert records > 20
    assert len(numbers) == 1


@every
def test_what_cannot_be_read_leaves_nothing(member: Member):
    # Every truncation of every kind of frame, and random bytes: records, or a DecodeError.
    chance = random.Random(5)
    seen: dict[tuple[int, int], Frame] = {}
    for frame in member.frames():
        seen.setdefault((frame[0], len(frame[2]) // 40), frame)
    decoder, reasons = Decoder(member.of_core, member.decoder), list[str]()
    for kind, context, body in seen.values():
        cut = [body[:end] for end in range(0, len(body), 1 + len(body) // 60)]
        noise = [chance.randbytes(chance.randrange(80)) for _ in range(20)]
        for bad in cut + noise:
            try:
                decoder.receive(kind, context, bad, member.ts)
            except DecodeError as error:
                reasons.append(error.reason)
    assert len(reasons) > 100
    assert "unknown" not in reasons


@every
def test_live_equals_replay_at_any_batch(member: Member, tmp_path: Path):
    # The same frames, some broken, flushed one by one, seven at a time and all at once; and once
    # more from the raw tape by a stage. The same bytes each time.
    frames = member.frames()
    frames.insert(10, (1, b"", b'{"stream":"btcusdt@trade","data":{"e":"tr'))
    tapes = [recorded(member, tmp_path / str(n), frames, n, set()) for n in (1, 7, 10_000)]
    again = tmp_path / "again"
    settings = {} if member.decoder else {"feed": member.of_core}
    stage = Stage(
        "normalize", tapes[0] / RAW, again, tmp_path / "s", settings, decoder=member.decoder
    )
    stage.run_until_idle(13)
    stage.close()
    first = bytes_of(tapes[1] / NORMALIZED)
    # The recorder's own start is stamped by this host's clock, and is the only thing that is.
    assert without_starts(bytes_of(again)) == without_starts(first)
    assert without_starts(bytes_of(tapes[0] / NORMALIZED)) == without_starts(first)
    assert without_starts(bytes_of(tapes[2] / NORMALIZED)) == without_starts(first)
    assert b"".join(bytes_of(again)) == b"".join(bytes_of(tapes[0] / NORMALIZED))


@every
def test_restart_goes_on_where_it_was(member: Member, tmp_path: Path):
    # A recorder that starts anew in the middle knows its instruments and sequences: every event
    # once. The straight run has the same, but for what the starts themselves add. None was told
    # that it ends, so that updates of books may be missing: where the decoder numbers them, it
    # leaves a number out.
    frames = member.frames()
    cuts = set(range(5, len(frames), 9))
    straight = bytes_of(recorded(member, tmp_path / "a", frames, 3, set()) / NORMALIZED)
    broken = bytes_of(recorded(member, tmp_path / "b", frames, 3, cuts) / NORMALIZED)

    def events(found: list[bytes]) -> list[bytes]:
        events = [record for record in found if record[1] != MARKER]
        if member.of_core != "alpaca":
            return events
        level = _core.kind_of("level")
        return [one[:24] + one[32:48] + one[56:] if one[1] == level else one for one in events]

    assert events(broken) == events(straight)


@some([member for member in MEMBERS if member.frame])
def test_what_is_encoded_is_received_back(member: Member):
    # The records of all frames to frames and back, one by one: the same records, but for what is of
    # the session, and in no message: numbers, and whether the session is whole.
    assert member.frame is not None
    decoder, again = (Decoder(member.of_core) for _ in range(2))
    sent, received, kinds, number = list[bytes](), list[bytes](), set[int](), 1
    for at, (kind, context, body) in enumerate(member.frames()):
        for record in split(bytes(decoder.receive(kind, context, body, member.ts + at))):
            try:
                encoded = decoder.encode(Records.from_bytes(record))
            except ValueError:
                # The venue has no such message, or it says more than the record holds.
                kinds.add(record[1])
                continue
            sent.append(record)
            if frame := member.frame(encoded, number):
                number += 1
                received += split(bytes(again.receive(*frame, member.ts + at)))
    assert number > 100
    assert kinds <= {_core.kind_of("status"), _core.kind_of("order")}

    def plain(records: list[bytes]) -> list[bytes]:
        return [record[:2] + bytes(1) + record[3:SEQUENCE] + record[32:] for record in records]

    assert plain(sent) == plain(received)


@live
def test_copies_of_another_line_change_nothing(member: Member, tmp_path: Path):
    # Two lines carry the same, and now one, now the other is behind: every event once, in order, as
    # of one line that has each frame when the first of the two had it. Levels are left out: a book
    # whose snapshot comes in the stream begins anew with each line.
    frames, chance = member.frames(), random.Random(8)
    first: list[tuple[int, int]] = []
    both: list[tuple[int, int, int]] = []
    ahead = [0, 0]
    while min(ahead) < len(frames):
        line = chance.randrange(2)
        at, other = ahead[line], ahead[1 - line]
        if at < len(frames) and at - other < 6:
            ts = member.ts + len(both)
            both.append((line, at, ts))
            first += [(at, ts)] if at >= other else []
            ahead[line] += 1

    def run(data: Path, told: list[tuple[int, int, int]]) -> list[bytes]:
        name = "foreign" if member.decoder else member.of_core
        ingest = Ingest(data, "x", name, decoder=member.decoder, durability_ms=-1)
        for line in {line for line, _, _ in told}:
            ingest.connected(line, 0, member.ts)
        seen = set()
        for line, at, ts in told:
            kind, context, body = frames[at]
            # What was asked for is answered to who asked.
            if kind != KINDS["rest"] or at not in seen:
                ingest.receive(line, kind, ts, body, context)
                ingest.flush()
            seen.add(at)
        ingest.close()
        found = bytes_of(data / "tape" / "x" / NORMALIZED)
        return [record for record in found if record[1] not in (MARKER, LEVEL)]

    assert run(tmp_path / "both", both) == run(tmp_path / "one", [(0, *one) for one in first])


@live
def test_silence_of_a_line_is_a_gap_and_moves_nothing(member: Member, tmp_path: Path):
    # A line that said nothing between two of its frames: one gap, from the first (by the clock of
    # the venue) to when it was noticed; all events are those of a line that was not silent.
    frames, half = member.frames(), len(member.frames()) // 2
    straight = bytes_of(recorded(member, tmp_path / "a", frames, 1, set()) / NORMALIZED)
    name = "foreign" if member.decoder else member.of_core
    ingest = Ingest(tmp_path / "b", "x", name, decoder=member.decoder, durability_ms=-1)
    ingest.connected(0, 0, member.ts)
    for at, (kind, context, body) in enumerate(frames):
        ingest.receive(0, kind, member.ts + at, body, context)
        if at == half:
            ingest.silent_connection(0, member.ts + at - 1, member.ts + at)
        ingest.flush()
    ingest.close()
    found = bytes_of(tmp_path / "b" / "tape" / "x" / NORMALIZED)
    markers = np.dtype(_core.dtype_descr("marker"))
    told = [np.frombuffer(record, markers)[0] for record in found if record[1] == MARKER]
    silent = _core.numbers("gap_cause")["silence"]
    gaps = [one for one in told if one["cause"] == silent]
    assert [int(gap["ts_recv"]) for gap in gaps] == [member.ts + half]
    assert gaps[0]["ts_start"] < gaps[0]["ts_event"]
    events = [record for record in found if record[1] != MARKER]
    assert events == [record for record in straight if record[1] != MARKER]


@live
def test_session_part_holds_its_contract(member: Member):
    # What the recorder asks of any feed, without a venue: names, channels, and no exception on
    # frames that nobody ever sent.
    assert member.feed is not None
    feed, chance = member.feed(), random.Random(6)
    streams = [stream for line in feed.lines() for stream in line.streams]
    assert streams
    assert len(set(streams)) == len(streams)
    assert all(bool(feed.symbol(stream)) is not member.is_of_all for stream in streams)
    assert bool(feed.books()) == ("depth" in {feed.channel(stream) for stream in streams})
    talk = feed.subscriptions(streams)
    assert talk.done is member.is_of_all
    if talk.next() is None and not talk.done:
        # A venue that greets first.
        talk.receive(Control(ControlKind.ACK, id="connected"))
        assert talk.next()
    noise = [chance.randbytes(chance.randrange(60)) for _ in range(300)]
    for payload in noise + [body for _, _, body in member.frames()]:
        assert isinstance(feed.control(payload), Control)


def bytes_of(tape: Path) -> list[bytes]:
    """Returns the bytes of each record of a tape."""
    reader, found = TapeReader(tape), list[bytes]()
    while (batch := reader.read(100_000)) is not None:
        found += split(bytes(batch))
    return found


def split(view: bytes) -> list[bytes]:
    at, found = 0, []
    while at < len(view):
        found.append(view[at : at + view[at] * 8])
        at += view[at] * 8
    return found


def without_starts(found: list[bytes]) -> list[bytes]:
    return [r for r in found if not (r[1] == MARKER and r[40:42] == b"\xff\xff" and r[32] == 4)]
