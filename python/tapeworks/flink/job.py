"""What the job is told: the settings of a `Config`, as the properties that its jar holds."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tapeworks.errors import ConfigError
from tapeworks.pipeline import processors_of
from tapeworks.processors.derive import MEASURING
from tapeworks.settings import Config
from tapeworks.topics import NORMALIZED

JAR = "tapeworks-flink-0.1.0.jar"
# The connector with the client of Kafka in it: part of the jar that a cluster is given.
CONNECTOR = "flink-sql-connector-kafka-"
PROPERTIES = "tapeworks/job.properties"
# Below the folder of the data, where the settings name no other place.
OUTPUT, CHECKPOINTS = "flink/output", "flink/checkpoints"
FOLDER_VARIABLE = "TAPE_FLINK_FOLDER"
# Brokers allow no longer transactions unless they are told to. A job that is down for longer than
# this may lose what it had not committed, so a checkpoint is far shorter.
TRANSACTION_MS = 900_000
# Flink's own ten minutes are too near to the limit of a transaction.
CHECKPOINT_S_MAX = 60


def job_properties(config: Config, cluster: str = "remote") -> dict[str, str]:
    """Returns the properties of the job that `config` describes.

    Raises:
        ConfigError: nothing is to be run, or a source has no tape.
    """
    flink = config.flink
    properties = {
        "name": flink.name,
        "cluster": cluster,
        "plan": plan(config),
        "source": flink.source,
        "sink": flink.sink,
        "topic": flink.topic,
        "topic_prefix": flink.topic_prefix,
        "partitions": str(flink.partitions),
        "folder": address(config.data, flink.folder or OUTPUT),
        "checkpoint_ms": str(flink.checkpoint_ms),
        "parallelism": str(flink.parallelism),
        "shards": str(flink.shards),
        "batch_items": str(flink.batch_items),
        "form": flink.form,
        "bounded": "false",
        "transactional_id": flink.name,
    }
    client = {"bootstrap.servers": flink.servers, **flink.properties}
    consumer = {"group.id": flink.name, "isolation.level": "read_committed", **client}
    producer = {
        "transaction.timeout.ms": str(TRANSACTION_MS),
        "compression.type": "lz4",
        "linger.ms": "5",
        "batch.size": str(1 << 17),
        **client,
    }
    properties |= {f"kafka.admin.{name}": value for name, value in client.items()}
    properties |= {f"kafka.source.{name}": value for name, value in consumer.items()}
    properties |= {f"kafka.sink.{name}": value for name, value in producer.items()}
    if flink.source == "tape":
        properties |= {
            f"tape.{source}": str((config.data / "tape" / source / NORMALIZED).resolve())
            for source in config.feeds
        }
    settings = {
        "execution.checkpointing.dir": address(config.data, flink.checkpoints or CHECKPOINTS),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": "3",
        # One that hangs fails the job, which starts again from the last one.
        "execution.checkpointing.timeout": f"{CHECKPOINT_S_MAX} s",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "200 ms",
        "restart-strategy.exponential-delay.max-backoff": "30 s",
        **flink.cluster,
    }
    return properties | {f"flink.{name}": value for name, value in settings.items()}


def address(data: Path, place: str) -> str:
    """Returns where `place` is as a URI: a relative one is below the folder `data`."""
    return place if "://" in place else (data / place).resolve().as_uri()


def plan(config: Config) -> str:
    """Returns which processors run, with all their settings, as the core's side of the job reads
    it: crates/flink/src/plan.rs.

    Raises:
        ConfigError: there is none to run, or the sources would need different settings.
    """
    plans = {_plan_of(config, source) for source in config.feeds}
    if len(plans) > 1:
        raise ConfigError(
            "flink: some sources record single fills and others aggregates alone: set "
            "processors.trades, or run a job for each"
        )
    if not plans:
        raise ConfigError("flink: expected settings that name a feed, got none")
    [found] = plans
    if not found:
        raise ConfigError("flink: expected a processor to run: [metrics] names no sets")
    return found


def _plan_of(config: Config, source: str) -> str:
    processors, lines = processors_of(config, source), list[str]()
    for name in config.flink.processors:
        settings = processors.settings(name)
        if name == MEASURING and not settings:
            continue
        lines.append(f"processor {name}")
        lines += [f"setting {key} {_value(key, value)}" for key, value in settings.items()]
    return "\n".join(lines)


def _value(name: str, value: int | str | Sequence[int]) -> str:
    if isinstance(value, int):
        return f"number {value}"
    if isinstance(value, str):
        if "\n" in value:
            raise ConfigError(f"{name}: expected one line, got {value!r}")
        return f"text {value}"
    return f"numbers {','.join(str(one) for one in value)}"


def as_text(properties: Mapping[str, str]) -> str:
    """Returns `properties` as Java reads them from a file."""
    lines = []
    for name, value in sorted(properties.items()):
        key = "".join(f"\\{char}" if char in ":= #!\\" else char for char in name)
        told = value.replace("\\", "\\\\").replace("\n", "\\n")
        # What begins with a blank would begin behind it.
        lines.append(f"{key}=" + ("\\" if told.startswith(" ") else "") + f"{told}\n")
    return "".join(lines)


def built() -> Path:
    """Returns the folder that `scripts/build flink` fills: the jar, and `libraries`.

    Raises:
        ConfigError: it is not built.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "flink" / "target"
    if not (folder / JAR).is_file() or not (folder / "libraries").is_dir():
        raise ConfigError(
            f"expected {JAR} and its libraries in {folder}: run `scripts/build flink` in the "
            f"repository, or name the folder in {FOLDER_VARIABLE}"
        )
    return folder


def package(config: Config, target: Path) -> None:
    """Writes the jar that a cluster runs: the job, the native library, the connector, the settings.

    Raises:
        ConfigError: the job is not built, or reads what only this machine has.
    """
    if config.flink.source == "tape":
        raise ConfigError("source: expected kafka: a cluster has no tapes of this machine")
    folder = built()
    [connector] = (folder / "libraries").glob(f"{CONNECTOR}*.jar")
    aside = target.with_name(f"{target.name}.part")
    taken = {PROPERTIES}
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for jar in (folder / JAR, connector):
            with zipfile.ZipFile(jar) as parts:
                for part in parts.infolist():
                    if part.is_dir() or part.filename in taken:
                        continue
                    taken.add(part.filename)
                    out.writestr(part, parts.read(part))
        out.writestr(PROPERTIES, as_text(job_properties(config)))
    aside.replace(target)
