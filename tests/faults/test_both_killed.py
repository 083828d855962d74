# SPDX-License-Identifier: MIT
"""A consumer that writes files and sends to a relay is killed: each place has each event once."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.registry import running_registry, until
from helpers.relayd import relayd
from helpers.rundir import Rundir

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

_EVENTS = 200_000
_SEQ = re.compile(r"seq = (\d+)")


def consumer_other_than(session: Session, pids: set[int]) -> int:
    """Return the pid of a consumer that none of these is; there is one at the end."""
    until(lambda: _pid(session) not in {0, *pids}, "a consumer")
    return _pid(session)


def _pid(session: Session) -> int:
    consumer = session.info().consumer
    return 0 if consumer is None else consumer.pid


@pytest.mark.repeat(ci=3, soak=50)
def test_each_event_once_in_each_place(
    rundir: Rundir, apps: Apps, tmp_path: Path, repeat: int
) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311
    chance = random.Random(seed)  # noqa: S311
    output = rundir.home / "trace"
    with relayd("ours", tmp_path / "relay") as relay, running_registry(rundir) as registry:
        destination = Destination(url=relay.url)
        session = registry.client.create("s", output, destination=destination)
        session.enable_channel("ch", ChannelOptions(subbuf_size=16384, num_subbuf=8))
        session.enable_event("flood:tick", channel="ch")
        session.start()
        killed: set[int] = set()
        for number in range(repeat):
            pid = consumer_other_than(session, killed)
            program = rundir.start([apps.flood, str(_EVENTS), "--from", str(number * _EVENTS)])
            time.sleep(chance.uniform(0.01, 0.1))
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
            assert program.wait() == 0
            # Who is killed often has no successor by itself.
            until(lambda: _pid(session) not in killed, "the registry has noticed")
            session.spawn_consumer()
        consumer_other_than(session, killed)
        session.stop()
        lost = sum(channel.discarded for channel in session.info().channels)
        consumer = session.info().consumer
        assert consumer is not None
        assert consumer.stats.unwritten_bytes == 0
        session.destroy()
        until(lambda: not Path(f"/proc/{consumer.pid}").exists(), "the consumer has ended")
    here, there = babeltrace2_text(output), babeltrace2_text(relay.output)
    # As many as are missing, in a place that readers believe.
    assert discarded(here.stderr) == discarded(there.stderr) == lost, f"seed {seed}"
    numbers = [int(number) for line in here.lines for number in _SEQ.findall(line)]
    assert len(numbers) == len(set(numbers)), f"seed {seed}"
    assert len(numbers) + lost == repeat * _EVENTS, f"seed {seed}"
    assert here.lines == there.lines, f"seed {seed}"
