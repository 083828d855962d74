# SPDX-License-Identifier: MIT
"""``drtrace view``: the events of a trace as text, exactly as babeltrace2 prints them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from ustconsumer.cli.context import Context
from ustconsumer.errors import UsageError

if TYPE_CHECKING:
    from ustconsumer.cli.moments import Moment
    from ustconsumer.ctf.reading import Loss
    from ustconsumer.ctf.text import Lines, TextOptions
    from ustconsumer.ctf.traces import SingleTrace

__all__ = ["configure", "run"]

#: Lines that are written together.
_TOGETHER = 512

T = TypeVar("T")


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "trace",
        nargs="?",
        metavar="DIR",
        help="of a trace, or above one or several; default: the newest below ~/lttng-traces",
    )
    add("-t", "--trace-path", metavar="DIR", help="the same, as lttng has it")
    group = parser.add_argument_group("text, as babeltrace2 has it")
    add = group.add_argument
    add("--clock-date", action="store_true", help="show dates")
    add("--clock-gmt", action="store_true", help="times are in Greenwich, not in the local zone")
    add("--clock-seconds", action="store_true", help="show seconds since 1970")
    add("--no-delta", action="store_true", help="do not show the time since the event before")
    add(
        "-f",
        "--fields",
        action="append",
        metavar="FIELD,...",
        help="what to show of an event's origin: trace, trace:hostname, trace:domain, "
        "trace:procname, trace:vpid, loglevel, emf, all",
    )
    add("-b", "--begin", metavar="TIME", help="[[YYYY-MM-DD ]hh:mm[:ss[.n]], or seconds since 1970")
    add("-e", "--end", metavar="TIME", help="the last moment that is shown")


def run(arguments: argparse.Namespace, context: Context) -> None:
    from ustconsumer.cli.moments import Moment
    from ustconsumer.client.output import newest_trace
    from ustconsumer.ctf.reading import Trace

    options = _options(arguments)
    begin, end = (
        Moment.parse(text) if text is not None else None
        for text in (arguments.begin, arguments.end)
    )
    named = arguments.trace_path or arguments.trace
    root = named if named is not None else os.fspath(newest_trace())
    if not os.path.isdir(root):
        raise UsageError(f"{root}: no such directory: name the directory of a trace")
    output = _Output()
    view = _View(Trace(root).traces, root, options, _Range(begin, end, options.clock_gmt), output)
    try:
        if context.json:
            view.as_json()
        else:
            view.as_text(_no_complaints if arguments.quiet else output.complain)
    finally:
        # What is readable of a trace that is cut off comes before the error.
        output.flush()


def _options(arguments: argparse.Namespace) -> TextOptions:
    from ustconsumer.ctf.text import DEFAULT_FIELDS, FIELDS, TextOptions

    fields = DEFAULT_FIELDS
    if arguments.fields:
        names = {name for text in arguments.fields for name in text.split(",")}
        if unknown := sorted(names - FIELDS - {"all"}):
            raise UsageError(
                f"unknown field {unknown[0]!r}: there are {', '.join(sorted(FIELDS))}, all"
            )
        fields = FIELDS if "all" in names else frozenset(names)
    return TextOptions(
        delta=not arguments.no_delta,
        clock_date=arguments.clock_date,
        clock_gmt=arguments.clock_gmt,
        clock_seconds=arguments.clock_seconds,
        fields=fields,
    )


def _no_complaints(text: str) -> None:
    pass


class _Output:
    """Standard output, many lines at a time."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, lines: Iterable[str]) -> None:
        """Write lines of one character per byte."""
        waiting = self._lines
        append = waiting.append
        for line in lines:
            append(line)
            if len(waiting) >= _TOGETHER:
                self.flush()

    def flush(self) -> None:
        data = "".join(self._lines).encode("latin-1")
        self._lines.clear()
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def complain(self, text: str) -> None:
        """Write a line to standard error; on a terminal, where it belongs."""
        if sys.stdout.isatty():
            self.flush()
        data = text.encode("latin-1", "backslashreplace")
        sys.stderr.flush()
        sys.stderr.buffer.write(data + b"\n")
        sys.stderr.buffer.flush()


