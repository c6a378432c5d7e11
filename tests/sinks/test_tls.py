"""Sinks over TLS to real servers with certificates that were made here: taken, and refused."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from services import PostgresService, RedisService
from services.base import free_port
from tapeworks.errors import SinkUnavailable
from tapeworks.registry import load_member, load_settings
from tapeworks.sinks.base import FlushPolicy, SinkContext
from tapeworks.sinks.feeder import Feeder
from tapeworks.topics import NORMALIZED

pytestmark = pytest.mark.slow


def make_certificate(folder: Path, name: str) -> Path:
    """Makes a certificate of 127.0.0.1 that signs itself; its key is beside it."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    return certificate


class TlsPostgres(PostgresService):
    """A server with a certificate, of a cluster of its own."""

    def prepare(self) -> None:
        """Makes a cluster, and a certificate whose key nobody else may read."""
        super().prepare()
        certificate = make_certificate(self.folder, "server")
        key = certificate.with_suffix(".key")
        key.chmod(0o600)
        if self.user is not None:
            shutil.chown(key, self.user, self.user)
        # What comes without TLS is refused.
        (self.folder / "data" / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")

    def command(self) -> list[str]:
        """The server in the foreground."""
        names = {"ssl": "on", "ssl_cert_file": self.folder / "server.pem"}
        names |= {"ssl_key_file": self.folder / "server.key"}
        return super().command() + [f"--{name}={value}" for name, value in names.items()]

    def url(self, *arguments: Any, **words: Any) -> str:
        """Returns an address that checks the certificate."""
        authority = self.folder / "server.pem"
        found = super().url(*arguments, **words)
        return f"{found}?sslmode=verify-full&sslrootcert={authority}"


class TlsRedis(RedisService):
    """A server with a certificate, on a second port."""

    def prepare(self) -> None:
        """Makes a certificate."""
        make_certificate(self.folder, "server")
        self.tls_port = free_port()

    def command(self) -> list[str]:
        """The server in the foreground."""
        words = ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no"]
        for option, suffix in (("cert", "pem"), ("ca-cert", "pem"), ("key", "key")):
            words += [f"--tls-{option}-file", str(self.folder / f"server.{suffix}")]
        return super().command() + words

    def url(self, **_: Any) -> str:
        """Returns an address that checks the certificate."""
        return f"rediss://127.0.0.1:{self.tls_port}/0?ssl_ca_certs={self.folder}/server.pem"


def feeder_of(name: str, url: str, spine: Any) -> Feeder:
    config = load_settings("sink", name)(url=url, topics=(NORMALIZED,), timeout_seconds=5.0)
    sink = load_member("sink", name)(config, SinkContext(name, spine.path))
    partition = sink.partition(spine.source, NORMALIZED)
    return Feeder(partition, spine.tape(), FlushPolicy())


@pytest.mark.parametrize(("name", "kind"), [("postgres", TlsPostgres), ("redis", TlsRedis)])
def test_a_certificate_is_checked(name, kind, spine, maker, tmp_path):
    # With the authority that signed it all is stored, over TLS as the server sees it; with another
    # one nothing is: the sink says so, and would try again.
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    other = make_certificate(tmp_path, "other")
    with kind() as service:
        wrong = feeder_of(
            name, service.url().replace(f"{service.folder}/server.pem", str(other)), spine
        )
        with pytest.raises(SinkUnavailable, match="certificate verify failed"):
            wrong.partition.open()
        feeder = feeder_of(name, service.url(), spine)
        assert feeder.drain(20)
        if name == "postgres":
            with psycopg.connect(service.url()) as connection:
                query = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) "
                query += "where application_name like 'tapeworks %'"
                assert connection.execute(query).fetchall() == [(True,)]
                query = "select count(*) from tapeworks.trades"
                assert connection.execute(query).fetchone() == (100,)
        else:
            with redis.from_url(service.url()) as client:
                assert client.xlen(f"{NORMALIZED}:{spine.source}") == 103
        feeder.close()
