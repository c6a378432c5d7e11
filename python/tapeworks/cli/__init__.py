"""The command `tape`: arguments in, one call out. `app.py` holds the table of commands."""

import importlib
import signal

APP = "tapeworks.cli.app"


def main() -> None:
    """Runs `tape`.

    Until a command is loaded, Ctrl-C ends the process at once: there is nothing to tidy up, and no
    traceback of an import to show.
    """
    # A shell that started this in the background has it ignore Ctrl-C, which then stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    importlib.import_module(APP).main()
