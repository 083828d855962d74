# SPDX-License-Identifier: MIT
"""The tracer without sockets: a registry in the test's own process, and its buffers."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from ustconsumer._native.emit import Tracepoint
from ustconsumer.abi.application import APPLICATION_LAYOUTS, TRACER_LAYOUTS, CommandNumber
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.ctf.classes import Clock, EventClass, StreamClass, TraceClass
from ustconsumer.ctf.decode import VALUES, Record, StreamDecoder
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol import application
from ustconsumer.protocol.application import Command
from ustconsumer.protocol.contexts import parse_context
from ustconsumer.protocol.notify import ChannelRequest, EnumRequest, EventRequest
from ustconsumer.protocol.tracer import parse_command
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.channel import channel_blob
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.tracer import types
from ustconsumer.tracer.commands import Answer, Dispatcher
from ustconsumer.tracer.process import Process
from ustconsumer.tracer.registrar import RefusedError

__all__ = ["Buffers", "Declaration", "FakeRegistry", "declare", "pipe_signals", "registry"]

UUID = bytes(range(16))
_LAYOUTS = APPLICATION_LAYOUTS[9]
_TRACER = TRACER_LAYOUTS[9]


class Declaration:
    """A tracepoint as the tracer's API makes them, declared in a process."""

    def __init__(self, name: str, loglevel: int, uri: str, fields: dict[str, object]):
        self.name = name
        self.loglevel = loglevel
        self.model_emf_uri = uri
        self.fields = tuple((field, types.resolve(kind)) for field, kind in fields.items())
        self.signature = ", ".join(f"{kind!r}, {field}" for field, kind in self.fields)
        specs = (
            (field, kind.code, kind.values if isinstance(kind, types.Enumeration) else None)
            for field, kind in self.fields
        )
        self.native = Tracepoint(name, tuple(specs))
        self.provider: Any = None

    def __call__(self, *values: object) -> None:
        self.native(*values)


def declare(
    process: Process, name: str, level: int = 13, uri: str = "", **fields: object
) -> Declaration:
    """Declare a tracepoint with fields of the types given."""
    declaration: Any = Declaration(name, level, uri, fields)
    process.add(declaration)
    made: Declaration = declaration
    return made


class Buffers(NamedTuple):
    """A channel as the registry made it, and its handle in the program."""

    handle: int
    id: int
    geometry: Geometry
    memories: list[mmap.mmap]
    blob: bytes


