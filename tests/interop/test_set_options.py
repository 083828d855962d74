# SPDX-License-Identifier: MIT
"""Attributes of channels change: all before a session's first start, then those that can."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

HOUR_US = 3600 * 10**6


def test_everything_before_the_first_start(rundir: Rundir) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("s", rundir.home / "trace")
        with pytest.raises(CommandError, match="has no channel"):
            session.set_options(subbuf_size=8192)
        for name in ("one", "two"):
            session.enable_channel(name, ChannelOptions(subbuf_size=4096))
        session.set_options("two", subbuf_size=8192, mode="overwrite", switch_timer_us=7)
        session.set_options(buffers="pid", monitor_timer_us=0)
        one, two = session.info().channels
        assert one.options == ChannelOptions(subbuf_size=4096, buffers="pid", monitor_timer_us=0)
        assert two.options == ChannelOptions(
            subbuf_size=8192, mode="overwrite", switch_timer_us=7, buffers="pid", monitor_timer_us=0
        )
        refused = [
            ({"channel": "two", "blocking_timeout_us": 1}, "never blocks"),
            ({"channel": "one", "buffers": "uid"}, "all its channels do"),
            ({"channel": "one", "subbuf_size": 5000}, "power of two"),
            ({"channel": "one", "mode": "keep"}, "mode 'keep'"),
            ({"channel": "three", "subbuf_size": 4096}, "no channel three"),
        ]
        for options, complaint in refused:
            with pytest.raises((CommandError, UsageError), match=complaint):
                session.set_options(**options)  # type: ignore[arg-type]
        assert session.info().channels == [one, two]


def test_what_is_fixed_in_the_buffers_that_programs_have(rundir: Rundir) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("s", rundir.home / "trace")
        session.enable_channel("one", ChannelOptions(read_timer_us=HOUR_US))
        session.enable_channel("two")
        session.start()
        session.set_options("one", read_timer_us=7, switch_timer_us=8, monitor_timer_us=9)
        session.set_options(switch_timer_us=11)
        expected = ChannelOptions(read_timer_us=7, switch_timer_us=11, monitor_timer_us=9)
        before = session.info().channels
        assert before[0].options == expected
        for options, complaint in (
            ({"subbuf_size": 8192}, "subbuf_size is the size of the buffers"),
            ({"num_subbuf": 8}, "num_subbuf is"),
            ({"mode": "overwrite"}, "mode is how programs write"),
            ({"buffers": "pid"}, "buffers is what programs share"),
            ({"blocking_timeout_us": 5}, "blocking_timeout_us is what programs were told"),
            # One channel has a read timer, one has none: neither can change sides.
            ({"read_timer_us": 0}, "channel one keeps what it has: whether there is a read timer"),
            ({"read_timer_us": 5}, "channel two keeps what it has: whether there is a read timer"),
        ):
            with pytest.raises(CommandError, match=complaint):
                session.set_options(**options)  # type: ignore[arg-type]
        session.stop()
        with pytest.raises(CommandError, match="was started before"):
            session.set_options("one", subbuf_size=8192, switch_timer_us=0)
        # Asked for what it has, it has no objection.
        session.set_options("two", subbuf_size=524288)
        assert session.info().channels == before


@pytest.mark.parametrize("first", [0, HOUR_US])
@pytest.mark.parametrize("consumer", [True, False], ids=["consumer", "none"])
def test_a_new_period_counts_at_once(
    rundir: Rundir, apps: Apps, first: int, consumer: bool
) -> None:
    """What a slow program recorded is written while it runs, or can be read where nobody writes."""
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output)
        session.enable_channel("c", ChannelOptions(subbuf_size=4096, switch_timer_us=first))
        session.enable_event("sleeper:*")
        session.start() if consumer else session.start(consumer=None)
        program = rundir.start([apps.sleeper, "200"])

        def recorded() -> bool:
            if consumer:
                return any(map(size, output.glob("ust/uid/*/64-bit/c_*")))
            return any(stream.produced >= 4096 for stream in session.info().streams)

        until(lambda: session.info().streams, "buffers")
        until(lambda: any(each.produced > 128 for each in session.info().streams), "events")
        assert not recorded()
        argv = ["--rundir", rundir.path, "set-options", "-s", "s", "-c", "c", "--switch-timer=20ms"]
        result = rundir.drtrace(*argv)
        said = "ust options of channel c set for session s\n"
        assert (result.returncode, result.stdout) == (0, said)
        until(recorded, "a packet")
        session.set_options(switch_timer_us=0)
        program.kill()
        program.wait()
        session.destroy()
    if consumer:
        assert babeltrace2_text(output).lines


def size(path: Path) -> int:
    return os.stat(path).st_size
