"""Local tapes of a partition: exactly once through any stop, and what is lost is a gap."""

import json
import random

import numpy as np
import pytest

from conftest import RecordMaker
from tapeworks import _core
from tapeworks._core import Records
from tapeworks.errors import TapeLockedError, TapeReplacedError
from tapeworks.processors.derive import STEPS, Derivation
from tapeworks.replicas.partition import Origin, PartitionReplica
from tapeworks.settings import ProcessorsConfig
from tapeworks.source_symbols import KeptDefinitions
from tapeworks.tape import RETENTION, TapeConfig, TapeReader, TapeWriter
from tapeworks.topics import BOOK, NORMALIZED

ORIGIN = Origin("kafka", NORMALIZED, "an-id", 3)
CODES, CAUSES = _core.numbers("marker_code"), _core.numbers("gap_cause")
MARKER = np.dtype(_core.dtype_descr("marker"))
START = 1_700_262_000_000_000_000


class Rows:
    """Bytes of records, and how many they are."""

    def __init__(self, *parts):
        self.content = b"".join(part.tobytes() for part in parts)
        self.count = sum(map(len, parts))


def messages(source, *parts, first=0):
    """Returns records as messages, with offsets from `first` on."""
    rows, symbols = Rows(*parts), _core.Symbols()
    symbols.load(Records.from_bytes(RecordMaker().definitions().tobytes()))
    encoder = _core.ProtobufEncoder(source)
    encoder.load(symbols)
    batch = Records.from_bytes(rows.content, first, first + rows.count)
    return [message for _, message, _ in encoder.encode(batch).items()]


def content(data, local, topic=NORMALIZED):
    reader, found = TapeReader(data / "tape" / local / topic), []
    while (batch := reader.read()) is not None:
        found.append(bytes(batch))
    return b"".join(found)


def markers(data, local, topic=NORMALIZED):
    """Returns the markers of a tape."""
    batch = Records.from_bytes(content(data, local, topic))
    return np.frombuffer(batch.select([_core.kind_of("marker")]), MARKER)


def opened(data, origin=ORIGIN):
    replica = PartitionReplica(data, origin, TapeConfig("never"))
    return replica, replica.open()


def append(replica, values, positions, source="binance-spot"):
    replica.append(values, positions, [f"{source}/BTCUSDT".encode()] * len(values))


def depth(maker, sequences, instrument=1):
    """Returns a snapshot at the first of `sequences`, and an update at each of the others."""
    channels = _core.numbers("channel")
    first, *rest = sequences
    mark = {"instrument": instrument, "ts_event": START, "ts_recv": START, "sequence": first}
    ends = maker.rows("marker", 2, channel=channels["snapshot"], first=first, last=first, **mark)
    ends["code"] = CODES["snapshot_begin"], CODES["snapshot_end"]
    ends["count"] = 2
    ends["flags"] = 0, 1
    rows = maker.rows("level", 2, channel=channels["snapshot"], flags=2, **mark)
    rows["side"], rows["price"], rows["size"] = (1, 2), (99 * 10**9, 101 * 10**9), 10**8
    ts = START + 1_000_000 * np.arange(1, len(rest) + 1)
    updates = maker.rows("level", len(rest), instrument=instrument, channel=channels["depth"])
    updates["ts_event"] = updates["ts_recv"] = ts
    updates["sequence"], updates["side"], updates["flags"] = rest, 1, 1
    updates["price"], updates["size"] = 98 * 10**9, 10**8 * (1 + np.arange(len(rest)))
    return ends[:1], rows, ends[1:], updates


@pytest.mark.parametrize("seed", range(2))
def test_a_stop_at_any_batch_loses_and_doubles_nothing(maker, tmp_path, seed):
    # Two sources of one partition, one of which comes in late, in batches of random size. After
    # some the reader is given up without a note, after others it notes; it always reads on from
    # where it says. The bytes of both tapes are those of the recorders.
    chance = random.Random(seed)
    streams = {
        "binance-spot": (maker.definitions(), maker.trades(400)),
        "alpaca": (maker.definitions(), maker.trades(200, seed=9)),
    }
    topic = []
    for name, parts in streams.items():
        topic += [(name, message) for message in messages(name, *parts)]
    late = topic[:150]
    rest = topic[150:]
    # The order within a source stays.
    names = [name for name, _ in rest]
    chance.shuffle(names)
    queues = {name: iter([one for one in rest if one[0] == name]) for name in streams}
    topic = late + [next(queues[name]) for name in names]
    # Marks of commits have positions, too.
    places = np.cumsum([chance.choice((1, 1, 1, 2, 5)) for _ in topic]).tolist()
    replica, position = opened(tmp_path)
    assert position is None
    at = 0
    while at < len(topic):
        count = chance.randint(1, 60)
        values = [message for _, message in topic[at : at + count]]
        append(replica, values, places[at : at + count])
        at += len(values)
        what = chance.random()
        if what < 0.3:
            replica.checkpoint()
        if what > 0.6:
            replica.close()
            replica, position = opened(tmp_path)
            at = next((n for n, place in enumerate(places) if place >= position), len(topic))
    replica.close()
    for name, parts in streams.items():
        assert content(tmp_path, f"{name}-p3") == Rows(*parts).content, f"seed {seed}"
        kept = KeptDefinitions(tmp_path, f"{name}-p3").load()
        assert bytes(kept) == maker.definitions().tobytes(), "kept when retention takes the tape"


