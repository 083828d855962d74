# SPDX-License-Identifier: MIT
"""Verbs that change a session while programs run: the same events as with ``lttng``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.apps import Apps
from helpers.sides import Side, lttng_side, our_side
from helpers.users import User

pytestmark = pytest.mark.peers("gcc", "lttng", "lttng-sessiond", "lttng-ust-headers", "babeltrace2")


def disable_event(side: Side) -> None:
    side.do("enable-event", "-u", "steps:*")
    side.do("start")
    program = side.start()
    program.step(3)
    side.do("enable-event", "-u", "steps:tick")
    side.do("disable-event", "-u", "steps:*")
    program.step(2)
    late = side.start()
    late.step(1)
    side.do("enable-event", "-u", "steps:*")
    side.do("disable-event", "-u", "steps:tick")
    for each in (program, late):
        each.step(2)
        each.end()


def disable_all_events(side: Side) -> None:
    side.do("enable-event", "-u", "steps:tick", "--loglevel=INFO")
    side.do("enable-event", "-u", "steps:tock", "--filter", "seq > 1")
    side.do("start")
    program = side.start()
    program.step(4)
    side.do("disable-event", "-u", "-a")
    program.step(3)
    side.do("enable-event", "-u", "steps:tock", "--filter", "seq > 1")
    program.step(1)
    program.end()


def disable_event_before_start(side: Side) -> None:
    side.do("enable-event", "-u", "steps:tick")
    side.do("enable-event", "-u", "steps:tock")
    side.do("disable-event", "-u", "steps:tick")
    program = side.start()
    side.do("start")
    program.step(2)
    side.do("stop")
    side.do("enable-event", "-u", "steps:tick")
    side.do("disable-event", "-u", "steps:tock")
    side.do("start")
    program.step(2)
    program.end()


def disable_channel(side: Side) -> None:
    side.do("enable-channel", "-u", "one")
    side.do("enable-channel", "-u", "two")
    side.do("enable-event", "-u", "steps:tick", "-c", "one")
    side.do("enable-event", "-u", "steps:tock", "-c", "two")
    side.do("start")
    program = side.start()
    program.step(2)
    side.do("disable-channel", "-u", "one")
    program.step(1)
    late = side.start()
    late.step(1)
    side.do("enable-channel", "-u", "one")
    for each in (program, late):
        each.step(1)
        each.end()


def track_while_it_runs(side: Side) -> None:
    side.do("enable-event", "-u", "steps:tick")
    side.do("start")
    first, second = side.start(), side.start()
    first.step(1)
    second.step(2)
    side.do("track", "-u", f"--vpid={first.pid}")
    first.step(3)
    second.step(1)
    side.do("track", "-u", f"--vpid={second.pid}")
    side.do("untrack", "-u", f"--vpid={first.pid}")
    first.step(1)
    second.step(5)
    side.do("untrack", "-u", "--vpid", "--all")
    first.step(1)
    second.step(1)
    side.do("track", "-u", "--vpid", "--all")
    for each in (first, second):
        each.step(1)
        each.end()


def track_before_start(side: Side) -> None:
    side.do("enable-event", "-u", "steps:tick")
    side.do("track", "-u", "--vpid=1")
    program = side.start()
    side.do("start")
    program.step(2)
    side.do("track", "-u", f"--vpid={program.pid}")
    program.step(1)
    program.end()


def track_users(side: Side) -> None:
    uid, gid = side.rundir.user.uid, side.rundir.user.gid
    side.do("enable-event", "-u", "steps:tick")
    side.do("track", "-u", f"--vuid={uid + 1}", f"--vgid={gid}")
    side.do("start")
    program = side.start()
    program.step(1)
    side.do("track", "-u", f"--vuid={uid}")
    program.step(2)
    side.do("untrack", "-u", f"--vgid={gid}")
    program.step(1)
    program.end()


def track_by_other_words(side: Side) -> None:
    uid = side.rundir.user.uid
    side.do("enable-event", "-u", "steps:tick")
    side.do("start")
    program = side.start()
    side.do("track", "-u", "--pid=1")
    program.step(1)
    side.do("track", "-u", f"--pid={program.pid}")
    program.step(2)
    side.do("untrack", "-u", f"--pid={program.pid}")
    program.step(1)
    side.do("track", "-u", "--pid", "--all")
    program.step(1)
    side.do("track", "-u", f"--vuid={uid}")
    program.step(3)
    side.do("untrack", "-u", f"--vuid={uid}")
    program.step(1)
    side.do("track", "-u", "--vuid", "--all")
    side.do("disable-event", "-u", "--all-events")
    program.step(1)
    program.end()


def regenerate_statedump(side: Side) -> None:
    side.do("enable-event", "-u", "steps:tick")
    side.do("enable-event", "-u", "lttng_ust_statedump:start")
    side.do("start")
    program = side.start()
    program.step(1)
    side.do("regenerate", "statedump")
    program.step(1)
    program.end()


SCENARIOS = [
    disable_event,
    disable_all_events,
    disable_event_before_start,
    disable_channel,
    track_while_it_runs,
    track_before_start,
    track_users,
    track_by_other_words,
    regenerate_statedump,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_same_events_as_lttng(apps: Apps, user: User, scenario: Callable[[Side], None]) -> None:
    found = []
    for side_of in (lttng_side(apps.steps), our_side(apps.steps, user)):
        with side_of as side:
            side.do("create", "s", f"--output={side.output}")
            scenario(side)
            side.do("stop")
            side.do("destroy", "s")
            found.append(side.events())
    theirs, ours = found
    assert ours == theirs
    assert ours
