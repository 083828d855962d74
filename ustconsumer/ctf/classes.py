# SPDX-License-Identifier: MIT
"""What a trace's metadata declares: trace, clock, stream classes, event classes.

`ustconsumer.ctf.declared` reads it from TSDL text; `ustconsumer.ctf.metadata` is the writer.
Names are without the leading ``_`` of TSDL, types those of `ustconsumer.ctf.types`.
"""

from __future__ import annotations

import msgspec

from ustconsumer.ctf.types import EnumEntry, Field

__all__ = ["Clock", "EventClass", "StreamClass", "TraceClass"]

_SECOND = 1_000_000_000


class Clock(msgspec.Struct, frozen=True):
    """Cycles to time: ``offset_s`` seconds and ``offset`` cycles after the epoch is cycle 0."""

    name: str
    frequency: int
    offset: int
    offset_s: int = 0

    def nanoseconds(self, cycles: int) -> int:
        """Return nanoseconds since the epoch, rounded as babeltrace2 does."""
        seconds, rest = divmod(self.offset, self.frequency)
        base = (self.offset_s + seconds) * _SECOND
        return base + _scaled(rest, self.frequency) + _scaled(cycles, self.frequency)


def _scaled(cycles: int, frequency: int) -> int:
    return cycles if frequency == _SECOND else int(1e9 * cycles / frequency)


class StreamClass(msgspec.Struct, frozen=True):
    """A channel. ``compact``: its event headers are of the compact kind, else large."""

    id: int
    compact: bool
    contexts: tuple[Field, ...]


class EventClass(msgspec.Struct, frozen=True):
    """A tracepoint in a channel."""

    id: int
    stream_id: int
    name: str
    loglevel: int | None
    model_emf_uri: str
    fields: tuple[Field, ...]


class TraceClass(msgspec.Struct):
    """All of it; grows as metadata is appended.

    ``enums`` are the entries of `ustconsumer.ctf.types.Enumeration`, by its ``enum_id``
    (numbers of the reader's own), automatic values resolved.
    """

    uuid: bytes
    env: dict[str, int | str]
    clock: Clock
    streams: dict[int, StreamClass] = {}
    #: by stream class id, then event id
    events: dict[int, dict[int, EventClass]] = {}
    enums: dict[int, tuple[EnumEntry, ...]] = {}
