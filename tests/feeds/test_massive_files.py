"""Files of Massive: flat files become answers that the decoder reads, digit by digit."""

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeworks import _core
from tapeworks._core import Decoder
from tapeworks.errors import ConfigError, FeedError
from tapeworks.feeds.captures import REST, TEXT, Captured, CaptureOptions
from tapeworks.feeds.massive.captures import MassiveCaptures

DAY_END = 1_680_055_200 * 10**9
TRADES = (
    "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,"
    "sip_timestamp,size,tape,trf_id,trf_timestamp,decimal_size,a_new_one\n"
)
QUOTES = (
    "ticker,ask_exchange,ask_price,ask_size,bid_exchange,bid_price,bid_size,conditions,indicators,"
    "participant_timestamp,sequence_number,sip_timestamp,tape,trf_timestamp\n"
)
BARS = "ticker,volume,open,close,high,low,window_start,transactions\n"
SIP = 1_679_990_400_018_381_329


def read(path: Path, day: date | None = None) -> list[Captured]:
    return list(MassiveCaptures(CaptureOptions("massive", day=day)).read(path))


def rows(frames: list[Captured], kind: str) -> Any:
    decoder, dtype = Decoder("massive"), np.dtype(_core.dtype_descr(kind))
    found = [decoder.receive(f.kind, f.context, f.body, f.ts_recv).numpy(kind) for f in frames]
    return np.concatenate([np.frombuffer(one, dtype) for one in found])


def trade_row(ticker: str, number: int) -> str:
    return f'{ticker},"12,37",0,11,{number},{SIP - 9},276.160,{number},{SIP + number},0,3,,,0.5,x\n'


MADE = 1_679_990_400_000_000_007


@pytest.mark.parametrize(
    ("kind", "columns", "row"),
    [
        (
            "trade",
            "ticker,conditions,exchange,id,participant_timestamp,price,size",
            "{},2,1,9,{},5,2",
        ),
        ("quote", "ticker,ask_price,bid_price,participant_timestamp", "{},5.5,5.25,{}"),
    ],
)
def test_rows_without_a_sip_are_of_the_time_of_their_exchange(
    tmp_path: Path, kind: str, columns: str, row: str
):
    # Files of crypto and forex have no other time: it is taken, said once, and held to the day.
    path = tmp_path / "2023-03-28.csv"
    lines = [row.format(ticker, MADE) for ticker in ("X:BTC-USD", "X:ETH-USD")]
    path.write_text("\n".join([columns, *lines, ""]))
    captures = MassiveCaptures(CaptureOptions("massive"))
    frames = list(captures.read(path))
    assert rows(frames, kind)["ts_event"].tolist() == [MADE, MADE]
    [note] = captures.notes
    assert "participant_timestamp" in note
    with pytest.raises(FeedError, match="its day is 2023-03-20"):
        read(path, date(2023, 3, 20))


def test_trades_are_answers_of_runs_of_one_ticker(tmp_path: Path):
    # Two tickers, one of more rows than a body holds, one that is no good name for a JSON number.
    path = tmp_path / "2023-03-28.csv.gz"
    lines = [trade_row("MSFT", n) for n in range(1, 702)] + [trade_row("TRUE", 1)]
    path.write_bytes(gzip.compress((TRADES + "".join(lines)).encode()))
    frames = read(path)
    assert [frame.context.decode() for frame in frames] == [
        "/v3/trades/MSFT?file=2023-03-28.csv",
        "/v3/trades/MSFT?file=2023-03-28.csv",
        "/v3/trades/TRUE?file=2023-03-28.csv",
    ]
    assert {(frame.ts_recv, frame.kind) for frame in frames} == {(DAY_END, REST)}
    found = rows(frames, "trade")
    assert found["sequence"].tolist() == [*range(1, 702), 1]
    assert found["ts_event"].tolist() == [SIP + n for n in [*range(1, 702), 1]]
    assert set(found["price"].tolist()) == {276_160_000_000}
    assert set(found["size"].tolist()) == {50_000_000}
    assert found["conditions"].reshape(-1).tolist()[0] in (12, 12 + 256 * 37)


