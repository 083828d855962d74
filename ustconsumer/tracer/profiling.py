# SPDX-License-Identifier: MIT
"""Calls as ``sys.setprofile`` tells of them, in Python 3.11.

It tells of a frame that is entered and of one that is left; the instruction it is at tells
why. Threads that ran before are not heard of, except the one that starts it.
"""

from __future__ import annotations

import opcode
import sys
import threading

from ustconsumer.tracer.chosen import Known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from ustconsumer.tracer.calls import Points
    from ustconsumer.tracer.chosen import Chosen

__all__ = ["Profiling"]

#: CO_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR
_RESUMABLE = 0x20 | 0x80 | 0x100 | 0x200
_RESUME = opcode.opmap["RESUME"]
_RETURN = opcode.opmap["RETURN_VALUE"]
_YIELD = opcode.opmap["YIELD_VALUE"]
#: It does not tell which exception.
_SOME = "unknown"


class Profiling:
    """Is the profile function, and emits events."""

    def __init__(self, points: Points, chosen: Chosen) -> None:
        self._known = Known(chosen)
        self._profile: Any = _profile(points, self._known, self._stopped)
        self._before: Any = None
        self._before_of_threads: Any = None
        self._on = False

    def start(self) -> None:
        """Begin."""
        self._on = True
        self._before_of_threads = threading.getprofile()
        threading.setprofile(self._profile)
        self._before = sys.getprofile()
        sys.setprofile(self._profile)

    def stop(self) -> None:
        """End, and leave everything as it was; unless somebody took our place."""
        if sys.getprofile() is self._profile:
            sys.setprofile(self._before)
        if threading.getprofile() is self._profile:
            threading.setprofile(self._before_of_threads)
        self._on = False
        # Other threads notice when they find nothing.
        self._known.forget()

    def _stopped(self) -> bool:
        """Return whether it is over; then nothing is known any more, and nothing traced."""
        if self._on:
            return False
        # What was learnt since.
        self._known.forget()
        sys.setprofile(None)
        return True


def _profile(points: Points, known: Known, stopped: Callable[[], bool]) -> Any:
    places, learn = known.places.get, known.learn
    call, return_, yield_, resume = points.call, points.return_, points.yield_, points.resume
    #: frames that an exception was thrown into, and the instruction they were at
    thrown: dict[int, int] = {}

    # While it runs, it is told nothing: not even what a filter does.

    def profile(frame: FrameType, event: str, value: object) -> None:
        if event == "call":
            code = frame.f_code
            place = places(id(code))
            if place is None:
                place = learn(code)
                if stopped():
                    return
            if not place:
                return
            if not code.co_flags & _RESUMABLE:
                call(*place)
                return
            at = frame.f_lasti
            instruction, argument = code.co_code[at : at + 2]
            if instruction == _YIELD:
                thrown[id(frame)] = at
                resume(*place)
            elif instruction == _RESUME and argument:
                resume(*place)
            else:
                call(*place)
        elif event == "return":
            code = frame.f_code
            place = places(id(code))
            if place is None:
                place = learn(code)
                if stopped():
                    return
            if not place:
                return
            if value is not None and not code.co_flags & _RESUMABLE:
                return_(*place, "")
                return
            at = frame.f_lasti
            # An exception that nobody caught leaves a generator where it was thrown in.
            unmoved = thrown.pop(id(frame), -1) == at and value is None
            instruction = code.co_code[at]
            if instruction == _RETURN:
                return_(*place, "")
            elif instruction == _YIELD and not unmoved:
                yield_(*place)
            else:
                return_(*place, _SOME)

    return profile
