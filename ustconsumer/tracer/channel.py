# SPDX-License-Identifier: MIT
"""A channel in this process: its memory, its contexts, and what it records."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ustconsumer._native import emit
from ustconsumer.protocol.notify import ChannelRequest, EventRequest
from ustconsumer.tracer import contexts, describe
from ustconsumer.tracer.objects import MisuseError, Node
from ustconsumer.tracer.registrar import RefusedError
from ustconsumer.tracer.rules import Evaluate, Rule

if TYPE_CHECKING:
    from ustconsumer.tracer.blob import ChannelObject
    from ustconsumer.tracer.describe import Described
    from ustconsumer.tracer.registrar import Registrar
    from ustconsumer.tracer.session import Session

__all__ = ["Channel", "Event", "blocking_allowed"]

_MAX_CONTEXTS = 64


def blocking_allowed() -> bool:
    """Return whether the program's environment lets a full buffer block it."""
    # A privileged program does not listen to the environment of who started it.
    privileged = os.getuid() != os.geteuid() or os.getgid() != os.getegid()
    return "LTTNG_UST_ALLOW_BLOCKING" in os.environ and not privileged


class Event:
    """A tracepoint in a channel: the id of its events, and the rules that want them."""

    def __init__(self, declared: Described, event_id: int):
        self.declared = declared
        self.id = event_id
        self.rules: list[Rule] = []


