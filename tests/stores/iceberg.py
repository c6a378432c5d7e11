"""Iceberg on an object store in the campaign of stores: the lake, and the job that publishes it.

The server keeps objects in memory: it is paused and cut off, and never killed.
"""

import os
from typing import Any

import boto3
import pyarrow.compute as pc
from tests.services import S3Service

from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.published import Store as Warehouse
from tapeworks.views.iceberg import open_table

from .base import Store
from .publishing import PUBLISHED, Publishing, run_publisher

BUCKET = "market"
WAREHOUSE = f"s3://{BUCKET}/history"


class IcebergStore(Store):
    """Trades in an Iceberg table, read as a client without a catalog would."""

    NAME = "iceberg"
    RUN = staticmethod(run_publisher)
    STAGE = PUBLISHED
    PACE = 4.0
    SHARED = ("tape", "lake")
    WITHOUT = frozenset({"server_killed", "server_restarted"})

    def __init__(self) -> None:
        self.service: S3Service = S3Service()

    def settings(self, port: int) -> Any:
        """Publishes all that the lake holds, again and again, by way of the proxy."""
        config = IcebergConfig(
            warehouse=WAREHOUSE,
            catalog=f"sqlite:///{self.service.folder}/catalog.db",
            tables=("trades",),
            # By the hour, most files of the lake are published as several.
            partition="hour",
            now=True,
            orphans_hours=1,
        )
        environment = self.service.environment()
        return Publishing(config, {**environment, "AWS_ENDPOINT_URL": self.service.url(port=port)})

    def prepare(self) -> None:
        """Makes the bucket."""
        os.environ.update(self.service.environment())
        boto3.client("s3").create_bucket(Bucket=BUCKET)

    def rows(self, source: str) -> list[tuple[int, int]]:
        """Reads all trades of a source as of the snapshot that readers are told of."""
        table = open_table(Warehouse(WAREHOUSE), "tapeworks/trades")
        if table is None:
            return []
        columns = ("tape_offset", "trade_id", "venue")
        found = table.scan(selected_fields=columns).to_arrow()
        found = found.filter(pc.equal(found["venue"], source)).sort_by("tape_offset")
        return list(
            zip(found["tape_offset"].to_pylist(), found["trade_id"].to_pylist(), strict=True)
        )
