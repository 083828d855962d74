# SPDX-License-Identifier: MIT
"""`ustconsumer.record` and the fixture ``traced``: a process that records itself.

Each test is a program of its own: nothing here may become the tracer of pytest's process.
What it leaves behind, processes or temporary files, is a failure of ``rundir``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.rundir import Rundir

PROVIDER = """
import os, sys, threading
import ustconsumer
from ustconsumer.tracer import Provider, f64, string, u32
shop = Provider("shop")
order = shop.tracepoint("order", number=u32, item=string, price=f64, level="info")
paid = shop.tracepoint("paid", number=u32)
def numbers(trace):
    assert trace.discarded == 0 and trace.warnings == [], trace.warnings
    return [fields["number"] for fields in trace.fields("*")]
"""


def run(
    rundir: Rundir, source: str, *, provider: str = PROVIDER, dev: tuple[str, ...] = ("-X", "dev")
) -> list[str]:
    """Run a program that says nothing on standard error; return the lines it prints."""
    path = rundir.home / "program.py"
    path.write_text(provider + source)
    result = rundir.run_python(*dev, "-W", "error", path)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    return list(result.stdout.splitlines())


# -- what is recorded ------------------------------------------------------------------------


@pytest.mark.peers("babeltrace2")
def test_events(rundir: Rundir) -> None:
    output = rundir.home / "trace"
    source = f"""
order(0, "before", 0.0)
with ustconsumer.record("shop:*", output={str(output)!r}) as trace:
    order(1, "tea", 2.5)
    paid(number=1)
    late = Provider("late")
    late.tracepoint("event", number=u32)(3)
    shop.tracepoint("returned", number=u32)(4)
order(5, "after", 0.0)
assert trace.fields("shop:order") == [{{"number": 1, "item": "tea", "price": 2.5}}]
assert [event.name for event in trace.events] == ["shop:order", "shop:paid", "shop:returned"]
assert [event.name for event in trace] == [event.name for event in trace.named("*")]
assert trace.events is trace.events
times = [event.timestamp for event in trace.events]
assert times == sorted(times)
first = trace.events[0]
assert first.loglevel == 6
assert first.context["vpid"] == first.context["vtid"] == os.getpid()
print(repr(trace), trace.path)
"""
    (line,) = run(rundir, source)
    assert line == f"<trace of shop:*: 3 events recorded, 0 discarded> {output}"
    lines = babeltrace2_text(output).lines
    assert [re.findall(r"shop:\w+", line)[0] for line in lines] == [
        "shop:order",
        "shop:paid",
        "shop:returned",
    ]


def test_what_is_asked_for(rundir: Rundir) -> None:
    run(
        rundir,
        """
def emit():
    order(1, "tea", 1.0)
    paid(2)
with ustconsumer.record() as everything:
    emit()
# Not what tracers say of the program by themselves.
assert [event.name for event in everything.events] == ["shop:order", "shop:paid"]
with ustconsumer.record("*") as everything:
    emit()
assert {event.name.partition(":")[0] for event in everything.events} == {
    "shop", "lttng_ust_statedump"
}
with ustconsumer.record("shop:*", exclude=["shop:p*"], contexts=["vuid"]) as some:
    emit()
assert [(event.name, event.context) for event in some.events] == [
    ("shop:order", {"vuid": os.getuid()})
]
with ustconsumer.record("shop:paid", "shop:order", contexts=[]) as some:
    emit()
assert [(event.name, event.context) for event in some] == [("shop:order", {}), ("shop:paid", {})]
with ustconsumer.record("other:*") as nothing:
    emit()
assert (nothing.events, nothing.discarded) == ([], 0)
""",
    )


def test_a_process_without_tracepoints(rundir: Rundir) -> None:
    source = """
import sys, ustconsumer
with ustconsumer.record("shop:*") as trace:
    pass
assert trace.events == []
"""
    run(rundir, source, provider="")


def test_what_does_not_fit_is_counted(rundir: Rundir) -> None:
    source = """
from ustconsumer.protocol.control import ChannelOptions
with ustconsumer.record(channel=ChannelOptions(subbuf_size=4096, num_subbuf=2)) as trace:
    for number in range(300):
        order(number, "x" * 5000 if number % 3 == 0 else "tea", 1.0)
        if number % 3 == 2:
            order(number, "y" * 100_000, 1.0)
assert trace.discarded >= 200, trace
assert len(trace.events) + trace.discarded == 400
"""
    run(rundir, source)


# -- where -----------------------------------------------------------------------------------


def test_traces_are_temporary(rundir: Rundir) -> None:
    source = """
