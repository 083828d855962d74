# SPDX-License-Identifier: MIT
"""Python programs that trace themselves: when they register, fork, start others, and end."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import processes
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import Summary
from helpers.lttng import lttng_sessiond
from helpers.peers import need
from helpers.puppet import Puppet
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("babeltrace2")

PROVIDER = """
import os, sys
from ustconsumer.tracer import Provider, u32
shop = Provider("shop")
order = shop.tracepoint("order", number=u32)
"""

_EVENT = re.compile(r"shop:order: .*\bvpid = (\d+), vtid = (\d+)\b.*\{ number = (\d+) \}$")


class Event(NamedTuple):
    vpid: int
    vtid: int
    number: int


def events(lines: list[str]) -> list[Event]:
    found = (_EVENT.search(line) for line in lines)
    return [Event(*map(int, match.groups())) for match in found if match]


def record(rundir: Rundir, source: str, *options: str, record: tuple[str, ...] = ()) -> list[Event]:
    """Record a Python program that says nothing; return the events of ``shop:order``."""
    path = rundir.home / "program.py"
    path.write_text(source)
    program = rundir.user.python(*options, path)
    arguments = ["-o", str(rundir.home / "trace"), "-e", "shop:*", *record, "--", *program]
    result = rundir.drtrace("record", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    summary = Summary(result.stdout)
    assert summary.before == []
    return events(summary.check())


# -- forks and processes ---------------------------------------------------------------------


FORK = (
    PROVIDER
    + """
order(0)
for number in range(1, 4):
    pid = os.fork()
    if pid == 0:
        order(number)
        grandchild = os.fork()
        order(number * 10 + (grandchild == 0))
        if grandchild:
            os.waitpid(grandchild, 0)
        os._exit(0)
    order(number * 100)
    assert os.waitpid(pid, 0)[1] == 0
"""
)


def check_fork(seen: list[Event]) -> None:
    by_number = {event.number: event for event in seen}
    assert len(seen) == len(by_number) == 13
    parent = by_number[0].vpid
    # Each emits as itself, not with what was remembered of the one it was copied from.
    assert {by_number[number].vpid for number in (100, 200, 300)} == {parent}
    pids = {parent}
    for number in (1, 2, 3):
        child, same, grandchild = (
            by_number[n].vpid for n in (number, number * 10, number * 10 + 1)
        )
        assert child == same
        pids |= {child, grandchild}
    assert len(pids) == 7
    assert all(event.vtid == event.vpid for event in seen)


@pytest.mark.parametrize("preload", ["none", "fork"])
def test_children_of_a_bare_fork(rundir: Rundir, preload: str) -> None:
    """Also when liblttng-ust is in the same processes, and follows their forks by itself."""
    if preload == "fork":
        need("lttng-ust-headers")
    # Python 3.12 warns of threads by the time it forks: not of ours, of those of liblttng-ust.
    warnings = "always" if preload == "none" else "ignore"
    check_fork(record(rundir, FORK, "-W", warnings, record=("--preload", preload)))


@pytest.mark.peers("lttng", "lttng-sessiond")
def test_children_of_a_bare_fork_with_lttng() -> None:
    with lttng_sessiond() as lttng:
        output = lttng.rundir.home / "trace"
        lttng("create", "forks", "-o", output)
        lttng("enable-event", "--userspace", "shop:*")
        for context in ("vpid", "vtid"):
            lttng("add-context", "--userspace", f"--type={context}")
        lttng("start")
        assert lttng.rundir.start_python("-W", "always", "-c", FORK).wait() == 0
        lttng("stop")
        lttng("destroy")
        check_fork(events(babeltrace2_text(output).lines))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(rundir: Rundir, method: str) -> None:
    source = (
        PROVIDER
        + f"""
import multiprocessing
def work(first):
    for number in range(first, first + 10):
        order(number)
if __name__ == "__main__":
    order(0)
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=work, args=(n,)) for n in (100, 200, 300)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    order(1)
"""
    )
    # The processes that multiprocessing keeps for itself end a moment after the program.
    seen = record(rundir, source, "-W", "error", record=("--wait-all",))
    assert sorted(event.number for event in seen) == [
        *(0, 1),
        *(first + n for first in (100, 200, 300) for n in range(10)),
    ]
    by_pid = Counter(event.vpid for event in seen)
    assert sorted(by_pid.values()) == [2, 10, 10, 10]


def test_fork_among_threads(rundir: Rundir) -> None:
    """Threads that emit, one of which forks; the child has that thread only, and emits."""
    source = (
        PROVIDER
        + """
import threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # these threads are the program's own
def emit(first):
    for number in range(first, first + 500):
        order(number)
