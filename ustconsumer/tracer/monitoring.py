# SPDX-License-Identifier: MIT
"""Calls as ``sys.monitoring`` tells of them, in Python 3.12 and later.

What is not traced costs nothing from its second time on: the interpreter is told to leave
it out.
"""

from __future__ import annotations

import sys
from _thread import get_ident

from ustconsumer.tracer.chosen import Known
from ustconsumer.tracer.listener import listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

    from ustconsumer.tracer.calls import Points
    from ustconsumer.tracer.chosen import Chosen

__all__ = ["Monitoring"]

_NAME = "ustconsumer"
#: Tools the interpreter may have besides those that have a number of their own, and then
#: the profiler's and the optimizer's.
_NUMBERS = (4, 3, 2, 5)


class Monitoring:
    """Tells the interpreter to call us, and emits events."""

    def __init__(self, points: Points, chosen: Chosen) -> None:
        self._tool = -1
        # `Any`: before 3.12 there is no such module, and type checkers know.
        self._monitoring: Any = getattr(sys, "monitoring")  # noqa: B009
        self._callbacks = _callbacks(points, Known(chosen), self._monitoring.DISABLE)

    def start(self) -> None:
        """Begin; raises RuntimeError where the interpreter has no room for us."""
        monitoring = self._monitoring
        for number in _NUMBERS:
            try:
                monitoring.use_tool_id(number, _NAME)
            except ValueError:
                continue
            self._tool = number
            break
        else:
            raise RuntimeError("other tools watch this program: sys.monitoring has no tool id left")
        wanted = 0
        for name, callback in self._callbacks.items():
            event = getattr(monitoring.events, name)
            monitoring.register_callback(self._tool, event, callback)
            wanted |= event
        monitoring.set_events(self._tool, wanted)
        # What a tool of this number did not want to hear of is still left out.
        monitoring.restart_events()

    def stop(self) -> None:
        """End, and leave everything as it was."""
        monitoring, tool = self._monitoring, self._tool
        if tool < 0 or monitoring.get_tool(tool) != _NAME:
            return
        self._tool = -1
        monitoring.set_events(tool, 0)
        for name in self._callbacks:
            monitoring.register_callback(tool, getattr(monitoring.events, name), None)
        monitoring.free_tool_id(tool)


def _callbacks(points: Points, known: Known, disable: object) -> dict[str, Any]:
    """Return a function for each event; what they need is in cells, not in attributes."""
    places, learn = known.places.get, known.learn

    # In a callback, nothing is told to callbacks: not even what a filter does.
    # Our own thread runs functions of the library that the program runs too.

    def tell(point: Callable[..., None], *more: str) -> Callable[..., object]:
        def callback(code: CodeType, offset: int, value: object = None) -> object:
            place = places(id(code))
            if place is None:
                place = learn(code)
            if not place:
                return disable
            if get_ident() != listener.ident:
                point(*place, *more)
            return None

        return callback

    # Of these two the interpreter leaves nothing out.

    def on_throw(code: CodeType, offset: int, error: BaseException) -> None:
        place = places(id(code))
        if place is None:
            place = learn(code)
        if place and get_ident() != listener.ident:
            points.resume(*place)

    def on_unwind(code: CodeType, offset: int, error: BaseException) -> None:
        place = places(id(code))
        if place is None:
            place = learn(code)
        if place and get_ident() != listener.ident:
            points.return_(*place, type(error).__name__)

    return {
        "PY_START": tell(points.call),
        "PY_RESUME": tell(points.resume),
        "PY_RETURN": tell(points.return_, ""),
        "PY_YIELD": tell(points.yield_),
        "PY_THROW": on_throw,
        "PY_UNWIND": on_unwind,
    }
