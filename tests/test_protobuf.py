"""Messages against Google's own protobuf, and the schema against its last release."""

import json
import os
import random
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc

from schema_changes import breaking_changes
from tapeworks._core import (
    NONE,
    ProtobufEncoder,
    Records,
    Symbols,
    decode_messages,
    dtype_descr,
    kind_of,
    numbers,
)

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "proto"
# The schema as it was released last. To be made anew at a release, and never else:
# TAPEWORKS_WRITE=1 scripts/test tests/test_protobuf.py -k released
RELEASED = SCHEMA / "released.binpb"
WRITE = "TAPEWORKS_WRITE" in os.environ
SEED = 20_240_229
# Layouts with a message of their own in `MarketData.event`; a tick needs none.
EVENTS = [
    *("trade", "quote", "level", "order", "bar", "status", "correction", "corporate_action"),
    *("marker", "gap", "definition", "mark", "subscription", "metric", "alert"),
    "imbalance",
]
ENUMS = [
    *("kind", "channel", "marker_code", "gap_cause", "gap_state", "order_action", "cross"),
    *("subscription_state", "quote_state"),
]
UNIFORM = {
    "tick": {"bid": "bid", "ask": "ask", "last_price": "last", "volume": "volume"},
    "quote": {"bid": "bid_price", "ask": "ask_price"},
    "trade": {"last_price": "price", "volume": "size"},
}


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "schema.binpb"
    files = sorted(str(file.relative_to(SCHEMA)) for file in SCHEMA.rglob("*.proto"))
    line = ["protoc", f"-I{SCHEMA}", f"--descriptor_set_out={path}", "--include_imports", *files]
    assert protoc.main(line) == 0
    return descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())


@pytest.fixture(scope="module")
def market_data(schema):
    pool = descriptor_pool.DescriptorPool()
    for file in schema.file:
        pool.Add(file)
    name = "tapeworks.v1.MarketData"
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def rows(layout, count, rng):
    """Returns records of one layout with random bodies, as NumPy sees them."""
    dtype = np.dtype(dtype_descr(layout))
    out = np.frombuffer(rng.randbytes(dtype.itemsize * count), dtype=dtype).copy()
    for name, (kind, *_) in dtype.fields.items():
        if kind.kind == "S":
            out[name] = [f"text-{at}".encode() for at in range(count)]
        elif name == "reserved":
            out[name] = np.zeros(count, kind)
        elif kind.kind == "f":
            # None, zeros of both signs, and what is not finite, among others.
            out[name] = np.resize([np.nan, 0.0, -0.0, np.inf, -1.5, 1e-300], count)
        elif kind.kind in "iu":
            # What is small, zero or absent is what differs between the two.
            values = [0, 1, 127, NONE if kind.itemsize == 8 else 2 ** (8 * kind.itemsize) - 1]
            chosen = np.arange(count) % (len(values) + 2)
            for at, value in enumerate(values):
                out[name][chosen == at] = value
    out["length"], out["kind"], out["instrument"] = dtype.itemsize // 8, kind_of(layout), 7
    if layout == "definition":
        out["symbol"] = b"BTCUSDT"
    elif layout == "gap":
        out["code"] = numbers("marker_code")["gap"]
    elif layout == "marker":
        out["code"] = numbers("marker_code")["heartbeat"]
    return out


def symbols():
    dtype = np.dtype(dtype_descr("definition"))
    one = np.zeros(1, dtype)
    one["length"], one["kind"], one["instrument"] = dtype.itemsize // 8, kind_of("definition"), 7
    one["symbol"] = b"BTCUSDT"
    found = Symbols()
    found.load(Records.from_bytes(one.tobytes()))
    return found


def encoded(layout, table, frame=None):
    encoder = ProtobufEncoder("spot", frame)
    encoder.load(symbols())
    return encoder.encode(Records.from_bytes(table.tobytes(), 40, 40 + len(table)))


