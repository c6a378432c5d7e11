"""News: what queries show of stories, how a later word amends one, and what was told first."""

import json
from typing import Any

import pytest

import tapeworks as tw
from tapeworks._core import Stage, TapeWriter, numbers
from tapeworks.errors import QueryError
from tapeworks.processors.derive import Derivation
from tapeworks.settings import ProcessorsConfig
from tapeworks.tape import TapeConfig
from tapeworks.topics import NEWS, NORMALIZED, RAW

TEXT, REST = numbers("blob_kind")["text"], numbers("blob_kind")["rest"]
SECOND = 10**9
RECEIVED = 1_772_000_000 * SECOND


def story(number: int, headline: str, made: str, updated: str = "", **more: Any) -> dict[str, Any]:
    told = {"T": "n", "id": number, "headline": headline, "created_at": made}
    return told | ({"updated_at": updated} if updated else {}) | more


STORIES = [
    [story(1, "Rates up", "2026-02-24T10:00:00Z", symbols=["SPY", "TLT"], source="wire")],
    [
        story(2, 'O\'Neil "buys" é', "2026-02-24T10:00:01.5Z", url="https://x.test/2"),
        {"T": "n", "id": 9},
    ],
    # A correction of the first, a day later; then the history tells the first word on it again.
    [story(1, "Rates down", "2026-02-24T10:00:00Z", "2026-02-25T09:00:00Z", symbols=["TLT"])],
]


@pytest.fixture
def folder(spine: Any) -> Any:
    """A source with the stories on its tapes; the lake holds what came up to then."""
    feed = numbers("feed")["alpaca"]
    history = {"news": STORIES[0], "next_page_token": None}
    told = [(TEXT, b"", frame) for frame in STORIES] + [(REST, b"/v1beta1/news", history)]
    with TapeWriter(spine.tape(RAW), "blobs", durability="never") as writer:
        for number, (kind, context, body) in enumerate(told):
            ts = RECEIVED + number * SECOND
            text = json.dumps(body, separators=(",", ":")).encode()
            writer.append_blob(kind, text, context=context, ts=ts, feed=feed)
    states = spine.path / "state" / spine.source
    settings = {"feed": "alpaca"}
    stage = Stage(
        "normalize", spine.tape(RAW), spine.tape(NORMALIZED), states / "normalize", settings
    )
    stage.run_until_idle()
    stage.close()
    derivation = Derivation(ProcessorsConfig(), TapeConfig("never"), spine.path, spine.source)
    assert derivation.drain()
    derivation.close()
    return spine


def shown(rows: Any) -> list[tuple[str, str]]:
    return [(row["id"], row["headline"]) for row in rows.to_pylist()]


@pytest.mark.parametrize("is_stored", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_stories_are_as_they_were_told_last(folder: Any, is_stored: bool) -> None:
    # Two stories and a correction of the first, which the history then tells as it was first: on
    # the tape, and in the lake. One that lacks its headline is a dead letter.
    if is_stored:
        folder.drain(NORMALIZED)
        folder.drain(NEWS)
    lake = tw.open(folder.path)
    other = 'O\'Neil "buys" é'
    assert shown(lake.news()) == [("1", "Rates down"), ("2", other)]
    assert shown(lake.news("TLT")) == [("1", "Rates down")]
    # As the correction has it, it is not about this one any more.
    assert shown(lake.news(["SPY", "X"])) == []
    first = lake.news("SPY", as_of=RECEIVED + SECOND).to_pylist()
    assert [(row["headline"], row["source"]) for row in first] == [("Rates up", "wire")]
    assert shown(lake.news(as_of=RECEIVED - 1)) == []
    assert shown(lake.news(start="2026-02-24T10:00:00.5Z")) == [("2", other)]
    assert shown(lake.news(end="2026-02-24T10:00:00.5Z")) == [("1", "Rates down")]
    every = (
        "select headline, flags & 4 as history from news_revisions where id = '1' order by ts_recv"
    )
    told = [(row["headline"], row["history"]) for row in lake.sql(every).to_pylist()]
    assert told == [("Rates up", 0), ("Rates down", 0), ("Rates up", 4)]
    [row] = lake.sql("select * from news where id = '2'").to_pylist()
    assert json.loads(row["raw"]) == STORIES[1][0]
    assert (row["url"], row["symbols"], row["summary"]) == ("https://x.test/2", [], None)
    assert row["ts_updated"] == row["ts_event"]
    [letter] = lake.dead_letters().to_pylist()
    assert (letter["reason"], letter["raw_offset"]) == ("missing_field", 1)
    connection = lake.connect()
    assert connection.sql("select count(*) from news").fetchall() == [(2,)]


def test_a_feed_without_news_has_no_tape_of_it(spine: Any) -> None:
    # Its first frame tells which feed it is; nothing is made for what can never come.
    with TapeWriter(spine.tape(RAW), "blobs", durability="never") as writer:
        writer.append_blob(TEXT, b"{}", ts=RECEIVED, feed=numbers("feed")["binance-spot"])
    with TapeWriter(spine.tape(NORMALIZED), durability="never"):
        pass
    derivation = Derivation(ProcessorsConfig(), TapeConfig("never"), spine.path, spine.source)
    assert derivation.drain()
    derivation.close()
    assert not spine.tape(NEWS).exists()
    with pytest.raises(QueryError, match=f"no news come from {spine.source}: they do from "):
        tw.open(spine.path).news()
