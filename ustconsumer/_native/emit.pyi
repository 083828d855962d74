# SPDX-License-Identifier: MIT
from collections.abc import Callable, Mapping

from typing_extensions import Buffer

__all__ = [
    "Channel",
    "Recorder",
    "Reservation",
    "Tracepoint",
    "Writer",
    "after_fork",
    "current_cpu",
    "procname",
    "quiesce",
    "set_thread_name",
]

class Channel:
    """The writing side of one channel in this process.

    Parameters
    ----------
    contexts : tuple
        What each event carries besides its fields, in order: (kind, argument). Kinds
        are "vtid" "vpid" "pthread_id" "procname" "cpu_id" "vuid" "veuid" "vsuid" "vgid"
        "vegid" "vsgid" (argument None), "u64" (an int recorded as is: namespaces, ip), "app"
        (a callable without arguments that returns None, an int, a float or a str).
    header_type : int
        1 compact, 2 large: what the registry answered.
    blocking_ms : int
        How long to wait for room; 0 not at all, -1 for ever.
    """

    header_type: int
    @property
    def blocking_ms(self) -> int: ...
    def __init__(
        self,
        contexts: tuple[tuple[str, object], ...] = (),
        *,
        header_type: int = 2,
        blocking_ms: int = 0,
    ) -> None: ...
    def add_stream(
        self,
        memory: Buffer,
        places: Mapping[str, int],
        *,
        uuid: bytes,
        stream_id: int,
        cpu: int,
        wake_fd: int,
    ) -> None:
        """Add the buffer of the next CPU; the memory stays exported until `release`."""
    def release(self) -> None:
        """Let go of the memory. Emissions that still hold the channel record nothing."""

class Recorder:
    """One event of one channel; records if ``filters`` is None or any of them accepts.

    A filter gets the event's values: a tuple with an int for integers and enumerations,
    a float, bytes for a string (without its NUL) and for sequences of 8-bit integers, a
    tuple of int for other sequences. It accepts with a true value; an exception rejects.
    """

    def __init__(
        self,
        channel: Channel,
        event_id: int,
        filters: tuple[Callable[[tuple[object, ...]], object], ...] | None = None,
    ) -> None: ...
    @property
    def channel(self) -> Channel: ...
    @property
    def event_id(self) -> int: ...
    @property
    def filters(self) -> tuple[Callable[[tuple[object, ...]], object], ...] | None: ...

class Reservation:
    """Bytes reserved and written for one event, not yet committed."""

    def commit(self) -> None:
        """Count the bytes as written; delivers the sub-buffer if they were the last."""

class Writer:
    """Writes encoded events into one stream, as `ustconsumer.ringbuffer.reserve` does."""

    @property
    def header_type(self) -> int: ...
    def __init__(
        self,
        memory: Buffer,
        places: Mapping[str, int],
        *,
        uuid: bytes,
        stream_id: int,
        cpu: int,
        wake_fd: int = -1,
        header_type: int = 2,
    ) -> None: ...
    def reserve(self, event_id: int, payload: bytes, now: int = 0) -> Reservation | int:
        """Reserve space for an event and write it; return a negative errno if it is lost.

        ``now``: its time, 0 that of the clock.
        """
    def write(self, event_id: int, payload: bytes, now: int = 0) -> int:
        """Write an event; return 0 or a negative errno as the tracer does."""

class Tracepoint:
    """A tracepoint: calling it emits an event, positionally or with field names.

    Parameters
    ----------
    name : str
        ``provider:event``.
    fields : tuple of (name, code, values)
        ``code`` of `ustconsumer.tracer.types.FieldType`; ``values`` what an enumeration
        takes for an integer (a mapping), else None.
    truncate : bool
        Cut what does not fit instead of raising: integers keep their low bits, text ends
        before a NUL, characters UTF-8 does not have become question marks.
    """

    @property
    def name(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def truncate(self) -> bool: ...
    #: False: an event would be recorded by nobody, and calling costs nothing.
    @property
    def enabled(self) -> bool: ...
    def __init__(
        self,
        name: str,
        fields: tuple[tuple[str, int, Mapping[object, int] | None], ...],
        truncate: bool = False,
    ) -> None: ...
    def __call__(self, *values: object, **named: object) -> None: ...
    def bind(
        self,
        recorders: tuple[Recorder, ...],
        notifiers: tuple[Callable[[tuple[object, ...]], object], ...] = (),
    ) -> None:
        """Say who records an event, replacing what was said before.

        ``notifiers`` are called with the event's values, as filters are, after it was
        recorded; what they return or raise is ignored.
        """
    def emit_to(self, recorder: Recorder, *values: object) -> bool:
        """Record an event with one recorder only, bound or not; tell whether there was room."""

def quiesce(timeout_ms: int) -> bool:
    """Wait until every emission that had begun has ended; False if the time was not enough."""

def set_thread_name(name: bytes) -> None:
    """Set the calling thread's name in the kernel, at most 15 bytes."""

def current_cpu() -> int:
    """Return the CPU the calling thread runs on."""

def procname() -> bytes:
    """Return the calling thread's name, as the context ``procname`` records it."""

def after_fork() -> None:
    """Forget what was remembered of threads and of this process."""
