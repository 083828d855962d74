# SPDX-License-Identifier: MIT
"""Event notifiers: events that are told to the registry at once, through a pipe."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ustconsumer.protocol.tracer import notification
from ustconsumer.tracer import contexts
from ustconsumer.tracer.objects import MisuseError, Node
from ustconsumer.tracer.rules import Rule

if TYPE_CHECKING:
    import signal as _signal

    from ustconsumer.tracer.bytecode import Bytecode
    from ustconsumer.tracer.describe import Described

else:
    # Numbers instead of enumerations: each notification would make some.
    import _signal

__all__ = ["ErrorCounter", "Notifier", "NotifierGroup", "packed"]

#: What a pipe takes whole or not at all.
_ATOMIC = select.PIPE_BUF
_PIPE = (_signal.SIGPIPE,)
_MAX_CPUS = 1 << 14
_MAX_COUNTERS = 1 << 24

Notify = Callable[[tuple[object, ...]], object]


# -- captures as msgpack ------------------------------------------------------------------


def packed(value: object) -> bytes:
    """Return a captured value as msgpack.

    An int, a float, text as bytes, a list, None for what is not there; a captured
    enumeration has its integer as ``value``.
    """
    if value is None:
        return b"\xc0"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, bytes):
        return _head(len(value), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + value
    if isinstance(value, list | tuple):
        return array([packed(element) for element in value])
    number = getattr(value, "value", None)
    if isinstance(number, int):
        return b"\x82\xa4type\xa4enum\xa5value" + _integer(number)
    return b"\xc0"


def array(elements: list[bytes]) -> bytes:
    """Return an array of what is packed already."""
    return _head(len(elements), 0x90, 15, (None, 0xDC, 0xDD)) + b"".join(elements)


def _head(length: int, fixed: int, most: int, codes: tuple[int | None, int, int]) -> bytes:
    if length <= most:
        return bytes((fixed | length,))
    for code, bits in zip(codes, (8, 16, 32), strict=True):
        if code is not None and length < 1 << bits:
            return bytes((code,)) + length.to_bytes(bits // 8, "big")
    raise OverflowError(length)


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b", value) if value < 0 else bytes((value,))
    if value >= 0:
        for code, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
            if value < 1 << 8 * size:
                return bytes((code,)) + value.to_bytes(size, "big")
    for code, size in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
        if value >= -(1 << 8 * size - 1) and value < 0:
            return bytes((code,)) + value.to_bytes(size, "big", signed=True)
    raise OverflowError(value)


# -- the objects ---------------------------------------------------------------------------


class ErrorCounter(Node):
    """Counts, per notifier, what did not fit into the pipe; one memory per CPU.

    Parameters
    ----------
    group : NotifierGroup
    values : dict
        Configuration of a counter, as in its row.
    """

    def __init__(self, group: NotifierGroup, values: dict[str, Any]):
        if (
            values["arithmetic"] != 0
            or values["dimensions"] != 1
            or values["bitness"] not in (0, 1)
        ):
            raise MisuseError(errno.EINVAL)
        if not 1 <= values["size"] <= _MAX_COUNTERS:
            raise MisuseError(errno.EINVAL)
        self._group = group
        self._size: int = values["size"]
        self._width = 8 if values["bitness"] else 4
        self._memories: dict[int, mmap.mmap] = {}

    @property
    def length(self) -> int:
        """Bytes of one CPU's memory: the counters, then two bits for each."""
        return self._size * self._width + 2 * (self._size // 8)

    def add_cpu(self, cpu: int, length: int, fds: list[int]) -> None:
        """Map the memory of one CPU; the descriptor stays the caller's."""
        if cpu >= _MAX_CPUS or length != self.length or os.fstat(fds[0]).st_size < length:
            raise MisuseError(errno.EINVAL)
        if cpu in self._memories:
            raise MisuseError(errno.EBUSY)
        self._memories[cpu] = mmap.mmap(fds[0], length)

    def count(self, index: int) -> None:
        """Count one loss of a notifier; an index that is none is not counted."""
        from ustconsumer._native import atomics, emit

        memory = self._memories.get(emit.current_cpu())
        if memory is None or not 0 <= index < self._size:
            return
        if self._width == 8:
            atomics.fetch_add_u64(memory, index * 8, 1)
            return
        # Two of 32 bits share the word that can be added to. Others write here too.
        at, shift = index * 4 & -8, 32 * (index & 1)
        while True:
            old = atomics.load_u64(memory, at)
            low = old >> shift & 0xFFFFFFFF
            new = old & ~(0xFFFFFFFF << shift) | (low + 1 & 0xFFFFFFFF) << shift
            if atomics.cas_u64(memory, at, old, new) == old:
                return

    def destroy(self) -> None:
        """Unmap."""
        self._group.counter = None
        for memory in self._memories.values():
            memory.close()
        self._memories = {}


class NotifierGroup(Node):
    """The notifiers of one registry, and the pipe they write to.

    Parameters
    ----------
    fds : list of int
        The write end of the pipe; taken.
    bind : callable
        To be called with each tracepoint of which who is told has changed.
    siblings : list of NotifierGroup
        Of the same registry; this one is in it as long as it lives.
    """

    def __init__(
        self,
        fds: list[int],
        tracepoints: Callable[[], list[Described]],
        bind: Callable[[Described], None],
        siblings: list[NotifierGroup],
    ):
        os.set_blocking(fds[0], False)
        self._fd = fds[0]
        fds.clear()
        self.notifiers: list[Notifier] = []
        self.counter: ErrorCounter | None = None
        self._tracepoints = tracepoints
        self._bind = bind
        self._siblings = siblings
        siblings.append(self)

    def add_counter(self, values: dict[str, Any]) -> ErrorCounter:
        """Make the group's one counter."""
        if self.counter is not None:
            raise MisuseError(errno.EBUSY)
        self.counter = ErrorCounter(self, values)
        return self.counter

    def send(self, token: int, captures: bytes, index: int) -> None:
        """Write one notification, whole or not at all."""
        if self._fd < 0:
            return
        try:
            _write(self._fd, notification(token, captures))
        except BlockingIOError:
            if self.counter is not None:
                self.counter.count(index)
        except OSError:
            # The registry is gone; its connection says so too.
            return

    def changed(self, notifier: Notifier) -> None:
        """Heed what changed of a notifier."""
        for declared in self._tracepoints():
            if notifier.matches(declared.name, declared.loglevel):
                self._bind(declared)

    def destroy(self) -> None:
        """Close the pipe. The notifiers are gone: they are its children."""
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1
        self._siblings.remove(self)


def _write(fd: int, message: bytes) -> None:
    """Write to a pipe; that nobody reads it is no matter of the program's signals."""
    blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, _PIPE)
    try:
        os.write(fd, message)
    except BrokenPipeError:
        if _signal.SIGPIPE not in blocked:
            _signal.sigtimedwait(_PIPE, 0)
        raise
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)


