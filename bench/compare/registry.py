# SPDX-License-Identifier: MIT
"""Many registered programs: what verbs cost for each of them, ours beside LTTng's, in one run.

``python -P -m compare.registry [--programs N] [--times N]`` with ``bench`` and ``tests`` on
PYTHONPATH. Both registries run all the time, each with as many programs that sleep. A row is a
whole command, ``drtrace VERB`` and ``lttng VERB``, whose time is divided by the number of
programs; "first start" gives buffers, a context and an event rule to every one, "version" is
what a command costs that does nothing. Stacks take turns; medians, and the median of the pairs'
ratios. ``lttng list -u`` also lists tracepoints, which it asks every program for; ``drtrace
apps`` does not, and looks for children of a fork.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from compare.peers import Stack, lttng, ours
from helpers.apps import build

__all__ = ["main"]

_SESSION = "bench"
_LISTS = {"ours": ("apps",), "lttng": ("list", "-u")}
_VERBS = ("version", "list", "first start", "stop", "start", "stop again", "destroy")
#: Longer than any run.
_PERIOD_MS = 3_600_000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--programs", type=int, default=500)
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # LTTng's session daemon has two or three descriptors of each, and what it was started with.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(
        f"{datetime.date.today()}  {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Linux {platform.release()}, Python {platform.python_version()}; "
        f"{options.programs} programs each, medians of {options.times}"
    )
    with contextlib.ExitStack() as ending:
        place = ending.enter_context(tempfile.TemporaryDirectory(prefix="ust-apps-"))
        program = build(Path(place)).sleeper
        stacks = [ending.enter_context(ours()), ending.enter_context(lttng())]
        for stack in stacks:
            ending.enter_context(_programs(stack, program, options.programs))
        times: dict[str, dict[str, list[float]]] = {
            stack.name: {verb: [] for verb in _VERBS} for stack in stacks
        }
        for turn in range(options.times + 1):
            for stack in stacks if turn % 2 else reversed(stacks):
                _cycle(stack, options.programs, times[stack.name] if turn else None)
    _print(times, options.programs)


@contextlib.contextmanager
def _programs(stack: Stack, program: Path, count: int) -> Iterator[None]:
    """Start programs and wait until each is registered."""
    rundir = stack.rundir
    ready = [rundir.home / f"ready-{number}" for number in range(count)]
    running = []
    for path in ready:
        running.append(rundir.start([program, str(_PERIOD_MS), "--ready", path]))
        # As they would come: not more at a time than a machine starts.
        if len(running) % 20 == 0:
            _await(path)
    for path in ready:
        _await(path)
    _check(stack, count)
    yield
    for process in running:
        process.terminate()
    for process in running:
        process.wait()


def _check(stack: Stack, count: int) -> None:
    said = stack.verb(*_LISTS[stack.name])
    found = sum("sleeper" in line and "sleeper:" not in line for line in said.splitlines())
    if found != count:
        raise RuntimeError(f"{stack.name} has {found} of {count} programs")


def _cycle(stack: Stack, count: int, times: dict[str, list[float]] | None) -> None:
    """Do every verb once; ``times`` of None only warms up."""
    name, size = _SESSION, ["--subbuf-size=4096", "--num-subbuf=4"]
    stack.verb("create", name, "-o", str(stack.rundir.home / "trace"))
    stack.verb("enable-channel", *size, "channel0")
    stack.verb("add-context", "-t", "vpid")
    stack.verb("enable-event", "-c", "channel0", "sleeper:*")
    steps = {
        "version": ("version",),
        "list": _LISTS[stack.name],
        "first start": ("start",),
        "stop": ("stop",),
        "start": ("start",),
        "stop again": ("stop",),
        "destroy": ("destroy",),
    }
    for verb, words in steps.items():
        took = _seconds(lambda: stack.verb(*words))  # noqa: B023 (called at once)
        if times is not None:
            times[verb].append(took)
    stack.rundir.run(["rm", "-r", str(stack.rundir.home / "trace")])


def _seconds(operation: Callable[[], object]) -> float:
    began = time.perf_counter()
    operation()
    return time.perf_counter() - began


def _print(times: dict[str, dict[str, list[float]]], count: int) -> None:
    print(f"{'':12} {'ours':>9} {'each':>8} {'lttng':>9} {'each':>8} {'ratio':>7}")
    for verb in _VERBS:
        mine, theirs = times["ours"][verb], times["lttng"][verb]
        ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
        cells = " ".join(
            f"{median * 1e3:6.0f} ms {median / count * 1e6:5.0f} us"
            for median in (statistics.median(mine), statistics.median(theirs))
        )
        print(f"{verb:12} {cells} {ratio:7.2f}", flush=True)


def _await(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"a program did not start: {path}")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
