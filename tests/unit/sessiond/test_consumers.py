# SPDX-License-Identifier: MIT
"""Which consumers have a successor; the spawner is the test."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from sessiond import consumers as module
from sessiond.consumers import Consumers
from sessiond.recording import Recording
from sessiond.registry import Session
from sessiond.sockets import Peer
from sessiond.spawner import Program, SpawnerEvent
from sessiond.subscription import Subscription
from ustconsumer.errors import CommandError

PROGRAM = Program("disk", workers=3, direct=True)
#: Of the consumer with request number n: 100 + n.
_PIDS = 100
KILLED = -signal.SIGKILL


class Spawner:
    """Notes what it is asked for; its events are those the test gives."""

    def __init__(self) -> None:
        self.fd, self._wake = os.pipe()
        self.spawned: list[tuple[str, Program]] = []
        self.killed: list[int] = []
        self._events: list[SpawnerEvent] = []

    def spawn(
        self, session: str, program: Program, uid: int, gid: int, files_only: bool = False
    ) -> int:
        assert not files_only
        self.spawned.append((session, program))
        return len(self.spawned)

    def kill(self, number: int) -> None:
        self.killed.append(number)

    def died(self, number: int, status: int) -> None:
        self._events.append(SpawnerEvent(number, _PIDS + number, status))
        os.write(self._wake, b"x")

    def read_events(self) -> list[SpawnerEvent]:
        os.read(self.fd, 4096)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._wake)


def attach(recording: Recording, pid: int) -> None:
    peer = Peer(pid, os.geteuid(), os.getegid())
    recording.attach(Subscription(peer, "disk", True, lambda message, fds: None, lambda uid: True))


def spawned_after(*deaths: tuple[int, int], holder: int | None = None) -> int:
    """Return how many consumers were started, the first included, when these had died.

    Parameters
    ----------
    deaths : (number, status)
    holder : int
        Pid that has the lease while they die; None for that of the first.
    """

    async def scenario() -> int:
        spawner = Spawner()
        recording = Recording(Session(name="s", uid=0, gid=0, output=""))
        recording.session.state = "active"
        consumers = Consumers(asyncio.get_running_loop(), spawner)  # type: ignore[arg-type]
        starting = asyncio.ensure_future(consumers.start(recording, PROGRAM))
        await asyncio.sleep(0)
        assert spawner.spawned
        attach(recording, _PIDS + 1 if holder is None else holder)
        await starting
        for number, status in deaths:
            before = len(spawner.spawned)
            spawner.died(number, status)
            await asyncio.sleep(0.01)
            if len(spawner.spawned) > before:
                assert recording.lease is not None
                recording.detach(recording.lease)
                attach(recording, _PIDS + len(spawner.spawned))
        consumers.close()
        assert set(spawner.spawned) == {(recording.session.id, PROGRAM)}
        recording.close()
        return len(spawner.spawned)

    return asyncio.run(scenario())


def test_a_killed_one_has_a_successor_though_it_still_seems_to_hold_the_lease() -> None:
    """Its death may be told before the end of its connection is seen."""
    assert spawned_after((1, KILLED)) == 2


@pytest.mark.parametrize("status", [0, 1])
def test_one_that_ended_by_itself_has_none(status: int) -> None:
    assert spawned_after((1, status)) == 1


def test_there_is_none_where_somebody_else_consumes() -> None:
    assert spawned_after((1, KILLED), holder=os.getpid()) == 1


def test_successors_that_die_at_once_are_no_endless_row() -> None:
    # Three in half a minute.
    assert spawned_after(*((number, KILLED) for number in range(1, 8))) == 4


def test_one_that_dies_before_it_attaches_is_a_refusal() -> None:
    async def scenario() -> str:
        spawner = Spawner()
        recording = Recording(Session(name="s", uid=0, gid=0, output=""))
        consumers = Consumers(asyncio.get_running_loop(), spawner)  # type: ignore[arg-type]
        starting = asyncio.ensure_future(consumers.start(recording, PROGRAM))
        await asyncio.sleep(0)
        assert spawner.spawned
        spawner.died(1, 3)
        with pytest.raises(CommandError) as refused:
            await starting
        consumers.close()
        recording.close()
        return str(refused.value)

    assert "ended with status 3" in asyncio.run(scenario())


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RUN_SECONDS", 0.05)

    async def scenario() -> list[int]:
        spawner = Spawner()
        recording = Recording(Session(name="s", uid=0, gid=0, output=""))
        consumers = Consumers(asyncio.get_running_loop(), spawner)  # type: ignore[arg-type]
        others = [consumers.run(recording, Program("snapshot")) for _ in range(2)]
        running = [asyncio.ensure_future(each) for each in others]
        await asyncio.sleep(0)
        spawner.died(1, 0)
        assert await running[0] == 0
        with pytest.raises(CommandError, match="did not end"):
            await running[1]
        consumers.close()
        recording.close()
        return spawner.killed

    assert asyncio.run(scenario()) == [2]
