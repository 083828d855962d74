# SPDX-License-Identifier: MIT
"""Where traces go: default names, and a directory made and checked before anything runs."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from ustconsumer.errors import UsageError
from ustconsumer.paths import traces_dir

__all__ = [
    "OUTER_HOME",
    "claim",
    "default_output",
    "given_output",
    "newest_trace",
    "outer_home",
    "timestamped",
    "unclaim",
]

#: In the environment of a recorded command: ``TEMPORARY:REAL``, the home it has
#: and the one its user has.
OUTER_HOME = "DRTRACE_OUTER_HOME"
#: End of the name of a snapshot's directory: date, time, number.
_SNAPSHOT = re.compile(r"-\d{8}-\d{6}-\d+$")


def timestamped(name: str, when: float | None = None) -> str:
    """Return ``NAME-YYYYmmdd-HHMMSS`` in local time, as LTTng names sessions."""
    return time.strftime(f"{name.replace('%', '%%')}-%Y%m%d-%H%M%S", time.localtime(when))


def outer_home(env: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return an environment whose home is the user's, also within a recorded command.

    There LTTNG_HOME is temporary: a trace written below it would go with it.
    """
    temporary, _, real = env.get(OUTER_HOME, "").rpartition(":")
    if real and temporary == env.get("LTTNG_HOME"):
        return {**env, "LTTNG_HOME": real}
    return env


def default_output(name: str) -> Path:
    """Return a directory below ``~/lttng-traces`` that does not exist yet.

    Two runs within a second get ``-2``, ``-3`` ... behind the time.
    """
    first = Path(traces_dir(outer_home())).absolute() / name
    place, number = first, 1
    while os.path.lexists(place):
        number += 1
        place = first.with_name(f"{first.name}-{number}")
    return place


def given_output(name: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a directory somebody named.

    Raises
    ------
    UsageError
        It is empty, or relative to a directory that is gone.
    """
    if not os.fspath(name):
        raise UsageError("empty name of the output directory: name one with -o")
    try:
        return Path(os.path.abspath(name))
    except OSError:
        raise UsageError(
            f"cannot use output directory {os.fspath(name)} (the current directory is gone): "
            "give an absolute path"
        ) from None


def claim(output: Path) -> list[Path]:
    """Create a directory, or check that it is empty and ours to write.

    Returns
    -------
    list of Path
        The directories made, deepest first, for `unclaim`.

    Raises
    ------
    UsageError
        It cannot be used; nothing was changed.
    """
    made: list[Path] = []
    try:
        missing = [place for place in (output, *output.parents) if not os.path.lexists(place)]
        for place in reversed(missing):
            try:
                place.mkdir(mode=0o770)
            except FileExistsError:
                # Another run makes the same parents; the trace's own directory is not shared.
                if place == output:
                    raise
            else:
                made.insert(0, place)
        if not made and any(output.iterdir()):
            raise UsageError(f"output directory {output} is not empty: name another with -o")
        if not os.access(output, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        unclaim(made)
        raise UsageError(
            f"cannot write to output directory {output} ({error.strerror}): name another with -o"
        ) from None
    return made


def unclaim(made: list[Path]) -> None:
    """Remove what `claim` made, as far as it is still empty."""
    for place in made:
        with contextlib.suppress(OSError):
            place.rmdir()


def newest_trace() -> Path:
    """Return the directory below ``~/lttng-traces`` written to last that holds a trace.

    Of snapshots, which share their events, the last one.

    Raises
    ------
    UsageError
        There is none.
    """
    parent = Path(traces_dir(outer_home()))
    newest: tuple[float, Path] | None = None
    with contextlib.suppress(OSError):
        for place in parent.iterdir():
            for trace in _traces(place) if place.is_dir() else ():
                # Plain, or compressed.
                metadata = next(
                    trace.glob("**/metadata"), next(trace.glob("**/metadata.zst"), None)
                )
                if metadata is not None:
                    written = metadata.stat().st_mtime
                    if newest is None or written > newest[0]:
                        newest = written, trace
    if newest is None:
        raise UsageError(f"no trace below {parent}: name one, or record one")
    return newest[1]


def _traces(output: Path) -> list[Path]:
    """Return the snapshots in a session's output, or the output itself."""
    return [each for each in output.iterdir() if _SNAPSHOT.search(each.name)] or [output]
