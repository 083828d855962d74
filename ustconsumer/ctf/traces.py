# SPDX-License-Identifier: MIT
"""Finds the traces below a directory, with their metadata and the files of their streams."""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from ustconsumer.ctf.classes import StreamClass, TraceClass
from ustconsumer.ctf.datapackets import Files, PacketHeader, headers
from ustconsumer.ctf.declared import trace_class
from ustconsumer.ctf.frames import SUFFIX
from ustconsumer.errors import DecodeError, UsageError

__all__ = ["SingleTrace", "Stream", "StreamFile", "find"]

METADATA = "metadata"
METADATA_NAMES = (METADATA, METADATA + SUFFIX)
#: Bytes of a metadata file; more is a mistake or an attack.
MAX_METADATA = 256 << 20


class StreamFile(NamedTuple):
    """A file of a stream. Its size is that of the time when it was found."""

    path: str
    size: int
    #: Clock cycles.
    timestamp_begin: int


class Stream:
    """What one ring buffer recorded.

    Attributes
    ----------
    trace : SingleTrace
    class_id : int
        Which channel of the trace.
    instance_id : int
        Which stream of the channel: the CPU.
    files : tuple of StreamFile
        By time: with several chunks or tracefiles there are several.
    """

    def __init__(
        self, trace: SingleTrace, class_id: int, instance_id: int, files: tuple[StreamFile, ...]
    ) -> None:
        self.trace = trace
        self.class_id = class_id
        self.instance_id = instance_id
        self.files = files

    def __repr__(self) -> str:
        return f"<Stream {self.name!r} of {self.trace.directory!r}>"

    @property
    def name(self) -> str:
        """The first file's name: channel and CPU."""
        return os.path.basename(self.files[0].path).removesuffix(SUFFIX)

    @property
    def stream_class(self) -> StreamClass:
        return self.trace.declared.streams[self.class_id]

    def packets(self, files: Files | None = None) -> Iterator[PacketHeader]:
        """Yield the headers of the packets, by time; one that is in several files once.

        Raises
        ------
        DecodeError
            A header that makes no sense, or packets whose times overlap.
        """
        if files is None:
            files = Files()
            try:
                yield from self.packets(files)
            finally:
                files.close()
            return
        before: PacketHeader | None = None
        for packet in self._by_time(files):
            if before is not None:
                if _same(before, packet):
                    continue
                if packet.timestamp_begin < max(before.timestamp_begin, before.timestamp_end):
                    raise DecodeError(
                        f"{packet}: begins at {packet.timestamp_begin}, before the end of {before}"
                    )
            before = packet
            yield packet

    def _by_time(self, files: Files) -> Iterator[PacketHeader]:
        # Files overlap where snapshots do. The others wait for their time.
        waiting = deque(self.files)
        heap: list[tuple[int, int, PacketHeader, Iterator[PacketHeader]]] = []
        number = 0
        while waiting or heap:
            while waiting and (not heap or waiting[0].timestamp_begin <= heap[0][0]):
                file = waiting.popleft()
                rest = headers(files, file.path, file.size)
                packet = next(rest)
                heapq.heappush(heap, (packet.timestamp_begin, number, packet, rest))
                number += 1
            _, rank, packet, rest = heap[0]
            # First, for the header after it may make no sense.
            yield packet
            following = next(rest, None)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (following.timestamp_begin, rank, following, rest))


def _same(one: PacketHeader, other: PacketHeader) -> bool:
    return (
        one.timestamp_begin == other.timestamp_begin
        and one.timestamp_end == other.timestamp_end
        and one.packet_size == other.packet_size
        and one.sequence == other.sequence
    )


class SingleTrace:
    """A trace: one metadata for some streams.

    Attributes
    ----------
    directories : tuple of str
        Where it is; several if it was rotated, or recorded in several snapshots.
    declared : TraceClass
    streams : tuple of Stream
        By class id, then instance id.
    """

    def __init__(self, directories: tuple[str, ...], declared: TraceClass) -> None:
        self.directories = directories
        self.declared = declared
        self.streams: tuple[Stream, ...] = ()

    def __repr__(self) -> str:
        return f"<SingleTrace {self.directory!r}, {len(self.streams)} streams>"

    @property
    def directory(self) -> str:
        return self.directories[0]

    @property
    def uuid(self) -> UUID:
        return UUID(bytes=self.declared.uuid)


