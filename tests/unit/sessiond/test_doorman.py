# SPDX-License-Identifier: MIT
"""Who is let in, by what the kernel says of a connection."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sessiond import doorman as module
from sessiond.applications import Application
from sessiond.doorman import Doorman
from sessiond.halfopen import CROWD
from sessiond.sockets import Peer

COMMAND, NOTIFY = 0, 1


def registration(kind: int) -> bytes:
    """Return a first message (facts, application protocol 2.1) that claims another pid and uid."""
    numbers = (0xC57C57C5, 9, 0, 1, 1, 0, 0, 64, 8, 8, 8, 8, 8, kind)
    return struct.pack("<14I16s64x", *numbers, b"app")


class Door:
    """A doorman, who was admitted, and connections to him."""

    def __init__(self, place: str) -> None:
        loop = asyncio.get_running_loop()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(place)
        self._listener.listen(100)
        self._listener.setblocking(False)
        self._place = place
        self._sockets: list[socket.socket] = []
        self.admitted: asyncio.Queue[Application] = asyncio.Queue()
        self.doorman = Doorman(loop, self._listener, self._admit)

    def _admit(self, app: Application, command: socket.socket, notify: socket.socket) -> None:
        self.admitted.put_nowait(app)
        self._sockets += [command, notify]
        os.close(app.pidfd)

    async def connect(self, first: bytes = b"", named: bool = False) -> socket.socket:
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX)
        if named:
            sock.bind("")
        self._sockets.append(sock)
        sock.setblocking(False)
        await loop.sock_connect(sock, self._place)
        await loop.sock_sendall(sock, first)
        return sock

    def close(self) -> None:
        self.doorman.close()
        for sock in self._sockets:
            sock.close()


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Door]:
    door = Door(str(directory / "s"))
    yield door
    door.close()


async def hung_up(sock: socket.socket) -> bool:
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1), 60) == b""
    except ConnectionResetError:  # before it had read what we sent
        return True


def play(directory: Path, scenario: Callable[[Door], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(directory) as door:
            await scenario(door)

    asyncio.run(run())


def test_the_two_sockets_of_a_process_are_one_application(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        await door.connect(registration(COMMAND))
        await door.connect(registration(NOTIFY))
        app = await asyncio.wait_for(door.admitted.get(), 60)
        # Not what it claims.
        assert app.peer == Peer(os.getpid(), os.geteuid(), os.getegid())

    play(tmp_path, scenario)


def test_two_tracers_of_one_process_are_two_applications(tmp_path: Path) -> None:
    """Those of `ustconsumer.tracer` have names; whatever the order, they are not mixed up."""

    async def scenario(door: Door) -> None:
        await door.connect(registration(COMMAND))
        await door.connect(registration(COMMAND), named=True)
        await door.connect(registration(NOTIFY))
        first = await asyncio.wait_for(door.admitted.get(), 60)
        await door.connect(registration(NOTIFY), named=True)
        second = await asyncio.wait_for(door.admitted.get(), 60)
        assert (first.key, second.key) == ((os.getpid(), False), (os.getpid(), True))

    play(tmp_path, scenario)


def test_sockets_of_two_processes_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = iter((os.getpid(), os.getppid()))
    monkeypatch.setattr(module, "peer_of", lambda sock: Peer(next(pids), os.geteuid(), 0))

    async def scenario(door: Door) -> None:
        first = await door.connect(registration(COMMAND))
        second = await door.connect(registration(NOTIFY))
        # Heard: one more byte would be too much.
        for sock in (first, second):
            await asyncio.get_running_loop().sock_sendall(sock, b"x")
            assert await hung_up(sock)
        assert door.admitted.empty()

    play(tmp_path, scenario)


def test_half_open_connections_are_bounded_for_each_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_HALF_OPEN", 3)
    # Pids that nobody has.
    peers = iter(Peer(1 << 23 | number, uid, 0) for number, uid in enumerate((1, 1, 1, 1, 2)))
    monkeypatch.setattr(module, "peer_of", lambda sock: next(peers))

    async def scenario(door: Door) -> None:
        first, *silent = [await door.connect() for _ in range(3)]
        newest = await door.connect()
        # Who comes may be about to register; who has been silent for longest is not.
        assert await hung_up(first)
        other = await door.connect(b"x")
        for sock in (*silent, newest, other):
            with pytest.raises(BlockingIOError):
                sock.recv(1)

    play(tmp_path, scenario)


def test_the_silent_make_room_before_those_that_spoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_HALF_OPEN", 3)

    async def scenario(door: Door) -> None:
        spoke = await door.connect(registration(COMMAND))
        silent = [await door.connect() for _ in range(2)]
        for sock in silent:
            await door.connect()
            assert await hung_up(sock)
        with pytest.raises(BlockingIOError):
            spoke.recv(1)
        await door.connect(registration(NOTIFY))
        assert (await asyncio.wait_for(door.admitted.get(), 60)).peer.pid == os.getpid()

    play(tmp_path, scenario)


def test_the_silent_give_their_descriptors_to_who_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(door: Door) -> None:
        silent = [await door.connect() for _ in range(CROWD + 1)]
        # One who leaves: whoever came before is in by then.
        assert await hung_up(await door.connect(b"x" * 136))
        highest = max(half.sock.fileno() for half in door.doorman._hall.everybody())
        monkeypatch.setattr(module, "descriptors_leaving", lambda reserve: highest + 1)
        # Both of its ends are above the highest: nothing but the silent ones can make room.
        await door.connect(registration(COMMAND))
        await door.connect(registration(NOTIFY))
        assert (await asyncio.wait_for(door.admitted.get(), 60)).peer.pid == os.getpid()
        for sock in silent[:2]:
            assert await hung_up(sock)
        assert list(door.doorman.refused()) == []
        # What is no crowd is let be: programs that are about to speak.
        assert await hung_up(await door.connect())
        (refused,) = door.doorman.refused()
        assert "no file descriptors left" in refused.reason

    play(tmp_path, scenario)


def test_one_that_never_finishes_is_told_of_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REGISTER_SECONDS", 0.05)

    async def scenario(door: Door) -> None:
        assert await hung_up(await door.connect(registration(COMMAND)))
        (refused,) = door.doorman.refused()
        assert (refused.pid, refused.name, refused.abi) == (os.getpid(), "app", "9.0")
        assert refused.reason.startswith("it never finished registering: it connected once")
        assert await hung_up(await door.connect(registration(COMMAND)[:100]))
        (refused,) = door.doorman.refused()
        assert "did not say all" in refused.reason
        monkeypatch.undo()
        await door.connect(registration(COMMAND))
        await door.connect(registration(NOTIFY))
        await asyncio.wait_for(door.admitted.get(), 60)
        assert list(door.doorman.refused()) == []

    play(tmp_path, scenario)


def test_processes_of_a_hidden_namespace_are_told_apart_where_the_kernel_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two processes, which both claim to be 1 and register one socket, then the other.
    numbers = iter((70, 71, 70, 71, 0))
    monkeypatch.setattr(module, "peer_of", lambda sock: Peer(0, 5, 6, next(numbers)))

    async def scenario(door: Door) -> None:
        for kind in (COMMAND, NOTIFY):
            for _ in range(2):
                await door.connect(registration(kind))
        both = [await asyncio.wait_for(door.admitted.get(), 60) for _ in range(2)]
        assert [app.key for app in both] == [(-70, False), (-71, False)]
        assert [(app.info().pid, app.info().ns_pid) for app in both] == [(0, 1), (0, 1)]
        # An older kernel's.
        assert await hung_up(await door.connect(registration(COMMAND)))
        (refused,) = door.doorman.refused()
        assert "another pid namespace, where it is process 1" in refused.reason

    play(tmp_path, scenario)


def test_refused_for_want_of_descriptors_it_is_not_left_with_one_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Path("/proc/self/comm").read_text().strip()

    async def scenario(door: Door) -> None:
        first = await door.connect(registration(COMMAND))
        monkeypatch.setattr(module, "descriptors_leaving", lambda reserve: 0)
        # A program that has its command socket waits there for its set-up.
        for sock in (await door.connect(), first):
            assert await hung_up(sock)
        (refused,) = door.doorman.refused()
        assert (refused.pid, refused.name) == (os.getpid(), name)
        assert "no file descriptors left" in refused.reason
        # Once there are, it is taken.
        monkeypatch.undo()
        await door.connect(registration(COMMAND))
        await door.connect(registration(NOTIFY))
        await asyncio.wait_for(door.admitted.get(), 60)
        assert list(door.doorman.refused()) == []

    play(tmp_path, scenario)


def _overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    uid = int(Path("/proc/sys/kernel/overflowuid").read_text())
    monkeypatch.setattr(module, "peer_of", lambda sock: Peer(os.getpid(), uid, 0))


def _other_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a container would have it: seen through the program's own root.
    seen = {(): 2, (f"/proc/{os.getpid()}/root/sys/devices/system/cpu/possible",): 5}
    monkeypatch.setattr(module, "possible_cpus", lambda *path: seen[path])


@pytest.mark.parametrize(
    ("pretend", "reason"),
    [
        (_overflow, "users unknown here"),
        (_other_cpus, "sees 5 possible CPUs, the registry 2"),
    ],
)
def test_whom_it_cannot_serve_it_refuses_and_says_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pretend: Callable[[pytest.MonkeyPatch], None],
    reason: str,
) -> None:
    pretend(monkeypatch)

    async def scenario(door: Door) -> None:
        assert await hung_up(await door.connect(registration(COMMAND)))
        assert door.admitted.empty()
        (refused,) = door.doorman.refused()
        assert refused.state == "refused"
        assert reason in refused.reason

    play(tmp_path, scenario)