class Channel(Node):
    """A channel; born enabled, of use once it has all its streams.

    Parameters
    ----------
    session : Session
    made : ChannelObject
    wake_fd : int
        Kept open and closed with the channel; nothing is written there.

    Attributes
    ----------
    events : dict of Event
        By name; what matched once stays, as its id does.
    rules : list of Rule
    """

    def __init__(self, session: Session, made: ChannelObject, wake_fd: int):
        self.session = session
        self.enabled = True
        self.events: dict[str, Event] = {}
        self.rules: list[Rule] = []
        self._made = made
        self._fds = [wake_fd]
        self._memories: list[mmap.mmap] = []
        self._wake_fds: list[int] = []
        self._contexts: list[str] = []
        self._native: emit.Channel | None = None
        self._dump: emit.Channel | None = None
        # Ids outlive a tracepoint that is taken back: asking for the same one twice is an
        # error where the buffers are of one process.
        self._ids: dict[EventRequest, int] = {}
        self._registered = False

    # -- being set up ----------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """All streams are there."""
        return len(self._memories) == self._made.nr_streams

    def add_stream(self, number: int, length: int, fds: list[int]) -> None:
        """Map the memory of the next stream; takes the descriptors: memory, wake-up pipe.

        Raises
        ------
        MisuseError
            Not the next one, or not enough memory. The descriptors are the caller's still.
        """
        if number != len(self._memories) or self.ready:
            raise MisuseError(errno.EINVAL)
        memory_fd, wake_fd = fds
        size = self._made.geometry.file_size
        # What is not there would be a SIGBUS, in the middle of the program's own work.
        if length < size or os.fstat(memory_fd).st_size < size:
            raise MisuseError(errno.EINVAL)
        os.set_blocking(wake_fd, False)
        self._memories.append(mmap.mmap(memory_fd, size))
        self._wake_fds.append(wake_fd)
        os.close(memory_fd)
        fds.clear()

    def add_context(self, name: str) -> None:
        """Have each event carry a context too.

        Raises
        ------
        MisuseError
            There already, or the program has no such thing.
        """
        if name in self._contexts:
            raise MisuseError(errno.EEXIST)
        if contexts.native(name) is None or len(self._contexts) >= _MAX_CONTEXTS:
            raise MisuseError(errno.EINVAL)
        self._contexts.append(name)

    def register(self, registrar: Registrar) -> None:
        """Describe the channel to the registry, once.

        Raises
        ------
        MisuseError
            The registry answers another id than it made the channel with.
        RefusedError, OSError, RemoteProtocolError
            As a `Registrar` does.
        """
        if self._registered:
            return
        fields = [
            field
            for name in self._contexts
            for field in contexts.described(name, self.session.enroll)
        ]
        request = ChannelRequest(self.session.handle, self.handle, tuple(fields))
        channel_id, header_type = registrar.channel(request)
        if channel_id != self._made.id or header_type not in (1, 2):
            raise MisuseError(errno.EINVAL)
        blocking_ms = self._made.blocking_ms if blocking_allowed() else 0
        self._native = self._writer(header_type, blocking_ms)
        # The state dump holds the lock: it must not wait for room.
        self._dump = self._writer(header_type, 0) if blocking_ms else self._native
        self._registered = True

    def _writer(self, header_type: int, blocking_ms: int) -> emit.Channel:
        carried = tuple(contexts.native(name) or ("u64", 0) for name in self._contexts)
        writer = emit.Channel(carried, header_type=header_type, blocking_ms=blocking_ms)
        for memory, identity in self._streams():
            writer.add_stream(memory, self._made.geometry.places(), **identity)
        return writer

    # -- recording -------------------------------------------------------------------------

    def match(
        self, rules: Iterable[Rule], wanted: Iterable[Described], registrar: Registrar
    ) -> None:
        """Register which tracepoints enabled rules want, where that is not known yet.

        A tracepoint that the registry refuses is not recorded; the others are.

        Raises
        ------
        OSError, RemoteProtocolError
            The registry is gone.
        """
        rules = [rule for rule in rules if rule.enabled]
        for declared in wanted:
            for rule in rules:
                if rule.matches(declared.name, declared.loglevel):
                    event = self._event(declared, registrar)
                    if event and rule not in event.rules:
                        event.rules.append(rule)

    def _event(self, declared: Described, registrar: Registrar) -> Event | None:
        event = self.events.get(declared.name)
        if event is None:
            try:
                event = Event(declared, self._event_id(declared, registrar))
            except RefusedError:
                return None
            self.events[declared.name] = event
        return event

    def _event_id(self, declared: Described, registrar: Registrar) -> int:
        request = EventRequest(
            session=self.session.handle,
            channel=self.handle,
            name=declared.name,
            loglevel=declared.loglevel,
            signature=declared.signature,
            fields=describe.fields(declared, self.session.enroll),
            model_emf_uri=declared.model_emf_uri,
        )
        if request not in self._ids:
            self._ids[request] = registrar.event(request)
        return self._ids[request]

    def drop_rule(self, rule: Rule) -> None:
        """Record nothing on behalf of a rule any more."""
        if rule in self.rules:
            self.rules.remove(rule)
        for event in self.events.values():
            if rule in event.rules:
                event.rules.remove(rule)

    def drop_event(self, declared: Described) -> None:
        """Forget a tracepoint that is no more."""
        event = self.events.pop(declared.name, None)
        for rule in event.rules if event else ():
            rule.forget(declared)

    def recorder(self, declared: Described, *, dump: bool = False) -> emit.Recorder | None:
        """Return what records a tracepoint, None if it is not wanted now.

        ``dump``: for the state dump, which never waits for room.
        """
        native = self._dump if dump else self._native
        event = self.events.get(declared.name)
        if event is None or native is None or not self.enabled:
            return None
        rules = [rule for rule in event.rules if rule.enabled]
        if not rules:
            return None
        filters: list[Evaluate] = []
        for rule in rules:
            own = rule.filters(declared)
            if own is None:
                return emit.Recorder(native, event.id)
            filters += own
        return emit.Recorder(native, event.id, tuple(filters))

    def flush(self) -> None:
        """Close the packets that are being written, so that they can be read."""
        from ustconsumer._native.ring import Ring

        for memory, identity in self._streams():
            ring = Ring(memory, self._made.geometry.places(), **identity)
            try:
                ring.switch(final=False)
            finally:
                ring.release()

    def _streams(self) -> Iterator[tuple[mmap.mmap, dict[str, Any]]]:
        pairs = zip(self._memories, self._wake_fds, strict=True)
        for cpu, (memory, wake_fd) in enumerate(pairs):
            identity = {"uuid": self._made.uuid, "stream_id": self._made.id}
            yield memory, identity | {"cpu": cpu, "wake_fd": wake_fd}

    # -- the end ---------------------------------------------------------------------------

    def destroy(self) -> None:
        """Stop recording, and give the memory and the descriptors back."""
        self.enabled = False
        self.session.drop_channel(self)
        for writer in (self._native, self._dump):
            if writer is not None:
                writer.release()
        self._native = self._dump = None
        for memory in self._memories:
            memory.close()
        for fd in (*self._wake_fds, *self._fds):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._memories, self._wake_fds, self._fds = [], [], []
        self.events = {}
