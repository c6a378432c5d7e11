"""The REST catalog of Apache Iceberg, of its artifacts in Maven's repository.

Iceberg publishes its server as classes of its tests. `iceberg_catalog/` is what starts them on
loopback, with tokens: pom.xml pins what they need, and `DIGEST` is of all that Maven fetched.
"""

import hashlib
import shutil
import urllib.request
from pathlib import Path

from .base import Service, ServiceUnavailable, cache, install_package, one_at_a_time, run

VERSION = "1.10.0"
SOURCES = Path(__file__).with_name("iceberg_catalog")
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
DIGEST = "d3dcfb66b3ae810a5269e0762e3afb00c0f2f7eed2ef60150d9cbc3ca85d966c"
TOKEN = "a token of the tests"
CLIENT, PASSWORD = "tapeworks", "a password of the tests"


def digest_of(folder: Path) -> str:
    """Returns the hash of all jars in a folder and of their names."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.jar")):
        found.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


class IcebergRestService(Service):
    """A catalog that keeps tables in SQLite, and lets in whoever has a token."""

    NAME = "iceberg-rest"

    @property
    def program(self) -> Path:
        """The folder of the jars."""
        return cache() / f"iceberg-rest-{VERSION}-{DIGEST[:12]}"

    def install(self) -> None:
        """Copies the artifacts to the cache, once, and compares them with their hash."""
        for program, package in (("javac", "default-jdk-headless"), ("mvn", "maven")):
            if shutil.which(program) is None:
                install_package(package)
        with one_at_a_time(self.NAME):
            if not self.program.is_dir():
                self._download()

    def _download(self) -> None:
        aside = self.program.with_name(f"{self.program.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        words = ["mvn", "-q", "-B", "-C", "-f", SOURCES / "pom.xml", COPY]
        made = run([*words, "-DincludeScope=runtime", f"-DoutputDirectory={aside}"])
        if made.returncode != 0:
            raise ServiceUnavailable(f"maven: {made.stdout[-1_000:]}{made.stderr[-1_000:]}")
        if (found := digest_of(aside)) != DIGEST:
            raise ServiceUnavailable(f"{aside}: expected jars of hash {DIGEST}, got {found}")
        aside.rename(self.program)

    @property
    def warehouse(self) -> Path:
        """Where tables lie that are given no place."""
        return self.folder / "warehouse"

    def prepare(self) -> None:
        """Makes the folder of tables."""
        self.warehouse.mkdir()

    def command(self) -> list[str]:
        """The server in the foreground."""
        words = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{self.program}/*"]
        words += [str(SOURCES / "Catalog.java"), str(self.port), str(self.folder / "catalog.db")]
        # A client's credential is answered by a token that says whose it is.
        return [*words, f"file://{self.warehouse}", TOKEN, f"client-credentials-token:sub={CLIENT}"]

    def answers(self) -> bool:
        """Asks for its configuration, as each client does first."""
        request = urllib.request.Request(f"{self.url()}/v1/config")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def url(self, *, port: int | None = None) -> str:
        """Returns what a client connects to, by another port where a proxy stands before it."""
        return f"http://127.0.0.1:{port or self.port}"

    def environment(self) -> dict[str, str]:
        """The address, and what lets in, as the job's settings are called in the environment."""
        return {
            "TAPEWORKS_JOBS__ICEBERG__CATALOG": self.url(),
            "TAPEWORKS_JOBS__ICEBERG__CATALOG_TOKEN": TOKEN,
        }
