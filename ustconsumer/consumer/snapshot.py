# SPDX-License-Identifier: MIT
"""A snapshot: what is in the buffers now, written as a trace, while everybody goes on."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from ustconsumer._native.observer import (
    OBSERVE_DAMAGED,
    OBSERVE_ELSEWHERE,
    OBSERVE_ERRNO,
    OBSERVE_OPEN,
    OBSERVE_OVERTAKEN,
    OBSERVE_WHOLE,
)
from ustconsumer._native.writeback import reserve
from ustconsumer.consumer.observer import ObservedStream, oldest_position
from ustconsumer.consumer.packet import Trace
from ustconsumer.consumer.sinks.layout import (
    MetadataFile,
    open_file,
    plain_name,
    trace_directory,
)
from ustconsumer.consumer.splitting import Split, split
from ustconsumer.errors import UsageError

__all__ = ["Snapshot", "take_snapshot"]

#: What one snapshot waits, in all, for events that are being written.
_PATIENCE_SECONDS = 0.05
_PAUSE_SECONDS = 0.0005
#: A packet that a reader is just taking or giving back is somewhere after a few looks.
_LOOKS = 100
#: Writers that overtake us so often are faster than any copy.
_RESTARTS = 8
_PAGE = 4096
#: Bytes of a file whose blocks are allocated before it is written.
_WORTH_RESERVING = 1 << 20
_STREAM_CLASS = re.compile(rb"^stream \{\s+id = (\d+);", re.MULTILINE)


class Snapshot(msgspec.Struct, kw_only=True):
    """What `take_snapshot` wrote."""

    #: its directory, at a relay the one below the relay's; empty if there was nothing to write
    path: str
    #: URL of the relay that got it; empty: it is here
    relay: str = ""
    #: files with packets
    streams: int = 0
    packets: int = 0
    bytes: int = 0
    #: packets that could not be had, between others that were
    lost: int = 0
    #: why, and what is unfinished, one line each
    problems: list[str] = []


class _Patience:
    """Time that is spent on waiting, for all streams together."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def wait(self) -> bool:
        """Wait a moment; False if the time is spent."""
        if self._left <= 0:
            return False
        before = time.monotonic()
        time.sleep(_PAUSE_SECONDS)
        self._left -= time.monotonic() - before
        return True


