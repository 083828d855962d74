# SPDX-License-Identifier: MIT
"""Control from Python: the documentation's examples, and a session driven from asyncio."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import end_registry
from helpers.registry import running_registry
from helpers.rundir import Rundir

from ustconsumer.client import ChannelOptions, TriggerAction, aio, read_saved
from ustconsumer.errors import CommandError

ROOT = Path(__file__).resolve().parents[2]


def examples() -> list[tuple[str, str]]:
    """Return each program of the page, and what it says that it prints."""
    page = (ROOT / "docs" / "python-client.md").read_text()
    return re.findall(r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", page, re.DOTALL)


def test_the_examples_of_the_documentation(user_rundir: Rundir) -> None:
    rundir = user_rundir
    (rundir.home / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "hello.py", rundir.home / "examples")
    found = examples()
    assert len(found) == 2
    bin_directory = rundir.home / "bin"
    bin_directory.mkdir()
    bin_directory.chmod(0o755)
    script = bin_directory / "python"
    python = next(each for each in rundir.user.python() if "python" in each)
    script.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    script.chmod(0o755)
    found_there = {"PATH": f"{bin_directory}{os.pathsep}{os.defpath}"}
    try:
        for number, (program, printed) in enumerate(found):
            path = rundir.home / f"{number}.py"
            path.write_text(program)
            path.chmod(0o644)
            result = rundir.run_python("-P", path, env=found_there)
            assert (result.returncode, result.stdout) == (0, printed), result.stderr
    finally:
        end_registry(rundir)


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
def test_a_session_from_asyncio(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir):
        heard = asyncio.run(drive(rundir, apps))
    assert heard == [0, 1, 2]
    lines = babeltrace2_text(rundir.home / "trace").lines
    assert len(lines) == 10 + 1000
    assert all("vpid = " in line for line in lines)
    assert len(babeltrace2_text(rundir.home / "snapshots").lines) == 10
    assert len(babeltrace2_text(rundir.home / "again").lines) == 5


async def drive(rundir: Rundir, apps: Apps) -> list[int]:
    """Do what a control program does; return what it was notified of."""

    async def flood(count: int) -> None:
        program = await asyncio.create_subprocess_exec(apps.flood, str(count), env=rundir.env)
        assert await program.wait() == 0

    async with aio.connect(rundir.path) as registry:
        session = await registry.create("s", rundir.home / "trace")
        await session.enable_channel("c", ChannelOptions(subbuf_size=4096, num_subbuf=64))
        with pytest.raises(CommandError) as refused:
            await session.enable_event("flood:*", "nosuch")
        assert refused.value.kind == "no-such-channel"
        await session.enable_event("flood:tick", "c")
        await session.add_context(["vpid"], "c")
        async with session.recording():
            await flood(10)
            await session.snapshot(rundir.home / "snapshots")
            async with session.paused():
                await flood(100)
            # Several tasks, one connection.
            infos = await asyncio.gather(*(session.info() for _ in range(20)), flood(1000))
            assert {each.state for each in infos[:-1] if each} == {"active"}
        assert await session.save(rundir.home) == []
        assert [each.name for each in await registry.sessions()] == ["s"]
        await session.destroy()

        await registry.add_trigger(
            "flood:tick", name="t", captures=["seq"], actions=[TriggerAction(kind="notify")]
        )
        heard = []
        async with registry.notifications("t", timeout=60) as notifications:
            running = asyncio.create_task(flood(3))
            async for notification in notifications:
                heard += notification.captures
                if len(heard) == 3:
                    break
            await running
        assert await registry.remove_trigger("t") == []

        saved = read_saved(rundir.home / "s.lttng")[0]
        saved.output = str(rundir.home / "again")
        async with registry.load(saved) as again, again.recording():
            await flood(5)
        assert await registry.sessions() == []
    return heard
