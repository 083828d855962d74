# SPDX-License-Identifier: MIT
"""The verbs of trace chunks: rotations, and clearing."""

from __future__ import annotations

from sessiond.clients import Client, Handler
from sessiond.host import Host, Sessions
from sessiond.registry import Session
from sessiond.requests import typed
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import (
    ClearSession,
    DisableRotation,
    Done,
    EnableRotation,
    Message,
    Rotated,
    RotateSession,
)

__all__ = ["RotationVerbs"]

_LONGEST_TIMER_US = (1 << 32) - 1
_LARGEST = (1 << 64) - 1


class RotationVerbs:
    """Carries out requests about trace chunks.

    Parameters
    ----------
    host : Host
        The daemon.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._sessions = Sessions(host)

    def handlers(self) -> dict[type[Message], Handler]:
        """Return the handler of each request, by its type."""
        return {
            RotateSession: typed(RotateSession, self.rotate),
            EnableRotation: typed(EnableRotation, self.enable),
            DisableRotation: typed(DisableRotation, self.disable),
            ClearSession: typed(ClearSession, self.clear),
        }

    async def rotate(self, client: Client, request: RotateSession) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            rotations = self._host.recording(session).rotations
            path, complete = await rotations.rotate(request.wait)
            at_relay = bool(session.destination.url)
            return Rotated(path=path, at_relay=at_relay, complete=complete)

    async def enable(self, client: Client, request: EnableRotation) -> Message:
        schedule = request.schedule
        if not 0 <= schedule.timer_us <= _LONGEST_TIMER_US or not 0 <= schedule.size <= _LARGEST:
            raise UsageError(f"no such schedule: {schedule.timer_us} us, {schedule.size} bytes")
        if not (schedule.timer_us or schedule.size):
            raise UsageError("say when: a period or a size")
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            uid = client.peer.uid
            self._host.recording(session).rotations.enable(
                schedule, lambda: self._rotate(uid, session)
            )
            return Done()

    async def disable(self, client: Client, request: DisableRotation) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            uid = client.peer.uid
            self._host.recording(session).rotations.disable(
                request.timer, request.size, lambda: self._rotate(uid, session)
            )
            return Done()

    async def clear(self, client: Client, request: ClearSession) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            await self._host.recording(session).clear()
            return Done()

    async def _rotate(self, uid: int, session: Session) -> None:
        async with self._sessions.changing(uid, session.id):
            if session.state == "active":
                await self._host.recording(session).rotations.rotate()
