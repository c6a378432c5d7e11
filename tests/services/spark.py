"""Spark in a Java machine of its own: one that was started for another session loads no jars."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENDS_S = 30


@contextlib.contextmanager
def spark_session(*jars: Path) -> Iterator[Any]:
    """Gives a session with `jars`, and no setting that concerns reading.

    Raises:
        ImportError: PySpark is not installed.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    if jars:
        builder = builder.config("spark.jars", ",".join(map(str, jars)))
    session = builder.getOrCreate()
    gateway: Any = SparkContext._gateway
    try:
        yield session
    finally:
        session.stop()
        gateway.shutdown()
        # Its standard input is what keeps it running.
        gateway.proc.stdin.close()
        gateway.proc.wait(ENDS_S)
        SparkContext._gateway = SparkContext._jvm = None
