"""Exit codes of the commands and of the workers behind them."""

EXIT_DONE = 0
EXIT_FAILED = 1
# The arguments or the settings are wrong: no restart helps.
EXIT_CONFIG = 2
# It ran, and not all that was asked for was recorded, derived, stored or found.
EXIT_INCOMPLETE = 3
# Of a worker: the venue refuses what a recorder asks for. It is asked again, but not soon.
EXIT_REFUSED = 4
# Of a worker: a tape is damaged or is another one. Somebody has to look at it; nothing was changed.
EXIT_DAMAGED = 5
EXIT_INTERRUPTED = 130
