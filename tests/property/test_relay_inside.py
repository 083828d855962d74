# SPDX-License-Identifier: MIT
"""Damaged input to the relay's own code, without sockets and files: a million cases in minutes.

The same dialogues as over real ports in ``test_relay_fuzz``; the relay keeps everything in
memory, its clock is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from helpers.mutation import Mutator
from helpers.relaypeer import index_of, packet_of
from helpers.relayscripts import dialogue, packets_and_words, viewing
from hypothesis import settings

from ustconsumer.protocol import relay, viewer
from ustconsumer.protocol.relay import AddStream, Command, CreateChunk, CreateSession
from ustconsumer.relay.memory import MemoryDirectory, MemoryStores
from ustconsumer.relay.server import Relay
from ustconsumer.relay.sessions import Sessions
from ustconsumer.relay.viewers import Viewers
from ustconsumer.relay.wire import Wire

#: Bytes that the relay may keep of packets, and that this process may have more at the end.
_STORE = 16 << 20
_MAX_MEMORY = 128 << 20
#: Cases after which its clock is put forward: what waits for time to pass is over.
_ROUND = 500
_NAMES = (b"..", b"../escaped", b"/etc/escaped", b"a" * 300, b"\n", b"\xff", b".hidden", b"x/../y")


class _Clock(asyncio.SelectorEventLoop):
    """A loop whose time is what somebody says."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class _Said:
    """A connection over which everything was said; it ends behind that."""

    peer = "test"

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.heard = bytearray()

    async def read(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += len(part)
        return part

    async def readexactly(self, size: int) -> bytes:
        part = await self.read(size)
        if len(part) < size:
            raise EOFError
        return part

    def write(self, data: bytes) -> None:
        self.heard += data

    async def drain(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class _Line(_Said):
    """A connection over which more is said."""

    def __init__(self) -> None:
        super().__init__(b"")
        self._more = asyncio.Event()

    def say(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data
        self._at = 0
        self._more.set()

    async def read(self, size: int) -> bytes:
        while self._at == len(self._data):
            self._more.clear()
            await self._more.wait()
        return await super().read(size)

    async def readexactly(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            parts += await self.read(size - len(parts))
        return parts


class _Inside:
    """A relay, and a session that must not notice anything."""

    def __init__(self) -> None:
        self.loop = _Clock()
        asyncio.set_event_loop(self.loop)
        self.sessions = Sessions(
            Path("nowhere"), stores=MemoryStores(_STORE), root=MemoryDirectory()
        )
        self._relay = Relay(self.sessions)
        self._viewers = Viewers(self.sessions)
        session = self.sessions.create(
            CreateSession(
                name="steady", host="steady", live_us=1_000_000, uuid=b"steady" + bytes(10)
            ),
            13,
            # One of ours may be away for a while: it has no connection here.
            resume=True,
        )
        session.create_chunk(CreateChunk(0, 1))
        self.session = session.id
        uuid = bytes(range(16))
        self.stream = session.add_stream(AddStream(name="c_0", path="ust", uuid=uuid)).handle
        session.add_stream(AddStream(name="metadata", path="ust", uuid=uuid))
        session.publish()
        self._sent = 0
        # Who feeds a session is the only one who does.
        self._line = _Line()
        self._feeding = self.loop.create_task(self._relay.data(cast(Wire, self._line)))
        self.check()

    def control(self, data: bytes) -> bytes:
        return self._run(self._relay.control, data)

    def data(self, data: bytes) -> bytes:
        return self._run(self._relay.data, data)

    def view(self, data: bytes) -> bytes:
        return self._run(self._viewers.serve, data)

    def check(self) -> None:
        """Let time pass; the other session takes a packet, and a viewer gets it."""
        self.loop.ahead += 1000
        number, self._sent = self._sent, self._sent + 1
        packet = packet_of(number, 400)
        header = relay.DATA_HEADER.pack(0, self.stream, number, len(packet.content), packet.padding)
        self._line.say(header + packet.content)
        for _ in range(10):
            self.loop.run_until_complete(asyncio.sleep(0))
        session = self.sessions.get(self.session)
        assert session is not None
        session.stream(self.stream).add_index(index_of(self.stream, number, packet))  # type: ignore[union-attr]
        answer = self.view(
            b"".join(
                (
                    viewer.request(1, struct.pack(">QIII", 1, 2, 4, 1)),
                    viewer.request(8),
                    viewer.request(3, struct.pack(">QQI", self.session, 0, 1)),
                )
            )
        )
        status, streams = struct.unpack_from(">II", answer, 24)
        assert (status, streams) == (1, 2)
        stream = session.stream(self.stream)
        assert stream.count == self._sent
        assert stream.read(number, 0, 1 << 20) == packet.stored

    def close(self) -> None:
        self._feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self._feeding)
        self.sessions.close()
        self.loop.close()
        asyncio.set_event_loop(None)

    def _run(self, serve: Callable[[Wire], object], data: bytes) -> bytes:
        said = _Said(data)
        self.loop.run_until_complete(serve(cast(Wire, said)))  # type: ignore[arg-type]
        return bytes(said.heard)


@pytest.fixture
def inside() -> Iterator[_Inside]:
    logging.getLogger("ust-relayd").setLevel(logging.CRITICAL)
    with contextlib.closing(_Inside()) as made:
        yield made
    logging.getLogger("ust-relayd").setLevel(logging.NOTSET)


def _control(mutator: Mutator, inside: _Inside, number: int) -> None:
    choose = mutator.random
    guess = inside.stream + choose.choice((1, 2, 3, 4, number))
    script = dialogue(choose, guess, number)
    first = choose.choice((0, 1, 3))
    inside.control(b"".join([*script[:first], *mutator.script(script[first:], 20)]))


def _data(mutator: Mutator, inside: _Inside, number: int) -> None:
    choose = mutator.random
    session = inside.sessions.create(
        CreateSession(name=f"n{number % 50}", host="h", uuid=number.to_bytes(16, "big")),
        13,
        resume=False,
    )
    session.create_chunk(CreateChunk(0, 1))
    size = choose.choice((0, 0, 8192))
    added = session.add_stream(
        AddStream(name="c_0", path="ust", tracefile_size=size, tracefile_count=2)
    )
    data, said = packets_and_words(choose, added.handle)
    inside.data(b"".join(mutator.script(data, 28)))
    begin = [
        relay.request(Command.VERSION, struct.pack(">II", 2, 13)),
        relay.request(Command.RESUME),
        relay.create_session(
            13, CreateSession(name="n", host="h", uuid=number.to_bytes(16, "big"))
        ),
    ]
    # The one that sent the packets, or somebody else who knows its name.
    inside.control(b"".join([*begin, *mutator.script(said, 20)]))
    inside.sessions.forget(session)


def _live(mutator: Mutator, inside: _Inside, number: int) -> None:
    script = viewing(mutator.random, inside.session, inside.stream)
    first = mutator.random.choice((0, 2, 4))
    inside.view(b"".join([*script[:first], *mutator.script(script[first:], 12)]))


CASES = {"control": _control, "data": _data, "live": _live}


@pytest.mark.parametrize("port", CASES)
def test_damaged_input_without_sockets(port: str, inside: _Inside) -> None:
    """What is not refused as it should be ends the test: nothing catches it here."""
    mutator = Mutator(f"inside {port}", _NAMES)
    cases = 400_000 if settings().max_examples > 1000 else 2_000
    before = 0
    for number in range(1, cases + 1):
        CASES[port](mutator, inside, number)
        if number % _ROUND == 0:
            inside.check()
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            # The first rounds fill what may be kept.
            before = before if number > 4 * _ROUND else now
            assert now - before < _MAX_MEMORY
    print(f"\n{port}: {cases} cases, {now - before >> 10} KiB more at the end")
