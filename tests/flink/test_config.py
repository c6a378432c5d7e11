"""The settings of the Flink job: what is secret never stands in them."""

import pytest

from tapeworks.errors import ConfigError
from tapeworks.flink.cluster import secrets_of
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
