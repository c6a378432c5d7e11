"""What makes Spark read Iceberg tables: one jar of Maven's repository, copied to the cache once."""

import shutil
from pathlib import Path

from .base import ServiceUnavailable, cache, install_package, one_at_a_time, run

VERSION = "1.11.0"
ARTIFACT = f"org.apache.iceberg:iceberg-spark-runtime-4.0_2.13:{VERSION}"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"


class IcebergSparkJar:
    """No server: a library that tests of PySpark load."""

    NAME = "iceberg-spark"

    @property
    def path(self) -> Path:
        """Where the jar is."""
        return cache() / f"iceberg-spark-{VERSION}" / f"{ARTIFACT.split(':')[1]}-{VERSION}.jar"

    def install(self) -> None:
        """Copies the jar to the cache, unless it is there.

        Raises:
            ServiceUnavailable: Maven cannot be had, or refuses.
        """
        if shutil.which("mvn") is None:
            install_package("maven")
        with one_at_a_time(self.NAME):
            if self.path.exists():
                return
            aside = self.path.parent.with_suffix(".part")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            words = ["mvn", "-q", "-B", COPY, f"-Dartifact={ARTIFACT}"]
            made = run([*words, f"-DoutputDirectory={aside}"])
            if made.returncode != 0:
                raise ServiceUnavailable(f"maven: {made.stdout[-1_000:]}{made.stderr[-1_000:]}")
            aside.rename(self.path.parent)
