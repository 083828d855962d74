# SPDX-License-Identifier: MIT
"""How long one waits: for a consumer, for a verb of ``drtrace``; LTTng's beside ours.

``python -P -m compare.latency [--times N]`` with ``bench`` and ``tests`` on PYTHONPATH.
Medians, in milliseconds. A consumer is ready when it has attached to its session, so that
recording could start; LTTng's daemon starts one for all its sessions, with the first
recorded program, and has no such moment.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable

from compare.peers import Stack, lttng, ours

from ustconsumer.client.registry import connect

__all__ = ["main"]

_CONSUMER_MS = 200
_VERB_MS = 60


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    print(
        f"{datetime.date.today()}  {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Linux {platform.release()}, Python {platform.python_version()}; "
        f"ms, medians of {times}, and the longest"
    )
    with ours() as stack:
        first, next_ = _consumers(stack, times)
        _print("the first consumer is ready", [first], _CONSUMER_MS)
        _print("another consumer is ready", next_, _CONSUMER_MS)
        _print("drtrace list", _verbs(stack, times), _VERB_MS)
    with lttng() as stack:
        _print("lttng list", _verbs(stack, times), None)


def _consumers(stack: Stack, times: int) -> tuple[float, list[float]]:
    with connect(stack.rundir.path) as registry:
        sessions = []
        waited = []
        for number in range(times + 1):
            session = registry.create(f"s{number}", stack.rundir.home / f"s{number}")
            session.enable_event("flood:tick")
            waited.append(_ms(session.spawn_consumer))
            sessions.append(session)
        for session in sessions:
            session.destroy()
    return waited[0], waited[1:]


def _verbs(stack: Stack, times: int) -> list[float]:
    return [_ms(lambda: stack.verb("list")) for _ in range(times)]


def _ms(operation: Callable[[], object]) -> float:
    began = time.perf_counter()
    operation()
    return (time.perf_counter() - began) * 1e3


def _print(what: str, times: list[float], budget: int | None) -> None:
    median = statistics.median(times)
    told = ""
    if budget is not None:
        told = f"  of {budget}" if median <= budget else f"  of {budget}: not met"
    print(f"{what:>28} {median:7.1f} {max(times):7.1f}{told}", flush=True)


if __name__ == "__main__":
    main()
