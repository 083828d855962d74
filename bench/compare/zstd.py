# SPDX-License-Identifier: MIT
"""Compressed traces of ours beside plain ones of lttng-consumerd, in one run.

``python -P -m compare.zstd [--events N] [--programs 1,8] [--pairs 3] [--sizes 4k,128k]
[--levels 1,3] [--pin]`` with ``bench`` and ``tests`` on PYTHONPATH. Programs that are registered
already emit N events, all together, at full speed into 4 sub-buffers per CPU. Each pair runs
one stack after the other. ``size`` is plain / on disk, ``CPU`` is what the consumers used for a
gigabyte of packets, and its ratio to lttng-consumerd's, which does not compress.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from compare.disk import Case, Run, machine, numbers, record
from compare.peers import lttng, ours
from helpers.apps import build

__all__ = ["main"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=5_000_000, help="of all together")
    parser.add_argument("--programs", type=numbers, default="1,8", help="at once")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--sizes", default="4k,16k,128k,1M", help="of sub-buffers")
    parser.add_argument("--levels", type=numbers, default="1,3", help="of compression")
    parser.add_argument("--num-subbuf", type=int, default=4)
    parser.add_argument("--pin", action="store_true", help="programs and daemons on other CPUs")
    arguments = parser.parse_args()
    print(
        f"{machine()}; {arguments.events} events, {arguments.num_subbuf} sub-buffers, "
        f"{'pinned, ' if arguments.pin else ''}medians of {arguments.pairs} runs"
    )
    print(
        f"{'programs':>8} {'sub-buffer':>10} {'stack':>8} {'size':>6} {'CPU s/GB':>9} "
        f"{'ratio':>6} {'packets GB':>10} {'on disk GB':>10} {'discarded':>10} {'app s':>7}",
        flush=True,
    )
    stacks = [lttng, *(functools.partial(ours, level) for level in arguments.levels)]
    names = ["lttng", *(f"zstd={level}" for level in arguments.levels)]
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        app = build(Path(directory)).flood
        for programs in arguments.programs:
            for size in arguments.sizes.split(","):
                case = Case(
                    size, programs, arguments.events, 1, arguments.num_subbuf, arguments.pin
                )
                rounds = [
                    [record(start, app, case) for start in stacks] for _ in range(arguments.pairs)
                ]
                _print(case, names, rounds)


def _print(case: Case, names: Sequence[str], rounds: list[list[Run]]) -> None:
    def median(of: Callable[[Run], float], column: int) -> float:
        return statistics.median(of(runs[column]) for runs in rounds)

    for column, name in enumerate(names):
        ratio = statistics.median(runs[column].per_gb / runs[0].per_gb for runs in rounds)
        print(
            f"{case.programs:>8} {case.size:>10} {name:>8} "
            f"{median(lambda run: run.bytes / run.stored, column):5.1f}x "
            f"{median(lambda run: run.per_gb, column):9.3f} {ratio:6.2f} "
            f"{median(lambda run: run.bytes, column) / 1e9:10.3f} "
            f"{median(lambda run: run.stored, column) / 1e9:10.3f} "
            f"{median(lambda run: run.discarded, column):10.0f} "
            f"{median(lambda run: run.seconds, column):7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
