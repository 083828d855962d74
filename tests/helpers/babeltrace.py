# SPDX-License-Identifier: MIT
"""What babeltrace2 says about a trace, and what of it must not depend on the run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from helpers.viewing import Output, babeltrace2, check_view

__all__ = [
    "Reading",
    "babeltrace2_details",
    "babeltrace2_text",
    "discarded",
    "normal_details",
    "normal_text",
]


class Reading(NamedTuple):
    """Output of one babeltrace2 run."""

    lines: list[str]
    stderr: str


def babeltrace2_text(directory: str | os.PathLike[str], *options: str) -> Reading:
    """Return one line per event: ``[time] host provider:name: { ... }, ...``.

    Whatever trace a test reads in this way, ``drtrace view`` must show the same.
    """
    arguments = ("--no-delta", *options, os.fspath(directory))
    output = babeltrace2(*arguments)
    reading = _reading(output)
    check_view(output, *arguments)
    return reading


def babeltrace2_details(directory: str | os.PathLike[str]) -> Reading:
    """Return the output of ``sink.text.details``: classes, environment and all messages."""
    return _reading(babeltrace2("--component=sink.text.details", os.fspath(directory)))


def _reading(output: Output) -> Reading:
    assert output.status == 0, output.stderr
    return Reading(output.stdout.decode().splitlines(), output.stderr.decode())


_DISCARDED = re.compile(r"WARNING: Tracer discarded (\d+) events? ")


def discarded(stderr: str) -> int:
    """Return how many events babeltrace2 reports as discarded; any other warning is a failure."""
    total = 0
    for line in filter(None, stderr.splitlines()):
        match = _DISCARDED.match(line)
        assert match, f"babeltrace2 warns: {line}"
        total += int(match[1])
    return total


class _Numbering:
    """Replaces run-dependent numbers by their order of appearance."""

    def __init__(self, pattern: str, prefix: str):
        self._pattern = re.compile(pattern)
        self._prefix = prefix
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        return self._pattern.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        number = self._known.setdefault(match[2], f"{self._prefix}{len(self._known)}")
        return match[1] + number


# liblttng-ust walks its table of libraries in an order that depends on their random
# load addresses: the events between statedump's start and end are a set, not a list.
_STATEDUMP = re.compile(r"lttng_ust_statedump:(bin_info|build_id|debug_link)\b")


def _sort_statedump(items: Iterable[str]) -> list[str]:
    result: list[str] = []
    for _, group in groupby(items, lambda item: bool(_STATEDUMP.search(item))):
        together = list(group)
        result += sorted(together) if _STATEDUMP.search(together[0]) else together
    return result


def normal_text(lines: Iterable[str]) -> list[str]:
    """Remove times, host name, process ids and load addresses from text output."""
    number = _Numbering(r"(\bv[pt]id = )(\d+)", "P")
    events = []
    for line in lines:
        match = re.fullmatch(r"\[[^]]*\] \S+ (.*)", line)
        assert match, line
        events.append(re.sub(r"\bbaddr = 0x[0-9A-F]+", "baddr = ADDR", number(match[1])))
    return _sort_statedump(events)


def normal_details(lines: Iterable[str], output: Path) -> list[str]:
    """Return the paragraphs of details output that must be equal for equal traces.

    Removed: times, uuids, host name, session name and date, the output directory,
    process ids, load addresses. Event class ids give way to names, and event classes
    are sorted by name. Streams of different CPUs interleave by time, so messages are
    grouped by stream.
    """
    text = "\n".join(lines)
    text = text.replace(str(output), "OUTPUT")
    host = re.search(r"^      hostname: (.*)$", text, re.MULTILINE)
    assert host
    text = text.replace(f"Trace `{host[1]}/", "Trace `HOST/")
    for pattern, replacement in (
        (r"^(      hostname: ).*$", r"\1HOST"),
        (r"^(      trace_creation_datetime: ).*$", r"\1DATE"),
        (r"^(      trace_name: ).*$", r"\1NAME"),
        (r"^(\s*UUID: )[-0-9a-f]{36}$", r"\1UUID"),
        (r"^(\s*Offset \((?:s|cycles)\): )[0-9,]+$", r"\1OFFSET"),
        (r"^\[[0-9,]+ cycles, [0-9,]+ ns from origin\]$", "[TIME]"),
        (r"^(    baddr: )0x[0-9a-f:]+$", r"\1ADDR"),
        (r"^((?:    )?Event(?: class)? `[^`]*`) \((?:Class )?ID \d+\):$", r"\1:"),
    ):
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    classes, _, messages = text.partition("\n\n")
    return _sort_classes(classes) + _group_messages(messages.split("\n\n"))


def _sort_classes(text: str) -> list[str]:
    head, *events = re.split(r"\n(?=    Event class `)", text)
    return [head, *sorted(events)]


def _group_messages(messages: list[str]) -> list[str]:
    streams: dict[str, list[str]] = {}
    number = _Numbering(r"(\bv[pt]id: )([0-9,]+)", "P")
    for message in messages:
        stream = re.search(r"^\{Trace .*\}$", message, re.MULTILINE)
        streams.setdefault(stream[0] if stream else "", []).append(number(message))
    return [item for name in sorted(streams) for item in _sort_statedump(streams[name])]
