# SPDX-License-Identifier: MIT
"""What registries make in a Python program: as in a C program, and in the same buffers."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import Summary
from helpers.lttng import Lttng, lttng_sessiond
from helpers.puppet import Puppet
from helpers.registry import until
from helpers.rundir import Rundir

from ustconsumer.abi.application import CONTEXTS

PROVIDER = """
from ustconsumer.tracer import Provider, string, u32
shop = Provider("shop")
order = shop.tracepoint("order", number=u32, item=string)
"""
#: lttng has no option for the CPU: each packet says it.
ALL_CONTEXTS = [name for name in CONTEXTS if name != "cpu_id"]


def program(directory: Path, source: str) -> Path:
    path = directory / "program.py"
    path.write_text(source)
    return path


# -- contexts --------------------------------------------------------------------------------

TASKS = (
    PROVIDER
    + """
import asyncio
async def main():
    order(1, "in a task")
order(0, "")
asyncio.run(main())
"""
)


@pytest.mark.peers("gcc", "lttng", "lttng-sessiond", "lttng-ust-headers", "babeltrace2")
@pytest.mark.parametrize("first", ["c", "python"])
def test_every_context_beside_a_c_program(apps: Apps, first: str) -> None:
    # Whoever comes second must describe the channel word for word as the first did.
    with lttng_sessiond() as lttng:
        rundir = lttng.rundir
        output = rundir.home / "trace"
        lttng("create", "s", "-o", output)
        lttng("enable-channel", "--userspace", "--subbuf-size=1M", "c")
        lttng("enable-event", "--userspace", "--channel=c", "shop:*,fields:*")
        for name in (*ALL_CONTEXTS, "$app.asyncio:task", "$app.shop:customer"):
            lttng("add-context", "--userspace", "--channel=c", f"--type={name}")
        lttng("start")
        path = program(rundir.home, TASKS)
        for number in range(2):
            python = (number == 0) == (first == "python")
            result = rundir.run_python(path) if python else rundir.run([apps.fields])
            assert (result.returncode, result.stderr) == (0, "")
        lttng("stop")
        lttng("destroy")
        lines = babeltrace2_text(output).lines
    contexts = defaultdict(list)
    for line in lines:
        name, _, fields = line.split("] ", 1)[1].split(" ", 1)[1].partition(": ")
        contexts[name].append(dict(re.findall(r"(\w+) = ([^,{}]+)", fields.split("}, {")[1])))
    mine = contexts.pop("shop:order")
    theirs = next(iter(contexts.values()))[0]
    assert len(mine) == 2
    for found in mine:
        assert set(theirs) <= set(found) | {"_app_asyncio_task"}
        # Of the same user, in the same namespaces.
        for name in theirs:
            if name.endswith("_ns") or name.startswith(("vu", "veu", "vsu", "vg", "veg", "vsg")):
                assert found[name] == theirs[name]
    texts = [line for line in lines if "shop:order" in line]
    assert '_app_asyncio_task_tag = ( "_none"' in texts[0]
    assert '_app_asyncio_task = { "Task-1" }' in texts[1]


# -- the state dump --------------------------------------------------------------------------


@pytest.mark.peers("lttng-ust-headers", "babeltrace2")
def test_the_state_dump_is_that_of_liblttng_ust_in_the_same_process(rundir: Rundir) -> None:
    path = program(rundir.home, PROVIDER)
    command = ["env", "LD_PRELOAD=liblttng-ust.so.1", *rundir.user.python(path)]
    events = ("-e", "lttng_ust_statedump:*")
    result = rundir.drtrace("record", *events, "-o", rundir.home / "trace", "--", *command)
    assert result.returncode == 0, result.stderr
    dumps: dict[str, list[str]] = defaultdict(list)
    pattern = re.compile(r" (lttng_ust_statedump:\w+: ).*vtid = (\d+),.*\}, (\{.*\})$")
    for line in Summary(result.stdout).check():
        match = pattern.search(line)
        if match:
            dumps[match[2]].append(match[1] + match[3])
    # The library in C was there first, and may have dumped for env as well.
    *_, theirs, ours = dumps.values()
    assert (ours[0], ours[-1]) == (theirs[0], theirs[-1])
    assert ours[1] == theirs[1]
    assert "procname" in ours[1]
    assert len(theirs) > 10
    # By then the program has loaded more.
    assert set(theirs) <= set(ours)


# -- sessions that come and go -----------------------------------------------------------------


def numbers(output: Path) -> list[int]:
    lines = babeltrace2_text(output).lines
    return [int(found) for line in lines for found in re.findall(r"order:.* number = (\d+)", line)]


@pytest.mark.peers("lttng", "lttng-sessiond", "babeltrace2")
def test_a_running_program_follows_what_lttng_says() -> None:
    with lttng_sessiond() as lttng:
        rundir = lttng.rundir
        puppet = Puppet(rundir)
        puppet.do(PROVIDER)
        first, second = (rundir.home / name for name in ("first", "second"))
        _create(lttng, "one", first, "shop:*")
        puppet.do("order(1, 'a')")
        _create(lttng, "two", second, "shop:o*")
        puppet.do("order(2, 'b')")
        lttng("stop", "one")
        puppet.do("order(3, 'c')")
        lttng("disable-event", "--userspace", "--session=two", "--channel=c", "shop:o*")
        puppet.do("order(4, 'd')")
        lttng("enable-event", "--userspace", "--session=two", "--channel=c", "shop:o*")
        puppet.do("order(5, 'e')")
        lttng("disable-channel", "--userspace", "--session=two", "c")
        puppet.do("order(6, 'f')")
        lttng("destroy", "two")
        lttng("start", "one")
        puppet.do("order(7, 'g')")
        lttng("destroy", "one")
        assert puppet.eval("order.enabled") is False
        puppet.close()
        assert numbers(first) == [1, 2, 7]
        assert numbers(second) == [2, 3, 5]


def _create(lttng: Lttng, session: str, output: Path, pattern: str) -> None:
    lttng("create", session, "-o", output)
    lttng("enable-channel", "--userspace", f"--session={session}", "c")
    lttng("enable-event", "--userspace", f"--session={session}", "--channel=c", pattern)
    lttng("start", session)


# -- triggers --------------------------------------------------------------------------------


@pytest.mark.peers("lttng", "lttng-sessiond", "babeltrace2")
def test_an_event_triggers_what_lttng_was_told() -> None:
    with lttng_sessiond() as lttng:
        rundir = lttng.rundir
        output = rundir.home / "trace"
        lttng("create", "s", "-o", output)
        lttng("enable-event", "--userspace", "shop:*")
        condition = ["--condition=event-rule-matches", "--type=user", "--name=shop:order"]
        lttng("add-trigger", "--name=t", *condition, "--action=start-session", "s")
        puppet = Puppet(rundir)
        puppet.do(PROVIDER)
        # Told of, not recorded: the session starts because of it.
        puppet.do("order(1, 'a')")
        until(lambda: "[active]" in lttng("list"), "the session is started")
        puppet.do("order(2, 'b')")
        lttng("remove-trigger", "t")
        lttng("stop", "s")
        assert puppet.eval("order.enabled") is False
        puppet.close()
        lttng("destroy", "s")
        assert numbers(output) == [2]
