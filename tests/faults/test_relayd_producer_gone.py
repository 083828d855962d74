# SPDX-License-Identifier: MIT
"""A producer that ends: what it sent is there, however its two connections end."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from helpers.relayd import Relayd, relayd
from helpers.relaypeer import Producer, index_of, packet_of

PATH = "ust/uid/7/64-bit"


def until_stored(running: Relayd, peer: Producer, packets: int) -> None:
    """Wait for so many packets, each with its index."""
    trace = running.output / peer.path / PATH
    end = time.monotonic() + 60
    while (trace / "index" / "c_0.idx").stat().st_size < 16 + 72 * packets:
        assert time.monotonic() < end, running.log
        time.sleep(0.01)
    stored = b"".join(packet_of(net).stored for net in range(packets))
    assert (trace / "c_0").read_bytes() == stored


def test_packets_on_their_way_arrive(tmp_path: Path) -> None:
    """The control connection is faster: it has ended when the first packet comes."""
    with relayd("ours", tmp_path / "out") as running:
        peer = Producer((running.control, running.data))
        handle = peer.add("c_0")
        for net in range(3):
            assert peer.index(index_of(handle, net, packet_of(net))) == 10
        assert peer.control.rest() == b""
        for net in range(3):
            peer.send(handle, net, packet_of(net))
        until_stored(running, peer, 3)
        peer.close()
        assert running.log == ""


def test_a_packet_in_part_is_forgotten(tmp_path: Path) -> None:
    with relayd("ours", tmp_path / "out") as running:
        peer = Producer((running.control, running.data))
        handle = peer.add("c_0")
        peer.put(handle, 0, packet_of(0))
        peer.data.send(b"\0" * 8 + handle.to_bytes(8, "big") + (1).to_bytes(8, "big"))
        peer.data.send((1000).to_bytes(4, "big") + bytes(4) + b"half")
        assert peer.data.rest() == b""
        until_stored(running, peer, 1)
        peer.close()


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    with relayd("ours", tmp_path / "out") as running:
        descriptors = Path(f"/proc/{running.process.pid}/fd")
        for number in range(20):
            peer = Producer((running.control, running.data), name=f"s{number}")
            handle = peer.add("c_0")
            peer.metadata(peer.add("metadata"), b"text")
            peer.put(handle, 0, packet_of(0))
            peer.close()
        end = time.monotonic() + 60
        # The loop keeps what it likes: nothing of a trace is among it, and no connection.
        while any(_of_a_session(each, running) for each in descriptors.iterdir()):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert len(list(descriptors.iterdir())) < 20 + 10


def _of_a_session(descriptor: Path, running: Relayd) -> bool:
    """Return whether a descriptor is of a file below the output directory."""
    with contextlib.suppress(FileNotFoundError):
        return running.output in descriptor.readlink().parents
    return False