def test_a_repetition_is_left_out_and_another_tape_refused(maker, tmp_path):
    # What is published again has offsets and times that were read. An offset that was read with a
    # later time is of a recorder that began anew: its instruments may be other ones.
    trades = maker.trades(100)
    values = messages("binance-spot", maker.definitions(), trades)
    replica, _ = opened(tmp_path)
    append(replica, values[:80], range(80))
    replica.checkpoint()
    replica.close()
    replica, position = opened(tmp_path)
    assert position == 80
    append(replica, values[40:], range(80, 143))
    assert replica.repeated == 40
    assert content(tmp_path, "binance-spot-p3") == Rows(maker.definitions(), trades).content
    other = messages("binance-spot", maker.trades(1, 500), first=7)
    with pytest.raises(TapeReplacedError, match="went on with another tape under this name"):
        append(replica, other, [143])
    replica.close()


def test_one_writer_and_one_topic(maker, tmp_path):
    # A second reader of the partition on this machine is refused, and so is a topic that was made
    # again under the same name.
    replica, _ = opened(tmp_path)
    append(replica, messages("binance-spot", maker.definitions()), range(3))
    with pytest.raises(TapeLockedError):
        opened(tmp_path)
    replica.checkpoint()
    replica.close()
    with pytest.raises(TapeReplacedError, match="deleted and made again"):
        opened(tmp_path, Origin("kafka", NORMALIZED, "another-id", 3))
    replica, position = opened(tmp_path)
    assert position == 3
    replica.close()


def test_what_retention_took_is_one_gap_also_after_a_stop(maker, tmp_path):
    # The loss is noted, then the reader is given up before and after the next record came. The tape
    # has one gap of it, right before that record.
    values = messages("binance-spot", maker.definitions(), maker.trades(20))
    replica, _ = opened(tmp_path)
    append(replica, values[:10], range(10))
    replica.lose(10, 14, RETENTION)
    replica.checkpoint()
    replica.close()
    for _ in range(2):
        replica, position = opened(tmp_path)
        assert position == 15
        append(replica, values[15:], range(15, 23))
        replica.close()
    [gap] = markers(tmp_path, "binance-spot-p3")
    assert (gap["code"], gap["cause"]) == (CODES["gap"], CAUSES["retention"])
    assert (gap["first"], gap["last"], gap["instrument"]) == (10, 14, 0)
    expected = Rows(maker.definitions(), maker.trades(20)).content
    assert len(content(tmp_path, "binance-spot-p3")) == len(expected) - 5 * 64 + 64


@pytest.mark.parametrize("is_newer", [False, True])
def test_a_message_that_cannot_be_read_is_kept_and_a_gap(maker, tmp_path, is_newer):
    # Between two updates of a book that follow each other stands a message that is no record. What
    # it was is not known: the book is given up, and said to be. Of a kind that a newer version
    # added, the book goes on. The message is kept either way.
    parts = depth(maker, range(100, 110))
    values = messages("binance-spot", *parts)
    bad = b"\xff\xff no record"
    if is_newer:
        [known] = messages("binance-spot", maker.trades(1))
        # The last value of a field counts: here that of `kind`.
        bad = known + bytes([12 << 3, 99])
    replica, _ = opened(tmp_path)
    append(replica, [*values[:8], bad, *values[8:]], range(len(values) + 1))
    replica.checkpoint()
    assert replica.unreadable == 1
    replica.close()
    local = "binance-spot-p3"
    gaps = [one for one in markers(tmp_path, local) if one["code"] == CODES["gap"]]
    assert [int(gap["instrument"]) for gap in gaps] == ([0] if is_newer else [0, 1])
    assert {int(gap["first"]) for gap in gaps} == {8}
    kept = (replica.folder / "unreadable.jsonl").read_text().splitlines()
    assert json.loads(kept[0])["position"] == 8
    steps = [step for step in STEPS if step.processor == "books"]
    derivation = Derivation(ProcessorsConfig(), TapeConfig("never"), tmp_path, local, steps)
    assert derivation.drain(20)
    derivation.close()
    states = [m for m in markers(tmp_path, local, BOOK) if m["code"] == CODES["book_state"]]
    continuous = _core.numbers("book_state")["continuous"]
    assert (int(states[-1]["state"]) == continuous) == is_newer, states


