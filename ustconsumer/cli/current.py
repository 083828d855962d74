# SPDX-License-Identifier: MIT
"""The current session: what verbs act on when no session is named."""

from __future__ import annotations

import contextlib
import os

from ustconsumer.errors import UsageError
from ustconsumer.paths import home

__all__ = ["choose", "forget", "remember"]

_NAME = ".drtracerc"
_KEY = "session="


def _file(rundir: str | None) -> str:
    """The file beside ``.lttng``, as ``.lttngrc`` is; in the home for a registry elsewhere."""
    place = rundir or os.environ.get("LTTNG_UST_CTL_PATH")
    if place and os.path.basename(os.path.normpath(place)) == ".lttng":
        return os.path.join(os.path.dirname(os.path.abspath(place)), _NAME)
    return os.path.join(home(), _NAME)


def remember(name: str, rundir: str | None) -> None:
    """Make a session the current one.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    with open(_file(rundir), "w", encoding="utf-8") as file:
        file.write(f"{_KEY}{name}\n")


def forget(name: str, rundir: str | None) -> None:
    """Have no current session any more, if it is this one."""
    with contextlib.suppress(OSError, UsageError):
        if _read(rundir) == name:
            os.unlink(_file(rundir))


def choose(named: str | None, rundir: str | None) -> str:
    """Return the session to act on: the named one, DRTRACE_SESSION's, or the current one.

    Raises
    ------
    UsageError
        There is none of them.
    """
    name = named or os.environ.get("DRTRACE_SESSION") or _read(rundir)
    if not name:
        raise UsageError(
            "no current recording session: name one, or create one with `drtrace create`"
        )
    return name


def _read(rundir: str | None) -> str | None:
    with (
        contextlib.suppress(OSError, UnicodeDecodeError),
        open(_file(rundir), encoding="utf-8") as file,
    ):
        for line in file:
            if line.startswith(_KEY):
                return line.removeprefix(_KEY).rstrip("\n")
    return None
