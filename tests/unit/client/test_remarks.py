# SPDX-License-Identifier: MIT
"""What is said at the end of a recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from ustconsumer.client import remarks
from ustconsumer.client.totals import Totals
from ustconsumer.protocol.control import AppInfo


@pytest.mark.parametrize(
    ("totals", "told", "said"),
    [
        (Totals(recorded=1, processes=1, packets=1), [], ""),
        (Totals(discarded=1, processes=1, packets=1), [], ""),
        (Totals(processes=1, packets=1), [], "no event matched a:*, b:*"),
        (Totals(processes=1), [], ""),
        (Totals(), [], "no program registered: nosuch cannot be examined"),
        # It did register: the guess would contradict what was said before.
        (Totals(), ["1 program ran or ended before buffers were ready"], ""),
        (None, [], ""),
    ],
)
def test_why_nothing_was_recorded(totals: Totals | None, told: list[str], said: str) -> None:
    line = remarks.why_empty(totals, told, Path("/nonexistent/nosuch"), ["a:*", "b:*"])
    assert line.startswith(said)
    assert bool(line) == bool(said)


@pytest.mark.parametrize("totals", [Totals(processes=1, packets=1), Totals()])
def test_why_no_call_was_recorded(totals: Totals) -> None:
    """A program registers also for what was preloaded: only its interpreter knows."""
    program = Path("/nonexistent/nosuch")
    assert remarks.why_empty(totals, [], program, ["python:*"], "none was called") == (
        "none was called"
    )
    assert remarks.why_empty(totals, [], program, ["python:*"], "") == ""


def test_who_is_left_is_named_once() -> None:
    """A process with both tracers, the C library's and ours, is registered twice."""
    apps = [
        AppInfo(
            pid=pid,
            ppid=1,
            uid=0,
            gid=0,
            name="python",
            abi="9",
            bits=64,
            tracer="2.13",
            state="registered",
            sessions=[],
        )
        for pid in (7, 7, 8)
    ]
    assert remarks.left_running(apps[:2], True) == (
        "1 program is still running and recorded no more, python (pid 7)"
    )
    assert remarks.left_running(apps, False).startswith("2 programs are still running")
