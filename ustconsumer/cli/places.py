# SPDX-License-Identifier: MIT
"""Directories as ``lttng`` takes and shows them: a path, or ``file://`` before it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ustconsumer.errors import UsageError

if TYPE_CHECKING:
    from ustconsumer.protocol.control import SnapshotOutput

__all__ = ["local_path", "shown_output"]


def local_path(text: str) -> str:
    """Return the absolute path that is meant.

    Raises
    ------
    UsageError
        It is a place on the network, or a ``file://`` that is not absolute.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "file":
        if not rest.startswith("/"):
            raise UsageError(f"{text}: file:// is followed by an absolute path")
        return rest
    if separator and scheme.isalnum():
        raise UsageError(f"{text}: snapshots go to local directories only")
    if not text:
        raise UsageError("an empty name is no directory")
    return os.path.abspath(text)


def shown_output(output: SnapshotOutput) -> str:
    """Return a snapshot output in the words of ``lttng``."""
    limit = f" (max size: {output.max_size} bytes)" if output.max_size else ""
    return f"[{output.id}] {output.name}: {output.path}{limit}"