class Notifier(Rule):
    """A rule whose events are told through the pipe, with values captured from them.

    Parameters
    ----------
    values : dict
        As of an event rule, with ``token`` and ``error_index``.
    """

    def __init__(self, group: NotifierGroup, values: dict[str, Any]):
        super().__init__(values)
        self.group = group
        self._token: int = values["token"]
        self._index: int = values["error_index"]
        self._captures: list[tuple[int, Bytecode | None]] = []
        group.notifiers.append(self)

    def add_capture(self, bytecode: Bytecode | None, position: int) -> None:
        """Add a value to the notification; None for bytecode that made no sense."""
        self._captures.append((position, bytecode))
        self._captures.sort(key=lambda capture: capture[0])

    def notify(self, declared: Described) -> Notify:
        """Return what tells of an event of a tracepoint, given its values."""
        filters = self.filters(declared)
        captures = [_capture(bytecode, declared) for _, bytecode in self._captures]

        def notify(values: tuple[object, ...]) -> None:
            if filters is not None and not _any(filters, values):
                return
            raw = _captured(captures, values) if captures else b""
            self.group.send(self._token, raw, self._index)

        return notify

    def destroy(self) -> None:
        """Tell of nothing any more."""
        self.enabled = False
        if self in self.group.notifiers:
            self.group.notifiers.remove(self)
        self.group.changed(self)


def _capture(bytecode: Bytecode | None, declared: Described) -> Notify:
    from ustconsumer.tracer.compile import LinkError, capture_of

    if bytecode is None:
        return _nothing
    try:
        return capture_of(bytecode, declared.fields, contexts)
    except LinkError:
        return _nothing


def _nothing(values: tuple[object, ...]) -> None:
    return None


def _any(filters: tuple[Notify, ...], values: tuple[object, ...]) -> bool:
    for accepts in filters:
        try:
            if accepts(values):
                return True
        except Exception:  # noqa: S112 - an error rejects, as with events
            continue
    return False


def _captured(captures: list[Notify], values: tuple[object, ...]) -> bytes:
    """Return the captures as one array; what does not fit, or cannot be had, is nil."""
    room = _ATOMIC - len(notification(0, b"")) - 5 - len(captures)
    elements = []
    for capture in captures:
        try:
            raw = packed(capture(values))
        except Exception:
            raw = packed(None)
        if len(raw) - 1 > room:
            raw = packed(None)
        room -= len(raw) - 1
        elements.append(raw)
    return array(elements)