def expected(value, name, layout):
    """Returns what a message has for a field of a record: none where it is absent."""
    if isinstance(value, bytes):
        return value.decode()
    if value.dtype.kind == "f":
        return value.tobytes()
    is_count = name == "count" and layout in ("marker", "gap")
    is_optional = value.dtype.kind == "i" and "turnover" not in name
    is_absent = value == 2**32 - 1 if is_count else is_optional and value == NONE
    return None if is_absent else int(value)


@pytest.mark.parametrize("layout", [*EVENTS, "tick"])
def test_googles_protobuf_reads_every_field_and_we_read_its_bytes(layout, market_data):
    # Random records to messages, which Google's implementation parses: each field is compared by
    # its name with what NumPy reads of the record. What it serialises, in its own order of fields,
    # we decode to the same record.
    table = rows(layout, 64, random.Random(SEED))
    items = encoded(layout, table).items()
    assert len(items) == len(table)
    for at, (key, data, offset) in enumerate(items):
        message, row = market_data.FromString(data), table[at]
        assert (message.symbol, message.source, message.tape_offset) == ("BTCUSDT", "spot", offset)
        assert key == b"spot/BTCUSDT"
        assert (message.kind, message.flags, message.feed) == (
            row["kind"],
            row["flags"],
            row["feed"],
        )
        for name, field in (("timestamp", "ts_event"), ("received", "ts_recv")):
            got = getattr(message, name) if message.HasField(name) else None
            assert got == expected(row[field], field, layout), name
        for name, field in UNIFORM.get(layout, {}).items():
            got = getattr(message, name) if message.HasField(name) else None
            assert got == expected(row[field], field, layout), name
        if layout != "tick":
            assert message.WhichOneof("event") == layout
            compare(getattr(message, layout), row, layout)
    again = [market_data.FromString(data).SerializeToString() for _, data, _ in items]
    records, origins, rejected = decode_messages(again)
    assert not rejected
    assert origins == [("spot", 40 + at) for at in range(len(table))]
    assert bytes(memoryview(records)) == table.tobytes()


def compare(event, row, layout):
    for field in event.DESCRIPTOR.fields:
        name = field.name
        got = getattr(event, name)
        if field.has_presence and not event.HasField(name):
            got = None
        if field.type == field.TYPE_BYTES or name in row.dtype.names:
            value = row[name]
            if value.dtype.kind == "V":
                value = int.from_bytes(value.tobytes(), "little")
            if value.dtype.kind == "f":
                got = np.float64(got).tobytes()
            assert got == expected(value, name, layout), f"{layout}.{name}"
        else:
            raise AssertionError(f"{layout} has no {name}")


def test_enums_of_the_schema_are_the_stored_numbers(schema):
    # A number of a record is the number of its enum value, and its name is that name.
    file = next(file for file in schema.file if file.name.endswith("market_data.proto"))
    enums = {enum.name: enum for enum in file.enum_type}
    for ours in ENUMS:
        theirs = ours.title().replace("_", "")
        prefix = ours.upper() + "_"
        named = {
            value.name.removeprefix(prefix).lower(): value.number
            for value in enums[theirs].value
            if value.number
        }
        assert named == {name: at for name, at in numbers(ours).items() if at}


def test_prices_are_exact_as_json_and_as_decimals(market_data):
    # The canonical mapping of proto3: 64-bit integers are text, so that no reader makes floats of
    # them. Moving the point gives the decimal that the lake has.
    table = rows("trade", 1, random.Random(SEED))
    table["price"], table["size"], table["side"] = 60_123_450_000_001, 150_000_000, 1
    [(_, data, _)] = encoded("trade", table).items()
    message = market_data.FromString(data)
    found = json.loads(json_format.MessageToJson(message))
    assert (found["lastPrice"], found["trade"]["price"]) == ("60123450000001",) * 2
    assert (found["trade"]["side"], found["volume"]) == ("SIDE_BID", "150000000")
    assert Decimal(message.last_price).scaleb(-9) == Decimal("60123.450000001")
    assert json_format.Parse(json.dumps(found), market_data()) == message


