# SPDX-License-Identifier: MIT
"""``drtrace``: verbs in files of their own, listed in `ustconsumer.cli.verbs`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``drtrace``; return its exit status.

    0 success, 1 the command failed, 2 no such command, 3 fatal, 4 success with a
    warning; ``record`` exits as its command does, its own failures are 125 to 127.
    """
    try:
        from ustconsumer.cli.terminal import interrupt_ends, open_standard_streams

        open_standard_streams()
        if argv is None:
            # The process is ours, not that of a program that calls us.
            interrupt_ends()
        from ustconsumer.cli.run import run

        # Not list(): the module of the verb `list` has that name in this package once imported.
        return run([*(sys.argv[1:] if argv is None else argv)])
    except KeyboardInterrupt:
        return 130
