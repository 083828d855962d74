# SPDX-License-Identifier: MIT
"""Event notifiers: events that are told to the registry at once, through a pipe."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ustconsumer.protocol.tracer import notification
from ustconsumer.tracer import contexts
from ustconsumer.tracer.errorcounter import ErrorCounter
from ustconsumer.tracer.objects import MisuseError, Node
from ustconsumer.tracer.packing import array, packed
from ustconsumer.tracer.rules import Rule, passes

if TYPE_CHECKING:
    import signal as _signal

    from ustconsumer.tracer.bytecode import Bytecode
    from ustconsumer.tracer.describe import Described

else:
    # Numbers instead of enumerations: each notification would make some.
    import _signal

__all__ = ["Notifier", "NotifierGroup"]

#: What a pipe takes whole or not at all.
_ATOMIC = select.PIPE_BUF
_PIPE = (_signal.SIGPIPE,)

Notify = Callable[[tuple[object, ...]], object]


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
        self.counter = ErrorCounter(self._uncounted, values)
        return self.counter

    def _uncounted(self) -> None:
        self.counter = None

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
            if not passes(filters, values):
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
