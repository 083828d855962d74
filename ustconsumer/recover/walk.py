# SPDX-License-Identifier: MIT
"""How far the records of a packet make sense: sizes, declared events, times in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ustconsumer.ctf.classes import EventClass, StreamClass, TraceClass
from ustconsumer.ctf.decode import Form, StreamDecoder
from ustconsumer.ctf.types import EnumEntry, Integer
from ustconsumer.ctf.walk import Read, Walk
from ustconsumer.errors import DecodeError

__all__ = ["GoodRecords", "RecordWalk"]


class GoodRecords(NamedTuple):
    """The records at the beginning of a packet that make sense."""

    events: int
    #: bytes from the beginning of the packet
    end: int
    #: time of the last one, clock cycles; None if there is none
    last: int | None
    #: why it goes no further, empty at the end of the content
    problem: str


class _PlaceWalk(Walk[str]):
    """Makes nothing of what it goes over."""

    def integer(self, type_: Integer, value: str) -> str:
        return "None"

    def real(self, value: str) -> str:
        return "None"

    def text(self, value: str) -> str:
        return "None"

    def enumeration(self, type_: Integer, entries: tuple[EnumEntry, ...], value: str) -> str:
        return "None"

    def integers(self, type_: Integer, value: str, count: str) -> str:
        return "None"

    def struct(self, names: list[str], members: list[str]) -> str:
        return "None"

    def variant(self, choice: str) -> str:
        return "None"

    def expression(self, piece: str) -> str:
        return piece


class _Places(Form[int]):
    """Records become the place of their end."""

    def context(self, trace: TraceClass, stream: StreamClass, cpu_id: int) -> Read:
        walk = _PlaceWalk(trace.enums)
        return walk.function(walk.fields(stream.contexts))

    def payload(self, trace: TraceClass, event: EventClass) -> Callable[..., tuple[int, int]]:
        walk = _PlaceWalk(trace.enums)
        walk.fields(event.fields)
        return walk.function("at", ("context",))


_PLACES = _Places()


class RecordWalk:
    """Goes over the packets of one stream class.

    Raises
    ------
    DecodeError
        The class is not declared, or its records cannot be gone over.
    """

    def __init__(self, trace: TraceClass, stream_id: int) -> None:
        self._decoder = StreamDecoder(trace, stream_id, _PLACES)

    def good(self, content: bytes, at: int, begin: int, latest: int) -> GoodRecords:
        """Return which records at the beginning of a packet make sense.

        Parameters
        ----------
        content : bytes
            Of the packet, header included.
        at : int
            Where the records begin.
        begin, latest : int
            Times between which they are, clock cycles.
        """
        events, time = 0, begin
        records = self._decoder.records(content, at, begin)
        problem = ""
        try:
            for cycles, end in records:
                if not time <= cycles <= latest:
                    problem = f"event at byte {at} of the packet: its time cannot be"
                    break
                events, time, at = events + 1, cycles, end
        except DecodeError as error:
            problem = str(error)
        return GoodRecords(events, at, time if events else None, problem)