def fork():
    for number in range(5):
        pid = os.fork()
        if pid == 0:
            for number in range(10):
                order(90000 + number)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
threads = [threading.Thread(target=emit, args=(1000 * n,)) for n in range(1, 9)]
threads.append(threading.Thread(target=fork))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
order(0)
"""
    )
    seen = record(rundir, source)
    numbers = Counter(event.number for event in seen)
    assert numbers == Counter(
        {0: 1}
        | {1000 * n + k: 1 for n in range(1, 9) for k in range(500)}
        | {90000 + k: 5 for k in range(10)}
    )
    parent = next(event.vpid for event in seen if event.number == 0)
    assert {event.vpid == parent for event in seen if event.number < 90000} == {True}
    assert len({event.vtid for event in seen if event.number < 90000}) == 9
    children = [event for event in seen if event.number >= 90000]
    assert len({event.vpid for event in children}) == 5
    assert all(event.vtid == event.vpid for event in children)


def test_other_programs(rundir: Rundir) -> None:
    """One that is started, and one started through a forked copy of this one."""
    source = (
        PROVIDER
        + """
import subprocess
order(0)
code = "import sys; sys.path[:0] = [%r]; " % os.path.dirname(__file__) + (
    "import program" if len(sys.argv) == 1 else ""
)
if __name__ == "__main__":
    for options in ({}, {"preexec_fn": lambda: order(7)}):
        done = subprocess.run([sys.executable, "-c", code], **options)
        assert done.returncode == 0
    order(1)
"""
    )
    # A liblttng-ust that follows forks aborts when subprocess closes its descriptors.
    seen = record(rundir, source, record=("--preload", "none"))
    assert Counter(event.number for event in seen) == {0: 3, 1: 1, 7: 1}
    assert len({event.vpid for event in seen}) == 3
    # What it does between fork and exec is done by the new process.
    (between,) = (event for event in seen if event.number == 7)
    assert Counter(event.vpid for event in seen)[between.vpid] == 2


# -- threads, loops, imports --------------------------------------------------------------


def test_asyncio(rundir: Rundir) -> None:
    source = """
import asyncio, os
async def work(order, number):
    for step in range(10):
        order(number + step)
        await asyncio.sleep(0)
async def main():
    from ustconsumer.tracer import Provider, u32
    order = Provider("shop").tracepoint("order", number=u32)
    await asyncio.gather(*(work(order, 100 * n) for n in range(1, 6)))
    pid = os.fork()
    if pid == 0:
        order(0)
        os._exit(0)
    os.waitpid(pid, 0)
    await work(order, 600)
asyncio.run(main())
"""
    numbers = sorted(event.number for event in record(rundir, source, "-W", "error"))
    assert numbers == [0, *(100 * n + step for n in range(1, 7) for step in range(10))]


def test_nothing_heavy_is_imported(rundir: Rundir) -> None:
    source = (
        PROVIDER
        + """
order(0)
loaded = {name.partition(".")[0] for name in sys.modules}
order(len(loaded & {"numpy", "asyncio", "uvloop", "threading", "logging", "zstandard"}) + 10)
"""
    )
    assert [event.number for event in record(rundir, source)] == [0, 10]


# -- the end of the program -----------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        "os._exit(0)",
        "import atexit; atexit.register(order, 2)",
        "import threading; threading._register_atexit(order, 2)",
        "class Late:\n    def __del__(self):\n        order(2)\nlate = Late()",
    ],
)
def test_last_events(rundir: Rundir, end: str) -> None:
    source = PROVIDER + f"order(0)\norder(1)\n{end}\n"
    seen = record(rundir, source, "-X", "dev", "-W", "error")
    assert [event.number for event in seen] == ([0, 1] if "_exit" in end else [0, 1, 2])


@pytest.mark.repeat(ci=5, soak=100)
def test_threads_that_emit_until_the_end(rundir: Rundir, repeat: int) -> None:
    """Daemon threads are stopped by the interpreter in the middle of anything."""
    source = (
        PROVIDER
        + """
import threading, time
ready = []
def emit():
    ready.append(order(0))
    while True:
        order(1)
for _ in range(4):
    threading.Thread(target=emit, daemon=True).start()
while len(ready) < 4:
    time.sleep(0.001)
