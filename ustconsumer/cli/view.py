# SPDX-License-Identifier: MIT
"""``drtrace view``: the events of a trace as text, exactly as babeltrace2 prints them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ustconsumer.cli.context import Context
from ustconsumer.errors import UsageError

if TYPE_CHECKING:
    from ustconsumer.cli.moments import Moment
    from ustconsumer.ctf.show import Range
    from ustconsumer.ctf.text import TextOptions
    from ustconsumer.ctf.traces import SingleTrace

__all__ = ["configure", "run"]

#: Lines that are written together.
_TOGETHER = 512


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
    add("--clock-cycles", action="store_true", help="show what the clock counted")
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
    from ustconsumer.client.output import newest_trace
    from ustconsumer.ctf.reading import Trace
    from ustconsumer.ctf.show import View

    options = _options(arguments)
    moments = _moments(arguments)
    named = arguments.trace_path or arguments.trace
    root = os.fspath(newest_trace()) if named is None else named
    if not os.path.isdir(root):
        raise UsageError(f"{root}: no such directory: name the directory of a trace")
    traces = Trace(root).traces
    output = _Output(quiet=arguments.quiet)
    view = View(traces, root, options, _range(traces, moments, options.clock_gmt), output.complain)
    try:
        output.write(view.json() if context.json else view.text())
    finally:
        # What is readable of a trace that is cut off comes before the error.
        output.flush()


def _moments(arguments: argparse.Namespace) -> list[Moment | None]:
    from ustconsumer.cli.moments import Moment

    given = (arguments.begin, arguments.end)
    return [None if text is None else Moment.parse(text) for text in given]


def _range(traces: list[SingleTrace], moments: list[Moment | None], gmt: bool) -> Range:
    from ustconsumer.ctf.show import Range, beginning

    if moments == [None, None]:
        return Range()
    first = beginning(traces)
    begin, end = (
        default if moment is None else moment.nanoseconds_since_epoch(first, gmt)
        for moment, default in zip(moments, Range(), strict=True)
    )
    if begin > end:
        raise UsageError("--begin is after --end")
    return Range(begin, end)


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
        clock_cycles=arguments.clock_cycles,
        clock_date=arguments.clock_date,
        clock_gmt=arguments.clock_gmt,
        clock_seconds=arguments.clock_seconds,
        fields=fields,
    )


class _Output:
    """Standard output, many lines at a time."""

    def __init__(self, quiet: bool) -> None:
        self._lines: list[str] = []
        self._quiet = quiet

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
        if self._quiet:
            return
        if sys.stdout.isatty():
            self.flush()
        data = text.encode("latin-1", "backslashreplace")
        sys.stderr.flush()
        sys.stderr.buffer.write(data + b"\n")
        sys.stderr.buffer.flush()
