# SPDX-License-Identifier: MIT
"""The client for asyncio: the same names as the one that blocks, and its connection."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ustconsumer.cli.verbs import VERBS
from ustconsumer.client.aio import AsyncRegistry, AsyncSession
from ustconsumer.client.aioconnection import AsyncConnection
from ustconsumer.client.registry import Registry
from ustconsumer.client.saved import SavedSession
from ustconsumer.client.session import Session
from ustconsumer.errors import (
    BrokenResourceError,
    ClosedResourceError,
    CommandError,
    RemoteProtocolError,
)
from ustconsumer.paths import CONTROL_SOCKET
from ustconsumer.protocol.control import (
    VERSION,
    DestroySession,
    Done,
    Failed,
    FrameDecoder,
    Hello,
    ListSessions,
    Message,
    Sessions,
    StartSession,
    StopSession,
    Track,
    Welcome,
    encode,
)

#: verb of drtrace -> what a program has: of `Registry`, of `Session`, or a function
COUNTERPARTS = {
    "record": "ustconsumer.client.record.record_command",
    "create": "Registry.create",
    "destroy": "Session.destroy",
    # Which one is current is a matter of command lines.
    "set-session": "Registry.session",
    "save": "Session.save",
    "load": "Registry.load",
    "consume": "Session.spawn_consumer",
    "snapshot record": "Session.snapshot",
    "snapshot add-output": "Session.add_snapshot_output",
    "snapshot list-output": "Session.snapshot_outputs",
    "snapshot del-output": "Session.del_snapshot_output",
    "list-triggers": "Registry.triggers",
    "list": "Registry.sessions",
    "status": "Session.info",
    "apps": "Registry.applications",
    "view": "ustconsumer.ctf.reading.open_trace",
    "unpack": "ustconsumer.client.unpack.unpack",
    "recover": "ustconsumer.recover.recovery.recover",
    "version": "ustconsumer.__version__",
}
#: Verbs about drtrace itself.
OWN = {"completion"}


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - OWN))
def test_every_verb_has_a_counterpart(verb: str) -> None:
    import importlib

    default = verb.replace("-", "_").replace(" ", "_")
    found = COUNTERPARTS.get(verb)
    if found is None:
        both = [kind.__name__ for kind in (Registry, Session) if default in public(kind)]
        assert both, f"{verb}: no method {default}"
        return
    home, _, name = found.rpartition(".")
    kind = {"Registry": Registry, "Session": Session}.get(home)
    assert hasattr(kind if kind is not None else importlib.import_module(home), name)


@pytest.mark.parametrize(
    ("blocking", "waiting"), [(Registry, AsyncRegistry), (Session, AsyncSession)]
)
def test_both_have_the_same_methods(blocking: type, waiting: type) -> None:
    assert public(blocking) == public(waiting)
    for name in sorted(public(blocking)):
        ours = inspect.signature(getattr(blocking, name)).parameters
        theirs = inspect.signature(getattr(waiting, name)).parameters
        assert [(p.name, p.kind, p.default) for p in ours.values()] == [
            (p.name, p.kind, p.default) for p in theirs.values()
        ], name
        assert getattr(blocking, name).__doc__
        assert getattr(waiting, name).__doc__


class Peer:
    """The registry's end of a socket pair, under the same loop."""

    def __init__(self, answer: Callable[[Message], Message | None]) -> None:
        self.socket, self.client = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.received: list[Message] = []
        #: something after the greeting
        self.asked = asyncio.Event()
        self._answer = answer
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        loop, decoder = asyncio.get_running_loop(), FrameDecoder()
        while chunk := await loop.sock_recv(self.socket, 65536):
            for message, _ in decoder.feed(chunk, []):
                self.received.append(message)
                if not isinstance(message, Hello):
                    self.asked.set()
                reply = (
                    Welcome(version=VERSION, release="9", pid=1, uid=0, rundir="/x")
                    if isinstance(message, Hello)
                    else self._answer(message)
                )
                if reply is not None:
                    await self.send(reply, message)

    async def send(self, reply: Message, to: Message) -> None:
        reply.seq = to.seq
        await asyncio.get_running_loop().sock_sendall(self.socket, encode(reply, 0))

    def end(self) -> None:
        self._task.cancel()
        self.socket.close()


