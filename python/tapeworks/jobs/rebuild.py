"""Rebuilds the commits of the lake from its files, and missing rows from the tapes."""

from dataclasses import dataclass

from tapeworks.jobs.base import Job, JobOutcome, WholeSourcesConfig
from tapeworks.lake_rebuild import TopicRebuild, rebuild


@dataclass(frozen=True)
class LakeRebuildConfig(WholeSourcesConfig):
    """It has none of its own."""


class LakeRebuildJob(Job):
    """Rebuild the lake's commits from its files, and missing rows from the tapes."""

    Config = LakeRebuildConfig
    is_resumable = True

    def run(self) -> JobOutcome:
        """Rebuilds one source after the other, and tells each topic.

        Raises:
            TapeLockedError: a sink is writing it: stop it first.
            TapeReplacedError: a tape is not the one of which the files were made.
        """
        for source in self.sources:
            for report in rebuild(self.data, source):
                for line in _told(report):
                    self.tell(line)
        return JobOutcome()


def _told(report: TopicRebuild) -> list[str]:
    return [
        f"{report.source}: {report.topic}: {report.files} files, {report.rows:,} rows, up to "
        f"offset {report.offset}; {report.restored:,} rows stored again from the tape",
        *(f"  moved to {path}: {why}" for path, why in report.aside),
        *(
            f"  offsets {first} to {last} are neither in a file nor on the tape: a gap from now "
            "on, see `tape gaps`"
            for first, last in report.lost
        ),
    ]
