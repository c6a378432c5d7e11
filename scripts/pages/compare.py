"""Whether a command printed what its page shows.

Numbers, times and the widths of columns differ from run to run: a word with a digit in it stands
for any such word, one of KiB, MiB and GiB for any of them. `...` as a line stands for any lines,
within a line for any text.
"""

import difflib
import re

WORD_WITH_DIGIT = re.compile(r"\S*\d\S*")
# How much a recording of some seconds holds follows from the machine.
UNIT = re.compile(r"# [KMG]iB\b")
RULE = re.compile(r"[-─━═│┃┏┓┗┛┌┐└┘├┤┬┴┼╇╈╭╮╰╯]{2,}")


def difference(shown: str, printed: str) -> str:
    """Returns how `printed` differs from what a page shows; empty if it does not."""
    wanted, got = _lines(shown), _lines(printed)
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in wanted
    )
    if re.fullmatch(pattern, "".join(line + "\n" for line in got)):
        return ""
    return "\n".join(difflib.unified_diff(wanted, got, "the page shows", "it printed", "", "", 2))


def _lines(text: str) -> list[str]:
    return [_generalised(line) for line in text.strip().splitlines()]


def _generalised(line: str) -> str:
    line = RULE.sub("--", line)
    line = UNIT.sub("# bytes", WORD_WITH_DIGIT.sub("#", line))
    # Numbers side by side, as in lists and dates of two words, are one.
    return re.sub(r"#(?: +#)+", "#", " ".join(line.split()))
