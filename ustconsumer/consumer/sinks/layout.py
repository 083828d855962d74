# SPDX-License-Identifier: MIT
"""Names, modes and beginnings of the files of a trace, as LTTng lays them out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ustconsumer.abi.packet import METADATA_PACKET
from ustconsumer.ctf.packets import MetadataPacketWriter, begins
from ustconsumer.errors import UsageError

__all__ = [
    "MetadataFile",
    "all_or_nothing",
    "make_directory",
    "open_file",
    "plain_name",
    "refuse_beside",
    "trace_directory",
    "write_all",
]

#: LTTng's modes, before the umask.
_FILE_MODE = 0o660
_DIRECTORY_MODE = 0o770


class MetadataFile:
    """The ``metadata`` file of one trace.

    A successor of a dead consumer starts it over: the metadata log always has the
    whole text. It refuses a directory that holds another trace.
    """

    def __init__(self, path: Path, uuid: bytes) -> None:
        self.path = path
        self._fd = open_file(path)
        try:
            head = self._head()
            if head and (
                len(head) < METADATA_PACKET.size or METADATA_PACKET.get(head, 0, "uuid") != uuid
            ):
                raise UsageError(f"{path} belongs to another trace: choose another output")
            os.ftruncate(self._fd, 0)
        except BaseException:
            os.close(self._fd)
            raise
        self._offset = 0
        self._packets = MetadataPacketWriter(uuid)

    def append(self, text: bytes) -> None:
        """Write text as packets, all or nothing; one that begins anew over what is there.

        Raises
        ------
        OSError
            The file cannot take them.
        """
        if begins(text):
            self._start_over()
        self._put(self._packets.append(text))

    def close(self) -> None:
        os.close(self._fd)

    def _start_over(self) -> None:
        os.ftruncate(self._fd, 0)
        self._offset = 0

    def _head(self) -> bytes:
        """Return the beginning of the first packet that is there."""
        return os.pread(self._fd, METADATA_PACKET.size, 0)

    def _put(self, raw: bytes) -> None:
        with all_or_nothing((self._fd, self._offset)):
            write_all(self._fd, raw, self._offset)
        self._offset += len(raw)


def trace_directory(output: Path, path: str) -> Path:
    """Make the directory of a trace below an output; return it.

    Raises
    ------
    UsageError
        The path leaves the output.
    """
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise UsageError(f"trace path {path!r} leaves the output directory")
    directory = output / parts
    make_directory(directory)
    return directory


def plain_name(name: str) -> str:
    """Return a stream's name; raises `UsageError` if it cannot be that of a file."""
    if "/" in name or name.startswith(".") or "\0" in name:
        raise UsageError(f"stream name {name!r} cannot be a file name")
    return name


def refuse_beside(path: Path) -> None:
    """Raise `UsageError` if there is a file of a trace in the other form, plain or compressed."""
    if os.path.lexists(path):
        raise UsageError(f"{path} belongs to another trace: choose another output")


def make_directory(path: Path) -> None:
    """Make a directory and its parents."""
    # `Path.mkdir(parents=True)` gives parents the default mode.
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(_DIRECTORY_MODE)


def open_file(path: Path) -> int:
    """Open a file for reading and writing, or create it; return its descriptor."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, _FILE_MODE)


@contextlib.contextmanager
def all_or_nothing(*files: tuple[int, int]) -> Iterator[None]:
    """Cut files back to where they ended if writing to them fails."""
    try:
        yield
    except OSError:
        for fd, end in files:
            os.ftruncate(fd, end)
        raise


def write_all(fd: int, raw: bytes | memoryview, offset: int) -> None:
    """Write bytes to a place in a file, all of them."""
    view = memoryview(raw)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
