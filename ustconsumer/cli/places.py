# SPDX-License-Identifier: MIT
"""Directories as ``lttng`` takes and shows them: a path, or ``file://`` before it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ustconsumer.errors import UsageError

if TYPE_CHECKING:
    from ustconsumer.protocol.control import Destination, SnapshotOutput

__all__ = ["local_path", "shown_output", "shown_places", "snapshot_place"]


def local_path(text: str) -> str:
    """Return the absolute path that is meant.

    Raises
    ------
    UsageError
        It is a URL of another kind, or a ``file://`` that is not absolute.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "file":
        if not rest.startswith("/"):
            raise UsageError(f"{text}: file:// is followed by an absolute path")
        return rest
    if separator and scheme.isalnum():
        raise UsageError(
            f"{text}: neither a directory nor the URL of a relay: write file:///DIR, or "
            "net://HOST[:CTRL[:DATA]][/PATH]"
        )
    if not text:
        raise UsageError("an empty name is no directory")
    return os.path.abspath(text)


def snapshot_place(
    place: str | None, control: str | None, data: str | None
) -> tuple[str | None, str]:
    """Return where a snapshot goes: an absolute path or a relay's URL, and its data port's.

    Raises
    ------
    UsageError
        It is neither, or said twice.
    """
    from ustconsumer.protocol.control import Destination
    from ustconsumer.protocol.destinations import is_relay_url, of_ports, relay_of

    if control is not None or data is not None:
        if place is not None:
            raise UsageError(f"{place} and --ctrl-url, --data-url are two places: name one")
        if control is None or data is None:
            raise UsageError("Both control and data URLs must be specified.")
        return of_ports(control, data)
    if place is None or not is_relay_url(place):
        return None if place is None else local_path(place), ""
    relay_of(Destination(url=place))
    return place, ""


def shown_output(output: SnapshotOutput) -> str:
    """Return a snapshot output in the words of ``lttng``."""
    from ustconsumer.protocol.control import Destination
    from ustconsumer.protocol.destinations import is_relay_url, shown_relay

    place = output.path
    if is_relay_url(place):
        place = shown_relay(Destination(url=place, data_url=output.data_url), data=False)
    limit = f" (max size: {output.max_size} bytes)" if output.max_size else ""
    return f"[{output.id}] {output.name}: {place}{limit}"


def shown_places(output: str, destination: Destination, *, snapshot: bool = False) -> list[str]:
    """Return where packets go in the words of ``lttng``: a directory, a relay, or both."""
    from ustconsumer.protocol.destinations import shown_relay  # not for --help

    places = [output] if output else []
    if destination.url:
        places.append(shown_relay(destination, data=not snapshot))
    return places
