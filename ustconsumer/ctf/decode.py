# SPDX-License-Identifier: MIT
"""Event records: from the bytes of a packet to values, or to what a `Form` makes of them.

Bytes are believed only as far as they agree with the metadata and stay within their
packet.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from ustconsumer.abi.event import COMPACT_EVENT, EXTENDED_EVENT, EXTENDED_ID
from ustconsumer.ctf.classes import EventClass, StreamClass, TraceClass
from ustconsumer.ctf.types import EnumEntry, Integer
from ustconsumer.ctf.walk import Enums, Read, Walk, fixed_size, labels
from ustconsumer.errors import DecodeError

__all__ = ["VALUES", "Enumerated", "Form", "Record", "StreamDecoder", "Value", "ValueWalk"]


class Enumerated(int):
    """A number, and the labels an enumeration has for it: none, one or several."""

    labels: tuple[str, ...]

    def __new__(cls, value: int, labels: tuple[str, ...] = ()) -> Enumerated:
        self = super().__new__(cls, value)
        self.labels = labels
        return self

    def __repr__(self) -> str:
        return f"Enumerated({int(self)}, {self.labels})"


#: `Enumerated` is an int; a variant is the value of its choice, a structure a dict.
#: Bytes that are not UTF-8 are surrogates in a str, as in file names.
Value: TypeAlias = "int | float | str | list[int] | dict[str, Value]"


class Record(NamedTuple):
    """The values of one event."""

    event: EventClass
    cpu_id: int
    context: dict[str, Value]
    fields: dict[str, Value]


R = TypeVar("R")


class Form(ABC, Generic[R]):
    """What records become."""

    @abstractmethod
    def context(self, trace: TraceClass, stream: StreamClass, cpu_id: int) -> Read:
        """Return a function (data, at) that reads the stream event context.

        What it makes of it is at hand for the payload's; the CPU is in the packet context.
        """

    @abstractmethod
    def payload(self, trace: TraceClass, event: EventClass) -> Callable[..., tuple[R, int]]:
        """Return a function (data, at, context) that reads the payload and makes the whole."""


class StreamDecoder(Generic[R]):
    """Decodes the packets of a stream class.

    Parameters
    ----------
    trace : TraceClass
        Event classes that are added to it later are found.
    stream_id : int
        Of the stream class.
    form : Form
        What to make of records, `VALUES` for instance.
    """

    def __init__(self, trace: TraceClass, stream_id: int, form: Form[R]) -> None:
        stream = trace.streams.get(stream_id)
        if stream is None:
            raise DecodeError(f"stream class {stream_id} is not declared")
        if stream.compact:
            raise DecodeError(f"stream class {stream_id} has compact event headers")
        self._contexts = _Contexts(trace, stream, form)
        #: None where it depends on the values.
        self._context_size = fixed_size(stream.contexts)
        self._payloads = _Payloads(trace, stream_id, form)

    def records(
        self, content: bytes, at: int, clock: int, cpu_id: int = 0, where: str = "packet"
    ) -> Iterator[tuple[int, R]]:
        """Decode a packet's records one after the other.

        Parameters
        ----------
        content : bytes
            Of the packet from its first byte, without the padding at its end.
        at : int
            Where the first record begins.
        clock : int
            Clock cycles at the beginning of the packet.
        cpu_id : int
            Of the packet.
        where : str
            Names the packet in errors: its file, where it is in there.

        Yields
        ------
        tuple of clock cycles and what the form makes of the record

        Raises
        ------
        DecodeError
            The content contradicts the metadata, or ends in the middle of a record.
        """
        end = len(content)
        compact, extended = _COMPACT, _EXTENDED
        payloads = self._payloads
        known = self._contexts[cpu_id]
        context = known.read
        context_size = self._context_size
        read = known[b""] if context_size == 0 else None
        start = at
        try:
            while at < end:
                start = at
                event_id, time = compact(content, at)
                if event_id != EXTENDED_ID:
                    at += _COMPACT_SIZE
                    # Only the low half is there: the first such time since the last one.
                    clock += (time - clock) & 0xFFFFFFFF
                else:
                    _, event_id, clock = extended(content, at)
                    at += _EXTENDED_SIZE
                if context_size is None:
                    read, at = context(content, at)
                elif context_size:
                    read = known[content[at : at + context_size]]
                    at += context_size
                result, at = payloads[event_id](content, at, read)
                if at > end:
                    raise IndexError("padding leaves the packet")
                yield clock, result
        except (struct.error, ValueError, IndexError, DecodeError) as error:
            reason = error if isinstance(error, DecodeError) else "it leaves its packet"
            raise DecodeError(f"{where}: event at byte {start}: {reason}") from None


_COMPACT = struct.Struct("<HI").unpack_from
_EXTENDED = struct.Struct("<HIQ").unpack_from
_COMPACT_SIZE = COMPACT_EVENT.size
_EXTENDED_SIZE = EXTENDED_EVENT.size


class _Payloads(dict[int, Callable[..., tuple[Any, int]]]):
    """By event id, compiled when the first such event is met."""

    def __init__(self, trace: TraceClass, stream_id: int, form: Form[Any]) -> None:
        self._trace = trace
        self._stream_id = stream_id
        self._form = form

    def __missing__(self, event_id: int) -> Callable[..., tuple[Any, int]]:
        event = self._trace.events.get(self._stream_id, {}).get(event_id)
        if event is None:
            raise DecodeError(f"event {event_id} of stream {self._stream_id} is not declared")
        self[event_id] = payload = self._form.payload(self._trace, event)
        return payload


class _Contexts(dict[int, "_Known"]):
    """By CPU."""

    def __init__(self, trace: TraceClass, stream: StreamClass, form: Form[Any]) -> None:
        self._trace = trace
        self._stream = stream
        self._form = form

    def __missing__(self, cpu_id: int) -> _Known:
        self[cpu_id] = known = _Known(self._form.context(self._trace, self._stream, cpu_id))
        return known


class _Known(dict[bytes, Any]):
    """What contexts of the same bytes became: few processes and threads, many events."""

    def __init__(self, read: Read) -> None:
        self.read = read

    def __missing__(self, raw: bytes) -> Any:
        if len(self) >= 1024:
            self.clear()
        self[raw] = value = self.read(raw, 0)[0]
        return value


class ValueWalk(Walk[str]):
    """Makes Python values."""

    def __init__(self, enums: Enums) -> None:
        super().__init__(enums)
        self._text = self.constant(self.make_text)

    @staticmethod
    def make_text(raw: bytes) -> str:
        """Return the text of bytes up to a NUL."""
        return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")

    def integer(self, type_: Integer, value: str) -> str:
        return value

    def real(self, value: str) -> str:
        return value

    def text(self, value: str) -> str:
        return f"{self._text}({value})"

    def enumeration(self, type_: Integer, entries: tuple[EnumEntry, ...], value: str) -> str:
        return f"{self.constant(_Labelled(entries, type_))}[{value}]"

    def integers(self, type_: Integer, value: str, count: str) -> str:
        return f"[*{value}]"

    def struct(self, names: list[str], members: list[str]) -> str:
        pairs = (
            f"{self.constant(name)}: {value}" for name, value in zip(names, members, strict=True)
        )
        return f"{{{', '.join(pairs)}}}"

    def variant(self, choice: str) -> str:
        return choice

    def expression(self, piece: str) -> str:
        return piece


class _Labelled(dict[int, Enumerated]):
    """By value: the same with its labels."""

    def __init__(self, entries: tuple[EnumEntry, ...], type_: Integer) -> None:
        self._entries = entries
        self._type = type_

    def __missing__(self, value: int) -> Enumerated:
        if len(self) >= 1024:
            self.clear()
        self[value] = labelled = Enumerated(value, labels(self._entries, self._type, value))
        return labelled


class _Values(Form[Record]):
    def context(self, trace: TraceClass, stream: StreamClass, cpu_id: int) -> Read:
        walk = ValueWalk(trace.enums)
        return walk.function(f"{cpu_id:d}, {walk.fields(stream.contexts)}")

    def payload(self, trace: TraceClass, event: EventClass) -> Callable[..., tuple[Record, int]]:
        walk = ValueWalk(trace.enums)
        fields = walk.fields(event.fields)
        record = walk.constant(Record)
        # Contexts are remembered: each record has its own.
        walk.line("cpu_id, values = context")
        result = f"{record}({walk.constant(event)}, cpu_id, {{**values}}, {fields})"
        return walk.function(result, ("context",))


#: Records as Python values.
VALUES: Form[Record] = _Values()
