# SPDX-License-Identifier: MIT
"""Where the recording of one command goes: a directory, a relay, or both."""

from __future__ import annotations

import os
from pathlib import Path

from ustconsumer.client.output import default_output, given_output, timestamped
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Destination
from ustconsumer.protocol.destinations import relay_of

__all__ = ["check_sent", "session_place"]


def check_sent(destination: Destination, *, flight: bool, direct: bool) -> None:
    """Refuse what cannot be sent to a relay.

    Parameters
    ----------
    flight : bool
        It is kept in memory until something happens.
    direct : bool
        Files are written past the page cache.

    Raises
    ------
    UsageError
        There is a relay, and it cannot be.
    """
    if not destination.url:
        return
    relay_of(destination)
    if flight:
        raise UsageError("a flight recorder writes to a directory: leave out the relay")
    if direct:
        raise UsageError("--direct is for files alone: leave it out, or the relay")


def session_place(
    program: Path, output: str | os.PathLike[str] | None, destination: Destination
) -> tuple[str, Path | None]:
    """Return the session's name and its directory; None: only a relay gets the trace.

    Raises
    ------
    UsageError
        The directory cannot be used.
    """
    given = None if output is None else given_output(output)
    if destination.url:
        # A relay adds the time: two runs in a second differ by our pid. It takes no leading dot.
        return f"{program.name.lstrip('.')}-{os.getpid()}", given
    name = timestamped(program.name)
    return name, given or default_output(name)
