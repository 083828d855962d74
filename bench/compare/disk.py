# SPDX-License-Identifier: MIT
"""CPU seconds per GB consumed and events discarded, ours beside lttng-consumerd, in one run.

``python -P -m compare.disk [--events N] [--programs 1,8] [--pairs 5,3] [--sizes 4k,1M+direct]
[--pin]`` with ``bench`` and ``tests`` on PYTHONPATH. Programs that are registered already emit
N events, all together, at full speed into 4 sub-buffers per CPU. The scheduler puts programs
and consumers where it likes; ``--pin`` gives the daemons the last CPU and the programs the
others. Each pair runs one stack after the other; the table shows medians and the median of the
pairs' ratios, and beside them the ratio that is our budget. ``+direct``: ours writes past the
page cache, which LTTng cannot.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare.cost import cpu_seconds, pin
from compare.peers import Channel, Stack, discarded_events, lttng, ours, trace_bytes
from helpers.apps import build
from helpers.relayd import Relayd

__all__ = ["Case", "Run", "machine", "main", "numbers", "record"]

_UNITS = {"k": 1 << 10, "M": 1 << 20}
#: Until programs that start all at once have registered.
_REGISTERED_SECONDS = 60
#: CPU seconds per GB, ours / lttng-consumerd's, with one program.
_BUDGETS = {"4k": 0.4, "16k": 0.5, "128k": 0.7, "1M+direct": 0.35}


@dataclass
class Run:
    """One recording of one stack."""

    cpu: float
    daemons_cpu: float
    bytes: int
    #: of the files: less if they are compressed
    stored: int
    discarded: int
    seconds: float

    @property
    def per_gb(self) -> float:
        return self.cpu / (self.bytes / 1e9)


@dataclass(frozen=True)
class Case:
    """What is recorded: ``size`` as on the command line."""

    size: str
    programs: int
    events: int
    threads: int
    num_subbuf: int
    pinned: bool

    @property
    def direct(self) -> bool:
        return self.size.endswith("+direct")

    @property
    def channel(self) -> Channel:
        size = self.size.removesuffix("+direct")
        return Channel(int(size.rstrip("kM")) * _UNITS.get(size[-1], 1), self.num_subbuf)

    @property
    def budget(self) -> float | None:
        return _BUDGETS.get(self.size) if self.programs == 1 else None


def record(
    start: Callable[[], AbstractContextManager[Stack]],
    app: Path,
    case: Case,
    relay: Relayd | None = None,
) -> Run:
    """Record the programs once with a fresh registry; return what it cost.

    Parameters
    ----------
    relay : Relayd, optional
        Where the trace is sent, instead of a directory; it is one of the daemons.
    """
    with start() as stack:
        output = stack.rundir.home / "trace" if relay is None else relay.output
        place = ("-o", str(output)) if relay is None else ("--set-url", relay.url)
        stack.verb("create", "bench", *place)
        stack.verb("enable-channel", *case.channel.options(), "channel0")
        stack.verb("enable-event", "-c", "channel0", "flood:tick")
        if case.direct:
            stack.write_directly("bench")
        stack.verb("start")
        consumers, daemons = stack.consumers(), stack.daemons()
        if relay is not None:
            daemons.append(relay.process.pid)
        cpus = sorted(os.sched_getaffinity(0))
        apart = case.pinned and len(cpus) > 1
        if apart:
            pin(daemons, cpus[-1:])
        go = stack.rundir.home / "go"
        running = _start(stack, app, case, cpus[:-1] if apart else cpus, go)
        cpu, all_cpu = cpu_seconds(consumers), cpu_seconds(daemons)
        began = time.monotonic()
        go.touch()
        ended = [program.wait() for program in running]
        if any(ended):
            raise RuntimeError(f"{app} failed")
        seconds = time.monotonic() - began
        stack.verb("stop")
        cpu = cpu_seconds(consumers) - cpu
        all_cpu = cpu_seconds(daemons) - all_cpu
        stack.verb("destroy")
        return Run(cpu, all_cpu, *trace_bytes(output), discarded_events(output), seconds)


def _start(
    stack: Stack, app: Path, case: Case, cpus: Sequence[int], go: Path
) -> list[subprocess.Popen[Any]]:
    """Start the programs; return when all of them are registered and wait for ``go``."""
    share = str(case.events // case.programs // case.threads)
    running, ready = [], []
    for number in range(case.programs):
        ready.append(stack.rundir.home / f"ready-{number}")
        command = [app, share, str(case.threads), "--ready", ready[-1], "--wait-start", go]
        running.append(
            stack.rundir.start(command, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        )
    deadline = time.monotonic() + _REGISTERED_SECONDS
    while not all(path.exists() for path in ready):
        if time.monotonic() > deadline or any(program.poll() is not None for program in running):
            raise RuntimeError(f"{app}: not all {case.programs} programs registered")
        time.sleep(0.01)
    return running


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=20_000_000, help="of all together")
    parser.add_argument("--threads", type=int, default=1, help="of each program")
    parser.add_argument("--programs", type=numbers, default="1,8,32", help="at once")
    parser.add_argument("--pairs", type=numbers, default="5,3", help="for each of --programs")
    parser.add_argument("--sizes", default="4k,16k,128k,1M,1M+direct", help="of sub-buffers")
    parser.add_argument("--num-subbuf", type=int, default=4)
    parser.add_argument("--pin", action="store_true", help="programs and daemons on other CPUs")
    arguments = parser.parse_args()
    pairs = arguments.pairs + arguments.pairs[-1:] * len(arguments.programs)
    print(
        f"{machine()}; {arguments.events} events, {arguments.threads} threads a program, "
        f"{arguments.num_subbuf} sub-buffers, {'pinned, ' if arguments.pin else ''}"
        f"medians of {','.join(map(str, pairs[: len(arguments.programs)]))} pairs"
    )
    head = (
        f"{'programs':>8} {'sub-buffer':>10} {'stack':>6} {'CPU s/GB':>9} {'all s/GB':>9} {'GB':>7}"
    )
    print(f"{head} {'discarded':>10} {'app s':>7}", flush=True)
    missed = []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        app = build(Path(directory)).flood
        for programs, count in zip(arguments.programs, pairs, strict=False):
            for size in arguments.sizes.split(","):
                case = Case(
                    size,
                    programs,
                    arguments.events,
                    arguments.threads,
                    arguments.num_subbuf,
                    arguments.pin,
                )
                runs = [[record(start, app, case) for start in (ours, lttng)] for _ in range(count)]
                missed += _print(case, runs)
    print("\n".join(missed) or "all budgets met")


def machine() -> str:
    """Return when and where this is."""
    return (
        f"{datetime.date.today()}  {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    )


def numbers(text: str) -> list[int]:
    """Return the numbers of an option that takes several."""
    return [int(number) for number in text.split(",")]


def _print(case: Case, pairs: list[list[Run]]) -> list[str]:
    """Print the lines of a case; return the budgets it does not meet."""
    head = f"{case.programs:>8} {case.size:>10}"
    lost = []
    for column, name in enumerate(("ours", "lttng")):
        runs = [pair[column] for pair in pairs]
        cpu = statistics.median(run.per_gb for run in runs)
        every = statistics.median(run.daemons_cpu / (run.bytes / 1e9) for run in runs)
        gb = statistics.median(run.bytes for run in runs) / 1e9
        lost.append(statistics.median(run.discarded for run in runs))
        seconds = statistics.median(run.seconds for run in runs)
        print(f"{head} {name:>6} {cpu:9.3f} {every:9.3f} {gb:7.3f} {lost[-1]:10.0f} {seconds:7.2f}")
    ratio = statistics.median(a.per_gb / b.per_gb for a, b in pairs)
    spread = f"{min(a.per_gb / b.per_gb for a, b in pairs):.2f} to "
    spread += f"{max(a.per_gb / b.per_gb for a, b in pairs):.2f}"
    budget = "" if case.budget is None else f"of {case.budget:.2f}"
    print(f"{head}  ratio {ratio:9.2f} {budget:>9}  ({spread})", flush=True)
    what = f"{case.programs} programs, {case.size}"
    missed = []
    if case.budget is not None and ratio > case.budget:
        missed.append(f"not met: {what}: {ratio:.2f} of {case.budget:.2f}")
    if lost[0] > lost[1]:
        missed.append(f"not met: {what}: {lost[0]:.0f} events discarded, LTTng {lost[1]:.0f}")
    return missed


if __name__ == "__main__":
    main()
