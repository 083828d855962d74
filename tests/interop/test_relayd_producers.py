# SPDX-License-Identifier: MIT
"""The same requests to our relay and to LTTng's: equal files, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.relayd import Relayd, relayd
from helpers.relaypeer import Producer, index_of, packet_of

from ustconsumer.protocol import relay
from ustconsumer.protocol.relay import CloseChunk, CloseCommand, Command, CreateChunk, Rotate

pytestmark = pytest.mark.peers("lttng")

PATH = "ust/uid/7/64-bit"
_DATE = re.compile(r"\d{8}-\d{6}|\d{8}T\d{6}[+-]\d{4}")


def content(output: Path) -> dict[str, bytes]:
    """Return the bytes of each file below a directory, dates aside."""
    return {
        _DATE.sub("DATE", str(path.relative_to(output))): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file()
    }


def ports(running: Relayd) -> tuple[int, int]:
    return running.control, running.data


def finish(peer: Producer, metadata: int, streams: dict[int, int]) -> None:
    """Close streams behind their last packets, and go when all of it has arrived."""
    for handle, last in streams.items():
        peer.wait(handle, last)
    assert peer.ask(Command.CLOSE_STREAM, metadata, relay.NO_SEQUENCE) == 10
    for handle, last in streams.items():
        assert peer.ask(Command.CLOSE_STREAM, handle, last) == 10


def of_version(minor: int) -> Callable[[Relayd], None]:
    """Return what streams some packets as a producer of this version."""

    def speak(running: Relayd) -> None:
        peer = Producer(ports(running), minor=minor)
        path = PATH if minor >= 11 else f"/producer/s-20261123-170000//{PATH}"
        streams = [peer.add(f"c_{number}", path) for number in range(2)]
        metadata = peer.add("metadata", path)
        peer.publish()
        peer.metadata(metadata, b"/* CTF 1.8 */\n", 82)
        for handle in streams:
            for net in range(3):
                packet = packet_of(net)
                if net == 1:
                    # Its index is first.
                    assert peer.index(index_of(handle, net, packet)) == 10
                    peer.send(handle, net, packet)
                else:
                    peer.put(handle, net, packet)
        if minor >= 8:
            peer.metadata(metadata, b"junk")
            assert peer.ask(Command.RESET_METADATA, metadata, 1) == 10
            peer.metadata(metadata, b"/* CTF 1.8 again */\n", 76)
        finish(peer, metadata, dict.fromkeys(streams, 2))
        peer.close()

    return speak


def tracefiles(running: Relayd) -> None:
    """More than fit into the files that there may be."""
    peer = Producer(ports(running))
    handle = peer.add("c_0", size=10_000, count=3)
    metadata = peer.add("metadata")
    peer.metadata(metadata, b"/* CTF 1.8 */\n")
    sizes = [4000, 4000, 1800, 300, 4000, 4096, 4000, 4000, 8, 4000, 4000, 4000, 4000]
    for net, size in enumerate(sizes):
        peer.put(handle, net, packet_of(net, size))
    finish(peer, metadata, {handle: len(sizes) - 1})
    peer.close()


def two_consumers(running: Relayd) -> None:
    """64 and 32 bits: two connections of one session, a rotation and a clear."""
    first = Producer(ports(running), chunk=False)
    second = Producer(ports(running), chunk=False, same=first)
    peers = [first, second]
    begin = first.wanted.created
    streams = {}
    metadata = {}
    for bits, peer in zip((64, 32), peers, strict=True):
        assert peer.status(relay.create_chunk(CreateChunk(0, begin))) == 10
        path = f"ust/uid/7/{bits}-bit"
        streams[bits] = peer.add("c_0", path)
        metadata[bits] = peer.add("metadata", path)
        peer.metadata(metadata[bits], b"/* CTF 1.8 */\n")
        peer.put(streams[bits], 0, packet_of(bits))
    for number, command in ((1, CloseCommand.MOVE_TO_COMPLETED), (2, CloseCommand.DELETE)):
        for peer in peers:
            assert peer.status(relay.create_chunk(CreateChunk(number, begin + number))) == 10
        for bits, peer in zip((64, 32), peers, strict=True):
            at = {streams[bits]: number}
            assert peer.status(relay.rotate(Rotate(number, at))) == 10
            peer.put(streams[bits], number, packet_of(bits + number))
            assert peer.status(relay.rotate(Rotate(number, {metadata[bits]: 0}))) == 10
            peer.metadata(metadata[bits], b"/* CTF 1.8 */\n")
        paths = set()
        for peer in peers:
            close = CloseChunk(number - 1, begin + number, command)
            status, size = divmod(
                int.from_bytes(peer.call(relay.close_chunk(close), 8), "big"), 1 << 32
            )
            paths.add(peer.control.exactly(size))
            assert status == 10
        assert len(paths) == 1
        # While a packet is on its way, lttng-relayd makes no further chunk.
        for bits, peer in zip((64, 32), peers, strict=True):
            peer.wait(streams[bits], number)
    for bits, peer in zip((64, 32), peers, strict=True):
        finish(peer, metadata[bits], {streams[bits]: 2})
        peer.close()


CASES: dict[str, Callable[[Relayd], None]] = {
    **{f"2.{minor}": of_version(minor) for minor in (4, 7, 8, 10, 11, 12, 13)},
    "tracefiles": tracefiles,
    "two consumers": two_consumers,
}


@pytest.mark.parametrize("case", CASES)
def test_equal_files(case: str, tmp_path: Path) -> None:
    found = []
    for kind in ("ours", "lttng"):
        with relayd(kind, tmp_path / kind) as running:
            CASES[case](running)
        found.append(content(running.output))
    ours, theirs = found
    assert sorted(ours) == sorted(theirs)
    assert {name for name in ours if ours[name] != theirs[name]} == set()
    assert any(name.endswith("metadata") for name in ours)
