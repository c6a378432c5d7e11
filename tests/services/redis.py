"""Redis, of Debian's package; a Valkey server that is installed counts as one."""

import shutil
import socket

from .base import Service, ServiceUnavailable, install_package

PACKAGE = "redis-server"
PROGRAMS = ("redis-server", "valkey-server")


def program() -> str | None:
    """Returns the path of a server."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class RedisService(Service):
    """A Redis server that appends what it is told to a file, and syncs it each second."""

    NAME = "redis"

    def install(self) -> None:
        """Installs Debian's package, unless there is a server."""
        if program() is None:
            install_package(PACKAGE)

    def prepare(self) -> None:
        """Needs nothing."""

    def command(self) -> list[str]:
        """The server in the foreground."""
        found = program()
        if found is None:
            raise ServiceUnavailable(f"expected {' or '.join(PROGRAMS)} to be installed, got none")
        words = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [found, *words, "--appendonly", "yes", "--save", ""]

    def answers(self) -> bool:
        """Sends PING: a server that still loads its file says so in place of PONG."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(1)
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def url(self, *, port: int | None = None) -> str:
        """Returns what a client connects to, by another port where a proxy stands before it."""
        return f"redis://127.0.0.1:{port or self.port}/0"

    def environment(self) -> dict[str, str]:
        """One address."""
        return {"TEST_REDIS": self.url()}
