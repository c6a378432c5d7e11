"""The settings of the Flink job: what is secret never stands in them."""

import os
from pathlib import Path

import pytest

from tapeworks.cli.settings import load_written
from tapeworks.errors import ConfigError, TapeLockedError
from tapeworks.flink import cluster
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


def test_a_checkpoint_that_hangs_ends_before_its_transactions_do(tmp_path):
    # Flink's own limit is ten minutes; the settings have the last word.
    path = tmp_path / "tapeworks.toml"
    path.write_text(FEED)
    name = "flink.execution.checkpointing.timeout"
    assert job_properties(load_written(path))[name] == "60 s"
    path.write_text(f'{FEED}[flink.cluster]\n"execution.checkpointing.timeout" = "20 min"\n')
    assert job_properties(load_written(path))[name] == "20 min"


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


def test_a_run_from_a_savepoint_takes_no_checkpoint_of_before_it(tmp_path, monkeypatch):
    # In place of Java a script: it notes what it is to go on from, and is killed twice before its
    # first checkpoint, once behind it. The checkpoint of before is none of this run.
    data, log = tmp_path / "data", tmp_path / "log"
    checkpoints = data / "flink" / "checkpoints"
    (checkpoints / "old" / "chk-41").mkdir(parents=True)
    (checkpoints / "old" / "chk-41" / "_metadata").touch()
    os.utime(checkpoints / "old" / "chk-41" / "_metadata", (10**9, 10**9))
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(
        "#!/bin/sh\nfor last; do :; done\n"
        f'grep -o "[a-z]*-[0-9]*/*$" "$last" | tail -1 | tr -d / >> {log}\n'
        f"made={checkpoints}/new/chk-1\n"
        f"[ $(wc -l < {log}) = 3 ] && mkdir -p $made && touch $made/_metadata\n"
        f"[ $(wc -l < {log}) -ge 4 ] && touch {tmp_path}/over && exec sleep 60\n"
        "exit 137\n"
    )
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(java.parent), prepend=os.pathsep)
    (tmp_path / "libraries").mkdir()
    (tmp_path / JAR).touch()
    monkeypatch.setenv("TAPE_FLINK_FOLDER", str(tmp_path))
    monkeypatch.setattr(cluster, "RESTART_S", 0.0)
    path = tmp_path / "tapeworks.toml"
    path.write_text(f'data = "{data}"\n{FEED}')
    savepoint = tmp_path / "savepoint-7"
    savepoint.mkdir()
    job = LocalJob(load_written(path))
    try:
        job.run((tmp_path / "over").exists, savepoint)
    finally:
        job.close()
    assert log.read_text().split() == ["savepoint-7"] * 3 + ["chk-1"]
