# SPDX-License-Identifier: MIT
"""CPU seconds per GB consumed and events discarded, ours beside lttng-consumerd, in one run.

``python -P -m compare.disk [--events N] [--pairs K] [--sizes 4k,1M+direct] [--programs 1,8]``
with ``bench`` and ``tests`` on PYTHONPATH. Programs emit N events, all together, at full speed
into 4 sub-buffers per CPU; the scheduler puts programs and consumers where it likes. Each
pair runs one stack after the other; the table shows medians and the median of the pairs'
ratios, and beside them the ratio that is our budget. ``+direct``: ours writes past the page
cache, which LTTng cannot.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from compare.cost import cpu_seconds
from compare.peers import Channel, Stack, discarded_events, lttng, ours, trace_bytes
from helpers.apps import build

__all__ = ["main"]

_UNITS = {"k": 1 << 10, "M": 1 << 20}
#: CPU seconds per GB, ours / lttng-consumerd's, with one program.
_BUDGETS = {"4k": 0.4, "16k": 0.5, "128k": 0.7, "1M+direct": 0.35}


@dataclass
class Run:
    """One recording of one stack."""

    cpu: float
    daemons_cpu: float
    bytes: int
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


def record(start: Callable[[], AbstractContextManager[Stack]], app: Path, case: Case) -> Run:
    """Record the programs once with a fresh registry; return what it cost."""
    with start() as stack:
        output = stack.rundir.home / "trace"
        stack.verb("create", "bench", "-o", str(output))
        stack.verb("enable-channel", *case.channel.options(), "channel0")
        stack.verb("enable-event", "-c", "channel0", "flood:tick")
        if case.direct:
            stack.write_directly("bench")
        stack.verb("start")
        consumers, daemons = stack.consumers(), stack.daemons()
        cpu, all_cpu = cpu_seconds(consumers), cpu_seconds(daemons)
        began = time.monotonic()
        command = [str(app), str(case.events // case.programs // case.threads), str(case.threads)]
        running = [stack.rundir.start(command) for _ in range(case.programs)]
        ended = [program.wait() for program in running]
        if any(ended):
            raise RuntimeError(f"{app} failed")
        seconds = time.monotonic() - began
        stack.verb("stop")
        cpu = cpu_seconds(consumers) - cpu
        all_cpu = cpu_seconds(daemons) - all_cpu
        stack.verb("destroy")
        return Run(cpu, all_cpu, trace_bytes(output), discarded_events(output), seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=20_000_000, help="of all together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--sizes", default="4k,16k,128k,1M,1M+direct")
    parser.add_argument("--programs", default="1,8,32")
    parser.add_argument("--num-subbuf", type=int, default=4)
    arguments = parser.parse_args()
    print(
        f"{datetime.date.today()}  {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}; "
        f"{arguments.events} events, {arguments.threads} threads a program, "
        f"{arguments.num_subbuf} sub-buffers, medians of {arguments.pairs} pairs"
    )
    head = (
        f"{'programs':>8} {'sub-buffer':>10} {'stack':>6} {'CPU s/GB':>9} {'all s/GB':>9} {'GB':>7}"
    )
    print(f"{head} {'discarded':>10} {'app s':>7}")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        app = build(Path(directory)).flood
        for programs in arguments.programs.split(","):
            for size in arguments.sizes.split(","):
                case = Case(
                    size,
                    int(programs),
                    arguments.events,
                    arguments.threads,
                    arguments.num_subbuf,
                )
                _print(
                    case,
                    [
                        [record(start, app, case) for start in (ours, lttng)]
                        for _ in range(arguments.pairs)
                    ],
                )


def _print(case: Case, pairs: list[list[Run]]) -> None:
    head = f"{case.programs:>8} {case.size:>10}"
    for column, name in enumerate(("ours", "lttng")):
        runs = [pair[column] for pair in pairs]
        cpu = statistics.median(run.per_gb for run in runs)
        every = statistics.median(run.daemons_cpu / (run.bytes / 1e9) for run in runs)
        gb = statistics.median(run.bytes for run in runs) / 1e9
        discarded = statistics.median(run.discarded for run in runs)
        seconds = statistics.median(run.seconds for run in runs)
        print(
            f"{head} {name:>6} {cpu:9.3f} {every:9.3f} {gb:7.3f} {discarded:10.0f} {seconds:7.2f}"
        )
    ratio = statistics.median(a.per_gb / b.per_gb for a, b in pairs)
    budget = "" if case.budget is None else f"of {case.budget:.2f}"
    lost = [a.discarded / b.discarded for a, b in pairs if b.discarded]
    told = f"{statistics.median(lost):.2f}" if lost else "no losses"
    print(f"{head}  ratio {ratio:9.2f} {budget:>9} {'':7} {told:>10}", flush=True)


if __name__ == "__main__":
    main()
