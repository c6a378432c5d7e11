"""Apicurio Registry, of its artifact in Maven's repository: it speaks Confluent's API, too."""

import os
import shutil
import tarfile
import urllib.request
from pathlib import Path

from .base import (
    Service,
    ServiceUnavailable,
    cache,
    free_port,
    install_package,
    one_at_a_time,
    run,
)

VERSION = "3.3.3"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
JAVA_LEAST = 21


def java() -> str | None:
    """Returns a Java that runs it, newer than what Debian's default is."""
    named = [os.environ.get("JAVA_HOME", "")] if "JAVA_HOME" in os.environ else []
    homes = [*map(Path, named), *sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)]
    for home in homes:
        release = home / "release"
        if release.is_file() and (home / "bin/java").is_file():
            told = dict(
                line.split("=", 1) for line in release.read_text().splitlines() if "=" in line
            )
            version = told.get("JAVA_VERSION", "0").strip('"').partition(".")[0]
            if version.isdigit() and int(version) >= JAVA_LEAST:
                return str(home / "bin/java")
    return None


class RegistryService(Service):
    """A schema registry that keeps what it knows in memory."""

    NAME = "registry"

    def __init__(self) -> None:
        super().__init__()
        self._management = 0

    @property
    def program(self) -> Path:
        """The folder of the unpacked artifact."""
        return cache() / f"apicurio-{VERSION}"

    def install(self) -> None:
        """Copies and unpacks the artifact in the cache, once."""
        if java() is None:
            raise ServiceUnavailable(f"expected Java {JAVA_LEAST} or newer in /usr/lib/jvm")
        if shutil.which("mvn") is None:
            install_package("maven")
        with one_at_a_time("registry"):
            if not self.program.is_dir():
                self._download()

    def _download(self) -> None:
        aside = cache() / f"apicurio-{VERSION}.part"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        made = run(
            ["mvn", "-q", "-B", COPY, f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={aside}"]
        )
        if made.returncode != 0:
            raise ServiceUnavailable(f"maven: {made.stdout[-1_000:]}{made.stderr[-1_000:]}")
        [packed] = aside.glob("*.tar.gz")
        with tarfile.open(packed) as archive:
            archive.extractall(aside, filter="data")
        packed.unlink()
        aside.rename(self.program)

    def prepare(self) -> None:
        """Chooses the port of its own state."""
        self._management = free_port()

    def command(self) -> list[str]:
        """The server in the foreground."""
        [jar] = self.program.rglob("quarkus-run.jar")
        found = java()
        if found is None:
            raise ServiceUnavailable(f"expected Java {JAVA_LEAST} or newer in /usr/lib/jvm")
        ports = f"-Dquarkus.http.port={self.port}", f"-Dquarkus.management.port={self._management}"
        hosts = ("-Dquarkus.http.host=127.0.0.1", "-Dquarkus.management.host=127.0.0.1")
        return [found, "-Xmx512m", "-XX:+UseSerialGC", *ports, *hosts, "-jar", str(jar)]

    def answers(self) -> bool:
        """Asks for the subjects that it has."""
        try:
            with urllib.request.urlopen(f"{self.url()}/subjects", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def url(self) -> str:
        """Returns where Confluent's API is."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def environment(self) -> dict[str, str]:
        """One address."""
        return {"TEST_REGISTRY": self.url()}
