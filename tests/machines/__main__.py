"""Runs it: `python -m tests.machines`."""

import sys

if __name__ == "__main__":
    from tests.machines.campaign import main

    sys.exit(main())
