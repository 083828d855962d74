# SPDX-License-Identifier: MIT
"""Events where functions of Python are entered and left, without a change to them."""

from __future__ import annotations

import atexit
import os
import sys
from _thread import RLock

from ustconsumer.tracer.chosen import Chosen
from ustconsumer.tracer.levels import Level
from ustconsumer.tracer.provider import Provider
from ustconsumer.tracer.types import string, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ustconsumer._native.emit import Tracepoint

    class Watch(Protocol):
        """What has the interpreter tell of calls."""

        def start(self) -> None:
            """Begin; raises RuntimeError where the interpreter has no room for us."""

        def stop(self) -> None:
            """End, and leave everything as it was."""


__all__ = ["EVENTS", "Calls", "Points", "trace_calls"]

_FIELDS = {"name": string, "file": string, "line": u32}
#: Events of the provider ``python`` and their fields.
EVENTS = {
    "call": _FIELDS,
    "return": {**_FIELDS, "exception": string},
    "yield": _FIELDS,
    "resume": _FIELDS,
}


class Points:
    """The tracepoints.

    Attributes
    ----------
    call, resume : Tracepoint
        A function begins; a generator or coroutine goes on.
    return_, yield_ : Tracepoint
        A function ends, by an exception too; a generator or coroutine stops for a while.
    """

    __slots__ = ("call", "resume", "return_", "yield_")

    def __init__(self) -> None:
        provider = Provider("python")

        def declare(event: str) -> Tracepoint:
            return provider.tracepoint(
                event, level=Level.DEBUG_FUNCTION, truncate=True, fields=EVENTS[event]
            )

        self.call = declare("call")
        self.return_ = declare("return")
        self.yield_ = declare("yield")
        self.resume = declare("resume")


class Calls:
    """Calls that become events between `start` and `stop`, or inside ``with``.

    Events: ``python:call`` and ``python:return`` with ``name``, ``file`` and ``line`` of the
    function, and for a return ``exception``: the name of its type, or empty. Generators and
    coroutines have ``python:yield`` and ``python:resume`` in between, so that what is entered
    is left in the opposite order in each thread.

    Of several of them that overlap, a call chosen by any is one event.
    """

    def __init__(self, targets: tuple[object, ...]) -> None:
        self.chosen = Chosen(targets)
        _points()

    def start(self) -> Calls:
        """Begin; nothing if it has begun.

        Raises
        ------
        RuntimeError
            Other tools have taken all the room there is in the interpreter.
        """
        with _lock:
            if self not in _active:
                _change([*_active, self])
        return self

    def stop(self) -> None:
        """End; what was there before is put back."""
        with _lock:
            if self in _active:
                _change([each for each in _active if each is not self])

    def __enter__(self) -> Calls:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()


def trace_calls(*targets: object) -> Calls:
    """Return what makes events of calls: enter it, or `Calls.start` it.

    Parameters
    ----------
    *targets : module, class, function, or str
        What is traced: the functions of a module, and of a package with all that is in it, by
        name or itself; the methods of a class; a function. Without any: every function of
        the program, but not the import system's, nor this package's own.

    Raises
    ------
    TypeError
        It is none of these, or not written in Python.
    """
    return Calls(targets)


_lock = RLock()
_active: list[Calls] = []
_watch: Watch | None = None
_made: Points | None = None


def _points() -> Points:
    global _made
    with _lock:
        if _made is None:
            _made = Points()
        return _made


def _change(active: list[Calls]) -> None:
    """Have the interpreter tell of what all of them chose together."""
    global _active, _watch
    if _watch is not None:
        _watch.stop()
        _watch = None
    _active = []
    if active:
        watch = _new_watch(_points(), Chosen.together([each.chosen for each in active]))
        watch.start()
        _watch = watch
        _active = active


def _new_watch(points: Points, chosen: Chosen) -> Watch:
    if sys.version_info >= (3, 12):
        from ustconsumer.tracer.monitoring import Monitoring

        return Monitoring(points, chosen)
    from ustconsumer.tracer.profiling import Profiling

    return Profiling(points, chosen)


def _end() -> None:
    # Nobody is told of what the interpreter does to end.
    with _lock:
        _change([])


def _after_fork() -> None:
    _lock._at_fork_reinit()  # type: ignore[attr-defined]


atexit.register(_end)
os.register_at_fork(after_in_child=_after_fork)
