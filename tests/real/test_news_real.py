"""News of the recordings: every story of them is stored, with what the venue told of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import derive

import tapeworks as tw
from tapeworks._core import Stage, TapeWriter, numbers
from tapeworks.topics import NORMALIZED, RAW

KINDS = numbers("blob_kind")
TEXT, REST = KINDS["text"], KINDS["rest"]
TS = 1_790_848_900_000_000_000


def stored(tmp_path: Path, feed: str, frames: list[tuple[int, bytes, bytes]]) -> list[Any]:
    """Returns the rows that kind, context and body of frames become."""
    data = tmp_path / "data"
    tapes, states = data / "tape" / feed, data / "state" / feed
    with TapeWriter(tapes / RAW, "blobs", durability="never") as writer:
        for number, (kind, context, body) in enumerate(frames):
            ts = TS + number
            writer.append_blob(kind, body, context=context, ts=ts, feed=numbers("feed")[feed])
    stage = Stage("normalize", tapes / RAW, tapes / NORMALIZED, states / "x", {"feed": feed})
    stage.run_until_idle()
    stage.close()
    derive(data, feed)
    lake = tw.open(data)
    assert lake.dead_letters().to_pylist() == []
    return lake.sql("select * from news_revisions order by tape_offset").to_pylist()


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def as_time(text: str) -> str:
    return text.removesuffix("Z") + ".000000000Z"


def check_raw(row: dict[str, Any], told: Any) -> None:
    assert json.loads(row["raw"]) == told


@pytest.mark.slow
def test_stories_of_the_stream_and_of_both_pages_are_stored(real_data: Path, tmp_path: Path):
    frames = [
        json.dumps([told["frame"]]).encode()
        for told in lines(real_data / "alpaca" / "docs_ws_frames.jsonl")
        if isinstance(told["frame"], dict) and told["frame"].get("T") == "n"
    ]
    pages = [
        told["body_text"].encode()
        for told in lines(real_data / "alpaca" / "go_sdk_rest_bodies.jsonl")
        if "TestGetNews" in told["path"]
    ]
    blobs = [(TEXT, b"", frame.replace(b'": ', b'":')) for frame in frames]
    blobs += [(REST, b"/v1beta1/news?limit=50", page) for page in pages]
    told = [story for frame in frames for story in json.loads(frame)]
    told += [story for page in pages for story in json.loads(page)["news"]]
    rows = stored(tmp_path, "alpaca", blobs)
    assert len(rows) == len(told) == 4
    for row, story in zip(rows, told, strict=True):
        check_raw(row, story)
        assert (row["id"], row["headline"]) == (str(story["id"]), story["headline"])
        assert row["symbols"] == story["symbols"]
        assert row["ts_event"] == as_time(story["created_at"])
        assert row["ts_updated"] == as_time(story["updated_at"])
        for name in ("summary", "author", "source", "url"):
            assert (row[name] or "") == story.get(name, "")


@pytest.mark.slow
def test_stories_of_reference_answers_are_stored(real_data: Path, tmp_path: Path):
    bodies = [
        told["body_text"]
        for name in ("client_python_rest_mocks.jsonl", "alpacaforr_reference_and_news.jsonl")
        for told in lines(real_data / "polygon" / name)
        if "/v2/reference/news" in told.get("path", told.get("url", ""))
    ]
    told = [story for body in bodies for story in json.loads(body)["results"]]
    rows = stored(
        tmp_path, "massive", [(REST, b"/v2/reference/news?ticker=X", b.encode()) for b in bodies]
    )
    assert len(rows) == len(told) == 11
    for row, story in zip(rows, told, strict=True):
        check_raw(row, story)
        assert (row["id"], row["headline"]) == (story["id"], story["title"])
        assert (row["source"], row["symbols"]) == (story["publisher"]["name"], story["tickers"])
        assert (row["url"], row["author"]) == (story["article_url"], story["author"])
        assert row["ts_event"] == row["ts_updated"] == as_time(story["published_utc"])
