# SPDX-License-Identifier: MIT
"""What an event costs the Python program that emits it; other ways to do that beside ours.

``python -P -m compare.tracer [--rounds N] [--events N]`` with ``bench`` and ``tests`` on
PYTHONPATH. An event has three fields: an integer, a text, a real number. Nanoseconds per
event, the loop around it taken off; each way once per round, medians of the rounds and of
their ratios. The programs pin themselves to one CPU.

- ours: a tracepoint of `ustconsumer.tracer`, recorded by our registry and consumer
- full: the same into buffers so small that much of it is discarded
- lttngust: `logging` through LTTng's agent (Debian's python3-lttngust), recorded by LTTng
- viztracer: ``add_instant`` of VizTracer, which keeps the event in memory
- logging: `logging` into a file
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from compare.peers import Channel, Stack, discarded_events, lttng, ours
from helpers.rundir import Rundir

__all__ = ["main"]

_ENABLED_NS, _DISABLED_NS, _IMPORT_MS = 400, 50, 25
#: Room for all of it, and for next to nothing.
_LARGE, _SMALL = Channel(2 << 20, 16), Channel(4096, 2)
#: The Python that Debian's packages are for.
_SYSTEM_PYTHON = "/usr/bin/python3"

_BEGIN = """
import json, os, sys, time
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
EVENTS, PLACE = int(sys.argv[1]), sys.argv[2]
"""
#: What is timed is the statement as a program has it, and the loop without it.
_TIMED = """
def full(count):
    begin = time.perf_counter()
    for number in range(count):
        @EVENT@
    return time.perf_counter() - begin

def empty(count):
    begin = time.perf_counter()
    for number in range(count):
        pass
    return time.perf_counter() - begin

