"""How far long work is: bars on a terminal, a line now and then where nobody watches."""

import threading
import time

from rich.progress import Progress, ProgressColumn, Task

from tapeworks.cli.console import problems

LINE_S = 10.0


class LongProgress(Progress):
    """A progress of rich on stderr, which a log sees as well: as a line each ten seconds.

    The field `told` of a task is what a line says of it behind the share that is done.
    """

    def __init__(self, *columns: ProgressColumn) -> None:
        super().__init__(
            *columns, console=problems, transient=True, disable=not problems.is_terminal
        )
        self._ended = threading.Event()
        self._began = time.monotonic()
        self._lines = threading.Thread(target=self._tell, daemon=True)

    def start(self) -> None:
        """Begins to show."""
        super().start()
        if self.disable:
            self._lines.start()

    def stop(self) -> None:
        """Shows nothing more."""
        self._ended.set()
        if self._lines.is_alive():
            self._lines.join()
        super().stop()

    def _tell(self) -> None:
        while not self._ended.wait(LINE_S):
            problems.print("; ".join(map(self._line, self.tasks)), soft_wrap=True)

    def _line(self, task: Task) -> str:
        words = [f"{task.percentage:.0f} %"] if task.total else []
        words += [str(task.fields["told"])] if task.fields.get("told") else []
        return ", ".join([f"{task.description}: {time.monotonic() - self._began:.0f} s", *words])