class _Range:
    """What is shown of the time. The day may be the trace's, known when it begins."""

    def __init__(self, begin: Moment | None, end: Moment | None, gmt: bool) -> None:
        self._begin = begin
        self._end = end
        self._gmt = gmt
        self._bounds: tuple[int, int] | None = None

    def begins(self, first: int) -> None:
        """Take the time at which the trace begins."""
        begin, end = (
            moment.nanoseconds_since_epoch(first, self._gmt) if moment else default
            for moment, default in ((self._begin, -(1 << 64)), (self._end, 1 << 64))
        )
        if begin > end:
            raise UsageError("--begin is after --end")
        if self._begin or self._end:
            self._bounds = begin, end

    def events(self, events: Iterator[tuple[int, T]]) -> Iterator[tuple[int, T]]:
        return events if self._bounds is None else self._within(events, *self._bounds)

    def _within(
        self, events: Iterator[tuple[int, T]], begin: int, end: int
    ) -> Iterator[tuple[int, T]]:
        for event in events:
            if event[0] > end:
                return
            if event[0] >= begin:
                yield event

    def loss(self, loss: Loss) -> Loss | None:
        """Return what of a loss is in the range: if not all of it, nobody knows how much."""
        begin, end = self._bounds or (loss.begin, loss.end)
        if loss.end < begin or loss.begin > end:
            return None
        if loss.begin >= begin and loss.end <= end:
            return loss
        return type(loss)(loss.stream, loss.what, None, max(begin, loss.begin), min(end, loss.end))


class _View:
    """Traces and how to show them."""

    def __init__(
        self,
        traces: list[SingleTrace],
        root: str,
        options: TextOptions,
        range_: _Range,
        output: _Output,
    ) -> None:
        self._traces = traces
        self._root = os.path.abspath(root)
        self._options = options
        self._range = range_
        self._output = output
        starts = [
            stream.trace.declared.clock.nanoseconds(stream.files[0].timestamp_begin)
            for trace in traces
            for stream in trace.streams
        ]
        self._range.begins(min(starts, default=0))

    def as_text(self, complain: Callable[[str], None]) -> None:
        from ustconsumer.ctf.reading import records
        from ustconsumer.ctf.text import Lines, TextForm

        lines = Lines(self._options, complain)
        losses = self._losses(lines, complain)
        events = records(
            self._traces, lambda trace: TextForm(self._options, self._name(trace)), losses
        )
        self._output.write(lines.lines(self._range.events(events)))

    def as_json(self) -> None:
        import msgspec

        from ustconsumer.ctf.jsonform import JsonForm
        from ustconsumer.ctf.reading import records
        from ustconsumer.ctf.text import Lines

        encode = msgspec.json.Encoder().encode
        losses = self._losses(Lines(self._options, self._output.complain), self._output.complain)
        events = records(self._traces, lambda _: JsonForm(), losses)
        self._output.write(
            encode({"timestamp": nanoseconds, **event}).decode("latin-1") + "\n"
            for nanoseconds, event in self._range.events(events)
        )

    def _losses(self, lines: Lines, complain: Callable[[str], None]) -> Callable[[Loss], None]:
        def lost(whole: Loss) -> None:
            if (loss := self._range.loss(whole)) is not None:
                complain(self._warning(lines, loss))

        return lost

    def _warning(self, lines: Lines, loss: Loss) -> str:
        """Return babeltrace2's words."""
        from ustconsumer.ctf.text import as_bytes

        if loss.count is None:
            what = f"may have discarded {loss.what}s"
        else:
            what = f"discarded {loss.count} {loss.what}{'' if loss.count == 1 else 's'}"
        stream = loss.stream
        return (
            f"WARNING: Tracer {what} between [{lines.time(loss.begin)}] and "
            f'[{lines.time(loss.end)}] in trace "{as_bytes(self._name(stream.trace))}" '
            f"(UUID: {stream.trace.uuid}) "
            f'within stream "{as_bytes(stream.files[0].path)}" '
            f"(stream class ID: {stream.class_id}, stream ID: {stream.instance_id})."
        )

    def _name(self, trace: SingleTrace) -> str:
        """Return what babeltrace2 calls a trace."""
        hostname = trace.declared.env.get("hostname")
        parts = [] if hostname is None else [str(hostname)]
        if len(trace.directories) == 1 and trace.directory != self._root:
            parts.append(os.path.relpath(trace.directory, self._root))
        return "/".join(parts)
