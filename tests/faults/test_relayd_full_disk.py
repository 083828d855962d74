# SPDX-License-Identifier: MIT
"""A relay that cannot write: the session ends, with one line; others go on."""

from __future__ import annotations

import resource
from pathlib import Path

from helpers.relayd import relayd
from helpers.relaypeer import Packet, Producer, packet_of

#: Bytes that a file may have; beyond it the system says EFBIG as it says ENOSPC otherwise.
ROOM = 5 * 4096 + 1000


def test_one_session_ends_and_others_go_on(tmp_path: Path) -> None:
    with relayd("ours", tmp_path / "out") as running:
        ports = running.control, running.data
        modest, greedy = Producer(ports, name="modest"), Producer(ports, name="greedy")
        small, large = modest.add("c_0"), greedy.add("c_0")
        modest.put(small, 0, packet_of(0))
        pid = running.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (ROOM, before[1]))
        for net in range(5):
            greedy.put(large, net, packet_of(net))
        greedy.send(large, 5, packet_of(5))
        # Both of its connections end: its producer is to know.
        assert greedy.control.rest() == b""
        assert greedy.data.rest() == b""
        modest.put(small, 1, packet_of(1))
        modest.wait(small, 1)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        third = Producer(ports, name="third")
        third.put(third.add("c_0"), 0, packet_of(0))
        said = [line for line in running.log.splitlines() if "cannot be written" in line]
        assert said == ["ust-relayd: session greedy: ended, it cannot be written: File too large"]
        # What is there is whole.
        stored = (running.output / greedy.path / "ust/uid/7/64-bit/c_0").read_bytes()
        assert stored == b"".join(packet_of(net).stored for net in range(5))
        for peer in (modest, greedy, third):
            peer.close()


def test_metadata_that_does_not_fit(tmp_path: Path) -> None:
    with relayd("ours", tmp_path / "out") as running:
        peer = Producer((running.control, running.data))
        handle = peer.add("metadata")
        peer.metadata(handle, Packet(b"text").stored)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        peer.metadata(handle, bytes(1000))
        assert peer.control.rest() == b""
        path = running.output / peer.path / "ust/uid/7/64-bit/metadata"
        assert path.read_bytes() == b"text"
        assert running.log.count("\n") == 1
        peer.close()
