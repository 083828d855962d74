# SPDX-License-Identifier: MIT
"""Buffers: the memory of a session's streams for one uid, its metadata, its wake-up pipe.

The registry allocates and keeps descriptors, and never reads trace data.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from sessiond.metadata import TraceMetadata
from sessiond.owners import Owner
from sessiond.registry import Channel, Session
from sessiond.shmpath import TraceFiles
from sessiond.sockets import close_all
from ustconsumer._native import atomics
from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import RingBufferError, UsageError
from ustconsumer.limits import descriptors_leaving
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.control import (
    ChannelOptions,
    StreamAdded,
    StreamInfo,
    TraceDescription,
)
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.channel import channel_blob
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = [
    "BUFFERS",
    "LAYOUTS",
    "DescriptorsError",
    "Stream",
    "Trace",
    "TraceChannel",
    "WakePipe",
    "check_options",
]

#: ABI major of an application -> layout of its buffers.
LAYOUTS = {8: "ust-8-x86_64", 9: "ust-9-x86_64", 10: "ust-10-x86_64"}
#: Who shares buffers, and what a message calls him.
BUFFERS = {"uid": "user", "pid": "process"}
#: LTTng keeps periods in 32 bits.
_LONGEST_TIMER_US = (1 << 32) - 1
#: ... and the number of files.
_MOST_FILES = (1 << 32) - 1
_PAGE = mmap.PAGESIZE
#: Descriptors that are left for clients.
_RESERVE = 64
_SAMPLED = ("offset", "consumed", "lost_full", "lost_wrap", "lost_big")
#: layout -> where these words are
_SAMPLED_AT = {
    name: tuple(RING_LAYOUTS[name].control.offset(word) for word in _SAMPLED)
    for name in LAYOUTS.values()
}


class DescriptorsError(RingBufferError):
    """The registry has no descriptors for more buffers."""


def geometry_of(options: ChannelOptions, layout: str) -> Geometry:
    """Return the geometry of a channel's streams; raises `UsageError` on impossible sizes."""
    return Geometry(
        RING_LAYOUTS[layout],
        options.subbuf_size,
        options.num_subbuf,
        overwrite=options.mode == "overwrite",
        by_writer=not options.read_timer_us,
    )


def check_options(options: ChannelOptions) -> None:
    """Raise `UsageError` unless a channel can have these attributes."""
    if options.mode not in ("discard", "overwrite"):
        raise UsageError(f"unknown channel mode {options.mode!r}: use discard or overwrite")
    if options.buffers not in BUFFERS:
        raise UsageError(f"unknown buffers {options.buffers!r}: use {' or '.join(BUFFERS)}")
    for name, value in (
        ("switch", options.switch_timer_us),
        ("read", options.read_timer_us),
        ("monitor", options.monitor_timer_us),
    ):
        if not 0 <= value <= _LONGEST_TIMER_US:
            raise UsageError(
                f"{name} timer {value} us is out of range: 1 to {_LONGEST_TIMER_US}, or 0"
            )
    if options.mode == "overwrite" and options.blocking_timeout_us:
        raise UsageError("an overwrite channel never blocks: leave out the blocking timeout")
    if not -1 <= options.blocking_timeout_us < 1 << 40:
        raise UsageError(f"blocking timeout {options.blocking_timeout_us} us is out of range")
    _check_tracefiles(options)
    size = 0
    for layout in set(LAYOUTS.values()):
        size = max(size, geometry_of(options, layout).file_size * possible_cpus())
    memory = os.sysconf("SC_PHYS_PAGES") * _PAGE
    if size > memory // 2:
        raise UsageError(
            f"the channel's buffers need {size} bytes for each {BUFFERS[options.buffers]}, "
            f"they may take half of this machine's {memory}: use fewer or smaller sub-buffers"
        )


def _check_tracefiles(options: ChannelOptions) -> None:
    if not 0 <= options.tracefile_count <= _MOST_FILES or not 0 <= options.tracefile_size < 1 << 63:
        raise UsageError("the size or the count of the trace files is out of range")
    if options.tracefile_count and not options.tracefile_size:
        raise UsageError("a count of trace files has no effect without their size: give both")
    if 0 < options.tracefile_size < options.subbuf_size:
        raise UsageError(
            f"trace files of {options.tracefile_size} bytes cannot hold a sub-buffer: "
            f"use {options.subbuf_size} or more"
        )