class _StreamCopy:
    """Copies one stream to a file.

    Parameters
    ----------
    observed : ObservedStream
    goal : int
        Write position when the snapshot began: what was recorded before is to be in it.
    keep : int
        Sub-buffers at most, beside the one being written.
    patience : _Patience
    fd : int
        Of an empty file.

    Attributes
    ----------
    lost : int
        Packets that could not be had, between others that could.
    unfinished : list of int
        Sequence numbers of packets of which only the beginning is there.
    """

    def __init__(
        self, observed: ObservedStream, goal: int, keep: int, patience: _Patience, fd: int
    ) -> None:
        self._ring = observed.ring
        self._geometry = observed.stream.geometry
        self._keep = keep
        self._patience = patience
        self._fd = fd
        self._restarts = 0
        self._looks = 0
        self._position = 0
        self.lost = 0
        self.unfinished: list[int] = []
        self._begin(goal)

    def run(self) -> None:
        """Copy; raises `OSError` if the file does not take it."""
        size = self._goal - self._position
        if size >= _WORTH_RESERVING:
            # Blocks are dear one write at a time. Without such an operation they are.
            with contextlib.suppress(OSError):
                reserve(self._fd, 0, size)
        while True:
            while self._position != self._end:
                before = self._position
                status, self._position = self._ring.write(before, self._end, self._fd)
                if self._position != before:
                    self._looks = 0
                self._resolve(status)
            if self._goal == self._end or self._write_head():
                break
        # What was reserved, or written and then found to be overtaken.
        os.ftruncate(self._fd, self._ring.data_offset)

    def _begin(self, goal: int) -> None:
        """Begin (again) with an empty file: what is there must have no gaps."""
        self._goal = goal
        self._end = self._geometry.subbuf_trunc(goal)
        size = self._geometry.subbuf_size
        # Who was overtaken begins nearer to what is written now.
        whole = max(self._keep - self._restarts * (self._geometry.num_subbuf // _RESTARTS), 0)
        first = oldest_position(goal, self._geometry)
        first = max(first, self._end - whole * size)
        self._position = first
        self._ring.restart()
        self._ring.data_offset = 0
        self.lost = 0
        self.unfinished.clear()

    def _resolve(self, status: int) -> None:
        """Deal with what keeps us from the packet at the position."""
        if status == OBSERVE_OVERTAKEN:
            self._overtaken()
        elif status == OBSERVE_OPEN:
            if not self._patience.wait():
                self._write_unfinished()
        elif status == OBSERVE_ELSEWHERE:
            self._looks += 1
            if self._looks > _LOOKS and not self._patience.wait():
                self._skip()
        elif status == OBSERVE_DAMAGED:
            self._skip()
        elif status == OBSERVE_ERRNO:
            raise OSError(self._ring.error, os.strerror(self._ring.error))

    def _overtaken(self) -> None:
        if self._restarts < _RESTARTS:
            self._restarts += 1
            self._begin(self._ring.positions()[1])
        else:
            self._skip()

    def _skip(self) -> None:
        """Go on behind a packet that cannot be had."""
        self.lost += 1
        self._position = self._geometry.subbuf_align(self._position)
        self._looks = 0

    def _write_unfinished(self) -> None:
        """Write what is committed of a packet that writers have gone past."""
        position, end = self._position, self._next_begin()
        # How many events were lost until then stands nowhere: as many as before.
        status = self._ring.write_open(position, self._fd, end, 0)
        if status == OBSERVE_OPEN:
            end = end or time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            begin = self._ring.last_end or end
            status = self._ring.write_empty(position, self._fd, begin, max(begin, end))
        if status == OBSERVE_WHOLE:
            self.unfinished.append(position // self._geometry.subbuf_size)
            self._position = self._geometry.subbuf_align(position)
        elif status == OBSERVE_OPEN:
            self._skip()
        else:
            self._resolve(status)

    def _next_begin(self) -> int:
        """Return the time at which the first packet behind the position begins; 0: none does."""
        position = self._position
        while position != self._end:
            position = self._geometry.subbuf_align(position)
            begin = self._ring.begins(position)
            if begin is not None:
                return begin
        return 0

    def _write_head(self) -> bool:
        """Write the packet that was being written; return False to begin again."""
        position, following = self._end, self._geometry.subbuf_align(self._end)
        while True:
            # It may be full by now.
            status, _ = self._ring.write(position, following, self._fd)
            recorded = self._ring.prefix(position) >= self._goal - position
            if status != OBSERVE_OPEN or recorded or not self._patience.wait():
                break
        if status == OBSERVE_OPEN:
            status = self._ring.write_open(position, self._fd)
        if status == OBSERVE_OVERTAKEN and self._restarts < _RESTARTS:
            self._overtaken()
            return False
        if status == OBSERVE_ERRNO:
            self._resolve(status)
        # Open still: not even its header is there, so nothing of it is.
        self.lost += status not in (OBSERVE_WHOLE, OBSERVE_OPEN)
        return True


def take_snapshot(
    streams: Sequence[ObservedStream],
    metadata: Callable[[], Iterable[tuple[Trace, bytes]]],
    directory: str | os.PathLike[str],
    max_size: int = 0,
) -> Snapshot:
    """Write what is in the buffers now to a directory, as a trace.

    What was recorded before the call is in it, unless it was overwritten meanwhile or its
    writer was stopped or killed in the middle of it. The packets of each stream follow
    each other without gaps.

    Parameters
    ----------
    streams : sequence of ObservedStream
    metadata : callable
        Returns the whole metadata text (TSDL) of each trace; called after the packets were
        copied, so that everything in them is declared.
    directory : path
        Made, with its parents; absent or empty.
    max_size : int
        Bytes of packets at most, the newest; 0: no limit.

    Raises
    ------
    UsageError
        The directory is not empty, or ``max_size`` less than a sub-buffer for each stream.
    OSError
        It cannot be written; nothing is left of it.
    """
    output = Path(directory)
    existed = output.exists()
    if existed and any(output.iterdir()):
        raise UsageError(f"{output} is not empty: choose another directory")
    goals = [observed.ring.positions()[1] for observed in streams]
    keeps = _shares(streams, goals, max_size)
    try:
        return _write(streams, goals, keeps, metadata, output)
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        if existed:
            output.mkdir(exist_ok=True)
        raise


def _write(
    streams: Sequence[ObservedStream],
    goals: Sequence[int],
    keeps: Sequence[int],
    metadata: Callable[[], Iterable[tuple[Trace, bytes]]],
    output: Path,
) -> Snapshot:
    snapshot = Snapshot(path=os.fspath(output))
    patience = _Patience(_PATIENCE_SECONDS)
    files: dict[str, list[tuple[ObservedStream, Split]]] = {}
    for observed, goal, keep in zip(streams, goals, keeps, strict=True):
        stream = observed.stream
        path = trace_directory(output, stream.trace.path) / plain_name(stream.name)
        fd = open_file(path)
        try:
            copy = _StreamCopy(observed, goal, keep, patience, fd)
            copy.run()
        finally:
            os.close(fd)
        files.setdefault(stream.trace.id, []).append((observed, split(path, stream)))
        snapshot.lost += copy.lost
        snapshot.problems += _problems(f"{stream.trace.path}/{stream.name}", copy)
    for trace, text in metadata():
        _finish(snapshot, output, trace, text, files.get(trace.id, []))
    if not output.exists():
        snapshot.path = ""
    return snapshot


def _finish(
    snapshot: Snapshot,
    output: Path,
    trace: Trace,
    text: bytes,
    files: Sequence[tuple[ObservedStream, Split]],
) -> None:
    """Write the metadata of a trace; count what it has."""
    declared = {int(number) for number in _STREAM_CLASS.findall(text)}
    for observed, written in files:
        if observed.stream.channel_id in declared:
            snapshot.streams += observed.ring.packet_count > 0
            snapshot.packets += observed.ring.packet_count - written.packets
            snapshot.bytes += observed.ring.byte_count - written.bytes
        else:
            # Nobody recorded anything: its packets are empty, and nothing says what they are.
            for path in written.paths:
                path.unlink()
    file = MetadataFile(trace_directory(output, trace.path) / "metadata", trace.uuid)
    try:
        file.append(text)
    finally:
        file.close()


def _problems(name: str, copy: _StreamCopy) -> list[str]:
    lines = []
    if copy.unfinished:
        lines.append(
            f"{name}: {_packets(len(copy.unfinished))} cut where a process was stopped or killed "
            f"in the middle of an event (the first is packet {copy.unfinished[0]})"
        )
    if copy.lost:
        lines.append(f"{name}: {_packets(copy.lost)} missing: damaged, or overwritten meanwhile")
    return lines


def _packets(count: int) -> str:
    return "1 packet" if count == 1 else f"{count} packets"


def _shares(streams: Sequence[ObservedStream], goals: Sequence[int], max_size: int) -> list[int]:
    """Return how many sub-buffers of each stream are taken, beside the one being written.

    What a stream does not need the others may have.
    """
    if not max_size:
        return [observed.stream.geometry.num_subbuf for observed in streams]
    # Per stream: bytes in all, those in the packet being written, bytes of a sub-buffer.
    wants = []
    for observed, goal in zip(streams, goals, strict=True):
        geometry = observed.stream.geometry
        head = -(-geometry.subbuf_offset(goal) // _PAGE) * _PAGE
        whole = geometry.subbuf_trunc(goal) - oldest_position(goal, geometry)
        wants.append((whole + head, head, geometry.subbuf_size))
    shares = [0] * len(wants)
    left = max_size
    order = sorted(range(len(wants)), key=lambda each: wants[each])
    for done, each in enumerate(order):
        whole_and_head, head, size = wants[each]
        part = min(whole_and_head, left // (len(order) - done))
        if part < min(whole_and_head, size):
            least = sum(size for _, _, size in wants)
            raise UsageError(
                f"a snapshot of {max_size} bytes is too small for {len(wants)} streams: at least "
                f"{least}, a sub-buffer of each"
            )
        shares[each] = (part - head) // size
        left -= shares[each] * size + head
    return shares
