# SPDX-License-Identifier: MIT
"""Every event of Python programs is somewhere: recorded, or discarded and counted."""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from helpers.accounting import Trace, overwritten
from helpers.apps import Apps
from helpers.pyapps import BIG, STORM
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("babeltrace2", "gcc", "lttng-ust-headers")

TICK = re.compile(r" (?:storm|flood):tick: .*vpid = (\d+) \}, \{ seq = (\d+), thread = (\d+),")


def python(rundir: Rundir, source: str, *arguments: object) -> str:
    """Return the command line of a Python program, for a shell that is the user's already."""
    path = rundir.home / "program.py"
    path.write_text(source)
    # It forks while it has threads, on purpose.
    quiet = ["-W", "ignore::DeprecationWarning"]
    return shlex.join([*rundir.user.python()[-2:], *quiet, str(path), *map(str, arguments)])


def record(rundir: Rundir, output: Path, options: list[str], script: str) -> dict[str, Any]:
    """Record what a shell runs; return the summary, having compared it with the trace."""
    # However slow the machine is, no program runs without being recorded.
    patient = {"LTTNG_UST_REGISTER_TIMEOUT": "-1"}
    events = ["-e", "storm:*,flood:tick", "-c", "vpid"]
    # Without it the shell is no process of the trace.
    events += ["--preload=none"]
    arguments = ["record", "--json", *events, "-o", output, *options, "--", "sh", "-c", script]
    result = rundir.drtrace(*arguments, env=patient)
    assert (result.returncode, result.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(result.stdout)
    assert answer["warnings"] == []
    totals: dict[str, Any] = answer["totals"]
    trace = Trace(output)
    assert totals["recorded"] == len(trace.lines)
    packets = [packet for packets in trace.streams.values() for packet in packets]
    assert totals["packets"] == len(packets)
    return totals | {"trace": trace}


def check_exact(told: dict[str, Any], emitted: int) -> None:
    """Nothing but what was counted is missing, and nothing is there twice."""
    trace = told["trace"]
    assert told["recorded"] + told["discarded"] == emitted
    assert told["discarded"] == trace.events_lost == trace.counters
    assert trace.packets_lost == 0
    for packets in trace.streams.values():
        assert [packet.sequence for packet in packets] == list(range(len(packets)))
    check_order(trace)


def check_order(trace: Trace) -> None:
    """Each thread's events are there once, in the order they were emitted."""
    seen: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for line in trace.lines:
        match = TICK.search(line)
        assert match, line
        seen[line.partition(":tick")[0][-5:], match[1], match[3]].append(int(match[2]))
    for numbers in seen.values():
        assert numbers == sorted(set(numbers))


@pytest.mark.full_speed
@pytest.mark.parametrize("size", ["4k", "64k", "2M"])
def test_a_c_and_a_python_program_in_the_same_buffers(
    rundir: Rundir, apps: Apps, size: str
) -> None:
    each = 20_000
    storm = python(rundir, STORM, each, 2, 0, 20)
    script = f"{apps.flood} {each} 2 & {storm} & wait"
    told = record(rundir, rundir.home / "trace", [f"--subbuf-size={size}"], script)
    check_exact(told, 4 * each)
    assert told["processes"] == 2
    for name in ("flood", "storm"):
        assert any(f" {name}:tick: " in line for line in told["trace"].lines)
    if size == "2M":
        assert told["discarded"] == 0


@pytest.mark.full_speed
@pytest.mark.parametrize("buffers", ["uid", "pid"])
@pytest.mark.repeat(ci=1, soak=20)
def test_threads_of_processes_that_fork_while_they_emit(
    rundir: Rundir, buffers: str, repeat: int
) -> None:
    """8 threads in each of 4 processes."""
    for run in range(repeat):
        storm = python(rundir, STORM, 2500, 8, 3, 20)
        options = [f"--buffers-{buffers}", "--subbuf-size=16k"]
        told = record(rundir, rundir.home / f"trace{run}", options, storm)
        check_exact(told, 2500 * 8 * 4)
        assert told["processes"] == 4


@pytest.mark.full_speed
def test_the_oldest_give_way(rundir: Rundir) -> None:
    storm = python(rundir, STORM, 20_000, 2, 1, 20)
    options = ["--overwrite", "--subbuf-size=4k", "--num-subbuf=4"]
    told = record(rundir, rundir.home / "trace", options, storm)
    assert told["recorded"] + told["discarded"] <= 80_000
    for packets in told["trace"].streams.values():
        overwritten(packets)  # numbers grow
    check_order(told["trace"])
    # The newest are there: nobody came after them.
    assert any("seq = 19999," in line for line in told["trace"].lines)


@pytest.mark.full_speed
def test_a_program_that_waits_for_room_loses_nothing(rundir: Rundir) -> None:
    storm = python(rundir, STORM, 10_000, 3, 1, 20)
    options = ["--subbuf-size=4k", "--num-subbuf=2", "--blocking-timeout=inf"]
    told = record(rundir, rundir.home / "trace", options, storm)
    check_exact(told, 60_000)
    assert told["discarded"] == 0


def test_what_is_larger_than_a_sub_buffer_is_lost_and_counted(rundir: Rundir) -> None:
    events = 200
    big = python(rundir, BIG, events, 1 << 20)
    options = ["--subbuf-size=4k", "--num-subbuf=16"]
    told = record(rundir, rundir.home / "trace", options, big)
    assert (told["recorded"], told["discarded"]) == (events, events)
    seen = [
        int(match[1]) for line in told["trace"].lines if (match := re.search(r"seq = (\d+)", line))
    ]
    assert seen == list(range(events))