class WakePipe:
    """Where writers of a session leave a byte when a sub-buffer is full.

    The read end goes to the consumer. Each application gets an open file description of
    its own of the write end: O_NONBLOCK can be cleared through a shared one.
    """

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def open_write_end(self) -> int:
        """Return a new write end, the caller's to close."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(f"/proc/self/fd/{self._write_end}", flags)

    def close(self) -> None:
        close_all((self.read_end, self._write_end))


@dataclass(eq=False)
class Stream:
    """The ring buffer of one CPU."""

    id: int
    cpu: int
    channel: Channel
    geometry: Geometry
    fd: int
    #: a file has a name, and can be cut off by whoever has the registry's uid
    is_file: bool = False

    def map(self, length: int = 0, access: int = mmap.ACCESS_WRITE) -> mmap.mmap:
        """Return the memory, or so much of its beginning.

        Raises
        ------
        RingBufferError
            It is a file that somebody has cut off: to touch it would be our end.
        """
        if self.is_file and os.fstat(self.fd).st_size < self.geometry.file_size:
            raise RingBufferError(
                f"the file of stream {self.channel.name}_{self.cpu} was cut off: what is in it "
                "is lost"
            )
        return mmap.mmap(self.fd, length or self.geometry.file_size, access=access)

    def info(self, trace: str) -> StreamInfo:
        """Sample the counters the tracer keeps in the shared memory."""
        places = self.geometry.places()
        # All of them are in the control block, which is in the first page.
        produced = consumed = full = wrap = big = 0
        with contextlib.suppress(RingBufferError), self.map(_PAGE, mmap.ACCESS_READ) as control:
            produced, consumed, full, wrap, big = (
                atomics.load_u64(control, places[name]) for name in _SAMPLED
            )
        return StreamInfo(
            id=self.id,
            trace=trace,
            channel=self.channel.name,
            cpu=self.cpu,
            produced=produced,
            consumed=consumed,
            lost_full=full,
            lost_wrap=wrap,
            lost_big=big,
        )

    def sample(self) -> StreamInfo:
        """Return what `info` does, at a fraction of the cost: for those who look often.

        The words are read one after the other and may be of different moments.
        """
        places = _SAMPLED_AT[self.geometry.layout.name]
        block = os.pread(self.fd, places[-1] + 8, 0)
        # A file that was cut off is shorter.
        block = block.ljust(places[-1] + 8, b"\0")
        produced, consumed, full, wrap, big = (
            int.from_bytes(block[place : place + 8], "little") for place in places
        )
        return StreamInfo(
            id=self.id,
            trace="",
            channel=self.channel.name,
            cpu=self.cpu,
            produced=produced,
            consumed=consumed,
            lost_full=full,
            lost_wrap=wrap,
            lost_big=big,
        )

    def added(self, trace: str) -> StreamAdded:
        """Return the message that announces it to a consumer."""
        return StreamAdded(
            stream=self.id,
            trace=trace,
            channel=self.channel.name,
            channel_id=self.channel.id,
            cpu=self.cpu,
            layout=self.geometry.layout.name,
            memory_size=self.geometry.file_size,
            subbuf_size=self.geometry.subbuf_size,
            num_subbuf=self.geometry.num_subbuf,
            overwrite=self.geometry.overwrite,
            by_writer=self.geometry.by_writer,
            switch_timer_us=self.channel.options.switch_timer_us,
            read_timer_us=self.channel.options.read_timer_us,
            tracefile_size=self.channel.options.tracefile_size,
            tracefile_count=self.channel.options.tracefile_count,
        )


@dataclass(eq=False)
class TraceChannel:
    """A channel's buffers in one trace."""

    channel: Channel
    blob: bytes
    streams: list[Stream] = field(default_factory=list)


