"""Every recording of Massive: each row of an answer and each event equals what Python reads of it.

What has no record is rejected with its reason. Numbers are compared as decimals, by the digits.
"""

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeworks import _core
from tapeworks._core import Decoder
from tapeworks.errors import DecodeError, FeedError
from tapeworks.feeds.captures import CaptureOptions
from tapeworks.feeds.massive.captures import MassiveCaptures

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "polygon"
pytestmark = pytest.mark.usefixtures("real_data")

TEXT, REST, TS = 1, 3, 1_800_000_000 * 10**9
NONE = (1 << 63) - 1
SHARES_SINCE = 1_762_146_000 * 10**9
KINDS = ("trade", "quote", "bar", "corporate_action")
DTYPES = {kind: np.dtype(_core.dtype_descr(kind)) for kind in KINDS}
# Requests of whose answers there are records; all others are rejected.
ACTIONS = ("/v3/reference/splits", "/v3/reference/dividends", "/v2/reference/splits/")
RECORDED = ("/v3/trades/", "/v3/quotes/", "/v2/aggs/ticker/AAPL/range/", *ACTIONS)


def answers() -> Iterator[tuple[str, str]]:
    for line in (DATA / "client_python_rest_mocks.jsonl").read_text().splitlines():
        told = json.loads(line)
        yield told["path"].replace("&", "?", 1).replace(";", ":"), told["body_text"]
    for line in (DATA / "alpacaforr_reference_and_news.jsonl").read_text().splitlines():
        told = json.loads(line)
        yield told["url"].partition("polygon.io")[2], told["body_text"]


def units(value: Any, places: int) -> int:
    return int(Decimal(str(value)).scaleb(places))


def exact(body: str) -> Any:
    return json.loads(body, parse_float=Decimal)


def rows(decoder: Decoder, kind: str, *frame: Any) -> Any:
    return np.frombuffer(decoder.receive(*frame, TS).numpy(kind), DTYPES[kind])


def test_every_answer_is_read_or_rejected_with_its_reason():
    reasons: dict[str, int] = {}
    read = 0
    for path, body in answers():
        decoder, frame = Decoder("massive"), (REST, path.encode(), body.encode())
        if path.startswith("/v2/reference/news"):
            # See `test_news_real.py`.
            continue
        if "/events" in path:
            [change] = rows(decoder, "corporate_action", *frame)
            assert (change["action"], change["former"]) == (3, b"FB")
            continue
        if not path.startswith(RECORDED):
            with pytest.raises(DecodeError) as raised:
                decoder.receive(*frame, TS)
            reasons[raised.value.reason] = reasons.get(raised.value.reason, 0) + 1
            continue
        if '"adjusted": true' in body:
            # Adjusted bars are no records; their rows are read as those of bars that are not.
            with pytest.raises(DecodeError) as raised:
                decoder.receive(*frame, TS)
            assert raised.value.reason == "unknown_stream"
            plain = body.replace('"adjusted": true', '"adjusted": false')
            frame = (REST, path.encode(), plain.encode())
        for row, told in zip(*compared(decoder, path, frame, exact(body)), strict=True):
            assert row == told, path
            read += 1
    # Those that are a list, and no object with results, are of another type than any that is read.
    assert reasons == {"unknown_stream": 40, "wrong_type": 3}
    assert read == 26 + 10 + 10 + 1


def compared(
    decoder: Decoder, path: str, frame: tuple[int, bytes, bytes], told: Any
) -> tuple[list[Any], list[Any]]:
    """Returns what the decoder and what Python read of each row."""
    results = told["results"]
    if path.startswith(ACTIONS):
        return compared_actions(rows(decoder, "corporate_action", *frame), results)
    if "/trades/" in path:
        found = rows(decoder, "trade", *frame)
        names = ("price", "size", "sequence", "trade_id", "ts_event")
        return [tuple(int(row[name]) for name in names) for row in found], [
            (
                units(row["price"], 9),
                units(row["size"], 8),
                row["sequence_number"],
                int(row["id"]),
                row["sip_timestamp"],
            )
            for row in results
        ]
    if "/quotes/" in path:
        found = rows(decoder, "quote", *frame)
        names = ("bid_price", "bid_size", "ask_price", "ask_size", "sequence", "ts_event")
        return [tuple(int(row[name]) for name in names) for row in found], [
            (
                units(row["bid_price"], 9),
                100 * units(row["bid_size"], 8),
                units(row["ask_price"], 9),
                100 * units(row["ask_size"], 8),
                row["sequence_number"],
                row["sip_timestamp"],
            )
            for row in results
            if row["sip_timestamp"] < SHARES_SINCE
        ]
    found = rows(decoder, "bar", *frame)
    names = ("open", "high", "low", "close", "volume", "count", "ts_event", "interval_ms")
    return [tuple(int(row[name]) for name in names) for row in found], [
        (
            *(units(row[key], 9) for key in "ohlc"),
            units(row["v"], 8),
            row["n"],
            row["t"] * 10**6,
            86_400_000,
        )
        for row in results
    ]


