# SPDX-License-Identifier: MIT
"""The files of one stream: one, or a row of them that are each at most so large."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ustconsumer.abi.packet import INDEX_ENTRY
from ustconsumer.consumer.packet import Stream
from ustconsumer.consumer.sinks.layout import make_directory, plain_name
from ustconsumer.errors import UsageError

__all__ = ["Tracefiles"]


class Tracefiles:
    """Names the files that a stream's packets go to, in LTTng's layout.

    Without a size there is one, ``chan_0``. With one they are numbered from the first on,
    ``chan_0_0``, ``chan_0_1``; with a count so many numbers are there, and a file takes the
    place of the oldest.

    Parameters
    ----------
    directory : Path
        Of the trace.
    stream : Stream
    last_entry : callable
        Returns the last whole entry of an index that is open for reading; None: there is none.
    suffix : str
        What all names end with.

    Attributes
    ----------
    size : int
        Bytes of packets that a file may have; 0: no limit.

    Raises
    ------
    OSError
        The directory of the indexes cannot be made.
    UsageError
        The stream's name cannot be that of a file.

    Notes
    -----
    Which file is the last one is known by the sequence numbers in the indexes alone. A killed
    consumer leaves at most one without a packet, the one that it had begun (or had begun to
    remove): it comes again.
    """

    def __init__(
        self,
        directory: Path,
        stream: Stream,
        last_entry: Callable[[int], bytes | None],
        suffix: str = "",
    ) -> None:
        self.size = stream.tracefile_size
        self._directory = directory
        self._indexes = directory / "index"
        self._stream = stream
        self._last_entry = last_entry
        self._suffix = suffix
        self._name = plain_name(stream.name)
        self._count = stream.tracefile_count
        self._number = 0
        make_directory(self._indexes)

    def fits(self, end: int, size: int) -> bool:
        """Return whether a packet may follow so many bytes; an empty file takes any."""
        return not self.size or not end or end + size <= self.size

    def last(self) -> tuple[Path, Path]:
        """Find where a consumer before us stopped; return the paths of data and index.

        Raises
        ------
        OSError
            The directory cannot be read, or what was left unfinished not be removed.
        UsageError
            The files are another stream's.
        """
        if self.size:
            newest = -1
            empty = set()
            for number in self._numbers():
                sequence = self._last_sequence(number)
                if sequence is None:
                    empty.add(number)
                elif sequence > newest:
                    newest, self._number = sequence, number
            following = self._next_number()
            if newest >= 0 and following in empty:
                self._remove(following)
        return self._paths(self._number)

    def exist(self) -> bool:
        """Return whether there is a file of the stream."""
        if self.size:
            return bool(self._numbers())
        return any(os.path.lexists(path) for path in self._paths(0))

    def remove(self) -> None:
        """Remove the files of the stream; nobody has them open."""
        for number in self._numbers() if self.size else (0,):
            self._remove(number)
        self._number = 0

    def following(self) -> tuple[Path, Path]:
        """Make room for the next file; return its paths. `step` says that it is in use."""
        number = self._next_number()
        # Index first: what has none is nobody's, should we be killed in between.
        self._remove(number)
        return self._paths(number)

    def step(self) -> None:
        """Go on to the file that `following` named."""
        self._number = self._next_number()

    def _next_number(self) -> int:
        number = self._number + 1
        return number % self._count if self._count else number

    def _paths(self, number: int) -> tuple[Path, Path]:
        name = f"{self._name}_{number}" if self.size else self._name
        return (
            self._directory / f"{name}{self._suffix}",
            self._indexes / f"{name}.idx{self._suffix}",
        )

    def _remove(self, number: int) -> None:
        for path in reversed(self._paths(number)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _numbers(self) -> set[int]:
        """Return the numbers of the files that are there."""
        return set(self._found(self._directory, "")) | set(self._found(self._indexes, ".idx"))

    def _found(self, directory: Path, extension: str) -> Iterator[int]:
        ending = re.escape(extension + self._suffix)
        pattern = re.compile(rf"{re.escape(self._name)}_(0|[1-9][0-9]*){ending}", re.ASCII)
        for name in os.listdir(directory):
            match = pattern.fullmatch(name)
            if match and (not self._count or int(match[1]) < self._count):
                yield int(match[1])

    def _last_sequence(self, number: int) -> int | None:
        """Return the sequence number of a file's last packet; None: it has none."""
        index = self._paths(number)[1]
        try:
            fd = os.open(index, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            raw = self._last_entry(fd)
        finally:
            os.close(fd)
        if raw is None:
            return None
        entry = INDEX_ENTRY.get_all(raw)
        ours = self._stream.channel_id, self._stream.cpu
        if (entry["stream_id"], entry["stream_instance_id"]) != ours:
            raise UsageError(f"{index} is the index of another stream: choose another output")
        sequence: int = entry["packet_seq_num"]
        return sequence