with ustconsumer.record() as one:
    order(1, "tea", 1.0)
with ustconsumer.record() as other:
    order(2, "tea", 1.0)
assert os.stat(one.path).st_mode & 0o777 == 0o700
pid = os.fork()
if pid == 0:
    # A child's end is not that of the process.
    sys.exit(0)
os.waitpid(pid, 0)
places = one.path, other.path
assert numbers(one) == [1] and places[0].is_dir()
del one
assert not places[0].exists() and places[1].is_dir()
print(places[1])
"""
    (place,) = run(rundir, source)
    assert not Path(place).exists()


def test_mistakes(rundir: Rundir) -> None:
    source = """
from ustconsumer.errors import UsageError
def refused(what, error=UsageError):
    try:
        what()
    except error as problem:
        return str(problem)
    assert False, what
trace = ustconsumer.record()
assert "has not begun" in refused(lambda: trace.path)
with trace:
    for look in (lambda: trace.events, lambda: trace.discarded, lambda: iter(trace)):
        assert "has ended" in refused(look)
assert trace.events == []
assert "made once" in refused(trace.start)
trace.stop()
occupied = os.path.join(os.environ["HOME"])
assert "not empty" in refused(ustconsumer.record(output=occupied).start)
absent = os.path.join(occupied, "absent", "trace")
wrong = ustconsumer.record(output=absent, contexts=["no-such-context"])
assert "no-such-context" in refused(wrong.start, UsageError)
assert not os.path.exists(os.path.dirname(absent))
with ustconsumer.record() as trace:
    order(1, "tea", 1.0)
assert numbers(trace) == [1]
"""
    run(rundir, source)


# -- manners ---------------------------------------------------------------------------------


def test_nothing_is_left_behind(rundir: Rundir) -> None:
    source = """
import signal
class Problem(Exception): pass
handlers = [signal.getsignal(number) for number in signal.valid_signals()]
environment = dict(os.environ)
def state():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
for turn in range(4):
    try:
        with ustconsumer.record("shop:*", children=bool(turn % 2)) as trace:
            assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers
            assert ("LTTNG_HOME" in os.environ) == ("LTTNG_HOME" in environment)
            assert (dict(os.environ) != environment) == bool(turn % 2)
            order(turn, "tea", 1.0)
            if turn > 1:
                raise Problem
    except Problem as problem:
        assert not getattr(problem, "__notes__", [])
    assert dict(os.environ) == environment
    assert numbers(trace) == [turn]
    assert not order.enabled
    if turn:
        assert state() == before
    before = state()
"""
    run(rundir, source)


def test_blocks_within_blocks_and_in_threads(rundir: Rundir) -> None:
    source = """
results = {}
def work(first):
    with ustconsumer.record("shop:order") as trace:
        order(first, "tea", 1.0)
        ready.wait()
        order(first + 1, "tea", 1.0)
        # Nobody's ends before all have emitted.
        ready.wait()
    results[first] = sorted(numbers(trace))
ready = threading.Barrier(4)
with ustconsumer.record("shop:*") as outer:
    threads = [threading.Thread(target=work, args=(n,)) for n in (10, 20, 30)]
    for thread in threads:
        thread.start()
    ready.wait()
    with ustconsumer.record("shop:paid") as inner:
        paid(1)
    ready.wait()
    for thread in threads:
        thread.join()
    paid(2)
assert sorted(numbers(outer)) == [1, 2, 10, 11, 20, 21, 30, 31]
assert numbers(inner) == [1]
for first, seen in results.items():
    # Others may have been emitting before this one began.
    assert {first, 11, 21, 31} <= set(seen) <= {10, 20, 30, 11, 21, 31}, (first, seen)
assert len(results) == 3
"""
    run(rundir, source)


def test_within_an_event_loop(rundir: Rundir) -> None:
    source = """
import asyncio
async def work(number):
    await asyncio.sleep(0)
    order(number, "tea", 1.0)
async def main():
    with ustconsumer.record() as trace:
        await asyncio.gather(work(1), work(2))
    assert sorted(numbers(trace)) == [1, 2]
asyncio.run(main())
"""
    # Beginning and ending block the loop: in its debug mode it says so.
    run(rundir, source, dev=())


def test_started_and_not_ended(rundir: Rundir) -> None:
    """Complete at the end of the program, and a temporary one is removed."""
    output = rundir.home / "trace"
    source = f"""
