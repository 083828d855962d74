# SPDX-License-Identifier: MIT
"""Rotations and clearing of sessions at relays: the chunks of LTTng, event by event."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.chunks import babeltrace2_lines, chunks, events_once, rotate_while_it_is_killed
from helpers.registry import running_registry, until
from helpers.relayd import relayd
from helpers.rundir import Rundir
from helpers.sides import Side, lttng_side, our_side
from helpers.users import User

from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng", "lttng-sessiond", "lttng-ust-headers", "babeltrace2")

CHANNEL = ("enable-channel", "-u", "c", "--subbuf-size=4096", "--num-subbuf=4")


def rotate_and_clear(side: Side) -> None:
    side.do(*CHANNEL)
    side.do("enable-event", "-u", "steps:*", "-c", "c")
    side.do("start")
    program = side.start()
    program.step(3)
    side.do("rotate")
    program.step(2)
    side.do("rotate", "--no-wait")
    # One at a time.
    until(lambda: side("rotate").returncode == 0, "the rotation is complete")
    program.step(4)
    side.do("clear")
    program.step(1)
    program.end()
    side.do("stop")


def per_process(side: Side) -> None:
    side.do(*CHANNEL, "--buffers-pid")
    side.do("enable-event", "-u", "steps:tick", "-c", "c")
    side.do("start")
    program, ended = side.start(), side.start()
    ended.step(3)
    ended.end()
    program.step(2)
    side.do("rotate")
    program.step(1)
    program.end()
    side.do("stop")
    side.do("rotate")
    refused = side("rotate")
    assert refused.returncode == 1
    assert "already rotated once since it became inactive" in refused.stderr


def clear_first(side: Side) -> None:
    side.do(*CHANNEL)
    side.do("enable-event", "-u", "steps:tick", "-c", "c")
    side.do("start")
    program = side.start()
    program.step(4)
    side.do("clear")
    program.step(2)
    program.end()
    side.do("stop")


@pytest.mark.parametrize("scenario", [rotate_and_clear, per_process, clear_first])
def test_same_chunks_as_lttng(
    apps: Apps, user: User, tmp_path: Path, scenario: Callable[[Side], None]
) -> None:
    found = []
    for number, (kind, side_of) in enumerate(
        (
            ("lttng", lttng_side(apps.steps)),
            ("lttng", our_side(apps.steps, user)),
            ("ours", our_side(apps.steps, user)),
        )
    ):
        with relayd(kind, tmp_path / str(number)) as relay, side_of as side:
            side.do("create", "s", f"--set-url={relay.url}")
            scenario(side)
            side.do("destroy", "s")
            # LTTng's relay moves a chunk when its last connection is gone.
            until(lambda: not list(relay.output.glob("*/*/2*")), "all chunks are archived")
            found.append({name: events for name, events in chunks(relay.output).items() if events})
    theirs, at_theirs, at_ours = found
    assert theirs
    assert at_theirs == theirs
    assert at_ours == theirs


def test_by_itself(rundir: Rundir, apps: Apps, tmp_path: Path) -> None:
    with relayd("ours", tmp_path / "relay") as relay, running_registry(rundir) as registry:
        session = registry.client.create("s", "", destination=Destination(url=relay.url))
        session.enable_channel("c", ChannelOptions(subbuf_size=4096, num_subbuf=64))
        session.enable_event("flood:tick", "c")
        session.start()
        session.enable_rotation(size=200_000)
        recorded = 0
        while len(list(relay.output.glob("*/*/archives/*"))) < 3:
            assert rundir.run([apps.flood, "5000"]).returncode == 0
            recorded += 5000
            time.sleep(0.05)
        session.stop()
        lost = session.info().channels[0].discarded
        session.destroy()
        until(lambda: not list(relay.output.glob("*/*/2*")), "the last chunk is archived")
        lines = sum(len(babeltrace2_lines(each)) for each in relay.output.glob("*/*/archives/*"))
        assert lines + lost == recorded


def test_words_and_refusals(rundir: Rundir, apps: Apps, tmp_path: Path) -> None:
    with running_registry(rundir) as registry:
        with relayd("ours", tmp_path / "relay") as relay:
            session = registry.client.create("s", "", destination=Destination(url=relay.url))
            session.enable_channel("c", ChannelOptions(switch_timer_us=10_000))
            session.enable_event("flood:tick", "c")
            session.start()
            assert rundir.run([apps.flood, "100"]).returncode == 0
            said = rundir.drtrace("--rundir", rundir.path, "rotate", "s")
            assert said.returncode == 0, said.stderr
            match = re.search(r"now readable on the relay: (\S+)$", said.stdout)
            assert match
            assert len(babeltrace2_lines(relay.output / match[1])) == 100
        # What it does not take cannot be in its archives.
        assert rundir.run([apps.flood, "100"]).returncode == 0
        with pytest.raises(CommandError, match=r"relay 127.0.0.1:\d+: connection refused"):
            session.rotate()
        session.destroy()
        live = Destination(url=relay.url, live_us=1_000_000)
        other = registry.client.create("live", "", destination=live)
        other.enable_event("flood:tick")
        other.start()
        for refused in (other.rotate, other.clear, lambda: other.enable_rotation(size=1)):
            with pytest.raises(CommandError, match="session live is live"):
                refused()


@pytest.mark.repeat(ci=1, soak=40)
@pytest.mark.full_speed
def test_a_consumer_killed_while_it_rotates(
    rundir: Rundir, apps: Apps, tmp_path: Path, repeat: int
) -> None:
    with running_registry(rundir) as registry:
        for number in range(repeat):
            with relayd("ours", tmp_path / str(number)) as relay:
                session = registry.client.create("s", "", destination=Destination(url=relay.url))
                program = [apps.flood, "60000", "2"]
                lost = rotate_while_it_is_killed(session, rundir, program, number)
                session.destroy()
                until(lambda: not list(relay.output.glob("*/*/2*")), "all chunks are archived")
            archives = relay.output.glob("*/*/archives/*")
            recorded = (each for each in archives if list(each.rglob("metadata")))
            lines = [line for each in recorded for line in babeltrace2_lines(each)]
            events_once(lines, lost, 120_000)
            shutil.rmtree(relay.output)
