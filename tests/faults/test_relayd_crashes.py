# SPDX-License-Identifier: MIT
"""What ends lttng-relayd 2.13.9 does not end ours, nor disturb others.

The same bytes go to both: with LTTng's they show that they are the right ones, with ours a live
session streams and is followed all the time.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from helpers.processes import ended
from helpers.registry import until
from helpers.relayd import Relayd, relayd
from helpers.relaypeer import Producer, index_of, packet_of
from helpers.steady import steady

from ustconsumer.protocol import relay
from ustconsumer.protocol.relay import CloseChunk, CloseCommand, CreateChunk, Rotate

#: What must be true of a relay that is still there.
Check = Callable[[], None]


@contextlib.contextmanager
def producer(running: Relayd) -> Iterator[Producer]:
    peer = Producer((running.control, running.data), name="victim")
    with contextlib.closing(peer):
        yield peer


@contextlib.contextmanager
def ended_by_it() -> Iterator[None]:
    """Go on where the relay has gone away."""
    with contextlib.suppress(OSError, EOFError):
        yield


def trace_of(running: Relayd, peer: Producer) -> Path:
    return running.output / peer.path / "ust" / "uid" / "7" / "64-bit"


@contextlib.contextmanager
def tracefile_size_without_count(running: Relayd) -> Iterator[Check]:
    """Facts 8: 0 files is no limit."""
    with producer(running) as peer:
        handle = peer.add("c_0", size=8192, count=0)
        packets = [packet_of(n, 4000) for n in range(5)]
        with ended_by_it():
            for number, packet in enumerate(packets):
                peer.put(handle, number, packet)

        def check() -> None:
            peer.wait(handle, 4)
            names = sorted(path.name for path in trace_of(running, peer).glob("c_0_*"))
            assert names == ["c_0_0", "c_0_1", "c_0_2"]
            found = b"".join((trace_of(running, peer) / name).read_bytes() for name in names)
            assert found == b"".join(packet.stored for packet in packets)

        yield check


@contextlib.contextmanager
def data_of_a_chunk_before_its_rotation(running: Relayd) -> Iterator[Check]:
    """Facts 9: a packet of the new chunk, without its index, before it is said where it is."""
    with producer(running) as peer:
        handle = peer.add("c_0")
        packets = [packet_of(n) for n in range(4)]
        peer.put(handle, 0, packets[0])
        peer.wait(handle, 0)
        assert peer.status(relay.create_chunk(CreateChunk(1, peer.wanted.created + 1))) == 10

        def written() -> int:
            # Where the chunk's directory is now differs.
            return sum(path.stat().st_size for path in running.output.rglob("victim-*/**/c_0"))

        before = written()
        peer.send(handle, 1, packets[1])
        until(lambda: written() == before + 4096, "the packet came before the command")
        with ended_by_it():
            peer.status(relay.rotate(Rotate(1, {handle: 1})))

        def check() -> None:
            assert peer.index(index_of(handle, 1, packets[1])) == 10
            peer.put(handle, 2, packets[2])
            peer.put(handle, 3, packets[3])
            peer.wait(handle, 3)
            close = CloseChunk(0, peer.wanted.created + 1, CloseCommand.MOVE_TO_COMPLETED)
            answer = peer.call(relay.close_chunk(close), 8)
            peer.control.exactly(int.from_bytes(answer[4:], "big"))
            assert int.from_bytes(answer[:4], "big") == 10
            files = sorted((running.output / peer.path).rglob("c_0"))
            # Each packet once, in order; which chunk has the one that came early is open.
            found = sorted(path.read_bytes() for path in files)
            assert len(found) == 2
            assert b"".join(found) == b"".join(packet.stored for packet in packets)

        yield check


@contextlib.contextmanager
def a_second_session_on_one_connection(running: Relayd) -> Iterator[Check]:
    """Facts 6.3."""
    with producer(running) as peer:
        handle = peer.add("c_0")
        peer.put(handle, 0, packet_of(0))
        peer.wait(handle, 0)
        with ended_by_it(), contextlib.suppress(AssertionError):
            peer.create(peer.wanted)

        def check() -> None:
            # Refused, with an answer or without; what was there stays.
            peer.control.rest()
            assert (trace_of(running, peer) / "c_0").read_bytes() == packet_of(0).stored

        yield check


#: name -> what does it, and the signal that ends LTTng's relay
CASES: dict[str, tuple[Callable[[Relayd], AbstractContextManager[Check]], int]] = {
    "tracefile size without a count": (tracefile_size_without_count, signal.SIGFPE),
    "data of a chunk before its rotation": (data_of_a_chunk_before_its_rotation, signal.SIGSEGV),
    "a second session on one connection": (a_second_session_on_one_connection, signal.SIGABRT),
}


@pytest.mark.peers("lttng")
@pytest.mark.parametrize("case", CASES)
def test_lttngs_relay_ends(case: str, tmp_path: Path) -> None:
    """The bytes are the right ones."""
    provoke, number = CASES[case]
    with relayd("lttng", tmp_path / "out") as running:
        with provoke(running):
            assert ended(running.process.pid, 60)
        assert running.process.wait() == -number


@pytest.mark.parametrize("case", CASES)
def test_ours_goes_on(case: str, tmp_path: Path) -> None:
    provoke, _ = CASES[case]
    output = tmp_path / "out"
    with (
        relayd("ours", output) as running,
        steady((running.control, running.data), running.live, output) as others,
    ):
        until(lambda: others.sent > 20, "others stream")
        with provoke(running) as check:
            check()
        # Once more: the first time has left nothing behind.
        with provoke(running) as check:
            check()
        before = others.sent
        until(lambda: others.sent > before + 20, "others still stream")
        assert running.process.poll() is None
    assert "Traceback" not in running.log


def test_sessions_that_ended_make_room(tmp_path: Path) -> None:
    """A relay keeps them for a while, for viewers; that must not keep others away."""
    output = tmp_path / "out"
    with (
        relayd("ours", output) as running,
        steady((running.control, running.data), running.live, output),
    ):
        ports = running.control, running.data
        for number in range(1100):
            Producer(ports, name=f"n{number}", live_us=1_000_000, chunk=False).close()
