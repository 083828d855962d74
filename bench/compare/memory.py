# SPDX-License-Identifier: MIT
"""Memory of the daemons with 1 and 8 sessions, ours beside LTTng's, in one run.

``python -P -m compare.memory`` with ``bench`` and ``tests`` on PYTHONPATH. One program is recorded
by every session (default channel); PSS counts a page shared by n processes as 1/n. The buffers
themselves are pages of the daemons and of the program; the last column leaves shared pages out.
"""

from __future__ import annotations

import datetime
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from compare.cost import private_bytes, pss_bytes
from compare.peers import Stack, lttng, ours
from helpers.apps import build

__all__ = ["main"]

_MB = 1e6
#: PSS of a session more.
_BUDGET_MB = 12


def measure(
    start: Callable[[], AbstractContextManager[Stack]], app: Path, sessions: int
) -> tuple[float, float, float]:
    """Return PSS of consumers, PSS of all daemons, private memory of all daemons, in bytes."""
    with start() as stack:
        for number in range(sessions):
            name = f"s{number}"
            stack.verb("create", name, "-o", str(stack.rundir.home / name))
            stack.verb("enable-event", "-s", name, "-a")
            stack.verb("start", name)
        ready = stack.rundir.home / "ready"
        program = stack.rundir.start([str(app), "1000", "--ready", str(ready)])
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.0)
        consumers = stack.consumers()
        everything = stack.daemons()
        result = (pss_bytes(consumers), pss_bytes(everything), private_bytes(everything))
        program.terminate()
        program.wait()
        for number in range(sessions):
            stack.verb("destroy", f"s{number}")
        return result


def main() -> None:
    """Print the table."""
    print(
        f"{datetime.date.today()}  {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Linux {platform.release()}, Python {platform.python_version()}; MB"
    )
    print(f"{'sessions':>8} {'stack':>6} {'consumers PSS':>14} {'all PSS':>9} {'all private':>12}")
    totals: dict[str, list[float]] = {"ours": [], "lttng": []}
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        apps = build(Path(directory))
        for sessions in (1, 8):
            for start in (ours, lttng):
                consumers, everything, private = measure(start, apps.sleeper, sessions)
                totals[start.__name__].append(everything)
                print(
                    f"{sessions:>8} {start.__name__:>6} {consumers / _MB:14.1f} "
                    f"{everything / _MB:9.1f} {private / _MB:12.1f}",
                    flush=True,
                )
    for name, (one, eight) in totals.items():
        budget = f" of {_BUDGET_MB}" if name == "ours" else ""
        print(f"{name}: {(eight - one) / 7 / _MB:.1f}{budget} MB PSS for each additional session")


if __name__ == "__main__":
    main()
