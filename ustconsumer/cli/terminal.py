# SPDX-License-Identifier: MIT
"""Standard streams, Ctrl-C and the width of help, whatever we were started with."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys

__all__ = [
    "HelpFormatter",
    "folded",
    "interrupt_ends",
    "interrupt_raises",
    "on_terminal",
    "open_standard_streams",
]


def open_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed, and let every text be printed.

    A pipe or socket of ours with one of these numbers would become the output of a
    program we start, and Python has no stream at all for a closed one.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest number that is free: this one.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(fd, True)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 (for the process's life)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A name that the locale cannot spell is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def interrupt_ends() -> None:
    """Let Ctrl-C end this process as any other: without traceback, also while it imports.

    A verb leaves nothing behind that its registry does not clean up.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt_raises() -> None:
    """Have KeyboardInterrupt again, for verbs that start processes and must end them."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def on_terminal() -> bool:
    """Whether somebody looks at our standard output."""
    return sys.stdout.isatty()


def folded(label: str, text: str) -> list[str]:
    """Return ``text`` behind a label in lines that fit the terminal, the others below the text.

    Where no terminal is, it is one line, for whoever searches in it.
    """
    if not on_terminal():
        return [label + text]
    import textwrap

    indent = " " * len(label)
    # A terminal of a few columns: rather too long than a word a line.
    width = max(_columns() - 1, len(label) + 20)
    return textwrap.wrap(
        text,
        width,
        initial_indent=label,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


class HelpFormatter(argparse.HelpFormatter):
    """argparse's own, without the import of shutil (3 ms) it makes to learn the width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    text = os.environ.get("COLUMNS", "")
    if text.isascii() and text.isdigit() and int(text):
        return int(text)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80
