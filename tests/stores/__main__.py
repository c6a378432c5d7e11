"""Runs the campaign: `python -m tests.stores`. A worker that is started imports this file alone."""

import sys

if __name__ == "__main__":
    from tests.stores.campaign import main

    sys.exit(main())
