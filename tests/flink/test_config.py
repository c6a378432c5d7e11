"""The settings of the Flink job: what is secret never stands in them."""

import os
from pathlib import Path

import pytest

from tapeworks.cli.settings import load_written
from tapeworks.errors import ConfigError, TapeLockedError
from tapeworks.flink.cluster import LocalJob, secrets_of
from tapeworks.flink.job import JAR, job_properties
from tapeworks.flink_config import FlinkConfig


@pytest.mark.parametrize("table", ["cluster", "properties"])
@pytest.mark.parametrize(
    "name",
    [
        *("s3.secret-key", "s3.access-key", "fs.s3a.secret.key", "security.ssl.rest.key-password"),
        *("my.token", "dfs.credential", "fs.azure.account.key.here", "sasl.jaas.config"),
    ],
)
def test_a_secret_of_the_cluster_is_refused_and_not_shown(table, name):
    with pytest.raises(ConfigError, match=f"{table}: {name} is a secret") as error:
        FlinkConfig(**{table: {name: "geheim"}})
    assert "geheim" not in str(error.value)
    FlinkConfig(**{table: {name: "env:GEHEIM"}})


def test_a_secret_is_looked_up_where_the_job_starts(monkeypatch):
    named = {"s3.secret-key": "env:GEHEIM", "s3.endpoint": "http://here"}
    named["fs.s3a.aws.credentials.provider"] = "org.here.Provider"
    flink = FlinkConfig(cluster=named)
    with pytest.raises(ConfigError, match="GEHEIM is not in the environment"):
        secrets_of(flink)
    monkeypatch.setenv("GEHEIM", 'a"b: c')
    assert secrets_of(flink) == 's3.secret-key: "a\\"b: c"\n'


FEED = '[feeds.binance-spot]\nsymbols = ["BTCUSDT"]\n'
PLACES = {
    "": ("history/flink/output", "history/flink/checkpoints"),
    'folder = "out"\ncheckpoints = "/mnt/all"': ("history/out", "/mnt/all"),
    'checkpoints = "s3://bucket/all"': ("history/flink/output", "s3://bucket/all"),
}


@pytest.mark.parametrize("written", PLACES)
def test_places_are_below_the_data_wherever_the_job_is_started(tmp_path, monkeypatch, written):
    # The settings lie in one folder; the job is started there and in another one.
    path = tmp_path / "here" / "tapeworks.toml"
    path.parent.mkdir()
    (tmp_path / "there").mkdir()
    path.write_text(f'data = "history"\n{FEED}[flink]\n{written}\n')
    names = ("folder", "flink.execution.checkpointing.dir")
    for folder in ("here", "there"):
        monkeypatch.chdir(tmp_path / folder)
        properties = job_properties(load_written(path))
        for name, place in zip(names, PLACES[written], strict=True):
            is_address = "://" in place
            expected = place if is_address else (tmp_path / "here" / place).as_uri()
            assert properties[name] == expected


def test_a_second_job_of_the_same_data_is_refused_from_another_folder(tmp_path, monkeypatch):
    # In place of Java a program that waits: what is refused is refused before the job begins.
    java, built = tmp_path / "bin" / "java", tmp_path / "built"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\nexec sleep 60\n")
    java.chmod(0o755)
    (built / "libraries").mkdir(parents=True)
    (built / JAR).touch()
    monkeypatch.setenv("PATH", str(java.parent), prepend=os.pathsep)
    monkeypatch.setenv("TAPE_FLINK_FOLDER", str(built))
    path = tmp_path / "tapeworks.toml"
    path.write_text(f'data = "history"\n{FEED}')
    monkeypatch.chdir(tmp_path)
    first = LocalJob(load_written(Path("tapeworks.toml")))
    first.start()
    try:
        monkeypatch.chdir(built)
        with pytest.raises(TapeLockedError):
            LocalJob(load_written(path)).start()
    finally:
        first.close()