import atexit
# Handlers are called in reverse order: this one after ours.
atexit.register(lambda: print(traces[0].fields("shop:*")))
traces = [ustconsumer.record(output={str(output)!r}), ustconsumer.record()]
for trace in traces:
    trace.start()
Provider("other").tracepoint("event", number=u32)(7)
order(8, "tea", 1.0)
"""
    assert run(rundir, source) == ["[{'number': 8, 'item': 'tea', 'price': 1.0}]"]
    source = f"""
from ustconsumer.ctf.reading import Trace
assert [event.name for event in Trace({str(output)!r})] == ["other:event", "shop:order"]
"""
    run(rundir, source)


def test_a_registry_that_dies(rundir: Rundir) -> None:
    source = """
import signal
from ustconsumer.client.shared import shared
from ustconsumer.errors import UstConsumerError
for raising in (False, True):
    try:
        with ustconsumer.record() as trace:
            order(1, "tea", 1.0)
            os.killpg(shared._registry.pid, signal.SIGKILL)
            if raising:
                raise ValueError("of the program")
    except ValueError as error:
        assert raising and "the recording failed: " in error.__notes__[0]
    except UstConsumerError as error:
        assert not raising and "registry" in str(error)
    else:
        assert False
    with ustconsumer.record() as trace:
        order(2, "tea", 1.0)
    assert numbers(trace) == [2]
"""
    run(rundir, source)


def test_orphans_that_nobody_reaps(rundir: Rundir) -> None:
    """The registry's children outlive it as zombies, in a container without an init."""
    source = f"""
import ctypes, os, signal, sys, time
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
child = os.fork()
if child == 0:
    exec({PROVIDER!r})
    with ustconsumer.record() as trace:
        order(1, "tea", 1.0)
    sys.exit(numbers(trace) != [1])
# It would wait for ever.
signal.alarm(15)
assert os.waitpid(child, 0)[1] == 0
"""
    run(rundir, source, provider="")


# -- children --------------------------------------------------------------------------------


def test_forked_children(rundir: Rundir) -> None:
    source = """
with ustconsumer.record() as trace:
    order(1, "tea", 1.0)
    pid = os.fork()
    if pid == 0:
        order(2, "milk", 1.0)
        # A block that a child leaves is not the end of the recording.
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    order(3, "tea", 1.0)
    pid = os.fork()
    if pid == 0:
        with ustconsumer.record() as own:
            order(4, "own", 1.0)
        sys.exit(numbers(own) != [4])
    assert os.waitpid(pid, 0)[1] == 0
assert numbers(trace) == [1, 2, 3, 4]
pids = [event.context["vpid"] for event in trace.events]
assert pids[0] == pids[2] == os.getpid() and len(set(pids)) == 3
"""
    run(rundir, source)


def test_a_forked_child_that_stays(rundir: Rundir) -> None:
    """The end of the block waits neither for it nor for what it inherited."""
    source = """
import time
reading, writing = os.pipe()
with ustconsumer.record() as trace:
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        order(2, "late", 1.0)
        os._exit(0)
    order(1, "tea", 1.0)
    began = time.monotonic()
# The registry is killed after 20 s.
assert time.monotonic() - began < 15
os.close(writing)
assert os.waitpid(pid, 0)[1] == 0
assert numbers(trace) == [1]
"""
    run(rundir, source)


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_programs_started_meanwhile(rundir: Rundir, apps: Apps) -> None:
    source = f"""
import subprocess
flood = [{str(apps.flood)!r}, "3"]
python = [sys.executable, "-P", "-c", {PROVIDER!r} + "order(7, 'child', 1.0)"]
for children in (False, True):
    with ustconsumer.record("shop:*", "flood:*", children=children) as trace:
        order(1, "tea", 1.0)
        for command in (flood, python):
            subprocess.run(command, check=True)
    seen = [(event.name, event.context["procname"]) for event in trace.events]
    assert len(seen) == (5 if children else 1), seen
    assert children == (("flood:tick", "flood") in seen)
    assert [fields["number"] for fields in trace.fields("shop:*")] == [1, 7][:1 + children]
    assert len({{event.context["vpid"] for event in trace.events}}) == (3 if children else 1)
"""
    run(rundir, source)


# -- pytest ----------------------------------------------------------------------------------

