# SPDX-License-Identifier: MIT
"""Files and a relay at once: each packet in each place once, whoever takes nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from helpers.rings import TestRing, make_ring

from ustconsumer._native.ring import DRAIN_EMPTY
from ustconsumer.consumer.flow import Flow, Outgoing
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.relaylink import Identity
from ustconsumer.consumer.sender import Sender
from ustconsumer.consumer.sinks.both import BothSink, BothWriter, FileSink
from ustconsumer.consumer.sinks.disk import DiskSink, DiskWriter
from ustconsumer.consumer.sinks.zstd import ZstdSink
from ustconsumer.protocol.relayurl import parse_url

ENTRY = struct.Struct(">9Q")
INDEX = Path("ust/uid/1/64-bit/index")
#: Nobody listens there.
URL = parse_url("net://127.0.0.1:1:1")
IDENTITY = Identity("host", "s", bytes(range(16)), 1)


class Relay:
    """What a `Sender` does with packets, without a connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        #: why it takes nothing; None: it does
        self.problem: str | None = None
        self.refuses = False
        self.got: list[Outgoing] = []
        monkeypatch.setattr(Sender, "obstacle", lambda sender, flow, size: self.problem)
        monkeypatch.setattr(Sender, "put", lambda sender, flow, packet: self._put(packet))
        monkeypatch.setattr(Sender, "declared", lambda sender, stream: True)

    def _put(self, packet: Outgoing) -> None:
        if self.refuses:
            raise OSError(errno.ENOSPC, "the spool is full")
        self.got.append(packet)

    @property
    def numbers(self) -> list[int]:
        return [packet.sequence for packet in self.got]


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Relay:
    return Relay(monkeypatch)


@contextlib.contextmanager
def opened(made: TestRing, files: FileSink) -> Iterator[BothWriter]:
    sink = BothSink(files, URL, IDENTITY)
    try:
        writer = sink.open(made.stream)
        writer.attach(made.ring)
        yield writer
        writer.close()
    finally:
        sink.close()


def numbers(output: Path) -> list[int]:
    """Return the sequence numbers in the index, checked against where the packets are."""
    raw = (output / INDEX / "channel0_1.idx").read_bytes()[16:]
    entries = list(ENTRY.iter_unpack(raw))
    assert [entry[0] for entry in entries] == [4096 * number for number in range(len(entries))]
    data = output / "ust/uid/1/64-bit/channel0_1"
    assert data.stat().st_size == 4096 * len(entries)
    return [entry[8] for entry in entries]


def packets(made: TestRing, *times: int) -> None:
    for now in times:
        made.packet(now)


def test_each_place_has_each_packet(tmp_path: Path, relay: Relay) -> None:
    with make_ring() as made, opened(made, DiskSink(tmp_path)) as writer:
        packets(made, 2000, 3000)
        assert writer.drain(made.ring, 1 << 20) == DRAIN_EMPTY
        assert numbers(tmp_path) == relay.numbers == [0, 1]
        # Until they have arrived, the buffer keeps them.
        assert made.ring.positions()[0] == 0
        assert made.ring.ahead == 2 * 4096
    data = (tmp_path / "ust/uid/1/64-bit/channel0_1").read_bytes()
    for at, packet in enumerate(relay.got):
        assert data[4096 * at :].startswith(packet.content)


def test_files_go_on_without_the_relay(tmp_path: Path, relay: Relay) -> None:
    with make_ring() as made, opened(made, DiskSink(tmp_path)) as writer:
        relay.problem = "gone"
        for now, expected in ((2000, [0]), (3000, [0, 1]), (4000, [0, 1, 2])):
            made.packet(now)
            for _ in range(2):
                with pytest.raises(OSError, match="gone"):
                    writer.drain(made.ring, 1 << 20)
            assert numbers(tmp_path) == expected
        assert relay.got == []
        relay.problem = None
        made.packet(5000)
        assert writer.drain(made.ring, 1 << 20) == DRAIN_EMPTY
        assert numbers(tmp_path) == relay.numbers == [0, 1, 2, 3]


