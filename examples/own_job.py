"""A job of one's own: volumes by symbol and day as a CSV file, and whether all of it was recorded.

Run after `make demo`: cd examples && ../.venv/bin/tape job own_job:Volumes --data ../demo
With `--set path=other.csv --set symbols=BTCUSDT`, or as a table `[jobs.volumes]` of the settings.
"""

from dataclasses import dataclass
from pathlib import Path

import tapeworks as tw
from tapeworks.jobs.base import DONE, INCOMPLETE, Job, JobConfig, JobOutcome

VOLUMES = "select symbol, date, sum(size) as volume from trades where venue = '{}' group by all"


@dataclass(frozen=True)
class VolumesConfig(JobConfig):
    """Where the file goes."""

    path: Path = Path("volumes.csv")


class Volumes(Job):
    """Write the volume of each symbol and day."""

    Config = VolumesConfig

    def run(self) -> JobOutcome:
        lake, lines, gaps = tw.open(self.data), ["source,symbol,date,volume"], 0
        for source, symbols in self.symbols.items():
            if self.stop:
                return JobOutcome(INCOMPLETE, "stopped; nothing was written")
            for row in lake.sql(VOLUMES.format(source) + " order by all"):
                if row["symbol"] in symbols:
                    lines.append(",".join(map(str, (source, *row.values()))))
            gaps += len(lake.gaps(symbols, source=source))
            self.tell(f"{source}: {len(symbols)} symbols")
        self.config.path.write_text("\n".join(lines) + "\n")
        return JobOutcome(INCOMPLETE if gaps else DONE, f"{gaps} gaps; see `tape gaps`")
