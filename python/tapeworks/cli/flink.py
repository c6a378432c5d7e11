"""`tape flink`: the processors as a job of Apache Flink, on this machine or for a cluster."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from tapeworks.cli.command import Application, argument, option
from tapeworks.cli.options import ConfigOption, DataOption
from tapeworks.cli.settings import load_written
from tapeworks.errors import ConfigError
from tapeworks.flink.cluster import LocalJob
from tapeworks.flink.job import package as write_package
from tapeworks.settings import Config
from tapeworks.stopping import Stop, on_stop

app = Application("Run the processors as a job of Apache Flink.")

BUILD = """
`scripts/build flink` in the repository builds the job first. [flink] in tapeworks.toml says what it
reads, what it writes, and where its checkpoints are."""


@app.command(
    epilog="Examples:\n  tape flink run\n  tape flink run --parallelism 2\n"
    f"  tape flink run --until-end      # takes what is there, and ends\n{BUILD}"
)
def run(
    parallelism: Annotated[
        int | None, option("--parallelism", least=1, help="Instances of each step.")
    ] = None,
    until_end: Annotated[
        bool, option("--until-end", help="Take what there is by now, and end.")
    ] = False,
    restore: Annotated[
        Path | None,
        option("--from", help="A checkpoint or savepoint. [default: the newest checkpoint]"),
    ] = None,
    task_managers: Annotated[
        int,
        option("--task-managers", help="Processes beside a JobManager. [default: one for all]"),
    ] = 0,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Run the job on this machine until Ctrl-C, and keep it running."""
    settings = _settings(config, data)
    if parallelism is not None:
        settings = replace(settings, flink=replace(settings.flink, parallelism=parallelism))
    stop = Stop()
    on_stop(stop.set)
    job = LocalJob(settings, bounded=until_end, task_managers=task_managers)
    try:
        job.run(lambda: bool(stop), restore)
    finally:
        job.close()


@app.command(epilog=f"Example:\n  tape flink package tapeworks-job.jar\n{BUILD}")
def package(
    target: Annotated[Path, argument(help="The jar to write.")],
    config: ConfigOption = None,
) -> None:
    """Write one jar that a Flink cluster runs: the job, the native library, the settings."""
    if target.suffix != ".jar":
        raise ConfigError(f"expected the name of a jar, got {target}")
    write_package(_settings(config, None), target)
    print(f"{target}: run it by `flink run {target}`, or as an application")


def _settings(config: Path | None, data: Path | None) -> Config:
    settings = load_written(config)
    return replace(settings, data=data or settings.data)
