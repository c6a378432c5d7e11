"""ClickHouse's HTTP interface before chdb, the engine of the same code base, as a process.

Its one session is asked by one request at a time. Of the settings that a client sends, those of an
insert are passed on; data are read by the engine itself, in whatever format they come.
"""

import os
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from chdb import session

INSERT = re.compile(rb"\s*insert\s+into\s+(.*?)\s+format\s+(\w+)\s*", re.IGNORECASE | re.DOTALL)
FORMAT = re.compile(r"\s+format\s+(\w+)\s*;?\s*$", re.IGNORECASE)
CODE = re.compile(r"Code: (\d+)")
SETTINGS = ("insert_deduplication_token", "insert_deduplicate")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    database: session.Session
    lock = threading.Lock()

    def do_GET(self) -> None:
        """Answers `/ping`, and questions in the address."""
        if urlsplit(self.path).path == "/ping":
            self._answer(200, b"Ok.\n")
        else:
            self._run(b"")

    def do_POST(self) -> None:
        """Answers questions in the body, and takes data behind an `insert`."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._run(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _run(self, body: bytes) -> None:
        words = {name: value[-1] for name, value in parse_qs(urlsplit(self.path).query).items()}
        query = words.get("query", "").encode()
        text = query + b"\n" + body if query else body
        try:
            with self.lock:
                if found := INSERT.match(text):
                    answer = self._insert(found, text[found.end() :], words)
                else:
                    answer = self._ask(text.decode(), words)
        except Exception as error:
            told = str(error)
            code = CODE.search(told)
            headers = {"X-ClickHouse-Exception-Code": code[1] if code else "1002"}
            self._answer(500, told.encode(), headers)
        else:
            self._answer(200, answer)

    def _insert(self, found: re.Match[bytes], data: bytes, words: dict[str, str]) -> bytes:
        chosen = [f"{name} = '{words[name]}'" for name in SETTINGS if name in words]
        settings = f" settings {', '.join(chosen)}" if chosen else ""
        with tempfile.NamedTemporaryFile(dir=os.getcwd()) as file:
            file.write(data)
            file.flush()
            into, kind = found[1].decode(), found[2].decode()
            line = f"insert into {into} from infile '{file.name}'{settings} format {kind}"
            self.database.query(line)
        return b""

    def _ask(self, text: str, words: dict[str, str]) -> bytes:
        kind = words.get("default_format", "TabSeparated")
        if named := FORMAT.search(text):
            text, kind = text[: named.start()], named[1]
        values = {
            name.removeprefix("param_"): value
            for name, value in words.items()
            if name.startswith("param_")
        }
        return bytes(self.database.query(text, kind, params=values).bytes())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serves a folder on a port of loopback until it is killed."""
    port, folder = int(sys.argv[1]), sys.argv[2]
    Handler.database = session.Session(folder)
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


main()
