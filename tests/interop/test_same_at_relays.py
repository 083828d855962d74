# SPDX-License-Identifier: MIT
"""Options of relays, snapshots and rotations: what is there is what LTTng has there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.chunks import chunks
from helpers.relayd import Relayd, relayd
from helpers.sides import Side, lttng_side, our_side
from helpers.users import User

pytestmark = pytest.mark.peers("gcc", "lttng", "lttng-sessiond", "lttng-ust-headers", "babeltrace2")

CHANNEL = ("enable-channel", "-u", "c", "--subbuf-size=4096", "--num-subbuf=4")


def ports(relay: Relayd) -> list[str]:
    return [
        f"--ctrl-url=tcp://127.0.0.1:{relay.control}",
        f"--data-url=tcp://127.0.0.1:{relay.data}",
    ]


def record(side: Side, *options: str) -> None:
    side.do("create", "s", *options)
    side.do(*CHANNEL)
    side.do("enable-event", "-u", "steps:*", "-c", "c")
    side.do("start")
    program = side.start()
    program.step(3)
    program.end()
    side.do("stop")


def ctrl_url_and_data_url(side: Side, relay: Relayd) -> None:
    record(side, *ports(relay))


def live(side: Side, relay: Relayd) -> None:
    record(side, "--live=200000", f"--set-url={relay.url}")


def snapshot_ctrl_url_and_data_url(side: Side, relay: Relayd) -> None:
    record(side, "--snapshot", f"--output={side.output}")
    side.do("snapshot", "record", *ports(relay))


def snapshot_output_ctrl_url_and_data_url(side: Side, relay: Relayd) -> None:
    record(side, "--snapshot", f"--output={side.output}")
    # There is one for each session.
    side.do("snapshot", "del-output", "1")
    side.do("snapshot", "add-output", *ports(relay))
    side.do("snapshot", "record")


@pytest.mark.parametrize(
    "scenario",
    [
        ctrl_url_and_data_url,
        live,
        snapshot_ctrl_url_and_data_url,
        snapshot_output_ctrl_url_and_data_url,
    ],
)
def test_at_relays(
    apps: Apps, user: User, tmp_path: Path, scenario: Callable[[Side, Relayd], None]
) -> None:
    found = []
    for number, side_of in enumerate((lttng_side(apps.steps), our_side(apps.steps, user))):
        with relayd("lttng", tmp_path / str(number)) as relay, side_of as side:
            scenario(side, relay)
            side.do("destroy", "s")
            recorded = [events for events in chunks(relay.output).values() if events]
            found.append(recorded)
    theirs, ours = found
    assert ours == theirs
    assert [len(events) for events in theirs] == [6]


def test_a_snapshot_of_some_size(apps: Apps, user: User) -> None:
    found = []
    for side_of in (lttng_side(apps.steps), our_side(apps.steps, user)):
        with side_of as side:
            record(side, "--snapshot", f"--output={side.output}")
            side.do("snapshot", "record", "--max-size=1M")
            found.append(side.events())
            side.do("destroy", "s")
    theirs, ours = found
    assert ours == theirs
    assert len(theirs) == 6


@pytest.mark.parametrize("schedule", ["--timer=300ms", "--size=8k"])
def test_rotated_by_itself(apps: Apps, user: User, schedule: str) -> None:
    """Where it is rotated is a matter of moments; all that was emitted is in the chunks."""
    for side_of in (lttng_side(apps.steps), our_side(apps.steps, user)):
        with side_of as side:
            side.do("create", "s", f"--output={side.output}")
            side.do(*CHANNEL, "--switch-timer=10ms")
            side.do("enable-event", "-u", "steps:tick", "-c", "c")
            side.do("start")
            side.do("enable-rotation", schedule)
            program = side.start()
            emitted = 0
            while len(list(side.output.glob("archives/*"))) < 2:
                program.step(20)
                emitted += 20
                time.sleep(0.05)
            side.do("disable-rotation", schedule.partition("=")[0])
            program.step(10)
            program.end()
            side.do("stop")
            side.do("destroy", "s")
            found = [line for events in chunks(side.output).values() for line in events]
        wanted = [f"seq = {number} }}" for number in range(emitted + 10)]
        assert sorted(line.partition("seq")[0] for line in found) == ["steps:tick { "] * len(wanted)
        assert sorted("seq" + line.partition("seq")[2] for line in found) == sorted(wanted)
