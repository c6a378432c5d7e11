"""QuestDB, of its artifact in Maven's repository."""

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from .base import (
    Service,
    ServiceUnavailable,
    cache,
    free_port,
    install_package,
    one_at_a_time,
    run,
)

VERSION = "9.3.4"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"


class QuestDBService(Service):
    """A QuestDB server on loopback alone, as small as it gets: its tests have little data."""

    NAME = "questdb"
    SETTINGS: ClassVar[dict[str, object]] = {
        "telemetry.enabled": "false",
        "shared.worker.count": 2,
        "http.worker.count": 2,
        "line.tcp.enabled": "false",
    }

    @property
    def jar(self) -> Path:
        """The whole server."""
        return cache() / f"questdb-{VERSION}" / f"questdb-{VERSION}.jar"

    def install(self) -> None:
        """Copies the artifact to the cache, once."""
        for program, package in (("java", "default-jre-headless"), ("mvn", "maven")):
            if shutil.which(program) is None:
                install_package(package)
        with one_at_a_time("questdb"):
            if not self.jar.is_file():
                self._download()

    def _download(self) -> None:
        aside = cache() / f"questdb-{VERSION}.part"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        words = ["mvn", "-q", "-B", COPY, f"-Dartifact=org.questdb:questdb:{VERSION}"]
        made = run([*words, f"-DoutputDirectory={aside}"])
        if made.returncode != 0:
            raise ServiceUnavailable(f"maven: {made.stdout[-1_000:]}{made.stderr[-1_000:]}")
        shutil.rmtree(self.jar.parent, ignore_errors=True)
        aside.rename(self.jar.parent)

    def prepare(self) -> None:
        """Writes the settings; by default it would listen on all addresses."""
        self.set()

    def set(self, **more: object) -> None:
        """Writes the settings anew, for the next start; `__` stands for a dot."""
        settings = {
            **self.SETTINGS,
            "http.bind.to": f"127.0.0.1:{self.port}",
            "http.min.enabled": "false",
            "pg.net.bind.to": f"127.0.0.1:{free_port()}",
            **{name.replace("__", "."): value for name, value in more.items()},
        }
        path = self.folder / "data" / "conf" / "server.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def command(self) -> list[str]:
        """The server in the foreground."""
        words = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-p", str(self.jar)]
        return [*words, "-m", "io.questdb/io.questdb.ServerMain", "-d", str(self.folder / "data")]

    def answers(self) -> bool:
        """Asks in SQL; a server that wants a password has answered, too."""
        try:
            return self.ask("select 1") == [[1]]
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False

    def ask(self, query: str) -> list[list[Any]]:
        """Runs one statement, as a client would; returns its rows."""
        words = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"{self.url()}/exec?{words}", timeout=20) as answer:
            found: list[list[Any]] = json.load(answer).get("dataset", [])
            return found

    def url(self, *, port: int | None = None) -> str:
        """Returns what a client connects to, by another port where a proxy stands before it."""
        return f"http://127.0.0.1:{port or self.port}"

    def environment(self) -> dict[str, str]:
        """One address."""
        return {"TEST_QUESTDB": self.url()}
