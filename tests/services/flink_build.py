"""What the job of Flink is built with: Java's compiler, Maven, and what Maven fetches for it."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from .base import ServiceUnavailable, cache, install_package, one_at_a_time, run

POM = Path(__file__).resolve().parents[2] / "flink" / "pom.xml"
PROGRAMS = (("javac", "default-jdk-headless"), ("mvn", "maven"))


class FlinkBuild:
    """No server: with it, `scripts/build flink` needs no network."""

    NAME = "flink"

    def install(self) -> None:
        """Installs what is missing, and fetches what the job is made of.

        Raises:
            ServiceUnavailable: Java or Maven cannot be had, or Maven refuses.
        """
        for program, package in PROGRAMS:
            if shutil.which(program) is None:
                install_package(package)
        done = cache() / f"flink-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}.done"
        with one_at_a_time(self.NAME), tempfile.TemporaryDirectory() as folder:
            if done.exists():
                return
            # All that a build asks for, it fetches.
            made = run(["mvn", "-B", "-q", "-f", POM, f"-Dbuild.folder={folder}", "package"])
            if made.returncode != 0:
                raise ServiceUnavailable(f"maven: {made.stdout[-1_000:]}{made.stderr[-1_000:]}")
            done.touch()
