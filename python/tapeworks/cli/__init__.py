"""The command `tape`: arguments in, one call out. `app.py` holds the table of commands."""

import importlib
import os
import signal
import sys

APP = "tapeworks.cli.app"


def main() -> None:
    """Runs `tape`.

    Until a command is loaded, Ctrl-C ends the process at once: there is nothing to tidy up, and no
    traceback of an import to show.
    """
    # A shell that started this in the background has it ignore Ctrl-C, which then stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_standard_files()
    importlib.import_module(APP).main()


def _open_standard_files() -> None:
    """Gives nothing to read from, and nowhere to write to, what was closed (`tape status >&-`).

    Otherwise the next file that is opened, one of data perhaps, would become standard output.
    """
    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is given, which is this one.
            os.open(os.devnull, os.O_RDWR)
            name = ("stdin", "stdout", "stderr")[number]
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
