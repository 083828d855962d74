# SPDX-License-Identifier: MIT
"""What is said of a recording: warnings, who is left, why nothing was recorded."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ustconsumer.client.program import why_not_registered
from ustconsumer.client.session import Session
from ustconsumer.client.totals import Totals
from ustconsumer.protocol.control import AppInfo

__all__ = ["Notes", "left_running", "note_repairs", "why_empty"]

#: How many programs one line names.
_MAX_NAMED = 4
_SAID_BY = re.compile(r"^(ust-consumerd\[\d+\]|consumer): ")


class Notes:
    """Warnings: kept, and told at once; each fact once, whoever says it."""

    def __init__(self, warn: Callable[[str], None] | None) -> None:
        self.lines: list[str] = []
        self._warn = warn
        self._said: set[str] = set()

    def __call__(self, line: str) -> None:
        # A consumer says on its own what the registry repeats at the end.
        fact = _SAID_BY.sub("", line)
        if fact in self._said:
            return
        self._said.add(fact)
        self.lines.append(line)
        if self._warn is not None:
            self._warn(line)


def left_running(left: Sequence[AppInfo], wait_all: bool) -> str:
    """Return a line that names programs that go on unrecorded."""
    # A Python with our tracer that also loads liblttng-ust is registered twice.
    left = list({app.pid: app for app in left}.values())
    shown = [f"{app.name} (pid {app.pid})" for app in left[:_MAX_NAMED]]
    if len(left) > len(shown):
        shown.append("...")
    count = "1 program is" if len(left) == 1 else f"{len(left)} programs are"
    advice = "" if wait_all else ": --wait-all records until they end"
    return f"{count} still running and recorded no more, {', '.join(shown)}{advice}"


def why_empty(
    totals: Totals | None,
    told: Sequence[str],
    program: Path,
    events: Sequence[str],
    without_calls: str | None = None,
) -> str:
    """Return why nothing was recorded; empty if something was, or if it was told before.

    ``without_calls``: the reason where calls of Python were to be recorded.
    """
    if totals is None:
        return ""
    if totals.processes == 0:
        # One that registered, and ended before it had buffers, was told.
        if told:
            return ""
        if without_calls is not None:
            return without_calls
        return f"no program registered: {why_not_registered(program)}"
    if totals.packets and totals.recorded == 0 and totals.discarded == 0:
        # Without a packet the output took nothing, and that was said.
        if without_calls is not None:
            return without_calls
        if not events:
            return f"{program.name} registered and emitted no event"
        return f"no event matched {', '.join(events)}: `drtrace record -e '*'` shows what there is"
    return ""


def note_repairs(session: Session, note: Callable[[str], None]) -> None:
    """Say how many packets of a stopped session had to be repaired."""
    consumer = session.info().consumer
    if consumer is not None and consumer.stats.repaired:
        count = consumer.stats.repaired
        packets = "1 packet" if count == 1 else f"{count} packets"
        note(f"{packets} repaired: a process was killed while it wrote an event")
