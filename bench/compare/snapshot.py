# SPDX-License-Identifier: MIT
"""A snapshot of full overwrite buffers: time and CPU, ours beside LTTng's, in one run.

``python -P -m compare.snapshot [--pairs N] [--mib N]`` with ``bench`` and ``tests`` on
PYTHONPATH. Both registries run all the time, each has a session in snapshot mode whose buffers
programs fill again before each run (what LTTng takes of idle buffers shrinks with each
snapshot). "operation" is the call within a client that runs already: `Session.snapshot`, and
``lttng_snapshot_record()`` of liblttng-ctl; "command" is the whole ``drtrace snapshot record``
and ``lttng snapshot record``. CPU is that of the client or command and of all daemons. Each
pair has one run of each, in turns first; medians, and the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes.util
import datetime
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare.cost import cpu_seconds
from compare.peers import Channel, Stack, lttng, ours, trace_bytes
from helpers.apps import build

from ustconsumer.client.registry import connect
from ustconsumer.protocol.control import ChannelOptions

__all__ = ["main"]

_SESSION = "bench"
_NUM_SUBBUF = 8
_TEXT = 1000
#: Of an event: its text, two numbers, the shorter header.
_EVENT = _TEXT + 14
#: Time and CPU of the operation, ours / LTTng's.
_BUDGET = 1.0
#: A client does one thing for each line it reads, and says how long it took.
_LOOP = """
import json, sys, time
for line in sys.stdin:
    cpu, began = time.process_time(), time.perf_counter()
    times = operation(line.strip())
    ended = time.perf_counter()
    out = {"wall": ended - began, "cpu": time.process_time() - cpu, **(times or {})}
    print(json.dumps(out), flush=True)
"""
_OURS = """
import sys, time
import ustconsumer
from ustconsumer.client.connection import Connection
from ustconsumer.consumer.observer import Observer
rundir, name, place = sys.argv[1:]
session = ustconsumer.connect(rundir).session(name)
def parts(directory):
    at = [time.perf_counter()]
    with Observer(Connection.connect(rundir, role="observer"), name) as observer:
        at.append(time.perf_counter())
        observer.snapshot(directory)
        at.append(time.perf_counter())
    at.append(time.perf_counter())
    names = "connect, attach and map", "copy", "unmap and close"
    return {"parts": dict(zip(names, (b - a for a, b in zip(at, at[1:]))))}
def operation(word):
    if word:
        return parts(word)
    session.snapshot(place)
"""
_LTTNG = """
import ctypes, sys
library, name = sys.argv[1:]
record = ctypes.CDLL(library).lttng_snapshot_record
record.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
def operation(word):
    status = record(name.encode(), None, 0)
    if status:
        raise RuntimeError(f"lttng_snapshot_record: {status}")
