# SPDX-License-Identifier: MIT
"""Rotations and clearing: the chunks of LTTng, file by file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.chunks import (
    babeltrace2_lines,
    chunks,
    events_once,
    rotate_while_it_is_killed,
    without_dates,
)
from helpers.registry import running_registry, until
from helpers.rundir import Rundir
from helpers.sides import Side, lttng_side, our_side
from helpers.users import User

from ustconsumer.client.unpack import unpack
from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng", "lttng-sessiond", "lttng-ust-headers", "babeltrace2")

CHANNEL = ("enable-channel", "-u", "c", "--subbuf-size=4096", "--num-subbuf=4")


def files(output: Path) -> list[str]:
    names = (str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    return sorted(map(without_dates, names))


def per_user(side: Side) -> None:
    side.do(*CHANNEL, "--buffers-uid")
    rotate_twice(side)


def per_process(side: Side) -> None:
    side.do(*CHANNEL, "--buffers-pid")
    rotate_twice(side)


def rotate_twice(side: Side) -> None:
    side.do("enable-event", "-u", "steps:*", "-c", "c")
    side.do("start")
    program = side.start()
    program.step(3)
    side.do("rotate")
    program.step(2)
    ended = side.start()
    ended.step(2)
    ended.end()
    side.do("rotate")
    program.step(1)
    program.end()
    side.do("stop")


def while_stopped(side: Side) -> None:
    side.do(*CHANNEL)
    side.do("enable-event", "-u", "steps:tick", "-c", "c")
    side.do("start")
    program = side.start()
    program.step(3)
    side.do("stop")
    side.do("rotate")
    refused = side("rotate")
    assert refused.returncode == 1
    assert "already rotated once since it became inactive" in refused.stderr
    side.do("start")
    program.step(2)
    program.end()
    side.do("stop")


def clear(side: Side) -> None:
    side.do(*CHANNEL, "--buffers-pid")
    side.do("enable-event", "-u", "steps:tick", "-c", "c")
    side.do("start")
    program, ended = side.start(), side.start()
    ended.step(3)
    ended.end()
    program.step(4)
    side.do("clear")
    program.step(2)
    program.end()
    side.do("stop")


def clear_after_a_rotation(side: Side) -> None:
    side.do(*CHANNEL)
    side.do("enable-event", "-u", "steps:tick", "-c", "c")
    side.do("start")
    program = side.start()
    program.step(4)
    side.do("rotate")
    program.step(3)
    side.do("clear")
    program.step(2)
    program.end()
    side.do("stop")


def clear_when_stopped(side: Side) -> None:
    side.do(*CHANNEL)
    side.do("enable-event", "-u", "steps:tick", "-c", "c")
    side.do("start")
    program = side.start()
    program.step(4)
    side.do("stop")
    side.do("clear")
    side.do("start")
    program.step(1)
    program.end()
    side.do("stop")


SCENARIOS = [
    per_user,
    per_process,
    while_stopped,
    clear,
    clear_after_a_rotation,
    clear_when_stopped,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_same_chunks_as_lttng(apps: Apps, user: User, scenario: Callable[[Side], None]) -> None:
    found = []
    for side_of in (lttng_side(apps.steps), our_side(apps.steps, user)):
        with side_of as side:
            side.do("create", "s", f"--output={side.output}")
            scenario(side)
            side.do("destroy", "s")
            found.append((chunks(side.output), files(side.output)))
    theirs, ours = found
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    assert any(ours[0].values())


def test_words_and_refusals(user_rundir: Rundir) -> None:
    rundir = user_rundir
    output = rundir.home / "trace"
    with running_registry(rundir):

        def run(*arguments: str) -> tuple[int, str]:
            result = rundir.drtrace(*arguments)
            return result.returncode, result.stdout + result.stderr

        assert run("create", "s", f"--output={output}")[0] == 0
        assert run("enable-event", "steps:*")[0] == 0
        status, said = run("rotate")
        assert status == 1
        assert "never started" in said
        assert run("start")[0] == 0
        status, said = run("enable-rotation")
        assert (status, "No automatic rotation schedule specified" in said) == (1, True)
        status, said = run("enable-rotation", "--timer=1h", "--size=1M")
        assert said.splitlines() == [
            "Enabled periodic rotations every 3600000000 us on session s",
            "Enabled size-based rotations every 1048576 bytes written on session s",
        ]
        status, said = run("enable-rotation", "--timer=2s")
        assert status == 1
        assert "A periodic rotation schedule is already set on session s" in said
        listed = run("list", "s")[1].splitlines()
        at = listed.index("Automatic rotation schedules:")
        assert listed[at + 1 : at + 3] == [
            "    timer period: 3600000000 us",
            "    size threshold: 1048576 bytes",
        ]
        assert run("disable-rotation", "--timer") == (
            0,
            "Disabled periodic rotation on session s\n",
        )
        status, said = run("disable-rotation", "--timer")
        assert status == 1
        assert "No periodic rotation schedule active on session s" in said
        assert run("clear") == (0, 'Session "s" cleared\n')
        status, said = run("rotate")
        assert status == 0
        path = Path(said.splitlines()[-1].removeprefix("Output files of session s rotated to "))
        assert path.parent == output / "archives"
        assert run("destroy", "s")[0] == 0


@pytest.mark.parametrize("schedule", [{"timer_us": 200_000}, {"size": 200_000}])
def test_by_itself(rundir: Rundir, apps: Apps, schedule: dict[str, int]) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output)
        session.enable_channel("c", ChannelOptions(subbuf_size=4096, num_subbuf=64))
        session.enable_event("flood:tick", "c")
        session.start()
        session.enable_rotation(**schedule)
        recorded = 0
        while len(list(output.glob("archives/*"))) < 3:
            assert rundir.run([apps.flood, "5000"]).returncode == 0
            recorded += 5000
            time.sleep(0.05)
        session.stop()
        assert session.info().archived >= 3
        lost = session.info().channels[0].discarded
        session.destroy()
    # All chunks are in the archives now, and together they are the trace.
    assert not list(output.glob("2*"))
    assert len(babeltrace2_text(output).lines) + lost == recorded


@pytest.mark.full_speed
@pytest.mark.parametrize("zstd", [0, 1])
def test_nothing_is_lost_between_chunks(rundir: Rundir, apps: Apps, zstd: int) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output, destination=Destination(zstd=zstd))
        session.enable_channel("c", ChannelOptions(subbuf_size=4096, num_subbuf=64))
        session.enable_event("flood:tick", "c")
        session.start()
        program = rundir.start([apps.flood, "400000", "2"])
        until(lambda: session.info().streams, "the program has buffers")
        for _ in range(5):
            assert session.rotate().complete
        assert program.wait() == 0
        session.stop()
        lost = session.info().channels[0].discarded
        session.destroy()
    directories = sorted(output.glob("archives/*"))
    assert len(directories) == 6
    plain = [Path(unpack(each).path) if zstd else each for each in directories]
    alone = [len(babeltrace2_lines(each)) for each in plain]
    assert sum(alone) + lost == 800_000


@pytest.mark.repeat(ci=1, soak=40)
@pytest.mark.full_speed
def test_a_consumer_killed_while_it_rotates(rundir: Rundir, apps: Apps, repeat: int) -> None:
    with running_registry(rundir) as registry:
        for number in range(repeat):
            output = rundir.home / f"trace{number}"
            session = registry.client.create("s", output)
            lost = rotate_while_it_is_killed(session, rundir, [apps.flood, "150000", "2"], number)
            session.destroy()
            events_once(babeltrace2_lines(output), lost, 300_000)
            shutil.rmtree(output)