def test_the_header_of_a_schema_registry_is_written_and_read(market_data):
    table = rows("tick", 3, random.Random(SEED))
    frame = b"\0" + (1234).to_bytes(4, "big") + b"\0"
    framed = [data for _, data, _ in encoded("tick", table, frame).items()]
    plain = [data for _, data, _ in encoded("tick", table).items()]
    assert framed == [frame + data for data in plain]
    # The long form of the index of a message, as other writers spell it.
    spelt = [frame[:5] + b"\x02\x00" + data for data in plain]
    assert len({bytes(memoryview(decode_messages(of)[0])) for of in (framed, plain, spelt)}) == 1


def test_what_cannot_be_decoded_is_named_and_the_rest_is_read():
    table = rows("quote", 3, random.Random(SEED))
    messages = [data for _, data, _ in encoded("quote", table).items()]
    messages.insert(1, messages[0][:-3])
    records, origins, rejected = decode_messages(messages)
    assert len(records) == len(origins) == 3
    assert [index for index, _ in rejected] == [1]


def test_released_schema_stays_readable(schema):
    # Against the stored descriptor of the last release: nothing of it may change.
    if WRITE:
        RELEASED.write_bytes(schema.SerializeToString(deterministic=True))
    released = descriptor_pb2.FileDescriptorSet.FromString(RELEASED.read_bytes())
    assert breaking_changes(released, schema) == []


def test_each_kind_of_breaking_change_is_found(schema):
    # The check itself: one change at a time in a copy of the schema.
    def changed(change):
        copy = descriptor_pb2.FileDescriptorSet()
        copy.CopyFrom(schema)
        file = next(one for one in copy.file if one.name.endswith("market_data.proto"))
        change(file, next(one for one in file.message_type if one.name == "Trade"))
        return breaking_changes(schema, copy)

    def renumber(_, trade):
        trade.field[0].number = 99

    def rename(_, trade):
        trade.field[1].name = "amount"

    def retype(_, trade):
        trade.field[2].type = descriptor_pb2.FieldDescriptorProto.TYPE_SINT64

    def drop_message(file, trade):
        file.message_type.remove(trade)

    def renumber_value(file, _):
        file.enum_type[0].value[1].number = 50

    def move(file, _):
        market = next(one for one in file.message_type if one.name == "MarketData")
        next(field for field in market.field if field.name == "trade").ClearField("oneof_index")

    for change in (renumber, rename, retype, drop_message, renumber_value, move):
        assert len(changed(change)) == 1, change.__name__

    def extend(_, trade):
        trade.field.add(name="venue_note", number=50, type=9, label=1)

    assert changed(extend) == []


@pytest.mark.parametrize("layout", ["quote", "trade"])
def test_what_came_late_or_from_history_is_not_the_last_of_an_instrument(layout):
    # The first is in order; one of history and one out of order come behind it.
    table = rows(layout, 3, random.Random(SEED))
    table["flags"] = [1, 1 | 4, 1 | 8]
    messages = encoded(layout, table)
    [(_, first, _), *_] = messages.items()
    [(_, kind, last, _, is_late)] = messages.latest()
    assert (kind, last, is_late) == (layout, first, False)


@pytest.mark.parametrize(
    ("times", "flags", "last", "is_late"),
    [
        # A late version of the newest bar replaces it, one of an older bar does not.
        ((20, 20), (1, 1 | 8), 1, False),
        ((20, 10), (1, 1 | 8), 0, False),
        # Of late versions alone whoever stores them has to know what was there before.
        ((20, 10), (1 | 8, 1 | 8), 0, True),
        ((10, 20), (1 | 8, 1), 1, False),
    ],
)
def test_late_version_of_an_older_bar_is_not_the_last_one(times, flags, last, is_late):
    table = rows("bar", 2, random.Random(SEED))
    table["ts_event"], table["flags"] = times, flags
    messages = encoded("bar", table)
    [found] = messages.latest()
    assert found == (b"spot/BTCUSDT", "bar", messages.items()[last][1], 20, is_late)
