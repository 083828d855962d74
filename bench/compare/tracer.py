# SPDX-License-Identifier: MIT
"""What an event costs the Python program that emits it; other ways to do that beside ours.

``python -P -m compare.tracer [--rounds N] [--events N]`` with ``bench`` and ``tests`` on
PYTHONPATH. An event has three fields: an integer, a text, a real number. Nanoseconds per
event, the loop around it taken off; each way once per round, medians of the rounds. The
programs pin themselves to one CPU.

- ours: a tracepoint of `ustconsumer.tracer`, recorded by our registry and consumer
- lttngust: `logging` through LTTng's agent (Debian's python3-lttngust), recorded by LTTng
- viztracer: ``add_instant`` of VizTracer, which keeps the event in memory
- logging: `logging` into a file
"""

from __future__ import annotations

import argparse
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
from collections.abc import Iterator, Sequence

from compare.peers import Stack, discarded_events, lttng, ours
from helpers.rundir import Rundir

__all__ = ["main"]

_ENABLED_NS, _DISABLED_NS, _IMPORT_MS = 400, 50, 25
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

    def rows(self) -> Iterator[str]:
        for way in _PROGRAMS:
            for state in ("enabled", "disabled"):
                median, mine = self.median(way, state), self.median("ours", state)
                if median is None or mine is None:
                    continue
                taken = self._taken[way, state]
                ratio = "" if way == "ours" else f"{median / mine:8.1f} x"
                told = _told(median, state) if way == "ours" else ""
                yield (
                    f"{way:>10} {state:>8} {median:9.1f} ({min(taken):.1f} to {max(taken):.1f})"
                    f"{ratio}{told}"
                )


def _told(median: float, state: str) -> str:
    budget = _ENABLED_NS if state == "enabled" else _DISABLED_NS
    return f"  of {budget}" if median <= budget else f"  of {budget}: not met"


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
        _each_round(times, mine, options.rounds, options.events)
        idle = _idle_wake_ups(mine.rundir)
    for row in times.rows():
        print(row)
    print(f"import: {_import_ms():.1f} ms above the bare interpreter (of {_IMPORT_MS})")
    print(f"wake-ups in 5 s while no registry exists: {idle} (of 0)")


def _each_round(times: _Times, mine: Stack, rounds: int, events: int) -> None:
    absent = _absent(mine.rundir)
    for way, why in absent.items():
        print(f"{way}: left out, {why}", flush=True)
    for number in range(rounds):
        _session(times, mine, f"s{number}", "ours", events, [sys.executable, "-P"])
        log = mine.rundir.home / "log"
        for state, file in (("enabled", str(log)), ("disabled", "off")):
            times.add("logging", state, _run(mine.rundir, "logging", events, file))
            if "viztracer" not in absent:
                times.add("viztracer", state, _run(mine.rundir, "viztracer", events, file))
        log.unlink()
    if "lttngust" in absent:
        return
    with lttng() as theirs:
        for number in range(rounds):
            # It is so slow that a tenth of the events takes as long.
            command = [_SYSTEM_PYTHON]
            _session(times, theirs, f"s{number}", "lttngust", events // 10, command)


def _absent(rundir: Rundir) -> dict[str, str]:
    absent = {}
    if rundir.run_python("-c", "import viztracer", env=_environment(rundir)).returncode:
        absent["viztracer"] = "not installed for this Python (pip install viztracer)"
    probe = [_SYSTEM_PYTHON, "-c", "import lttngust"]
    if shutil.which("lttng") is None or subprocess.run(probe, check=False).returncode:
        absent["lttngust"] = "lttng-tools or python3-lttngust is not installed"
    return absent


def _session(
    times: _Times, stack: Stack, name: str, way: str, events: int, command: Sequence[str]
) -> None:
    """Measure a way without a session, then with one that records everything."""
    times.add(way, "disabled", _run(stack.rundir, way, events, "off", command))
    output = stack.rundir.home / name
    stack.verb("create", name, "-o", str(output))
    if way == "ours":
        # Room for all of it: what is dropped costs less than what is recorded.
        stack.verb("enable-channel", "c", "--subbuf-size=2M", "--num-subbuf=16")
        stack.verb("enable-event", "shop:*", "-c", "c")
    else:
        # LTTng's agent has a channel of its own.
        result = stack.rundir.run(["lttng", "--no-sessiond", "enable-event", "--python", "shop"])
        assert result.returncode == 0, result.stderr
    stack.verb("start")
    times.add(way, "enabled", _run(stack.rundir, way, events, "on", command))
    stack.verb("stop")
    stack.verb("destroy")
    lost = discarded_events(output)
    if way == "ours" and lost:
        print(f"{lost} events discarded in {name}: what they took is in the figure", flush=True)
    shutil.rmtree(output, ignore_errors=True)


def _run(rundir: Rundir, way: str, events: int, place: str, command: Sequence[str] = ()) -> float:
    program = ["-c", _program(way), str(events), place]
    result = (
        rundir.run([*command, *program])
        if command and command[0] == _SYSTEM_PYTHON
        else rundir.run_python(*program, env=_environment(rundir))
    )
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


def _import_ms(times: int = 15) -> float:
    """Return what the import adds to an interpreter, with its bytecode where Python keeps it."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        bare, full = [], []
        for _ in range(times + 1):
            for taken, code in ((bare, "pass"), (full, "import ustconsumer.tracer")):
                begin = time.perf_counter()
                subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=True)
                taken.append((time.perf_counter() - begin) * 1e3)
    # The first ones wrote the cache.
    return statistics.median(full[1:]) - statistics.median(bare[1:])


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
