"""What holds of a channel and a kind `sample` that a build has beyond those of this one.

`test_contracts.py` makes such a build and runs this file there; without it, these tests fail.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import tapeworks as tw
from tapeworks import _core
from tapeworks.errors import QueryError

TOPIC = "market-data.normalized"
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
COUNT = 1_000
SECOND_NS = 10**9


def samples(maker, first: int = 0):
    """Returns `COUNT` records of the kind on the channel, one a second, of three instruments."""
    at = np.arange(first, first + COUNT)
    start = maker.definitions()["ts_recv"][0]
    return maker.rows(
        "sample",
        COUNT,
        instrument=1 + at % 3,
        ts_event=start + at * SECOND_NS,
        ts_recv=start + at * SECOND_NS + 5,
        sequence=at,
        value=at * 10**9 + 1,
        weight=at * 10**8 + 1,
        count=at,
        channel=_core.numbers("channel")["sample"],
        flags=1,
    )


def test_the_numbers_are_known_by_name():
    # Each list gives the number that the line in the core gives, the largest of all.
    for of in ("kind", "channel"):
        numbers = _core.numbers(of)
        assert numbers["sample"] == max(numbers.values())
    assert _core.kind_of("sample") == _core.numbers("kind")["sample"]


def test_records_are_stored_found_shown_and_verified(spine, maker):
    # Half of the records in files, half on the tape; then all in files, and no tape.
    spine.append(maker.definitions())
    first, second = samples(maker), samples(maker, COUNT)
    spine.append(first)
    spine.drain()
    spine.append(second)
    lake = tw.open(spine.path)
    expected = np.concatenate([first, second])
    sql = "select symbol, channel, value, weight, count from samples order by sequence"
    for files in (1, 2):
        rows = lake.sql(sql).to_arrow()
        assert rows["count"].to_pylist() == expected["count"].tolist()
        assert set(rows["channel"].to_pylist()) == {"sample"}
        assert rows["symbol"].to_pylist() == [SYMBOLS[n % 3] for n in range(2 * COUNT)]
        assert rows.schema.field("value").type == pa.decimal128(19, 9)
        assert [int(one.scaleb(9)) for one in rows["value"].to_pylist()] == (
            expected["value"].tolist()
        )
        assert [int(one.scaleb(8)) for one in rows["weight"].to_pylist()] == (
            expected["weight"].tolist()
        )
        assert len(list((spine.path / "lake" / "samples").rglob("*.parquet"))) == files
        spine.drain()
    assert "samples" in lake.sql("show tables").to_arrow()["name"].to_pylist()
    shown = lake.rows("samples", "ETHUSDT").to_arrow()
    assert shown["count"].to_pylist() == [n for n in range(2 * COUNT) if n % 3 == 1]
    assert set(shown["symbol"].to_pylist()) == {"ETHUSDT"}
    spine.close()
    verify(spine.path)
    replayed(lake, expected)
    bare = spine.path.with_name("bare")
    shutil.copytree(spine.path / "lake", bare / "lake")
    replayed(tw.open(bare), expected)
    assert tw.open(bare).sql(sql).to_arrow() == rows


def test_a_gap_is_one_of_its_channel(spine, maker):
    # In a recording without another flaw: coverage of the channel has it, no other one has.
    codes, session = _core.numbers("marker_code"), _core.numbers("channel")["session"]

    def note(code, ts, first, **columns):
        known = {"channel": session, "ts_start": _core.NONE, "ts_event": ts, "ts_recv": ts}
        spine.append(maker.rows("marker", 1, code=codes[code], first=first, **(known | columns)))

    definitions = maker.definitions()
    start = int(definitions["ts_recv"][0])
    definitions["valid_from"] = start
    for connection in (0xFFFF, 0):
        note("connected", start, connection)
    spine.append(definitions)
    spine.append(samples(maker))
    lost = {"channel": _core.numbers("channel")["sample"], "instrument": 2, "last": 70, "count": 7}
    lost |= {"cause": _core.numbers("gap_cause")["sequence"], "ts_start": start + 10 * SECOND_NS}
    note("gap", start + 11 * SECOND_NS, 64, **lost)
    for code in ("disconnected", "end_of_session"):
        note(code, start + COUNT * SECOND_NS, 0)
    spine.derive()
    lake = tw.open(spine.path)
    [gap] = lake.coverage("ETHUSDT", channel="sample").to_pylist()
    assert (gap["finding"], gap["channel"], gap["missing"]) == ("gap", "sample", 7)
    assert lake.coverage("BTCUSDT", channel="sample").is_complete
    # No trade is there, and nothing says whether they were subscribed.
    [unknown] = lake.coverage("ETHUSDT", channel="trade").to_pylist()
    assert unknown["finding"] == "not_known"
    with pytest.raises(QueryError, match=r"\bsample\b.*got 'samples'"):
        lake.coverage("ETHUSDT", channel="samples")


def verify(data) -> None:
    """Runs `tape verify`, which must find the tape and the lake whole, and all of the records."""
    main = "from tapeworks.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", main, "verify", "--json", "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    reports = json.loads(found.stdout)
    assert [report["fault"] for report in reports if report.get("fault")] == []
    found = {kind: report for report in reports for kind in ("tape", "lake") if kind in report}
    assert [report[kind].endswith(TOPIC) for kind, report in found.items()] == [True, True]
    assert found["tape"]["items"] == found["lake"]["rows"] == 2 * COUNT + 3


def replayed(lake: tw.Lake, expected) -> None:
    """Compares a replay with what was stored, byte by byte."""
    batches = list(lake.replay(kinds=["samples"]))
    assert b"".join(batch.records.numpy("sample") for batch in batches) == expected.tobytes()