def test_a_packet_that_is_not_taken_is_not_written_again(tmp_path: Path, relay: Relay) -> None:
    with make_ring() as made, opened(made, DiskSink(tmp_path)) as writer:
        made.packet(2000)
        relay.refuses = True
        for _ in range(3):
            with pytest.raises(OSError, match="spool"):
                writer.drain(made.ring, 1 << 20)
        relay.refuses = False
        assert writer.drain(made.ring, 1 << 20) == DRAIN_EMPTY
        assert numbers(tmp_path) == relay.numbers == [0]


def test_a_full_disk_sends_nothing(
    tmp_path: Path, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: DiskWriter, packets: Sequence[Packet]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with make_ring() as made, opened(made, DiskSink(tmp_path)) as writer:
        made.packet(2000)
        with monkeypatch.context() as patched:
            patched.setattr(DiskWriter, "write", full)
            with pytest.raises(OSError, match="No space"):
                writer.drain(made.ring, 1 << 20)
        assert relay.got == []
        assert writer.drain(made.ring, 1 << 20) == DRAIN_EMPTY
        assert numbers(tmp_path) == relay.numbers == [0]


def test_a_successor_writes_nothing_twice(tmp_path: Path, relay: Relay) -> None:
    """The one before was killed: the files are ahead of what had arrived."""
    with make_ring() as made:
        with opened(made, DiskSink(tmp_path)) as writer:
            packets(made, 2000, 3000)
            writer.drain(made.ring, 1 << 20)
        with opened(made, DiskSink(tmp_path)) as writer:
            made.packet(4000)
            assert writer.drain(made.ring, 1 << 20) == DRAIN_EMPTY
            assert made.ring.positions()[0] == 0
    assert numbers(tmp_path) == [0, 1, 2]
    # The relay gets what nobody knows it has.
    assert relay.numbers == [0, 1, 0, 1, 2]


def test_what_may_be_overwritten_is_given_back_at_once(tmp_path: Path, relay: Relay) -> None:
    with make_ring(overwrite=True) as made, opened(made, DiskSink(tmp_path)) as writer:
        relay.problem = "gone"
        packets(made, 2000, 3000)
        with pytest.raises(OSError, match="gone"):
            writer.drain(made.ring, 1 << 20)
        relay.problem = None
        assert writer.drain(made.ring, 1 << 20) == DRAIN_EMPTY
        assert numbers(tmp_path) == relay.numbers == [0, 1]
        assert made.ring.positions()[0] == 2 * 4096


def test_metadata_waits_for_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(Sender, "append_text", lambda sender, trace, text: sent.append(text))
    trace = Trace("t", "ust/uid/1/64-bit", bytes(range(16)), 1)

    class Full(DiskSink):
        full = True

        def metadata(self, trace: Trace, text: bytes) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().metadata(trace, text)

    files = Full(tmp_path)
    sink = BothSink(files, URL, IDENTITY)
    try:
        with pytest.raises(OSError, match="No space"):
            sink.metadata(trace, b"/* CTF 1.8 */\n")
        assert sent == []
        files.full = False
        sink.metadata(trace, b"/* CTF 1.8 */\n")
    finally:
        sink.close()
    assert sent == [b"/* CTF 1.8 */\n"]
    assert b"/* CTF 1.8 */" in (tmp_path / trace.path / "metadata").read_bytes()


def compressed(output: Path) -> ZstdSink:
    return ZstdSink(output, 1)


@pytest.mark.parametrize("make", [DiskSink, compressed])
def test_where_files_end(tmp_path: Path, make: Callable[[Path], FileSink], relay: Relay) -> None:
    def ends(stream: Stream) -> tuple[int | None, int]:
        sink = make(tmp_path)
        writer = sink.open(stream)
        found = writer.ends
        writer.close()
        sink.close()
        return found

    with make_ring() as made:
        assert ends(made.stream) == (None, 0)
        with opened(made, make(tmp_path)) as writer:
            packets(made, 2000, 3000)
            writer.drain(made.ring, 1 << 20)
        assert ends(made.stream) == (2, 0)


def test_a_flow_ends_with_its_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Flow] = []
    monkeypatch.setattr(Sender, "end", lambda sender, flow: ended.append(flow))
    with make_ring() as made, opened(made, DiskSink(tmp_path)):
        pass
    assert len(ended) == 1
