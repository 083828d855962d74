# SPDX-License-Identifier: MIT
"""A Python program killed with SIGKILL, anywhere, while others write into the same buffers."""

from __future__ import annotations

import random
import re
import signal
import time
from collections import defaultdict

import pytest
from helpers.accounting import Trace, stop
from helpers.apps import Apps
from helpers.processes import ended
from helpers.pyapps import STORM
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("babeltrace2", "gcc", "lttng-ust-headers")

TICK = re.compile(r"(storm|flood):tick: .*vpid = (\d+) \}, \{ seq = (\d+), thread = (\d+),")
EVENTS = 30_000


@pytest.mark.repeat(ci=3, soak=100)
def test_others_go_on(rundir: Rundir, apps: Apps, repeat: int) -> None:
    """What it emitted is there up to some event; what the others emitted is, all of it."""
    program = rundir.home / "storm.py"
    program.write_text(STORM)
    with running_registry(rundir) as registry:
        for run in range(repeat):
            chance = random.Random(run)  # noqa: S311
            output = rundir.home / f"trace{run}"
            session = registry.client.create(f"s{run}", output)
            # Small sub-buffers have more places to die in; all of them hold every event.
            options = ChannelOptions(subbuf_size=4096, num_subbuf=4096)
            session.enable_channel("chan", options)
            session.add_context(["vpid"], "chan")
            session.enable_event("storm:tick", "chan")
            session.enable_event("flood:tick", "chan")
            session.start()
            victim = rundir.start_python(program, "1000000000", "3", "0", "20")
            others = [
                rundir.start_python(program, str(EVENTS // 2), "2", "0", "20"),
                rundir.start([apps.flood, str(EVENTS)]),
            ]
            until(
                lambda victim=victim: victim.pid in registry.applications(),  # type: ignore[misc]
                "the victim is registered",
            )
            time.sleep(chance.uniform(0, 0.3))
            victim.send_signal(signal.SIGKILL)
            assert victim.wait() == -signal.SIGKILL
            for other in others:
                assert other.wait(60) == 0
            assert ended(victim.pid, 10)
            totals = stop(session)
            session.destroy()
            trace = Trace(output)
            assert totals.recorded == len(trace.lines)
            assert trace.packets_lost == 0
            seen: dict[tuple[int, str], list[int]] = defaultdict(list)
            for line in trace.lines:
                match = TICK.search(line)
                assert match, line
                seen[int(match[2]), match[4]].append(int(match[3]))
            for (pid, _), numbers in seen.items():
                if pid != victim.pid:
                    continue
                # A thread waits for its turn between events: nothing of it is missing.
                if not totals.discarded:
                    assert numbers == list(range(len(numbers)))
            whole = sum(len(numbers) for (pid, _), numbers in seen.items() if pid != victim.pid)
            assert whole <= 2 * EVENTS
            assert whole + totals.discarded >= 2 * EVENTS
            for path in output.rglob("*"):
                if path.is_file():
                    path.unlink()
