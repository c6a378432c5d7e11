"""Iceberg tables by the catalogs that several machines share: PostgreSQL, and REST with tokens."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pyiceberg.catalog import load_catalog
from tests.jobs.test_iceberg import publish
from tests.services.base import free_port
from tests.services.iceberg_rest import CLIENT, PASSWORD, TOKEN

from conftest import RecordMaker, SpineFolder
from tapeworks.errors import ConfigError
from tapeworks.jobs.iceberg import catalogs
from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.jobs.iceberg.job import Unavailable
from tapeworks.published import Store
from tapeworks.views.iceberg import open_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(params=["postgres", "iceberg-rest"])
def catalog(request: Any, server: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """Settings of a catalog, with a namespace of its own."""
    name = f"t{time.monotonic_ns()}"
    if request.param == "postgres":
        service = server("postgres")
        with psycopg.connect(service.url(), autocommit=True) as connection:
            connection.execute(f"create database {name}")
            yield {"catalog": service.url(name), "namespace": name}
            connection.execute(f"drop database {name} with (force)")
        return
    yield {"catalog": server("iceberg-rest").url(), "catalog_token": TOKEN, "namespace": name}


def client(settings: dict[str, Any]) -> Any:
    """Opens the catalog as another program does."""
    uri = settings["catalog"]
    if uri.startswith("http"):
        tokens = f"{uri}/v1/oauth/tokens"
        known = {"token": TOKEN, "oauth2-server-uri": tokens}
        return load_catalog("tapeworks", type="rest", uri=uri, **known)
    return load_catalog("tapeworks", type="sql", uri=uri.replace("://", "+psycopg://", 1))


def store(spine: SpineFolder, maker: RecordMaker, first: int, count: int) -> None:
    if not first:
        spine.append(maker.definitions())
    spine.append(maker.trades(count, first))
    spine.drain()


def test_machines_that_share_a_catalog_fill_one_table(spine, maker, catalog, tmp_path):
    # Two data folders with a source each publish to one table, again and again and at once; a
    # client with the catalog alone sees the rows of both, each once, and so does one with the hint.
    other = SpineFolder(tmp_path / "other", "binance-futures")
    shared = {**catalog, "warehouse": str(tmp_path / "warehouse"), "tables": ("trades",)}
    for first in (0, 1_000):
        for one in (spine, other):
            store(one, maker, first, 1_000)
        failures: list[BaseException] = []

        def run(data: Path, failures: list[BaseException] = failures) -> None:
            try:
                publish(data, **shared)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(one.path,)) for one in (spine, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
    other.close()
    with contextlib.closing(client(catalog)) as opened:
        table = opened.load_table(f"{catalog['namespace']}.trades")
    hinted = open_table(Store(shared["warehouse"]), f"{catalog['namespace']}/trades")
    assert hinted is not None
    for each in (table, hinted):
        rows = each.scan(selected_fields=("venue", "trade_id")).to_arrow()
        found = sorted(zip(rows["venue"].to_pylist(), rows["trade_id"].to_pylist(), strict=True))
        assert found == [
            (venue, at) for venue in (other.source, spine.source) for at in range(2_000)
        ]


def test_a_rest_catalog_that_refuses_or_is_silent_is_told_and_tried_again(
    spine, maker, server, monkeypatch
):
    # A wrong token, none, a server that is silent and one that is down: each is told as trouble of
    # the catalog, without what is secret; once it serves again, what is left is published, by a
    # credential for which it gives a token.
    service = server("iceberg-rest")
    place = {"catalog": service.url(), "namespace": "refused", "tables": ("trades",)}
    store(spine, maker, 0, 500)
    for wrong in ({"catalog_token": "a wrong one"}, {"catalog_credential": "who:secret words"}, {}):
        with pytest.raises(Unavailable, match=r"catalog does not answer.*not authorized") as told:
            publish(spine.path, **place, **wrong)
        assert not any(value in str(told.value) for value in wrong.values())
        assert not any(value in repr(IcebergConfig(**place, **wrong)) for value in wrong.values())
    with monkeypatch.context() as environment:
        # As for every program that uses pyiceberg.
        environment.setenv("PYICEBERG_CATALOG__TAPEWORKS__TOKEN", TOKEN)
        publish(spine.path, **place)
    place["catalog_token"] = TOKEN
    store(spine, maker, 500, 500)
    service.pause()
    try:
        began = time.monotonic()
        with monkeypatch.context() as soon:
            soon.setattr(catalogs, "REQUEST_TIMEOUT_S", 1)
            with pytest.raises(Unavailable, match=r"catalog does not answer.*timed out"):
                publish(spine.path, **place)
        assert time.monotonic() - began < 20
    finally:
        service.unpause()
    with pytest.raises(Unavailable, match="catalog does not answer"):
        publish(spine.path, **{**place, "catalog": f"http://127.0.0.1:{free_port()}"})
    del place["catalog_token"]
    publish(spine.path, **place, catalog_credential=f"{CLIENT}:{PASSWORD}", catalog_scope="all")
    table = open_table(Store(str(spine.path / "iceberg" / "warehouse")), "refused/trades")
    assert table is not None
    assert sorted(table.scan().to_arrow()["trade_id"].to_pylist()) == list(range(1_000))


def test_settings_of_a_rest_catalog_are_of_one():
    # With another catalog, both ways in at once, or an address that is none.
    for wrong, told in (
        ({"catalog_token": "x"}, "catalog_token: expected the https.* got none"),
        ({"catalog": "sqlite:///x", "catalog_scope": "x"}, "catalog_scope: .* got sqlite:///x"),
        (
            {"catalog": "https://x", "catalog_token": "x", "catalog_credential": "y:z"},
            "catalog_token: expected it or catalog_credential, got both",
        ),
        ({"catalog": "https://x", "catalog_oauth_url": "ftp://y"}, "catalog_oauth_url: .*ftp"),
    ):
        with pytest.raises(ConfigError, match=told):
            IcebergConfig(**wrong)
