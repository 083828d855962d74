# SPDX-License-Identifier: MIT
"""Memory that contradicts itself: complained about or read, never followed."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.fakeapp import FakeApp
from helpers.registry import running_registry, until
from helpers.rundir import Rundir
from helpers.users import User
from helpers.users import tester as user_of_tests

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.ringbuffer.geometry import Geometry

SUBBUF_SIZE, NUM_SUBBUF = 4096, 64


@pytest.mark.parametrize("first", [0, 1 << 20])
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("static", marks=pytest.mark.repeat(ci=1000, soak=200_000)),
        pytest.param("live", marks=pytest.mark.repeat(ci=300, soak=50_000)),
    ],
)
def test_whatever_the_memory_says_only_its_packets_come_out(
    mode: str, first: int, repeat: int
) -> None:
    """Words are changed before, or by another process while, a reader does what readers do."""
    result = subprocess.run(
        [sys.executable, "-P", "-m", "helpers.hostile", mode, str(first), str(repeat)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    # Not everything was refused, or the test would show nothing.
    assert int(result.stdout) > repeat


def spoil(pid: int, name: str, geometry: Geometry) -> None:
    """Have the packet headers in an application's buffers carry the wrong magic."""
    spoilt = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if not os.readlink(entry).startswith(f"/memfd:{name}"):
            continue
        fd = os.open(entry, os.O_RDWR)
        with mmap.mmap(fd, geometry.file_size) as memory:
            for page in range(geometry.nr_pages):
                geometry.layout.packet.put(memory, geometry.data_at(page), "magic", 0xBAD)
        os.close(fd)
        spoilt += 1
    assert spoilt


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
def test_a_stream_that_lies_is_closed_and_named_and_the_others_go_on(
    rundir: Rundir, apps: Apps
) -> None:
    output = rundir.home / "trace"
    geometry = Geometry(RING_LAYOUTS["ust-9-x86_64"], SUBBUF_SIZE, NUM_SUBBUF)
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output)
        for channel in ("lying", "honest"):
            options = ChannelOptions(subbuf_size=SUBBUF_SIZE, num_subbuf=NUM_SUBBUF)
            session.enable_channel(channel, options)
        session.enable_event("sleeper:beat", "lying")
        session.enable_event("flood:tick", "honest")
        session.start()
        beating = rundir.start([apps.sleeper, "1"])
        until(
            lambda: any(s.produced > 100 and s.channel == "lying" for s in session.info().streams),
            "the program writes to the stream that will lie",
        )
        before = session.info().consumer
        spoil(beating.pid, "ust-lying", geometry)
        warnings = session.stop()
        closed = [line for line in warnings if "lying_" in line]
        assert closed
        assert all("closed: a packet header" in line for line in closed), warnings
        assert not [line for line in warnings if "honest_" in line]
        session.start()
        assert rundir.run([apps.flood, "3000"]).returncode == 0
        session.stop()
        after = session.info().consumer
        assert before is not None
        assert after is not None
        assert after.pid == before.pid
        lost = sum(stream.lost_full for stream in session.info().streams)
        session.destroy()
    assert lost == 0
    lines = babeltrace2_text(output).lines
    assert sum("flood:tick" in line for line in lines) == 3000


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
@pytest.mark.parametrize(("buffers", "mode"), [("uid", "discard"), ("pid", "overwrite")])
def test_random_words_in_one_trace_leave_the_others_complete(
    rundir: Rundir, apps: Apps, user: User, buffers: str, mode: str
) -> None:
    """One program stores nonsense over its control structures all the time."""
    if buffers == "uid" and os.getuid() != 0:
        pytest.skip("two users are needed: only root can be both")
    count = 20_000
    output = rundir.home / "trace"
    other = user if buffers == "uid" else user_of_tests()
    with running_registry(rundir) as registry:
        # As open as the global registry's: the other user comes in.
        rundir.path.chmod(0o755)
        rundir.home.chmod(0o755)
        session = registry.client.create("s", output)
        options = ChannelOptions(
            subbuf_size=1 << 16, num_subbuf=32, mode=mode, buffers=buffers, switch_timer_us=5000
        )
        session.enable_channel("channel0", options)
        session.enable_event("*")
        session.start()
        fake = FakeApp(rundir.path, 9)
        try:
            assert fake.ready.wait(30)
            fake.write(100)
            chance = random.Random(4)  # noqa: S311
            program = subprocess.Popen(
                other.argv([apps.flood, str(count)]),
                env={**os.environ, "LTTNG_HOME": str(rundir.home)},
            )
            while program.poll() is None:
                fake.scribble(chance, 100)
            assert program.returncode == 0
            fake.scribble(chance, 5000)
            session.stop()
        finally:
            fake.close()
        named = session.info().problems
        session.destroy()
    honest = f"uid/{user.uid}/" if buffers == "uid" else "pid/flood-"
    assert named
    assert not [line for line in named if honest in line]
    (place,) = output.glob(f"ust/{honest}*")
    lines = babeltrace2_text(place).lines
    assert sum("flood:tick" in line for line in lines) == count
