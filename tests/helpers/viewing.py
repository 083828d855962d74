# SPDX-License-Identifier: MIT
"""``drtrace view`` beside babeltrace2: the same bytes, on every trace that tests read.

babeltrace2 2.0.4 prints, for a text array or text sequence that is empty, what such a
field of an earlier event of the same class was: its string is shortened, its memory is not.
`drtrace view` prints an empty text. That is the one difference `differs` lets pass.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

from ustconsumer.cli import main

__all__ = ["Output", "babeltrace2", "check_view", "differs", "view"]

#: Lines of longer traces that are compared.
LINES = 20_000


class Output(NamedTuple):
    """What a program printed, and how it ended."""

    stdout: bytes
    stderr: bytes
    status: int


def babeltrace2(*arguments: str | os.PathLike[str]) -> Output:
    """Run babeltrace2."""
    result = subprocess.run(["babeltrace2", *arguments], capture_output=True, check=False)
    return Output(result.stdout, result.stderr, result.returncode)


class _EnoughError(Exception):
    pass


class _Limited(io.BytesIO):
    """Takes some lines, then no more."""

    def __init__(self, lines: int | None) -> None:
        super().__init__()
        self._left = lines

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self._left is not None:
            if self._left <= 0:
                raise _EnoughError
            self._left -= data.count(b"\n")
        return super().write(data)


def view(*arguments: str | os.PathLike[str], lines: int | None = None) -> Output:
    """Run ``drtrace view`` within this process; at least ``lines``, then it is stopped."""
    out, err = _Limited(lines), io.BytesIO()
    status = 0
    with (
        redirect_stdout(io.TextIOWrapper(out, "utf-8")) as stdout,
        redirect_stderr(io.TextIOWrapper(err, "utf-8")) as stderr,
    ):
        try:
            status = main(["view", *(os.fspath(argument) for argument in arguments)])
            stdout.flush()
        except _EnoughError:
            pass
        stderr.flush()
        output = Output(out.getvalue(), err.getvalue(), status)
        # The wrappers close what is in them.
        stdout.detach()
        stderr.detach()
    return output


_ANY_TEXT = rb'"(?:[^"\\]|\\.)*"'


def differs(ours: bytes, theirs: bytes) -> str:
    """Return the first lines that are not equal, nothing if all are."""
    if ours == theirs:
        return ""
    pairs = zip(ours.splitlines(keepends=True), theirs.splitlines(keepends=True), strict=False)
    for number, (one, other) in enumerate(pairs, 1):
        if one != other:
            anything = _ANY_TEXT.join(map(re.escape, one.split(b'""')))
            if not re.fullmatch(anything, other):
                return f"line {number}\nview:        {one!r}\nbabeltrace2: {other!r}"
    if (counts := (ours.count(b"\n"), theirs.count(b"\n"))) != (counts[0], counts[0]):
        return f"{counts[0]} lines, babeltrace2 prints {counts[1]}"
    return ""


def check_view(theirs: Output, *arguments: str | os.PathLike[str]) -> None:
    """Compare with what babeltrace2 printed: of a long trace the first lines."""
    count = theirs.stdout.count(b"\n")
    whole = count <= LINES
    ours = view(*arguments, lines=None if whole else LINES)
    stdout = theirs.stdout
    if not whole:
        shown = ours.stdout.count(b"\n")
        assert shown >= LINES
        stdout = b"".join(stdout.splitlines(keepends=True)[:shown])
    difference = differs(ours.stdout, stdout)
    if not difference and whole and ours.stderr != theirs.stderr:
        difference = f"view:        {ours.stderr!r}\nbabeltrace2: {theirs.stderr!r}"
    # A trace that is still being written is another one now.
    if difference and babeltrace2(*arguments) == theirs:
        raise AssertionError(f"view and babeltrace2 do not agree on {arguments}: {difference}")