def test_rows_that_were_cancelled_are_trades_and_corrections(tmp_path: Path):
    # Codes of the TAQ files: 0 good, 1 corrected, 7 and 8 void later; 10 to 12 tell of other rows.
    path = tmp_path / "2023-03-28.csv"
    codes = ["0", "", "1", "7", "8", "10", "11", "12"]
    lines = [
        trade_row("MSFT", number).replace(',"12,37",0,', f',"12,37",{code},')
        for number, code in enumerate(codes, 1)
    ]
    path.write_text(TRADES + "".join(lines))
    frames = read(path)
    assert rows(frames, "trade")["trade_id"].tolist() == [1, 2, 3, 4, 5]
    void = rows(frames, "correction")
    assert void["trade_id"].tolist() == [4, 5]
    assert void["ts_event"].tolist() == [SIP + 4, SIP + 5]
    assert set(void["price"].tolist()) == {_core.NONE}
    assert set(void["action"].tolist()) == {1}


def test_quotes_and_bars_are_answers_as_well(tmp_path: Path):
    path = tmp_path / "2023-03-28.csv"
    path.write_text(f'{QUOTES}AAPL,11,10.5,2,12,10.25,3,1,"604,7",{SIP},5,{SIP},3,0\n')
    [quote] = rows(read(path), "quote")
    assert (quote["bid_price"], quote["ask_price"]) == (10_250_000_000, 10_500_000_000)
    # Round lots, at that time.
    assert (quote["bid_size"], quote["ask_size"]) == (300 * 10**8, 200 * 10**8)
    folder = tmp_path / "us_stocks_sip" / "minute_aggs_v1"
    folder.mkdir(parents=True)
    path = folder / "2023-03-28.csv"
    path.write_text(f"{BARS}AAPL,1.35e3,1,2.50,3,0.5,1679990400000000000,7\n")
    [bar] = rows(read(path), "bar")
    assert [bar[n] for n in ("open", "close", "high", "low")] == [
        10**9,
        25 * 10**8,
        3 * 10**9,
        5 * 10**8,
    ]
    assert (bar["volume"], bar["count"], bar["interval_ms"]) == (1350 * 10**8, 7, 60_000)
    # The folder nearest to the file says how long its bars are.
    nearer = folder / "day_aggs_v1" / path.name
    nearer.parent.mkdir()
    nearer.write_text(path.read_text())
    assert rows(read(nearer), "bar")["interval_ms"].tolist() == [86_400_000]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("2023-03-28.csv", "ticker,a\nX,1\n", "expected a flat file of trades, quotes or bars"),
        ("2023-03-28.csv", BARS + "X,1,1,1,1,1,1,1\n", "nothing tells how long its bars are"),
        ("2023-03-28.csv", TRADES + "MSFT,12,0,11\n", ":2: expected 15 columns; the file is cut"),
        ("2023-03-28.csv", TRADES + 'MSFT,"12\n', "expected a row of a flat file"),
        ("2023-03-28.csv", TRADES + trade_row("", 1), "expected a ticker, got ''"),
        ("2023-03-28.csv", TRADES + "x" * 5000, "a line of over"),
        ("2023-03-28.csv", TRADES + trade_row("MSFT", 1).rstrip("\n"), "its last line has no end"),
    ],
)
def test_what_is_no_flat_file_is_refused(tmp_path: Path, name: str, text: str, said: str):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(FeedError, match=said):
        read(path)


def test_a_file_that_is_cut_gives_what_comes_before(tmp_path: Path):
    path = tmp_path / "2023-03-28.csv.gz"
    lines = "".join(trade_row("MSFT", n) for n in range(1, 20_000))
    path.write_bytes(gzip.compress((TRADES + lines).encode())[:-2000])
    found = []
    with pytest.raises(FeedError, match="not whole"):
        found.extend(MassiveCaptures(CaptureOptions("massive")).read(path))
    reader = MassiveCaptures(CaptureOptions("massive")).read(path)
    assert len(rows([next(reader)], "trade")) == 500


def test_the_day_is_told_by_the_name_or_given(tmp_path: Path):
    path = tmp_path / "trades.csv"
    path.write_text(TRADES + trade_row("A", 1))
    with pytest.raises(ConfigError, match="nothing tells its day"):
        read(path)
    assert read(path, date(2023, 3, 28))[0].ts_recv == DAY_END
    with pytest.raises(ConfigError, match="take no --symbol"):
        MassiveCaptures(CaptureOptions("massive", symbol="A"))