"""


@dataclass
class Run:
    """One snapshot; seconds and bytes."""

    wall: float
    cpu: float
    bytes: int


class Subject:
    """A stack with its session, and a client that is connected."""

    def __init__(self, stack: Stack, library: str, channel: Channel) -> None:
        self.stack = stack
        self.name = stack.name
        self.output = stack.rundir.home / "snapshots"
        if stack.name == "ours":
            self._create_ours(channel)
            arguments: list[str | os.PathLike[str]] = [
                _OURS + _LOOP,
                stack.rundir.path,
                _SESSION,
                self.output,
            ]
        else:
            stack.verb("create", _SESSION, "--snapshot", f"--output={self.output}")
            stack.verb("enable-channel", "--overwrite", *channel.options(), "channel0")
            stack.verb("enable-event", "-c", "channel0", "flood:tick")
            stack.verb("start")
            arguments = [_LTTNG + _LOOP, library, _SESSION]
        self._client = stack.rundir.start_python(
            "-c", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _create_ours(self, channel: Channel) -> None:
        with connect(self.stack.rundir.path) as registry:
            session = registry.create(_SESSION, self.output, snapshot=True)
            options = ChannelOptions(
                subbuf_size=channel.subbuf_size, num_subbuf=channel.num_subbuf, mode="overwrite"
            )
            session.enable_channel("channel0", options)
            session.enable_event("flood:tick", "channel0")
            session.start()

    def fill(self, app: Path, channel: Channel) -> None:
        """Fill the buffers of every CPU, with some to spare."""
        count = channel.subbuf_size * channel.num_subbuf * 5 // 4 // _EVENT
        command: list[str | os.PathLike[str]] = [app, str(count), "--text", str(_TEXT)]
        for cpu in sorted(os.sched_getaffinity(0)):
            process = self.stack.rundir.start(command, preexec_fn=lambda cpu=cpu: _stay_on(cpu))
            if process.wait():
                raise RuntimeError(f"{app} failed")
        # What programs wrote to disk before is no business of a snapshot.
        os.sync()

    def operation(self) -> Run:
        """Take a snapshot within the client."""
        return self._measure(lambda: self._ask("")["cpu"])

    def command(self) -> Run:
        """Take a snapshot by a command."""

        def run() -> float:
            before = _children_seconds()
            self.stack.verb("snapshot", "record", "-s", _SESSION)
            return _children_seconds() - before

        return self._measure(run)

    def parts(self) -> dict[str, float]:
        """Return where the time of the first snapshot in a client goes (ours)."""
        directory = self.stack.rundir.home / "parts"
        times: dict[str, float] = self._ask(str(directory))["parts"]
        shutil.rmtree(directory)
        return times

    def close(self) -> None:
        assert self._client.stdin is not None
        self._client.stdin.close()
        self._client.wait()
        self.stack.verb("destroy", _SESSION)

    def _ask(self, word: str) -> Any:
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(word + "\n")
        self._client.stdin.flush()
        answer = self._client.stdout.readline()
        if not answer:
            raise RuntimeError(f"the client of {self.name} failed")
        return json.loads(answer)

    def _measure(self, run: Callable[[], float]) -> Run:
        daemons = self.stack.daemons()
        before = _daemon_seconds(daemons)
        began = time.perf_counter()
        cpu = run()
        wall = time.perf_counter() - began
        cpu += _daemon_seconds(daemons) - before
        taken = trace_bytes(self.output)[0]
        shutil.rmtree(self.output)
        return Run(wall, cpu, taken)


def _stay_on(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _daemon_seconds(pids: list[int]) -> float:
    """Return what daemons used, and those they started and waited for."""
    total = cpu_seconds(pids)
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return total


@contextlib.contextmanager
def _subjects(channel: Channel) -> Iterator[tuple[Subject, Subject]]:
    library = ctypes.util.find_library("lttng-ctl")
    if library is None:
        raise RuntimeError("liblttng-ctl is not installed")
    with contextlib.ExitStack() as stack:
        made = []
        for start in (ours, lttng):
            made.append(Subject(stack.enter_context(start()), library, channel))
            stack.callback(made[-1].close)
        yield made[0], made[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--mib", type=int, default=64, help="of buffers, of all CPUs together")
    arguments = parser.parse_args()
    cpus = len(os.sched_getaffinity(0))
    channel = Channel((arguments.mib << 20) // cpus // _NUM_SUBBUF, _NUM_SUBBUF)
    print(
        f"{datetime.date.today()}  {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}; "
        f"{arguments.mib} MiB of full buffers, {_NUM_SUBBUF} sub-buffers a CPU, "
        f"medians of {arguments.pairs} pairs"
    )
    print(f"{'':>10} {'stack':>6} {'wall ms':>8} {'CPU ms':>8} {'MB':>7}", flush=True)
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        app = build(Path(directory)).flood
        with _subjects(channel) as subjects:
            for what in ("operation", "command"):
                count = arguments.pairs + 1
                pairs = [_pair(subjects, what, app, channel, turn) for turn in range(count)]
                # The first one met cold caches.
                over = _print(what, pairs[1:])
                if what == "operation":
                    missed += over
                    _print_parts(subjects[0], app, channel, arguments.pairs)
    print("\n".join(missed) or "all budgets met")


def _pair(
    subjects: tuple[Subject, Subject], what: str, app: Path, channel: Channel, turn: int
) -> list[Run]:
    """Have each take a snapshot; the other one is first every other time."""
    runs: dict[str, Run] = {}
    for subject in subjects if turn % 2 else subjects[::-1]:
        subject.fill(app, channel)
        runs[subject.name] = getattr(subject, what)()
    return [runs[subject.name] for subject in subjects]


def _print(what: str, pairs: list[list[Run]]) -> list[str]:
    """Print the lines of a case; return the budgets it does not meet."""
    for column, name in enumerate(("ours", "lttng")):
        runs = [pair[column] for pair in pairs]
        wall = statistics.median(run.wall for run in runs) * 1e3
        cpu = statistics.median(run.cpu for run in runs) * 1e3
        taken = statistics.median(run.bytes for run in runs) / 1e6
        print(f"{what:>10} {name:>6} {wall:8.1f} {cpu:8.1f} {taken:7.2f}")
    missed = []
    for unit in ("wall", "cpu"):
        ratios = [getattr(a, unit) / getattr(b, unit) for a, b in pairs]
        ratio = statistics.median(ratios)
        budget = f" of {_BUDGET:.2f}" if what == "operation" else ""
        print(
            f"{what:>10} {unit:>6} ratio {ratio:.2f}{budget}  "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
        if budget and ratio > _BUDGET:
            missed.append(f"not met: {unit} of the operation: {ratio:.2f}{budget}")
    return missed


def _print_parts(subject: Subject, app: Path, channel: Channel, times: int) -> None:
    subject.fill(app, channel)
    taken = [subject.parts() for _ in range(times)]
    told = (
        f"{part} {statistics.median(one[part] for one in taken) * 1e3:.1f}" for part in taken[0]
    )
    print(f"{'':>10} {'ours':>6} ms, of the first in a client: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