class Trace:
    """Buffers and metadata of a session's applications of one uid, or of one process.

    Parameters
    ----------
    path : str
        Below the session's output.
    first_stream : int
        Id of its first stream; they follow each other.
    files : TraceFiles, optional
        Where its buffers are files; owned.

    Raises
    ------
    OSError
        Its metadata file cannot be written.
    """

    def __init__(
        self,
        session: Session,
        owner: Owner,
        path: str,
        first_stream: int,
        files: TraceFiles | None = None,
    ) -> None:
        self.session = session
        self.owner = owner
        self.uid = owner.uid
        self.layout = owner.layout
        self.uuid = uuid.uuid4()
        self.id = str(self.uuid)
        self.path = path
        self.cpus = possible_cpus()
        self.channels: dict[int, TraceChannel] = {}
        self.closed = False
        #: nobody writes it any more
        self.ended = False
        #: it was given to a program of a pid namespace that ours does not see
        self.hidden_writers = False
        self._users = 0
        self._gone = False
        self._first_stream = first_stream
        self._files = files
        try:
            text = None if files is None else files.metadata()
            self.metadata = TraceMetadata(session, owner, self.uuid, text)
        except BaseException:
            self._remove_files()
            raise

    @property
    def streams(self) -> Iterator[Stream]:
        for channel in self.channels.values():
            yield from channel.streams

    def allocate(self) -> None:
        """Make the memory of every stream; slow, for a thread.

        Raises
        ------
        RingBufferError
            There is not enough memory.
        """
        number = self._first_stream
        enough = descriptors_leaving(_RESERVE)
        made: dict[int, TraceChannel] = {}
        try:
            for channel in self.session.channels:
                geometry = geometry_of(channel.options, self.layout)
                now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                blob = channel_blob(
                    geometry,
                    nr_streams=self.cpus,
                    channel_id=channel.id,
                    uuid=self.uuid.bytes,
                    now=now,
                    switch_timer_us=channel.options.switch_timer_us,
                    read_timer_us=channel.options.read_timer_us,
                    blocking_timeout_us=channel.options.blocking_timeout_us,
                )
                entry = made[channel.id] = TraceChannel(channel, blob)
                for cpu in range(self.cpus):
                    fd = self._create_memory(geometry, f"{channel.name}_{cpu}")
                    entry.streams.append(
                        Stream(number, cpu, channel, geometry, fd, self._files is not None)
                    )
                    if fd >= enough:
                        raise DescriptorsError("no file descriptors left for buffers")
                    self._initialise(entry.streams[-1])
                    number += 1
        except BaseException:
            close_all([stream.fd for entry in made.values() for stream in entry.streams])
            raise
        self.channels = made

    def _create_memory(self, geometry: Geometry, name: str) -> int:
        if self._files is not None:
            return self._files.create_memory(geometry, name)
        return create_memory(geometry, f"ust-{name}"[:200])

    def _initialise(self, stream: Stream) -> None:
        with stream.map() as memory:
            initialise(
                memory,
                stream.geometry,
                stream_nr=stream.cpu,
                cpu=stream.cpu,
                channel_id=stream.channel.id,
                uuid=self.uuid.bytes,
                now=time.clock_gettime_ns(time.CLOCK_MONOTONIC),
                active_readers=1,
            )

    def set_paused(self, paused: bool) -> None:
        """Have writers drop their events, or record them again.

        Whoever has begun an event finishes it: see WAIT_QUIESCENT.
        """
        for stream in self.streams:
            at = stream.geometry.places()["record_disabled"]
            # The word is in the control block, which is in the first page.
            with contextlib.suppress(RingBufferError), stream.map(_PAGE) as control:
                atomics.store_u32(control, at, int(paused))

    def switch(self, final: bool, channels: Collection[int] | None = None) -> None:
        """Close the packets being written: for a thread, while there is no consumer.

        Parameters
        ----------
        final : bool
            As for ``Ring.switch``.
        channels : collection of int, optional
            Ids of those concerned; default: all.
        """
        for stream in self.streams:
            if channels is not None and stream.channel.id not in channels:
                continue
            with contextlib.suppress(RingBufferError), stream.map() as memory:
                ring = Ring(
                    memory,
                    stream.geometry.places(),
                    uuid=self.uuid.bytes,
                    stream_id=stream.channel.id,
                    cpu=stream.cpu,
                )
                try:
                    ring.switch(final)
                finally:
                    ring.release()

    def clear(self) -> None:
        """Give back the packets of every stream unread: for a thread, without a consumer."""
        for stream in self.streams:
            with contextlib.suppress(RingBufferError), stream.map() as memory:
                ring = Ring(
                    memory,
                    stream.geometry.places(),
                    uuid=self.uuid.bytes,
                    stream_id=stream.channel.id,
                    cpu=stream.cpu,
                )
                try:
                    ring.switch(False)
                    for _ in range(stream.geometry.num_subbuf):
                        if not ring.get_next():
                            break
                        ring.put_next()
                finally:
                    ring.release()

    @property
    def size(self) -> int:
        """Bytes of all its buffers, made or not."""
        sizes = (geometry_of(c.options, self.layout).file_size for c in self.session.channels)
        return sum(sizes) * self.cpus

    def description(self) -> TraceDescription:
        """Return the layout of its records."""
        return TraceDescription(
            path=self.path,
            contexts=self.metadata.context_steps(),
            events=self.metadata.event_steps(),
        )

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the memory meanwhile, although the trace may be closed: for work in a thread."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._let_go()

    def close(self) -> None:
        """Let go of the memory; applications and consumers keep what they have."""
        self.closed = True
        self._let_go()

    def _let_go(self) -> None:
        if self.closed and not self._users and not self._gone:
            self._gone = True
            close_all([stream.fd for stream in self.streams])
            self.metadata.close()
            self._remove_files()

    def _remove_files(self) -> None:
        if self._files is not None:
            self._files.remove()