"""
    )
    (rundir.home / "program.py").write_text(source)
    program = rundir.user.python("-X", "dev", "-W", "error", rundir.home / "program.py")
    with running_registry(rundir) as registry:
        session = registry.client.create("end", rundir.home / "trace")
        session.enable_event("shop:*")
        assert session.start() == []
        for _ in range(repeat):
            result = rundir.run(program)
            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.peers("lttng-ust-headers")
@pytest.mark.repeat(ci=1, soak=6)
def test_both_tracers_in_one_process(user_rundir: Rundir, repeat: int) -> None:
    """They wake at the same time, have one pid, and are two applications."""
    puppet = Puppet(user_rundir)
    # Not before it is the user: liblttng-ust aborts programs that change that.
    puppet.begin(
        "import os, sys\n"
        "os.environ['LD_PRELOAD'] = 'liblttng-ust.so.1'\n"
        "os.execv(sys.executable, sys.orig_argv)"
    )
    environment = Path(f"/proc/{puppet.pid}/environ")
    until(lambda: b"LD_PRELOAD" in environment.read_bytes(), "it is its successor")
    puppet.do(PROVIDER)
    for turn in range(repeat):
        with running_registry(user_rundir, private=False) as registry:
            until(
                lambda r=registry: [a.pid for a in r.client.applications()] == [puppet.pid] * 2,  # type: ignore[misc]
                "both register",
            )
            output = user_rundir.home / f"trace{turn}"
            session = registry.client.create("both", output)
            session.enable_event("*")
            assert session.start() == []
            puppet.do("order(1)")
            session.stop()
            lines = babeltrace2_text(output).lines
            assert sum(" shop:order:" in line for line in lines) == 1
            # Each says of itself what is loaded.
            assert sum(" lttng_ust_statedump:end:" in line for line in lines) == 2
            assert registry.log() == []
        until(lambda: puppet.eval("order.enabled") is False, "the session ended with its registry")
    puppet.close()


# -- registries that come and go ------------------------------------------------------------


@pytest.fixture
def puppet(user_rundir: Rundir) -> Iterator[Puppet]:
    """Give a program that started before any registry."""
    puppet = Puppet(user_rundir, "-X", "dev", "-W", "error")
    puppet.do(PROVIDER)
    assert puppet.eval("order.enabled") is False
    yield puppet
    puppet.close()


def test_registries_after_the_program(user_rundir: Rundir, puppet: Puppet) -> None:
    for turn in range(3):
        with running_registry(user_rundir, private=False) as registry:
            until(lambda r=registry: puppet.pid in r.applications(), "it notices")  # type: ignore[misc]
            output = user_rundir.home / f"trace{turn}"
            session = registry.client.create("some", output)
            session.enable_event("shop:*")
            session.add_context(["vpid", "vtid"])
            assert session.start() == []
            assert puppet.eval("order.enabled") is True
            puppet.do(f"order({turn})")
            # A tracepoint declared while it is recorded is recorded as well.
            puppet.do(f"shop.tracepoint('late{turn}', number=u32)({turn})")
            session.stop()
            assert puppet.eval("order.enabled") is False
            lines = babeltrace2_text(output).lines
            assert events(lines) == [Event(puppet.pid, puppet.pid, turn)]
            assert sum(f"shop:late{turn}:" in line for line in lines) == 1
            if turn == 1:
                registry.kill()
        until(lambda: puppet.eval("order.enabled") is False, "the session ended with its registry")


def test_no_wake_ups_without_a_registry(user_rundir: Rundir, puppet: Puppet) -> None:
    puppet.do(
        """
def status():
    for tid in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{tid}/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        if lines["Name"].strip().endswith("-ust"):
            with open(f"/proc/self/task/{tid}/syscall") as file:
                asleep = file.read().split()[0] in ("449", "7")
            switches = [lines[key].strip() for key in lines if key.endswith("ctxt_switches")]
            return asleep, tid, switches
"""
    )
    until(lambda: puppet.eval("status()[0]"), "it sleeps")
    before = puppet.eval("status()")
    time.sleep(2)
    assert puppet.eval("status()") == before


@pytest.mark.peers("lttng", "lttng-sessiond")
def test_lttng_before_and_after_the_program() -> None:
    with lttng_sessiond() as lttng:
        rundir = lttng.rundir
        puppet = Puppet(rundir, "-X", "dev", "-W", "error")
        puppet.do(PROVIDER)
        listed = f"PID: {puppet.pid} "
        until(lambda: listed in lttng("list", "--userspace"), "it is listed")
        assert "shop:order (loglevel" in lttng("list", "--userspace")
        processes.end(int((rundir.path / "lttng-sessiond.pid").read_text()))
        with open(rundir.home / "second.log", "wb") as log:
            command = ["lttng-sessiond", "--no-kernel", "--background"]
            assert rundir.run(command, stdout=log, stderr=log).returncode == 0
        second = int((rundir.path / "lttng-sessiond.pid").read_text())
        try:
            until(lambda: listed in lttng("list", "--userspace"), "it is listed again")
        finally:
            puppet.close()
            processes.end(second)