def find(*paths: str | os.PathLike[str]) -> list[SingleTrace]:
    """Return the traces in and below directories, by uuid.

    Raises
    ------
    UsageError
        A directory does not exist, cannot be read, or has no trace.
    DecodeError
        Metadata or the first packet of a file that makes no sense.
    """
    found: dict[bytes, list[_Directory]] = {}
    known: dict[bytes, TraceClass] = {}
    for path in paths:
        directories = _with_metadata(os.path.abspath(path))
        if not directories:
            raise UsageError(f"{os.fspath(path)}: no trace there: no file {METADATA} below it")
        for place in directories:
            directory = _Directory(place, known)
            same = found.setdefault(directory.declared.uuid, [])
            if all(other.path != place for other in same):
                same.append(directory)
    files = Files()
    try:
        return [_together(found[uuid], files) for uuid in sorted(found)]
    finally:
        files.close()


def _with_metadata(top: str) -> list[str]:
    """Return the directories with metadata in and below one, sorted."""
    result: list[str] = []
    seen: set[tuple[int, int]] = set()
    todo = [top]
    while todo:
        place = todo.pop()
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:
                continue
            # Also through symbolic links, but not in circles.
            seen.add((status.st_dev, status.st_ino))
            if any(os.path.isfile(os.path.join(place, name)) for name in METADATA_NAMES):
                result.append(place)
                continue
            with os.scandir(place) as entries:
                todo += [entry.path for entry in entries if entry.is_dir()]
        except OSError as error:
            raise UsageError(f"{place}: {error.strerror}") from None
    return sorted(result)


class _Directory:
    """One directory with metadata."""

    def __init__(self, path: str, known: dict[bytes, TraceClass]) -> None:
        self.path = path
        # The sizes first: what is in the packets up to there has been declared by now,
        # also while the trace is being written.
        files = Files()
        try:
            self.files = _data_files(path, files)
            metadata = os.path.join(path, METADATA)
            if not os.path.isfile(metadata):
                metadata += SUFFIX
            raw = files.read(metadata, 0, MAX_METADATA + 1)
        finally:
            files.close()
        if len(raw) > MAX_METADATA:
            raise DecodeError(f"{metadata}: larger than {MAX_METADATA} bytes")
        declared = known.get(raw)
        if declared is None:
            try:
                declared = known[raw] = trace_class(raw)
            except DecodeError as error:
                raise DecodeError(f"{metadata}: {error}") from None
        self.declared = declared


def _data_files(path: str, files: Files) -> list[tuple[str, int]]:
    """Return path and size of the files that are streams; of two forms of one the plain one."""
    try:
        with os.scandir(path) as entries:
            names = {
                entry.name
                for entry in entries
                if entry.name not in METADATA_NAMES and entry.name[0] != "." and entry.is_file()
            }
    except OSError as error:
        raise DecodeError(f"{path}: {error.strerror}") from None
    return [
        (place, files.size(place))
        for name in sorted(names)
        if not name.endswith(SUFFIX) or name.removesuffix(SUFFIX) not in names
        for place in (os.path.join(path, name),)
    ]


def _together(directories: list[_Directory], files: Files) -> SingleTrace:
    """Return the trace whose chunks these are."""
    # Metadata only grows: the one with the most classes has those of all others.
    declared = max((one.declared for one in directories), key=_classes)
    trace = SingleTrace(tuple(one.path for one in directories), declared)
    streams: dict[tuple[int, int], list[StreamFile]] = {}
    for directory in directories:
        for path, size in directory.files:
            if not size:
                continue
            first = next(headers(files, path, size))
            if first.stream_id not in declared.streams:
                raise DecodeError(f"{first}: stream class {first.stream_id} is not declared")
            file = StreamFile(path, size, first.timestamp_begin)
            streams.setdefault((first.stream_id, first.stream_instance_id), []).append(file)
    trace.streams = tuple(
        Stream(trace, *ids, tuple(sorted(streams[ids], key=lambda file: file.timestamp_begin)))
        for ids in sorted(streams)
    )
    return trace


def _classes(declared: TraceClass) -> int:
    return len(declared.streams) + sum(len(events) for events in declared.events.values())
