"""Requests of rows to QuestDB, a few at a time, each on a connection of its own.

The server reads the lines of a connection in one thread, which takes it ten times as long as to
encode them here. In which order requests are committed is of no concern, but for the last of each
table: the keys of the table drop copies, and the place is written once all are committed.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import SimpleQueue

from tapeworks._core import Records
from tapeworks.heartbeat import beat
from tapeworks.sinks.questdb_client import QuestClient
from tapeworks.sinks.questdb_tables import QuestTable

CONNECTIONS = 2
BEAT_S = 0.5


@dataclass(frozen=True)
class Request:
    """Rows of one table, as lines, and what they were made of."""

    lines: bytes
    target: QuestTable
    made_of: list[Records]


class RequestFailed(Exception):
    """The oldest request that failed; why is its cause. None is under way any more."""

    def __init__(self, request: Request) -> None:
        super().__init__(request.target.name)
        self.request = request


class Requests:
    """Requests that are under way."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._pool = ThreadPoolExecutor(CONNECTIONS, "questdb")
        self._clients = [QuestClient(url, timeout_s) for _ in range(CONNECTIONS)]
        self._idle: SimpleQueue[QuestClient] = SimpleQueue()
        for client in self._clients:
            self._idle.put(client)
        self._running: deque[tuple[Request, Future[None]]] = deque()

    def send(self, request: Request) -> None:
        """Sends a request; waits for the oldest one while there are as many as connections.

        Raises:
            RequestFailed: that one failed.
        """
        while len(self._running) >= CONNECTIONS:
            self._await_oldest()
        self._running.append((request, self._pool.submit(self._write, request.lines)))

    def finish(self) -> None:
        """Waits until all are committed.

        Raises:
            RequestFailed: one of them failed.
        """
        while self._running:
            self._await_oldest()

    def close(self) -> None:
        """Closes the connections; must not fail."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for client in self._clients:
            client.close()

    def _write(self, lines: bytes) -> None:
        client = self._idle.get()
        try:
            client.write(lines)
        finally:
            self._idle.put(client)

    def _await_oldest(self) -> None:
        request, future = self._running.popleft()
        while not wait([future], BEAT_S).done:
            beat()
        if (error := future.exception()) is None:
            return
        # What follows must not be under way when it is sent again.
        while self._running:
            _, other = self._running.popleft()
            while not wait([other], BEAT_S).done:
                beat()
        raise RequestFailed(request) from error
