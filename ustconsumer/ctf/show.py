# SPDX-License-Identifier: MIT
"""What `drtrace view` prints: events as lines, and what was lost in babeltrace2's words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

from ustconsumer.ctf.classes import EventClass, StreamClass, TraceClass
from ustconsumer.ctf.decode import Form
from ustconsumer.ctf.jsonform import JsonForm
from ustconsumer.ctf.reading import Loss, records
from ustconsumer.ctf.text import Lines, TextForm, TextOptions, as_bytes
from ustconsumer.ctf.traces import SingleTrace
from ustconsumer.ctf.walk import Read
from ustconsumer.errors import UsageError

__all__ = ["Range", "View", "beginning"]

T = TypeVar("T")
_Complain: TypeAlias = Callable[[str], None]


def beginning(traces: list[SingleTrace]) -> int:
    """Return when the first packet begins, in nanoseconds since the epoch."""
    return min(
        (
            trace.declared.clock.nanoseconds(stream.files[0].timestamp_begin)
            for trace in traces
            for stream in trace.streams
        ),
        default=0,
    )


class Range(NamedTuple):
    """From when to when, both included, in nanoseconds since the epoch."""

    begin: int = -(1 << 64)
    end: int = 1 << 64

    def events(self, events: Iterator[tuple[int, T]]) -> Iterator[tuple[int, T]]:
        """Yield those of the events that are in the range."""
        return events if self == Range() else self._within(events)

    def _within(self, events: Iterator[tuple[int, T]]) -> Iterator[tuple[int, T]]:
        begin, end = self
        for event in events:
            if event[0] > end:
                return
            if event[0] >= begin:
                yield event

    def loss(self, loss: Loss) -> Loss | None:
        """Return what of a loss is in the range: if not all of it, nobody knows how much."""
        begin, end = max(self.begin, loss.begin), min(self.end, loss.end)
        if (begin, end) == (loss.begin, loss.end):
            return loss
        return Loss(loss.stream, loss.what, None, begin, end) if begin <= end else None


class View:
    """Traces, and how to show them.

    Text is a str of one character per byte.

    Parameters
    ----------
    traces : list of SingleTrace
    root : str
        Directory in which they were found: their names are relative to it.
    options : TextOptions
    range_ : Range
        Of time that is shown.
    complain : callable
        Gets each line about what was lost.
    """

    def __init__(
        self,
        traces: list[SingleTrace],
        root: str,
        options: TextOptions,
        range_: Range,
        complain: _Complain,
    ) -> None:
        self._traces = traces
        self._root = os.path.abspath(root)
        self._options = options
        self._range = range_
        self._complain = complain
        self._lines = Lines(options, complain)

    def text(self) -> Iterator[str]:
        """Yield lines as babeltrace2's.

        Raises
        ------
        DecodeError
            After all that comes before what makes no sense.
        UsageError
            Cycles are to be shown of a clock that does not count nanoseconds.
        """
        if self._options.clock_cycles:
            return self._cycles()
        return self._lines.lines(self._range.events(records(self._traces, self._form, self._lost)))

    def _cycles(self) -> Iterator[str]:
        for trace in self._traces:
            if (frequency := trace.declared.clock.frequency) != 1_000_000_000:
                raise UsageError(f"cannot show cycles of a clock of {frequency} Hz")
        counted = records(
            self._traces,
            lambda trace: _Counted(self._form(trace), trace.declared.clock.nanoseconds(0)),
            self._lost,
        )
        return self._lines.cycles(
            (nanoseconds - zero, text) for nanoseconds, (zero, text) in self._range.events(counted)
        )

    def json(self) -> Iterator[str]:
        """Yield a JSON object for each event: `JsonForm`'s, with its time.

        Raises
        ------
        DecodeError
            After all that comes before what makes no sense.
        """
        encode = msgspec.json.Encoder().encode
        events = records(self._traces, lambda _: JsonForm(), self._lost)
        for nanoseconds, event in self._range.events(events):
            yield encode({"timestamp": nanoseconds, **event}).decode("latin-1") + "\n"

    def _form(self, trace: SingleTrace) -> TextForm:
        return TextForm(self._options, self._name(trace))

    def _name(self, trace: SingleTrace) -> str:
        """Return what babeltrace2 calls a trace."""
        hostname = trace.declared.env.get("hostname")
        parts = [] if hostname is None else [str(hostname)]
        if len(trace.directories) == 1 and trace.directory != self._root:
            parts.append(os.path.relpath(trace.directory, self._root))
        return "/".join(parts)

    def _lost(self, whole: Loss) -> None:
        loss = self._range.loss(whole)
        if loss is None:
            return
        if loss.count is None:
            what = f"may have discarded {loss.what}s"
        else:
            what = f"discarded {loss.count} {loss.what}{'' if loss.count == 1 else 's'}"
        begin, end = self._lines.time(loss.begin), self._lines.time(loss.end)
        stream = loss.stream
        self._complain(
            f"WARNING: Tracer {what} between [{begin}] and [{end}] "
            f'in trace "{as_bytes(self._name(stream.trace))}" (UUID: {stream.trace.uuid}) '
            f'within stream "{as_bytes(stream.files[0].path)}" '
            f"(stream class ID: {stream.class_id}, stream ID: {stream.instance_id})."
        )


class _Counted(Form[tuple[int, str]]):
    """Text, and when its trace's clock began to count."""

    def __init__(self, form: TextForm, zero: int) -> None:
        self._form = form
        self._zero = zero

    def context(self, trace: TraceClass, stream: StreamClass, cpu_id: int) -> Read:
        return self._form.context(trace, stream, cpu_id)

    def payload(
        self, trace: TraceClass, event: EventClass
    ) -> Callable[..., tuple[tuple[int, str], int]]:
        read = self._form.payload(trace, event)
        zero = self._zero

        def counted(data: bytes, at: int, context: object) -> tuple[tuple[int, str], int]:
            text, end = read(data, at, context)
            return (zero, text), end

        return counted