@pytest.mark.parametrize("stop", ["none", "behind a note", "of a version before"])
def test_the_books_of_a_loss_are_known_without_the_tape(maker, tmp_path, stop):
    # The levels of a book, so many trades that segments are closed, and a note; then those of
    # another book. What the tape begins with is damaged, so that it cannot be read again: a loss is
    # one of both books. A note of an earlier version does not say which there are: they are read.
    parts = (*depth(maker, range(100, 104)), maker.trades(3_000))
    first = messages("binance-spot", *parts)
    later = (*depth(maker, range(200, 204), instrument=2), maker.trades(5, 3_000))
    values = [*first, *messages("binance-spot", *later, first=len(first))]
    config = TapeConfig("never", segment_bytes=1 << 16, compress_after=-1)
    replica = PartitionReplica(tmp_path, ORIGIN, config)
    replica.open()
    for at in range(0, len(first), 500):
        append(replica, first[at : at + 500], range(len(first))[at : at + 500])
    replica.checkpoint()
    append(replica, values[len(first) :], range(len(first), len(values)))
    if stop != "none":
        replica.close()
        path = replica.folder / "place.json"
        if stop == "of a version before":
            noted = json.loads(path.read_text())
            del noted["sources"]["binance-spot"]["books"]
            path.write_text(json.dumps(noted))
        replica = PartitionReplica(tmp_path, ORIGIN, config)
        at = replica.open()
        append(replica, values[at:], range(at, len(values)))
    tape = tmp_path / "tape" / "binance-spot-p3" / NORMALIZED
    if stop != "of a version before":
        oldest, _, *_ = sorted(tape.glob("*.seg"))
        with oldest.open("r+b") as file:
            file.seek(oldest.stat().st_size // 2)
            file.write(b"\xff" * 1_000)
    end = TapeReader(tape).end
    for at in range(len(values), len(values) + 6, 2):
        told = messages("binance-spot", maker.trades(1, at), first=at)
        append(replica, [b"\xff\xff no record", *told], [at, at + 1])
    replica.close()
    reader = TapeReader(tape)
    reader.seek(end)
    found = b"".join(bytes(batch) for batch in iter(reader.read, None))
    gaps = np.frombuffer(Records.from_bytes(found).select([_core.kind_of("marker")]), MARKER)
    assert [int(gap["instrument"]) for gap in gaps] == [0, 1, 2] * 3


def test_a_loss_is_a_gap_of_a_source_that_is_met_later(maker, tmp_path):
    # Before the first record of two sources stand messages that cannot be read: one with the key of
    # the first, one without a key, which may have been of either. Then one more without a key. The
    # reader stops whenever it noted something. Each source has its gaps, before what it says next.
    replica, _ = opened(tmp_path)
    position = 0
    for source, key, told in (
        ("binance-spot", b"binance-spot/BTCUSDT", [(0, 0)]),
        ("alpaca", None, [(6, 6)]),
        ("binance-spot", b"BTCUSDT", [(0, 0), (6, 12)]),
    ):
        replica.append([b"\xff\xff no record"], [position], [key])
        replica.checkpoint()
        replica.close()
        replica, at = opened(tmp_path)
        assert at == position + 1
        values = messages(source, maker.trades(5), first=10 * position)
        append(replica, values, range(at, at + 5), source)
        found = markers(tmp_path, f"{source}-p3")
        assert [(int(gap["first"]), int(gap["last"])) for gap in found] == told
        assert {int(gap["cause"]) for gap in found} == {CAUSES["damage"]}
        position = at + 5
    replica.checkpoint()
    append(replica, messages("alpaca", maker.trades(5), first=900), range(position, position + 5))
    gap = markers(tmp_path, "alpaca-p3")[-1]
    assert (gap["first"], gap["last"]) == (12, 12)
    replica.close()


@pytest.mark.parametrize("whose", ["of another topic", "of a recorder"])
def test_a_tape_that_is_there_already_is_not_written(tmp_path, maker, whose):
    # A second topic with a source of the same name, or a folder in which a recorder writes: what
    # is there stays as it is, and the source is not noted.
    values, local = messages("binance-spot", maker.trades(5)), "binance-spot-p3"
    other = Origin("kafka", "b." + NORMALIZED, "another-id", 3)
    if whose == "of a recorder":
        other = Origin("redis", NORMALIZED, "an-id", "binance-spot")
        local = "binance-spot"
        path = tmp_path / "tape" / local / NORMALIZED
        path.parent.mkdir(parents=True)
        with TapeWriter(path, "records") as tape:
            tape.append(maker.trades(3).tobytes())
    else:
        first, _ = opened(tmp_path)
        append(first, values, range(5))
        first.checkpoint()
        first.close()
    before = content(tmp_path, local)
    for _ in range(2):
        second, position = opened(tmp_path, other)
        assert position in (None, 0)
        with pytest.raises(TapeReplacedError, match="name another folder with --data"):
            append(second, values, range(5))
        second.close()
    assert content(tmp_path, local) == before
