"""The settings of the Flink job: the table `[flink]`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tapeworks.config import check_properties
from tapeworks.errors import ConfigError
from tapeworks.topics import NORMALIZED

SHARDS_MAX = 1 << 15
PROCESSORS = ("books", "bars", "ticks", "metrics", "gaps")
SET_BY_JOB = frozenset(
    {
        *("bootstrap.servers", "group.id", "isolation.level", "auto.offset.reset"),
        *("enable.auto.commit", "transactional.id", "acks", "enable.idempotence"),
    }
)


@dataclass(frozen=True)
class FlinkConfig:
    """How the processors run as a job of Apache Flink."""

    name: str = "tapeworks"
    """Name of the job, of its consumer group, and what its transactional ids begin with."""
    processors: tuple[str, ...] = PROCESSORS
    """Which of the processors run; `metrics` only if `[metrics]` names sets."""
    source: Literal["kafka", "tape"] = "kafka"
    """Where records come from: the topic of a Kafka sink, or the tapes of this machine."""
    sink: Literal["kafka", "files", "none"] = "kafka"
    """Where results go; `none` is for measuring."""
    servers: str = "localhost:9092"
    """Brokers to begin with, separated by commas."""
    topic: str = NORMALIZED
    """The topic that is read: all records of its sources, as the Kafka sink writes them."""
    topic_prefix: str = "flink."
    """What comes before the name of each topic that is written."""
    partitions: int = 6
    """Partitions of a topic that is made."""
    folder: str = ""
    """Where `files` go: a folder below that of the data, unless it is absolute, or an address such
    as s3://...; none: `flink/output`."""
    checkpoints: str = ""
    """Where checkpoints go: a folder below that of the data, unless it is absolute, or an address
    such as s3://..., that all machines see; none: `flink/checkpoints`."""
    checkpoint_ms: int = 1_000
    """Time between checkpoints: with transactions, the time after which results are visible."""
    parallelism: int = 1
    """How many instances of each step run side by side, where the cluster does not say."""
    shards: int = 128
    """Parts of the state, a power of two: the highest parallelism. For good: a state names it."""
    batch_items: int = 4_096
    """Records that cross the border to the core at once, at most."""
    form: Literal["messages", "records"] = "messages"
    """Messages of the schema in `proto/`; to files also records as they are on a tape."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Settings of Kafka's Java client by its names, such as TLS and SASL. `env:NAME` stands for an
    environment variable where the job is started; secrets can be given in no other way."""
    cluster: Mapping[str, str] = field(default_factory=dict)
    """Settings of Flink by its names. `env:NAME` stands for an environment variable where the job
    is started; secrets, such as `s3.secret-key`, can be given in no other way."""

    def __post_init__(self) -> None:
        for name in self.processors:
            if name not in PROCESSORS:
                known = ", ".join(PROCESSORS)
                raise ConfigError(f"processors: expected any of {known}, got {name!r}")
        if not self.processors or len(set(self.processors)) != len(self.processors):
            raise ConfigError("processors: expected at least one, and each once")
        if not 1 <= self.shards <= SHARDS_MAX or self.shards & (self.shards - 1):
            raise ConfigError(
                f"shards: expected a power of two up to {SHARDS_MAX}, got {self.shards}"
            )
        if not 1 <= self.parallelism <= self.shards:
            raise ConfigError(
                f"parallelism: expected 1 to {self.shards}, the number of shards, got "
                f"{self.parallelism}"
            )
        if not 1 <= self.batch_items <= 1 << 20:
            raise ConfigError(f"batch_items: expected 1 to {1 << 20}, got {self.batch_items}")
        if not 10 <= self.checkpoint_ms <= 3_600_000:
            raise ConfigError(f"checkpoint_ms: expected 10 to 3600000, got {self.checkpoint_ms}")
        if self.partitions < 1:
            raise ConfigError(f"partitions: expected at least 1, got {self.partitions}")
        if self.sink == "kafka" and self.form != "messages":
            raise ConfigError("form: expected messages where the sink is kafka")
        check_properties("properties", self.properties, SET_BY_JOB)
        check_properties("cluster", self.cluster)
