"""Runs the Python blocks of one page, in one namespace: one JSON text a line in, one out."""

import contextlib
import faulthandler
import io
import json
import sys
import traceback

BLOCK_SECONDS = 300


def main() -> None:
    """Runs each text that comes, and answers with what it printed and whether it raised."""
    answers = sys.stdout
    names: dict[str, object] = {"__name__": "__main__"}
    for line in sys.stdin:
        asked = json.loads(line)
        printed, failed = io.StringIO(), False
        faulthandler.dump_traceback_later(BLOCK_SECONDS, exit=True)
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                exec(compile(asked["text"], asked["place"], "exec"), names)
            except BaseException:
                failed = True
                traceback.print_exc()
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"printed": printed.getvalue(), "failed": failed}), file=answers)
        answers.flush()


if __name__ == "__main__":
    main()
