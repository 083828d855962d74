# SPDX-License-Identifier: MIT
"""A user's own program as the consumer of a session."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

import ustconsumer
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: Smallest event record of flood:tick: compact header 6, two i32, "flood" and NUL.
TICK = 6 + 4 + 4 + 6


def started(registry: RunningRegistry, rundir: Rundir) -> ustconsumer.Session:
    session = registry.client.create("mine", str(rundir.home / "unused"))
    session.enable_channel("chan", ChannelOptions(subbuf_size=16384, num_subbuf=16))
    session.enable_event("flood:tick", "chan")
    return session


def test_every_packet_reaches_the_program_once(rundir: Rundir, apps: Apps) -> None:
    count = 20000
    with running_registry(rundir) as registry:
        session = started(registry, rundir)
        with ustconsumer.attach("mine", consume=True, rundir=rundir.path) as attached:
            session.start()
            program = rundir.start([apps.flood, str(count)])
            seen: dict[int, list[int]] = {}
            content = 0
            for packet in attached.packets(timeout=2.0):
                assert not packet.data.flags.writeable
                assert bytes(packet.data[:4]) == bytes.fromhex("c11ffcc1")
                seen.setdefault(packet.stream.cpu, []).append(packet.sequence)
                content += packet.content_size - 84
            assert program.wait() == 0
            # All but what is in the open packets, which only a switch ends.
            lost = sum(stream.lost_full for stream in session.info().streams)
            assert content > (count - lost) * TICK - 16384 * len(seen)
            for sequences in seen.values():
                assert sequences == list(range(len(sequences)))
            text = b"".join(text for _, text in attached.metadata())
            assert text.startswith(b"/* CTF 1.8 */")
            assert b'"flood:tick"' in text
        session.destroy()


def test_the_lease_has_one_holder(rundir: Rundir) -> None:
    with running_registry(rundir) as registry:
        session = started(registry, rundir)
        with ustconsumer.attach("mine", consume=True, rundir=rundir.path):
            with pytest.raises(CommandError, match="mine"):
                ustconsumer.attach("mine", consume=True, rundir=rundir.path)
            assert session.info().consumer is not None
        until(lambda: session.info().consumer is None, "the lease is given back")
        ustconsumer.attach("mine", consume=True, rundir=rundir.path).close()
        session.destroy()


def test_reading_along_beside_the_consumer(rundir: Rundir, apps: Apps) -> None:
    # Less than a turn of one buffer: nothing is overtaken, however slow we are.
    count = 10000
    with running_registry(rundir) as registry:
        session = started(registry, rundir)
        session.start()
        with ustconsumer.attach("mine", rundir=rundir.path) as observer:
            program = rundir.start([apps.flood, str(count)])
            seen: dict[int, list[int]] = {}
            kept = []
            for packet in observer.packets(timeout=2.0):
                assert not packet.data.flags.writeable
                kept.append(packet)
                seen.setdefault(packet.stream.cpu, []).append(packet.sequence)
            assert program.wait() == 0
            # A copy: it does not change when its memory does.
            assert {bytes(packet.data[:4]) for packet in kept} == {bytes.fromhex("c11ffcc1")}
            for sequences in seen.values():
                assert sequences == list(range(len(sequences)))
            text = b"".join(text for _, text in observer.metadata())
            assert b'"flood:tick"' in text
        session.stop()
        consumer = session.info().consumer
        assert consumer is not None
        # It took all of them, and those that the stop closed.
        assert consumer.stats.packets > len(kept) > 1
        session.destroy()


def test_the_histogram_example(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = started(registry, rundir)
        example = rundir.start_python(
            EXAMPLES / "histogram.py", "mine", rundir.path, stdout=subprocess.PIPE, text=True
        )
        assert example.stdout is not None
        assert example.stdout.readline() == "attached\n"
        session.start()
        assert rundir.run([apps.flood, "5000"]).returncode == 0
        session.stop()
        session.destroy()
        output = example.stdout.read()
        assert example.wait() == 0
    found = re.findall(r"cpu \d+: (\d+) packets, (\d+) bytes, most often 0x00", output)
    assert sum(int(packets) for packets, _ in found) >= 2
    # Every event in it: 5000 records and the packet headers.
    assert sum(int(size) for _, size in found) >= 5000 * TICK
