"""`tape import` of flat files that lie in an object store: a real S3 service."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.feeds.test_massive_files import SIP, TRADES, trade_row

import tapeworks as tw

START = "from tapeworks.cli import main; main()"
FOLDER = "us_stocks_sip/trades_v1/2023/03/"
DAY_NS = 86_400_000_000_000


@pytest.fixture
def flat_files(server: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """Two days of trades in a bucket; returns its address."""
    service = server("s3")
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=service.url())
    client.create_bucket(Bucket="flatfiles")
    for day, shift in (("2023-03-28", 0), ("2023-03-29", DAY_NS)):
        rows = "".join(
            trade_row("MSFT", number).replace(str(SIP + number), str(SIP + number + shift))
            for number in range(1, 4)
        )
        content = gzip.compress((TRADES + rows).encode())
        client.put_object(Bucket="flatfiles", Key=f"{FOLDER}{day}.csv.gz", Body=content)
    return f"s3://flatfiles/{FOLDER}"


def tape(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_objects_are_fetched_imported_and_removed(tmp_path: Path, flat_files: str):
    # One of them, then all below the prefix: the first is known. What is refused leaves no rows,
    # and a copy only of what was fetched.
    first = f"{flat_files}2023-03-28.csv.gz"
    shown = tape("import", "massive", first, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert not (tmp_path / "data" / "incoming").exists()
    assert len(tw.open(tmp_path / "data").trades("MSFT")) == 3

    away = tape("import", "massive", first, cwd=tmp_path, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert away.returncode == 1
    assert "Could not connect to server" in away.stderr
    assert "nothing of it was imported" in away.stderr
    for address in (f"{flat_files}2024-01-01.csv.gz", f"{flat_files}none/", "s3://none/x/"):
        missing = tape("import", "massive", address, cwd=tmp_path)
        assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
        assert f"expected an object at {address}" in missing.stderr
    assert "expected s3://BUCKET/KEY" in tape("import", "massive", "s3://x", cwd=tmp_path).stderr

    wrong = tape("import", "massive", first, "--date", "2023-03-27", "--source", "w", cwd=tmp_path)
    assert wrong.returncode in (1, 2)
    assert "nothing was imported" in wrong.stderr
    assert [path.name for path in (tmp_path / "data" / "incoming").rglob("*.gz")] == [
        "2023-03-28.csv.gz"
    ]

    shown = tape("import", "massive", flat_files, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "1 frames were there already" in shown.stderr
    trades = tw.open(tmp_path / "data").trades("MSFT", source="massive").to_arrow()
    assert trades.column("ts_event").to_pandas().dt.date.astype(str).tolist() == (
        ["2023-03-28"] * 3 + ["2023-03-29"] * 3
    )