def talk(
    answer: Callable[[Message], Message | None],
    work: Callable[[AsyncConnection, Peer], Awaitable[None]],
) -> None:
    async def main() -> None:
        peer = Peer(answer)
        try:
            async with await AsyncConnection.over(peer.client) as connection:
                await work(connection, peer)
        finally:
            peer.end()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_refusal_is_raised_and_the_connection_goes_on() -> None:
    replies = iter([Failed(message="no such thing", kind="no-such-session"), Done()])

    async def work(connection: AsyncConnection, peer: Peer) -> None:
        with pytest.raises(CommandError, match=r"^no such thing$") as caught:
            await connection.request(StartSession(session="s"))
        assert caught.value.kind == "no-such-session"
        assert isinstance(await connection.request(StartSession(session="s")), Done)

    talk(lambda message: next(replies), work)


def test_several_tasks_at_once() -> None:
    def answer(message: Message) -> Message:
        assert isinstance(message, StartSession)
        return Done(warnings=[message.session])

    async def work(connection: AsyncConnection, peer: Peer) -> None:
        sessions = [AsyncSession(connection, str(number)) for number in range(50)]
        found = await asyncio.gather(*(each.start(None) for each in sessions))
        assert found == [[str(number)] for number in range(50)]

    talk(answer, work)


def test_an_answer_of_another_type() -> None:
    async def work(connection: AsyncConnection, peer: Peer) -> None:
        with pytest.raises(RemoteProtocolError, match="answered Done to ListSessions"):
            await AsyncRegistry(connection).sessions()

    talk(lambda message: Done(), work)


def test_a_task_that_is_cancelled_leaves_the_connection_usable() -> None:
    async def work(connection: AsyncConnection, peer: Peer) -> None:
        waiting = asyncio.create_task(connection.request(StartSession(session="slow")))
        await peer.asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        following = asyncio.create_task(AsyncRegistry(connection).sessions())
        await asyncio.sleep(0)
        # The answer to what was cancelled comes first.
        (slow,) = (each for each in peer.received if isinstance(each, StartSession))
        await peer.send(Done(), slow)
        assert await following == []

    def answer(message: Message) -> Message | None:
        return Sessions(sessions=[]) if isinstance(message, ListSessions) else None

    talk(answer, work)


def test_a_registry_that_goes_away() -> None:
    async def work(connection: AsyncConnection, peer: Peer) -> None:
        waiting = asyncio.create_task(connection.request(StopSession(session="s")))
        await peer.asked.wait()
        peer.end()
        with pytest.raises(BrokenResourceError):
            await waiting
        with pytest.raises(BrokenResourceError):
            await connection.request(StopSession(session="s"))
        connection.close()
        with pytest.raises(ClosedResourceError):
            await connection.request(StopSession(session="s"))

    talk(lambda message: None, work)


def test_a_registry_that_does_not_answer() -> None:
    async def work(connection: AsyncConnection, peer: Peer) -> None:
        with pytest.raises(BrokenResourceError, match="gave no answer"):
            await connection.request(StopSession(session="s"), seconds=0.01)
        # Nobody knows what would come next there.
        with pytest.raises(BrokenResourceError):
            await connection.request(StopSession(session="s"))

    talk(lambda message: None, work)


def test_a_load_that_is_cancelled_is_undone() -> None:
    saved = SavedSession(name="night", trackers={"vpid": ["1"]})
    tracked = asyncio.Event()

    def answer(message: Message) -> Message | None:
        if not isinstance(message, Track):
            return Done()
        tracked.set()
        return None

    async def work(connection: AsyncConnection, peer: Peer) -> None:
        async def load() -> None:
            await AsyncRegistry(connection).load(saved)

        loading = asyncio.create_task(load())
        await tracked.wait()
        loading.cancel()
        await asyncio.sleep(0)
        await peer.send(Done(), peer.received[-1])
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert peer.received[-1] == DestroySession(seq=peer.received[-1].seq, session="night")

    talk(answer, work)


def test_a_registry_with_a_full_backlog_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = str(tmp_path / CONTROL_SOCKET)
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
            listener.bind(path)
            listener.listen(0)
            other.connect(path)
            connecting = asyncio.create_task(AsyncConnection.connect(tmp_path))
            await asyncio.sleep(0.05)
            assert not connecting.done()
            listener.setblocking(False)
            (await loop.sock_accept(listener))[0].close()
            sock, _ = await loop.sock_accept(listener)
            with sock:
                ((hello, _),) = FrameDecoder().feed(await loop.sock_recv(sock, 65536), [])
                welcome = Welcome(version=VERSION, release="9", pid=1, uid=0, rundir="/x")
                welcome.seq = hello.seq
                await loop.sock_sendall(sock, encode(welcome))
                async with await connecting as connection:
                    assert connection.welcome.release == "9"

    asyncio.run(asyncio.wait_for(main(), 60))
