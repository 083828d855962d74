# SPDX-License-Identifier: MIT
"""Traces sent to a relay: both stacks to both relays, in one run.

``python -P -m compare.network [--events N] [--pairs 3] [--sizes 4k,128k]`` with ``bench`` and
``tests`` on PYTHONPATH. A program that is registered already emits N events at full speed into
4 sub-buffers per CPU; the relay is on the same machine, and writes to disk. Each round runs
every combination once. ``consumer`` is the CPU time of who sends a gigabyte of packets, and its
ratio to lttng-consumerd's at lttng-relayd; ``relay`` is that of who receives it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from compare.cost import cpu_seconds
from compare.disk import Case, Run, machine, record
from compare.peers import Stack, lttng, ours
from helpers.apps import build
from helpers.relayd import relayd

__all__ = ["main"]

#: Who sends, and to which relay; the first is what the others are compared with.
_COMBINATIONS: list[tuple[str, Callable[[], AbstractContextManager[Stack]], str]] = [
    ("lttng", lttng, "lttng"),
    ("ours", ours, "lttng"),
    ("lttng", lttng, "ours"),
    ("ours", ours, "ours"),
]


@dataclass
class _Sent:
    """One recording, and what it cost the relay."""

    run: Run
    relay_cpu: float

    @property
    def relay_per_gb(self) -> float:
        return self.relay_cpu / (self.run.bytes / 1e9)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--sizes", default="4k,16k,128k,1M", help="of sub-buffers")
    parser.add_argument("--num-subbuf", type=int, default=4)
    arguments = parser.parse_args()
    print(
        f"{machine()}; {arguments.events} events, {arguments.num_subbuf} sub-buffers, "
        f"medians of {arguments.pairs} runs"
    )
    print(
        f"{'sub-buffer':>10} {'sender':>7} {'relay':>6} {'consumer s/GB':>13} {'ratio':>6} "
        f"{'relay s/GB':>10} {'GB':>6} {'discarded':>10} {'app s':>7}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        app = build(Path(directory)).flood
        for size in arguments.sizes.split(","):
            case = Case(size, 1, arguments.events, 1, arguments.num_subbuf, False)
            rounds = [
                [_send(start, relay, app, case) for _, start, relay in _COMBINATIONS]
                for _ in range(arguments.pairs)
            ]
            _print(case, rounds)


def _send(
    start: Callable[[], AbstractContextManager[Stack]], kind: str, app: Path, case: Case
) -> _Sent:
    with (
        tempfile.TemporaryDirectory(prefix="bench-relay-") as directory,
        relayd(kind, Path(directory, "relay")) as relay,
    ):
        pids = [relay.process.pid]
        before = cpu_seconds(pids)
        run = record(start, app, case, relay)
        return _Sent(run, cpu_seconds(pids) - before)


def _print(case: Case, rounds: list[list[_Sent]]) -> None:
    def median(of: Callable[[_Sent], float], column: int) -> float:
        return statistics.median(of(each[column]) for each in rounds)

    for column, (name, _, relay) in enumerate(_COMBINATIONS):
        ratio = statistics.median(each[column].run.per_gb / each[0].run.per_gb for each in rounds)
        print(
            f"{case.size:>10} {name:>7} {relay:>6} "
            f"{median(lambda sent: sent.run.per_gb, column):13.3f} {ratio:6.2f} "
            f"{median(lambda sent: sent.relay_per_gb, column):10.3f} "
            f"{median(lambda sent: sent.run.bytes, column) / 1e9:6.3f} "
            f"{median(lambda sent: sent.run.discarded, column):10.0f} "
            f"{median(lambda sent: sent.run.seconds, column):7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
