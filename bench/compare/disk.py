# SPDX-License-Identifier: MIT
"""CPU seconds per GB consumed and events discarded, ours beside lttng-consumerd, in one run.

``python -P -m compare.disk [--events N] [--pairs K] [--sizes 4k,16k,128k,1M]`` with ``bench`` and
``tests`` on PYTHONPATH. A program emits N events at full speed into 4 sub-buffers per CPU
(2 of 1 MiB), pinned to the second CPU if there is one; consumers run where they are put.
Each pair runs one stack after the other; the table shows medians and the median of the
pairs' ratios.
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


def record(
    start: Callable[[], AbstractContextManager[Stack]],
    app: Path,
    events: int,
    channel: Channel,
    threads: int,
) -> Run:
    """Record the program once with a fresh registry; return what it cost."""
    with start() as stack:
        output = stack.rundir.home / "trace"
        stack.verb("create", "bench", "-o", str(output))
        stack.verb("enable-channel", *channel.options(), "channel0")
        stack.verb("enable-event", "-c", "channel0", "flood:tick")
        stack.verb("start")
        consumers, daemons = stack.consumers(), stack.daemons()
        cpu, all_cpu = cpu_seconds(consumers), cpu_seconds(daemons)
        began = time.monotonic()
        result = stack.rundir.run([str(app), str(events), str(threads)])
        seconds = time.monotonic() - began
        if result.returncode:
            raise RuntimeError(f"{app}: {result.stderr}")
        stack.verb("stop")
        cpu = cpu_seconds(consumers) - cpu
        all_cpu = cpu_seconds(daemons) - all_cpu
        stack.verb("destroy")
        return Run(cpu, all_cpu, trace_bytes(output), discarded_events(output), seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--sizes", default="4k,16k,128k,1M")
    parser.add_argument("--num-subbuf", type=int, default=4)
    arguments = parser.parse_args()
    print(
        f"{datetime.date.today()}  {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}; "
        f"{arguments.events} events x {arguments.threads} threads, "
        f"{arguments.num_subbuf} sub-buffers, medians of {arguments.pairs} pairs"
    )
    head = f"{'sub-buffer':>10} {'stack':>6} {'CPU s/GB':>9} {'all s/GB':>9} {'GB':>7}"
    print(f"{head} {'discarded':>10} {'app s':>7}")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        apps = build(Path(directory))
        for size in arguments.sizes.split(","):
            unit = _UNITS.get(size[-1], 1)
            channel = Channel(int(size.rstrip("kM")) * unit, arguments.num_subbuf)
            pairs = []
            for _ in range(arguments.pairs):
                pairs.append(
                    [
                        record(start, apps.flood, arguments.events, channel, arguments.threads)
                        for start in (ours, lttng)
                    ]
                )
            _print(size, pairs)


def _print(size: str, pairs: list[list[Run]]) -> None:
    for column, name in enumerate(("ours", "lttng")):
        runs = [pair[column] for pair in pairs]
        cpu = statistics.median(run.per_gb for run in runs)
        every = statistics.median(run.daemons_cpu / (run.bytes / 1e9) for run in runs)
        gb = statistics.median(run.bytes for run in runs) / 1e9
        discarded = statistics.median(run.discarded for run in runs)
        seconds = statistics.median(run.seconds for run in runs)
        print(
            f"{size:>10} {name:>6} {cpu:9.3f} {every:9.3f} {gb:7.3f}"
            f" {discarded:10.0f} {seconds:7.2f}"
        )
    ratio = statistics.median(a.per_gb / b.per_gb for a, b in pairs)
    lost = [a.discarded / b.discarded for a, b in pairs if b.discarded]
    told = f"{statistics.median(lost):.2f}" if lost else "no losses"
    print(f"{size:>10}  ratio {ratio:9.2f} {'':>17} {told:>10}", flush=True)


if __name__ == "__main__":
    main()
