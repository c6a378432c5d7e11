"""`tape import` of what a venue keeps of the past: rows that files and answers tell again."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.e2e.test_import_equities import tape

import tapeworks as tw

TRADES = "ticker,price,size,sip_timestamp,sequence_number,id\n"
BARE = "ticker,price,size,sip_timestamp\n"
TEN = int(datetime(2026, 10, 1, 14, tzinfo=UTC).timestamp()) * 10**9


def rows(*numbers: int) -> str:
    return "".join(f"AAPL,100.{n},{n},{TEN + n},{n},{n}\n" for n in numbers)


def answer(*numbers: int) -> str:
    told = ",".join(
        f'{{"price":100.{n},"size":{n},"sip_timestamp":{TEN + n},"sequence_number":{n},"id":"{n}"}}'
        for n in numbers
    )
    return f'{{"results":[{told}],"status":"OK"}}'


def count(folder: Path) -> dict[str, int]:
    lake = tw.open(folder)
    sql = "select count(*) as n, count(distinct sequence) as told, sum(size)::int as size from "
    return lake.sql(f"{sql} trades").to_pylist()[0]


@pytest.mark.slow
def test_trades_that_files_and_answers_tell_again_are_stored_once(tmp_path: Path):
    # A file, the venue's later version of it with one row more, a part of it by another name, then
    # pages of answers that overlap; by a command each, so that what is known outlives a restart.
    url = "https://api.massive.com/v3/trades/AAPL?page"
    files = {
        "2026-10-01.csv": TRADES + rows(1, 2, 3, 4, 5),
        "later/2026-10-01.csv": TRADES + rows(1, 2, 3, 4, 5, 6),
        "part-2026-10-01.csv": TRADES + rows(3, 4),
        "answers.txt": f"{url}=1 -> 1790990000.5: {answer(5, 6, 7)}\n"
        f"{url}=2 -> 1790990001.5: {answer(7, 8)}\n",
    }
    left_out = [0, 5, 2, 3]
    for (name, text), repeats in zip(files.items(), left_out, strict=True):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        shown = tape("import", "massive", name, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        told = f"{repeats} events were there already, told by another file or answer: left out"
        assert (told in shown.stderr) == bool(repeats), shown.stderr
    assert count(tmp_path / "data") == {"n": 8, "told": 8, "size": 36}
    assert len(tw.open(tmp_path / "data").gaps()) == 0


@pytest.mark.slow
def test_trades_without_a_number_are_as_many_as_one_file_tells(tmp_path: Path):
    # Of options the venue tells neither number nor id: two that are alike are two of one file, and
    # the same two of another.
    row = f"O:SPY261219C00650000,1.5,2,{TEN}\n"
    (tmp_path / "2026-10-01.csv").write_text(BARE + 2 * row)
    (tmp_path / "again-2026-10-01.csv").write_text(BARE + 3 * row)
    shown = tape("import", "massive", "2026-10-01.csv", "again-2026-10-01.csv", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "2 events were there already" in shown.stderr
    assert count(tmp_path / "data")["n"] == 3


def test_a_flat_file_covers_its_day_and_no_other(tmp_path: Path):
    (tmp_path / "2026-10-01.csv").write_text(TRADES + rows(1, 2))
    later = (TRADES + rows(1, 2)).replace(str(TEN)[:6], str(TEN + 3 * 86_400 * 10**9)[:6])
    (tmp_path / "2026-10-04.csv").write_text(later)
    shown = tape("import", "massive", "2026-10-01.csv", "2026-10-04.csv", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    lake = tw.open(tmp_path / "data")
    for day, is_complete in ((1, True), (2, False), (3, False), (4, True)):
        span = f"2026-10-0{day}T08:00:00Z", f"2026-10-0{day}T23:00:00Z"
        assert lake.coverage(None, *span).is_complete == is_complete, day