TESTS = """
import pytest
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.tracer import Provider, string, u32
shop = Provider("shop")
order = shop.tracepoint("order", number=u32, item=string)
TEA = {"number": 1, "item": "tea"}

def test_good(traced):
    with traced("shop:*") as trace:
        order(1, "tea")
    assert trace.fields("shop:order") == [TEA]
    assert [TEA] == trace.fields("shop:*")
    assert trace.one("shop:order").fields == TEA
    trace.none("shop:paid")

def test_other_value(traced):
    with traced("shop:*") as trace:
        order(1, "milk")
        order(2, "tea")
        order(3, "tea")
    assert trace.fields("shop:order") == [TEA, {"number": 2, "item": "tea"}]

def test_missing(traced):
    with traced("shop:*") as trace:
        order(1, "tea")
    assert [TEA, TEA] == trace.fields("shop:o*")

def test_nothing(traced):
    with traced("shop:*") as trace:
        pass
    trace.one("shop:order")

def test_too_many(traced):
    with traced("shop:*") as trace:
        order(1, "tea")
    trace.none("shop:*")

def test_lost(traced):
    with traced("shop:*", channel=ChannelOptions(subbuf_size=4096, num_subbuf=2)) as trace:
        order(1, "tea" * 5000)

def test_lost_in_vain(traced):
    with traced("shop:*", lossy=True, channel=ChannelOptions(subbuf_size=4096)) as trace:
        order(1, "tea" * 5000)
    assert trace.discarded == 1

def test_raises(traced):
    with traced("shop:*", channel=ChannelOptions(subbuf_size=4096, num_subbuf=2)) as trace:
        order(1, "tea" * 5000)
        raise RuntimeError("of the test")

def test_not_ended(traced):
    traced("shop:*").start()

def test_afterwards(traced):
    assert not order.enabled
"""
REPORTS = {
    "test_other_value": [
        "AssertionError: assert 3 events shop:order, expected 2",
        "event 0, shop:order: item = 'milk', expected 'tea'",
        "not expected: shop:order: {'number': 3, 'item': 'tea'}",
        "recorded: shop:order 3x",
    ],
    "test_missing": ["assert 1 event shop:o*, expected 2", "missing: {'number': 1, 'item': 'tea'}"],
    "test_nothing": [
        "Failed: 0 events shop:order, expected 1",
        "nothing was recorded; tracepoints here: shop:order",
    ],
    "test_too_many": ["Failed: 1 event shop:*, expected none"],
    "test_lost": ["Failed: 1 event discarded for want of room: give `channel` larger buffers"],
    "test_raises": ["RuntimeError: of the test"],
}


def test_the_fixture(rundir: Rundir) -> None:
    tests = rundir.home / "tests"
    tests.mkdir()
    (tests / "conftest.py").write_text('pytest_plugins = ["ustconsumer.testing"]\n')
    (tests / "test_shop.py").write_text(TESTS)
    kept = rundir.home / "kept"
    options = ["-p", "no:cacheprovider", "-W", "error", f"--basetemp={kept}"]
    result = rundir.run_python("-m", "pytest", *options, cwd=tests)
    assert result.stderr == ""
    sections = re.split(r"^_+ (\w+) _+$", result.stdout, flags=re.MULTILINE)
    reports = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert list(reports) == list(REPORTS), result.stdout
    for name, lines in REPORTS.items():
        for line in lines:
            assert line in reports[name], result.stdout
        # What went wrong is in the test, not in what it calls.
        assert "inprocess.py" not in reports[name]
    assert "want of room" not in reports["test_raises"].partition("short test summary")[0]
    assert f"{len(REPORTS)} failed, 4 passed" in result.stdout
    # As pytest keeps files: for whoever wants to know more.
    assert list(kept.glob("traced0/trace-1/ust/**/metadata"))


SHOP = """
from ustconsumer.tracer import Provider, f64, string, u32
order = Provider("shop").tracepoint("order", number=u32, item=string, price=f64)
def sell(item):
    order(1, item, 2.5)
"""


def test_the_page_for_users_is_true(rundir: Rundir) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tracing-python.md").read_text()
    section = page.partition("## Events in tests")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\w+\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    program, conftest, test, output = blocks
    run(rundir, f"import ustconsumer\n{SHOP}\n{program}", provider="")
    tests = rundir.home / "tests"
    tests.mkdir()
    for name, source in (("conftest", conftest), ("test_shop", test), ("shop", SHOP)):
        (tests / f"{name}.py").write_text(source)
    _, *printed = output.splitlines()
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={rundir.home}/kept"]
    result = rundir.run_python("-m", "pytest", *options, "test_shop.py", cwd=tests)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith((">", "E  "))] == printed
