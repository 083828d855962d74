# SPDX-License-Identifier: MIT
"""Control connections over a real socket, with verbs of the test's own."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sessiond import clients as module
from sessiond.clients import Client, Clients, Handler
from ustconsumer.protocol.control import (
    VERSION,
    Done,
    Failed,
    FrameDecoder,
    Hello,
    ListApplications,
    ListSessions,
    Message,
    Welcome,
    encode,
)

HELLO = encode(Hello(seq=1, version=VERSION))


@asynccontextmanager
async def served(
    directory: Path,
    handlers: dict[type[Message], Handler],
    may_control: Callable[[int], bool] = lambda uid: True,
) -> AsyncIterator[socket.socket]:
    """Give a connection to `Clients`."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(directory / "s"))
        listener.listen()
        listener.setblocking(False)
        clients = Clients(loop, listener, "/run", handlers, may_control, lambda *hole: None)
        client.setblocking(False)
        await loop.sock_connect(client, str(directory / "s"))
        yield client
        clients.close()


async def read(client: socket.socket, count: int) -> list[Message]:
    loop = asyncio.get_running_loop()
    decoder = FrameDecoder()
    messages: list[Message] = []
    while len(messages) < count and (chunk := await loop.sock_recv(client, 4096)):
        messages += [message for message, _ in decoder.feed(chunk, [])]
    return messages


def test_a_verb_is_not_cut_in_half_when_its_client_leaves(tmp_path: Path) -> None:
    """``destroy``, interrupted while it waits for a slow program, must still free the name."""

    async def scenario() -> None:
        begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        gone = asyncio.Event()
        others: list[Message] = []
        mine: list[Client] = []

        async def slow(client: Client, request: Message) -> Message:
            mine.append(client)
            begun.set()
            await go_on.wait()
            ended.set()
            return Done()

        async def other(client: Client, request: Message) -> Message:
            others.append(request)
            return Done()

        async with served(tmp_path, {ListSessions: slow, ListApplications: other}) as client:
            requests = encode(ListSessions(seq=2)) + encode(ListApplications(seq=3))
            await asyncio.get_running_loop().sock_sendall(client, HELLO + requests)
            await begun.wait()
            forget = mine[0]._server.forget
            mine[0]._server.forget = lambda one: (forget(one), gone.set())[0]  # type: ignore[method-assign]
            client.close()
            await gone.wait()
            go_on.set()
            await asyncio.wait_for(ended.wait(), 60)
            # What it had sent ahead is not begun any more.
            for _ in range(5):
                await asyncio.sleep(0)
            assert others == []

    asyncio.run(scenario())


def test_who_may_not_control_is_told_so_and_dropped(tmp_path: Path) -> None:
    """By the kernel's word for the uid of the connection, before any request."""
    asked: list[int] = []
    verbs: list[Message] = []

    def nobody(uid: int) -> bool:
        asked.append(uid)
        return False

    async def verb(client: Client, request: Message) -> Message:
        verbs.append(request)
        return Done()

    async def scenario() -> list[Message]:
        async with served(tmp_path, {ListSessions: verb}, nobody) as client:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, HELLO + encode(ListSessions(seq=2)))
            return await read(client, 2)

    (failed,) = asyncio.run(scenario())
    assert isinstance(failed, Failed)
    assert (failed.seq, failed.kind) == (1, "permission")
    assert (asked, verbs) == ([os.geteuid()], [])


def test_a_verb_that_breaks_is_an_answer_in_one_line(tmp_path: Path) -> None:
    async def broken(client: Client, request: Message) -> Message:
        raise RuntimeError("first\nsecond")

    async def scenario() -> list[Message]:
        async with served(tmp_path, {ListSessions: broken}) as client:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, HELLO + encode(ListSessions(seq=2)))
            return await read(client, 2)

    welcome, failed = asyncio.run(scenario())
    assert isinstance(welcome, Welcome)
    assert isinstance(failed, Failed)
    assert failed.seq == 2
    assert "\n" not in failed.message


def test_the_silent_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CLIENTS", 2)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with served(tmp_path, {}) as client:
            await loop.sock_sendall(client, HELLO)
            assert isinstance((await read(client, 1))[0], Welcome)
            others = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            for sock in others:
                sock.setblocking(False)
                await loop.sock_connect(sock, str(tmp_path / "s"))
            *silent, late = others
            for sock in silent:
                assert await loop.sock_recv(sock, 1) == b""
            await loop.sock_sendall(late, HELLO)
            assert isinstance((await read(late, 1))[0], Welcome)
            # Those that spoke stay: there is no room any more.
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, str(tmp_path / "s"))
                assert await loop.sock_recv(sock, 1) == b""
            await loop.sock_sendall(client, encode(ListSessions(seq=2)))
            assert isinstance((await read(client, 1))[0], Failed)
            for sock in others:
                sock.close()

    asyncio.run(scenario())