full(EVENTS // 10)
print(json.dumps((full(EVENTS) - empty(EVENTS)) / EVENTS * 1e9), flush=True)
"""
_LOGGER = """
logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
logger.propagate = False
"""
_SAY = 'logger.info("order %d %s %f", number, "tea", 2.5)'
#: Way: what comes before the loop, the statement.
_PROGRAMS = {
    "ours": (
        """
from ustconsumer.tracer import Provider, f64, string, u32
order = Provider("shop").tracepoint("order", number=u32, item=string, price=f64)
""",
        'order(number, "tea", 2.5)',
    ),
    "lttngust": ("import logging, lttngust" + _LOGGER + "logger.propagate = True\n", _SAY),
    "viztracer": (
        """
from viztracer import VizTracer
tracer = VizTracer(verbose=0, max_stack_depth=0, tracer_entries=EVENTS * 2)
if PLACE != "off":
    tracer.start()
""",
        'tracer.add_instant("order", {"number": number, "item": "tea", "price": 2.5})',
    ),
    "logging": (
        "import logging"
        + _LOGGER
        + """
handler = logging.FileHandler(PLACE if PLACE != "off" else os.devnull)
handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
logger.addHandler(handler)
if PLACE == "off":
    logger.setLevel(logging.WARNING)
""",
        _SAY,
    ),
}
_PROGRAMS["full"] = _PROGRAMS["ours"]
_ORDER = ("ours", "full", "lttngust", "viztracer", "logging")


def _program(way: str) -> str:
    setup, statement = _PROGRAMS[way]
    return _BEGIN + setup + _TIMED.replace("@EVENT@", statement)


class _Times:
    """Nanoseconds per event by way and state, one of each per round."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], list[float]] = {}

    def add(self, way: str, state: str, taken: float) -> None:
        self._taken.setdefault((way, state), []).append(taken)

    def median(self, way: str, state: str) -> float | None:
        taken = self._taken.get((way, state))
        return statistics.median(taken) if taken else None

    def missed(self) -> list[str]:
        """Return the budgets that are not met."""
        budgets = {"enabled": _ENABLED_NS, "disabled": _DISABLED_NS}
        medians = ((state, self.median("ours", state)) for state in budgets)
        return [
            f"not met: ours {state}: {median:.0f} ns of {budgets[state]}"
            for state, median in medians
            if median is not None and median > budgets[state]
        ]

    def rows(self) -> Iterator[str]:
        for way in _ORDER:
            for state in ("enabled", "disabled"):
                median = self.median(way, state)
                if median is None:
                    continue
                taken, mine = self._taken[way, state], self._taken["ours", state]
                beside = statistics.median(a / b for a, b in zip(taken, mine, strict=True))
                budget = _ENABLED_NS if state == "enabled" else _DISABLED_NS
                told = f"of {budget}" if way == "ours" else f"{beside:.1f} x"
                spread = f"({min(taken):.0f} to {max(taken):.0f})"
                yield f"{way:>10} {state:>8} {median:9.0f}  {told:>7}  {spread}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=300_000)
    options = parser.parse_args()
    print(
        f"{datetime.date.today()}  {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Linux {platform.release()}, Python {platform.python_version()}; "
        f"ns per event of three fields, medians of {options.rounds}; ratios to ours",
        flush=True,
    )
    times = _Times()
    with ours() as mine:
        absent = _absent(mine.rundir)
        for way, why in absent.items():
            print(f"{way}: left out, {why}", flush=True)
        with contextlib.nullcontext() if "lttngust" in absent else lttng() as theirs:
            for number in range(options.rounds):
                _round(times, mine, theirs, f"s{number}", options.events, absent)
        idle = _idle_wake_ups(mine.rundir)
    for row in times.rows():
        print(row)
    import_ms, provider_ms = _import_ms()
    print(
        f"above the bare interpreter: import {import_ms:.1f} ms (of {_IMPORT_MS}), "
        f"with the first Provider {provider_ms:.1f} ms"
    )
    print(f"wake-ups in 5 s while no registry exists: {idle} (of 0)")
    missed = times.missed()
    if import_ms > _IMPORT_MS:
        missed.append(f"not met: import: {import_ms:.1f} ms of {_IMPORT_MS}")
    if idle:
        missed.append(f"not met: {idle} wake-ups of 0")
    print("\n".join(missed) or "all budgets met")


def _round(
    times: _Times, mine: Stack, theirs: Stack | None, name: str, events: int, absent: dict[str, str]
) -> None:
    """Measure each way once."""
    _session(times, mine, name, "ours", events, _LARGE)
    _session(times, mine, f"{name}-full", "full", events, _SMALL)
    if theirs is not None:
        # It is so slow that a tenth of the events takes as long.
        _session(times, theirs, name, "lttngust", events // 10)
    log = mine.rundir.home / "log"
    for state, file in (("enabled", str(log)), ("disabled", "off")):
        times.add("logging", state, _run(mine.rundir, "logging", events, file))
        if "viztracer" not in absent:
            times.add("viztracer", state, _run(mine.rundir, "viztracer", events, file))
    log.unlink()


def _absent(rundir: Rundir) -> dict[str, str]:
    absent = {}
    if rundir.run_python("-c", "import viztracer", env=_environment(rundir)).returncode:
        absent["viztracer"] = "not installed for this Python (pip install viztracer)"
    probe = [_SYSTEM_PYTHON, "-c", "import lttngust"]
    if shutil.which("lttng") is None or subprocess.run(probe, check=False).returncode:
        absent["lttngust"] = "lttng-tools or python3-lttngust is not installed"
    return absent


def _session(
    times: _Times, stack: Stack, name: str, way: str, events: int, channel: Channel | None = None
) -> None:
    """Measure a way without a session, then with one that records everything."""
    if way != "full":
        times.add(way, "disabled", _run(stack.rundir, way, events, "off"))
    output = stack.rundir.home / name
    stack.verb("create", name, "-o", str(output))
    if channel is not None:
        stack.verb("enable-channel", "c", *channel.options())
        stack.verb("enable-event", "shop:*", "-c", "c")
    else:
        # LTTng's agent has a channel of its own.
        result = stack.rundir.run(["lttng", "--no-sessiond", "enable-event", "--python", "shop"])
        assert result.returncode == 0, result.stderr
    stack.verb("start")
    times.add(way, "enabled", _run(stack.rundir, way, events, "on"))
    stack.verb("stop")
    stack.verb("destroy")
    lost = discarded_events(output)
    if way == "ours" and lost:
        print(f"{lost} events discarded in {name}: what they took is in the figure", flush=True)
    if way == "full" and not lost:
        print(f"nothing was discarded in {name}", flush=True)
    shutil.rmtree(output, ignore_errors=True)


def _run(rundir: Rundir, way: str, events: int, place: str) -> float:
    program = ["-c", _program(way), str(events), place]
    if way == "lttngust":
        result = rundir.run([_SYSTEM_PYTHON, *program])
    else:
        result = rundir.run_python(*program, env=_environment(rundir))
    if result.returncode:
        raise RuntimeError(f"{way}: {result.stdout}{result.stderr}")
    taken: float = json.loads(result.stdout.splitlines()[-1])
    return taken


def _environment(rundir: Rundir) -> dict[str, str]:
    """Return where the user's Python finds VizTracer: where ours does."""
    found = importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        return {}
    own = rundir.env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": f"{own}:{os.path.dirname(os.path.dirname(found.origin))}"}


def _import_ms(times: int = 25) -> tuple[float, float]:
    """Return what the import, and the import and a provider, add to an interpreter.

    With its bytecode where Python keeps it, and no registry.
    """
    sources = (
        "pass",
        "import ustconsumer.tracer",
        "from ustconsumer.tracer import Provider; Provider('shop')",
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "LTTNG_HOME": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        taken: list[list[float]] = []
        for _ in range(times + 1):
            taken.append([])
            for code in sources:
                begin = time.perf_counter()
                subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=True)
                taken[-1].append((time.perf_counter() - begin) * 1e3)
    # The first ones wrote the cache.
    imported, provided = (
        statistics.median(row[column] - row[0] for row in taken[1:]) for column in (1, 2)
    )
    return imported, provided


def _idle_wake_ups(rundir: Rundir) -> int:
    """Return how often the tracer's thread ran in 5 s without a registry."""
    code = """
import os, time
from ustconsumer.tracer import Provider
def switches():
    total = 0
    for task in os.listdir("/proc/self/task"):
        if int(task) != os.getpid():
            with open(f"/proc/self/task/{task}/status") as file:
                total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return total
os.environ["LTTNG_HOME"] = "/nonexistent"
Provider("shop")
time.sleep(0.5)
before = switches()
time.sleep(5)
print(switches() - before)
"""
    result = rundir.run_python("-c", code)
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


if __name__ == "__main__":
    main()
