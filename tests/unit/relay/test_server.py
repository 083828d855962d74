# SPDX-License-Identifier: MIT
"""A relay's connections in one process: what its producers are told, and when."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
from helpers.relaypeer import index_of, packet_of
from helpers.wires import listening, run

from ustconsumer.protocol import relay
from ustconsumer.protocol.relay import AddStream, Command, CreateChunk, CreateSession
from ustconsumer.relay import server
from ustconsumer.relay.memory import MemoryDirectory, MemoryStores
from ustconsumer.relay.sessions import Sessions

_PENDING = struct.Struct(">QQ")


class Peer:
    """A producer, one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, request: bytes, size: int = 4) -> bytes:
        """Send a request; return its answer."""
        self.writer.write(request)
        return await self._reader.readexactly(size)

    async def begin(self, resume: bool) -> int:
        """Create a session with a stream; return the stream's handle."""
        await self.ask(relay.request(Command.VERSION, struct.pack(">II", 2, 13)), 8)
        if resume:
            assert await self.ask(relay.request(Command.RESUME)) == b"\0\0\0\x0a"
        wanted = CreateSession(name="s", host="h", uuid=bytes(range(16)), created=1)
        raw = await self.ask(relay.create_session(13, wanted), 16)
        await self._reader.readexactly(int.from_bytes(raw[12:], "big"))
        await self.ask(relay.create_chunk(CreateChunk(0, 1)))
        stream = AddStream(name="c_0", path="ust/uid/7/64-bit", uuid=bytes(16) if resume else b"")
        raw = await self.ask(relay.add_stream(13, stream), 36 if resume else 12)
        return int.from_bytes(raw[:8], "big")


@pytest.mark.parametrize("resume", [False, True], ids=["lttng", "ours"])
def test_a_question_waits_for_the_packet(monkeypatch: pytest.MonkeyPatch, resume: bool) -> None:
    """Who can go on with a session is told when it has come; others whether it has."""
    monkeypatch.setattr(server, "_MOMENT", 50.0)
    packet = packet_of(0)

    async def main() -> None:
        stores = MemoryStores(1 << 20)
        there = server.Relay(Sessions(Path(), stores=stores, root=MemoryDirectory()))
        async with listening(there.control) as control, listening(there.data) as data:
            peer = Peer(*await asyncio.open_connection("127.0.0.1", control.port))
            handle = await peer.begin(resume)
            assert await peer.ask(relay.index(13, index_of(handle, 0, packet))) == b"\0\0\0\x0a"
            question = relay.request(Command.DATA_PENDING, _PENDING.pack(handle, 0))
            asked = asyncio.ensure_future(peer.ask(question))
            _, pending = await asyncio.wait([asked], timeout=0.2)
            assert bool(pending) == resume
            _, writer = await asyncio.open_connection("127.0.0.1", data.port)
            content = packet.content
            writer.write(relay.DATA_HEADER.pack(0, handle, 0, len(content), packet.padding))
            writer.write(content)
            assert await asked == struct.pack(">I", not resume)
            writer.close()
            peer.writer.close()

    run("uvloop", main())


def test_a_question_waits_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOMENT", 0.01)

    async def main() -> None:
        stores = MemoryStores(1 << 20)
        there = server.Relay(Sessions(Path(), stores=stores, root=MemoryDirectory()))
        async with listening(there.control) as control:
            peer = Peer(*await asyncio.open_connection("127.0.0.1", control.port))
            handle = await peer.begin(resume=True)
            question = relay.request(Command.DATA_PENDING, _PENDING.pack(handle, 0))
            assert await peer.ask(question) == b"\0\0\0\x01"
            peer.writer.close()

    run("uvloop", main())
