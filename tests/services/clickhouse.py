"""ClickHouse: chdb, the engine of the same code base, behind its HTTP interface.

There is no current server in a package. What it does with a query, a table and a token is what the
engine does here; its network code, users and replication are not tested by this.
"""

import shutil
import signal
import sys
import urllib.request
from pathlib import Path

from .base import Service, ServiceUnavailable, cache, one_at_a_time, run

VERSION = "4.4.0"
PROGRAM = Path(__file__).with_name("clickhouse_http.py")


class ClickHouseService(Service):
    """The engine in a process of its own, with an environment of its own: it is large."""

    NAME = "clickhouse"
    # The engine ends with its process; what it confirmed is in its folder.
    STOP = signal.SIGKILL

    @property
    def python(self) -> Path:
        """The interpreter that has the engine."""
        return cache() / f"chdb-{VERSION}" / "bin" / "python"

    def install(self) -> None:
        """Makes an environment with the engine below the cache, once."""
        with one_at_a_time("chdb"):
            ready = self.python.parents[1] / "ready"
            if ready.exists():
                return
            shutil.rmtree(self.python.parents[1], ignore_errors=True)
            words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            for line in (
                [sys.executable, "-m", "venv", self.python.parents[1]],
                [self.python, *words, f"chdb=={VERSION}"],
            ):
                made = run(line)
                if made.returncode != 0:
                    raise ServiceUnavailable(f"chdb: {made.stdout[-500:]}{made.stderr[-500:]}")
            ready.touch()

    def prepare(self) -> None:
        """Needs nothing."""

    def command(self) -> list[str]:
        """The server in the foreground."""
        return [str(self.python), str(PROGRAM), str(self.port), str(self.folder / "data")]

    def answers(self) -> bool:
        """Asks as a load balancer does."""
        try:
            with urllib.request.urlopen(f"{self.url()}/ping", timeout=2) as answer:
                return bool(answer.read() == b"Ok.\n")
        except OSError:
            return False

    def url(self, *, port: int | None = None) -> str:
        """Returns what a client connects to, by another port where a proxy stands before it."""
        return f"http://127.0.0.1:{port or self.port}"

    def environment(self) -> dict[str, str]:
        """One address."""
        return {"TEST_CLICKHOUSE": self.url()}
