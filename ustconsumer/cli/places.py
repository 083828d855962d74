# SPDX-License-Identifier: MIT
"""Directories as ``lttng`` takes and shows them: a path, or ``file://`` before it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ustconsumer.errors import UsageError

if TYPE_CHECKING:
    from ustconsumer.protocol.control import Destination, SnapshotOutput

__all__ = ["local_path", "shown_output", "shown_places"]


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


def shown_output(output: SnapshotOutput) -> str:
    """Return a snapshot output in the words of ``lttng``."""
    limit = f" (max size: {output.max_size} bytes)" if output.max_size else ""
    return f"[{output.id}] {output.name}: {output.path}{limit}"


def shown_places(output: str, destination: Destination, *, snapshot: bool = False) -> list[str]:
    """Return where packets go in the words of ``lttng``: a directory, a relay, or both."""
    from ustconsumer.protocol.destinations import shown_relay  # not for --help

    places = [output] if output else []
    if destination.url:
        places.append(shown_relay(destination, data=not snapshot))
    return places