def test_captured_frames_are_read_by_line(tmp_path: Path):
    path = tmp_path / "frames.jsonl"
    path.write_text('1651684192462000000 [{"ev":"T"}]\n[{"ev":"T","t":1651684192463}]\n')
    assert [(f.ts_recv // 10**6, f.kind) for f in read(path)] == [
        (1_651_684_192_462, TEXT),
        (1_651_684_192_463, TEXT),
    ]
    with pytest.raises(ConfigError, match="take no --date"):
        read(path, date(2023, 3, 28))


def test_frames_may_have_the_spaces_that_json_allows(tmp_path: Path):
    # As `json.dumps` writes them, beside what the venue sends: the same records and times.
    sent, over = 1_651_684_192_462, 1_651_684_200_000
    event = {"ev": "T", "sym": "AAPL", "p": 161.87, "s": 300, "t": sent, "q": 4_009_402}
    bar = {"ev": "AM", "sym": "AAPL", "v": 5, "o": 1, "c": 2, "h": 3, "l": 1, "e": over}
    bar["s"] = over - 60_000
    found = []
    for separators in [(",", ":"), (", ", ": ")]:
        lines = [json.dumps([one], separators=separators) for one in (event, bar)]
        (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
        frames = read(tmp_path / "a.jsonl")
        assert [one.ts_recv for one in frames] == [sent * 10**6, over * 10**6]
        found.append((rows(frames, "trade").tolist(), rows(frames, "bar").tolist()))
    assert found[0] == found[1]
    assert found[0][0]
    assert found[0][1]


def test_a_ticker_is_what_it_is_whatever_stands_in_it(tmp_path: Path):
    # What parts a path, or ends it, is escaped there. The file begins with a mark of its encoding.
    path = tmp_path / "2023-03-28.csv"
    tickers = ["BRK/A", "X?y", "A%2FB", "Z#cut", "O:SPY230327P00390000"]
    path.write_text("\ufeff" + TRADES + "".join(trade_row(ticker, 1) for ticker in tickers))
    decoder = Decoder("massive")
    for frame in read(path):
        decoder.receive(frame.kind, frame.context, frame.body, frame.ts_recv)
    assert sorted(decoder.symbols()) == sorted(tickers)


def test_rows_of_another_day_than_the_file_is_of_are_refused(tmp_path: Path):
    path = tmp_path / "2023-03-28.csv"
    path.write_text(TRADES + trade_row("AAPL", 1))
    assert len(read(path)) == 1
    for name, day in (("2023-03-27.csv", None), ("any.csv", date(2023, 3, 29))):
        (tmp_path / name).write_bytes(path.read_bytes())
        with pytest.raises(FeedError, match="by its name or --date, and a row of AAPL is of"):
            read(tmp_path / name, day)
    # Each row counts, and what is no time of ns is of no day.
    later, bar = SIP + 2 + 5 * 86_400 * 10**9, f"AAPL,1,1,1,1,1,{SIP},1\n"
    for time in (later, 0, SIP // 10**6, SIP // 10**9, 10**30, "x"):
        row = trade_row("AAPL", 2).replace(str(SIP + 2), str(time))
        path.write_text(TRADES + trade_row("AAPL", 1) + row)
        with pytest.raises(FeedError, match=r"28.csv:3: its day is 2023-03-28, .* row of AAPL is "):
            read(path)
    (tmp_path / "day_aggs_2023-03-28.csv").write_text(BARS + bar + bar.replace(str(SIP), "0"))
    with pytest.raises(FeedError, match="a row of AAPL is of 1969-12-31"):
        read(tmp_path / "day_aggs_2023-03-28.csv")


def test_a_file_stands_for_the_day_up_to_its_end(tmp_path: Path):
    (tmp_path / "2023-03-28.csv").write_text(TRADES + trade_row("AAPL", 1))
    [frame] = read(tmp_path / "2023-03-28.csv")
    assert (frame.since, frame.ts_recv) == (DAY_END - 86_400 * 10**9, DAY_END)