def compared_actions(found: Any, results: Any) -> tuple[list[Any], list[Any]]:
    def day(text: str | None) -> int:
        whole = date.fromisoformat(text) if text else None
        return NONE if whole is None else (whole - date(1970, 1, 1)).days * 86_400 * 10**9

    names = ("ts_event", "split_from", "split_to", "cash_amount", "ts_declared", "ts_record")
    return [(*(int(row[name]) for name in names), int(row["ts_pay"])) for row in found], [
        (
            day(row.get("ex_dividend_date") or row.get("execution_date") or row.get("exDate")),
            units(row["ratio"] if "ratio" in row else row["split_from"], 9)
            if "cash_amount" not in row
            else NONE,
            units(row.get("split_to", 1), 9) if "cash_amount" not in row else NONE,
            units(row["cash_amount"], 9) if "cash_amount" in row else NONE,
            day(row.get("declaration_date")),
            day(row.get("record_date")),
            day(row.get("pay_date") or row.get("paymentDate")),
        )
        for row in results
    ]


def test_conditions_hold_back_what_the_venue_says():
    # Its own reference, where the recording has it: of bars of a day, which are the SIPs' rules.
    [body] = [body for path, body in answers() if path.startswith("/v3/reference/conditions")]
    number = _core.numbers("feed")["massive"]
    held = _core.held_back(number, is_daily=True)
    compared = 0
    for row in json.loads(body)["results"]:
        rules = row["update_rules"]["consolidated"]
        for ids, part in zip(held, ("open_close", "high_low", "volume"), strict=True):
            assert (row["id"] not in ids) == rules[f"updates_{part}"], (row["name"], part)
            compared += 1
    assert compared == 3 * 10


def test_every_frame_of_the_session_and_every_example_decodes():
    # As many records as there are events that have one; trades field by field.
    decoder, trades, events = Decoder("massive"), 0, 0
    lines = (DATA / "ws_session_frames.jsonl").read_text().splitlines()
    frames = [json.dumps(json.loads(line)["frame"]) for line in lines]
    lines = (DATA / "ws_examples_stocks_crypto_indices.jsonl").read_text().splitlines()
    frames += [json.dumps([json.loads(line)["body"]]) for line in lines]
    for frame in frames:
        told = [event for event in exact(frame) if event["ev"] != "status"]
        batch = decoder.receive(TEXT, b"", frame.encode(), TS)
        # A book is its levels between two marks.
        levels = sum(
            len(event["b"]) + len(event["a"]) + 1 for event in told if event["ev"] == "XL2"
        )
        assert len(batch) == len(told) + levels, frame
        events += len(told)
        expected = [event for event in told if event["ev"] in ("T", "XT")]
        for row, event in zip(
            rows(decoder, "trade", TEXT, b"", frame.encode()), expected, strict=True
        ):
            trades += 1
            assert row["price"] == units(event["p"], 9)
            assert row["size"] == units(event["s"], 8)
            assert row["ts_event"] == event["t"] * 10**6
            assert row["sequence"] == event.get("q", 0)
            assert row["trade_id"] == int(event["i"])
    assert (events, trades) == (17, 5)


def test_every_flat_file_decodes(tmp_path: Path):
    # The rows of the pages, each value as it stands in the file.
    def read(name: str, kind: str, day: date, path: Path | None = None) -> list[Any]:
        path = path or DATA / "flatfiles" / f"{name}_doc_sample.csv"
        captures = MassiveCaptures(CaptureOptions("massive", day=day))
        decoder = Decoder("massive")
        return [
            row
            for one in captures.read(path)
            for row in rows(decoder, kind, one.kind, one.context, one.body)
        ]

    march = date(2023, 3, 13)
    [stock] = read("trades", "trade", date(2023, 3, 28))
    assert (stock["price"], stock["size"], stock["sequence"], stock["trade_id"]) == (
        *(276_160_000_000, 55 * 10**8, 1550, 1),
    )
    assert stock["ts_event"] == 1_679_990_400_018_381_329
    [option] = read("options_trades", "trade", march)
    assert (option["price"], option["size"]) == (11_820_000_000, 10**8)
    # The page shows rows of two days, which no file of a day holds: each is one of its own.
    sample = DATA / "flatfiles" / "options_day_aggs_doc_sample.csv"
    with pytest.raises(FeedError, match=r"its day is 2023-03-13, .* is of 2023-03-27"):
        read("options_day_aggs", "bar", march)
    head, *lines = sample.read_text().splitlines(keepends=True)
    bars = []
    for line, day in zip(lines, (march, date(2023, 3, 27)), strict=True):
        path = tmp_path / f"day_aggs-{day}.csv"
        path.write_text(head + line)
        bars += read("", "bar", day, path)
    assert [(bar["close"], bar["count"], bar["interval_ms"]) for bar in bars] == [
        (9_830_000_000, 62, 86_400_000),
        (35_770_000_000, 1, 86_400_000),
    ]
