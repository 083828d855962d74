# SPDX-License-Identifier: MIT
"""Damaged input on each port of ``ust-relayd``: it stays, small, and others do not notice.

One case is one connection with a dialogue in which something is wrong; 10 000 of them, 1 000 000
with hypothesis' profile ``fuzz``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from helpers.mutation import Mutator
from helpers.relayd import Relayd, relayd
from helpers.relaypeer import Connection, Packet, Producer, index_of, packet_of
from helpers.steady import HOST, Steady, steady
from hypothesis import settings

from ustconsumer.protocol import relay, viewer
from ustconsumer.protocol.relay import (
    NO_SEQUENCE,
    AddStream,
    CloseChunk,
    Command,
    CreateChunk,
    CreateSession,
    Index,
    Rotate,
)

#: Bytes of memory, whatever comes: an idle relay has about 50 MiB.
MAX_MEMORY = 192 << 20
#: Bytes on disk per case: nobody sends more than a few KiB.
MAX_DISK = 1 << 20
#: Cases after which what they left in the output directory is removed.
_ROUND = 1000
_MINORS = (0, 1, 3, 4, 8, 10, 11, 12, 13, 13, 13, 15, 99)
_PATH = "ust/uid/7/64-bit"


class Target:
    """A relay with something at stake: its neighbourhood, and a session of somebody else."""

    def __init__(self, running: Relayd, others: Steady, home: Path, names: list[bytes]) -> None:
        self.running = running
        self.others = others
        self.home = home
        self.names = names
        self.ports = running.control, running.data
        self.pid = running.process.pid

    def resident(self) -> int:
        """Return the most memory that it ever had, in bytes."""
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert match
        return 1024 * int(match[1])

    def tidy(self) -> None:
        """Check what there is, and remove what the cases made."""
        assert self.running.process.poll() is None
        assert not self.others.failed, self.others.failed
        assert self.resident() < MAX_MEMORY
        size = 0
        for path in self.running.output.iterdir():
            if path.name == HOST or path.is_symlink():
                continue
            if path.is_dir():
                size += _blocks(path)
                shutil.rmtree(path)
        assert size < MAX_DISK * _ROUND


def _blocks(directory: Path) -> int:
    size = 0
    for place, _, names in os.walk(directory):
        for name in names:
            size += os.lstat(os.path.join(place, name)).st_blocks * 512
    return size


def _surroundings(home: Path) -> list[str]:
    """Return everything in the home that is not below the output directory."""
    found = []
    for directory, below, names in os.walk(home):
        if directory == str(home):
            below.remove("out")
        found += [os.path.join(directory, name) for name in (*below, *names)]
    return sorted(found)


@contextlib.contextmanager
def target(home: Path) -> Iterator[Target]:
    """Run a relay; at the end it must be the same process, and nothing else be different."""
    outside = home / "outside"
    outside.mkdir(parents=True)
    output = home / "out"
    output.mkdir()
    (output / "link").symlink_to(outside)
    (output / "fuzz").mkdir()
    (output / "fuzz" / "link").symlink_to(outside)
    names = [
        os.fsencode(outside / "x"),
        *(b"../" * depth + b"outside/x" for depth in range(1, 8)),
        b"..",
        b".",
        b"",
        b"/",
        b"a/../../../outside/x",
        b"link/x",
        b"../link/x",
        b"../../link",
        b"x" * 255,
        b"x" * 300,
        b"d/" * 200,
        b"x" * 5000,
        b"a\nb",
        b"\xff\xfe\xed\xa0\x80",
        b"metadata",
        b"index",
        b"archives",
        b"c_0.idx",
        b".tmp_old_chunk",
    ]
    with (
        relayd("ours", output) as running,
        steady((running.control, running.data), running.live, output) as others,
    ):
        before = _surroundings(home)
        made = Target(running, others, home, names)
        yield made
        # Somebody new is welcome.
        Producer(made.ports, name="new", host="fuzz").close()
        assert running.process.poll() is None
        assert running.process.pid == made.pid
        assert made.resident() < MAX_MEMORY
        assert _surroundings(home) == before
        assert not os.listdir(outside)
    assert "Traceback" not in running.log


def _speak(mutator: Mutator, port: int, script: list[bytes], first: bytes = b"") -> None:
    """Have one connection say everything, and wait until the relay has closed it."""
    data = first + b"".join(script)
    if mutator.random.random() < 0.1:
        data = _packed(mutator, data)
    with contextlib.closing(Connection(port)) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(data)
        connection.rest()


def _packed(mutator: Mutator, data: bytes) -> bytes:
    """Return the bytes as a compressed stream, which may be damaged as well."""
    if mutator.random.random() < 0.05:
        # Little that says much.
        data += bytes(64 << 20)
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    packed = packer.compress(data) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    if mutator.random.random() < 0.5:
        packed = packed[:4] + mutator.message(packed[4:], 0)
    return packed


# -- control ----------------------------------------------------------------------------------


def _dialogue(mutator: Mutator, target: Target, number: int) -> list[bytes]:
    """Return what a producer says, from its version to its end; it guesses its handles."""
    choose = mutator.random
    minor = choose.choice(_MINORS)
    guess = target.others.stream + choose.choice((1, 2, 3, number, 4 * number))
    spoken = min(minor, 13)
    resumes = choose.random() < 0.2
    packet = packet_of(number % 1000)
    script = [
        relay.request(Command.VERSION, struct.pack(">II", 2, minor)),
        relay.request(Command.GET_CONFIGURATION, bytes(8)),
    ]
    if resumes:
        script.append(relay.request(Command.RESUME))
    uuid = (number if choose.random() < 0.9 else 1).to_bytes(16, "big")
    script.append(
        relay.create_session(
            spoken,
            CreateSession(
                name=f"n{number % 50}",
                host="fuzz",
                live_us=choose.choice((0, 1_000_000)),
                snapshot=choose.random() < 0.2,
                base_path=choose.choice(("", "", "base/path")),
                uuid=uuid,
                created=1_700_000_000 + number,
            ),
        )
    )
    script.append(relay.create_chunk(CreateChunk(0, 1, choose.choice(("", "chunk")))))
    for name, size in (("c_0", 0), ("c_1", 8192), ("metadata", 0)):
        path = _PATH if spoken >= 11 else f"/fuzz/n{number}/{_PATH}"
        stream = AddStream(
            name=name,
            path=path,
            tracefile_size=size,
            tracefile_count=choose.choice((0, 3)),
            uuid=uuid if resumes else b"",
        )
        script.append(relay.add_stream(spoken, stream))
    # After the answers the handles would be known: of a few thousand numbers some are right.
    script += [
        relay.request(Command.STREAMS_SENT),
        relay.send_metadata(guess, b"/* CTF 1.8 */", 100),
        relay.index(spoken, index_of(guess, 0, packet)),
        relay.index(spoken, Index(guess, NO_SEQUENCE, 0, 0, 0, 99, 0, 0, 0, 0)),
        relay.request(Command.RESET_METADATA, struct.pack(">QQ", guess, 1)),
        relay.create_chunk(CreateChunk(1, 2)),
        relay.rotate(Rotate(1, {guess: 1, guess + 1: 0})),
        relay.close_chunk(CloseChunk(0, 3, choose.choice((None, 0, 1, 2)))),
        relay.request(Command.TRACE_CHUNK_EXISTS, bytes(8)),
        relay.request(Command.BEGIN_DATA_PENDING, bytes(8)),
        relay.request(Command.DATA_PENDING, struct.pack(">QQ", guess, 0)),
        relay.request(Command.QUIESCENT_CONTROL, struct.pack(">Q", guess)),
        relay.request(Command.END_DATA_PENDING, bytes(8)),
        relay.request(Command.CLOSE_STREAM, struct.pack(">QQ", guess, 0)),
        relay.request(choose.choice((0, 4, 12, 23, 1 << 31)), bytes(8)),
    ]
    return script


def _control_case(mutator: Mutator, target: Target, number: int) -> None:
    script = _dialogue(mutator, target, number)
    first = mutator.random.choice((0, 1, 3))
    head, tail = script[:first], script[first:]
    _speak(mutator, target.ports[0], mutator.script(tail, 20), b"".join(head))


# -- control, with handles that are right, and data ----------------------------------------------


class _Victim:
    """A producer whose requests and packets are damaged; another one when it is refused."""

    def __init__(self, mutator: Mutator, target: Target) -> None:
        self._mutator = mutator
        self._target = target
        self._producer: Producer | None = None
        self._number = 0

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def case(self, number: int) -> None:
        """Send packets and their indexes, something of which is wrong."""
        choose = self._mutator.random
        try:
            producer = self._ready()
            handle = producer.add(f"c_{number}", size=choose.choice((0, 0, 8192)), count=2)
        except (EOFError, ConnectionError, AssertionError):
            # What was said in the last case has ended it.
            self.close()
            return
        packets = [packet_of(n, choose.choice((4, 400, 4096))) for n in range(3)]
        data = [_data(handle, n, packet) for n, packet in enumerate(packets)]
        said = [relay.index(13, index_of(handle, n, packet)) for n, packet in enumerate(packets)]
        said += [
            relay.request(Command.DATA_PENDING, struct.pack(">QQ", handle, 2)),
            relay.rotate(Rotate(0, {handle: 2})),
            relay.request(Command.CLOSE_STREAM, struct.pack(">QQ", handle, 2)),
            relay.send_metadata(handle, b"text", 92),
        ]
        damaged = choose.random() < 0.5
        if damaged:
            said = self._mutator.script(said, 20)
            with contextlib.suppress(ConnectionError):
                producer.control.send(b"".join(said[: choose.randrange(len(said) + 1)]))
        _speak(self._mutator, self._target.ports[1], self._mutator.script(data, 28))
        if damaged:
            # Whether it still listens, and from which byte on, nobody knows.
            self.close()

    def _ready(self) -> Producer:
        if self._producer is None:
            self._number += 1
            self._producer = Producer(self._target.ports, name=f"v{self._number}", host="fuzz")
        return self._producer


def _data(handle: int, net: int, packet: Packet) -> bytes:
    head = relay.DATA_HEADER.pack(0, handle, net, len(packet.content), packet.padding)
    return head + packet.content


# -- viewers -----------------------------------------------------------------------------------


def _viewer_case(mutator: Mutator, target: Target, number: int) -> None:
    choose = mutator.random
    session, stream = target.others.producer.session, target.others.stream
    number_of = struct.Struct(">Q").pack
    script = [
        viewer.request(1, struct.pack(">QIII", NO_SEQUENCE, 2, 4, 1)),
        viewer.request(8),
        viewer.request(2),
        viewer.request(3, struct.pack(">QQI", session, 0, choose.choice((1, 2)))),
        viewer.request(6, number_of(stream + 1)),
        viewer.request(7, number_of(session)),
        viewer.request(4, number_of(stream)),
        viewer.request(5, struct.pack(">QQI", stream, 0, 4096)),
        viewer.request(4, number_of(stream)),
        viewer.request(5, struct.pack(">QQI", stream, 4096, choose.choice((100, 4096, 1 << 31)))),
        viewer.request(9, number_of(session)),
    ]
    first = choose.choice((0, 2, 4))
    head = b"".join(script[:first])
    _speak(mutator, target.running.live, mutator.script(script[first:], 12), head)


def _cases() -> int:
    """Return how many there are in all."""
    return 1_000_000 if settings().max_examples > 1000 else 10_000


Case = Callable[[int], None]


@pytest.mark.parametrize("port", ["control", "data", "live"])
def test_damaged_input(port: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        at_stake = stack.enter_context(target(tmp_path / "home"))
        mutator = Mutator(f"relay {port}", at_stake.names)
        case: Case
        if port == "control":
            case = lambda number: _control_case(mutator, at_stake, number)  # noqa: E731
        elif port == "data":
            case = stack.enter_context(contextlib.closing(_Victim(mutator, at_stake))).case
        else:
            case = lambda number: _viewer_case(mutator, at_stake, number)  # noqa: E731
        sent = at_stake.others.sent
        for number in range(_cases() // 3 + 1):
            case(number)
            if number % _ROUND == _ROUND - 1:
                at_stake.tidy()
                # The other session goes on all the time.
                assert at_stake.others.sent > sent
                sent = at_stake.others.sent
        print(
            f"\n{port}: {at_stake.resident() >> 20} MiB, {at_stake.others.sent} packets beside it"
        )