class FakeRegistry:
    """A registry of one program: gives out ids, makes buffers, reads what is in them.

    Attributes
    ----------
    requests : list
        Everything that was asked on the notify socket, in order.
    refuse : dict
        Event names, enumeration names or channel handles, to the errno of the answer.
    """

    def __init__(self, process: Process):
        self.requests: list[EventRequest | EnumRequest | ChannelRequest] = []
        self.refuse: dict[str | int, int] = {}
        self.gone = False
        self.header_type = 2
        self.buffers: dict[int, Buffers] = {}
        self.dispatcher = Dispatcher(process, self)
        self._streams: dict[int, StreamClass] = {}
        self._events: dict[int, dict[int, EventClass]] = {}
        self._enums: dict[int, Any] = {}
        self._memories: list[mmap.mmap] = []
        self._pipes: list[int] = []

    # -- the registrar ---------------------------------------------------------------

    def event(self, request: EventRequest) -> int:
        """Number events per channel, from 0."""
        self._ask(request, request.name)
        channel = self.buffers[request.channel]
        known = self._events.setdefault(channel.id, {})
        known[len(known)] = EventClass(
            len(known),
            channel.id,
            request.name,
            request.loglevel,
            request.model_emf_uri,
            request.fields,
        )
        return len(known) - 1

    def enum(self, request: EnumRequest) -> int:
        """Number enumerations from 100."""
        self._ask(request, request.name)
        self._enums[100 + len(self._enums)] = request.entries
        return 99 + len(self._enums)

    def channel(self, request: ChannelRequest) -> tuple[int, int]:
        """Answer the id in the channel's object."""
        self._ask(request, request.channel)
        made = self.buffers[request.channel]
        self._streams[made.id] = StreamClass(made.id, False, request.contexts)
        return made.id, self.header_type

    def _ask(self, request: EventRequest | EnumRequest | ChannelRequest, key: str | int) -> None:
        if self.gone:
            raise OSError(32, "gone")
        self.requests.append(request)
        if key in self.refuse:
            raise RefusedError(-self.refuse[key])

    def events_asked(self, channel: int | None = None) -> list[str]:
        """Names of the program's own events that were registered, in order."""
        return [
            request.name
            for request in self.requests
            if isinstance(request, EventRequest)
            and not request.name.startswith("lttng_ust_statedump:")
            and channel in (None, request.channel)
        ]

    # -- commands ---------------------------------------------------------------------

    def try_(self, command: Command) -> Answer:
        """Have a command obeyed; descriptors are given away as copies."""
        head, *rest = command.steps
        fds = [os.dup(fd) for step in rest for fd in step.fds]
        data = b"".join(step.data for step in rest if not step.fds)
        return self.raw(head.data, data, fds)

    def raw(self, head: bytes, data: bytes = b"", fds: list[int] | None = None) -> Answer:
        """Have a command obeyed that is given as bytes."""
        command = parse_command(head)
        self.dispatcher.check(command)
        assert command.data_length == len(data)
        return self.dispatcher.execute(command, data, fds or [])

    def do(self, command: Command) -> int:
        """Have a command obeyed that must succeed; return its value."""
        answer = self.try_(command)
        assert answer.ret_code == 0, answer
        return answer.ret_val

    def send(self, handle: int, number: int, payload: bytes = b"", data: bytes = b"") -> Answer:
        """Have a command obeyed that our own registry never sends."""
        head = _LAYOUTS.command.pack({"handle": handle, "command": number, "payload": payload})
        return self.raw(head, data)

    # -- what a session is made of -------------------------------------------------------

    def session(self) -> int:
        """Make a session; return its handle."""
        return self.do(application.session())

    def make_channel(
        self,
        session: int,
        *,
        id: int = 7,  # noqa: A002 - the protocol's word
        subbuf_size: int = 65536,
        num_subbuf: int = 2,
        contexts: tuple[str, ...] = (),
        overwrite: bool = False,
        active_readers: int = 0,
        **options: Any,
    ) -> Buffers:
        """Make a channel with all its streams."""
        geometry = Geometry(
            RING_LAYOUTS["ust-9-x86_64"], subbuf_size, num_subbuf, overwrite=overwrite
        )
        cpus = possible_cpus()
        uuid = options.pop("uuid", UUID)
        blob = channel_blob(
            geometry, nr_streams=cpus, channel_id=id, uuid=uuid, now=1000, **options
        )
        handle = self.do(application.channel(session, blob, self.pipe()))
        made = Buffers(handle, id, geometry, [], blob)
        self.buffers[handle] = made
        for cpu in range(cpus):
            fd = create_memory(geometry, "test")
            memory = mmap.mmap(fd, geometry.file_size)
            self._memories.append(memory)
            identity: dict[str, Any] = {"cpu": cpu, "channel_id": id, "uuid": uuid}
            initialise(
                memory,
                geometry,
                stream_nr=cpu,
                now=time.monotonic_ns(),
                active_readers=active_readers,
                **identity,
            )
            made.memories.append(memory)
            self.do(application.stream(handle, cpu, geometry.file_size, fd, self.pipe()))
            os.close(fd)
        for name in contexts:
            self.do(application.context(handle, parse_context(name)))
        return made

    def pipe(self) -> int:
        """Return the write end of a new pipe; both ends are closed with the registry."""
        ends = os.pipe()
        self._pipes += ends
        return ends[1]

    def stop_reading(self) -> None:
        """Close the read ends of all pipes."""
        for fd in self._pipes[::2]:
            os.close(fd)

    def rule(self, channel: int, pattern: str = "*", level_type: int = 0, level: int = -1) -> int:
        """Make an event rule and enable it; return its handle."""
        handle = self.do(application.event(channel, pattern, level_type, level))
        self.do(application.enable(handle))
        return handle

    def recording(self, pattern: str = "*", **options: Any) -> tuple[int, Buffers]:
        """Make an active session of one channel and one rule."""
        session = self.session()
        made = self.make_channel(session, **options)
        self.rule(made.handle, pattern)
        self.do(application.enable(session))
        return session, made

    def notifier(self, group: int, pattern: str, token: int, index: int = 0) -> int:
        """Make an event notifier, disabled; return its handle."""
        wanted = {
            "name": pattern.encode(),
            "loglevel_type": 0,
            "loglevel": -1,
            "token": token,
            "error_index": index,
        }
        data = _TRACER.event_notifier.pack(wanted)
        length = _TRACER.event_notifier_length.pack({"length": len(data)})
        answer = self.send(group, CommandNumber.EVENT_NOTIFIER_CREATE, length, data)
        assert answer.ret_code == 0
        return answer.ret_val

    def group(self) -> tuple[int, int]:
        """Make a group of event notifiers; return its handle and the pipe to read."""
        head = _LAYOUTS.command.pack({"command": CommandNumber.EVENT_NOTIFIER_GROUP_CREATE})
        write = self.pipe()
        answer = self.raw(head, b"", [os.dup(write)])
        assert answer.ret_code == 0
        return answer.ret_val, self._pipes[-2]

    # -- what was recorded -----------------------------------------------------------------

    def records(self, made: Buffers, *, statedump: bool = False) -> list[Record]:
        """Return the events in a channel's buffers, which none of them has filled."""
        trace = TraceClass(
            UUID, {}, Clock("monotonic", 1_000_000_000, 0), self._streams, self._events, self._enums
        )
        decoder = StreamDecoder(trace, made.id, VALUES)
        found: list[tuple[int, Record]] = []
        for cpu, memory in enumerate(made.memories):
            control = made.geometry.layout.control
            end: int = control.get(memory, 0, "offset")
            assert end < made.geometry.subbuf_size
            content = memory[made.geometry.data : made.geometry.data + end]
            found += decoder.records(content, made.geometry.header_size, 0, cpu)
        found.sort(key=lambda pair: pair[0])
        records = [record for _, record in found]
        return [
            record
            for record in records
            if statedump or not record.event.name.startswith("lttng_ust_statedump:")
        ]

    def values(self, made: Buffers) -> list[tuple[str, dict[str, Any]]]:
        """Return name and fields of the program's own events."""
        return [(record.event.name, record.fields) for record in self.records(made)]

    def close(self) -> None:
        """Disconnect, and let go of the buffers."""
        self.dispatcher.close()
        for memory in self._memories:
            memory.close()
        for fd in self._pipes:
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def registry(process: Process) -> Iterator[FakeRegistry]:
    """Connect a registry to a process."""
    made = FakeRegistry(process)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def pipe_signals(blocked: bool) -> Iterator[list[int]]:
    """Collect the signals that a write to a pipe without a reader costs this thread.

    ``blocked``: it has blocked them itself, and has one waiting in the end.
    """
    seen: list[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, frame: seen.append(number))
    mask = {signal.SIGPIPE} if blocked else set()
    old = signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        yield seen
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        assert (signal.SIGPIPE in signal.sigpending()) == blocked
        if blocked:
            signal.sigtimedwait(mask, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        signal.signal(signal.SIGPIPE, before)
