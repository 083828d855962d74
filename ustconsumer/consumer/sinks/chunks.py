# SPDX-License-Identifier: MIT
"""Directories of trace chunks: the one that is written, the next one, the archives."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from ustconsumer.consumer.sinks.layout import make_directory
from ustconsumer.errors import UsageError

__all__ = ["ChunkDirectories"]

#: What the first chunk, directly in the session's directory, consists of.
_DOMAIN = "ust"


class ChunkDirectories:
    """Where the chunks of a session are below its output.

    As with LTTng the first one is directly in the output; those after a rotation have a
    directory each, and complete ones are below ``archives``.

    Parameters
    ----------
    output : Path
    current : str
        Directory below the output of the chunk that is written; empty: the first.
    following : str
        That of the next one, while a rotation is under way; else empty.

    Raises
    ------
    UsageError
        A name leaves the output.
    """

    def __init__(self, output: Path, current: str = "", following: str = "") -> None:
        self._output = output
        self._current = _plain(current)
        self._following = _plain(following)

    @property
    def rotating(self) -> bool:
        """Whether there is a next chunk already."""
        return bool(self._following)

    @property
    def current(self) -> Path:
        """Directory of the chunk that is written, or that a rotation ends."""
        return self._output / self._current

    @property
    def newest(self) -> Path:
        """Directory of the newest chunk: streams are opened there."""
        return self._output / (self._following or self._current)

    def begin(self, following: str) -> None:
        """Have a next chunk."""
        self._following = _plain(following)

    def end(self, archive: str) -> None:
        """Move the old chunk to its place; the next one is the one that is written.

        A rotation that was carried out before, by a consumer that is gone, is no error.

        Raises
        ------
        OSError
            It cannot be moved, and stays where it is.
        """
        source, target = self.current, self._output / _plain(archive)
        self._current, self._following = self._following, ""
        # Also where nothing was recorded: whoever was told its name finds it.
        make_directory(target)
        first = source == self._output
        for name in [_DOMAIN] if first else _names(source):
            with contextlib.suppress(FileNotFoundError):
                os.rename(source / name, target / name)
        if not first:
            with contextlib.suppress(FileNotFoundError):
                source.rmdir()

    def remove(self, kept: Collection[Path]) -> None:
        """Remove the traces of the current chunk that are not kept: nobody writes them.

        Parameters
        ----------
        kept : collection of Path
            Directories of those that are written.
        """
        for directory in list(self._traces()):
            if directory not in kept:
                shutil.rmtree(directory)
                # The one of its kind, if this was the last.
                with contextlib.suppress(OSError):
                    directory.parent.rmdir()

    def _traces(self) -> Iterator[Path]:
        for directory, _, files in os.walk(self.current / _DOMAIN):
            if any(name.startswith("metadata") for name in files):
                yield Path(directory)


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _plain(name: str) -> str:
    """Return a name below the output; raises `UsageError` if it is none."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\0" in name:
        raise UsageError(f"chunk {name!r} leaves the output directory")
    return name
