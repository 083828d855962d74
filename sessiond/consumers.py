# SPDX-License-Identifier: MIT
"""Consumers that the spawner starts for sessions, and their successors."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass, field

from sessiond.recording import Recording
from sessiond.spawner import Program, Spawner, SpawnerEvent
from ustconsumer.errors import BrokenResourceError, CommandError

__all__ = ["Consumers"]

_log = logging.getLogger("sessiond")

_ATTACH_SECONDS = 10.0
#: A snapshot writes what is in the buffers: memory, at the speed of a disk.
_RUN_SECONDS = 120.0
#: A consumer that dies this often in this time dies for a reason.
_MAX_DEATHS = 3
_DEATHS_SECONDS = 30.0


@dataclass(eq=False)
class _Child:
    recording: Recording
    program: Program
    ended: asyncio.Future[int]
    #: it has a successor if it is killed
    replaced: bool
    deaths: list[float] = field(default_factory=list)


class Consumers:
    """Starts consumers, waits until they hold the lease, replaces those that die.

    Parameters
    ----------
    spawner : Spawner
        Closed by `close`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, spawner: Spawner) -> None:
        self._loop = loop
        self._spawner = spawner
        self._children: dict[int, _Child] = {}
        loop.add_reader(spawner.fd, self._events)

    async def start(self, recording: Recording, program: Program) -> None:
        """Start a consumer and wait until it holds the session's lease.

        Raises
        ------
        CommandError
            It died first, or took more than 10 s.
        """
        child = self._spawn(recording, program, [])
        lease = asyncio.ensure_future(recording.wait_lease())
        try:
            await asyncio.wait(
                (lease, child.ended),
                timeout=_ATTACH_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            lease.cancel()
        if recording.lease is not None:
            return
        name, kind = recording.session.name, program.kind
        if child.ended.done():
            raise CommandError(
                f"the {kind} consumer of session {name} ended with status {child.ended.result()}"
            )
        raise CommandError(
            f"the {kind} consumer of session {name} did not attach in {_ATTACH_SECONDS:.0f} s",
            "timeout",
        )

    async def run(self, recording: Recording, program: Program) -> int:
        """Run a program that takes no lease; return its exit status, minus the signal's number.

        Raises
        ------
        CommandError
            It took too long, and was killed.
        """
        child = self._spawn(recording, program, [], replaced=False)
        await asyncio.wait((child.ended,), timeout=_RUN_SECONDS)
        if not child.ended.done():
            for number, each in self._children.items():
                if each is child:
                    self._spawner.kill(number)
            raise CommandError(
                f"the {program.kind} consumer of session {recording.session.name} did not end in "
                f"{_RUN_SECONDS:.0f} s",
                "timeout",
            )
        return child.ended.result()

    def close(self) -> None:
        """Let the spawner end when its consumers have."""
        self._loop.remove_reader(self._spawner.fd)
        self._spawner.close()

    def _spawn(
        self, recording: Recording, program: Program, deaths: list[float], replaced: bool = True
    ) -> _Child:
        session = recording.session
        uid, gid = session.uid, session.gid
        if os.geteuid() != 0:
            uid, gid = os.geteuid(), os.getegid()
        # By its id: users may have sessions of the same name.
        number = self._spawner.spawn(session.id, program, uid, gid, session.owner_is_tracer)
        child = _Child(recording, program, self._loop.create_future(), replaced, deaths)
        self._children[number] = child
        return child

    def _events(self) -> None:
        try:
            events = self._spawner.read_events()
        except BrokenResourceError as error:
            _log.error("%s: no consumer can be started any more", error)
            self._loop.remove_reader(self._spawner.fd)
            for child in self._children.values():
                if not child.ended.done():
                    child.ended.set_result(-1)
            self._children.clear()
            return
        for event in events:
            if event.status is not None:
                self._ended(event, event.status)

    def _ended(self, event: SpawnerEvent, status: int) -> None:
        child = self._children.pop(event.id, None)
        if child is None:
            return
        session = child.recording.session
        if not child.ended.done():
            child.ended.set_result(status)
        if not status or session.state == "destroyed":
            return
        _log.warning(
            "%s consumer of session %s (pid %d) ended with status %d",
            child.program.kind,
            session.name,
            event.pid,
            status,
        )
        if not child.replaced:
            return
        now = time.monotonic()
        deaths = [death for death in child.deaths if now - death < _DEATHS_SECONDS] + [now]
        # We may hear of its death before its connection ends: then it still has the lease.
        lease = child.recording.lease
        taken = lease is not None and lease.peer.pid != event.pid
        # One killed after it had attached has a successor; one that cannot start has none.
        if status > 0 or taken or len(deaths) > _MAX_DEATHS:
            return
        try:
            self._spawn(child.recording, child.program, deaths)
        except BrokenResourceError as error:
            _log.error("%s", error)
