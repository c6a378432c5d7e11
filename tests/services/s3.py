"""An S3 service: moto's server, which keeps objects in memory and knows any pair of keys."""

import importlib.util
import sys
import urllib.request

from .base import Service, ServiceUnavailable


class S3Service(Service):
    """An object store with path-style addresses."""

    NAME = "s3"

    def install(self) -> None:
        """Needs what the extra `test` holds."""
        if importlib.util.find_spec("moto") is None:
            raise ServiceUnavailable("expected moto to be installed: run `scripts/build test`")

    def prepare(self) -> None:
        """Needs nothing."""

    def command(self) -> list[str]:
        """The server in the foreground."""
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def answers(self) -> bool:
        """Asks for its own state."""
        try:
            with urllib.request.urlopen(f"{self.url()}/moto-api/data.json", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def url(self, *, port: int | None = None) -> str:
        """Returns what a client connects to, by another port where a proxy stands before it."""
        return f"http://127.0.0.1:{port or self.port}"

    def environment(self) -> dict[str, str]:
        """What programs that speak S3 read."""
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        return {"AWS_ENDPOINT_URL": self.url(), "AWS_REGION": "us-east-1", **keys}
