"""PostgreSQL, of Debian's package or whatever version is installed."""

import shutil
import signal
from pathlib import Path
from typing import ClassVar

from .base import Service, ServiceUnavailable, install_package, run

PACKAGE = "postgresql-15"
SUPERUSER = "postgres"


def programs() -> Path | None:
    """Returns the folder of the newest server's programs."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if found:
        return found[-1].parent
    anywhere = shutil.which("initdb")
    return None if anywhere is None else Path(anywhere).resolve().parent


class PostgresService(Service):
    """A PostgreSQL server that trusts whoever connects by loopback.

    With `durable=False` nothing waits for the disk: it survives kills, but no loss of power.
    """

    NAME = "postgres"
    USER = "postgres"
    # Fast shutdown: sessions are ended.
    STOP = signal.SIGINT
    SETTINGS: ClassVar[dict[str, str]] = {
        "listen_addresses": "127.0.0.1",
        "shared_buffers": "128MB",
        "max_wal_size": "2GB",
        "max_connections": "40",
    }

    def __init__(self, *, durable: bool = True) -> None:
        super().__init__()
        self._durable = durable

    def install(self) -> None:
        """Installs Debian's package, unless there is a server."""
        if programs() is None:
            install_package(PACKAGE)

    def prepare(self) -> None:
        """Makes a cluster."""
        words = ["-D", "data", "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]
        words += ["--no-locale", "--no-sync"]
        made = run([self._program("initdb"), *words], cwd=self.folder, **self.as_user())
        if made.returncode != 0:
            raise ServiceUnavailable(f"initdb: {made.stderr}")

    def command(self) -> list[str]:
        """The server in the foreground, also reachable by a socket in its folder."""
        settings = {**self.SETTINGS, "unix_socket_directories": str(self.folder)}
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        words = [word for item in settings.items() for word in ("-c", "=".join(item))]
        data = str(self.folder / "data")
        return [str(self._program("postgres")), "-D", data, "-p", str(self.port), *words]

    def answers(self) -> bool:
        """Asks as `pg_isready` does."""
        words = ["-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        return run([self._program("pg_isready"), *words]).returncode == 0

    def url(self, database: str = "postgres", *, port: int | None = None, user: str = "") -> str:
        """Returns what a client connects to, by another port where a proxy stands before it."""
        place = f"127.0.0.1:{port or self.port}"
        return f"postgresql://{user or SUPERUSER}@{place}/{database}"

    def environment(self) -> dict[str, str]:
        """One address."""
        return {"TEST_POSTGRES": self.url()}

    def _program(self, name: str) -> Path:
        folder = programs()
        if folder is None:
            raise ServiceUnavailable(f"{name}: expected {PACKAGE} to be installed, got none")
        return folder / name
