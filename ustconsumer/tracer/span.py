# SPDX-License-Identifier: MIT
"""What takes time: an event when it begins, another when it ends, each with its number."""

from __future__ import annotations

import os
from _contextvars import ContextVar
from itertools import count

from ustconsumer.tracer.types import string, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from ustconsumer._native.emit import Tracepoint

    Function = TypeVar("Function", bound=Callable[..., Any])

__all__ = ["END_FIELDS", "RESERVED", "Running", "Span", "current", "switch"]

#: The first fields of NAME_begin.
RESERVED = {"span_id": u64, "parent_id": u64}
#: The fields of NAME_end; ``exception`` is the name of its type, or empty.
END_FIELDS = {"span_id": u64, "exception": string}
#: A number of a span is the process's, then this many bits that count.
_COUNT_BITS = 40

_current: ContextVar[Running | None] = ContextVar("ustconsumer span", default=None)


def _numbers() -> Iterator[int]:
    return count((os.getpid() << _COUNT_BITS) + 1)


_number = _numbers()


def _after_fork() -> None:
    global _number
    _number = _numbers()


os.register_at_fork(after_in_child=_after_fork)


def current() -> Running | None:
    """Return the innermost span that is running where this is called."""
    return _current.get()


def switch(running: Running | None) -> Running | None:
    """Make a span the innermost one here, until switched back; return which was."""
    before = _current.get()
    _current.set(running)
    return before


class Span:
    """Something that takes time: ``with span(cart=1):``, or ``@span`` on a function.

    Spans inside others know their parent, over tasks of asyncio too: a task starts inside
    the span that created it. An exception that leaves a span is recorded and goes on.
    What began while nobody recorded it has no end either.

    Functions may be ordinary ones, coroutines, and generators of both kinds; those are
    inside the span only while they run. Fields get the values of the parameters that have
    their names.

    Attributes
    ----------
    name : str
        ``provider:span``, without ``_begin`` and ``_end``.
    begin, end : Tracepoint
    fields : tuple of str
        What is given when it begins.
    """

    __slots__ = ("begin", "end", "fields", "name")

    def __init__(
        self, name: str, begin: Tracepoint, end: Tracepoint, fields: tuple[str, ...]
    ) -> None:
        self.name = name
        self.begin = begin
        self.end = end
        self.fields = fields

    @property
    def enabled(self) -> bool:
        """False: nobody records it."""
        return self.begin.enabled or self.end.enabled

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Return what to enter, or a function that is a span.

        Given a function and nothing else, decorates it; else the values of the fields, by
        position or by name.
        """
        if len(values) == 1 and not named and _is_function(values[0]):
            from ustconsumer.tracer.wrap import wrap

            return wrap(self, values[0])
        if self.begin.enabled or self.end.enabled:
            return Running(self, values, named)
        return _IDLE

    def __repr__(self) -> str:
        return f"<span {self.name}({', '.join(self.fields)})>"


class Running:
    """One run of a span, from entering to leaving it.

    Attributes
    ----------
    number : int
        ``span_id`` of its events; 0 before it begins.
    """

    __slots__ = ("_ended", "_named", "_parent", "_span", "_values", "number")

    def __init__(self, span: Span, values: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._span = span
        self._values = values
        self._named = named
        self._parent: Running | None = None
        self._ended = False
        self.number = 0

    def begin(self) -> None:
        """Emit the first event; the innermost span becomes the parent."""
        if self.number:
            raise RuntimeError(f"span {self._span.name} was entered: call it for another one")
        parent = _current.get()
        number = next(_number)
        self._span.begin(
            number, 0 if parent is None else parent.number, *self._values, **self._named
        )
        self.number = number
        self._parent = _living(parent)
        self._values, self._named = (), {}

    def finish(self, error: BaseException | None) -> None:
        """Emit the last event."""
        self._ended = True
        # Of tasks that go on in new tasks, each keeps the one before, not all of them.
        self._parent = _living(self._parent)
        self._span.end(self.number, "" if error is None else type(error).__name__)

    def __enter__(self) -> Running:
        self.begin()
        _current.set(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # Generators and tasks may leave in another order than they entered, or elsewhere.
        if _current.get() is self:
            _current.set(_living(self._parent))
        self.finish(error)


def _is_function(value: object) -> bool:
    return callable(value) or isinstance(value, classmethod)


def _living(running: Running | None) -> Running | None:
    while running is not None and running._ended:
        running = running._parent
    return running


class _Idle:
    """Entered in the place of a span that nobody records."""

    __slots__ = ()
    number = 0

    def __enter__(self) -> _Idle:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        pass


_IDLE = _Idle()
